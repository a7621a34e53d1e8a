"""Who may upload what, and how many at once: locks that die with the process that holds them."""

from __future__ import annotations

import contextlib
import fcntl
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from dcorflow.upload.failures import Stopped

_LOOK_AGAIN = 0.1
#: Files for the locks of titles; different titles that share one wait for each other, which does no harm.
_TITLES = 64


def _try(path: Path) -> IO[str] | None:
    """Return the locked file, None where somebody else holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = path.open("a+")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        return None
    return stream


@contextlib.contextmanager
def task_lock(folder: Path, task: str, stop: threading.Event, say: Callable[[str], None]) -> Iterator[bool]:
    """Hold the lock of a task, waiting while another process is at work on it; yield whether one was.

    A head that was killed leaves its upload running: the next run goes on when that has ended.
    """
    waited = False
    while (stream := _try(folder / f"{task}.lock")) is None:
        if not waited:
            say("another process is uploading it; waiting for its end")
        waited = True
        if stop.wait(_LOOK_AGAIN):
            raise Stopped
    with stream:
        yield waited


@contextlib.contextmanager
def slot(folder: Path, count: int, stop: threading.Event) -> Iterator[int]:
    """Hold one of `count` slots, waiting for one to become free; yield its number."""
    while True:
        for number in range(count):
            stream = _try(folder / f"slot-{number}.lock")
            if stream is not None:
                with stream:
                    yield number
                return
        if stop.wait(_LOOK_AGAIN):
            raise Stopped


@contextlib.contextmanager
def title_lock(folder: Path, title: str, stop: threading.Event) -> Iterator[None]:
    """Hold the lock of a title, of which the server makes the name of a dataset."""
    letters = "".join(c for c in title.lower() if c.isalnum())
    number = zlib.crc32(letters.encode("utf-8", "replace")) % _TITLES
    with slot(folder / "titles" / f"{number:02}", 1, stop):
        yield
