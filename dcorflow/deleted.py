"""Prepared files that were deleted on purpose, after their dataset became final: not to be made again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dcorflow.files import read_tsv, to_tsv, write_text
from dcorflow.records import load_record
from dcorflow.workdir import Workdir

_COLUMNS = ("dataset", "name", "size", "mtime_ns")

#: (size, mtime_ns) of files by (dataset, name).
Deleted = dict[tuple[str, str], tuple[int, int]]


def load_deleted(work: Workdir) -> Deleted:
    """Return size and time that deleted files had."""
    try:
        _, rows = read_tsv(work.deleted)
        return {(dataset, name): (int(size), int(mtime)) for dataset, name, size, mtime in rows}
    except (FileNotFoundError, ValueError):
        return {}


def away(work: Workdir, entries: Iterable[Mapping[str, Any]], deleted: Deleted) -> set[str]:
    """Return the measurements whose prepared file was deleted on purpose and is not to be made again.

    Parameters
    ----------
    work
        Work directory.
    entries
        Entries of batch plans; one whose source changed since is not returned.
    deleted
        From `load_deleted`.
    """
    found = set()
    for entry in entries:
        dataset, name = entry["dataset"], entry["name"]
        if (dataset, name) not in deleted or (work.datasets / dataset / name).exists():
            continue
        record = load_record(work, entry["measurement"])
        if record and [[f.path, f.size, f.mtime_ns] for f in record.files] == entry["files"]:
            found.add(entry["measurement"])
    return found


def note_deleted(work: Workdir, files: Deleted) -> None:
    """Note files before they are deleted; one process at a time."""
    known = load_deleted(work) | files
    rows = (
        (dataset, name, str(size), str(mtime)) for (dataset, name), (size, mtime) in sorted(known.items())
    )
    write_text(work.deleted, to_tsv(_COLUMNS, rows))
