"""Verification: what it finds, and what the history explains."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import recipes

from dcorflow.compress.single import compress_file
from dcorflow.compress.tail import read_history, write_history
from dcorflow.compress.verify import verify
from dcorflow.errors import MeasurementError
from dcorflow.hdf5 import HISTORY_LOG


@pytest.fixture
def pair(tmp_path):
    source = recipes.small_measurement(tmp_path / "a.rtdc", logs={"notes": ["one", "two"]}, table=True)
    out = tmp_path / "out.rtdc"
    compress_file(source, out, "compat", False, 1)
    return out, source


def test_a_fresh_file_is_identical(pair):
    assert verify(*pair) == []
    assert verify(pair[0]) == []


def flip(path, dataset):
    """Flip one bit in the middle of the first stored chunk of a dataset."""
    with h5py.File(path) as h5:
        info = h5[dataset].id.get_chunk_info(0)
    with path.open("r+b") as stream:
        stream.seek(info.byte_offset + info.size // 2)
        byte = stream.read(1)[0]
        stream.seek(-1, 1)
        stream.write(bytes([byte ^ 4]))


@pytest.mark.parametrize(
    "dataset", ["events/image", "events/deform", "logs/notes", "tables/cytoshot_monitor"]
)
def test_one_flipped_bit_is_found(pair, dataset):
    flip(pair[0], dataset)
    for problems in (verify(pair[0]), verify(*pair)):
        assert len(problems) == 1
        assert dataset in problems[0]


CHANGES = {
    "value": (lambda h5: h5["events/deform"].__setitem__(3, 0.5), "events/deform"),
    "removed": (lambda h5: h5["events"].__delitem__("mask"), "events/mask"),
    "added": (lambda h5: h5["events"].__setitem__("userdef1", np.arange(8.0)), "events/userdef1"),
    "log": (lambda h5: h5["logs"].__delitem__("notes"), "logs/notes"),
    "attribute": (lambda h5: h5.attrs.__setitem__("setup:medium", "x"), "setup:medium"),
    "removed attribute": (lambda h5: h5.attrs.__delitem__("setup:medium"), "setup:medium"),
    "new attribute": (lambda h5: h5.attrs.__setitem__("user:x", 1), "user:x"),
    "attribute of data": (lambda h5: h5["events/image"].attrs.__setitem__("CLASS", "x"), "CLASS"),
    "statistics": (lambda h5: h5["events/deform"].attrs.__setitem__("other", 1), "other"),
    "type": (lambda h5: h5.attrs.__setitem__("imaging:roi position x", 629.0), "roi position x"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_differences_from_the_source_are_found(pair, name):
    change, words = CHANGES[name]
    with h5py.File(pair[0], "r+") as h5:
        change(h5)
    problems = verify(*pair)
    assert any(words in p for p in problems), problems


def test_what_the_history_lists_is_no_difference(pair):
    with h5py.File(pair[0], "r+") as h5:
        history = read_history(h5)
        del h5["events/mask"]
        h5.attrs["setup:medium"] = "x"
        history["dropped"].append({"what": "events/mask", "why": "a test"})
        history["edits"].append({"key": "setup:medium", "old": "CellCarrier", "new": "x", "kind": "test"})
        del h5[f"logs/{HISTORY_LOG}"]
        write_history(h5, history)
    assert verify(*pair) == []


@pytest.mark.parametrize("history", [{}, {"dropped": 1}, [], {"dropped": ["x"]}])
def test_a_foreign_history_is_not_believed_and_does_no_harm(pair, history):
    with h5py.File(pair[0], "r+") as h5:
        del h5[f"logs/{HISTORY_LOG}"]
        write_history(h5, history)
    assert verify(*pair) != []


def test_without_history_all_differences_count(pair):
    with h5py.File(pair[0], "r+") as h5:
        del h5[f"logs/{HISTORY_LOG}"]
    assert any("software version" in p for p in verify(*pair))


@pytest.mark.parametrize("name", ["text_file", "external_link", "empty_file"])
def test_files_that_cannot_be_opened(pair, tmp_path, name):
    path = recipes.RECIPES[name](tmp_path / "bad.rtdc")
    with pytest.raises(MeasurementError):
        verify(path)
    with pytest.raises(MeasurementError):
        verify(pair[0], path)
