"""Runs that are killed: what is run, how it is killed, and what must be so afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import crash_compare as compare
import yaml
from crash_disk import Disk
from crash_server import CIRCLE, Server
from crash_watch import Moment, Operation, Watch

from dcorflow.discover.run import discover
from dcorflow.files import read_json
from dcorflow.workdir import Workdir

ROOT = Path(__file__).resolve().parent.parent
#: Whom a kill hits.
KINDS = ("head", "job", "worker", "group", "SIGTERM", "Ctrl-C", "power")
_PATIENCE = 300
FIELDS = {"authors": ["A. Name"], "license_id": "CC0-1.0", "owner_org": CIRCLE}


@dataclass
class Scenario:
    """A state of a work directory and settings that give a run something to do.

    Parameters
    ----------
    name
        Its name.
    base
        Copy of the work directory before the run; None where it is empty.
    changes
        Settings beside those of all scenarios.
    stages
        The stages that have work then.
    upload
        Whether the target is `upload`.
    """

    name: str
    base: Path | None
    changes: dict[str, Any]
    stages: tuple[str, ...]
    upload: bool = False
    counts: Mapping[str, int] = field(default_factory=dict)
    expected: Path = Path()
    names: set[str] = field(default_factory=set)
    records: dict[str, Any] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)

    def moment(self, stage: str, chance: random.Random) -> Moment:
        """Return a random moment of a stage; half of them right at an operation, half after it."""
        kinds = sorted(kind for kind in self.counts if kind.split()[0] == stage)
        at = chance.randrange(sum(self.counts[kind] for kind in kinds))
        for kind in kinds:
            if at < self.counts[kind]:
                break
            at -= self.counts[kind]
        later = chance.uniform(0.001, 1.0 if stage == "upload" else 0.2)
        return Moment(kind, at + 1, chance.choice((0.0, later)))


@dataclass
class Trial:
    """One kill and what came of it."""

    scenario: str
    moment: Moment
    kill: str
    operation: Operation | None = None
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Bench:
    """The place of all trials: a folder with sources and a work directory; perhaps a disk, a server."""

    def __init__(self, folder: Path, roots: list[Path], disk: Disk | None, server: Server | None) -> None:
        self.folder, self.roots, self.disk, self.server = folder, roots, disk, server
        self.work = (disk.place if disk else folder) / "work"
        self.watch = Watch(folder / "watch", self.work)
        self.output = folder / "output.txt"

    def settings(self, scenario: Scenario) -> dict[str, Any]:
        """Return the configuration of a scenario."""
        return {
            "input": {"root": [str(root) for root in self.roots]},
            "datasets": {"defaults": FIELDS, "namespace": "crash", "companions": ["*.txt"]},
        } | scenario.changes

    def lay(self, scenario: Scenario) -> None:
        """Put the work directory into the state before the run."""
        shutil.rmtree(self.work, ignore_errors=True)
        if scenario.base:
            shutil.copytree(scenario.base, self.work, symlinks=True)
        self.work.mkdir(exist_ok=True)
        (self.work / "config").mkdir(exist_ok=True)
        text = yaml.safe_dump(self.settings(scenario), allow_unicode=True)
        (self.work / "config" / "config.yaml").write_text(text, encoding="utf-8")
        if self.disk:
            self.disk.sync()
        if self.server and scenario.upload:
            self.server.clear()

    def start(self, scenario: Scenario) -> subprocess.Popen[bytes]:
        """Start a run, with the plain command."""
        command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--cores", "2"]
        command += ["-d", str(self.work), *(["upload"] if scenario.upload else [])]
        token = {"DCOR_API_TOKEN": self.server.tokens["uploader"]} if self.server else {}
        with self.output.open("wb") as output:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=os.environ | self.watch.environment() | token,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def run(self, scenario: Scenario) -> tuple[int, str]:
        """Run to the end; return exit code and output."""
        process = self.start(scenario)
        code = process.wait(_PATIENCE)
        _await_end(process.pid)
        return code, self.output.read_text(encoding="utf-8", errors="replace")

    def reference(self, scenario: Scenario) -> None:
        """Run a scenario undisturbed, and note what it does and where it leads."""
        self.lay(scenario)
        self.watch.expect(None)
        code, text = self.run(scenario)
        if code or self._elsewhere(scenario):
            wrong = "\n".join([text, *self._elsewhere(scenario)])
            raise SystemExit(f"the undisturbed run '{scenario.name}' failed:\n{wrong}")
        scenario.counts = dict(self.watch.counts)
        scenario.expected = self.folder / "expected" / scenario.name
        shutil.copytree(self.work, scenario.expected, symlinks=True)
        scenario.names, scenario.records = compare.names(self.work), compare.records(self.work)
        for work in filter(None, (scenario.base, self.work)):
            scenario.whole |= {file.sha256 for file in compare.prepared(work).values()}

    def trial(self, scenario: Scenario, moment: Moment, kill: str, at_once: bool) -> Trial | None:
        """Kill a run at a moment, start it again, compare; None where nothing was going on."""
        trial = Trial(scenario.name, moment, kill)
        begun = time.monotonic()
        self.lay(scenario)
        self.watch.expect(moment)
        process = self.start(scenario)
        try:
            if not self._strike(process, trial, at_once):
                return None
            trial.problems += self._look(scenario)
            kept = compare.held(self.work, scenario.records)
            self.watch.expect(None)
            code, text = self.run(scenario)
            _await_end(process.pid)
        finally:
            self.watch.released.set()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        trial.problems += [f"exit code {code}: {text}"] if code else []
        after = compare.prepared(self.work)
        trial.problems += [f"{name} was made again" for name, seen in kept.items() if after.get(name) != seen]
        trial.problems += compare.differences(self.work, scenario.expected, scenario.names)
        trial.problems += self._still_to_do() + self._elsewhere(scenario)
        trial.seconds = time.monotonic() - begun
        return trial

    def _strike(self, process: subprocess.Popen[bytes], trial: Trial, at_once: bool) -> bool:
        """Wait for the moment and kill; return whether something was killed at work."""
        end = time.monotonic() + _PATIENCE
        while not self.watch.reached.wait(0.01):
            if process.poll() is not None or time.monotonic() > end:
                return False
        trial.operation = operation = self.watch.caught
        assert operation is not None
        time.sleep(trial.moment.delay)
        victim = _victim(trial, process.pid, operation.pid)
        if victim is None:
            return False
        victim()
        if trial.kill == "power" and self.disk:
            self.disk.cut()
            os.killpg(process.pid, signal.SIGKILL)
        self.watch.released.set()
        process.wait(_PATIENCE)
        if trial.kill != "head" or not at_once:
            _await_end(process.pid)
        if trial.kill == "power" and self.disk:
            self.disk.restore()
        return True

    def _look(self, scenario: Scenario) -> list[str]:
        """Return what must not be even between the kill and the next run."""
        problems = []
        for name, seen in compare.prepared(self.work).items():
            if seen.sha256 not in scenario.whole:
                problems.append(f"{name} is neither whole nor absent after the kill")
        try:
            compare.records(self.work)
        except ValueError as error:
            problems.append(f"a record is damaged after the kill: {error}")
        return problems

    def _elsewhere(self, scenario: Scenario) -> list[str]:
        """Return what is wrong on the server."""
        return self.server.problems(self.work) if self.server and scenario.upload else []

    def _still_to_do(self) -> list[str]:
        """Return what another run would do."""
        work = Workdir(self.work)
        pending = discover(read_json(work.config), work, dry=True).pending
        return [f"still to do: {pending}"] if pending.prepare or pending.edit or pending.tasks else []


def _victim(trial: Trial, head: int, caught: int) -> Callable[[], None] | None:
    """Return what kills; None where whom it should hit has ended already."""
    if not _lives(head) or not _lives(caught):
        return None
    kill = trial.kill
    if kill in ("head", "SIGTERM"):
        number = signal.SIGKILL if kill == "head" else signal.SIGTERM
        return lambda: os.kill(head, number)
    if kill in ("group", "Ctrl-C"):
        number = signal.SIGKILL if kill == "group" else signal.SIGINT
        return lambda: os.killpg(head, number)
    if kill == "power":
        return lambda: None
    pid = caught
    if kill == "job" and trial.moment.kind.endswith("worker"):
        pid = _parent(caught)
    return lambda: os.kill(pid, signal.SIGKILL)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _await_end(group: int) -> None:
    """Wait until all processes of a run are gone."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    raise TimeoutError(f"processes of the group {group} are still alive")


def as_json(trial: Trial) -> str:
    """Return a trial as one line of JSON."""
    moment, operation = trial.moment, trial.operation
    told = {
        "scenario": trial.scenario,
        "at": f"{moment.kind} operation {moment.number} + {moment.delay:.3f} s",
        "kill": trial.kill,
        "before": f"{operation.event} {operation.path}" if operation else "",
        "seconds": round(trial.seconds, 1),
        "problems": trial.problems,
    }
    return json.dumps(told, ensure_ascii=False)
