"""Read a dataset band by band: consecutive rows, decoded by any process, in bounded memory."""

from __future__ import annotations

import functools
import math
import os
from typing import Any

import h5py
import numpy as np

from . import room
from .digest import has_pointers
from .errors import CorruptChunk
from .filters import Pipeline, Undecodable, pipeline_of
from .layout import fill_value
from .plain import PlainReader, is_native, verify_checksums
from .plugins import filters_edges
from .room import Bytes

#: Bands have at least this many bytes where the dataset is large enough, to spread the overhead.
BAND_BYTES = 2**20
#: Larger chunks are left to HDF5.
MAX_BAND_BYTES = 16 * 2**20

Stored = tuple[int, int, int]


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
        self._direct = (
            self.pipeline is not None
            and self.pipeline.known
            and (not self.pipeline.filters or filters_edges(source.id.get_create_plist()))
        )
        self._handle = descriptor(source)
        #: Where the file has the whole dataset in one piece.
        self._address = contiguous_address(source) if self._handle is not None else None
        self._plain: PlainReader | None = None
        if not self._direct and self._address is None:
            verify_checksums(source)
            self._plain = PlainReader(source)
        self.parallel = self._handle is not None and self._plain is None
        self._table: dict[tuple[int, ...], Stored] = self._index() if self._direct else {}
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

    def _index(self) -> dict[tuple[int, ...], Stored]:
        table: dict[tuple[int, ...], Stored] = {}

        def note(info: Any) -> None:
            table[tuple(info.chunk_offset)] = (info.byte_offset, info.size, info.filter_mask)

        if self.source.id.get_num_chunks():
            self.source.id.chunk_iter(note)
        return table

    @property
    def accepted(self) -> bool:
        """Whether the stored chunks can be kept as they are."""
        pipeline = self.pipeline
        if not self._direct or pipeline is None or not pipeline.accepted:
            return False
        return not any(mask for _, _, mask in self._table.values())

    @functools.cached_property
    def complete(self) -> bool:
        """Whether every chunk is stored, and nothing is stored beyond the dataset's end."""
        assert self.chunks is not None
        places = [range(0, n, c) for n, c in zip(self.shape, self.chunks, strict=True)]
        if len(self._table) != math.prod(map(len, places)):
            return False
        # Offsets of a damaged index may be anything.
        return all(all(map(range.__contains__, places, offset)) for offset in self._table)

    def raw(self, offset: tuple[int, ...]) -> bytes | None:
        """Return a chunk as stored, None if there is none at this offset (in elements)."""
        stored = self._table.get(offset)
        if stored is None:
            return None
        address, size, _ = stored
        if self._handle is None:
            return self.source.id.read_direct_chunk(offset)[1]
        data = os.pread(self._handle, size, address)
        if len(data) != size:
            reason = f"expected {size} stored bytes, the file ends after {len(data)}"
            raise CorruptChunk(self.name, offset, address, reason)
        return data

    def _read_into(self, into: memoryview, offset: tuple[int, ...]) -> None:
        """Read a chunk that is stored just as it is decoded."""
        address, size, _ = self._table[offset]
        assert self._handle is not None
        found = os.preadv(self._handle, [into], address)
        if found != size:
            reason = f"expected {size} stored bytes, the file ends after {found}"
            raise CorruptChunk(self.name, offset, address, reason)

    def decode(self, offset: tuple[int, ...], raw: bytes, into: Bytes | None = None) -> Any:
        """Undo the filters of a chunk, in place where told; raise `CorruptChunk` where that fails."""
        assert self.pipeline is not None
        address, _, mask = self._table[offset]
        try:
            if into is None:
                return self.pipeline.decode(raw, mask)
            self.pipeline.decode_into(raw, mask, into)
        except Undecodable as error:
            raise CorruptChunk(self.name, offset, address, str(error)) from error

    def band(self, start: int, stop: int, kept: list[tuple[tuple[int, ...], bytes]] | None = None) -> Bytes:
        """Return the decoded bytes of the rows from `start` up to `stop`, 1-d, in C order.

        Parameters
        ----------
        kept
            List that gets offset and stored bytes of each chunk.
        """
        if self._plain is not None:
            rest = tuple(slice(0, n) for n in self.shape[1:])
            stored = self._plain.read((slice(start, stop), *rest))[0]
            return stored.reshape(-1).view(np.uint8)
        if self._address is not None:
            return self._piece(start, stop)
        assert self.chunks is not None
        if self.complete and self.chunks[1:] == self.shape[1:]:
            return self._from_rows(start, stop, kept)
        if self.complete and self.chunks[2:] == self.shape[2:]:
            return self._from_strips(start, stop, kept)
        return self._assemble(start, stop, kept).reshape(-1).view(np.uint8)

    def _from_rows(self, start: int, stop: int, kept: list[tuple[tuple[int, ...], bytes]] | None) -> Bytes:
        """Do what `_assemble` does, quickly for many chunks that hold whole rows."""
        assert self.chunks is not None and self.pipeline is not None
        out: Bytes = room.empty((stop - start) * self.row_bytes)
        rows, size = self.chunks[0], self.row_bytes
        rest = (0,) * (len(self.shape) - 1)
        as_it_is = not self.pipeline.filters and self._handle is not None
        for first in range(start - start % rows, stop, rows):
            low, high, offset = max(first, start), min(first + rows, stop), (first, *rest)
            into = out[(low - start) * size : (high - start) * size]
            if as_it_is and into.size == self._table[offset][1]:
                self._read_into(into.data, offset)
                continue
            raw = self.raw(offset)
            assert raw is not None  # `complete` says so
            if kept is not None:
                kept.append((offset, raw))
            if high - low == rows:
                self.decode(offset, raw, into)
            else:
                part: Bytes = np.frombuffer(self.decode(offset, raw), np.uint8)
                into[:] = part[(low - first) * size : (high - first) * size]
        return out

    def _from_strips(self, start: int, stop: int, kept: list[tuple[tuple[int, ...], bytes]] | None) -> Bytes:
        """Do what `_assemble` does, quickly for many small chunks that hold some lines of many rows."""
        assert self.chunks is not None
        (rows, lines, *_), height = self.chunks, self.shape[1]
        size = (stop - start) * self.row_bytes
        out = room.empty(size).reshape(stop - start, height, self.row_bytes // height)
        rest = (0,) * (len(self.shape) - 2)
        for first in range(start - start % rows, stop, rows):
            low, high = max(first, start), min(first + rows, stop)
            for line in range(0, height, lines):
                offset = (first, line, *rest)
                raw = self.raw(offset)
                assert raw is not None  # `complete` says so
                if kept is not None:
                    kept.append((offset, raw))
                strip: Bytes = np.frombuffer(self.decode(offset, raw), np.uint8).reshape(rows, lines, -1)
                into = out[low - start : high - start, line : line + lines]
                into[:] = strip[low - first : high - first, : into.shape[1]]
        return out.reshape(-1)

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

    def _assemble(
        self, start: int, stop: int, kept: list[tuple[tuple[int, ...], bytes]] | None
    ) -> np.ndarray[Any, Any]:
        assert self.chunks is not None
        element = np.dtype(f"V{self.itemsize}")
        memory = room.empty((stop - start) * self.row_bytes)
        out = memory.view(element).reshape(stop - start, *self.shape[1:])
        if not self.complete:
            memory[:] = 0
            if self._fill is not None:
                out[...] = np.frombuffer(self._fill, element)[0]
        spans = [range(start - start % self.chunks[0], stop, self.chunks[0])]
        spans += [range(0, n, c) for n, c in zip(self.shape[1:], self.chunks[1:], strict=True)]
        for index in np.ndindex(*map(len, spans)):
            offset = tuple(span[i] for span, i in zip(spans, index, strict=True))
            raw = self.raw(offset)
            if raw is None:
                continue
            if kept is not None:
                kept.append((offset, raw))
            values = np.frombuffer(self.decode(offset, raw), element).reshape(self.chunks)
            low = (max(offset[0], start), *offset[1:])
            ends = (stop, *self.shape[1:])
            high = tuple(min(o + c, e) for o, c, e in zip(offset, self.chunks, ends, strict=True))
            into = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
            part = tuple(slice(s.start - o, s.stop - o) for s, o in zip(into, offset, strict=True))
            out[(slice(into[0].start - start, into[0].stop - start), *into[1:])] = values[part]
        return out


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
