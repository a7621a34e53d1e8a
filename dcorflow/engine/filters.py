"""Decode stored chunks without HDF5, so that processes can do it side by side.

The filter numbers and options are those of HDF5 (H5Zpublic.h) and of the registered plugins
(https://github.com/HDFGroup/hdf5_plugins). A pipeline is applied first to last when a chunk is
written; bit `i` of a chunk's filter mask says that filter `i` was skipped.
"""

from __future__ import annotations

import functools
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import zstandard
from isal import igzip_lib, isal_zlib

from .plugins import bitshuffle, bitshuffle_library, fletcher32, zstd_decoder
from .room import Bytes

GZIP, SHUFFLE, FLETCHER32 = 1, 2, 3
BITSHUFFLE, ZSTD = 32008, 32015
#: Bytes that fletcher32 appends to a chunk.
CHECKSUM_BYTES = 4

_local = threading.local()
_get_checksum = struct.Struct("<I").unpack_from
_GZIP_ERROR: Any = igzip_lib.IsalError  # its stub calls it an instance


class Undecodable(Exception):
    """A stored chunk does not decode to its full size, or its checksum is wrong.

    Attributes
    ----------
    chunk
        Which one of several it was.
    """

    chunk = 0


@dataclass(frozen=True)
class Pipeline:
    """The filters of a dataset.

    Attributes
    ----------
    filters
        Number and options of each filter, in the order of writing.
    itemsize
        Bytes per element.
    chunk_bytes
        Bytes of a decoded chunk.
    """

    filters: tuple[tuple[int, tuple[int, ...]], ...]
    itemsize: int
    chunk_bytes: int

    @property
    def known(self) -> bool:
        """Whether :meth:`decode` can undo all filters."""
        numbers = [number for number, _ in self.filters]
        packers = [i for i, number in enumerate(numbers) if number in (GZIP, ZSTD)]
        if len(packers) > 1:
            return False
        for index, (number, options) in enumerate(self.filters):
            if number == BITSHUFFLE:
                # options[4]: compression inside of bitshuffle, which is left to the plugin
                if bitshuffle_library() is None or len(options) < 4 or any(options[4:5]):
                    return False
            elif number not in (GZIP, SHUFFLE, FLETCHER32, ZSTD):
                return False
            # Shuffles of anything but whole elements are left to HDF5.
            if number in (SHUFFLE, BITSHUFFLE) and {GZIP, ZSTD, FLETCHER32} & set(numbers[:index]):
                return False
        return True

    @property
    def accepted(self) -> bool:
        """Whether chunks can stay as they are: Zstandard of level 5 or more, then fletcher32."""
        numbers = [number for number, _ in self.filters]
        if numbers[-2:] != [ZSTD, FLETCHER32] or numbers[:-2] not in ([], [SHUFFLE], [BITSHUFFLE]):
            return False
        level = self.filters[-2][1]
        return bool(level) and 5 <= level[0] <= zstandard.MAX_COMPRESSION_LEVEL

    @functools.cached_property
    def _usual(self) -> bool:
        return [number for number, _ in self.filters] == [ZSTD, FLETCHER32]

    def decode(self, raw: Any, mask: int = 0) -> Any:
        """Undo all filters of a stored chunk.

        Parameters
        ----------
        raw
            Stored bytes.
        mask
            The chunk's filter mask.

        Returns
        -------
        buffer
            `chunk_bytes` bytes.

        Raises
        ------
        Undecodable
            If a checksum is wrong or the result has another size.
        """
        if self._usual and not mask:
            return decode_zstd(verify_fletcher32(raw), self.chunk_bytes)
        data = raw
        applied = [f for i, f in enumerate(self.filters) if not mask >> i & 1]
        while applied:
            number, options = applied.pop()
            # h5py puts fletcher32 in front of gzip: its checksum is inside of the stream.
            inner = CHECKSUM_BYTES * sum(other == FLETCHER32 for other, _ in applied)
            data = self._undo(number, options, data, self.chunk_bytes + inner)
        size = memoryview(data).nbytes
        if size != self.chunk_bytes:
            raise Undecodable(f"expected {self.chunk_bytes} bytes after decoding, found {size}")
        return data

    def decode_chunks(
        self, memory: Bytes, begin: int, ends: Sequence[int], masks: Sequence[int], into: Bytes
    ) -> None:
        """Undo the filters of stored chunks that lie one behind the other.

        Parameters
        ----------
        memory
            Where they lie.
        begin, ends
            Where the first one begins and each one ends.
        masks
            Filter mask of each.
        into
            Gets the decoded bytes, shape (chunks, `chunk_bytes`).

        Raises
        ------
        Undecodable
            With the number of the chunk.
        """
        decoder, sum_up = zstd_decoder() if self._usual else None, fletcher32()
        view, address, target, size = memory.data, memory.ctypes.data, into.ctypes.data, self.chunk_bytes
        for number, (end, mask) in enumerate(zip(ends, masks, strict=True)):
            content = end - CHECKSUM_BYTES
            if (
                decoder is None
                or sum_up is None
                or mask
                or content <= begin
                or _get_checksum(view, content)[0] != sum_up(address + begin, content - begin)
                or not decoder.decompress_into(address + begin, content - begin, target + number * size, size)
            ):
                try:  # says what is wrong, too
                    into[number] = np.frombuffer(self.decode(view[begin:end], mask), np.uint8)
                except Undecodable as error:
                    error.chunk = number
                    raise
            begin = end

    def _undo(self, number: int, options: tuple[int, ...], data: Any, size: int) -> Any:
        if number == FLETCHER32:
            return verify_fletcher32(data)
        if number == ZSTD:
            return decode_zstd(data, size)
        if number == GZIP:
            return decode_gzip(data, size)
        if memoryview(data).nbytes != self.chunk_bytes:
            raise Undecodable(f"expected {self.chunk_bytes} bytes before unshuffling")
        if number == SHUFFLE:
            return unshuffle(data, options[0] if options else self.itemsize)
        try:
            return bitshuffle(data, options[2], options[3], undo=True)
        except ValueError as error:
            raise Undecodable(str(error)) from error


def pipeline_of(dataset: h5py.Dataset) -> Pipeline:
    """Return the filters of a chunked dataset."""
    plist = dataset.id.get_create_plist()
    entries = (plist.get_filter(i) for i in range(plist.get_nfilters()))
    itemsize = dataset.id.get_type().get_size()
    chunk_bytes = int(np.prod(dataset.chunks, dtype=object)) * itemsize
    return Pipeline(tuple((e[0], tuple(e[2])) for e in entries), itemsize, chunk_bytes)


def verify_fletcher32(data: Any) -> Any:
    """Return `data` without its checksum (the last 4 bytes) after comparing it."""
    if len(data) <= CHECKSUM_BYTES:
        raise Undecodable(f"only {len(data)} bytes are stored, too few for data and checksum")
    content = memoryview(data)[:-CHECKSUM_BYTES]
    if checksum(content) != bytes(data[-CHECKSUM_BYTES:]):
        raise Undecodable("the Fletcher-32 checksum does not match the stored bytes")
    return content


def checksum(data: Any) -> bytes:
    """Return the Fletcher-32 checksum of at least one byte, as HDF5's filter appends it."""
    function = fletcher32()
    if function is None:
        from numcodecs.fletcher32 import Fletcher32

        return bytes(Fletcher32().encode(bytes(data)))[-CHECKSUM_BYTES:]
    array = np.frombuffer(data, np.uint8)
    return function(array.ctypes.data, array.size).to_bytes(CHECKSUM_BYTES, "little")


def decode_zstd(data: Any, size: int) -> bytes:
    """Decompress one Zstandard frame that holds exactly `size` bytes."""
    decompressor = getattr(_local, "zstd", None)
    if decompressor is None:
        decompressor = _local.zstd = zstandard.ZstdDecompressor()
    try:
        promised = zstandard.frame_content_size(data)
        if promised != size:  # -1 where it is missing: HDF5's filter needs it
            raise Undecodable(f"expected a Zstandard frame of {size} bytes, found {promised}")
        return decompressor.decompress(data, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise Undecodable(f"Zstandard cannot decode it ({error})") from error


def decode_gzip(data: Any, size: int) -> bytes:
    """Decompress a zlib stream that holds exactly `size` bytes."""
    stream = isal_zlib.decompressobj()
    try:
        # One byte of room shows streams that are too long, without unpacking all of them.
        result = stream.decompress(data, size + 1)
    except _GZIP_ERROR as error:
        raise Undecodable(f"gzip cannot decode it ({error})") from error
    if not stream.eof:
        found = f"more than {size}" if len(result) > size else f"{len(result)}"
        raise Undecodable(f"expected a gzip stream of {size} bytes, found {found} and no end")
    return result


def shuffle(data: Any, itemsize: int) -> Any:
    """Apply HDF5's byte shuffle: the first bytes of all elements, then the second ones, and so on.

    What is left over of no whole element stays at the end (HDF5's src/H5Zshuffle.c).
    """
    return data if itemsize <= 1 else _turned(data, itemsize, undo=False)


def unshuffle(data: Any, itemsize: int) -> Any:
    """Undo HDF5's byte shuffle."""
    return data if itemsize <= 1 else _turned(data, itemsize, undo=True)


def _turned(data: Any, itemsize: int, *, undo: bool) -> Bytes:
    source = np.frombuffer(data, np.uint8)
    items = source.size // itemsize
    whole = items * itemsize
    result = np.empty_like(source)
    elements, planes = (result, source) if undo else (source, result)
    elements, planes = elements[:whole].reshape(items, itemsize), planes[:whole].reshape(itemsize, items)
    for number in range(itemsize):  # NumPy alone would go through the elements one by one
        if undo:
            elements[:, number] = planes[number]
        else:
            planes[number] = elements[:, number]
    result[whole:] = source[whole:]
    return result
