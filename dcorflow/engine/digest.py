"""A digest of a dataset's content that does not depend on how it is stored.

The digest is written as ``xxh3-128:<32 hexadecimal digits>``: XXH3 with 128 bits and seed 0
(https://github.com/Cyan4973/xxHash) over a header and the content.

Header
    UTF-8 JSON with sorted keys and without spaces, followed by one zero byte::

        {"item":<item>,"shape":[<length>,...]}

    `<item>` is one of

    - a number: NumPy's little-endian type string, such as ``"|u1"``, ``"<f4"``, ``"<c8"``
    - a boolean (HDF5: enumeration of FALSE and TRUE over int8): ``"|b1"``
    - an enumeration: ``{"base":<item>,"enum":[[<name>,<value>],...]}``, ordered by value and name
    - a string of any length, padding and character set: ``"string"``
    - opaque bytes: ``"|V<size>"``
    - a compound: ``{"fields":[[<name>,<item>],...]}`` in the order of the file
    - an array inside a compound: ``{"base":<item>,"dims":[<length>,...]}``
    - a fixed-length string inside a compound: ``"|S<size>"``
    - a variable-length array: ``{"ragged":<item>}``

    The shape of a scalar (0-d) dataset is normalized to ``[1]``, that of a dataset with a null
    dataspace to ``[0]``: the engine writes them like this, and copy and source agree.

Content
    All elements in C order. Numbers are little-endian, compounds packed without padding.
    A string is its length in bytes (unsigned 64-bit, little-endian) and its bytes without the
    padding (everything from a terminating NUL on, trailing NULs, or trailing spaces, depending
    on the type), so a variable-length log and its fixed-length copy have the same digest.
    A variable-length array is its number of elements (same format) and its elements.
    Opaque bytes and fixed-length strings in a compound are taken as they are.
    Elements of missing chunks count with the fill value.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
import xxhash

from .errors import UnsupportedDataset

#: Bytes of decoded content read at once by :func:`digest_plain`.
BLOCK_BYTES = 4 * 2**20


def describe(dtype: np.dtype[Any], *, top: bool = True) -> Any:
    """Return the `<item>` of the header for a type as h5py gives it.

    Parameters
    ----------
    dtype
        Type of a dataset or a part of one, with h5py's metadata.
    top
        Whether this is the type of whole elements (not of a compound's field).

    Raises
    ------
    TypeError
        For references and types unknown to h5py.
    """
    if h5py.check_ref_dtype(dtype) is not None:
        raise TypeError("it holds references, which mean nothing in another file")
    if dtype.subdtype is not None:
        base, dims = dtype.subdtype
        return {"base": describe(base, top=False), "dims": list(dims)}
    if dtype.names is not None:
        fields = [[name, describe(dtype[name], top=False)] for name in dtype.names]
        return {"fields": fields}
    string = h5py.check_string_dtype(dtype)
    if string is not None:
        return "string" if top or string.length is None else f"|S{string.length}"
    ragged = h5py.check_vlen_dtype(dtype)
    if ragged is not None:
        return {"ragged": describe(np.dtype(ragged), top=False)}
    members = h5py.check_enum_dtype(dtype)
    if members is not None:
        order = sorted(members.items(), key=lambda member: (int(member[1]), member[0]))
        base_item = np.dtype(dtype.str).newbyteorder("<").str
        return {"base": base_item, "enum": [[name, int(value)] for name, value in order]}
    if dtype.kind in "biufcVmM":
        return dtype.newbyteorder("<").str
    raise TypeError(f"elements of type {dtype} are not known")


def pack_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return `dtype` in little-endian byte order, compounds without padding."""
    if dtype.subdtype is not None:
        base, dims = dtype.subdtype
        return np.dtype((pack_dtype(base), dims))
    if dtype.names is not None:
        return np.dtype([(name, pack_dtype(dtype[name])) for name in dtype.names])
    return np.dtype(dtype.str).newbyteorder("<") if dtype.kind != "O" else dtype


def is_string(dtype: np.dtype[Any]) -> bool:
    """Whether elements of `dtype` are strings, of fixed or variable length."""
    return h5py.check_string_dtype(dtype) is not None


def is_opaque(dtype: np.dtype[Any]) -> bool:
    """Whether elements of `dtype` are bytes without meaning to HDF5."""
    return dtype.kind == "V" and dtype.names is None and dtype.subdtype is None


def has_pointers(dtype: np.dtype[Any]) -> bool:
    """Whether elements of `dtype` hold variable-length parts, stored outside the chunks."""
    if dtype.subdtype is not None:
        return has_pointers(dtype.subdtype[0])
    if dtype.names is not None:
        return any(has_pointers(dtype[name]) for name in dtype.names)
    return dtype.kind == "O"


class Canonical:
    """Brings elements of one type into the form that the digest takes.

    Parameters
    ----------
    dtype
        Type of the elements as h5py gives it.

    Attributes
    ----------
    direct
        Whether the bytes of elements in memory are that form.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype
        self._string = is_string(dtype)
        self._pointers = has_pointers(dtype)
        self._packed = pack_dtype(dtype)
        self.direct = not self._string and not self._pointers and self._packed == dtype

    def __call__(self, block: np.ndarray[Any, Any]) -> Any:
        """Return the bytes of a block of elements, any shape."""
        if self._string:
            return b"".join(map(pack_string, block.reshape(-1).tolist()))
        if self._pointers:
            return b"".join(pack_element(value, self._dtype) for value in block.reshape(-1))
        packed = block.astype(self._packed, order="C", copy=False)
        return packed.reshape(-1).view(np.uint8)

    def of_bytes(self, data: np.ndarray[Any, Any]) -> Any:
        """Return the same of elements that are given as the bytes they take in memory."""
        return data if self.direct else self(data.view(self._dtype))


class Hasher:
    """Take the digest of a dataset's content, fed block by block in C order.

    Parameters
    ----------
    dtype
        Type of the elements as h5py gives it.
    shape
        Shape of the whole dataset; None for a null dataspace.

    Raises
    ------
    TypeError
        For types without a digest, see :func:`describe`.
    """

    def __init__(self, dtype: np.dtype[Any], shape: tuple[int, ...] | None) -> None:
        lengths = [0] if shape is None else [int(n) for n in shape] or [1]
        header = {"item": describe(dtype), "shape": lengths}
        text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        self._xxh = xxhash.xxh3_128(text.encode("utf-8", "surrogateescape") + b"\0")
        self.canonical = Canonical(dtype)

    def update(self, block: np.ndarray[Any, Any]) -> None:
        """Add a block of elements of the dataset's type, any shape, in C order."""
        self._xxh.update(self.canonical(block))

    def update_bytes(self, data: Any) -> None:
        """Add content that already has its canonical form."""
        self._xxh.update(data)

    def digest(self) -> str:
        """Return the digest of header and content so far."""
        return f"xxh3-128:{self._xxh.hexdigest()}"


def pack_string(value: str | bytes) -> bytes:
    """Return one string with its length in front, as the digest takes it."""
    data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else bytes(value)
    return struct.pack("<Q", len(data)) + data


def pack_element(value: Any, dtype: np.dtype[Any]) -> bytes:
    """Return one element with variable-length parts, as the digest takes it."""
    if not has_pointers(dtype):
        return np.asarray(value).astype(pack_dtype(dtype)).tobytes()
    if dtype.subdtype is not None:
        parts = np.asarray(value, dtype=object).reshape(-1)
        return b"".join(pack_element(part, dtype.subdtype[0]) for part in parts)
    if dtype.names is not None:
        return b"".join(pack_element(value[name], dtype[name]) for name in dtype.names)
    if is_string(dtype):
        return pack_string(value if isinstance(value, str | bytes) else b"")
    item = np.dtype(h5py.check_vlen_dtype(dtype))
    parts = np.asarray(value if isinstance(value, np.ndarray) else [], dtype=item)
    length = struct.pack("<Q", len(parts))
    if has_pointers(item):
        return length + b"".join(pack_element(part, item) for part in parts)
    return length + parts.astype(pack_dtype(item)).tobytes()


def iter_blocks(
    shape: tuple[int, ...], itemsize: int, limit: int, step: int = 1
) -> Iterator[tuple[slice, ...]]:
    """Yield the parts of an array in C order, each contiguous and not above `limit` bytes.

    Parameters
    ----------
    shape
        Shape of the array, at least one dimension.
    itemsize
        Bytes per element.
    limit
        Upper bound for the size of a part in bytes (single elements may be larger).
    step
        Parts begin at multiples of this along the first dimension, where `limit` allows it.
    """
    if 0 in shape:
        return
    axis = next(
        (d for d in range(len(shape)) if math.prod(shape[d + 1 :]) * itemsize <= limit),
        len(shape) - 1,
    )
    rows = max(1, limit // (math.prod(shape[axis + 1 :]) * itemsize))
    if axis == 0 and rows > step:
        rows -= rows % step
    rest = tuple(slice(0, n) for n in shape[axis + 1 :])
    for lead in np.ndindex(*shape[:axis]):
        fixed = tuple(slice(i, i + 1) for i in lead)
        for start in range(0, shape[axis], rows):
            yield (*fixed, slice(start, min(start + rows, shape[axis])), *rest)


def digest_plain(dataset: h5py.Dataset) -> str:
    """Return the digest of a dataset, read through plain h5py in bounded memory.

    Parameters
    ----------
    dataset
        Dataset of any shape, type and storage.

    Raises
    ------
    UnsupportedDataset
        For references and types without a digest.
    OSError
        If HDF5 cannot read a part of it.
    """
    try:
        hasher = Hasher(dataset.dtype, dataset.shape)
    except (TypeError, ValueError) as error:
        raise UnsupportedDataset(dataset.name, str(error)) from error
    if dataset.shape is None:
        return hasher.digest()
    if dataset.shape == ():
        one = np.zeros((1,), dataset.dtype)
        one[0] = dataset[()] if _is_unpacked(dataset.dtype) else _read(dataset, ())
        hasher.update(one)
        return hasher.digest()
    step = dataset.chunks[0] if dataset.chunks else 1
    for block in iter_blocks(dataset.shape, dataset.dtype.itemsize, BLOCK_BYTES, step):
        hasher.update(dataset[block] if _is_unpacked(dataset.dtype) else _read(dataset, block))
    return hasher.digest()


def _is_unpacked(dtype: np.dtype[Any]) -> bool:
    """Whether h5py makes other arrays of elements than one with an element for each."""
    return has_pointers(dtype) or dtype.subdtype is not None


def _read(dataset: h5py.Dataset, block: tuple[slice, ...]) -> np.ndarray[Any, Any]:
    """Return a part of a dataset as h5py gives it, opaque bytes as they are stored."""
    shape = tuple(s.stop - s.start for s in block)
    space = dataset.id.get_space()
    if block:
        space.select_hyperslab(tuple(s.start for s in block), shape)
    values = np.zeros(shape, dataset.dtype)
    kind = dataset.id.get_type() if is_opaque(dataset.dtype) else None  # h5py does not ask for its tag
    dataset.id.read(h5py.h5s.create_simple(shape or (1,)), space, values, kind)
    return values
