"""`dcorflow compress` where the disk, the user or the machine ends it: no half file, source untouched."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import debian
import pytest
from demo_data import write_measurement
from runs import REPOSITORY, leftovers, sha256

from dcorflow.compress.single import compress_file
from dcorflow.compress.verify import verify
from dcorflow.errors import MeasurementError, UsageError, explain_os_error

#: Times that a run is killed.
KILLS = 50


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a measurement of 20 MB."""
    path = tmp_path_factory.mktemp("source") / "raw.rtdc"
    write_measurement(path, events=450)
    return path


@pytest.fixture(autouse=True)
def untouched(source: Path) -> Iterator[None]:
    """Insist that no test changes the source."""
    before = (source.stat().st_mtime_ns, source.stat().st_ino, sha256(source))
    yield
    assert (source.stat().st_mtime_ns, source.stat().st_ino, sha256(source)) == before


def start(path_in: Path, path_out: Path, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "dcorflow", "compress", str(path_in), str(path_out), "--threads", "2"]
    return subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def run(path_in: Path, path_out: Path, **options: object) -> tuple[int, str]:
    """Compress a file; return exit code and output."""
    process = start(path_in, path_out, **options)
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    return process.returncode, out + err


@pytest.fixture
def disk(tmp_path: Path, missing) -> Iterator[Path]:
    """Give a disk of 3 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(place)], capture_output=True
    )
    if mounted.returncode:
        missing("mounting a small disk needs root")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def quota(tmp_path: Path, missing) -> Iterator[Path]:
    """Give a folder in which 3 MB may be written, on a disk of 200 MB."""
    if debian.program("mkfs.btrfs", "btrfs-progs") is None:
        missing("btrfs is not installed (apt install btrfs-progs)")
    image, place = tmp_path / "image", tmp_path / "limited"
    image.touch()
    os.truncate(image, 200 << 20)
    place.mkdir()
    subprocess.run(["mkfs.btrfs", "-q", str(image)], check=True, capture_output=True)
    mounted = subprocess.run(["mount", "-o", "loop", str(image), str(place)], capture_output=True)
    if mounted.returncode:
        missing("mounting a disk with a quota needs root")
    try:
        for command in (["quota", "enable"], ["qgroup", "limit", "3M"]):
            subprocess.run(["btrfs", *command, str(place)], check=True, capture_output=True)
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


def test_disk_full(source: Path, disk: Path) -> None:
    code, text = run(source, disk / "out.rtdc")
    assert code == 1
    assert "disk is full" in text and str(disk / "out.rtdc") in text
    assert list(disk.iterdir()) == []
    remount(disk, "size=100m")
    assert run(source, disk / "out.rtdc")[0] == 0
    assert verify(disk / "out.rtdc", source) == []


def test_disk_full_keeps_an_older_output(source: Path, disk: Path) -> None:
    (disk / "out.rtdc").write_bytes(b"older")
    assert run(source, disk / "out.rtdc")[0] == 1
    assert (disk / "out.rtdc").read_bytes() == b"older"
    assert [p.name for p in disk.iterdir()] == ["out.rtdc"]


def test_quota(source: Path, quota: Path) -> None:
    code, text = run(source, quota / "out.rtdc")
    assert code == 1
    assert "quota" in text and str(quota / "out.rtdc") in text
    assert list(quota.iterdir()) == []
    subprocess.run(["btrfs", "qgroup", "limit", "none", str(quota)], check=True, capture_output=True)
    assert run(source, quota / "out.rtdc")[0] == 0
    assert verify(quota / "out.rtdc", source) == []


def test_read_only_disk(source: Path, disk: Path) -> None:
    remount(disk, "ro")
    code, text = run(source, disk / "out.rtdc")
    assert code == 1
    assert "read-only" in text and list(disk.iterdir()) == []


def test_limit_of_file_size(source: Path, tmp_path: Path) -> None:
    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    code, text = run(source, tmp_path / "out.rtdc", preexec_fn=limited)
    assert code == 1 and "larger than allowed" in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.EDQUOT, errno.ENOSPC, errno.EROFS, errno.EFBIG, errno.EIO])
def test_words_for_what_ends_a_write(code: int) -> None:
    words = explain_os_error(OSError(code, os.strerror(code)))
    assert words and "run again" in words


def test_source_vanishes_at_the_very_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_file", lambda path: True)
    with pytest.raises(MeasurementError, match=r"gone\.rtdc: it vanished"):
        compress_file(tmp_path / "gone.rtdc", tmp_path / "out.rtdc", "compat", False, 1)


def test_a_name_that_is_too_long(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too long; choose another output"):
        compress_file(source, tmp_path / f"{'x' * 300}.rtdc", "compat", False, 1)


@pytest.mark.parametrize("how", ["unlink", "truncate", "grow", "replace"])
def test_source_changes_midway(source: Path, tmp_path: Path, how: str) -> None:
    generator = random.Random(how)
    begin, wrong = time.monotonic(), 0
    assert run(source, tmp_path / "out" / "first.rtdc")[0] == 0
    lasts = time.monotonic() - begin
    for number in range(8):
        path, out = tmp_path / f"{number}.rtdc", tmp_path / "out" / f"{number}.rtdc"
        path.write_bytes(source.read_bytes())
        process = start(path, out)
        time.sleep(generator.uniform(0.1, 0.9) * lasts)
        if how == "unlink":
            path.unlink()
        elif how == "truncate":
            os.truncate(path, path.stat().st_size // 2)
        elif how == "grow":
            with path.open("ab") as stream:
                stream.write(bytes(100))
        else:
            (tmp_path / "other").write_bytes(b"other")
            (tmp_path / "other").rename(path)
        out_text, err = process.communicate(timeout=120)
        assert process.returncode >= 0 and "Traceback" not in err, err
        if process.returncode == 0:
            assert verify(out, source) == [], out_text
        else:
            wrong += 1
            assert not out.exists()
        assert leftovers(tmp_path) == []
        if wrong == 3:
            break
    assert wrong, "not one was caught in the act"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end(source: Path, tmp_path: Path, number: signal.Signals) -> None:
    generator = random.Random(number)
    ended = 0
    for _ in range(8):
        process = start(source, tmp_path / "out.rtdc")
        time.sleep(generator.uniform(0.3, 0.8))
        process.send_signal(number)
        process.communicate(timeout=120)
        ended += process.returncode != 0
        assert leftovers(tmp_path) == []
        if (tmp_path / "out.rtdc").exists():
            assert verify(tmp_path / "out.rtdc", source) == []
            (tmp_path / "out.rtdc").unlink()
    assert ended


def test_killed_at_any_moment(source: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    assert run(source, tmp_path / "whole.rtdc")[0] == 0
    whole, duration = sha256(tmp_path / "whole.rtdc"), time.monotonic() - began
    generator, out, left = random.Random(3), tmp_path / "out.rtdc", 0
    for _ in range(KILLS):
        process = start(source, out)
        time.sleep(generator.uniform(0.3 * duration, duration))
        process.kill()
        process.communicate(timeout=120)
        left = max(left, len(leftovers(tmp_path)))
        if out.exists():
            assert sha256(out) == whole
            out.unlink()
    assert left, "it was never killed in the middle of its work"
    for name in leftovers(tmp_path):
        os.utime(tmp_path / name, (1_700_000_000, 1_700_000_000))
    assert run(source, out)[0] == 0
    assert leftovers(tmp_path) == [], "the next start cleans up"
    assert sha256(out) == whole
