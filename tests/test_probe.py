"""The first look at a file: what it says, and that it survives whatever the file does."""

from __future__ import annotations

import os
import sys

import pytest
import recipes

from dcorflow.source import probe as probing
from dcorflow.source.probe import fingerprint, probe, probe_all


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty_file", "0 bytes"),
        ("truncated", "truncated"),
        ("text_file", "not an HDF5 file"),
        ("png_file", "not an HDF5 file"),
        ("without_events", "no events"),
        ("zero_events", "zero events"),
        ("external_link", "outside of this file"),
        ("virtual_dataset", "outside of this file"),
        ("external_storage", "outside of this file"),
    ],
)
def test_unusable_files(tmp_path, name, words):
    found = probe("rtdc", [recipes.RECIPES[name](tmp_path / "a.rtdc")])
    assert words in found.problem
    assert found.failure != "environment"
    assert found.fingerprint
    assert not found.writing


@pytest.mark.parametrize(
    "name",
    ["unequal_lengths", "scalar_in_events", "broken_soft_link", "soft_link", "unknown_feature", "empty_log",
     "userblock", "contours", "internal_basin", "file_basin", "corrupt_chunk", "unknown_group"],
)  # fmt: skip
def test_usable_files(tmp_path, name):
    found = probe("rtdc", [recipes.RECIPES[name](tmp_path / "a.rtdc")])
    assert (found.problem, found.events, found.writing) == ("", recipes.EVENTS, False)


@pytest.mark.parametrize("name", ["left_open", "left_open_swmr"])
def test_files_that_are_still_written_to(tmp_path, name):
    found = probe("rtdc", [recipes.RECIPES[name](tmp_path / "a.rtdc")])
    assert (found.writing, found.problem) == (True, "")


def test_truncated_anywhere(tmp_path):
    whole = recipes.small_measurement(tmp_path / "whole.rtdc")
    size = whole.stat().st_size
    for part in (1, 7, 8, 50, 95, 96, 512, 800, 2048, size // 2, size - 1):
        path = tmp_path / "a.rtdc"
        path.write_bytes(whole.read_bytes()[:part])
        assert probe("rtdc", [path]).problem, f"first {part} of {size} bytes"


@pytest.mark.parametrize(
    ("data", "words"), [(b"", "0 bytes"), (b"text", "not a TDMS file"), (b"TDSm...", "")]
)
def test_tdms(tmp_path, data, words):
    path = tmp_path / "M1.tdms"
    path.write_bytes(data)
    found = probe("tdms", [path])
    assert (words in found.problem) if words else (found.problem == "")


def test_missing_file_is_of_the_environment(tmp_path):
    found = probe("rtdc", [tmp_path / "missing.rtdc"])
    assert (found.failure, found.fingerprint) == ("environment", "")
    assert found.problem


def test_no_permission_is_of_the_environment(tmp_path, monkeypatch):
    def refuse(paths):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(probing, "fingerprint", refuse)
    found = probe("rtdc", [recipes.small_measurement(tmp_path / "a.rtdc")])
    assert found.failure == "environment"
    assert "permission" in found.problem


class TestFingerprint:
    def test_equal_files_in_other_places(self, tmp_path):
        data = os.urandom(2_000_000)
        one, two = tmp_path / "one.rtdc", tmp_path / "two.RTDC"
        one.write_bytes(data)
        two.write_bytes(data)
        assert fingerprint([one]) == fingerprint([two])

    @pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 300_000, 2_000_000])
    def test_first_last_and_size_count(self, tmp_path, size):
        path = tmp_path / "a.rtdc"
        seen = set()
        data = bytearray(size)
        for _ in range(3):
            path.write_bytes(data)
            seen.add(fingerprint([path]))
            if data:
                data[0 if len(seen) == 1 else -1] ^= len(seen)
        path.write_bytes(data + b"x")
        seen.add(fingerprint([path]))
        assert len(seen) == (4 if size > 1 else 2 if size == 0 else len(seen))

    def test_the_kind_counts(self, tmp_path):
        for name in ("a.rtdc", "a.tdms"):
            (tmp_path / name).write_bytes(b"x")
        assert fingerprint([tmp_path / "a.rtdc"]) != fingerprint([tmp_path / "a.tdms"])


class TestProbeAll:
    def test_results_in_order_and_odd_names(self, tmp_path):
        names = ["a.rtdc", "b\nc.rtdc", "\udcff.rtdc", "d.rtdc"]
        makers = [recipes.small_measurement, recipes.small_measurement, recipes.text_file, recipes.empty_file]
        jobs = [("rtdc", [make(tmp_path / name)]) for make, name in zip(makers, names, strict=True)]
        found = probe_all(jobs, workers=2)
        assert [f.events for f in found] == [recipes.EVENTS, recipes.EVENTS, 0, 0]
        assert [bool(f.problem) for f in found] == [False, False, True, True]

    def test_nothing_to_do(self):
        assert probe_all([], workers=4) == []

    def test_a_file_that_kills_the_process_does_not_stop_others(self, tmp_path, monkeypatch):
        code = (
            "import os, signal, sys, dcorflow.source.probe as p\n"
            "plain = p.probe\n"
            "def deadly(kind, paths):\n"
            "    if 'killer' in paths[0].name: os.kill(os.getpid(), signal.SIGSEGV)\n"
            "    return plain(kind, paths)\n"
            "p.probe = deadly\n"
            "p._serve()\n"
        )
        monkeypatch.setattr(probing, "python", lambda *_: [sys.executable, "-c", code])
        paths = [recipes.small_measurement(tmp_path / n) for n in ("a.rtdc", "killer.rtdc", "c.rtdc")]
        found = probe_all([("rtdc", [p]) for p in paths], workers=1)
        assert [f.events for f in found] == [recipes.EVENTS, 0, recipes.EVENTS]
        assert "SIGSEGV" in found[1].problem
        assert found[1].failure == "content"

    def test_a_file_that_takes_too_long(self, tmp_path, monkeypatch):
        code = "import time, sys\nfor line in sys.stdin: time.sleep(60)"
        monkeypatch.setattr(probing, "python", lambda *_: [sys.executable, "-c", code])
        monkeypatch.setattr(probing, "_TIME_LIMIT", 0.3)
        (found,) = probe_all([("rtdc", [tmp_path / "a.rtdc"])], workers=1)
        assert "longer than" in found.problem
        assert found.failure == "environment"
