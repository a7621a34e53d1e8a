"""Draw the portrait of a prepared measurement and keep it beside the records."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from dcorflow.errors import explain_os_error, is_interrupt
from dcorflow.files import read_json, to_json, write_text
from dcorflow.portrait import fluorescence, timeline
from dcorflow.portrait.events import Events, OpenEvents, Values
from dcorflow.portrait.flags import find_flags
from dcorflow.portrait.fluorescence import channels_of
from dcorflow.portrait.images import images_of, strip
from dcorflow.portrait.keys import holds, key_for
from dcorflow.portrait.scatter import Scatter, cloud_of
from dcorflow.portrait.timeline import timeline_of
from dcorflow.records import Record
from dcorflow.workdir import Workdir

T = TypeVar("T")
#: Raised when readers of portraits can no longer understand them.
FORMAT = 1


def portray(record: Record, work: Workdir) -> None:
    """Draw a measurement's portrait unless it is there; note it, or why there is none, in the record.

    Nothing that goes wrong here counts against the measurement.
    """
    if holds(record, work):
        return
    key, place = key_for(record), work.portrait(record.measurement)
    try:
        portrait = _known(place, key)
        if portrait is None:
            with OpenEvents(
                work.datasets / record.dataset / record.prepared["name"], record.metadata
            ) as events:
                portrait = {"format": FORMAT, "key": key} | draw(events)
            write_text(place, to_json(portrait))
        record.portrait = {"key": key, "flags": portrait["flags"]}
    except BaseException as error:  # odd data provoke whatever NumPy, SciPy and dclab can raise
        if is_interrupt(error):
            raise
        words = explain_os_error(error) if isinstance(error, OSError) else None
        reason = words or f"{type(error).__name__}: {error}"
        # what the machine is to blame for is tried again at the next run
        record.portrait = {"key": "" if words else key, "flags": [], "missing": " ".join(reason.split())}


def _known(place: Any, key: str) -> dict[str, Any] | None:
    """Return the portrait that is there, where it has the right key."""
    try:
        portrait = read_json(place)
    except (OSError, ValueError):
        return None
    same = isinstance(portrait, dict) and portrait.get("format") == FORMAT and portrait.get("key") == key
    return portrait if same else None


def draw(events: Events) -> dict[str, Any]:
    """Return flags, pictures and thumbnail of a measurement, and what it lacks for more of them."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # values of all kinds are data here
        return _Portrait(events).as_dict()


class _Portrait:
    """Draws one picture after the other; one that cannot be drawn takes none of the others along."""

    def __init__(self, events: Events) -> None:
        self.events = events
        self.pictures: list[dict[str, str]] = []
        self.missing: list[str] = []
        self.thumbnail, self.sampled = "", 0
        self.cloud = self._try("cloud", lambda: cloud_of(events))
        self.images = self._try("images", lambda: images_of(events))
        self.timeline = self._try("time", lambda: timeline_of(events, self.images))
        self.channels = self._try("fluorescence", lambda: channels_of(events)) or []

    def as_dict(self) -> dict[str, Any]:
        """Return everything."""
        for name, make in (
            ("deformation against area", self._scatter),
            ("course over time", self._time),
            ("images", self._strip),
            ("fluorescence", self._fluorescence),
        ):
            self._try(name, make)
        flags = find_flags(self.events, self.cloud, self.timeline, self.images)
        return {
            "events": self.events.count,
            "sampled": self.sampled,
            "flags": flags,
            "thumbnail": self.thumbnail,
            "pictures": self.pictures,
            "missing": self.missing,
        }

    def _try(self, what: str, do: Callable[[], T]) -> T | None:
        """Do a part; what goes wrong is told among what is missing."""
        try:
            return do()
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the machine, not the data
            self.missing.append(f"no {what}: {type(error).__name__}: {' '.join(str(error).split())}"[:300])
            return None

    def _add(self, kind: str, title: str, alt: str, svg: str) -> None:
        self.pictures.append({"id": kind, "title": title, "alt": alt, "svg": svg})

    def _scatter(self) -> None:
        if self.cloud is None or not len(self.cloud.area):
            self.missing.append("no deformation against area: the measurement has no deformation or no area")
            return
        scatter = Scatter(self.cloud)
        of = "" if len(self.cloud.area) == self.events.count else f" of {self.events.count:,}"
        alt = (
            f"Density scatter of {len(self.cloud.area):,}{of} events: median area "
            f"{np.median(self.cloud.area):.1f} µm², median deformation {np.median(self.cloud.deform):.3f}"
        )
        if scatter.outside:
            alt += f"; {scatter.outside:,} outermost events not shown"
        self._add("scatter", "Deformation against area", alt, scatter.svg(alt))
        self.sampled, self.thumbnail = len(self.cloud.area), scatter.thumbnail()

    def _time(self) -> None:
        if self.timeline is None:
            self.missing.append("no course over time: the measurement has neither times nor frame numbers")
            return
        low, high = self.timeline.span
        said = [f"{c.what} {_ends(c.values)}" for c in self.timeline.courses.values()]
        alt = f"Over {high - low:.3g} s: {'; '.join(said)}"
        self._add("time", "Over time", alt, timeline.picture(self.timeline, alt))

    def _strip(self) -> None:
        if self.images is None:
            there = "image" in self.events.group
            why = "those of the measurement are too large to sample" if there else "the measurement has none"
            self.missing.append(f"no images: {why}")
            return
        alt = f"Images of events spread evenly over {self.events.count:,}, with the outlines of their masks"
        svg, count = strip(self.images, alt)
        self._add("images", f"Event images ({count} of {self.events.count:,})", alt, svg)

    def _fluorescence(self) -> None:
        if not self.channels:
            return
        said = ", ".join(f"{c.label} {10 ** np.median(c.values):.3g}" for c in self.channels)
        alt = f"Histograms of the fluorescence maxima; medians: {said}"
        self._add("fluorescence", "Fluorescence", alt, fluorescence.picture(self.channels, alt))


def _ends(values: Values) -> str:
    """Tell how a course begins and ends."""
    good = values[np.isfinite(values)]
    if not len(good):
        return "unknown"
    tenth = max(1, len(good) // 10)
    return f"from {good[:tenth].mean():.3g} to {good[-tenth:].mean():.3g}"
