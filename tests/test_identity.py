"""Who is who: measurements that are young, grown, touched, altered, moved, copied, or gone."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from dcorflow.errors import UsageError
from dcorflow.files import content_digest
from dcorflow.source import identity
from dcorflow.source.identity import Matcher
from dcorflow.source.inventory import Item, load_inventory, save_inventory
from dcorflow.source.probe import Probe, fingerprint
from dcorflow.source.walk import walk

OLD = time.time() - 100_000


class Lab:
    """A source tree, and the passes over it; each pass reads the inventory of the one before."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.roots = [folder / "raw"]
        self.roots[0].mkdir()
        self.prepared: dict[str, str] = {}
        self.probed: list[str] = []
        self.settings = {"min_age": 120, "max_vanished": 0.5}
        self.exclude: list[str] = []
        monkeypatch.setattr(identity, "probe_all", self._probe_all)

    def _probe_all(self, jobs, workers):
        found = []
        for _, paths in jobs:
            self.probed.append(paths[0].name)
            data = paths[0].read_bytes()
            result = Probe(fingerprint(paths), events=1, writing=data.startswith(b"SWMR"))
            if data.startswith(b"BAD"):
                result.problem = "zero events"
            if data.startswith(b"SHY"):
                result.problem, result.failure = "no permission", "environment"
            found.append(result)
        return found

    def write(self, path: str, data: str | None = None, age: float = 100_000, root: int = 0) -> Path:
        full = self.roots[root] / path
        full.parent.mkdir(parents=True, exist_ok=True)
        full.write_text(data if data is not None else f"content of {path}")
        then = time.time() - age if age != 100_000 else OLD
        os.utime(full, (then, then))
        return full

    def run(self, prepare: bool = True) -> dict[str, Item]:
        """Do one pass; return the items by source."""
        path = self.folder / "inventory.tsv"
        items = load_inventory(path)
        self.probed.clear()
        trees = [walk(root, ["*"], self.exclude) for root in self.roots]
        matcher = Matcher(
            items, trees, known_content=lambda m: self.prepared.get(m, ""), workers=1, **self.settings
        )
        self.changes = matcher.run()
        save_inventory(path, items)
        if prepare:
            roots = {root.name: root for root in self.roots}
            for item in items:
                if item.state == "found":
                    paths = [roots[item.root] / f.path for f in item.files]
                    self.prepared[item.measurement] = content_digest(paths)
        assert len({i.measurement for i in items}) == len(items)
        self.items = items
        return {f"{i.root}/{i.source}" if len(self.roots) > 1 else i.source: i for i in items}


@pytest.fixture
def lab(tmp_path, monkeypatch):
    return Lab(tmp_path, monkeypatch)


def states(items):
    return {source: item.state for source, item in items.items()}


class TestNew:
    def test_found_once_and_never_probed_again(self, lab):
        lab.write("a/M1.rtdc")
        assert states(lab.run()) == {"a/M1.rtdc": "found"}
        assert lab.probed == ["M1.rtdc"]
        before = (lab.folder / "inventory.tsv").stat()
        lab.run()
        assert lab.probed == []
        after = (lab.folder / "inventory.tsv").stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    def test_young_files_wait(self, lab):
        path = lab.write("M1.rtdc", age=10)
        item = lab.run()["M1.rtdc"]
        assert item.state == "in progress"
        assert "min_age" in item.reason
        assert lab.probed == []
        os.utime(path, (OLD, OLD))
        assert states(lab.run()) == {"M1.rtdc": "found"}

    def test_min_age_zero_waits_for_nothing(self, lab):
        lab.settings["min_age"] = 0
        lab.write("M1.rtdc", age=0)
        assert states(lab.run()) == {"M1.rtdc": "found"}

    @pytest.mark.parametrize(("ahead", "state"), [(30, "in progress"), (400_000, "found")])
    def test_times_in_the_future(self, lab, ahead, state):
        lab.write("M1.rtdc", age=-ahead)
        assert states(lab.run()) == {"M1.rtdc": state}

    def test_a_young_side_file_counts(self, lab):
        lab.write("M1_data.tdms")
        lab.write("M1_para.ini", age=5)
        assert states(lab.run()) == {"M1_data.tdms": "in progress"}

    def test_swmr_is_looked_at_again(self, lab):
        path = lab.write("M1.rtdc", "SWMR")
        for _ in range(2):
            item = lab.run()["M1.rtdc"]
            assert (item.state, lab.probed) == ("in progress", ["M1.rtdc"])
        path.write_text("done")
        os.utime(path, (OLD, OLD))
        lab.run()
        assert states(lab.run()) == {"M1.rtdc": "found"}

    def test_problems_of_the_content_are_not_looked_at_again(self, lab):
        lab.write("M1.rtdc", "BAD")
        assert lab.run()["M1.rtdc"].reason == "zero events"
        assert (lab.run()["M1.rtdc"].state, lab.probed) == ("problem", [])

    def test_problems_of_the_environment_are(self, lab):
        lab.write("M1.rtdc", "SHY")
        lab.run()
        assert (lab.run()["M1.rtdc"].failure, lab.probed) == ("environment", ["M1.rtdc"])

    def test_ids_of_similar_paths_differ(self, lab):
        for path in ("a/M 1.rtdc", "a/M_1.rtdc", "a/M-1.rtdc", "A/M-1.rtdc", "a/M1.rtdc", "a/m1.RTDC"):
            lab.write(path)
        assert len({i.measurement for i in lab.run().values()}) == 6


class TestChanged:
    def test_grown_since_the_last_run_waits_once(self, lab):
        lab.write("M1.rtdc", "short")
        lab.run()
        lab.write("M1.rtdc", "longer than before")
        item = lab.run()["M1.rtdc"]
        assert item.state == "in progress"
        assert "size changed" in item.reason
        assert states(lab.run()) == {"M1.rtdc": "found"}

    def test_growing_all_the_time_waits_all_the_time(self, lab):
        for length in range(1, 5):
            lab.write("M1.rtdc", "x" * length, age=500)
            item = lab.run()["M1.rtdc"]
            assert (item.state == "found") == (length == 1)

    def test_touched_keeps_its_id(self, lab):
        path = lab.write("M1.rtdc")
        before = lab.run()["M1.rtdc"]
        os.utime(path, (OLD + 7, OLD + 7))
        after = lab.run()["M1.rtdc"]
        assert (after.measurement, after.state) == (before.measurement, "found")
        assert after.fingerprint == before.fingerprint
        assert len(lab.changes.altered) == 1

    def test_altered_has_another_fingerprint(self, lab):
        lab.write("M1.rtdc", "one")
        before = lab.run()["M1.rtdc"]
        path = lab.write("M1.rtdc", "two")
        os.utime(path, (OLD + 7, OLD + 7))
        after = lab.run()["M1.rtdc"]
        assert (after.measurement, after.state) == (before.measurement, "found")
        assert after.fingerprint != before.fingerprint

    def test_a_new_side_file_alters_a_measurement(self, lab):
        lab.write("M1_data.tdms")
        lab.run()
        lab.write("M1_para.ini")
        lab.run()
        assert len(lab.changes.altered) == 1


class TestMoved:
    @pytest.mark.parametrize("same_time", [True, False])
    def test_renamed_and_moved_keep_their_ids(self, lab, same_time):
        for n in (1, 2, 3):
            lab.write(f"a/M{n}.rtdc")
        before = {i.measurement for i in lab.run().values()}
        lab.roots[0].joinpath("a").rename(lab.roots[0] / "b")
        lab.roots[0].joinpath("b/M1.rtdc").rename(lab.roots[0] / "b/blood.rtdc")
        if not same_time:
            for path in lab.roots[0].rglob("*.rtdc"):
                os.utime(path, (OLD + 500, OLD + 500))
        items = lab.run()
        assert set(items) == {"b/blood.rtdc", "b/M2.rtdc", "b/M3.rtdc"}
        assert {i.measurement for i in items.values()} == before
        assert len(lab.changes.moved) == 3
        assert lab.changes.new == lab.changes.gone == []

    def test_moved_by_copying_keeps_its_id_when_it_is_old_enough(self, lab):
        path = lab.write("a/M1.rtdc")
        before = lab.run()["a/M1.rtdc"].measurement
        lab.write("a/M2.rtdc")
        lab.run()
        copy = lab.write("b/M1.rtdc", path.read_text(), age=3)
        path.unlink()
        lab.run()
        os.utime(copy, (OLD + 100, OLD + 100))
        lab.run()
        assert lab.run()["b/M1.rtdc"].measurement == before

    def test_a_folder_with_two_equal_files_keeps_its_ids(self, lab):
        lab.write("a/M1.rtdc", "same")
        lab.write("a/Kopie von M1.rtdc", "same")
        before = lab.run()
        lab.roots[0].joinpath("a").rename(lab.roots[0] / "b")
        after = lab.run()
        names = ("M1.rtdc", "Kopie von M1.rtdc")
        assert [after[f"b/{n}"].measurement for n in names if f"b/{n}" in after] == [
            before[f"a/{n}"].measurement for n in names
        ]
        assert [after[f"b/{n}"].state for n in names] == [before[f"a/{n}"].state for n in names]
        assert len(after) == 2

    def test_equal_samples_and_other_content_is_another_measurement(self, lab, monkeypatch):
        lab.write("a/M1.rtdc", "one")
        before = lab.run()["a/M1.rtdc"].measurement
        monkeypatch.setattr("test_identity.fingerprint", lambda paths: "0" * 32)
        (lab.roots[0] / "a/M1.rtdc").unlink()
        lab.items[0].fingerprint = "0" * 32
        save_inventory(lab.folder / "inventory.tsv", lab.items)
        path = lab.write("b/M1.rtdc", "two")
        os.utime(path, (OLD + 5, OLD + 5))
        lab.settings["max_vanished"] = 1
        assert lab.run()["b/M1.rtdc"].measurement != before

    def test_into_another_root(self, lab):
        lab.roots.append(lab.folder / "other")
        lab.roots[1].mkdir()
        lab.write("a/M1.rtdc")
        lab.write("a/M2.rtdc")
        lab.write("x/M3.rtdc", root=1)
        before = lab.run()["raw/a/M1.rtdc"].measurement
        shutil.move(lab.roots[0] / "a/M1.rtdc", lab.roots[1] / "M1.rtdc")
        items = lab.run()
        assert items["other/M1.rtdc"].measurement == before


class TestGone:
    def fill(self, lab, count=4):
        for n in range(count):
            lab.write(f"a/M{n}.rtdc")
        return lab.run()

    def test_gone_and_back(self, lab):
        before = self.fill(lab)
        path = lab.roots[0] / "a/M1.rtdc"
        path.rename(lab.folder / "away")
        item = lab.run()["a/M1.rtdc"]
        assert (item.state, lab.changes.gone) == ("gone", [item])
        assert "vanished" in item.reason
        lab.run()
        assert lab.changes.gone == []  # said once
        (lab.folder / "away").rename(path)
        after = lab.run()["a/M1.rtdc"]
        assert (after.state, after.measurement) == ("found", before["a/M1.rtdc"].measurement)
        assert lab.changes.back == [after]

    @pytest.mark.parametrize("data", ["BAD", "SWMR"])
    def test_what_was_unusable_is_so_when_it_comes_back(self, lab, data):
        lab.write("a/X.rtdc", data)
        state = self.fill(lab)["a/X.rtdc"].state
        path = lab.roots[0] / "a/X.rtdc"
        path.rename(lab.folder / "away")
        assert lab.run()["a/X.rtdc"].state == "gone"
        (lab.folder / "away").rename(path)
        assert lab.run()["a/X.rtdc"].state == state

    def test_a_mostly_vanished_root_stops_the_run(self, lab):
        self.fill(lab)
        before = (lab.folder / "inventory.tsv").read_bytes()
        for n in (0, 1, 2):
            (lab.roots[0] / f"a/M{n}.rtdc").unlink()
        with pytest.raises(UsageError, match=r"3 of 4 .* mounted"):
            lab.run()
        assert (lab.folder / "inventory.tsv").read_bytes() == before
        lab.settings["max_vanished"] = 1
        assert sorted(states(lab.run()).values()) == ["found", "gone", "gone", "gone"]

    def test_an_empty_root_stops_the_run(self, lab):
        self.fill(lab, 1)
        (lab.roots[0] / "a/M0.rtdc").unlink()
        with pytest.raises(UsageError, match=r"input\.root"):
            lab.run()

    def test_a_root_without_measurements_stops_the_first_run(self, lab):
        with pytest.raises(UsageError, match="no measurement"):
            lab.run()

    def test_half_of_it_may_vanish(self, lab):
        self.fill(lab)
        for n in (0, 1):
            (lab.roots[0] / f"a/M{n}.rtdc").unlink()
        assert list(states(lab.run()).values()).count("gone") == 2

    def test_one_vanished_root_of_two_stops_the_run(self, lab):
        lab.roots.append(lab.folder / "other")
        lab.roots[1].mkdir()
        for n in range(10):
            lab.write(f"M{n}.rtdc", root=0)
        lab.write("X.rtdc", root=1)
        lab.run()
        (lab.roots[1] / "X.rtdc").unlink()
        with pytest.raises(UsageError, match="other"):
            lab.run()

    def test_a_folder_that_cannot_be_listed_hides_its_measurements(self, lab, monkeypatch):
        self.fill(lab)
        lab.write("b/M9.rtdc")
        lab.run()
        scandir = os.scandir

        def refuse(path):
            if os.fspath(path).endswith("/a"):
                raise PermissionError(13, "Permission denied")
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refuse)
        items = lab.run(prepare=False)
        assert items["a/M1.rtdc"].state == "problem"
        assert items["a/M1.rtdc"].failure == "environment"
        monkeypatch.setattr(os, "scandir", scandir)
        assert set(states(lab.run()).values()) == {"found"}


class TestFiltered:
    def test_what_the_settings_leave_out_is_neither_gone_nor_vanished(self, lab):
        for number in range(6):
            lab.write(f"a/M{number}.rtdc")
        lab.write("b/M1.rtdc")
        lab.run()
        lab.exclude = ["a"]
        items = lab.run()
        assert {items[f"a/M{n}.rtdc"].state for n in range(6)} == {"left out"}
        assert "input.exclude" in items["a/M1.rtdc"].reason
        assert not lab.changes.gone
        lab.exclude = []
        assert set(states(lab.run()).values()) == {"found"}

    def test_converted_later_by_hand(self, lab):
        lab.write("a/M1.tdms", "TDSm")
        lab.write("a/M2.rtdc")
        lab.run()
        lab.write("a/M1.rtdc")
        items = lab.run()
        assert items["a/M1.tdms"].state == "left out"
        assert "a/M1.rtdc is the same measurement" in items["a/M1.tdms"].reason
        assert items["a/M1.rtdc"].state == "found"
        assert not lab.changes.gone


class TestDuplicates:
    def test_a_link_is_never_the_original(self, lab):
        lab.write("b/M1_long_name.rtdc", "same")
        (lab.roots[0] / "a").mkdir()
        (lab.roots[0] / "a" / "link.rtdc").symlink_to(lab.roots[0] / "b" / "M1_long_name.rtdc")
        assert states(lab.run()) == {"a/link.rtdc": "duplicate", "b/M1_long_name.rtdc": "found"}

    def test_the_oldest_is_the_original(self, lab):
        lab.write("a/Kopie.rtdc", "same", age=90_000)
        lab.write("b/M1.rtdc", "same", age=200_000)
        items = lab.run()
        assert states(items) == {"a/Kopie.rtdc": "duplicate", "b/M1.rtdc": "found"}
        assert "b/M1.rtdc" in items["a/Kopie.rtdc"].reason

    def test_what_is_prepared_stays_the_original(self, lab):
        lab.write("a/M1.rtdc", "same")
        lab.run()
        lab.write("a/A.rtdc", "same", age=200_000)
        assert states(lab.run()) == {"a/M1.rtdc": "found", "a/A.rtdc": "duplicate"}

    def test_a_duplicate_takes_over_when_the_original_goes(self, lab):
        lab.write("a/M1.rtdc", "same")
        lab.write("a/copy.rtdc", "same", age=90_000)
        lab.write("a/other.rtdc")
        lab.run()
        (lab.roots[0] / "a/M1.rtdc").unlink()
        assert states(lab.run())["a/copy.rtdc"] == "found"

    def test_equal_samples_are_compared_byte_by_byte(self, lab, monkeypatch):
        monkeypatch.setattr("test_identity.fingerprint", lambda paths: "0" * 32)
        lab.write("a/M1.rtdc", "one")
        lab.write("a/M2.rtdc", "two")
        assert set(states(lab.run()).values()) == {"found"}

    def test_three_of_a_kind(self, lab):
        for name in "abc":
            lab.write(f"{name}/M1.rtdc", "same")
        assert sorted(states(lab.run()).values()) == ["duplicate", "duplicate", "found"]

    def test_across_roots_the_reason_tells_which(self, lab):
        lab.roots.append(lab.folder / "other")
        lab.roots[1].mkdir()
        lab.write("a/M1.rtdc", "same", age=200_000)
        lab.write("a/M1.rtdc", "same", root=1)
        item = lab.run()["other/a/M1.rtdc"]
        assert item.state == "duplicate"
        assert "raw" in item.reason


def test_inventory_survives_odd_names(lab):
    for name in ("a\tb.rtdc", "a\nb.rtdc", "\udcff.rtdc", "a\\tb.rtdc", " .rtdc"):
        lab.write(f"x/{name}", name.encode("unicode_escape", "surrogatepass").decode() if name else "")
    items = lab.run()
    assert len(items) == 5
    assert {i.source for i in load_inventory(lab.folder / "inventory.tsv")} == set(items)
    lab.run()
    assert lab.probed == []


@pytest.mark.parametrize(
    "damage", [lambda t: t[:-30], lambda t: "x\ty\n", lambda t: t.replace("found", "found\t")]
)
def test_a_damaged_inventory_is_not_guessed(lab, damage):
    lab.write("M1.rtdc")
    lab.run()
    path = lab.folder / "inventory.tsv"
    path.write_text(damage(path.read_text()))
    with pytest.raises(UsageError, match="damaged"):
        load_inventory(path)
