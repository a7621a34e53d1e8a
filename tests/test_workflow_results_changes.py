"""What changes in the results or the settings between two runs: what depends on it is redone."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import h5py
import pytest
from runs import PAGE, TASK, Comparison, Run, aged, contents, flip_bytes, later, sha256

TASKS = {f"task/g0000{n}" for n in (1, 2, 3)}
COMPRESSED = {f"compress/b00000{n}" for n in (1, 2, 3)}


def chunks(path: Path) -> dict[str, list[bytes]]:
    """Return the stored bytes of all chunks of a file's features."""
    found: dict[str, list[bytes]] = {}
    with h5py.File(path) as h5:
        for name, item in h5["events"].items():
            for number in range(item.id.get_num_chunks()):
                offset = item.id.get_chunk_info(number).chunk_offset
                found.setdefault(name, []).append(item.id.read_direct_chunk(offset)[1])
    return found


def medium(path: Path) -> str:
    with h5py.File(path) as h5:
        return str(h5.attrs.get("setup:medium", ""))


def content_of(run: Run, name: str) -> str:
    return str(json.loads(run.record(name).read_text("utf-8"))["content"])


def test_prepared_files_deleted_and_altered(lab: Run) -> None:
    before = lab.measurements()
    deleted, damaged, cut = (lab.prepared(n) for n in ("one.rtdc", "M1_data.rtdc", "M2_data.rtdc"))
    deleted.unlink()
    flip_bytes(damaged, damaged.stat().st_size // 2)
    os.truncate(cut, 1000)
    with Comparison(lab) as step:
        result = lab.good()
    assert contents(lab.measurements()) == contents(before)
    assert step.measurements == {deleted.name, damaged.name, cut.name}
    assert not result.jobs & {"compress/b000003", "check/b000003", "merge_metadata/b000003"}
    assert step.tasks == set()
    with Comparison(lab) as again:
        assert not lab.good().jobs
    assert again.files <= {"results/records/index.jsonl"}


def test_prepared_file_altered_but_not_its_size_and_time(lab: Run) -> None:
    """As a failing disk does it: only who reads everything finds it."""
    before, path = lab.measurements(), lab.prepared("one.rtdc")
    stat = path.stat()
    flip_bytes(path, stat.st_size // 2)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    lab.prepared("M1_data.rtdc").unlink()
    told = lab.dcorflow("verify")
    assert told.code == 1
    assert f"{path}: expected SHA256 {sha256(path)}"[:-64] in told.stdout
    assert "beta_M1_data.rtdc: expected SHA256" in told.stdout
    assert "6 prepared files verified, 2 problems" in told.stdout
    path.unlink()
    with Comparison(lab) as step:
        lab.good()
    assert step.measurements == {path.name, "beta_M1_data.rtdc"}
    assert contents(lab.measurements()) == contents(before)
    told = lab.dcorflow("verify")
    assert (told.code, told.stdout) == (0, "6 prepared files verified, 0 problems\n")


def test_prepared_file_touched(lab: Run) -> None:
    later(lab.prepared("one.rtdc"), 5)
    with Comparison(lab) as step:
        lab.good()
    assert step.measurements == set()
    assert not lab.good().jobs


def test_default_fills_a_gap_without_compressing(lab: Run, tmp_path: Path) -> None:
    stored = {name: chunks(lab.prepared(name)) for name in ("one.rtdc", "two.rtdc")}
    content = content_of(lab, "two.rtdc")
    lab.configure({"metadata.defaults": {"setup:medium": "CellCarrierB"}})
    with Comparison(lab) as step:
        result = lab.good()
    assert medium(lab.prepared("two.rtdc")) == "CellCarrierB"
    assert medium(lab.prepared("one.rtdc")) == "CellCarrier", "a default replaces nothing"
    assert {name: chunks(lab.prepared(name)) for name in stored} == stored
    assert content_of(lab, "two.rtdc") == content
    assert not result.jobs & COMPRESSED
    assert "two.rtdc" in step.measurements
    assert lab.row("two.rtdc")["sha256"] == sha256(lab.prepared("two.rtdc"))
    fresh = Run(tmp_path / "fresh", lab.source)
    fresh.config = lab.config
    fresh.configure({}).good()
    assert contents(fresh.measurements()) == contents(lab.measurements())


def test_default_that_changes_nothing_rewrites_nothing(lab: Run) -> None:
    lab.configure({"metadata.defaults": {"setup:chip region": "reservoir"}})
    with Comparison(lab) as step:
        lab.good()
    assert step.measurements == set(), "all have a chip region; a default only fills gaps"


def test_override_and_back(lab: Run) -> None:
    before = lab.measurements()
    lab.configure({"metadata.override": {"setup:medium": "water", "experiment:sample": "Zellen Ü"}})
    result = lab.good()
    assert {medium(lab.results / "datasets" / p) for p in lab.measurements()} == {"water"}
    assert not result.jobs & COMPRESSED
    with h5py.File(lab.prepared("one.rtdc")) as h5:
        history = json.loads(b"".join(h5["logs/dcorflow-history"][:]))
    edits = {e["key"]: e for e in history["edits"]}
    assert (edits["setup:medium"]["old"], edits["setup:medium"]["new"]) == ("CellCarrier", "water")
    lab.configure({"metadata.override": {}})
    result = lab.good()
    assert not result.jobs & COMPRESSED
    assert contents(lab.measurements()) == contents(before), "the tail came off again"


def test_encoder_changed(lab: Run) -> None:
    before = lab.measurements()
    lab.configure({"prepare.encoder": "best"})
    with Comparison(lab) as step:
        result = lab.good()
    assert step.measurements == {Path(p).name for p in before}
    assert result.jobs >= COMPRESSED
    for name in ("one.rtdc", "M1_data.rtdc", "six.rtdc"):
        [source] = lab.source.rglob(name)
        assert lab.dcorflow("verify", lab.prepared(name), source).code == 0


def test_policies_concern_only_tasks(lab: Run) -> None:
    assert int(lab.row("two.rtdc")["violations"]) > 0
    lab.configure({"check.on_violation": "exclude"})
    with Comparison(lab) as step:
        result = lab.good()
    assert result.jobs == TASKS
    assert step.measurements == set()
    assert step.tasks == {"alpha"}
    row = lab.row("two.rtdc")
    assert (row["status"], row["dataset_status"]) == ("excluded", "incomplete")
    assert "medium" in row["reason"]
    assert lab.resources("one.rtdc") == ["one.rtdc", "notes.txt"]

    lab.configure({"check.on_violation": "block", "check.strict": True})
    with Comparison(lab) as step:
        result = lab.run()
    assert result.code == 1
    assert step.measurements == set()
    assert sorted(lab.tasks()) == ["beta", "gamma"]
    assert lab.row("one.rtdc")["dataset_status"] == "blocked"
    assert "blocked" in result.stdout

    lab.configure({"check.ignore": ["metadata-missing:setup:*"]})
    with Comparison(lab) as step:
        result = lab.good()
    assert step.measurements == set()
    assert result.jobs == TASKS
    assert lab.row("two.rtdc")["status"] == "ready"
    assert lab.row("two.rtdc")["violations"] == "0"


def test_tasks_and_companions_deleted_and_altered(lab: Run) -> None:
    before = lab.datasets()
    datasets = lab.results / "datasets"
    (datasets / "alpha" / TASK).unlink()
    (datasets / "beta" / TASK).write_text("{}", encoding="utf-8")
    (datasets / "alpha" / "notes.txt").unlink()
    with Comparison(lab) as step:
        result = lab.good()
    assert contents(lab.datasets()) == contents(before)
    assert step.measurements == set()
    assert result.jobs == {"task/g00001", "task/g00002"}


def test_dataset_fields_and_private(lab: Run) -> None:
    defaults = lab.config["datasets"]["defaults"] | {"collections": ["cells"]}
    lab.configure({"datasets.defaults": defaults, "check.on_private": "warn"})
    (lab.source / "beta" / "dcorflow.yaml").write_text(
        "dataset: {title: Two donors, private: false, authors: [Émile Ü]}\n", encoding="utf-8"
    )
    with Comparison(lab) as step:
        result = lab.good()
    assert step.measurements == set()
    assert result.jobs == TASKS
    tasks = lab.tasks()
    assert tasks["beta"]["dataset_dict"] | {} == {
        "title": "Two donors",
        "private": False,
        "authors": "Émile Ü",
        "license_id": "CC0-1.0",
        "owner_org": "my-circle",
        "groups": [{"name": "cells"}],
    }
    assert tasks["alpha"]["dataset_dict"]["private"] is True
    assert tasks["alpha"]["dataset_dict"]["title"] == "alpha"


def test_folder_file_leaves_out_and_overrides(lab: Run) -> None:
    (lab.source / "alpha" / "dcorflow.yaml").write_text(
        "measurements:\n  two.rtdc: {use: no, reason: the chip was clogged}\n"
        "metadata: {override: {'setup:medium': water}, supplements: {'cells:organism': human}}\n",
        encoding="utf-8",
    )
    (lab.source / "gamma" / "dcorflow.yaml").write_text("use: no\nreason: a trial\n", encoding="utf-8")
    with Comparison(lab) as step:
        lab.good()
    assert step.measurements == {"one.rtdc"}
    row = lab.row("two.rtdc")
    assert (row["status"], row["dataset_status"]) == ("excluded", "ready")
    assert "the chip was clogged" in row["reason"]
    assert lab.row("five.rtdc")["status"] == "excluded"
    assert medium(lab.prepared("one.rtdc")) == "water"
    assert lab.task_of("one.rtdc")["upload_job"]["resource_supplements"] == [
        {"cells": {"organism": "human"}},
        {},
    ]
    assert "gamma" not in lab.tasks()
    for folder in ("alpha", "gamma"):
        (lab.source / folder / "dcorflow.yaml").unlink()
    with Comparison(lab) as step:
        lab.good()
    assert set(lab.statuses().values()) == {"ready"}
    assert step.measurements <= {"one.rtdc"}
    assert sorted(lab.tasks()) == ["alpha", "beta", "gamma"]


def test_mistakes_in_folder_files_change_nothing(lab: Run) -> None:
    for folder, text in (
        ("alpha", "use: no\n"),
        ("beta", "dataste: {}\ndataset: {authors: ['Name, A.']}\n"),
        ("gamma", "a: [\n"),
    ):
        (lab.source / folder / "dcorflow.yaml").write_text(text, encoding="utf-8")
    with Comparison(lab) as step:
        result = lab.run()
    assert result.code != 0
    assert {p for p in step.files if p.startswith("results/")} == PAGE
    for words in ("alpha/dcorflow.yaml: 'use' is no, but 'reason'", "did you mean 'dataset'", "comma",
                  "gamma/dcorflow.yaml: not valid YAML"):  # fmt: skip
        assert words in result.stderr
    assert "Traceback" not in result.text


def test_mistyped_metadata_in_a_folder_file_changes_nothing(lab: Run) -> None:
    text = "metadata: {override: {'setup:mediun': water}, defaults: {'imaging:pixel size': small}}\n"
    (lab.source / "alpha" / "dcorflow.yaml").write_text(text, encoding="utf-8")
    with Comparison(lab) as step:
        result = lab.run()
    assert result.code != 0
    assert {p for p in step.files if p.startswith("results/")} == PAGE
    for words in ("alpha/dcorflow.yaml", "did you mean 'setup:medium'", "'imaging:pixel size'"):
        assert words in result.stderr
    assert "Traceback" not in result.text


def test_state_deleted(lab: Run) -> None:
    before = lab.datasets()
    summary = (lab.results / "summary.tsv").read_bytes()
    shutil.rmtree(lab.state)
    with Comparison(lab) as step:
        lab.good()
    assert lab.datasets() == before, "stamps are throw-away: nothing prepared is written again"
    assert (lab.results / "summary.tsv").read_bytes() == summary
    assert not {p for p in step.files if p.startswith("results/records/")}
    assert not lab.good().jobs


def test_records_lost_and_damaged(lab: Run) -> None:
    before = lab.measurements()
    lab.record("one.rtdc").unlink()
    half, edited = lab.record("M1_data.rtdc"), lab.record("five.rtdc")
    edited.write_text(edited.read_text("utf-8").replace("CellCarrier", "water"), "utf-8")
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    with Comparison(lab) as step:
        lab.good()
    assert contents(lab.measurements()) == contents(before)
    assert step.measurements == {"one.rtdc", "beta_M1_data.rtdc", "five.rtdc"}
    assert set(lab.statuses().values()) == {"ready"}
    assert json.loads(half.read_text("utf-8"))["prepared"]["sha256"] == lab.row("M1_data.rtdc")["sha256"]
    lab.good()
    assert not lab.good().jobs


@pytest.mark.parametrize("damage", ["cut", "no text", "deleted"])
def test_record_index_damaged(lab: Run, damage: str) -> None:
    index = lab.results / "records" / "index.jsonl"
    good = index.read_bytes()
    if damage == "deleted":
        index.unlink()
    else:
        index.write_bytes(good[: len(good) // 2] if damage == "cut" else b"\xff\x00[1]\n[[], {}]\nnull\n")
    with Comparison(lab) as step:
        result = lab.good()
    assert not result.jobs
    assert step.files == {"results/records/index.jsonl"}
    assert index.read_bytes() == good


def test_inventory_deleted(lab: Run) -> None:
    before, rows = lab.datasets(), lab.rows()
    (lab.results / "inventory.tsv").unlink()
    lab.good()
    assert lab.datasets() == before
    assert lab.rows() == rows
    lab.good()
    assert not lab.good().jobs


def test_inventory_damaged(lab: Run) -> None:
    inventory = lab.results / "inventory.tsv"
    damaged = inventory.read_bytes()[:-40]
    inventory.write_bytes(damaged)
    with Comparison(lab) as step:
        result = lab.run()
    assert result.code != 0
    assert "inventory.tsv" in result.text
    assert "damaged" in result.text
    assert "Traceback" not in result.text
    assert not {p for p in step.files if p.startswith("results/")}


def test_work_directory_moved(lab: Run) -> None:
    place = lab.work.with_name("moved")
    lab.work.rename(place)
    moved = Run(place, lab.source)
    moved.config = lab.config
    moved.configure({})
    before = moved.measurements()
    moved.good()
    assert moved.measurements() == before
    assert set(moved.statuses().values()) == {"ready"}
    paths = {Path(p) for t in moved.tasks().values() for p in t["upload_job"]["resource_paths"]}
    assert all(p.is_file() and place in p.parents for p in paths), "tasks name the new place"
    shutil.rmtree(place)


def test_source_tree_moved(lab: Run) -> None:
    place = lab.source.with_name("share") / "source"
    place.parent.mkdir()
    lab.source.rename(place)
    before = lab.datasets()
    lab.configure({"input.root": str(place)}).good()
    assert lab.datasets() == before
    assert set(lab.statuses().values()) == {"ready"}


def test_plan_writes_nothing_and_tells_what_a_run_does(lab: Run) -> None:
    with Comparison(lab) as step:
        nothing = lab.dcorflow("plan")
    assert nothing.code == 0
    assert "to prepare: 0 measurements" in nothing.stdout
    assert "to edit without compressing: 0 measurements" in nothing.stdout

    shutil.copy(lab.source / "alpha" / "two.rtdc", lab.source / "alpha" / "zero.rtdc")
    with h5py.File(lab.source / "alpha" / "zero.rtdc", "r+") as h5:
        h5["events/deform"][0] += 0.5
    aged(lab.source / "alpha" / "zero.rtdc")
    lab.prepared("M1_data.rtdc").unlink()
    (lab.results / "datasets" / "gamma" / TASK).unlink()
    lab.configure({"metadata.override": {"setup:medium": "water"}})
    with Comparison(lab) as step:
        plan = lab.dcorflow("plan", "--configfile", lab.configfile)
    assert plan.code == 0, plan.text
    assert changed_names(step) == set()
    assert "to prepare: 2 measurements" in plan.stdout
    assert "to edit without compressing: 5 measurements" in plan.stdout
    assert "tasks or companions to restore: 1" in plan.stdout
    with Comparison(lab) as step:
        lab.good()
    assert step.measurements == {Path(p).name for p in lab.measurements()}
    assert "to prepare: 0 measurements" in lab.dcorflow("plan").stdout


def changed_names(step: Comparison) -> set[str]:
    """Return everything that differs, Snakemake's notes and stamps included."""
    return {p for p in step.before.keys() | step.after.keys() if step.before.get(p) != step.after.get(p)}
