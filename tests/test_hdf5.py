"""Files that are not trusted: links, expansion, writers still at work, exact attributes."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import recipes

from dcorflow import engine
from dcorflow.errors import MeasurementError
from dcorflow.hdf5 import (
    is_open_for_writing,
    members,
    open_source,
    refuse_outside_data,
    text_of,
)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (recipes.empty_file, "0 bytes"),
        (recipes.text_file, "not an HDF5 file"),
        (recipes.png_file, "not an HDF5 file"),
        (recipes.truncated, "truncated"),
    ],
)
def test_unreadable_files_are_explained(tmp_path, recipe, words):
    with pytest.raises(MeasurementError, match=words) as caught:
        open_source(recipe(tmp_path / "a.rtdc"))
    assert caught.value.failure == "content"


def test_a_missing_file_is_a_problem_of_the_environment(tmp_path):
    with pytest.raises(MeasurementError, match="vanished") as caught:
        open_source(tmp_path / "missing.rtdc")
    assert caught.value.failure == "environment"


def test_a_userblock_is_no_damage(tmp_path):
    path = recipes.userblock(tmp_path / "a.rtdc")
    with open_source(path) as h5:
        assert "events" in h5
    assert not is_open_for_writing(path)


@pytest.mark.parametrize("recipe", [recipes.left_open, recipes.left_open_swmr])
def test_files_open_for_writing(tmp_path, recipe):
    assert is_open_for_writing(recipe(tmp_path / "a.rtdc"))


@pytest.mark.parametrize("recipe", [recipes.text_file, recipes.empty_file, recipes.small_measurement])
def test_files_not_open_for_writing(tmp_path, recipe):
    assert not is_open_for_writing(recipe(tmp_path / "a.rtdc"))


@pytest.mark.parametrize("recipe", [recipes.external_link, recipes.virtual_dataset, recipes.external_storage])
def test_data_of_other_files_are_refused(tmp_path, recipe):
    path = recipe(tmp_path / "a.rtdc")
    with open_source(path) as h5, pytest.raises(MeasurementError, match=r"events/userdef1"):
        refuse_outside_data(h5, path.stat().st_size)


def test_a_soft_link_through_an_external_link_is_refused(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as h5:
        h5["group/secret"] = [1]
    path = tmp_path / "a.rtdc"
    with h5py.File(path, "w") as h5:
        h5["events/deform"] = [1.0]
        h5["zzz"] = h5py.ExternalLink("other.h5", "/group")
        h5["events/area_um"] = h5py.SoftLink("/zzz/secret")
    with open_source(path) as h5, pytest.raises(MeasurementError, match="outside"):
        refuse_outside_data(h5, path.stat().st_size)


def test_a_decompression_bomb_is_refused(tmp_path):
    path = tmp_path / "a.rtdc"
    with h5py.File(path, "w") as h5:
        h5.create_dataset("events/image", (10**7, 100, 100), "u1", chunks=(1000, 100, 100))
    with open_source(path) as h5, pytest.raises(MeasurementError, match="not credible"):
        refuse_outside_data(h5, path.stat().st_size)


def test_members_are_sorted_and_kinds_known(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5["z"] = 1
        h5["b/one"] = 1
        h5["b/self"] = h5["b"]
        h5["b/root"] = h5py.SoftLink("/")
        h5["a"] = h5py.SoftLink("/b/one")
        h5["broken"] = h5py.SoftLink("/nothing")
        h5["circle"] = h5py.SoftLink("/circle")
        h5["type"] = np.dtype("i4")
        h5["link"] = h5py.SoftLink("/b")
        found = [(e.path, e.kind, e.soft) for e in members(h5)]
    assert ("a", "dataset", True) in found
    assert ("b", "group", False) in found
    assert ("b/one", "dataset", False) in found
    assert ("b/self", "cycle", False) in found
    assert ("broken", "broken", True) in found
    assert ("circle", "broken", True) in found
    assert ("type", "datatype", False) in found
    assert ("link/one", "dataset", False) in found
    assert ("z", "dataset", False) in found
    tops = [path for path, _, _ in found if "/" not in path]
    assert tops == sorted(tops)


def test_members_end_where_groups_refer_to_each_other(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5["a/x"] = 1
        h5["b/x"] = 1
        h5["a/b"] = h5["b"]
        h5["b/a"] = h5["a"]
        paths = [e.path for e in members(h5)]
    assert "a/b/x" in paths
    assert len(paths) < 20


def test_attributes_keep_their_types(tmp_path):
    values = {
        "text": "Größe",
        "bytes": np.bytes_(b"IMAGE"),
        "ascii": np.array("x", h5py.string_dtype("ascii", 7)),
        "big": np.array([1.5, np.nan], ">f4"),
        "flag": np.bool_(True),
        "none": h5py.Empty("f4"),
        "texts": np.array(["a", "bb"], h5py.string_dtype()),
        "number": np.int16(-3),
    }
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        source, target = h5.create_group("source"), h5.create_group("target")
        source.attrs.update(values)
        source.attrs["reference"] = h5["source"].ref
        assert engine.copy_attributes(source, target) == ["reference"]
        assert sorted(target.attrs) == sorted(values)
        for name in values:
            kinds = [h5py.h5a.open(g.id, name.encode()).get_type() for g in (source, target)]
            assert kinds[0].equal(kinds[1]), name
            one, two = source.attrs[name], target.attrs[name]
            assert isinstance(two, h5py.Empty) or np.array_equal(
                np.asarray(one), np.asarray(two), equal_nan=np.asarray(one).dtype.kind == "f"
            )


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), (b"\xc3\xa4", "ä"), (b"\xe4", "\ufffd"), (np.array([b"x"]), "x"), (np.float64(1.5), "1.5")],
)
def test_text_of_attributes(value, text):
    assert text_of(value) == text
