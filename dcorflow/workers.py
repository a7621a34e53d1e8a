"""Workers: forked from a process that has loaded what they need, they answer one number at a time.

A worker begins at once and shares its parent's memory, where starting Python and importing dclab takes
longer than a small measurement. Other threads of the parent, if any, must hold no lock that a worker needs.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import signal
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from dcorflow.processes import end_cleanly, fork

Answer = dict[str, Any]
_BLOCK = 1 << 16
_T = TypeVar("_T")
#: Fewest items for which a process of its own is worth while in `spread`, and most processes.
_WORTH, _MOST_PROCESSES = 50, 4


class Worker:
    """A worker process as its parent sees it.

    Parameters
    ----------
    answer
        Called in the worker with each number; returns plain data.
    others
        Workers that were started before.
    """

    def __init__(self, answer: Callable[[int], Answer], others: Collection[Worker]) -> None:
        asked, self._asks = os.pipe()
        self._answers, answered = os.pipe()
        self._got = b""
        self._code: int | None = None
        ends = [self._asks, self._answers]
        ends += [end for other in others for end in (other._asks, other._answers)]
        gc.freeze()  # or the first collection in the worker copies all memory
        self.pid = fork(lambda: _serve(asked, answered, ends, answer))
        os.close(asked)
        os.close(answered)

    def fileno(self) -> int:
        """Return what becomes readable when there is an answer or the process has ended."""
        return self._answers

    def ask(self, number: int) -> None:
        """Send a number; where the process has ended, this is seen at the answer."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._asks, b"%d\n" % number)

    def read(self) -> Answer | None:
        """Return the answer; None where the process ended instead."""
        while b"\n" not in self._got:
            block = os.read(self._answers, _BLOCK)
            if not block:
                return None
            self._got += block
        line, _, self._got = self._got.partition(b"\n")
        answer: Answer = json.loads(line)
        return answer

    def stop(self) -> int:
        """Let the process end when it has answered, and return its exit code, negative for a signal."""
        if self._code is None:
            os.close(self._asks)
            os.close(self._answers)
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code


def wait_for_answers(workers: Collection[Worker], seconds: float | None) -> list[Worker]:
    """Return the workers that have answered or ended; none where nothing happened for some seconds."""
    with selectors.DefaultSelector() as selector:
        for worker in workers:
            selector.register(worker, selectors.EVENT_READ, worker)
        return [key.data for key, _ in selector.select(seconds)]


def _serve(asked: int, answered: int, ends: list[int], answer: Callable[[int], Answer]) -> None:
    """Be a worker until nothing is asked any more."""
    for end in ends:
        os.close(end)
    end_cleanly()
    with os.fdopen(asked) as questions, os.fdopen(answered, "w") as answers:
        for line in questions:
            answers.write(json.dumps(answer(int(line))) + "\n")
            answers.flush()


def spread(do: Callable[[_T], Any], items: Sequence[_T]) -> list[Any]:
    """Return plain data for each item, in their order, made by as many processes as there are cores.

    Parameters
    ----------
    do
        Called in this process or a forked one: it must change nothing that is needed afterwards.
    items
        What to do; few are done here.
    """
    count = min(_cores(), _MOST_PROCESSES, len(items) // _WORTH)
    children = [(n, *_begin(do, items[n::count])) for n in range(1, count)]
    made: list[Any] = [None] * len(items)
    try:
        step = max(1, count)
        made[::step] = [do(item) for item in items[::step]]
        for n, _, end in children:
            made[n::count] = _answers_of(end) or [do(item) for item in items[n::count]]  # it died
    finally:
        for _, pid, end in children:
            os.close(end)
            os.kill(pid, signal.SIGKILL)  # it has nothing left to do but to end
            os.waitpid(pid, 0)
    return made


def _begin(do: Callable[[_T], Any], items: Sequence[_T]) -> tuple[int, int]:
    """Fork a process that answers for all items at once; return its id and where to read from."""
    end, answered = os.pipe()

    def serve() -> None:
        os.close(end)
        with os.fdopen(answered, "w", encoding="ascii") as answers:
            json.dump([do(item) for item in items], answers)

    pid = fork(serve)
    os.close(answered)
    return pid, end


def _answers_of(end: int) -> list[Any]:
    """Return what a process of `spread` made; nothing where it ended before."""
    with os.fdopen(end, "rb", closefd=False) as stream:
        try:
            made: list[Any] = json.load(stream)
        except ValueError:
            return []
    return made


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
