"""Draw the portrait of a prepared measurement and keep it beside the records."""

from __future__ import annotations

from typing import Any

from dcorflow import recipes
from dcorflow.errors import explain_os_error, is_interrupt
from dcorflow.files import key_of, read_json, to_json, write_text
from dcorflow.portrait.events import Events, OpenEvents
from dcorflow.portrait.flags import find_flags
from dcorflow.portrait.scatter import Scatter, cloud_of
from dcorflow.records import Record
from dcorflow.workdir import Workdir

#: Raised when readers of portraits can no longer understand them.
FORMAT = 1
#: Metadata that pictures show or need.
_SHOWN = (
    "imaging:frame rate",
    "imaging:pixel size",
    *(f"fluorescence:channel {n} name" for n in (1, 2, 3)),
)


def key_for(record: Record) -> str:
    """Return what stands for all that decides over a portrait: data, metadata shown, recipe."""
    shown = [record.metadata.get(key) for key in _SHOWN]
    return f"{recipes.portrait_key(record.content)}-{key_of(shown)}"


def holds(record: Record, work: Workdir) -> bool:
    """Return whether a record's portrait is the right one and is still there."""
    if record.portrait.get("key") != key_for(record):
        return False
    return "missing" in record.portrait or work.portrait(record.measurement).is_file()


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
    pictures: list[dict[str, str]] = []
    missing: list[str] = []
    thumbnail, sampled = "", 0
    cloud = cloud_of(events)
    if cloud is None or not len(cloud.area):
        missing.append("no deformation against area: it has no features for it")
    else:
        scatter = Scatter(cloud)
        sampled = len(cloud.area)
        alt = f"Deformation against area of {sampled} events"
        pictures.append(
            {"id": "scatter", "title": "Deformation against area", "alt": alt, "svg": scatter.svg(alt)}
        )
        thumbnail = scatter.thumbnail()
    return {
        "events": events.count,
        "sampled": sampled,
        "flags": find_flags(events),
        "thumbnail": thumbnail,
        "pictures": pictures,
        "missing": missing,
    }
