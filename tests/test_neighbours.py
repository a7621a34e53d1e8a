"""Paths of basins and the prepared files they stand for; names that are to be hidden."""

from __future__ import annotations

import h5py
import pytest

from dcorflow.compress.body import BodySettings, write_body
from dcorflow.convert import convert
from dcorflow.discover.datasets import assign_names, rename_hidden
from dcorflow.privacy.pseudonyms import Pseudonyms
from dcorflow.privacy.scan import scan_file
from dcorflow.source.inventory import Item
from dcorflow.source.neighbours import Neighbours


def item(source: str, name: str, dataset: str = "a", **changes: str) -> Item:
    return Item(source, "raw", source, "rtdc", dataset=dataset, name=name, origin="Anna/x", **changes)  # type: ignore[arg-type]


ITEMS = [
    item("x/M1_data.rtdc", "x_M1_data.rtdc"),
    item("y/M1_data.rtdc", "y_M1_data.rtdc"),
    item("y/M2.rtdc", "M2.rtdc"),
    item("y/M3.rtdc", "M3.rtdc", state="gone"),
    item("z/M4.rtdc", "M4.rtdc", dataset="b"),
]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/data/raw/x/M1_data.rtdc", "x_M1_data.rtdc"),
        ("D:\\raw\\y\\M1_data.rtdc", "y_M1_data.rtdc"),
        ("/elsewhere/M1_data.rtdc", ""),
        ("m2.RTDC", "M2.rtdc"),
        ("../x_M1_data.rtdc", "x_M1_data.rtdc"),
        ("y/M3.rtdc", ""),
        ("z/M4.rtdc", ""),
    ],
)
def test_which_file_a_path_stands_for(path: str, name: str) -> None:
    neighbours = Neighbours(ITEMS)
    assert neighbours.name("a", path) == name
    assert not neighbours.differ("a", {path: name})
    assert neighbours.differ("a", {path: "other.rtdc"})


def test_names_that_tell_are_made_anew() -> None:
    hide = Pseudonyms({"Anna": "P1"}).hide
    items = [
        item("Anna/x/Anna_1.rtdc", "Anna_1.rtdc", dataset="anna_x"),
        item("Anna/x/two.rtdc", "two.rtdc", dataset="anna_x"),
        item("Anna/x/old.rtdc", "old.rtdc", dataset="anna_x", state="gone"),
        item("b/Anna.rtdc", "kept.rtdc", dataset="b"),
    ]
    items[3].origin = "b"
    assert rename_hidden(items, hide) == {"anna_x"}
    assign_names(items, hide)
    assert [(i.dataset, i.name) for i in items] == [
        ("p1_x", "P1_1.rtdc"), ("p1_x", "two.rtdc"), ("anna_x", "old.rtdc"), ("b", "kept.rtdc"),
    ]  # fmt: skip
    assert rename_hidden(items, hide) == set()


def test_logs_of_a_converted_measurement(real_data, tmp_path) -> None:
    source = real_data / "fmt-tdms_2fl-no-image_2017" / "M1_data.tdms"
    convert(source, tmp_path / "converted.rtdc")
    write_body(tmp_path / "converted.rtdc", tmp_path / "plain.rtdc", BodySettings())
    [found] = scan_file(tmp_path / "plain.rtdc", [])
    assert found.place.startswith("logs/M1_SoftwareSettings.ini:")
    assert found.id.startswith("path:D:")
    settings = {"encoder": "compat", "logs": "keep", "redact": ["path"]}
    write_body(tmp_path / "converted.rtdc", tmp_path / "clean.rtdc", BodySettings.from_plan(settings))
    assert scan_file(tmp_path / "clean.rtdc", []) == []
    with h5py.File(tmp_path / "clean.rtdc") as h5:
        assert b"Last_Exp_Folder=<path>" in h5["logs/M1_SoftwareSettings.ini"][:].tolist()
