"""The ways to encode a chunk.

All write what HDF5's filters read: an optional shuffle, one Zstandard frame that knows its size,
and the Fletcher-32 checksum. The Zstandard filter declares a level, but decoding depends on no
parameter of the encoder, so these are free.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass

import zstandard

from . import filters, plugins
from .room import Scratch

_local = threading.local()

_PLANES = Scratch()

Compressor = zstandard.ZstdCompressor | plugins.PluginZstd
#: Encodes bytes (address, count) to another address with so much room; returns the bytes that it took.
Writer = Callable[[int, int, int, int], int]


@dataclass(frozen=True)
class Encoding:
    """One way to encode chunks.

    Attributes
    ----------
    words
        For the record.
    cost
        Milliseconds per megabyte of noisy 8-bit images, measured once with Zstandard 1.5.7; only
        the proportions matter. A constant on purpose: the choice must not depend on the machine.
    level
        Zstandard level that the parameters below change, 0 where it is unchanged.
    strategy, min_match, hash_log, chain_log, search_log
        Zstandard parameters, see "Advanced compression API" of its manual. A `chain_log` of 0
        stands for `hash_log`.
    shuffle
        ``"none"``, ``"byte"`` or ``"bit"``, in front of Zstandard.
    block
        Elements per block of bitshuffle; 0 for its default of 8 KiB.
    block_bytes
        Bytes per block of Zstandard, each with a table of its own for single bytes; 0 for the
        default of up to 128 KiB.
    window_log
        Of encodings with `block_bytes`; blocks are not larger than this window.
    """

    words: str
    cost: float
    level: int
    strategy: int = 0
    min_match: int = 0
    hash_log: int = 0
    shuffle: str = "none"
    block: int = 0
    chain_log: int = 0
    search_log: int = 1
    block_bytes: int = 0
    window_log: int = 14

    def writer(self, itemsize: int) -> Writer:
        """Return what encodes chunks from address to address, for many chunks in one thread.

        It writes the content of a chunk, shuffled and compressed, without checksum.

        Parameters
        ----------
        itemsize
            Bytes per element.
        """
        compressor = self._compressor()
        if isinstance(compressor, plugins.PluginZstd):
            return compressor.compress_into
        if self.shuffle == "bit":
            return functools.partial(_write_bits, compressor, itemsize, self.block)
        return functools.partial(_write, compressor, itemsize if self.shuffle == "byte" else 1)

    def _compressor(self) -> Compressor:
        # One context per thread: they hold tables of some MB and must not be shared.
        known: dict[Encoding, Compressor] | None = getattr(_local, "known", None)
        if known is None:
            known = _local.known = {}
        if self not in known:
            known[self] = self._make()
        return known[self]

    def _make(self) -> Compressor:
        if self.block_bytes:
            return plugins.PluginZstd(
                level=self.level,
                strategy=self.strategy,
                min_match=self.min_match,
                hash_log=self.hash_log,
                chain_log=self.hash_log,
                window_log=self.window_log,
                target_length=64,
                literals=1,
                block_bytes=self.block_bytes,
            )
        if self == STANDARD and plugins.zstd_library() is not None:
            return plugins.PluginZstd(level=self.level)
        if not self.strategy:
            return zstandard.ZstdCompressor(level=self.level, write_content_size=True)
        parameters = zstandard.ZstdCompressionParameters(
            compression_level=self.level,
            strategy=self.strategy,
            min_match=self.min_match,
            hash_log=self.hash_log,
            chain_log=self.chain_log or self.hash_log,
            window_log=20,
            search_log=self.search_log,
            write_content_size=True,
        )
        return zstandard.ZstdCompressor(compression_params=parameters)


def bound(size: int) -> int:
    """Return how many bytes `size` bytes take at most, encoded in any way.

    Zstandard's own bound is a 256th and some bytes more; each of its blocks, which are not below 1 KiB
    here, may add three bytes to what cannot be compressed.
    """
    return size + size // 64 + 512


def _write(
    compressor: zstandard.ZstdCompressor, itemsize: int, address: int, size: int, target: int, room: int
) -> int:
    """Shuffle the bytes of elements, where they have several, and compress them."""
    data = (ctypes.c_char * size).from_address(address)
    return _put(compressor.compress(filters.shuffle(data, itemsize)), target, room)


def _write_bits(
    compressor: zstandard.ZstdCompressor,
    itemsize: int,
    block: int,
    address: int,
    size: int,
    target: int,
    room: int,
) -> int:
    """Shuffle the bits of elements, and compress them."""
    planes = _PLANES.take(size)
    plugins.bitshuffle_into(address, size, planes.ctypes.data, itemsize, block, undo=False)
    return _put(compressor.compress(planes.data), target, room)


def _put(made: bytes, target: int, room: int) -> int:
    if len(made) > room:
        raise MemoryError(f"expected at most {room} bytes of Zstandard, found {len(made)}")
    ctypes.memmove(target, made, len(made))
    return len(made)


FAST, DFAST = zstandard.STRATEGY_FAST, zstandard.STRATEGY_DFAST
GREEDY = zstandard.STRATEGY_GREEDY

#: What dclab and HDF5's filter write, byte for byte: the measure of all others.
STANDARD = Encoding("zstd level 5", 11.0, 5)

#: Encodings of elements of several bytes, with dclab's filters only. In noise, matches of four
#: bytes are rare but short searches find those that pay, where level 5 takes many that cost more
#: than they save.
WIDE: tuple[Encoding, ...] = (
    Encoding("zstd fast 7", 1.2, 1, FAST, 7, 14),
    Encoding("zstd fast 5", 3.2, 1, FAST, 5, 14),
    Encoding("zstd fast 4/14", 4.9, 1, FAST, 4, 14),
    Encoding("zstd fast 4/16", 6.5, 1, FAST, 4, 16),
    Encoding("zstd fast 4/18", 8.5, 1, FAST, 4, 18),
    STANDARD,
)

#: Encodings of bytes, such as images with sensor noise: hardly any matches, but blocks of few
#: rows, since a wall, a cell or the empty channel has few grey levels.
BYTES: tuple[Encoding, ...] = (
    Encoding("zstd blocks of 128 KiB", 1.1, 1, FAST, 7, 10, block_bytes=2**17),
    Encoding("zstd blocks of 4000", 1.5, 1, FAST, 7, 10, block_bytes=4000),
    Encoding("zstd blocks of 2250", 1.9, 1, FAST, 7, 10, block_bytes=2250),
    Encoding("zstd blocks of 1536", 2.3, 1, FAST, 7, 10, block_bytes=1536),
    WIDE[3],
    STANDARD,
)

#: The encoding of chunks that hold the same lines of many images: one table for all of them.
STRIP = Encoding("zstd literals of strips", 0.65, 1, FAST, 7, 10, block_bytes=2**17, window_log=17)


def plain(itemsize: int) -> tuple[Encoding, ...]:
    """Return the encodings with dclab's filters only, for noisy elements of `itemsize` bytes."""
    return BYTES if itemsize == 1 and plugins.has_small_blocks() else WIDE


#: Encodings of content that repeats itself, such as background images that many events share:
#: there level 5 is fast already, and its long search for matches pays. Costs are relative to it.
SMOOTH: tuple[Encoding, ...] = (
    Encoding("zstd dfast", 5.2, 3, DFAST, 4, 15, chain_log=13),
    Encoding("zstd greedy", 9.0, 3, GREEDY, 4, 15, chain_log=17, search_log=3),
    STANDARD,
)


def shuffled(itemsize: int, chunk_items: int) -> tuple[Encoding, ...]:
    """Return the encodings with a shuffle in front, for elements of `itemsize` bytes.

    Parameters
    ----------
    chunk_items
        Elements per chunk: bit planes of a whole chunk cost least time, planes of small blocks
        sometimes less space.
    """
    found: list[Encoding] = []
    if plugins.bitshuffle_library() is not None:
        whole = max(8, chunk_items - chunk_items % 8)
        for block, words in ((0, "bitshuffle"), (whole, "bitshuffle of chunks")):
            found += [
                Encoding(f"{words} + zstd fast", 1.9, 1, FAST, 6, 14, "bit", block),
                Encoding(f"{words} + zstd dfast", 2.5, 3, DFAST, 5, 16, "bit", block),
            ]
    if itemsize > 1:
        found += [
            Encoding("shuffle + zstd level 1", 2.5, 1, shuffle="byte"),
            Encoding("shuffle + zstd level 5", 8.0, 5, shuffle="byte"),
        ]
    return tuple(found)
