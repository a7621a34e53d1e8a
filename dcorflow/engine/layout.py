"""How a dataset is laid out in the prepared file: type, chunks, filters."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  (registers the Zstandard filter with HDF5)
import numpy as np

from .attributes import has_variable_parts, type_has, why_unreadable
from .digest import has_pointers, is_string
from .errors import UnsupportedDataset
from .filters import BITSHUFFLE, FLETCHER32, SHUFFLE, ZSTD

#: Level that the filter declares; dclab's `is_properly_compressed` asks for at least this
#: (dclab/rtdc_dataset/copier.py).
ZSTD_LEVEL = 5
#: dclab's `RTDCWriter` and h5py aim at chunks of this many bytes.
MEBIBYTE = 2**20
#: Chunks of at least 10 rows may have up to this many bytes.
MAX_CHUNK = 8 * MEBIBYTE
#: Least length of strings that were of variable length in the source, as dclab writes them.
MIN_STRING = 100


#: Number and options of a filter.
Filter = tuple[int, tuple[int, ...]]
#: dclab's filters.
PLAIN_FILTERS: tuple[Filter, ...] = ((ZSTD, (ZSTD_LEVEL,)), (FLETCHER32, ()))


@dataclass(frozen=True)
class Layout:
    """Layout of one dataset in the target.

    Attributes
    ----------
    shape, maxshape, chunks
        Lengths in elements; all have the same number of dimensions, at least one.
    kind
        HDF5 type in the file.
    filters
        Filters in the order of writing, with the options that HDF5 reports.
    """

    shape: tuple[int, ...]
    maxshape: tuple[int | None, ...]
    chunks: tuple[int, ...]
    kind: h5py.h5t.TypeID
    filters: tuple[Filter, ...] = PLAIN_FILTERS


def best_chunks(shape: tuple[int, ...], itemsize: int, limit: int = MEBIBYTE) -> tuple[int, ...]:
    """Return chunks of whole rows with at most about `limit` bytes, clipped to the shape.

    Like dclab's `RTDCWriter.get_best_nd_chunks`, but rows that are larger than `limit` on their
    own are divided, too.
    """
    chunks = [1] * len(shape)
    room = max(1, limit // max(1, itemsize))
    for axis in reversed(range(len(shape))):
        length = max(1, shape[axis])
        chunks[axis] = min(length, room)
        room //= chunks[axis]
        if room <= 1:
            break
    return tuple(chunks)


def dclab_chunks(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return the chunks that `dclab-compress` gives a dataset without any.

    They are those of dclab's `RTDCWriter.get_best_nd_chunks`: whole rows, about 1 MiB, at least
    10 rows. Where that makes very large chunks, :func:`best_chunks` are returned instead.
    """
    row_bytes = math.prod(shape[1:]) * itemsize
    if 0 in shape or 10 * row_bytes > MAX_CHUNK:
        return best_chunks(shape, itemsize)
    return (min(shape[0], max(10, MEBIBYTE // row_bytes)), *shape[1:])


def clip_chunks(chunks: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return `chunks` with no dimension longer than the dataset (and none of length zero)."""
    return tuple(max(1, min(c, n)) for c, n in zip(chunks, shape, strict=True))


def refuse(source: h5py.Dataset) -> None:
    """Raise `UnsupportedDataset` for data in other files and references."""
    plist = source.id.get_create_plist()
    if plist.get_layout() == h5py.h5d.VIRTUAL:
        raise UnsupportedDataset(source.name, "it is virtual: its data are in other files")
    if plist.get_external_count():
        raise UnsupportedDataset(source.name, "its data are stored in external files")
    if type_has(source.id.get_type(), (h5py.h5t.REFERENCE,)):
        raise UnsupportedDataset(source.name, "it holds references into the source file")
    if reason := why_unreadable(source.id.get_type()):
        raise UnsupportedDataset(source.name, reason)


def string_type(length: int, cset: int) -> h5py.h5t.TypeStringID:
    """Return the HDF5 type of NUL-padded strings of `length` bytes with a character set."""
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(length)
    kind.set_strpad(h5py.h5t.STR_NULLPAD)
    kind.set_cset(cset)
    return kind


def is_vlen_string(source: h5py.Dataset) -> bool:
    """Whether the elements of a dataset are variable-length strings."""
    return is_string(source.dtype) and source.dtype.kind == "O"


def resizable(shape: tuple[int, ...]) -> tuple[int | None, ...]:
    """Return a `maxshape` that lets an empty dataset grow where it is empty."""
    return tuple(n or None for n in shape)


def base_layout(source: h5py.Dataset, longest: int = 0) -> Layout:
    """Return the target layout of a dataset before tuning: the chunks dclab would write.

    Parameters
    ----------
    source
        Dataset to be copied.
    longest
        Length in bytes of the longest string, for variable-length strings.
    """
    kind = source.id.get_type().copy()
    if is_vlen_string(source):
        kind = string_type(max(MIN_STRING, longest), kind.get_cset())
    shape = (0,) if source.shape is None else source.shape or (1,)
    scalar = source.shape is None or source.shape == ()
    maxshape = resizable(shape) if scalar or source.chunks is None else source.maxshape
    if 0 in shape:
        maxshape = tuple(m if n else None for n, m in zip(shape, maxshape, strict=True))
    if source.dtype.kind == "O":
        chunks = best_chunks(shape, kind.get_size())
    elif source.chunks is None:
        chunks = dclab_chunks(shape, kind.get_size())
    else:
        chunks = clip_chunks(source.chunks, shape)
    return Layout(shape, maxshape, chunks, kind)


def creation_plist(layout: Layout) -> h5py.h5p.PropDCID:
    """Return a reproducible property list: chunks, filters, no times."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_obj_track_times(False)
    plist.set_layout(h5py.h5d.CHUNKED)
    plist.set_chunk(layout.chunks)
    for number, options in layout.filters:
        if number == SHUFFLE:
            plist.set_shuffle()
        elif number == BITSHUFFLE:
            # The filter itself puts its version and the item size in front of these two.
            plist.set_filter(number, h5py.h5z.FLAG_MANDATORY, (options[3], 0))
        elif number == ZSTD:
            plist.set_filter(number, h5py.h5z.FLAG_OPTIONAL, options)
        # HDF5 2.0 refuses fletcher32 for pointers: it could not cover what they point at.
        elif number == FLETCHER32 and not has_variable_parts(layout.kind):
            plist.set_fletcher32()
    return plist


def create(target: h5py.Group, name: str, layout: Layout, fill: Any = None) -> h5py.Dataset:
    """Create an empty dataset.

    Parameters
    ----------
    target
        Group that gets the dataset.
    name
        Its name in the group.
    layout
        Its layout.
    fill
        NumPy array with one element as fill value, or None for HDF5's default.
    """
    plist = creation_plist(layout)
    if fill is not None:
        plist.set_fill_value(fill)
    limits = tuple(h5py.h5s.UNLIMITED if m is None else m for m in layout.maxshape)
    space = h5py.h5s.create_simple(layout.shape, limits)
    dataset = h5py.h5d.create(target.id, name.encode("utf-8"), layout.kind, space, plist)
    return h5py.Dataset(dataset)


def fill_value(source: h5py.Dataset) -> np.ndarray[Any, Any] | None:
    """Return the fill value that HDF5 gives for missing elements as a 0-d array, None for the default.

    None, too, for types with variable-length parts, arrays, and where HDF5 cannot convert it to what
    h5py reads: HDF5 has to read these datasets.
    """
    plist = source.id.get_create_plist()
    if plist.fill_value_defined() != h5py.h5d.FILL_VALUE_USER_DEFINED:
        return None
    if has_pointers(source.dtype) or source.dtype.subdtype is not None:
        return None
    if plist.get_fill_time() == h5py.h5d.FILL_TIME_NEVER:
        return None
    value = np.zeros((), source.dtype)
    with contextlib.suppress(RuntimeError):
        plist.get_fill_value(value)
        return value
    return None


def decoded_bytes(layout: Layout) -> int:
    """Return the size of the content in the target without compression, in bytes."""
    return math.prod(layout.shape) * layout.kind.get_size()
