"""Damaged measurements as a whole: never a crash, never a wrong result called good."""

from __future__ import annotations

import os
import random
import signal
import traceback
from pathlib import Path

import pytest
from demo_data import write_measurement

from dcorflow.compress.single import compress_file
from dcorflow.compress.verify import verify
from dcorflow.errors import MeasurementError

#: Damages per file; the seeds are fixed, so that a failure can be repeated.
DAMAGES = 40
#: Seconds after which a damaged file has hung the process.
PATIENCE = 30
GOOD, EXPLAINED, UNREADABLE, WRONG, UNEXPECTED = range(5)


def damage(content: bytes, generator: random.Random) -> bytes:
    """Flip, cut or zero bytes somewhere, more often where HDF5 keeps its structure."""
    data = bytearray(content)
    how = generator.choice(["flip", "flip", "zero", "noise", "cut"])
    # The headers lie at the start; their addresses are most of what can lead a reader astray.
    end = len(data) if generator.random() < 0.5 else min(len(data), 20_000)
    at, size = generator.randrange(end), generator.choice([1, 4, 64, 2000])
    if how == "flip":
        data[at] ^= 1 << generator.randrange(8)
    elif how == "cut":
        del data[at:]
    else:
        part = data[at : at + size]
        data[at : at + size] = bytes(len(part)) if how == "zero" else generator.randbytes(len(part))
    return bytes(data)


def outcome(path: Path, out: Path) -> int:
    """Compress a damaged file in a process of its own; return what became of it, or minus its signal."""
    child = os.fork()
    if child == 0:
        code = UNEXPECTED
        try:
            signal.alarm(PATIENCE)
            compress_file(path, out, "compat", False, 2)
            code = GOOD
            if wrong := verify(out, path):
                code = UNREADABLE if all("cannot be read" in w for w in wrong) else WRONG
                (out.parent / "said").write_text("\n".join(wrong), encoding="utf-8")
        except MeasurementError:
            code = EXPLAINED
        except BaseException:
            (out.parent / "said").write_text(traceback.format_exc(), encoding="utf-8")
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fuzz(source: Path, folder: Path) -> list[int]:
    """Damage a file many times; insist on a good or an explained end each time."""
    content, ends = source.read_bytes(), []
    path, out = folder / "damaged.rtdc", folder / "out.rtdc"
    for seed in range(DAMAGES):
        path.write_bytes(damage(content, random.Random(f"{source.name} {seed}")))
        end = outcome(path, out)
        said = (folder / "said").read_text(errors="replace") if (folder / "said").exists() else ""
        assert end in (GOOD, EXPLAINED, UNREADABLE), f"seed {seed} of {source.name}: {end}\n{said[-2000:]}"
        assert out.exists() == (end != EXPLAINED)
        out.unlink(missing_ok=True)
        ends.append(end)
    return ends


@pytest.mark.parametrize("layout", ["raw", "gzip"])
def test_demo_files(tmp_path, layout):
    source = tmp_path / "source.rtdc"
    write_measurement(source, events=12, layout=layout)
    ends = fuzz(source, tmp_path)
    assert {GOOD, EXPLAINED} == set(ends), "damage that is seen, and damage in unused or unchecked bytes"


def test_prepared_file(tmp_path):
    write_measurement(tmp_path / "raw.rtdc", events=12)
    compress_file(tmp_path / "raw.rtdc", tmp_path / "source.rtdc", "compat", False, 2)
    assert EXPLAINED in fuzz(tmp_path / "source.rtdc", tmp_path)


def test_real_files(real_data, tmp_path):
    for source in sorted(real_data.rglob("*.rtdc")):
        fuzz(source, tmp_path)
