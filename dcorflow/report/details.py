"""What the page shows of one measurement: its lead for table and overview, its details when opened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dcorflow.cues import UNKNOWN_FEATURE, Cue, cues_of, is_ignored
from dcorflow.files import printable
from dcorflow.records import AUTOMATIC, Record
from dcorflow.report.words import private_kind
from dcorflow.verdict import is_mended
from dcorflow.wording import number, short_number

#: Verdicts on private text in words.
_VERDICTS = {
    "blocks": "keeps the dataset back", "warned": "would be published", "accepted": "accepted by settings",
}  # fmt: skip
#: Longest text of a cell in the details; longer ones are cut, the record has them whole.
_LONGEST = 500
#: Most rows of one list in the details (bytes of a page are bounded); the record has them all.
_MOST = 400


def lead_of(record: Record) -> dict[str, Any]:
    """Return the few values of a record that the table and the overview need.

    Returns
    -------
    dict
        ``date`` and ``time`` of the acquisition as text, empty where unknown, the date also where a
        conversion guessed it; ``sample``; ``flags``:
        how many quality flags are alerts, how many inform.
    """
    facts = record.facts
    levels = [flag["level"] for flag in flags_of(record)]
    return {
        "date": "" if "experiment:date" in record.guessed else str(facts.get("date", "")),
        "time": str(facts.get("time", "")),
        "sample": str(record.metadata.get("experiment:sample", "")),
        "flags": [levels.count("alert"), levels.count("info")],
    }


def flags_of(record: Record) -> list[dict[str, str]]:
    """Return the quality flags of a measurement: ``id``, ``level``, ``text``; none where it failed."""
    if record.failure is not None:
        return []
    flags: list[dict[str, str]] = record.portrait.get("flags", [])
    return flags


def details_of(
    record: Record | None, member: Mapping[str, Any], private: Sequence[Sequence[str]]
) -> dict[str, Any]:
    """Return everything the page shows when a row is opened, as plain data; text is safe to show.

    Parameters
    ----------
    record
        The record; None where the measurement was never prepared.
    member
        Its entry in the group plan with ``supplements``, ``origins`` and ``ignore`` (patterns of
        findings that do not count); may be empty.
    private
        Private text found in it: place, kind, text, count and verdict.
    """
    shown: dict[str, Any] = {
        "supplements": _supplements(member),
        "private": [_private(*row) for row in private[:_MOST]],
    }
    if record is None:
        return shown
    body = record.body
    shown |= {
        "flags": [[flag["level"], _cell(flag["text"])] for flag in flags_of(record)],
        "unseen": _cell(record.portrait.get("missing", "")),
        "cues": _cues(record, member.get("ignore", ())),
        "metadata": _metadata(record),
        "dropped": _pairs(body.get("dropped", ()), "why"),
        "changed": _pairs(body.get("changed", ()), "how"),
        "added": _added(body.get("added", ())),
        "datasets": _datasets(body.get("datasets", {})),
        "sums": _sums(record),
        "history": _history(record),
    }
    return shown


def _cell(value: object) -> str:
    text = printable(short_number(value) if isinstance(value, float) else str(value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def _private(place: str, kind: str, text: str, count: str, verdict: str) -> list[str]:
    words = private_kind(kind) if verdict in _VERDICTS else kind
    return [_cell(place), _cell(words), _cell(text), _cell(count), _VERDICTS.get(verdict, _cell(verdict))]


def _supplements(member: Mapping[str, Any]) -> list[list[str]]:
    origins = member.get("origins", {})
    return [
        [_cell(f"{section}:{key}"), _cell(value), _cell(origins.get(f"{section}:{key}", ""))]
        for section, values in member.get("supplements", {}).items()
        for key, value in values.items()
    ]


def _cues(record: Record, ignore: Iterable[str]) -> list[list[str]]:
    """Return level, message, file, id and what to do of each finding, the worst first."""
    patterns = list(ignore)
    edited = {e["key"] for e in record.edits}
    rows = []
    for cue in cues_of(record):
        words, level = advice(cue), cue.level
        if level != "info" and is_mended(cue, edited):
            words, level = "mended in the prepared file", "info"
        elif level != "info" and is_ignored(cue, patterns):
            words, level = "does not count: check.ignore names it", "info"
        rows.append([level, _cell(cue.message), cue.file, _cell(cue.id), _cell(words)])
    order = {"violation": 0, "alert": 1, "info": 2}
    return sorted(rows, key=lambda row: order[row[0]])[:_MOST]


def advice(cue: Cue) -> str:
    """Return what to do about a finding; empty where it only informs."""
    if cue.level == "info":
        return ""
    if cue.key:
        verb = "fill in" if cue.category == "metadata missing" else "correct"
        return f"{verb} '{cue.section}:{cue.key}' in the metadata sheet or a dcorflow.yaml, run again"
    if cue.id.startswith(UNKNOWN_FEATURE):
        return f"to publish without this feature, add '{cue.id}' to check.ignore"
    if cue.file == "source":
        return "only the source has this fault, the prepared file does not"
    if cue.unfit:
        return "DCOR-Aid would refuse it: repair the source, or leave it out ('use: no')"
    return f"look at the file; where all is well, add '{cue.id}' to check.ignore"


def _metadata(record: Record) -> list[list[str]]:
    """Return key, value, origin, former value and place of origin of every value."""
    edits = {e["key"]: e for e in record.edits}
    rows = []
    for key in sorted({*record.metadata, *edits}):
        value = _cell(record.metadata[key]) if key in record.metadata else ""
        edit = edits.get(key)
        if edit is not None:
            old = "" if edit["old"] is None else _cell(edit["old"])
            where = "" if edit["kind"] in AUTOMATIC else _cell(edit["where"])
            rows.append([_cell(key), value or "removed", edit["kind"], old, where])
        elif key in record.guessed:
            rows.append([_cell(key), value, "guessed", "", _cell(record.guessed[key])])
        else:
            rows.append([_cell(key), value, "source", "", ""])
    return rows[:_MOST]


def _pairs(entries: Iterable[Mapping[str, Any]], why: str) -> list[list[str]]:
    """Return what was dropped or changed, and why or how; marks of redactions follow in brackets."""
    rows = []
    for entry in entries:
        marks = f" ({', '.join(entry['marks'])})" if entry.get("marks") else ""
        rows.append([_cell(entry["what"]), _cell(f"{entry[why]}{marks}")])
    return rows[:_MOST]


def _added(entries: Iterable[Mapping[str, str]]) -> list[list[str]]:
    """Return what was added, equal ways as one line."""
    by_way: dict[str, list[str]] = {}
    for entry in entries:
        by_way.setdefault(entry["how"], []).append(entry["what"])
    return [[_cell(", ".join(names)), _cell(how)] for how, names in by_way.items()][:_MOST]


def _datasets(datasets: Mapping[str, Mapping[str, Any]]) -> list[list[Any]]:
    """Return name, bytes, stored bytes, encoding and digest of every dataset, the largest first."""
    rows = [
        [_cell(name), d.get("bytes", 0), d.get("stored", 0), _cell(d.get("encoding", "")), d["digest"]]
        for name, d in datasets.items()
    ]
    return sorted(rows, key=lambda row: (-row[1], row[0]))[:_MOST]


def _sums(record: Record) -> list[list[str]]:
    known = {
        "SHA256 of the prepared file": record.prepared.get("sha256", ""),
        "ETag on the server": record.prepared.get("etag", ""),
        "digest of the source files": record.content,
    }
    return [[name, value] for name, value in known.items() if value]


def _history(record: Record) -> list[list[str]]:
    """Return what was done, step by step."""
    body = record.body
    files = [f"{printable(f.path)} ({f.size} bytes)" for f in record.files]
    more = f" and {len(files) - 6} more" if len(files) > 6 else ""
    steps = [["source", _cell(", ".join(files[:6]) + more)]]
    if record.failure is not None:
        return [*steps, [f"failed ({record.failure.stage})", _cell(record.failure.reason)]]
    if record.kind == "tdms":
        steps.append(["convert", f"from .tdms with dclab {body.get('dclab', '')}"])
    counts = [f"{len(body.get(part, ()))} {part}" for part in ("dropped", "changed", "added")]
    steps.append(
        ["compress", f"{number(len(body.get('datasets', {})), 'array')} stored; {', '.join(counts)}"]
    )
    if record.check_key:
        steps.append(["check", f"compared with the source; dclab {record.check.get('dclab', '')}"])
    own = sum(e["kind"] not in AUTOMATIC for e in record.edits)
    steps.append(
        ["merge_metadata", f"{number(own, 'value')} set as asked for, {len(record.edits) - own} by rule"]
    )
    return steps
