"""Which groups of datasets a run has to look at; planning the jobs of all others would be most of a no-op."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from dcorflow.workdir import Workdir

#: Stages of a batch in their order.
_STAGES = ("compress", "check", "merge_metadata")


def unfinished_groups(work: Workdir, groups: Mapping[str, list[str]], written: Collection[str]) -> list[str]:
    """Return the groups in which a job may have something to do.

    Of all others, each plan and stamp is there and none is older than what it was made from, so
    Snakemake would find nothing to do: the same comparison as its own, for a fraction of its time.

    Parameters
    ----------
    work
        Work directory.
    groups
        Batches by group.
    written
        Names of the plan files that this run wrote, whatever the clock says.
    """
    plans = {folder: _times(work.state / folder, ".json") for folder in ("batches", "edits", "groups")}
    stamps = {stage: _times(work.state / stage, ".done") for stage in (*_STAGES, "task")}
    batches = {b for inside in groups.values() for b in inside}
    finished = {b: _when_merged(b, plans, stamps) for b in batches if f"{b}.json" not in written}
    return [
        group
        for group, inside in groups.items()
        if f"{group}.json" in written
        or not _in_order([plans["groups"].get(group), stamps["task"].get(group)])
        or not all(_in_order([finished.get(b), stamps["task"].get(group)]) for b in inside)
    ]


def _when_merged(
    batch: str, plans: Mapping[str, Mapping[str, int]], stamps: Mapping[str, Mapping[str, int]]
) -> int | None:
    """Return when the last stage of a batch ended; None where a stage has to run."""
    done = [stamps[stage].get(batch) for stage in _STAGES]
    if _in_order([plans["batches"].get(batch), *done]) and _in_order([plans["edits"].get(batch), done[-1]]):
        return done[-1]
    return None


def _in_order(times: Iterable[int | None]) -> bool:
    """Return whether all of these exist and none is older than the one before."""
    known = list(times)
    return None not in known and known == sorted(known, key=lambda t: t or 0)


def _times(folder: Path, suffix: str) -> dict[str, int]:
    """Return the times (ns) of the files of a folder by their names without the suffix."""
    try:
        with os.scandir(folder) as entries:
            return {
                e.name.removesuffix(suffix): e.stat().st_mtime_ns for e in entries if e.name.endswith(suffix)
            }
    except FileNotFoundError:
        return {}
