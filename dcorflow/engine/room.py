"""Memory that helper processes share with their parent, for the large parts of tasks and results.

Arrays are packed with pickle's protocol 5, which leaves their content out (PEP 574): it is copied into
the room once, or not at all where `empty` gave the array its memory there.
"""

from __future__ import annotations

import contextlib
import mmap
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
#: Where a large part is in its room, in bytes, or the part itself where there was no space left.
Place = tuple[int, int] | bytes
Packed = tuple[bytes, list[Place]]

_ALIGNMENT = 64
#: Decoded data and what becomes of them, in bytes per byte of a task.
_PER_BYTE = 2.5
_MARGIN = 1 << 17
#: Rooms that there are at most.
_ROOMS = 32


class Scratch(threading.local):
    """Memory for what is used up at once, the same again and again, one for each thread.

    Fresh pages each time would take longer than what is done with them.
    """

    def __init__(self) -> None:
        self._memory: Bytes = np.empty(0, np.uint8)

    def take(self, size: int) -> Bytes:
        """Return `size` bytes; they hold until the next call."""
        if self._memory.size < size:
            self._memory = np.empty(size, np.uint8)
        return self._memory[:size]


class Room:
    """A piece of shared memory; one task at a time and its result lie in it.

    Parameters
    ----------
    memory
        Shared by all processes.
    """

    def __init__(self, memory: Bytes) -> None:
        self._memory = memory
        self._address = memory.ctypes.data
        self._used = 0

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Let `empty` take memory from this room, behind the task that lies in it."""
        global _current
        _current = self
        try:
            yield
        finally:
            _current = None

    def empty(self, size: int) -> Bytes | None:
        """Return some bytes of it, None where it is full."""
        start = -(-self._used // _ALIGNMENT) * _ALIGNMENT
        if start + size > self._memory.size:
            return None
        self._used = start + size
        return self._memory[start : start + size]

    def trim(self, memory: Bytes, size: int) -> None:
        """Take back what follows the first bytes of memory that `empty` gave last."""
        start = memory.ctypes.data - self._address
        if start + memory.size == self._used:
            self._used = start + size

    def pack(self, value: Any) -> Packed:
        """Return `value` as bytes that go through a pipe, its arrays in the room."""
        parts: list[pickle.PickleBuffer] = []
        body = pickle.dumps(value, protocol=5, buffer_callback=parts.append)
        return body, [self._place(np.frombuffer(part.raw(), np.uint8)) for part in parts]

    def _place(self, part: Bytes) -> Place:
        start = part.ctypes.data - self._address if part.size else 0
        if start >= 0 and start + part.size <= self._memory.size:
            return start, part.size
        room = self.empty(part.size)
        if room is None:
            return part.tobytes()
        room[:] = part
        return room.ctypes.data - self._address, part.size

    def unpack(self, packed: Packed) -> Any:
        """Return what was packed; its arrays are the room's memory."""
        body, places = packed
        ends = [sum(place) for place in places if not isinstance(place, bytes)]
        self._used = max(ends, default=0)
        parts = [p if isinstance(p, bytes) else self._memory[p[0] : p[0] + p[1]] for p in places]
        return pickle.loads(body, buffers=parts)

    def clear(self) -> None:
        """Forget what lies in it."""
        self._used = 0


class Arena:
    """Shared memory for the rooms of the tasks in flight, fresh ones for each kind of work.

    Parameters
    ----------
    size
        Bytes that the tasks take at most; pages that are never used take no memory.
    """

    def __init__(self, size: int) -> None:
        self._memory = np.frombuffer(mmap.mmap(-1, int(size * _PER_BYTE / 3) + _ROOMS * _MARGIN), np.uint8)

    def rooms(self, count: int, task_bytes: int) -> list[Room]:
        """Return rooms for `count` tasks of that many decoded bytes each; earlier ones are void."""
        each = _room_bytes(task_bytes)
        return [Room(self._memory[n * each : (n + 1) * each]) for n in range(count)]


def _room_bytes(task_bytes: int) -> int:
    each = int(_PER_BYTE * task_bytes) + _MARGIN // 2
    return each - each % _ALIGNMENT


def private(task_bytes: int) -> Room:
    """Return a room for tasks of that many decoded bytes, in memory that no other process sees."""
    return Room(np.empty(_room_bytes(task_bytes), np.uint8))


#: The room that a task is worked on in, None otherwise.
_current: Room | None = None


def empty(size: int) -> Bytes:
    """Return new memory of `size` bytes; in a helper, where its parent sees it."""
    found = _current.empty(size) if _current is not None else None
    return np.empty(size, np.uint8) if found is None else found


def trim(memory: Bytes, size: int) -> Bytes:
    """Return the first bytes of memory that `empty` gave last; the rest can be given again."""
    if _current is not None:
        _current.trim(memory, size)
    return memory[:size]
