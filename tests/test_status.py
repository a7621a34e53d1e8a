"""Progress during a run and `dcorflow status`: the same numbers, by looking only."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from demo_data import set_times, write_measurement
from runs import Run, snapshot, wait_for

from dcorflow.head import Head, note_end, note_start, read_head
from dcorflow.progress import JobProgress
from dcorflow.status import Status
from dcorflow.ticker import Ticker, progress_lines
from dcorflow.watch import Progress, Stage, Watch
from dcorflow.wording import duration, number, size_text
from dcorflow.workdir import Workdir

TODO = {"total": 4, "bytes": 400, "prepare": 3, "prepare_bytes": 300, "edit": 0, "edit_bytes": 0, "failed": 0}


def store(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")


@pytest.fixture
def planned(tmp_path: Path) -> Workdir:
    """Give a work directory where discover found two batches, one of them done before."""
    work = Workdir(tmp_path)
    done = TODO | {"prepare": 0, "prepare_bytes": 0, "failed": 1}
    todo = {
        "found": "8 measurements known",
        "problems": 2,
        "batches": {"b1": TODO, "b2": done},
        "groups": {"g1": 2},
    }
    store(work.todo, todo)
    store(work.state / "plan.json", {"batches": ["b1", "b2"], "groups": {"g1": ["b1", "b2"]}, "warnings": []})
    return work


def stage(work: Workdir, name: str) -> Stage:
    [found] = [s for s in Watch(work).look().stages if s.name == name]
    return found


class TestCounts:
    def test_what_was_done_before_counts(self, planned: Workdir) -> None:
        found = stage(planned, "compress")
        assert (found.done, found.total, found.bytes_done, found.bytes_total) == (5, 8, 500, 800)
        assert found.rate == 0
        assert found.seconds_left is None
        assert Watch(planned).look().failed_before == 3

    def test_a_job_counts_what_it_works_on_and_not_what_it_skips(self, planned: Workdir) -> None:
        with pytest.raises(KeyError), JobProgress(planned, "compress", "b1", 4, 400) as job:
            job.end("old", 100, worked=False)
            assert not stage(planned, "compress").spans or stage(planned, "compress").done >= 5
            job.begin("new")
            job.end("new", 100, failure="truncated")
            raise KeyError
        found = stage(planned, "compress")
        assert (found.done, found.bytes_done, found.moved, found.failed) == (6, 600, 100, 1)
        assert Watch(planned).look().failures == [("compress", "new", "truncated")]

    def test_a_killed_job_is_continued(self, planned: Workdir) -> None:
        with pytest.raises(KeyError), JobProgress(planned, "compress", "b1", 4, 400) as job:
            job.end("a", 100)
            job.end("b", 100, failure="bad")
            raise KeyError
        with JobProgress(planned, "compress", "b1", 4, 400) as job:
            for name in "ab":
                job.end(name, 100, worked=False)
            job.end("c", 100)
            job._write()
            found = stage(planned, "compress")
            assert (found.done, found.failed) == (8, 1)

    def test_numbers_of_an_earlier_pass_are_void(self, planned: Workdir) -> None:
        with JobProgress(planned, "compress", "b1", 4, 400) as job:
            job.end("a", 100)
        assert stage(planned, "compress").done == 8
        os.utime(planned.todo, ns=(1, 1))
        assert stage(planned, "compress").done == 5

    def test_nothing_is_told_before_discover_is_done(self, planned: Workdir) -> None:
        before = planned.todo.stat().st_mtime_ns
        assert Watch(planned).look(before) == Progress()
        assert "looking for" in progress_lines(Progress())[0]

    def test_uploads_have_a_stage_where_there_are_any(self, planned: Workdir) -> None:
        assert [s.name for s in Watch(planned).look().stages] == [
            "compress",
            "check",
            "merge_metadata",
            "task",
        ]
        with JobProgress(planned, "upload", "g1", 2) as job:
            job.expect(1000)
            job.move(400)
            job.move(-100)
            job.end("alpha", 0)
        found = stage(planned, "upload")
        assert (found.done, found.total, found.bytes_done, found.bytes_total, found.unit) == (
            1,
            2,
            300,
            1000,
            "dataset",
        )

    def test_rate_is_that_of_the_time_at_work(self) -> None:
        found = Stage(
            "check", bytes_done=300, bytes_total=500, moved=300, spans=[(0, 10), (5, 15), (100, 115)]
        )
        assert found.rate == 10
        assert found.seconds_left == 20

    def test_damaged_files_are_ignored(self, planned: Workdir) -> None:
        for name, text in (
            ("b1.compress.json", "{"),
            ("b1.check.json", "[]"),
            ("x", ""),
            ("b9.check.json", "{}"),
        ):
            store(planned.progress("", "").parent / name, {})
            (planned.progress("", "").parent / name).write_text(text)
        assert stage(planned, "check").done == 5

    def test_a_job_does_its_work_where_nothing_can_be_noted(self, planned: Workdir) -> None:
        folder = planned.progress("", "").parent
        folder.write_text("a file where the folder should be")
        with JobProgress(planned, "compress", "b1", 4, 400) as job:
            job.end("a", 100)
        assert folder.is_file()


class TestHead:
    def test_this_process(self, tmp_path: Path) -> None:
        work = Workdir(tmp_path)
        note_start(work)
        head = read_head(work)
        assert head is not None
        assert head.is_running
        note_end(work, 1)
        head = read_head(work)
        assert head is not None
        assert not head.is_running
        assert "exit code 1" in head.words()

    def test_another_process_of_that_number(self) -> None:
        import socket

        assert not Head(os.getpid(), 12345, socket.gethostname(), 0).is_running
        assert not Head(2**22 + 1, 1, socket.gethostname(), 0).is_running

    def test_another_machine(self) -> None:
        import time

        assert Head(1, 1, "elsewhere", 0, sign=time.time()).is_running
        assert not Head(1, 1, "elsewhere", 0, sign=time.time() - 3600).is_running


class TestShown:
    FULL = Progress(
        "8 measurements known",
        [
            Stage("compress", "measurement", 5, 8, 500_000_000, 800_000_000, 1, 100_000_000, [(0, 10)]),
            Stage("task", "dataset", 1, 2),
        ],
        [("compress", "a/\x1b[31mred.rtdc"), ("compress", "b.rtdc")],
    )

    def test_a_line_per_stage(self) -> None:
        lines = progress_lines(self.FULL)
        assert len(lines) == 4
        for words in ("5 of 8", "500 MB of 800 MB", "10 MB/s", "30 s left", "1 failed", "#"):
            assert words in lines[1]
        assert "1 of 2 datasets" in lines[2]
        assert "and 1 other" in lines[3]
        assert not any("\x1b" in line for line in lines), "names cannot steer the terminal"

    def test_stages_without_work_and_single_datasets(self) -> None:
        lines = progress_lines(
            Progress("3 measurements known", [Stage("check"), Stage("task", "dataset", 0, 1)])
        )
        assert lines[1].split(None, 1) == ["check", "nothing to do"]
        assert lines[2].endswith("0 of 1 dataset")

    def test_no_line_is_wider_than_the_terminal(self) -> None:
        assert max(map(len, progress_lines(self.FULL, 50))) < 50

    def test_a_log_gets_a_line_now_and_then(self, planned: Workdir, monkeypatch: pytest.MonkeyPatch) -> None:
        with JobProgress(planned, "compress", "b1", 4, 400) as job:
            job.end("a", 100)
        stream = io.StringIO()
        ticker = Ticker(planned, 0, stream, {})
        ticker._show(ticker.watch.look())
        assert stream.getvalue() == "", "not at once"
        ticker._next_line = 0
        for _ in range(3):
            ticker._show(ticker.watch.look())
        [line] = stream.getvalue().splitlines()
        assert re.match(r"\d\d:\d\d  compress 8 of 8", line)

    def test_quiet_in_ci_and_in_place_on_a_terminal(self, planned: Workdir) -> None:
        assert Ticker(planned, 0, io.StringIO(), {"CI": "true"}).silent
        assert not Ticker(planned, 0, io.StringIO(), {}).silent
        terminal = io.StringIO()
        terminal.isatty = lambda: True  # type: ignore[method-assign]
        ticker = Ticker(planned, 0, terminal, {"CI": "true", "TERM": "xterm"})
        assert ticker.in_place
        assert not ticker.silent
        assert not Ticker(planned, 0, terminal, {"TERM": "dumb"}).in_place

    def test_words(self) -> None:
        assert [number(1, "file"), number(2000, "file"), number(2, "entry", "entries")] == [
            "1 file", "2,000 files", "2 entries",
        ]  # fmt: skip
        assert [size_text(0), size_text(999), size_text(999_600), size_text(2.5e12)] == [
            "0 B",
            "999 B",
            "1 MB",
            "2.5 TB",
        ]
        assert [duration(59), duration(60), duration(7260)] == ["59 s", "1 min", "2 h 1 min"]


class Screen:
    """What a terminal shows of what a process writes to it, as far as the ticker uses it."""

    def __init__(self, process_end: int) -> None:
        self.raw = b""
        self._thread = threading.Thread(target=self._read, args=(process_end,))
        self._thread.start()

    def _read(self, end: int) -> None:
        with contextlib.suppress(OSError):  # EIO: nobody writes any more
            while data := os.read(end, 4096):
                self.raw += data

    def lines(self) -> list[str]:
        self._thread.join(timeout=60)
        shown = [""]
        for part in re.split(r"(\x1b\[\d+F\x1b\[J|\r\n)", self.raw.decode()):
            if part == "\r\n":
                shown.append("")
            elif part.startswith("\x1b") and part.endswith("\x1b[J"):
                up = int(part[2 : part.index("F")])
                assert shown[-1] == "" and up < len(shown), "the lines collided with other text"
                del shown[-up - 1 :]
                shown.append("")
            else:
                shown[-1] += re.sub(r"\x1b\[\d*m", "", part)
        return shown


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write twelve measurements of 3 MB in two folders, and two files that are none."""
    source = tmp_path_factory.mktemp("tree") / "source"
    for i in range(12):
        write_measurement(source / f"folder {i % 2}" / f"cells {i:02}.rtdc", events=70, seed=i)
    (source / "folder 0" / "no.rtdc").write_bytes(b"text")
    set_times(source)
    return source


@contextlib.contextmanager
def on_terminal(run: Run) -> Iterator[tuple[subprocess.Popen[str], Screen]]:
    """Start a run whose messages go to a terminal."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(
        run.command(), cwd=run.work.parent, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=theirs, text=True, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    screen = Screen(ours)
    try:
        yield process, screen
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        screen.lines()
        os.close(ours)


def test_while_a_run_goes_on_after_it_was_killed_and_at_its_end(tree: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "work", tree, **{"batches.files": 4, "datasets.namespace": "x"})
    work = Workdir(run.work)
    assert run.dcorflow("status").code == 64
    with on_terminal(run) as (process, _):
        assert wait_for(lambda: len(list(work.records.glob("*.json"))) >= 3, process)
        seen = [Status(work).as_json()]
        # What a job says of itself is written every half second: records may be there before it is.
        assert wait_for(lambda: Status(work).progress.stages[0].done > 0, process)
        seen.append(Status(work).as_json())
        during = run.dcorflow("status")
        assert during.code == 0
        os.killpg(process.pid, signal.SIGKILL)
    for told in seen:
        assert told["running"]
        assert told["stages"][0]["total"] == 12
        assert told["measurements"]["failed"] == 1, "what cannot be read is known at once"
    assert 0 < seen[1]["stages"][0]["done"] <= 12
    assert seen[0]["stages"][0]["done"] <= seen[1]["stages"][0]["done"]
    assert "a run is going on since" in during.text
    assert "run again later" not in during.text
    assert re.search(r"compress +\[[#-]+\] +\d+ of 12", during.text)

    before = snapshot(run.work)
    told = json.loads(run.dcorflow("status", "--json").stdout)
    words = run.dcorflow("status").text
    assert snapshot(run.work) == before, "status writes nothing"
    assert not told["running"]
    assert "was ended before it was finished; run again" in words
    assert told["stages"][0]["done"] >= seen[1]["stages"][0]["done"]

    with on_terminal(run) as (process, screen):
        assert process.wait(timeout=300) == 0
        lines = screen.lines()
    for name in ("discover", "compress", "check", "merge_metadata", "task"):
        [line] = [line for line in lines if line.startswith(name)]
        assert name == "discover" or re.search(r"\[#{20}\]", line), line
    assert not [line for line in lines if "b000001" in line], "no chatter of jobs"
    told = json.loads(run.dcorflow("status", "--json").stdout)
    assert [(s["done"], s["total"]) for s in told["stages"]] == [(12, 12)] * 3 + [(2, 2)]
    assert told["measurements"] == {"ready": 12, "failed": 1}
    assert told["run"]["code"] == 0
    assert "2 incomplete" in run.dcorflow("status").text or told["datasets"] == {"ready": 1, "incomplete": 1}
