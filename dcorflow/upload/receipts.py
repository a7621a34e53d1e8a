"""Receipts of finished uploads, and approvals of those to come: one small file per dataset and server."""

from __future__ import annotations

import getpass
from collections.abc import Collection
from pathlib import Path
from typing import Any

from dcorflow.files import read_mapping, to_json, write_text
from dcorflow.published import receipt_path
from dcorflow.server import Server
from dcorflow.upload.failures import now
from dcorflow.upload.manifest import Manifest
from dcorflow.workdir import Workdir


def write_receipt(
    work: Workdir, server: Server, manifest: Manifest, shown: dict[str, Any], url: str
) -> dict[str, Any]:
    """Write the proof that a dataset is final and complete, and return it.

    Parameters
    ----------
    work, server, manifest
        What was uploaded where.
    shown
        The dataset as the server shows it.
    url
        Its page.
    """
    ids = {resource["name"]: resource["id"] for resource in shown["resources"]}
    receipt = {
        "server": server.url,
        "dataset": manifest.dataset,
        "dataset_id": shown["id"],
        "url": url,
        "task_id": manifest.task_id,
        "private": shown["private"],
        "time": now(),
        "digest": manifest.digest,
        "fields": manifest.fields,
        "resources": [
            {
                "name": r.name,
                "id": ids[r.name],
                "size": r.size,
                "sha256": r.sha256,
                "etag": r.etag,
                "supplements": r.supplements,
                "measurement": r.measurement,
            }
            for r in manifest.resources
        ],
    }
    write_text(receipt_path(work, server, manifest.dataset), to_json(receipt))
    return receipt


def approval_path(work: Workdir, server: Server, dataset: str) -> Path:
    """Return where the approval of a dataset lies."""
    return server.folder(work) / "approvals" / f"{dataset}.json"


def is_approved(work: Workdir, server: Server, manifest: Manifest) -> bool:
    """Return whether exactly what would become final now was approved."""
    approval = read_mapping(approval_path(work, server, manifest.dataset))
    return approval is not None and approval.get("digest") == manifest.digest


def approve(work: Workdir, server: Server, manifest: Manifest, source: str = "") -> None:
    """Note that somebody has seen a dataset and wants it to be final; `source` is the file that says so."""
    approval = {
        "dataset": manifest.dataset,
        "digest": manifest.digest,
        "by": getpass.getuser(),
        "time": now(),
    } | ({"from": source} if source else {})
    write_text(approval_path(work, server, manifest.dataset), to_json(approval))


def withdraw_approvals(work: Workdir, server: Server, wanted: Collection[tuple[str, str]]) -> list[str]:
    """Take back approvals that came from a file and are not in it any more; return their datasets.

    Parameters
    ----------
    work, server
        Where.
    wanted
        Pairs of dataset and digest that the file holds.
    """
    withdrawn = []
    for path in sorted(approval_path(work, server, "x").parent.glob("*.json")):
        approval = read_mapping(path) or {}
        if approval.get("from") and (path.stem, approval.get("digest")) not in wanted:
            path.unlink(missing_ok=True)
            withdrawn.append(path.stem)
    return withdrawn
