"""Read a dataset band by band: consecutive rows, decoded by any process, in bounded memory."""

from __future__ import annotations

import math
import os
from bisect import bisect, bisect_left
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from . import room
from .chunks import ChunkIndex, Pack, gather
from .digest import has_pointers
from .errors import CorruptChunk
from .filters import Pipeline, Undecodable, pipeline_of
from .layout import fill_value
from .plain import PlainReader, is_native, verify_checksums
from .plugins import filters_edges
from .room import Bytes, Scratch

#: Bands have at least this many bytes where the dataset is large enough, to spread the overhead.
BAND_BYTES = 2**20
#: Larger chunks are left to HDF5.
MAX_BAND_BYTES = 16 * 2**20

_STORED, _STRIPS = Scratch(), Scratch()


class Reader:
    """Decode rows of a dataset of plain elements (no pointers), at least one dimension.

    Parameters
    ----------
    source
        Dataset whose file stays open.

    Attributes
    ----------
    row_bytes
        Bytes of one row: all elements with the same first index.
    step
        Bands should begin at multiples of this many rows; then no chunk is decoded twice.
    size
        Bytes of all rows.
    parallel
        Whether helper processes can read and decode. Otherwise HDF5 has to, which they must not call.
    """

    def __init__(self, source: h5py.Dataset) -> None:
        self.source: Any = source
        self.name = source.name or "?"
        self.shape: tuple[int, ...] = source.shape
        self.itemsize = source.id.get_type().get_size()
        self.row_bytes = math.prod(self.shape[1:]) * self.itemsize
        self.chunks: tuple[int, ...] | None = source.chunks
        self.size = self.shape[0] * self.row_bytes
        self.step = min(self.chunks[0], self.shape[0]) if self.chunks else 1
        self.pipeline: Pipeline | None = pipeline_of(source) if self.chunks else None
        direct = (
            self.pipeline is not None
            and self.pipeline.known
            and (not self.pipeline.filters or filters_edges(source.id.get_create_plist()))
        )
        self._handle = descriptor(source)
        #: Where the file has the whole dataset in one piece.
        self._address = contiguous_address(source) if self._handle is not None else None
        self._plain: PlainReader | None = None
        if not direct and self._address is None:
            verify_checksums(source)
            self._plain = PlainReader(source)
        self.parallel = self._handle is not None and self._plain is None
        self._index = ChunkIndex.of(source) if direct else None
        fill = fill_value(source)
        # Bytes: pickle may turn an array into the machine's byte order.
        self._fill = None if fill is None else fill.tobytes()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to HDF5, for a helper process, which must not call it."""
        return self.__dict__ | {"source": None, "_plain": None, "_seen": self._file()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        seen = state.pop("_seen")
        self.__dict__.update(state)
        if seen != self._file():
            raise RuntimeError(f"{self.name}: the helper process was started before its file was opened")

    def _file(self) -> tuple[int, int] | None:
        """Return what tells the file behind the descriptor from all others."""
        if self._handle is None:
            return None
        status = os.fstat(self._handle)
        return status.st_dev, status.st_ino

    @staticmethod
    def fits(source: h5py.Dataset) -> bool:
        """Whether a dataset can be read like this."""
        if not source.shape or 0 in source.shape or has_pointers(source.dtype):
            return False
        if not is_native(source) or source.dtype.subdtype is not None:
            return False
        row_bytes = math.prod(source.shape[1:]) * source.dtype.itemsize
        rows = min(source.chunks[0], source.shape[0]) if source.chunks else 1
        stored = math.prod(source.chunks) * source.dtype.itemsize if source.chunks else 0
        return max(row_bytes * rows, stored) <= MAX_BAND_BYTES

    @property
    def accepted(self) -> bool:
        """Whether the stored chunks can be kept as they are."""
        pipeline, index = self.pipeline, self._index
        return index is not None and pipeline is not None and pipeline.accepted and not index.masked

    def band(self, start: int, stop: int) -> Bytes:
        """Return the decoded bytes of the rows from `start` up to `stop`, 1-d, in C order.

        Raises
        ------
        CorruptChunk
            Where a chunk cannot be decoded, is short, or its checksum is wrong.
        OSError
            Where the file cannot be read.
        """
        if self._plain is not None:
            rest = tuple(slice(0, n) for n in self.shape[1:])
            stored = self._plain.read((slice(start, stop), *rest))[0]
            return stored.reshape(-1).view(np.uint8)
        if self._address is not None:
            return self._piece(start, stop)
        return self._decoded(start, stop, keep=False)[0]

    def packs(self) -> Iterator[Pack]:
        """Yield all chunks of the dataset as they are stored, some at a time; each holds until the next."""
        index, first = self._index, 0
        assert index is not None
        while first < len(index.numbers):
            taken = int(index.ends[first] - index.sizes[first])
            last = max(first + 1, int(np.searchsorted(index.ends, taken + BAND_BYTES)))
            if index.largest > MAX_BAND_BYTES:  # the index is damaged; `_raw` says where
                yield gather([(tuple(index.offsets(first, first + 1)[0].tolist()), self._raw(first))])
                first += 1
                continue
            stored, ends = self._fetch(first, last, keep=False)
            yield Pack(stored, index.offsets(first, last), ends)
            first = last

    def band_as_stored(self, start: int, stop: int) -> tuple[Bytes, Pack]:
        """Return the same, and the chunks as they are stored; of a dataset whose chunks are `accepted`."""
        data, kept = self._decoded(start, stop, keep=True)
        assert kept is not None
        return data, kept

    def _decoded(self, start: int, stop: int, keep: bool) -> tuple[Bytes, Pack | None]:
        index = self._index
        assert index is not None and self.chunks is not None
        lines = self.chunks[2:] == self.shape[2:]
        if not (index.complete and lines) or index.largest > MAX_BAND_BYTES:  # then the index is damaged
            return self._assembled(start, stop, keep)
        # Chunks of whole rows, or of some lines of each: what rows need is one behind the other.
        rows, per = self.chunks[0], math.prod(index.grid[1:])
        first, last = start // rows * per, -(-stop // rows) * per
        size = rows * self.row_bytes
        memory = room.empty((last - first) // per * size)
        decode = self._into_rows if self.chunks[1:] == self.shape[1:] else self._into_lines
        kept = decode(first, last, memory, keep)
        skipped = start % rows * self.row_bytes
        return memory[skipped : skipped + (stop - start) * self.row_bytes], kept

    def _into_rows(self, first: int, last: int, memory: Bytes, keep: bool) -> Pack | None:
        """Decode chunks of whole rows into memory for all of them."""
        index, pipeline = self._index, self.pipeline
        assert index is not None and pipeline is not None
        content = memory.reshape(last - first, -1)
        plain = not pipeline.filters and self._handle is not None
        if plain and index.smallest == index.largest == content.shape[1]:
            self._read(first, last, self._ends(first, last), memory)
            return None
        stored, ends = self._fetch(first, last, keep)
        self._decode(first, stored, 0, ends, content)
        return Pack(stored, index.offsets(first, last), ends) if keep else None

    def _into_lines(self, first: int, last: int, memory: Bytes, keep: bool) -> Pack | None:
        """Decode chunks that hold some lines of many rows into memory for all of these rows."""
        index, pipeline, chunks = self._index, self.pipeline, self.chunks
        assert index is not None and pipeline is not None and chunks is not None
        rows, lines, height = chunks[0], chunks[1], self.shape[1]
        per, (full, rest) = index.grid[1], divmod(height, lines)
        stored, ends = self._fetch(first, last, keep)
        strips, strip = (
            _STRIPS.take(per * pipeline.chunk_bytes).reshape(per, -1),
            pipeline.chunk_bytes // rows,
        )
        out = memory.reshape(-1, rows, height, self.row_bytes // height)
        for number, into in enumerate(out):
            low, high = number * per, (number + 1) * per
            self._decode(first + low, stored, ends[low - 1] if low else 0, ends[low:high], strips)
            whole = np.reshape(into[:, : full * lines], (rows, full, strip), copy=False)
            whole[...] = strips[:full].reshape(full, rows, strip).swapaxes(0, 1)
            if rest:
                into[:, full * lines :] = strips[full].reshape(rows, lines, -1)[:, :rest]
        return Pack(stored, index.offsets(first, last), ends) if keep else None

    def _decode(self, first: int, stored: Bytes, begin: int, ends: list[int], into: Bytes) -> None:
        """Decode stored chunks, of which `first` is the first, into an array with a row for each."""
        assert self.pipeline is not None and self._index is not None
        masks = (
            self._index.masks[first : first + len(ends)].tolist() if self._index.masked else [0] * len(ends)
        )
        try:
            self.pipeline.decode_chunks(stored, begin, ends, masks, into)
        except Undecodable as error:
            raise self._corrupt(first + error.chunk, str(error)) from error

    def _fetch(self, first: int, last: int, keep: bool) -> tuple[Bytes, list[int]]:
        """Return chunks as they are stored, one behind the other, and where each ends."""
        ends = self._ends(first, last)
        stored = room.empty(ends[-1]) if keep else _STORED.take(ends[-1])
        self._read(first, last, ends, stored)
        return stored, ends

    def _read(self, first: int, last: int, ends: list[int], into: Bytes) -> None:
        """Read stored chunks; those that are one behind the other in the file at once."""
        index = self._index
        assert index is not None
        begin = 0
        if self._handle is None:
            for place, end in zip(range(first, last), ends, strict=True):
                into[begin:end] = np.frombuffer(self._raw(place), np.uint8)
                begin = end
            return
        breaks, view, low = index.breaks, into.data, first
        for high in (*breaks[bisect(breaks, first) : bisect_left(breaks, last)], last):
            end = ends[high - 1 - first]
            found = begin + os.preadv(self._handle, [view[begin:end]], int(index.addresses[low]))
            if found != end:
                place = bisect(ends, found)
                raise self._short(first + place, found - (ends[place - 1] if place else 0))
            low, begin = high, end

    def _ends(self, first: int, last: int) -> list[int]:
        """Return where each of some chunks ends if they are one behind the other."""
        assert self._index is not None
        ends = self._index.ends[first:last]
        found: list[int] = (ends - (ends[0] - self._index.sizes[first])).tolist()
        return found

    def _raw(self, place: int) -> bytes:
        """Return one chunk as it is stored."""
        index = self._index
        assert index is not None
        if self._handle is None:
            offset = tuple(index.offsets(place, place + 1)[0].tolist())
            return self.source.id.read_direct_chunk(offset)[1]
        address, size = int(index.addresses[place]), int(index.sizes[place])
        there = max(0, os.fstat(self._handle).st_size - address)
        data = os.pread(self._handle, size, address) if size <= there else b""
        if len(data) != size:
            raise self._short(place, min(there, size - 1))
        return data

    def _short(self, place: int, found: int) -> CorruptChunk:
        assert self._index is not None
        expected = int(self._index.sizes[place])
        return self._corrupt(place, f"expected {expected} stored bytes, the file ends after {found}")

    def _corrupt(self, place: int, reason: str) -> CorruptChunk:
        assert self._index is not None
        offset = tuple(self._index.offsets(place, place + 1)[0].tolist())
        return CorruptChunk(self.name, offset, int(self._index.addresses[place]), reason)

    def _piece(self, start: int, stop: int) -> Bytes:
        """Return rows of a dataset that the file has in one piece."""
        assert self._handle is not None and self._address is not None
        address, size = self._address + start * self.row_bytes, (stop - start) * self.row_bytes
        data: Any = room.empty(size)
        found = os.preadv(self._handle, [data], address)
        if found != size:
            where = (start, *(0,) * (len(self.shape) - 1))
            reason = f"expected {size} bytes, the file ends after {found}"
            raise CorruptChunk(self.name, where, address, reason)
        return data

    def _assembled(self, start: int, stop: int, keep: bool) -> tuple[Bytes, Pack | None]:
        """Do the same for chunks of any shape, some of which may be missing."""
        assert self.chunks is not None and self.pipeline is not None and self._index is not None
        element = np.dtype(f"V{self.itemsize}")
        memory = room.empty((stop - start) * self.row_bytes)
        out = memory.view(element).reshape(stop - start, *self.shape[1:])
        if not self._index.complete:
            memory[:] = 0
            if self._fill is not None:
                out[...] = np.frombuffer(self._fill, element)[0]
        spans = [range(start - start % self.chunks[0], stop, self.chunks[0])]
        spans += [range(0, n, c) for n, c in zip(self.shape[1:], self.chunks[1:], strict=True)]
        kept: list[tuple[tuple[int, ...], bytes]] = []
        for at in np.ndindex(*map(len, spans)):
            offset = tuple(span[i] for span, i in zip(spans, at, strict=True))
            place = self._index.place(offset)
            if place is None:
                continue
            raw = self._raw(place)
            if keep:
                kept.append((offset, raw))
            try:
                content = self.pipeline.decode(raw, int(self._index.masks[place]))
            except Undecodable as error:
                raise self._corrupt(place, str(error)) from error
            values = np.frombuffer(content, element).reshape(self.chunks)
            low = (max(offset[0], start), *offset[1:])
            ends = (stop, *self.shape[1:])
            high = tuple(min(o + c, e) for o, c, e in zip(offset, self.chunks, ends, strict=True))
            into = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
            part = tuple(slice(s.start - o, s.stop - o) for s, o in zip(into, offset, strict=True))
            out[(slice(into[0].start - start, into[0].stop - start), *into[1:])] = values[part]
        return memory, gather(kept) if keep else None


def descriptor(source: h5py.Dataset) -> int | None:
    """Return a file descriptor for `os.pread`, None where HDF5 has to find the bytes itself.

    HDF5 has to: with other drivers than plain files, with a userblock (addresses count from its
    end), and in files open for writing, where chunks may still be in HDF5's cache.
    """
    file = h5py.h5i.get_file_id(source.id)
    if not hasattr(os, "preadv") or file.get_access_plist().get_driver() != h5py.h5fd.SEC2:
        return None
    if file.get_intent() != h5py.h5f.ACC_RDONLY or file.get_create_plist().get_userblock():
        return None
    return int(file.get_vfd_handle())


def contiguous_address(source: h5py.Dataset) -> int | None:
    """Return where a file has a dataset in one piece, None where it is in chunks or not stored."""
    if source.chunks is not None or source.id.get_storage_size() != source.nbytes:
        return None
    address: int | None = source.id.get_offset()
    return address


def band_rows(reader: Reader, multiple: int = 1) -> int:
    """Return the rows per band: whole chunks of source and target, about `BAND_BYTES`.

    Parameters
    ----------
    multiple
        Rows per chunk of the target; it divides `reader.step` or is a multiple of it.
    """
    unit = max(reader.step, multiple)
    return unit * max(1, BAND_BYTES // max(1, unit * reader.row_bytes))
