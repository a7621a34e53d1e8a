"""How the rows of a dataset are cut into the target's chunks, and which chunks come into question."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import layout as lay
from .chunks import Ints
from .filters import CHECKSUM_BYTES
from .reader import Reader
from .room import Bytes, Scratch

#: Chunks below this are joined. Reading one event costs about 0.1 ms in h5py whatever the size
#: of its chunk, so that larger chunks cost little up to here, and compress better.
JOIN_BYTES = 48 * 2**10
#: Chunks above this are divided.
SPLIT_BYTES = 3 * 2**19
#: Strips have at least so many bytes. To read one event, HDF5 has to find all strips of its chunk
#: row, each of which costs 10 to 15 microseconds; so it takes 0.6 to 1.3 times as long as from
#: chunks of whole events with Zstandard level 5.
STRIP_BYTES = 12 * 2**10
#: Chunks of at least this size may take twice the rows, if strips then have at least so many
#: bytes: what is encoded without matches decodes twice as fast as level 5.
DOUBLE_FROM, DOUBLE_STRIP_BYTES = 2**19, 48 * 2**10
#: Numbers of strips per image that are tried.
STRIPS = (4, 8, 16, 32, 64, 128)

_STRIPS = Scratch()


@dataclass(frozen=True)
class Cut:
    """The chunks of a dataset.

    Attributes
    ----------
    shape
        Shape of the dataset, at least one dimension.
    chunks
        Shape of a chunk.
    itemsize
        Bytes per element.
    fill
        One element, for what a chunk has beyond the dataset's last row; None for zeros.
    """

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    itemsize: int
    fill: bytes | None = None

    @functools.cached_property
    def chunk_bytes(self) -> int:
        """Bytes of a decoded chunk."""
        return math.prod(self.chunks) * self.itemsize

    @functools.cached_property
    def whole(self) -> bool:
        """Whether chunks consist of whole rows."""
        return self.chunks[1:] == self.shape[1:]

    @property
    def index_bytes(self) -> int:
        """Bytes that each chunk takes in HDF5's index.

        An entry of the B-tree is a key of two 32-bit numbers and ``ndim + 1`` offsets, and an
        address (HDF5 File Format Specification, III.A.1); nodes are nine tenths full.
        """
        return 8 * (len(self.shape) + 3) * 10 // 9

    @property
    def overhead(self) -> int:
        """Bytes that each chunk takes beside its content: checksum and entry in HDF5's index."""
        return CHECKSUM_BYTES + self.index_bytes

    def blocks(self, data: Bytes) -> Iterator[Bytes]:
        """Yield the content of the chunks of consecutive rows, some at a time, in C order.

        Each block has the shape (chunks, bytes of a chunk) and holds until the next one is made.

        Parameters
        ----------
        data
            Decoded bytes of whole rows, in C order; the first one is the first of a chunk.
        """
        size = self.chunks[0] * self._row_bytes
        full = data.size - data.size % size
        if not self.whole:
            cut = self._strips if self.chunks[2:] == self.shape[2:] else self._tiles
            for at in range(0, full, size):
                yield cut(data[at : at + size])
            if full < data.size:
                yield cut(self._filled(data[full:]))
            return
        if full:
            yield data[:full].reshape(-1, size)
        if full < data.size:
            yield self._filled(data[full:]).reshape(1, size)

    def offsets(self, start: int, data: Bytes) -> Ints:
        """Return the offsets in elements of the chunks that `blocks` makes of rows, (chunks, dimensions).

        Parameters
        ----------
        start
            Number of the first row.
        """
        firsts = np.arange(start, start + data.size // self._row_bytes, self.chunks[0])
        found = np.tile(self._row, (firsts.size, 1))
        found[:, 0] = np.repeat(firsts, len(self._row))
        return found

    def count(self, data: Bytes) -> int:
        """Return the number of chunks that `blocks` makes of rows."""
        return -(-data.size // (self.chunks[0] * self._row_bytes)) * len(self._row)

    @functools.cached_property
    def _row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.itemsize

    @functools.cached_property
    def _row(self) -> Ints:
        """Offsets of the chunks that begin at row 0, in C order."""
        places = [range(0, n, c) for n, c in zip(self.shape[1:], self.chunks[1:], strict=True)]
        return np.array(list(itertools.product((0,), *places)), np.int64)

    def _filled(self, part: Bytes) -> Bytes:
        """Return the last rows, filled up to those of a whole chunk."""
        full = np.zeros(self.chunks[0] * self._row_bytes, np.uint8)
        if self.fill is not None:
            element = f"V{self.itemsize}"
            full.view(element)[:] = np.frombuffer(self.fill, element)[0]
        full[: part.size] = part
        return full

    def _strips(self, part: Bytes) -> Bytes:
        """Return rows cut along the second dimension: one strip of all of them after the other.

        The last strip repeats the last line of each row in what it has beyond the row's end.
        """
        rows, height, lines = self.chunks[0], self.shape[1], self.chunks[1]
        block, (full, rest) = part.reshape(rows, height, -1), divmod(height, lines)
        strips = _STRIPS.take((full + (rest > 0)) * self.chunk_bytes).reshape(-1, rows, lines, block.shape[2])
        strip = self.chunk_bytes // rows
        into = strips[:full].reshape(full, rows, strip)
        into[...] = np.reshape(block[:, : full * lines], (rows, full, strip), copy=False).swapaxes(0, 1)
        if rest:
            strips[full, :, :rest] = block[:, full * lines :]
            strips[full, :, rest:] = block[:, -1:]
        return strips.reshape(len(strips), -1)

    def _tiles(self, part: Bytes) -> Bytes:
        shape, chunks = (self.chunks[0], *self.shape[1:]), self.chunks
        rows, tiles = part.view(f"V{self.itemsize}").reshape(shape), []
        for index in np.ndindex(*(-(-n // c) for n, c in zip(shape, chunks, strict=True))):
            places = zip(index, chunks, strict=True)
            tile = rows[tuple(slice(i * c, (i + 1) * c) for i, c in places)]
            full = np.zeros(chunks, rows.dtype)
            full[tuple(map(slice, tile.shape))] = tile
            tiles.append(full.reshape(-1).view(np.uint8))
        return np.stack(tiles)


def cut_of(reader: Reader, chunks: tuple[int, ...], fill: np.ndarray[Any, Any] | None) -> Cut:
    """Return the cut of a dataset into chunks of a shape."""
    return Cut(reader.shape, chunks, reader.itemsize, None if fill is None else fill.tobytes())


def tuned_chunks(reader: Reader, base: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return chunks of whole rows, aligned with those of the source; None if that cannot be.

    Parameters
    ----------
    base
        Chunks that `dclab-compress` would write.
    """
    rows, row_bytes = base[0], reader.row_bytes
    if rows * row_bytes < JOIN_BYTES:
        rows *= JOIN_BYTES // (rows * row_bytes)
    elif rows * row_bytes > SPLIT_BYTES:
        parts = (d for d in range(2, rows + 1) if rows % d == 0)
        rows //= next((d for d in parts if rows // d * row_bytes <= lay.MEBIBYTE), rows)
    chunks = (min(rows, reader.shape[0]), *reader.shape[1:])
    tiled = base[1:] != reader.shape[1:]
    return None if tiled and math.prod(chunks) * reader.itemsize > SPLIT_BYTES else chunks


def strips(reader: Reader, chunks: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return chunks that hold some lines of many images, for images of one byte per element.

    A line at a wall, or one in the middle of the channel, looks much the same in all events: with
    a table of its own for single bytes, a strip takes less space than whole images, and matches,
    which take most of the time to find, have nothing left to win.

    Parameters
    ----------
    chunks
        Chunks of whole rows.
    """
    if reader.itemsize != 1 or len(reader.shape) < 3:
        return []
    rows, height, rest = chunks[0], reader.shape[1], reader.shape[2:]
    line = math.prod(rest)
    heights = _heights(height, -(-STRIP_BYTES // (rows * line)))
    found = [(rows, lines, *rest) for lines in heights]
    if 2 * rows <= reader.shape[0] and rows * reader.row_bytes >= DOUBLE_FROM:
        finest = _heights(height, -(-DOUBLE_STRIP_BYTES // (2 * rows * line)))[-1:]
        found += [(2 * rows, lines, *rest) for lines in finest]
    return found


def _heights(height: int, least: int) -> list[int]:
    """Return how many lines strips of an image can have, each about half as many as the one before."""
    found: list[int] = []
    for count in STRIPS:
        wanted = max(least, -(-height // count))
        fits = (n for n in range(wanted, wanted * 3 // 2 + 1) if -height % n * 32 <= height)
        lines = next(fits, height)
        if lines * 2 <= height and lines not in found:
            found.append(lines)
    return found
