"""Plain pieces of SVG: inert, without ids and style sheets, so that many stand on one page.

What a page may style is marked by classes; presentation attributes, which any style sheet
overrides, make a picture readable where there is none.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape as html_escape

import numpy as np
import numpy.typing as npt
from PIL import Image

#: Drawn in this many user units; a page scales as it likes.
WIDTH, HEIGHT = 400, 280
#: Colours that can be told from each other, by the colour-blind, too, on light and on dark ground.
LINES = ("#2f7fc1", "#d9730d", "#2a9d6f")
THIN_SPACE = "\u202f"
_LABEL = 13
_TICK = 11


def escape(text: str) -> str:
    """Make any text safe in SVG and HTML: markup, quotes, control characters, stray surrogates."""
    clean = "".join(c if c.isprintable() or c == THIN_SPACE else "\ufffd" for c in text)
    return html_escape(clean, quote=True)


def number(value: float) -> str:
    """Return a coordinate with one digit, as short as can be."""
    text = f"{value:.1f}"
    text = text.removesuffix(".0")
    return "0" if text == "-0" else text


def svg(kind: str, alt: str, parts: Iterable[str], height: float = HEIGHT) -> str:
    """Return a whole picture."""
    head = (
        f"<svg xmlns='http://www.w3.org/2000/svg' class='portrait {kind}' "
        f"viewBox='0 0 {WIDTH} {number(height)}' role='img' aria-label='{escape(alt)}' "
        f"font-size='{_TICK}' fill='currentColor'>"
    )
    return f"{head}{''.join(parts)}</svg>"


def text(x: float, y: float, words: str, anchor: str = "middle", kind: str = "tick") -> str:
    """Return one line of text with its baseline at (x, y)."""
    size = f" font-size='{_LABEL}'" if kind == "label" else ""
    place = f"x='{number(x)}' y='{number(y)}'"
    return f"<text class='{kind}' {place} text-anchor='{anchor}'{size}>{escape(words)}</text>"


def texts(kind: str, anchor: str, several: Iterable[tuple[float, float, str]]) -> str:
    """Return texts of one kind as a group: x, y, and the words of each."""
    inside = "".join(
        f"<text x='{number(x)}' y='{number(y)}'>{escape(words)}</text>" for x, y, words in several
    )
    return f"<g class='{kind}' text-anchor='{anchor}'>{inside}</g>" if inside else ""


def path_data(points: npt.NDArray[np.float64], closed: bool = False) -> str:
    """Return the `d` of a path through points of shape (n, 2); relative steps in tenths, NaN interrupts."""
    out: list[str] = []
    at: tuple[int, int] | None = None
    last = ""
    for x, y in (points * 10).tolist():
        if not (math.isfinite(x) and math.isfinite(y)):
            at = None
            continue
        here = (round(x), round(y))
        if at is None:
            last = "M"
            out.append(f"M{_tenths(here[0])} {_tenths(here[1])}")
        elif here != at:
            steps = [_tenths(here[0] - at[0]), _tenths(here[1] - at[1])]
            command = "v" if steps[0] == "0" else "h" if steps[1] == "0" else "l"
            kept = steps if command == "l" else [step for step in steps if step != "0"]
            words = kept[0] + "".join(step if step.startswith("-") else f" {step}" for step in kept[1:])
            out.append(_joined(words) if command == last else command + words)
            last = command
        at = here
    return "".join(out) + ("z" if closed and out else "")


def _joined(words: str) -> str:
    return words if words.startswith("-") else f" {words}"


def _tenths(value: int) -> str:
    whole, tenth = divmod(abs(value), 10)
    digits = f"{whole or ''}.{tenth}" if tenth else str(whole)
    return f"-{digits}" if value < 0 else digits


def webp(pixels: npt.NDArray[np.uint8], **options: object) -> str:
    """Return an image, of shape (height, width[, channels]), as data URL of a WebP."""
    return f"data:image/webp;base64,{webp_base64(pixels, **options)}"


def webp_base64(pixels: npt.NDArray[np.uint8], **options: object) -> str:
    """Return an image as WebP in base64; `options` are those of Pillow."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", **options)
    return base64.b64encode(stream.getvalue()).decode("ascii")


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers (1, 2 or 5 times a power of ten apart) between two limits."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return []
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_label(value: float, step: float) -> str:
    """Return a tick's number with as many digits as its step needs; thousands are set apart."""
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    return grouped(value, digits).replace("-", "\u2212")


def grouped(value: float, digits: int = 0) -> str:
    """Return a number whose thousands are set apart."""
    return f"{value:,.{digits}f}".replace(",", THIN_SPACE)


@dataclass(frozen=True)
class Axes:
    """A rectangle with two linear scales.

    Parameters
    ----------
    left, top, width, height
        Where it lies, in user units.
    x, y
        Lowest and highest value of both scales.
    """

    left: float
    top: float
    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return points of shape (n, 2) in user units."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return np.stack((self.left + self.width * across, self.top + self.height * (1 - up)), axis=1)

    def frame(
        self,
        x_label: str = "",
        y_label: str = "",
        x_ticks: Sequence[tuple[float, str]] | None = None,
        most: int = 6,
    ) -> list[str]:
        """Return grid, axes, ticks and labels.

        Parameters
        ----------
        x_label, y_label
            What the axes show, with units; without `x_label` the axis has no numbers either. `y_label`
            stands above the rectangle, where it can be read and has room.
        x_ticks
            Values and their labels; round numbers by default.
        most
            About how many ticks the upward axis has.
        """
        right, bottom = self.left + self.width, self.top + self.height
        across = [
            (self.left + self.width * (value - self.x[0]) / (self.x[1] - self.x[0]), label)
            for value, label in (_labelled(ticks(*self.x)) if x_ticks is None else x_ticks)
        ]
        up = [
            (bottom - self.height * (value - self.y[0]) / (self.y[1] - self.y[0]), label)
            for value, label in _labelled(ticks(*self.y, most=most))
        ]
        lines = [f"M{number(x)} {number(self.top)}V{number(bottom)}" for x, _ in across]
        lines += [f"M{number(self.left)} {number(y)}H{number(right)}" for y, _ in up]
        corner = f"M{number(self.left)} {number(self.top)}V{number(bottom)}H{number(right)}"
        stroke = "fill='none' stroke='currentColor'"
        parts = [
            f"<path class='grid' d='{''.join(lines)}' {stroke} stroke-opacity='.15'/>",
            f"<path class='axis' d='{corner}' {stroke} stroke-opacity='.6'/>",
            texts("tick", "end", [(self.left - 5, y + 4, label) for y, label in up]),
        ]
        if x_label:
            parts.append(texts("tick", "middle", [(x, bottom + 14, label) for x, label in across]))
            parts.append(text(self.left + self.width / 2, bottom + 33, x_label, kind="label"))
        if y_label:
            parts.append(text(self.left, self.top - 6, y_label, "start", "label"))
        return parts


def _labelled(values: list[float]) -> list[tuple[float, str]]:
    step = values[1] - values[0] if len(values) > 1 else abs(values[0]) if values and values[0] else 1
    return [(value, tick_label(value, step)) for value in values]


def dots(points: npt.NDArray[np.float64], kind: str, colour: str, width: float) -> str:
    """Return a round dot at each point, in user units, as one path."""
    where = "".join(f"M{number(x)} {number(y)}h0" for x, y in points.tolist())
    return (
        f"<path class='{kind}' d='{where}' fill='none' stroke='{colour}' stroke-width='{number(width)}' "
        f"stroke-linecap='round'/>"
    )


def line(points: npt.NDArray[np.float64], kind: str, colour: str, width: float = 1.5) -> str:
    """Return a line through points in user units."""
    return (
        f"<path class='{kind}' d='{path_data(points)}' fill='none' stroke='{colour}' "
        f"stroke-width='{number(width)}' stroke-linejoin='round'/>"
    )
