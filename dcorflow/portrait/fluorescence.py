"""Histograms of the fluorescence maxima, on a logarithmic axis, all channels in one picture."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from dcorflow.portrait.events import Events, Values
from dcorflow.portrait.svg import HEIGHT, LINES, Axes, grouped, line, svg, text

#: Least and most parts of the axis; in between, twice the root of the number of events.
_BINS = (10, 48)
#: Where the names of the channels stand, beside the label of the upward axis.
_KEYS = (104, 390)
_SUPERSCRIPTS = str.maketrans(
    "-0123456789", "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"
)


class Channel(NamedTuple):
    """One channel: its number from 1, its name, the logarithms (base 10) of all maxima above zero."""

    number: int
    name: str
    values: Values
    below: int

    @property
    def label(self) -> str:
        """What the picture calls it."""
        return f"FL-{self.number} {self.name}".strip()


def channels_of(events: Events) -> list[Channel]:
    """Return the channels that have a signal."""
    found = []
    for n in (1, 2, 3):
        values = events[f"fl{n}_max"]
        if values is None:
            continue
        above = values[np.isfinite(values) & (values > 0)]
        if len(above):
            name = events.text(f"fluorescence:channel {n} name")
            found.append(Channel(n, name, np.log10(above), len(values) - len(above)))
    return found


def picture(channels: list[Channel], alt: str) -> str:
    """Return the histograms as steps."""
    low, high = (float(f([f(c.values) for c in channels])) for f in (np.min, np.max))
    low, high = (low - 0.1, high + 0.1) if high - low < 0.3 else (low - 0.02, high + 0.02)
    count = max(len(c.values) for c in channels)
    edges = np.linspace(low, high, int(np.clip(2 * math.sqrt(count), *_BINS)) + 1)
    counts = [np.histogram(c.values, edges)[0] for c in channels]
    most = max(int(c.max()) for c in counts)
    axes = Axes(54, 20, 328, 218, (low, high), (0, 1.08 * most))
    # so few ticks that they are whole numbers
    parts = axes.frame("Fluorescence maximum [a.u.]", "Events", _decades(low, high), min(6, most + 1))
    for place, (channel, height) in enumerate(zip(channels, counts, strict=True)):
        n = channel.number
        outline = np.concatenate([[0.0], np.repeat(height, 2), [0.0]])
        parts.append(line(axes.at(np.repeat(edges, 2), outline), f"line{n}", LINES[n - 1]))
        x = _KEYS[0] + (_KEYS[1] - _KEYS[0]) * (place + 0.5) / len(channels)
        words = text(x, 14, _short(channel.label), kind=f"key{n}")
        parts.append(words.replace("<text ", f"<text fill='{LINES[n - 1]}' font-weight='bold' ", 1))
    return svg("fluorescence", alt, parts, HEIGHT)


def _short(label: str) -> str:
    return label if len(label) <= 16 else f"{label[:15]}\u2026"


def _decades(low: float, high: float) -> list[tuple[float, str]]:
    """Return ticks of a logarithmic axis: powers of ten, and 2 and 5 times these where it is short."""
    factors = (1, 2, 5) if high - low < 2.2 else (1,)
    found = []
    for power in range(math.floor(low), math.ceil(high) + 1):
        for factor in factors:
            place = power + math.log10(factor)
            if low <= place <= high:
                plain = grouped(factor * 10**power) if 0 <= power <= 4 else ""
                raised = f"10{str(power).translate(_SUPERSCRIPTS)}"
                found.append((place, plain or (raised if factor == 1 else f"{factor}\u00b7{raised}")))
    return found
