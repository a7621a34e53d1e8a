"""Pictures of a measurement: what they show, what they cost, and that nothing in them is alive."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest
from demo_data import write_measurement
from PIL import Image

from dcorflow.compress.edits import RootAttributes
from dcorflow.portrait import density, events
from dcorflow.portrait.events import OpenEvents
from dcorflow.portrait.images import thinned
from dcorflow.portrait.make import draw
from dcorflow.portrait.svg import path_data, tick_label, ticks

SVG = "{http://www.w3.org/2000/svg}"
KINDS = ["scatter", "time", "images", "fluorescence"]


def drawn(path: Path) -> dict[str, Any]:
    with h5py.File(path) as h5:
        metadata = RootAttributes(h5).values()
    with OpenEvents(path, metadata) as opened:
        return draw(opened)


def pictures(portrait: dict[str, Any]) -> dict[str, ElementTree.Element]:
    return {p["id"]: ElementTree.fromstring(p["svg"]) for p in portrait["pictures"]}


def classes(picture: ElementTree.Element) -> set[str]:
    return {element.get("class", "") for element in picture.iter()}


def words(picture: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in picture.iter(f"{SVG}text")]


def replace(group: h5py.Group, name: str, values: Any) -> None:
    if name in group:
        del group[name]
    group[name] = values


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_measurement(tmp_path_factory.mktemp("blood") / "m.rtdc", events=300, layout="dclab")


@pytest.fixture(scope="module")
def blood(file: Path) -> dict[str, Any]:
    return drawn(file)


def refuse_life(svg: str) -> None:
    """Fail where a picture could do or load anything, clash with another or with its page."""
    for element in ElementTree.fromstring(svg).iter():
        assert element.tag.removeprefix(SVG) in {"svg", "g", "path", "text", "image"}
        for name, value in element.attrib.items():
            assert not name.startswith("on")
            assert name not in {"id", "style", "{http://www.w3.org/1999/xlink}href"}
            if name == "href":
                assert re.fullmatch(r"data:image/webp;base64,[A-Za-z0-9+/=]+", value)
            assert "url(" not in value


class TestPictures:
    def test_a_complete_measurement_has_all_of_them(self, blood: dict[str, Any]) -> None:
        assert [p["id"] for p in blood["pictures"]] == KINDS
        assert blood["missing"] == []
        assert blood["events"] == blood["sampled"] == 300

    def test_scatter_has_contours_and_labels_of_dclab(self, blood: dict[str, Any]) -> None:
        scatter = pictures(blood)["scatter"]
        assert classes(scatter) >= {"grid", "axis", "contour contour1", "contour contour2"}
        assert {"Area [µm²]", "Deformation"} <= set(words(scatter))

    def test_time_shows_three_courses(self, blood: dict[str, Any]) -> None:
        time = pictures(blood)["time"]
        assert classes(time) >= {"line1", "line2", "line3"}
        titles = {"Event rate [s⁻¹]", "Background brightness [a.u.]", "Brightness SD [a.u.]", "Time [s]"}
        assert titles <= set(words(time))

    def test_strip_outlines_the_events(self, blood: dict[str, Any], file: Path) -> None:
        strip = pictures(blood)["images"]
        outlines = [e for e in strip.iter(f"{SVG}path") if e.get("class") == "mask"]
        assert len(outlines) == 6
        with h5py.File(file) as h5:  # the first outline lies around the first event shown
            number = int(re.fullmatch(r"event (\d+), .*", words(strip)[0]).group(1)) - 1  # type: ignore[union-attr]
            columns = np.flatnonzero(h5["events/mask"][number].any(axis=0))
            width = h5["events/mask"].shape[2]
        x, _ = ends(outlines[0].get("d", ""))
        tile = (400 - 6) / 2
        assert x[0] == pytest.approx(columns[0] * tile / width, abs=1)
        assert x[1] == pytest.approx((columns[-1] + 1) * tile / width, abs=1)

    def test_fluorescence_names_the_channels(self, blood: dict[str, Any]) -> None:
        assert {"FL-1 525/50", "FL-2 593/46", "FL-3 700/75"} <= set(words(pictures(blood)["fluorescence"]))

    def test_size(self, blood: dict[str, Any]) -> None:
        assert len(json.dumps(blood, ensure_ascii=False).encode()) <= 18_000
        assert len(blood["thumbnail"]) <= 4_000

    def test_they_are_inert(self, blood: dict[str, Any]) -> None:
        for picture in blood["pictures"]:
            refuse_life(picture["svg"])

    def test_thumbnail_is_transparent(self, blood: dict[str, Any]) -> None:
        image = Image.open(io.BytesIO(base64.b64decode(blood["thumbnail"])))
        assert (image.format, image.size) == ("WEBP", (160, 120))
        assert image.getchannel("A").getextrema() == (0, 255)

    def test_the_same_data_give_the_same_bytes(self, blood: dict[str, Any], file: Path) -> None:
        assert drawn(file) == blood


def ends(path: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the least and greatest x and y of a path of relative steps."""
    number = r"-?(?:\d+(?:\.\d)?|\.\d)"
    places = []
    for command, words in re.findall(r"([Mlhv])([^Mlhvz]*)", path):
        values = [float(word) for word in re.findall(number, words)]
        if command in "hv":
            steps = [(v, 0.0) if command == "h" else (0.0, v) for v in values]
        else:
            steps = list(zip(values[::2], values[1::2], strict=True))
        for step in steps:
            places.append(step if command == "M" else tuple(np.add(places[-1], step)))
    points = np.array(places)
    return (points[:, 0].min(), points[:, 0].max()), (points[:, 1].min(), points[:, 1].max())


class TestLacking:
    @pytest.mark.parametrize(
        ("features", "kinds", "missing"),
        [
            (("area_um", "deform", "frame"), ["scatter", "time"], ["no images"]),
            (("image", "mask", "time"), ["time", "images"], ["no deformation"]),
            (("area_um", "circ", "image", "mask"), ["scatter", "images"], ["no course over time"]),
            (("area_cvx", "deform"), ["scatter"], ["no course over time", "no images"]),
            (("pos_x",), [], ["no deformation", "no course over time", "no images"]),
        ],
    )
    def test_what_there_is_is_drawn(
        self, tmp_path: Path, features: tuple[str, ...], kinds: list[str], missing: list[str]
    ) -> None:
        path = write_measurement(
            tmp_path / "m.rtdc", events=20, features=features, roi=(32, 48), fluorescence=False
        )
        portrait = drawn(path)
        assert [p["id"] for p in portrait["pictures"]] == kinds
        assert [m.partition(":")[0] for m in portrait["missing"]] == [
            "no deformation against area" if m == "no deformation" else m for m in missing
        ]
        assert bool(portrait["thumbnail"]) == ("scatter" in kinds)

    def test_contours_of_old_files(self, tmp_path: Path) -> None:
        path = write_measurement(
            tmp_path / "m.rtdc", events=4, features=("image",), roi=(32, 48), fluorescence=False
        )
        with h5py.File(path, "r+") as h5:
            for n in range(4):
                h5[f"events/contour/{n}"] = np.array([[3, 3], [20, 3], [20, 9], [3, 9]])
        strip = pictures(drawn(path))["images"]
        assert sum(e.get("class") == "mask" for e in strip.iter()) == 4

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, 1e300, -1e300])
    def test_odd_values(self, tmp_path: Path, value: float) -> None:
        path = write_measurement(tmp_path / "m.rtdc", events=120, roi=(32, 48), layout="contiguous")
        with h5py.File(path, "r+") as h5:
            for name in ("area_um", "deform", "time", "frame", "bright_sd", "fl1_max"):
                replace(h5["events"], name, np.full(120, value))
            replace(h5["events"], "fl2_max", h5["events/fl2_max"][:].astype(float))
            h5["events/deform"][:40] = 0.01
            h5["events/fl2_max"][:60] = value
        portrait = drawn(path)
        assert portrait["events"] == 120
        assert "images" in pictures(portrait)
        for picture in portrait["pictures"]:
            assert not re.search(r"nan|inf", re.sub(r"base64,[^']*", "", picture["svg"]))

    def test_one_that_cannot_be_drawn_leaves_the_others(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> str:
            raise ValueError("odd\ndata")

        monkeypatch.setattr("dcorflow.portrait.timeline.picture", fail)
        portrait = drawn(file)
        assert [p["id"] for p in portrait["pictures"]] == ["scatter", "images", "fluorescence"]
        assert portrait["missing"] == ["no course over time: ValueError: odd data"]


def test_names_from_the_file_are_escaped(tmp_path: Path) -> None:
    name = "</text><script>alert(1)</script>'\"&\x1b"
    path = write_measurement(
        tmp_path / "m.rtdc", events=20, roi=(32, 48), metadata={"fluorescence:channel 1 name": name}
    )
    portrait = drawn(path)
    picture = next(p for p in portrait["pictures"] if p["id"] == "fluorescence")
    refuse_life(picture["svg"])
    assert "<s" not in picture["svg"].removeprefix("<svg").replace("<text", "")
    assert any(w.startswith("FL-1 </text><s") for w in words(ElementTree.fromstring(picture["svg"])))


def test_a_large_measurement_is_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "WHOLE", 1600)
    path = tmp_path / "m.rtdc"
    count = 20_000
    with h5py.File(path, "w") as h5:
        h5["events/area_um"] = np.linspace(50, 100, count)
        h5["events/deform"] = np.linspace(0.01, 0.1, count) + np.tile([0, 0.01], count // 2)
        h5["events/time"] = np.arange(count) / 100
    portrait = drawn(path)
    assert (portrait["events"], portrait["sampled"]) == (count, 1600)
    assert "1,600 of 20,000 events" in portrait["pictures"][0]["alt"]
    assert "event rate from 100 to 100" in portrait["pictures"][1]["alt"]
    assert {f["id"] for f in portrait["flags"]} == set()  # blocks are no pauses


class TestDensity:
    @pytest.mark.parametrize("count", [100, 3000])
    def test_it_is_that_of_dclab(self, count: int) -> None:
        from dclab.kde.contours import get_quantile_levels
        from dclab.kde.methods import kde_histogram

        rng = np.random.default_rng(count)
        x, y = rng.lognormal(4, 0.3, count), rng.lognormal(-3, 0.4, count)
        x_grid, y_grid = np.linspace(x.min(), x.max(), 40), np.linspace(y.min(), y.max(), 50)
        values = density.histogram_density(x, y, x_grid, y_grid)
        across, up = np.meshgrid(x_grid, y_grid, indexing="ij")
        np.testing.assert_allclose(values, kde_histogram(x, y, xout=across, yout=up), atol=1e-12)
        found = density.quantile_levels(density.Density(x_grid, y_grid, values), x, y, (0.5, 0.95))
        expected = get_quantile_levels(values, x_grid, y_grid, x, y, np.array([0.5, 0.95]), normalize=False)
        np.testing.assert_allclose(found, expected, rtol=1e-9)

    def test_events_on_a_line_have_none(self) -> None:
        x = np.linspace(0, 1, 200)
        assert density.density_of(x, np.ones(200), (0, 1), (0, 2)) is None


def test_drawing_loads_neither_scipy_nor_matplotlib(file: Path) -> None:
    code = (
        "import sys\n"
        "from dcorflow.portrait.events import OpenEvents\n"
        "from dcorflow.portrait.make import draw\n"
        f"with OpenEvents({str(file)!r}, {{}}) as events: portrait = draw(events)\n"
        "print([p['id'] for p in portrait['pictures']], {'scipy', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['scatter', 'images', 'fluorescence'] set()"


class TestPieces:
    def test_ticks_are_round(self) -> None:
        assert ticks(0.3, 9.7) == [2, 4, 6, 8]
        assert ticks(-0.021, 0.034, most=5) == pytest.approx([-0.02, 0, 0.02])
        assert ticks(1, 1) == ticks(0, float("nan")) == []

    def test_labels_have_the_digits_of_their_step(self) -> None:
        assert [tick_label(v, s) for v, s in ((0.02, 0.02), (0, 0.5), (12_000, 2000), (-3, 1))] == [
            "0.02", "0.0", "12\u202f000", "\u22123",
        ]  # fmt: skip

    def test_path_in_relative_steps(self) -> None:
        points = np.array([[1.0, 2], [1.5, 2], [1.5, 1], [np.nan, 0], [4, 4], [5, 6.26]])
        assert path_data(points) == "M1 2h.5v-1M4 4l1 2.3"
        assert (
            path_data(np.array([[0, 0], [1, 1], [0.5, 2], [0.5, 2], [0.5, 3.0]]), True) == "M0 0l1 1-.5 1v1z"
        )

    def test_thinned_line_keeps_within_tolerance(self) -> None:
        angle = np.linspace(0, 2 * np.pi, 400)
        circle = 30 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        thin = thinned(circle, 0.45)
        assert 8 < len(thin) < 40
        middles = (thin[1:] + thin[:-1]) / 2
        assert np.hypot(*middles.T).min() > 30 - 0.46
