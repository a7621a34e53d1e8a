"""Turn the inventory into batches, groups and plan files, each rewritten only when it changes."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dcorflow.deleted import load_deleted
from dcorflow.files import TEMP_PREFIX, clean_leftovers, read_mapping, to_json, write_if_changed
from dcorflow.naming import natural_key
from dcorflow.records import RecordIndex
from dcorflow.source.inventory import Item
from dcorflow.workdir import Workdir

#: One thread more for this many bytes or this many measurements of a batch.
_BYTES_PER_THREAD = 256 << 20
_FILES_PER_THREAD = 16
#: Memory of a job: dclab itself, then engine and event data per worker (MB, measured, doubled).
_MEM_BASE, _MEM_WORKER = 500, 500
#: Time limit of a job in minutes, and what it gets through per minute: a tenth of the slowest
#: speed measured on one core, so that a slow share does not end it.
_MINUTES, _BYTES_PER_MINUTE = 15, 256 << 20

#: (size, mtime_ns) of every file in every dataset folder, by (dataset, name).
OnDisk = dict[tuple[str, str], tuple[int, int]]


@dataclass
class Pending:
    """What a run would do, by measurement, dataset and file."""

    prepare: list[str] = field(default_factory=list)
    edit: list[str] = field(default_factory=list)
    draw: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)


def scan_datasets(work: Workdir, clean: bool) -> OnDisk:
    """Return size and time of all files in the dataset folders; remove leftovers if asked to.

    Files that were deleted on purpose count as if they were there: they are not made again.
    """
    found: OnDisk = dict(load_deleted(work))
    try:
        with os.scandir(work.datasets) as folders:
            names = [entry.name for entry in folders if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return found
    for dataset in names:
        leftovers = False
        with os.scandir(work.datasets / dataset) as entries:
            for entry in entries:
                if entry.name.startswith(TEMP_PREFIX):
                    leftovers = True
                elif entry.is_file(follow_symlinks=False):
                    stat = entry.stat(follow_symlinks=False)
                    found[dataset, entry.name] = (stat.st_size, stat.st_mtime_ns)
        if leftovers and clean:
            clean_leftovers(work.datasets / dataset)
    return found


def assign_batches(items: Iterable[Item], files: int, size: int) -> dict[str, list[Item]]:
    """Put measurements that are to be prepared into batches (in place) and return these.

    Who is in a batch stays there; new ones fill the last batch, then open others. A measurement
    larger than `size` bytes is alone.
    """
    batches: dict[str, list[Item]] = defaultdict(list)
    waiting = []
    for item in items:
        if item.state != "found" or not item.dataset:
            continue
        if item.batch:
            batches[item.batch].append(item)
        else:
            waiting.append(item)
    last = max(batches, default="")
    number = int(last[1:]) if last else 0
    for item in sorted(waiting, key=lambda i: (i.dataset, natural_key(i.source), i.root)):
        inside = batches.get(last, [])
        room = last and len(inside) < files and sum(i.size for i in inside) + item.size <= size
        if not room:
            number += 1
            last = f"b{number:06d}"
        item.batch = last
        batches[last].append(item)
    for members in batches.values():
        members.sort(key=lambda i: (i.dataset, natural_key(i.source), i.root))
    return dict(sorted(batches.items()))


def batch_threads(members: list[Item], most: int) -> int:
    """Return how many cores a batch is worth."""
    size = sum(i.size for i in members)
    return max(1, min(most, max(size // _BYTES_PER_THREAD, len(members) // _FILES_PER_THREAD)))


def batch_memory(threads: int) -> int:
    """Return the memory in MB that a batch asks for."""
    return _MEM_BASE + _MEM_WORKER * threads


def batch_minutes(members: list[Item]) -> int:
    """Return the time in minutes that one stage of a batch asks for."""
    return _MINUTES + sum(i.size for i in members) // _BYTES_PER_MINUTE


def assign_groups(work: Workdir, datasets: Iterable[str], most: int) -> dict[str, list[str]]:
    """Put datasets into groups; who is in one stays there."""
    before: dict[str, str] = {}
    folder = work.state / "groups"
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        plan = read_mapping(path)
        for entry in (plan or {}).get("datasets", []):
            before[entry["dataset"]] = path.stem
    groups: dict[str, list[str]] = defaultdict(list)
    for dataset in sorted(set(datasets), key=natural_key):
        if dataset in before:
            groups[before[dataset]].append(dataset)
    last = max(groups, default="")
    number = int(last[1:]) if last else 0
    for dataset in sorted(set(datasets) - set(before), key=natural_key):
        if not last or len(groups[last]) >= most:
            number += 1
            last = f"g{number:05d}"
        groups[last].append(dataset)
    return dict(sorted(groups.items()))


class Planner:
    """Writes plan files; a dry one only tells which would change."""

    def __init__(self, work: Workdir, dry: bool) -> None:
        self.work, self.dry = work, dry
        self.pending = Pending()

    def put(self, path: Path, plan: dict[str, Any], redo: bool) -> None:
        """Write a plan if it changed, or if something of it must be done (again).

        Snakemake compares contents, so the number of the generation makes the jobs run that read
        the plan, whatever stamps there are.
        """
        old = read_mapping(path) or {}
        generation = int(old.get("generation", 0)) + redo
        plan = {**plan, "generation": generation}
        if plan == old:
            return
        self.pending.written.append(path.name)
        if not self.dry:
            write_if_changed(path, to_json(plan))

    def forget(self, folder: str, keep: Iterable[str]) -> None:
        """Remove the plan files of batches or groups that no longer exist."""
        kept = set(keep)
        place = self.work.state / folder
        if self.dry or not place.is_dir():
            return
        for path in place.glob("*.json"):
            if path.stem not in kept:
                path.unlink(missing_ok=True)


def holds(line: dict[str, Any] | None, entry: dict[str, Any], body_key: str, on_disk: OnDisk) -> bool:
    """Return whether a record (its index line) says that an entry of a batch is prepared.

    Parameters
    ----------
    line
        Index line of the measurement's record.
    entry
        Entry of the batch plan.
    body_key
        Stands for settings and recipe.
    on_disk
        What lies in the dataset folders.
    """
    if line is None or line["files"] != entry["files"] or line["body_key"] != body_key:
        return False
    if line["failure"]:
        return bool(line["failure"]["failure"] != "environment")
    prepared = line["prepared"]
    place = (entry["dataset"], entry["name"])
    same_place = (line["dataset"], prepared.get("name")) == place
    return same_place and on_disk.get(place) == (prepared["size"], prepared["mtime_ns"])


def todo_of(members: list[Item], prepare: set[str], edit: set[str], index: RecordIndex) -> dict[str, int]:
    """Return how many measurements and bytes of a batch there are, and are to be prepared or edited.

    `failed` counts those that failed before and are not tried again.
    """
    todo = {"total": len(members), "bytes": sum(i.size for i in members)}
    for word, which in (("prepare", prepare), ("edit", edit)):
        todo[word] = len(which)
        todo[f"{word}_bytes"] = sum(i.size for i in members if i.measurement in which)
    failed = [i for i in members if (index.get(i.measurement) or {}).get("failure")]
    return todo | {"failed": sum(i.measurement not in prepare for i in failed)}


def check_holds(line: dict[str, Any] | None, expected: Callable[[dict[str, Any]], str]) -> bool:
    """Return whether the integrity check of a prepared measurement is still valid."""
    return line is not None and (bool(line["failure"]) or line["check_key"] == expected(line))


def forget_datasets(work: Workdir, names: set[str]) -> None:
    """Remove tasks and companions of datasets that have another name now."""
    folder = work.state / "settled"
    for path in sorted(folder.glob("*.json")) if names and folder.is_dir() else []:
        for dataset in (read_mapping(path) or {}).get("datasets", []):
            if dataset["dataset"] in names:
                for name in dataset["files"]:
                    (work.datasets / dataset["dataset"] / name).unlink(missing_ok=True)
