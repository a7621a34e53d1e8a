"""Keep the workers of a job below its memory limit, so that one of them ends and not the job."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Collection, Iterable
from pathlib import Path

#: Set by the workflow in jobs of a scheduler, whose memory limit ends the whole job.
LIMITED = "DCORFLOW_MEMORY_IS_LIMITED"
#: What the rest of such a job takes in MB: two Snakemakes (150 each) and the supervisor.
_OTHERS = 400
SECONDS_BETWEEN_LOOKS = 0.2


class MemoryGuard:
    """Kills the largest worker, its helpers included, when all together need more than their share.

    What workers share with the process that forked them counts for each of them: rather too much
    than too little.
    """

    def __init__(self, limit_mb: int) -> None:
        self.limit_mb = max(100, limit_mb - _OTHERS)
        self.killed: dict[int, int] = {}
        self._last = 0.0

    def look(self, workers: Collection[int]) -> None:
        """Look at processes of these ids, where the last look is long enough ago."""
        if (now := time.monotonic()) - self._last < SECONDS_BETWEEN_LOOKS:
            return
        self._last = now
        sizes = {worker: sum(resident([worker, *children(worker)]).values()) for worker in workers}
        if sum(sizes.values()) > self.limit_mb:
            largest = max(sizes, key=lambda pid: sizes[pid])
            self.killed[largest] = sizes[largest]
            with contextlib.suppress(ProcessLookupError):
                os.kill(largest, signal.SIGKILL)


def resident(pids: Iterable[int]) -> dict[int, int]:
    """Return the resident memory in MB of those processes that live (Linux; elsewhere none)."""
    sizes = {}
    for pid in pids:
        try:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            continue
        sizes[pid] = pages * os.sysconf("SC_PAGE_SIZE") >> 20
    return sizes


def children(pid: int) -> list[int]:
    """Return the processes that a process has forked (Linux; elsewhere none)."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (OSError, ValueError):
        return []


def release_memory() -> None:
    """Give memory that is free back to the system (glibc; elsewhere do nothing)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
