"""The datasets as cards: what each one is, what is missing, and what an approval would make final."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from dcorflow.files import printable
from dcorflow.report.summary import STATUSES
from dcorflow.server import Server
from dcorflow.wording import number, size_text
from dcorflow.workdir import TASK_NAME

#: The statuses of datasets, those first that need attention most.
DATASET_STATUSES = (
    "blocked", "upload failed", "changed", "late", "incomplete", "draft", "unsettled", "ready", "published",
)  # fmt: skip


def make_cards(
    datasets: Iterable[Mapping[str, Any]],
    rows: Mapping[str, Sequence[Mapping[str, Any]]],
    fields: Mapping[str, Mapping[str, Any]],
    server: Server | None,
    approvals: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Return the cards, those first that need attention most.

    Parameters
    ----------
    datasets
        What was decided about each dataset.
    rows
        Rows of the summary by dataset.
    fields
        Title, authors and so on by dataset.
    server
        Where datasets are uploaded to; None without one.
    approvals
        What to say of the approval by dataset (`dcorflow.report.approved`).
    """
    order = {status: number for number, status in enumerate(DATASET_STATUSES)}
    sorted_datasets = sorted(datasets, key=lambda d: (order.get(d["status"], 0), d["source"]))
    return [
        _card(d, rows.get(d["dataset"], ()), fields.get(d["dataset"], {}), server)
        | {"approval": approvals.get(d["dataset"], "")}
        for d in sorted_datasets
    ]


def _card(
    dataset: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    fields: Mapping[str, Any],
    server: Server | None,
) -> dict[str, Any]:
    counts = Counter(row["status"] for row in rows)
    done = [row for row in rows if row["prepared_bytes"]]
    before, after = (sum(int(row[part]) for row in done) for part in ("source_bytes", "prepared_bytes"))
    folder = f"datasets/{quote(os.fsencode(dataset['dataset']))}"
    page = f"{server.url}/dataset/{quote(dataset['dataset_id'])}" if server and dataset["dataset_id"] else ""
    return {
        "dataset": dataset["dataset"],
        "id": printable(dataset["dataset"]),
        "title": printable(dataset["title"] or dataset["source"] or dataset["dataset"]),
        "source": printable(dataset["source"]),
        "status": dataset["status"],
        "reason": printable(_within(dataset["source"], dataset["reason"])),
        "circle": printable(str(fields.get("owner_org", ""))),
        "counts": [(status, counts[status]) for status in STATUSES if counts[status]],
        "total": len(rows),
        "before": size_text(before) if done else "",
        "after": size_text(after) if done else "",
        "percent": f"{after / before * 100:.0f}\u00a0%" if before else "",
        "events": sum(int(row["events"] or 0) for row in rows if row["status"] == "ready"),
        "server": page,
        "folder": f"{folder}/",
        "task": f"{folder}/{TASK_NAME}" if TASK_NAME in dataset["files"] else "",
        "warnings": [printable(words) for words in dataset["warnings"]],
        "final": _final(dataset, rows, fields),
    }


def _within(source: str, reason: str) -> str:
    """Return a reason with the names of files as they are within their folder, which the card names."""
    if not source or source == ".":
        return reason
    return re.sub(rf"(?:^|(?<=[ ;,])){re.escape(source)}/", "", reason)


def _final(
    dataset: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], fields: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Return what an approval would make final; empty where there is nothing to approve."""
    if not fields or dataset["status"] in ("blocked", "published", "changed", "late"):
        return []
    ready = [row for row in rows if row["status"] == "ready"]
    if not ready:
        return []
    companions = sum(bool(companion[1]) for companion in dataset["companions"])
    size = size_text(sum(int(row["prepared_bytes"] or 0) for row in ready))
    resources = f"{number(len(ready), 'measurement')} ({size})"
    if companions:
        resources += f" and {number(companions, 'other file')}"
    private = fields.get("private", True)
    facts = {
        "Resources": resources,
        "Visible to": "members of the circle" if private else "EVERYBODY (public)",
        "Title": str(fields.get("title", "")),
        "Authors": ", ".join(map(str, fields.get("authors") or ())),
        "Licence": str(fields.get("license_id", "")),
        "Circle": str(fields.get("owner_org", "")),
        "Collections": ", ".join(map(str, fields.get("collections") or ())),
        "DOI": str(fields.get("doi", "")),
        "References": str(fields.get("references", "")),
        "Key words": ", ".join(map(str, fields.get("tags") or ())),
    }
    return [(name, printable(value)) for name, value in facts.items() if value]
