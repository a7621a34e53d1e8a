"""Copy datasets through HDF5's own reading and writing: simple, for every type and storage."""

from __future__ import annotations

import contextlib
from typing import Any

import h5py
import numpy as np

from . import layout as lay
from .attributes import TextChange, copy_attributes
from .digest import Hasher, has_pointers, is_opaque, iter_blocks
from .errors import Copied, CorruptChunk, UnsupportedDataset
from .filters import FLETCHER32, Undecodable, verify_fletcher32
from .plugins import filters_edges

#: Bytes of decoded content in memory at once.
BLOCK_BYTES = 4 * 2**20
STANDARD = f"zstd level {lay.ZSTD_LEVEL}"


def hasher_of(source: h5py.Dataset) -> Hasher:
    """Return a hasher for a dataset; raise `UnsupportedDataset` where there is no digest."""
    try:
        return Hasher(source.dtype, source.shape)
    except (TypeError, ValueError) as error:
        raise UnsupportedDataset(source.name, str(error)) from error


def blame_chunk(source: h5py.Dataset, error: Exception) -> None:
    """Raise `CorruptChunk` for the first chunk that HDF5 cannot read; return if there is none.

    A chunk that cannot be read because of the machine (an error number of the system) is not
    called corrupt, nor one of a type that HDF5 cannot convert to what h5py reads.
    """
    if source.chunks is None or any(words in str(error) for words in ("errno", "conversion path")):
        return
    for index in range(source.id.get_num_chunks()):
        info = source.id.get_chunk_info(index)
        part = tuple(
            slice(o, min(o + c, n))
            for o, c, n in zip(info.chunk_offset, source.chunks, source.shape, strict=True)
        )
        if any(s.start >= s.stop for s in part):
            continue
        try:
            source[part]
        except (OSError, RuntimeError, ValueError) as reason:
            raise CorruptChunk(
                source.name, tuple(info.chunk_offset), info.byte_offset, str(reason)
            ) from error


def verify_checksums(source: h5py.Dataset) -> None:
    """Verify the Fletcher-32 checksums of all stored chunks, before HDF5 decodes them.

    HDF5 verifies them, too, but can crash on chunks that are shorter than a checksum, and it
    does not say which one is corrupt.

    Raises
    ------
    CorruptChunk
        For the first wrong checksum.
    """
    plist = source.id.get_create_plist()
    last = plist.get_nfilters() - 1
    if source.chunks is None or last < 0 or plist.get_filter(last)[0] != FLETCHER32:
        return
    bare_edges = not filters_edges(plist)
    for index in range(source.id.get_num_chunks()):
        info = source.id.get_chunk_info(index)
        ends = zip(info.chunk_offset, source.chunks, source.shape, strict=True)
        if info.filter_mask >> last & 1 or (bare_edges and any(o + c > n for o, c, n in ends)):
            continue
        try:
            verify_fletcher32(source.id.read_direct_chunk(info.chunk_offset)[1])
        except Undecodable as error:
            offset = tuple(info.chunk_offset)
            raise CorruptChunk(source.name, offset, info.byte_offset, str(error)) from error


class PlainReader:
    """Read blocks of a dataset, both as stored (for the copy) and as h5py gives them.

    Parameters
    ----------
    source
        Dataset with at least one dimension and no zero length.
    """

    def __init__(self, source: h5py.Dataset) -> None:
        self.source = source
        self.kind = source.id.get_type()
        self.pointers = has_pointers(source.dtype)
        self.same = not self.pointers and (is_native(source) or is_opaque(source.dtype))

    def read(self, block: tuple[slice, ...]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return elements as stored and as h5py gives them (the same array where possible)."""
        try:
            if self.pointers:
                values = self._objects(block)
                return values, values
            stored = self._stored(block)
            if self.same:
                return stored, stored.view(self.source.dtype)
            return stored, self.source[block]
        except (OSError, RuntimeError) as error:
            blame_chunk(self.source, error)
            raise

    def _objects(self, block: tuple[slice, ...]) -> np.ndarray[Any, Any]:
        values = self.source[block]
        if isinstance(values, np.ndarray) and values.ndim == len(block):
            return values
        one = np.empty((1,) * len(block), self.source.dtype)  # a scalar: h5py unpacks it
        one[()] = values
        return one

    def _stored(self, block: tuple[slice, ...]) -> np.ndarray[Any, Any]:
        space = self.source.id.get_space()
        shape = tuple(s.stop - s.start for s in block)
        if block:
            space.select_hyperslab(tuple(s.start for s in block), shape)
        raw = np.zeros(shape, f"V{self.kind.get_size()}")
        self.source.id.read(h5py.h5s.create_simple(shape or (1,)), space, raw, self.kind)
        return raw


def is_native(source: h5py.Dataset) -> bool:
    """Whether the bytes stored are those of the NumPy type that h5py gives (in its byte order)."""
    with contextlib.suppress(TypeError):
        native = h5py.h5t.py_create(source.dtype, logical=True)
        return bool(native == source.id.get_type())
    return False


def longest_string(source: h5py.Dataset) -> int:
    """Return the length in bytes of the longest string of a dataset."""
    reader, longest = PlainReader(source), 0
    for block in blocks_of(source):
        longest = max(longest, *(len(value) for value in reader.read(block)[0].reshape(-1)))
    return longest


def blocks_of(source: h5py.Dataset) -> list[tuple[slice, ...]]:
    """Return the blocks in which a dataset is read, in C order; none for an empty dataset."""
    if source.shape is None or 0 in source.shape:
        return []
    if source.shape == ():
        return [()]
    step = source.chunks[0] if source.chunks else 1
    size = max(source.dtype.itemsize, source.id.get_type().get_size())
    return list(iter_blocks(source.shape, size, BLOCK_BYTES, step))


def copy_plain(
    source: h5py.Dataset, target: h5py.Group, name: str, change: TextChange | None = None
) -> Copied:
    """Copy one dataset block by block through HDF5, with Zstandard level 5 and fletcher32.

    See :func:`dcorflow.engine.copy_dataset`.
    """
    lay.refuse(source)
    hasher = hasher_of(source)
    verify_checksums(source)
    text = lay.is_vlen_string(source)
    layout = lay.base_layout(source, longest_string(source) if text else 0)
    dataset = lay.create(target, name, layout, lay.fill_value(source))
    reader = PlainReader(source)
    for block in blocks_of(source):
        stored, values = reader.read(block)
        hasher.update(values if block else values.reshape(1))
        write_block(dataset, block or (slice(0, 1),), stored, text)
    left = tuple(copy_attributes(source, dataset, change))
    dataset.flush()
    stored_bytes = dataset.id.get_storage_size()
    words = STANDARD if dataset.fletcher32 else f"{STANDARD}, without checksum"
    return Copied(hasher.digest, lay.decoded_bytes(layout), stored_bytes, words, left)


def write_block(
    dataset: h5py.Dataset, block: tuple[slice, ...], values: np.ndarray[Any, Any], text: bool
) -> None:
    """Write one block of stored bytes, or of objects with variable-length parts."""
    shape = tuple(s.stop - s.start for s in block)
    if text:
        size = dataset.id.get_type().get_size()
        values = np.array(values.reshape(-1).tolist(), f"S{size}").view(f"V{size}")
    space = dataset.id.get_space()
    space.select_hyperslab(tuple(s.start for s in block), shape)
    memory = h5py.h5s.create_simple(shape)
    if values.dtype.hasobject:
        dataset.id.write(memory, space, values.reshape(shape).astype(dataset.dtype, copy=False))
    else:
        dataset.id.write(memory, space, values.reshape(shape), dataset.id.get_type())


def digest_stored(source: h5py.Dataset) -> str:
    """Return the digest of a dataset; HDF5 verifies the checksums while it reads."""
    lay.refuse(source)
    verify_checksums(source)
    hasher, reader = hasher_of(source), PlainReader(source)
    for block in blocks_of(source):
        values = reader.read(block)[1]
        hasher.update(values if block else values.reshape(1))
    return hasher.digest()


def write_plain(
    target: h5py.Group,
    name: str,
    data: np.ndarray[Any, Any],
    maxshape: tuple[int | None, ...] | None = None,
    chunks: tuple[int, ...] | None = None,
) -> Copied:
    """Write an array in memory, see :func:`dcorflow.engine.write_array`."""
    data = np.atleast_1d(np.ascontiguousarray(data))
    try:
        hasher = Hasher(data.dtype, data.shape)
    except TypeError as error:
        raise UnsupportedDataset(name, str(error)) from error
    kind = h5py.h5t.py_create(data.dtype, logical=True)
    limits = maxshape or (lay.resizable(data.shape) if 0 in data.shape else data.shape)
    parts = chunks or lay.best_chunks(data.shape, kind.get_size())
    layout = lay.Layout(data.shape, limits, lay.clip_chunks(parts, data.shape), kind)
    dataset = lay.create(target, name, layout)
    if data.size:
        hasher.update(data)
        dataset[...] = data
    dataset.flush()
    stored_bytes = dataset.id.get_storage_size()
    return Copied(hasher.digest, lay.decoded_bytes(layout), stored_bytes, STANDARD)
