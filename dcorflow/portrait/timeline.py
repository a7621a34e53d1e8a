"""What happened during the measurement: event rate, background brightness, contrast over time.

Clogging shows in the rate, a lamp that drifts in the background, a lost focus in the events' contrast.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from dcorflow.dclab_parts import definitions
from dcorflow.portrait.events import Events, Values
from dcorflow.portrait.images import Images
from dcorflow.portrait.svg import LINES, Axes, dots, line, svg

#: All courses, in the order in which they are shown; each has its colour.
_ORDER = ("rate", "background", "contrast")
#: Time is divided into at most so many parts, of so many events each on average.
_MOST_BINS, _EVENTS_PER_BIN = 80, 8
#: A panel for each course; the height of all of them.
_TOP, _BOTTOM, _GAP = 20, 238, 26
#: Fewer places are marked by dots.
_FEW = 16
#: Features that tell the brightness of the background, best first.
_BACKGROUND = ("bg_med",)
#: Features that tell how sharp the events are.
_CONTRAST = ("bright_sd",)


class Course(NamedTuple):
    """Something over time.

    Parameters
    ----------
    what, label
        What it is in a sentence; the label of its axis, with unit.
    time, values
        Seconds, and one value each; NaN where nothing is known.
    places
        Values at single events and not over spans of time.
    """

    what: str
    label: str
    time: Values
    values: Values
    places: bool = False


class Timeline(NamedTuple):
    """All courses of a measurement, and its first and last second."""

    span: tuple[float, float]
    courses: dict[str, Course]


def timeline_of(events: Events, images: Images | None) -> Timeline | None:
    """Return what is known over time; None where events have no time."""
    time = events.time
    if time is None:
        return None
    low, high = float(time.min()), float(time.max())
    edges = np.linspace(low, high, int(np.clip(events.count // _EVENTS_PER_BIN, 4, _MOST_BINS)) + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    courses = {"rate": Course("event rate", "Event rate [s\u207b\u00b9]", middle, _rate(events, time, edges))}
    for name, features, what in (
        ("background", _BACKGROUND, "background brightness"),
        ("contrast", _CONTRAST, "brightness SD of the events"),
    ):
        for feature in features:
            if (values := events[feature]) is not None and np.isfinite(values).any():
                label = str(definitions().get_feature_label(feature))
                courses[name] = Course(what, label, middle, medians(time, values, edges))
                break
    if "background" not in courses and images is not None:
        at = np.interp(images.numbers, events.index, time)
        order = np.argsort(at, kind="stable")
        courses["background"] = Course(
            "background brightness", "Background brightness [a.u.]", at[order], images.background[order], True
        )
    return Timeline((low, high), {name: courses[name] for name in _ORDER if name in courses})


def _rate(events: Events, time: Values, edges: Values) -> Values:
    """Return events per second between the edges; of blocks of events, from the numbers they have."""
    if len(time) == events.count:
        return np.histogram(time, edges)[0] / np.diff(edges)
    order = np.argsort(time, kind="stable")
    return np.diff(np.interp(edges, time[order], events.index[order])) / np.diff(edges)


def medians(time: Values, values: Values, edges: Values) -> Values:
    """Return the median of the finite values between each two edges; NaN where there is none."""
    good = np.isfinite(values)
    time, values = time[good], values[good]
    part = np.clip(np.searchsorted(edges, time, side="right") - 1, 0, len(edges) - 2)
    order = np.argsort(part, kind="stable")
    bounds = np.searchsorted(part[order], np.arange(len(edges)))
    found = np.full(len(edges) - 1, np.nan)
    for n, (start, stop) in enumerate(itertools.pairwise(bounds.tolist())):
        if stop > start:
            found[n] = np.median(values[order[start:stop]])
    return found


def picture(timeline: Timeline, alt: str) -> str:
    """Return the courses, one below the other."""
    count, rate = len(timeline.courses), timeline.courses["rate"]
    height = (_BOTTOM - _TOP - _GAP * (count - 1)) / count
    parts = []
    for n, (name, course) in enumerate(timeline.courses.items()):
        place = _ORDER.index(name)
        limits = _limits(course.values, zero=n == 0)
        axes = Axes(54, _TOP + n * (height + _GAP), 328, height, timeline.span, limits)
        x_label = str(definitions().get_feature_label("time")) if n == count - 1 else ""
        parts += axes.frame(x_label, course.label, most=max(3, int(height // 24)))
        points = axes.at(course.time, course.values)
        known = points[np.isfinite(course.values)]
        # where nothing happened the line is interrupted; where nothing was read, it goes on
        silent = np.isnan(course.values) & (np.interp(course.time, rate.time, rate.values) == 0)
        parts.append(line(points[np.isfinite(course.values) | silent], f"line{place + 1}", LINES[place]))
        if course.places or len(known) < _FEW:
            parts.append(dots(known, f"line{place + 1}", LINES[place], 4.5))
    return svg("time", alt, parts)


def _limits(values: Values, zero: bool) -> tuple[float, float]:
    """Return the range of an axis: from zero, or at least 4 % of what is shown, so that noise stays small."""
    good = values[np.isfinite(values)]
    low, high = (float(good.min()), float(good.max())) if len(good) else (0.0, 1.0)
    if zero:
        return 0.0, 1.08 * high or 1.0
    room = max(0.1 * (high - low), 0.02 * max(abs(low), abs(high)), 1e-6)
    return low - room, high + room
