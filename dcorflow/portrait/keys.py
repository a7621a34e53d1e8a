"""What a portrait depends on: it holds as long as that is the same. Loads nothing that draws."""

from __future__ import annotations

from dcorflow import recipes
from dcorflow.files import key_of
from dcorflow.records import Record
from dcorflow.workdir import Workdir

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
