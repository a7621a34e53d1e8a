"""Looking into HDF5 files that are not trusted: links, attributes, writers still at work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np

from dcorflow.errors import MeasurementError
from dcorflow.files import escape
from dcorflow.naming import last_part

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
#: Offset of the file consistency flags in superblock versions 2 and 3, and their bits for "open
#: for writing" and "open for single-writer/multiple-reader writing"
#: (HDF5 File Format Specification 3.0, section II.A).
_FLAGS_OFFSET = 11
_FLAGS_WRITING = 0b101
#: Decoded data may be at most this many times the file, or 1 GB: more is a decompression bomb.
_MAX_EXPANSION = 2000
_MAX_DECODED_FLOOR = 1 << 30

#: A measurement with a contour per event has a million objects; groups linked into each other, many more.
_MAX_ENTRIES = 10_000_000
#: Each object takes more bytes than this in a file, a link alone at least as many; so few are always let in.
_LINK_BYTES = 16
_FEWEST_ENTRIES = 1_000

#: The log this project writes into each prepared file.
HISTORY_LOG = "dcorflow-history"

LinkKind = Literal["group", "dataset", "broken", "outside", "cycle", "datatype"]


@dataclass(frozen=True)
class Entry:
    """One member of an HDF5 group: path without leading slash, what it is, bytes when decoded."""

    path: str
    kind: LinkKind
    soft: bool = False
    size: int = 0


def open_source(path: Path, cache: int = 1 << 20) -> h5py.File:
    """Open a measurement read-only and without locks; raise `MeasurementError` in plain words.

    `cache` is what HDF5 may keep of each dataset's decoded chunks, in bytes.
    """
    try:
        return h5py.File(path, "r", locking=False, rdcc_nbytes=cache)
    except FileNotFoundError as error:
        raise MeasurementError("it vanished before it could be read; run again", "environment") from error
    except PermissionError as error:
        raise MeasurementError("no permission to read it; ask its owner", "environment") from error
    except OSError as error:
        raise MeasurementError(_why_unreadable(path, error)) from error


def _why_unreadable(path: Path, error: OSError) -> str:
    size = path.stat().st_size
    if size == 0:
        return "the file is empty (0 bytes): nothing was recorded or the copy failed"
    if superblock_offset(path) is None:
        return "not an HDF5 file, although its name ends in .rtdc: copy it again from the instrument"
    text = str(error)
    if "truncated" in text:
        return (
            f"the file is truncated: its header promises more than the {size} bytes that are "
            "there; copy it again from the instrument"
        )
    return f"damaged HDF5 file, it cannot be opened ({_last_words(text)}); copy it again"


def _last_words(text: str) -> str:
    inner = text[text.find("(") + 1 : text.rfind(")")] if "(" in text else text
    return " ".join(inner.split())[:160]


def superblock_offset(path: Path) -> int | None:
    """Return where the HDF5 superblock starts (0, 512, 1024, ...: a userblock may precede it)."""
    size = path.stat().st_size
    offset = 0
    with path.open("rb") as stream:
        while offset + len(_SIGNATURE) <= size:
            stream.seek(offset)
            if stream.read(len(_SIGNATURE)) == _SIGNATURE:
                return offset
            offset = 512 if offset == 0 else offset * 2
    return None


def is_open_for_writing(path: Path) -> bool:
    """Return True where the superblock says that a program has the file open for writing."""
    offset = superblock_offset(path)
    if offset is None:
        return False
    with path.open("rb") as stream:
        stream.seek(offset)
        head = stream.read(_FLAGS_OFFSET + 1)
    if len(head) <= _FLAGS_OFFSET or head[8] not in (2, 3):
        return False
    return bool(head[_FLAGS_OFFSET] & _FLAGS_WRITING)


def members(group: h5py.Group, limit: int = _MAX_ENTRIES) -> Iterator[Entry]:
    """Yield every object below `group`, depth first, sorted by name; groups before their members.

    Hard links in a circle end, and nothing outside of the file is followed. More than `limit` objects
    are refused: groups that are linked into each other twice multiply with every level.
    """
    for count, entry in enumerate(_below(group.id, "", frozenset())):
        if count >= limit:
            raise MeasurementError(f"more than {limit} objects in one file; refused as not credible")
        if not entry.path.isascii() and any("\ud800" <= c <= "\udfff" for c in entry.path):
            raise MeasurementError(
                f"the name '{escape(entry.path)}' is no UTF-8 text: dclab cannot open it; give it another",
                "unfit",
            )
        yield entry


def _below(group: h5py.h5g.GroupID, path: str, ancestors: frozenset[int]) -> Iterator[Entry]:
    ancestors |= {h5py.h5o.get_info(group).addr}
    for raw in sorted(group):
        name = path + raw.decode("utf-8", "surrogateescape")
        link = group.links.get_info(raw).type
        soft = link == h5py.h5l.TYPE_SOFT
        if not soft and link != h5py.h5l.TYPE_HARD:
            yield Entry(name, "outside")
            continue
        try:
            item = h5py.h5o.open(group, raw)
        except (KeyError, OSError, RuntimeError):
            yield Entry(name, "broken", soft)
            continue
        if isinstance(item, h5py.h5d.DatasetID):
            yield _dataset_entry(item, name, soft)
        elif not isinstance(item, h5py.h5g.GroupID):
            yield Entry(name, "datatype", soft)
        elif h5py.h5f.get_name(item) != h5py.h5f.get_name(group):
            yield Entry(name, "outside", soft)
        elif h5py.h5o.get_info(item).addr in ancestors:
            yield Entry(name, "cycle", soft)
        else:
            yield Entry(name, "group", soft)
            yield from _below(item, f"{name}/", ancestors)


def _dataset_entry(item: h5py.h5d.DatasetID, name: str, soft: bool) -> Entry:
    layout = item.get_create_plist()
    outside = layout.get_layout() == h5py.h5d.VIRTUAL or layout.get_external_count() > 0
    space = item.get_space()
    size = int(space.get_simple_extent_npoints()) * int(item.get_type().get_size())
    return Entry(name, "outside" if outside else "dataset", soft, size)


def refuse_outside_data(h5: h5py.File, size: int) -> list[Entry]:
    """Return all members of a file of `size` bytes; raise where it could publish foreign data.

    Raises
    ------
    MeasurementError
        For external links, virtual or externally stored datasets (they would take data of other
        files along), and for data that would unpack to more than is credible.
    """
    entries = list(members(h5, min(_MAX_ENTRIES, _FEWEST_ENTRIES + size // _LINK_BYTES)))
    for entry in entries:
        if entry.kind == "outside":
            raise MeasurementError(
                f"'{entry.path}' refers to data outside of this file (external link, virtual or "
                "external dataset); refused, since that would publish other files' data. "
                "Write a file that holds its data itself",
                "unfit",
            )
    decoded = sum(e.size for e in entries)
    if decoded > max(_MAX_DECODED_FLOOR, _MAX_EXPANSION * size):
        raise MeasurementError(
            f"its data would unpack to {decoded / 1e9:.0f} GB from a file of {size / 1e6:.1f} MB; "
            "refused as not credible"
        )
    return entries


def text_of(value: object) -> str:
    """Return an attribute's value as text; HDF5 strings may be bytes of any encoding."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def basin_definitions(h5: h5py.File) -> dict[str, dict[str, Any] | list[str]]:
    """Return the basins a file defines by name; of one that is no JSON object, its lines."""
    found: dict[str, dict[str, Any] | list[str]] = {}
    group = h5.get("basins")
    for name in sorted(group) if isinstance(group, h5py.Group) else []:
        try:
            lines = [text_of(line) for line in np.atleast_1d(group[name][()]).tolist()]
        except (KeyError, OSError, ValueError, TypeError, AttributeError):
            continue
        try:
            definition = json.loads(" ".join(lines))
        except (ValueError, RecursionError):
            definition = None
        found[name] = definition if isinstance(definition, dict) else lines
    return found


def basin_names(path: Path) -> list[str]:
    """Return the file names of the basins of type `file` that a prepared file refers to."""
    names = []
    with open_source(path) as h5:
        for definition in basin_definitions(h5).values():
            if isinstance(definition, dict) and definition.get("type") == "file":
                paths = definition.get("paths")
                names += [last_part(str(p)) for p in (paths if isinstance(paths, list) else [])]
    return list(dict.fromkeys(names))
