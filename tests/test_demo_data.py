"""Demo data and bad files are what they claim to be, in dclab's eyes and in HDF5's."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import dclab
import demo_data
import h5py
import numpy as np
import pytest
import recipes
from dclab import cli
from dclab.rtdc_dataset.check import IntegrityChecker
from dclab.rtdc_dataset.copier import is_properly_compressed
from demo_cells import PIXEL_SIZE, SAMPLES, simulate
from recipes import EVENTS, RECIPES, ROI

pytestmark = pytest.mark.filterwarnings("ignore")


def cues(path: Path) -> list[tuple[str, str]]:
    """Return level and message of all violations and alerts."""
    with IntegrityChecker(path) as checker:
        return [(cue.level, cue.msg) for cue in checker.check() if cue.level != "info"]


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo_data.write_tree(tmp_path_factory.mktemp("demo") / "tree", scale=0.1, seed=5)


@pytest.mark.parametrize("sample", SAMPLES)
def test_cells_are_in_the_range_of_the_method(sample: str) -> None:
    events = simulate(300, 1, sample=sample)
    area, deform = events.scalars["area_um"], events.scalars["deform"]
    assert area.min() * 1.05 >= 20
    assert area.max() <= 200 * 1.05
    assert deform.min() >= 0.005
    assert deform.max() <= 0.2
    assert np.corrcoef(area, deform)[0, 1] > 0.1
    assert all(np.isfinite(values).all() for values in events.scalars.values())
    assert min(events.scalars[f"fl{channel}_max"].min() for channel in (1, 2, 3)) > 0.1
    assert np.all(np.diff(events.scalars["frame"]) > 0)


def test_features_agree_with_masks_and_images() -> None:
    events = simulate(30, 2)
    for index in range(30):
        inside = events.mask[index] > 0
        y, x = np.nonzero(inside)
        expected = {
            "area_um": len(x) * PIXEL_SIZE**2,
            "pos_x": x.mean() * PIXEL_SIZE,
            "pos_y": y.mean() * PIXEL_SIZE,
            "size_x": (np.ptp(x) + 1) * PIXEL_SIZE,
            "size_y": (np.ptp(y) + 1) * PIXEL_SIZE,
            "inert_ratio_cvx": x.std() / y.std(),
            "bright_avg": events.image[index][inside].mean(),
            "bright_sd": events.image[index][inside].std(),
        }
        measured = {name: events.scalars[name][index] for name in expected}
        assert measured == pytest.approx(expected, rel=1e-4)
        # a cell is darker than the channel behind it, which is the same elsewhere
        background = events.image_bg[index].astype(int)
        difference = events.image[index] - background
        assert difference[inside].mean() < -15
        assert abs(difference[:, :5].mean()) < 1


@pytest.mark.parametrize("layout", demo_data.LAYOUTS)
@pytest.mark.parametrize("fluorescence", [True, False])
def test_measurement_has_no_cue(tmp_path: Path, layout: str, fluorescence: bool) -> None:
    path = tmp_path / "M1_data.rtdc"
    demo_data.write_measurement(path, 12, 3, layout, fluorescence=fluorescence)
    assert cues(path) == []
    with dclab.new_dataset(path) as dataset:
        assert len(dataset) == 12
        assert dataset["image"].shape == (12, 80, 250)
        assert ("trace" in dataset) is fluorescence
        assert len(dataset.tables["cytoshot_monitor"]["time"]) >= 5


def test_layout_of_the_acquisition_software(tmp_path: Path) -> None:
    path = demo_data.write_measurement(tmp_path / "M1_data.rtdc", 12)
    with h5py.File(path) as h5:
        events = h5["events"]
        assert events["image"].chunks == (10, 80, 250)
        assert events["image"].compression is None
        assert events["mask"].compression == "gzip"
        assert events["deform"].chunks == (1000,)
        assert events["deform"].dtype == np.float32
        assert events["trace/fl1_raw"].dtype == np.int16
        log = h5["logs/shapein-acquisition"]
        assert h5py.check_string_dtype(log.dtype).length is None
        assert sum("C:\\Users\\jdoe\\" in line for line in log.asstr()) == 1
        assert len(h5["logs/shapein-warning"]) == 0


def test_layout_of_dclab_is_properly_compressed(tmp_path: Path) -> None:
    path = demo_data.write_measurement(tmp_path / "M1_data.rtdc", 12, layout="dclab")
    found: list[h5py.Dataset] = []
    with h5py.File(path) as h5:
        assert "time" not in h5["events"]
        h5.visititems(lambda _, item: found.append(item) if hasattr(item, "shape") else None)
        assert len(found) > 40
        assert all(is_properly_compressed(dataset) for dataset in found)


def test_measurement_takes_metadata_logs_and_features(tmp_path: Path) -> None:
    path = demo_data.write_measurement(
        tmp_path / "new" / "x.rtdc",
        5,
        features=("deform", "image"),
        metadata={"setup:medium": "water", "experiment:sample": None},
        logs={"note": ["Grüße"]},
        table=False,
    )
    with h5py.File(path) as h5:
        assert set(h5["events"]) == {"deform", "image"}
        assert h5.attrs["setup:medium"] == "water"
        assert "experiment:sample" not in h5.attrs
        assert list(h5["logs/note"].asstr()) == ["Grüße"]
        assert "tables" not in h5


def test_measurement_depends_on_the_seed_only(tmp_path: Path) -> None:
    for layout in demo_data.LAYOUTS:
        one = demo_data.write_measurement(tmp_path / "1.rtdc", 12, 1, layout).read_bytes()
        same = demo_data.write_measurement(tmp_path / "2.rtdc", 12, 1, layout).read_bytes()
        other = demo_data.write_measurement(tmp_path / "3.rtdc", 12, 2, layout).read_bytes()
        assert one == same
        assert one != other


def test_tree_is_reproducible(tree: Path, tmp_path: Path) -> None:
    assert digests(demo_data.write_tree(tmp_path, scale=0.1, seed=5)) == digests(tree)
    assert {path.stat().st_mtime for path in tree.rglob("*")} == {demo_data.TREE_TIME}
    assert time.time() > demo_data.TREE_TIME


def test_tree_of_another_seed_has_other_cells(tree: Path, tmp_path: Path) -> None:
    other = digests(demo_data.write_tree(tmp_path, scale=0.1, seed=6))
    assert other.keys() == digests(tree).keys()
    name = "2024-03-12_Blood_Müller lab/M1_data.rtdc"
    assert other[name] != digests(tree)[name]


def test_tree_keeps_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("keep me")
    with pytest.raises(FileExistsError, match="new or empty"):
        demo_data.write_tree(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_tree_holds_every_case(tree: Path) -> None:
    blood, drug = tree / "2024-03-12_Blood_Müller lab", tree / "2024-03-14_HL60_LatrunculinA"
    beads = tree / "2023-11-07_Beads calibration"
    assert set(tree.iterdir()) == {blood, drug, beads}
    good = set(tree.rglob("*.rtdc"))
    bad = {drug / "HL60_LatA_1uM.rtdc", beads / "beads_03.rtdc"}
    incomplete = drug / "HL60_LatA_100nM.rtdc"
    assert len(good) == 12
    for path in bad:
        with pytest.raises(OSError):
            h5py.File(path)
    for path in good - bad - {incomplete}:
        assert cues(path) == [], path
    assert [message for _, message in cues(incomplete)] == [
        "Metadata: Missing key [experiment] 'sample'",
        "Metadata: Missing key [setup] 'medium'",
    ]
    copies = digests(blood)
    assert copies["M2_data.rtdc"] == copies["Kopie von M2_data.rtdc"] != copies["M1_data.rtdc"]
    with h5py.File(blood / "M10_data.rtdc") as h5:
        assert h5["events/image"].compression == "gzip"
    with h5py.File(blood / "M2_data.rtdc") as h5:
        history = json.loads("\n".join(h5["logs/dckit-history"].asstr()))
        assert history == {"setup": {"medium": "CellCarrier"}}
    assert (drug / "example cell.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert (beads / "M1_para.ini").is_file()


def test_png_can_be_decoded(tmp_path: Path) -> None:
    imageio = pytest.importorskip("imageio.v2")
    image = simulate(1, 3).image[0]
    (tmp_path / "cell.png").write_bytes(demo_data.encode_png(image))
    assert np.array_equal(imageio.imread(tmp_path / "cell.png"), image)


def test_tdms_is_read_as_written(tmp_path: Path) -> None:
    path = demo_data.write_tdms(tmp_path / "Müller lab", "M3_data", 12, 4)
    expected = simulate(12, 4, sample="beads")
    assert cues(path) == []
    with dclab.new_dataset(path) as dataset:
        assert len(dataset) == 12
        assert dataset.config["experiment"]["run index"] == 3
        for index in range(12):
            assert np.array_equal(dataset["image"][index], expected.image[index])
            assert np.array_equal(dataset["mask"][index], expected.mask[index] > 0)
        for name, data in expected.trace.items():
            assert np.array_equal(dataset["trace"][name], data)
        assert dataset["deform"] == pytest.approx(expected.scalars["deform"], abs=1e-6)


def test_tdms_converts(tmp_path: Path) -> None:
    path = demo_data.write_tdms(tmp_path, "M1_data", 12, 4)
    converted = tmp_path / "out" / "M1_data.rtdc"
    cli.tdms2rtdc(path, converted)
    assert cues(converted) == []
    expected = simulate(12, 4, sample="beads")
    with h5py.File(converted) as h5:
        assert np.array_equal(h5["events/image"], expected.image)
        assert np.array_equal(h5["events/mask"], expected.mask)
        assert np.array_equal(h5["events/trace/fl2_median"], expected.trace["fl2_median"])


def test_tdms_is_reproducible(tmp_path: Path) -> None:
    demo_data.write_tdms(tmp_path / "a", "M1_data", 12, 4)
    demo_data.write_tdms(tmp_path / "b", "M1_data", 12, 4)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert len(digests(tmp_path / "a")) == 6


# --- bad and odd files ---------------------------------------------------------------------


def _open_fails(message: str) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        with pytest.raises(OSError, match=message):
            h5py.File(path)

    return check


def _has_cue(pattern: str) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        found = cues(path)
        assert any(re.search(pattern, f"{level}: {message}") for level, message in found), found

    return check


def _dclab_raises(error: type[Exception]) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        with h5py.File(path):
            pass
        with pytest.raises(error):
            cues(path)

    return check


def _holds(predicate: Callable[[h5py.File], bool]) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        assert cues(path) == []
        with h5py.File(path) as h5:
            assert predicate(h5)

    return check


def _reading_fails(path: Path) -> None:
    assert cues(path) == []
    with h5py.File(path) as h5:
        assert np.isfinite(h5["events/deform"][:4]).all()
        with pytest.raises(OSError):
            h5["events/deform"][4:]


def _external(path: Path) -> None:
    with h5py.File(path) as h5:
        assert list(h5["events/userdef1"]) == list(range(EVENTS))
    _has_cue("violation: .*external link: '/events/userdef1'")(path)


def _left_open(swmr: bool) -> Callable[[Path], None]:
    def check(path: Path) -> None:
        with pytest.raises(OSError, match="already open for write"):
            h5py.File(path)
        if swmr:
            with h5py.File(path, swmr=True, locking=False) as h5:
                assert len(h5["events/deform"]) == EVENTS
            _has_cue("alert: File is open in SWMR mode")(path)
        else:
            with pytest.raises(OSError):
                cues(path)

    return check


def _internal_basin(path: Path) -> None:
    with dclab.new_dataset(path) as dataset:
        assert list(dataset["userdef1"]) == [3.0] * 4 + [7.0] * 4
    with h5py.File(path) as h5:
        assert "userdef1" not in h5["events"]


def _file_basin(path: Path) -> None:
    with dclab.new_dataset(path) as dataset:
        assert "image" not in dataset.features_innate
        assert dataset["image"].shape == (EVENTS, *ROI)
    with h5py.File(path) as h5:
        (definition,) = h5["basins"].values()
        paths = json.loads("\n".join(definition.asstr()))["paths"]
    assert f"{path.stem}_neighbour.rtdc" in paths


def _is_directory(path: Path) -> None:
    assert path.is_dir()


def _begins_with_text(path: Path) -> None:
    assert path.read_bytes().startswith(b"written by another program")
    _holds(lambda h5: h5.userblock_size == 512)(path)


PROPERTIES: dict[str, Callable[[Path], None]] = {
    "empty_file": _open_fails("file signature not found"),
    "truncated": _open_fails("truncated file"),
    "text_file": _open_fails("file signature not found"),
    "png_file": _open_fails("file signature not found"),
    "without_events": _dclab_raises(KeyError),
    "zero_events": _has_cue("does not contain any events"),
    "unequal_lengths": _has_cue("violation: .*wrong event count: 'deform' .6 of 8"),
    "scalar_in_events": _dclab_raises(TypeError),
    "scalar_in_logs": _dclab_raises(TypeError),
    "broken_soft_link": _dclab_raises(KeyError),
    "soft_link": _holds(lambda h5: h5["events/userdef1"] == h5["events/deform"]),
    "external_link": _external,
    "virtual_dataset": _external,
    "external_storage": _external,
    "unknown_feature": _has_cue("violation: .*Unknown key 'glow_worm'"),
    "unknown_group": _has_cue("violation: .*Unknown key 'glow_worm'"),
    "empty_log": _holds(lambda h5: len(h5["logs/silence"]) == 0),
    "corrupt_chunk": _reading_fails,
    "left_open": _left_open(swmr=False),
    "left_open_swmr": _left_open(swmr=True),
    "wrong_roi_size": _has_cue("violation: .*Mismatch .imaging. 'roi size x'"),
    "swapped_roi_size": _has_cue("violation: .*Mismatch .imaging. 'roi size y'"),
    "missing_attributes": _has_cue("violation: .*Missing key .setup. 'medium'"),
    "group_attributes": _holds(lambda h5: h5["events"].attrs["origin"] == "camera 2"),
    "non_ascii_log": _holds(lambda h5: h5["logs/notizen"].asstr()[2] == "細胞"),
    "long_log_line": _has_cue("alert: Logs: notes line 1 exceeds"),
    "userblock": _begins_with_text,
    "big_endian": _holds(lambda h5: h5["events/deform"].dtype == ">f4"),
    "contours": _holds(lambda h5: len(h5["events/contour"]) == EVENTS),
    "tables": _holds(lambda h5: h5["tables/monitor"].shape == (5,)),
    "internal_basin": _internal_basin,
    "file_basin": _file_basin,
    "directory": _is_directory,
}


def test_every_recipe_is_tested_and_documented() -> None:
    assert PROPERTIES.keys() == RECIPES.keys()
    assert all(function.__doc__ for function in RECIPES.values())


@pytest.mark.parametrize("name", RECIPES)
def test_recipe(name: str, tmp_path: Path) -> None:
    path = RECIPES[name](tmp_path / f"M1 {name}.rtdc")
    assert path == tmp_path / f"M1 {name}.rtdc"
    assert path.is_dir() or path.stat().st_size < 100_000
    PROPERTIES[name](path)


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.3, 0.99])
def test_truncated_anywhere(fraction: float, tmp_path: Path) -> None:
    with pytest.raises(OSError):
        h5py.File(recipes.truncated(tmp_path / "x.rtdc", fraction))


def test_corrupt_image_chunk(tmp_path: Path) -> None:
    path = recipes.corrupt_chunk(tmp_path / "x.rtdc", "image")
    assert cues(path) == []
    with h5py.File(path) as h5, pytest.raises(OSError):
        h5["events/image"][:]


def test_links_break_when_the_file_moves(tmp_path: Path) -> None:
    path = recipes.external_link(tmp_path / "x.rtdc")
    (tmp_path / "elsewhere").mkdir()
    moved = Path(shutil.move(path, tmp_path / "elsewhere"))
    with h5py.File(moved) as h5, pytest.raises(KeyError):
        h5["events/userdef1"]
