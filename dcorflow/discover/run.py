"""One pass of discover: from settings and source tree to inventory and plan files."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from dcorflow.config import Config
from dcorflow.deleted import away, load_deleted
from dcorflow.discover.datasets import (
    assign_datasets,
    assign_names,
    belongs,
    rename_hidden,
    uploaded_before,
)  # fmt: skip
from dcorflow.discover.entries import EntryMaker
from dcorflow.discover.late import (
    companions_of,
    dataset_subjects,
    publications,
    server_name,
    split_late,
    unfit_before,
)  # fmt: skip
from dcorflow.discover.plan import (
    OnDisk,
    Pending,
    Planner,
    assign_batches,
    assign_groups,
    batch_memory,
    batch_minutes,
    batch_threads,
    check_holds,
    forget_datasets,
    holds,
    scan_datasets,
    todo_of,
)  # fmt: skip
from dcorflow.discover.unfinished import unfinished_groups
from dcorflow.errors import UsageError
from dcorflow.files import clean_leftovers, read_json, to_json, write_if_changed, write_text
from dcorflow.metadata.fields import title_problems
from dcorflow.metadata.folders import FolderSettings
from dcorflow.metadata.matching import subject_of, together
from dcorflow.metadata.resolve import Resolver, Wanted, settings_problems
from dcorflow.metadata.sheet import DatasetSheet, MeasurementSheet, load_sheet
from dcorflow.privacy.plain import without_private
from dcorflow.privacy.redact import Redactor
from dcorflow.privacy.settings import plan_of_prepare, plan_of_scan, privacy_problems
from dcorflow.progress import forget_progress
from dcorflow.recipes import body_key, check_key, portrait_key, tail_key
from dcorflow.records import RecordIndex
from dcorflow.source.identity import Changes, Matcher
from dcorflow.source.inventory import Item, load_inventory, lost_rows, save_inventory
from dcorflow.source.neighbours import Neighbours
from dcorflow.source.walk import Tree, walk
from dcorflow.wording import number
from dcorflow.workdir import TASK_NAME, Workdir


@dataclass
class Discovery:
    """What one pass found and planned."""

    items: list[Item]
    changes: Changes
    pending: Pending
    #: Groups of datasets that Snakemake has to look at.
    unfinished: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class _Pass:
    """The state of one pass; each step reads what the earlier ones found."""

    def __init__(self, config: Config, work: Workdir, dry: bool) -> None:
        self.config, self.work, self.dry = config, work, dry
        self.warnings: list[str] = []
        self.prepare = plan_of_prepare(config, work.root)
        self.scan = plan_of_scan(config, self.prepare["pseudonyms"])
        self.redactor = Redactor.from_settings(self.prepare)
        self.hide = self.redactor.pseudonyms.hide
        self.trees = [self._walk(Path(root)) for root in config["input"]["root"]]
        self.roots = {tree.name: tree.root for tree in self.trees}
        self.index = RecordIndex(work).refresh(save=not dry)
        self.items = load_inventory(work.inventory)
        self.planner = Planner(work, dry)
        self.wanted: dict[str, Wanted] = {}
        self.todo: dict[str, dict[str, int]] = {}
        self.folders = FolderSettings(self.trees)
        self.published = publications(config, work)

    def _walk(self, root: Path) -> Tree:
        _refuse_overlap(root, self.work.root)
        settings = self.config["input"]
        tree = walk(root, settings["include"], settings["exclude"], self.prepare["settings_log"])
        self.warnings += [f"{root / folder}: {why}" for folder, why in sorted(tree.unreadable.items())]
        return tree

    @cached_property
    def resolver(self) -> Resolver:
        """What the settings say; made when all measurements are known."""
        table = load_sheet(self.config["metadata"]["sheet"])
        subjects = [subject_of(i.measurement, i.source, f"{i.root}/{i.source}") for i in self.items]
        return Resolver(self.config, self.folders, MeasurementSheet(table, subjects))

    def run(self) -> Discovery:
        settings, by = self.config["input"], self.config["datasets"]["by"]
        matcher = Matcher(
            self.items,
            self.trees,
            min_age=settings["min_age"],
            max_vanished=settings["max_vanished"],
            known_content=lambda m: (self.index.get(m) or {}).get("content", ""),
            workers=min(4, os.cpu_count() or 1),
            wanted=lambda item: (
                belongs(item, by) and not self.resolver.left_out(item.measurement, item.root, item.source)
            ),
        )
        changes = matcher.run()
        self.warnings += lost_rows(self.items, self.index.lines)
        renamed = rename_hidden(self.items, self.hide) if self.prepare["pseudonyms"] else set()
        assign_datasets(self.items, by, self.hide, server_name(self.config))
        if self.published is not None:
            as_on_disk = self.config["prepare"]["naming"] == "keep"
            stays = unfit_before(self.work)
            split_late(self.items, self.published, stays, as_on_disk=as_on_disk, hide=self.hide)
        assign_names(self.items, self.hide)
        known = uploaded_before(self.trees)
        wrong = self._resolve()
        self._leave_alone(known)
        entries, problems = self._dataset_entries(known)
        if wrong := together(wrong + problems):
            raise UsageError("settings need changes:\n" + "\n".join(f"  - {w}" for w in wrong))
        self._warn_of_copies()
        on_disk = scan_datasets(self.work, clean=not self.dry)
        self._plan_batches(on_disk)
        groups = self._plan_groups(entries, on_disk)
        self.warnings += [*self.folders.unused(), *self.resolver.rules.warnings()]
        if not self.dry:
            state = self.work.state
            inside = [path for path in state.iterdir() if path.is_dir()] if state.is_dir() else []
            for folder in (self.work.records, self.work.results, state, *inside):
                clean_leftovers(folder)
            save_inventory(self.work.inventory, self.items)
            forget_datasets(self.work, renamed)
            forget_progress(self.work)
            write_text(self.work.todo, to_json(self._todo(changes, groups)))
            plan = {"groups": groups, "warnings": self.warnings}
            write_if_changed(self.work.state / "plan.json", to_json(plan))
        unfinished = unfinished_groups(self.work, groups, set(self.planner.pending.written))
        return Discovery(self.items, changes, self.planner.pending, unfinished, self.warnings)

    def _todo(self, changes: Changes, groups: dict[str, list[str]]) -> dict[str, Any]:
        """Return what there is to do in this run, for those who watch it."""
        datasets = {group: len(read_json(self.work.group(group))["datasets"]) for group in groups}
        return {
            "found": found_words(self.items, changes),
            "problems": sum(item.state == "problem" for item in self.items),
            "batches": self.todo,
            "groups": datasets,
        }

    def _resolve(self) -> list[str]:
        """Settle what the settings want of each measurement; return all that is wrong with them."""
        wrong = list(self.resolver.sheet.problems)
        for item in self.items:
            if item.state == "gone":
                continue
            wanted, errors = self.resolver.resolve(
                item.measurement, item.root, item.source, item.kind == "tdms"
            )
            wrong += errors
            self.wanted[item.measurement] = wanted
            if wanted.left_out and item.state in ("found", "problem", "duplicate"):
                if item.state == "problem":
                    item.fingerprint = ""  # so that it is probed again once it is wanted
                item.state, item.reason = "left out", f"use: no ({wanted.left_out})"
        return wrong

    def _warn_of_copies(self) -> None:
        """Warn where a measurement was left out on purpose, but not a copy of it."""
        left = {(i.fingerprint, i.size): i for i in self.items if i.state == "left out" and i.fingerprint}
        for item in self.items:
            twin = left.get((item.fingerprint, item.size))
            if twin is not None and item.state == "found":
                self.warnings.append(
                    f"{item.source} looks the same as {twin.source}, which is left out: {twin.reason}; "
                    "leave it out, too?"
                )

    def _leave_alone(self, known: dict[tuple[str, str], tuple[str, str]]) -> None:
        if self.config["datasets"]["uploaded"] != "leave":
            return
        for item in self.items:
            if item.state == "found" and (task := known.get((item.root, item.folder))):
                item.state = "left alone"
                item.reason = f"its folder was uploaded before as {task[1]} ({task[0]}); left alone"

    def _plan_batches(self, on_disk: OnDisk) -> None:
        limits, prepare = self.config["batches"], self.prepare
        neighbours = Neighbours(self.items)
        batches = assign_batches(self.items, limits["files"], int(limits["gigabytes"] * 1e9))
        key, deleted = body_key(prepare), load_deleted(self.work)
        for batch, members in batches.items():
            entries = [self._entry(item) for item in members]
            edits = {
                e["measurement"]: [
                    without_private(x, self.redactor) for x in self.wanted[e["measurement"]].edits
                ]
                for e in entries
            }
            gone = away(self.work, entries, deleted)
            redo = [
                e["measurement"]
                for e in entries
                if not holds(self.index.get(e["measurement"]), e, key, on_disk)
                or not check_holds(
                    self.index.get(e["measurement"]),
                    lambda line: check_key(line["body_key"], line["content"]),
                )
                or neighbours.differ(e["dataset"], (self.index.get(e["measurement"]) or {}).get("basins", {}))
            ]
            draw = [
                e["measurement"]
                for e in entries
                if e["measurement"] not in {*redo, *gone} and self._undrawn(e["measurement"])
            ]
            done = {*redo, *gone}
            retail = [m for m, wanted in edits.items() if m not in done and self._tail_differs(m, wanted)]
            self.planner.pending.prepare += redo
            self.planner.pending.edit += retail
            self.planner.pending.draw += draw
            threads = batch_threads(members, limits["threads"])
            plan = {
                "batch": batch,
                "prepare": prepare,
                "scan": self.scan,
                "pictures": self.config["check"]["pictures"],
                "threads": threads,
                "mem_mb": batch_memory(threads),
                "minutes": batch_minutes(members),
                "entries": entries,
            }
            self.planner.put(self.work.batch(batch), plan, bool(redo or draw))
            self.planner.put(
                self.work.edits(batch),
                {"batch": batch, "edits": edits},
                bool(retail),
            )
            self.todo[batch] = todo_of(members, {*redo}, {*retail}, self.index)
        self.planner.forget("batches", batches)
        self.planner.forget("edits", batches)

    def _tail_differs(self, measurement: str, edits: list[Any]) -> bool:
        line = self.index.get(measurement)
        return line is not None and not line["failure"] and line["tail_key"] != tail_key(edits)

    @cached_property
    def _portraits(self) -> set[str]:
        """The measurements that have a portrait; asked for only where pictures are wanted."""
        try:
            with os.scandir(self.work.portraits) as entries:
                return {entry.name.removesuffix(".json") for entry in entries}
        except FileNotFoundError:
            return set()

    def _undrawn(self, measurement: str) -> bool:
        """Return whether a measurement should have pictures, and has none or old ones."""
        line = self.index.get(measurement)
        if not self.config["check"]["pictures"] or line is None or line["failure"]:
            return False
        if not line.get("portrait", "").startswith(portrait_key(line["content"])):
            return True
        return line["drawn"] and measurement not in self._portraits

    def _entry(self, item: Item) -> dict[str, Any]:
        return {
            "measurement": item.measurement,
            "dataset": item.dataset,
            "name": item.name,
            "root": item.root,
            "folder": str(self.roots[item.root]),
            "kind": item.kind,
            "files": [[f.path, f.size, f.mtime_ns] for f in item.files],
        }

    def _dataset_entries(
        self, known: dict[tuple[str, str], tuple[str, str]]
    ) -> tuple[dict[str, dict[str, Any]], list[str]]:
        """Return what the tasks are made of, by dataset, and what is wrong with the settings."""
        table = load_sheet(self.config["datasets"]["sheet"])
        members: dict[str, list[Item]] = defaultdict(list)
        for item in self.items:
            if item.dataset:
                members[item.dataset].append(item)
        sheet = DatasetSheet(table, dataset_subjects(members))
        takes = companions_of(members, self.published)
        make = EntryMaker(self.config, self.trees, self.folders, sheet, self.wanted, known, self.hide, takes)
        entries, wrong = {}, list(sheet.problems)
        for dataset, items in members.items():
            entries[dataset], errors = make.entry(dataset, items)
            wrong += errors
        return entries, wrong

    def _plan_groups(self, entries: dict[str, dict[str, Any]], on_disk: OnDisk) -> dict[str, list[str]]:
        groups = assign_groups(self.work, entries, self.config["batches"]["datasets"])
        batches: dict[str, set[str]] = defaultdict(set)
        for item in self.items:
            if item.state == "found" and item.batch:
                batches[item.dataset].add(item.batch)
        overview = {}
        for group, datasets in groups.items():
            plan = {
                "group": group,
                "datasets": [entries[d] for d in datasets],
                "check": self.config["check"],
                "naming": self.config["prepare"]["naming"],
                "scan": plan_of_scan(self.config, self.prepare["pseudonyms"], beside=True),
                "folder": str(self.work.datasets),  # tasks name their resources by full path
            }
            redo = self._lost_tasks(group, on_disk)
            self.planner.pending.tasks += redo
            self.planner.put(self.work.group(group), plan, bool(redo))
            overview[group] = sorted(set().union(*(batches[d] for d in datasets)))
        self.planner.forget("groups", groups)
        if not self.dry:
            for dataset, name in on_disk:
                if name == TASK_NAME and dataset not in entries:  # its measurements moved to others
                    (self.work.datasets / dataset / name).unlink(missing_ok=True)
        return overview

    def _lost_tasks(self, group: str, on_disk: OnDisk) -> list[str]:
        """Return the datasets whose task or companion was removed or altered since it was written."""
        try:
            settled = read_json(self.work.settled(group))
        except (OSError, ValueError):
            return []
        return [
            d["dataset"]
            for d in settled["datasets"]
            if any(on_disk.get((d["dataset"], name)) != tuple(stat) for name, stat in d["files"].items())
        ]


def found_words(items: list[Item], changes: Changes) -> str:
    """Say how many measurements are known, and what is new about them."""
    new = {
        "new": len(changes.new),
        "altered": len(changes.altered),
        "moved": len(changes.moved),
        "gone": len(changes.gone),
        "back": len(changes.back),
    }
    words = ", ".join(f"{n:,} {w}" for w, n in new.items() if n)
    return f"{number(len(items), 'measurement')} known; {words or 'nothing new'}"


def check_settings(config: Config, work: Path) -> Config:
    """Return settings after the checks that need no source tree but more than a schema.

    Raises
    ------
    UsageError
        Where a metadata key, a value or a title template is wrong, or the work directory `work`
        lies in the source tree.
    """
    for root in config["input"]["root"]:
        _refuse_overlap(Path(root), work)
    wrong = settings_problems(config) + title_problems(config) + privacy_problems(config, work)
    if wrong:
        raise UsageError("the configuration needs changes:\n" + "\n".join(f"  - {w}" for w in wrong))
    return config


def _refuse_overlap(root: Path, work: Path) -> None:
    """Refuse a work directory inside the source tree: nothing may ever be written there."""
    inside, real = work.resolve(), root.resolve()
    if inside == real or real in inside.parents:
        raise UsageError(
            f"the work directory {work} lies inside the source tree {root}, which is never written to; "
            "choose another one (snakemake -d FOLDER)"
        )


def discover(config: Config, work: Workdir, dry: bool = False) -> Discovery:
    """Bring the inventory and the plan files up to date.

    Parameters
    ----------
    config
        Settings, validated.
    work
        Work directory.
    dry
        Look and tell only; nothing is written.

    Raises
    ------
    UsageError
        Where settings contradict each other or the source tree is not there; all in one message.
    """
    return _Pass(config, work, dry).run()
