"""What became of datasets on the server, for the report: from receipts and what the upload job said."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dcorflow.files import key_of, read_json
from dcorflow.published import read_receipt
from dcorflow.seal import sha256_of
from dcorflow.server import Server, find_server
from dcorflow.upload.failures import time_of
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
    for name, why in _companions(work, dataset, receipt):
        if why:
            return "changed", f"{name} {why}"
        here[name] = ""
    added = [name for name in here if name not in published]
    if added:
        more = f" and {len(added) - 3} more" if len(added) > 3 else ""
        return "late", f"{', '.join(added[:3])}{more} came after the dataset was published"
    return "published", ""


def _companions(work: Workdir, dataset: dict[str, Any], receipt: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the companions of a published dataset, and for each what is different about it, or nothing."""
    final = {r["name"]: r for r in receipt["resources"]}
    for _, name, left in dataset["companions"]:
        if left:
            continue
        path = work.datasets / dataset["dataset"] / name
        try:
            seen = path.stat()
            old = final.get(name, {})
            # A look at the content only where it could differ: this is done in every run.
            same = not old or (seen.st_size == old["size"] and seen.st_mtime < time_of(receipt["time"]))
            sha256 = old.get("sha256") if same else sha256_of(path)
        except OSError:
            continue  # it comes back with the next task job
        if same or sha256 == old["sha256"]:
            yield name, ""
        else:
            yield name, f"has SHA256 {sha256} here, {old['sha256']} in what is published"


def accepted(decision: dict[str, Any]) -> bool:
    """Return whether a dataset is incomplete, and somebody wants it uploaded as it is."""
    wanted = decision["status"] == "incomplete" and decision.get("accept_incomplete")
    return bool(wanted and decision["ready"])


def published(work: Workdir, server: Server, dataset: str) -> bool:
    """Return whether a dataset is final on a server."""
    return read_receipt(work, server, dataset) is not None
