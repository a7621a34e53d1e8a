"""Whether somebody approved a dataset, in words for its card."""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

from dcorflow.files import printable, read_json, read_mapping
from dcorflow.server import Server
from dcorflow.upload.failures import UploadError
from dcorflow.upload.manifest import read_manifest
from dcorflow.upload.outcome import accepted
from dcorflow.upload.receipts import approval_path
from dcorflow.workdir import Workdir

#: What is said where there is none; the card adds the command.
NONE = "none yet"
#: Where an approval is not what makes a dataset final.
_MODES = {
    "all": "not needed: upload.activate is 'all', what is ready becomes final",
    "drafts": "makes nothing final as long as upload.activate is 'drafts'",
}


def approvals_folder(work: Workdir, server: Server) -> Path:
    """Return where the approvals of all datasets lie."""
    return approval_path(work, server, "any").parent


def approvals_of(
    work: Workdir,
    server: Server | None,
    activate: str,
    datasets: Iterable[Mapping[str, Any]],
    there: Container[str],
) -> dict[str, str]:
    """Return what to say of the approval of each dataset that may need one.

    Parameters
    ----------
    work, server, activate
        Work directory; where datasets are uploaded to; the setting ``upload.activate``.
    datasets
        What was decided about each dataset, and what became of it on the server.
    there
        The datasets of which an approval lies in its folder.

    Returns
    -------
    dict
        Words by dataset; nothing where no server is named, or where there is nothing to approve.
    """
    if server is None:
        return {}
    said = {}
    for dataset in datasets:
        if dataset["status"] in ("blocked", "published", "changed", "late", "in progress"):
            continue
        name = dataset["dataset"]
        if activate in _MODES:
            said[name] = _MODES[activate]
        elif dataset["status"] == "incomplete" and not accepted(dict(dataset)):
            said[name] = "not possible while it is incomplete"
        elif name in there:
            said[name] = _approval(work, server, dataset)
        else:
            said[name] = NONE
    return said


def _approval(work: Workdir, server: Server, dataset: Mapping[str, Any]) -> str:
    """Say whether an approval is there, and whether it is one of what lies here now."""
    approval = read_mapping(approval_path(work, server, dataset["dataset"])) or {}
    words = printable(f"given by {approval.get('by', 'somebody')}, {str(approval.get('time', ''))[:10]}")
    if approval.get("digest") == _digest(work, dataset):
        return f"{words}: the next upload makes it final"
    return f"{words}, of another state: look at it and approve it again"


def _digest(work: Workdir, dataset: Mapping[str, Any]) -> str:
    """Return the digest of what an approval would make final now; empty where there is none."""
    with contextlib.suppress(OSError, ValueError, KeyError, UploadError):
        decisions = read_json(work.settled(dataset["group"]))
        rows = [row for row in decisions["measurements"] if row["dataset"] == dataset["dataset"]]
        [decision] = [d for d in decisions["datasets"] if d["dataset"] == dataset["dataset"]]
        return read_manifest(work, decision, rows).digest
    return ""
