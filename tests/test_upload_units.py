"""Parts of the upload that need no server: addresses, tokens, ledger, locks, pace."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import struct
import sys
import termios
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from runs import steps_of

from dcorflow import secret
from dcorflow.errors import UsageError
from dcorflow.server import find_server
from dcorflow.upload.failures import Passing, Patience, Stopped
from dcorflow.upload.ledger import Ledger
from dcorflow.upload.locks import slot, task_lock, title_lock
from dcorflow.upload.progress import Bar, Meter, find_terminal
from dcorflow.upload.token import find_token


class TestServer:
    @pytest.mark.parametrize(
        ("setting", "name", "url"),
        [
            ("dcor", "dcor", "https://dcor.mpl.mpg.de"),
            ("dcor.mpl.mpg.de", "dcor", "https://dcor.mpl.mpg.de"),
            ("https://DCOR-dev.mpl.mpg.de/", "playground", "https://dcor-dev.mpl.mpg.de"),
            ("https://dcor.mpl.mpg.de:443", "dcor", "https://dcor.mpl.mpg.de"),
            ("https://dcor.mpl.mpg.de.", "dcor", "https://dcor.mpl.mpg.de"),
            ("https://data.example.org:8443", "data.example.org-8443", "https://data.example.org:8443"),
            ("http://127.0.0.1:5000", "127.0.0.1-5000", "http://127.0.0.1:5000"),
            ("http://localhost:5000/", "localhost-5000", "http://localhost:5000"),
            ("http://[::1]:5000", "-1-5000", "http://[::1]:5000"),
        ],
    )
    def test_names_and_addresses(self, setting: str, name: str, url: str) -> None:
        server = find_server(setting)
        assert (server.name, server.url) == (name, url)
        assert server.is_playground == (name == "playground")

    @pytest.mark.parametrize(
        ("setting", "words"),
        [
            (None, "not set"),
            ("", "not set"),
            ("http://dcor.mpl.mpg.de", "unencrypted"),
            ("http://127.0.0.1.example.org", "unencrypted"),
            ("ftp://example.org", "expected dcor"),
            ("https://example.org/api", "expected dcor"),
            ("https://user:secret@example.org", "expected dcor"),
            ("https://", "expected dcor"),
            ("dcorr", "expected dcor"),
            ("https://example.org:port", "no address"),
        ],
    )
    def test_what_is_refused(self, setting: str | None, words: str) -> None:
        with pytest.raises(UsageError, match=words):
            find_server(setting)


class TestToken:
    @pytest.fixture(autouse=True)
    def no_token(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in (secret.VARIABLE, secret.PLACE):
            monkeypatch.delenv(name, raising=False)

    def test_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(secret.VARIABLE, " abc.def-1_2\n")
        assert find_token("/nowhere") == "abc.def-1_2"

    def test_hidden_by_the_head(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(secret.VARIABLE, "abc")
        monkeypatch.setenv(secret.PLACE, "")
        secret.hide_token()
        assert secret.VARIABLE not in os.environ
        assert find_token(None) == "abc"

    def test_from_a_file_of_ones_own(self, tmp_path: Path) -> None:
        path = tmp_path / "token"
        path.write_text("abc\n")
        path.chmod(0o600)
        assert find_token(str(path)) == "abc"

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o610])
    def test_not_from_a_file_that_others_read(self, tmp_path: Path, mode: int) -> None:
        path = tmp_path / "token"
        path.write_text("abc\n")
        path.chmod(mode)
        with pytest.raises(UsageError, match="chmod 600"):
            find_token(str(path))

    @pytest.mark.parametrize(("text", "words"), [("", "no API token"), ("a b", "blanks"), ("ä", "special")])
    def test_what_is_no_token(self, tmp_path: Path, text: str, words: str) -> None:
        path = tmp_path / "token"
        path.write_text(text, encoding="utf-8")
        path.chmod(0o600)
        with pytest.raises(UsageError, match=words) as caught:
            find_token(str(path))
        assert not text or text not in str(caught.value)

    def test_head_on_another_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(secret.PLACE, "/proc/1/fd/no-such")
        with pytest.raises(UsageError, match="no API token"):
            find_token(None)


class TestLedger:
    def test_is_read_as_written(self, tmp_path: Path) -> None:
        ledger = Ledger(tmp_path / "server" / "ledger.tsv")
        ledger.add("t-1", "intent")
        ledger.add("t-1", "draft", "id-1")
        ledger.add("t-1", "abandoned", "id-1", "tab\there, line\nbreak")
        ledger.add("t-2", "draft", "id-2")
        again = Ledger(ledger.path)
        assert again.lines == ledger.lines
        assert (again.dataset_of("t-1"), again.dataset_of("t-2"), again.damaged) == ("", "id-2", 0)
        assert again.to_remove("t-1") == ["id-1"]
        again.add("t-1", "removed", "id-1")
        assert Ledger(ledger.path).to_remove("t-1") == []

    def test_every_torn_end_leaves_the_lines_before(self, tmp_path: Path) -> None:
        ledger = Ledger(tmp_path / "ledger.tsv")
        ledger.add("t-1", "draft", "id-1")
        whole = ledger.path.read_bytes()
        ledger.add("t-2", "draft", "id-2")
        full = ledger.path.read_bytes()
        for length in range(len(whole), len(full)):
            ledger.path.write_bytes(full[:length])
            torn = Ledger(ledger.path)
            assert torn.dataset_of("t-1") == "id-1"
            complete = length >= len(full) - 1
            assert torn.dataset_of("t-2") == ("id-2" if complete else "")
            torn.add("t-3", "draft", "id-3")
            assert Ledger(ledger.path).dataset_of("t-3") == "id-3"

    def test_a_changed_line_does_not_count(self, tmp_path: Path) -> None:
        ledger = Ledger(tmp_path / "ledger.tsv")
        ledger.add("t-1", "draft", "id-1")
        ledger.path.write_text(ledger.path.read_text().replace("id-1", "id-7"))
        changed = Ledger(ledger.path)
        assert (changed.dataset_of("t-1"), changed.damaged) == ("", 1)

    @pytest.mark.parametrize(
        ("events", "expected"),
        [
            ([], False),
            (["intent"], True),
            (["intent", "draft"], False),
            (["intent", "intent", "draft"], True),
            (["draft", "abandoned", "intent"], True),
            (["intent", "draft", "abandoned", "intent", "draft"], False),
        ],
    )
    def test_drafts_asked_for_without_answer(self, tmp_path: Path, events: list[str], expected: bool) -> None:
        ledger = Ledger(tmp_path / "ledger.tsv")
        for event in events:
            ledger.add("t-1", event, "" if event == "intent" else "id-1")
        ledger.add("t-2", "intent")
        assert ledger.unanswered("t-1") == expected

    def test_is_read_on_not_anew(self, tmp_path: Path) -> None:
        """What others added is found, in a time that does not grow with the ledger."""
        mine, others = (Ledger(tmp_path / "ledger.tsv") for _ in range(2))
        steps = []
        for count in (10, 1000):
            for number in range(count):
                others.add(f"t-{number}", "draft", f"id-{count}")
            mine.read()
            others.add("t-0", "active", "id-1")

            def look() -> None:
                mine.read()
                assert mine.of("t-9")[-1].dataset_id == f"id-{count}"  # noqa: B023

            steps.append(steps_of(look))
            assert mine.lines == others.lines == Ledger(mine.path).lines
        assert steps[0] == steps[1] > 0
        mine.path.unlink()
        mine.read()
        assert (mine.lines, mine.of("t-0")) == ([], [])

    def test_another_file_in_its_place(self, tmp_path: Path) -> None:
        mine, other = Ledger(tmp_path / "ledger.tsv"), Ledger(tmp_path / "other.tsv")
        mine.add("t-1", "draft", "id-1")
        other.add("t-2", "draft", "id-2")
        other.path.replace(mine.path)
        mine.read()
        assert (mine.dataset_of("t-1"), mine.dataset_of("t-2")) == ("", "id-2")

    def test_many_writers(self, tmp_path: Path) -> None:
        ledgers = [Ledger(tmp_path / "ledger.tsv") for _ in range(4)]
        threads = [
            threading.Thread(target=lambda x=x, n=n: [x.add(f"t-{n}", "draft", f"{i}") for i in range(20)])
            for n, x in enumerate(ledgers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(Ledger(tmp_path / "ledger.tsv").lines) == 80


class TestLocks:
    def test_one_per_task(self, tmp_path: Path) -> None:
        stop, said = threading.Event(), []
        with (
            task_lock(tmp_path, "t-1", stop, said.append) as mine,
            task_lock(tmp_path, "t-2", stop, said.append) as other,
        ):
            assert (mine, other) == (False, False)
            assert said == []
            stop.set()
            with pytest.raises(Stopped), task_lock(tmp_path, "t-1", stop, said.append):
                pass
        assert said == ["another process is uploading it; waiting for its end"]
        with task_lock(tmp_path, "t-1", stop, said.append) as again:
            assert not again

    def test_a_task_waits_for_another_process(self, tmp_path: Path) -> None:
        stop, free = threading.Event(), threading.Event()

        def hold() -> None:
            with task_lock(tmp_path, "t-1", stop, lambda text: None):
                held.set()
                assert free.wait(60)

        held = threading.Event()
        other = threading.Thread(target=hold)
        other.start()
        assert held.wait(60)
        with task_lock(tmp_path, "t-1", stop, lambda text: free.set()) as waited:
            assert waited
        other.join()

    def test_as_many_slots_as_said(self, tmp_path: Path) -> None:
        stop = threading.Event()
        with slot(tmp_path, 2, stop) as one, slot(tmp_path, 2, stop) as two:
            assert {one, two} == {0, 1}
            stop.set()
            with pytest.raises(Stopped), slot(tmp_path, 2, stop):
                pass

    def test_titles_of_which_the_server_makes_the_same_name(self, tmp_path: Path) -> None:
        stop = threading.Event()
        with title_lock(tmp_path, "Blood, of donors", stop), title_lock(tmp_path, "Beads", stop):
            stop.set()
            with pytest.raises(Stopped), title_lock(tmp_path, "blood of Donors!", stop):
                pass


class TestPatience:
    def test_waits_longer_each_time_and_gives_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pauses: list[float] = []
        stop = threading.Event()
        monkeypatch.setattr(stop, "wait", lambda pause: bool(pauses.append(pause)))
        patience = Patience(4, lambda text: None, stop)
        for _ in range(4):
            patience.wait(Passing("down"))
        with pytest.raises(Passing):
            patience.wait(Passing("down"))
        assert all(later > 1.3 * earlier for earlier, later in pairwise(pauses))
        patience.reset()
        patience.wait(Passing("busy", pause=120))
        assert pauses[-1] > 90

    def test_another_step_is_progress_but_not_for_ever(self) -> None:
        patience = Patience(2, lambda text: None, threading.Event())
        patience._stop.wait = lambda pause: False  # type: ignore[method-assign]
        for number in range(20):
            patience.wait(Passing("down"), "ab"[number % 2])
        with pytest.raises(Passing):
            patience.wait(Passing("down"), "a")

    def test_ends_when_told_to(self) -> None:
        stop = threading.Event()
        stop.set()
        with pytest.raises(Stopped):
            Patience(4, lambda text: None, stop).wait(Passing("down"))


def draw_a_bar() -> int:
    """Upload two datasets, as far as the bar sees, on standard error, which is a terminal."""
    clock = [100.0]
    time.monotonic = lambda: clock[0]  # type: ignore[assignment]
    sys.stderr = os.fdopen(2, "w")  # not that of pytest
    log, stop = io.StringIO(), threading.Event()
    bar = Bar(find_terminal())
    meters = [Meter(name, 200_000_000, 0, stop, log, bar) for name in ("blood", "beads")]
    with bar.showing(meters[0]):
        clock[0] += 20
        for _ in range(4):
            meters[0].count(10_000_000)
        clock[0] += 30
        meters[0].count(60_000_000)
        with bar.showing(meters[1]):
            clock[0] += 1
            meters[1].skip(100_000_000)
            meters[0].count(100_000_000)
    return 0 if log.getvalue().count("\n") == 1 else 1


class TestMeter:
    def test_keeps_to_the_bandwidth(self) -> None:
        meter = Meter("set", 100, 1000, threading.Event(), io.StringIO())
        start = time.monotonic()
        threads = [threading.Thread(target=lambda: [meter.count(25) for _ in range(4)]) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 0.25 < time.monotonic() - start < 1.5
        assert meter.done == 300

    def test_says_how_far_it_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        stream, clock = io.StringIO(), [100.0]
        monkeypatch.setattr(time, "monotonic", lambda: clock[0])
        meter = Meter("blood", 400_000_000, 0, threading.Event(), stream)
        meter.count(50_000_000)
        assert stream.getvalue() == ""
        clock[0] += 50
        meter.count(50_000_000)
        meter.count(0)
        assert stream.getvalue() == "blood: 100 MB of 400 MB, 2 MB/s, 2 min left\n"

    def test_draws_one_bar_on_a_terminal(self) -> None:
        """Only while the process is in front, within the width of the terminal, and away at the end."""
        child, seen = pty.fork()
        if not child:
            code = 1
            try:
                fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
                code = draw_a_bar()
            finally:
                os._exit(code)
        text = b""
        with contextlib.suppress(OSError):  # the terminal ends with the child
            while more := os.read(seen, 4096):
                text += more
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, text
        drawn = [line for line in text.decode().replace("\r\n", "").split("\r\033[K") if line]
        assert drawn == [
            "blood [#                       ] 10 MB of 200 MB, 500 kB/s,",
            "blood [############            ] 100 MB of 200 MB, 2 MB/s, ",
            "2 datasets [##################      ] 300 MB of 400 MB, 3.9",
        ]
        assert text.endswith(b"\r\033[K")

    def test_stops_a_transfer(self) -> None:
        stop = threading.Event()
        stop.set()
        with pytest.raises(Stopped):
            Meter("set", 1, 0, stop, io.StringIO()).count(1)
