"""Run commands as processes of their own, in turn, and keep what they took."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
#: Bytecode is kept, as it is for installed programs.
BYTECODE = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(ROOT / "bench" / "work" / "bytecode")}
ENVIRONMENT = {**os.environ, **BYTECODE, "PYTHONPATH": str(ROOT)}
#: Command that takes the file to read and the file to write.
PEER = [sys.executable, "-c", "from dclab.cli import compress; compress()"]


class Run(NamedTuple):
    """One process: seconds, CPU seconds, peak memory in MB, size of what it wrote in bytes."""

    wall: float
    cpu: float
    rss: float
    size: int


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
    errors = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {errors.decode(errors='replace')[-800:]}")
    size = target.stat().st_size if target is not None else 0
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, size)


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
