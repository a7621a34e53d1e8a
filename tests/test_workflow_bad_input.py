"""Whatever lies in a source tree ends in one row with a reason, and stops nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree

import pytest
import recipes
from recipes import RECIPES
from runs import TEMPORARY, Comparison, Run, aged, leftovers, snapshot

#: What must become of the recipes: status and a part of the reason.
FATES = {
    "empty_file": ("failed", "empty"),
    "truncated": ("failed", "truncated"),
    "text_file": ("failed", "not an HDF5 file"),
    "png_file": ("failed", "not an HDF5 file"),
    "without_events": ("failed", "no events"),
    "zero_events": ("failed", "zero events"),
    "unequal_lengths": ("excluded", "deform"),
    "scalar_in_events": ("excluded", "userdef1"),
    "scalar_in_logs": ("ready", ""),
    "broken_soft_link": ("ready", ""),
    "soft_link": ("ready", ""),
    "external_link": ("excluded", "outside"),
    "virtual_dataset": ("excluded", "outside"),
    "external_storage": ("excluded", "outside"),
    "unknown_feature": ("excluded", "glow_worm"),
    "unknown_group": ("excluded", "glow_worm"),
    "empty_log": ("ready", ""),
    "corrupt_chunk": ("failed", "corrupt"),
    "left_open": ("in progress", "open for writing"),
    "left_open_swmr": ("in progress", "open for writing"),
    "wrong_roi_size": ("ready", ""),
    "swapped_roi_size": ("ready", ""),
    "missing_attributes": ("ready", ""),
    "group_attributes": ("ready", ""),
    "non_ascii_log": ("ready", ""),
    "long_log_line": ("ready", ""),
    "userblock": ("ready", ""),
    "big_endian": ("ready", ""),
    "contours": ("ready", ""),
    "tables": ("ready", ""),
    "internal_basin": ("ready", ""),
    "file_basin": ("ready", ""),
    "directory": ("failed", "folder"),
}
#: File names as on disk, and as they stand in the summary.
ODD_NAMES = {
    "with a space": "with a space",
    'it\'s "quoted"': 'it\'s "quoted"',
    "new\nline": "new\\nline",
    "tab\there": "tab\\there",
    "Größe µ é": "Größe µ é",
    "decomposed u\u0308": "decomposed u\u0308",
    "細胞": "細胞",
    "$(touch dollar)": "$(touch dollar)",
    "`touch tick`; touch semicolon #": "`touch tick`; touch semicolon #",
    "-rf": "-rf",
    "--cores": "--cores",
    "{wildcards.batch}": "{wildcards.batch}",
    "100% & <more>": "100% & <more>",
    "back\\slash": "back\\\\slash",
    "no utf-8 \udcff": "no utf-8 \\xff",
    "x" * 240: "x" * 240,
    "*": "*",
}
DEEP = "/".join(["a folder with a long name " + "y" * 30] * 6)
#: Ends a process that opens a file of this name, where it does what the name says.
KILLER = """
import os, signal, sys

def watch(event, arguments):
    if event != "open" or "killer" not in str(arguments[0]):
        return
    here = " ".join(sys.argv)
    for stage, mark in (("probing", "probe.py"), ("compressing", "batch compress"),
                        ("checking", "batch check")):
        if f"{stage}_killer" in str(arguments[0]) and mark in here:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
"""
KILLED = ("probing_killer", "compressing_killer", "checking_killer")


class Zoo:
    """A tree of bad and odd files with a good one beside each, prepared once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.source = folder, folder / "source"
        self.good: set[str] = set()
        self._write_recipes()
        self._write_names()
        self._write_others()
        aged(self.source)
        for name in ("home", "tmp", "hook"):
            (folder / name).mkdir()
        (folder / "hook" / "sitecustomize.py").write_text(KILLER, encoding="utf-8")
        self.environment = {
            "PYTHONPATH": str(folder / "hook"),
            "TMPDIR": str(folder / "tmp"),
            "HOME": str(folder / "home"),
            "XDG_CACHE_HOME": str(folder / "home" / "cache"),
        }
        self.before = snapshot(folder, "source/**/*")
        self.beside = {p.name for p in folder.iterdir()}
        self.run = Run(folder / "work", self.source)
        self.result = self.run.run(environment=self.environment)
        self.rows = self.run.rows()

    def _add_good(self, path: str) -> None:
        recipes.small_measurement(self.source / path, seed=len(self.good) + 100)
        self.good.add(path)

    def _write_recipes(self) -> None:
        for name, write in RECIPES.items():
            (self.source / "recipes" / name).mkdir(parents=True)
            write(self.source / "recipes" / name / f"{name}.rtdc")
        self._add_good("recipes/good.rtdc")

    def _write_names(self) -> None:
        for name, shown in ODD_NAMES.items():
            self._add_good(f"names/{name}.rtdc")
            self.good.remove(f"names/{name}.rtdc")
            self.good.add(f"names/{shown}.rtdc")
        self._add_good(f"{DEEP}/{'z' * 100}.rtdc")
        self._add_good("-folder $(touch folder)/\u00fc .rtdc")

    def _write_others(self) -> None:
        others = self.source / "others"
        self._add_good("others/good.rtdc")
        self._add_good("others/UPPER.RTDC")
        (others / "x.rtdc").mkdir()
        (others / "inside.rtdc").mkdir()
        self._add_good("others/inside.rtdc/measured.rtdc")
        os.mkfifo(others / "y.rtdc")
        (others / "dangling.rtdc").symlink_to(others / "nowhere.rtdc")
        (others / "himself.rtdc").symlink_to(others / "himself.rtdc")
        (others / "circle").symlink_to(self.source, target_is_directory=True)
        (others / "no text.tdms").write_bytes(b"")
        for name in (".hidden", "~open", "a_condensed", "b_original"):
            recipes.text_file(others / f"{name}.rtdc")
        for name in KILLED:
            recipes.small_measurement(self.source / "killers" / f"{name}.rtdc", seed=len(name))
        self._add_good("killers/good.rtdc")


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return Zoo(tmp_path_factory.mktemp("zoo"))


def test_every_recipe_has_a_fate() -> None:
    assert FATES.keys() == RECIPES.keys()


def test_the_run_goes_on(zoo: Zoo) -> None:
    assert zoo.result.code == 0, zoo.result.text
    assert "Traceback" not in zoo.result.text


@pytest.mark.parametrize("name", FATES)
def test_recipe(zoo: Zoo, name: str) -> None:
    row = zoo.rows[f"recipes/{name}/{name}.rtdc"]
    status, words = FATES[name]
    assert row["status"] == status
    assert words in row["reason"]
    if status == "ready":
        path = zoo.run.prepared(f"{name}/{name}.rtdc")
        source = zoo.source / "recipes" / name / f"{name}.rtdc"
        verified = zoo.run.dcorflow("verify", path, source)
        assert verified.code == 0, verified.text
    else:
        assert "Error" not in row["reason"], "words of a biologist, not of Python"
        assert row["sha256"] == "" or status == "excluded"


def test_good_ones_are_ready(zoo: Zoo) -> None:
    statuses = zoo.run.statuses()
    assert {name: statuses.get(name) for name in zoo.good} == dict.fromkeys(zoo.good, "ready")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("others/x.rtdc", "folder"),
        ("others/inside.rtdc", "folder"),
        ("others/y.rtdc", "not a regular file"),
        ("others/dangling.rtdc", "link"),
        ("others/himself.rtdc", "link"),
        ("others/no text.tdms", "empty"),
        *((f"killers/{name}.rtdc", "process") for name in KILLED),
    ],
)
def test_others(zoo: Zoo, name: str, words: str) -> None:
    row = zoo.rows[name]
    assert row["status"] == "failed"
    assert words in row["reason"]
    assert row["dataset_status"] == "incomplete"


def test_nothing_else_is_listed(zoo: Zoo) -> None:
    recipe_names = {f"recipes/{n}/{n}.rtdc" for n in FATES}
    others = {f"others/{n}" for n in ("x.rtdc", "inside.rtdc", "y.rtdc", "dangling.rtdc", "himself.rtdc",
                                      "no text.tdms")}  # fmt: skip
    killers = {f"killers/{n}.rtdc" for n in KILLED}
    neighbour = {"recipes/file_basin/file_basin_neighbour.rtdc"}
    assert zoo.rows.keys() == zoo.good | recipe_names | others | killers | neighbour


def test_basin_comes_before_what_refers_to_it(zoo: Zoo) -> None:
    assert zoo.run.resources("file_basin/file_basin.rtdc") == ["file_basin_neighbour.rtdc", "file_basin.rtdc"]


def test_resource_names_are_unique_and_valid(zoo: Zoo) -> None:
    from dcoraid.upload.job import VALID_RESOURCE_CHARS

    for task in zoo.run.tasks().values():
        names = task["upload_job"]["resource_names"]
        assert len({name.lower() for name in names}) == len(names)
        assert all(set(name) <= set(VALID_RESOURCE_CHARS) for name in names)
        assert all(Path(path).is_file() for path in task["upload_job"]["resource_paths"])


def test_only_ready_ones_are_in_tasks(zoo: Zoo) -> None:
    listed = sum(len(task["upload_job"]["resource_names"]) for task in zoo.run.tasks().values())
    assert listed == sum(row["status"] == "ready" for row in zoo.rows.values())


def test_junit_is_readable(zoo: Zoo) -> None:
    root = ElementTree.parse(zoo.run.results / "junit.xml").getroot()
    assert len(list(root.iter("testcase"))) == len(zoo.rows)


def test_nothing_is_written_elsewhere(zoo: Zoo) -> None:
    killed = "work/results/datasets/killers/"
    assert [p for p in leftovers(zoo.folder) if not p.startswith(killed)] == []
    assert {p.name for p in zoo.folder.iterdir()} == zoo.beside | {"work"}
    assert not list((zoo.folder / "tmp").iterdir())
    assert {p.parts[-1] for p in (zoo.folder / "home").iterdir()} <= {"cache"}
    assert {p.name for p in zoo.run.work.iterdir()} == {"results", "logs", ".snakemake", "settings.yaml"}
    assert snapshot(zoo.folder, "source/**/*") == zoo.before
    assert not list((zoo.run.state / "attempts").glob("*.json"))


def test_second_run_does_not_try_what_is_bad_for_good(zoo: Zoo) -> None:
    for path in leftovers(zoo.folder):
        aged(zoo.folder / path)
    with Comparison(zoo.run) as step:
        result = zoo.run.good(environment=zoo.environment)
    assert not result.jobs - {"discover"}
    assert {p for p in step.files if TEMPORARY not in p} <= {"results/records/index.jsonl"}
    assert leftovers(zoo.folder) == [], "what killed processes left is removed at the next start"


def test_strict(zoo: Zoo) -> None:
    rows = zoo.run.rows()
    with Comparison(zoo.run) as step:
        result = zoo.run.configure({"check.strict": True}).run(environment=zoo.environment)
    assert result.code == 1
    assert "Traceback" not in result.text
    assert zoo.run.rows() == rows, "the report is written first"
    assert step.measurements == set()
    zoo.run.configure({"check.strict": False})


def test_repaired_file_is_taken(zoo: Zoo) -> None:
    path = zoo.source / "recipes" / "truncated" / "truncated.rtdc"
    recipes.small_measurement(path, seed=55)
    aged(path)
    zoo.run.good(environment=zoo.environment)
    with Comparison(zoo.run) as step:
        zoo.run.good(environment=zoo.environment)
    assert zoo.run.row("truncated/truncated.rtdc")["status"] == "ready"
    assert step.measurements == {"truncated.rtdc"}


def no_capabilities(folder: Path) -> tuple[str, ...] | None:
    """Return the command prefix with which permissions count, even for root; None where there is none."""
    closed = folder / "closed"
    closed.touch()
    closed.chmod(0)
    test = [sys.executable, "-c", f"open({str(closed)!r})"]
    for prefix in ((), ("setpriv", "--inh-caps=-all", "--bounding-set=-all")):
        if prefix and not shutil.which(prefix[0]):
            continue
        done = subprocess.run([*prefix, *test], capture_output=True, text=True)
        if "PermissionError" in done.stderr:
            return prefix
    return None


def test_no_permission(lab: Run, tmp_path: Path, missing: Callable[[str], NoReturn]) -> None:
    prefix = no_capabilities(tmp_path)
    if prefix is None:
        missing("permissions do not bind this user, and there is no setpriv to change that")
    lab.wrapper = prefix
    closed = aged(recipes.small_measurement(lab.source / "beta" / "closed.rtdc", seed=66))
    closed.chmod(0)
    (lab.source / "gamma").chmod(0)
    try:
        with Comparison(lab) as step:
            result = lab.run()
        row, hidden = lab.row("closed.rtdc"), lab.row("gamma/five.rtdc")
        assert result.code == 0, "dealt with: a row with its reason; the next run tries again"
        assert "Traceback" not in result.text
        assert row["status"] == "failed"
        assert "no permission" in row["reason"]
        assert hidden["status"] != "gone", "a folder that cannot be listed is not empty"
        assert "permission" in hidden["reason"]
        assert step.measurements == set()
        assert lab.row("M1_data.rtdc")["status"] == "ready"
    finally:
        closed.chmod(0o644)
        (lab.source / "gamma").chmod(0o755)
    with Comparison(lab) as step:
        lab.good()
    assert set(lab.statuses().values()) == {"ready"}
    assert step.measurements == {"closed.rtdc"}


def test_link_into_a_closed_folder(lab: Run, tmp_path: Path, missing: Callable[[str], NoReturn]) -> None:
    prefix = no_capabilities(tmp_path)
    if prefix is None:
        missing("permissions do not bind this user, and there is no setpriv to change that")
    lab.wrapper = prefix
    closed = tmp_path / "private"
    recipes.small_measurement(closed / "m.rtdc", seed=67)
    (lab.source / "beta" / "linked.rtdc").symlink_to(closed / "m.rtdc")
    (lab.source / "beta" / "folder").symlink_to(closed / "deeper")
    closed.chmod(0)
    try:
        result = lab.run()
    finally:
        closed.chmod(0o755)
    assert "internal error" not in result.text
    assert "permission" in lab.row("linked.rtdc")["reason"]
    assert lab.row("M1_data.rtdc")["status"] == "ready"


def test_leftovers_of_killed_jobs(lab: Run) -> None:
    alpha = lab.results / "datasets" / "alpha"
    mine = alpha / "mine.bin"
    shutil.copy(lab.prepared("one.rtdc"), mine)
    state = [lab.state / name for name in ("batches", "edits", "groups", "settled", "compress", "task")]
    for folder in (alpha, lab.results, lab.results / "records", lab.state, *state):
        aged(Path(shutil.copy(mine, folder / f"{TEMPORARY}0123.tmp")))
    scratch = alpha / f"{TEMPORARY}conversion"
    scratch.mkdir()
    shutil.copy(mine, scratch / "converted.rtdc")
    aged(scratch)
    lab.good()
    assert leftovers(lab.work) == []
    assert mine.is_file(), "files of others are left alone"


def test_folder_in_the_place_of_a_prepared_file(lab: Run) -> None:
    place = lab.prepared("M1_data.rtdc")
    place.unlink()
    place.mkdir()
    result = lab.run()
    assert "Traceback" not in result.text
    assert lab.row("M1_data.rtdc")["status"] == "failed"
    assert lab.row("M2_data.rtdc")["status"] == "ready"
    place.rmdir()
    lab.good()
    assert set(lab.statuses().values()) == {"ready"}
