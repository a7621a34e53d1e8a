"""HDF5 files that remember what was read of them, for code that reads the same again and again.

dclab's integrity check opens each object of a small file about ten times, and reads logs line by
line, each time through all of h5py: most of the time of a check. `cached_reading` lets it see files
whose groups hand out each object once, and that keep attributes and short columns in memory.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

#: Longest column that is read at once when one line of it is asked for, in bytes.
_COLUMN = 1 << 20
_NUMBERS = (h5py.h5t.TypeIntegerID, h5py.h5t.TypeFloatID)
_TEXT = h5py.string_dtype()
#: `_TEXT` as HDF5 writes it to memory; what h5py makes anew for every attribute.
_TEXT_IN_MEMORY = h5py.h5t.py_create(_TEXT)


class _Attributes(h5py.AttributeManager):
    """Attributes, each read once."""

    def __init__(self, parent: h5py.HLObject) -> None:
        super().__init__(parent)
        self._names = list(super().__iter__())
        self._values: dict[str, Any] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            value = self._scalar(name)
            self._values[name] = super().__getitem__(name) if value is None else value
        return self._values[name]

    def _scalar(self, name: str) -> Any:
        """Return a single number or text of any length; None for all else. These are most of them."""
        attribute = h5py.h5a.open(self._id, self._e(name))
        kind = attribute.get_type()
        number = type(kind) in _NUMBERS
        text = type(kind) is h5py.h5t.TypeStringID and kind.is_variable_str()
        if not (number or text) or attribute.shape != ():
            return None
        value = np.zeros((), kind.dtype if number else _TEXT)
        attribute.read(value, kind if number else _TEXT_IN_MEMORY)
        plain: Any = value[()]
        return plain if number else plain.decode("utf-8", "surrogateescape")


class _Remembering:
    """What files, groups and datasets have in common; goes before a class of h5py."""

    _attributes: _Attributes | None = None
    _file: h5py.File | None = None

    @property
    def attrs(self) -> _Attributes:
        """Attributes of this object."""
        if self._attributes is None:
            self._attributes = _Attributes(self)
        return self._attributes

    @property
    def file(self) -> h5py.File:
        """File that this object is stored in."""
        if self._file is None:
            self._file = super().file  # type: ignore[misc]
        return self._file


class _Members(_Remembering):
    """Objects of a group, each opened once."""

    def __getitem__(self, name: Any) -> Any:
        known: dict[Any, Any] = self.__dict__.setdefault("_known", {})
        if name not in known:
            known[name] = _remembering(super().__getitem__(name))  # type: ignore[misc]
        return known[name]


class _Group(_Members, h5py.Group):
    pass


class _Dataset(_Remembering, h5py.Dataset):
    """A dataset; a short column is read at once when a line of it is asked for."""

    _column: Any = None

    def __getitem__(self, where: Any, new_dtype: Any = None) -> Any:
        line = isinstance(where, int) and new_dtype is None
        if line and self._column is None and self.ndim == 1 and self.nbytes <= _COLUMN:
            self._column = super().__getitem__(())
        if line and self._column is not None:
            return self._column[where]
        return super().__getitem__(where, new_dtype)


class CachedFile(_Members, h5py.File):
    """A file, open for reading, that remembers what was read of it until it is closed."""

    @property
    def file(self) -> h5py.File:
        """This file."""
        return self

    def close(self) -> None:
        """Forget everything, since closing a file ends the objects in it, and close."""
        self.__dict__.pop("_known", None)
        self._attributes = None
        super().close()


def _remembering(item: Any) -> Any:
    if type(item) is h5py.Dataset:
        return _Dataset(item.id, readonly=True)
    return _Group(item.id) if type(item) is h5py.Group else item


@contextlib.contextmanager
def cached_reading(*modules: types.ModuleType) -> Iterator[None]:
    """Let `modules` open each `h5py.File` as a `CachedFile`; for files that are only read.

    Modules that do not know h5py by that name stay as they are.
    """
    stand_in = types.ModuleType("h5py")
    vars(stand_in).update({**vars(h5py), "File": CachedFile})
    using = [module for module in modules if vars(module).get("h5py") is h5py]
    try:
        for module in using:
            module.h5py = stand_in  # type: ignore[attr-defined]
        yield
    finally:
        for module in using:
            module.h5py = h5py  # type: ignore[attr-defined]
