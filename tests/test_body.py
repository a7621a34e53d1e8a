"""The body: everything of the source is in it, or it says what is not. Compared with dclab's copy."""

from __future__ import annotations

import hashlib
import warnings

import h5py
import numpy as np
import pytest
import recipes
from dclab.cli import compress as dclab_compress
from dclab.rtdc_dataset.copier import is_properly_compressed
from demo_data import write_measurement
from runs import snapshot

from dcorflow.compress.body import BodySettings, write_body
from dcorflow.compress.single import compress_file
from dcorflow.compress.verify import verify
from dcorflow.errors import MeasurementError, UsageError
from dcorflow.hdf5 import HISTORY_LOG, members


def compressed(path, out=None, encoder="compat", strip_logs=False, threads=1):
    out = out or path.with_name(f"{path.stem}_out.rtdc")
    return out, compress_file(path, out, encoder, strip_logs, threads)


def body_of(path, **settings):
    out = path.with_name(f"{path.stem}_body.rtdc")
    return out, write_body(path, out, BodySettings(**settings))


def what(entries):
    return {e["what"] for e in entries}


class TestAgainstDclab:
    """What dclab's copy gets wrong."""

    def test_equal_input_and_output_leave_the_input(self, tmp_path):
        path = recipes.small_measurement(tmp_path / "a.rtdc")
        (tmp_path / "link.rtdc").symlink_to(path)
        (tmp_path / "hard.rtdc").hardlink_to(path)
        before = path.read_bytes()
        for out in ("a.rtdc", "link.rtdc", "hard.rtdc"):
            with pytest.raises(UsageError, match="same file"):
                compressed(path, tmp_path / out)
        assert path.read_bytes() == before

    @pytest.mark.parametrize(
        "name", ["text_file", "truncated", "corrupt_chunk", "external_link", "empty_file"]
    )
    def test_an_existing_output_survives_a_bad_input(self, tmp_path, name):
        out = tmp_path / "out.rtdc"
        out.write_text("precious")
        with pytest.raises(MeasurementError):
            compressed(recipes.RECIPES[name](tmp_path / "a.rtdc"), out)
        assert out.read_text() == "precious"
        assert not [p for p in tmp_path.iterdir() if p.name.startswith(".") or p.name.endswith("~")]

    @pytest.mark.parametrize("feature", ["deform", "image"])
    def test_a_corrupt_chunk_is_noticed(self, tmp_path, feature):
        with pytest.raises(MeasurementError, match=f"corrupt chunk .*{feature}.*Copy the file again"):
            compressed(recipes.corrupt_chunk(tmp_path / "a.rtdc", feature))

    @pytest.mark.parametrize("name", ["scalar_in_events", "scalar_in_logs"])
    def test_single_values_become_lists_of_one(self, tmp_path, name):
        out, record = compressed(recipes.RECIPES[name](tmp_path / "a.rtdc"))
        path = "events/userdef1" if name == "scalar_in_events" else "logs/comment"
        with h5py.File(out) as h5:
            assert h5[path].shape == (1,)
        assert path in what(record.body["changed"])

    def test_a_broken_soft_link_is_listed(self, tmp_path):
        out, record = compressed(recipes.broken_soft_link(tmp_path / "a.rtdc"))
        assert "events/userdef1" in what(record.body["dropped"])
        with h5py.File(out) as h5:
            assert "userdef1" not in h5["events"]

    def test_attributes_of_groups_stay(self, tmp_path):
        out, _ = compressed(recipes.group_attributes(tmp_path / "a.rtdc"))
        with h5py.File(out) as h5:
            assert h5["events"].attrs["origin"] == "camera 2"
            assert h5["logs"].attrs["language"] == "de"

    @pytest.mark.parametrize("encoder", ["compat", "best"])
    def test_empty_logs_stay_and_are_compressed(self, tmp_path, encoder):
        out, _ = compressed(recipes.empty_log(tmp_path / "a.rtdc"), encoder=encoder)
        with h5py.File(out) as h5:
            assert h5["logs/silence"].shape == (0,)
            assert is_properly_compressed(h5["logs/silence"])

    @pytest.mark.parametrize("name", ["external_link", "virtual_dataset", "external_storage"])
    def test_data_of_other_files_are_not_taken_along(self, tmp_path, name):
        with pytest.raises(MeasurementError, match="outside"):
            compressed(recipes.RECIPES[name](tmp_path / "a.rtdc"))


@pytest.mark.parametrize("name", sorted(recipes.RECIPES))
def test_every_odd_file_is_prepared_and_verified_or_explained(tmp_path, name):
    (tmp_path / "source").mkdir()
    path = recipes.RECIPES[name](tmp_path / "source" / "a.rtdc")
    before = snapshot(tmp_path / "source")
    out = tmp_path / "out.rtdc"
    try:
        compressed(path, out)
    except (MeasurementError, UsageError) as error:
        assert len(str(error)) > 20
        assert not list(tmp_path.glob("*.rtdc")) and not list(tmp_path.glob(".dcorflow*"))
    else:
        assert verify(out, path) == []
        with h5py.File(out) as h5:
            loose = [
                e.path for e in members(h5) if e.kind == "dataset" and not is_properly_compressed(h5[e.path])
            ]
        assert loose == []
    assert snapshot(tmp_path / "source") == before


@pytest.mark.parametrize("name", ["events", "logs", "tables"])
def test_a_dataset_where_a_group_belongs(tmp_path, name):
    path = tmp_path / "a.rtdc"
    with recipes.edited(path) as h5:
        if name in h5:
            del h5[name]
        h5[name] = np.arange(8.0)
    try:
        out, _ = compressed(path)
    except MeasurementError:
        return
    assert verify(out, path) == []


class TestLossless:
    @pytest.mark.parametrize("layout", ["raw", "gzip", "dclab", "contiguous"])
    def test_layouts(self, tmp_path, layout):
        path = write_measurement(tmp_path / "a.rtdc", 12, layout=layout)
        out, record = compressed(path)
        assert verify(out, path) == []
        assert out.stat().st_size < path.stat().st_size or layout == "dclab"
        assert record.facts["events"] == 12

    def test_the_bytes_depend_on_source_and_settings_only(self, tmp_path):
        path = write_measurement(tmp_path / "a.rtdc", 12)
        sums = set()
        for n, threads in enumerate((1, 2, 4)):
            folder = tmp_path / str(n)
            folder.mkdir()
            copy = folder / "other name.rtdc"
            copy.write_bytes(path.read_bytes())
            out, _ = compressed(copy, folder / "b.rtdc", threads=threads)
            sums.add(hashlib.sha256(out.read_bytes()).hexdigest())
        assert len(sums) == 1

    def test_a_dataset_with_a_dimension_scale_keeps_its_data(self, tmp_path):
        path = tmp_path / "a.rtdc"
        with recipes.edited(path) as h5:
            h5["events/frame"].make_scale("frame")
            h5["events/deform"].dims[0].attach_scale(h5["events/frame"])
            values = h5["events/deform"][:]
        out, _ = compressed(path)
        with h5py.File(out) as h5:
            assert np.array_equal(h5["events/deform"][:], values)

    def test_history_of_an_earlier_run_is_replaced(self, tmp_path):
        once, _ = compressed(recipes.small_measurement(tmp_path / "a.rtdc"))
        twice, record = compressed(once, tmp_path / "twice.rtdc")
        assert f"logs/{HISTORY_LOG}" in what(record.body["dropped"])
        assert verify(twice, once) == []


class TestLogs:
    LOGS = {"dckit-history": ["{}"], "private": ["x"], "private-2": ["y"]}  # noqa: RUF012

    def kept(self, tmp_path, rule):
        path = recipes.small_measurement(tmp_path / "a.rtdc", logs=self.LOGS)
        out, body = body_of(path, logs=rule)
        with h5py.File(out) as h5:
            left = set(h5["logs"])
        with h5py.File(path) as h5:
            assert what(body.dropped) & {f"logs/{n}" for n in h5["logs"]} == {
                f"logs/{n}" for n in h5["logs"] if n not in left
            }
        return left & set(self.LOGS)

    @pytest.mark.parametrize(
        ("rule", "left"),
        [
            ("keep", {"dckit-history", "private", "private-2"}),
            ("strip", set()),
            ({"drop": ["private*"]}, {"dckit-history"}),
            ({"keep": ["private*"]}, {"private", "private-2"}),
            ({"keep": ["private*"], "drop": ["*-2"]}, {"private"}),
            ({}, {"dckit-history", "private", "private-2"}),
            ({"keep": []}, set()),
        ],
    )
    def test_rules(self, tmp_path, rule, left):
        assert self.kept(tmp_path, rule) == left

    @pytest.mark.parametrize("name", ["non_ascii_log", "long_log_line"])
    def test_lines_survive(self, tmp_path, name):
        path = recipes.RECIPES[name](tmp_path / "a.rtdc")
        out, _ = body_of(path)
        with h5py.File(path) as one, h5py.File(out) as two:
            for log in one["logs"]:
                assert [line.rstrip(b"\0") for line in two["logs"][log][:]] == list(one["logs"][log][:])


def dclab_copy(path, out):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dclab_compress(path_in=path, path_out=out)
    return out


def compare_with_dclab(path, tmp_path):
    """Compare features, values and attributes of our copy and dclab's."""
    ours, _ = compressed(path, tmp_path / "ours.rtdc")
    theirs = dclab_copy(path, tmp_path / "theirs.rtdc")
    with h5py.File(ours) as one, h5py.File(theirs) as two:
        assert set(one["events"]) == set(two["events"])
        assert set(one.get("basin_events", [])) == set(two.get("basin_events", []))
        assert set(one.get("tables", [])) >= set(two.get("tables", []))  # dclab drops empty ones
        paths = [e.path for e in members(two) if e.kind == "dataset" and e.path.startswith("events/")]
        paths += [e.path for e in members(two) if e.kind == "dataset" and e.path.startswith("tables/")]
        for name in paths:
            assert one[name].dtype == two[name].dtype, name
            assert np.array_equal(one[name][:], two[name][:], equal_nan=one[name].dtype.kind == "f"), name
            for key in two[name].attrs:
                mine, other = one[name].attrs[key], two[name].attrs[key]
                assert np.array_equal(mine, other) or (mine != mine and other != other), (name, key)
        brand = "setup:software version"
        assert one.attrs[brand] == two.attrs[brand]
        for key in two.attrs:
            assert np.array_equal(one.attrs[key], two.attrs[key]), key
        assert all(is_properly_compressed(one[e.path]) for e in members(one) if e.kind == "dataset")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"layout": "gzip"},
        {"layout": "dclab"},
        {"sample": "beads", "fluorescence": False},
        {"metadata": {"setup:software version": "dclab 0.3.3"}},
        {"metadata": {"setup:software version": "ShapeIn 2.0.1 | dclab 0.47.0"}},
        {"metadata": {"setup:software version": None}},
    ],
)
def test_equal_to_dclab_on_demo_files(tmp_path, options):
    compare_with_dclab(write_measurement(tmp_path / "a.rtdc", 10, **options), tmp_path)


@pytest.mark.parametrize(
    "name", ["internal_basin", "soft_link", "unknown_feature", "swapped_roi_size", "tables"]
)
def test_equal_to_dclab_on_odd_files(tmp_path, name):
    compare_with_dclab(recipes.RECIPES[name](tmp_path / "a.rtdc"), tmp_path)


def test_equal_to_dclab_on_real_files(tmp_path, real_data):
    paths = sorted(real_data.glob("*/*.rtdc"))
    assert paths
    for number, path in enumerate(paths):
        (tmp_path / str(number)).mkdir()
        compare_with_dclab(path, tmp_path / str(number))


def test_internal_basins_lose_what_was_dropped(tmp_path):
    path = recipes.internal_basin(tmp_path / "a.rtdc")
    with h5py.File(path, "r+") as h5:
        h5["basin_events/glow_worm"] = np.arange(2.0)
        (name,) = h5["basins"]
        lines = [line.decode() for line in h5["basins"][name][:]]
        del h5["basins"][name]
        text = " ".join(lines).replace('"userdef1"', '"userdef1", "glow_worm"')
        h5["basins"].create_dataset(name, data=np.array(text.split("\n"), "S500"))
    out, body = body_of(path)
    with h5py.File(out) as h5:
        text = b" ".join(h5["basins"][name][:])
        assert set(h5["basin_events"]) == {"userdef1"}
    assert b"userdef1" in text
    assert b"glow_worm" not in text
    assert f"basins/{name}" in what(body.changed)
