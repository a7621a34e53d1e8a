"""Small pictures of all measurements: inert SVG in the colours of the page."""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from dcorflow.files import printable

#: Drawn in this many user units; the page scales them.
WIDTH, HEIGHT = 420, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 8, 10, 42
#: Height of a dataset in the chart of statuses.
_ROW = 30
#: Bars of a histogram.
_BINS = 24
#: Datasets that are shown one by one.
_DATASETS = 7
#: Half of the width of a digit in the labels, so that the last one ends within the picture.
_HALF_DIGIT = 3.8


@dataclass(frozen=True)
class Chart:
    """One picture.

    Parameters
    ----------
    title, words
        What it shows, and what can be seen, for those who do not see it.
    svg
        Markup; all text in it is escaped.
    """

    title: str
    words: str
    svg: str


def _text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(printable(words))}</text>'


def _svg(words: str, parts: Iterable[str], height: float = HEIGHT) -> str:
    label = escape(printable(words))
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{label}" class="chart">'
        f"{''.join(parts)}</svg>"
    )


def _rounded(most: int) -> tuple[int, int]:
    """Return a round number not below `most`, and the step of its grid lines."""
    step = max(1, 10 ** math.floor(math.log10(max(1, most))))
    for part in (step / 5, step / 2, step, 2 * step):
        if part == int(part) and part >= 1 and most / part <= 5:
            return math.ceil(most / part) * int(part), int(part)
    return math.ceil(most / step) * step, step


def bars(title: str, words: str, counts: Sequence[tuple[str, int]], ticks: Sequence[tuple[float, str]],
         unit: str) -> Chart:  # fmt: skip
    """Return a bar chart.

    Parameters
    ----------
    title, words
        As in `Chart`.
    counts
        What each bar stands for (shown when pointed at), and its height.
    ticks
        Place (0: left edge of the first bar, 1: right edge of the last one) and label below the axis.
    unit
        Label of the axis.
    """
    most, step = _rounded(max((n for _, n in counts), default=1))
    left = max(_LEFT, 2 * _HALF_DIGIT * len(f"{most:,}") + 8)
    width, height = WIDTH - left - _RIGHT, HEIGHT - _TOP - _BOTTOM
    parts = []
    for value in range(0, most + 1, step):
        y = _TOP + height * (1 - value / most)
        parts.append(f'<path class="grid" d="M{left:g} {y:.1f}h{width:g}"/>')
        parts.append(_text(left - 6, y + 4, f"{value:,}", "end"))
    wide = width / max(1, len(counts))
    for number, (what, count) in enumerate(counts):
        if count:
            tall = max(1.5, height * count / most)
            parts.append(
                f'<rect class="bar" x="{left + number * wide + 0.75:.2f}" y="{_TOP + height - tall:.1f}" '
                f'width="{max(1, wide - 1.5):.2f}" height="{tall:.1f}" rx="1.5">'
                f"<title>{escape(printable(what))}: {count:,}</title></rect>"
            )
    last = -math.inf
    for place, label in ticks:
        x = left + place * width
        if x - last >= max(46, 2.2 * _HALF_DIGIT * len(label)):
            parts.append(_text(min(x, WIDTH - 2 - _HALF_DIGIT * len(label)), _TOP + height + 16, label))
            last = x
    parts.append(_text(left + width / 2, HEIGHT - 6, unit))
    return Chart(title, words, _svg(f"{title}. {words}", parts))


def ratio_chart(ratios: Sequence[float]) -> Chart | None:
    """Return how much smaller prepared files are: prepared bytes by source bytes, in percent."""
    if not ratios:
        return None
    low, high = 0.0, max(1.0, min(2.0, math.ceil(max(ratios) * 5) / 5))
    wide = (high - low) / _BINS
    found = Counter(min(_BINS - 1, int((min(r, high) - low) / wide)) for r in ratios)
    counts = [
        (f"{(low + n * wide) * 100:.0f} to {(low + (n + 1) * wide) * 100:.0f} %", found[n])
        for n in range(_BINS)
    ]
    step = 0.2 if high <= 1.2 else 0.4
    ticks = [(n * step / high, f"{n * step * 100:.0f}") for n in range(int(high / step + 1e-9) + 1)]
    middle = sorted(ratios)[len(ratios) // 2]
    words = f"Half of the prepared files take at most {middle * 100:.0f} % of their source."
    return bars("Size after compression", words, counts, ticks, "prepared file in % of its source")


def events_chart(events: Sequence[int]) -> Chart | None:
    """Return how many events measurements have, on a logarithmic axis."""
    sizes = [n for n in events if n > 0]
    if not sizes:
        return None
    low, high = math.floor(math.log10(min(sizes))), math.floor(math.log10(max(sizes))) + 1
    bins = (high - low) * max(2, _BINS // (high - low))
    per = bins / (high - low)
    found = Counter(min(bins - 1, int((math.log10(n) - low) * per)) for n in sizes)
    counts = [
        (f"{10 ** (low + n / per):,.0f} to {10 ** (low + (n + 1) / per):,.0f} events", found[n])
        for n in range(bins)
    ]
    ticks = [((p - low) / (high - low), _power(p)) for p in range(low, high + 1)]
    middle = sorted(sizes)[len(sizes) // 2]
    words = f"{sum(sizes):,} events in all; half of the measurements have at least {middle:,}."
    return bars("Events per measurement", words, counts, ticks, "events (logarithmic)")


def _power(exponent: int) -> str:
    """Return a power of ten as a short label: 1,000 10k 100k 1M."""
    if exponent < 4:
        return f"{10**exponent:,}"
    return f"{10 ** (exponent % 3)}{'kMGT'[exponent // 3 - 1]}"


def timeline_chart(dates: Iterable[str]) -> Chart | None:
    """Return when measurements were acquired; `dates` are ISO dates, others are left out."""
    days = []
    for text in dates:
        try:
            days.append(datetime.date.fromisoformat(text))
        except ValueError:
            continue
    if not days:
        return None
    first, last = min(days), max(days)
    span = (last - first).days + 1
    wide = next((w for w in (1, 7, 30.44, 91.31, 365.25) if span / w <= 60), span / 60)
    bins = max(7, math.ceil(span / wide))
    found = Counter(min(bins - 1, int((day - first).days / wide)) for day in days)
    starts = [first + datetime.timedelta(days=n * wide) for n in range(bins)]
    kind = {1: "day", 7: "week", 30.44: "month", 91.31: "quarter", 365.25: "year"}.get(wide, "period")
    counts = [(f"{kind} from {day.isoformat()}", found[n]) for n, day in enumerate(starts)]
    every = max(1, bins // 5)
    form = "%Y-%m-%d" if span <= 400 else "%Y-%m"
    ticks = [((n + 0.5) / bins, starts[n].strftime(form)) for n in range(0, bins, every)]
    words = (
        f"From {first.isoformat()} to {last.isoformat()}, on {len(set(days)):,} days."
        if last > first
        else f"All on {first.isoformat()}."
    )
    return bars("Acquisition", words, counts, [t for t in ticks if t[0] < 0.95], f"measurements per {kind}")


def status_chart(datasets: Sequence[tuple[str, Counter[str]]], statuses: Sequence[str]) -> Chart | None:
    """Return one bar per dataset, parted by the status of its measurements.

    Parameters
    ----------
    datasets
        Title and number of measurements by status, in the order to show.
    statuses
        All statuses in their order.
    """
    if not datasets:
        return None
    shown = list(datasets[:_DATASETS])
    rest = datasets[_DATASETS:]
    if rest:
        together: Counter[str] = Counter()
        for _, counts in rest:
            together.update(counts)
        shown.append((f"{len(rest):,} more", together))
    most = max(sum(counts.values()) for _, counts in shown) or 1
    width, parts = WIDTH - _RIGHT - 40, []
    for row, (title, counts) in enumerate(shown):
        y, x = 2 + row * _ROW, 0.0
        name = printable(title)
        parts.append(_text(0, y + 13, name if len(name) <= 60 else f"{name[:58]} …", "start"))
        for status in statuses:
            if not counts[status]:
                continue
            wide = max(2.0, width * counts[status] / most)
            parts.append(
                f'<rect class="{status.replace(" ", "-")}" x="{x:.1f}" y="{y + 18}" width="{wide:.1f}" '
                f'height="9"><title>{escape(name)}: {counts[status]:,} {status}</title></rect>'
            )
            x += wide
        parts.append(_text(x + 6, y + 27, f"{sum(counts.values()):,}", "start"))
    total: Counter[str] = Counter()
    for _, counts in datasets:
        total.update(counts)
    words = ", ".join(f"{total[s]:,} {s}" for s in statuses if total[s]) + "."
    return Chart("Measurements by dataset", words, _svg(words, parts, 4 + _ROW * len(shown)))
