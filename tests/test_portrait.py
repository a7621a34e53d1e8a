"""Pictures and quality flags: what they show, what they cost, and that nothing in them is alive."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import h5py
import pytest
from demo_data import write_measurement
from PIL import Image

from dcorflow.compress.edits import all_values
from dcorflow.portrait.events import OpenEvents
from dcorflow.portrait.make import draw

SVG = "{http://www.w3.org/2000/svg}"


def drawn(path: Path) -> dict[str, Any]:
    with h5py.File(path) as h5:
        metadata = all_values(h5)
    with OpenEvents(path, metadata) as events:
        return draw(events)


def pictures(portrait: dict[str, Any]) -> dict[str, ElementTree.Element]:
    return {p["id"]: ElementTree.fromstring(p["svg"]) for p in portrait["pictures"]}


@pytest.fixture(scope="module")
def blood(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return drawn(write_measurement(tmp_path_factory.mktemp("blood") / "m.rtdc", events=300, layout="dclab"))


class TestScatter:
    def test_it_shows_all_events_with_contours(self, blood: dict[str, Any]) -> None:
        scatter = pictures(blood)["scatter"]
        assert blood["events"] == blood["sampled"] == 300
        assert {e.get("class") for e in scatter.iter(f"{SVG}path")} >= {
            "contour contour1",
            "contour contour2",
        }

    def test_thumbnail_is_small_and_transparent(self, blood: dict[str, Any]) -> None:
        image = Image.open(io.BytesIO(base64.b64decode(blood["thumbnail"])))
        assert (image.format, image.size) == ("WEBP", (160, 120))
        assert image.getchannel("A").getextrema() == (0, 255)
        assert len(blood["thumbnail"]) <= 4000

    def test_the_same_data_give_the_same_bytes(self, tmp_path: Path) -> None:
        texts = [
            json.dumps(drawn(write_measurement(tmp_path / f"{n}.rtdc", events=60, layout="dclab")))
            for n in (1, 2)
        ]
        assert texts[0] == texts[1]
