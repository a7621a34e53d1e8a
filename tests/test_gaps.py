"""The gaps that the sheet asks to fill: filled as it says, nothing is wrong any more."""

from __future__ import annotations

from dataclasses import asdict

import h5py
from demo_data import write_measurement

from dcorflow.compress.edits import RootAttributes
from dcorflow.integrity import read_cues
from dcorflow.records import Record
from dcorflow.verdict import find_gaps

#: What somebody would fill in.
ANSWERS = {
    "fluorescence:channel count": 3,
    "fluorescence:laser count": 1,
    "fluorescence:laser 1 lambda": 488.0,
    "fluorescence:laser 1 power": 8.0,
    **{f"fluorescence:channel {n} name": f"5{n}0/20" for n in (1, 2, 3)},
}


def gaps_of(path, level="violation", ignore=()):
    with h5py.File(path) as h5:
        metadata = RootAttributes(h5).values()
    check = {"prepared": [asdict(c) for c in read_cues(path, "prepared")]}
    record = Record("m-1", "a", "raw", "rtdc", [], metadata=metadata, check=check)
    return {k: g for k, g in find_gaps(record, ignore).items() if g[1] == level}


def test_what_is_asked_for_is_enough(tmp_path):
    path = write_measurement(tmp_path / "M1.rtdc", 8)
    with h5py.File(path, "r+") as h5:
        assert {"fluorescence:laser 1 power", "fluorescence:channel 1 name"} <= set(h5.attrs)
        for key in [k for k in h5.attrs if k in ANSWERS or "laser" in k]:
            if key != "fluorescence:lasers installed":
                del h5.attrs[key]
        h5.attrs["fluorescence:channel count"] = 1
    asked = gaps_of(path)
    assert asked["fluorescence:channel count"][0] == "wrong"
    assert "'fluorescence:channel 1 name'" in asked["fluorescence:channel count"][2]
    assert asked["fluorescence:laser count"][2].endswith("now 0")
    assert asked["fluorescence:laser 1 power"][0] == asked["fluorescence:laser count"][0] == "missing"
    assert "fluorescence:laser 2 power" not in asked
    with h5py.File(path, "r+") as h5:
        for key in asked:
            h5.attrs[key] = ANSWERS[key]
    assert gaps_of(path) == {}


def test_a_value_that_is_none_of_the_choices(tmp_path):
    path = write_measurement(tmp_path / "M1.rtdc", 8)
    with h5py.File(path, "r+") as h5:
        h5.attrs["setup:chip region"] = "chanel"
    assert not any("chip region" in c.message for c in read_cues(path, "prepared"))  # dclab has no list
    gap = ["wrong", "alert", "Invalid value, expected channel or reservoir"]
    assert gaps_of(path, "alert")["setup:chip region"] == gap
    assert "setup:chip region" not in gaps_of(path, "alert", ["metadata-wrong:setup:*"])


def test_a_finding_that_values_of_others_mend(tmp_path):
    """The number of channels is right as it stands once each has a name."""
    path = write_measurement(tmp_path / "M1.rtdc", 8)
    with h5py.File(path, "r+") as h5:
        names = {k: h5.attrs[k] for k in h5.attrs if k.startswith("fluorescence:channel ") and "name" in k}
        for key in names:
            del h5.attrs[key]
    source = [asdict(c) for c in read_cues(path, "source")]
    record = Record("m-1", "a", "raw", "rtdc", [], check={"source": source, "prepared": source})
    assert find_gaps(record, [])["fluorescence:channel count"][0] == "wrong"
    with h5py.File(path, "r+") as h5:
        h5.attrs.update(names)
    record.check["prepared"] = [asdict(c) for c in read_cues(path, "prepared")]
    record.edits = [{"key": key, "old": None, "new": name} for key, name in names.items()]
    assert names and "fluorescence:channel count" not in find_gaps(record, [])
