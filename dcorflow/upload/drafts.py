"""Drafts as the server shows them: whose they are, what their resources say, and in which order."""

from __future__ import annotations

from typing import Any

from dcoraid.upload.task import load_task

from dcorflow.upload.api import Api
from dcorflow.upload.failures import UploadError
from dcorflow.upload.manifest import Manifest, Resource

_MARK = "[dcorflow: task "


def marker_of(task: str, namespace: str) -> str:
    """Return the line in the notes of a draft by which it is known to be a task's."""
    return f"{_MARK}{task} {marker_words(namespace)}"


def of_another_task(shown: dict[str, Any], task: str) -> bool:
    """Return whether a draft carries the mark of another task.

    Where two drafts with equal titles are asked for at the same moment, CKAN may give both the same name,
    take the second one for a change of the first, and return the same id for both.
    """
    notes = shown.get("notes") or ""
    return notes.startswith(_MARK) and not notes.startswith(f"{_MARK}{task} ")


def marker_words(namespace: str) -> str:
    """Return the part of a draft's marker that all tasks of a namespace share."""
    return f"of '{namespace}', upload not finished]"


def new_resource(resource: Resource, resource_id: str) -> dict[str, Any]:
    """Return what adds a file that is in the object store to a draft."""
    return {"id": resource_id, "name": resource.name, "s3_available": True, **resource.supplements}


def missing_supplements(wanted: Resource, resource: dict[str, Any]) -> dict[str, Any]:
    """Return the supplements to set so that a resource has those wanted, and no others."""
    stored = {k: v for k, v in resource.items() if k.startswith("sp:") and v not in (None, "")}
    change = {k: v for k, v in wanted.supplements.items() if k not in stored or not _same(stored[k], v)}
    return change | {k: "" for k in stored if k not in wanted.supplements}


def _same(one: Any, other: Any) -> bool:
    """Compare values that the server may have stored as text."""
    try:
        return float(one) == float(other)
    except (TypeError, ValueError):
        return str(one).strip().lower() == str(other).strip().lower()


def own_drafts(api: Api, user_id: str, marker: str) -> list[dict[str, Any]]:
    """Return the drafts of a user whose notes hold a marker."""
    found: list[dict[str, Any]] = []
    rows = 500
    while True:
        page = api.get(
            "package_search", q="*:*", include_drafts=True, include_private=True, rows=rows, start=len(found),
            fq=f"creator_user_id:{user_id} AND state:draft", sort="metadata_created asc",
        )["results"]  # fmt: skip
        found += page
        if len(page) < rows:
            return [d for d in found if marker in (d.get("notes") or "")]


def ordered(api: Api, manifest: Manifest, dataset_id: str) -> list[Resource]:
    """Return the resources in the order in which DCOR-Aid would upload them: basins first."""
    job = load_task(manifest.task, api, map_task_to_dataset_id={manifest.task_id: dataset_id})
    by_name = {r.name: r for r in manifest.resources}
    if sorted(job.resource_names) != sorted(by_name):
        raise UploadError("dcoraid reads other resource names from the task than are there")
    return [by_name[name] for name in job.resource_names]
