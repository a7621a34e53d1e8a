"""Files that appear whole or not at all, and the plain text formats written to them."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import xxhash

#: Every temporary file of dcorflow starts like this, so leftovers can be told from results.
TEMP_PREFIX = ".dcorflow-"
#: Where a file system knows no locks, an older temporary file belongs to nobody (seconds).
_ABANDONED = 2 * 86400
_BLOCK = 1 << 22
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
#: The same with bytes that are no UTF-8, which Python keeps as lone surrogates.
_ESCAPED = str.maketrans(_ESCAPES | {chr(0xDC00 + byte): f"\\x{byte:02x}" for byte in range(0x80, 0x100)})


@contextlib.contextmanager
def replacing(path: Path, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success sync it and rename it to `path`.

    Without `sync` its bytes are on disk before it gets its name, too, but the caller makes the name
    itself survive a power loss: with `sync_folder`, once for many files.

    The temporary file is locked (flock) for as long as it is written, which is how
    `clean_leftovers` knows that somebody still works on it. On any error it is removed and
    `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temp, handle = _new_temporary(path.parent)
    try:
        yield temp
        os.fsync(handle)
        temp.rename(path)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)
    if sync:
        sync_folder(path.parent)


def _new_temporary(folder: Path) -> tuple[Path, int]:
    """Return a new empty temporary file in `folder`, and an open handle that holds its lock."""
    while True:
        temp = folder / f"{TEMP_PREFIX}{os.urandom(8).hex()}.tmp"
        handle = os.open(temp, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        if _hold(handle, temp):
            return temp, handle
        os.close(handle)


def _hold(handle: int, path: Path) -> bool:
    """Lock what was just made; return False where `clean_leftovers` found it before and takes it away."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # no locks on this file system: age decides
    return path.exists()


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Yield a temporary folder, locked for `clean_leftovers` like the files of `replacing`."""
    while True:
        with contextlib.ExitStack() as stack:
            name = stack.enter_context(
                tempfile.TemporaryDirectory(dir=parent, prefix=TEMP_PREFIX, ignore_cleanup_errors=True)
            )
            try:
                handle = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # `clean_leftovers` was faster
            stack.callback(os.close, handle)
            if _hold(handle, Path(name)):
                yield Path(name)
                return


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power loss."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def clean_leftovers(folder: Path) -> int:
    """Remove what killed jobs left in `folder`; return how many files and scratch folders went."""
    removed = 0
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(TEMP_PREFIX):
                removed += _remove_leftover(Path(entry.path), entry.is_dir(follow_symlinks=False))
    return removed


def _remove_leftover(path: Path, folder: bool) -> bool:
    """Remove a temporary file or folder that no living process holds; return whether it went.

    It is locked meanwhile, so that a process that has just made it notices (`_hold`).
    """
    flags = os.O_RDONLY if folder else os.O_RDWR
    try:
        handle = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        if _is_held(handle):
            return False
        if folder:
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        return True
    finally:
        os.close(handle)


def _is_held(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return time.time() - os.fstat(handle).st_mtime < _ABANDONED
    return False


def write_text(path: Path, text: str, sync: bool = True) -> None:
    """Write `text` as UTF-8 atomically; undecodable file names in it survive the round trip.

    `sync` as in `replacing`.
    """
    with replacing(path, sync) as temp:
        temp.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")


def write_bytes_if_changed(path: Path, data: bytes) -> bool:
    """Write `data` only where the file does not hold it already; return whether it was written."""
    with contextlib.suppress(OSError):
        if path.read_bytes() == data:
            return False
    with replacing(path) as temp:
        temp.write_bytes(data)
    return True


def write_if_changed(path: Path, text: str) -> bool:
    """Write `text` only where the file does not hold it already; return whether it was written."""
    with contextlib.suppress(OSError):
        if read_text(path) == text:
            return False
    write_text(path, text)
    return True


def read_text(path: Path) -> str:
    """Read UTF-8 text written by `write_text`."""
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        return stream.read()


def to_json(data: Any) -> str:
    """Return JSON with sorted keys, so that equal data give equal bytes; dates become text.

    Each value has a line of its own, for people and for `diff`. Only the outermost level is indented:
    so everything below is written by an encoder in C, which is five times faster than with `indent`.
    """
    if not data or not isinstance(data, dict):
        return _LINES.encode(data) + "\n"
    # a key is encoded with a value: only so one that is no text is written as JSON wants it
    lines = (f" {_LINES.encode({key: 0})[1:-2]}{_LINES.encode(data[key])}" for key in sorted(data))
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _date_text(value: object) -> str:
    if isinstance(value, (datetime.date, datetime.time)):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no plain data")


_LINES = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",\n  ", ": "), default=_date_text)


def read_json(path: Path) -> Any:
    """Read a JSON file; raise `ValueError` where it is damaged."""
    return json.loads(read_text(path))


def key_of(*parts: Any) -> str:
    """Return 16 hex digits that stand for the JSON of `parts`."""
    return xxhash.xxh3_64_hexdigest(_KEY.encode(parts).encode("ascii"))


_KEY = json.JSONEncoder(sort_keys=True, ensure_ascii=True, separators=(",", ":"))


def escape(field: str) -> str:
    """Make one TSV field of any text: tabs, line breaks and stray bytes become escapes."""
    return field if _is_plain(field) else field.translate(_ESCAPED)


def _is_plain(text: str) -> bool:
    """Return whether a text surely needs no escape."""
    return text.isascii() and text.isprintable() and "\\" not in text


def printable(text: str) -> str:
    """Make one line of text safe for a terminal: stray bytes and control characters become escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else escape(c) if escape(c) != c else repr(c)[1:-1] for c in text)


def unescape(field: str) -> str:
    """Undo `escape`."""
    if "\\" not in field:
        return field
    out, at = [], 0
    plain = {value[1]: key for key, value in _ESCAPES.items()}
    while at < len(field):
        if field[at] != "\\" or at + 1 == len(field):
            out.append(field[at])
            at += 1
        elif field[at + 1] == "x":
            out.append(chr(0xDC00 + int(field[at + 2 : at + 4], 16)))
            at += 4
        else:
            out.append(plain.get(field[at + 1], field[at + 1]))
            at += 2
    return "".join(out)


def to_tsv(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table with a header; every field is escaped."""
    lines = ["\t".join(columns)]
    lines += ["\t".join(row if _is_plain("".join(row)) else map(escape, row)) for row in rows]
    return "\n".join(lines) + "\n"


def read_tsv(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of a table written by `to_tsv`."""
    lines = read_text(path).split("\n")
    if lines and lines[-1] == "":
        lines.pop()
    table = [
        [unescape(field) for field in line.split("\t")] if "\\" in line else line.split("\t")
        for line in lines
    ]
    return (table[0], table[1:]) if table else ([], [])


def hash_file(path: Path) -> str:
    """Return ``xxh3-128:<hex>`` over all bytes of a file."""
    digest = xxhash.xxh3_128()
    buffer = bytearray(_BLOCK)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            digest.update(view[:count])
    return f"xxh3-128:{digest.hexdigest()}"


def content_digest(paths: Sequence[Path]) -> str:
    """Return a digest over all bytes of a measurement's files; raise `OSError` if one is missing."""
    digests = [hash_file(path) for path in paths]
    return digests[0] if len(digests) == 1 else f"files:{key_of(*digests)}"


def copy_file(source: Path, target: Path, most: int | None = None) -> None:
    """Copy bytes as cheaply as the file system can (clone, kernel copy, else plain copy).

    Of more than `most` bytes the rest need not be copied: a clone has it, a copy has not.
    """
    with source.open("rb") as src, target.open("r+b" if target.exists() else "wb") as dst:
        dst.truncate(0)
        size = os.fstat(src.fileno()).st_size
        size = size if most is None else min(size, most)
        try:
            fcntl.ioctl(dst.fileno(), 0x40049409, src.fileno())  # FICLONE, linux/fs.h
            return
        except OSError:
            pass
        done = 0
        try:
            while done < size:
                moved = os.copy_file_range(src.fileno(), dst.fileno(), size - done)
                if moved == 0:
                    break
                done += moved
        except OSError as error:
            if done:
                raise OSError(error.errno, error.strerror, str(target)) from error
        if done < size:
            src.seek(done)
            dst.seek(done)
            while block := src.read(min(_BLOCK, size - done)):
                done += dst.write(block)


def read_mapping(path: Path) -> dict[str, Any] | None:
    """Return what a JSON file holds; None where there is none, or it is damaged."""
    try:
        data = read_json(path)
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None
