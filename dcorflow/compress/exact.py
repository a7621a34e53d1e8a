"""Compare values of HDF5 exactly: type, shape and bytes, where h5py's own view is too coarse."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from dcorflow.engine.attributes import has_variable_parts


def same_attribute(one: h5py.Group | h5py.Dataset, other: h5py.Group | h5py.Dataset, name: str) -> bool:
    """Return whether two objects have the same attribute: type, character set, shape and content.

    Raises
    ------
    OSError, RuntimeError, TypeError, ValueError
        Where HDF5 or h5py cannot read it.
    """
    left, right = (_open(item, name) for item in (one, other))
    spaces = [attribute.get_space() for attribute in (left, right)]
    if left.get_type() != right.get_type() or left.shape != right.shape:
        return False
    if spaces[0].get_simple_extent_type() != spaces[1].get_simple_extent_type():
        return False
    if spaces[0].get_simple_extent_type() == h5py.h5s.NULL:
        return True
    return same_value(_content(left), _content(right))


def read_attribute(item: h5py.Group | h5py.Dataset, name: str) -> Any:
    """Return an attribute as h5py gives it, or its bytes where h5py knows no such type."""
    try:
        return item.attrs[name]
    except TypeError:
        return _content(_open(item, name))


def _open(item: h5py.Group | h5py.Dataset, name: str | bytes) -> h5py.h5a.AttrID:
    return h5py.h5a.open(
        item.id, name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")
    )


def _content(attribute: h5py.h5a.AttrID) -> np.ndarray:
    """Return the stored bytes of an attribute; its values where these stand elsewhere in the file."""
    kind = attribute.get_type()
    if has_variable_parts(kind):
        values = np.zeros(attribute.shape, attribute.dtype)
        attribute.read(values)
    else:
        values = np.zeros(attribute.shape, f"V{kind.get_size()}")
        attribute.read(values, kind)
    return values


def same_value(one: Any, other: Any) -> bool:
    """Return whether two values, as NumPy or h5py gives them, have the same type, shape and bytes."""
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        left, right = np.asarray(one), np.asarray(other)
        if left.shape != right.shape or left.dtype != right.dtype:
            return False
        if not left.dtype.hasobject:
            return left.tobytes() == right.tobytes()
        return all(map(same_value, left.reshape(-1), right.reshape(-1)))
    if isinstance(one, np.void) and isinstance(other, np.void) and one.dtype.names:
        return one.dtype == other.dtype and all(same_value(one[n], other[n]) for n in one.dtype.names)
    if isinstance(one, np.generic) and isinstance(other, np.generic):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    return type(one) is type(other) and bool(one == other)
