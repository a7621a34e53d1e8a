"""Files that appear whole or not at all, leftovers, tables, digests."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcorflow import files

#: Any text that a file name can hold, stray bytes included.
ANY_TEXT = st.text(
    st.characters(exclude_categories=["Cs"]) | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF)
)
FAST = settings(deadline=None, database=None, max_examples=200)
ANY_JSON = st.recursive(
    ANY_TEXT | st.integers() | st.floats(allow_nan=False) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=12,
)


def temporaries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(files.TEMP_PREFIX)]


def old(path: Path, seconds: float = 100) -> Path:
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


def test_replacing_gives_a_whole_file_and_makes_its_folder(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    with files.replacing(path) as temp:
        temp.write_text("half")
        assert not path.exists()
        assert temp.parent == path.parent
    assert path.read_text() == "half"
    assert temporaries(tmp_path) == []


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), SystemExit(143)])
def test_failure_leaves_the_old_file_and_no_temporary(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("before")
    inode = path.stat().st_ino
    with pytest.raises(type(error)), files.replacing(path) as temp:
        temp.write_text("half")
        raise error
    assert (path.read_text(), path.stat().st_ino) == ("before", inode)
    assert temporaries(tmp_path) == []


def test_a_failed_rename_leaves_no_temporary(tmp_path):
    (tmp_path / "a" / "full").mkdir(parents=True)
    with pytest.raises(OSError), files.replacing(tmp_path / "a") as temp:
        temp.write_text("x")
    assert temporaries(tmp_path) == []


def test_new_files_obey_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


def test_two_writers_of_one_file_do_no_harm(tmp_path):
    path = tmp_path / "a.txt"
    with files.replacing(path) as one, files.replacing(path) as two:
        one.write_text("one")
        two.write_text("two")
    assert path.read_text() == "one"
    assert temporaries(tmp_path) == []


class TestLeftovers:
    def test_old_ones_go_and_results_stay(self, tmp_path):
        dead = tmp_path / f"{files.TEMP_PREFIX}1.tmp"
        dead.write_text("half")
        kept = tmp_path / "a.rtdc"
        kept.write_text("data")
        old(kept)
        assert files.clean_leftovers(tmp_path) == 1
        assert [p.name for p in tmp_path.iterdir()] == ["a.rtdc"]

    def test_those_of_a_living_process_stay(self, tmp_path):
        with files.replacing(tmp_path / "a.txt") as temp:
            temp.write_text("working")
            assert files.clean_leftovers(tmp_path) == 0
            assert temp.exists()
        assert (tmp_path / "a.txt").read_text() == "working"

    def test_the_one_just_made_is_replaced_where_it_was_taken_for_one(self, tmp_path, monkeypatch):
        made, real = [], files._hold

        def hold(handle, path):
            made.append(path)
            if len(made) == 1:  # between making and locking
                assert files.clean_leftovers(tmp_path) == 1
            return real(handle, path)

        monkeypatch.setattr(files, "_hold", hold)
        with files.replacing(tmp_path / "a.txt") as temp:
            temp.write_text("whole")
        assert (tmp_path / "a.txt").read_text() == "whole"
        made.clear()
        with files.scratch_folder(tmp_path) as folder:
            (folder / "b").write_text("there")
        assert len(made) == 2
        assert temporaries(tmp_path) == []

    def test_the_one_just_made_is_left_while_it_is_removed(self, tmp_path, monkeypatch):
        real = files._hold
        cleaners = []

        def hold(handle, path):
            if not cleaners:
                cleaners.append(os.open(path, os.O_RDWR))
                fcntl.flock(cleaners[0], fcntl.LOCK_EX)
            return real(handle, path)

        monkeypatch.setattr(files, "_hold", hold)
        files.write_text(tmp_path / "a.txt", "whole")
        os.close(cleaners[0])
        assert (tmp_path / "a.txt").read_text() == "whole"

    def test_without_locks_age_decides(self, tmp_path, monkeypatch):
        def no_locks(*_):
            raise OSError(38, "Function not implemented")

        monkeypatch.setattr(fcntl, "flock", no_locks)
        young, ancient = (tmp_path / f"{files.TEMP_PREFIX}{n}.tmp" for n in (1, 2))
        for path, age in ((young, 3600), (ancient, 3 * 86400)):
            path.write_text("half")
            old(path, age)
        assert files.clean_leftovers(tmp_path) == 1
        assert young.exists()

    def test_scratch_folders_of_killed_conversions_go(self, tmp_path):
        scratch = tmp_path / f"{files.TEMP_PREFIX}x1y2"
        scratch.mkdir()
        (scratch / "converted.rtdc").write_text("big")
        files.clean_leftovers(tmp_path)
        assert not scratch.exists()

    def test_no_folder_no_work(self, tmp_path):
        assert files.clean_leftovers(tmp_path / "missing") == 0


class TestText:
    def test_unchanged_text_is_not_written_again(self, tmp_path):
        path = tmp_path / "a.txt"
        assert files.write_if_changed(path, "x\r\n\udcff")
        before = path.stat()
        assert not files.write_if_changed(path, "x\r\n\udcff")
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        assert files.write_if_changed(path, "y")
        assert path.read_text() == "y"

    def test_unreadable_old_text_is_replaced(self, tmp_path):
        path = tmp_path / "a.txt"
        path.write_bytes(b"\xff\x00")
        assert files.write_if_changed(path, "x")
        assert path.read_text() == "x"

    @FAST
    @given(data=ANY_JSON)
    def test_json_survives(self, tmp_path_factory, data):
        path = tmp_path_factory.getbasetemp() / "survives.json"
        path.write_bytes(files.to_json(data).encode("utf-8", "surrogateescape"))
        assert files.read_json(path) == data

    def test_json_does_not_depend_on_the_order(self):
        assert files.to_json({"b": 1, "a": 2}) == files.to_json({"a": 2, "b": 1})

    def test_json_has_a_line_for_each_value(self):
        text = files.to_json({"b": {"x": 1, "y": ["a", "b"]}, "a": 2, "c": {3.5: True}})
        assert [line.strip() for line in text.split("\n")] == [
            "{", '"a": 2,', '"b": {"x": 1,', '"y": ["a",', '"b"]},', '"c": {"3.5": true}', "}", ""
        ]  # fmt: skip

    def test_damaged_json_is_a_value_error(self, tmp_path):
        (tmp_path / "a.json").write_text('{"a": ')
        with pytest.raises(ValueError):
            files.read_json(tmp_path / "a.json")


class TestTables:
    @FAST
    @given(field=ANY_TEXT)
    def test_fields_survive(self, field):
        escaped = files.escape(field)
        assert files.unescape(escaped) == field
        assert not set(escaped) & set("\t\n\r")
        escaped.encode("utf-8")  # stray bytes are escaped, so that every program can read the table

    @settings(deadline=None, database=None, max_examples=50)
    @given(rows=st.lists(st.lists(ANY_TEXT, min_size=3, max_size=3), max_size=5))
    def test_tables_survive(self, tmp_path_factory, rows):
        path = tmp_path_factory.getbasetemp() / "survives.tsv"
        files.write_text(path, files.to_tsv(("a", "b", "c"), rows))
        assert files.read_tsv(path) == (["a", "b", "c"], rows)

    @pytest.mark.parametrize(
        ("field", "escaped"),
        [("a b", "a b"), ("a\tb", "a\\tb"), ("C:\\new", "C:\\\\new"), ("ä", "ä"), ("\udce4", "\\xe4")],
    )
    def test_escapes(self, field, escaped):
        assert files.escape(field) == escaped

    @FAST
    @given(text=st.text("\\xnrt0a"))
    def test_any_text_can_be_unescaped(self, text):
        try:
            files.unescape(text)
        except ValueError:
            assert "\\x" in text  # a table that somebody else wrote: refused, not guessed

    def test_empty_file(self, tmp_path):
        (tmp_path / "a.tsv").write_text("")
        assert files.read_tsv(tmp_path / "a.tsv") == ([], [])


class TestDigests:
    def test_keys(self):
        key = files.key_of("a", 1, {"x": [1, 2], "b": None})
        assert key == files.key_of("a", 1, {"b": None, "x": [1, 2]})
        assert len(key) == 16
        others = [
            files.key_of("a", 1),
            files.key_of(["a", 1]),
            files.key_of("a", "1"),
            files.key_of("a1"),
            files.key_of("a", 1.5),
            files.key_of("a", True),
        ]
        assert len({key, *others}) == 7

    def test_keys_of_stray_bytes(self):
        assert files.key_of("\udcff") != files.key_of("\udcfe")

    def test_content_digest_depends_on_all_bytes_of_all_files(self, tmp_path):
        one, two = tmp_path / "1", tmp_path / "2"
        one.write_bytes(bytes(5_000_000))
        two.write_bytes(b"abc")
        digest = files.content_digest([one, two])
        assert digest == files.content_digest([one, two])
        assert digest != files.content_digest([two, one])
        assert files.content_digest([one]) == files.hash_file(one)
        with one.open("r+b") as stream:
            stream.seek(4_500_000)
            stream.write(b"\1")
        assert files.content_digest([one, two]) != digest

    def test_content_digest_of_a_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            files.content_digest([tmp_path / "missing"])


class TestCopyFile:
    @pytest.mark.parametrize("size", [0, 1, 70_000, 9_000_000])
    def test_copies_into_a_new_or_longer_file(self, tmp_path, size):
        source = tmp_path / "source"
        source.write_bytes(os.urandom(size))
        longer = tmp_path / "longer"
        longer.write_bytes(b"x" * 10_000_000)
        for target in (tmp_path / "new", longer):
            files.copy_file(source, target)
            assert target.read_bytes() == source.read_bytes()

    def test_without_help_of_the_kernel(self, tmp_path, monkeypatch):
        def refuse(*_):
            raise OSError(18, "Invalid cross-device link")

        monkeypatch.setattr(fcntl, "ioctl", refuse)
        monkeypatch.setattr(os, "copy_file_range", refuse)
        source = tmp_path / "source"
        source.write_bytes(os.urandom(5_000_000))
        files.copy_file(source, tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == source.read_bytes()
        files.copy_file(source, tmp_path / "target", 4_500_000)
        assert (tmp_path / "target").read_bytes() == source.read_bytes()[:4_500_000]

    def test_a_failure_in_the_middle_is_an_error(self, tmp_path, monkeypatch):
        def refuse(*_):
            raise OSError(25, "no clones")

        def once(src, dst, count, calls=[]):  # noqa: B006
            if calls:
                raise OSError(28, "No space left on device")
            calls.append(1)
            return os.write(dst, os.read(src, 10))

        monkeypatch.setattr(fcntl, "ioctl", refuse)
        monkeypatch.setattr(os, "copy_file_range", once)
        (tmp_path / "source").write_bytes(bytes(100))
        with pytest.raises(OSError, match="No space"):
            files.copy_file(tmp_path / "source", tmp_path / "target")


def test_keys_are_plain_json():
    assert json.loads(files.to_json({"ü": "\udcff"})) == {"ü": "\udcff"}
