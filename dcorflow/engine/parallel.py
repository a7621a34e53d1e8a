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
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

from dcorflow.processes import exit_words, fork

from .room import Arena, Packed, Room, private

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

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
#: Smaller things are done at once instead of later by a helper.
LATER_BYTES = 2**20
#: Memory for tasks of up to so many bytes is kept where a process works alone.
ALONE_BYTES = 4 * 2**20


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
        self._waiting: deque[tuple[bytes, _Answer]] = deque()

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
        self._waiting.clear()
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
        window = min(LAG, 2 * self.count, BUDGET_BYTES // max(1, 3 * task_bytes))
        if self.count <= 1 or window <= 1 or all_bytes < WORTH_BYTES:
            yield from self._alone(tasks, work, task_bytes)
            return
        rooms = self._arena.rooms(window, task_bytes)
        count = min(self.count, window)
        order = pickle.dumps(_Order(window, task_bytes, work), protocol=5)
        under_way: deque[_Answer] = deque()
        try:
            for sent, task in enumerate(tasks):
                helper = self._helper(sent % count)
                if sent < count:
                    helper.send(order)
                under_way.append(helper.give(sent % window, rooms[sent % window], task))
                if len(under_way) >= window:
                    yield under_way[0].result()
                    under_way.popleft()
            while under_way:
                yield under_way[0].result()
                under_way.popleft()
        finally:
            if under_way:  # they are at work on what nobody wants any more
                self.close()

    def later(self, work: Callable[[Task], Result], task: Task, task_bytes: int) -> Callable[[], Result]:
        """Do something in the helper that is free first; return what waits for its result.

        Where it would not pay, it is done at once. The next calls of this, `pump`, or of what is returned
        give what has to wait to helpers that are free by then.

        Parameters
        ----------
        work, task
            As for `ordered`, but the memory of a result is that of this process.
        task_bytes
            Size of decoded data.
        """
        if self.count <= 1 or task_bytes < LATER_BYTES:
            result = work(task)
            return lambda: result
        answer = _Answer()
        self._waiting.append((pickle.dumps(_Errand(work, task), protocol=5), answer))
        self.pump()
        return lambda: self._wait(answer)

    def pump(self) -> None:
        """Give what has to wait to helpers that are free."""
        for index in range(self.count if self._waiting else 0):
            helper = self._helper(index)
            helper.read_if_ready()
            if self._waiting and not helper.busy:
                message, answer = self._waiting.popleft()
                helper.ask(message, answer)

    def _wait(self, answer: _Answer) -> Any:
        from multiprocessing.connection import wait

        while answer.message is None:
            self.pump()
            busy = [helper for helper in self._helpers if helper.busy]
            if not busy:
                raise RuntimeError("the helpers were ended before they answered")
            ready = wait([helper.connection for helper in busy])
            for helper in busy:
                if helper.connection in ready:
                    helper.read()
        return answer.result()

    def _alone(
        self, tasks: Iterable[Task], work: Callable[[Task], Result], task_bytes: int
    ) -> Iterator[Result]:
        """Do all of it in this process, in the same memory for each task."""
        room = self._room if task_bytes <= ALONE_BYTES else private(task_bytes)
        for task in tasks:
            room.clear()
            with room.open():
                result = work(task)
            yield result

    @functools.cached_property
    def _room(self) -> Room:
        return private(ALONE_BYTES)

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
            helper.send(pickle.dumps(_Order(1, 0, work)))
            answer = helper.give(0, room, task)
            yield answer.result
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


class _Order(NamedTuple):
    """What to do with the tasks that follow, and how many rooms there are for them."""

    rooms: int
    task_bytes: int
    work: Callable[[Any], Any]


class _Errand(NamedTuple):
    """One thing to do, without a room."""

    work: Callable[[Any], Any]
    task: Any


class _Answer:
    """What a helper said to a task, once it has.

    Parameters
    ----------
    helper, room
        Who works on it, and where its large parts are, where that is known from the start.
    """

    def __init__(self, helper: _Helper | None = None, room: Room | None = None) -> None:
        self._helper, self._room = helper, room
        self.message: bytes | None = None

    def result(self) -> Any:
        """Return the result, or raise what was raised."""
        while self.message is None:
            assert self._helper is not None
            self._helper.read()
        good, packed = pickle.loads(self.message)
        result = packed if self._room is None else self._room.unpack(packed)
        if not good:
            raise result
        return result


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
        from multiprocessing.connection import Pipe  # takes its time, and small files need no helpers

        self.connection, theirs = Pipe()
        inherited = [self.connection, *(other.connection for other in others)]
        self._asked: deque[_Answer] = deque()

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
            self.connection.send_bytes(message)
        except OSError:
            self._raise_ended()

    @property
    def busy(self) -> bool:
        """Whether there is something that it has not answered."""
        return bool(self._asked)

    def give(self, number: int, room: Room, task: Any) -> _Answer:
        """Give it a task, in a room that is free."""
        room.clear()
        return self.ask(pickle.dumps((number, room.pack(task))), _Answer(self, room))

    def ask(self, message: bytes, answer: _Answer) -> _Answer:
        """Send a task."""
        self.send(message)
        self._asked.append(answer)
        return answer

    def read(self) -> None:
        """Wait for the next answer, to the oldest task that it has not answered yet."""
        try:
            message = self.connection.recv_bytes()
        except (EOFError, OSError):
            self._raise_ended()
        self._asked.popleft().message = message

    def read_if_ready(self) -> None:
        """Do so where it would not have to be waited for."""
        while self._asked and self.connection.poll():
            self.read()

    def stop(self) -> int:
        """End the process, whatever it does, and return its exit code, negative for a signal."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            self._code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
            self._pid = 0
        self.connection.close()
        return self._code

    def _raise_ended(self) -> NoReturn:
        raise MemoryError(f"a helper process ended ({exit_words(self.stop())})")


def _serve(arena: Arena, parent: Connection) -> None:
    """Answer tasks until the parent wants no more."""
    rooms: list[Room] = []
    work: Callable[[Any], Any] = _no_order
    while True:
        try:
            message = pickle.loads(parent.recv_bytes())
        except (EOFError, OSError):
            return  # nobody listens any more
        if isinstance(message, _Order):
            rooms, work = arena.rooms(message.rooms, message.task_bytes), message.work
            continue
        if isinstance(message, _Errand):
            answer = _try(message.work, message.task)
        else:
            room = rooms[message[0]]
            with room.open():
                good, result = _try(_in_room, work, room, message[1])
                answer = good, room.pack(result)
        with contextlib.suppress(OSError):
            parent.send_bytes(pickle.dumps(answer))


def _try(work: Callable[..., Any], *task: Any) -> tuple[bool, Any]:
    """Return whether some work could be done, and its result or why not."""
    try:
        return True, work(*task)
    except BaseException as error:
        error.add_note("in a helper process:\n" + traceback.format_exc())
        return False, error


def _in_room(work: Callable[[Any], Any], room: Room, packed: Packed) -> Any:
    return work(room.unpack(packed))


def _no_order(task: Any) -> Any:
    raise RuntimeError("a helper got a task before it was told what to do")
