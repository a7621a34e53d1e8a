"""Encoded chunks of some rows, one behind the other in one piece of memory, each with its checksum."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from . import room
from .encode import Encoding
from .filters import CHECKSUM_BYTES, checksum
from .plugins import fletcher32
from .room import Bytes


@dataclass(frozen=True)
class Pack:
    """What the rows of a dataset became.

    Attributes
    ----------
    memory
        All chunks as they are stored.
    chunks
        Offset in elements, and the place in `memory`, of each chunk.
    """

    memory: Bytes
    chunks: list[tuple[tuple[int, ...], int, int]]

    def stored(self) -> Iterator[tuple[tuple[int, ...], memoryview]]:
        """Yield offset and stored bytes of each chunk."""
        view = self.memory.data
        return ((offset, view[start:end]) for offset, start, end in self.chunks)

    def size(self, entry: int, stop: int | None = None) -> int:
        """Return the bytes of all chunks, or of those in rows before `stop`, with `entry` more for each."""
        taken = (c for c in self.chunks if stop is None or c[0][0] < stop)
        return sum(end - start + entry for _, start, end in taken)


def pack(parts: Iterable[tuple[tuple[int, ...], Bytes]], encoding: Encoding, itemsize: int) -> Pack:
    """Encode chunks.

    Parameters
    ----------
    parts
        Offset in elements and decoded bytes of chunks, all of one size.
    encoding, itemsize
        See :meth:`Encoding.encode`.
    """
    chunks = list(parts)
    each = _bound(chunks[0][1].size)
    memory = room.empty(len(chunks) * each)
    view, address = memory.data, memory.ctypes.data
    direct, encode, sum_up = encoding.direct, encoding.encoder(itemsize), fletcher32()
    found, end = [], 0
    for offset, part in chunks:
        start = end
        if direct is not None:
            end += direct.compress_into(part.ctypes.data, part.size, address + start, each)
        else:
            encoded = encode(part)
            end += len(encoded)
            view[start:end] = encoded
        content = end - start
        end += CHECKSUM_BYTES
        if sum_up is not None:
            value = sum_up(address + start, content).to_bytes(CHECKSUM_BYTES, "little")
        else:
            value = checksum(view[start : start + content])
        view[start + content : end] = value
        found.append((offset, start, end))
    return Pack(room.trim(memory, end), found)


def gather(chunks: Sequence[tuple[tuple[int, ...], bytes]]) -> Pack:
    """Put chunks, as they are stored, one behind the other."""
    memory = room.empty(sum(len(raw) for _, raw in chunks))
    view, found, end = memory.data, [], 0
    for offset, raw in chunks:
        start, end = end, end + len(raw)
        view[start:end] = raw
        found.append((offset, start, end))
    return Pack(memory, found)


def _bound(size: int) -> int:
    """Return how many bytes `size` bytes take at most with checksum; see also `PluginZstd.bound`."""
    return size + size // 64 + 512
