"""`dcorflow approve`: show what will become final, and note that somebody wants it."""

from __future__ import annotations

from typing import Any

from dcorflow.errors import UsageError
from dcorflow.files import printable, read_json
from dcorflow.server import Server
from dcorflow.upload.failures import UploadError
from dcorflow.upload.manifest import Manifest, read_manifest
from dcorflow.upload.outcome import accepted, published
from dcorflow.upload.receipts import is_approved
from dcorflow.wording import number
from dcorflow.workdir import Workdir


def to_approve(work: Workdir, config: dict[str, Any], server: Server, names: list[str]) -> list[Manifest]:
    """Return the datasets that may be approved.

    Parameters
    ----------
    work, config, server
        Where, and what for.
    names
        Datasets to return; all that are ready and not approved yet where none is given.

    Raises
    ------
    UsageError
        Where a dataset is unknown, published, or cannot be approved as it is.
    """
    wanted = dict.fromkeys(names)
    found, known = [], set()
    for group in read_json(work.state / "plan.json")["groups"]:
        try:
            decisions = read_json(work.settled(group))
        except (OSError, ValueError):
            continue
        for decision in decisions["datasets"]:
            name = decision["dataset"]
            known.add(name)
            if names and name not in wanted:
                continue
            if why := _not_now(work, server, decision):
                if names:
                    raise UsageError(f"{name}: {why}")
                continue
            rows = [r for r in decisions["measurements"] if r["dataset"] == name]
            try:
                found.append(read_manifest(work, decision, rows))
            except UploadError as error:
                if names:
                    raise UsageError(f"{name}: {error}") from error
    if unknown := [name for name in wanted if name not in known]:
        raise UsageError(
            f"no dataset '{unknown[0]}'; the column 'dataset' of results/summary.tsv has all names"
        )
    return found if names else [m for m in found if not is_approved(work, server, m)]


def _not_now(work: Workdir, server: Server, decision: dict[str, Any]) -> str:
    if published(work, server, decision["dataset"]):
        return "it is published already"
    if decision["status"] != "ready" and not accepted(decision):
        return f"it is {decision['status']} ({decision['reason']})"
    return ""


def describe(manifest: Manifest, server: Server) -> str:
    """Return what will be final, for a person to read."""
    fields = manifest.fields
    lines = [
        f"{manifest.dataset}  ->  {server.url}",
        f"  title        {fields['title']}",
        f"  authors      {fields['authors']}",
        f"  licence      {fields['license_id']}",
        f"  circle       {fields['owner_org']}",
        f"  visibility   {'members of the circle' if fields['private'] else 'PUBLIC, for everybody'}",
    ]
    more = {"description": "notes", "DOI": "doi", "references": "references"}
    lines += [f"  {what:12} {' '.join(fields[key].split())}" for what, key in more.items() if fields.get(key)]
    if tags := fields.get("tags"):
        lines.append(f"  tags         {', '.join(tag['name'] for tag in tags)}")
    if groups := fields.get("groups"):
        lines.append(f"  collections  {', '.join(g['name'] for g in groups)}")
    lines.append(f"  resources    {len(manifest.resources)}, {manifest.size / 1e6:.1f} MB")
    for resource in manifest.resources:
        extra = ", ".join(f"{k.removeprefix('sp:')} = {v}" for k, v in resource.supplements.items())
        lines.append(f"    {resource.size / 1e6:10.1f} MB  {resource.name}  {extra}".rstrip())
    findings = manifest.open
    if findings["violations"] or findings["alerts"]:
        kinds = (number(findings[kind + "s"], kind) for kind in ("violation", "alert"))
        lines.append(f"  findings     {', '.join(kinds)}")
    if findings["private"]:
        lines.append(f"  PRIVATE TEXT {number(findings['private'], 'place')}, see results/privacy.tsv")
    lines += [f"  warning      {words}" for words in findings["warnings"]]
    if findings["missing"]:
        lines.append(f"  INCOMPLETE   {findings['missing']}")
    return "\n".join(printable(line) for line in lines)
