"""Which dataset a measurement belongs to, and under which name."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcorflow.discover.datasets import assign_datasets, assign_names, uploaded_before
from dcorflow.source.inventory import Item
from dcorflow.source.walk import walk


def items_of(*sources, root="raw"):
    return [Item(f"{root}-{n}", root, source, "rtdc") for n, source in enumerate(sources)]


def assigned(items, by="directory"):
    assign_datasets(items, by)
    assign_names(items)
    return {i.source: i.dataset for i in items}


def move(items, old, new):
    for item in items:
        if item.source.startswith(f"{old}/"):
            item.source = f"{new}/{item.source[len(old) + 1 :]}"


class TestDirectories:
    def test_each_folder_is_a_dataset(self):
        found = assigned(items_of("a/M1.rtdc", "a/M2.rtdc", "a/b/M1.rtdc", "c/M1.rtdc"))
        assert found == {"a/M1.rtdc": "a", "a/M2.rtdc": "a", "a/b/M1.rtdc": "a_b", "c/M1.rtdc": "c"}

    def test_measurements_in_the_root_itself(self):
        assert assigned(items_of("M1.rtdc")) == {"M1.rtdc": "raw"}

    def test_a_folder_named_like_the_root_is_another_dataset(self):
        found = assigned(items_of("M1.rtdc", "raw/M2.rtdc"))
        assert found["M1.rtdc"] != found["raw/M2.rtdc"]

    def test_similar_names_get_different_ids(self):
        folders = ["a b", "a_b", "a-b", "A b", "a/b", "細胞", "血", "data"]
        found = assigned(items_of(*(f"{f}/M1.rtdc" for f in folders)))
        assert len(set(found.values())) == len(folders)
        assert all(re.fullmatch("[a-z0-9_-]+", dataset) for dataset in found.values())

    def test_the_order_does_not_matter(self):
        sources = [f"{f}/M1.rtdc" for f in ("a b", "a_b", "A-b", "x", "Größe", "Groesse")]
        forward = assigned(items_of(*sources))
        assert assigned(items_of(*reversed(sources))) == forward

    def test_folders_named_with_superscripts(self):
        assert len(set(assigned(items_of("10²/M1.rtdc", "10³/M1.rtdc")).values())) == 2

    @settings(deadline=None, database=None, max_examples=100)
    @given(folders=st.lists(st.text("aA -_ä/.", min_size=1, max_size=5), unique=True, min_size=1, max_size=8))
    def test_one_dataset_per_folder(self, folders):
        items = items_of(*(f"{f}/M1.rtdc" for f in folders))
        found = assigned(items)
        assert len(set(found.values())) == len(folders)
        again = dict(found)
        assert assigned(items) == again

    def test_two_roots(self):
        items = items_of("a/M1.rtdc") + items_of("a/M1.rtdc", root="other")
        assigned(items)
        assert items[0].dataset != items[1].dataset

    def test_another_root_later_changes_nothing(self):
        items = items_of("a/M1.rtdc", "b/M1.rtdc", "M1.rtdc")
        before = assigned(items)
        items += items_of("a/M1.rtdc", root="other")
        assign_datasets(items, "directory")
        assert {i.source: i.dataset for i in items[:3]} == before
        assert items[3].dataset not in before.values()


class TestExpressions:
    def test_groups(self):
        by = r"^(?P<dataset>[^/]+)/"
        found = assigned(items_of("a/b/M1.rtdc", "a/c/M2.rtdc", "d/M1.rtdc"), by)
        assert found == {"a/b/M1.rtdc": "a", "a/c/M2.rtdc": "a", "d/M1.rtdc": "d"}

    @pytest.mark.parametrize("by", [r"^(?P<dataset>x)/", r"(?P<dataset>z)?M", r"(?P<dataset>)M"])
    def test_without_a_match_it_belongs_to_none(self, by):
        (item,) = items_of("a/M1.rtdc")
        assign_datasets([item], by)
        assert (item.state, item.dataset) == ("problem", "")
        assert "datasets.by" in item.reason

    def test_the_match_comes_back(self):
        items = items_of("a/M1.rtdc")
        before = assigned(items)
        assign_datasets(items, "(?P<dataset>x)")
        items[0].state = "found"
        assert assigned(items) == before

    def test_two_files_of_one_name_get_different_names(self):
        items = items_of("a/x/blood.rtdc", "a/y/blood.rtdc", "a/y/Blood.RTDC")
        assigned(items, r"^(?P<dataset>[^/]+)/")
        assert len({i.name.lower() for i in items}) == 3


class TestMoves:
    def test_a_renamed_folder_keeps_dataset_and_origin(self):
        items = items_of("a/M1.rtdc", "a/M2.rtdc", "b/M1.rtdc")
        assigned(items)
        move(items, "a", "z/new name")
        assert assigned(items) == {
            "z/new name/M1.rtdc": "a",
            "z/new name/M2.rtdc": "a",
            "b/M1.rtdc": "b",
        }
        assert [i.origin for i in items] == ["a", "a", "b"]
        assert assigned(items)["z/new name/M1.rtdc"] == "a"  # and later, too

    def test_a_new_folder_with_the_old_name_is_another_dataset(self):
        items = items_of("a/M1.rtdc")
        assigned(items)
        move(items, "a", "z")
        items += [Item("raw-9", "raw", "a/M9.rtdc", "rtdc")]
        found = assigned(items)
        assert found["z/M1.rtdc"] == "a"
        assert found["a/M9.rtdc"] not in ("", "a")

    def test_swapped_folders(self):
        items = items_of("a/M1.rtdc", "b/M1.rtdc")
        assigned(items)
        move(items[:1], "a", "b")
        move(items[1:], "b", "a")
        assert assigned(items) == {"b/M1.rtdc": "a", "a/M1.rtdc": "b"}

    def test_what_leaves_a_folder_is_a_new_dataset(self):
        items = items_of("a/M1.rtdc", "a/M2.rtdc")
        assigned(items)
        items[1].source = "b/M2.rtdc"
        assert assigned(items) == {"a/M1.rtdc": "a", "b/M2.rtdc": "b"}

    def test_what_comes_into_a_folder_joins_its_dataset(self):
        items = items_of("a/M1.rtdc", "b/M1.rtdc")
        assigned(items)
        items[1].source = "a/M2.rtdc"
        assert set(assigned(items).values()) == {"a"}

    def test_a_folder_whose_files_were_replaced_stays_one_dataset(self):
        items = items_of("a/M1.rtdc")
        assigned(items)
        items[0].state = "gone"
        items.append(Item("raw-9", "raw", "a/M9.rtdc", "rtdc"))
        assigned(items)
        items[0].state = "found"
        assert len(set(assigned(items).values())) == 1


class TestNames:
    def test_generic_names_get_the_folder_in_front(self):
        items = items_of("x/Blood Müller/M1_data.rtdc", "x/Blood Müller/HL60.rtdc", "M2.rtdc")
        assigned(items)
        assert [i.name for i in items] == ["Blood_Mueller_M1_data.rtdc", "HL60.rtdc", "raw_M2.rtdc"]

    def test_tdms_becomes_rtdc(self):
        items = [Item("1", "raw", "a/M1_x.tdms", "tdms"), Item("2", "raw", "a/m1_X.rtdc", "rtdc")]
        assigned(items)
        assert len({i.name.lower() for i in items}) == 2
        assert all(i.name.endswith(".rtdc") for i in items)

    def test_names_are_kept(self):
        items = items_of("a/one.rtdc", "a/two.rtdc")
        assigned(items)
        items.append(Item("raw-9", "raw", "a/One.rtdc", "rtdc"))
        assigned(items)
        assert [i.name for i in items] == ["one.rtdc", "two.rtdc", "One_2.rtdc"]

    def test_names_of_gone_measurements_stay_taken(self):
        items = items_of("a/one.rtdc")
        assigned(items)
        items[0].state = "gone"
        items.append(Item("raw-9", "raw", "a/one.RTDC", "rtdc"))
        assigned(items)
        places = {(i.dataset, i.name.lower()) for i in items}
        assert len(places) == 2

    @settings(deadline=None, database=None, max_examples=100)
    @given(names=st.lists(st.text("aAä ./", min_size=1, max_size=4), unique=True, min_size=1, max_size=8))
    def test_names_are_unique_in_their_dataset(self, names):
        items = items_of(*(f"x/{n}.rtdc" for n in names))
        assigned(items, "(?P<dataset>x)")
        assert len({i.name.lower() for i in items}) == len(names)
        assert all("/" not in i.name and not i.name.startswith(".") for i in items)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (json.dumps({"upload_job": {"dataset_id": "abc"}}), "abc"),
        (json.dumps({"upload_job": {}, "dataset_dict": {"id": "abc"}}), "abc"),
        (json.dumps({"upload_job": {"task_id": "x"}}), None),
        ("{", None),
        ("[]", None),
        ('{"upload_job": null}', None),
        ("\x00\xff", None),
    ],
)
def test_tasks_with_dataset_ids_are_noticed(tmp_path, text, expected):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/upload.dcoraid-task").write_text(text, encoding="latin-1")
    known = uploaded_before([walk(tmp_path, ["*"], [])])
    assert known == ({(tmp_path.name, "a"): ("a/upload.dcoraid-task", expected)} if expected else {})
