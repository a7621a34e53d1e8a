"""The sheets to fill in: which columns and cells they have, and the way through spreadsheets."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import debian
import numpy as np
import openpyxl
import pytest

from dcorflow.metadata.filling import Column, Template, contents, to_text, write_spreadsheet
from dcorflow.metadata.matching import Subject
from dcorflow.metadata.sheet import DatasetSheet, MeasurementSheet
from dcorflow.metadata.tables import Table, read_table
from dcorflow.templates import dataset_template, measurement_template

SUBJECTS = [Subject("m1", ("a/M1.rtdc",)), Subject("m2", ("a/M2.rtdc",))]
#: Texts that spreadsheets like to change.
TRICKY = ["007", "1e5", "2-3", "12:30", "=1+1", "TRUE", "0.10", "Müller; µ", "1/2", "-", "+49", "2024-05-17"]


def row(name, **changes):
    base = {"measurement": name, "root": "raw", "source": f"a/{name.upper()}.rtdc", "status": "ready"}
    return base | {"reason": ""} | changes


def known(gaps=None, supplements=None, **values):
    return {
        "values": {k.replace("__", ":").replace("_", " "): v for k, v in values.items()},
        "gaps": gaps or {},
        "supplements": supplements or {},
    }


def make(values, rows=None, table=None, **metadata):
    config = {"metadata": {"columns": [], "force": []} | metadata}
    sheet = MeasurementSheet(table, SUBJECTS)
    assert sheet.problems == []
    return measurement_template(config, sheet, rows or [row("m1"), row("m2")], values)


def column(template, name):
    number = [c.name for c in template.columns].index(name)
    return [cells[number] for cells in template.rows]


def table_of(template, tmp_path):
    path = tmp_path / "template.tsv"
    path.write_text(to_text(template), encoding="utf-8")
    return read_table(path)


MISSING = ["missing", "violation", "Missing key"]
GOOD_TO_HAVE = ["missing", "alert", "Missing key"]
GUESSED = ["guessed", "violation", "from the time of the file"]


class TestColumns:
    def test_what_is_missing_wrong_or_guessed_somewhere(self):
        values = {
            "m1": known(
                {"setup:medium": MISSING, "setup:identifier": GOOD_TO_HAVE}, imaging__pixel_size=0.34
            ),
            "m2": known({"experiment:date": GUESSED}, setup__medium="water", experiment__date="2024-05-17"),
        }
        template = make(values)
        names = [c.name for c in template.columns]
        assert [n for n in names if ":" in n] == [
            "experiment:date",
            "setup:medium",
            "setup:identifier",
            "sp:general:sample type",
        ]
        assert names[0:2] == ["measurement", "source"] and "confirm" in names and names[-1] == "exported"
        assert column(template, "setup:medium") == [("", "missing"), ("water", "")]
        assert column(template, "setup:identifier")[0] == ("", "wanted")
        assert column(template, "experiment:date")[1] == ("2024-05-17", "guessed")
        assert column(template, "findings")[0] == ("missing: setup:medium", "fixed")
        assert "confirm" not in [c.name for c in make({"m1": known()}).columns]

    def test_what_was_asked_for(self):
        values = {"m1": known(imaging__pixel_size=0.34)}
        template = make(values, columns=["imaging:pixel size", "sp:chip:name", "sp:artificial"])
        assert column(template, "imaging:pixel size") == [("0.34", ""), ("", "")]
        names = [c.name for c in template.columns if c.name.startswith("sp:")]
        assert names == [
            "sp:general:sample type",
            "sp:artificial:type",
            "sp:artificial:details",
            "sp:chip:name",
        ]

    def test_supplements_of_the_sections_in_use(self):
        template = make({"m1": known(supplements={"cells:organism": "Homo sapiens"})})
        names = [c.name for c in template.columns]
        assert "sp:cells:pathology" in names and "sp:chip:name" not in names
        assert column(template, "sp:cells:organism")[0] == ("Homo sapiens", "")

    def test_what_describes_the_data_is_not_asked_for(self):
        gaps = {"imaging:roi size x": ["wrong", "violation", "Mismatch"]}
        assert "imaging:roi size x" not in [c.name for c in make({"m1": known(gaps)}).columns]
        forced = make({"m1": known(gaps)}, force=["imaging:roi size x"])
        assert "imaging:roi size x" in [c.name for c in forced.columns]

    def test_meaning_unit_and_choices(self):
        values = {
            "m1": known(dict.fromkeys(("setup:medium", "setup:chip region", "setup:flow rate"), MISSING))
        }
        columns = {c.name: c for c in make(values).columns}
        assert "µL/s" in columns["setup:flow rate"].meaning and columns["setup:flow rate"].needed == "yes"
        assert "CellCarrier" in columns["setup:medium"].choices and not columns["setup:medium"].only
        assert columns["setup:chip region"].choices == ("channel", "reservoir")
        assert columns["setup:chip region"].only
        assert columns["sp:general:sample type"].only

    def test_why_a_cell_is_wrong(self, tmp_path):
        wrong = ["wrong", "violation", "Invalid value for [imaging] 'pixel size': '-1.0'!"]
        gaps = {"imaging:pixel size": wrong, "experiment:date": GUESSED}
        template = make({"m1": known(), "m2": known(gaps, imaging__pixel_size=-1.0)})
        assert wrong[2] in column(template, "findings")[1][0]
        write_spreadsheet(template, tmp_path / "t.xlsx")
        sheet = openpyxl.load_workbook(tmp_path / "t.xlsx").worksheets[0]
        notes = {c.column: c.comment.text for c in sheet[5] if c.comment}
        names = [c.name for c in template.columns]
        assert {names[number - 1]: text for number, text in notes.items()} == {
            "imaging:pixel size": wrong[2],
            "experiment:date": GUESSED[2],
        }

    def test_what_is_counted_is_told_where_the_number_is_missing(self):
        """So that nobody fills in what the next run finds wrong."""
        words = "Missing key [fluorescence] 'laser count': lasers are counted that have a power; now 3"
        gaps = {"fluorescence:laser count": ["missing", "violation", words], "setup:medium": MISSING}
        template = make({"m1": known(gaps)})
        place = (0, [c.name for c in template.columns].index("fluorescence:laser count"))
        assert template.notes == {place: words}
        findings = column(template, "findings")[0][0]
        assert findings.endswith(f"; {words}") and findings.count("Missing key") == 1

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (float(np.float32(0.34)), "0.34"),
            (float(np.float32(1234.56)), "1234.56"),
            (float(np.float32(1e-7)), "1e-07"),
            (0.1 + 0.2, "0.30000000000000004"),
            (0.34, "0.34"),
            (2.0, "2"),
        ],
    )
    def test_numbers_of_single_precision_as_people_write_them(self, value, shown):
        template = make({"m1": known(imaging__pixel_size=value)}, columns=["imaging:pixel size"])
        text = column(template, "imaging:pixel size")[0][0]
        assert float(text) == pytest.approx(value) and text == shown

    def test_gone_measurements_need_no_row(self):
        assert len(make({}, [row("m1"), row("m2", status="gone")]).rows) == 1


class TestLoop:
    """A template is a sheet: saved as it is, it changes nothing; saved again, it loses nothing."""

    def sheet_of(self, template, tmp_path, **cells):
        table = table_of(template, tmp_path)
        for name, text in cells.items():
            table.rows[0][1][name.replace("__", ":").replace("_", " ")] = text
        sheet = MeasurementSheet(table, SUBJECTS)
        assert sheet.problems == []
        return table, sheet

    VALUES = {"m1": known({"setup:medium": GUESSED}, {"cells:fixed": True}, setup__medium="water")}  # noqa: RUF012

    def test_saved_as_it_is_it_says_nothing(self, tmp_path):
        _, sheet = self.sheet_of(make(self.VALUES), tmp_path)
        entry, wrong = sheet.entry("m1")
        assert wrong == [] and (entry.values, entry.supplements, entry.confirmed) == ({}, {}, {})

    def test_what_was_filled_in_stays_an_edit_in_the_next_template(self, tmp_path):
        filled = {"setup__medium": "oil", "sp:cells:fixed": "no", "confirm": "yes"}
        table, sheet = self.sheet_of(make(self.VALUES), tmp_path, **filled)
        first = sheet.entry("m1")[0]
        assert first.values["setup:medium"].value == "oil"
        now = {"m1": known({}, {"cells:fixed": False}, setup__medium="oil")}
        _, again = self.sheet_of(make(now, table=table), tmp_path)
        second = again.entry("m1")[0]
        assert {k: s.value for k, s in second.values.items()} == {"setup:medium": "oil"}
        assert {k: s.value for k, s in second.supplements.items()} == {"sp:cells:fixed": False}
        assert second.confirm

    def test_left_out_and_removed_stay_so(self, tmp_path):
        filled = {"use": "no", "reason": "clogged", "setup__medium": "-"}
        table, _ = self.sheet_of(make(self.VALUES), tmp_path, **filled)
        _, again = self.sheet_of(make({"m1": known()}, table=table), tmp_path)
        entry = again.entry("m1")[0]
        assert (entry.use, entry.reason, entry.values["setup:medium"].value) == (False, "clogged", None)


class TestDatasets:
    ROW = {"dataset": "d1", "source": "a", "status": "ready", "reason": "", "ready": 3, "title": "data"}  # noqa: RUF012

    def cells(self, rows, fields, table=None):
        template = dataset_template(DatasetSheet(table, [Subject("d1", ("a",))]), rows, fields)
        return {c.name: column(template, c.name) for c in template.columns}

    def test_fields_and_what_is_wrong_with_them(self):
        fields = {"d1": {"title": "data", "authors": ["A. Name", "B. Name"], "private": True}}
        cells = self.cells([self.ROW], fields)
        assert cells["authors"] == [("A. Name; B. Name", "")]
        assert cells["private"] == [("yes", "")]
        assert cells["title"] == [("data", "wrong")]
        assert cells["owner_org"] == [("", "missing")]
        assert "says nothing" in cells["findings"][0][0]

    def test_double_titles(self):
        rows = [self.ROW | {"title": "Blood", "dataset": d} for d in ("d1", "d2")]
        cells = self.cells(rows, {d: {"title": "Blood"} for d in ("d1", "d2")})
        assert [state for _, state in cells["title"]] == ["wrong", "wrong"]
        assert "2 datasets have the title 'Blood'" in cells["findings"][0][0]


@pytest.fixture
def template():
    columns = [
        Column("source", "path"),
        Column("setup:medium", "Medium used", "yes", ("CellCarrier", "water")),
        Column("setup:chip region", "Region", "yes", ("channel", "reservoir"), True),
        Column("long", "many choices", choices=tuple(f"choice number {n}" for n in range(40))),
        Column("exported", "marks"),
    ]
    rows = [[(f"a/M{n}.rtdc", "fixed"), (text, ""), ("", "missing"), ("", ""), ("", "fixed")]
            for n, text in enumerate(TRICKY)]  # fmt: skip
    return Template("metadata", columns, rows)


class TestSpreadsheet:
    def test_as_excel_sees_it(self, template, tmp_path):
        path = tmp_path / "t.xlsx"
        write_spreadsheet(template, path)
        sheet = openpyxl.load_workbook(path).worksheets[0]
        assert sheet.freeze_panes == "B4"
        assert [c.value for c in sheet[1]] == [c.name for c in template.columns]
        assert sheet["B1"].comment.text.startswith("Medium used\nNeeded: yes\nSuch as: CellCarrier")
        assert {c.number_format for line in sheet.iter_rows(min_row=4) for c in line if c.value} == {"@"}
        assert [sheet.cell(4 + n, 2).value for n in range(len(TRICKY))] == TRICKY
        assert sheet["C4"].fill.start_color.rgb == "FFF8CBAD"
        rules = {str(r.sqref): r for r in sheet.data_validations.dataValidation}
        assert rules["B4:B15"].formula1 == '"CellCarrier,water"' and not rules["B4:B15"].showErrorMessage
        assert rules["C4:C15"].showErrorMessage
        assert rules["D4:D15"].formula1 == "choices!$D$1:$D$40"
        assert sheet.column_dimensions["E"].hidden

    def test_equal_templates_give_equal_bytes(self, template, tmp_path, monkeypatch):
        write_spreadsheet(template, tmp_path / "a.xlsx")
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        write_spreadsheet(template, tmp_path / "b.xlsx")
        assert (tmp_path / "a.xlsx").read_bytes() == (tmp_path / "b.xlsx").read_bytes()

    def test_contents_are_those_of_the_files(self, template, tmp_path, monkeypatch):
        write_spreadsheet(template, tmp_path / "t.xlsx")
        assert contents(template) == (to_text(template).encode(), (tmp_path / "t.xlsx").read_bytes())
        monkeypatch.setattr("dcorflow.metadata.filling.LONGEST_SPREADSHEET", 2)
        assert contents(template) == (to_text(template).encode(), None)

    def test_through_excel(self, template, tmp_path):
        path = tmp_path / "t.xlsx"
        write_spreadsheet(template, path)
        book = openpyxl.load_workbook(path)
        book.worksheets[0]["C4"] = "channel"
        book.save(path)
        table = read_table(path)
        assert table.columns == [c.name for c in template.columns]
        assert [cells["setup:medium"] for _, cells in table.rows] == TRICKY
        assert table.rows[0][1]["setup:chip region"] == "channel"

    @pytest.mark.parametrize("suffix", ["xlsx", "ods", "csv"])
    def test_through_libreoffice(self, template, tmp_path, office, suffix):
        path = tmp_path / "t.xlsx"
        write_spreadsheet(template, path)
        table = read_table(office(path, suffix))
        assert table.columns == [c.name for c in template.columns]
        assert [cells["setup:medium"] for _, cells in table.rows] == TRICKY
        (tmp_path / "t.tsv").write_bytes(contents(template)[0])
        assert [c for _, c in read_table(tmp_path / "t.tsv").rows] == [c for _, c in table.rows]


@pytest.fixture(scope="session")
def office(tmp_path_factory, libreoffice):
    """Give a function that opens a spreadsheet in LibreOffice and saves it as another kind."""
    home = tmp_path_factory.mktemp("office")

    def save_as(path: Path, suffix: str) -> Path:
        out = path.parent / "saved"
        command = [libreoffice, f"-env:UserInstallation=file://{home}/profile", "--headless", "--convert-to"]
        command += [suffix, "--outdir", str(out), str(path)]
        subprocess.run(
            command, check=True, timeout=180, capture_output=True, env=os.environ | {"HOME": str(home)}
        )
        return out / f"{path.stem}.{suffix}"

    return save_as


@pytest.fixture(scope="session")
def libreoffice(request):
    """Give the program; install it where that is possible, else skip, but fail in CI."""
    program = debian.program("soffice", "libreoffice-calc-nogui")
    if program is None:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail("missing in CI: LibreOffice (apt install libreoffice-calc-nogui)")
        pytest.skip("LibreOffice is not installed (apt install libreoffice-calc-nogui)")
    return program


def test_a_sheet_of_another_program_needs_no_marks():
    table = Table(Path("own.csv"), ["source", "setup:medium"], [(2, {"source": "m1", "setup:medium": "oil"})])
    template = make({"m1": known(setup__medium="oil")}, table=table)
    assert column(template, "setup:medium")[0] == ("oil", "")
    assert column(template, "exported")[0][0] == "", "what the sheet says stays an edit"
