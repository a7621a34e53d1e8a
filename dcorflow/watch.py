"""How far a run is, from what discover found to do and what each job says; reads only."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from dcorflow.files import read_json
from dcorflow.progress import pass_of, read_progress
from dcorflow.report.summary import is_settled
from dcorflow.workdir import Workdir

#: The stages of a batch, and what of its plan each has to do.
STAGES = {"compress": ("prepare",), "check": ("prepare",), "merge_metadata": ("prepare", "edit")}
UPLOAD = "upload"
#: Seconds after which a rate means something.
_TOO_SHORT = 0.5


@dataclass
class Stage:
    """How far one stage is.

    Parameters
    ----------
    name, unit
        Stage, and what it counts: ``measurement`` or ``dataset``.
    done, total, bytes_done, bytes_total
        Of all that are known, those included that earlier runs did.
    failed
        Failures in this run.
    moved
        Bytes done by this run.
    spans
        When its jobs of this run were at work: from, until (seconds since the epoch).
    """

    name: str
    unit: str = "measurement"
    done: int = 0
    total: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    failed: int = 0
    moved: int = 0
    spans: list[tuple[float, float]] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Bytes left to do."""
        return max(0, self.bytes_total - self.bytes_done)

    @property
    def rate(self) -> float:
        """Bytes per second while any of its jobs was at work in this run; 0 where it cannot be told."""
        busy = latest = 0.0
        for start, end in sorted(self.spans):
            busy += max(0.0, end - max(start, latest))
            latest = max(latest, end)
        return self.moved / busy if self.moved and busy > _TOO_SHORT else 0.0

    @property
    def seconds_left(self) -> float | None:
        """How long the stage will take at that rate; None where it cannot be told or nothing is left."""
        return self.left / self.rate if self.rate and self.left else None


@dataclass
class Progress:
    """How far a run is.

    Parameters
    ----------
    found
        What discover found, in words; empty while it is still looking.
    stages
        In their order; uploads only where there were any.
    now
        What is worked on: (stage, source or dataset).
    failures
        Some failures of this run: (stage, source or dataset, reason).
    failed_before
        Measurements that failed in earlier runs or cannot be read, and are not tried again.
    """

    found: str = ""
    stages: list[Stage] = field(default_factory=list)
    now: list[tuple[str, str]] = field(default_factory=list)
    failures: list[tuple[str, str, str]] = field(default_factory=list)
    failed_before: int = 0

    @property
    def moved(self) -> bool:
        """Whether any job of this run has started."""
        return any(stage.spans for stage in self.stages)


class Watch:
    """Looks at a run again and again; what has ended is read once."""

    def __init__(self, work: Workdir) -> None:
        self.work = work
        self._pass = 0
        self._todo: dict[str, Any] = {}
        self._groups: dict[str, list[str]] = {}
        self._jobs: dict[tuple[str, str], dict[str, Any]] = {}
        self._settled: set[str] = set()

    def look(self, but: int = 0) -> Progress:
        """Return how far things are since the last pass of discover; nothing where that is the pass `but`."""
        number = pass_of(self.work)
        if number in (0, but):
            return Progress()
        if number != self._pass:
            try:
                plan = read_json(self.work.state / "plan.json")
                self._todo, self._groups = read_json(self.work.todo), plan["groups"]
            except (OSError, ValueError, KeyError):
                return Progress()
            self._pass, self._jobs, self._settled = number, {}, set()
        self._read_jobs()
        progress = Progress(self._todo["found"], failed_before=self._todo["problems"])
        progress.failed_before += sum(batch["failed"] for batch in self._todo["batches"].values())
        progress.stages = [self._stage(name) for name in STAGES]
        progress.stages.append(self._tasks())
        uploads = [job for (_, stage), job in self._jobs.items() if stage == UPLOAD]
        if uploads:
            progress.stages.append(self._uploads(uploads))
        for (_, name), job in self._jobs.items():
            progress.now += [(name, what) for what in job["now"]]
            progress.failures += [(name, what, why) for what, why in job["failures"]]
        return progress

    def _read_jobs(self) -> None:
        folder = self.work.progress("", "").parent
        try:
            with os.scandir(folder) as entries:
                names = [entry.name for entry in entries]
        except OSError:
            return
        for name in names:
            batch, stage, suffix = [*name.split("."), "", ""][:3]
            if suffix != "json" or self._jobs.get((batch, stage), {}).get("ended"):
                continue
            job = read_progress(self.work.progress(stage, batch))
            if job is not None and job["pass"] == self._pass:
                self._jobs[batch, stage] = job

    def _stage(self, name: str) -> Stage:
        stage = Stage(name)
        for batch, todo in self._todo["batches"].items():
            total, size = todo["total"], todo["bytes"]
            before = total - sum(todo[word] for word in STAGES[name])
            before_bytes = size - sum(todo[f"{word}_bytes"] for word in STAGES[name])
            done, done_bytes = before, before_bytes
            if job := self._jobs.get((batch, name)):
                done, done_bytes = _done(job, before, before_bytes)
                _add_job(stage, job)
            stage.total += total
            stage.bytes_total += size
            stage.done += min(done, total)
            stage.bytes_done += min(done_bytes, size)
            stage.moved += min(done_bytes, size) - before_bytes
        return stage

    def _tasks(self) -> Stage:
        """Count the datasets whose tasks are up to date; looks only at groups whose batches are done."""
        stage = Stage("task", "dataset")
        for group, count in self._todo["groups"].items():
            batches = self._groups.get(group, [])
            waiting = group not in self._settled and all(map(self._is_merged, batches))
            if waiting and is_settled(self.work, group, batches):
                self._settled.add(group)
            stage.total += count
            stage.done += count if group in self._settled else 0
        return stage

    def _is_merged(self, batch: str) -> bool:
        todo, job = self._todo["batches"].get(batch), self._jobs.get((batch, "merge_metadata"))
        return todo is None or not (todo["prepare"] or todo["edit"]) or bool(job and job["ended"])

    def _uploads(self, jobs: list[dict[str, Any]]) -> Stage:
        stage = Stage(UPLOAD, "dataset")
        for job in jobs:
            _add_job(stage, job)
            stage.total += job["total"]
            stage.done += job["processed"]
            stage.bytes_total += job["bytes"]
            stage.bytes_done += job["processed_bytes"]
            stage.moved += job["worked_bytes"]
        return stage


def _done(job: dict[str, Any], before: int, before_bytes: int) -> tuple[int, int]:
    """Return how many measurements and bytes of its batch a job has behind it.

    It passes quickly over what was done before, in any order, so both counts are lower bounds.
    """
    if job["ended"]:
        return job["total"], job["bytes"]
    return (
        max(before + job["worked"], job["processed"]),
        max(before_bytes + job["worked_bytes"], job["processed_bytes"]),
    )


def _add_job(stage: Stage, job: dict[str, Any]) -> None:
    stage.failed += job["failed"]
    stage.spans.append((job["started"], job["at"]))
