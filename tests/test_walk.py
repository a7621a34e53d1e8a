"""The walk through the source tree, whatever lies in it and in whatever order."""

from __future__ import annotations

import contextlib
import os
import random

import pytest
from runs import snapshot

from dcorflow.errors import UsageError
from dcorflow.source.walk import matches, walk


def make(root, *paths):
    for path in paths:
        full = root / path
        full.parent.mkdir(parents=True, exist_ok=True)
        full.write_bytes(path.encode("utf-8", "surrogateescape"))
    return root


def look(root, include=("*",), exclude=()):
    return walk(root, list(include), list(exclude))


def paths(tree):
    return [found.path for found in tree.measurements]


def files(tree, path):
    (found,) = [f for f in tree.measurements if f.path == path]
    return [f.path for f in found.files]


def test_measurements_companions_settings_and_tasks(tmp_path):
    make(
        tmp_path,
        "a/M1.rtdc",
        "a/dcorflow.yaml",
        "a/notes.txt",
        "a/b/M2.RTDC",
        "a/b/x.dcoraid-task",
        "top.rtdc",
    )
    tree = look(tmp_path)
    assert paths(tree) == ["a/M1.rtdc", "a/b/M2.RTDC", "top.rtdc"]
    assert [c.path for c in tree.companions["a"]] == ["a/notes.txt"]
    assert list(tree.settings) == ["a"]
    assert [t.path for t in tree.tasks["a/b"]] == ["a/b/x.dcoraid-task"]
    assert "a/b" not in tree.companions
    found = tree.measurements[0]
    stat = (tmp_path / "a/M1.rtdc").stat()
    assert (found.files[0].size, found.files[0].mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert (found.folder, found.kind, found.root) == ("a", "rtdc", tmp_path.name)


def test_the_order_of_the_file_system_does_not_matter(tmp_path, monkeypatch):
    make(
        tmp_path / "raw",
        *(f"{folder}/M{n}.{suffix}" for folder in "abc" for n in (1, 2, 10) for suffix in ("rtdc", "txt")),
        *("t/M1_data.tdms", "t/M1_para.ini", "t/M1_camera.ini", "t/M1_data.rtdc", "t/parameters.txt"),
    )
    (tmp_path / "raw/z").symlink_to(tmp_path / "raw/a")
    (tmp_path / "raw/0").symlink_to(tmp_path / "raw/b")
    expected = look(tmp_path / "raw")
    scandir = os.scandir
    shuffler = random.Random(1)

    @contextlib.contextmanager
    def shuffled(path):
        with scandir(path) as entries:
            listing = list(entries)
        shuffler.shuffle(listing)
        yield iter(listing)

    monkeypatch.setattr(os, "scandir", shuffled)
    for _ in range(5):
        assert look(tmp_path / "raw") == expected


@pytest.mark.parametrize(
    "name",
    [
        ".hidden.rtdc",
        "._M1.rtdc",
        "~M1.rtdc",
        "M1.rtdc~",
        "M1_condensed.rtdc",
        "M1_Condensed.RTDC",
        "M1_original.rtdc",
        "M1_traces.tdms",
        "M1_TRACES.TDMS",
        "@eaDir/M1.rtdc",
        "@EADIR/M1.rtdc",
        "$RECYCLE.BIN/M1.rtdc",
        "$Recycle.Bin/M1.rtdc",
        ".git/M1.rtdc",
        "System Volume Information/M1.rtdc",
    ],
)
def test_ignored_measurements(tmp_path, name):
    tree = look(make(tmp_path, name))
    assert paths(tree) == []
    assert tree.companions == {}


@pytest.mark.parametrize("name", ["desktop.ini", "Desktop.INI", "Thumbs.db", "THUMBS.DB", ".DS_Store", "a~"])
def test_ignored_companions(tmp_path, name):
    assert look(make(tmp_path, name)).companions == {}


@pytest.mark.parametrize(
    "name", ["x y.rtdc", "'\".rtdc", "a\nb.rtdc", "Größe.rtdc", "\udce4.rtdc", "-rf.rtdc"]
)
def test_odd_names(tmp_path, name):
    assert paths(look(make(tmp_path, name))) == [name]


class TestLinks:
    def test_circles_end(self, tmp_path):
        root = make(tmp_path / "raw", "a/M1.rtdc")
        (root / "a/up").symlink_to(root)
        (root / "a/self").symlink_to(root / "a")
        assert paths(look(root)) == ["a/M1.rtdc"]

    @pytest.mark.parametrize("name", ["loop", "loop.rtdc"])
    def test_a_link_to_itself(self, tmp_path, name):
        make(tmp_path, "M1.rtdc")
        (tmp_path / name).symlink_to(tmp_path / name)
        tree = look(tmp_path)
        assert "M1.rtdc" in paths(tree)
        if name.endswith("rtdc"):
            (found,) = [f for f in tree.measurements if f.path == name]
            assert found.problem

    def test_a_folder_is_entered_once_by_its_own_path(self, tmp_path):
        make(tmp_path / "raw", "z/M1.rtdc")
        (tmp_path / "raw/a").symlink_to(tmp_path / "raw/z")
        assert paths(look(tmp_path / "raw")) == ["z/M1.rtdc"]

    def test_a_folder_elsewhere_is_entered(self, tmp_path):
        make(tmp_path / "other", "M1.rtdc")
        (tmp_path / "raw").mkdir()
        (tmp_path / "raw/a").symlink_to(tmp_path / "other")
        assert paths(look(tmp_path / "raw")) == ["a/M1.rtdc"]

    def test_a_broken_link_is_a_problem_of_its_own(self, tmp_path):
        (tmp_path / "M1.rtdc").symlink_to(tmp_path / "missing")
        (found,) = look(tmp_path).measurements
        assert "does not exist" in found.problem
        assert found.files == ()

    def test_a_linked_file_counts(self, tmp_path):
        make(tmp_path / "other", "x.bin")
        (tmp_path / "raw").mkdir()
        (tmp_path / "raw/M1.rtdc").symlink_to(tmp_path / "other/x.bin")
        (found,) = look(tmp_path / "raw").measurements
        assert (found.problem, found.files[0].size) == ("", 5)


class TestOddEntries:
    def test_a_folder_named_like_a_measurement(self, tmp_path):
        make(tmp_path, "M1.rtdc/M2.rtdc")
        tree = look(tmp_path)
        assert paths(tree) == ["M1.rtdc", "M1.rtdc/M2.rtdc"]
        assert "folder" in tree.measurements[0].problem
        assert tree.measurements[1].problem == ""

    def test_a_pipe_is_not_opened(self, tmp_path):
        os.mkfifo(tmp_path / "M1.rtdc")
        (found,) = look(tmp_path).measurements
        assert "not a regular file" in found.problem

    def test_a_folder_that_cannot_be_listed_is_reported(self, tmp_path, monkeypatch):
        make(tmp_path, "a/M1.rtdc", "b/M2.rtdc")
        scandir = os.scandir

        def refuse(path):
            if os.fspath(path).endswith("/a"):
                raise PermissionError(13, "Permission denied")
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refuse)
        tree = look(tmp_path)
        assert paths(tree) == ["b/M2.rtdc"]
        assert "permission" in tree.unreadable["a"]

    @pytest.mark.parametrize("path", ["missing", "file"])
    def test_a_root_that_cannot_be_listed_ends_the_run(self, tmp_path, path):
        (tmp_path / "file").write_text("x")
        with pytest.raises(UsageError, match=r"input\.root"):
            look(tmp_path / path)

    def test_nothing_is_written_or_opened(self, tmp_path):
        make(tmp_path, "a/M1.rtdc", "a/M1_data.tdms")
        before = snapshot(tmp_path)
        look(tmp_path)
        assert snapshot(tmp_path) == before


class TestPatterns:
    @pytest.mark.parametrize(
        ("path", "pattern", "expected"),
        [
            ("a/b/M1.rtdc", "M1.rtdc", True),
            ("a/b/M1.rtdc", "*.rtdc", True),
            ("a/b/M1.rtdc", "b", True),
            ("a/b/M1.rtdc", "b/", True),
            ("a/b/M1.rtdc", "a/b", True),
            ("a/b/M1.rtdc", "a/*", True),
            ("a/b/M1.rtdc", "M1", False),
            ("a/b/M1.rtdc", "c", False),
            ("a/b/M1.rtdc", "b/M1.rtdc", False),
            ("A/M1.rtdc", "a", False),
        ],
    )
    def test_matches(self, path, pattern, expected):
        assert matches(path, [pattern]) is expected

    def test_exclude_leaves_out_whole_folders(self, tmp_path):
        make(tmp_path, "a/test/M1.rtdc", "a/test/x/M2.rtdc", "a/M3.rtdc", "test.rtdc")
        assert paths(look(tmp_path, exclude=["test"])) == ["a/M3.rtdc", "test.rtdc"]

    def test_include_takes_measurements_only(self, tmp_path):
        make(tmp_path, "a/M1.rtdc", "a/beads.rtdc", "a/notes.txt")
        tree = look(tmp_path, include=["M*"])
        assert paths(tree) == ["a/M1.rtdc"]
        assert [c.path for c in tree.companions["a"]] == ["a/notes.txt"]

    def test_an_excluded_measurement_is_no_companion(self, tmp_path):
        tree = look(make(tmp_path, "a/M1.rtdc"), exclude=["M1.rtdc"])
        assert (paths(tree), tree.companions) == ([], {})


class TestTdms:
    SIDES = ("M1_camera.ini", "M1_contours.txt", "M1_imaq.avi", "M1_para.ini", "M1_data_traces.tdms")

    def test_side_files(self, tmp_path):
        common = ("parameters.txt", "FG_Config.mcf")
        make(tmp_path, "M1_data.tdms", "M1_data.tdms_index", *self.SIDES, *common, "other.txt")
        tree = look(tmp_path)
        assert paths(tree) == ["M1_data.tdms"]
        sides = files(tree, "M1_data.tdms")
        assert sides[0] == "M1_data.tdms"
        assert set(sides) == {"M1_data.tdms", "M1_data.tdms_index", *self.SIDES, *common}
        assert [c.path for c in tree.companions[""]] == ["other.txt"]

    def test_measurements_do_not_take_files_of_each_other(self, tmp_path):
        make(
            tmp_path,
            *("M1_data.tdms", "M10_data.tdms", "M1_para.ini", "M10_para.ini"),
            *("M1_data_traces.tdms", "M10_data_traces.tdms", "M1_data.tdms_index", "M10_data.tdms_index"),
        )
        tree = look(tmp_path)
        own = ["M1_data.tdms", "M1_data.tdms_index", "M1_data_traces.tdms", "M1_para.ini"]
        assert files(tree, "M1_data.tdms") == own
        assert len(files(tree, "M10_data.tdms")) == 4

    def test_short_names_do_not_take_files_of_longer_ones(self, tmp_path):
        make(tmp_path, "M1.tdms", "M1.tdms_index", "M10.tdms", "M10.tdms_index", "M1_traces.tdms_index")
        assert files(look(tmp_path), "M1.tdms") == ["M1.tdms", "M1.tdms_index", "M1_traces.tdms_index"]

    def test_beside_its_conversion_it_is_one_measurement(self, tmp_path):
        make(tmp_path, "M1_data.tdms", "M1_DATA.rtdc", "M1_para.ini", "M2.rtdc")
        tree = look(tmp_path)
        assert paths(tree) == ["M1_DATA.rtdc", "M2.rtdc"]
        assert "M1_data.tdms" in tree.measurements[0].note
        assert files(tree, "M1_DATA.rtdc") == ["M1_DATA.rtdc"]
        assert tree.companions == {}  # the side files are none

    def test_beside_an_excluded_conversion_it_counts(self, tmp_path):
        make(tmp_path, "M1_data.tdms", "M1_data.rtdc")
        assert paths(look(tmp_path, exclude=["*.rtdc"])) == ["M1_data.tdms"]

    def test_beside_a_folder_of_that_name_it_counts(self, tmp_path):
        make(tmp_path, "M1_data.tdms", "M1_data.rtdc/x.txt")
        assert "M1_data.tdms" in paths(look(tmp_path))

    def test_beside_a_broken_link_of_that_name_it_counts(self, tmp_path):
        make(tmp_path, "M1_data.tdms")
        (tmp_path / "M1_data.rtdc").symlink_to("missing")
        assert "M1_data.tdms" in paths(look(tmp_path))
