"""What is known of the measurements on a server: found by an index, and asked for without gaps."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from runs import steps_of

from dcorflow.files import to_json, write_text
from dcorflow.server import find_server
from dcorflow.upload import audit
from dcorflow.upload.audit import Match, Seen
from dcorflow.workdir import Workdir

SERVER = find_server("http://127.0.0.1:5000")


def stored(folder: Path, datasets: dict[str, Any]) -> Seen:
    """Return what an earlier run has kept of a server."""
    work = Workdir(folder)
    write_text(
        work.state / "seen" / f"{SERVER.name}.json",
        to_json({"until": "2026-01-01T00:00:00", "datasets": datasets}),
    )
    return Seen(work, SERVER)


def entry(*resources: list[str]) -> dict[str, Any]:
    return {"title": "Blood", "state": "active", "resources": list(resources)}


def searched(datasets: dict[str, Any], *wanted: str) -> list[Match]:
    """Find a measurement as simply as can be: by looking at all of them."""
    name, sha256, etag, identity = wanted
    found = []
    for dataset_id, there in datasets.items():
        rows = there["resources"]
        same = [r[0] for r in rows if sha256 and r[1] == sha256]
        same += [r[0] for r in rows if etag and r[2] == etag]
        alike = [r[0] for r in rows if identity and r[3] == identity]
        for names, how in ((same, "same content"), (alike, "same measurement")):
            if names:
                found.append((how, dataset_id, names))
                break
    return [
        Match(name, i, datasets[i]["title"], datasets[i]["state"], n[0], how) for how, i, n in sorted(found)
    ]


def test_the_index_finds_what_a_search_finds(tmp_path: Path) -> None:
    chance = random.Random(3)

    def some(kind: str) -> str:
        return chance.choice(["", *(f"{kind}{n}" for n in range(12))])

    datasets = {
        f"id-{n}": entry(*([f"M{m}.rtdc", some("s"), some("e"), some("i")] for m in range(n % 4)))
        for n in range(60)
    }
    seen = stored(tmp_path, datasets)
    kinds = set()
    for _ in range(300):
        wanted = ("mine.rtdc", some("s"), some("e"), some("i"))
        found = seen.find(*wanted)
        assert sorted(found, key=lambda m: m.dataset_id) == sorted(
            searched(datasets, *wanted), key=lambda m: m.dataset_id
        )
        assert [m.how for m in found] == sorted(m.how for m in found), "content goes before identity"
        kinds |= {m.how for m in found}
    assert kinds == {"same content", "same measurement"}
    assert seen.find("mine.rtdc", "", "", "") == []


def test_all_digits_of_a_number_count(tmp_path: Path) -> None:
    """Of an event count as of a time that somebody wrote as a number."""
    there = {
        "experiment:date": "2026-01-01",
        "experiment:time": "12:00:00",
        "experiment:run index": 4,
        "experiment:event count": 1234567,
        "setup:identifier": "ZMD",
    }

    def identity(**change: Any) -> str:
        values = there | {f"experiment:{k.replace('_', ' ')}": v for k, v in change.items()}
        return audit._identity({f"dc:{k}": v for k, v in values.items()})

    assert identity() == identity(event_count="1234567", run_index=4.0)
    others = [
        identity(event_count=1234568),
        identity(time="1763980000000000000"),
        identity(time="1763980000001000000"),
    ]
    assert len({identity(), *others}) == 4
    assert identity(time=None) == ""


def test_a_look_takes_no_longer_on_a_large_server(tmp_path: Path) -> None:
    taken = []
    for count in (10, 3000):
        datasets = {f"id-{n}": entry([f"M{n}.rtdc", f"s{n}", f"e{n}", f"i{n}"]) for n in range(count)}
        seen = stored(tmp_path / str(count), datasets)
        look = functools.partial(seen.find, "mine.rtdc", "s7", "", "i8")
        assert [m.other for m in look()] == ["M7.rtdc", "M8.rtdc"]
        taken.append([steps_of(look), steps_of(functools.partial(seen.titled, "none"))])
    assert taken[0] == taken[1]


class Shelf:
    """A server that answers searches by time of change, and on which others are at work meanwhile."""

    def __init__(self, count: int) -> None:
        self.modified = {f"id-{n}": f"2026-02-01T{n // 60:02}:{n % 60:02}:00" for n in range(count)}
        self.asked: list[str] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def page(self, api: Any, query: str, start: int) -> list[dict[str, Any]]:
        self.asked.append(query)
        since = query.partition("[")[2].partition("Z")[0]
        found = sorted((t, i) for i, t in self.modified.items() if t >= since)[start : start + audit._ROWS]
        self.meanwhile()
        return [
            {"id": i, "title": i, "state": "active", "resources": [], "metadata_modified": t}
            for t, i in found
        ]

    def touch(self, *ids: str) -> None:
        latest = max(self.modified.values())
        self.modified |= dict.fromkeys(ids, latest + "5")


class Now:
    """Patience that is never needed."""

    @staticmethod
    def insist(ask: Callable[[], Any]) -> Any:
        return ask()


class Circles:
    circles: ClassVar = {"mine": "circle-id"}


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    made = Shelf(350)
    monkeypatch.setattr(audit, "_page", made.page)
    return made


def test_nothing_is_passed_over_where_others_change_datasets(shelf: Shelf, tmp_path: Path) -> None:
    """A change moves a dataset to the end, and all behind it up, over the edge of a page."""
    turns = iter(range(3))

    def change() -> None:
        turn = next(turns, None)
        if turn is not None:
            shelf.touch(*(f"id-{100 * turn + n}" for n in range(5)))

    shelf.meanwhile = change
    seen = Seen(Workdir(tmp_path), SERVER).refresh(None, Circles, Now)  # type: ignore[arg-type]
    assert seen.datasets.keys() == shelf.modified.keys()


def test_equal_times_are_no_dead_end(shelf: Shelf, tmp_path: Path) -> None:
    shelf.modified = dict.fromkeys(shelf.modified, "2026-02-01T00:00:00")
    seen = Seen(Workdir(tmp_path), SERVER).refresh(None, Circles, Now)  # type: ignore[arg-type]
    assert seen.datasets.keys() == shelf.modified.keys()


def test_the_next_run_asks_for_what_changed(shelf: Shelf, tmp_path: Path) -> None:
    """And for a while before, since the index of a server may learn of changes late."""
    Seen(Workdir(tmp_path), SERVER).refresh(None, Circles, Now)  # type: ignore[arg-type]
    shelf.asked.clear()
    shelf.modified["late"] = "2026-02-01T05:40:00"
    seen = Seen(Workdir(tmp_path), SERVER).refresh(None, Circles, Now)  # type: ignore[arg-type]
    assert "late" in seen.datasets
    assert len(shelf.asked) == 1
    assert "metadata_modified:[2026-02-01T05:39:00Z TO *]" in shelf.asked[0]
