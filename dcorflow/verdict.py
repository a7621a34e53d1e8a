"""The verdict about one measurement: ready, or what keeps it back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from dcorflow.cues import UNKNOWN_FEATURE, Cue, cues_of, is_ignored
from dcorflow.errors import FailureClass
from dcorflow.metadata.keys import FIXED
from dcorflow.records import Record

#: Category of dclab's findings on metadata that are not there.
_MISSING = "metadata missing"
#: Fluorescence channels and lasers that a measurement can have.
_NUMBERS = (1, 2, 3)


@dataclass
class Verdict:
    """What became of one measurement.

    Parameters
    ----------
    status
        ``ready``, ``excluded``, ``failed``, ``in progress`` or ``gone``.
    reason
        Why, empty for `ready`.
    complete
        Whether the dataset is complete without it.
    blocks
        Whether it keeps the whole dataset back.
    retry
        Whether a job could not finish it because of the machine (disk full, read error): left over.
    by_policy
        Whether a setting below `check` excluded it.
    violations, alerts
        Findings that count.
    """

    status: str
    reason: str = ""
    complete: bool = True
    blocks: bool = False
    retry: bool = False
    by_policy: bool = False
    violations: int = 0
    alerts: int = 0


def judge(member: dict[str, Any], record: Record | None, policy: dict[str, Any]) -> Verdict:
    """Decide about one measurement.

    Parameters
    ----------
    member
        Its entry in the group plan.
    record
        Its record, where it has been prepared.
    policy
        The settings `check` of the configuration.
    """
    state, reason = member["state"], member["reason"]
    if state == "gone":
        return Verdict("gone", reason)
    if state == "in progress":
        return Verdict("in progress", reason, complete=False)
    if state in ("left out", "left alone"):
        return Verdict("excluded", reason)
    if state == "duplicate":
        return Verdict("excluded", reason, complete=member["twin_inside"])
    if state == "problem":
        return _judge_failure(reason, member["failure"], policy, in_job=False)
    if record is not None and record.failure is not None:
        return _judge_failure(record.failure.reason, record.failure.failure, policy)
    if record is None or not record.check_key or "sha256" not in record.prepared:
        return Verdict("in progress", "not prepared yet: the run was interrupted", complete=False)
    edited = {e["key"] for e in record.edits}
    verdict = _judge_cues([c for c in cues_of(record) if not is_mended(c, edited)], member, policy)
    if verdict.status == "ready" and record.guessed and policy["on_guessed"] != "accept":
        return _judge_guesses(record, verdict, policy["on_guessed"] == "block")
    return verdict


def is_mended(cue: Cue, edited: set[str]) -> bool:
    """Return whether a finding on the metadata of the source no longer holds for the prepared file."""
    said = any(key.startswith(f"{cue.section}:") for key in edited)  # it may count others, such as lasers
    return cue.file == "source" and bool(cue.key) and (cue.category == _MISSING or said)


def _judge_guesses(record: Record, verdict: Verdict, blocks: bool) -> Verdict:
    """Keep a measurement back that has values which were guessed and nobody confirmed."""
    values = [f"{key} {record.metadata.get(key)}" for key in sorted(record.guessed)]
    verdict.reason = f"guessed: {', '.join(values)}; confirm or correct them in the sheet"
    verdict.status, verdict.by_policy, verdict.complete, verdict.blocks = "excluded", True, False, blocks
    return verdict


def _judge_failure(
    reason: str, failure: FailureClass, policy: dict[str, Any], in_job: bool = True
) -> Verdict:
    if failure == "unfit":
        blocks = policy["on_unfit"] == "block"
        return Verdict("excluded", reason, complete=False, blocks=blocks, by_policy=True)
    blocks = policy["on_unreadable"] == "block"
    return Verdict("failed", reason, complete=False, blocks=blocks, retry=in_job and failure == "environment")


def _judge_cues(cues: list[Cue], member: dict[str, Any], policy: dict[str, Any]) -> Verdict:
    patterns = [*policy["ignore"], *member["ignore"]]
    counted = [c for c in cues if c.level != "info" and not is_ignored(c, patterns)]
    violations = [c for c in counted if c.level == "violation"]
    verdict = Verdict("ready", violations=len(violations), alerts=len(counted) - len(violations))
    unfit = [c for c in counted if c.unfit and (c.file != "source" or c.id.startswith(UNKNOWN_FEATURE))]
    if unfit:
        verdict.reason = f"DCOR-Aid would refuse it: {_list(unfit)}"
        if all(c.id.startswith(UNKNOWN_FEATURE) for c in unfit):
            verdict.reason += f"; to publish without, add '{unfit[0].id}' to check.ignore"
        rule = policy["on_unfit"]
    elif violations and policy["on_violation"] != "accept":
        verdict.reason = f"violations: {_list(violations)}"
        rule = policy["on_violation"]
    else:
        return verdict
    verdict.status, verdict.by_policy = "excluded", True
    verdict.complete, verdict.blocks = False, rule == "block"
    return verdict


def _list(cues: list[Cue]) -> str:
    shown = "; ".join(c.message.removeprefix("Sanity check failed: ") for c in cues[:3])
    return shown + (f"; and {len(cues) - 3} more" if len(cues) > 3 else "")


def find_gaps(record: Record, ignore: Iterable[str]) -> dict[str, list[str]]:
    """Return the metadata that a person should look at.

    Parameters
    ----------
    record
        A record that was checked.
    ignore
        Patterns of findings that do not count.

    Returns
    -------
    dict
        Key ``section:key`` -> ``missing``, ``wrong`` or ``guessed``, then the level of the
        finding, then what it says.
    """
    gaps: dict[str, list[str]] = {}
    patterns = list(ignore)
    edited = {e["key"] for e in record.edits}
    for cue in cues_of(record):
        key = f"{cue.section}:{cue.key}"
        if not cue.key or cue.level == "info" or is_ignored(cue, patterns) or key in gaps:
            continue
        if is_mended(cue, edited):
            continue
        missing = cue.category == _MISSING
        message = cue.message.removeprefix("Metadata: ")
        gaps[key] = ["missing" if missing else "wrong", cue.level, message]
    _add_counted(gaps, record)
    _add_choices(gaps, record.metadata, patterns)
    return gaps | {key: ["guessed", "violation", how] for key, how in record.guessed.items()}


def _add_choices(gaps: dict[str, list[str]], metadata: Mapping[str, Any], ignore: Iterable[str]) -> None:
    """Add values that dclab's definitions do not name: its check has no list of them."""
    for key, names in FIXED.items():
        known = key not in metadata or metadata[key] in names
        if not known and not any(fnmatchcase(f"metadata-wrong:{key}", pattern) for pattern in ignore):
            gaps.setdefault(key, ["wrong", "alert", f"Invalid value, expected {' or '.join(names)}"])


def _add_counted(gaps: dict[str, list[str]], record: Record) -> None:
    """Add what dclab counts where it says that a number of lasers or channels is wrong or missing.

    Source of the rules: `dclab.rtdc_dataset.check.IntegrityChecker.check_fl_num_lasers` and
    `check_fl_num_channels`.
    """
    metadata = record.metadata
    if (gap := gaps.get("fluorescence:channel count")) and gap[0] == "wrong":
        data = [str(n) for n in _NUMBERS if f"events/fl{n}_max" in record.body.get("datasets", {})]
        gap[2] += ": channels with data and a name are counted, such as 'fluorescence:channel 1 name'"
        gap[2] += f"; there are data of {', '.join(data) or 'none'}"
        for number in _NUMBERS:
            if name := gaps.get(f"fluorescence:channel {number} name"):
                name[1] = "violation"
    if gap := gaps.get("fluorescence:laser count"):
        lasers = [f"fluorescence:laser {n}" for n in _NUMBERS]
        lit = sum(f"{n} lambda" in metadata and bool(metadata.get(f"{n} power")) for n in lasers)
        gap[2] += f": lasers are counted that have a wavelength, and a power above 0; now {lit}"
        said = metadata.get("fluorescence:laser count")
        for number in _NUMBERS:
            for what in ("lambda", "power"):
                key = f"fluorescence:laser {number} {what}"
                if key not in metadata and number <= (said if isinstance(said, int) else 1):
                    gaps.setdefault(key, ["missing", gap[1], f"Missing key [fluorescence] '{key[13:]}'"])
