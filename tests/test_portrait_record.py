"""When a portrait is drawn, kept and drawn again; what the record says where there is none."""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from demo_data import write_measurement
from test_integrity import COMPAT, entry_of
from test_portrait import drawn, pictures, refuse_life

from dcorflow.compress.prepare import Entry, prepare
from dcorflow.integrity import check, merge_metadata
from dcorflow.portrait import flags
from dcorflow.workdir import Workdir

DOCS = Path(__file__).resolve().parent.parent / "docs" / "quality.md"


@pytest.fixture
def work(tmp_path: Path) -> Workdir:
    return Workdir(tmp_path / "work")


@pytest.fixture
def entry(tmp_path: Path, work: Workdir) -> Entry:
    made = entry_of(write_measurement(tmp_path / "M1.rtdc", 8, roi=(32, 48)))
    prepare(made, COMPAT, [], work, 1)
    return made


def record_of(entry: Entry, work: Workdir) -> Any:
    record = check(entry, work, 1, pictures=True)
    assert record is not None
    assert record.failure is None
    return record


def test_drawn_once(entry: Entry, work: Workdir) -> None:
    first = record_of(entry, work).portrait
    written = [work.portrait("m-1").stat().st_ino, work.record("m-1").stat().st_ino]
    assert record_of(entry, work).portrait == first
    assert written == [work.portrait("m-1").stat().st_ino, work.record("m-1").stat().st_ino]


def test_one_whose_record_was_lost_is_kept(entry: Entry, work: Workdir) -> None:
    first = record_of(entry, work).portrait
    inode = work.portrait("m-1").stat().st_ino
    work.record("m-1").unlink()
    prepare(entry, COMPAT, [], work, 1)
    assert record_of(entry, work).portrait == first
    assert work.portrait("m-1").stat().st_ino == inode


@pytest.mark.parametrize("damage", ["", "{", "[1]", '{"format": 0}'])
def test_a_damaged_one_is_drawn_again(entry: Entry, work: Workdir, damage: str) -> None:
    record_of(entry, work)
    good = work.portrait("m-1").read_bytes()
    work.record("m-1").unlink()
    work.portrait("m-1").write_text(damage)
    prepare(entry, COMPAT, [], work, 1)
    record_of(entry, work)
    assert work.portrait("m-1").read_bytes() == good


def test_names_that_are_shown_redraw_it_and_others_do_not(entry: Entry, work: Workdir) -> None:
    record_of(entry, work)
    inode = work.portrait("m-1").stat().st_ino
    edits = [["setup:medium", "water", "override", "folder", "w"]]
    merge_metadata(entry, edits, work, pictures=True)
    assert work.portrait("m-1").stat().st_ino == inode
    edits.append(["fluorescence:channel 1 name", "green", "override", "folder", "w"])
    merge_metadata(entry, edits, work, pictures=True)
    svg = json.loads(work.portrait("m-1").read_text("utf-8"))["pictures"][-1]["svg"]
    assert "FL-1 green" in svg


def test_what_cannot_be_drawn_is_noted_and_not_tried_again(
    entry: Entry, work: Workdir, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> dict[str, Any]:
        raise ValueError("odd\ndata")

    monkeypatch.setattr("dcorflow.portrait.make.draw", fail)
    portrait = record_of(entry, work).portrait
    assert portrait["missing"] == "ValueError: odd data"
    monkeypatch.undo()
    assert record_of(entry, work).portrait == portrait


def test_a_full_disk_is_tried_again(entry: Entry, work: Workdir, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("dcorflow.portrait.make.write_text", fail)
    assert "the disk is full" in record_of(entry, work).portrait["missing"]
    monkeypatch.undo()
    assert "missing" not in record_of(entry, work).portrait
    assert work.portrait("m-1").is_file()


@pytest.mark.parametrize(
    ("height", "width", "dtype"),
    [(1, 3, "u1"), (700, 2, "u1"), (2, 900, "u2"), (900, 1000, "u1"), (20, 20, "?")],
)
def test_images_of_any_kind(tmp_path: Path, height: int, width: int, dtype: str) -> None:
    path = tmp_path / "m.rtdc"
    noise = np.random.default_rng(1).integers(0, 2, (5, height, width))
    with h5py.File(path, "w") as h5:
        h5.create_dataset("events/image", data=(noise * 200).astype(dtype), chunks=(1, height, width))
        h5.create_dataset("events/mask", data=noise.astype("u1"), chunks=(1, height, width))
    portrait = drawn(path)
    assert list(pictures(portrait)) == ["images"]
    for picture in portrait["pictures"]:
        refuse_life(picture["svg"])
        assert len(picture["svg"]) < 60_000


def test_images_that_are_too_large_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "m.rtdc"
    with h5py.File(path, "w") as h5:  # no chunk of it is ever written
        h5.create_dataset("events/image", (8, 40_000, 40_000), "u1", chunks=(1, 4000, 4000))
    assert "no images: those of the measurement are too large to sample" in drawn(path)["missing"]


def test_every_remark_stands_in_the_documentation() -> None:
    source = Path(flags.__file__).read_text("utf-8")
    ids = set(re.findall(r'Flag\(\s*"([a-z-]+)"', source)) | {"flat-area", "flat-deformation"}
    assert set(re.findall(r"^\| `([a-z-]+)`", DOCS.read_text("utf-8"), re.MULTILINE)) == ids
