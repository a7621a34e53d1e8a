"""The local DCOR of the tests: it serves, on loopback only, and leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dcor import LAB, Dcor
from runs import wait_for


def children(pid: int) -> set[int]:
    """Return all processes below one."""
    found, waiting = set(), [pid]
    while waiting:
        for task in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            inside = {int(word) for word in task.read_text().split()}
            found |= inside
            waiting += inside
    return found


def alive(pid: int) -> bool:
    """Return whether a process runs (zombies do not)."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_finds_what_was_just_made(dcor: Dcor) -> None:
    fields = {"title": "Lab test", "authors": "A. Name", "license_id": "CC0-1.0", "owner_org": "my-circle"}
    draft = dcor.call("package_create", data=fields | {"state": "draft", "private": True, "notes": "a b-1"})
    query = {"fq": f"creator_user_id:{draft['creator_user_id']} AND state:draft"}
    query |= {"include_drafts": True, "include_private": True}
    for words, expected in (('notes:"a b-1"', [draft["id"]]), ('notes:"b a-1"', [])):
        found = dcor.call("package_search", q=words, **query)["results"]
        assert [d["id"] for d in found] == expected
    dcor.call("package_delete", data={"id": draft["id"]})


def test_listens_on_loopback_only(dcor: Dcor) -> None:
    done = subprocess.run(
        ["cat", "/proc/net/tcp", "/proc/net/tcp6"], capture_output=True, text=True, check=True
    )
    listening = [line.split()[1] for line in done.stdout.splitlines() if line.split()[3] == "0A"]
    first = int(dcor.url.rpartition(":")[2])
    ours = [place for place in listening if first <= int(place.rpartition(":")[2], 16) < first + 6]
    assert len(ours) >= 5
    assert {place.partition(":")[0] for place in ours} == {"0100007F"}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_ends_all_it_started(dcor: Dcor, tmp_path: Path, how: signal.Signals) -> None:
    folder = Path(f"{dcor.folder}-{how.name}")
    keeper = subprocess.Popen(["sleep", "600"])
    command = [sys.executable, str(LAB), "run", str(folder), "--parent", str(keeper.pid)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, text=True)
    try:
        assert wait_for(lambda: (folder / "server.json").exists(), process, 120)
        started = children(process.pid)
        assert len(started) >= 6
        keeper.kill() if how == signal.SIGTERM else process.send_signal(how)
        process.wait(60)
        end = time.monotonic() + 30
        while (left := [pid for pid in started if alive(pid)]) and time.monotonic() < end:
            time.sleep(0.1)
        assert not left, [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left]
        assert folder.exists() == (how == signal.SIGKILL)
    finally:
        keeper.kill()
        keeper.wait()
        process.kill()
        subprocess.run(["rm", "-rf", str(folder)], check=True)
