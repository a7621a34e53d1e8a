"""The last lines of a run: what a person wants to know, and what to do next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dcorflow.files import escape, printable
from dcorflow.metadata.fields import is_generic_title
from dcorflow.records import TRUNCATED
from dcorflow.report.summary import IN_PROGRESS, INTERRUPTED, STATUSES, Summary
from dcorflow.wording import number, size_text
from dcorflow.workdir import TASK_NAME, Workdir

#: Reasons shown at the end of a run; all of them stand in the summary.
_SHOWN = 12
#: Statuses of measurements whose reasons are shown, the most important first.
_ORDER = {"failed": 0, "excluded": 1, IN_PROGRESS: 2, "gone": 3}
#: Verdicts on private text that a person should act on.
_PRIVATE = ("blocks", "warned")
#: Kinds of private text in words, as one and several; others are patterns of the settings.
_KINDS = {
    "user": ("user name", "user names"),
    "name": ("name", "names"),
    "email": ("e-mail address", "e-mail addresses"),
    "host": ("name of a computer", "names of computers"),
    "share": ("network share", "network shares"),
    "ip": ("IP address", "IP addresses"),
    "mac": ("hardware address", "hardware addresses"),
    "phone": ("telephone number", "telephone numbers"),
    "birth": ("date of birth", "dates of birth"),
    "path": ("path", "paths"),
    "basin": ("path of another file", "paths of other files"),
    "own": ("text of own patterns", "texts of own patterns"),
}
#: Statuses of datasets whose reasons are shown at the end of a run.
_TELL = ("blocked", "upload failed", "changed", "late")


def last_lines(summary: Summary, work: Workdir, running: bool = False) -> list[str]:
    """Return what a person wants to know at the end of a run, or while it is `running`; what to do next."""
    counts = summary.counts()
    total = len(summary.measurements)
    if not total:
        return ["dcorflow: nothing was found yet"]
    words = ", ".join(f"{counts[s]} {s}" for s in STATUSES if counts[s])
    lines = ["", f"{number(total, 'measurement')}: {words}"]
    several = len({m["root"] for m in summary.measurements}) > 1
    worth = [m for m in summary.measurements if m["status"] in _ORDER and not (running and _is_waiting(m))]
    worth.sort(key=lambda m: (_ORDER[m["status"]], m["source"]))
    for row in worth[:_SHOWN]:
        root = f"{row['root']}/" if several else ""
        lines.append(f"  {row['status']:12} {root}{_where(row)}: {row['reason']}")
    if len(worth) > _SHOWN:
        lines.append(f"  ... and {len(worth) - _SHOWN} more in {_relative(work.summary)}")
    state = Counter(d["status"] for d in summary.datasets)
    words = ", ".join(f"{n} {s}" for s, n in sorted(state.items()))
    lines.append(f"{number(len(summary.datasets), 'dataset')}: {words}")
    for dataset in [d for d in summary.datasets if d["status"] in _TELL][:_SHOWN]:
        lines.append(f"  {dataset['status']:12} {escape(dataset['source'])}: {dataset['reason']}")
    lines += [f"  warning      {escape(w)}" for w in all_warnings(summary)[:_SHOWN]]
    lines += _findings(summary) + _private_words(summary)
    left = sum(not c[1] for d in summary.datasets for c in d["companions"])
    if left:
        lines.append(
            f"{number(left, 'other file')} beside the measurements left out: {_relative(work.companions)}"
        )
    sizes = [(m["source_bytes"], m["prepared_bytes"]) for m in summary.measurements if m["prepared_bytes"]]
    if sizes:
        before, after = (sum(int(s[n]) for s in sizes) for n in (0, 1))
        lines.append(f"size: {size_text(before)} -> {size_text(after)}")
    says = "report.html and summary.tsv are written at the end" if running else "open report.html first"
    lines.append(f"results: {work.results} ({says})")
    return [printable(line) for line in lines + _advice(summary, counts, running)]


def _private_words(summary: Summary) -> list[str]:
    """Return how much private text there is, and where it is listed."""
    found = [
        (d["dataset"], row) for d in summary.datasets for row in d.get("private", []) if row[-1] in _PRIVATE
    ]
    if not found:
        return []
    shown = private_kinds(row[3] for _, row in found)
    files, datasets = (len({(d, *row[1:n]) for d, row in found}) for n in (2, 1))
    where = f"{number(files, 'file')} of {number(datasets, 'dataset')}"
    return [
        f"private text in {where} ({shown}): {number(len(found), 'entry', 'entries')} in results/privacy.tsv"
    ]


def private_kinds(kinds: Iterable[str]) -> str:
    """Return how many findings of private text there are of each kind: 2 paths, 1 user name."""
    counts = sorted(Counter(kinds).items())
    return ", ".join(number(count, private_kind(kind), private_kind(kind, 1)) for kind, count in counts)


def private_kind(kind: str, several: int = 0) -> str:
    """Return a kind of private text in words; `several` is 1 for more than one."""
    return _KINDS.get(kind, (f"'{kind}'", f"'{kind}'"))[several]


def _findings(summary: Summary) -> list[str]:
    """Return what is remarkable about measurements that are ready all the same."""
    ready = [m for m in summary.measurements if m["status"] == "ready"]
    violated = sum(m["violations"] > 0 for m in ready)
    cut = [m for m in ready if TRUNCATED in m["note"]]
    lines = []
    if violated:
        lines.append(
            f"{number(violated, 'ready measurement')} with violations in dclab's integrity check "
            "(accepted by check.on_violation): see the summary"
        )
    replaced = sum(m["replaced"] for m in summary.measurements)
    if replaced:
        lines.append(
            f"{number(replaced, 'value')} of the sources replaced by settings or sheet (see the records)"
        )
    lines += [f"  truncated    {_where(m)}: {m['note']}" for m in cut[:_SHOWN]]
    return lines


def _is_waiting(row: dict[str, Any]) -> bool:
    """Return whether nothing keeps a measurement back but that its turn is not over."""
    return row["status"] == IN_PROGRESS and row["reason"] == INTERRUPTED


def all_warnings(summary: Summary) -> list[str]:
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


def _advice(summary: Summary, counts: Counter[str], running: bool) -> list[str]:
    advice = []
    if counts["failed"]:
        advice.append(
            "repair or replace what failed, or leave it out with 'use: no' in a dcorflow.yaml; run again"
        )
    if any(m["retry"] for m in summary.measurements):
        advice.append("run again: not everything failed for good, the next run tries it anew")
    if counts[IN_PROGRESS] and not running:
        advice.append("run again later: some measurements are not finished")
    if gaps := sum(m["gaps"] > 0 for m in summary.measurements):
        advice.append(
            f"{number(gaps, 'measurement')} with metadata missing, wrong or guessed: fill in "
            "results/metadata_template.xlsx, save it elsewhere, name it at metadata.sheet, run again"
        )
    if any(d["status"] == "upload failed" for d in summary.datasets):
        advice.append("uploads failed: see their reasons above or in the summary; run again to go on")
    if any(d["status"] == "draft" and d["dataset_id"] for d in summary.datasets):
        advice.append("drafts wait on the server: look at them, then 'dcorflow approve --all'")
    if any(d["status"] == "ready" for d in summary.datasets):
        advice.append(f"ready datasets: open their results/datasets/<dataset>/{TASK_NAME} in DCOR-Aid")
    return [f"next: {a}" for a in advice]
