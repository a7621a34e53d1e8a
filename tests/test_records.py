"""Records and their index: what is damaged counts as missing, what is unchanged is not read again."""

from __future__ import annotations

import json
import os

import pytest

from dcorflow import records
from dcorflow.files import to_json, write_text
from dcorflow.records import Failure, Record, RecordIndex, SourceFile, load_record, save_record
from dcorflow.workdir import Workdir


@pytest.fixture
def work(tmp_path):
    return Workdir(tmp_path)


def make_record(name="m-1", **values):
    files = [SourceFile("a/Größe\udcff.rtdc", 10, 1_700_000_000_000_000_001)]
    return Record(name, "a", "raw", "rtdc", files, **values)


def test_records_survive(work):
    record = make_record(
        content="xxh3-128:00",
        facts={"sample": "Müller \udcff"},
        prepared={"name": "a.rtdc", "size": 1, "mtime_ns": 2},
        failure=Failure("check", "why", "environment"),
    )
    save_record(work, record)
    assert load_record(work, "m-1") == record


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: "",
        lambda d: "[]",
        lambda d: to_json(d)[:-20],
        lambda d: to_json(d | {"format": 99}),
        lambda d: to_json({k: v for k, v in d.items() if k != "files"}),
        lambda d: to_json(d | {"files": [[1]]}),
        lambda d: to_json(d | {"failure": {"stage": "check"}}),
        lambda d: to_json(d | {"unknown": 1}),
        lambda d: to_json(d | {"measurement": "another"}),
    ],
)
def test_a_damaged_record_is_none(work, damage):
    save_record(work, make_record())
    path = work.record("m-1")
    data = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
    del data["checksum"]
    write_text(path, to_json(data))
    assert load_record(work, "m-1") == make_record(), "of a version without checksums"
    write_text(path, damage(data))
    assert load_record(work, "m-1") is None


@pytest.mark.parametrize(("old", "new"), [("00", "01"), ('"a"', '"b"'), ("\n}", "\n }"), ("}\n", "}")])
def test_a_record_edited_by_hand_is_none(work, old, new):
    save_record(work, make_record(content="xxh3-128:00"))
    path = work.record("m-1")
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    assert old in text
    write_text(path, text.replace(old, new))
    assert json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
    assert load_record(work, "m-1") is None


def test_a_missing_record_is_none(work):
    assert load_record(work, "m-1") is None


class TestIndex:
    @pytest.fixture
    def reads(self, monkeypatch):
        """Count which records are opened."""
        opened = []

        def counted(work, name):
            opened.append(name)
            return load_record(work, name)

        monkeypatch.setattr(records, "load_record", counted)
        return opened

    def test_unchanged_records_are_not_opened_again(self, work, reads):
        for name in ("m-1", "m-2"):
            save_record(work, make_record(name))
        first = RecordIndex(work).refresh()
        assert sorted(reads) == ["m-1", "m-2"]
        reads.clear()
        again = RecordIndex(work).refresh()
        assert reads == []
        assert again.lines == first.lines
        assert again.get("m-1")["files"] == [["a/Größe\udcff.rtdc", 10, 1_700_000_000_000_000_001]]

    @pytest.mark.parametrize("odd", ["\x85", "\u2028", "\x0b", "\x1c", "\r"])
    def test_odd_line_breaks_in_names_do_not_break_lines(self, work, reads, odd):
        record = make_record()
        record.files = [SourceFile(f"a{odd}b.rtdc", 1, 2)]
        save_record(work, record)
        RecordIndex(work).refresh()
        reads.clear()
        assert RecordIndex(work).refresh().get("m-1")["files"] == [[f"a{odd}b.rtdc", 1, 2]]
        assert reads == []

    def test_new_changed_and_removed_records(self, work, reads):
        for name in ("m-1", "m-2", "m-3"):
            save_record(work, make_record(name))
        RecordIndex(work).refresh()
        reads.clear()
        save_record(work, make_record("m-1", content="other"))
        work.record("m-2").unlink()
        save_record(work, make_record("m-4"))
        index = RecordIndex(work).refresh()
        assert sorted(reads) == ["m-1", "m-4"]
        assert sorted(index.lines) == ["m-1", "m-3", "m-4"]
        assert index.get("m-1")["content"] == "other"
        assert index.get("m-2") is None

    def test_a_record_of_equal_size_and_other_time_is_read(self, work):
        save_record(work, make_record(content="one"))
        RecordIndex(work).refresh()
        save_record(work, make_record(content="two"))
        os.utime(work.record("m-1"), ns=(1, 1))
        assert RecordIndex(work).refresh().get("m-1")["content"] == "two"

    @pytest.mark.parametrize("text", ["", "no json\n", "[[1, 2]]\n", "null\n[]\n", '[[1, 2], {"x": 1}]\n'])
    def test_a_damaged_index_is_built_anew(self, work, text):
        save_record(work, make_record())
        expected = RecordIndex(work).refresh().lines
        write_text(work.record_index, text)
        assert RecordIndex(work).refresh().lines == expected

    def test_a_line_edited_by_hand_is_read_again(self, work, reads):
        for name in ("m-1", "m-2"):
            save_record(work, make_record(name, content="xxh3-128:00"))
        expected = RecordIndex(work).refresh().lines
        lines = work.record_index.read_text(encoding="utf-8", errors="surrogateescape").splitlines(True)
        write_text(work.record_index, lines[0].replace("128:00", "128:01") + lines[1])
        reads.clear()
        assert RecordIndex(work).refresh().lines == expected
        assert reads == ["m-1"]

    def test_a_damaged_record_is_not_in_the_index(self, work):
        save_record(work, make_record())
        RecordIndex(work).refresh()
        write_text(work.record("m-1"), "{")
        assert RecordIndex(work).refresh().lines == {}

    def test_a_dry_look_writes_nothing(self, work):
        save_record(work, make_record())
        RecordIndex(work).refresh(save=False)
        assert not work.record_index.exists()

    def test_temporaries_are_no_records(self, work):
        save_record(work, make_record())
        write_text(work.records / ".dcorflow-12.json", "{}")
        assert sorted(RecordIndex(work).refresh().lines) == ["m-1"]
