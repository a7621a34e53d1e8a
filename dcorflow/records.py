"""Records: how each measurement was prepared. The checkpoint of the workflow."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import xxhash

from dcorflow.errors import FailureClass
from dcorflow.files import read_text, to_json, write_if_changed, write_text
from dcorflow.workdir import Workdir
from dcorflow.workers import spread

#: Raised when older records can no longer be understood.
FORMAT = 1
#: Kinds of changes that nobody asked for.
AUTOMATIC = ("data", "software")
#: Fact of a record: checksum of the source's main file, for names as DCKit gives them.
SOURCE_SHA256 = "source_sha256"
#: Note on a conversion that lost events since a side file is shorter than the measurement.
TRUNCATED = "images, contours or traces are truncated"
#: How a record begins: its checksum shows whether it is as it was written.
_SEAL, _SEAL_END = '{\n "checksum": "', '",'


@dataclass(frozen=True)
class SourceFile:
    """One file of a measurement, as it was seen: path below its root, bytes, time in ns."""

    path: str
    size: int
    mtime_ns: int


@dataclass
class Failure:
    """Why a measurement could not be prepared."""

    stage: str
    reason: str
    failure: FailureClass


@dataclass
class Record:
    """Everything known about the preparation of one measurement.

    Parameters
    ----------
    measurement, dataset
        Identifiers.
    root, kind, files
        The source: its root folder's name, ``rtdc`` or ``tdms``, and its files.
    content
        Digest over the bytes of the source files.
    body_key
        Stands for the settings and recipe that made the body.
    body, restore
        What was done to the data; what takes the tail off (`dcorflow.compress.tail`).
    tail_key, edits
        Stands for the edits asked for; each value changed with old, new, kind and place of origin.
    metadata, guessed
        All values ``section:key`` of the prepared file; those that a conversion guessed and nobody
        confirmed, and how.
    prepared
        ``name`` (below ``results/datasets/<dataset>``), ``size``, ``mtime_ns``, then ``sha256`` and
        ``etag`` once checked.
    check_key, check
        Stands for the state that was checked; cues and verdicts (`dcorflow.integrity`).
    facts
        Small values that later stages need without opening the file.
    portrait
        ``key`` and ``flags`` of its pictures (`dcorflow.portrait`), or ``missing``: why there are none.
    failure
        Set where the measurement could not be prepared.
    """

    measurement: str
    dataset: str
    root: str
    kind: str
    files: list[SourceFile]
    content: str = ""
    body_key: str = ""
    body: dict[str, Any] = field(default_factory=dict)
    restore: dict[str, Any] = field(default_factory=dict)
    tail_key: str = ""
    edits: list[dict[str, Any]] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    guessed: dict[str, str] = field(default_factory=dict)
    prepared: dict[str, Any] = field(default_factory=dict)
    check_key: str = ""
    check: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    portrait: dict[str, Any] = field(default_factory=dict)
    failure: Failure | None = None
    format: int = FORMAT

    def describes(self, seen: os.stat_result) -> bool:
        """Return whether a prepared file has the size and the time of the one that this is about."""
        return (seen.st_size, seen.st_mtime_ns) == (self.prepared["size"], self.prepared["mtime_ns"])

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Record:
        """Build a record from JSON; raise `ValueError` where a field is missing or of old format."""
        if data.get("format") != FORMAT:
            raise ValueError(f"record format {data.get('format')}, expected {FORMAT}")
        try:
            values = dict(data)
            values["files"] = [SourceFile(**f) for f in data["files"]]
            values["failure"] = Failure(**data["failure"]) if data.get("failure") else None
            return cls(**values)
        except (TypeError, KeyError) as error:
            raise ValueError(f"damaged record: {error}") from error


def load_record(work: Workdir, measurement: str) -> Record | None:
    """Return the record of a measurement; None where there is none, or it is damaged or was edited."""
    try:
        record = Record.from_dict(json.loads(_unsealed(read_text(work.record(measurement)))))
    except (OSError, ValueError, AttributeError):
        return None
    return record if record.measurement == measurement else None


def save_record(work: Workdir, record: Record, sync: bool = True) -> None:
    """Write a record atomically; its payload must be on disk before. `sync` as in `files.replacing`."""
    plain = {f.name: getattr(record, f.name) for f in fields(record)}  # no deep copies
    plain["files"] = [asdict(file) for file in record.files]
    text = to_json(plain | {"failure": asdict(record.failure) if record.failure else None})
    write_text(work.record(record.measurement), f"{_SEAL}{_checksum(text)}{_SEAL_END}{text[1:]}", sync)


def _checksum(text: str) -> str:
    return xxhash.xxh3_64_hexdigest(text.encode("utf-8", "surrogateescape"))


def _unsealed(text: str) -> str:
    """Return the JSON of a record without its checksum; raise `ValueError` where that is wrong."""
    if not text.startswith(_SEAL):
        return text  # of an older version
    checksum, _, rest = text.removeprefix(_SEAL).partition(_SEAL_END)
    if checksum != _checksum("{" + rest):
        raise ValueError("damaged record: wrong checksum")
    return "{" + rest


def index_line(record: Record) -> dict[str, Any]:
    """Return the few values of a record that planning and reporting need."""
    return {
        "measurement": record.measurement,
        "dataset": record.dataset,
        "files": [[f.path, f.size, f.mtime_ns] for f in record.files],
        "content": record.content,
        "body_key": record.body_key,
        "tail_key": record.tail_key,
        "check_key": record.check_key,
        "prepared": record.prepared,
        "basins": record.body.get("basins", {}),
        "portrait": record.portrait.get("key", ""),
        "drawn": bool(record.portrait) and "missing" not in record.portrait,
        "failure": asdict(record.failure) if record.failure else None,
    }


class RecordIndex:
    """One line per record, kept beside them, so that a run with nothing to do opens no record.

    Lines carry size and time of their record file, and a checksum in front; only records that differ
    are read. A lost or damaged index is built anew, line by line.
    """

    def __init__(self, work: Workdir) -> None:
        self.work = work
        self.lines: dict[str, dict[str, Any]] = {}
        self._stats: dict[str, list[int]] = {}

    def refresh(self, save: bool = True) -> RecordIndex:
        """Bring the index up to date with the records on disk."""
        self._load()
        seen: dict[str, list[int]] = {}
        try:
            with os.scandir(self.work.records) as entries:
                for entry in entries:
                    if entry.name.endswith(".json") and not entry.name.startswith("."):
                        stat = entry.stat()
                        seen[entry.name[:-5]] = [stat.st_size, stat.st_mtime_ns]
        except FileNotFoundError:
            pass
        gone = set(self.lines) - set(seen)
        new = [name for name, stats in seen.items() if self._stats.get(name) != stats]
        for name in gone:
            del self.lines[name]
        for name, line in zip(new, spread(self._line, new), strict=True):
            if line is None:
                self.lines.pop(name, None)
            else:
                self.lines[name] = line
        self._stats = seen
        if (gone or new) and save:
            self._save()
        return self

    def _line(self, name: str) -> dict[str, Any] | None:
        record = load_record(self.work, name)
        return index_line(record) if record else None

    def get(self, measurement: str) -> dict[str, Any] | None:
        """Return the line of a measurement, None where it has no valid record."""
        return self.lines.get(measurement)

    def _load(self) -> None:
        try:
            text = read_text(self.work.record_index)
        except OSError:
            return
        for line in text.split("\n"):
            try:
                checksum, stats, values = json.loads(line)
                if checksum != _checksum(line.partition(", ")[2]):
                    continue
                self._stats[values["measurement"]] = stats
                self.lines[values["measurement"]] = values
            except (ValueError, KeyError, TypeError):
                continue  # a damaged line: its record is read again

    def _save(self) -> None:
        texts = (
            json.dumps([self._stats[name], self.lines[name]], ensure_ascii=False, sort_keys=True)[1:]
            for name in sorted(self.lines)
        )
        lines = [f'["{_checksum(text)}", {text}\n' for text in texts]
        write_if_changed(self.work.record_index, "".join(lines))


def stat_files(root: Path, paths: Iterable[str]) -> list[SourceFile]:
    """Return the present state of source files; raise `OSError` where one is missing."""
    found = []
    for path in paths:
        stat = (root / path).stat()
        found.append(SourceFile(path, stat.st_size, stat.st_mtime_ns))
    return found
