"""The summary, JUnit XML, last lines and verdict of a run."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from dcorflow.files import read_tsv, to_json, write_text
from dcorflow.records import SourceFile
from dcorflow.report.summary import Summary, exit_code, gather
from dcorflow.report.tables import COLUMNS, junit, summary_table, write_report
from dcorflow.report.words import last_lines
from dcorflow.source.inventory import Item, save_inventory
from dcorflow.workdir import Workdir

ODD = "a\x00b\x1b[31m\tc\n\udcff\ufffe]]>&<\"'\U0001f52c"


def row(source="a/M1.rtdc", status="ready", reason="", **values):
    return {
        "measurement": source.replace("/", "_"),
        "dataset": "a",
        "source": source,
        "status": status,
        "reason": reason,
        "retry": False,
        "by_policy": False,
        "events": 8,
        "source_bytes": 100,
        "prepared_bytes": 50 if status == "ready" else "",
        "violations": 0,
        "alerts": 1,
        "sha256": "00" if status == "ready" else "",
        "note": "",
        "root": "raw",
        "replaced": 0,
        "gaps": 0,
        "dataset_status": "ready",
        "dataset_id": "",
    } | values


def decided(dataset="a", status="ready", title="T", **values):
    return {
        "dataset": dataset,
        "source": dataset,
        "title": title,
        "status": status,
        "reason": "why",
        "dataset_id": "",
        "companions": [],
        "warnings": [],
        "files": {},
    } | values


STATUSES = ("ready", "excluded", "failed", "in progress", "gone")


class TestTable:
    def test_columns_are_those_of_the_contract(self):
        assert COLUMNS == (
            "measurement", "dataset", "source", "status", "reason", "events", "source_bytes",
            "prepared_bytes", "violations", "alerts", "sha256", "dataset_status", "dataset_id",
        )  # fmt: skip

    def test_rows_survive_odd_text(self, tmp_path):
        summary = Summary([row(f"a/{ODD}.rtdc", "failed", ODD), row("a/M2.rtdc")], [decided()])
        write_text(tmp_path / "s.tsv", summary_table(summary))
        columns, rows = read_tsv(tmp_path / "s.tsv")
        assert tuple(columns) == COLUMNS
        values = [dict(zip(columns, r, strict=True)) for r in rows]
        assert {v["source"] for v in values} == {f"a/{ODD}.rtdc", "a/M2.rtdc"}
        assert {v["reason"] for v in values} == {ODD, ""}
        assert len((tmp_path / "s.tsv").read_text().split("\n")) == 4

    def test_notes_stand_in_the_reason(self):
        table = summary_table(Summary([row(note="n"), row("a/M2.rtdc", "failed", "r", note="n")]))
        reasons = [line.split("\t")[4] for line in table.splitlines()[1:]]
        assert reasons == ["n", "r; n"]

    def test_the_order_does_not_matter(self):
        rows = [row(f"a/M{n}.rtdc") for n in range(5)]
        assert summary_table(Summary(rows)) == summary_table(Summary(rows[::-1]))


class TestJunit:
    def test_each_measurement_is_a_case(self):
        summary = Summary([row(f"a/{s}.rtdc", s, "why") for s in STATUSES])
        suites = ElementTree.fromstring(junit(summary).encode())
        (suite,) = suites
        assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("5", "1", "3")
        kinds = {case.get("name"): [child.tag for child in case] for case in suite}
        assert kinds["a/ready.rtdc"] == []
        assert kinds["a/failed.rtdc"] == ["failure"]
        assert all(kinds[f"a/{s}.rtdc"] == ["skipped"] for s in ("excluded", "in progress", "gone"))

    def test_odd_text_gives_valid_xml(self):
        summary = Summary([row(f"{ODD}.rtdc", "failed", ODD, dataset=ODD), row("b.rtdc", "gone", ODD)])
        suites = ElementTree.fromstring(junit(summary).encode("utf-8"))
        (failure,) = suites.iter("failure")
        assert "]]>&<" in failure.get("message")
        assert "\U0001f52c" in failure.get("message")

    def test_measurements_without_a_dataset(self):
        suites = ElementTree.fromstring(junit(Summary([row(dataset="")])).encode())
        assert suites[0].get("name") == "no dataset"

    def test_nothing(self):
        assert ElementTree.fromstring(junit(Summary()).encode()).tag == "testsuites"


class TestVerdict:
    @pytest.mark.parametrize(
        ("rows", "datasets", "code", "strict"),
        [
            ([row()], [decided()], 0, 0),
            ([row(status="failed")], [decided(status="incomplete")], 0, 1),
            ([row(status="failed", retry=True)], [decided(status="incomplete")], 1, 1),
            ([row(status="excluded", by_policy=True)], [decided(status="incomplete")], 0, 1),
            ([row(status="excluded", by_policy=True)], [decided()], 0, 1),
            ([row(status="excluded", reason="use: no (bad)")], [decided()], 0, 0),
            ([row(status="excluded", reason="same content as a/M2.rtdc")], [decided()], 0, 0),
            ([row(status="in progress", reason="young")], [decided(status="incomplete")], 0, 0),
            ([row(status="gone")], [decided()], 0, 0),
            ([row()], [decided(status="blocked")], 0, 1),
        ],
    )
    def test_exit_codes(self, rows, datasets, code, strict):
        summary = Summary(rows, datasets)
        assert exit_code(summary, strict=False) == code
        assert exit_code(summary, strict=True) == strict


class TestLastLines:
    def lines(self, tmp_path, *rows, datasets=(), warnings=()):
        summary = Summary(list(rows), list(datasets), list(warnings))
        return "\n".join(last_lines(summary, Workdir(tmp_path)))

    def test_counts_and_reasons(self, tmp_path):
        text = self.lines(
            tmp_path,
            row(),
            row("a/bad.rtdc", "failed", "not an HDF5 file"),
            row("a/x.rtdc", "excluded", "use: no (x)"),
            datasets=[decided(status="incomplete"), decided("b", title="U")],
        )
        assert "3 measurements: 1 ready, 1 excluded, 1 failed" in text
        assert "a/bad.rtdc: not an HDF5 file" in text
        assert "2 datasets: 1 incomplete, 1 ready" in text
        assert "use: no" in text

    def test_long_lists_are_cut(self, tmp_path):
        rows = [row(f"a/{n}.rtdc", "failed", "bad") for n in range(40)]
        text = self.lines(tmp_path, *rows)
        assert "and 28 more" in text
        assert text.count("bad") < 20

    def test_equal_titles_are_told(self, tmp_path):
        text = self.lines(tmp_path, row(), datasets=[decided(), decided("b")])
        assert "2 datasets have the title 'T'" in text

    def test_blocked_datasets_say_why(self, tmp_path):
        assert "blocked      a: why" in self.lines(tmp_path, row(), datasets=[decided(status="blocked")])

    def test_names_cannot_write_to_the_terminal(self, tmp_path):
        text = self.lines(
            tmp_path,
            row(f"a/{ODD}.rtdc", "failed", f"changed {ODD}"),
            datasets=[decided(title=ODD), decided("b", title=ODD)],
            warnings=[ODD],
        )
        text.encode("utf-8")  # or the run ends with an error instead of its last lines
        assert "\x1b" not in text

    def test_nothing_found(self, tmp_path):
        assert "nothing" in self.lines(tmp_path)


class TestGather:
    @pytest.mark.parametrize(
        ("state", "status"),
        [
            ("found", "in progress"),
            ("in progress", "in progress"),
            ("problem", "failed"),
            ("duplicate", "excluded"),
            ("left out", "excluded"),
            ("left alone", "excluded"),
            ("gone", "gone"),
        ],
    )
    def test_what_no_job_settled_is_reported_all_the_same(self, tmp_path, state, status):
        work = Workdir(tmp_path)
        item = Item("m", "raw", "a/M1.rtdc", "rtdc", (SourceFile("a/M1.rtdc", 7, 1),), state=state)
        save_inventory(work.inventory, [item])
        (found,) = gather(work).measurements
        assert (found["status"], found["source_bytes"]) == (status, 7)

    def test_every_measurement_has_exactly_one_row(self, tmp_path):
        work = Workdir(tmp_path)
        items = [Item(f"m{n}", "raw", f"M{n}.rtdc", "rtdc", state="gone") for n in range(3)]
        save_inventory(work.inventory, items)
        write_report(work)
        assert len(read_tsv(work.summary)[1]) == 3

    def test_again_writes_nothing(self, tmp_path):
        work = Workdir(tmp_path)
        save_inventory(work.inventory, [Item("m", "raw", "M1.rtdc", "rtdc", state="gone")])
        write_report(work)
        before = [p.stat().st_ino for p in (work.summary, work.junit)]
        write_report(work)
        assert [p.stat().st_ino for p in (work.summary, work.junit)] == before

    def test_before_the_first_run(self, tmp_path):
        assert gather(Workdir(tmp_path)).measurements == []

    def test_a_damaged_plan(self, tmp_path):
        work = Workdir(tmp_path)
        write_text(work.state / "plan.json", to_json({"groups": {"g1": []}, "warnings": []}))
        save_inventory(work.inventory, [Item("m", "raw", "M1.rtdc", "rtdc", state="gone")])
        with pytest.raises((OSError, ValueError)):
            gather(work)  # the plan of the group is missing: no report is better than a wrong one
