"""A run that is killed at any moment goes on at the next start, and ends as if nothing had been."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import demo_data
import pytest
from recipes import small_measurement
from runs import Run, Seen, aged, contents, leftovers, sha256, slow, wait_for

MEASUREMENTS = 8


def write_tree(source: Path) -> Path:
    """Write seven measurements of 3 MB in two folders, and one in the old format."""
    for number in range(MEASUREMENTS - 1):
        path = source / f"folder {number % 2}" / f"cells {number}.rtdc"
        demo_data.write_measurement(path, events=70, seed=number)
    (source / "old").mkdir()
    demo_data.write_tdms(source / "old", "M1_data", 40, 11)
    demo_data.set_times(source)
    return source


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("undisturbed")
    run = new_run(folder, write_tree(folder / "source"))
    run.good()
    assert len(run.measurements()) == MEASUREMENTS
    return run


def new_run(folder: Path, source: Path) -> Run:
    return Run(folder / "work", source, **{"batches.files": 5, "datasets.namespace": "x"})


def records(run: Run) -> list[Path]:
    return list((run.results / "records").glob("*.json"))


def finished(run: Run) -> dict[str, Seen]:
    """Return the prepared files whose records hold, by path."""
    seen = run.measurements()
    held = {}
    for path in records(run):
        record = json.loads(path.read_text("utf-8"))
        if record["prepared"]:
            name = f"{record['dataset']}/{record['prepared']['name']}"
            held[name] = seen[name]
    return held


def group_is_empty(group: int) -> bool:
    """Return whether all processes of a process group have ended."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def end(process: subprocess.Popen[str], kill: Callable[[int], None]) -> int:
    """End a run with a signal and wait until all its processes are gone; return its exit code."""
    kill(process.pid)
    process.communicate(timeout=60)
    limit = time.monotonic() + 30
    while not group_is_empty(process.pid) and time.monotonic() < limit:
        time.sleep(0.05)
    alive = not group_is_empty(process.pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    assert not alive, "processes of the run are still alive"
    return process.returncode


def kill_group(number: int) -> Callable[[int], None]:
    return lambda pid: os.killpg(pid, number)


def writing(run: Run, count: int) -> bool:
    """Return whether `count` records are there and another measurement is being written."""
    return len(records(run)) >= count and any((run.results / "datasets").glob("*/.dcorflow-*"))


def assert_same(run: Run, undisturbed: Run) -> None:
    assert contents(run.measurements()) == contents(undisturbed.measurements())
    assert run.rows() == undisturbed.rows()
    assert set(run.statuses().values()) == {"ready"}
    names = [[t["upload_job"]["resource_names"] for t in r.tasks().values()] for r in (run, undisturbed)]
    assert names[0] == names[1]


def go_on(run: Run, undisturbed: Run) -> None:
    """Start again; what was finished is not done again."""
    before = finished(run)
    run.good()
    after = run.measurements()
    assert {name: after[name] for name in before} == before
    assert_same(run, undisturbed)
    assert leftovers(run.work) == []


def test_killed_again_and_again(undisturbed: Run, tmp_path: Path) -> None:
    run = new_run(tmp_path, undisturbed.source)
    moments: list[Callable[[], bool]] = [
        lambda: (run.state / "config.json").exists(),
        lambda: run.state.joinpath("batches").is_dir(),
        lambda: writing(run, 0),
        lambda: writing(run, 3),
        lambda: len(list(run.state.glob("check/*.done"))) >= 1,
    ]
    kept: dict[str, Seen] = {}
    reached = 0
    for moment in moments:
        process = run.start()
        reached += wait_for(moment, process)
        end(process, kill_group(signal.SIGKILL))
        after = run.measurements() if run.results.is_dir() else {}
        assert {name: after.get(name) for name in kept} == kept, "finished before, done again"
        kept = finished(run) if run.results.is_dir() else {}
        for name, seen in kept.items():
            path = run.results / "datasets" / name
            assert seen.sha256 == sha256(path) == contents(undisturbed.measurements())[name]
    assert reached >= len(moments) - 1, "the moments came too late to interrupt anything"
    go_on(run, undisturbed)


@pytest.mark.parametrize(
    ("name", "kill"),
    [
        ("SIGTERM to Snakemake", lambda pid: os.kill(pid, signal.SIGTERM)),
        ("Ctrl-C", kill_group(signal.SIGINT)),
        ("SIGKILL to Snakemake only", lambda pid: os.kill(pid, signal.SIGKILL)),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_told_to_end(undisturbed: Run, tmp_path: Path, name: str, kill: Callable[[int], None]) -> None:
    run = new_run(tmp_path, undisturbed.source)
    process = run.start(environment=slow(tmp_path))
    assert wait_for(lambda: writing(run, 2), process)
    code = end(process, kill)
    assert code != 0
    if "SIGKILL" not in name:
        assert leftovers(run.work) == [], "who is told to end cleans up"
    go_on(run, undisturbed)


def test_prepared_anew_and_interrupted(undisturbed: Run, tmp_path: Path) -> None:
    run = new_run(tmp_path, undisturbed.source)
    run.good()
    before = {name: seen.mtime_ns for name, seen in run.measurements().items()}
    run.configure({"prepare.encoder": "best"})
    process = run.start(environment=slow(tmp_path))
    assert wait_for(lambda: any(s.mtime_ns != before[n] for n, s in run.measurements().items()), process)
    assert end(process, lambda pid: os.killpg(pid, signal.SIGINT)) != 0
    rows = {row["source"]: row for row in run.rows().values()}
    assert {row["status"] for row in rows.values()} != {"ready"}, "not all of them are checked"
    for row in rows.values():
        if row["status"] == "ready":
            path = run.prepared(Path(row["source"]).name)
            assert row["sha256"] == sha256(path), "what is called ready is what was checked"
    good = {row["measurement"] for row in rows.values() if row["status"] == "ready"}
    for task in run.tasks().values():
        names = task["upload_job"]["resource_names"]
        listed = {r["measurement"] for r in map(json.loads, _records_of(run, names))}
        assert listed <= good, "no task lists what is not checked"
    run.good()
    assert set(run.statuses().values()) == {"ready"}
    assert len(run.tasks()) == len(undisturbed.tasks())


def _records_of(run: Run, names: list[str]) -> list[str]:
    texts = [path.read_text("utf-8") for path in records(run)]
    return [text for text in texts if json.loads(text)["prepared"].get("name") in names]


def test_two_runs_at_once(undisturbed: Run, tmp_path: Path) -> None:
    run = new_run(tmp_path, undisturbed.source)
    process = run.start()
    assert wait_for(lambda: writing(run, 1), process)
    second = run.run()
    assert second.code != 0
    assert "another run is at work" in second.text
    assert "Traceback" not in second.text
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stdout + stderr
    assert_same(run, undisturbed)


def test_discover_runs_whatever_snakemake_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power loss leaves Snakemake's notes empty; users have profiles of their own."""
    source = tmp_path / "source"
    small_measurement(source / "lab" / "first.rtdc", seed=5)
    run = new_run(tmp_path, aged(source))
    run.good()
    for path in (run.work / ".snakemake" / "metadata").iterdir():
        os.truncate(path, 0)
    small_measurement(source / "lab" / "late.rtdc", seed=6)
    aged(source)
    command = run.command(2, "--rerun-triggers", "mtime")
    monkeypatch.setattr(run, "command", lambda cores: command)
    run.good()
    assert run.row("late.rtdc")["status"] == "ready"
