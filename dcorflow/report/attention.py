"""What needs attention, in one sentence each, the worst first, with where to look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dcorflow.files import printable
from dcorflow.report.summary import Summary
from dcorflow.report.words import all_warnings, private_kinds
from dcorflow.wording import number

#: What a person has to decide, what should be looked at, and what is good to know.
Level = Literal["act", "look", "note"]
#: Warnings that are shown one by one.
_WARNINGS = 12


@dataclass(frozen=True)
class Point:
    """One thing that needs attention.

    Parameters
    ----------
    level
        How urgent it is.
    text, todo
        What it is, and what to do about it.
    link, link_text
        Where to look: a file beside the page or a place on it.
    show
        Filters of the table that show the measurements concerned (``status``, ``level``, ``text``).
    """

    level: Level
    text: str
    todo: str = ""
    link: str = ""
    link_text: str = ""
    show: Mapping[str, str] = field(default_factory=dict)


def level_of(row: Mapping[str, Any], lead: Mapping[str, Any], private: Iterable[str]) -> int:
    """Return how much a measurement needs attention.

    Parameters
    ----------
    row
        Its row of the summary.
    lead
        Its lead (`dcorflow.report.details.lead_of`); may be empty.
    private
        The verdicts on private text in it.

    Returns
    -------
    int
        3: somebody has to decide; 2: violations; 1: alerts, or not finished; 0: nothing.
    """
    verdicts = set(private)
    if row["status"] == "failed" or row["by_policy"] or row["retry"] or "blocks" in verdicts:
        return 3
    if row["gaps"] or row["violations"]:
        return 2
    alerts = row["alerts"] or lead.get("flags", [0])[0] or "warned" in verdicts
    return int(bool(alerts) or row["status"] == "in progress")


def find_points(
    summary: Summary, leads: Mapping[str, Mapping[str, Any]], trouble: Iterable[str]
) -> list[Point]:
    """Return everything that needs attention, the most urgent first.

    Parameters
    ----------
    summary
        All measurements and datasets.
    leads
        Leads by measurement.
    trouble
        What went wrong with the run itself.
    """
    points = [
        Point("act", f"The last run did not end well: {_sentence(words)}", "Mend it, run again.")
        for words in trouble
    ]
    points += _measurements(summary) + _datasets(summary) + _private(summary)
    points += _quality(summary, leads)
    warnings = all_warnings(summary)
    points += [Point("look", _sentence(words)) for words in warnings[:_WARNINGS]]
    if len(warnings) > _WARNINGS:
        points.append(Point("look", f"{len(warnings) - _WARNINGS} more warnings of this kind."))
    if left := sum(not c[1] for d in summary.datasets for c in d["companions"]):
        points.append(
            Point("note", f"{number(left, 'other file')} beside the measurements left out.",
                  "The setting datasets.companions says which are taken.", "companions.tsv",
                  "Open the list")
        )  # fmt: skip
    order = {"act": 0, "look": 1, "note": 2}
    return sorted(points, key=lambda point: order[point.level])


def _sentence(words: str) -> str:
    text = printable(words).removeprefix("dcorflow: ")
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _measurements(summary: Summary) -> list[Point]:
    rows = summary.measurements
    counts = summary.counts()
    points = []
    if counts["failed"]:
        points.append(
            Point("act", f"{number(counts['failed'], 'measurement')} could not be prepared.",
                  "Repair or replace them, or leave them out with 'use: no' in a dcorflow.yaml.",
                  show={"status": "failed"})
        )  # fmt: skip
    if retry := sum(bool(m["retry"]) for m in rows):
        points.append(
            Point("act", f"{number(retry, 'measurement')} failed because of the machine (disk, memory).",
                  "Run again: they are tried anew.", show={"status": "failed"})
        )  # fmt: skip
    if policy := sum(bool(m["by_policy"]) and m["status"] == "excluded" for m in rows):
        points.append(
            Point("act", f"{number(policy, 'measurement')} excluded because of what the check found.",
                  "Each row says why: correct it, or accept it in the settings (check).",
                  show={"status": "excluded", "level": "3"})
        )  # fmt: skip
    if gaps := sum(m["gaps"] > 0 for m in rows):
        points.append(
            Point("act", f"{number(gaps, 'measurement')} with metadata missing, wrong or guessed.",
                  "Fill in the sheet, save it elsewhere, name it in the settings (metadata.sheet), "
                  "run again.",
                  "metadata_template.xlsx", "Open the sheet", show={"level": "gaps"})
        )  # fmt: skip
    if violated := sum(m["status"] == "ready" and m["violations"] > 0 for m in rows):
        points.append(
            Point("look", f"{number(violated, 'ready measurement')} with violations in dclab's check.",
                  "The settings accept them (check.on_violation).",
                  show={"status": "ready", "level": "violated"})
        )  # fmt: skip
    if waiting := counts["in progress"]:
        points.append(
            Point("look", f"{number(waiting, 'measurement')} not finished yet.", "Run again later.",
                  show={"status": "in progress"})
        )  # fmt: skip
    if counts["gone"]:
        points.append(
            Point("note", f"The sources of {number(counts['gone'], 'measurement')} vanished; what was "
                  "prepared is kept.", show={"status": "gone"})
        )  # fmt: skip
    return points


_TODO = {
    "blocked": "The card says why.",
    "upload failed": "The card says why; run again to go on.",
    "changed": "What lies here differs from what is published.",
    "late": "New measurements came after publication.",
    "unsettled": "Uploaded as soon as nothing has changed for a while (upload.settle).",
    "incomplete": "Something is missing; the card says what.",
    "draft": "Look on the server, then 'dcorflow approve'.",
}


def _datasets(summary: Summary) -> list[Point]:
    counts = Counter(d["status"] for d in summary.datasets)
    urgent = ("blocked", "upload failed", "changed")
    said = {"late": "with late measurements", "changed": "changed after publication"}
    points = []
    for status, todo in _TODO.items():
        if counts[status]:
            level: Level = "act" if status in urgent else "note" if status == "unsettled" else "look"
            text = f"{number(counts[status], 'dataset')} {said.get(status, status)}."
            points.append(Point(level, text, todo, "#datasets", "Show datasets"))
    if counts["ready"]:
        text = f"{number(counts['ready'], 'dataset')} ready."
        todo = "Open the task in DCOR-Aid, or run the target 'upload'."
        points.append(Point("note", text, todo, "#datasets", "Show datasets"))
    return points


def _private(summary: Summary) -> list[Point]:
    points = []
    levels: tuple[tuple[str, Level, str], ...] = (
        ("blocks", "act", "keeps datasets back"),
        ("warned", "look", "would be published"),
    )
    for verdict, level, words in levels:
        rows = [row for d in summary.datasets for row in d.get("private", []) if row[-1] == verdict]
        if rows:
            kinds = private_kinds(row[3] for row in rows)
            points.append(
                Point(level, f"Private text {words}: {kinds}.",
                      "Replace it (prepare.redact, prepare.pseudonyms) or accept it (check.accept_private).",
                      "privacy.tsv", "Open the list", show={"level": "private"})
            )  # fmt: skip
    return points


def _quality(summary: Summary, leads: Mapping[str, Mapping[str, Any]]) -> list[Point]:
    names = [m["measurement"] for m in summary.measurements]
    flagged = sum(leads.get(name, {}).get("flags", [0])[0] > 0 for name in names)
    if not flagged:
        return []
    return [
        Point("look", f"{number(flagged, 'measurement')} with alerts about the quality of the recording.",
              "Look at their pictures.", show={"level": "flagged"})
    ]  # fmt: skip
