"""Settle the datasets: which measurements are in, what keeps one back, and the task for DCOR-Aid."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dcorflow.errors import explain_os_error
from dcorflow.files import copy_file, key_of, read_json, replacing, to_json, write_if_changed, write_text
from dcorflow.metadata.fields import missing_fields
from dcorflow.metadata.supplements import unmet_requirements
from dcorflow.naming import dckit_name, natural_key, unique
from dcorflow.records import AUTOMATIC, SOURCE_SHA256, Record, load_record
from dcorflow.verdict import Verdict, find_gaps, judge
from dcorflow.wording import number
from dcorflow.workdir import TASK_NAME, Workdir

#: Plan, record and verdict of each measurement of a dataset.
Judged = list[tuple[dict[str, Any], Record | None, Verdict]]
#: DCOR-Aid warns of datasets with more resources.
_MANY_RESOURCES = 1000


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
    before = {d["dataset"]: d for d in _settled_before(work, group)}
    rows: list[dict[str, Any]] = []
    datasets = []
    material: dict[str, Any] = {}
    for dataset in plan["datasets"]:
        _find_twins(dataset["members"])
        judged = []
        for member in dataset["members"]:
            record = load_record(work, member["measurement"])
            judged.append((member, record, judge(member, record, plan["check"])))
        _name_resources(plan["naming"], judged)
        settled = _settle_dataset(work, dataset, judged, write, plan, before.get(dataset["dataset"], {}))
        private = Counter(p[0] for p in settled["private"] if p[-1] in ("blocks", "warned"))
        for member, record, verdict in judged:
            name = member["measurement"]
            material[name] = _material(member, record, plan["check"])
            gaps = sum(level == "violation" for _, level, _ in material[name]["gaps"].values())
            rows.append(_row(dataset["dataset"], member, record, verdict, private[name]) | {"gaps": gaps})
        datasets.append(settled)
    decisions = {"group": group, "measurements": rows, "datasets": datasets}
    if write:
        _remove_stale(work, before.values(), datasets)
        fields = {d["dataset"]: d["fields"] for d in plan["datasets"]}
        write_if_changed(work.material(group), to_json({"measurements": material, "fields": fields}))
        write_if_changed(work.settled(group), to_json(decisions))
    return decisions


def _name_resources(naming: str, judged: Judged) -> None:
    """Note for each measurement the name that it gets on DCOR."""
    taken: set[str] = set()
    for member, record, _ in judged:
        name = member["name"]
        if naming == "dckit" and record is not None and (checksum := record.facts.get(SOURCE_SHA256)):
            name = dckit_name(record.metadata, checksum)
        member["resource"] = unique(name, taken)
        taken.add(member["resource"].lower())


def _material(member: dict[str, Any], record: Record | None, policy: dict[str, Any]) -> dict[str, Any]:
    """Return what the template shows of a measurement: values, supplements, and what to look at."""
    supplements = {f"{s}:{k}": v for s, values in member["supplements"].items() for k, v in values.items()}
    if record is None or record.failure is not None:
        return {"values": {}, "supplements": supplements, "gaps": {}}
    gaps = find_gaps(record, [*policy["ignore"], *member["ignore"]])
    return {"values": record.metadata, "supplements": supplements, "gaps": gaps}


def _remove_stale(work: Workdir, before: Iterable[dict[str, Any]], datasets: list[dict[str, Any]]) -> None:
    """Remove companions that were copied once and are no longer wanted."""
    now = {(d["dataset"], name) for d in datasets for name in d["files"]}
    for dataset in before:
        for name in dataset["files"]:
            if (dataset["dataset"], name) not in now:
                (work.datasets / dataset["dataset"] / name).unlink(missing_ok=True)


def _settled_before(work: Workdir, group: str) -> list[dict[str, Any]]:
    """Return what was decided about a group's datasets the last time."""
    try:
        datasets: list[dict[str, Any]] = read_json(work.settled(group))["datasets"]
    except (OSError, ValueError, KeyError):
        return []
    return datasets


def withdraw_tasks(work: Workdir, decisions: dict[str, Any]) -> None:
    """Remove tasks that list a measurement that is not ready any more: a run was interrupted.

    The next run writes them again, when everything in them is checked.
    """
    ready = {m["measurement"] for m in decisions["measurements"] if m["status"] == "ready"}
    waiting = {(m["dataset"], m["name"]) for m in decisions["measurements"] if m["measurement"] not in ready}
    for dataset in {place[0] for place in waiting}:
        path = work.datasets / dataset / TASK_NAME
        try:
            paths = json.loads(path.read_bytes())["upload_job"]["resource_paths"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if any((dataset, Path(p).name) in waiting for p in paths):
            path.unlink(missing_ok=True)


def _find_twins(members: list[dict[str, Any]]) -> None:
    """Note for each duplicate whether what it equals is in the same dataset."""
    inside = {m["measurement"] for m in members}
    for member in members:
        member["twin_inside"] = member["twin"] in inside


def _row(
    dataset: str, member: dict[str, Any], record: Record | None, verdict: Verdict, private: int
) -> dict[str, Any]:
    prepared = record.prepared if record and not record.failure else {}
    return {
        "measurement": member["measurement"],
        "dataset": dataset,
        "name": member["name"],
        "resource": member["resource"],
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
        "note": "; ".join(_notes(member, record, verdict, private)),
        "root": member["root"],
        "replaced": _replaced(record),
    }


def _replaced(record: Record | None) -> int:
    """Return how many values of the source somebody replaced or removed."""
    if record is None:
        return 0
    guessed = record.body.get("guessed", {})
    own = [e for e in record.edits if e["kind"] not in AUTOMATIC and e["key"] not in guessed]
    return sum(e["old"] is not None for e in own)


def _notes(member: dict[str, Any], record: Record | None, verdict: Verdict, private: int) -> list[str]:
    """Return what a user should know about a measurement, whatever its status."""
    notes = [member["note"], record.facts.get("note", "") if record else ""]
    if verdict.status == "ready" and Path(member["source"]).stem != Path(member["resource"]).stem:
        notes.append(f"published as {member['resource']}")
    if private:
        notes.append(f"{private} private text{'s' if private > 1 else ''} in it")
    return [note for note in notes if note]


def _settle_dataset(
    work: Workdir,
    dataset: dict[str, Any],
    judged: Judged,
    write: bool,
    plan: dict[str, Any],
    before: dict[str, Any],
) -> dict[str, Any]:
    """Return the decision about one dataset; write or remove its task."""
    folder = work.datasets / dataset["dataset"]
    ready = [(m, r) for m, r, v in judged if v.status == "ready" and r is not None]
    status, reasons = _dataset_status(dataset, judged, bool(ready))
    found = [(m, r.check.get("private", [])) for m, r in ready]
    from dcorflow.privacy.dataset import blocks, scan_dataset  # opens HDF5, which idle runs do not need

    private, scans = scan_dataset(dataset, found, plan, before.get("scans", {}))
    if status in ("ready", "incomplete") and (why := blocks(private)):
        status, reasons = "blocked", [why]
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
        "accept_incomplete": bool(dataset["fields"].get("accept_incomplete")),
        "warnings": _warnings(ready, len(dataset["companions"])),
        "companions": [[c["path"], c["name"], ""] for c in dataset["companions"]]
        + [[path, "", why] for path, why in dataset["companions_left"]],
        "files": files,
        "private": [place.row() for place in private],
        "scans": scans,
    }


def _warnings(ready: list[tuple[dict[str, Any], Record]], companions: int) -> list[str]:
    """Return what DCOR-Aid would warn of, and supplements that make no sense together."""
    found = []
    if ready and len(ready) + companions > _MANY_RESOURCES:
        beside = f" and {number(companions, 'companion')}" if companions else ""
        many = f"{number(len(ready), 'measurement')}{beside}"
        found.append(f"{many}; DCOR is slow with more than {_MANY_RESOURCES:,} resources")
    if ready and not any(m["supplements"] for m, _ in ready):
        found.append("no supplements: say at least 'sp:general:sample type' in the sheet")
    unmet = dict.fromkeys(words for m, _ in ready for words in unmet_requirements(m["supplements"]))
    return [*found, *unmet]


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
        if all(v.status == "gone" for v in verdicts):
            return "incomplete", ["all its sources vanished"]
        left_out = all(m["state"] == "left out" for m, _, _ in judged)
        return "incomplete", ["all of it is left out on purpose" if left_out else "nothing to publish"]
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
        "resource_names": [*(m["resource"] for m, _ in ordered), *companions],
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
    from dcorflow.hdf5 import basin_names  # nothing of HDF5 in runs that have nothing to do

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
