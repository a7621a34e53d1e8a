"""The workflow on a real Slurm, which is started for this file and ended with it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
from demo_data import write_tree
from recipes import small_measurement
from runs import REPOSITORY, Result, Run, aged, contents, leftovers, sha256, wait_for

PROFILE = REPOSITORY / "profiles" / "slurm"
LAB = REPOSITORY / "scripts" / "slurm_lab" / "slurm-lab"
TOKEN = "secret-xyz"
#: More than there are, so that jobs run side by side.
CPUS = "4"
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch")
#: Imported by every Python that a test starts; does something to workers only, who alone open measurements.
SITECUSTOMIZE = """
import os, sys, time

def on_open(event, args):
    if event != "open" or not str(args[0]).endswith((".rtdc", ".tdms")) or args[0] in seen:
        return
    seen.append(args[0])
    if str(args[0]).endswith("hungry.rtdc"):
        for _ in range(80):
            eaten.append(b"x" * (50 << 20))
            time.sleep(0.05)
    if str(args[0]).endswith("deadly.rtdc"):
        os.system("scancel --signal=KILL --full " + os.environ["SLURM_JOB_ID"])
        time.sleep(60)
    time.sleep(float(os.environ.get("SLOWED_BY", "0")))

if "batch" in sys.orig_argv:
    seen, eaten = [], []
    sys.addaudithook(on_open)
"""


@dataclass
class Cluster:
    """A running Slurm."""

    folder: Path

    def lab(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the lab."""
        environment = os.environ | {"SLURM_LAB_DIR": str(self.folder)}
        command = ["bash", str(LAB), *arguments]
        # A pipe would stay open as long as the daemons live.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(command, env=environment, stdout=output, stderr=output, timeout=300)
            output.seek(0)
            return subprocess.CompletedProcess(command, done.returncode, output.read())

    def jobs(self, *states: str) -> list[str]:
        """Return the ids of the jobs in some states, of all where none is given."""
        command = ["squeue", "--noheader", "--format=%i", f"--states={','.join(states) or 'all'}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    def submissions(self) -> int:
        """Return how many jobs were ever submitted."""
        log = (self.folder / "log" / "slurmctld.log").read_text()
        return len(re.findall(r"_slurm_rpc_submit_batch_job: JobId=", log))

    def await_end(self, seconds: float = 60) -> None:
        """Wait until no job is left."""
        end = time.monotonic() + seconds
        while self.jobs("PENDING", "RUNNING", "COMPLETING"):
            assert time.monotonic() < end, "jobs do not end"
            time.sleep(0.2)


class SlurmRun(Run):
    """A run whose jobs go to Slurm."""

    def command(self, cores: int = 2, *options: str) -> list[str]:
        """Return the command line that a user types; states are asked for more often than that."""
        command = super().command(cores, "--workflow-profile", str(PROFILE), *options)
        place = command.index("--cores")
        del command[place : place + 2]
        return [*command, "--slurm-init-seconds-before-status-checks", "6"]


@pytest.fixture(scope="module")
def started() -> Iterator[Cluster | str]:
    """Start Slurm; give the reason where that cannot be done here."""
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        yield "snakemake-executor-plugin-slurm is not installed"
        return
    if os.geteuid() != 0:
        yield "needs root, to start Slurm"
        return
    if shutil.which("apt-get") is None and not all(map(shutil.which, PROGRAMS)):
        yield "needs Slurm and munge, or Debian to install them"
        return
    # Short, since it holds a socket; of nobody else.
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as folder:
        cluster = Cluster(Path(folder))
        try:
            reason = ""
            for step in (["install"], ["up", CPUS]):
                done = cluster.lab(*step)
                if done.returncode:
                    reason = f"slurm-lab {step[0]}: {done.stdout}"
                    break
            yield reason or cluster
        finally:
            cluster.lab("down")


@pytest.fixture
def cluster(started: Cluster | str, missing: Callable[[str], NoReturn]) -> Cluster:
    """Give the running Slurm, with an empty queue."""
    if isinstance(started, str):
        missing(started)
    started.await_end()
    return started


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Give the demo tree as prepared without a cluster."""
    folder = tmp_path_factory.mktemp("demo")
    write_tree(folder / "source", scale=0.1)
    run = Run(folder / "local", aged(folder / "source"), **{"datasets.namespace": "slurm"})
    run.good()
    return run


@pytest.fixture
def workers(tmp_path: Path) -> dict[str, str]:
    """Give an environment in which workers can be made slow or hungry, and that holds a token."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITECUSTOMIZE)
    return {"PYTHONPATH": str(tmp_path / "site"), "DCOR_API_TOKEN": TOKEN}


def on_slurm(folder: Path, like: Run, **changes: Any) -> SlurmRun:
    """Return a run of the same source and settings for Slurm."""
    run = SlurmRun(folder, like.source)
    run.config = json.loads(json.dumps(like.config))
    run.configure(changes)
    return run


def results(run: Run) -> dict[str, str]:
    """Return SHA256 of prepared files and summary, and the tasks, which hold the path of the results."""
    summary = {"summary.tsv": sha256(run.results / "summary.tsv")}
    tasks = {k: json.dumps(t).replace(str(run.work), "") for k, t in run.tasks().items()}
    return contents(run.measurements()) | summary | tasks


def holders(secret: str, *folders: Path) -> list[Path]:
    """Return all files that hold a secret."""
    found = []
    for folder in folders:
        for path in folder.rglob("*"):
            try:
                if path.is_file() and secret.encode() in path.read_bytes():
                    found.append(path)
            except FileNotFoundError:
                pass
    return found


def stages(result: Result) -> list[list[str]]:
    """Return the stages in each submission, as the folder of its log names them."""
    found = re.findall(r"has been submitted with SLURM jobid \d+ \(log: .*/(\w+)/\d+\.log\)", result.text)
    return [re.findall("compress|check|merge_metadata|discover|task", name) for name in found]


def test_same_results_as_without_a_cluster(
    cluster: Cluster, demo: Run, workers: dict[str, str], tmp_path: Path
) -> None:
    run = on_slurm(tmp_path / "work", demo, **{"batches.files": 4})
    before = cluster.submissions()
    result = run.good(environment=workers)
    assert results(run) == results(demo)
    assert leftovers(run.work) == []
    # One submission per batch, for all its stages; what is light runs beside the head.
    batches = sorted(path.stem for path in (run.state / "batches").iterdir())
    assert len(batches) > 1
    assert cluster.submissions() - before == len(batches)
    assert stages(result) == [["check", "compress", "merge_metadata"]] * len(batches)
    assert any(job.startswith("task/") for job in result.jobs)
    assert holders(TOKEN, run.work, cluster.folder) == []
    # Nothing to do, nothing submitted.
    assert not run.good(environment=workers).jobs & {f"compress/{b}" for b in batches}
    assert cluster.submissions() - before == len(batches)


def test_second_head_and_killed_head(
    cluster: Cluster, demo: Run, workers: dict[str, str], tmp_path: Path
) -> None:
    run = on_slurm(tmp_path / "work", demo)
    attempts = run.state / "attempts"
    slowed = workers | {"SLOWED_BY": "0.7"}
    head = run.start(environment=slowed)
    try:
        assert wait_for(lambda: list(attempts.glob("*")), head), head.communicate()
        assert cluster.jobs("RUNNING")
        assert holders(TOKEN, run.work, cluster.folder) == []
        beside = run.run(environment=workers)
        assert beside.code != 0
        assert f"another run is at work in {run.work}" in beside.text
        assert cluster.jobs("RUNNING"), "nothing was going on beside the second head"
    finally:
        os.kill(head.pid, signal.SIGKILL)
        head.communicate()
    assert cluster.jobs("RUNNING"), "no job outlived its head"
    run.good(environment=workers)
    assert results(run) == results(demo)
    cluster.await_end()
    assert results(run) == results(demo)
    assert leftovers(run.work) == []


def test_a_measurement_that_needs_more_memory_than_the_job_has(
    cluster: Cluster, workers: dict[str, str], tmp_path: Path
) -> None:
    for name in ("first", "hungry", "last"):
        small_measurement(tmp_path / "source" / "lab" / f"{name}.rtdc", seed=len(name))
    run = SlurmRun(tmp_path / "work", aged(tmp_path / "source"))
    before = cluster.submissions()
    result = run.run(environment=workers)
    statuses = {Path(source).stem: status for source, status in run.statuses().items()}
    assert statuses == {"first": "ready", "hungry": "failed", "last": "ready"}
    assert "memory" in run.row("hungry.rtdc")["reason"]
    [log] = (run.work / "logs" / "compress").glob("*.log")
    assert re.search(r"lab/hungry\.rtdc: the process ended \(it needed \d+ MB of memory", log.read_text())
    assert result.code == 0, result.text
    assert cluster.submissions() - before == 1


def test_a_measurement_at_which_slurm_ends_every_job(
    cluster: Cluster, workers: dict[str, str], tmp_path: Path
) -> None:
    """As Slurm does where memory grows faster than anybody can look: the job is gone, nobody knows why."""
    for name in ("first", "deadly", "last"):
        small_measurement(tmp_path / "source" / "lab" / f"{name}.rtdc", seed=len(name))
    run = SlurmRun(tmp_path / "work", aged(tmp_path / "source"))
    before = cluster.submissions()
    result = run.run(environment=workers)
    statuses = {Path(source).stem: status for source, status in run.statuses().items()}
    assert statuses == {"first": "ready", "deadly": "failed", "last": "ready"}
    assert "the scheduler ended 3 jobs that worked on it" in run.row("deadly.rtdc")["reason"]
    assert result.code == 1, result.text
    assert cluster.submissions() - before == 4
    assert leftovers(run.work) == []
