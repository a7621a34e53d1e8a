"""The inventory: one row per measurement ever found; the memory of discover."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dcorflow.errors import FailureClass, UsageError
from dcorflow.files import read_tsv, to_tsv, write_if_changed
from dcorflow.records import SourceFile
from dcorflow.wording import number

State = Literal["found", "in progress", "problem", "duplicate", "left out", "left alone", "gone"]

COLUMNS = (
    "measurement", "dataset", "source", "kind", "bytes", "state", "reason", "note",
    "twin", "root", "name", "key", "origin", "failure", "fingerprint", "content", "batch", "files",
)  # fmt: skip


@dataclass
class Item:
    """One measurement.

    Parameters
    ----------
    measurement
        Identifier; stays the same when the source moves.
    root, source, kind
        Root folder's name, path of the main file below it, ``rtdc`` or ``tdms``.
    files
        Main file and side files with size and time.
    dataset, key, origin
        Dataset; what assigned it (folder or match of ``datasets.by``); the key it was first seen
        with, from which the task id is made.
    name
        File name of the prepared file in the dataset's folder.
    state, reason, failure, note
        What discover thinks of it, why, how lasting that is, and what else to know.
    fingerprint, content
        Digests over samples and, where it had to be taken, over all bytes of the source.
    batch
        The batch that prepares it.
    """

    measurement: str
    root: str
    source: str
    kind: str
    files: tuple[SourceFile, ...] = ()
    dataset: str = ""
    key: str = ""
    origin: str = ""
    name: str = ""
    state: State = "found"
    reason: str = ""
    failure: FailureClass = "content"
    note: str = ""
    fingerprint: str = ""
    content: str = ""
    batch: str = ""
    #: The measurement that a duplicate equals.
    twin: str = ""
    #: Whether its path leads over a symbolic link; not stored.
    linked: bool = field(default=False, compare=False)
    #: True while this run has not seen its files yet; not stored.
    unseen: bool = field(default=True, compare=False)

    @property
    def size(self) -> int:
        """Bytes of all source files."""
        return sum(f.size for f in self.files)

    @property
    def name_on_disk(self) -> str:
        """File name of the main file."""
        return self.source.rpartition("/")[2]

    @property
    def folder(self) -> str:
        """Folder of the main file below the root."""
        return self.source.rpartition("/")[0]

    def row(self) -> list[str]:
        """Return the fields in the order of `COLUMNS`."""
        files = json.dumps([[f.path, f.size, f.mtime_ns] for f in self.files], separators=(",", ":"))
        return [
            self.measurement, self.dataset, self.source, self.kind, str(self.size), self.state,
            self.reason, self.note, self.twin, self.root, self.name, self.key, self.origin,
            self.failure if self.state == "problem" else "", self.fingerprint, self.content,
            self.batch, files,
        ]  # fmt: skip


def load_inventory(path: Path) -> list[Item]:
    """Read the inventory; an absent one is empty.

    Raises
    ------
    UsageError
        Where the table is damaged: it is the memory of identities and is not guessed anew.
    """
    try:
        columns, rows = read_tsv(path)
    except FileNotFoundError:
        return []
    try:
        if tuple(columns) != COLUMNS:
            raise ValueError(f"columns {columns}")
        return [_item(dict(zip(COLUMNS, row, strict=True))) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is damaged ({error}); expected the table that dcorflow wrote. Restore it from a "
            "backup, or delete it: prepared files are then found again through their records"
        ) from error


def lost_rows(items: Iterable[Item], recorded: Iterable[str]) -> list[str]:
    """Return a warning where measurements have a record but no row: each one ever found has a row."""
    lost = sorted(set(recorded) - {item.measurement for item in items})
    if not lost:
        return []
    return [
        f"results/inventory.tsv lost {number(len(lost), 'measurement')} of which there are records "
        f"(results/records/{lost[0]}.json); it was cut, or deleted after sources had vanished or moved: "
        "restore it from a backup, or remove the records to say that they are not missed"
    ]


def _item(row: dict[str, str]) -> Item:
    return Item(
        measurement=row["measurement"],
        root=row["root"],
        source=row["source"],
        kind=row["kind"],
        files=tuple(SourceFile(*f) for f in json.loads(row["files"])),
        dataset=row["dataset"],
        key=row["key"],
        origin=row["origin"],
        name=row["name"],
        state=row["state"],  # type: ignore[arg-type]
        reason=row["reason"],
        failure=row["failure"] or "content",  # type: ignore[arg-type]
        note=row["note"],
        fingerprint=row["fingerprint"],
        content=row["content"],
        batch=row["batch"],
        twin=row["twin"],
    )


def save_inventory(path: Path, items: list[Item]) -> bool:
    """Write the inventory sorted by source; return whether it changed."""
    ordered = sorted(items, key=lambda i: (i.root, i.source, i.measurement))
    return write_if_changed(path, to_tsv(COLUMNS, (item.row() for item in ordered)))
