"""Measurements that came after their dataset was published: a dataset of their own for them.

Their key is that of the folder with ``//<number>@<server>`` behind it, which no path holds: what is
published on one server says nothing about another one.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Mapping

from dcorflow.config import Config
from dcorflow.files import read_json
from dcorflow.metadata.matching import Subject, subject_of
from dcorflow.naming import natural_key, slug
from dcorflow.published import Publications
from dcorflow.server import find_server
from dcorflow.source.inventory import Item
from dcorflow.workdir import Workdir

_MARK = "//"


def server_name(config: Config) -> str:
    """Return the name of the configured server, nothing where there is none."""
    setting = config["upload"].get("server")
    return find_server(setting).name if setting else ""


def publications(config: Config, work: Workdir) -> Publications | None:
    """Return what is final on the configured server; None where late measurements are only reported."""
    setting = config["upload"].get("server")
    apart = setting and config["datasets"]["on_late"] == "new_dataset"
    return Publications(work, find_server(setting)) if apart else None


def unfit_before(work: Workdir) -> Callable[[str], bool]:
    """Return what says whether a measurement was not to be published at the end of the last run."""
    unfit: set[str] = set()
    looked: list[bool] = []

    def stays(measurement: str) -> bool:
        if not looked:  # all tasks' decisions: only where something may be late
            looked.append(True)
            for path in sorted((work.state / "settled").glob("*.json")):
                with contextlib.suppress(OSError, ValueError, KeyError):
                    rows = read_json(path)["measurements"]
                    unfit.update(r["measurement"] for r in rows if r["status"] in ("failed", "excluded"))
        return measurement in unfit

    return stays


def base_of(key: str) -> str:
    """Return what made the dataset, whether of the first or of late measurements."""
    return key.partition(_MARK)[0]


def part_of(key: str) -> int:
    """Return 0 for the first dataset of a key, else the number of its late one."""
    return int(key.partition(_MARK)[2].partition("@")[0] or 0)


def kept_part(key: str, server: str) -> str:
    """Return the end of a key that tells of late measurements, nothing where another server is used now."""
    end = key.partition(_MARK)[2]
    return f"{_MARK}{end}" if end and server in ("", end.partition("@")[2]) else ""


def late_title(title: str, part: int) -> str:
    """Return the title of a dataset of late measurements."""
    words = "later measurements" if part == 1 else f"later measurements {part}"
    return title if title.endswith(f"({words})") else f"{title} ({words})"


def companions_of(
    members: Mapping[str, list[Item]], published: Publications | None
) -> Callable[[str, str], bool]:
    """Return what says whether a companion belongs to a dataset.

    Of several datasets from one folder it is that which was published with it, else the last one.

    Parameters
    ----------
    members
        Measurements by dataset.
    published
        What is final; None where late measurements are only reported.
    """
    together: dict[str, dict[int, str]] = defaultdict(dict)
    for dataset, items in members.items():
        together[base_of(items[0].key)][part_of(items[0].key)] = dataset
    siblings = {d: [parts[n] for n in sorted(parts)] for parts in together.values() for d in parts.values()}

    def takes(dataset: str, name: str) -> bool:
        family = siblings[dataset]
        if published is None or len(family) == 1:
            return True
        owners = [d for d in family if name.lower() in published.names(d)]
        return dataset == (owners or family)[-1]

    return takes


def dataset_subjects(members: Mapping[str, list[Item]]) -> list[Subject]:
    """Return what rows of the sheet of datasets can be about; rows of the first dataset are also
    about its late measurements, unless a row of theirs says otherwise.

    Parameters
    ----------
    members
        Measurements by dataset.
    """
    first = {
        base_of(item.key): dataset
        for dataset, items in members.items()
        for item in items
        if not part_of(item.key)
    }
    subjects, firsts = [], set(first.values())
    for dataset, items in members.items():
        keys = sorted({base_of(item.key) for item in items})
        if dataset in firsts or not any(key in first for key in keys):
            subjects.append(subject_of(dataset, *keys))
        else:
            subjects.append(subject_of(dataset, inherits=[first[key] for key in keys if key in first]))
    return subjects


def split_late(
    items: list[Item],
    published: Publications,
    stays: Callable[[str], bool],
    *,
    as_on_disk: bool,
    hide: Callable[[str], str] = str,
) -> None:
    """Move measurements that a published dataset does not hold to the next dataset of their key (in place).

    Parameters
    ----------
    items
        The inventory; every measurement has its dataset.
    published
        What is final on the server.
    stays
        Says of a measurement whether it is none to publish, so that it came not too late.
    as_on_disk
        See `Publications.holds`.
    hide
        Returns a name with pseudonyms.
    """
    together: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        if item.dataset:
            together[base_of(item.key)].append(item)
    owners = {item.dataset: base_of(item.key) for item in items}
    for base, inside in together.items():
        if not any(i.dataset in published.datasets for i in inside):
            continue
        parts = {part_of(i.key): (i.dataset, i.origin) for i in inside}
        for item in sorted(inside, key=lambda i: natural_key(i.source)):
            late = item.state == "found" and item.dataset in published.datasets
            if not late or _held(published, item.dataset, item, as_on_disk) or stays(item.measurement):
                continue
            part = _place(item, parts, published, owners, as_on_disk, hide)
            item.key = f"{base}{_MARK}{part}@{published.server.name}"
            item.dataset, item.origin = parts[part]
            item.name = ""


def _held(published: Publications, dataset: str, item: Item, as_on_disk: bool) -> bool:
    return published.holds(dataset, item.measurement, item.name, as_on_disk)


def _place(
    item: Item,
    parts: dict[int, tuple[str, str]],
    published: Publications,
    owners: dict[str, str],
    as_on_disk: bool,
    hide: Callable[[str], str],
) -> int:
    """Return the first dataset that holds a measurement already, or is not published."""
    first = parts.get(0, ("", base_of(item.key)))[1]
    part = 0
    while True:
        part += 1
        if part not in parts:
            origin = f"{first}{_MARK}later-{part}"
            name = slug(hide(origin))
            while owners.setdefault(name, base_of(item.key)) != base_of(item.key):
                name += "x"
            parts[part] = (name, origin)
        dataset = parts[part][0]
        if dataset not in published.datasets or _held(published, dataset, item, as_on_disk):
            return part
