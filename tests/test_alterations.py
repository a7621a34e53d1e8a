"""Deliberate alterations of a prepared file: `verify` finds each of them beside the source."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
import recipes

from dcorflow.compress.single import compress_file
from dcorflow.compress.tail import read_history, write_history
from dcorflow.compress.verify import verify
from dcorflow.hdf5 import HISTORY_LOG

TABLE = np.dtype([("time", "<f8"), ("n", ">i4"), ("tag", "S5")])
BASIN = "basins/inside"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Give a source with something of every kind, and its prepared file."""
    folder = tmp_path_factory.mktemp("alterations")
    path = folder / "a.rtdc"
    recipes.userblock(path)
    with h5py.File(path, "r+") as h5:
        h5["events"].attrs["origin"] = "camera 2"
        h5["events/trace/fl1_raw"] = np.arange(80, dtype="i2").reshape(8, 10)
        h5["events/userdef1"] = np.linspace(0, 1, 8).astype(">f4")
        h5["events/glow_worm"] = np.arange(8.0)
        h5["events/userdef2"] = h5py.SoftLink("/events/deform")
        h5["events/userdef3"] = np.array([np.nan, 1, 2, 3, 4, 5, 6, -0.0])
        h5["logs/words"] = ["one", "größe", ""]
        h5["logs/fixed"] = np.array([b"ab", b"cd"], "S9")
        h5.create_dataset("logs/none", (0,), h5py.string_dtype(), maxshape=(None,))
        table = np.zeros(5, TABLE)
        table["n"], table["tag"] = np.arange(5), b"x"
        h5["tables/one"] = table
        h5["tables/one"].attrs["COLOR_time"] = "#ff0000"
        extra = h5.create_group("extra/deeper")
        extra["flag"] = np.array([True, False])
        extra["enum"] = h5["extra"].create_dataset(
            "e", data=np.array([1, 2], "i2"), dtype=h5py.enum_dtype({"A": 1, "B": 2}, basetype="i2")
        )
        extra["opaque"] = np.array([b"abc"], "V3")
        extra["number"] = 3
        ragged = extra.create_dataset("ragged", (3,), h5py.vlen_dtype("i4"))
        ragged[1] = [1, 2]
        for name, value in ATTRIBUTES.items():
            extra.attrs[name] = value
        lists = np.empty(2, object)
        lists[:] = [np.arange(3, dtype="i4"), np.arange(1, dtype="i4")]
        extra.attrs.create("lists", lists, dtype=h5py.vlen_dtype("i4"))
        definition = {"type": "internal", "format": "h5dataset", "name": "inside", "mapping": "same"}
        lines = json.dumps(definition | {"features": ["userdef5", "glow_worm"], "paths": ["basin_events"]})
        h5[BASIN] = np.array([lines], "S500")
        h5[BASIN].attrs["kept"] = 1
        h5["basin_events/userdef5"] = np.arange(8.0)
        h5["basin_events/glow_worm"] = np.arange(8.0)
    out = folder / "out.rtdc"
    compress_file(path, out, "compat", False, 1)
    return out, path


ATTRIBUTES = {
    "text": "µm",
    "bytes": np.bytes_(b"IMAGE"),
    "list": ["a", "ö"],
    "number": np.float32(2.5),
    "numbers": np.array([1, 2], ">i2"),
    "matrix": np.arange(6.0).reshape(2, 3),
    "empty": h5py.Empty("f4"),
    "nan": np.nan,
    "flag": True,
}


def rewrite(h5, name, change):
    """Write a dataset anew with other content, attributes and filters as before."""
    old = h5[name]
    data, attributes = change(old[()]), dict(old.attrs)
    kind = data.dtype if isinstance(data, np.ndarray) and data.dtype != old.dtype else old.dtype
    del h5[name]
    chunks = tuple(max(1, n) for n in np.shape(data))
    made = h5.create_dataset(
        name, data=data, dtype=kind, chunks=chunks, fletcher32=True, **hdf5plugin.Zstd(clevel=5)
    )
    for key, value in attributes.items():
        made.attrs[key] = value


def replaced(values, at, value):
    values = values.copy()
    values.reshape(-1)[at] = value
    return values


def field(values, name, at, value):
    values = values.copy()
    values[name][at] = value
    return values


def attribute(path, name, value):
    """Return what gives an attribute another value, keeping its type where `value` has none."""

    def change(h5):
        old = h5[path].attrs.get_id(name)
        kind, shape = old.dtype, old.shape
        del h5[path].attrs[name]
        given = isinstance(value, np.ndarray | np.generic | h5py.Empty)
        h5[path].attrs.create(name, value, **({} if given else {"dtype": kind, "shape": shape}))

    return change


def data(name, function):
    return lambda h5: rewrite(h5, name, function)


def element(name, at, value):
    return data(name, lambda values: replaced(values, at, value))


def history(function):
    """Return what changes the history log."""

    def change(h5):
        content = read_history(h5)
        function(content)
        del h5[f"logs/{HISTORY_LOG}"]
        write_history(h5, content)

    return change


def basin(function):
    """Return what changes the definition of the basin that was rewritten."""

    def change(h5):
        content = json.loads(b" ".join(h5[BASIN][:]))
        function(content)
        rewrite(h5, BASIN, lambda _: np.array([json.dumps(content)], "S500"))

    return change


def move(h5, one, other):
    h5.move(one, "aside")
    h5.move(other, one)
    h5.move("aside", other)


def to_group(h5, name):
    del h5[name]
    h5.create_group(name)


def to_dataset(h5, name):
    del h5[name]
    h5[name] = np.arange(3)


def add(name, value):
    return lambda h5: h5.__setitem__(name, value)


def remove(name):
    return lambda h5: h5.__delitem__(name)


def ascii_text(h5, name):
    values = h5[name][:]
    del h5[name]
    h5[name] = np.array(values.tolist(), f"S{values.dtype.itemsize}")


ALTERATIONS = {
    "one number": element("events/deform", 3, 0.5),
    "a number by its last digit": data("events/deform", lambda v: replaced(v, 0, np.nextafter(v[0], 9))),
    "sign of zero": element("events/userdef3", 7, 0.0),
    "NaN to number": element("events/userdef3", 0, 0.0),
    "one pixel": element("events/image", 777, 1),
    "one pixel of a mask": data("events/mask", lambda v: replaced(v, 5, v.reshape(-1)[5] ^ 255)),
    "two images exchanged": data("events/image", lambda v: v[[1, 0, *range(2, 8)]]),
    "an image mirrored": data("events/image", lambda v: v[:, ::-1].copy()),
    "last event missing": data("events/deform", lambda v: v[:-1]),
    "one event more": data("events/deform", lambda v: np.append(v, v[-1:])),
    "another shape": data("events/image", lambda v: v.reshape(8, 48, 32)),
    "another type, same values": data("events/frame", lambda v: v.astype(">f8")),
    "a wider type": data("events/deform", lambda v: v.astype("f8") if v.dtype != "f8" else v.astype("f4")),
    "byte order": data("events/userdef1", lambda v: v.astype("<f4")),
    "soft link's data": element("events/userdef2", 0, 9),
    "a feature missing": remove("events/mask"),
    "a feature more": add("events/userdef4", np.arange(8.0)),
    "two features exchanged": lambda h5: move(h5, "events/deform", "events/area_um"),
    "a dropped feature there": add("events/userdef6", np.arange(8.0)),
    "a trace": element("events/trace/fl1_raw", 40, 7),
    "a trace missing": remove("events/trace/fl1_raw"),
    "a trace more": add("events/trace/fl2_raw", np.zeros((8, 10), "i2")),
    "a word of a log": element("logs/words", 0, b"One"),
    "an umlaut of a log": element("logs/words", 1, b"grosse"),
    "a space at the end of a line": element("logs/words", 0, b"one "),
    "lines exchanged": data("logs/words", lambda v: v[[1, 0, 2]]),
    "a line missing": data("logs/words", lambda v: v[:2]),
    "a log of fixed length": element("logs/fixed", 1, b"ce"),
    "an empty log missing": remove("logs/none"),
    "an empty log filled": data("logs/none", lambda v: np.array([b"x"], v.dtype)),
    "a log more": add("logs/more", np.array([b"x"], "S3")),
    "character set of a log": lambda h5: ascii_text(h5, "logs/words"),
    "a cell of a table": data("tables/one", lambda v: field(v, "n", 2, 7)),
    "text in a table": data("tables/one", lambda v: field(v, "tag", 2, b"y")),
    "a column's name": data("tables/one", lambda v: v.astype([("t", "<f8"), ("n", ">i4"), ("tag", "S5")])),
    "a table missing": remove("tables/one"),
    "colour of a table": attribute("tables/one", "COLOR_time", "#00ff00"),
    "a boolean": element("extra/deeper/flag", 0, False),
    "an enumeration": element("extra/e", 0, 2),
    "opaque bytes": element("extra/deeper/opaque", 0, np.void(b"abd")),
    "a single number": element("extra/deeper/number", 0, 4),
    "a list of variable length": lambda h5: h5["extra/deeper/ragged"].__setitem__(1, [1, 3]),
    "a group missing": remove("extra"),
    "a group more": lambda h5: h5.create_group("extra/more"),
    "a group for a dataset": lambda h5: to_group(h5, "extra/deeper/flag"),
    "a dataset for a group": lambda h5: to_dataset(h5, "extra/deeper"),
    "a dataset for a log": lambda h5: to_group(h5, "logs/none"),
    "attribute of a group": attribute("events", "origin", "camera 3"),
    "attribute of a group missing": lambda h5: h5["events"].attrs.__delitem__("origin"),
    "attribute of a group more": lambda h5: h5["logs"].attrs.__setitem__("x", 1),
    "attribute of the history": lambda h5: h5[f"logs/{HISTORY_LOG}"].attrs.__setitem__("x", 1),
    "metadata": attribute("/", "setup:medium", "water"),
    "metadata missing": lambda h5: h5.attrs.__delitem__("setup:medium"),
    "metadata more": lambda h5: h5.attrs.__setitem__("user:x", 1),
    "type of metadata": lambda h5: attribute("/", "imaging:roi position x", np.float64(629))(h5),
    "an edited value": attribute("/", "setup:software version", "ShapeIn 2.0.1 | dclab 0.1"),
    "an edited value missing": lambda h5: h5.attrs.__delitem__("setup:software version"),
    "an added minimum": attribute("events/userdef3", "min", np.float64(0.5)),
    "an added maximum": attribute("events/userdef3", "max", np.float64(60)),
    "an added mean": attribute("events/userdef3", "mean", np.float64(3.6)),
    "an added minimum of NaN": attribute("events/userdef3", "min", np.float64("nan")),
    "features of a basin": basin(lambda b: b.update(features=["userdef5", "deform"])),
    "mapping of a basin": basin(lambda b: b.update(mapping="basinmap0")),
    "paths of a basin": basin(lambda b: b.update(paths=["/etc"])),
    "a key of a basin": basin(lambda b: b.update(description="x")),
    "a basin missing": remove(BASIN),
    "a basin more": add("basins/more", np.array([b"{}"], "S100")),
    "attribute of a basin": attribute(BASIN, "kept", 2),
    "data of a basin": element("basin_events/userdef5", 3, 9.0),
    "an edit that the history invents": history(
        lambda h: h["edits"].append({"key": "setup:medium", "old": "a", "new": "b", "kind": "test"})
    ),
    "statistics that the history invents": lambda h5: (
        history(lambda h: h["added"].append({"what": "events/image", "how": "origin"}))(h5),
        h5["events/image"].attrs.__setitem__("origin", 1),
    ),
    "no history": remove(f"logs/{HISTORY_LOG}"),
}
ALTERATIONS |= {
    f"attribute {name}": attribute("extra/deeper", name, value)
    for name, value in {
        "text": "nm",
        "bytes": np.bytes_(b"IMAGF"),
        "list": ["a", "o"],
        "number": np.float32(2.75),
        "numbers": np.array([1, 2], "<i2"),
        "matrix": np.arange(6.0).reshape(3, 2),
        "empty": h5py.Empty("f8"),
        "nan": np.float64(0),
        "flag": False,
    }.items()
}
ALTERATIONS["attribute from text to bytes"] = attribute("extra/deeper", "text", np.bytes_("µm".encode()))
ALTERATIONS["attribute lists"] = lambda h5: attribute("extra/deeper", "lists", _lists())(h5)


def _lists():
    lists = np.empty(2, h5py.vlen_dtype("i4"))
    lists[:] = [np.arange(3, dtype="i4"), np.arange(1, 2, dtype="i4")]
    return lists


def test_without_alterations(pair):
    assert verify(*pair) == []
    assert len(ALTERATIONS) > 80


def test_the_ways_to_alter_are_no_alterations(pair, tmp_path):
    """What is written again with the same content is found to be the same."""
    same = Path(shutil.copy(pair[0], tmp_path / "same.rtdc"))
    names = ["events/deform", "events/image", "events/userdef1", "events/trace/fl1_raw", "logs/words"]
    names += [
        "logs/fixed",
        "tables/one",
        "extra/deeper/flag",
        "extra/e",
        "extra/deeper/opaque",
        BASIN,
    ]
    with h5py.File(same, "r+") as h5:
        for name in names:
            rewrite(h5, name, lambda values: values)
        for key, value in ATTRIBUTES.items():
            attribute("extra/deeper", key, value)(h5)
        attribute("extra/deeper", "lists", h5["extra/deeper"].attrs["lists"])(h5)
        history(lambda content: None)(h5)
        basin(lambda content: None)(h5)
    assert verify(same, pair[1]) == []


@pytest.mark.parametrize("name", ALTERATIONS)
def test_alteration_is_found(pair, tmp_path, name):
    altered = Path(shutil.copy(pair[0], tmp_path / "altered.rtdc"))
    with h5py.File(altered, "r+") as h5:
        ALTERATIONS[name](h5)
    assert verify(altered, pair[1]) != []


def test_another_userblock_is_found(pair, tmp_path):
    altered = Path(shutil.copy(pair[0], tmp_path / "altered.rtdc"))
    with altered.open("r+b") as stream:
        stream.write(b"X")
    assert verify(altered, pair[1]) == ["the userblock differs from the source's"]
