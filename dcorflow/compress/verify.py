"""Compare a prepared file with its source, independently of the code that wrote it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dcorflow import engine
from dcorflow.compress.tail import read_history
from dcorflow.convert import convert
from dcorflow.deleted import load_deleted
from dcorflow.hdf5 import HISTORY_LOG, members, open_source, refuse_outside_data, text_of
from dcorflow.privacy.redact import decode, fits
from dcorflow.records import load_record
from dcorflow.seal import sha256_of
from dcorflow.workdir import Workdir


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
        self.made = {a["what"] for a in history["added"] if a["what"].startswith("logs/")}
        self.edited = {e["key"] for e in history["edits"]}
        self.redacted = {c["what"]: c["marks"] for c in history["changed"] if "marks" in c}
        self.renamed = [(d["what"], d["marks"]) for d in history["dropped"] if "marks" in d]

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
            made = path in ("events", "logs", f"logs/{HISTORY_LOG}") or path in self.changed | self.made
            if path not in theirs and not made and not path.startswith("basins/"):
                problems.append(f"'{path}' is not in the source")
        return problems

    def _is_dropped(self, path: str) -> bool:
        parts = path.split("/")
        heads = {"/".join(parts[: n + 1]) for n in range(len(parts))}
        return bool(heads & self.dropped) or any(
            fits(shown, head, marks) for shown, marks in self.renamed for head in heads
        )

    def _dataset(self, path: str) -> list[str]:
        if path.startswith("basins/") and path in self.changed:
            return []
        try:
            ours, theirs = (engine.digest_plain(f[path]) for f in (self.prepared, self.source))
        except OSError as error:
            return [f"'{path}' cannot be read: {error}"]
        if ours == theirs or (path in self.redacted and self._same_but_for_marks(path)):
            return []
        return [f"'{path}': expected {theirs}, found {ours}"]

    def _same_but_for_marks(self, path: str) -> bool:
        """Return whether text of both files is equal but for the marks that the history names."""
        ours, theirs = (np.atleast_1d(f[path][()]) for f in (self.prepared, self.source))
        if ours.shape != theirs.shape or ours.dtype.names != theirs.dtype.names:
            return False
        marks = self.redacted[path]
        for name in ours.dtype.names or ("",):
            left, right = (rows[name] if name else rows for rows in (ours, theirs))
            if not _is_text(left.dtype) or not _is_text(right.dtype):
                if not np.array_equal(left, right):
                    return False
            elif not all(map(lambda a, b: fits(_line(a), _line(b), marks), left.flat, right.flat)):
                return False
        return True

    def _fits(self, path: str, name: str) -> bool:
        """Return whether a text attribute is equal but for the marks that the history names."""
        marks = self.redacted.get(f"{path}@{name}")
        ours, theirs = (np.atleast_1d(f[path].attrs[name]) for f in (self.prepared, self.source))
        return (
            marks is not None
            and ours.shape == theirs.shape
            and all(fits(_line(a), _line(b), marks) for a, b in zip(ours.flat, theirs.flat, strict=True))
        )

    def _attributes(self, path: str) -> list[str]:
        ours, theirs = self.prepared[path].attrs, self.source[path].attrs
        problems = []
        for name in sorted({*ours, *theirs}, key=str):
            if (path == "/" and name in self.edited) or f"{path}@{name}" in self.dropped:
                continue
            if name not in ours:
                problems.append(f"attribute '{name}' of '{path}' is missing")
            elif name not in theirs:
                if (path, name) not in self.added:
                    problems.append(f"attribute '{name}' of '{path}' is not in the source")
            else:
                problems += self._values(path, name)
        return problems

    def _values(self, path: str, name: str) -> list[str]:
        """Compare an attribute that both files have."""
        place = f"attribute '{name}' of '{path}'"
        try:
            ours, theirs = (f[path].attrs[name] for f in (self.prepared, self.source))
        except (OSError, TypeError, ValueError) as error:  # of a type that h5py does not know
            return [f"{place} cannot be read ({' '.join(str(error).split())})"]
        if _same(ours, theirs) or self._fits(path, name):
            return []
        return [f"{place}: expected {text_of(theirs)}, found {text_of(ours)}"]


def _is_text(kind: np.dtype) -> bool:
    return h5py.check_string_dtype(kind) is not None or kind.kind == "S"


def _line(value: object) -> str:
    return decode(value.rstrip(b"\0"))[0] if isinstance(value, bytes) else str(value)


def _same(one: object, other: object) -> bool:
    if isinstance(one, h5py.Empty) or isinstance(other, h5py.Empty):
        return isinstance(one, h5py.Empty) and isinstance(other, h5py.Empty)
    left, right = np.asarray(one), np.asarray(other)
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    return left.tobytes() == right.tobytes() if left.dtype.kind != "O" else bool(np.all(left == right))


def verify_results(work: Workdir) -> tuple[int, list[str]]:
    """Compare all prepared files of a work directory with the SHA256 in their records.

    A run sees a file that was replaced, cut or deleted by its size and time; this one reads all bytes.

    Returns
    -------
    int, list of str
        How many files were read, and what is wrong, with what to do about it.
    """
    wanted, problems = {}, []
    deleted = load_deleted(work)
    for path in sorted(work.records.glob("[!.]*.json")):
        record = load_record(work, path.stem)
        if record is None:
            problems.append(f"{path}: damaged or edited; run again: what it stands for is prepared anew")
        elif record.failure is None and (sha256 := record.prepared.get("sha256")):
            place = (record.dataset, record.prepared["name"])
            if place not in deleted or work.datasets.joinpath(*place).exists():
                wanted[work.datasets.joinpath(*place)] = sha256
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        found = dict(zip(wanted, pool.map(_sha256_or_words, wanted), strict=True))
    problems += [
        f"{path}: expected SHA256 {wanted[path]}, found {sha256}; delete it and run again: it is made anew"
        for path, sha256 in found.items()
        if sha256 != wanted[path]
    ]
    return len(found), problems


def _sha256_or_words(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        return f"none ({error.strerror})"
