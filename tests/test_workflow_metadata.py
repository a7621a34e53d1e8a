"""Metadata as a user completes it: run, fill in the sheet, run again."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import openpyxl
import pytest
from demo_tdms import write_tdms
from recipes import small_measurement
from runs import PAGE, Comparison, Run, aged, contents, sha256

from dcorflow import templates
from dcorflow.files import read_json
from dcorflow.metadata.tables import read_table
from dcorflow.report.summary import gather
from dcorflow.workdir import Workdir

SOURCES = ("day1/one.rtdc", "day1/two.rtdc", "day2/M1_data.rtdc", "day2/M2_data.rtdc")


def tree(folder: Path) -> Run:
    """Write a tree in which two measurements lack a medium."""
    source = folder / "source"
    for number, name in enumerate(SOURCES):
        medium = None if name in ("day1/two.rtdc", "day2/M1_data.rtdc") else "CellCarrier"
        small_measurement(source / name, seed=number, metadata={"setup:medium": medium})
    aged(source)
    return Run(folder / "work", source, **{"batches.files": 2, "batches.datasets": 1})


@pytest.fixture
def lab(tmp_path: Path) -> Run:
    """Give a tree of one's own."""
    return tree(tmp_path)


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Give a tree after its first run, for tests that leave it as it is."""
    run = tree(tmp_path_factory.mktemp("ready"))
    run.good()
    return run


def template(run: Run, name: str = "metadata") -> dict[str, dict[str, str]]:
    """Return the rows of a template by source."""
    table = read_table(run.results / f"{name}_template.tsv")
    return {cells["source"]: cells for _, cells in table.rows}


def fill(run: Run, cells: dict[str, dict[str, Any]], name: str = "metadata") -> Path:
    """Fill in a template in a spreadsheet program, save it in the work directory and name it."""
    book = openpyxl.load_workbook(run.results / f"{name}_template.xlsx")
    sheet = book.worksheets[0]
    columns = {cell.value: cell.column for cell in sheet[1]}
    rows = {row[columns["source"] - 1].value: row for row in sheet.iter_rows(min_row=4)}
    for source, values in cells.items():
        for column, value in values.items():
            rows[source][columns[column] - 1].value = value
    path = run.work / f"{name}.xlsx"
    book.save(path)
    run.configure({f"{name}.sheet": path.name})
    return path


def attribute(path: Path, key: str) -> Any:
    with h5py.File(path) as h5:
        return h5.attrs.get(key)


def history(path: Path) -> dict[str, Any]:
    with h5py.File(path) as h5:
        found: dict[str, Any] = json.loads(b"".join(h5["logs/dcorflow-history"][:]))
    return found


def test_two_runs_complete_the_metadata(lab: Run, tmp_path: Path) -> None:
    first = lab.good()
    assert "results/metadata_template.xlsx" in first.text
    rows = template(lab)
    assert set(rows) == set(SOURCES)
    assert "setup:medium" in rows["day1/one.rtdc"], "shown where it is there"
    assert "setup:medium" not in rows["day1/two.rtdc"]
    assert "missing: setup:medium" in rows["day1/two.rtdc"]["findings"]
    assert int(lab.row("two.rtdc")["violations"]) == int(lab.row("one.rtdc")["violations"]) + 1
    fill(lab, {"day1/two.rtdc": {"setup:medium": "water"}, "day2/M1_data.rtdc": {"setup:medium": "-"}})
    with Comparison(lab) as step:
        lab.good()
    assert step.measurements == {"two.rtdc"}, "the other cells say what is there"
    prepared = lab.prepared("two.rtdc")
    assert attribute(prepared, "setup:medium") == "water"
    assert lab.row("two.rtdc")["sha256"] == sha256(prepared)
    assert lab.row("two.rtdc")["violations"] == lab.row("one.rtdc")["violations"], "it counts no more"
    record = json.loads(lab.record("two.rtdc").read_text("utf-8"))
    [edit] = [e for e in record["edits"] if e["key"] == "setup:medium"]
    assert (edit["kind"], edit["where"]) == ("sheet", "metadata.xlsx, row 5, column 'setup:medium'")
    [told] = [e for e in history(prepared)["edits"] if e["key"] == "setup:medium"]
    assert told == {"key": "setup:medium", "old": None, "new": "water", "kind": "sheet"}
    with Comparison(lab) as again:
        assert not lab.good().jobs
    assert again.files == set()
    fresh = Run(tmp_path / "fresh", lab.source)
    fresh.config = json.loads(json.dumps(lab.config))
    shutil.copy(lab.work / "metadata.xlsx", tmp_path / "fresh" / "metadata.xlsx")
    fresh.configure({}).good()
    assert contents(fresh.measurements()) == contents(lab.measurements())


def test_the_next_template_is_as_good_as_the_sheet(lab: Run) -> None:
    lab.good()
    fill(lab, {"day1/two.rtdc": {"setup:medium": "water", "sp:general:sample type": "primary cells"},
               "day2/M2_data.rtdc": {"use": "no", "reason": "clogged"}})  # fmt: skip
    lab.good()
    before = contents(lab.datasets())
    assert lab.row("M2_data.rtdc")["status"] == "excluded"
    assert "clogged" in lab.row("M2_data.rtdc")["reason"]
    task = lab.task_of("two.rtdc")["upload_job"]
    assert {"general": {"sample type": "primary cells"}} in task["resource_supplements"]
    shutil.copy(lab.results / "metadata_template.tsv", lab.work / "again.tsv")
    lab.configure({"metadata.sheet": "again.tsv"})
    lab.good()
    assert contents(lab.datasets()) == before


def test_a_template_filled_in_in_its_place_is_not_lost(lab: Run) -> None:
    lab.good()
    path = lab.results / "metadata_template.xlsx"
    book = openpyxl.load_workbook(path)
    book.worksheets[0]["B4"] = "filled in"
    book.save(path)
    edited = path.read_bytes()
    small_measurement(lab.source / "day3" / "new.rtdc", seed=9)
    aged(lab.source)
    result = lab.good()
    kept = lab.results / "metadata_template_edited1.xlsx"
    assert kept.read_bytes() == edited
    assert f"it is kept as results/{kept.name}" in result.text
    assert "day3/new.rtdc" in template(lab)
    assert "edited" not in lab.good().text


def test_a_template_of_a_killed_run_is_not_taken_for_an_edited_one(
    ready: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run wrote the templates, and was killed before it could note that it had."""
    settings = read_json(ready.state / "config.json")
    settings["metadata"]["columns"] = ["setup:temperature"]
    write, work = templates.write_bytes_if_changed, Workdir(ready.work)
    summary = gather(work)

    def killed(path: Path, data: bytes) -> None:
        write(path, data)
        if path.name.startswith("datasets"):
            raise SystemExit(137)

    with monkeypatch.context() as patch:
        patch.setattr(templates, "write_bytes_if_changed", killed)
        with pytest.raises(SystemExit):
            templates.write_templates(work, settings, summary)
    assert "setup:temperature" in template(ready)[SOURCES[0]]
    settings["metadata"]["columns"] = []
    assert templates.write_templates(work, settings, summary) == []
    assert "setup:temperature" not in template(ready)[SOURCES[0]]


def test_own_table_with_patterns(lab: Run) -> None:
    lab.good()
    table = "source;setup:medium;setup:temperature\nday2/*;oil;23.5\nday2/M1_data.rtdc;water;\n"
    (lab.work / "own.csv").write_bytes(table.encode("cp1252"))
    lab.configure({"metadata.sheet": "own.csv"}).good()
    media = [attribute(lab.prepared(Path(s).name), "setup:medium") for s in SOURCES]
    assert media == ["CellCarrier", None, "water", "oil"]
    assert attribute(lab.prepared("M1_data.rtdc"), "setup:temperature") == 23.5


def test_all_mistakes_at_once_and_before_anything_is_touched(ready: Run) -> None:
    lines = [
        ["source", "setup:medium", "imaging:pixel size", "sp:cells:fixed"],
        ["day1/one.rtdc", "oil", "0,34", ""],
        ["day3/*", "water", "", ""],
        ["day1/two.rtdc", "", "", "perhaps"],
    ]
    (ready.work / "own.tsv").write_text("\n".join("\t".join(line) for line in lines), encoding="utf-8")
    datasets = 'dataset,authors\nday1,"Name, A."\n'
    (ready.work / "datasets.csv").write_text(datasets, encoding="utf-8")
    ready.configure({"metadata.sheet": "own.tsv", "datasets.sheet": "datasets.csv"})
    with Comparison(ready) as step:
        result = ready.run()
    ready.configure({"metadata.sheet": None, "datasets.sheet": None})
    assert result.code != 0
    for words in (
        "own.tsv, row 2, column 'imaging:pixel size': 'imaging:pixel size': decimal comma in '0,34'",
        "row 3: 'day3/*' matches nothing",
        "own.tsv, row 4, column 'sp:cells:fixed': supplement 'cells:fixed' must be yes or no",
        "datasets.csv, row 2, column 'authors': a name must not hold a comma",
    ):
        assert words in result.text
    assert {p for p in step.files if not p.startswith("logs/")} <= PAGE | {"results/.state/config.json"}


def test_guesses_block_until_they_are_confirmed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    path = write_tdms(source / "20240517_blood", "M3_data")
    settings = path.with_name("M3_para.ini")
    kept = [t for t in settings.read_text("utf-8").splitlines() if not t.startswith(("Date", "Start Time"))]
    settings.write_text("\n".join(kept), encoding="utf-8")
    aged(source)
    run = Run(tmp_path / "work", source)
    run.good()
    row = run.row("M3_data.tdms")
    assert (row["status"], row["dataset_status"]) == ("excluded", "blocked")
    assert "experiment:date 2024-05-17" in row["reason"], "a date in the path is better than the file's"
    assert not run.tasks()
    name = "20240517_blood/M3_data.tdms"
    time = template(run)[name]["experiment:time"]
    before = run.measurements()
    fill(run, {name: {"confirm": "yes"}})
    run.good()
    assert run.row("M3_data.tdms")["dataset_status"] == "ready"
    assert run.measurements() == before, "confirmed values change no byte"
    fill(run, {name: {"experiment:time": "10:00:00", "confirm": None}})
    assert time != "10:00:00"
    run.good()
    assert run.row("M3_data.tdms")["dataset_status"] == "blocked", "the date is a guess again"
    assert attribute(run.prepared("M3_data.tdms"), "experiment:time") == "10:00:00"
    run.configure({"check.on_guessed": "accept"}).good()
    assert run.row("M3_data.tdms")["dataset_status"] == "ready"


def test_rules_on_the_path(lab: Run) -> None:
    rule = {
        "match": r"day(?P<day>\d)/(?P<stem>[^/.]+)",
        "set": {"experiment:sample": "donor {day}", "setup:medium": "water"},
        "map": {"day": {"1": {"sp:cells:pathology": "healthy"}}},
    }
    lab.configure({"metadata.from_path": [rule | {"override": False}]}).good()
    media = [attribute(lab.prepared(Path(s).name), "setup:medium") for s in SOURCES]
    assert media == ["CellCarrier", "water", "water", "CellCarrier"], "a rule fills gaps"
    supplements = {
        n: lab.task_of(n)["upload_job"]["resource_supplements"] for n in ("one.rtdc", "M1_data.rtdc")
    }
    assert supplements["one.rtdc"][0] == {"cells": {"pathology": "healthy"}}
    assert supplements["M1_data.rtdc"][0] == {}
    result = lab.configure({"metadata.from_path": [rule | {"override": True}]}).good()
    assert attribute(lab.prepared("one.rtdc"), "experiment:sample") == "donor 1"
    assert "'map.day' has no entry for '2'" in result.text


def test_datasets_in_one_table(lab: Run) -> None:
    lab.good()
    rows = template(lab, "datasets")
    assert rows["day1"]["authors"] == "A. Name; B. Name" and rows["day1"]["private"] == "yes"
    lab.configure({"check.on_private": "warn"})
    fill(lab, {"day1": {"title": "Blood of day one", "tags": "blood; cells", "private": "no"}}, "datasets")
    with Comparison(lab) as step:
        lab.good()
    assert step.tasks == {"day1"} and step.measurements == set()
    fields = lab.task_of("one.rtdc")["dataset_dict"]
    assert (fields["title"], fields["private"]) == ("Blood of day one", False)
    assert fields["tags"] == [{"name": "blood"}, {"name": "cells"}]


def test_names_as_dckit_gives_them(lab: Run) -> None:
    lab.good()
    before = lab.measurements()
    lab.configure({"prepare.naming": "dckit"}).good()
    assert lab.measurements() == before, "only the names on DCOR change"
    digest = sha256(lab.source / "day1/one.rtdc")[:8]
    [name] = [n for n in lab.resources("one.rtdc") if n.endswith(f"_{digest}.rtdc")]
    with h5py.File(lab.prepared("one.rtdc")) as h5:
        parts = [h5.attrs["experiment:date"], f"M{h5.attrs['experiment:run index']}"]
        parts.append(f"{h5.attrs['setup:flow rate']:.4f}uls")
    assert name.startswith("_".join(parts) + "_")
    assert f"published as {name}" in lab.row("one.rtdc")["reason"]


def test_summary_counts_replaced_values(lab: Run) -> None:
    lab.configure({"metadata.override": {"setup:medium": "water"}})
    assert "2 values of the sources replaced" in lab.good().text


def test_template_is_plain_text_for_any_program(ready: Run) -> None:
    with (ready.results / "metadata_template.tsv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.reader(stream, delimiter="\t"))
    assert {len(line) for line in lines} == {len(lines[0])}
    assert lines[1][0].startswith("# meaning") and lines[2][0].startswith("# needed")
