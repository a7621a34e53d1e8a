"""Work through a batch: one measurement after the other, whatever one of them does to the process.

A supervisor loads what a stage needs, forks workers and touches no measurement itself. A worker marks
the measurement it works on; where it dies, the marker tells which one killed it. After two deaths the
measurement is `failed` and the others go on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import xxhash

from dcorflow import recipes
from dcorflow.deleted import away, load_deleted
from dcorflow.errors import FailureClass, UsageError, is_interrupt
from dcorflow.files import read_json, sync_folder, to_json, write_text
from dcorflow.memory import LIMITED, SECONDS_BETWEEN_LOOKS, MemoryGuard
from dcorflow.patience import patience
from dcorflow.processes import TERMINATED, exit_words
from dcorflow.progress import JobProgress
from dcorflow.records import Failure, Record, load_record, save_record
from dcorflow.workdir import Workdir
from dcorflow.workers import Answer, Worker, wait_for_answers

Stage = Literal["compress", "check", "merge_metadata"]
#: Deaths that a supervisor saw, and those that took the supervisor along (a killed job, power
#: loss: mostly innocent), after which a measurement is not tried again in this state.
_SEEN_DEATHS, _UNSEEN_DEATHS = 2, 6
#: Jobs of a scheduler that ended at a measurement before its batch goes on without it, until the next
#: run: fewer than profiles/slurm submits, so that the last submission finishes the batch.
_JOBS_ENDED = 3
#: Why a measurement is given up.
_DEADLY: dict[FailureClass, str] = {
    "content": "preparing it ended the process again and again: the file is damaged in a way that HDF5 "
    "cannot handle, or the job has too little memory; copy it again, or give jobs more memory",
    "environment": f"the scheduler ended {_JOBS_ENDED} jobs that worked on it, as a rule because it needs "
    "more memory or time than they had; give jobs more, or leave it out; the next run tries it again",
}
#: A worker is started for this many measurements; fewer get its threads.
_FILES_PER_WORKER = 4
#: Workers per thread that only write metadata: while one waits for the disk, another one computes.
_WRITERS_PER_THREAD = 2


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

    def too_many(self, measurement: str) -> FailureClass | None:
        """Return what it is where a measurement has killed its process too often; else None."""
        state = self._read(measurement)
        if state["seen"] >= _SEEN_DEATHS or state["unseen"] >= _UNSEEN_DEATHS:
            return "content"
        return "environment" if LIMITED in os.environ and state["unseen"] >= _JOBS_ENDED else None

    def begin(self, measurement: str) -> bool:
        """Mark a measurement; return False where it has killed its process too often."""
        if self.too_many(measurement):
            return False
        state = self._read(measurement)
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
    from dcorflow.compress.prepare import Entry, Replaced, prepare

    edits = plan["edits"]
    if stage == "compress":
        return lambda e: prepare(Entry.from_dict(e), plan["prepare"], edits[e["measurement"]], work, threads)
    from dcorflow.dclab_parts import load_dclab
    from dcorflow.integrity import check, merge_metadata
    from dcorflow.privacy.settings import SHIPPED_ONLY

    load_dclab()
    scan, pictures = plan.get("scan", SHIPPED_ONLY), plan.get("pictures", False)
    if stage == "check":
        if pictures:
            import dcorflow.portrait.make  # noqa: F401  (before workers are forked)
        return lambda e: check(Entry.from_dict(e), work, threads, scan, pictures)

    def merge(e: dict[str, Any]) -> Record | None:
        entry, wanted = Entry.from_dict(e), edits[e["measurement"]]
        try:
            return merge_metadata(entry, wanted, work, scan, pictures)
        except Replaced:  # made anew, as at the next run
            prepare(entry, plan["prepare"], wanted, work, threads)
            check(entry, work, threads, scan, pictures)
            return merge_metadata(entry, wanted, work, scan, pictures)

    return merge


def _answerer(work: Workdir, stage: Stage, plan: dict[str, Any], threads: int) -> Callable[[int], Answer]:
    """Return what a worker does with the number of an entry. All that it needs is imported now."""
    do = _handler(work, stage, plan, threads)
    attempts = Attempts(work, stage)

    def answer(number: int) -> Answer:
        entry = plan["entries"][number]
        if not attempts.begin(entry["measurement"]):
            return {"given up": True}
        before = _state(work, entry)
        try:
            with patience(sum(size for _, size, _ in entry["files"])):
                record = do(entry)
        except BaseException as error:  # one bad file never stops another
            if is_interrupt(error):
                raise
            traceback.print_exc()
            words = f"unexpected {type(error).__name__}: {error}; please report it with the log"
            record = _fail(work, stage, plan, entry, " ".join(words.split()), "environment")
        attempts.end(entry["measurement"])
        return _answer_of(record, _state(work, entry) != before)

    return answer


def _answer_of(record: Record | None, worked: bool) -> Answer:
    """Return what a worker says of an entry with this record."""
    failure = record.failure if record else None
    return {"worked": worked} | ({"failed": failure.reason} if failure else {})


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


class _Supervisor:
    """Does one stage for one batch."""

    def __init__(self, work: Workdir, stage: Stage, batch: str, threads: int, memory: int) -> None:
        self.work, self.stage = work, stage
        self.plan = read_batch(work, batch)
        self.entries = self.plan["entries"]
        self.guard = MemoryGuard(memory) if memory and LIMITED in os.environ else None
        self.sizes = [sum(size for _, size, _ in entry["files"]) for entry in self.entries]
        self.progress = JobProgress(work, stage, batch, len(self.entries), sum(self.sizes))
        self.busy: dict[Worker, int] = {}
        self.failed = self.worked = 0
        self.queue = deque(self._due(self._suspects_last()))
        most = threads * _WRITERS_PER_THREAD if stage == "merge_metadata" else threads
        self.count = max(1, min(most, len(self.queue) // _FILES_PER_WORKER))
        self.threads = max(1, threads // self.count)

    def run(self) -> Counts:
        """Do all entries."""
        if self.queue:
            self.answer = _answerer(self.work, self.stage, self.plan, self.threads)
        try:
            for _ in range(min(self.count, len(self.queue))):
                self._ask(self._start(), self.queue.popleft())
            with self.progress:  # a thread: after the forks
                self._listen()
        finally:
            for worker in self.busy:
                worker.stop()
        return Counts(len(self.entries), self.failed, self.worked)

    def _listen(self) -> None:
        """Take answers and ask for more until all is done."""
        while self.busy:
            for worker in wait_for_answers(self.busy, SECONDS_BETWEEN_LOOKS if self.guard else None):
                self._take(worker, self.busy[worker])
            if self.guard:
                self.guard.look([worker.pid for worker in self.busy])

    def _suspects_last(self) -> list[int]:
        """Return the numbers of all entries to do; last those at which a job ended before."""
        suspects = [self.work.attempt(e["measurement"]).exists() for e in self.entries]
        for number, suspect in enumerate(suspects):
            if suspect:
                self._say(number, "a job before this one ended while it worked on it; tried again, last")
        left = away(self.work, self.entries, load_deleted(self.work))
        todo = [n for n, entry in enumerate(self.entries) if entry["measurement"] not in left]
        return sorted(todo, key=suspects.__getitem__)

    def _due(self, numbers: list[int]) -> list[int]:
        """Return the entries that need a worker; no library is loaded where all records say it is done."""
        if self.stage != "merge_metadata":
            return numbers
        due = []
        for number in numbers:
            name = self.entries[number]["measurement"]
            record = load_record(self.work, name)
            if record is None or record.failure or recipes.is_merged(record, self.plan["edits"][name]):
                self._note(number, _answer_of(record, worked=False))
                Attempts(self.work, self.stage).end(name)  # of a job that ended right after the record
            else:
                due.append(number)
        return due

    def _start(self) -> Worker:
        return Worker(self.answer, self.busy)

    def _ask(self, worker: Worker, number: int) -> None:
        self.busy[worker] = number
        self.progress.begin(self._source(number))
        worker.ask(number)

    def _take(self, worker: Worker, number: int) -> None:
        """Take the answer of a worker and ask it for the next entry; replace it where it died."""
        answer = worker.read()
        if answer is None:
            del self.busy[worker]
            self._bury(worker, number)
            successor = self._start()
            self.busy[successor] = number
            successor.ask(number)
            return
        self._note(number, answer)
        if self.queue:
            self._ask(worker, self.queue.popleft())
        else:
            del self.busy[worker]
            worker.stop()

    def _bury(self, worker: Worker, number: int) -> None:
        """Note that an entry ended its process, unless somebody else did."""
        code = worker.stop()
        if code == TERMINATED or -code == signal.SIGTERM:
            raise SystemExit(TERMINATED)
        Attempts(self.work, self.stage).died(self.entries[number]["measurement"])
        self._say(number, f"the process ended ({self._why(worker, code)})")

    def _note(self, number: int, answer: Answer) -> None:
        """Count what became of an entry."""
        entry = self.entries[number]
        if "given up" in answer:
            attempts = Attempts(self.work, self.stage)
            failure = attempts.too_many(entry["measurement"]) or "content"
            _fail(self.work, self.stage, self.plan, entry, _DEADLY[failure], failure)
            attempts.end(entry["measurement"])
            answer = {"given up": True, "failed": _DEADLY[failure]}
        worked = bool(answer.get("worked"))
        self.worked += worked
        told = worked or "given up" in answer
        self.progress.end(self._source(number), self.sizes[number], told, answer.get("failed", ""))
        if "failed" in answer:
            self.failed += 1
            self._say(number, answer["failed"])

    def _why(self, worker: Worker, code: int) -> str:
        """Describe how a worker ended."""
        if self.guard and worker.pid in self.guard.killed:
            needed = self.guard.killed[worker.pid]
            return f"it needed {needed} MB of memory, and the job has {self.guard.limit_mb} MB for it"
        return exit_words(code)

    def _source(self, number: int) -> str:
        return str(self.entries[number]["files"][0][0])

    def _say(self, number: int, text: str) -> None:
        print(f"{self._source(number)}: {text}", file=sys.stderr, flush=True)


def _sync_folders(work: Workdir, entries: list[dict[str, Any]]) -> None:
    """Make the new names of a batch survive a power loss: once, where it would take long file by file."""
    for folder in sorted({work.records, *(work.datasets / entry["dataset"] for entry in entries)}):
        with contextlib.suppress(FileNotFoundError):  # nothing of that dataset was usable
            sync_folder(folder)


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
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its threads would be of no use, and be forked
    supervisor = _Supervisor(work, stage, batch, threads, memory)
    counts = supervisor.run()
    if stage == "merge_metadata":
        _sync_folders(work, supervisor.entries)
    write_stamp(work, stage, batch, [e["measurement"] for e in supervisor.entries])
    return counts
