"""Remarks on a measurement's data: each found where it is, and only there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from demo_data import write_measurement
from test_portrait import drawn, replace

from dcorflow.convert import convert

EVENTS = 240


def clog(events: h5py.Group) -> None:
    events["time"][180:] = events["time"][180] + np.arange(EVENTS - 180) * 1.0


def drift(events: h5py.Group) -> None:
    light = np.linspace(1, 1.2, EVENTS)[:, None, None]
    for name in ("image", "image_bg"):
        replace(events, name, (events[name][:] * light).clip(0, 255).astype("u1"))


def drift_of_feature(events: h5py.Group) -> None:
    events["bg_med"] = np.linspace(150, 120, EVENTS)


def defocus(events: h5py.Group) -> None:
    replace(events, "bright_sd", events["bright_sd"][:] * np.linspace(1, 0.4, EVENTS))


def saturate(events: h5py.Group) -> None:
    replace(events, "image", np.where(events["image"][:] > 110, 255, events["image"][:]).astype("u1"))


def blank(events: h5py.Group) -> None:
    replace(events, "image", np.where(np.arange(EVENTS)[:, None, None] < 60, 97, events["image"][:]))


def darken(events: h5py.Group) -> None:
    for name in ("image", "image_bg"):
        replace(events, name, events[name][:] // 20)


def pause(events: h5py.Group) -> None:
    events["time"][100:] += 30


def go_back(events: h5py.Group) -> None:
    events["time"][100:] -= 3


def freeze_temperature(events: h5py.Group) -> None:
    replace(events, "temp", np.zeros(EVENTS))


def lose_feature(events: h5py.Group) -> None:
    replace(events, "aspect", np.full(EVENTS, np.nan))


def flatten_deformation(events: h5py.Group) -> None:
    replace(events, "deform", np.full(EVENTS, 0.012))


def flatten_area(events: h5py.Group) -> None:
    replace(events, "area_um", np.full(EVENTS, 60.0))


ODD = {
    "rate-collapse": clog,
    "brightness-drift": drift,
    "contrast-change": defocus,
    "images-saturated": saturate,
    "images-empty": blank,
    "images-dark": darken,
    "time-gap": pause,
    "time-backwards": go_back,
    "temperature-zero": freeze_temperature,
    "nan-features": lose_feature,
    "flat-deformation": flatten_deformation,
    "flat-area": flatten_area,
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("good") / "m.rtdc"
    write_measurement(path, events=EVENTS, roi=(48, 96), layout="contiguous", fluorescence=False)
    with h5py.File(path, "r+") as h5:
        replace(h5["events"], "time", np.cumsum(np.random.default_rng(4).exponential(0.05, EVENTS)))
        h5["events/bright_sd"].attrs["max"] = float(h5["events/bright_sd"][:].max())
    return path.read_bytes()


def flags(path: Path) -> dict[str, dict[str, str]]:
    return {flag["id"]: flag for flag in drawn(path)["flags"]}


@pytest.mark.parametrize(("name", "spoil"), [*ODD.items(), ("brightness-drift", drift_of_feature)])
def test_an_oddity_is_told_and_nothing_else(
    good: bytes, tmp_path: Path, name: str, spoil: Callable[[h5py.Group], None]
) -> None:
    path = tmp_path / "m.rtdc"
    path.write_bytes(good)
    with h5py.File(path, "r+") as h5:
        spoil(h5["events"])
    found = flags(path)
    also = {"images-dark": {"brightness-drift"}}.get(name, set())
    assert {name} <= set(found) <= {name} | also
    assert found[name]["level"] in ("alert", "info")
    assert len(found[name]["text"]) > 20


@pytest.mark.parametrize("sample", ["blood", "HL60", "beads"])
def test_a_good_measurement_has_none(tmp_path: Path, sample: str) -> None:
    path = write_measurement(tmp_path / "m.rtdc", events=EVENTS, sample=sample, layout="dclab")
    assert flags(path) == {}


def test_few_events(tmp_path: Path) -> None:
    path = write_measurement(tmp_path / "m.rtdc", events=1, roi=(32, 48))
    assert flags(path)["few-events"]["text"] == "only 1 event, too few for statistics"


def test_real_measurements_have_few_events_and_little_else(real_data: Path) -> None:
    """They were cut to few events; one is a black picture with a word, one was put together of two parts."""
    accepted = {
        "fmt-hdf5_polygon_gate_2021": {"images-dark"},
        "fmt-hdf5_image-mask-blood_2021": {"time-backwards"},
    }
    for path in sorted(real_data.glob("*/*.rtdc")):
        portrait = drawn(path)
        assert {f["id"] for f in portrait["flags"]} == {"few-events"} | accepted.get(path.parent.name, set())
        assert portrait["sampled"] > 0
        assert "scatter" in {p["id"] for p in portrait["pictures"]}


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("fmt-tdms_2fl-no-image_2017/M1_data.tdms", ["scatter", "time", "fluorescence"]),
        ("fmt-tdms_fl-image_2016/M1_20160905_greenBeads.tdms", ["scatter", "time", "images", "fluorescence"]),
        ("fmt-tdms_minimal_2016/M1_2us_70A_0.120000ul_s.tdms", ["scatter", "time"]),
    ],
)
def test_converted_measurements_have_the_pictures_they_can_have(
    real_data: Path, tmp_path: Path, name: str, kinds: list[str]
) -> None:
    convert(real_data / name, tmp_path / "m.rtdc")
    portrait = drawn(tmp_path / "m.rtdc")
    assert [p["id"] for p in portrait["pictures"]] == kinds
    lacking = [] if "images" in kinds else ["no images: the measurement has none"]
    assert portrait["missing"] == lacking
