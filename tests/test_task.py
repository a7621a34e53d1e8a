"""Verdicts about measurements and datasets, and the task that DCOR-Aid opens."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import pytest
import recipes
from dcoraid.upload.task import create_task, load_task

from dcorflow.compress.prepare import Entry, prepare
from dcorflow.cues import Cue
from dcorflow.files import read_json, to_json, write_text
from dcorflow.hdf5 import basin_names
from dcorflow.integrity import check, merge_metadata
from dcorflow.records import Failure, Record, SourceFile, save_record
from dcorflow.task import TASK_NAME, judge, make_task, run_group, settle
from dcorflow.workdir import Workdir

POLICY = {
    "strict": False,
    "on_violation": "accept",
    "on_unreadable": "exclude",
    "on_unfit": "exclude",
    "on_guessed": "block",
    "ignore": [],
}
FIELDS = {
    "title": "Blood of Müller",
    "authors": ["A. Name", "B. Name"],
    "license_id": "CC0-1.0",
    "owner_org": "my-circle",
    "private": True,
}


@pytest.fixture
def work(tmp_path):
    return Workdir(tmp_path / "work")


def member(name="M1", state="found", reason="", **values):
    return {
        "measurement": f"m-{name.lower()}",
        "name": f"{name}.rtdc",
        "resource": f"{name}.rtdc",
        "source": f"a/{name}.rtdc",
        "root": "raw",
        "kind": "rtdc",
        "state": state,
        "reason": reason,
        "failure": "content",
        "note": "",
        "bytes": 10,
        "supplements": {},
        "ignore": [],
        "twin": "",
        "twin_inside": False,
    } | values


def group_plan(*datasets, policy=POLICY):
    return to_json({"datasets": list(datasets), "check": policy, "naming": "keep"})


def record(name="M1", cues=(), **values):
    made = Record(f"m-{name.lower()}", "a", "raw", "rtdc", [])
    made.check_key = "k"
    made.prepared = {"name": f"{name}.rtdc", "size": 5, "mtime_ns": 1, "sha256": "00", "etag": "00"}
    made.check = {"source": [], "prepared": [asdict(c) for c in cues]}
    made.body = {"datasets": {}}
    made.facts = {"events": 8}
    for key, value in values.items():
        setattr(made, key, value)
    return made


def cue(level="violation", unfit=False, file="prepared", name="x:y"):
    return Cue(name, level, "c", "", "", f"words about {name}", file, unfit)


def dataset(*members, **values):
    return {
        "dataset": "a",
        "source": "a",
        "task_id": "a-12345678",
        "dataset_id": "",
        "fields": dict(FIELDS),
        "members": list(members),
        "companions": [],
        "companions_left": [],
    } | values


class TestJudge:
    @pytest.mark.parametrize(
        ("state", "twin", "status", "complete"),
        [
            ("gone", False, "gone", True),
            ("in progress", False, "in progress", False),
            ("left out", False, "excluded", True),
            ("left alone", False, "excluded", True),
            ("duplicate", True, "excluded", True),
            ("duplicate", False, "excluded", False),
            ("problem", False, "failed", False),
        ],
    )
    @pytest.mark.parametrize("known", [True, False])
    def test_states(self, state, twin, status, complete, known):
        verdict = judge(
            member(state=state, reason="why", twin_inside=twin), record() if known else None, POLICY
        )
        assert (verdict.status, verdict.complete, verdict.reason) == (status, complete, "why")
        assert not verdict.blocks

    @pytest.mark.parametrize("policy", ["exclude", "block"])
    def test_unreadable(self, policy):
        rules = POLICY | {"on_unreadable": policy}
        bad = record(failure=Failure("compress", "why", "content"))
        for verdict in (judge(member(state="problem"), None, rules), judge(member(), bad, rules)):
            assert (verdict.status, verdict.complete) == ("failed", False)
            assert verdict.blocks == (policy == "block")
            assert not verdict.retry

    def test_who_is_excluded_by_a_policy(self):
        unfit = record(failure=Failure("compress", "external link", "unfit"))
        assert judge(member(), unfit, POLICY).by_policy
        assert not judge(member(state="left out", reason="use: no (clogged)"), None, POLICY).by_policy
        assert not judge(member(state="duplicate", twin_inside=True), None, POLICY).by_policy

    def test_what_the_machine_kept_a_job_from_is_left_over(self):
        bad = record(failure=Failure("compress", "disk full", "environment"))
        assert judge(member(), bad, POLICY).retry
        assert not judge(member(state="problem", failure="environment"), None, POLICY).retry

    @pytest.mark.parametrize("policy", ["exclude", "block"])
    def test_unfit_files(self, policy):
        rules = POLICY | {"on_unfit": policy, "on_violation": "accept"}
        verdict = judge(member(), record(cues=[cue(unfit=True)]), rules)
        assert (verdict.status, verdict.complete, verdict.blocks) == ("excluded", False, policy == "block")
        assert "words about x:y" in verdict.reason
        verdict = judge(member(ignore=["*"]), record(cues=[cue(unfit=True)]), rules)
        assert verdict.status == "excluded"  # this can never be accepted

    @pytest.mark.parametrize(
        ("policy", "status", "blocks"),
        [("accept", "ready", False), ("exclude", "excluded", False), ("block", "excluded", True)],
    )
    def test_violations(self, policy, status, blocks):
        verdict = judge(member(), record(cues=[cue()]), POLICY | {"on_violation": policy})
        assert (verdict.status, verdict.blocks, verdict.violations) == (status, blocks, 1)
        assert verdict.complete == (policy == "accept")

    @pytest.mark.parametrize("where", ["policy", "member"])
    def test_ignored_violations(self, where):
        rules = POLICY | {"on_violation": "block", "ignore": ["x:*"] if where == "policy" else []}
        verdict = judge(member(ignore=["x:y"] if where == "member" else []), record(cues=[cue()]), rules)
        assert (verdict.status, verdict.violations) == ("ready", 0)

    def test_alerts_and_infos_keep_nothing_back(self):
        rules = POLICY | {"on_violation": "block"}
        cues = [cue("alert", name="a:1"), cue("info", name="a:2")]
        verdict = judge(member(), record(cues=cues), rules)
        assert (verdict.status, verdict.violations, verdict.alerts) == ("ready", 0, 1)

    def test_a_dropped_unknown_feature(self):
        unknown = cue(unfit=True, file="source", name="feature-unknown:glow_worm")
        done = record()
        done.check = {"source": [asdict(unknown)], "prepared": []}
        verdict = judge(member(), done, POLICY)
        assert verdict.status == "excluded"
        assert "check.ignore" in verdict.reason
        assert judge(member(ignore=["feature-unknown:glow_worm"]), done, POLICY).status == "ready"

    @pytest.mark.parametrize(
        "unfinished", [None, record(check_key=""), record(prepared={"name": "x", "size": 1, "mtime_ns": 1})]
    )
    def test_what_is_not_finished(self, unfinished):
        verdict = judge(member(), unfinished, POLICY)
        assert (verdict.status, verdict.complete) == ("in progress", False)

    def test_long_lists_are_cut(self):
        cues = [cue(unfit=True, name=f"x:{n}") for n in range(9)]
        assert "and 6 more" in judge(member(), record(cues=cues), POLICY).reason


class TestSettle:
    def settle(self, work, *datasets, records=(), policy=POLICY):
        write_text(work.group("g1"), group_plan(*datasets, policy=policy))
        for made in records:
            save_record(work, made)
            path = work.datasets / made.dataset / made.prepared["name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("data")
        return settle(work, "g1")

    def status(self, work, *members, records=(), **policy):
        decided = self.settle(work, dataset(*members), records=records, policy=POLICY | policy)
        (row,) = decided["datasets"]
        assert (work.datasets / "a" / TASK_NAME).exists() == bool(row["files"])
        return row["status"]

    def test_ready(self, work):
        assert self.status(work, member("M1"), member("M2"), records=[record("M1"), record("M2")]) == "ready"
        task = read_json(work.datasets / "a" / TASK_NAME)
        assert task["upload_job"]["resource_names"] == ["M1.rtdc", "M2.rtdc"]

    @pytest.mark.parametrize(
        ("state", "values", "status"),
        [
            ("gone", {}, "ready"),
            ("left out", {}, "ready"),
            ("problem", {}, "incomplete"),
            ("in progress", {}, "incomplete"),
            (
                "duplicate",
                {"reason": "same content as a/M1.rtdc; not prepared twice", "twin": "m-m1"},
                "ready",
            ),
            (
                "duplicate",
                {"reason": "same content as b/M1.rtdc; not prepared twice", "twin": "b-m1"},
                "incomplete",
            ),
        ],
    )
    def test_with_another(self, work, state, values, status):
        assert (
            self.status(work, member("M1"), member("M2", state, **values), records=[record("M1")]) == status
        )
        names = read_json(work.datasets / "a" / TASK_NAME)["upload_job"]["resource_names"]
        assert names == ["M1.rtdc"]

    def test_a_duplicate_of_a_namesake_in_another_root_is_not_inside(self, work):
        twin = member(
            "M1", "duplicate", "same content as a/M1.rtdc; not prepared twice", root="other", twin="x"
        )
        twin["measurement"] = "other-m1"
        assert self.status(work, twin, member("M2"), records=[record("M2")]) == "incomplete"

    def test_a_duplicate_of_a_name_with_a_semicolon_is_inside(self, work):
        members = [
            member("x;y"),
            member("M2", "duplicate", "same content as a/x;y.rtdc; not prepared twice", twin="m-x;y"),
        ]
        assert self.status(work, *members, records=[record("x;y")]) == "ready"

    def test_blocked(self, work):
        members = [member("M1"), member("M2", "problem")]
        assert self.status(work, *members, records=[record("M1")]) == "incomplete"
        assert (work.datasets / "a" / TASK_NAME).exists()
        assert self.status(work, *members, records=[record("M1")], on_unreadable="block") == "blocked"
        assert not (work.datasets / "a" / TASK_NAME).exists()

    def test_nothing_left(self, work):
        assert self.status(work, member("M1", "gone")) == "incomplete"
        assert self.status(work, member("M1", "left out")) == "incomplete"
        assert self.status(work, member("M1", "left alone")) == "draft"

    @pytest.mark.parametrize("field", ["authors", "license_id", "owner_org"])
    def test_missing_fields(self, work, field):
        fields = FIELDS | {field: None}
        decided = self.settle(work, dataset(member("M1"), fields=fields), records=[record("M1")])
        assert decided["datasets"][0]["status"] == "blocked"
        assert f"datasets.defaults.{field}" in decided["datasets"][0]["reason"]

    def test_again_writes_nothing(self, work):
        self.status(work, member("M1"), records=[record("M1")])
        paths = [work.datasets / "a" / TASK_NAME, work.settled("g1")]
        before = [p.stat().st_ino for p in paths]
        settle(work, "g1")
        assert [p.stat().st_ino for p in paths] == before

    def test_a_dry_one_writes_nothing(self, work):
        write_text(work.group("g1"), group_plan(dataset(member("M1"))))
        save_record(work, record("M1"))
        assert settle(work, "g1", write=False)["datasets"][0]["status"] == "ready"
        assert not work.datasets.exists()
        assert not work.settled("g1").exists()

    def companion(self, tmp_path, name="notes.txt", text="x"):
        path = tmp_path / "raw" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        stat = path.stat()
        return {
            "source": str(path),
            "path": f"a/{name}",
            "name": name,
            "size": stat.st_size,
            "mtime_ns": stat.st_mtime_ns,
        }

    def test_companions_come_and_go(self, work, tmp_path):
        companion = self.companion(tmp_path)
        with_it = dataset(member("M1"), companions=[companion])
        self.settle(work, with_it, records=[record("M1")])
        copy = work.datasets / "a/notes.txt"
        assert copy.read_text() == "x"
        inode = copy.stat().st_ino
        settle(work, "g1")
        assert copy.stat().st_ino == inode
        self.settle(work, dataset(member("M1")), records=[record("M1")])
        assert not copy.exists()
        assert (work.datasets / "a/M1.rtdc").exists()

    def test_companions_count_among_too_many_resources(self, work, tmp_path, monkeypatch):
        monkeypatch.setattr("dcorflow.task._MANY_RESOURCES", 2)
        companions = [self.companion(tmp_path, f"{n}.txt") for n in range(2)]
        told = []
        for few in (companions[:1], companions):
            entry = dataset(
                member(
                    "M1",
                    supplements={"cells": {"organism": "human"}, "general": {"sample type": "cell line"}},
                ),
                companions=few,
            )
            (row,) = self.settle(work, entry, records=[record("M1")])["datasets"]
            told.append(row["warnings"])
        many = "1 measurement and 2 companions; DCOR is slow with more than 2 resources"
        assert told == [[], [many]]

    def test_companions_have_no_supplements(self, work, tmp_path):
        entry = dataset(member("M1", supplements={"cells": {"organism": "human"}}))
        entry["companions"] = [self.companion(tmp_path)]
        self.settle(work, entry, records=[record("M1")])
        job = read_json(work.datasets / "a" / TASK_NAME)["upload_job"]
        assert job["resource_names"] == ["M1.rtdc", "notes.txt"]
        assert job["resource_supplements"] == [{"cells": {"organism": "human"}}, {}]

    def test_a_vanished_companion_does_not_stop_other_datasets(self, work, tmp_path):
        companion = self.companion(tmp_path)
        Path(companion["source"]).unlink()
        other = dataset(member("M2"), dataset="b", task_id="b-12345678")
        made = record("M2", dataset="b")
        decided = self.settle(
            work, dataset(member("M1"), companions=[companion]), other, records=[record("M1"), made]
        )
        status = {d["dataset"]: d["status"] for d in decided["datasets"]}
        assert status["b"] == "ready"
        assert status["a"] != "ready"

    def test_run_writes_the_stamp(self, work):
        self.status(work, member("M1"), member("M2", "problem"), records=[record("M1")])
        assert run_group(work, "g1") == (1, 0)
        assert work.stamp("task", "g1").exists()


class TestOrder:
    def order(self, work, *pairs):
        ready = [(member(name), record(name, facts=facts)) for name, facts in pairs]
        task = json.loads(make_task(work.datasets / "a", dataset(), ready, []))
        return [n.removesuffix(".rtdc") for n in task["upload_job"]["resource_names"]]

    def test_run_index(self, work):
        pairs = [(f"x{n}", {"date": "2024-03-12", "run index": str(n)}) for n in (10, 2, 1)]
        assert self.order(work, *pairs) == ["x1", "x2", "x10"]

    def test_names_where_there_is_no_run_index(self, work):
        assert self.order(work, ("M10", {}), ("x", {}), ("M2", {})) == ["M2", "M10", "x"]

    @pytest.mark.parametrize("value", ["x", "", "nan", "inf", "1e400", "2.0"])
    def test_odd_run_indices(self, work, value):
        assert len(self.order(work, ("a", {"run index": value}), ("b", {"run index": "1"}))) == 2


def prepared(work, path, name):
    stat = path.stat()
    files = [SourceFile(path.name, stat.st_size, stat.st_mtime_ns)]
    entry = Entry(f"m-{name.lower()}", "a", f"{name}.rtdc", "raw", path.parent, "rtdc", files)
    prepare(entry, {"encoder": "compat", "logs": "keep", "naming": "keep"}, [], work, 1)
    check(entry, work, 1)
    return merge_metadata(entry, [], work)


class TestTask:
    def test_what_dcoraid_would_write(self, work, tmp_path):
        ready = [(member("M1", supplements={"cells": {"organism": "human"}}), record("M1"))]
        ready.append((member("M2"), record("M2", facts={"run index": "2"})))
        folder = work.datasets / "a"
        fields = FIELDS | {"notes": "text", "doi": "10.1/2", "references": "r"}
        ours = json.loads(make_task(folder, dataset(fields=fields), ready, ["notes.txt"]))
        create_task(
            tmp_path / "theirs.json",
            fields | {"authors": ", ".join(fields["authors"])},
            [
                {"path": folder / "M1.rtdc", "supplements": {"cells": {"organism": "human"}}},
                {"path": folder / "M2.rtdc"},
                {"path": folder / "notes.txt"},
            ],
            task_id="a-12345678",
        )
        assert ours == json.loads((tmp_path / "theirs.json").read_text(encoding="utf-8"))
        again = make_task(folder, dataset(fields=fields), ready, ["notes.txt"])
        assert again == (tmp_path / "theirs.json").read_text(encoding="utf-8")

    def test_collections_tags_and_dataset_id(self, work):
        entry = dataset(fields=FIELDS | {"collections": ["c"], "tags": ["blood"]}, dataset_id="abc")
        task = json.loads(make_task(work.datasets / "a", entry, [(member(), record())], []))
        assert task["dataset_dict"]["groups"] == [{"name": "c"}]
        assert task["dataset_dict"]["tags"] == [{"name": "blood"}]
        assert task["upload_job"]["dataset_id"] == "abc"

    def test_paths_are_absolute(self, work):
        task = json.loads(make_task(work.datasets / "a", dataset(), [(member(), record())], []))
        assert task["upload_job"]["resource_paths"] == [str(work.datasets / "a/M1.rtdc")]

    def test_dcoraid_opens_it_even_elsewhere(self, work, tmp_path):
        made = prepared(work, recipes.small_measurement(tmp_path / "M1.rtdc"), "M1")
        assert made.failure is None
        write_text(work.group("g1"), group_plan(dataset(member("M1"))))
        assert settle(work, "g1")["datasets"][0]["status"] == "ready"
        elsewhere = tmp_path / "elsewhere"
        (work.datasets / "a").rename(elsewhere)
        job = load_task(elsewhere / TASK_NAME, FakeApi(), cache_dir=tmp_path / "cache")
        assert [p.name for p in job.paths] == ["M1.rtdc"]
        assert job.paths[0].parent == elsewhere.resolve()
        assert job.task_id == "a-12345678"
        assert FakeApi.created["title"] == FIELDS["title"]
        assert FakeApi.created["private"] is True

    def test_a_basin_comes_before_what_refers_to_it(self, work, tmp_path):
        path = recipes.file_basin(tmp_path / "derived.rtdc")
        source = recipes.neighbour(path, ".rtdc")
        ready = []
        for file, name, index in ((path, "A_derived", "1"), (source, "Z_source", "2")):
            made = prepared(work, file, name)
            assert made.failure is None
            made.facts["run index"] = index
            made.facts["date"] = "2024"
            ready.append((member(name, source=f"a/{file.name}"), made))
        assert basin_names(work.datasets / "a/A_derived.rtdc") == [source.name]
        job = json.loads(make_task(work.datasets / "a", dataset(), ready, []))["upload_job"]
        assert job["resource_names"] == ["Z_source.rtdc", "A_derived.rtdc"]


class FakeApi:
    """As much of `dcoraid.api.CKANAPI` as loading a task needs."""

    created: ClassVar[dict[str, Any]] = {}

    def copy(self):
        return self

    def get(self, call, **values):
        circles = [{"name": "my-circle", "id": "circle-id"}]
        return circles if call == "organization_list_for_user" else {"id": "fake-id"}

    def post(self, call, data, **values):
        if call == "package_create":
            FakeApi.created = data
        return data | {"id": "fake-id"}
