"""Tables that people fill in: read as text, whatever program saved them."""

from __future__ import annotations

import csv
import datetime
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dcorflow.errors import UsageError

#: Suffixes of tables that are text, and of spreadsheets.
TEXT, SPREADSHEETS = (".tsv", ".csv", ".txt"), (".xlsx", ".ods")
#: Largest table that is read (bytes): 100,000 rows of 50 columns are a tenth of it.
_LARGEST = 1 << 30


@dataclass(frozen=True)
class Table:
    """A table as text.

    Parameters
    ----------
    path
        The file.
    columns
        Names of the columns, stripped.
    rows
        Number of each row as a spreadsheet shows it (from 1), and its cells that are not empty by
        column. Rows that start with ``#``, and empty ones, are left out.
    """

    path: Path
    columns: list[str] = field(default_factory=list)
    rows: list[tuple[int, dict[str, str]]] = field(default_factory=list)


def read_table(path: Path) -> Table:
    """Read a table with a header: ``.tsv``, ``.csv`` (tab, semicolon or comma), ``.xlsx`` or ``.ods``.

    Text may be UTF-8 with or without byte order mark, UTF-16 with one, or Windows-1252. The first
    sheet of a spreadsheet counts; numbers, dates and booleans in it become text.

    Raises
    ------
    UsageError
        Where the file is missing, unreadable, no table, or has a column twice.
    """
    suffix = path.suffix.lower()
    if suffix not in TEXT + SPREADSHEETS:
        raise UsageError(
            f"{path}: expected a table ({', '.join(TEXT + SPREADSHEETS)}), found '{suffix}'; save it as such"
        )
    try:
        if path.stat().st_size > _LARGEST:
            raise UsageError(f"{path}: larger than {_LARGEST >> 20} MB; is this the right file?")
        lines = _spreadsheet(path) if suffix in SPREADSHEETS else _text(path.read_bytes())
        return _table(path, lines)
    except (OSError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read as a table: {error}") from error


def _table(path: Path, lines: Iterable[list[str]]) -> Table:
    columns: list[str] = []
    rows = []
    for number, cells in enumerate(lines, start=1):
        cells = [cell.strip() for cell in cells]
        if not any(cells) or cells[0].startswith("#"):
            continue
        if not columns:
            columns = _header(path, number, cells)
            continue
        beyond = [c for c in cells[len(columns) :] if c]
        if beyond:
            raise UsageError(
                f"{path}, row {number}: expected {len(columns)} columns, found more ('{beyond[0]}'); "
                "is a separator inside a cell that has no quotes?"
            )
        named = zip(columns, cells, strict=False)
        rows.append((number, {name: cell for name, cell in named if cell and name}))
    if not columns:
        raise UsageError(f"{path}: expected a table with a header, found nothing")
    return Table(path, columns, rows)


def _header(path: Path, number: int, cells: list[str]) -> list[str]:
    while cells and not cells[-1]:
        cells.pop()
    twice = sorted({c for c in cells if c and cells.count(c) > 1})
    if twice:
        raise UsageError(f"{path}, row {number}: the column '{twice[0]}' is there twice; keep one")
    return cells


def _text(data: bytes) -> Iterator[list[str]]:
    text = _decode(data)
    header = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    outside = re.sub(r'"[^"]*"', "", header)
    delimiter = max("\t;,", key=outside.count)
    yield from csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _spreadsheet(path: Path) -> Iterator[list[str]]:
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        book = CalamineWorkbook.from_path(path)
        lines = book.get_sheet_by_index(0).to_python(skip_empty_area=False)
    except (CalamineError, IndexError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read as a spreadsheet: {error}") from error
    for line in lines:
        yield [cell_text(cell) for cell in line]


def cell_text(value: Any) -> str:
    """Return the value of a spreadsheet's cell as text that `read_table` would have read.

    Whole numbers lose their fraction, dates and times are ISO 8601, booleans ``yes`` and ``no``;
    lists are words of JSON.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime.datetime):
        if value.time() == datetime.time():
            return value.date().isoformat()
        return _clock(value.time()) if value.year < 1901 else value.isoformat(" ")
    if isinstance(value, datetime.time):
        return _clock(value)
    if isinstance(value, datetime.timedelta):
        return _clock((datetime.datetime.min + value).time())
    return str(value)


def _clock(value: datetime.time) -> str:
    return value.isoformat().rstrip("0").rstrip(".") if value.microsecond else value.isoformat()
