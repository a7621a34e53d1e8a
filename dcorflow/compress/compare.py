"""Find every difference between a prepared file and its source that the history does not explain."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dcorflow import engine
from dcorflow.compress.edits import plain_value
from dcorflow.compress.exact import read_attribute, same_attribute, same_value
from dcorflow.compress.tail import read_history
from dcorflow.hdf5 import HISTORY_LOG, basin_definitions, members, text_of
from dcorflow.naming import last_part
from dcorflow.privacy.redact import decode, fits

#: Statistics that are added to features: how to compute them from the source, and how near they must
#: come. Sums of other versions of NumPy may differ in their last digits.
_STATISTICS: dict[str, tuple[Any, float]] = {
    "min": (np.nanmin, 0.0),
    "max": (np.nanmax, 0.0),
    "mean": (np.nanmean, 1e-5),
}
#: Bytes of a userblock that are compared at once.
_BLOCK = 1 << 20


class Comparison:
    """Compares two open files; what the history explains is no difference.

    What the history says is not believed further than it goes: an edited value must be the new one that
    it names, an added minimum that of the source's data, a rewritten basin the source's but for the
    features and paths that were rewritten.

    Parameters
    ----------
    prepared, source
        Files open for reading.
    """

    def __init__(self, prepared: h5py.File, source: h5py.File) -> None:
        self.prepared, self.source = prepared, source
        try:
            self._learn(read_history(prepared))
        except (KeyError, ValueError, TypeError, AttributeError, OSError):  # not ours: explains nothing
            self._learn({"dropped": [], "changed": [], "added": [], "edits": []})

    def _learn(self, history: dict[str, Any]) -> None:
        self.dropped = {d["what"] for d in history["dropped"]}
        self.changed = {c["what"] for c in history["changed"]}
        self.added = {(a["what"], n) for a in history["added"] for n in a["how"].split(", ")}
        self.made = {a["what"] for a in history["added"] if a["what"].startswith("logs/")}
        self.edited = {e["key"]: e["new"] for e in history["edits"]}
        self.redacted = {c["what"]: c["marks"] for c in history["changed"] if "marks" in c}
        self.renamed = [(d["what"], d["marks"]) for d in history["dropped"] if "marks" in d]

    def run(self) -> list[str]:
        """Return what differs, one sentence each."""
        theirs = {e.path: e.kind for e in members(self.source)}
        ours = {e.path: e.kind for e in members(self.prepared)}
        problems = self._userblock() + self._attributes("/")
        for path, kind in theirs.items():
            if self._is_dropped(path):
                continue
            if path not in ours:
                problems.append(f"'{path}' of the source is missing and not listed as dropped")
            elif ours[path] != kind:
                problems.append(f"'{path}': expected a {kind}, found a {ours[path]}")
            else:
                problems += self._dataset(path) if kind == "dataset" else []
                problems += self._attributes(path)
        for path in ours:
            if path in theirs:
                continue
            if path not in {"events", "logs", f"logs/{HISTORY_LOG}"} | self.made:
                problems.append(f"'{path}' is not in the source")
            elif len(self.prepared[path].attrs):
                problems.append(f"'{path}' has attributes that are not in the source")
        return problems

    def _userblock(self) -> list[str]:
        """Compare what stands in front of the HDF5 part of both files."""
        size = self.source.userblock_size
        if self.prepared.userblock_size != size:
            return [f"userblock: expected {size} bytes, found {self.prepared.userblock_size}"]
        paths = (Path(file.filename) for file in (self.prepared, self.source))
        with next(paths).open("rb") as ours, next(paths).open("rb") as theirs:
            for start in range(0, size, _BLOCK):
                count = min(_BLOCK, size - start)
                if ours.read(count) != theirs.read(count):
                    return ["the userblock differs from the source's"]
        return []

    def _is_dropped(self, path: str) -> bool:
        parts = path.split("/")
        heads = {"/".join(parts[: n + 1]) for n in range(len(parts))}
        return bool(heads & self.dropped) or any(
            fits(shown, head, marks) for shown, marks in self.renamed for head in heads
        )

    def _dataset(self, path: str) -> list[str]:
        if path.startswith("basins/") and path in self.changed:
            return self._basin(path)
        ours, theirs = self.prepared[path], self.source[path]
        try:
            found, expected = engine.digest_plain(ours), engine.digest_plain(theirs)
        except (OSError, RuntimeError, engine.UnsupportedDataset) as error:
            return [f"'{path}' cannot be read: {' '.join(str(error).split())}"]
        if path in self.redacted:
            same = found == expected or self._same_but_for_marks(path)
        else:
            same = found == expected and _same_type(ours.id.get_type(), theirs.id.get_type())
        return [] if same else [f"'{path}': expected {expected}, found {found}"]

    def _basin(self, path: str) -> list[str]:
        """Compare a basin that was rewritten: features may be missing, paths be names of files beside it."""
        name = path.partition("/")[2]
        ours, theirs = (basin_definitions(f).get(name) for f in (self.prepared, self.source))
        if path in self.redacted:
            return [] if self._same_but_for_marks(path) or isinstance(ours, dict) else [f"'{path}' differs"]
        if not isinstance(ours, dict) or not isinstance(theirs, dict):
            return [f"'{path}': expected {_words(theirs)}, found {_words(ours)}"]
        there = self.prepared.get("basin_events", {})
        allowed = {key: [value] for key, value in theirs.items()}
        if theirs.get("type") == "internal":
            allowed["features"] = [[f for f in theirs["features"] if f in there]]
        elif isinstance(paths := theirs.get("paths"), list) and isinstance(found := ours.get("paths"), list):
            names = {p for p in found if isinstance(p, str) and last_part(p) == p}
            allowed["paths"] = [found] if all(p in paths or p in names for p in found) else [paths]
        if ours.keys() == theirs.keys() and all(ours[key] in allowed[key] for key in ours):
            return []
        return [f"'{path}': expected {_words(theirs)}, found {_words(ours)}"]

    def _same_but_for_marks(self, path: str) -> bool:
        """Return whether text of both files is equal but for the marks that the history names."""
        ours, theirs = (np.atleast_1d(f[path][()]) for f in (self.prepared, self.source))
        if ours.shape != theirs.shape or ours.dtype.names != theirs.dtype.names:
            return False
        marks = self.redacted[path]
        for name in ours.dtype.names or ("",):
            left, right = (rows[name] if name else rows for rows in (ours, theirs))
            if not _is_text(left.dtype) or not _is_text(right.dtype):
                if not same_value(left, right):
                    return False
            elif not all(map(lambda a, b: fits(_line(a), _line(b), marks), left.flat, right.flat)):
                return False
        return True

    def _fits(self, path: str, name: str) -> bool:
        """Return whether a text attribute is equal but for the marks that the history names."""
        marks = self.redacted.get(f"{path}@{name}")
        if marks is None:
            return False
        ours, theirs = (np.atleast_1d(f[path].attrs[name]) for f in (self.prepared, self.source))
        return ours.shape == theirs.shape and all(
            fits(_line(a), _line(b), marks) for a, b in zip(ours.flat, theirs.flat, strict=True)
        )

    def _attributes(self, path: str) -> list[str]:
        ours, theirs = self.prepared[path].attrs, self.source[path].attrs
        problems = []
        for name in sorted({*ours, *theirs}, key=str):
            place = f"attribute '{name}' of '{path}'"
            if path == "/" and name in self.edited:
                problems += self._edited(name)
            elif f"{path}@{name}" in self.dropped:
                problems += [f"{place} is there, though listed as dropped"] if name in ours else []
            elif name not in ours:
                problems.append(f"{place} is missing")
            elif name not in theirs:
                problems += self._added(path, name)
            else:
                problems += self._values(path, name)
        return problems

    def _edited(self, key: str) -> list[str]:
        """Compare an edited value with what the history says it became."""
        attributes, new = self.prepared.attrs, self.edited[key]
        found = plain_value(attributes[key]) if key in attributes else None
        if found == new or (found != found and new != new):
            return []
        return [f"attribute '{key}' of '/': its history says {_words(new)}, found {_words(found)}"]

    def _added(self, path: str, name: str) -> list[str]:
        """Compute an added statistic again from the source's data."""
        place = f"attribute '{name}' of '{path}'"
        if (path, name) not in self.added or name not in _STATISTICS:
            return [f"{place} is not in the source"]
        function, tolerance = _STATISTICS[name]
        found = self.prepared[path].attrs[name]
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a feature without any number
            expected = function(self.source[path][()])
        if np.allclose(found, expected, rtol=tolerance, atol=0, equal_nan=True):
            return []
        return [f"{place}: expected {text_of(expected)}, found {text_of(found)}"]

    def _values(self, path: str, name: str) -> list[str]:
        """Compare an attribute that both files have."""
        place = f"attribute '{name}' of '{path}'"
        try:
            if same_attribute(self.prepared[path], self.source[path], name) or self._fits(path, name):
                return []
            ours, theirs = (read_attribute(f[path], name) for f in (self.prepared, self.source))
        except (OSError, RuntimeError, TypeError, ValueError) as error:  # of a type that h5py does not know
            return [f"{place} cannot be read ({' '.join(str(error).split())})"]
        return [f"{place}: expected {_words(theirs)}, found {_words(ours)}"]


def _same_type(ours: h5py.h5t.TypeID, theirs: h5py.h5t.TypeID) -> bool:
    """Return whether elements are of one type; text of variable length may have got a fixed one."""
    if isinstance(theirs, h5py.h5t.TypeStringID) and theirs.is_variable_str():
        return isinstance(ours, h5py.h5t.TypeStringID) and ours.get_cset() == theirs.get_cset()
    return bool(ours == theirs)


def _is_text(kind: np.dtype) -> bool:
    return h5py.check_string_dtype(kind) is not None or kind.kind == "S"


def _line(value: object) -> str:
    return decode(value.rstrip(b"\0"))[0] if isinstance(value, bytes) else str(value)


def _words(value: object) -> str:
    """Return a value as text of bounded length."""
    text = json.dumps(value) if isinstance(value, (dict, list)) else text_of(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
