"""How far a job is: a small file per job, for the lines during a run and for `dcorflow status`.

These files are for people to look at: nothing is decided by them, they are not synced, and what goes
wrong with them is ignored.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from typing import Any

from dcorflow.files import TEMP_PREFIX, read_json, to_json
from dcorflow.workdir import Workdir

#: Seconds between two writings of one job's file: it costs a thousandth of the job's time at most.
_PAUSE = 0.5
#: Seconds until a job without anything new shows that it still works.
_SIGN = 10
#: What a job begins with.
_NOTHING: dict[str, Any] = {
    "processed": 0, "processed_bytes": 0, "worked": 0, "worked_bytes": 0, "failed": 0, "ended": False,
}  # fmt: skip
#: Failures whose reasons are kept, per job; all are counted.
_KEPT = 12


class JobProgress(threading.Thread):
    """Counts what one job does; writes its file every half second where something changed.

    Parameters
    ----------
    work, stage, name
        Work directory, stage, and batch or group.
    total, size
        Number of measurements (or datasets) and their bytes.
    """

    def __init__(self, work: Workdir, stage: str, name: str, total: int, size: int = 0) -> None:
        super().__init__(daemon=True, name=f"progress of {stage} {name}")
        self.path = work.progress(stage, name)
        self._mutex, self._writing = threading.Lock(), threading.Lock()
        self._done = threading.Event()
        self._changed, self._written = True, 0.0
        self._now: list[str] = []
        pass_id = pass_of(work)
        before = read_progress(self.path)
        if before is None or before["pass"] != pass_id or before["ended"]:
            before = _NOTHING | {"failures": [], "started": time.time()}
        # A job that was killed did some of the work already; the new one skips what it finds done.
        self._state = before | {
            "pass": pass_id, "total": total, "bytes": size, "processed": 0, "processed_bytes": 0,
        }  # fmt: skip

    def __enter__(self) -> JobProgress:
        self.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._done.set()
        self._state["ended"] = kind is None
        self._now = []
        self._write()

    def run(self) -> None:
        """Write from time to time until the job ends."""
        self._write()
        while not self._done.wait(_PAUSE):
            if self._changed or time.time() - self._written > _SIGN:
                self._write()

    def begin(self, what: str) -> None:
        """Note that something is worked on now."""
        with self._mutex:
            self._now.append(what)
            self._changed = True

    def end(self, what: str, size: int, worked: bool = True, failure: str = "") -> None:
        """Note that it is done.

        Parameters
        ----------
        what, size
            As given to `begin`, and its bytes, where they are not told by `move`.
        worked
            Whether there was something to do.
        failure
            The reason where it failed.
        """
        with self._mutex:
            with contextlib.suppress(ValueError):
                self._now.remove(what)
            self._add("", 1, worked)
            self._add("_bytes", size, worked)
            if failure and worked:
                self._state["failed"] += 1
                if len(self._state["failures"]) < _KEPT:
                    self._state["failures"].append([what, failure])
            self._changed = True

    def expect(self, size: int) -> None:
        """Raise the number of bytes that are to be done."""
        with self._mutex:
            self._state["bytes"] += size
            self._changed = True

    def move(self, size: int, worked: bool = True) -> None:
        """Note bytes that are done (negative: that must be done again)."""
        with self._mutex:
            self._add("_bytes", size, worked)
            self._changed = True

    def _add(self, kind: str, count: int, worked: bool) -> None:
        self._state[f"processed{kind}"] += count
        if worked:
            self._state[f"worked{kind}"] += count

    def _write(self) -> None:
        with self._writing:  # so that nothing older replaces what is newer
            with self._mutex:
                self._changed, self._written = False, time.time()
                text = to_json({**self._state, "now": self._now, "at": time.time()})
            with contextlib.suppress(OSError):
                replace_quickly(self.path, text)


def pass_of(work: Workdir) -> int:
    """Return what stands for the last pass of discover; numbers of earlier passes are void."""
    try:
        with work.todo.open("rb") as stream:  # opened, so that a network file system looks afresh
            return os.fstat(stream.fileno()).st_mtime_ns
    except OSError:
        return 0


def forget_progress(work: Workdir) -> None:
    """Remove what the jobs of earlier runs said."""
    with contextlib.suppress(OSError):
        for path in work.progress("", "").parent.iterdir():
            path.unlink(missing_ok=True)


def read_progress(path: Path) -> dict[str, Any] | None:
    """Return what a job said last; None where there is nothing, or nothing whole."""
    try:
        state: dict[str, Any] = read_json(path)
        return state if state.keys() >= {*_NOTHING, "failures", "pass", "total", "bytes", "started"} else None
    except (OSError, ValueError, AttributeError):
        return None


def replace_quickly(path: Path, text: str) -> None:
    """Write a file whole, but without waiting for the disk: after a power loss it may be gone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = path.parent / f"{TEMP_PREFIX}{os.urandom(8).hex()}.tmp"
    try:
        temp.write_text(text, encoding="utf-8", errors="surrogateescape")
        temp.replace(path)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise
