"""Work through tasks with threads, in order and with a bounded number of results in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from h5py._objects import phil

Task = TypeVar("Task")
Result = TypeVar("Result")

#: Bytes of tasks in flight, all threads together; a task takes about three times its band (as
#: stored, decoded, encoded).
BUDGET_BYTES = 48 * 2**20
#: No more tasks than this are ever in flight. A task may depend on results that are at least so
#: many tasks old; so the order of events is the same with any number of threads.
LAG = 16


def lock_is_held() -> bool:
    """Whether the calling thread holds h5py's global lock."""
    owned = getattr(phil, "_is_owned", None)
    return owned is not None and bool(owned())


def ordered(
    tasks: Iterable[Task], work: Callable[[Task], Result], threads: int, task_bytes: int
) -> Iterator[Result]:
    """Yield ``work(task)`` for each task in order.

    A task is taken from `tasks` only when it can start and all results that are `LAG` or more
    tasks older have been handed out.

    Parameters
    ----------
    threads
        Number of threads that work; with 1 everything happens in the calling thread. So it does
        where the caller holds h5py's lock (in a callback of `visititems`): a thread that frees
        an h5py object would wait for it forever.
    task_bytes
        Size of a task's decoded data, to bound the memory.
    """
    window = min(LAG, 2 * threads + 1, BUDGET_BYTES // max(1, 3 * task_bytes))
    if threads <= 1 or window <= 1 or lock_is_held():
        yield from map(work, tasks)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(min(threads, window), "engine") as pool:
        try:
            for task in tasks:
                waiting.append(pool.submit(work, task))
                if len(waiting) >= window:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
