"""The tail of a prepared file: edited attributes and history; depends on the edits only.

HDF5 writes the tail behind the body and changes a few pages of the body (superblock, headers of
root and logs). These pages are kept, so that another tail can be written later without touching the
data: restore the pages, cut the file at the body's length, write anew. The bytes are the same as
those of a file made afresh.
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dcorflow import engine
from dcorflow.hdf5 import HISTORY_LOG

#: Size of the pages that are kept, in bytes. Small: HDF5's headers are a few hundred bytes.
PAGE = 512
#: Longest line in a log that dclab's integrity check does not complain about
#: (dclab.rtdc_dataset.check.LOG_MAX_LINE_LENGTH).
LINE = 100
_encode = json.JSONEncoder().encode


class _TailFile:
    """A file for h5py's ``fileobj`` driver that keeps every page of the body it overwrites."""

    def __init__(self, handle: int, body_length: int) -> None:
        self.handle = handle
        self.body_length = body_length
        self.pages: dict[int, bytes] = {}
        self.position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.position}.get(whence)
        self.position = offset + (os.fstat(self.handle).st_size if base is None else base)
        return self.position

    def tell(self) -> int:
        return self.position

    def readinto(self, buffer: memoryview) -> int:
        count = os.preadv(self.handle, [buffer], self.position)
        self.position += count
        return count

    def read(self, count: int = -1) -> bytes:
        size = os.fstat(self.handle).st_size - self.position if count < 0 else count
        data = os.pread(self.handle, max(0, size), self.position)
        self.position += len(data)
        return data

    def write(self, data: bytes | memoryview) -> int:
        data = memoryview(data).cast("B")
        end = min(self.position + len(data), self.body_length)
        for page in range(self.position // PAGE, -(-end // PAGE)):
            if page not in self.pages and page * PAGE < self.body_length:
                size = min(PAGE, self.body_length - page * PAGE)
                self.pages[page] = os.pread(self.handle, size, page * PAGE)
        done = 0
        while done < len(data):
            done += os.pwrite(self.handle, data[done:], self.position + done)
        self.position += len(data)
        return done

    def truncate(self, size: int | None = None) -> int:
        size = self.position if size is None else size
        os.ftruncate(self.handle, size)
        return size

    def flush(self) -> None:
        """HDF5 flushes at close; the caller syncs the file."""


def write_tail(
    path: Path, fill: Callable[[h5py.File], None], known: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write a tail behind the body that `path` holds; return what `restore_body` needs.

    Parameters
    ----------
    path
        A file with a body and nothing else; changed in place, so a temporary file.
    fill
        Called with the file open for writing; writes root attributes and logs.
    known
        What was returned for another tail of this body, if any: packing takes its time.

    Returns
    -------
    dict
        ``length``: bytes of the body; ``pages``: numbers of the overwritten pages of the body;
        ``before``: what they held, one after the other, zlib and base64.
    """
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        stream = _TailFile(handle, os.fstat(handle).st_size)
        with h5py.File(stream, "r+") as h5:
            fill(h5)
        numbers = sorted(stream.pages)
        before = b"".join(stream.pages[n] for n in numbers)
        if known and known["pages"] == numbers and _unpacked(known) == before:
            packed = known["before"]
        else:
            packed = base64.b64encode(zlib.compress(before, 9)).decode("ascii")
        return {"length": stream.body_length, "pages": numbers, "before": packed}
    finally:
        os.close(handle)


def _unpacked(body: Mapping[str, Any]) -> bytes:
    return zlib.decompress(base64.b64decode(body["before"]))


def restore_body(path: Path, body: dict[str, Any]) -> None:
    """Take the tail off a copy of a prepared file: afterwards it holds the body only."""
    before = _unpacked(body)
    with path.open("r+b", buffering=0) as stream:
        stream.truncate(body["length"])
        for index, number in enumerate(body["pages"]):
            stream.seek(number * PAGE)
            stream.write(before[index * PAGE : (index + 1) * PAGE])


def same_tail(one: Path, other: Path, body: dict[str, Any]) -> bool:
    """Return whether two files with the same body have the same tail, too."""
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb", buffering=0) as left, other.open("rb", buffering=0) as right:
        for start, size in [*((n * PAGE, PAGE) for n in body["pages"]), (body["length"], -1)]:
            left.seek(start)
            right.seek(start)
            if left.read(size) != right.read(size):
                return False
    return True


def write_history(h5: h5py.File, history: dict[str, Any]) -> None:
    """Store the history log: JSON in lines of at most 100 bytes; join them with nothing to read."""
    lines = []
    for line in indented(history).split("\n"):
        lines += [line[at : at + LINE] for at in range(0, len(line), LINE)]
    engine.write_array(h5["logs"], HISTORY_LOG, np.array(lines, dtype=f"S{LINE}"))


def indented(value: Any, margin: str = "\n") -> str:
    """Return what `json.dumps` with ``indent=1`` and sorted keys gives, in a third of its time."""
    inner = margin + " "
    if isinstance(value, dict) and value:
        parts = [f"{_encode(key)}: {indented(value[key], inner)}" for key in sorted(value)]
        return f"{{{inner}{f',{inner}'.join(parts)}{margin}}}"
    if isinstance(value, list) and value:
        return f"[{inner}{f',{inner}'.join([indented(item, inner) for item in value])}{margin}]"
    return _encode(value)


def read_history(h5: h5py.File) -> dict[str, Any]:
    """Return the history that `write_history` stored."""
    loaded: dict[str, Any] = json.loads(b"".join(h5["logs"][HISTORY_LOG][:]))
    return loaded
