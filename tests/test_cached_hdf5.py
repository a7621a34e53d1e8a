"""Files that remember: what they answer is what h5py answers."""

from __future__ import annotations

import types

import h5py
import numpy as np
import pytest

from dcorflow.cached_hdf5 import CachedFile, cached_reading


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["data"] = [1, 2]
    with h5py.File(path, "w") as h5:
        h5.attrs["name"] = "A"
        for number, dtype in enumerate(["<i8", ">i4", "u1", "<f4", ">f8", "f2", "?", "c16"]):
            h5.attrs[f"number {number}"] = np.array(number + 0.5).astype(dtype)
        h5.attrs.create("no utf-8", b"\xfc", dtype=h5py.string_dtype())
        h5.attrs.create("ascii", "text", dtype=h5py.string_dtype("ascii"))
        h5.attrs.create("fixed", b"text", dtype="S9")
        h5.attrs["empty"] = ""
        h5.attrs["texts"] = ["a", "µ"]
        never_written = h5py.h5t.py_create(h5py.string_dtype(), logical=True)
        h5py.h5a.create(h5.id, b"never written", never_written, h5py.h5s.create(h5py.h5s.SCALAR))
        h5.attrs["numbers"] = np.array([1, 2], ">u2")
        h5.attrs["no number"] = h5py.Empty("f8")
        h5["events/deform"] = np.linspace(0, 1, 5)
        h5["events/image"] = np.zeros((5, 2, 3), np.uint8)
        h5["events/deform"].attrs["min"] = 0.0
        h5["logs/text"] = ["first", "second"]
        h5["away"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "data")
    return path


def test_the_same_answers(path):
    with h5py.File(path, "r") as plain, CachedFile(path, "r") as cached:
        for _ in range(2):
            ours, theirs = dict(cached.attrs), dict(plain.attrs)
            assert {k: (type(v), str(v)) for k, v in ours.items()} == {
                k: (type(v), str(v)) for k, v in theirs.items()
            }
            assert all(v.dtype == theirs[k].dtype for k, v in ours.items() if k.startswith("number"))
            assert cached.attrs.get("nothing") is None and "name" in cached.attrs
            assert list(cached["events"]) == list(plain["events"])
            for name in ("events/deform", "events/image", "logs/text"):
                ours, theirs = cached[name], plain[name]
                assert isinstance(ours, h5py.Dataset) and ours.shape == theirs.shape
                assert ours.dtype == theirs.dtype and ours.name == theirs.name
                assert dict(ours.attrs) == dict(theirs.attrs)
                assert np.array_equal(ours[()], theirs[()]) and np.array_equal(ours[1:3], theirs[1:3])
                assert np.array_equal(ours[-1], theirs[-1]) and type(ours[1]) is type(theirs[1])
                with pytest.raises(IndexError):
                    ours[9]
            assert cached["events"]["deform"].file == cached.file
            assert cached["away"].file != cached.file
            with pytest.raises(KeyError):
                cached["nothing"]


def test_each_object_is_opened_once(path):
    with CachedFile(path, "r") as cached:
        assert cached["events"]["deform"] is cached["events"]["deform"]
        assert cached["events"].attrs is cached["events"].attrs


def test_closing_ends_it(path):
    with CachedFile(path, "r") as cached:
        events = cached["events"]
    assert not cached and not events
    with h5py.File(path, "r+") as h5:
        h5.attrs["name"] = "B"
    with CachedFile(path, "r") as cached:
        assert cached.attrs["name"] == "B"


def test_modules_get_their_h5py_back(path):
    using, other = types.ModuleType("using"), types.ModuleType("other")
    using.h5py = h5py
    with pytest.raises(RuntimeError), cached_reading(using, other):
        assert using.h5py.File is CachedFile and using.h5py.Dataset is h5py.Dataset
        raise RuntimeError
    assert using.h5py is h5py and not hasattr(other, "h5py")
