"""Settle the datasets: which measurements are in, what keeps one back, and the task for DCOR-Aid."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from dcorflow.errors import FailureClass, explain_os_error
from dcorflow.files import copy_file, key_of, read_json, replacing, to_json, write_if_changed, write_text
from dcorflow.integrity import UNKNOWN_FEATURE, Cue, cues_of, is_ignored
from dcorflow.metadata.resolve import missing_fields
from dcorflow.naming import natural_key
from dcorflow.records import Record, load_record
from dcorflow.workdir import TASK_NAME, Workdir


@dataclass
class Verdict:
    """What became of one measurement.

    Parameters
    ----------
    status
        ``ready``, ``excluded``, ``failed``, ``in progress`` or ``gone``.
    reason
        Why, empty for `ready`.
    complete
        Whether the dataset is complete without it.
    blocks
        Whether it keeps the whole dataset back.
    retry
        Whether a job could not finish it because of the machine (disk full, read error): left over.
    by_policy
        Whether a setting below `check` excluded it.
    violations, alerts
        Findings that count.
    """

    status: str
    reason: str = ""
    complete: bool = True
    blocks: bool = False
    retry: bool = False
    by_policy: bool = False
    violations: int = 0
    alerts: int = 0


def judge(member: dict[str, Any], record: Record | None, policy: dict[str, Any]) -> Verdict:
    """Decide about one measurement.

    Parameters
    ----------
    member
        Its entry in the group plan.
    record
        Its record, where it has been prepared.
    policy
        The settings `check` of the configuration.
    """
    state, reason = member["state"], member["reason"]
    if state == "gone":
        return Verdict("gone", reason)
    if state == "in progress":
        return Verdict("in progress", reason, complete=False)
    if state in ("left out", "left alone"):
        return Verdict("excluded", reason)
    if state == "duplicate":
        return Verdict("excluded", reason, complete=member["twin_inside"])
    if state == "problem":
        return _judge_failure(reason, member["failure"], policy, in_job=False)
    if record is not None and record.failure is not None:
        return _judge_failure(record.failure.reason, record.failure.failure, policy)
    if record is None or not record.check_key or "sha256" not in record.prepared:
        return Verdict("in progress", "not prepared yet: the run was interrupted", complete=False)
    return _judge_cues(cues_of(record), member, policy)


def _judge_failure(
    reason: str, failure: FailureClass, policy: dict[str, Any], in_job: bool = True
) -> Verdict:
    if failure == "unfit":
        blocks = policy["on_unfit"] == "block"
        return Verdict("excluded", reason, complete=False, blocks=blocks, by_policy=True)
    blocks = policy["on_unreadable"] == "block"
    return Verdict("failed", reason, complete=False, blocks=blocks, retry=in_job and failure == "environment")


def _judge_cues(cues: list[Cue], member: dict[str, Any], policy: dict[str, Any]) -> Verdict:
    patterns = [*policy["ignore"], *member["ignore"]]
    counted = [c for c in cues if c.level != "info" and not is_ignored(c, patterns)]
    violations = [c for c in counted if c.level == "violation"]
    verdict = Verdict("ready", violations=len(violations), alerts=len(counted) - len(violations))
    unfit = [c for c in counted if c.unfit and (c.file != "source" or c.id.startswith(UNKNOWN_FEATURE))]
    if unfit:
        verdict.reason = f"DCOR-Aid would refuse it: {_list(unfit)}"
        if all(c.id.startswith(UNKNOWN_FEATURE) for c in unfit):
            verdict.reason += f"; to publish without, add '{unfit[0].id}' to check.ignore"
        rule = policy["on_unfit"]
    elif violations and policy["on_violation"] != "accept":
        verdict.reason = f"violations: {_list(violations)}"
        rule = policy["on_violation"]
    else:
        return verdict
    verdict.status, verdict.by_policy = "excluded", True
    verdict.complete, verdict.blocks = False, rule == "block"
    return verdict


def _list(cues: list[Cue]) -> str:
    shown = "; ".join(c.message.removeprefix("Sanity check failed: ") for c in cues[:3])
    return shown + (f"; and {len(cues) - 3} more" if len(cues) > 3 else "")


def settle(work: Workdir, group: str, write: bool = True) -> dict[str, Any]:
    """Decide about all datasets of a group, write their tasks, and return the decisions.

    Parameters
    ----------
    work
        Work directory.
    group
        Group of datasets.
    write
        Write tasks, companions and the decisions; False only decides.

    Returns
    -------
    dict
        ``measurements``: one row each; ``datasets``: one row each; see `_row`.
    """
    plan = read_json(work.group(group))
    rows: list[dict[str, Any]] = []
    datasets = []
    for dataset in plan["datasets"]:
        _find_twins(dataset["members"])
        judged = []
        for member in dataset["members"]:
            record = load_record(work, member["measurement"])
            judged.append((member, record, judge(member, record, plan["check"])))
        rows += [_row(dataset["dataset"], *j) for j in judged]
        datasets.append(_settle_dataset(work, dataset, judged, write))
    decisions = {"group": group, "measurements": rows, "datasets": datasets}
    if write:
        _remove_stale(work, group, datasets)
        write_if_changed(work.settled(group), to_json(decisions))
    return decisions


def _remove_stale(work: Workdir, group: str, datasets: list[dict[str, Any]]) -> None:
    """Remove companions that were copied once and are no longer wanted."""
    try:
        before = read_json(work.settled(group))["datasets"]
    except (OSError, ValueError, KeyError):
        return
    now = {(d["dataset"], name) for d in datasets for name in d["files"]}
    for dataset in before:
        for name in dataset["files"]:
            if (dataset["dataset"], name) not in now:
                (work.datasets / dataset["dataset"] / name).unlink(missing_ok=True)


def withdraw_tasks(work: Workdir, decisions: dict[str, Any]) -> None:
    """Remove tasks that list a measurement that is not ready any more: a run was interrupted.

    The next run writes them again, when everything in them is checked.
    """
    ready = {m["measurement"] for m in decisions["measurements"] if m["status"] == "ready"}
    waiting = {(m["dataset"], m["name"]) for m in decisions["measurements"] if m["measurement"] not in ready}
    for dataset in {place[0] for place in waiting}:
        path = work.datasets / dataset / TASK_NAME
        try:
            names = json.loads(path.read_bytes())["upload_job"]["resource_names"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if any((dataset, name) in waiting for name in names):
            path.unlink(missing_ok=True)


def _find_twins(members: list[dict[str, Any]]) -> None:
    """Note for each duplicate whether what it equals is in the same dataset."""
    inside = {m["measurement"] for m in members}
    for member in members:
        member["twin_inside"] = member["twin"] in inside


def _row(dataset: str, member: dict[str, Any], record: Record | None, verdict: Verdict) -> dict[str, Any]:
    prepared = record.prepared if record and not record.failure else {}
    return {
        "measurement": member["measurement"],
        "dataset": dataset,
        "name": member["name"],
        "source": member["source"],
        "status": verdict.status,
        "reason": verdict.reason,
        "retry": verdict.retry,
        "by_policy": verdict.by_policy,
        "events": record.facts.get("events", "") if record else "",
        "source_bytes": member["bytes"],
        "prepared_bytes": prepared.get("size", ""),
        "violations": verdict.violations,
        "alerts": verdict.alerts,
        "sha256": prepared.get("sha256", ""),
        "note": "; ".join(_notes(member, record, verdict)),
        "root": member["root"],
    }


def _notes(member: dict[str, Any], record: Record | None, verdict: Verdict) -> list[str]:
    """Return what a user should know about a measurement, whatever its status."""
    notes = [member["note"], record.facts.get("note", "") if record else ""]
    if verdict.status == "ready" and Path(member["source"]).stem != Path(member["name"]).stem:
        notes.append(f"published as {member['name']}")
    return [note for note in notes if note]


Judged = list[tuple[dict[str, Any], Record | None, Verdict]]


def _settle_dataset(work: Workdir, dataset: dict[str, Any], judged: Judged, write: bool) -> dict[str, Any]:
    """Return the decision about one dataset; write or remove its task."""
    folder = work.datasets / dataset["dataset"]
    ready = [(m, r) for m, r, v in judged if v.status == "ready" and r is not None]
    status, reasons = _dataset_status(dataset, judged, bool(ready))
    files: dict[str, list[int]] = {}
    if write and status in ("ready", "incomplete") and ready:
        names = []
        for companion in dataset["companions"]:
            try:
                names.append(_copy_companion(folder, companion))
            except OSError as error:
                status = "incomplete"
                reasons.append(f"{companion['path']}: {explain_os_error(error) or error}")
        task = make_task(folder, dataset, ready, names)
        write_if_changed(folder / TASK_NAME, task)
        files = {name: _stat(folder / name) for name in (TASK_NAME, *names)}
    elif write:
        (folder / TASK_NAME).unlink(missing_ok=True)
    return {
        "dataset": dataset["dataset"],
        "source": dataset["source"],
        "title": dataset["fields"].get("title", ""),
        "status": status,
        "reason": "; ".join(reasons),
        "dataset_id": dataset["dataset_id"],
        "task_id": dataset["task_id"],
        "ready": len(ready),
        "companions": [[c["path"], c["name"], ""] for c in dataset["companions"]]
        + [[path, "", why] for path, why in dataset["companions_left"]],
        "files": files,
    }


def _dataset_status(dataset: dict[str, Any], judged: Judged, any_ready: bool) -> tuple[str, list[str]]:
    verdicts = [v for _, _, v in judged]
    if all(m["state"] == "left alone" for m, _, _ in judged):
        return "draft", [judged[0][2].reason]
    missing = missing_fields(dataset["fields"])
    if missing:
        where = ", ".join(f"datasets.defaults.{name}" for name in missing)
        return "blocked", [f"nobody said {where}; write it into the configuration or a dcorflow.yaml"]
    blocking = [(m, v) for m, _, v in judged if v.blocks]
    if blocking:
        return "blocked", [f"{m['source']}: {v.reason}" for m, v in blocking[:3]]
    lacking = [f"{m['source']}: {v.status}" for m, _, v in judged if not v.complete]
    if lacking:
        return "incomplete", lacking[:5] + ([f"and {len(lacking) - 5} more"] if len(lacking) > 5 else [])
    if not any_ready:
        words = (
            "all its sources vanished" if all(v.status == "gone" for v in verdicts) else "nothing to publish"
        )
        return "incomplete", [words]
    return "ready", []


def make_task(
    folder: Path, dataset: dict[str, Any], ready: list[tuple[dict[str, Any], Record]], companions: list[str]
) -> str:
    """Return the text of a `.dcoraid-task` file, as DCOR-Aid writes it.

    The format is that of `dcoraid.upload.task.create_task`, with the dataset's collections as CKAN
    groups. Resources stand in the order of their run index, a basin before what refers to it.
    """
    fields = dict(dataset["fields"])
    dataset_dict: dict[str, Any] = {
        "title": fields["title"],
        "authors": ", ".join(fields["authors"]),
        "license_id": fields["license_id"],
        "owner_org": fields["owner_org"],
        "private": fields["private"],
    }
    dataset_dict |= {k: fields[k] for k in ("notes", "doi", "references") if k in fields}
    if fields.get("collections"):
        dataset_dict["groups"] = [{"name": name} for name in fields["collections"]]
    if fields.get("tags"):
        dataset_dict["tags"] = [{"name": name} for name in fields["tags"]]
    ordered = _basins_first(folder, sorted(ready, key=_run_order))
    names = [m["name"] for m, _ in ordered]
    job: dict[str, Any] = {
        "task_id": dataset["task_id"],
        "resource_paths": [str(folder / name) for name in (*names, *companions)],
        "resource_names": [*names, *companions],
        "resource_supplements": [m["supplements"] for m, _ in ordered] + [{} for _ in companions],
    }
    if dataset["dataset_id"]:
        job["dataset_id"] = dataset["dataset_id"]
    task = {"dataset_dict": dataset_dict, "upload_job": job}
    return json.dumps(task, ensure_ascii=False, indent=2, sort_keys=True)


def _run_order(pair: tuple[dict[str, Any], Record]) -> Any:
    member, record = pair
    facts = record.facts
    try:
        index = int(float(facts.get("run index", 0)))
    except (ValueError, OverflowError):
        index = 0
    return (facts.get("date", ""), index, facts.get("time", ""), natural_key(member["name"]))


def _basins_first(
    folder: Path, ordered: list[tuple[dict[str, Any], Record]]
) -> list[tuple[dict[str, Any], Record]]:
    """Move each measurement behind those of the same dataset that it refers to."""
    by_name = {m["name"].lower(): (m, r) for m, r in ordered}
    by_source = {Path(m["source"]).name.lower(): m["name"].lower() for m, _ in ordered}
    done: dict[str, tuple[dict[str, Any], Record]] = {}

    def place(name: str, above: frozenset[str]) -> None:
        if name in done or name in above or name not in by_name:
            return
        member, record = by_name[name]
        basins = any(d.startswith("basins/") for d in record.body["datasets"])
        if basins and (folder / member["name"]).exists():  # it may be deleted once it is published
            for other in basin_names(folder / member["name"]):
                place(by_source.get(other.lower(), other.lower()), above | {name})
        done[name] = by_name[name]

    for member, _ in ordered:
        place(member["name"].lower(), frozenset())
    return list(done.values())


def basin_names(path: Path) -> list[str]:
    """Return the file names of the basins of type `file` that a prepared file refers to."""
    names = []
    with h5py.File(path, "r", locking=False) as h5:
        for key in sorted(h5.get("basins", {})):
            try:
                definition = json.loads(b" ".join(h5["basins"][key][:]))
                if definition.get("type") == "file":
                    names += [str(p).replace("\\", "/").rpartition("/")[2] for p in definition["paths"]]
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
    return list(dict.fromkeys(names))


def _copy_companion(folder: Path, companion: dict[str, Any]) -> str:
    """Copy a companion beside the prepared files unless it is there already; return its name."""
    source, target = Path(companion["source"]), folder / companion["name"]
    try:
        there = target.stat()
        same = (there.st_size, there.st_mtime_ns) == (companion["size"], companion["mtime_ns"])
    except OSError:
        same = False
    if not same:
        with replacing(target) as temp:
            copy_file(source, temp)
            os.utime(temp, ns=(companion["mtime_ns"], companion["mtime_ns"]))
    return target.name


def _stat(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def run_group(work: Workdir, group: str) -> tuple[int, int]:
    """Settle a group and write its stamp; return how many datasets there are and how many are ready."""
    decisions = settle(work, group)
    # The upload waits for this stamp, and Snakemake compares its content: it stands for all decisions.
    statuses = [d["status"] for d in decisions["datasets"]]
    write_text(work.stamp("task", group), to_json({"statuses": statuses, "decisions": key_of(decisions)}))
    datasets = decisions["datasets"]
    return len(datasets), sum(d["status"] == "ready" for d in datasets)
