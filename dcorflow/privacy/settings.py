"""The settings that privacy takes from the configuration, checked and made plain for the plans."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dcorflow import recipes
from dcorflow.config import Config
from dcorflow.errors import UsageError
from dcorflow.files import key_of
from dcorflow.privacy.kinds import BASIN, NAME, OWN, shipped
from dcorflow.privacy.pseudonyms import Pseudonyms, load_pseudonyms


def privacy_problems(config: Config, work: Path) -> list[str]:
    """Return what is wrong with patterns and pseudonyms of a configuration."""
    wrong = []
    known = [*shipped(), BASIN]
    for number, entry in enumerate(config["prepare"]["redact"], 1):
        if isinstance(entry, str) and entry not in known:
            near = difflib.get_close_matches(entry, known, n=1)
            hint = f"did you mean '{near[0]}'" if near else f"known: {', '.join(known)}"
            wrong.append(
                f"'prepare.redact' {number}: no kind '{entry}'; {hint}; a pattern of your own is written "
                "{kind: donor, pattern: ...}"
            )
    own = {"prepare.redact": config["prepare"]["redact"], "check.private": config["check"]["private"]}
    for key, entries in own.items():
        wrong += [
            f"'{key}' {number}: {problem}"
            for number, entry in enumerate(entries, 1)
            if (pattern := _pattern(key, entry)) is not None and (problem := _pattern_problem(pattern))
        ]
    try:
        load_pseudonyms(config["prepare"]["pseudonyms"], work)
    except UsageError as error:
        wrong.append(str(error))
    return wrong


def _pattern(key: str, entry: Any) -> str | None:
    """Return the regular expression of an entry; None where it names a kind."""
    if isinstance(entry, dict):
        return str(entry["pattern"])
    return None if key == "prepare.redact" else str(entry)


def _pattern_problem(pattern: str) -> str:
    try:
        found = re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    except re.error as error:
        return f"not a regular expression: {error}"
    if found.search(""):
        return "it matches the empty text; make it match what is private and no more"
    return ""


def plan_of_prepare(config: Config, work: Path) -> dict[str, Any]:
    """Return the settings `prepare` as the plans hold them: pairs for patterns, one table of pseudonyms."""
    prepare = dict(config["prepare"])
    prepare["redact"] = [
        e if isinstance(e, str) else [e["kind"], e["pattern"]] for e in config["prepare"]["redact"]
    ]
    prepare["pseudonyms"] = load_pseudonyms(prepare["pseudonyms"], work)
    return prepare


def plan_of_scan(config: Config, pseudonyms: Mapping[str, str], beside: bool = False) -> dict[str, Any]:
    """Return what the jobs look for, and a key that stands for it.

    Names that have a pseudonym are looked for, too: companions and the names of logs and columns are
    published as they are. So are, `beside` the measurements, patterns that are replaced only in these;
    there the marks that stand for them may match them.
    """
    private = [
        [e["kind"], e["pattern"]] if isinstance(e, dict) else [OWN, e] for e in config["check"]["private"]
    ]
    if beside:
        private += [[e["kind"], e["pattern"]] for e in config["prepare"]["redact"] if isinstance(e, dict)]
    names = Pseudonyms(pseudonyms).expression
    return _plan([*private, [NAME, names]] if names else private)


def _plan(private: list[list[str]]) -> dict[str, Any]:
    return {"private": private, "key": key_of("scan", recipes.SCAN, private)}


#: The plan without patterns of one's own.
SHIPPED_ONLY = _plan([])
