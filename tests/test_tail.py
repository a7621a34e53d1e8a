"""The tail: other edits give the bytes of a fresh file, and what was there can be restored."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import recipes
from demo_data import write_measurement
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dcorflow.compress.body import BodySettings, write_body
from dcorflow.compress.prepare import Entry, make, replace_tail
from dcorflow.compress.tail import LINE, indented, read_history, restore_body, write_history, write_tail
from dcorflow.hdf5 import HISTORY_LOG
from dcorflow.records import Record, SourceFile
from dcorflow.workdir import Workdir

COMPAT = {"encoder": "compat", "logs": "keep", "naming": "keep"}
FILL = ["setup:medium", "CellCarrierB", "fill", "folder default", "a/dcorflow.yaml"]
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=400)
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["experiment:sample", "setup:medium", "setup:identifier", "user:note", "user:x y"]),
        TEXT | st.integers(-(2**31), 2**31) | st.floats(allow_nan=False) | st.booleans(),
        st.sampled_from(["fill", "replace"]),
        st.just("configuration override"),
        st.just("configuration"),
    ).map(list),
    unique_by=lambda e: e[0],
    max_size=5,
)


def entry_of(path, name="M1.rtdc"):
    stat = path.stat()
    files = [SourceFile(path.name, stat.st_size, stat.st_mtime_ns)]
    return Entry("m-1", "a", name, "raw", path.parent, "rtdc", files)


def prepared(path, work, edits):
    entry = entry_of(path)
    record = Record("m-1", "a", "raw", "rtdc", entry.files)
    make(record, entry, COMPAT, edits, entry.target(work), 1)
    return record, entry.target(work)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return recipes.small_measurement(tmp_path_factory.mktemp("tail") / "M1.rtdc")


@settings(
    deadline=None,
    database=None,
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(EDITS, min_size=2, max_size=4))
def test_other_edits_give_the_bytes_of_a_fresh_file(source, tmp_path, steps):
    record, target = prepared(source, Workdir(tmp_path / "work"), steps[0])
    for edits in steps[1:]:
        record = replace_tail(record, edits, Workdir(tmp_path / "work"))
        fresh_record, fresh = prepared(source, Workdir(tmp_path / "fresh"), edits)
        assert target.read_bytes() == fresh.read_bytes()
        assert record.edits == fresh_record.edits
        assert record.tail_key == fresh_record.tail_key
        assert record.restore == fresh_record.restore
        assert record.metadata == fresh_record.metadata


@pytest.mark.parametrize("layout", ["raw", "gzip", "dclab", "contiguous"])
def test_restoring_gives_exactly_the_body(tmp_path, layout):
    source = write_measurement(tmp_path / "M1.rtdc", 8, layout=layout)
    body = tmp_path / "body.rtdc"
    write_body(source, body, BodySettings())
    before = body.read_bytes()

    def fill(h5):
        for n in range(300):
            h5.attrs[f"user:{n}"] = "x" * 200
        write_history(h5, {"a": ["y" * 5000] * 3})

    restore = write_tail(body, fill)
    assert body.stat().st_size > len(before)
    assert len(json.dumps(restore)) < 100_000
    json.dumps(restore)
    restore_body(body, restore)
    assert body.read_bytes() == before


def test_a_tail_without_changes(tmp_path, source):
    body = tmp_path / "body.rtdc"
    write_body(source, body, BodySettings())
    before = body.read_bytes()
    restore_body(body, write_tail(body, lambda h5: None))
    assert body.read_bytes() == before


def test_the_data_stay_where_they_are(tmp_path, source):
    record, target = prepared(source, Workdir(tmp_path), [])
    with h5py.File(target) as h5:
        before = {n: h5["events"][n].id.get_chunk_info(0) for n in h5["events"]}
    replace_tail(record, [FILL], Workdir(tmp_path))
    with h5py.File(target) as h5:
        assert {n: h5["events"][n].id.get_chunk_info(0) for n in h5["events"]} == before


def test_a_failing_edit_leaves_the_file_as_it_was(tmp_path, source):
    record, target = prepared(source, Workdir(tmp_path), [])
    before = target.read_bytes()
    with pytest.raises(ValueError):
        replace_tail(record, [["user:x", "a\0b", "replace", "k", "w"]], Workdir(tmp_path))
    assert target.read_bytes() == before
    assert [p.name for p in target.parent.iterdir()] == ["M1.rtdc"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None, database=None, max_examples=60)
@given(history=st.dictionaries(st.text(max_size=150), JSON, max_size=4))
def test_history_is_read_back(tmp_path_factory, history):
    path = tmp_path_factory.getbasetemp() / "history.h5"
    with h5py.File(path, "w") as h5:
        h5.create_group("logs")
        write_history(h5, history)
    with h5py.File(path) as h5:
        assert read_history(h5) == history
        lines = h5["logs"][HISTORY_LOG]
        assert lines.dtype.kind == "S"
        assert max(map(len, lines[:])) <= LINE


def test_history_tells_what_was_done_and_nothing_of_the_machine(tmp_path, source):
    record, target = prepared(source, Workdir(tmp_path / "secret-folder"), [FILL[:3] + FILL[3:]])
    replaced = ["experiment:sample", "new", "replace", "configuration override", "configuration"]
    replace_tail(record, [replaced], Workdir(tmp_path / "secret-folder"))
    with h5py.File(target) as h5:
        history = read_history(h5)
    edits = {e["key"]: e for e in history["edits"]}
    assert edits["experiment:sample"]["new"] == "new"
    assert edits["experiment:sample"]["old"] == "blood 0"
    assert edits["experiment:sample"]["kind"] == "configuration override"
    assert history["source"]["content"] == record.content
    assert "dcorflow" in history["software"]
    assert b"secret-folder" not in target.read_bytes()
    assert str(tmp_path).encode() not in target.read_bytes()


def test_dclab_reads_history_and_edits(tmp_path, source):
    import dclab

    _, target = prepared(source, Workdir(tmp_path), [["user:note", "Größe", "replace", "k", "w"]])
    with dclab.new_dataset(target) as dataset:
        assert dataset.config["user"]["note"] == "Größe"
        assert json.loads("".join(dataset.logs[HISTORY_LOG]))["software"]
        assert np.array_equal(dataset["deform"][:], h5py.File(source)["events/deform"][:])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    )
)
@settings(deadline=None, database=None, max_examples=50)
def test_a_history_is_the_json_it_always_was(data):
    assert indented(data) == json.dumps(data, indent=1, sort_keys=True)
