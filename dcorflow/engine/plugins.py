"""Functions of HDF5 and of the filters that hdf5plugin registers, called without h5py and its lock.

These are the shared libraries that HDF5 itself uses to read and write such chunks. What is
missing in them (another build) is done without: callers ask first.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import h5py.defs
import hdf5plugin
import numpy as np


def _load(plugin: str, functions: dict[str, tuple[Any, list[Any]]]) -> ctypes.CDLL | None:
    """Return the library of a plugin, or h5py's with HDF5 behind it for "", if it has the functions."""
    try:
        path = hdf5plugin.get_config().registered_filters[plugin] if plugin else h5py.defs.__file__
        library = ctypes.CDLL(path)
        for name, (result, arguments) in functions.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError, TypeError, KeyError):
        return None
    return library


@functools.cache
def fletcher32() -> Callable[[int, int], int] | None:
    """Return HDF5's checksum (address, bytes) of at least one byte; None where HDF5 hides it.

    `H5_checksum_fletcher32` of HDF5's src/H5checksum.c.
    """
    name = "H5_checksum_fletcher32"
    library = _load("", {name: (ctypes.c_uint32, [ctypes.c_void_p, ctypes.c_size_t])})
    return None if library is None else getattr(library, name)


#: `H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS` of HDF5's H5Dpublic.h.
_PARTIAL_CHUNKS_AS_THEY_ARE = 2


def filters_edges(plist: h5py.h5p.PropDCID) -> bool:
    """Whether filters apply to chunks at a dataset's end as to all others, as far as HDF5 tells.

    `H5Pget_chunk_opts`, which h5py lacks. Where they do not, the chunks' filter masks are silent about it.
    """
    options, function = ctypes.c_uint(0), _chunk_options()
    if function is not None:
        function(plist.id, ctypes.byref(options))
    return not options.value & _PARTIAL_CHUNKS_AS_THEY_ARE


@functools.cache
def _chunk_options() -> Callable[[int, Any], int] | None:
    name = "H5Pget_chunk_opts"
    library = _load("", {name: (ctypes.c_int, [ctypes.c_int64, ctypes.POINTER(ctypes.c_uint)])})
    return None if library is None else getattr(library, name)


@functools.cache
def bitshuffle_library() -> ctypes.CDLL | None:
    """Return the library with bitshuffle's functions, None without them.

    https://github.com/kiyo-masui/bitshuffle, src/bitshuffle_core.h: input, output, number of
    elements, bytes per element, elements per block (0: default).
    """
    arguments = [ctypes.c_void_p] * 2 + [ctypes.c_size_t] * 3
    names = ("bshuf_bitshuffle", "bshuf_bitunshuffle")
    return _load("bshuf", dict.fromkeys(names, (ctypes.c_int64, arguments)))


def bitshuffle(data: Any, itemsize: int, block: int, *, undo: bool) -> np.ndarray[Any, Any]:
    """Apply bitshuffle to bytes, or undo it.

    Parameters
    ----------
    data
        Bytes of whole elements.
    itemsize
        Bytes per element.
    block
        Elements per block, a multiple of 8; 0 for the default.
    undo
        Whether to restore the elements.

    Raises
    ------
    ValueError
        If the options do not fit the data.
    """
    source = np.frombuffer(data, np.uint8)
    result = np.empty_like(source)
    bitshuffle_into(source.ctypes.data, source.size, result.ctypes.data, itemsize, block, undo=undo)
    return result


def bitshuffle_into(address: int, size: int, target: int, itemsize: int, block: int, *, undo: bool) -> None:
    """Do what `bitshuffle` does, from address to address."""
    library = bitshuffle_library()
    assert library is not None
    if itemsize < 1 or block % 8 or size % itemsize:
        raise ValueError("the options of its bitshuffle filter do not fit its type")
    function = library.bshuf_bitunshuffle if undo else library.bshuf_bitshuffle
    done = function(address, target, size // itemsize, itemsize, block)
    if done < 0:
        raise ValueError(f"bitshuffle reports error {done}")


#: Parameters of Zstandard's encoder and their numbers (zstd.h 1.5.5; the last two are
#: `ZSTD_c_literalCompressionMode` and `ZSTD_c_maxBlockSize` of its experimental section).
_PARAMETERS = {
    "level": 100,
    "window_log": 101,
    "hash_log": 102,
    "chain_log": 103,
    "search_log": 104,
    "min_match": 105,
    "target_length": 106,
    "strategy": 107,
    "literals": 1002,
    "block_bytes": 1015,
}


@functools.cache
def zstd_library() -> ctypes.CDLL | None:
    """Return the library with the Zstandard that HDF5's filter uses, None without it.

    https://facebook.github.io/zstd/zstd_manual.html, "Advanced compression API".
    """
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    return _load(
        "zstd",
        {
            "ZSTD_createCCtx": (pointer, []),
            "ZSTD_freeCCtx": (size, [pointer]),
            "ZSTD_CCtx_setParameter": (size, [pointer, ctypes.c_int, ctypes.c_int]),
            "ZSTD_compress2": (size, [pointer, pointer, size, pointer, size]),
            "ZSTD_isError": (ctypes.c_uint, [size]),
        },
    )


@functools.cache
def has_small_blocks() -> bool:
    """Whether the Zstandard of HDF5's filter can be told the size of its blocks."""
    if zstd_library() is None:
        return False
    try:
        PluginZstd(literals=1, block_bytes=2048)
    except ValueError:
        return False
    return True


class PluginZstd:
    """Compress with the library of HDF5's Zstandard filter; with a level only, exactly as it does.

    Parameters
    ----------
    **parameters
        Values of Zstandard's parameters, as named in :data:`_PARAMETERS`.

    Raises
    ------
    ValueError
        If the library does not know a parameter or refuses its value.
    """

    def __init__(self, **parameters: int) -> None:
        library = zstd_library()
        assert library is not None
        self._library, self._compress = library, library.ZSTD_compress2
        self._context = library.ZSTD_createCCtx()
        if not self._context:
            raise MemoryError("no memory for a Zstandard context")
        for name, value in parameters.items():
            if library.ZSTD_isError(library.ZSTD_CCtx_setParameter(self._context, _PARAMETERS[name], value)):
                raise ValueError(f"Zstandard refuses {name} {value}")

    def compress_into(self, address: int, size: int, target: int, room: int) -> int:
        """Write `size` bytes at an address as one frame to another; return the bytes that it takes.

        Parameters
        ----------
        room
            Bytes that may be written, see `dcorflow.engine.encode.bound`.
        """
        done: int = self._compress(self._context, target, room, address, size)
        if done > room:  # errors are the largest numbers
            raise MemoryError(f"Zstandard cannot compress {size} bytes")
        return done

    def __del__(self) -> None:
        if getattr(self, "_context", None):
            self._library.ZSTD_freeCCtx(self._context)
            self._context = None


class PluginUnzstd:
    """Decompress with the library of HDF5's Zstandard filter, from address to address."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._context = library.ZSTD_createDCtx()
        if not self._context:
            raise MemoryError("no memory for a Zstandard context")

    def decompress_into(self, address: int, size: int, target: int, room: int) -> bool:
        """Decompress `size` bytes; return whether they are a frame that says it holds `room`, and does."""
        library = self._library
        if library.ZSTD_getFrameContentSize(address, size) != room:
            return False
        return bool(library.ZSTD_decompressDCtx(self._context, target, room, address, size) == room)


@functools.cache
def zstd_decoder() -> PluginUnzstd | None:
    """Return the one decoder of this process, for one thread; None without its library."""
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    library = _load(
        "zstd",
        {
            "ZSTD_createDCtx": (pointer, []),
            "ZSTD_decompressDCtx": (size, [pointer, pointer, size, pointer, size]),
            "ZSTD_getFrameContentSize": (ctypes.c_uint64, [pointer, size]),
        },
    )
    return None if library is None else PluginUnzstd(library)
