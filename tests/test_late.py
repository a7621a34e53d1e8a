"""Measurements that come after their dataset was published become a dataset of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_datasets import items_of, move

from dcorflow.discover.datasets import assign_datasets, assign_names
from dcorflow.discover.late import companions_of, dataset_subjects, late_title, part_of, split_late
from dcorflow.files import to_json, write_text
from dcorflow.metadata.sheet import DatasetSheet
from dcorflow.metadata.tables import read_table
from dcorflow.published import Publications, receipt_path
from dcorflow.server import Server, find_server
from dcorflow.source.inventory import Item
from dcorflow.workdir import Workdir

HERE, THERE = find_server("http://127.0.0.1:15000"), find_server("dcor")


@pytest.fixture
def work(tmp_path: Path) -> Workdir:
    return Workdir(tmp_path)


def publish(work: Workdir, items: list[Item], dataset: str, server: Server = HERE, *others: str) -> None:
    """Write a receipt of what a dataset has now."""
    resources = [{"name": i.name, "measurement": i.measurement} for i in items if i.dataset == dataset]
    resources += [{"name": name, "measurement": ""} for name in others]
    write_text(receipt_path(work, server, dataset), to_json({"resources": resources}))


def discover(work: Workdir, items: list[Item], server: Server = HERE, stays: tuple[str, ...] = ()) -> dict:
    """Assign everything as one run would; return the datasets by source."""
    assign_datasets(items, "directory", server=server.name)
    split_late(items, Publications(work, server), lambda m: m in stays, as_on_disk=True)
    assign_names(items)
    return {i.source: i.dataset for i in items}


def added(items: list[Item], *sources: str) -> None:
    items += [Item(f"late-{s}", "raw", s, "rtdc") for s in sources]


def test_late_ones_share_a_dataset_until_that_is_published(work: Workdir) -> None:
    items = items_of("a/M1.rtdc", "a/M2.rtdc", "b/M1.rtdc")
    assert discover(work, items)["a/M1.rtdc"] == "a"
    publish(work, items, "a")
    added(items, "a/M3.rtdc", "b/M2.rtdc")
    found = discover(work, items)
    assert found == {"a/M1.rtdc": "a", "a/M2.rtdc": "a", "a/M3.rtdc": "a_later-1", "b/M1.rtdc": "b",
                     "b/M2.rtdc": "b"}  # fmt: skip
    added(items, "a/M4.rtdc")
    assert discover(work, items)["a/M4.rtdc"] == "a_later-1"
    assert discover(work, items) == discover(work, items)
    publish(work, items, "a_later-1")
    added(items, "a/M5.rtdc")
    found = discover(work, items)
    assert (found["a/M3.rtdc"], found["a/M5.rtdc"]) == ("a_later-1", "a_later-2")
    assert len({i.origin for i in items if i.dataset.startswith("a")}) == 3, "each has its own task id"


def test_the_folder_may_move_and_the_receipts_may_be_lost(work: Workdir) -> None:
    items = items_of("a/M1.rtdc")
    discover(work, items)
    publish(work, items, "a")
    added(items, "a/M2.rtdc")
    before = {i.measurement: (i.dataset, i.origin) for i in items if discover(work, items)}
    move(items, "a", "x/y")
    assert {i.measurement: (i.dataset, i.origin) for i in items if discover(work, items)} == before
    receipt_path(work, HERE, "a").unlink()
    assert {i.measurement: (i.dataset, i.origin) for i in items if discover(work, items)} == before


def test_another_server_knows_nothing_of_it(work: Workdir) -> None:
    items = items_of("a/M1.rtdc")
    discover(work, items)
    publish(work, items, "a")
    added(items, "a/M2.rtdc")
    apart = discover(work, items)
    publish(work, items, "a_later-1")
    assert discover(work, items, THERE) == {"a/M1.rtdc": "a", "a/M2.rtdc": "a"}
    assert discover(work, items) == apart
    added(items, "a/M3.rtdc")
    assert discover(work, items)["a/M3.rtdc"] == "a_later-2"


def test_what_was_not_to_be_published_is_not_late(work: Workdir) -> None:
    items = items_of("a/M1.rtdc", "a/M2.rtdc")
    discover(work, items)
    publish(work, items[:1], "a")
    assert discover(work, items, stays=("raw-1",))["a/M2.rtdc"] == "a"
    assert discover(work, items)["a/M2.rtdc"] == "a_later-1"


def test_a_folder_named_like_the_late_dataset(work: Workdir) -> None:
    items = items_of("a/M1.rtdc", "a/later-1/M1.rtdc")
    discover(work, items)
    publish(work, items, "a")
    publish(work, items, "a_later-1")
    added(items, "a/M2.rtdc")
    found = discover(work, items)
    assert len(set(found.values())) == 3


def test_in_doubt_nothing_is_late(work: Workdir) -> None:
    """Published under other names, by a version that noted no measurements."""
    items = items_of("a/M1.rtdc")
    discover(work, items)
    write_text(receipt_path(work, HERE, "a"), to_json({"resources": [{"name": "2026_M1_ab.rtdc"}]}))
    published = Publications(work, HERE)
    assert published.holds("a", "other", "M2.rtdc", as_on_disk=False)
    assert not published.holds("a", "other", "M2.rtdc", as_on_disk=True)


def members_of(items: list[Item]) -> dict[str, list[Item]]:
    return {d: [i for i in items if i.dataset == d] for d in sorted({i.dataset for i in items})}


def test_companions_go_with_the_dataset_that_has_them(work: Workdir) -> None:
    items = items_of("a/M1.rtdc", "b/M1.rtdc")
    discover(work, items)
    publish(work, items, "a", HERE, "notes.txt")
    added(items, "a/M2.rtdc")
    discover(work, items)
    takes = companions_of(members_of(items), Publications(work, HERE))
    assert [takes(d, "notes.txt") for d in ("a", "a_later-1", "b")] == [True, False, True]
    assert [takes(d, "more.txt") for d in ("a", "a_later-1", "b")] == [False, True, True]


def test_rows_of_the_first_dataset_are_about_the_late_ones(work: Workdir, tmp_path: Path) -> None:
    items = items_of("a/M1.rtdc")
    discover(work, items)
    publish(work, items, "a")
    added(items, "a/M2.rtdc")
    discover(work, items)
    publish(work, items, "a_later-1")
    added(items, "a/M3.rtdc")
    discover(work, items)
    path = tmp_path / "sheet.tsv"
    path.write_text(
        "dataset\tsource\ttitle\tauthors\tnotes\na\ta\tMine\tA. Name\tall\na_later-1\ta\t\tB. Name\t\n"
    )
    sheet = DatasetSheet(read_table(path), dataset_subjects(members_of(items)))
    said = {d: {k: c.value for k, c in sheet.entry(d)[0].items()} for d in ("a", "a_later-1", "a_later-2")}
    assert not sheet.problems
    assert said["a"] == {"title": "Mine", "authors": ["A. Name"], "notes": "all"}
    assert said["a_later-1"] == said["a"] | {"authors": ["B. Name"]}
    assert said["a_later-2"] == said["a"]


@pytest.mark.parametrize("part", [1, 2, 11])
def test_the_title_says_so_once(part: int) -> None:
    title = late_title("Blood", part)
    assert title.startswith("Blood (later measurements")
    assert late_title(title, part) == title
    assert part_of(f"x/y//{part}@dcor") == part


def test_ordinary_keys_are_of_the_first_dataset() -> None:
    assert part_of("x/y@2") == part_of("") == 0
