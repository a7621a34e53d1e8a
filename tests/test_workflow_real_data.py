"""Real measurements of several instruments and software versions, prepared by the workflow."""

from __future__ import annotations

import json
from pathlib import Path

import dclab
import pytest
from dclab import cli
from dclab.rtdc_dataset.check import IntegrityChecker
from runs import Comparison, Run, snapshot

pytestmark = pytest.mark.filterwarnings("ignore")

#: Status and events of every measurement; the .tdms files were cut, so most of their events lack images.
EXPECTED = {
    "calibration-beads_uncompressed/calibration_beads_47_nocomp.rtdc": ("ready", 47),
    "fmt-hdf5_fl_2017/artificial_hdf5.rtdc": ("excluded", 5),
    "fmt-hdf5_fl_2018/calibration_beads.rtdc": ("ready", 7),
    "fmt-hdf5_image-bg_2020/2020-10_image_bg.rtdc": ("ready", 5),
    "fmt-hdf5_image-mask-blood_2021/blood_rbc_leukocytes.rtdc": ("ready", 18),
    "fmt-hdf5_mask-contour_2018/mask_contour_reference.rtdc": ("ready", 8),
    "fmt-hdf5_polygon_gate_2021/Mtest_polygates_data.rtdc": ("ready", 1),
    "fmt-hdf5_wide-channel_2023/wide_channel_issue_224.rtdc": ("ready", 16),
    "fmt-tdms_2fl-no-image_2017/M1_data.tdms": ("ready", 137),
    "fmt-tdms_fl-image_2016/M1_20160905_greenBeads.tdms": ("excluded", 2),  # values were guessed
    "fmt-tdms_minimal_2016/M1_2us_70A_0.120000ul_s.tdms": ("excluded", 13),
}
RTDC = [name for name in EXPECTED if name.endswith(".rtdc")]
TDMS = [name for name in EXPECTED if name.endswith(".tdms")]
#: What the history log of a small file may add, in bytes.
HISTORY = 8192


class Real:
    """The run on the real measurements, and their folder as it was before."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.source = source
        self.before = snapshot(source)
        self.run = Run(folder / "work", source, **{"input.min_age": 0})
        self.run.good()
        self.rows = self.run.rows()


@pytest.fixture(scope="module")
def real(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Real:
    return Real(real_data, tmp_path_factory.mktemp("real"))


def test_every_measurement_is_found(real: Real) -> None:
    assert {s: (r["status"], int(r["events"])) for s, r in real.rows.items()} == EXPECTED
    assert "feature-unknown:ncells" in real.rows["fmt-hdf5_fl_2017/artificial_hdf5.rtdc"]["reason"]
    assert "42 events" in real.rows["fmt-tdms_fl-image_2016/M1_20160905_greenBeads.tdms"]["reason"]
    assert "155 events" in real.rows["fmt-tdms_minimal_2016/M1_2us_70A_0.120000ul_s.tdms"]["reason"]


@pytest.mark.parametrize("name", RTDC)
def test_prepared_file_is_identical(real: Real, name: str) -> None:
    prepared = real.run.prepared(name)
    verified = real.run.dcorflow("verify", prepared, real.source / name)
    assert verified.code == 0, verified.text
    with dclab.new_dataset(prepared) as ours, dclab.new_dataset(real.source / name) as theirs:
        assert len(ours) == len(theirs) == int(real.rows[name]["events"])


@pytest.mark.parametrize("name", RTDC)
def test_prepared_file_is_not_larger_than_dclab_makes_it(real: Real, name: str, tmp_path: Path) -> None:
    cli.compress(path_in=real.source / name, path_out=tmp_path / "dclab.rtdc")
    assert real.run.prepared(name).stat().st_size <= (tmp_path / "dclab.rtdc").stat().st_size + HISTORY


@pytest.mark.parametrize("name", TDMS)
def test_converted_file_opens(real: Real, name: str) -> None:
    prepared = real.run.prepared(name)
    verified = real.run.dcorflow("verify", prepared)
    assert verified.code == 0, verified.text
    with dclab.new_dataset(prepared) as ours, dclab.new_dataset(real.source / name) as theirs:
        assert len(ours) == int(real.rows[name]["events"])
        first = list(theirs["frame"][:2]).index(ours["frame"][0])  # one without image is left out
        assert list(ours["deform"][:]) == list(theirs["deform"][first : first + len(ours)])
    with IntegrityChecker(prepared) as checker:
        assert checker.sanity_check() == []


def test_source_is_left_alone(real: Real) -> None:
    assert snapshot(real.source) == real.before


def test_side_files_are_no_companions(real: Real) -> None:
    real.run.configure({"datasets.companions": ["*"], "check.on_guessed": "accept"}).good()
    assert {real.run.row(name)["status"] for name in TDMS} == {"ready"}
    for name in TDMS:
        assert real.run.resources(name) == [real.run.prepared(name).name]
    real.run.configure({"datasets.companions": [], "check.on_guessed": "block"}).good()
    assert real.run.rows() == real.rows


def test_values_that_nobody_wrote_down_are_guesses(real: Real) -> None:
    guessed = {n: set(json.loads(real.run.record(n).read_text("utf-8"))["guessed"]) for n in TDMS}
    assert guessed == {
        "fmt-tdms_2fl-no-image_2017/M1_data.tdms": set(),
        "fmt-tdms_fl-image_2016/M1_20160905_greenBeads.tdms": {
            "experiment:date", "experiment:sample", "experiment:time", "imaging:flash duration",
        },
        "fmt-tdms_minimal_2016/M1_2us_70A_0.120000ul_s.tdms": {
            "experiment:date", "experiment:sample", "experiment:time",
        },
    }  # fmt: skip
    assert "experiment:date 2016-09-05" in real.rows[TDMS[1]]["reason"], "the path knows the day"


def test_second_run_does_nothing(real: Real) -> None:
    real.run.good()
    with Comparison(real.run) as step:
        result = real.run.good()
    assert step.files == set()
    assert not result.jobs - {"discover"}


def test_ignored_finding_lets_the_measurement_in(real: Real) -> None:
    name = "fmt-hdf5_fl_2017/artificial_hdf5.rtdc"
    with Comparison(real.run) as step:
        result = real.run.configure({"check.ignore": ["feature-unknown:ncells"]}).good()
    assert real.run.row(name)["status"] == "ready"
    assert step.measurements == set()
    assert result.jobs == {"task/g00001"}
    history = json.loads(real.run.record(name).read_text("utf-8"))["body"]["dropped"]
    assert "events/ncells" in {d["what"] for d in history}
