"""Encoded chunks of some rows, one behind the other in one piece of memory, each with its checksum."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from . import room
from .chunks import Pack
from .cut import Cut
from .encode import Encoding, bound
from .filters import CHECKSUM_BYTES, checksum
from .plugins import fletcher32
from .room import Bytes, Scratch

_put_checksum = struct.Struct("<I").pack_into
_ENCODED = Scratch()


def pack(cut: Cut, data: Bytes, encoding: Encoding, start: int = 0) -> Pack:
    """Encode rows.

    Parameters
    ----------
    cut
        Makes chunks of them.
    data
        Decoded bytes of rows, see :meth:`Cut.blocks`.
    encoding
        Of the chunks.
    start
        Number of the first row.
    """
    each = bound(cut.chunk_bytes) + CHECKSUM_BYTES
    memory = room.empty(cut.count(data) * each)
    view, target = memory.data, memory.ctypes.data
    encode, sum_up, size = encoding.writer(cut.itemsize), fletcher32(), cut.chunk_bytes
    ends: list[int] = []
    end = 0
    for source in _addresses(cut, data):
        content = end + encode(source, size, target + end, each)
        if sum_up is not None:
            _put_checksum(view, content, sum_up(target + end, content - end))
        else:
            view[content : content + CHECKSUM_BYTES] = checksum(view[end:content])
        end = content + CHECKSUM_BYTES
        ends.append(end)
    return Pack(room.trim(memory, end), cut.offsets(start, data), ends)


def encoded_size(cut: Cut, data: Bytes, encoding: Encoding) -> int:
    """Return the bytes that rows take in a file, see `pack`, with all that belongs to their chunks."""
    encode, size, limit = encoding.writer(cut.itemsize), cut.chunk_bytes, bound(cut.chunk_bytes)
    target = _ENCODED.take(limit).ctypes.data
    content = sum(encode(source, size, target, limit) for source in _addresses(cut, data))
    return content + cut.count(data) * cut.overhead


def _addresses(cut: Cut, data: Bytes) -> Iterator[int]:
    """Yield the address of the content of each chunk; it holds until the next one is asked for."""
    for block in cut.blocks(data):
        address = block.ctypes.data
        yield from range(address, address + block.size, cut.chunk_bytes)
