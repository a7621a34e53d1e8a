"""Conversion of .tdms measurements, compared with dclab's own converter."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import warnings

import h5py
import numpy as np
import pytest
from dclab.cli import tdms2rtdc
from demo_tdms import write_tdms
from runs import snapshot

from dcorflow.compress.single import compress_file
from dcorflow.convert import convert
from dcorflow.errors import MeasurementError

#: Metadata that dclab's converter draws from a clock or at random.
RANDOM = {"experiment:run identifier", "setup:software version"}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    path = write_tdms(tmp_path_factory.mktemp("tdms"), "M1_data", events=6, seed=3)
    for part in path.parent.iterdir():
        os.utime(part, (1_500_000_000, 1_500_000_000))
    return path


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def compare_with_dclab(path, folder):
    ours, theirs = folder / "ours.rtdc", folder / "theirs.rtdc"
    convert(path, ours)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tdms2rtdc(path_tdms=path, path_rtdc=theirs)
    with h5py.File(ours) as one, h5py.File(theirs) as two:
        assert set(one["events"]) == set(two["events"]) - {"contour"}
        for name in one["events"]:
            pairs = [(one["events"][name], two["events"][name])]
            if isinstance(pairs[0][0], h5py.Group):
                assert set(pairs[0][0]) == set(pairs[0][1])
                pairs = [(pairs[0][0][k], pairs[0][1][k]) for k in pairs[0][0]]
            for mine, other in pairs:
                assert mine.dtype == other.dtype
                assert np.array_equal(mine[:], other[:], equal_nan=mine.dtype.kind == "f"), mine.name
        assert set(one.attrs) | RANDOM == set(two.attrs) | RANDOM
        for key in set(two.attrs) - RANDOM:
            assert np.array_equal(one.attrs[key], two.attrs[key]), key
        for name in one["logs"]:
            if name != "dclab-tdms2rtdc-warnings":
                mine, other = ([line.rstrip(b"\0") for line in h["logs"][name][:]] for h in (one, two))
                assert mine == other, name
        missing = set(two["logs"]) - set(one["logs"])
        assert all(name.startswith(("dclab-tdms2rtdc", "dclab-export_")) for name in missing)


def test_demo_measurement_as_dclab_does(demo, tmp_path):
    compare_with_dclab(demo, tmp_path)


@pytest.mark.parametrize(
    "folder", ["fmt-tdms_2fl-no-image_2017", "fmt-tdms_fl-image_2016", "fmt-tdms_minimal_2016"]
)
def test_real_measurements_as_dclab_does(real_data, tmp_path, folder, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")  # dclab guesses a missing date in local time
    time.tzset()
    (path,) = [p for p in (real_data / folder).glob("*.tdms") if "traces" not in p.name]
    compare_with_dclab(path, tmp_path)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", "America/Los_Angeles", "XYZ-13:37"])
def test_the_same_bytes_in_every_time_zone_folder_and_year(demo, tmp_path, monkeypatch, zone):
    compress_file(demo, tmp_path / "first.rtdc", "compat", False, 1)
    folder = tmp_path / "other folder"
    shutil.copytree(demo.parent, folder)
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    before = time.tzname
    compress_file(folder / demo.name, tmp_path / "second.rtdc", "compat", False, 1)
    assert time.tzname == before
    assert os.environ["TZ"] == zone
    assert sha256(tmp_path / "first.rtdc") == sha256(tmp_path / "second.rtdc")


def test_without_a_time_zone_there_is_none_afterwards(demo, tmp_path, monkeypatch):
    monkeypatch.delenv("TZ", raising=False)
    convert(demo, tmp_path / "a.rtdc")
    assert "TZ" not in os.environ


def test_nothing_of_the_machine_is_in_it(demo, tmp_path):
    out = tmp_path / "a.rtdc"
    compress_file(demo, out, "compat", False, 1)
    for secret in (str(demo.parent), str(tmp_path), time.strftime("%Y-%m-%d"), "dclab-export"):
        assert secret.encode() not in out.read_bytes(), secret
    with h5py.File(out) as h5:
        text = b"\n".join(line for log in h5["logs"].values() for line in log[:]).decode()
    for secret in (str(demo.parent), str(tmp_path), time.strftime("%Y-%m-%d"), "dclab-export"):
        assert secret not in text, secret


def test_the_source_is_not_touched(demo, tmp_path):
    before = snapshot(demo.parent)
    convert(demo, tmp_path / "a.rtdc")
    assert snapshot(demo.parent) == before


def test_what_was_computed_is_said(demo, tmp_path):
    changes, _ = convert(demo, tmp_path / "a.rtdc")
    assert {"events", "events/mask"} <= {c["what"] for c in changes}


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.1, 0.5, 0.95])
def test_truncated_measurements_are_explained(demo, tmp_path, fraction):
    folder = tmp_path / "cut"
    shutil.copytree(demo.parent, folder)
    path = folder / demo.name
    os.truncate(path, int(path.stat().st_size * fraction))
    with pytest.raises(MeasurementError) as caught:
        convert(path, tmp_path / "a.rtdc")
    assert str(folder) not in caught.value.reason
    assert caught.value.failure == "content"


def test_missing_side_files_are_explained(demo, tmp_path):
    folder = tmp_path / "incomplete"
    shutil.copytree(demo.parent, folder)
    (folder / "M1_para.ini").unlink()
    with pytest.raises(MeasurementError, match="side files"):
        convert(folder / demo.name, tmp_path / "a.rtdc")


def test_a_missing_file_is_of_the_environment(tmp_path):
    with pytest.raises(MeasurementError):
        convert(tmp_path / "M1_data.tdms", tmp_path / "a.rtdc")


def test_failure_leaves_nothing_behind(demo, tmp_path):
    folder = tmp_path / "cut"
    shutil.copytree(demo.parent, folder)
    os.truncate(folder / demo.name, 100)
    out = tmp_path / "out" / "a.rtdc"
    with pytest.raises(MeasurementError):
        compress_file(folder / demo.name, out, "compat", False, 1)
    assert list(out.parent.iterdir()) == []
