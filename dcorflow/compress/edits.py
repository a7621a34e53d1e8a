"""Apply edits to the attributes of a prepared file, and bring them in line with its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from dcorflow.hdf5 import text_of
from dcorflow.metadata.edit import Edit

SOFTWARE = "setup:software version"
#: Longer values (polygons of online filters) stay in the file only.
_LONGEST = 2000


def data_facts(h5: h5py.File) -> dict[str, int]:
    """Return the attributes that the data themselves decide (as dclab's writer does).

    Source of the rules: `dclab.rtdc_dataset.writer.RTDCWriter.rectify_metadata`.
    """
    facts: dict[str, int] = {}
    events = h5["events"]
    names = sorted(events)
    if not names:
        return facts
    plain = [name for name in names if name != "trace"]
    traces = [h5 for h5 in _members(events["trace"]) if h5.shape] if not plain else []
    facts["experiment:event count"] = len(events[plain[0]]) if plain else len(traces[0]) if traces else 0
    trace = events.get("trace")
    for first in _members(trace)[:1]:
        if first.ndim == 2 and first.shape[1]:
            facts["fluorescence:samples per event"] = int(first.shape[1])
    for name in ("image", "mask"):
        if name in events and isinstance(events[name], h5py.Dataset) and events[name].ndim == 3:
            facts["imaging:roi size y"], facts["imaging:roi size x"] = map(int, events[name].shape[1:])
            break
    return facts


def _members(group: object) -> list[h5py.Dataset]:
    """Return the datasets of a group in order of their names, [] for anything else."""
    items = [group[name] for name in sorted(group)] if isinstance(group, h5py.Group) else []
    return [item for item in items if isinstance(item, h5py.Dataset)]


class RootAttributes:
    """The root attributes of an open file as plain data; reading them takes its time.

    Parameters
    ----------
    h5
        The file.
    known
        Values that are known to stand in it, and need not be read. They are used for `values` only:
        what is read before something is written decides where HDF5 stores it, and so over the bytes.
    """

    def __init__(self, h5: h5py.File, known: Mapping[str, Any] | None = None) -> None:
        self.h5 = h5
        self.facts = data_facts(h5)
        self._attrs = h5.attrs
        self._known = dict(known or {})
        self._read: dict[str, Any] = {}

    def get(self, key: str) -> Any:
        """Return a value; None where there is none, or none of a type that h5py knows."""
        if key not in self._read:
            try:
                self._read[key] = plain_value(self._attrs.get(key))
            except (OSError, RuntimeError, TypeError, ValueError):
                self._read[key] = None
        return self._read[key]

    def set(self, key: str, value: Any) -> None:
        """Write a value; None deletes the attribute."""
        self._known.pop(key, None)
        self._read.pop(key, None)
        if value is None:
            del self._attrs[key]
        else:
            self._attrs[key] = np.array(value) if isinstance(value, list) else value

    def values(self) -> dict[str, Any]:
        """Return the metadata ``section:key``."""
        found = {}
        for key in sorted(k for k in self._attrs if isinstance(k, str)):  # others are bytes, no text
            if ":" not in key:
                continue
            value = self._known[key] if key in self._known else self.get(key)
            if is_value(value) and len(str(value)) <= _LONGEST:
                found[key] = value
        return found


def apply_edits(
    attributes: RootAttributes, edits: list[Edit], dclab_version: str, guessed: Mapping[str, str]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Change root attributes; return the changes, and the guesses that nobody confirmed or replaced.

    Parameters
    ----------
    attributes
        Those of a prepared file, open for writing, that holds the attributes of the source.
    edits
        What the settings want.
    dclab_version
        Named in ``setup:software version``, as dclab brands what it writes.
    guessed
        Keys whose values a conversion guessed, and how.

    Returns
    -------
    list of dict
        ``key``, ``old`` and ``new`` (None where there is none), ``kind``, ``where``.
    dict
        What is left of `guessed`.
    """
    done, guesses = [], dict(guessed)
    forced = {edit.key: edit.value for edit in edits if edit.mode == "force"}
    for edit in edits:
        old = attributes.get(edit.key)
        if edit.mode == "confirm":
            if old == edit.value or _is_shortened(edit.value, old):
                guesses.pop(edit.key, None)
            continue
        has_value = is_value(old) and edit.key not in guesses
        if edit.mode in ("guess", "fill") and (
            has_value or (edit.mode == "guess" and edit.key not in guesses)
        ):
            continue
        if edit.mode == "guess":
            guesses[edit.key] = "from the path"
        else:
            guesses.pop(edit.key, None)
        if old != edit.value:
            attributes.set(edit.key, edit.value)
            old = old if is_value(old) else None
            done.append(_change(edit.key, old, edit.value, edit.kind, edit.where))
    for key, value in _automatic(attributes, dclab_version).items():
        old = attributes.get(key)
        if old != value and key not in forced:
            attributes.set(key, value)
            done.append(_change(key, old, value, "data" if key != SOFTWARE else "software", ""))
    return done, guesses


def _is_shortened(shown: Any, value: Any) -> bool:
    """Return whether the sheet shows a value of single precision as `shown`: with fewer digits."""
    return isinstance(shown, float) and isinstance(value, float) and float(np.float32(shown)) == value


def values_before(metadata: Mapping[str, Any], changes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the `metadata` of a prepared file as it was before `changes` were made."""
    values = dict(metadata)
    for change in reversed(changes):
        values.pop(change["key"], None)
        if change["old"] is not None:
            values[change["key"]] = change["old"]
    return values


def is_value(value: Any) -> bool:
    """Return whether an attribute says something: not absent, empty, or no number."""
    return value is not None and value != "" and value == value


def _automatic(attributes: RootAttributes, dclab_version: str) -> Mapping[str, Any]:
    h5 = attributes.h5
    values: dict[str, Any] = dict(attributes.facts)
    channels = sum(f"events/fl{n}_max" in h5 for n in (1, 2, 3))
    if channels and "fluorescence:channel count" not in h5.attrs:
        values["fluorescence:channel count"] = channels
    brand = f"dclab {dclab_version}"
    old = attributes.get(SOFTWARE) or ""
    text = old if isinstance(old, str) else text_of(np.array(old, object))
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")  # or it cannot be written
    chain = [v.strip() for v in text.split("|") if v.strip()]
    if not chain or chain[-1] != brand:
        chain.append(brand)
    values[SOFTWARE] = " | ".join(chain)
    return values


def _change(key: str, old: Any, new: Any, kind: str, where: str) -> dict[str, Any]:
    return {"key": key, "old": old, "new": new, "kind": kind, "where": where}


def plain_value(value: Any) -> Any:
    """Return an attribute as plain data: text decoded, numbers of Python."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (np.ndarray, np.generic)):
        return plain_value(value.tolist())
    if isinstance(value, list):
        return [plain_value(v) for v in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
