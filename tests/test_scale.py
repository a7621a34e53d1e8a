"""Runs with nothing, or little, to do: what they may open, import and start, however many files there are."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import bench_scale
import pytest
import scale_data
import yaml
from runs import REPOSITORY, Comparison, Run, later, snapshot
from snakemake_interface_executor_plugins.settings import ExecMode

from dcorflow.discover.unfinished import unfinished_groups
from dcorflow.files import key_of, read_json, to_json, write_text
from dcorflow.run import groups_to_run, path_of_jobs, settings_of, uploads_to_run
from dcorflow.workdir import Workdir


class Made(Run):
    """A work directory that `scale_data` made, with the settings that it wrote."""

    @property
    def configfile(self) -> Path:
        return self.work / "config.yaml"

    def configure(self, changes):
        return self


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    work = tmp_path_factory.mktemp("scale") / "work"
    scale_data.prepare(work, measurements=6, datasets=3)
    return work


@pytest.fixture(scope="module")
def made(real):
    kept = real.rename(real.with_name("kept"))
    scale_data.multiply(kept, real, measurements=6, datasets=3)
    return kept, Made(real, real / "source")


def test_a_multiplied_work_directory_is_like_one_prepared_for_real(made):
    kept, run = made
    parts = ("source", "results", ".snakemake/metadata")
    wanted, found = ({p: set(snapshot(work / p)) for p in parts} for work in (kept, run.work))
    # Marks of what is being worked on, and how far jobs were that have ended: nothing reads them any more.
    over = (".state/attempts", ".state/progress")
    wanted["results"] = {path for path in wanted["results"] if not path.startswith(over)}
    assert found == wanted
    assert (run.results / "summary.tsv").read_text().count("\tready\t") == 6 * 2
    sizes = [
        sum(p.stat().st_size for p in (w / "results").rglob("*") if p.is_file()) for w in (kept, run.work)
    ]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)


def test_a_multiplied_work_directory_has_nothing_to_do(made):
    run = made[1]
    with Comparison(run) as rerun:
        result = run.good()
    assert result.jobs == set() and rerun.files == set()
    assert "nothing to do" in run.dcorflow("plan").stdout


def test_a_job_starts_without_pandas_as_it_is_measured(made):
    command, environment = bench_scale.job(made[1].work), bench_scale.OF_JOBS
    told = environment | {"PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run(command, env=told, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    log = made[1].work / "logs" / "compress" / "b000001.log"
    assert "compress b000001: 0 of 6 measurements" in log.read_text()
    imported = set(re.findall(r"\| +([\w.]+)$", done.stderr, re.M))
    assert {"snakemake_executor_plugin_slurm.efficiency_report", "dcorflow.run"} <= imported
    assert {"pandas.core", "dclab", "dcorflow.config"} & imported == set()


LATER = """
import sys
print(sys.modules.get("mine"), "pandas.core" in sys.modules)
import pandas
print("pandas.core" in sys.modules, pandas.DataFrame({"a": [1, 2]}).a.sum(), "pandas.core" in sys.modules)
"""


def test_what_puts_off_pandas_is_in_nobodys_way(tmp_path, monkeypatch):
    """A site's own module of this name still runs, pandas is there for whoever uses it, and others get it."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text("import sys; sys.modules['mine'] = 'ran'")
    for name in ("snakemake", "other"):
        (tmp_path / f"{name}.py").write_text(LATER)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", "/a", path_of_jobs("/repository"), "/a"]))
    assert path_of_jobs("/repository") == os.pathsep.join(["/repository", "/a", "/repository/workflow/jobs"])
    monkeypatch.delenv("PYTHONPATH")
    said = {}
    for name in ("snakemake", "other"):
        path = os.pathsep.join([path_of_jobs(str(REPOSITORY)), str(tmp_path / "site")])
        done = subprocess.run(
            [sys.executable, "-m", name], cwd=tmp_path, env=os.environ | {"PYTHONPATH": path},
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        said[name] = done.stdout.split("\n")[:2]
    assert said == {"snakemake": ["ran False", "False 3 True"], "other": ["ran False", "True 3 True"]}


#: Prints what ran code has imported and which files it has opened, as JSON.
WATCHED = """
import json, os, sys
opened = []
sys.addaudithook(lambda event, given: opened.append(os.fsdecode(given[0]))
                 if event == "open" and isinstance(given[0], (str, bytes)) else None)
{code}
print("\\n" + json.dumps([sorted(sys.modules), opened]))
"""
HEAVY = ("dclab", "pandas", "jinja2", "scipy", "h5py")


def watched(code: str, work: Path) -> tuple[set[str], list[Path]]:
    """Run code in a process of its own; return the modules it imported and the files it opened."""
    done = subprocess.run(
        [sys.executable, "-c", WATCHED.format(code=code)],
        cwd=work, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    modules, opened = json.loads(done.stdout.splitlines()[-1])
    return set(modules), [Path(work, name) for name in opened]


def test_parsing_the_snakefile_imports_only_what_every_job_needs(made):
    work = made[1].work
    files = [REPOSITORY / "Snakefile", *sorted((REPOSITORY / "workflow" / "rules").glob("*.smk"))]
    named = {m for f in files for m in re.findall(r"^(?:from|import) (dcorflow[.\w]*)", f.read_text(), re.M)}
    assert "dcorflow.run" in named
    settings = "import yaml; dcorflow.run.settings_or_exit(yaml.safe_load(open('config.yaml')))"
    loaded, _ = watched("\n".join([*(f"import {name}" for name in sorted(named)), settings]), work)
    assert named <= loaded
    assert loaded & {*HEAVY, "dcorflow.report", "dcorflow.compress", "dcorflow.engine"} == set()


def test_a_job_takes_the_settings_that_its_head_has_validated(made, monkeypatch):
    work = Workdir(made[1].work)
    taken = """
from snakemake_interface_executor_plugins.settings import ExecMode
from types import SimpleNamespace
import dcorflow.run
settings = dcorflow.run.settings_of(SimpleNamespace(exec_mode=ExecMode.REMOTE), {"input": "unread"})
assert settings == dcorflow.run.read_json(dcorflow.run.Workdir(dcorflow.run.Path.cwd()).config)
"""
    loaded, _ = watched(taken, work.root)
    assert "dcorflow.run" in loaded
    assert loaded & {"jsonschema", "dcorflow.config", "dcorflow.discover"} == set()
    # a head reads its own, and so does a job where none are stored
    given = yaml.safe_load((work.root / "config.yaml").read_text(encoding="utf-8"))
    given["input"]["min_age"] = 7
    monkeypatch.chdir(work.root)
    assert settings_of(SimpleNamespace(exec_mode=ExecMode.DEFAULT), given)["input"]["min_age"] == 7
    job = SimpleNamespace(exec_mode=ExecMode.SUBPROCESS)
    assert settings_of(job, given) == read_json(work.config)
    monkeypatch.chdir(work.root.parent)
    given["input"]["root"] = str(work.root / "source")
    assert settings_of(job, given)["input"]["min_age"] == 7


def test_the_head_of_a_run_needs_nothing_of_hdf5_before_it_has_work(made):
    loaded, _ = watched("import dcorflow.ticker, dcorflow.ending", made[1].work)
    assert "dcorflow.ending" in loaded
    assert loaded & {*HEAVY, "numpy", "dcorflow.engine"} == set()


def test_nothing_to_do_opens_no_record(made):
    run = made[1]
    records = run.results / "records"
    [some, *_] = sorted(records.glob("*/*.json")) or sorted(records.glob("*.json"))
    _, seen = watched(f"open({str(some)!r}).close()", run.work)
    assert some in seen, "the watch does not see what is opened"
    assert run.dcorflow("report").code == 0
    for command in ("discover", "plan", "report"):
        loaded, opened = watched(f"from dcorflow.cli import main; assert main([{command!r}]) == 0", run.work)
        assert [p for p in opened if records in p.parents and p.suffix == ".json"] == [], command
        assert records / "index.jsonl" in opened, command
        assert loaded & {"dclab", "pandas", "scipy", "h5py", "numpy"} == set(), command


def test_exponents_are_those_of_the_growth_without_the_start():
    rows = [{"what": "x", "measurements": n, "least": 2 + 3e-4 * n**1.05} for n in (1000, 10_000, 100_000)]
    [found] = bench_scale.exponents(rows)
    assert found["exponent"] == pytest.approx(1.05)
    assert bench_scale.exponents(rows[:2]) == []


class TestUnfinished:
    """A group is left out of Snakemake's plan only where nothing in it can have anything to do."""

    GROUPS: ClassVar = {"g1": ["b1", "b2"], "g2": ["b2"]}
    ORDER = ("batches/b1.json", "compress/b1.done", "check/b1.done", "merge_metadata/b1.done")

    @pytest.fixture
    def work(self, tmp_path):
        """Give a work directory in which both groups are finished."""
        work = Workdir(tmp_path)
        for number, (folder, suffix) in enumerate(
            [("batches", "json"), ("groups", "json"), ("compress", "done"), ("check", "done"),
             ("edits", "json"), ("merge_metadata", "done"), ("task", "done")]
        ):  # fmt: skip
            for name in ("g1", "g2") if folder in ("groups", "task") else ("b1", "b2"):
                write_text(path := work.state / folder / f"{name}.{suffix}", "")
                os.utime(path, (number, number))
        return work

    def test_nothing(self, work):
        assert unfinished_groups(work, self.GROUPS, []) == []

    def test_a_lost_stamp_or_plan(self, work):
        for path in sorted(work.state.glob("*/*1.*")):
            kept = path.rename(work.root / "kept")
            assert unfinished_groups(work, self.GROUPS, []) == ["g1"], path
            kept.rename(path)
        work.stamp("check", "b2").unlink()
        assert unfinished_groups(work, self.GROUPS, []) == ["g1", "g2"]

    def test_a_newer_plan_or_stamp(self, work):
        for path in sorted(work.state.glob("*/*1.*")):
            before = path.stat().st_mtime
            os.utime(path, (99, 99))
            last = path.parent.name == "task"
            assert unfinished_groups(work, self.GROUPS, []) == ([] if last else ["g1"]), path
            os.utime(path, (before, before))

    def test_a_plan_written_now_whatever_the_clock_says(self, work):
        assert unfinished_groups(work, self.GROUPS, ["b1.json"]) == ["g1"]
        assert unfinished_groups(work, self.GROUPS, ["g2.json"]) == ["g2"]

    def test_a_lost_folder(self, work):
        shutil.rmtree(work.state / "merge_metadata")
        assert unfinished_groups(work, self.GROUPS, []) == ["g1", "g2"]


def test_forced_jobs_run_in_finished_groups(lab):
    before = lab.stamps()
    command = lab.command(2, "--forcerun", "task")
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    again = {job for job, seen in lab.stamps().items() if before.get(job) != seen and "discover" not in job}
    assert again == {"task/g00001", "task/g00002", "task/g00003"}


class TestWhatSnakemakePlans:
    """Only groups and uploads in which something is open."""

    @pytest.fixture
    def work(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        work = Workdir(tmp_path)
        plan = {"groups": {"g1": [], "g2": [], "g3": []}, "warnings": []}
        write_text(work.state / "plan.json", to_json(plan))
        write_text(work.state / "discover.done", to_json({"unfinished": ["g2"]}))
        for group in plan["groups"]:
            write_text(work.stamp("task", group), "")
            self.stamp(work, group)
        return work

    def stamp(self, work, group, **changes):
        done = {"open": [], "turn": 1, "told": {}, "settings": key_of(self.SETTINGS["upload"])} | changes
        write_text(work.stamp("upload", group), to_json(done))

    SETTINGS: ClassVar = {"upload": {"server": "playground"}}
    PLAIN = SimpleNamespace(
        dag=SimpleNamespace(forcefiles=set()),
        dag_settings=SimpleNamespace(forceall=False, forcerun=frozenset(), forcetargets=False),
    )
    FORCED = SimpleNamespace(
        dag=SimpleNamespace(forcefiles=set()),
        dag_settings=SimpleNamespace(forceall=False, forcerun=frozenset(["task"]), forcetargets=False),
    )

    def test_groups(self, work):
        assert groups_to_run(self.PLAIN) == ["g2"]
        assert groups_to_run(self.FORCED) == ["g1", "g2", "g3"]

    def test_uploads(self, work):
        assert uploads_to_run(self.PLAIN, self.SETTINGS) == ["g2"]
        assert uploads_to_run(self.FORCED, self.SETTINGS) == ["g1", "g2", "g3"]

    def test_uploads_that_wait(self, work):
        self.stamp(work, "g1", open=["alpha"])
        assert uploads_to_run(self.PLAIN, self.SETTINGS) == ["g1", "g2"]

    def test_other_settings(self, work):
        assert uploads_to_run(self.PLAIN, {"upload": {"server": "dcor"}}) == ["g1", "g2", "g3"]

    def test_lost_receipts(self, work):
        """What is told to be published has a receipt; else the upload job looks for it on the server."""
        told = {"alpha": {"status": "published"}, "beta": {"status": "incomplete"}}
        self.stamp(work, "g1", told=told)
        assert uploads_to_run(self.PLAIN, self.SETTINGS) == ["g1", "g2"]
        write_text(work.results / "uploads" / "playground" / "alpha.json", "{}")
        assert uploads_to_run(self.PLAIN, self.SETTINGS) == ["g2"]

    def test_newer_tasks_and_lost_stamps(self, work):
        later(work.stamp("task", "g1"))
        work.stamp("upload", "g3").unlink()
        assert uploads_to_run(self.PLAIN, self.SETTINGS) == ["g1", "g2", "g3"]

    def test_a_plan_that_changes_is_read_again(self, work):
        assert groups_to_run(self.FORCED) == ["g1", "g2", "g3"]
        write_text(work.state / "plan.json", to_json({"groups": {"g9": []}}))
        assert groups_to_run(self.FORCED) == ["g9"]
