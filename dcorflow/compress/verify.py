"""Compare a prepared file with its source, independently of the code that wrote it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py

from dcorflow import engine
from dcorflow.compress.compare import Comparison
from dcorflow.compress.tail import read_history
from dcorflow.convert import convert
from dcorflow.deleted import load_deleted
from dcorflow.hdf5 import members, open_source, refuse_outside_data
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
            return Comparison(h5, other).run()


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
            except (OSError, RuntimeError) as error:
                problems.append(f"'{entry.path}' cannot be read: {' '.join(str(error).split())}")
    return problems


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
