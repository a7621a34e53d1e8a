"""What the integrity check found about a measurement."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from dcorflow.naming import short_hash, to_ascii
from dcorflow.records import Record

Level = Literal["violation", "alert", "info"]
#: Ids of findings about data that were dropped from the prepared file start like this: DCOR-Aid
#: refuses such a source; who names them in `check.ignore` drops the feature knowingly.
UNKNOWN_FEATURE = "feature-unknown"


@dataclass(frozen=True)
class Cue:
    """One finding.

    Parameters
    ----------
    id
        Stable name: category, then section and key, or the words of the message.
    level, category, section, key, message
        As dclab gives them (`dclab.rtdc_dataset.check.ICue`).
    file
        ``source``, ``prepared`` or ``both``.
    unfit
        Whether DCOR-Aid would refuse a dataset with this file.
    check
        Name of dclab's check, empty where it stopped or warned.
    """

    id: str
    level: Level
    category: str
    section: str
    key: str
    message: str
    file: str
    unfit: bool = False
    check: str = ""


def _words(text: str) -> str:
    return re.sub(r"[^a-z0-9_]+", "-", to_ascii(text).lower()).strip("-")


def identify(category: str, section: str, key: str, message: str) -> str:
    """Return the stable name of a finding of dclab."""
    kind = _words(category)
    if section:
        return ":".join(filter(None, (kind, section, key)))
    name = re.search(r"'([^']+)'", message)
    if category == "feature unknown" and name:
        return f"{UNKNOWN_FEATURE}:{name.group(1)}"
    words = _words(message)
    return f"{kind}:{words}" if len(words) <= 80 else f"{kind}:{words[:71]}-{short_hash(words)}"


def join_cues(source: Iterable[Cue], prepared: Iterable[Cue]) -> list[Cue]:
    """Return the findings on both files, one of each id, sorted; what only one has stays."""
    joined = {c.id: c for c in prepared}
    for cue in source:
        twin = joined.get(cue.id)
        joined[cue.id] = replace(twin, file="both", unfit=twin.unfit or cue.unfit) if twin else cue
    order = {"violation": 0, "alert": 1, "info": 2}
    return sorted(joined.values(), key=lambda c: (order[c.level], c.id))


def cues_of(record: Record) -> list[Cue]:
    """Return the joined findings of a record."""
    return join_cues(
        [Cue(**c) for c in record.check.get("source", [])],
        [Cue(**c) for c in record.check.get("prepared", [])],
    )


def is_ignored(cue: Cue, patterns: Iterable[str]) -> bool:
    """Return whether a finding does not count; what DCOR-Aid refuses in the prepared file always does."""
    if cue.unfit and cue.file != "source":
        return False
    return any(fnmatch.fnmatchcase(cue.id, pattern) for pattern in patterns)
