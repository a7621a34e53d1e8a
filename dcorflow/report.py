"""The report: summary.tsv, junit.xml, the last lines of a run, and its verdict."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from dcorflow.convert import TRUNCATED
from dcorflow.files import escape, printable, read_json, to_tsv, write_if_changed
from dcorflow.metadata.fields import is_generic_title
from dcorflow.records import RecordIndex
from dcorflow.source.inventory import Item, load_inventory
from dcorflow.task import settle, withdraw_tasks
from dcorflow.upload.outcome import add_outcomes
from dcorflow.workdir import TASK_NAME, Workdir

COLUMNS = (
    "measurement", "dataset", "source", "status", "reason", "events", "source_bytes", "prepared_bytes",
    "violations", "alerts", "sha256", "dataset_status", "dataset_id",
)  # fmt: skip
STATUSES = ("ready", "excluded", "failed", "in progress", "gone")
#: Reasons shown at the end of a run; all of them stand in the summary.
_SHOWN = 12
#: Verdicts on private text that a person should act on.
_PRIVATE = ("blocks", "warned")
#: Statuses of datasets that the upload gives; their reasons stand in the summary.
_UPLOADED = ("unsettled", "draft", "upload failed", "changed", "late")
#: Statuses of datasets whose reasons are shown at the end of a run.
_TELL = ("blocked", "upload failed", "changed", "late")
#: What discover's states are called for measurements that no group has settled.
_UNSETTLED = {
    "gone": "gone",
    "problem": "failed",
    "duplicate": "excluded",
    "left out": "excluded",
    "left alone": "excluded",
}
#: Characters that XML 1.0 cannot hold, written or escaped.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass
class Summary:
    """All measurements and datasets with what became of them."""

    measurements: list[dict[str, Any]] = field(default_factory=list)
    datasets: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)

    def counts(self) -> Counter[str]:
        """Return how many measurements have each status."""
        return Counter(m["status"] for m in self.measurements)


def gather(work: Workdir) -> Summary:
    """Collect what the task jobs decided; what no job has settled since is judged afresh.

    Opens one file per group of datasets, and records only of groups that are not settled.
    """
    items = load_inventory(work.inventory)
    upload = _upload_settings(work)
    try:
        plan = read_json(work.state / "plan.json")
    except (OSError, ValueError):
        plan = {"groups": {}, "warnings": []}
    summary = Summary(warnings=plan["warnings"], items=items)
    rows: dict[str, dict[str, Any]] = {}
    for group, batches in plan["groups"].items():
        decisions = _decisions(work, group, batches)
        add_outcomes(work, upload, group, decisions)
        summary.datasets += [{**dataset, "group": group} for dataset in decisions["datasets"]]
        rows |= {row["measurement"]: row for row in decisions["measurements"]}
    datasets = {d["dataset"]: d for d in summary.datasets}
    for item in items:
        row = rows.get(item.measurement) or _unsettled_row(item)
        dataset = datasets.get(row["dataset"], {})
        row["dataset_status"] = dataset.get("status", "")
        row["dataset_id"] = dataset.get("dataset_id", "")
        if row["dataset_status"] in _UPLOADED and dataset["reason"]:
            row["note"] = "; ".join(filter(None, (row["note"], f"dataset: {dataset['reason']}")))
        summary.measurements.append(row)
    return summary


def _upload_settings(work: Workdir) -> dict[str, Any]:
    try:
        settings: dict[str, Any] = read_json(work.config)["upload"]
    except (OSError, ValueError, KeyError):
        return {}
    return settings


def _decisions(work: Workdir, group: str, batches: list[str]) -> dict[str, Any]:
    """Return the stored decisions about a group, made anew where something is newer than they."""
    settled, plan, stamp = work.settled(group), work.group(group), work.stamp("task", group)
    try:
        done = stamp.stat().st_mtime_ns
        if done >= plan.stat().st_mtime_ns and not _is_newer(work, batches, done):
            stored: dict[str, Any] = read_json(settled)
            return stored
    except (OSError, ValueError):
        pass
    decisions = settle(work, group, write=False)
    withdraw_tasks(work, decisions)
    return decisions


def _is_newer(work: Workdir, batches: list[str], done: int) -> bool:
    """Return whether one of a group's batches was planned or worked on after its tasks were written."""
    for batch in batches:
        newest = (work.stamp("merge_metadata", batch), work.batch(batch), work.edits(batch))
        try:
            if any(path.stat().st_mtime_ns > done for path in newest):
                return True
        except OSError:
            return True
    return False


def _unsettled_row(item: Item) -> dict[str, Any]:
    reason = item.reason or "not prepared yet: the run was interrupted"
    return {
        "measurement": item.measurement,
        "dataset": item.dataset,
        "source": item.source,
        "status": _UNSETTLED.get(item.state, "in progress"),
        "reason": reason,
        "retry": False,
        "by_policy": False,
        "events": "",
        "source_bytes": item.size,
        "prepared_bytes": "",
        "violations": 0,
        "alerts": 0,
        "sha256": "",
        "note": item.note,
        "root": item.root,
        "replaced": 0,
        "gaps": 0,
    }


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


def _private_words(summary: Summary) -> list[str]:
    """Return how much private text there is, and where it is listed."""
    found = [
        (d["dataset"], row) for d in summary.datasets for row in d.get("private", []) if row[-1] in _PRIVATE
    ]
    if not found:
        return []
    kinds = Counter(row[3] for _, row in found)
    shown = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    files, datasets = (len({(d, *row[1:n]) for d, row in found}) for n in (2, 1))
    where = f"{_number(files, 'file')} of {_number(datasets, 'dataset')}"
    return [
        f"private text in {where} ({shown}): {_number(len(found), 'entry', 'entries')} in results/privacy.tsv"
    ]


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


def last_lines(summary: Summary, work: Workdir) -> list[str]:
    """Return what a person wants to know at the end of a run, and what to do next."""
    counts = summary.counts()
    total = len(summary.measurements)
    if not total:
        return ["dcorflow: nothing was found yet"]
    words = ", ".join(f"{counts[s]} {s}" for s in STATUSES if counts[s])
    lines = ["", f"{_number(total, 'measurement')}: {words}"]
    several = len({m["root"] for m in summary.measurements}) > 1
    for status, row in _worth_showing(summary):
        root = f"{row['root']}/" if several else ""
        lines.append(f"  {status:12} {root}{_where(row)}: {row['reason']}")
    hidden = sum(counts[s] for s in STATUSES[1:]) - _SHOWN
    if hidden > 0:
        lines.append(f"  ... and {hidden} more in {_relative(work.summary)}")
    state = Counter(d["status"] for d in summary.datasets)
    words = ", ".join(f"{n} {s}" for s, n in sorted(state.items()))
    lines.append(f"{_number(len(summary.datasets), 'dataset')}: {words}")
    for dataset in [d for d in summary.datasets if d["status"] in _TELL][:_SHOWN]:
        lines.append(f"  {dataset['status']:12} {escape(dataset['source'])}: {dataset['reason']}")
    lines += [f"  warning      {escape(w)}" for w in _all_warnings(summary)[:_SHOWN]]
    lines += _findings(summary) + _private_words(summary)
    left = sum(not c[1] for d in summary.datasets for c in d["companions"])
    if left:
        lines.append(
            f"{_number(left, 'other file')} beside the measurements left out: {_relative(work.companions)}"
        )
    sizes = [(m["source_bytes"], m["prepared_bytes"]) for m in summary.measurements if m["prepared_bytes"]]
    if sizes:
        before, after = (sum(int(s[n]) for s in sizes) for n in (0, 1))
        lines.append(f"size: {_bytes(before)} -> {_bytes(after)}")
    lines.append(f"results: {work.results} (summary.tsv says it all)")
    return [printable(line) for line in lines + _advice(summary, counts)]


def _number(count: int, what: str, several: str = "") -> str:
    return f"{count} {what if count == 1 else several or f'{what}s'}"


def _findings(summary: Summary) -> list[str]:
    """Return what is remarkable about measurements that are ready all the same."""
    ready = [m for m in summary.measurements if m["status"] == "ready"]
    violated = sum(m["violations"] > 0 for m in ready)
    cut = [m for m in ready if TRUNCATED in m["note"]]
    lines = []
    if violated:
        lines.append(
            f"{_number(violated, 'ready measurement')} with violations in dclab's integrity check "
            "(accepted by check.on_violation): see the summary"
        )
    replaced = sum(m["replaced"] for m in summary.measurements)
    if replaced:
        lines.append(
            f"{_number(replaced, 'value')} of the sources replaced by settings or sheet (see the records)"
        )
    lines += [f"  truncated    {_where(m)}: {m['note']}" for m in cut[:_SHOWN]]
    return lines


def _worth_showing(summary: Summary) -> list[tuple[str, dict[str, Any]]]:
    order = {"failed": 0, "excluded": 1, "in progress": 2, "gone": 3}
    rows = [m for m in summary.measurements if m["status"] in order]
    rows.sort(key=lambda m: (order[m["status"]], m["source"]))
    return [(m["status"], m) for m in rows[:_SHOWN]]


def _all_warnings(summary: Summary) -> list[str]:
    """Return the warnings of discover, of bad titles, and of datasets, equal ones as one."""
    titles = Counter(d["title"] for d in summary.datasets)
    found = [f"{n} datasets have the title '{title}'" for title, n in sorted(titles.items()) if n > 1]
    found += [f"the title '{title}' says nothing" for title in sorted(titles) if is_generic_title(title)]
    by_text: dict[str, list[str]] = {}
    for dataset in summary.datasets:
        for words in dataset["warnings"]:
            by_text.setdefault(words, []).append(dataset["source"])
    for words, sources in by_text.items():
        where = sources[0] if len(sources) == 1 else f"{len(sources)} datasets"
        found.append(f"{where}: {words}")
    return [*summary.warnings, *found]


def _where(row: dict[str, Any]) -> str:
    return escape(row["source"])


def _relative(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.4g} TB"


def _advice(summary: Summary, counts: Counter[str]) -> list[str]:
    advice = []
    if counts["failed"]:
        advice.append(
            "repair or replace what failed, or leave it out with 'use: no' in a dcorflow.yaml; run again"
        )
    if any(m["retry"] for m in summary.measurements):
        advice.append("run again: not everything failed for good, the next run tries it anew")
    if counts["in progress"]:
        advice.append("run again later: some measurements are not finished")
    if gaps := sum(m["gaps"] > 0 for m in summary.measurements):
        advice.append(
            f"{_number(gaps, 'measurement')} with metadata missing, wrong or guessed: fill in "
            "results/metadata_template.xlsx, save it elsewhere, name it at metadata.sheet, run again"
        )
    if any(d["status"] == "upload failed" for d in summary.datasets):
        advice.append("uploads failed: see their reasons above or in the summary; run again to go on")
    if any(d["status"] == "draft" and d["dataset_id"] for d in summary.datasets):
        advice.append("drafts wait on the server: look at them, then 'dcorflow approve --all'")
    if any(d["status"] == "ready" for d in summary.datasets):
        advice.append(f"ready datasets: open their results/datasets/<dataset>/{TASK_NAME} in DCOR-Aid")
    return [f"next: {a}" for a in advice]


def exit_code(summary: Summary, strict: bool) -> int:
    """Return 0 where everything was dealt with.

    1 where a job could not finish a measurement because of the machine (disk full, read error), where
    an upload failed, or, with `strict`, where one failed or was excluded by a policy, or a dataset is
    blocked.
    """
    failed = any(d["status"] == "upload failed" for d in summary.datasets)
    if failed or any(m["retry"] for m in summary.measurements):
        return 1
    if not strict:
        return 0
    bad = any(m["status"] == "failed" or m["by_policy"] for m in summary.measurements)
    return int(bad or any(d["status"] == "blocked" for d in summary.datasets))


def write_report(work: Workdir) -> Summary:
    """Write summary.tsv and junit.xml where they changed."""
    RecordIndex(work).refresh()
    summary = gather(work)
    write_if_changed(work.summary, summary_table(summary))
    write_if_changed(work.junit, junit(summary))
    write_if_changed(work.companions, companions_table(summary))
    write_if_changed(work.privacy, privacy_table(summary))
    return summary
