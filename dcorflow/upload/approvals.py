"""Approvals in a file that is reviewed elsewhere, such as in a repository: server, dataset and digest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dcorflow.errors import UsageError
from dcorflow.server import Server
from dcorflow.upload.approve import describe, to_approve
from dcorflow.upload.manifest import Manifest
from dcorflow.upload.receipts import approve, withdraw_approvals
from dcorflow.workdir import Workdir


def to_review(manifests: list[Manifest], server: Server) -> str:
    """Return the lines of a file for datasets that wait; comments tell what will be final."""
    parts = []
    for manifest in manifests:
        parts += [f"# {line}" for line in describe(manifest, server).split("\n")]
        parts.append(f"{server.name}\t{manifest.dataset}\t{manifest.digest}")
    return "".join(f"{line}\n" for line in parts)


def read_approvals(path: Path) -> dict[tuple[str, str], set[str]]:
    """Return the digests approved by server and dataset.

    Raises
    ------
    UsageError
        Where the file is not there, or a line is none of `to_review`.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: no approvals can be read ({error})") from error
    found: dict[tuple[str, str], set[str]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split()
        if len(fields) != 3 or len(fields[2]) != 64:
            raise UsageError(
                f"{path}, line {number}: expected server, dataset and digest as 'dcorflow approve --digests' "
                f"prints them, found {line!r}"
            )
        found.setdefault((fields[0], fields[1]), set()).add(fields[2])
    return found


def approve_from(path: Path, work: Workdir, config: dict[str, Any], server: Server) -> list[str]:
    """Approve exactly what a file says, take back what it said before, and return what to tell.

    A digest stands for all that will be final, so a dataset that changed since is not approved.
    """
    said = {
        dataset: digests for (name, dataset), digests in read_approvals(path).items() if name == server.name
    }
    wanted = {(dataset, digest) for dataset, digests in said.items() for digest in digests}
    lines = [f"withdrawn  {name}: no longer in {path}" for name in withdraw_approvals(work, server, wanted)]
    for manifest in to_approve(work, config, server, []):
        if manifest.digest in said.get(manifest.dataset, ()):
            approve(work, server, manifest, str(path))
            lines.append(f"approved   {manifest.dataset}")
        elif manifest.dataset in said:
            lines.append(f"waits      {manifest.dataset}: it differs from what was approved; review it again")
        else:
            lines.append(f"waits      {manifest.dataset}: not in {path}")
    return lines or ["nothing new to approve"]
