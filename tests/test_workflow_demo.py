"""The demo tree, as a user prepares it: results, tasks, and what a second run does."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from xml.etree import ElementTree

import demo_data
import pytest
from dcoraid.upload.job import VALID_RESOURCE_REGEXP
from dcoraid.upload.task import load_task
from runs import EVERY_RUN, TASK, Comparison, Run, changed, contents, leftovers, snapshot

BLOOD, DRUG, BEADS = (
    "2024-03-12_Blood_Müller lab",
    "2024-03-14_HL60_LatrunculinA",
    "2023-11-07_Beads calibration",
)
IDS = {BLOOD: "2024-03-12-blood-mueller-lab", DRUG: "2024-03-14-hl60-latrunculina",
       BEADS: "2023-11-07-beads-calibration"}  # fmt: skip
READY = {
    f"{BLOOD}/M1_data.rtdc", f"{BLOOD}/M2_data.rtdc", f"{BLOOD}/M10_data.rtdc",
    f"{DRUG}/HL60_control.rtdc", f"{DRUG}/HL60_DMSO.rtdc", f"{DRUG}/HL60_LatA_10nM.rtdc",
    f"{DRUG}/HL60_LatA_100nM.rtdc", f"{BEADS}/beads_01.rtdc", f"{BEADS}/beads_02.rtdc",
    f"{BEADS}/M1_data.tdms",
}  # fmt: skip
#: Sources that are not ready: status and a part of the reason.
OTHERS = {
    f"{BLOOD}/Kopie von M2_data.rtdc": ("excluded", f"same content as {BLOOD}/M2_data.rtdc"),
    f"{DRUG}/HL60_LatA_1uM.rtdc": ("failed", "the file is truncated"),
    f"{BEADS}/beads_03.rtdc": ("failed", "not an HDF5 file"),
}
RESOURCES = {
    BLOOD: ["2024-03-12_Blood_Mueller_lab_M1_data.rtdc", "2024-03-12_Blood_Mueller_lab_M2_data.rtdc",
            "2024-03-12_Blood_Mueller_lab_M10_data.rtdc", "README.txt"],
    DRUG: ["HL60_control.rtdc", "HL60_DMSO.rtdc", "HL60_LatA_10nM.rtdc", "HL60_LatA_100nM.rtdc"],
    BEADS: ["2023-11-07_Beads_calibration_M1_data.rtdc", "beads_01.rtdc", "beads_02.rtdc", "protocol.pdf"],
}  # fmt: skip
SETTINGS: dict[str, Any] = {
    "datasets.companions": ["*.txt", "*.pdf"],
    "datasets.namespace": "demo",
    "metadata.supplements": {"cells:organism": "human"},
    "batches.files": 4,
}


class Server:
    """Answers the requests of DCOR-Aid that creating a draft takes, and keeps them."""

    server, user_name = "dcor.example.org", "tester"

    def __init__(self) -> None:
        self.created: list[dict[str, Any]] = []

    def copy(self) -> Server:
        return self

    def get(self, request: str, **options: Any) -> Any:
        if request == "organization_list_for_user":
            return [{"name": "my-circle", "id": "1234"}]
        assert request == "package_show"
        return {"id": options["id"], "state": "draft"}

    def post(self, request: str, data: dict[str, Any], **_: Any) -> Any:
        assert request == "package_create"
        self.created.append(copy.deepcopy(data))
        return {**data, "id": f"id-{len(self.created)}"}


#: The sheets to fill in.
TEMPLATES = [f"{name}_template{suffix}" for name in ("metadata", "datasets") for suffix in (".tsv", ".xlsx")]


class Demo:
    """The first run of the demo, and the source tree as it was before."""

    def __init__(self, folder: Path) -> None:
        self.source = demo_data.write_tree(folder / "source", scale=0.05)
        self.before = snapshot(folder, "source/**/*")
        self.run = Run(folder / "first", self.source, **SETTINGS)
        self.result = self.run.good()
        self.rows = self.run.rows()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    return Demo(tmp_path_factory.mktemp("demo"))


def can_mount(folder: Path) -> bool:
    """Return whether this user may mount a folder read-only, out of sight of other processes."""
    if not (shutil.which("unshare") and shutil.which("mount")):
        return False
    probe = [*read_only(folder), "sh", "-c", f"! touch '{folder}/written'"]
    return subprocess.run(probe, capture_output=True).returncode == 0


def read_only(folder: Path) -> tuple[str, ...]:
    """Return the command prefix that runs a command while `folder` is mounted read-only."""
    script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    return ("unshare", "--mount", "sh", "-c", script, str(folder))


class Other:
    """The same tree prepared a second time, where as much as possible is different."""

    def __init__(self, demo: Demo, folder: Path) -> None:
        self.mounted = can_mount(demo.source)
        self.run = Run(folder / "an other place ü", demo.source, **SETTINGS)
        self.run.wrapper = read_only(demo.source) if self.mounted else ()
        (folder / "tmp").mkdir()
        environment = {
            "TZ": "Pacific/Auckland", "LANG": "C", "LC_ALL": "C", "USER": "somebody",
            "LOGNAME": "somebody", "HOME": str(folder / "home"), "XDG_CACHE_HOME": str(folder / "cache"),
            "TMPDIR": str(folder / "tmp"), "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        self.result = self.run.run(1, environment, umask=0o077)


@pytest.fixture(scope="module")
def other(demo: Demo, tmp_path_factory: pytest.TempPathFactory) -> Other:
    return Other(demo, tmp_path_factory.mktemp("other"))


def test_statuses_and_reasons(demo: Demo) -> None:
    assert demo.rows.keys() == READY | OTHERS.keys()
    for source in READY:
        name = demo.run.prepared(source).name
        note = "" if Path(source).stem == Path(name).stem else f"published as {name}"
        reason = re.sub(r"(; )?\d+ private texts? in it", "", demo.rows[source]["reason"])
        assert (demo.rows[source]["status"], reason) == ("ready", note)
    for source, (status, words) in OTHERS.items():
        assert demo.rows[source]["status"] == status
        assert words in demo.rows[source]["reason"]
        assert "published" not in demo.rows[source]["reason"]


def test_columns_of_the_summary(demo: Demo) -> None:
    header = (demo.run.results / "summary.tsv").read_text("utf-8").split("\n")[0].split("\t")
    assert header == [
        "measurement", "dataset", "source", "status", "reason", "events", "source_bytes", "prepared_bytes",
        "violations", "alerts", "sha256", "dataset_status", "dataset_id",
    ]  # fmt: skip
    for source, row in demo.rows.items():
        assert row["dataset"] == IDS[source.partition("/")[0]]
        assert re.fullmatch("[a-z0-9_-]+", row["measurement"])
        if source.endswith(".rtdc"):
            assert int(row["source_bytes"]) == (demo.source / source).stat().st_size
    assert len({row["measurement"] for row in demo.rows.values()}) == len(demo.rows)
    seen = demo.run.measurements()
    for source in READY:
        row, path = demo.rows[source], demo.run.prepared(source)
        assert row["sha256"] == seen[f"{row['dataset']}/{path.name}"].sha256
        assert int(row["prepared_bytes"]) == path.stat().st_size
        assert int(row["events"]) > 0
    assert int(demo.rows[f"{DRUG}/HL60_LatA_100nM.rtdc"]["violations"]) == 2
    assert {d: {r["dataset_status"] for s, r in demo.rows.items() if s.startswith(d)} for d in IDS} == {
        BLOOD: {"ready"},
        DRUG: {"incomplete"},
        BEADS: {"incomplete"},
    }


def test_layout(demo: Demo) -> None:
    results = demo.run.results
    found = {p for p, seen in snapshot(results).items() if seen.sha256 != "folder"}
    expected = {
        "inventory.tsv",
        "report.html",
        "summary.tsv",
        "junit.xml",
        "companions.tsv",
        "privacy.tsv",
        *TEMPLATES,
    }
    expected |= {f"records/{demo.rows[source]['measurement']}.json" for source in READY}
    for folder, names in RESOURCES.items():
        expected |= {f"datasets/{IDS[folder]}/{name}" for name in (*names, TASK)}
    assert {p for p in found if not p.startswith(".state/")} - {"records/index.jsonl"} == expected
    assert {p.parts[0] for p in (q.relative_to(demo.run.work) for q in demo.run.work.rglob("*"))} == {
        "results", "logs", ".snakemake", demo.run.configfile.name,
    }  # fmt: skip
    rules = {path.name for path in (demo.run.work / "logs").iterdir()}
    assert rules == {"discover", "compress", "check", "merge_metadata", "task"}
    assert not leftovers(demo.run.work)


def test_inventory_has_a_row_for_each_measurement(demo: Demo) -> None:
    lines = (demo.run.results / "inventory.tsv").read_text("utf-8").splitlines()
    column = lines[0].split("\t").index("source")
    assert sorted(line.split("\t")[column] for line in lines[1:]) == sorted(demo.rows)


def test_junit_agrees_with_the_summary(demo: Demo) -> None:
    root = ElementTree.parse(demo.run.results / "junit.xml").getroot()
    cases = {case.get("name"): case for case in root.iter("testcase")}
    assert cases.keys() == demo.rows.keys()
    for source, row in demo.rows.items():
        outcome = [(child.tag, child.get("message") or "") for child in cases[source]]
        if row["status"] == "ready":
            assert outcome == []
        else:
            [(tag, message)] = outcome
            assert tag == ("failure" if row["status"] == "failed" else "skipped")
            assert row["reason"].startswith(message.removeprefix(f"{row['status']}: "))
    for suite in root.iter("testsuite"):
        inside = list(suite.iter("testcase"))
        assert int(suite.get("tests", "-1")) == len(inside)
        assert int(suite.get("failures", "-1")) == sum(c.find("failure") is not None for c in inside)
        assert int(suite.get("skipped", "-1")) == sum(c.find("skipped") is not None for c in inside)


def test_last_lines(demo: Demo) -> None:
    text = demo.result.stdout
    assert "13 measurements: 10 ready, 1 excluded, 2 failed" in text
    assert "3 datasets: 2 incomplete, 1 ready" in text
    assert all(f"{source}: " in text for source in OTHERS)
    assert "next: " in text
    assert len(text.splitlines()) < 50, "a person reads this"


def test_tasks(demo: Demo) -> None:
    tasks = demo.run.tasks()
    assert tasks.keys() == set(IDS.values())
    for folder, dataset in IDS.items():
        task = tasks[dataset]
        assert task["dataset_dict"] == {
            "title": folder,
            "authors": "A. Name, B. Name",
            "license_id": "CC0-1.0",
            "owner_org": "my-circle",
            "private": True,
        }
        job = task["upload_job"]
        assert re.fullmatch(f"{dataset}-[0-9a-f]{{8}}", job["task_id"])
        assert job["resource_names"] == RESOURCES[folder]
        assert all(re.match(VALID_RESOURCE_REGEXP, name) for name in job["resource_names"])
        place = demo.run.results / "datasets" / dataset
        assert job["resource_paths"] == [str(place / name) for name in RESOURCES[folder]]
        assert job["resource_supplements"] == [
            {"cells": {"organism": "human"}} if name.endswith(".rtdc") else {} for name in RESOURCES[folder]
        ]
        assert "dataset_id" not in job


def test_companions_are_copied(demo: Demo) -> None:
    for folder, names in RESOURCES.items():
        for name in names:
            if not name.endswith(".rtdc"):
                copied = demo.run.results / "datasets" / IDS[folder] / name
                assert copied.read_bytes() == (demo.source / folder / name).read_bytes()
                assert not copied.is_symlink()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("moved", [False, True], ids=["in place", "folder moved"])
def test_dcoraid_loads_the_tasks(demo: Demo, tmp_path: Path, moved: bool) -> None:
    for number, (folder, dataset) in enumerate(IDS.items(), start=1):
        place = demo.run.results / "datasets" / dataset
        if moved:
            place = Path(shutil.copytree(place, tmp_path / "usb stick" / f"folder {number}"))
            task = json.loads((place / TASK).read_text("utf-8"))
            gone = [p.replace(str(demo.run.work), "/gone") for p in task["upload_job"]["resource_paths"]]
            task["upload_job"]["resource_paths"] = gone
            (place / TASK).write_text(json.dumps(task), encoding="utf-8")
        server = Server()
        known: dict[str, str] = {}
        job = load_task(place / TASK, server, map_task_to_dataset_id=known, cache_dir=tmp_path)
        assert job.resource_names == RESOURCES[folder]
        assert [path.parent for path in job.paths] == [place.resolve()] * len(job.paths)
        assert server.created[0]["private"] is True
        assert server.created[0]["state"] == "draft"
        assert list(known) == [job.task_id]


def test_prepared_files_are_identical_with_their_sources(demo: Demo) -> None:
    source = f"{BLOOD}/M1_data.rtdc"
    verified = demo.run.dcorflow("verify", demo.run.prepared(source), demo.source / source)
    assert verified.code == 0
    assert verified.stdout.startswith("identical, but for what its history names: dropped: ")
    wrong = demo.run.dcorflow("verify", demo.run.prepared(source), demo.source / BLOOD / "M2_data.rtdc")
    assert wrong.code == 1


def test_nothing_depends_on_place_clock_user_and_cores(demo: Demo, other: Other) -> None:
    assert other.result.code == 0, other.result.text
    first, second = demo.run.measurements(), other.run.measurements()
    assert contents(first) == contents(second)
    for name in ("summary.tsv", "junit.xml", "companions.tsv", "privacy.tsv", *TEMPLATES):
        assert (demo.run.results / name).read_bytes() == (other.run.results / name).read_bytes()
    ours = json.dumps(demo.run.tasks(), ensure_ascii=False)
    theirs = json.dumps(other.run.tasks(), ensure_ascii=False)
    assert theirs.replace(str(other.run.work), str(demo.run.work)) == ours
    for path in first:
        data = (demo.run.results / "datasets" / path).read_bytes()
        assert str(demo.source.parent).encode() not in data


def test_read_only_source(other: Other, missing: Callable[[str], NoReturn]) -> None:
    if not other.mounted:
        missing("a read-only mount needs the right to mount (root, or user namespaces)")
    assert other.result.code == 0, other.result.text
    assert len(other.run.measurements()) == len(READY)


def test_source_is_left_alone(demo: Demo, other: Other) -> None:
    assert snapshot(demo.source.parent, "source/**/*") == demo.before


def test_second_run_does_nothing(demo: Demo) -> None:
    with Comparison(demo.run) as second:
        result = demo.run.good()
    assert second.files <= {"results/records/index.jsonl"}, "the index takes up the new records"
    assert not result.jobs - {"discover"}
    with Comparison(demo.run) as third:
        result = demo.run.good()
    assert third.files == set()
    written = changed(third.before, third.after)
    notes = {f"results/.state/{name}" for name in ("discover.done", "run.json", "todo.json")}
    assert {p for p in written if p.startswith("results/")} == notes
    assert all(p.startswith(EVERY_RUN) for p in written)
    assert "13 measurements: 10 ready, 1 excluded, 2 failed" in result.stdout
    assert demo.run.rows() == demo.rows


def test_the_page_shows_every_measurement(demo: Demo) -> None:
    text = (demo.run.results / "report.html").read_text(encoding="utf-8")
    data = text.partition('id="data">')[2].partition("</script>")[0]
    assert {row[0] for row in json.loads(data)["rows"]} == demo.rows.keys()


def test_the_report_of_snakemake_shows_the_summary(demo: Demo, tmp_path: Path) -> None:
    made = tmp_path / "snakemake.html"
    done = subprocess.run(
        demo.run.command(1, "--report", str(made)), capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    text = made.read_text(encoding="utf-8")
    assert "13 measurements: 10 ready, 1 excluded, 2 failed" in text
    assert "what was found" in text, "the label of a result"
