"""The ledger: which DCOR dataset each task became. Lines are only added, each with a checksum."""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from dcorflow.files import escape, sync_folder, unescape
from dcorflow.upload.failures import now


@dataclass(frozen=True)
class Line:
    """One line of the ledger.

    Parameters
    ----------
    time, task
        When (UTC), and the id of the task.
    event
        ``intent``: a draft is about to be made; ``draft``: this dataset id is the task's; ``fields``:
        title, authors and the like were sent; ``sent``: a file is in the object store; ``verified``: all
        content was compared; ``activating``, ``active``: it is about to become final, and is;
        ``abandoned``, ``removed``: the draft was given up, and is deleted.
    dataset_id
        On the server; empty for an intent.
    detail
        A digest, a reason, or what was sent.
    """

    time: str
    task: str
    event: str
    dataset_id: str
    detail: str

    def text(self) -> str:
        """Return the line as it stands in the file."""
        body = "\t".join(map(escape, (self.time, self.task, self.event, self.dataset_id, self.detail)))
        return f"{_checksum(body)}\t{body}\n"


def _checksum(body: str) -> str:
    return hashlib.sha256(body.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _parse(text: str) -> Line | None:
    """Return a line, None where it is damaged."""
    checksum, _, body = text.partition("\t")
    fields = [unescape(field) for field in body.split("\t")]
    if checksum != _checksum(body) or len(fields) != 5:
        return None
    return Line(*fields)


class Ledger:
    """The ledger of one server.

    A line that a power loss cut short is passed over: what it told is found on the server, by the
    marker in the draft.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mutex = threading.RLock()
        self._forget()
        self.read()

    def _forget(self) -> None:
        self.lines: list[Line] = []
        self.damaged = 0
        self._of: dict[str, list[Line]] = {}
        self._read_to, self._file = 0, 0  # bytes, and number of the file that they are of

    def read(self) -> None:
        """Read what was added since the last time, by whomever."""
        with self._mutex:
            try:
                stream = self.path.open("rb")
            except FileNotFoundError:
                self._forget()
                return
            with stream:
                fcntl.flock(stream, fcntl.LOCK_SH)  # no half of a line
                self._catch_up(stream.fileno())

    def _catch_up(self, handle: int) -> None:
        """Read on in the open file; the caller has locked it."""
        seen = os.fstat(handle)
        if seen.st_ino != self._file or seen.st_size < self._read_to:
            self._forget()  # it is another one
        with open(handle, "rb", closefd=False) as stream:
            stream.seek(self._read_to)
            new = stream.read()
        self._file, self._read_to = seen.st_ino, self._read_to + len(new)
        for text in new.decode("utf-8", "surrogateescape").split("\n"):
            if text:
                self._take(_parse(text))

    def _take(self, line: Line | None) -> None:
        if line is None:
            self.damaged += 1
        else:
            self.lines.append(line)
            self._of.setdefault(line.task, []).append(line)

    def add(self, task: str, event: str, dataset_id: str = "", detail: str = "") -> None:
        """Append a line; it is on disk when this returns."""
        line = Line(now(), task, event, dataset_id, detail)
        with self._mutex:
            new = not self.path.exists()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                size = os.fstat(handle).st_size
                whole = size == 0 or os.pread(handle, 1, size - 1) == b"\n"
                text = line.text() if whole else "\n" + line.text()
                os.write(handle, text.encode("utf-8", "surrogateescape"))
                os.fsync(handle)
                self._catch_up(handle)
            finally:
                os.close(handle)
            if new:
                sync_folder(self.path.parent)

    def dataset_of(self, task: str) -> str:
        """Return the dataset id of a task; empty where it has none, or its draft was given up."""
        found = ""
        for line in self.of(task):
            if line.event == "abandoned" and line.dataset_id == found:
                found = ""
            elif line.event in ("draft", "active"):
                found = line.dataset_id
        return found

    def last(self, task: str, event: str, dataset_id: str) -> Line | None:
        """Return the last line of a kind about a dataset of a task."""
        lines = [x for x in self.of(task) if x.event == event and x.dataset_id == dataset_id]
        return lines[-1] if lines else None

    def to_remove(self, task: str) -> list[str]:
        """Return the drafts of a task that were given up and may still be on the server."""
        gone = (line.dataset_id for line in self.of(task) if line.event == "abandoned")
        return [dataset_id for dataset_id in dict.fromkeys(gone) if not self.is_removed(task, dataset_id)]

    def is_removed(self, task: str, dataset_id: str) -> bool:
        """Return whether a draft of a task is gone; a search of the server may still show it."""
        return self.last(task, "removed", dataset_id) is not None

    def sent(self, task: str, dataset_id: str) -> dict[tuple[str, str], str]:
        """Return (name, ETag) -> id of files that are in the store but were not added to the draft."""
        found = {}
        for line in self.of(task):
            if line.event == "sent" and line.dataset_id == dataset_id:
                resource_id, etag, name = line.detail.split(" ", 2)
                found[name, etag] = resource_id
            elif line.event == "unsent" and line.dataset_id == dataset_id:
                found = {}
        return found

    def unanswered(self, task: str) -> bool:
        """Return whether a draft was ever asked for and no answer came: there may be one more."""
        waiting = False
        for line in self.of(task):
            if line.event == "intent":
                if waiting:
                    return True
                waiting = True
            elif line.event == "draft":
                waiting = False
        return waiting

    def of(self, task: str) -> list[Line]:
        """Return all lines about a task, the oldest first."""
        with self._mutex:
            return list(self._of.get(task, ()))
