"""All measurements and datasets of a work directory, with what became of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from dcorflow.files import read_json
from dcorflow.source.inventory import Item, load_inventory
from dcorflow.task import settle, withdraw_tasks
from dcorflow.upload.outcome import add_outcomes
from dcorflow.workdir import Workdir

IN_PROGRESS = "in progress"
STATUSES = ("ready", "excluded", "failed", IN_PROGRESS, "gone")
#: Why a measurement is not ready of which there is nothing to tell yet.
INTERRUPTED = "not prepared yet: the run was interrupted"
#: Statuses of datasets that the upload gives; their reasons stand in the summary.
_UPLOADED = ("unsettled", "draft", "upload failed", "changed", "late")
#: What discover's states are called for measurements that no group has settled.
_UNSETTLED = {
    "gone": "gone",
    "problem": "failed",
    "duplicate": "excluded",
    "left out": "excluded",
    "left alone": "excluded",
}


@dataclass
class Summary:
    """All measurements and datasets with what became of them."""

    measurements: list[dict[str, Any]] = field(default_factory=list)
    datasets: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)

    def counts(self) -> Counter[str]:
        """Return how many measurements have each status."""
        return Counter(m["status"] for m in self.measurements)


def gather(work: Workdir, judge_rest: bool = True) -> Summary:
    """Collect what the task jobs decided; what no job has settled since is judged afresh.

    Opens one file per group of datasets, and records only of groups that are not settled. Without
    `judge_rest` these are `in progress`, no record is opened and nothing written: for a look at a run
    that is going on.
    """
    items = load_inventory(work.inventory)
    upload = _upload_settings(work)
    try:
        plan = read_json(work.state / "plan.json")
    except (OSError, ValueError):
        plan = {"groups": {}, "warnings": []}
    summary = Summary(warnings=plan["warnings"], items=items)
    rows: dict[str, dict[str, Any]] = {}
    for group, batches in plan["groups"].items():
        if not judge_rest and not is_settled(work, group, batches):
            continue
        decisions = _decisions(work, group, batches)
        add_outcomes(work, upload, group, decisions)
        summary.datasets += [{**dataset, "group": group} for dataset in decisions["datasets"]]
        rows |= {row["measurement"]: row for row in decisions["measurements"]}
    if not judge_rest:
        summary.datasets += _datasets_in_progress(items, {d["dataset"] for d in summary.datasets})
    datasets = {d["dataset"]: d for d in summary.datasets}
    for item in items:
        row = rows.get(item.measurement) or _unsettled_row(item)
        dataset = datasets.get(row["dataset"], {})
        row["dataset_status"] = dataset.get("status", "")
        row["dataset_id"] = dataset.get("dataset_id", "")
        if row["dataset_status"] in _UPLOADED and dataset["reason"]:
            row["note"] = "; ".join(filter(None, (row["note"], f"dataset: {dataset['reason']}")))
        summary.measurements.append(row)
    return summary


def _datasets_in_progress(items: list[Item], settled: set[str]) -> list[dict[str, Any]]:
    """Return the datasets that no task job has settled."""
    sources = {i.dataset: i.key for i in items if i.dataset and i.dataset not in settled}
    empty = {"reason": "", "dataset_id": "", "group": ""}
    return [
        {
            "dataset": d,
            "source": s,
            "title": d,
            "status": IN_PROGRESS,
            "warnings": [],
            "companions": [],
            **empty,
        }
        for d, s in sources.items()
    ]


def _upload_settings(work: Workdir) -> dict[str, Any]:
    try:
        settings: dict[str, Any] = read_json(work.config)["upload"]
    except (OSError, ValueError, KeyError):
        return {}
    return settings


def _decisions(work: Workdir, group: str, batches: list[str]) -> dict[str, Any]:
    """Return the stored decisions about a group, made anew where something is newer than they."""
    if is_settled(work, group, batches):
        try:
            stored: dict[str, Any] = read_json(work.settled(group))
            return stored
        except (OSError, ValueError):
            pass
    decisions = settle(work, group, write=False)
    withdraw_tasks(work, decisions)
    return decisions


def is_settled(work: Workdir, group: str, batches: list[str]) -> bool:
    """Return whether the task job of a group has seen the present plans and records of its batches."""
    try:
        done = work.stamp("task", group).stat().st_mtime_ns
        return done >= work.group(group).stat().st_mtime_ns and not _is_newer(work, batches, done)
    except OSError:
        return False


def _is_newer(work: Workdir, batches: list[str], done: int) -> bool:
    """Return whether one of a group's batches was planned or worked on after its tasks were written."""
    for batch in batches:
        newest = (work.stamp("merge_metadata", batch), work.batch(batch), work.edits(batch))
        try:
            if any(path.stat().st_mtime_ns > done for path in newest):
                return True
        except OSError:
            return True
    return False


def _unsettled_row(item: Item) -> dict[str, Any]:
    reason = item.reason or INTERRUPTED
    return {
        "measurement": item.measurement,
        "dataset": item.dataset,
        "source": item.source,
        "status": _UNSETTLED.get(item.state, IN_PROGRESS),
        "reason": reason,
        "retry": False,
        "by_policy": False,
        "events": "",
        "source_bytes": item.size,
        "prepared_bytes": "",
        "violations": 0,
        "alerts": 0,
        "sha256": "",
        "note": item.note,
        "root": item.root,
        "replaced": 0,
        "gaps": 0,
    }


def exit_code(summary: Summary, strict: bool) -> int:
    """Return 0 where everything was dealt with.

    1 where a job could not finish a measurement because of the machine (disk full, read error), where
    an upload failed, or, with `strict`, where one failed or was excluded by a policy, or a dataset is
    blocked.
    """
    failed = any(d["status"] == "upload failed" for d in summary.datasets)
    if failed or any(m["retry"] for m in summary.measurements):
        return 1
    if not strict:
        return 0
    bad = any(m["status"] == "failed" or m["by_policy"] for m in summary.measurements)
    return int(bad or any(d["status"] == "blocked" for d in summary.datasets))
