"""Pseudonyms: names that must not be published, and what stands for each of them."""

from __future__ import annotations

import csv
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from dcorflow.errors import UsageError
from dcorflow.naming import to_ascii

#: Characters that may stand between the parts of a name, in files' names and elsewhere.
_BETWEEN = r"[\s_.\-]*"
#: What a pseudonym may look like, so that file names, folders and titles can hold it.
_FIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,39}")
#: Replacing ends after so many rounds, should a pseudonym and its surroundings form a name anew.
_ROUNDS = 9


class Pseudonyms:
    """Replaces names by pseudonyms.

    A name is found whatever its case, with blanks, dots, dashes, underscores or nothing between its
    parts, with umlauts written as such or transliterated, but only as a whole: `Ann` is not found in
    `Anna`.

    Parameters
    ----------
    table
        Pseudonym of each name.
    """

    def __init__(self, table: Mapping[str, str]) -> None:
        names = sorted(table, key=lambda name: (-len(name), name))
        self._pseudonyms = [table[name] for name in names]
        groups = ["|".join(_spellings(name)) for name in names]
        body = "|".join(f"({group})" for group in groups)
        #: Regular expression that finds any of the names; empty where there are none.
        self.expression = rf"(?<![^\W_])(?:{body})(?![^\W_])" if groups else ""
        self._pattern = re.compile(self.expression, re.IGNORECASE) if groups else None

    def hide(self, text: str) -> str:
        """Return `text` with pseudonyms instead of names."""
        return text if self._pattern is None else self.replace(text)[0]

    def replace(self, text: str) -> tuple[str, Counter[str]]:
        """Return `text` with pseudonyms instead of names, and how often each was put in."""
        count: Counter[str] = Counter()
        for _ in range(_ROUNDS):
            before = text
            if self._pattern is not None:
                text = self._pattern.sub(lambda match: self._pseudonym(match, count), text)
            if text == before:
                break
        return text, count

    def _pseudonym(self, match: re.Match[str], count: Counter[str]) -> str:
        assert match.lastindex is not None  # each name is a group
        pseudonym = self._pseudonyms[match.lastindex - 1]
        count[pseudonym] += 1
        return pseudonym


def _spellings(name: str) -> list[str]:
    """Return expressions for the ways to write a name: composed or not, transliterated, as in JSON."""
    forms = {unicodedata.normalize(form, name) for form in ("NFC", "NFD")}
    ascii_form = to_ascii(name)
    if "_" not in ascii_form:
        forms.add(ascii_form)
    forms |= {json.dumps(form)[1:-1] for form in forms}
    parts = [[re.escape(part) for part in re.split(r"[\s_.\-]+", form) if part] for form in sorted(forms)]
    return [_BETWEEN.join(part) for part in parts]


def load_pseudonyms(setting: Mapping[str, str] | str, folder: Path) -> dict[str, str]:
    """Return the table of pseudonyms of the setting `prepare.pseudonyms`.

    Parameters
    ----------
    setting
        The table itself, or the path of a `.tsv` or `.csv` file with the columns `name` and `pseudonym`.
    folder
        Relative paths start here.

    Raises
    ------
    UsageError
        One message with everything that is wrong; it names rows, not names.
    """
    if isinstance(setting, str):
        path = folder / Path(setting).expanduser()
        rows = [(f"{path}, row {n}", name, pseudonym) for n, name, pseudonym in _read(path)]
    else:
        rows = [(f"'prepare.pseudonyms', name {n}", *pair) for n, pair in enumerate(setting.items(), 1)]
    if wrong := _problems(rows):
        raise UsageError("\n  - ".join(wrong))
    return {name: pseudonym for _, name, pseudonym in rows}


def _read(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield number, name and pseudonym of the rows of a table; the first one is row 2."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"'prepare.pseudonyms': {path} cannot be read: {error.strerror}") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", "replace")
    head = text.partition("\n")[0]
    separator = next((mark for mark in "\t;," if mark in head), ",")
    table = csv.DictReader(text.splitlines(), delimiter=separator, skipinitialspace=True)
    if not {"name", "pseudonym"} <= set(table.fieldnames or ()):
        raise UsageError(
            f"'prepare.pseudonyms': {path}: expected the columns 'name' and 'pseudonym', found "
            f"{', '.join(map(repr, table.fieldnames or ())) or 'none'}"
        )
    for row in table:
        yield table.line_num, (row["name"] or "").strip(), (row["pseudonym"] or "").strip()


def _problems(rows: list[tuple[str, str, str]]) -> list[str]:
    wrong: list[str] = []
    seen: dict[str, str] = {}
    for where, name, pseudonym in rows:
        if len(re.sub(r"[\W_]", "", name)) < 2:
            wrong.append(f"{where}: expected at least two letters or digits, found {len(name)} characters")
        elif not _FIT.fullmatch(pseudonym):
            wrong.append(
                f"{where}: the pseudonym {pseudonym!r} must be 1 to 40 letters, digits or '_.+-', "
                "so that file names can hold it"
            )
        elif seen.setdefault(name, pseudonym) != pseudonym:
            wrong.append(f"{where}: the name has two pseudonyms, {seen[name]!r} and {pseudonym!r}")
    if not wrong:
        table = Pseudonyms(seen)
        wrong += [f"pseudonym {p!r} holds a name that is to be hidden" for p in sorted(set(seen.values()))
                  if table.hide(p) != p]  # fmt: skip
    return wrong
