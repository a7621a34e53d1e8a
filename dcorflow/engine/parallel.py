"""Work through tasks with forked helpers, in order and with a bounded number of results in memory.

Threads would share Python's one lock, which is taken and given back around each chunk of some
40 microseconds of work: two of them were no faster than one, and changed places 37,000 times per
gigabyte. The large parts of tasks and results lie in memory that all processes share, see
:mod:`dcorflow.engine.room`.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, Pipe
from types import TracebackType
from typing import Any, NoReturn, TypeVar

from dcorflow.processes import exit_words, fork

from .room import Arena, Room

Task = TypeVar("Task")
Result = TypeVar("Result")

#: Bytes of tasks in flight, all helpers together; a task takes about three times its band (as
#: stored, decoded, encoded).
BUDGET_BYTES = 48 * 2**20
#: No more tasks than this are ever in flight. A task may depend on results that are at least so
#: many tasks old; so the order of events is the same with any number of helpers.
LAG = 16
#: Below so many bytes in all, sending them around takes longer than it saves.
WORTH_BYTES = 4 * 2**20


class Helpers:
    """Processes that work beside this one; forked when first needed, after the source was opened.

    Parameters
    ----------
    count
        How many; with 1 everything happens in this process.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._helpers: list[_Helper] = []

    def __enter__(self) -> Helpers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Fork all of them now: before there are threads that hold locks."""
        for index in range(self.count if self.count > 1 else 0):
            self._helper(index)

    def close(self) -> None:
        """End them, whatever they do."""
        while self._helpers:
            self._helpers.pop().stop()

    def ordered(
        self, tasks: Iterable[Task], work: Callable[[Task], Result], task_bytes: int, all_bytes: int
    ) -> Iterator[Result]:
        """Yield ``work(task)`` for each task in order.

        A task is taken from `tasks` only when it can start and all results that are `LAG` or more
        tasks older have been handed out. Arrays in a result hold until the next one is asked for.

        Parameters
        ----------
        work
            Can be pickled; must not call HDF5, which has its own idea of who has a file open.
        task_bytes, all_bytes
            Size of decoded data: of one task, to bound the memory; of all, to see whether helpers pay.

        Raises
        ------
        MemoryError
            If a helper was ended from outside.
        Exception
            What `work` raises.
        """
        window = min(LAG, 2 * self.count + 1, BUDGET_BYTES // max(1, 3 * task_bytes))
        if self.count <= 1 or window <= 1 or all_bytes < WORTH_BYTES:
            yield from map(work, tasks)
            return
        rooms = self._arena.rooms(window, task_bytes)
        count = min(self.count, window)
        order = pickle.dumps((window, task_bytes, work), protocol=5)
        sent = taken = 0
        try:
            for task in tasks:
                helper = self._helper(sent % count)
                if sent < count:
                    helper.send(order)
                helper.give(sent % window, rooms[sent % window], task)
                sent += 1
                if sent - taken >= window:
                    yield self._helpers[taken % count].take(rooms[taken % window])
                    taken += 1
            while taken < sent:
                yield self._helpers[taken % count].take(rooms[taken % window])
                taken += 1
        finally:
            if taken < sent:  # they are at work on what nobody wants any more
                self.close()

    @contextlib.contextmanager
    def beside(
        self, work: Callable[[Task], Result], task: Task, all_bytes: int
    ) -> Iterator[Callable[[], Result]]:
        """Do one more thing beside all others, see `ordered`; yields what waits for its result."""
        if self.count <= 1 or all_bytes < WORTH_BYTES:
            yield lambda: work(task)
            return
        arena = Arena(0)
        helper, [room] = _Helper(arena, self._helpers), arena.rooms(1, 0)
        try:
            helper.send(pickle.dumps((1, 0, work)))
            helper.give(0, room, task)
            yield lambda: helper.take(room)
        finally:
            helper.stop()

    @functools.cached_property
    def _arena(self) -> Arena:
        return Arena(BUDGET_BYTES)

    def _helper(self, index: int) -> _Helper:
        if index == len(self._helpers):
            self._helpers.append(_Helper(self._arena, self._helpers))
        return self._helpers[index]


#: Nobody else: everything happens in this process.
ALONE = Helpers(1)


@contextlib.contextmanager
def helpers_of(threads: int | Helpers) -> Iterator[Helpers]:
    """Give helpers as they are, and so many new ones otherwise, which end afterwards."""
    if isinstance(threads, Helpers):
        yield threads
        return
    with Helpers(threads) as helpers:
        yield helpers


class _Helper:
    """A forked process that answers tasks one after the other.

    Parameters
    ----------
    arena
        Shared memory for the tasks.
    others
        Helpers that were forked before.
    """

    def __init__(self, arena: Arena, others: list[_Helper]) -> None:
        self._ours, theirs = Pipe()
        inherited = [self._ours, *(other._ours for other in others)]

        def serve() -> None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its helpers
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            # No collection: it would copy memory, and close what the parent has open in HDF5.
            gc.disable()
            for end in inherited:
                end.close()
            _serve(arena, theirs)

        self._pid, self._code = fork(serve), 0
        theirs.close()

    def send(self, message: bytes) -> None:
        """Send an order (number of rooms, bytes per task, what to do), or a task."""
        try:
            self._ours.send_bytes(message)
        except OSError:
            self._raise_ended()

    def give(self, number: int, room: Room, task: Any) -> None:
        """Give it a task, in a room that is free."""
        room.clear()
        self.send(pickle.dumps((number, room.pack(task))))

    def take(self, room: Room) -> Any:
        """Return the result of the oldest task that it has not answered yet."""
        try:
            good, packed = pickle.loads(self._ours.recv_bytes())
        except (EOFError, OSError):
            self._raise_ended()
        result = room.unpack(packed)
        if not good:
            raise result
        return result

    def stop(self) -> int:
        """End the process, whatever it does, and return its exit code, negative for a signal."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            self._code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
            self._pid = 0
        self._ours.close()
        return self._code

    def _raise_ended(self) -> NoReturn:
        raise MemoryError(f"a helper process ended ({exit_words(self.stop())})")


def _serve(arena: Arena, parent: Connection) -> None:
    """Answer tasks until the parent wants no more."""
    rooms: list[Room] = []
    work: Callable[[Any], Any] | None = None
    while True:
        try:
            message = pickle.loads(parent.recv_bytes())
        except (EOFError, OSError):
            return  # nobody listens any more
        if len(message) == 3:
            count, task_bytes, work = message
            rooms = arena.rooms(count, task_bytes)
            continue
        number, packed = message
        room = rooms[number]
        assert work is not None
        try:
            task = room.unpack(packed)
            with room.open():
                answer = True, room.pack(work(task))
        except BaseException as error:
            error.add_note("in a helper process:\n" + traceback.format_exc())
            answer = False, room.pack(error)
        with contextlib.suppress(OSError):
            parent.send_bytes(pickle.dumps(answer))
