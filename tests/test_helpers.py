"""Helper processes: results in order and the same as without, errors come through, nobody stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from runs import REPOSITORY

from dcorflow import engine
from dcorflow.engine import parallel, room
from dcorflow.engine.errors import CorruptChunk
from dcorflow.engine.parallel import Helpers
from dcorflow.engine.reader import Reader
from dcorflow.memory import MemoryGuard, children, resident

LARGE = 2**30  # so much in all that helpers pay


def twice(task):
    """Return the double of an array, made where the parent sees it, and who did it."""
    out = room.empty(task.nbytes).view(task.dtype)
    np.multiply(task, 2, out=out)
    return os.getpid(), out


def much(task):
    """Return more than there is room for."""
    return [np.full(70_000, task + n, np.uint8) for n in range(9)]


def fail(task):
    if task == 3:
        raise CorruptChunk("/events/image", (30, 0), 4711, "no")
    return task


def end(task):
    if task == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def slow(task):
    time.sleep(60)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_results_come_in_order_from_all_of_them(count):
    arrays = [np.arange(n, n + 500, dtype=">i4") for n in range(40)]
    with Helpers(count) as helpers:
        for _ in range(2):  # the second time with the same processes
            pids = set()
            for array, (pid, result) in zip(
                arrays, helpers.ordered(iter(arrays), twice, 2000, LARGE), strict=True
            ):
                assert (result == 2 * array).all()
                pids.add(pid)
            assert len(pids) == count
            assert os.getpid() not in pids
    assert not any(exists(pid) for pid in pids)


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_what_is_too_large_for_its_room_comes_as_well():
    with Helpers(2) as helpers:
        for task, result in enumerate(helpers.ordered(range(30), much, 10, LARGE)):
            assert [len(set(array.tolist())) for array in result] == [1] * 9
            assert [int(array[0]) for array in result] == list(range(task, task + 9))


def test_few_data_need_nobody_else():
    with Helpers(2) as helpers:
        [(pid, _)] = helpers.ordered([np.arange(3)], twice, 24, 24)
        assert pid == os.getpid()
    assert not helpers._helpers


def test_tasks_are_taken_as_late_as_without():
    """What is to be done may depend on the results that are `LAG` tasks old."""
    got: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(100):
            assert len(got) > number - parallel.LAG
            yield number

    with Helpers(4) as helpers:
        for result in helpers.ordered(tasks(), fail_never, 10, LARGE):
            got.append(result)
    assert got == list(range(100))


def fail_never(task):
    return task


def test_errors_come_through_and_helpers_serve_again():
    with Helpers(2) as helpers:
        for _ in range(2):
            results = helpers.ordered(range(20), fail, 10, LARGE)
            assert [next(results) for _ in range(3)] == [0, 1, 2]
            with pytest.raises(CorruptChunk, match="byte 4711: no") as found:
                next(results)
            assert "in fail" in found.value.__notes__[0]
            assert list(helpers.ordered(range(3), fail_never, 10, LARGE)) == [0, 1, 2]


def test_those_who_are_not_wanted_any_more_say_nothing(capfd):
    with Helpers(2) as helpers:
        for result in helpers.ordered(range(20), fail_never, 10, LARGE):
            if result == 5:
                break
    assert capfd.readouterr() == ("", "")


def test_a_helper_that_is_killed_is_an_error():
    with Helpers(2) as helpers, pytest.raises(MemoryError, match="signal SIGKILL"):
        list(helpers.ordered(range(20), end, 10, LARGE))
    with Helpers(2) as helpers:
        assert list(helpers.ordered(range(3), fail_never, 10, LARGE)) == [0, 1, 2]


def test_something_beside():
    with Helpers(2) as helpers, helpers.beside(twice, np.arange(5), LARGE) as result:
        assert list(helpers.ordered(range(3), fail_never, 10, LARGE)) == [0, 1, 2]
        pid, doubled = result()
        assert pid != os.getpid()
        assert doubled.tolist() == [0, 2, 4, 6, 8]
    assert not exists(pid)
    with Helpers(2) as helpers, helpers.beside(twice, np.arange(5), 10) as result:
        assert result()[0] == os.getpid()


def who(task):
    """Return the task and who works on it, after as many hundredths of a second."""
    time.sleep(task / 100)
    return task, os.getpid()


def test_what_is_done_later_is_done_by_whoever_is_free():
    with Helpers(2) as helpers:
        waits = [helpers.later(who, task, LARGE) for task in (30, 0, 1, 2, 3, 4)]
        assert list(helpers.ordered(range(3), fail_never, 10, LARGE)) == [0, 1, 2]
        (first, busy), *others = [wait() for wait in waits]
        assert (first, *(task for task, _ in others)) == (30, 0, 1, 2, 3, 4)
        assert os.getpid() not in {busy, *(pid for _, pid in others)}
        assert waits[0]() == (first, busy)  # may be asked again
        assert helpers.later(who, 0, 10)() == (0, os.getpid())  # too little to be sent around


def test_what_fails_later_is_raised_where_it_is_waited_for():
    with Helpers(2) as helpers:
        waits = [helpers.later(fail, task, LARGE) for task in range(6)]
        assert [wait() for wait in (*waits[:3], *waits[4:])] == [0, 1, 2, 4, 5]
        with pytest.raises(CorruptChunk, match=r"chunk \(30, 0\)"):
            waits[3]()
    with Helpers(2) as helpers:
        waits = [helpers.later(end, task, LARGE) for task in range(4)]
        with pytest.raises(MemoryError, match="signal SIGKILL"):
            waits[3]()
    with Helpers(2) as helpers:
        wait = helpers.later(slow, 0, LARGE)
        helpers.close()
        with pytest.raises(RuntimeError, match="ended before they answered"):
            wait()


def test_a_file_opened_after_they_were_started_is_noticed(tmp_path):
    """Its number may be that of another file in the helper: nothing wrong may be read."""
    data = np.random.default_rng(1).integers(0, 9, (4000, 2000), np.uint8)
    for name in ("a.h5", "b.h5"):
        with h5py.File(tmp_path / name, "w") as h5:
            h5.create_dataset("x", data=data, chunks=(40, 2000), compression="gzip", fletcher32=True)
    with Helpers(2) as helpers:
        with h5py.File(tmp_path / "a.h5", locking=False) as h5:
            digest = engine.digest_datasets({"x": h5["x"]}, threads=helpers)["x"]
            assert digest == engine.digest_plain(h5["x"])
            assert Reader(h5["x"]).parallel
        with (
            h5py.File(tmp_path / "b.h5", locking=False) as h5,
            pytest.raises((RuntimeError, MemoryError, OSError)),
        ):
            engine.digest_datasets({"x": h5["x"]}, threads=helpers)["x"]


def test_they_are_gone_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, sys\n"
        f"sys.path.insert(0, {str(REPOSITORY / 'tests')!r})\n"
        "from test_helpers import slow, Helpers, LARGE\n"
        "with Helpers(3) as helpers:\n"
        "    helpers.start()\n"
        "    print(*(h._pid for h in helpers._helpers), flush=True)\n"
        "    list(helpers.ordered(range(9), slow, 10, LARGE))\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert len(pids) == 3
    parent.kill()
    parent.wait()
    for _ in range(500):
        if not any(alive(pid) for pid in pids):
            return
        time.sleep(0.02)
    raise AssertionError("helpers stayed behind")


def test_their_memory_counts_for_their_worker(monkeypatch):
    killed = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(pid))
    own = os.getpid()
    guard = MemoryGuard(0)
    guard.limit_mb = sum(resident([own, *children(own)]).values()) + 10  # others may be forked already
    guard.look([own])
    assert killed == []
    helpers = Helpers(3)
    helpers.start()
    guard._last = 0
    guard.look([own])
    assert killed == [own]
    monkeypatch.undo()
    helpers.close()


def alive(pid: int) -> bool:
    """Whether a process lives; one that nobody has buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
