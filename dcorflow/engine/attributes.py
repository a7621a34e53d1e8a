"""Copy attributes with their exact types."""

from __future__ import annotations

from collections.abc import Callable

import h5py
import numpy as np

from .errors import UnsupportedDataset

#: Gets name and text of an attribute, and returns the text that the copy shall have.
TextChange = Callable[[str, bytes], bytes]


def type_has(kind: h5py.h5t.TypeID, wanted: tuple[int, ...]) -> bool:
    """Whether an HDF5 type or any part of it belongs to one of the classes `wanted`."""
    if kind.get_class() in wanted:
        return True
    if isinstance(kind, h5py.h5t.TypeCompoundID):
        parts = range(kind.get_nmembers())
        return any(type_has(kind.get_member_type(i), wanted) for i in parts)
    if isinstance(kind, h5py.h5t.TypeArrayID | h5py.h5t.TypeVlenID):
        return type_has(kind.get_super(), wanted)
    return False


def has_variable_parts(kind: h5py.h5t.TypeID) -> bool:
    """Whether elements of an HDF5 type hold pointers (variable-length strings or arrays)."""
    if isinstance(kind, h5py.h5t.TypeStringID):
        return bool(kind.is_variable_str())
    if isinstance(kind, h5py.h5t.TypeCompoundID):
        return any(has_variable_parts(kind.get_member_type(i)) for i in range(kind.get_nmembers()))
    if isinstance(kind, h5py.h5t.TypeArrayID):
        return has_variable_parts(kind.get_super())
    return kind.get_class() == h5py.h5t.VLEN


def why_unreadable(kind: h5py.h5t.TypeID) -> str:
    """Return why h5py cannot read elements of a type, or reads them wrongly; "" where it can.

    The bytes of variable-length parts stand elsewhere in the file: these cannot be copied unread.
    """
    if not has_variable_parts(kind) or isinstance(kind, h5py.h5t.TypeStringID):
        return ""
    if isinstance(kind, h5py.h5t.TypeCompoundID):
        parts = [kind.get_member_type(i) for i in range(kind.get_nmembers())]
        return next(filter(None, map(why_unreadable, parts)), "")
    inner = kind.get_super()
    if has_variable_parts(inner):
        return "it holds lists or texts of variable length within each other"
    if _is_foreign(inner):
        return "it holds lists of variable length in another byte order than this machine's"
    return ""


def _is_foreign(kind: h5py.h5t.TypeID) -> bool:
    """Whether numbers of a type have another byte order than this machine's."""
    if isinstance(kind, h5py.h5t.TypeCompoundID):
        return any(_is_foreign(kind.get_member_type(i)) for i in range(kind.get_nmembers()))
    if isinstance(kind, h5py.h5t.TypeArrayID | h5py.h5t.TypeEnumID):
        return _is_foreign(kind.get_super())
    if not isinstance(kind, h5py.h5t.TypeIntegerID | h5py.h5t.TypeFloatID):
        return False
    return bool(kind.get_order() != h5py.h5t.NATIVE_INT64.get_order())


def copy_attributes(
    source: h5py.Group | h5py.Dataset,
    target: h5py.Group | h5py.Dataset,
    change: TextChange | None = None,
) -> list[str]:
    """Copy all attributes byte for byte: type, character set, padding and shape stay.

    Where `change` gives another text, only that is ever written: no trace of the old one stays in
    the file.

    Returns
    -------
    list of str
        The attributes left out: references point into the source and mean nothing in another file.

    Raises
    ------
    UnsupportedDataset
        For an attribute of a type that h5py cannot read.
    """
    left_out = []
    for index in range(h5py.h5a.get_num_attrs(source.id)):
        attribute = h5py.h5a.open(source.id, index=index, index_type=h5py.h5.INDEX_NAME)
        kind, space, name = attribute.get_type().copy(), attribute.get_space(), attribute.name
        if type_has(kind, (h5py.h5t.REFERENCE,)):
            left_out.append(name.decode("utf-8", "replace") if isinstance(name, bytes) else name)
            continue
        if reason := why_unreadable(kind):
            shown = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
            raise UnsupportedDataset(source.name, f"attribute '{shown}': {reason}")
        text = isinstance(kind, h5py.h5t.TypeStringID)
        if change is not None and text and _copy_changed(attribute, target, change):
            continue
        copied = h5py.h5a.create(target.id, name, kind, space)
        if space.get_simple_extent_type() == h5py.h5s.NULL:
            continue
        if has_variable_parts(kind):
            values = np.zeros(attribute.shape, attribute.dtype)
            attribute.read(values)
            copied.write(values)
        else:
            raw = np.zeros(attribute.shape, f"V{kind.get_size()}")
            attribute.read(raw, kind)
            copied.write(raw, kind)
    return left_out


def _copy_changed(attribute: h5py.h5a.AttrID, target: h5py.Group | h5py.Dataset, change: TextChange) -> bool:
    """Copy a text attribute with another text; return False, and do nothing, where it stays the same."""
    kind, space = attribute.get_type().copy(), attribute.get_space()
    if space.get_simple_extent_type() == h5py.h5s.NULL:
        return False
    values = np.zeros(attribute.shape, attribute.dtype)
    attribute.read(values)
    name = attribute.name.decode("utf-8", "replace")
    old = [
        v.encode("utf-8", "surrogateescape") if isinstance(v, str) else bytes(v) for v in values.reshape(-1)
    ]
    new = [change(name, text) for text in old]
    if new == old:
        return False
    if kind.is_variable_str():
        written: np.ndarray = np.empty(values.shape, attribute.dtype)
        written.reshape(-1)[:] = new
        h5py.h5a.create(target.id, attribute.name, kind, space).write(written)
        return True
    size = max(map(len, new)) + 1
    pad = b" " if kind.get_strpad() == h5py.h5t.STR_SPACEPAD else b"\0"
    kind.set_size(size)
    written = np.array([text.ljust(size, pad) for text in new], f"V{size}").reshape(values.shape)
    h5py.h5a.create(target.id, attribute.name, kind, space).write(written, kind)
    return True
