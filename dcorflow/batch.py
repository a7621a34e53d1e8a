"""Work through a batch: one measurement after the other, whatever one of them does to the process.

A supervisor starts workers and stays small. A worker marks the measurement it works on; where it
dies, the marker tells which one killed it. After two deaths the measurement is `failed` and the
others go on.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any, Literal, NamedTuple

import xxhash

from dcorflow import recipes
from dcorflow.deleted import away, load_deleted
from dcorflow.errors import FailureClass, UsageError, is_interrupt
from dcorflow.files import read_json, to_json, write_text
from dcorflow.memory import LIMITED, MemoryGuard
from dcorflow.processes import TERMINATED, child_environment, die_with_parent, end_cleanly, exit_words, python
from dcorflow.progress import JobProgress
from dcorflow.records import Failure, Record, save_record
from dcorflow.workdir import Workdir

Stage = Literal["compress", "check", "merge_metadata"]
#: Deaths that a supervisor saw, and those that took the supervisor along (a killed job, power
#: loss: mostly innocent), after which a measurement is not tried again in this state.
_SEEN_DEATHS, _UNSEEN_DEATHS = 2, 6
_DEADLY = (
    "preparing it ended the process again and again: the file is damaged in a way that HDF5 cannot "
    "handle, or the job has too little memory; copy it again, or give jobs more memory"
)
#: A worker is started for this many measurements; its start takes as long as a few of them.
_FILES_PER_WORKER = 8
#: What a worker says when it has started well.
_READY = "ready"


def read_batch(work: Workdir, batch: str) -> dict[str, Any]:
    """Return a batch plan together with its edits; raise `UsageError` where it is not there."""
    try:
        plan: dict[str, Any] = read_json(work.batch(batch))
        plan["edits"] = read_json(work.edits(batch))["edits"]
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"no plan for batch {batch} in {work.state} ({error}); run 'snakemake' first"
        ) from error
    return plan


def write_stamp(work: Workdir, stage: str, name: str, measurements: list[str]) -> None:
    """Write the declared output of a job, last of all.

    It stands for the records of the batch: Snakemake compares contents, so what depends on the
    stage runs again exactly if one of the records changed.
    """
    digest = xxhash.xxh3_128()
    for measurement in measurements:
        with contextlib.suppress(OSError):
            digest.update(work.record(measurement).read_bytes())
        digest.update(measurement.encode())
    write_text(work.stamp(stage, name), digest.hexdigest() + "\n")


class Counts(NamedTuple):
    """How many measurements a batch has, how many of them failed, and how many there was work for."""

    measurements: int
    failed: int
    worked: int


class Attempts:
    """Markers of measurements that are being worked on; they survive the process, not a power loss."""

    def __init__(self, work: Workdir, stage: Stage) -> None:
        self.work, self.stage = work, stage

    def begin(self, measurement: str) -> bool:
        """Mark a measurement; return False where it has killed its process too often."""
        state = self._read(measurement)
        if state["seen"] >= _SEEN_DEATHS or state["unseen"] >= _UNSEEN_DEATHS:
            return False
        self._write(measurement, state | {"unseen": state["unseen"] + 1})
        return True

    def end(self, measurement: str) -> None:
        """Take the mark off."""
        self.work.attempt(measurement).unlink(missing_ok=True)

    def died(self, measurement: str) -> None:
        """Count a death that the supervisor saw."""
        state = self._read(measurement)
        state |= {"seen": state["seen"] + 1, "unseen": max(0, state["unseen"] - 1)}
        self._write(measurement, state)

    def _read(self, measurement: str) -> dict[str, Any]:
        try:
            state = read_json(self.work.attempt(measurement))
            if state["stage"] == self.stage:
                return {"stage": self.stage, "seen": int(state["seen"]), "unseen": int(state["unseen"])}
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return {"stage": self.stage, "seen": 0, "unseen": 0}

    def _write(self, measurement: str, state: dict[str, Any]) -> None:
        path = self.work.attempt(measurement)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_json(state))


def _handler(
    work: Workdir, stage: Stage, plan: dict[str, Any], threads: int
) -> Callable[[dict[str, Any]], Record | None]:
    """Return the function that does a stage for one entry of the plan."""
    from dcorflow.compress.prepare import Entry, prepare

    edits = plan["edits"]
    if stage == "compress":
        return lambda e: prepare(Entry.from_dict(e), plan["prepare"], edits[e["measurement"]], work, threads)
    from dcorflow.integrity import check, merge_metadata
    from dcorflow.privacy.settings import SHIPPED_ONLY

    scan, pictures = plan.get("scan", SHIPPED_ONLY), plan.get("pictures", False)
    if stage == "check":
        return lambda e: check(Entry.from_dict(e), work, threads, scan, pictures)
    return lambda e: merge_metadata(Entry.from_dict(e), edits[e["measurement"]], work, scan, pictures)


def work_on(work: Workdir, stage: Stage, batch: str, threads: int) -> None:
    """Be a worker: take numbers of entries from standard input, one per line, and answer each."""
    die_with_parent()
    end_cleanly()
    plan = read_batch(work, batch)
    do = _handler(work, stage, plan, threads)
    attempts = Attempts(work, stage)
    print(_READY, flush=True)
    for line in sys.stdin:
        entry = plan["entries"][int(line)]
        if not attempts.begin(entry["measurement"]):
            print(json.dumps({"given up": True}), flush=True)
            continue
        before = _state(work, entry)
        try:
            record = do(entry)
        except BaseException as error:  # one bad file never stops another
            if is_interrupt(error):
                raise
            traceback.print_exc()
            words = f"unexpected {type(error).__name__}: {error}; please report it with the log"
            record = _fail(work, stage, plan, entry, " ".join(words.split()), "environment")
        attempts.end(entry["measurement"])
        failure = record.failure if record else None
        answer: dict[str, Any] = {"worked": _state(work, entry) != before}
        print(json.dumps(answer | ({"failed": failure.reason} if failure else {})), flush=True)


def _state(work: Workdir, entry: dict[str, Any]) -> tuple[int, int] | None:
    """Return inode and time of a record: they tell whether it was written."""
    try:
        stat = work.record(entry["measurement"]).stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns


def _fail(
    work: Workdir,
    stage: Stage,
    plan: dict[str, Any],
    entry: dict[str, Any],
    reason: str,
    failure: FailureClass,
) -> Record:
    """Write the record of a measurement that cannot be handled at all."""
    from dcorflow.compress.prepare import Entry

    made = Entry.from_dict(entry)
    record = Record(
        made.measurement, made.dataset, made.root, made.kind, made.files,
        body_key=recipes.body_key(plan["prepare"]), failure=Failure(stage, reason, failure),
    )  # fmt: skip
    save_record(work, record)
    return record


class _Worker:
    """A worker process as its supervisor sees it."""

    def __init__(self, work: Workdir, stage: Stage, batch: str, threads: int) -> None:
        command = ["-m", "dcorflow", "-d", str(work.root), "work-on", stage, batch, str(threads)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            python(*command), stdin=pipe, stdout=pipe, text=True, env=child_environment()
        )
        if self.process.stdout is None or self.process.stdout.readline().strip() != _READY:
            raise SystemExit(self.stop() or 1)  # not the fault of a measurement: its log says why

    def do(self, number: int) -> dict[str, Any] | None:
        """Have one entry done; None where the process died."""
        if self.process.stdin is None or self.process.stdout is None:
            return None
        try:
            self.process.stdin.write(f"{number}\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            return None
        answer: dict[str, Any] | None = json.loads(line) if line else None
        return answer

    def stop(self) -> int:
        """Let the process end and return its exit code."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        return self.process.wait()


class _Supervisor:
    """Does one stage for one batch."""

    def __init__(self, work: Workdir, stage: Stage, batch: str, threads: int, memory: int) -> None:
        self.work, self.stage, self.batch = work, stage, batch
        self.plan = read_batch(work, batch)
        self.entries = self.plan["entries"]
        self.workers = max(1, min(threads, len(self.entries) // _FILES_PER_WORKER))
        self.threads = max(1, threads // self.workers)
        self.guard = MemoryGuard(memory) if memory and LIMITED in os.environ else None
        self.sizes = [sum(size for _, size, _ in entry["files"]) for entry in self.entries]
        self.progress = JobProgress(work, stage, batch, len(self.entries), sum(self.sizes))
        self.queue: SimpleQueue[int] = SimpleQueue()
        for number in self._suspects_last():
            self.queue.put(number)

    def run(self) -> Counts:
        """Do all entries."""
        if self.guard:
            self.guard.start()
        with self.progress, ThreadPoolExecutor(self.workers) as pool:
            shares = [f.result() for f in [pool.submit(self._share) for _ in range(self.workers)]]
        if self.guard:
            self.guard.stop()
        failed, worked = (sum(share[n] for share in shares) for n in (0, 1))
        return Counts(len(self.entries), failed, worked)

    def _suspects_last(self) -> list[int]:
        """Return the numbers of all entries to do; last those at which a job ended before."""
        suspects = [self.work.attempt(e["measurement"]).exists() for e in self.entries]
        for number, suspect in enumerate(suspects):
            if suspect:
                self._say(number, "a job before this one ended while it worked on it; tried again, last")
        left = away(self.work, self.entries, load_deleted(self.work))
        todo = [n for n, entry in enumerate(self.entries) if entry["measurement"] not in left]
        return sorted(todo, key=suspects.__getitem__)

    def _share(self) -> tuple[int, int]:
        failed = worked = 0
        worker = self._start()
        try:
            while True:
                number = self.queue.get_nowait()
                self.progress.begin(self._source(number))
                answer, worker = self._insist(worker, number)
                self._note(number, answer)
                worked += bool(answer.get("worked"))
                if "failed" in answer:
                    failed += 1
                    self._say(number, answer["failed"])
        except Empty:
            return failed, worked
        finally:
            worker.stop()
            self._forget(worker)

    def _insist(self, worker: _Worker, number: int) -> tuple[dict[str, Any], _Worker]:
        """Have an entry done, by another worker where one dies of it; give up in the end."""
        entry = self.entries[number]
        attempts = Attempts(self.work, self.stage)
        while True:
            answer = worker.do(number)
            if answer is None:
                code = worker.stop()
                self._forget(worker)
                if code == TERMINATED or -code == signal.SIGTERM:
                    raise SystemExit(TERMINATED)
                attempts.died(entry["measurement"])
                self._say(number, f"the process ended ({self._why(worker, code)})")
                worker = self._start()
                continue
            if "given up" in answer:
                _fail(self.work, self.stage, self.plan, entry, _DEADLY, "content")
                attempts.end(entry["measurement"])
                answer = {"given up": True, "failed": _DEADLY}
            return answer, worker

    def _start(self) -> _Worker:
        worker = _Worker(self.work, self.stage, self.batch, self.threads)
        if self.guard:
            self.guard.workers.add(worker.process.pid)
        return worker

    def _forget(self, worker: _Worker) -> None:
        """Stop watching a worker that has ended."""
        if self.guard:
            self.guard.workers.discard(worker.process.pid)

    def _why(self, worker: _Worker, code: int) -> str:
        """Describe how a worker ended."""
        if self.guard and worker.process.pid in self.guard.killed:
            needed = self.guard.killed[worker.process.pid]
            return f"it needed {needed} MB of memory, and the job has {self.guard.limit_mb} MB for it"
        return exit_words(code)

    def _note(self, number: int, answer: dict[str, Any]) -> None:
        """Tell how far the job is."""
        worked = bool(answer.get("worked")) or "given up" in answer
        self.progress.end(self._source(number), self.sizes[number], worked, answer.get("failed", ""))

    def _source(self, number: int) -> str:
        return str(self.entries[number]["files"][0][0])

    def _say(self, number: int, text: str) -> None:
        print(f"{self._source(number)}: {text}", file=sys.stderr, flush=True)


def run_batch(work: Workdir, stage: Stage, batch: str, threads: int, memory: int = 0) -> Counts:
    """Do one stage for a batch.

    A large measurement gets all threads; many small ones are shared out to as many workers. In a job
    of a scheduler these stay below its `memory` (MB).

    Raises
    ------
    UsageError
        Where there is no plan for the batch.
    SystemExit
        Where a worker was told to end.
    """
    supervisor = _Supervisor(work, stage, batch, threads, memory)
    counts = supervisor.run()
    write_stamp(work, stage, batch, [e["measurement"] for e in supervisor.entries])
    return counts
