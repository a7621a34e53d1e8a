"""Batches, groups, plan files, and a whole pass of discover on small files."""

from __future__ import annotations

import json
import os
import time
from typing import ClassVar

import pytest
import recipes
from runs import snapshot

from dcorflow.config import resolve_config
from dcorflow.discover.plan import (
    Planner,
    assign_batches,
    assign_groups,
    batch_threads,
    check_holds,
    holds,
    scan_datasets,
)
from dcorflow.discover.run import discover
from dcorflow.errors import UsageError
from dcorflow.files import read_json, to_json, write_text
from dcorflow.records import Record, SourceFile, save_record
from dcorflow.source.inventory import Item, load_inventory
from dcorflow.workdir import Workdir

FIELDS = {"authors": ["A. Name"], "license_id": "CC0-1.0", "owner_org": "my-circle"}


@pytest.fixture
def work(tmp_path):
    return Workdir(tmp_path / "work")


def item(number, dataset="a", size=10, **values):
    source = f"{dataset}/M{number}.rtdc"
    files = (SourceFile(source, size, 1),)
    return Item(f"{dataset}-{number}", "raw", source, "rtdc", files, dataset=dataset, **values)


class TestBatches:
    def test_limits(self):
        items = [item(n) for n in range(1, 12)]
        batches = assign_batches(items, files=4, size=1000)
        assert [len(b) for b in batches.values()] == [4, 4, 3]
        assert [i.source for i in batches["b000001"]] == [f"a/M{n}.rtdc" for n in (1, 2, 3, 4)]

    def test_a_large_one_is_alone(self):
        items = [item(1), item(2, size=500), item(3), item(4)]
        sizes = [[i.size for i in b] for b in assign_batches(items, files=10, size=100).values()]
        assert sizes == [[10], [500], [10, 10]]

    def test_bytes_are_bounded(self):
        items = [item(n, size=40) for n in range(5)]
        assert [len(b) for b in assign_batches(items, 10, 100).values()] == [2, 2, 1]

    def test_a_new_one_never_moves_another(self):
        items = [item(n) for n in (2, 4, 6, 8, 10)]
        assign_batches(items, 2, 1000)
        before = {i.measurement: i.batch for i in items}
        items += [item(1), item(3), item(0, "0")]
        assign_batches(items, 2, 1000)
        assert {m: b for i in items if (m := i.measurement) in before for b in [i.batch]} == before

    def test_who_is_not_to_be_prepared_is_in_none(self):
        states = ("in progress", "problem", "duplicate", "left out", "left alone", "gone")
        items = [item(n, state=state) for n, state in enumerate(states)]
        assert assign_batches(items, 2, 1000) == {}

    def test_the_order_of_items_does_not_matter(self):
        items = [item(n, d) for n in range(6) for d in "ab"]
        expected = {k: [i.measurement for i in v] for k, v in assign_batches(items, 5, 1000).items()}
        again = [item(n, d) for n in reversed(range(6)) for d in "ba"]
        assert {k: [i.measurement for i in v] for k, v in assign_batches(again, 5, 1000).items()} == expected

    @pytest.mark.parametrize(
        ("count", "size", "most", "threads"),
        [(1, 10, 4, 1), (64, 10, 4, 4), (16, 10, 8, 1), (1, 3 << 30, 8, 8), (1, 1 << 30, 8, 4)],
    )
    def test_threads(self, count, size, most, threads):
        assert batch_threads([item(n, size=size) for n in range(count)], most) == threads


class TestGroups:
    def write(self, work, groups):
        for group, datasets in groups.items():
            write_text(work.group(group), to_json({"datasets": [{"dataset": d} for d in datasets]}))

    def test_who_is_in_one_stays(self, work):
        first = assign_groups(work, ["a", "b", "c"], 2)
        assert first == {"g00001": ["a", "b"], "g00002": ["c"]}
        self.write(work, first)
        assert assign_groups(work, ["a", "b", "c", "0"], 2) == {"g00001": ["a", "b"], "g00002": ["c", "0"]}

    def test_natural_order(self, work):
        assert assign_groups(work, ["d10", "d9", "d1"], 10) == {"g00001": ["d1", "d9", "d10"]}

    def test_a_damaged_plan_is_made_again(self, work):
        write_text(work.group("g00001"), "{")
        assert assign_groups(work, ["a"], 2) == {"g00001": ["a"]}


class TestPlanner:
    def test_generations(self, work):
        path = work.batch("b1")

        def put(plan, redo):
            planner = Planner(work, dry=False)
            planner.put(path, plan, redo)
            return planner.pending.written, read_json(path)["generation"]

        assert put({"a": 1}, True) == (["b1.json"], 1)
        before = path.stat().st_ino
        assert put({"a": 1}, False) == ([], 1)
        assert path.stat().st_ino == before
        assert put({"a": 1}, True) == (["b1.json"], 2)
        assert put({"a": 2}, False) == (["b1.json"], 2)
        path.write_text("{")
        assert put({"a": 2}, True) == (["b1.json"], 1)

    def test_a_dry_one_writes_nothing(self, work):
        planner = Planner(work, dry=True)
        planner.put(work.batch("b1"), {"a": 1}, True)
        planner.forget("batches", [])
        assert planner.pending.written == ["b1.json"]
        assert not work.batch("b1").exists()

    def test_forgets_plans_that_are_no_more(self, work):
        for name in ("b1", "b2"):
            write_text(work.batch(name), "{}")
        Planner(work, dry=False).forget("batches", ["b2"])
        assert [p.stem for p in work.batch("x").parent.iterdir()] == ["b2"]


class TestHolds:
    ENTRY: ClassVar[dict] = {"dataset": "a", "name": "M1.rtdc", "files": [["a/M1.rtdc", 10, 1]]}
    LINE: ClassVar[dict] = {
        "files": [["a/M1.rtdc", 10, 1]],
        "body_key": "k",
        "dataset": "a",
        "failure": None,
        "prepared": {"name": "M1.rtdc", "size": 5, "mtime_ns": 6},
    }
    DISK: ClassVar[dict] = {("a", "M1.rtdc"): (5, 6)}

    def test_all_the_same(self):
        assert holds(self.LINE, self.ENTRY, "k", self.DISK)

    @pytest.mark.parametrize(
        ("line", "entry", "key", "disk"),
        [
            (None, {}, "k", DISK),
            ({"files": [["a/M1.rtdc", 11, 1]]}, {}, "k", DISK),
            ({"files": [["a/M1.rtdc", 10, 2]]}, {}, "k", DISK),
            ({}, {}, "other", DISK),
            ({}, {}, "k", {}),
            ({}, {}, "k", {("a", "M1.rtdc"): (5, 7)}),
            ({}, {"name": "M2.rtdc"}, "k", DISK),
            ({}, {"dataset": "b"}, "k", DISK),
            ({"prepared": {}}, {}, "k", {}),
            ({"failure": {"failure": "environment"}}, {}, "k", {}),
        ],
    )
    def test_something_differs(self, line, entry, key, disk):
        assert not holds(None if line is None else self.LINE | line, self.ENTRY | entry, key, disk)

    def test_a_failure_of_the_content_holds(self):
        line = self.LINE | {"failure": {"failure": "content"}, "prepared": {}}
        assert holds(line, self.ENTRY, "k", {})
        assert check_holds(line, lambda _: "k")

    def test_checks(self):
        line = self.LINE | {"check_key": "k"}
        assert check_holds(line, lambda _: "k")
        assert not check_holds(line, lambda _: "other")
        assert not check_holds(None, lambda _: "k")


def test_scan_finds_files_and_removes_old_leftovers(work):
    folder = work.datasets / "a"
    folder.mkdir(parents=True)
    (folder / "M1.rtdc").write_text("x")
    leftover = folder / ".dcorflow-1.tmp"
    leftover.write_text("x")
    os.utime(leftover, (1, 1))
    stat = (folder / "M1.rtdc").stat()
    expected = {("a", "M1.rtdc"): (stat.st_size, stat.st_mtime_ns)}
    assert scan_datasets(work, clean=False) == expected
    assert leftover.exists()
    assert scan_datasets(work, clean=True) == expected
    assert not leftover.exists()


class TestDiscover:
    """One pass over real files; nothing is prepared."""

    @pytest.fixture
    def raw(self, tmp_path):
        root = tmp_path / "raw"
        for folder, name, seed in (("a", "M1", 1), ("a", "M2", 2), ("b", "M1", 3)):
            recipes.small_measurement(root / folder / f"{name}.rtdc", seed=seed)
        return root

    def look(self, raw, work, dry=False, **changes):
        data = {"input": {"root": str(raw)}, "datasets": {"defaults": dict(FIELDS)}}
        for path, value in changes.items():
            section, key = path.split("__")
            data.setdefault(section, {})[key] = value
        then = time.time() - 10_000
        for path in raw.rglob("*"):
            if path.stat().st_mtime > then:
                os.utime(path, (then, then))
        return discover(resolve_config(data, raw.parent), work, dry=dry)

    def members(self, work):
        plans = [read_json(p) for p in sorted(work.group("x").parent.glob("*.json"))]
        return {m["source"]: m for p in plans for d in p["datasets"] for m in d["members"]}

    def datasets(self, work):
        plans = [read_json(p) for p in sorted(work.group("x").parent.glob("*.json"))]
        return {d["dataset"]: d for p in plans for d in p["datasets"]}

    def test_plans(self, raw, work):
        found = self.look(raw, work)
        assert len(found.pending.prepare) == 3
        assert sorted(self.members(work)) == ["a/M1.rtdc", "a/M2.rtdc", "b/M1.rtdc"]
        plan = read_json(work.state / "plan.json")
        assert found.unfinished == list(plan["groups"])
        assert plan["groups"] == {"g00001": ["b000001"]}

    def test_again_changes_no_file(self, raw, work):
        self.look(raw, work)
        first = snapshot(work.root)
        batch = work.batch("b000001").read_bytes()
        self.look(raw, work)
        generation = read_json(work.batch("b000001"))["generation"]
        assert json.loads(batch)["generation"] == generation - 1  # nothing was prepared: asked again
        same = {p for p, seen in snapshot(work.root).items() if first.get(p) == seen}
        assert "results/inventory.tsv" in same
        assert "results/.state/plan.json" in same

    def test_a_dry_pass_writes_nothing(self, raw, work):
        found = self.look(raw, work, dry=True)
        assert len(found.pending.prepare) == 3
        assert not work.root.exists()
        self.look(raw, work)
        before = snapshot(work.root)
        (raw / "a/M1.rtdc").unlink()
        (raw / "c").mkdir()
        recipes.small_measurement(raw / "c/M9.rtdc", seed=9)
        found = self.look(raw, work, dry=True)
        assert (len(found.changes.gone), len(found.changes.new)) == (1, 1)
        assert snapshot(work.root) == before

    def test_the_source_is_not_touched(self, raw, work):
        self.look(raw, work)
        before = snapshot(raw)
        self.look(raw, work)
        assert snapshot(raw) == before

    @pytest.mark.parametrize("place", ["raw", "raw/a", "raw/new/work"])
    def test_no_work_directory_inside_the_source(self, raw, place):
        with pytest.raises(UsageError, match="inside the source tree"):
            self.look(raw, Workdir(raw.parent / place))

    def test_no_work_directory_inside_the_source_by_a_link(self, raw):
        (raw.parent / "link").symlink_to(raw)
        with pytest.raises(UsageError, match="inside the source tree"):
            self.look(raw, Workdir(raw.parent / "link/work"))

    def test_all_mistakes_in_folder_files_at_once_and_nothing_is_written(self, raw, work):
        (raw / "a/dcorflow.yaml").write_text("metadata: {defaults: {'setup:medum': x}}")
        (raw / "b/dcorflow.yaml").write_text("metadata: {override: {'imaging:roi size x': many}}")
        with pytest.raises(UsageError) as caught:
            self.look(raw, work)
        assert "setup:medum" in str(caught.value)
        assert "roi size x" in str(caught.value)
        assert not work.inventory.exists()

    def test_left_out_on_purpose(self, raw, work):
        (raw / "a/dcorflow.yaml").write_text("measurements: {M1.rtdc: {use: no, reason: bad focus}}")
        self.look(raw, work)
        members = self.members(work)
        assert (members["a/M1.rtdc"]["state"], members["a/M1.rtdc"]["reason"]) == (
            "left out",
            "use: no (bad focus)",
        )
        entries = read_json(work.batch("b000001"))["entries"]
        assert [e["files"][0][0] for e in entries] == ["a/M2.rtdc", "b/M1.rtdc"]

    def test_what_is_no_longer_left_out_is_judged_anew(self, raw, work):
        recipes.zero_events(raw / "a/none.rtdc")
        self.look(raw, work)
        assert self.members(work)["a/none.rtdc"]["state"] == "problem"
        settings = raw / "a/dcorflow.yaml"
        settings.write_text("measurements: {none.rtdc: {use: no, reason: empty}}")
        self.look(raw, work)
        assert self.members(work)["a/none.rtdc"]["state"] == "left out"
        settings.unlink()
        self.look(raw, work)
        assert self.members(work)["a/none.rtdc"]["state"] == "problem"

    def test_the_copy_of_what_is_left_out_is_not_lost_with_it(self, raw, work):
        copy = raw / "a/copy.rtdc"
        copy.write_bytes((raw / "a/M1.rtdc").read_bytes())
        os.utime(copy, (10**9 + 5e8, 10**9 + 5e8))
        os.utime(raw / "a/M1.rtdc", (10**9, 10**9))
        (raw / "a/dcorflow.yaml").write_text("measurements: {M1.rtdc: {use: no, reason: bad name}}")
        self.look(raw, work)
        members = self.members(work)
        assert members["a/M1.rtdc"]["state"] == "left out"
        assert members["a/copy.rtdc"]["state"] == "found"

    def test_folders_uploaded_before_are_left_alone(self, raw, work):
        (raw / "a/x.dcoraid-task").write_text(json.dumps({"upload_job": {"dataset_id": "abc"}}))
        self.look(raw, work)
        members = self.members(work)
        assert members["a/M1.rtdc"]["state"] == "left alone"
        assert "abc" in members["a/M1.rtdc"]["reason"]
        assert members["b/M1.rtdc"]["state"] == "found"

    def test_or_their_ids_are_taken_over(self, raw, work):
        (raw / "a/x.dcoraid-task").write_text(json.dumps({"upload_job": {"dataset_id": "abc"}}))
        self.look(raw, work, datasets__uploaded="take_over")
        assert self.members(work)["a/M1.rtdc"]["state"] == "found"
        datasets = self.datasets(work)
        assert (datasets["a"]["dataset_id"], datasets["b"]["dataset_id"]) == ("abc", "")

    def test_what_is_left_alone_gives_its_id_to_no_other_measurements(self, raw, work):
        (raw / "a/x.dcoraid-task").write_text(json.dumps({"upload_job": {"dataset_id": "abc"}}))
        self.look(raw, work, datasets__by="(?P<dataset>M)")
        members = self.members(work)
        assert members["b/M1.rtdc"]["state"] == "found"
        assert self.datasets(work)["m"]["dataset_id"] == ""

    def test_companions(self, raw, work):
        for name in ("notes.txt", "Größe.txt", "x.exe", "secret.csv", "M1.rtdc.txt"):
            (raw / "a" / name).write_text(name)
        self.look(raw, work, datasets__companions=["*.txt", "*.exe"])
        entry = self.datasets(work)["a"]
        assert [c["name"] for c in entry["companions"]] == ["Groesse.txt", "M1.rtdc.txt", "notes.txt"]
        left = " ".join(map(str, entry["companions_left"]))
        assert "secret.csv" in left and "x.exe" in left

    def test_task_ids_are_stable_and_differ_by_namespace_and_circle(self, raw, work):
        self.look(raw, work)
        first = self.datasets(work)["a"]["task_id"]
        self.look(raw, work, datasets__namespace="lab")
        second = self.datasets(work)["a"]["task_id"]
        self.look(raw, work)
        assert self.datasets(work)["a"]["task_id"] == first != second
        (raw / "a").rename(raw / "z")
        self.look(raw, work)
        assert self.datasets(work)["a"]["task_id"] == first

    def test_a_vanished_measurement_stays_in_the_inventory(self, raw, work):
        self.look(raw, work)
        (raw / "a/M1.rtdc").unlink()
        self.look(raw, work)
        assert {i.source: i.state for i in load_inventory(work.inventory)} == {
            "a/M1.rtdc": "gone",
            "a/M2.rtdc": "found",
            "b/M1.rtdc": "found",
        }

    def test_an_inventory_that_lost_rows_is_noticed(self, raw, work):
        for item in self.look(raw, work).items:
            save_record(work, Record(item.measurement, item.dataset, item.root, item.kind, list(item.files)))
        (raw / "a/M1.rtdc").unlink()
        assert "lost" not in str(self.look(raw, work).warnings)
        lines = work.inventory.read_text().splitlines(keepends=True)
        work.inventory.write_text("".join(lines[:1]))  # what is still there gets its old name back
        [warning] = [text for text in self.look(raw, work).warnings if "lost" in text]
        assert "inventory.tsv lost 1 measurement " in warning and "records/a_m1-" in warning.lower()

    def test_a_folder_with_a_superscript(self, raw, work):
        (raw / "a").rename(raw / "10²")
        assert len(self.look(raw, work).items) == 3
