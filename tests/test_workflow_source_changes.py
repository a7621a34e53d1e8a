"""What changes in the source tree between two runs: what depends on it is redone, and no more."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import pytest
import recipes
from runs import PAGE, Comparison, Run, aged, later, sha256

ALPHA, BETA, GAMMA = (f"task/g0000{n}" for n in (1, 2, 3))


def batch_jobs(number: int) -> set[str]:
    """Return the jobs of one batch."""
    return {f"{rule}/b{number:06d}" for rule in ("compress", "check", "merge_metadata")}


def alter(path: Path) -> None:
    """Change one value in a measurement; its size stays, its time moves by a minute."""
    time = path.stat().st_mtime
    size = path.stat().st_size
    with h5py.File(path, "r+") as h5:
        h5["events/deform"][3] += 0.01
    assert path.stat().st_size == size
    aged(path)
    later(path)
    assert path.stat().st_mtime == time + 60


def test_nothing_changed(lab: Run) -> None:
    with Comparison(lab) as step:
        result = lab.good()
    assert step.files == set()
    assert result.jobs == {"discover"} or result.jobs == set()
    assert set(lab.statuses().values()) == {"ready"}


def test_added(lab: Run) -> None:
    aged(recipes.small_measurement(lab.source / "alpha" / "new.rtdc", seed=99))
    with Comparison(lab) as step:
        result = lab.good()
    assert step.measurements == {"new.rtdc"}
    assert step.tasks == {"alpha"}
    assert result.jobs == batch_jobs(4) | {ALPHA}
    assert lab.resources("alpha/new.rtdc")[:3].count("new.rtdc") == 1
    with Comparison(lab) as again:
        assert not lab.good().jobs
    assert again.files <= {"results/records/index.jsonl"}


def test_added_young_then_old(lab: Run) -> None:
    young = recipes.small_measurement(lab.source / "delta" / "young.rtdc", seed=98)
    with Comparison(lab) as step:
        lab.good()
    row = lab.row("young.rtdc")
    assert row["status"] == "in progress"
    assert "younger than input.min_age" in row["reason"]
    assert row["dataset_status"] == "incomplete"
    assert step.measurements == set()
    assert step.tasks == set()
    aged(young)
    with Comparison(lab) as step:
        lab.good()
    assert step.measurements == {"young.rtdc"}
    assert lab.row("young.rtdc")["dataset_status"] == "ready"


def test_altered_with_the_same_size(lab: Run) -> None:
    source = lab.source / "beta" / "M1_data.rtdc"
    before = sha256(lab.prepared("M1_data.rtdc"))
    alter(source)
    with Comparison(lab) as step:
        result = lab.good()
    assert step.measurements == {"beta_M1_data.rtdc"}
    assert result.jobs == batch_jobs(2) | {BETA}
    assert lab.row("M1_data.rtdc")["sha256"] == sha256(lab.prepared("M1_data.rtdc")) != before
    assert lab.dcorflow("verify", lab.prepared("M1_data.rtdc"), source).code == 0


def test_altered_with_another_size_waits_one_run(lab: Run) -> None:
    source = lab.source / "gamma" / "five.rtdc"
    old = lab.prepared("five.rtdc")
    inode = old.stat().st_ino
    recipes.small_measurement(source, seed=77, events=30)
    aged(source)
    with Comparison(lab) as step:
        lab.good()
    row = lab.row("five.rtdc")
    assert row["status"] == "in progress"
    assert "size changed" in row["reason"]
    assert step.measurements == set(), "what was prepared stays until the new one is there"
    assert lab.resources("six.rtdc") == ["six.rtdc"]
    with Comparison(lab) as step:
        lab.good()
    assert lab.row("five.rtdc")["status"] == "ready"
    assert lab.row("five.rtdc")["events"] == "30"
    assert step.measurements == {"five.rtdc"}
    assert old.stat().st_ino != inode
    assert sorted(lab.resources("six.rtdc")) == ["five.rtdc", "six.rtdc"]


def test_removed_and_back(lab: Run, tmp_path: Path) -> None:
    source = lab.source / "gamma" / "six.rtdc"
    measurement = lab.row("six.rtdc")["measurement"]
    shutil.move(source, tmp_path)
    with Comparison(lab) as step:
        lab.good()
    row = lab.row("six.rtdc")
    assert (row["status"], row["measurement"]) == ("gone", measurement)
    assert "vanished" in row["reason"]
    assert step.measurements == set(), "its prepared file is kept"
    assert lab.prepared("six.rtdc").is_file()
    assert step.tasks == {"gamma"}
    assert lab.resources("five.rtdc") == ["five.rtdc"]
    with Comparison(lab) as again:
        assert not lab.good().jobs
    assert again.files <= {"results/records/index.jsonl"}
    shutil.move(tmp_path / "six.rtdc", source)
    with Comparison(lab) as step:
        lab.good()
    assert lab.row("six.rtdc")["status"] == "ready"
    assert step.measurements == set()
    assert sorted(lab.resources("five.rtdc")) == ["five.rtdc", "six.rtdc"]


def test_whole_folder_removed(lab: Run) -> None:
    shutil.rmtree(lab.source / "alpha")
    with Comparison(lab) as step:
        lab.good()
    assert {n: s for n, s in lab.statuses().items() if s != "ready"} == {
        "alpha/one.rtdc": "gone",
        "alpha/two.rtdc": "gone",
    }
    assert step.measurements == set()
    assert "alpha" not in lab.tasks(), "a task without measurements is no task"


def test_touched(lab: Run) -> None:
    for name in ("alpha/one.rtdc", "beta/M2_data.rtdc"):
        later(lab.source / name, 3600)
    with Comparison(lab) as step:
        result = lab.good()
    assert step.measurements == set()
    assert step.tasks == set()
    assert not result.jobs & batch_jobs(3)
    assert set(lab.statuses().values()) == {"ready"}
    with Comparison(lab) as again:
        assert not lab.good().jobs
    assert again.files <= {"results/records/index.jsonl"}


@pytest.mark.parametrize("keep_times", [True, False], ids=["same times", "new times"])
def test_moved_folder(lab: Run, keep_times: bool) -> None:
    rows, task = lab.rows(), lab.task_of("M1_data.rtdc")
    place = lab.source / "archive" / "2024" / "Beta, renamed"
    place.parent.mkdir(parents=True)
    shutil.move(lab.source / "beta", place)
    if not keep_times:
        for path in place.iterdir():
            later(path, 7200)
    with Comparison(lab) as step:
        lab.good()
    assert step.measurements == set()
    now = lab.rows()
    assert "beta/M1_data.rtdc" not in now
    for name in ("M1_data.rtdc", "M2_data.rtdc"):
        old, new = rows[f"beta/{name}"], now[f"archive/2024/Beta, renamed/{name}"]
        for column in ("measurement", "dataset", "status", "sha256"):
            assert old[column] == new[column]
    assert lab.task_of("M1_data.rtdc")["upload_job"] == task["upload_job"]
    with Comparison(lab) as again:
        assert not lab.good().jobs
    assert again.files <= {"results/records/index.jsonl"}


def test_moved_to_another_dataset(lab: Run) -> None:
    inode = lab.prepared("one.rtdc").stat().st_ino
    shutil.move(lab.source / "alpha" / "one.rtdc", lab.source / "gamma" / "uno.rtdc")
    with Comparison(lab) as step:
        lab.good()
    row = lab.row("uno.rtdc")
    assert (row["status"], row["dataset"]) == ("ready", "gamma")
    assert lab.prepared("uno.rtdc").stat().st_ino == inode, "the prepared file moved along"
    assert {p for p in step.files if p.endswith("five.rtdc")} == set()
    assert not (lab.results / "datasets" / "alpha" / "one.rtdc").exists()
    assert lab.resources("two.rtdc") == ["two.rtdc", "notes.txt"]
    assert lab.prepared("uno.rtdc").name in lab.resources("five.rtdc")


def test_all_moved_to_another_dataset(lab: Run) -> None:
    task = lab.results / "datasets" / "beta" / "upload_job.dcoraid-task"
    assert task.exists()
    for path in sorted((lab.source / "beta").glob("*.rtdc")):
        shutil.move(path, lab.source / "gamma")
    lab.good()
    assert {lab.row(f"gamma/M{n}_data.rtdc")["dataset"] for n in (1, 2)} == {"gamma"}
    assert not task.exists(), "its dataset has no measurement any more"


def test_copied_within_the_tree(lab: Run) -> None:
    shutil.copy2(lab.source / "alpha" / "one.rtdc", lab.source / "gamma" / "copy.rtdc")
    with Comparison(lab) as step:
        lab.good()
    row = lab.row("copy.rtdc")
    assert row["status"] == "excluded"
    assert "alpha/one.rtdc" in row["reason"]
    assert lab.row("one.rtdc")["status"] == "ready"
    assert step.measurements == set()


def test_companions(lab: Run) -> None:
    notes = lab.source / "alpha" / "notes.txt"
    copied = lab.results / "datasets" / "alpha" / "notes.txt"
    notes.write_text("four donors\n", encoding="utf-8")
    aged(notes)
    later(notes)
    (lab.source / "gamma" / "more.txt").write_text("more\n", encoding="utf-8")
    (lab.source / "gamma" / "left.csv").write_text("1,2\n", encoding="utf-8")
    with Comparison(lab) as step:
        result = lab.good()
    assert step.measurements == set()
    assert result.jobs == {ALPHA, GAMMA}
    assert copied.read_bytes() == notes.read_bytes()
    assert lab.resources("five.rtdc")[2:] == ["more.txt"]
    notes.unlink()
    with Comparison(lab) as step:
        result = lab.good()
    assert not copied.exists()
    assert lab.resources("one.rtdc") == ["one.rtdc", "two.rtdc"]
    assert result.jobs == {ALPHA}


def test_order_of_the_file_system_and_links(lab: Run) -> None:
    (lab.source / "beta" / "circle").symlink_to(lab.source)
    (lab.source / "aaa").symlink_to(lab.source / "gamma")
    with Comparison(lab) as step:
        result = lab.good()
    assert not result.jobs
    assert step.files == set()


def test_mostly_vanished(lab: Run) -> None:
    for folder in ("alpha", "beta"):
        shutil.rmtree(lab.source / folder)
    with Comparison(lab) as step:
        result = lab.run()
    assert result.code != 0
    assert "4 of 6 known measurements" in result.text
    assert "input.max_vanished" in result.text
    assert step.files == PAGE
    lab.configure({"input.max_vanished": 1}).good()
    assert sorted(lab.statuses().values()) == ["gone"] * 4 + ["ready"] * 2


def test_root_staged_elsewhere(lab: Run, tmp_path: Path) -> None:
    """A copy of the tree whose folder has the same name is the same source; a part of it, too."""
    staged = tmp_path / "scratch" / lab.source.name
    shutil.copytree(lab.source, staged)
    shutil.rmtree(staged / "alpha")
    lab.configure({"input.root": str(staged)})
    rows = lab.rows()
    with Comparison(lab) as step:
        lab.good()
    assert step.measurements == set()
    assert {n for n, s in lab.statuses().items() if s == "gone"} == {"alpha/one.rtdc", "alpha/two.rtdc"}
    lab.configure({"input.root": str(lab.source)})
    with Comparison(lab) as step:
        lab.good()
    assert step.measurements == set()
    assert lab.rows() == rows


@pytest.mark.parametrize("state", ["missing", "empty"])
def test_root_not_mounted(lab: Run, state: str) -> None:
    lab.source.rename(lab.source.with_name("elsewhere"))
    if state == "empty":
        lab.source.mkdir()
    with Comparison(lab) as step:
        result = lab.run()
    assert result.code != 0
    assert "input.root" in result.text
    assert "mounted" in result.text
    assert "Traceback" not in result.text
    assert step.files == (set() if state == "missing" else PAGE)
