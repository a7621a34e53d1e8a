"""Workers: forked, asked one number at a time, gone when their parent is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import REPOSITORY

from dcorflow import workers
from dcorflow.memory import children
from dcorflow.workers import Worker, spread, wait_for_answers


def odd(number):
    print("words on standard output are no answers")
    if number == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 14:
        sys.exit(5)
    if number == 15:
        raise ZeroDivisionError
    return {"pid": os.getpid(), "twice": 2 * number, "long": "x" * (number * 1000)}


def test_answers_come_from_another_process():
    worker = Worker(odd, ())
    for number in (1, 200, 3):
        worker.ask(number)
        assert wait_for_answers([worker], 60) == [worker]
        assert worker.read() == {"pid": worker.pid, "twice": 2 * number, "long": "x" * (number * 1000)}
    assert wait_for_answers([worker], 0.01) == []
    assert worker.stop() == 0
    assert worker.stop() == 0
    assert worker.pid != os.getpid()


def test_how_it_ended():
    codes = {}
    for number in (13, 14, 15):
        worker = Worker(odd, ())
        worker.ask(number)
        assert worker.read() is None
        worker.ask(1)
        assert worker.read() is None
        codes[number] = worker.stop()
    assert codes == {13: -signal.SIGKILL, 14: 5, 15: 1}


class TestSpread:
    @pytest.mark.parametrize("cores", [1, 2, 3])
    @pytest.mark.parametrize("count", [0, 1, 49, 100, 151, 401])
    def test_answers_in_order(self, monkeypatch, cores, count):
        monkeypatch.setattr(workers, "_cores", lambda: cores)
        made = spread(lambda n: [n, "ü" * 1000, os.getpid()], range(count))
        assert [m[:2] for m in made] == [[n, "ü" * 1000] for n in range(count)]
        assert len({m[2] for m in made}) == (max(1, min(cores, count // 50)) if count else 0)

    def test_what_a_process_that_died_had_to_do_is_done_here(self, monkeypatch):
        monkeypatch.setattr(workers, "_cores", lambda: 2)
        here = os.getpid()

        def deadly(number):
            if number == 101 and os.getpid() != here:
                os.kill(os.getpid(), signal.SIGKILL)
            return number

        assert spread(deadly, range(150)) == list(range(150))

    def test_an_error_is_raised_and_nothing_left(self, monkeypatch, capfd):
        monkeypatch.setattr(workers, "_cores", lambda: 2)

        def wrong(number):
            return 1 // (number - 77)

        before = children(os.getpid())  # what other tests started
        with pytest.raises(ZeroDivisionError):
            spread(wrong, range(150))
        assert children(os.getpid()) == before


def test_each_ends_while_others_go_on():
    workers = []
    for _ in range(3):
        workers.append(Worker(odd, workers))
    for worker in workers:
        worker.ask(4)
    assert len({worker.read()["pid"] for worker in workers}) == 3
    assert [worker.stop() for worker in workers] == [0, 0, 0]


def test_none_outlives_its_parent(tmp_path):
    place = tmp_path / "pid"
    code = (
        "import os, pathlib, sys, time\n"
        "from dcorflow.workers import Worker\n"
        # Not one long sleep: a signal right before it would only be seen at its end.
        "worker = Worker(lambda n: [time.sleep(0.1) for _ in range(6000)], ())\n"
        "worker.ask(1)\n"
        f"pathlib.Path({str(place)!r}).write_text(str(worker.pid))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, timeout=60)
    pid = int(place.read_text())
    end = time.monotonic() + 60
    while alive(pid):
        assert time.monotonic() < end, "the worker lives on"
        time.sleep(0.05)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
