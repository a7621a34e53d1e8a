"""A few of the kills of `make crash`: each run is started again and ends as an undisturbed one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from crash_disk import Disk
from runs import REPOSITORY

SCRIPT = REPOSITORY / "scripts" / "crash_test.py"


#: Uploads have kills of their own, in test_upload.py.
STAGES = ("head", "discover", "compress", "check", "merge_metadata", "task", "handlers")


def test_kills_in_all_stages(tmp_path: Path) -> None:
    options = ["--trials", "8", "--seed", "3", "--small", "--place", str(tmp_path)]
    for stage in STAGES:
        options += ["--stage", stage]
    command = [sys.executable, str(SCRIPT), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 kills in" in done.stdout
    assert all(f"\n| {stage} |" in done.stdout for stage in STAGES)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def disk(tmp_path: Path, missing: Callable[[str], NoReturn]) -> Disk:
    try:
        made = Disk(tmp_path / "image", tmp_path / "disk")
    except OSError as error:
        pytest.skip(f"no power loss here: {error}")
    yield made
    made.remove()


def test_what_a_power_loss_takes(disk: Disk) -> None:
    """Whoever forgets a sync is found out."""
    place = disk.place
    (place / "before").write_text("all of it")
    disk.sync()
    (place / "careless.tmp").write_text("not synced")
    (place / "careless.tmp").rename(place / "careless")
    with (place / "careful").open("w") as stream:
        stream.write("synced")
        stream.flush()
        os.fsync(stream.fileno())
    (place / "late").write_text("lost")
    disk.cut()
    with pytest.raises(OSError):
        (place / "after").write_text("no")
    disk.restore()
    found = {p.name: p.read_text() for p in place.iterdir() if p.is_file()}
    assert found.pop("late", "") == ""
    assert found == {"before": "all of it", "careless": "", "careful": "synced"}
