"""One pass of discover: from settings and source tree to inventory and plan files."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dcorflow.config import Config
from dcorflow.deleted import away, load_deleted
from dcorflow.discover.datasets import assign_datasets, assign_names, belongs, uploaded_before
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
    holds,
    scan_datasets,
)  # fmt: skip
from dcorflow.errors import UsageError
from dcorflow.facts import dcor
from dcorflow.files import clean_leftovers, read_json, to_json, write_if_changed
from dcorflow.metadata.folders import FolderSettings
from dcorflow.metadata.resolve import Wanted, resolve_dataset, resolve_measurement, settings_problems
from dcorflow.naming import natural_key, resource_name, short_hash, unique
from dcorflow.recipes import body_key, check_key, tail_key
from dcorflow.records import RecordIndex
from dcorflow.source.identity import Changes, Matcher
from dcorflow.source.inventory import Item, load_inventory, save_inventory
from dcorflow.source.walk import Tree, matches, walk
from dcorflow.workdir import TASK_NAME, Workdir

#: What a group plan says of a measurement, beside what the settings want of it.
_MEMBER_FIELDS = (
    "measurement", "name", "source", "root", "kind", "state", "reason", "failure", "note", "twin",
)  # fmt: skip


@dataclass
class Discovery:
    """What one pass found and planned."""

    items: list[Item]
    changes: Changes
    pending: Pending
    warnings: list[str] = field(default_factory=list)


class _Pass:
    """The state of one pass; each step reads what the earlier ones found."""

    def __init__(self, config: Config, work: Workdir, dry: bool) -> None:
        self.config, self.work, self.dry = config, work, dry
        self.warnings: list[str] = []
        self.trees = [self._walk(Path(root)) for root in config["input"]["root"]]
        self.roots = {tree.name: tree.root for tree in self.trees}
        self.index = RecordIndex(work).refresh(save=not dry)
        self.items = load_inventory(work.inventory)
        self.planner = Planner(work, dry)
        self.wanted: dict[str, Wanted] = {}

    def _walk(self, root: Path) -> Tree:
        _refuse_overlap(root, self.work.root)
        tree = walk(root, self.config["input"]["include"], self.config["input"]["exclude"])
        self.warnings += [f"{root / folder}: {why}" for folder, why in sorted(tree.unreadable.items())]
        return tree

    def run(self) -> Discovery:
        settings, by = self.config["input"], self.config["datasets"]["by"]
        folders = FolderSettings(self.trees)
        matcher = Matcher(
            self.items,
            self.trees,
            min_age=settings["min_age"],
            max_vanished=settings["max_vanished"],
            known_content=lambda m: (self.index.get(m) or {}).get("content", ""),
            workers=min(4, os.cpu_count() or 1),
            wanted=lambda item: belongs(item, by) and not folders.left_out(item.root, item.source),
        )
        changes = matcher.run()
        assign_datasets(self.items, by)
        assign_names(self.items)
        known = uploaded_before(self.trees)
        self._resolve(folders)
        self._leave_alone(known)
        self._warn_of_copies()
        on_disk = scan_datasets(self.work, clean=not self.dry)
        batches = self._plan_batches(on_disk)
        groups = self._plan_groups(folders, known, on_disk)
        self.warnings += folders.unused()
        if not self.dry:
            state = self.work.state
            inside = [path for path in state.iterdir() if path.is_dir()] if state.is_dir() else []
            for folder in (self.work.records, self.work.results, state, *inside):
                clean_leftovers(folder)
            save_inventory(self.work.inventory, self.items)
            plan = {"batches": batches, "groups": groups, "warnings": self.warnings}
            write_if_changed(self.work.state / "plan.json", to_json(plan))
        return Discovery(self.items, changes, self.planner.pending, self.warnings)

    def _resolve(self, folders: FolderSettings) -> None:
        """Settle what the settings want of each measurement; all errors in one message."""
        wrong: dict[str, None] = {}
        for item in self.items:
            if item.state == "gone":
                continue
            wanted, errors = resolve_measurement(self.config, folders, item.root, item.source)
            wrong |= dict.fromkeys(errors)
            self.wanted[item.measurement] = wanted
            if wanted.left_out and item.state in ("found", "problem", "duplicate"):
                if item.state == "problem":
                    item.fingerprint = ""  # so that it is probed again once it is wanted
                item.state, item.reason = "left out", f"use: no ({wanted.left_out})"
        if wrong:
            raise UsageError("metadata needs changes:\n" + "\n".join(f"  - {w}" for w in wrong))

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

    def _plan_batches(self, on_disk: OnDisk) -> list[str]:
        limits, prepare = self.config["batches"], self.config["prepare"]
        batches = assign_batches(self.items, limits["files"], int(limits["gigabytes"] * 1e9))
        key, deleted = body_key(prepare), load_deleted(self.work)
        for batch, members in batches.items():
            entries = [self._entry(item) for item in members]
            edits = {
                e["measurement"]: [x.as_list() for x in self.wanted[e["measurement"]].edits] for e in entries
            }
            redo = [
                e["measurement"]
                for e in entries
                if not holds(self.index.get(e["measurement"]), e, key, on_disk)
                or not check_holds(
                    self.index.get(e["measurement"]),
                    lambda line: check_key(line["body_key"], line["content"]),
                )
            ]
            done = {*redo, *away(self.work, entries, deleted)}
            retail = [m for m, wanted in edits.items() if m not in done and self._tail_differs(m, wanted)]
            self.planner.pending.prepare += redo
            self.planner.pending.edit += retail
            threads = batch_threads(members, limits["threads"])
            plan = {
                "batch": batch,
                "prepare": prepare,
                "threads": threads,
                "mem_mb": batch_memory(threads),
                "minutes": batch_minutes(members),
                "entries": entries,
            }
            self.planner.put(self.work.batch(batch), plan, bool(redo))
            self.planner.put(
                self.work.edits(batch),
                {"batch": batch, "edits": edits},
                bool(retail),
            )
        self.planner.forget("batches", batches)
        self.planner.forget("edits", batches)
        return list(batches)

    def _tail_differs(self, measurement: str, edits: list[Any]) -> bool:
        line = self.index.get(measurement)
        return line is not None and not line["failure"] and line["tail_key"] != tail_key(edits)

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

    def _plan_groups(
        self,
        folders: FolderSettings,
        known: dict[tuple[str, str], tuple[str, str]],
        on_disk: OnDisk,
    ) -> dict[str, list[str]]:
        members: dict[str, list[Item]] = defaultdict(list)
        for item in self.items:
            if item.dataset:
                members[item.dataset].append(item)
        groups = assign_groups(self.work, members, self.config["batches"]["datasets"])
        wrong: list[str] = []
        plans = {}
        for group, datasets in groups.items():
            entries = []
            for dataset in datasets:
                entry, errors = self._dataset_entry(dataset, members[dataset], folders, known)
                entries.append(entry)
                wrong += errors
            plans[group] = {"group": group, "datasets": entries, "check": self.config["check"]}
            plans[group]["folder"] = str(self.work.datasets)  # tasks name their resources by full path
        if wrong:
            raise UsageError(
                "dataset settings need changes:\n" + "\n".join(f"  - {w}" for w in dict.fromkeys(wrong))
            )
        overview = {}
        for group, plan in plans.items():
            redo = self._lost_tasks(group, on_disk)
            self.planner.pending.tasks += redo
            self.planner.put(self.work.group(group), plan, bool(redo))
            overview[group] = sorted(
                {i.batch for d in groups[group] for i in members[d] if i.state == "found"}
            )
        self.planner.forget("groups", groups)
        if not self.dry:
            for dataset, name in on_disk:
                if name == TASK_NAME and dataset not in members:  # its measurements moved to others
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

    def _dataset_entry(
        self,
        dataset: str,
        items: list[Item],
        folders: FolderSettings,
        known: dict[tuple[str, str], tuple[str, str]],
    ) -> tuple[dict[str, Any], list[str]]:
        present = [i for i in items if i.state != "gone"] or items
        present = sorted(present, key=lambda i: (i.root, natural_key(i.source)))
        sources = [(i.root, i.source) for i in present]
        fields, wrong = resolve_dataset(self.config, folders, present[0].key, sources)
        ids = {known[place] for i in present if (place := (i.root, i.folder)) in known}
        if self.config["datasets"]["uploaded"] == "leave" and any(i.state != "left alone" for i in present):
            ids = set()  # the id belongs to what is left alone
        if len({dataset_id for _, dataset_id in ids}) > 1:
            found = "; ".join(f"{path}: {dataset_id}" for path, dataset_id in sorted(ids))
            wrong.append(
                f"dataset of '{present[0].key}': its folders were uploaded as different DCOR datasets "
                f"({found}); split it with 'datasets.by'"
            )
        companions, left = self._companions(present, {i.name.lower() for i in items})
        entry = {
            "dataset": dataset,
            "source": present[0].key,
            "task_id": self._task_id(dataset, present[0].origin, str(fields.get("owner_org"))),
            "dataset_id": sorted(ids)[0][1] if ids else "",
            "fields": fields,
            "members": [
                self._member(item) for item in sorted(items, key=lambda i: (i.root, natural_key(i.source)))
            ],
            "companions": companions,
            "companions_left": left,
        }
        return entry, wrong

    def _task_id(self, dataset: str, origin: str, circle: str) -> str:
        return f"{dataset}-{short_hash(self.config['datasets']['namespace'], circle, origin)}"

    def _member(self, item: Item) -> dict[str, Any]:
        wanted = self.wanted.get(item.measurement, Wanted())
        member = {name: getattr(item, name) for name in _MEMBER_FIELDS}
        return member | {
            "bytes": item.size,
            "supplements": wanted.supplements,
            "ignore": wanted.ignore,
        }

    def _companions(self, items: list[Item], taken: set[str]) -> tuple[list[dict[str, Any]], list[list[str]]]:
        """Return the companions to upload, with unique names, and those left out with the reason."""
        allowed = self.config["datasets"]["companions"]
        trees = {tree.name: tree for tree in self.trees}
        chosen, left = [], []
        for root, folder in sorted({(i.root, i.folder) for i in items}):
            for seen in trees[root].companions.get(folder, []) if root in trees else []:
                name = seen.path.rpartition("/")[2]
                if not matches(name, allowed):
                    left.append([seen.path, "not in datasets.companions"])
                    continue
                suffix = resource_name(name).rpartition(".")[2]
                if f".{suffix}" not in dcor()["suffixes"] or suffix == "rtdc":
                    left.append([seen.path, f"DCOR takes only {', '.join(dcor()['suffixes'])}"])
                    continue
                final = unique(resource_name(name), taken)
                taken.add(final.lower())
                path = str(self.roots[root] / seen.path)
                chosen.append(
                    {
                        "source": path,
                        "path": seen.path,
                        "name": final,
                        "size": seen.size,
                        "mtime_ns": seen.mtime_ns,
                    }
                )
        return chosen, left


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
    wrong = settings_problems(config)
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
