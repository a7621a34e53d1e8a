"""Run commands as processes of their own, in turn, and keep what they took."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from dcorflow.memory import children

ROOT = Path(__file__).resolve().parents[1]
#: Bytecode is kept, as it is for installed programs.
BYTECODE = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(ROOT / "bench" / "work" / "bytecode")}
ENVIRONMENT = {**os.environ, **BYTECODE, "PYTHONPATH": str(ROOT)}
#: Command that takes the file to read and the file to write.
PEER = [sys.executable, "-c", "from dclab.cli import compress; compress()"]


class Run(NamedTuple):
    """One command: seconds, CPU seconds, size of what it wrote in bytes, and its peak memory in MB.

    The memory is that of its processes together; what they share counts once.
    """

    wall: float
    cpu: float
    rss: float
    size: int


class Watch(threading.Thread):
    """Sees from time to time how much memory a process and its children take together, in MB.

    To look costs time, which the others then lack: at most a fiftieth of it.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak, self.ended = pid, 0.0, threading.Event()

    def run(self) -> None:
        """Look until it ended."""
        pause = 0.15
        while not self.ended.wait(pause):
            start = time.perf_counter()
            if family := children(self.pid):
                self.peak = max(self.peak, sum(map(proportional, [self.pid, *family])))
            pause = max(0.15, 50 * (time.perf_counter() - start))


def proportional(pid: int) -> float:
    """Return the memory of a process in MB, what it shares with others in parts (PSS)."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0.0


def dcorflow(*arguments: str) -> list[str]:
    """Return the command that runs dcorflow."""
    return [sys.executable, "-m", "dcorflow", *arguments]


def forget(path: Path) -> None:
    """Drop a file from the page cache, so that it is read from the disk."""
    os.sync()
    handle = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def measure(command: list[str], target: Path | None = None, cold: Path | None = None) -> Run:
    """Run a command and return what it took.

    Parameters
    ----------
    target
        File that it writes; removed first.
    cold
        File that is to be read from the disk.
    """
    if target is not None:
        target.unlink(missing_ok=True)
    os.sync()  # what was written before is not this command's business
    if cold is not None:
        forget(cold)
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT)
    assert child.stderr is not None
    watch = Watch(child.pid)
    watch.start()
    errors = child.stderr.read()
    watch.ended.set()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {errors.decode(errors='replace')[-800:]}")
    size = target.stat().st_size if target is not None else 0
    memory = max(usage.ru_maxrss / 1024, watch.peak)
    return Run(wall, usage.ru_utime + usage.ru_stime, memory, size)


def in_turn(ways: dict[str, Callable[[], Run]], turns: int) -> dict[str, list[Run]]:
    """Do each of several things, again and again: a slow moment of the machine meets all of them."""
    runs: dict[str, list[Run]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, do in ways.items():
            runs[name].append(do())
    return runs


def median(runs: Iterable[Run], field: str) -> float:
    """Return the median of one figure."""
    return statistics.median(getattr(run, field) for run in runs)


def times_better(peer: list[Run], own: list[Run], field: str) -> float:
    """Return the median of the ratios turn by turn; above 1, `own` is better."""
    return statistics.median(getattr(p, field) / getattr(o, field) for p, o in zip(peer, own, strict=True))


def eight_cores(one: list[Run], two: list[Run]) -> float:
    """Return the wall seconds that eight cores would take: what two do not share stays as it is."""
    first, second = median(one, "wall"), median(two, "wall")
    shared = min(max(2 * (first - second), 0), first)
    return first - shared + shared / 8


def table(header: list[str], rows: Iterable[list[object]]) -> list[str]:
    """Return a Markdown table."""
    lines = [" | ".join(header), " | ".join("---" for _ in header)]
    lines += [" | ".join(str(cell) for cell in row) for row in rows]
    return [f"| {line} |" for line in lines]
