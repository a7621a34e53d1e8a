"""What looks odd in a measurement's data, in plain sentences: information, never a verdict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import h5py
import numpy as np

from dcorflow.portrait.events import Events, Values
from dcorflow.portrait.images import Images
from dcorflow.portrait.scatter import Cloud
from dcorflow.portrait.timeline import Timeline, medians

Level = Literal["alert", "info"]
#: With fewer events the fraction of a population is uncertain by a tenth or more (1/sqrt(n)).
_FEW_EVENTS = 100
#: Spans of time that drift and rate are looked at in, and events needed for that: 20 each on average.
_SPANS, _ENOUGH = 10, 200
#: Lamps keep their brightness within a percent or two; beyond this, thresholds of a tracking change.
_DRIFT = 0.08
#: The contrast of one sample of cells varies by some percent; a lost focus takes a third or more of it.
_FOCUS = 0.3
#: The rate of a sample that settles in its tube may fall to half; of a clogged channel, to a fraction.
_CLOGGED = 0.25
#: Events come at random: a pause of 30 times the mean distance has a chance of e^-30. Below so many
#: seconds it is a matter of the software.
_PAUSE, _PAUSE_SECONDS = 30, 5.0
#: Reflections at a cell's edge saturate a few pixels; this share of an image is the lamp.
_SATURATED = 0.02
#: A background this dark, as a share of full scale: no light.
_DARK = 0.04


@dataclass(frozen=True)
class Flag:
    """One remark: a stable name, whether somebody should look, and a sentence with the figures."""

    id: str
    level: Level
    text: str


def find_flags(
    events: Events, cloud: Cloud | None, timeline: Timeline | None, images: Images | None
) -> list[dict[str, Any]]:
    """Return the remarks on a measurement, as they stand in record and portrait."""
    found = [*_few(events), *_features(events), *_shape(cloud), *_images(images)]
    if timeline is not None and events.time is not None:
        found += [*_time(events, events.time), *_course(events, events.time, timeline)]
    order = {"alert": 0, "info": 1}
    return [asdict(flag) for flag in sorted(found, key=lambda f: order[f.level])]


def _few(events: Events) -> Iterator[Flag]:
    if events.count < _FEW_EVENTS:
        events_ = "event" if events.count == 1 else "events"
        yield Flag("few-events", "alert", f"only {events.count} {events_}, too few for statistics")


def _features(events: Events) -> Iterator[Flag]:
    empty = sorted(name for name, item in events.scalars.items() if _is_nan(item))
    if empty:
        names = ", ".join(empty[:5]) + (f" and {len(empty) - 5} more" if len(empty) > 5 else "")
        yield Flag("nan-features", "info", f"no valid value in the whole feature: {names}")
    temperature = events["temp"]
    if temperature is not None and events.count > 1 and not temperature.any():
        yield Flag("temperature-zero", "alert", "the chip temperature is 0 \u00b0C for all events")


def _is_nan(item: h5py.Dataset) -> bool:
    """Return whether a feature holds NaN only; the extremes that are stored with it tell, where they are."""
    if item.dtype.kind != "f" or not item.shape[0]:
        return False
    stored = item.attrs.get("max")
    if isinstance(stored, (float, np.floating)) and np.isfinite(stored):
        return False
    return bool(np.isnan(item[:1])[0]) and bool(np.isnan(item[:: max(1, item.shape[0] // 1000)]).all())


def _shape(cloud: Cloud | None) -> Iterator[Flag]:
    if cloud is None or len(cloud.area) < 2:
        return
    for name, values in (("deformation", cloud.deform), ("area", cloud.area)):
        if not np.ptp(values) > 1e-6 * abs(float(values[0])):
            yield Flag(f"flat-{name}", "alert", f"all events have the same {name} ({values[0]:.4g})")


def _images(images: Images | None) -> Iterator[Flag]:
    if images is None:
        return
    count = len(images.numbers)
    if empty := int(images.empty.sum()):
        show = "shows" if empty == 1 else "show"
        yield Flag("images-empty", "alert", f"{empty} of {count} sampled images {show} one grey value only")
    saturated = images.saturated[~images.empty]
    if over := int((saturated > _SATURATED).sum()):
        share = 100 * float(saturated.max())
        yield Flag(
            "images-saturated", "alert",
            f"{over} of {count} sampled images are overexposed: up to {share:.0f} % of the pixels are white",
        )  # fmt: skip
    level = float(np.median(images.background))
    if not images.empty.all() and level < _DARK * images.full:
        yield Flag(
            "images-dark",
            "alert",
            f"the images are nearly black (background {level:.0f} of {images.full:.0f})",
        )


def _time(events: Events, time: Values) -> Iterator[Flag]:
    steps = np.diff(time)
    back = int((steps < 0).sum())
    if back:
        yield Flag("time-backwards", "info", f"the time runs backwards {_times(back)}")
    if events.count < _FEW_EVENTS:
        return
    steps = steps[np.diff(events.index) == 1]
    mean = float(np.median(steps[steps > 0])) / np.log(2) if (steps > 0).any() else 0.0
    pauses = np.flatnonzero((steps > _PAUSE * mean) & (steps > _PAUSE_SECONDS))
    if mean and len(pauses):
        longest = pauses[steps[pauses].argmax()]
        start = float(time[:-1][np.diff(events.index) == 1][longest])
        yield Flag(
            "time-gap", "alert",
            f"no events for {steps[longest]:.0f} s from second {start:.0f} on"
            + (f", and {len(pauses) - 1} more pauses" if len(pauses) > 1 else ""),
        )  # fmt: skip


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _course(events: Events, time: Values, timeline: Timeline) -> Iterator[Flag]:
    edges = np.linspace(*timeline.span, _SPANS + 1)
    rate = timeline.courses["rate"]
    if events.count >= _ENOUGH:
        yield from _clogging(_coarse(rate.time, rate.values, edges))
    background = timeline.courses.get("background")
    if background is not None and (background.places or events.count >= _ENOUGH):
        yield from _drift(medians(background.time, background.values, edges))
    contrast = events["bright_sd"]
    if contrast is not None and events.count >= _ENOUGH:
        yield from _focus(medians(time, contrast, edges))


def _coarse(time: Values, values: Values, edges: Values) -> Values:
    """Return the mean of a finely divided course in each span."""
    part = np.clip(np.searchsorted(edges, time, side="right") - 1, 0, len(edges) - 2)
    count = np.bincount(part, minlength=len(edges) - 1)
    return np.asarray(np.bincount(part, values, len(edges) - 1) / np.maximum(count, 1))


def _clogging(rate: Values) -> Iterator[Flag]:
    # a clogged channel takes most of the time, so that the mean says little of how it was before
    before, after = float(rate.max()), float(rate[-_SPANS // 5 :].mean())
    if after < _CLOGGED * before:
        yield Flag(
            "rate-collapse", "alert",
            f"the event rate falls from {before:.3g} to {after:.3g} per second: perhaps the channel clogged",
        )  # fmt: skip


def _drift(background: Values) -> Iterator[Flag]:
    good = background[np.isfinite(background)]
    if len(good) < _SPANS // 2 or not np.median(good) > 0:
        return
    change = float(np.ptp(good) / np.median(good))
    if change > _DRIFT:
        yield Flag(
            "brightness-drift", "alert",
            f"the background brightness changes by {100 * change:.0f} % (from {good[0]:.0f} to "
            f"{good[np.abs(good - good[0]).argmax()]:.0f})",
        )  # fmt: skip


def _focus(contrast: Values) -> Iterator[Flag]:
    good = contrast[np.isfinite(contrast)]
    if len(good) < _SPANS // 2 or not np.median(good) > 0:
        return
    first, last = float(np.median(good[:3])), float(np.median(good[-3:]))
    if abs(last - first) > _FOCUS * max(first, last):
        yield Flag(
            "contrast-change", "info",
            f"the contrast of the events goes from {first:.3g} to {last:.3g}: look at the focus",
        )  # fmt: skip
