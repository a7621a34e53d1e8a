"""Compare a prepared file with its source, independently of the code that wrote it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dcorflow import engine
from dcorflow.compress.body import HISTORY_LOG
from dcorflow.compress.tail import read_history
from dcorflow.convert import convert
from dcorflow.hdf5 import members, open_source, refuse_outside_data, text_of


def verify(prepared: Path, source: Path | None = None) -> list[str]:
    """Return what is wrong with a prepared file; an empty list is good news.

    Parameters
    ----------
    prepared
        All its stored chunks are read and their checksums verified.
    source
        Where given, both files are read through plain h5py and compared: every dataset and every
        attribute must be the same, but for what the prepared file's history lists as dropped,
        changed, added or edited.

    Raises
    ------
    MeasurementError
        Where one of the files cannot be opened.
    """
    with open_source(prepared) as h5:
        refuse_outside_data(h5, prepared.stat().st_size)
        problems = _checksums(h5)
        if source is None or problems:
            return problems
        with _as_rtdc(source) as path, open_source(path) as other:
            refuse_outside_data(other, path.stat().st_size)
            return _Comparison(h5, other).run()


@contextlib.contextmanager
def _as_rtdc(source: Path) -> Iterator[Path]:
    """Yield a measurement as `.rtdc`: a `.tdms` is converted for the time being."""
    if source.suffix.lower() != ".tdms":
        yield source
        return
    with tempfile.TemporaryDirectory() as folder:
        converted = Path(folder) / "converted.rtdc"
        convert(source, converted)
        yield converted


def explained(prepared: Path) -> str:
    """Return in words what the history of a prepared file says was done on purpose."""
    with open_source(prepared) as h5:
        try:
            history = read_history(h5)
        except (KeyError, ValueError, TypeError):
            return "it has none"
    dropped = ", ".join(d["what"] for d in history["dropped"]) or "nothing"
    edited = ", ".join(e["key"] for e in history["edits"]) or "nothing"
    return f"dropped: {dropped}; edited: {edited}"


def _checksums(h5: h5py.File) -> list[str]:
    problems = []
    for entry in members(h5):
        if entry.kind == "dataset":
            try:
                engine.digest_dataset(h5[entry.path])
            except (engine.CorruptChunk, engine.UnsupportedDataset) as error:
                problems.append(str(error))
    return problems


class _Comparison:
    """Compares two open files; what the history explains is no difference."""

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
        self.edited = {e["key"] for e in history["edits"]}

    def run(self) -> list[str]:
        theirs = {e.path: e.kind for e in members(self.source)}
        ours = {e.path: e.kind for e in members(self.prepared)}
        problems = self._attributes("/")
        for path, kind in theirs.items():
            if self._is_dropped(path):
                continue
            if path not in ours:
                problems.append(f"'{path}' of the source is missing and not listed as dropped")
            elif kind == "dataset":
                problems += self._dataset(path)
            problems += self._attributes(path) if path in ours else []
        for path in ours:
            made = path in ("events", "logs", f"logs/{HISTORY_LOG}") or path in self.changed
            if path not in theirs and not made and not path.startswith("basins/"):
                problems.append(f"'{path}' is not in the source")
        return problems

    def _is_dropped(self, path: str) -> bool:
        return any(path == d or path.startswith(d + "/") for d in self.dropped)

    def _dataset(self, path: str) -> list[str]:
        if path.startswith("basins/") and path in self.changed:
            return []
        try:
            ours, theirs = (engine.digest_plain(f[path]) for f in (self.prepared, self.source))
        except OSError as error:
            return [f"'{path}' cannot be read: {error}"]
        return [] if ours == theirs else [f"'{path}': expected {theirs}, found {ours}"]

    def _attributes(self, path: str) -> list[str]:
        ours, theirs = self.prepared[path].attrs, self.source[path].attrs
        problems = []
        for name in sorted({*ours, *theirs}):
            if (path == "/" and name in self.edited) or f"{path}@{name}" in self.dropped:
                continue
            if name not in ours:
                problems.append(f"attribute '{name}' of '{path}' is missing")
            elif name not in theirs:
                if (path, name) not in self.added:
                    problems.append(f"attribute '{name}' of '{path}' is not in the source")
            elif not _same(ours[name], theirs[name]):
                problems.append(
                    f"attribute '{name}' of '{path}': expected {text_of(theirs[name])}, "
                    f"found {text_of(ours[name])}"
                )
        return problems


def _same(one: object, other: object) -> bool:
    if isinstance(one, h5py.Empty) or isinstance(other, h5py.Empty):
        return isinstance(one, h5py.Empty) and isinstance(other, h5py.Empty)
    left, right = np.asarray(one), np.asarray(other)
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    return left.tobytes() == right.tobytes() if left.dtype.kind != "O" else bool(np.all(left == right))
