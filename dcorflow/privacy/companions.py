"""Look for private text in other files that are published: text, notebooks, pictures, documents."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dcorflow.errors import explain_os_error
from dcorflow.privacy.document import Document, Finding
from dcorflow.privacy.kinds import own
from dcorflow.privacy.scan import UNSEEN

#: Bytes that are read of one file.
_MOST = 4 << 20
_PICTURES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
#: Kind of what a camera notes about people and places.
EXIF = "exif"
#: Tags of pictures that tell of people, places and devices (Exif 2.32, tables 4, 8 and 15).
_TELLING = {
    "Artist",
    "Author",  # of PNG
    "CameraOwnerName",
    "Copyright",
    "HostComputer",
    "XPAuthor",
    "BodySerialNumber",
    "GPSInfo",
}
#: Outputs of notebooks that are no text.
_NO_TEXT = re.compile("^(image|audio|video|application/(pdf|octet-stream))(?!/svg)")
_PDF_FIELD = re.compile(rb"/(Author|Creator|Title|Subject|Keywords)\s*\(((?:\\.|[^\\)]){1,400})\)")


def scan_companion(path: Path, private: Sequence[Sequence[str]]) -> list[Finding]:
    """Return the private text in a file of any type; a file that cannot be looked into says so.

    Parameters
    ----------
    path
        The file.
    private
        Own patterns as pairs of kind and regular expression.
    """
    document = Document()
    try:
        with path.open("rb") as stream:
            raw = stream.read(_MOST + 1)
        if len(raw) > _MOST:
            document.findings.append(Finding("", UNSEEN, f"only the first {_MOST >> 20} MB were looked at"))
        suffix = path.suffix.lower()
        if suffix in _PICTURES:
            _add_picture(document, path)
        elif suffix == ".pdf":
            _add_pdf(document, raw)
        elif suffix != ".ipynb" or not _add_notebook(document, raw):
            _add_text(document, raw[:_MOST])
    except OSError as error:
        document.findings.append(Finding("", UNSEEN, explain_os_error(error) or "it cannot be read"))
    return document.search(own(private))


def _add_text(document: Document, raw: bytes) -> None:
    text = _decode(raw)
    if text is None:
        document.findings.append(Finding("", UNSEEN, "no text that could be looked into"))
    else:
        document.add("line", text.replace("\r\n", "\n").replace("\r", "\n"), numbered=True)


def _decode(raw: bytes) -> str | None:
    """Return the text of a file: UTF-8, UTF-16 with its mark, or Windows-1252; None for other data."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16", "replace")
    if b"\0" in raw:
        return None
    try:
        return codecs.getincrementaldecoder("utf-8-sig")().decode(raw)  # may end within a character
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")


def _add_notebook(document: Document, raw: bytes) -> bool:
    """Add cells and outputs of a notebook; return False where it is none."""
    try:
        cells = json.loads(raw)["cells"]
        for number, cell in enumerate(cells, 1):
            document.add(f"cell {number}", _joined(cell.get("source", "")), numbered=True)
            for output in cell.get("outputs", []):
                place = f"cell {number} output"
                for kind, data in {**output, **output.get("data", {})}.items():
                    if kind != "data" and not _NO_TEXT.match(kind):
                        document.add(place, _joined(data), numbered=True)
            for value in _texts(cell.get("metadata", {})):
                document.add(f"cell {number} metadata", value)
        for value in _texts(json.loads(raw).get("metadata", {})):
            document.add("metadata", value)
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
    return True


def _joined(data: Any) -> str:
    """Return the text of a source or output, which notebooks store in lines or whole."""
    if isinstance(data, list) and all(isinstance(line, str) for line in data):
        return "".join(data)
    return "\n".join(_texts(data))


def _texts(data: Any) -> list[str]:
    if isinstance(data, str):
        return [data]
    values = data.values() if isinstance(data, dict) else data if isinstance(data, list) else []
    return [text for value in values for text in _texts(value)]


def _add_picture(document: Document, path: Path) -> None:
    """Add what a picture says about itself: EXIF, text chunks, TIFF tags."""
    from PIL import ExifTags, Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            tags: dict[str, Any] = {str(k): v for k, v in picture.info.items()}
            exif = picture.getexif()
            for block in (exif, exif.get_ifd(ExifTags.IFD.Exif)):
                tags |= {ExifTags.TAGS.get(k, str(k)): v for k, v in block.items()}
            places = exif.get_ifd(ExifTags.IFD.GPSInfo)
            if places:
                tags["GPSInfo"] = ", ".join(ExifTags.GPSTAGS.get(k, str(k)) for k in sorted(places))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        document.findings.append(Finding("", UNSEEN, "a picture that cannot be opened"))
        return
    for name, value in tags.items():
        text = _text_of_tag(name, value) if isinstance(value, bytes) else str(value)
        text = text.replace("\0", "").strip()
        if name in _TELLING and text:
            document.findings.append(Finding(f"EXIF {name}", EXIF, text))
        elif isinstance(value, (str, bytes)) and name not in ("exif", "icc_profile", "photoshop"):
            document.add(f"EXIF {name}", f"{name} = {text}")


def _text_of_tag(name: str, value: bytes) -> str:
    """Return the text of a tag that holds bytes: those of Windows are UTF-16, comments tell their code."""
    if name.startswith("XP"):
        return value.decode("utf-16-le", "replace")
    if name == "UserComment":  # Exif 2.32, 4.6.5
        code, value = value[:8], value[8:]
        if code.startswith(b"UNICODE"):
            wide = "utf-16-be" if value[:1] == b"\0" else "utf-16-le"
            return value.decode(wide, "replace").removeprefix("\ufeff")
        value = value.replace(b"\0", b"")
    return _decode(value) or ""


def _add_pdf(document: Document, raw: bytes) -> None:
    """Add what a PDF document says about itself in plain text; its pages are not looked into."""
    for name, value in _PDF_FIELD.findall(raw):
        document.add(f"PDF {name.decode('ascii')}", value.decode("cp1252", "replace"))
    document.findings.append(Finding("", UNSEEN, "the pages of PDF documents are not looked into"))
