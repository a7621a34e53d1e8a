"""The sheets: values for measurements (`metadata.sheet`) and fields of datasets (`datasets.sheet`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dcorflow.metadata.keys import convert_cell, known_keys, nearest
from dcorflow.metadata.matching import EXPORTED, Cells, Subject, match_rows
from dcorflow.metadata.supplements import convert_supplement, known_supplements
from dcorflow.metadata.tables import Table, cell_text, read_table

#: Columns of the measurement sheet that are no key; the last ones only inform.
SELECTORS, CHOICES = ("measurement", "source"), ("use", "reason", "confirm")
INFORMS = ("dataset", "status", "findings")
#: The same for the sheet of datasets.
DATASET_SELECTORS = ("dataset", "source")
DATASET_INFORMS = ("status", "findings", "measurements")
#: Fields of a dataset: lists are separated by semicolons.
FIELDS = ("title", "authors", "license_id", "owner_org", "private", "collections", "notes", "doi",
          "references", "tags", "accept_incomplete")  # fmt: skip
LISTS = ("authors", "collections", "tags")
#: What stands in a cell to remove a value.
REMOVE = "-"
_YES, _NO = ("yes", "true", "1", "ja", "wahr", "x"), ("no", "false", "0", "nein", "falsch")


@dataclass(frozen=True)
class Said:
    """What a cell of a sheet says: the typed value (None removes), and where it stands."""

    value: Any
    where: str


@dataclass
class SheetEntry:
    """What the measurement sheet says about one measurement."""

    values: dict[str, Said] = field(default_factory=dict)
    supplements: dict[str, Said] = field(default_factory=dict)
    #: Values that were exported as they stand and are confirmed by `confirm: yes`.
    confirmed: dict[str, Said] = field(default_factory=dict)
    use: bool | None = None
    reason: str = ""
    confirm: bool = False


def load_sheet(path: str) -> Table | None:
    """Return the table at `path`; None where no sheet is configured."""
    return read_table(Path(path)) if path else None


class MeasurementSheet:
    """The sheet with values of measurements.

    Parameters
    ----------
    table
        As read; None for no sheet.
    subjects
        All measurements that were ever found.
    """

    def __init__(self, table: Table | None, subjects: Iterable[Subject]) -> None:
        self.table = table
        self.problems: list[str] = []
        self._cells: dict[str, Cells] = {}
        if table is None:
            return
        known = (*SELECTORS, *CHOICES, *INFORMS, EXPORTED)
        self.problems, self._cells = _match(table, subjects, SELECTORS, known, _known())

    @property
    def columns(self) -> list[str]:
        """Columns of the sheet that hold values or supplements."""
        return [c for c in self.table.columns if ":" in c] if self.table else []

    def entry(self, measurement: str) -> tuple[SheetEntry, list[str]]:
        """Return what the sheet says about a measurement, and what is wrong with it."""
        cells, entry = self._cells.get(measurement), SheetEntry()
        if not cells or self.table is None:
            return entry, []
        wrong = []
        try:
            entry.confirm = "confirm" in cells and _yes_or_no(cells["confirm"].text)
        except ValueError as error:
            wrong.append(f"{self._where(cells['confirm'].row, 'confirm')}: {error}")
        for column, cell in cells.items():
            where = self._where(cell.row, column)
            try:
                self._read(entry, column, cell.text, where, cell.exported)
            except ValueError as error:
                wrong.append(f"{where}: {error}")
        if entry.use is False and not entry.reason:
            where = self._where(cells["use"].row, "reason")
            wrong.append(f"{where}: 'use' is no, but no reason is given; it stands in the summary")
        return entry, wrong

    def _where(self, row: int, column: str) -> str:
        name = self.table.path.name if self.table else ""
        return f"{name}, row {row}, column '{column}'"

    def _read(self, entry: SheetEntry, column: str, text: str, where: str, exported: bool) -> None:
        if column == "use":
            entry.use = _yes_or_no(text)
        elif column == "reason":
            entry.reason = text
        elif column.startswith("sp:") and not exported:
            entry.supplements[column] = Said(_supplement(column, text), where)
        elif ":" in column and not column.startswith("sp:"):
            if not exported:
                value = None if text == REMOVE else convert_cell(column, text)
                entry.values[column] = Said(value, where)
            elif entry.confirm:
                entry.confirmed[column] = Said(convert_cell(column, text), where)


class DatasetSheet:
    """The sheet with fields of datasets; parameters as `MeasurementSheet`."""

    def __init__(self, table: Table | None, subjects: Iterable[Subject]) -> None:
        self.table = table
        self.problems: list[str] = []
        self._cells: dict[str, Cells] = {}
        if table is None:
            return
        known = (*DATASET_SELECTORS, *DATASET_INFORMS, EXPORTED, *FIELDS)
        self.problems, self._cells = _match(table, subjects, DATASET_SELECTORS, known, list(known))

    def entry(self, dataset: str) -> tuple[dict[str, Said], list[str]]:
        """Return the fields that the sheet gives a dataset, and what is wrong with them."""
        found, wrong = {}, []
        for column, cell in self._cells.get(dataset, {}).items():
            if column not in FIELDS or cell.exported or self.table is None:
                continue
            where = f"{self.table.path.name}, row {cell.row}, column '{column}'"
            try:
                found[column] = Said(None if cell.text == REMOVE else _field(column, cell.text), where)
            except ValueError as error:
                wrong.append(f"{where}: {error}")
        return found, wrong


def field_text(name: str, value: Any) -> str:
    """Return the field of a dataset as it stands in the sheet."""
    if value is None:
        return ""
    return "; ".join(map(str, value)) if isinstance(value, list) else cell_text(value)


def _field(name: str, text: str) -> Any:
    if name in ("private", "accept_incomplete"):
        return _yes_or_no(text)
    if name not in LISTS:
        return text.strip()
    words = [word.strip() for word in text.replace("\n", ";").split(";") if word.strip()]
    if name == "authors" and (wrong := [w for w in words if "," in w]):
        raise ValueError(
            f"a name must not hold a comma (DCOR would split it), found '{wrong[0]}'; separate the authors "
            "by semicolons: 'A. Name; B. Name'"
        )
    return words


def _yes_or_no(text: str) -> bool:
    word = text.strip().lower()
    if word not in (*_YES, *_NO):
        raise ValueError(f"expected yes or no, found '{text}'")
    return word in _YES


def _supplement(column: str, text: str) -> Any:
    section, _, name = column.removeprefix("sp:").partition(":")
    return None if text == REMOVE else convert_supplement(section, name, text)


def plain_text(column: str, text: str) -> str:
    """Return the canonical text of a cell: what two ways to write the same value share."""
    try:
        if column.startswith("sp:"):
            return cell_text(_supplement(column, text))
        if ":" in column:
            return cell_text(convert_cell(column, text))
        if column in FIELDS:
            return field_text(column, _field(column, text))
    except ValueError:
        pass
    return text


def _known() -> list[str]:
    return [*known_keys(), *(f"sp:{name}" for name in known_supplements()), *SELECTORS, *CHOICES]


def _match(
    table: Table,
    subjects: Iterable[Subject],
    selectors: tuple[str, ...],
    plain: Iterable[str],
    names: list[str],
) -> tuple[list[str], dict[str, Cells]]:
    """Return what is wrong with a table as a whole, and the cells of each subject; unknown columns have none.

    Parameters
    ----------
    table, subjects, selectors
        See `match_rows`.
    plain, names
        Columns that are no key; all others that are known.
    """
    unknown = [c for c in table.columns if c and c not in {*plain, *names} and not c.startswith("user:")]
    wrong = _unknown_columns(table, unknown, names)
    if not any(selector in table.columns for selector in selectors):
        said = " or ".join(f"'{selector}'" for selector in selectors)
        return [*wrong, f"{table.path}: expected a column {said}, found none"], {}
    rows = [(number, {c: t for c, t in row.items() if c not in unknown}) for number, row in table.rows]
    cells, unmatched = match_rows(replace(table, rows=rows), subjects, selectors, plain_text)
    return wrong + unmatched, cells


def _unknown_columns(table: Table, unknown: list[str], known: list[str]) -> list[str]:
    wrong = []
    for column in unknown:
        near = nearest(column, known)
        hint = f"; did you mean '{near}'?" if near else "; columns look like 'setup:medium'"
        wrong.append(f"{table.path}: unknown column '{column}'{hint}")
    return wrong
