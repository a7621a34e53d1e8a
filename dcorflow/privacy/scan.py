"""Look for private text in a prepared file: attributes, logs, tables, basins, names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dcorflow.hdf5 import HISTORY_LOG, basin_definitions, open_source
from dcorflow.naming import is_absolute
from dcorflow.privacy.document import Document, Finding, join_findings
from dcorflow.privacy.kinds import BASIN, own
from dcorflow.privacy.redact import decode

#: Bytes of text that are read from one dataset; what is beyond is said to be unseen.
_MOST = 16 << 20
#: Kind of what could not be looked into: it keeps nothing back, but a person should know.
UNSEEN = "unseen"
#: Attributes that every feature has; they hold numbers.
_NUMBERS = (b"min", b"max", b"mean")


#: What an edit of metadata writes anew, beside the attributes of the file.
_HISTORY = f"logs/{HISTORY_LOG}"


def scan_file(path: Path, private: Sequence[Sequence[str]]) -> list[Finding]:
    """Return the private text in a whole measurement; parameters and errors as those of `scan_body`."""
    with open_source(path) as h5:
        tail = tail_text(h5)
    return join_findings(tail.search(own(private)), scan_body(path, private))


def tail_text(h5: h5py.File) -> Document:
    """Return the text in what an edit of metadata changes: attributes of the file, and history."""
    document = Document()
    root = h5py.h5o.open(h5.id, b"/")
    for name in h5.attrs:
        try:
            value = h5.attrs[name]
        except (OSError, TypeError, ValueError):  # a type that h5py does not know
            _add_attribute(document, "", root, name if isinstance(name, bytes) else name.encode())
        else:
            _add_value(document, name.decode("utf-8", "replace") if isinstance(name, bytes) else name, value)
    if _HISTORY in h5:
        _add_dataset(document, _HISTORY, h5[_HISTORY])
    return document


def scan_body(path: Path, private: Sequence[Sequence[str]]) -> list[Finding]:
    """Return the private text in a measurement but for what `tail_text` holds.

    Parameters
    ----------
    path
        A prepared `.rtdc` file.
    private
        Own patterns as pairs of kind and regular expression.

    Raises
    ------
    MeasurementError
        Where the file cannot be opened.
    """
    document = Document()
    with open_source(path) as h5:
        _add_members(document, "", h5py.h5o.open(h5.id, b"/"))
        _add_basins(document, h5)
        front = h5.userblock_size
    if front:
        with path.open("rb") as stream:
            document.add("userblock", decode(stream.read(min(front, _MOST)))[0])
    return document.search(own(private))


def _add_object(document: Document, path: str, item: h5py.h5g.GroupID | h5py.h5d.DatasetID) -> None:
    """Add an object and what is below it; a prepared file holds no links."""
    _add_attributes(document, path, item)
    if isinstance(item, h5py.h5d.DatasetID):
        if path != _HISTORY and _holds_text(item.get_type()):
            _add_dataset(document, path, h5py.Dataset(item))
    elif isinstance(item, h5py.h5g.GroupID):
        _add_members(document, path, item)


def _add_members(document: Document, path: str, group: h5py.h5g.GroupID) -> None:
    for raw in group:
        name = f"{path}/{raw.decode('utf-8', 'replace')}".lstrip("/")
        document.add(name, name)
        _add_object(document, name, h5py.h5o.open(group, raw))


def _add_attributes(document: Document, path: str, item: h5py.h5g.GroupID | h5py.h5d.DatasetID) -> None:
    """Add text attributes as `name = value`, so that the name tells what the value is."""
    count = h5py.h5a.get_num_attrs(item)
    if count == 0 or (count == len(_NUMBERS) and all(h5py.h5a.exists(item, n) for n in _NUMBERS)):
        return
    names: list[bytes] = []
    h5py.h5a.iterate(item, names.append)
    for raw in names:
        if raw not in _NUMBERS:
            _add_attribute(document, path, item, raw)


def _add_attribute(
    document: Document, path: str, item: h5py.h5g.GroupID | h5py.h5d.DatasetID, raw: bytes
) -> None:
    name = raw.decode("utf-8", "replace")
    attribute = h5py.h5a.open(item, raw)
    if attribute.get_type().get_class() not in (h5py.h5t.STRING, h5py.h5t.VLEN):
        document.add(f"{path}@{name}", name)
        return
    if attribute.get_space().get_simple_extent_type() == h5py.h5s.NULL:
        return
    values = np.zeros(attribute.shape, attribute.dtype)
    attribute.read(values)
    for value in values.reshape(-1).tolist():
        document.add(f"{path}@{name}", f"{name} = {_text(value)}")


def _add_value(document: Document, name: str, value: Any) -> None:
    """Add an attribute of the file that h5py has read."""
    if isinstance(value, str | bytes):
        values = [value]
    elif isinstance(value, np.ndarray | h5py.Empty) and value.dtype.kind in "SO":
        values = value.reshape(-1).tolist() if isinstance(value, np.ndarray) else []
    else:
        document.add(f"@{name}", name)
        return
    for text in values:
        document.add(f"@{name}", f"{name} = {_text(text)}")


def _holds_text(kind: h5py.h5t.TypeID) -> bool:
    if isinstance(kind, h5py.h5t.TypeCompoundID):
        return any(_holds_text(kind.get_member_type(i)) for i in range(kind.get_nmembers()))
    return kind.get_class() in (h5py.h5t.STRING, h5py.h5t.VLEN, h5py.h5t.OPAQUE)


def _add_dataset(document: Document, path: str, dataset: h5py.Dataset) -> None:
    """Add the lines of a text dataset, or the text columns of a table."""
    if path.startswith("basins/") or dataset.shape is None or not dataset.size:
        return
    rows: np.ndarray = np.atleast_1d(dataset[()] if dataset.nbytes <= _MOST else _first(dataset))
    if dataset.nbytes > _MOST:
        document.findings.append(Finding(path, UNSEEN, f"only the first {_MOST >> 20} MB were looked at"))
    if rows.dtype.names is None:
        document.add(path, _lines(rows.reshape(-1).tolist()), numbered=True)
        return
    for name in rows.dtype.names:
        if rows.dtype[name].kind in "SOV":
            lines = [f"{name} = {_line(value)}" for value in rows[name].reshape(-1).tolist()]
            document.add(f"{path}[{name}]", "\n".join(lines), numbered=True)


def _first(dataset: h5py.Dataset) -> np.ndarray:
    count = max(1, _MOST * len(dataset) // dataset.nbytes) if dataset.shape else 1
    first: np.ndarray = dataset[:count]
    return first


def _add_basins(document: Document, h5: h5py.File) -> None:
    """Add the definitions of basins value by value, and the absolute paths among them."""
    for name, definition in basin_definitions(h5).items():
        place = f"basins/{name}"
        if isinstance(definition, list):
            document.add(place, "\n".join(definition), numbered=True)
            continue
        paths = definition.get("paths") if definition.get("type") == "file" else None
        for key, value in definition.items():
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str):
                    document.add(f"{place} {key}", text, path=value is not paths)
        for path in paths if isinstance(paths, list) else []:
            if isinstance(path, str) and is_absolute(path):
                document.findings.append(Finding(f"{place} paths", BASIN, path))


def _lines(values: list[Any]) -> str:
    """Return texts as lines, one line each."""
    if values and all(type(value) is bytes for value in values):
        joined: bytes = b"\n".join(values)
        if joined.isascii() and b"\0" not in joined and joined.count(b"\n") < len(values):
            return joined.decode("ascii")  # nearly every log
    return "\n".join(map(_line, values))


def _line(value: object) -> str:
    return _text(value).replace("\n", " ")


def _text(value: object) -> str:
    if isinstance(value, str):  # h5py keeps bytes that are no UTF-8 in it
        value = value.encode("utf-8", "surrogateescape")
    if isinstance(value, bytes):
        return decode(value)[0].rstrip("\0")
    return str(value)
