"""What became of datasets on the server, for the report: from receipts and what the upload job said."""

from __future__ import annotations

from typing import Any

from dcorflow.files import key_of, read_json
from dcorflow.server import Server, find_server
from dcorflow.upload.receipts import read_receipt
from dcorflow.workdir import TASK_NAME, Workdir

#: Fields whose change is told; collections are added later without the dataset changing.
_FIELDS = ("title", "authors", "license_id", "private", "notes", "doi", "references", "tags")


def add_outcomes(work: Workdir, upload: dict[str, Any], group: str, decisions: dict[str, Any]) -> None:
    """Say in the decisions of a group what is on the server (in place).

    Parameters
    ----------
    work
        Work directory.
    upload
        The settings `upload`; without a server nothing is said.
    group, decisions
        Group of datasets, and what its task job decided.
    """
    if not upload.get("server"):
        return
    server = find_server(upload["server"])
    try:
        outcomes = read_json(work.uploaded(group))
    except (OSError, ValueError):
        outcomes = {}
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in decisions["measurements"]:
        rows.setdefault(row["dataset"], []).append(row)
    for dataset in decisions["datasets"]:
        inside = rows.get(dataset["dataset"], [])
        receipt = read_receipt(work, server, dataset["dataset"])
        if receipt is not None:
            dataset["dataset_id"] = receipt["dataset_id"]
            dataset["status"], dataset["reason"] = compare(work, dataset, inside, receipt)
            continue
        outcome = outcomes.get(dataset["dataset"])
        if outcome and outcome["server"] == server.name:
            dataset["dataset_id"] = outcome["dataset_id"] or dataset["dataset_id"]
            if outcome["of"] == identity(dataset, inside):
                dataset["status"], dataset["reason"] = outcome["status"], outcome["reason"]


def identity(dataset: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """Return what stands for a dataset as its task job decided about it."""
    content = [[r["resource"], r["status"], r["sha256"]] for r in rows]
    return key_of(dataset["status"], dataset["reason"], dataset["files"], content)


def compare(
    work: Workdir, dataset: dict[str, Any], rows: list[dict[str, Any]], receipt: dict[str, Any]
) -> tuple[str, str]:
    """Return status and reason of a published dataset: the same here, changed, or late."""
    published = {r["name"]: r["sha256"] for r in receipt["resources"]}
    here = {row["resource"]: row["sha256"] for row in rows if row["status"] == "ready"}
    for name, sha256 in here.items():
        if name in published and published[name] != sha256:
            return "changed", f"{name} has SHA256 {sha256} here, {published[name]} in what is published"
    try:
        fields = read_json(work.datasets / dataset["dataset"] / TASK_NAME)["dataset_dict"]
    except (OSError, ValueError, KeyError):
        fields = receipt["fields"]
    for key in _FIELDS:
        old, new = receipt["fields"].get(key, ""), fields.get(key, "")
        if old != new:
            return "changed", f"{key} is {new!r} here, {old!r} in what is published"
    added = [name for name in here if name not in published]
    if added:
        more = f" and {len(added) - 3} more" if len(added) > 3 else ""
        return "late", f"{', '.join(added[:3])}{more} came after the dataset was published"
    return "published", ""


def published(work: Workdir, server: Server, dataset: str) -> bool:
    """Return whether a dataset is final on a server."""
    return read_receipt(work, server, dataset) is not None
