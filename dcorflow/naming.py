"""Identifiers and file names: readable, stable, and accepted by DCOR."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

_UMLAUTS = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss", "ø": "oe",
     "Ø": "Oe", "å": "aa", "Å": "Aa", "æ": "ae", "Æ": "Ae", "µ": "u", "μ": "u", "ł": "l", "Ł": "L"}
)  # fmt: skip
#: Longest identifier of a dataset or measurement; file systems allow 255 bytes a name.
_LONGEST_SLUG = 80
_LONGEST_NAME, _LONGEST_SUFFIX = 120, 20
#: Names that the acquisition software gives to every measurement: they say nothing alone
#: (dcoraid.gui.panel_uploads.resources_model has `M[0-9]*_data.rtdc`).
_GENERIC = re.compile(r"^(m\d*_)?data\.rtdc$|^m\d+\.rtdc$|^measurement\.rtdc$", re.IGNORECASE)


def short_hash(*parts: str, digits: int = 8) -> str:
    """Return the first hex digits of the SHA256 over `parts`."""
    text = "\n".join(parts).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()[:digits]


def to_ascii(text: str) -> str:
    """Transliterate umlauts and accents; other characters become underscores."""
    text = unicodedata.normalize("NFC", text).translate(_UMLAUTS)
    text = unicodedata.normalize("NFKD", text)
    return "".join(c if c.isascii() else ("" if unicodedata.combining(c) else "_") for c in text)


def slug(path: str) -> str:
    """Return ``[a-z0-9_-]+`` for a path: its parts joined by underscores, at most 80 characters."""
    parts = [re.sub(r"[^a-z0-9]+", "-", to_ascii(p).lower()).strip("-") for p in path.split("/")]
    joined = "_".join(p for p in parts if p) or "data"
    if len(joined) > _LONGEST_SLUG:
        joined = f"{joined[: _LONGEST_SLUG - 9].rstrip('_-')}-{short_hash(path)}"
    return joined


def is_generic(name: str) -> bool:
    """Return True for names such as `M0001_data.rtdc` that every measurement could have."""
    return _GENERIC.match(name) is not None


def resource_name(name: str, folder: str = "") -> str:
    """Return `name` in characters that DCOR takes, its suffix in lower case.

    Parameters
    ----------
    name
        File name.
    folder
        Put in front of generic names, as DCOR-Aid does.
    """
    stem, dot, suffix = name.rpartition(".")
    if not dot:
        stem, suffix = name, ""
    if folder and is_generic(name):
        stem = f"{folder}_{stem}"
    # characters: dcoraid.upload.job.VALID_RESOURCE_CHARS
    clean = re.sub(r"[^a-zA-Z0-9.,\-_+()\[\]]+", "_", to_ascii(stem)).strip("_.") or "file"
    suffix = re.sub(r"[^a-z0-9]+", "", to_ascii(suffix).lower())
    if len(clean) > _LONGEST_NAME:
        clean = f"{clean[: _LONGEST_NAME - 9]}-{short_hash(stem)}"
    return f"{clean}.{suffix[:_LONGEST_SUFFIX]}" if suffix else clean


def unique(name: str, taken: set[str]) -> str:
    """Return `name`, with a number before its suffix where it is taken (case does not count)."""
    if name.lower() not in taken:
        return name
    stem, dot, suffix = name.rpartition(".")
    if not dot:
        stem, suffix = name, ""
    number = 2
    while f"{stem}_{number}{dot}{suffix}".lower() in taken:
        number += 1
    return f"{stem}_{number}{dot}{suffix}"


def dckit_name(metadata: Mapping[str, Any], sha256: str) -> str:
    """Return the name that DCKit gives to a measurement, in characters that DCOR takes.

    Parts that are not known are left out.

    Parameters
    ----------
    metadata
        Values by ``section:key``.
    sha256
        Checksum of the source, hex digits.
    """
    flow = metadata.get("setup:flow rate")
    place = "reservoir"
    if metadata.get("setup:chip region", "channel") == "channel":
        place = f"{flow:.4f}uls" if isinstance(flow, (int, float)) else ""
    run = metadata.get("experiment:run index")
    parts = [
        str(metadata.get("experiment:date", "")),
        f"M{run}" if run is not None else "",
        place,
        str(metadata.get("experiment:sample", "")).strip(),
        sha256[:8],
    ]
    return resource_name("_".join(p.replace("/", "-") for p in parts if p) + ".rtdc")


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts M2 before M10."""
    parts = re.split(r"(\d+)", text)
    return [(0, int(p), p) if at % 2 else (1, 0, p.lower()) for at, p in enumerate(parts) if p]


def is_absolute(path: str) -> bool:
    """Return whether a path of any operating system is absolute."""
    return re.match(r"[A-Za-z]:[\\/]|[\\/]|~", path) is not None


def last_part(path: str) -> str:
    """Return the file name of a path of any operating system."""
    return path.replace("\\", "/").rpartition("/")[2]
