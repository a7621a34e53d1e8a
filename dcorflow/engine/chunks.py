"""Stored chunks: where they are in a file, and several of them in one piece of memory."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from . import room
from .room import Bytes

Ints = np.ndarray[Any, np.dtype[np.int64]]
#: What a damaged index says of addresses and sizes may be any number of 64 bits.
_LARGEST = 2**62


@dataclass(frozen=True)
class ChunkIndex:
    """Where the chunks of a dataset are in its file.

    Attributes
    ----------
    chunks
        Shape of a chunk.
    grid
        Number of chunks in each dimension.
    numbers, addresses, sizes, masks
        Of each stored chunk: its number in C order of the grid, its first byte in the file, its bytes,
        and its filter mask; in the order of numbers. All int64, shape (stored chunks,).
    strays
        Whether the index names chunks at places that the dataset does not have, or one twice.
    """

    chunks: tuple[int, ...]
    grid: tuple[int, ...]
    numbers: Ints
    addresses: Ints
    sizes: Ints
    masks: Ints
    strays: bool

    @classmethod
    def of(cls, source: h5py.Dataset) -> ChunkIndex:
        """Read the index of a chunked dataset."""
        chunks: tuple[int, ...] = source.chunks
        grid = tuple(-(-n // c) for n, c in zip(source.shape, chunks, strict=True))
        found: list[tuple[int, ...]] = []

        def note(info: Any) -> None:
            found.append((*info.chunk_offset, info.byte_offset, info.size, info.filter_mask))

        if source.id.get_num_chunks():
            source.id.chunk_iter(note)
        table = np.array(found, np.uint64).reshape(-1, len(grid) + 3)
        table = np.minimum(table, np.uint64(_LARGEST)).astype(np.int64)
        if len(found) == 1 and not any(found[0][: len(grid)]):  # most datasets of small files
            address, size, mask = table[:, len(grid) :].T.copy()
            return cls(chunks, grid, np.zeros(1, np.int64), address, size, mask, False)
        places, beside = np.divmod(table[:, : len(grid)], np.array(chunks))
        good = ((beside == 0) & (places < np.array(grid))).all(axis=1)
        numbers = np.zeros(len(table), np.int64)
        for axis, count in enumerate(grid):
            numbers = numbers * count + places[:, axis]
        numbers, where = np.unique(numbers[good], return_index=True)
        addresses, sizes, masks = table[good][where][:, len(grid) :].T.copy()
        strays = len(numbers) != len(table)
        return cls(chunks, grid, numbers, addresses, sizes, masks, strays)

    @functools.cached_property
    def complete(self) -> bool:
        """Whether every chunk is stored, and nothing is stored beyond the dataset's end."""
        return not self.strays and len(self.numbers) == math.prod(self.grid)

    @functools.cached_property
    def masked(self) -> bool:
        """Whether filters were skipped for a chunk."""
        return bool(self.masks.any())

    @functools.cached_property
    def largest(self) -> int:
        """Bytes of the largest stored chunk."""
        return int(self.sizes.max(initial=0))

    @functools.cached_property
    def smallest(self) -> int:
        """Bytes of the smallest stored chunk."""
        return int(self.sizes.min(initial=_LARGEST))

    @functools.cached_property
    def ends(self) -> Ints:
        """Where each chunk would end if all were one behind the other; int64, shape (stored chunks,)."""
        return np.cumsum(self.sizes)

    @functools.cached_property
    def breaks(self) -> list[int]:
        """Positions of the chunks that are not right behind the one before in the file."""
        follows = self.addresses[:-1] + self.sizes[:-1]
        found: list[int] = (np.flatnonzero(self.addresses[1:] != follows) + 1).tolist()
        return found

    def place(self, offset: tuple[int, ...]) -> int | None:
        """Return the position of the chunk at an offset in elements; None if it is not stored."""
        number = 0
        for at, chunk, count in zip(offset, self.chunks, self.grid, strict=True):
            number = number * count + at // chunk
        place = int(np.searchsorted(self.numbers, number))
        return place if place < len(self.numbers) and self.numbers[place] == number else None

    def offsets(self, first: int, last: int) -> Ints:
        """Return the offsets in elements of stored chunks, shape (chunks, dimensions)."""
        places = np.unravel_index(self.numbers[first:last], self.grid)
        return np.stack([p * c for p, c in zip(places, self.chunks, strict=True)], axis=1)


@dataclass(frozen=True)
class Pack:
    """Chunks as they are stored, one behind the other.

    Attributes
    ----------
    memory
        All of them.
    offsets
        Of each chunk in elements, shape (chunks, dimensions).
    ends
        Where each chunk ends in `memory`.
    """

    memory: Bytes
    offsets: Ints
    ends: list[int]

    def stored(self) -> Iterator[tuple[tuple[int, ...], memoryview]]:
        """Yield offset and stored bytes of each chunk."""
        view, start = self.memory.data, 0
        for offset, end in zip(self.offsets.tolist(), self.ends, strict=True):
            yield tuple(offset), view[start:end]
            start = end

    def size(self, entry: int, stop: int | None = None) -> int:
        """Return the bytes of all chunks, or of those in rows before `stop`, with `entry` more for each."""
        count = len(self.ends) if stop is None else int(np.count_nonzero(self.offsets[:, 0] < stop))
        return count * entry + (self.ends[count - 1] if count else 0)


def gather(chunks: Sequence[tuple[tuple[int, ...], bytes]]) -> Pack:
    """Put chunks, as they are stored, one behind the other."""
    ends = np.cumsum([len(raw) for _, raw in chunks], dtype=np.int64).tolist()
    memory = room.empty(ends[-1] if ends else 0)
    view, start = memory.data, 0
    for (_, raw), end in zip(chunks, ends, strict=True):
        view[start:end] = raw
        start = end
    return Pack(memory, np.array([offset for offset, _ in chunks], np.int64), ends)
