"""The tables of a run: summary.tsv, companions.tsv, privacy.tsv, junit.xml."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any
from xml.etree import ElementTree

from dcorflow.files import escape, to_tsv, write_if_changed
from dcorflow.records import RecordIndex
from dcorflow.report.summary import Summary, gather
from dcorflow.workdir import Workdir

COLUMNS = (
    "measurement", "dataset", "source", "status", "reason", "events", "source_bytes", "prepared_bytes",
    "violations", "alerts", "sha256", "dataset_status", "dataset_id",
)  # fmt: skip
#: Characters that XML 1.0 cannot hold, written or escaped.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def summary_table(summary: Summary) -> str:
    """Return summary.tsv: one row per measurement, sorted by source."""
    ordered = sorted(summary.measurements, key=lambda m: (m["root"], m["source"], m["measurement"]))
    return to_tsv(COLUMNS, ([_cell(m, c) for c in COLUMNS] for m in ordered))


def _cell(row: dict[str, Any], column: str) -> str:
    if column == "reason" and row["note"]:
        return f"{row['reason']}; {row['note']}".removeprefix("; ")
    return str(row[column])


def companions_table(summary: Summary) -> str:
    """Return companions.tsv: other files beside measurements, and which of them are published."""
    rows = [
        [dataset["dataset"], *companion]
        for dataset in summary.datasets
        for companion in dataset["companions"]
    ]
    return to_tsv(("dataset", "source", "published_as", "left_out_because"), sorted(rows))


def privacy_table(summary: Summary) -> str:
    """Return privacy.tsv: private text that would be published, file by file."""
    columns = ("dataset", "measurement", "file", "place", "kind", "text", "count", "verdict")
    rows = [[d["dataset"], *row] for d in summary.datasets for row in d.get("private", [])]
    return to_tsv(columns, rows)


def junit(summary: Summary) -> str:
    """Return the summary as JUnit XML: ready passes, failed fails, the rest is skipped."""
    suites = ElementTree.Element("testsuites", name="dcorflow")
    by_dataset: dict[str, list[dict[str, Any]]] = {}
    for row in summary.measurements:
        by_dataset.setdefault(row["dataset"] or "no dataset", []).append(row)
    for dataset, rows in sorted(by_dataset.items()):
        count = Counter(r["status"] for r in rows)
        skipped = len(rows) - count["ready"] - count["failed"]
        suite = ElementTree.SubElement(
            suites, "testsuite", name=_xml(dataset), tests=str(len(rows)),
            failures=str(count["failed"]), skipped=str(skipped), errors="0",
        )  # fmt: skip
        for row in sorted(rows, key=lambda r: (r["source"], r["measurement"])):
            case = ElementTree.SubElement(
                suite, "testcase", name=_xml(row["source"]), classname=_xml(dataset)
            )
            if row["status"] == "failed":
                ElementTree.SubElement(case, "failure", message=_xml(_cell(row, "reason")))
            elif row["status"] != "ready":
                words = f"{row['status']}: {_cell(row, 'reason')}"
                ElementTree.SubElement(case, "skipped", message=_xml(words))
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _xml(text: str) -> str:
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", escape(text))


def write_report(work: Workdir) -> Summary:
    """Write summary.tsv and junit.xml where they changed."""
    RecordIndex(work).refresh()
    summary = gather(work)
    write_if_changed(work.summary, summary_table(summary))
    write_if_changed(work.junit, junit(summary))
    write_if_changed(work.companions, companions_table(summary))
    write_if_changed(work.privacy, privacy_table(summary))
    return summary
