"""Who runs the workflow in a work directory: a note that the head writes and keeps fresh."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from dcorflow.files import read_json, to_json
from dcorflow.progress import pass_of, replace_quickly
from dcorflow.workdir import Workdir

#: Seconds after which a head on another machine that gives no sign counts as dead.
_SILENCE = 120


@dataclass
class Head:
    """The last run, as it said itself.

    Parameters
    ----------
    pid, born, host
        Its process, a number that tells it from others of that id, and the machine.
    started, ended
        Seconds since the epoch; `ended` is 0 until its last lines are printed.
    before
        Stands for the last pass of discover before its own.
    code
        Exit code, once it ended.
    sign
        When it gave the last sign of life; not stored.
    """

    pid: int
    born: int
    host: str
    started: float
    before: int = 0
    ended: float = 0
    code: int = 0
    sign: float = 0

    @property
    def is_running(self) -> bool:
        """Whether it is at work now, as far as can be told without disturbing it."""
        if self.ended:
            return False
        if self.host == socket.gethostname():
            return _birth(self.pid) == self.born
        return time.time() - self.sign < _SILENCE

    def words(self) -> str:
        """Say when it ran and how it ended."""
        start = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.started))
        if self.is_running:
            return f"a run is going on since {start} (process {self.pid} on {self.host})"
        if not self.ended:
            return f"the run of {start} was ended before it was finished; run again to go on"
        end = time.strftime("%Y-%m-%d %H:%M", time.localtime(self.ended))
        return f"no run is going on; the last one ended {end} with exit code {self.code}"


def note_start(work: Workdir) -> None:
    """Say that this process runs the workflow."""
    pid = os.getpid()
    _write(work, Head(pid, _birth(pid), socket.gethostname(), time.time(), pass_of(work)))


def note_end(work: Workdir, code: int) -> None:
    """Say that this process is done."""
    head = read_head(work)
    if head is not None and head.pid == os.getpid():
        head.ended, head.code = time.time(), code
        _write(work, head)


def give_sign(work: Workdir) -> None:
    """Show that this process lives."""
    with contextlib.suppress(OSError):
        os.utime(work.run)


def read_head(work: Workdir) -> Head | None:
    """Return what the last run said; None where it said nothing."""
    try:
        head = Head(**read_json(work.run))
        head.sign = work.run.stat().st_mtime
    except (OSError, ValueError, TypeError):
        return None
    return head


def _write(work: Workdir, head: Head) -> None:
    data = {k: v for k, v in vars(head).items() if k != "sign"}
    with contextlib.suppress(OSError):
        replace_quickly(work.run, to_json(data))


def _birth(pid: int) -> int:
    """Return when a process of this machine was started, in ticks; 0 where it cannot be told, -1 for none."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return -1
    except OSError:
        pass
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return -1 if state == "Z" else int(fields[18])
    except (OSError, ValueError, IndexError):
        return 0
