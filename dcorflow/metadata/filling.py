"""Tables to fill in, written as text and as a spreadsheet."""

from __future__ import annotations

import csv
import datetime
import io
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from dcorflow.metadata.matching import EXPORTED

State = Literal["", "missing", "wrong", "wanted", "guessed", "fixed"]
#: Background of a cell by what is to be done there, readable with black text.
_COLOURS = {
    "missing": "#f8cbad",
    "wrong": "#f4a6a0",
    "wanted": "#fff2cc",
    "guessed": "#ffe08a",
    "fixed": "#f2f2f2",
}
_LEGEND = {
    "missing": "missing: must be filled in",
    "wrong": "wrong: must be corrected",
    "wanted": "missing: good to have",
    "guessed": "guessed: correct it, or put yes into the column confirm",
    "fixed": "for information: changes here have no effect",
}
#: A spreadsheet of more rows is slow to open; the text has them all.
LONGEST_SPREADSHEET = 50_000
#: Cells that say what is wrong with them: many notes make a spreadsheet slow to open.
_MOST_NOTES = 1000
#: The longest list of choices that Excel takes in a cell's rule.
_LONGEST_CHOICES = 255


@dataclass(frozen=True)
class Column:
    """A column of a template.

    Parameters
    ----------
    name
        As it stands in the header.
    meaning, needed
        What it means, with unit; how much it is needed.
    choices, only
        Usual values; whether no others are accepted.
    width
        In characters.
    """

    name: str
    meaning: str = ""
    needed: str = ""
    choices: tuple[str, ...] = ()
    only: bool = False
    width: int = 14


@dataclass
class Template:
    """A table to fill in: text and state of each cell by row, in the order of the columns."""

    name: str
    columns: list[Column]
    rows: list[list[tuple[str, State]]] = field(default_factory=list)
    #: Columns at the left that stay in sight.
    frozen: int = 1
    #: What is wrong with a cell, or how it was guessed, by row and column, counted from 0.
    notes: dict[tuple[int, int], str] = field(default_factory=dict)

    def head(self) -> list[list[str]]:
        """Return the rows below the header that explain it; they start with ``#``."""
        rows = []
        for title, words in (("meaning", "meaning"), ("needed", "needed")):
            cells = [str(getattr(c, words)) for c in self.columns]
            rows.append([f"# {title}: {cells[0]}".rstrip(": "), *cells[1:]])
        return rows


def contents(template: Template) -> tuple[bytes, bytes | None]:
    """Return a template as tab-separated text and as a spreadsheet; None where that would be too long."""
    text = to_text(template).encode("utf-8", errors="surrogateescape")
    if len(template.rows) > LONGEST_SPREADSHEET:
        return text, None
    stream = io.BytesIO()
    write_spreadsheet(template, stream)
    return text, stream.getvalue()


def to_text(template: Template) -> str:
    """Return a template as tab-separated text, quoted where needed, as spreadsheets read it."""
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
    writer.writerow([c.name for c in template.columns])
    writer.writerows(template.head())
    writer.writerows([text for text, _ in row] for row in template.rows)
    return stream.getvalue()


def write_spreadsheet(template: Template, path: Path | io.BytesIO) -> None:
    """Write a template as `.xlsx`: every cell is text, so that a spreadsheet changes nothing.

    Equal templates give equal bytes.
    """
    import xlsxwriter

    with xlsxwriter.Workbook(path, {"strings_to_numbers": False, "strings_to_formulas": False,
                                    "strings_to_urls": False, "in_memory": True}) as book:  # fmt: skip
        book.set_properties({"created": datetime.datetime(2000, 1, 1), "title": template.name})
        sheet = book.add_worksheet(template.name)
        formats = _formats(book)
        head = template.head()
        for number, column in enumerate(template.columns):
            hidden = {"hidden": True} if column.name == EXPORTED else {}
            sheet.set_column(number, number, column.width, formats[""], hidden)
            sheet.write_string(0, number, column.name, formats["head"])
            if note := _comment(column):
                sheet.write_comment(0, number, note, {"x_scale": 2, "y_scale": 1.2})
            for below, words in enumerate(head, start=1):
                sheet.write_string(below, number, words[number], formats["words"])
        first = len(head) + 1
        for row, cells in enumerate(template.rows, start=first):
            for number, (text, state) in enumerate(cells):
                if text:
                    sheet.write_string(row, number, text, formats[state])
                elif state:
                    sheet.write_blank(row, number, None, formats[state])
        for (row, number), note in islice(template.notes.items(), _MOST_NOTES):
            sheet.write_comment(first + row, number, note, {"x_scale": 2})
        sheet.freeze_panes(first, template.frozen)
        sheet.autofilter(0, 0, first + len(template.rows) - 1, len(template.columns) - 1)
        sheet.set_row(1, 60)
        sheet.set_landscape()
        sheet.fit_to_pages(1, 0)
        sheet.repeat_rows(0, first - 1)
        _add_choices(book, sheet, template, first)
        _add_legend(book, formats)


def _formats(book: Any) -> dict[str, Any]:
    text = {"num_format": "@", "valign": "top"}
    formats = {state: book.add_format(text | {"bg_color": colour, "border": 1, "border_color": "#d0d0d0"})
               for state, colour in _COLOURS.items()}  # fmt: skip
    return formats | {
        "": book.add_format(text),
        "head": book.add_format(text | {"bold": True, "bottom": 1}),
        "words": book.add_format(text | {"italic": True, "font_color": "#595959", "text_wrap": True}),
    }


def _comment(column: Column) -> str:
    words = [column.meaning, column.needed and f"Needed: {column.needed}"]
    if column.choices:
        words.append(f"{'One of' if column.only else 'Such as'}: {', '.join(column.choices)}")
    return "\n".join(w for w in words if w)


def _add_choices(book: Any, sheet: Any, template: Template, first: int) -> None:
    """Add drop-downs; long lists stand in a hidden sheet of their own."""
    lists = book.add_worksheet("choices")
    lists.hide()
    last = max(first, first + len(template.rows) - 1)
    for number, column in enumerate(template.columns):
        if not column.choices:
            continue
        source: Any = list(column.choices)
        if len(",".join(column.choices)) > _LONGEST_CHOICES:
            lists.write_column(0, number, column.choices)
            letters = xl_column(number)
            source = f"=choices!${letters}$1:${letters}${len(column.choices)}"
        rule = {"validate": "list", "source": source, "show_error": column.only, "ignore_blank": True,
                "error_title": column.name, "error_message": "Choose a value from the list."}  # fmt: skip
        sheet.data_validation(first, number, last, number, rule)


def xl_column(number: int) -> str:
    """Return the letters of a column, counted from 0."""
    from xlsxwriter.utility import xl_col_to_name

    return str(xl_col_to_name(number))


def _add_legend(book: Any, formats: dict[str, Any]) -> None:
    sheet = book.add_worksheet("colours")
    sheet.set_column(0, 0, 70)
    for row, (state, words) in enumerate(_LEGEND.items()):
        sheet.write_string(row, 0, words, formats[state])
