"""Damaged files that lead HDF5 round in a circle, or h5py to errors of its own, are ended and told."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import recipes
from h5py import h5a, h5s, h5t
from runs import REPOSITORY

from dcorflow.batch import Attempts
from dcorflow.compress.single import compress_file
from dcorflow.compress.verify import verify
from dcorflow.errors import MeasurementError
from dcorflow.patience import patience
from dcorflow.workdir import Workdir

SCRIPT = """
import sys
from dcorflow import patience
patience.SECONDS = 1.0
from dcorflow.cli import main
sys.exit(main(sys.argv[1:]))
"""


def endless(path: Path) -> Path:
    """Write a measurement whose heap of texts was zeroed in part, as where a copy has a hole."""
    with recipes.edited(path) as h5:
        for number in range(20):
            h5.attrs[f"user:{number}"] = f"text number {number}"
    content = bytearray(path.read_bytes())
    at = content.index(b"text number 0")
    content[at : at + 300] = bytes(300)
    path.write_bytes(content)
    return path


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("command", ["compress", "verify"])
def test_hdf5_in_a_circle_is_ended(tmp_path, command):
    source = endless(tmp_path / "a.rtdc")
    if command == "compress":
        done = run(command, source, tmp_path / "out.rtdc")
    else:
        done = run(command, source, source)
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert not (tmp_path / "out.rtdc").exists()


def test_a_batch_outlives_it(tmp_path, monkeypatch):
    """The worker ends, which counts as a death of its measurement, and the next one is worked on."""
    from dcorflow.workers import Worker

    def answer(number: int) -> dict[str, int]:
        with patience(0):
            if number:
                return {"done": number}
            h5py.File(endless(tmp_path / "a.rtdc")).attrs["user:19"]
        return {}

    monkeypatch.setattr("dcorflow.patience.SECONDS", 0.5)
    worker = Worker(answer, [])
    worker.ask(1)
    assert worker.read() == {"done": 1}
    worker.ask(0)
    assert worker.read() is None
    assert worker.stop() == 1
    attempts = Attempts(Workdir(tmp_path / "work"), "compress")
    for _ in range(2):
        assert attempts.begin("a")
        attempts.died("a")
    assert attempts.too_many("a") == "content"


def test_who_is_in_time_is_left_alone(monkeypatch):
    monkeypatch.setattr("dcorflow.patience.SECONDS", 0.1)
    with patience(0):
        pass
    time.sleep(0.3)


def text_attribute(path: Path, name: bytes, text: bytes, cset: int = h5t.CSET_UTF8) -> Path:
    with recipes.edited(path) as h5:
        kind = h5py.string_dtype("utf-8" if cset else "ascii")
        if name.decode() in h5.attrs:
            del h5.attrs[name.decode()]
        made = h5a.create(h5.id, name, h5t.py_create(kind, logical=True), h5s.create(h5s.SCALAR))
        made.write(np.array(text, dtype=kind))
    return path


def test_a_software_version_in_latin_1(tmp_path):
    source = text_attribute(tmp_path / "a.rtdc", b"setup:software version", b"ShapeIn \xfc")
    record = compress_file(source, tmp_path / "out.rtdc", "compat", False, 1)
    with h5py.File(tmp_path / "out.rtdc") as h5:
        assert h5.attrs["setup:software version"].startswith("ShapeIn \ufffd | dclab ")
    assert [e["key"] for e in record.edits] == ["setup:software version"]
    assert verify(tmp_path / "out.rtdc", source) == []


def test_errors_inside_h5py_are_told(tmp_path, monkeypatch):
    """A character set that there is not, as one flipped bit makes it: `TypeError` in h5py."""
    source = recipes.small_measurement(tmp_path / "a.rtdc")

    def odd(*arguments: object) -> None:
        raise TypeError("Unknown string encoding (value 4)")

    monkeypatch.setattr("dcorflow.engine.copy_attributes", odd)
    with pytest.raises(MeasurementError, match=r"damaged.*Unknown string encoding.*copy it again") as caught:
        compress_file(source, tmp_path / "out.rtdc", "compat", False, 1)
    assert caught.value.failure == "content"
    assert [p.name for p in tmp_path.iterdir()] == ["a.rtdc"]
