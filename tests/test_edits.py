"""Edits of attributes: fill, replace, and what the data themselves decide."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import recipes
from dclab import RTDCWriter
from demo_data import write_measurement

from dcorflow.compress.edits import SOFTWARE, RootAttributes, apply_edits, data_facts
from dcorflow.metadata.edit import Edit

KEY = "setup:medium"


def edit(value, mode="fill", key=KEY):
    return Edit(key, value, mode, f"folder {mode}", "a/dcorflow.yaml")


@pytest.fixture
def h5(tmp_path):
    with recipes.edited(tmp_path / "a.rtdc") as h5:
        yield h5


def apply(h5, *edits):
    return {c["key"]: c for c in apply_edits(RootAttributes(h5), list(edits), "9.9", {})[0]}


class TestModes:
    @pytest.mark.parametrize(
        ("old", "mode", "expected"),
        [
            (None, "fill", "new"),
            ("", "fill", "new"),
            (np.bytes_(b""), "fill", "new"),
            ("old", "fill", "old"),
            (0, "fill", 0),
            (False, "fill", False),
            ("old", "replace", "new"),
            (None, "replace", "new"),
        ],
    )
    def test_fill_and_replace(self, h5, old, mode, expected):
        if old is None:
            del h5.attrs[KEY]
        else:
            h5.attrs[KEY] = old
        done = apply(h5, edit("new", mode))
        assert h5.attrs[KEY] == expected
        assert (KEY in done) == (expected == "new")

    def test_confirmed_as_the_sheet_shows_a_number_of_single_precision(self, h5):
        key = "imaging:pixel size"
        h5.attrs[key] = np.float32(0.34)
        for shown, left in ((0.35, {key: "usual"}), (0.34, {})):
            edits = [Edit(key, shown, "confirm", "sheet", "row 4")]
            done, guesses = apply_edits(RootAttributes(h5), edits, "9.9", {key: "usual"})
            assert guesses == left and key not in [c["key"] for c in done]
        assert h5.attrs[key] == np.float32(0.34)

    def test_changes_hold_old_and_new_and_their_origin(self, h5):
        assert apply(h5, edit("new", "replace"))[KEY] == {
            "key": KEY,
            "old": "CellCarrier",
            "new": "new",
            "kind": "folder replace",
            "where": "a/dcorflow.yaml",
        }

    def test_equal_values_are_no_change(self, h5):
        assert KEY not in apply(h5, edit("CellCarrier", "replace"))
        h5.attrs[KEY] = np.bytes_(b"CellCarrier")
        assert KEY not in apply(h5, edit("CellCarrier", "replace"))

    @pytest.mark.parametrize("value", ["Größe", 1, 1.5, True, [1.0, 2.0]])
    def test_types(self, h5, value):
        apply(h5, edit(value, "replace", "user:x"))
        assert np.array_equal(h5.attrs["user:x"], value)

    def test_twice_changes_nothing(self, h5):
        assert apply(h5, edit("new", "replace"))
        assert apply(h5, edit("new", "replace")) == {}


class TestSoftware:
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("ShapeIn 2.3", "ShapeIn 2.3 | dclab 9.9"),
            ("ShapeIn 2.3 | dclab 0.1", "ShapeIn 2.3 | dclab 0.1 | dclab 9.9"),
            ("ShapeIn 2.3 | dclab 9.9", "ShapeIn 2.3 | dclab 9.9"),
            ("", "dclab 9.9"),
            (None, "dclab 9.9"),
            (np.bytes_(b"ShapeIn 2.3"), "ShapeIn 2.3 | dclab 9.9"),
        ],
    )
    def test_chain(self, h5, before, after):
        if before is None:
            del h5.attrs[SOFTWARE]
        else:
            h5.attrs[SOFTWARE] = before
        apply(h5)
        value = h5.attrs[SOFTWARE]
        assert (value.decode() if isinstance(value, bytes) else value) == after


class TestData:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"metadata": {"imaging:roi size x": 80, "imaging:roi size y": 250}},
            {"metadata": {"experiment:event count": 99, "fluorescence:samples per event": 1}},
            {"metadata": {"fluorescence:channel count": None}},
            {
                "features": ("deform", "mask", "fl1_max", "fl3_max"),
                "metadata": {"fluorescence:channel count": None},
            },
            {"features": ("deform",)},
        ],
    )
    def test_as_dclab_does(self, tmp_path, options):
        paths = [write_measurement(tmp_path / name, 6, **options) for name in ("ours.rtdc", "theirs.rtdc")]
        with h5py.File(paths[0], "r+") as ours:
            apply(ours)
            mine = {k: v for k, v in ours.attrs.items() if k != SOFTWARE}
        with RTDCWriter(paths[1], mode="append") as writer:
            writer.rectify_metadata()
        with h5py.File(paths[1]) as theirs:
            assert mine == {k: v for k, v in theirs.attrs.items() if k != SOFTWARE}

    def test_data_win_over_edits(self, h5):
        done = apply(h5, edit(1234, "replace", "experiment:event count"))
        assert h5.attrs["experiment:event count"] == recipes.EVENTS
        assert done["experiment:event count"]["kind"] == "data"

    def test_swapped_region_of_interest(self, tmp_path):
        with h5py.File(recipes.swapped_roi_size(tmp_path / "b.rtdc"), "r+") as h5:
            done = apply(h5)
            assert (h5.attrs["imaging:roi size y"], h5.attrs["imaging:roi size x"]) == recipes.ROI
            assert done["imaging:roi size x"]["old"] == recipes.ROI[0]

    def test_events_are_not_counted_in_traces(self, tmp_path):
        features = ("trace", "volume")
        path = write_measurement(tmp_path / "a.rtdc", 7, features=features)
        with h5py.File(path, "r+") as h5:
            if "volume" not in h5["events"]:
                h5["events/volume"] = np.arange(7.0)
            assert data_facts(h5)["experiment:event count"] == 7

    def test_no_events_at_all(self, tmp_path):
        with h5py.File(tmp_path / "x.h5", "w") as h5:
            h5.create_group("events")
            assert data_facts(h5) == {}
