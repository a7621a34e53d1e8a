"""Sheets as people save them: how they are read, whom their rows are about, and what they say."""

from __future__ import annotations

import datetime
import random
from pathlib import Path

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcorflow.errors import UsageError
from dcorflow.metadata.folders import FolderSettings
from dcorflow.metadata.matching import Subject, mark, together
from dcorflow.metadata.resolve import Resolver
from dcorflow.metadata.sheet import DatasetSheet, MeasurementSheet, plain_text
from dcorflow.metadata.tables import Table, cell_text, read_table

SUBJECTS = [Subject(f"m{n}", (f"day{n % 2}/M{n}.rtdc", f"raw/day{n % 2}/M{n}.rtdc")) for n in range(1, 5)]


def sheet(*rows, columns=None):
    """Return a sheet with rows given as mappings; the first is row 2."""
    names = columns or list(dict.fromkeys(c for row in rows for c in row))
    return MeasurementSheet(Table(Path("sheet.tsv"), names, list(enumerate(rows, start=2))), SUBJECTS)


def values(table, measurement="m1"):
    entry, wrong = table.entry(measurement)
    assert wrong == []
    return {key: said.value for key, said in entry.values.items()}


class TestReading:
    @pytest.mark.parametrize("delimiter", ["\t", ";", ","])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
    @pytest.mark.parametrize("newline", ["\n", "\r\n"])
    def test_whatever_program_saved_it(self, tmp_path, delimiter, encoding, newline):
        lines = [("source", "experiment:sample"), ("a/M1.rtdc", "Müller µ")]
        path = tmp_path / "sheet.csv"
        path.write_bytes(newline.join(delimiter.join(line) for line in lines).encode(encoding))
        table = read_table(path)
        assert table.columns == ["source", "experiment:sample"]
        assert table.rows == [(2, {"source": "a/M1.rtdc", "experiment:sample": "Müller µ"})]

    def test_rows_are_numbered_as_a_spreadsheet_shows_them(self, tmp_path):
        path = tmp_path / "sheet.tsv"
        path.write_text('source\tnotes\n# a comment\n\na\t"two\nlines"\nb\t\n', encoding="utf-8")
        assert read_table(path).rows == [(4, {"source": "a", "notes": "two\nlines"}), (5, {"source": "b"})]

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "found nothing"),
            ("a;b;a\n", "'a' is there twice"),
            ("a;b\n1;2;3\n", "row 2: expected 2 columns"),
            ('a;b\n"1;2\n', "cannot be read as a table"),
        ],
    )
    def test_what_is_no_table(self, tmp_path, text, words):
        path = tmp_path / "sheet.csv"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UsageError, match=words):
            read_table(path)

    def test_other_files_are_refused(self, tmp_path):
        for name, words in (("sheet.docx", "expected a table"), ("none.csv", "none.csv")):
            with pytest.raises(UsageError, match=words):
                read_table(tmp_path / name)
        (tmp_path / "broken.xlsx").write_bytes(b"PK no zip")
        with pytest.raises(UsageError, match="cannot be read as a spreadsheet"):
            read_table(tmp_path / "broken.xlsx")

    def test_cells_of_a_spreadsheet(self, tmp_path):
        book = openpyxl.Workbook()
        cells = {
            "experiment:date": (datetime.date(2024, 5, 17), "2024-05-17"),
            "experiment:time": (datetime.time(10, 30), "10:30:00"),
            "imaging:pixel size": (0.34, "0.34"),
            "experiment:run index": (3.0, "3"),
            "setup:medium": ("CellCarrier", "CellCarrier"),
            "sp:cells:fixed": (True, "yes"),
        }
        book.active.append(["source", *cells])
        book.active.append(["a", *(value for value, _ in cells.values())])
        book.save(tmp_path / "sheet.xlsx")
        ((number, row),) = read_table(tmp_path / "sheet.xlsx").rows
        assert number == 2
        assert row == {"source": "a"} | {name: text for name, (_, text) in cells.items()}

    @given(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(10**12), 10**12)))
    def test_numbers_keep_their_value(self, value):
        assert float(cell_text(value)) == value


class TestRows:
    def test_identifier_path_and_pattern(self):
        for name in ("m1", "day1/M1.rtdc", "raw/day1/M1.rtdc", "day1/M1*", "*/M1.rtdc"):
            assert values(sheet({"source": name, "experiment:sample": "x"})) == {"experiment:sample": "x"}

    def test_the_most_specific_row_wins_cell_by_cell(self):
        rows = [
            {"source": "day1/M1.rtdc", "experiment:sample": "exact"},
            {"source": "*", "experiment:sample": "all", "setup:medium": "water", "setup:identifier": "all"},
            {"source": "day1/*", "experiment:sample": "day", "setup:medium": "CellCarrier"},
        ]
        for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2]):
            found = values(sheet(*(rows[n] for n in order)))
            assert found == {
                "experiment:sample": "exact",
                "setup:medium": "CellCarrier",
                "setup:identifier": "all",
            }

    def test_a_row_that_matches_nothing_names_the_nearest(self):
        (problem,) = sheet({"source": "day1/M9.rtdc", "setup:medium": "water"}).problems
        assert "row 2" in problem and "'day1/M9.rtdc' matches nothing" in problem
        assert "day1/M1.rtdc" in problem
        (problem,) = sheet({"source": "night*", "setup:medium": "water"}).problems
        assert "'night*' matches nothing" in problem
        for name in ("M1.rtdc", r"day1\M1.rtdc", "/data/raw/Day1/m1.rtdc", "./day1/M1.rtdc"):
            (problem,) = sheet({"source": name, "setup:medium": "water"}).problems
            assert problem.endswith("matches nothing that was found; nearest: day1/M1.rtdc")
        for name in ("day1", "day1/"):
            (problem,) = sheet({"source": name, "setup:medium": "water"}).problems
            assert problem.endswith("for all below that folder write 'day1/*'")
        (problem,) = sheet({"setup:medium": "water"}, columns=["source", "setup:medium"]).problems
        assert "name what the row is about" in problem

    def test_contradicting_rows(self):
        rows = [{"source": "m1", "setup:medium": "water"}, {"source": "day1/M1.rtdc", "setup:medium": "oil"}]
        (problem,) = sheet(*rows).problems
        assert "row 3, column 'setup:medium': 'oil' contradicts 'water' in row 2" in problem
        same = [
            {"source": "m1", "imaging:pixel size": "0.340"},
            {"source": "m1", "imaging:pixel size": "0.34"},
        ]
        assert sheet(*same).problems == []

    @pytest.mark.parametrize(
        ("column", "near"),
        [
            ("setup:medum", "setup:medium"),
            ("sp:cells:organsim", "sp:cells:organism"),
            ("medium", "setup:medium"),
        ],
    )
    def test_unknown_columns_name_the_nearest(self, column, near):
        (problem,) = sheet({"source": "m1", column: "x"}).problems
        assert f"unknown column '{column}'; did you mean '{near}'?" in problem

    def test_an_unknown_column_hides_no_other_mistake(self):
        found = sheet({"source": "m9", "setup:medum": "x"}, {"source": "m1", "imaging:pixel size": "0,3"})
        assert len(found.problems) == 2 and "matches nothing" in found.problems[1]
        assert "decimal" in found.entry("m1")[1][0] and found.entry("m1")[0].values == {}

    def test_a_sheet_needs_to_say_whom_it_is_about(self):
        assert "expected a column 'measurement' or 'source'" in sheet({"setup:medium": "x"}).problems[0]


class TestCells:
    def test_what_was_exported_is_no_edit(self):
        marks = mark("m1", "imaging:pixel size", "0.34")
        row = {"source": "m1", "imaging:pixel size": "0.34", "exported": marks}
        assert values(sheet(row)) == {}
        assert values(sheet(row | {"imaging:pixel size": "0.340"})) == {}, "written otherwise, same value"
        assert values(sheet(row | {"imaging:pixel size": "0.32"})) == {"imaging:pixel size": 0.32}
        assert values(sheet({**row, "source": "m2"}), "m2") == {"imaging:pixel size": 0.34}, (
            "copied to another"
        )

    def test_removal(self):
        assert values(sheet({"source": "m1", "setup:medium": "-"})) == {"setup:medium": None}

    @pytest.mark.parametrize(
        ("column", "text", "words"),
        [
            ("imaging:pixel size", "0,34", "decimal comma in '0,34'; write 0.34"),
            ("imaging:pixel size", "-1", "greater than zero"),
            ("experiment:date", "5/17/2024", "must be a date such as 2024-05-17"),
            ("experiment:date", "2024-02-30", "must be a date"),
            ("experiment:time", "25:00:00", "must be a time such as 10:30:00"),
            ("setup:chip region", "chanel", "must be one of channel, reservoir"),
            ("sp:cells:fixed", "perhaps", "must be yes or no"),
            ("sp:general:sample type", "cells", "must be one of"),
            ("sp:chip:channel width", "20,5", "decimal comma"),
            ("use", "perhaps", "expected yes or no"),
            ("use", "no", "no reason is given"),
            ("confirm", "perhaps", "expected yes or no"),
        ],
    )
    def test_wrong_cells_name_row_and_column(self, column, text, words):
        _, (problem,) = sheet({"source": "m1", column: text}).entry("m1")
        assert words in problem
        assert problem.startswith(
            f"sheet.tsv, row 2, column '{'reason' if words.endswith('given') else column}'"
        )

    def test_dates_and_booleans_of_spreadsheets(self):
        row = {"source": "m1", "experiment:date": "17.5.2024", "online_contour:no absdiff": "WAHR"}
        assert values(sheet(row)) == {"experiment:date": "2024-05-17", "online_contour:no absdiff": True}

    def test_guesses_are_confirmed_where_they_are_shown(self):
        marks = mark("m1", "experiment:date", "2024-05-17")
        row = {"source": "m1", "experiment:date": "2024-05-17", "exported": marks}
        assert sheet(row).entry("m1")[0].confirmed == {}
        (said,) = sheet(row | {"confirm": "yes"}).entry("m1")[0].confirmed.values()
        assert said.value == "2024-05-17"


class TestMerge:
    def resolve(self, table, **metadata):
        config = {"metadata": {"from_path": [], "force": [], "override": {"setup:medium": "oil"}} | metadata}
        return Resolver(config, FolderSettings([]), table).resolve("m1", "raw", "day1/M1.rtdc")

    def test_the_sheet_beats_all(self):
        wanted, wrong = self.resolve(sheet({"source": "m1", "setup:medium": "water"}))
        assert wrong == []
        (edit,) = wanted.edits
        assert (edit.value, edit.mode, edit.kind) == ("water", "replace", "sheet")
        assert edit.where == "sheet.tsv, row 2, column 'setup:medium'"

    def test_what_describes_the_data_needs_force(self):
        table = sheet({"source": "m1", "experiment:event count": "7"})
        wanted, (problem,) = self.resolve(table)
        assert "metadata.force" in problem and "row 2" in problem
        wanted, wrong = self.resolve(table, force=["experiment:event count"])
        assert wrong == [] and {e.key: e.mode for e in wanted.edits}["experiment:event count"] == "force"

    def test_left_out_by_the_sheet(self):
        wanted, _ = self.resolve(sheet({"source": "m1", "use": "no", "reason": "clogged"}))
        assert wanted.left_out == "clogged"

    def test_supplements(self):
        given = {"cells:organism": "Mus musculus", "cells:fixed": True}
        row = {"source": "m1", "sp:cells:organism": "Homo sapiens", "sp:cells:fixed": "-"}
        wanted, wrong = self.resolve(sheet(row), supplements=given)
        assert wrong == [] and wanted.supplements == {"cells": {"organism": "Homo sapiens"}}
        assert wanted.origins == {"cells:organism": "sheet.tsv, row 2, column 'sp:cells:organism'"}

    @settings(max_examples=60)
    @given(st.data())
    def test_the_order_of_rows_and_columns_does_not_matter(self, data):
        names = ["m1", "m2", "day1/*", "day0/*", "*", "*rtdc"]
        chosen = data.draw(st.lists(st.sampled_from(names), unique=True, min_size=1))
        media = st.sampled_from(["water", "CellCarrier", ""])
        columns = ["source", "setup:medium", "experiment:sample"]
        rows = [{"source": n} | {c: v for c in columns[1:] if (v := data.draw(media))} for n in chosen]
        straight = sheet(*rows, columns=columns)
        random.Random(data.draw(st.integers())).shuffle(rows)
        other = sheet(*({k: row[k] for k in reversed(row)} for row in rows), columns=columns)
        assert len(straight.problems) == len(other.problems)
        for subject in SUBJECTS if not straight.problems else []:
            assert values(straight, subject.id) == values(other, subject.id)


class TestDatasets:
    def table(self, **cells):
        row = {"dataset": "d1"} | cells
        return DatasetSheet(Table(Path("d.tsv"), list(row), [(2, row)]), [Subject("d1", ("a/b",))])

    def test_fields(self):
        cells = {
            "authors": "A. Name; B. Name",
            "private": "no",
            "tags": "blood;cells",
            "title": "T",
            "doi": "-",
        }
        found, wrong = self.table(**cells).entry("d1")
        assert wrong == []
        assert {n: s.value for n, s in found.items()} == {
            "authors": ["A. Name", "B. Name"], "private": False, "tags": ["blood", "cells"], "title": "T",
            "doi": None,
        }  # fmt: skip

    def test_a_comma_in_an_author(self):
        _, (problem,) = self.table(authors="A. Name, B. Name").entry("d1")
        assert "semicolons" in problem and "row 2, column 'authors'" in problem

    def test_exported_fields_are_no_edits(self):
        marks = mark("d1", "authors", plain_text("authors", "A. Name;B. Name"))
        assert self.table(authors="A. Name;B. Name", exported=marks).entry("d1") == ({}, [])

    def test_unknown_fields(self):
        (problem,) = self.table(licence="CC0-1.0").problems
        assert "did you mean 'license_id'?" in problem


def test_one_mistake_in_many_rows_is_told_once():
    rows = [f"a.tsv, row {n}, column 'setup:medium': must be text" for n in (4, 5, 6, 9, 12, 11)]
    other = ["a.tsv, row 4, column 'use': not yes", "a: a title is missing", "a: a title is missing"]
    assert together([*rows[:2], *other, *rows[2:]]) == [
        "a.tsv, rows 4 to 6, 9, 11, 12, column 'setup:medium': must be text",
        "a.tsv, row 4, column 'use': not yes",
        "a: a title is missing",
    ]
