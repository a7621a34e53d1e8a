"""Rows of a sheet that people fill in, and what each of them is about."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dcorflow.metadata.tables import Table
from dcorflow.naming import short_hash

#: Column with marks of what dcorflow exported: a cell that still has its mark is no edit.
EXPORTED = "exported"
_PATTERN = re.compile(r"[*?\[]")
#: A mistake in one cell, as it is told.
_MISTAKE = re.compile(r"(?P<sheet>[^,]+), row (?P<row>\d+), (?P<what>column '.*)", re.DOTALL)
#: Only the first so many rows without a match are told the nearest names: looking takes its time.
_HINTS = 20
#: Names that a hint shows.
_NEAREST = 3
#: Ranks of cells: those of patterns are (0, their length).
_EXACT, _INHERITED = (2, 0), (1, 0)


@dataclass(frozen=True)
class Cell:
    """One cell that says something about a subject (a measurement or a dataset).

    Parameters
    ----------
    text
        What stands in it.
    row
        Number of its row.
    exported
        Whether dcorflow wrote it and nobody changed it.
    rank
        How specific its row is; the highest wins.
    """

    text: str
    row: int
    exported: bool
    rank: tuple[int, int]


#: column -> cell, for one subject.
Cells = dict[str, Cell]


@dataclass(frozen=True)
class Subject:
    """What rows can be about: its identifier and the paths that name it, the shortest first.

    Rows about a subject in `inherits` (identifiers) are also about it, unless its own say otherwise.
    """

    id: str
    paths: tuple[str, ...]
    inherits: tuple[str, ...] = ()


def whole_text(path: str) -> str:
    """Return a path as text that every file can hold: bytes that are no UTF-8 become ``\\udc..``."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def subject_of(identifier: str, *paths: str, inherits: Iterable[str] = ()) -> Subject:
    """Return the subject with an identifier, the paths that name it, and whose rows it inherits."""
    return Subject(identifier, tuple(map(whole_text, paths)), tuple(map(whole_text, inherits)))


def mark(subject: str, column: str, text: str) -> str:
    """Return the mark of an exported cell: 8 hex digits that change with its content."""
    return short_hash(subject, column, text)


def match_rows(
    table: Table,
    subjects: Iterable[Subject],
    selectors: tuple[str, ...],
    plain: Callable[[str, str], str],
) -> tuple[dict[str, Cells], list[str]]:
    """Return the cells that apply to each subject, and what is wrong with the rows.

    A row names its subject by identifier, path or pattern in one of the columns `selectors`; of
    two rows the more specific one wins, cell by cell: an identifier or path beats a pattern, a
    longer pattern a shorter one.

    Parameters
    ----------
    table
        The sheet.
    subjects
        All that there is.
    selectors
        Columns that may say what a row is about, the identifier's first.
    plain
        Returns the canonical text of a cell, given column and text.
    """
    subjects = list(subjects)
    by_name: dict[str, list[str]] = defaultdict(list)
    heirs: dict[str, list[str]] = defaultdict(list)
    for subject in subjects:
        for name in dict.fromkeys((subject.id, *subject.paths)):
            by_name[name].append(subject.id)
        for name in dict.fromkeys(subject.inherits):
            heirs[name].append(subject.id)
    found: dict[str, Cells] = defaultdict(dict)
    wrong: list[str] = []
    for number, row in table.rows:
        said = [row[s] for s in selectors if s in row]
        ids, rank = _subjects(said, by_name, subjects)
        if not ids:
            known = list(by_name) if len(wrong) < _HINTS else []
            wrong.append(f"{table.path}, row {number}: {_unmatched(said, selectors, known)}")
            continue
        marks = set(row.get(EXPORTED, "").split())
        for column, text in row.items():
            if column in selectors or column == EXPORTED:
                continue
            for subject_id in ids:
                exported = bool(marks) and (
                    mark(subject_id, column, text) in marks
                    or mark(subject_id, column, plain(column, text)) in marks
                )
                errors = [_put(found[subject_id], column, Cell(text, number, exported, rank), plain)]
                if rank == _EXACT:
                    cell = Cell(text, number, exported, _INHERITED)
                    errors += [_put(found[heir], column, cell, plain) for heir in heirs.get(subject_id, [])]
                wrong += [f"{table.path}, row {number}, column '{column}': {e}" for e in errors if e]
    return dict(found), list(dict.fromkeys(wrong))


def _subjects(
    names: list[str], by_name: dict[str, list[str]], subjects: list[Subject]
) -> tuple[list[str], tuple[int, int]]:
    for name in names:
        if name in by_name:
            return by_name[name], _EXACT
    for name in names:
        if not _PATTERN.search(name):
            continue
        expression = re.compile(fnmatch.translate(name))
        ids = [s.id for s in subjects if any(expression.match(p) for p in (s.id, *s.paths))]
        if ids:
            return ids, (0, len(re.sub(_PATTERN, "", name)))
    return [], (0, 0)


def _put(cells: Cells, column: str, cell: Cell, plain: Callable[[str, str], str]) -> str:
    """Keep the more specific of two cells; return the contradiction of two equally specific ones."""
    other = cells.get(column)
    inherited = other is not None and cell.rank != other.rank and _INHERITED in (cell.rank, other.rank)
    if other is not None and inherited and cell.exported != other.exported:
        cells[column] = other if cell.exported else cell  # what somebody wrote goes before what stood there
        return ""
    if other is None or cell.rank > other.rank:
        cells[column] = cell
        return ""
    if cell.rank < other.rank or cell.text == other.text:
        return ""
    if cell.exported != other.exported:  # one row was filled in, its copy left as it was
        cells[column] = other if cell.exported else cell
        return ""
    if plain(column, cell.text) == plain(column, other.text):
        return ""
    return f"'{cell.text}' contradicts '{other.text}' in row {other.row}; keep one"


def _unmatched(names: list[str], selectors: tuple[str, ...], known: list[str]) -> str:
    if not names:
        return (
            f"nothing in {' or '.join(f'{s!r}' for s in selectors)}; name what the row is about, or delete it"
        )
    name = names[-1]
    if any(path.startswith(f"{name.rstrip('/')}/") for path in known):
        hint = f"; for all below that folder write '{name.rstrip('/')}/*'"
    else:
        near = _of_that_name(name, known) or difflib.get_close_matches(name, known, n=_NEAREST, cutoff=0.5)
        hint = f"; nearest: {', '.join(near)}" if near else ""
    return f"'{name}' matches nothing that was found{hint}"


def _of_that_name(name: str, known: list[str]) -> list[str]:
    """Return the first paths that end like `name`: somebody left out the folders, or took backslashes."""
    last = re.split(r"[/\\]", name)[-1].lower()
    paths = [path for path in known if path.rpartition("/")[2].lower() == last != ""]
    whole = [
        path for path in paths if path.partition("/")[2] not in paths
    ]  # without those that name the root
    return difflib.get_close_matches(name.replace("\\", "/"), whole, n=_NEAREST, cutoff=0)


def together(problems: Iterable[str]) -> list[str]:
    """Return mistakes, each once; one that is made in many rows of a column is told in one line."""
    rows: dict[tuple[str, str], list[int]] = defaultdict(list)
    for problem in dict.fromkeys(problems):
        found = _MISTAKE.fullmatch(problem)
        key = (found["sheet"], found["what"]) if found else (problem, "")
        rows[key].append(int(found["row"]) if found else 0)
    return [
        f"{where}, {_rows(numbers)}, {what}" if what else where for (where, what), numbers in rows.items()
    ]


def _rows(numbers: list[int]) -> str:
    """Return the words for some rows, such as `rows 4 to 7, 9`."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    words = [str(a) if a == b else f"{a} to {b}" if b > a + 1 else f"{a}, {b}" for a, b in spans]
    return f"row{'s' if len(numbers) > 1 else ''} {', '.join(words)}"
