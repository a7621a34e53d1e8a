"""Kinds of private text: how each one is found."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from dcorflow.facts import privacy

#: Kind of findings of a pattern of the configuration that names none.
OWN = "own"
#: Kind of names that have a pseudonym.
NAME = "name"
#: Kind of absolute paths in the definitions of basins; found by structure, not by a pattern.
BASIN = "basin"
_FLAGS = re.IGNORECASE | re.MULTILINE
#: Characters before a finding that can tell what it is.
_NEAR, _FAR = 32, 160


@dataclass(frozen=True)
class Hit:
    """Private text at `start:end` of a searched text."""

    kind: str
    start: int
    end: int


class Kind:
    """One kind of private text.

    Parameters
    ----------
    name
        Stands in findings and in the mark that replaces the text.
    rule
        As in `facts/privacy.yaml`; only ``patterns`` must be there.
    """

    def __init__(self, name: str, rule: Mapping[str, Any]) -> None:
        self.name = name
        self.near: list[str] = rule.get("near", [])
        self._rule = rule

    @cached_property
    def patterns(self) -> list[re.Pattern[str]]:
        """What finds it, in lines that can hold something; compiled when there is one: it takes its time."""
        return [re.compile(pattern, _FLAGS) for pattern in self._rule["patterns"]]

    @cached_property
    def allow(self) -> re.Pattern[str] | None:
        """What is found but not private."""
        return _any_of(self._rule.get("allow", []))

    @cached_property
    def _around(self) -> list[re.Pattern[str] | None]:
        parts = ("sure_after", "not_after", "unsure")
        return [re.compile(self._rule[part], _FLAGS) if part in self._rule else None for part in parts]

    def hits(self, text: str, lowered: str) -> Iterator[Hit]:
        """Yield what is found in `text`, of which `lowered` is the lower case."""
        for first, last in self._lines(text, lowered):
            for pattern in self.patterns:
                group: str | int = "secret" if "secret" in pattern.groupindex else 0
                for match in pattern.finditer(text, first, last):
                    start, end = match.span(group)
                    if 0 <= start < end and self._counts(text, start, end):
                        yield Hit(self.name, start, end)

    def _lines(self, text: str, lowered: str) -> list[tuple[int, int]]:
        """Return where lines begin and end that can hold something: a plain search is the fastest."""
        if not self.near or len(text) != len(lowered):  # few letters change their length
            return [(0, len(text))]
        lines: dict[int, int] = {}
        for word in self.near:
            at = lowered.find(word)
            while at >= 0:
                end = lowered.find("\n", at)
                end = len(text) if end < 0 else end
                lines[lowered.rfind("\n", 0, at) + 1] = end
                at = lowered.find(word, end)
        return sorted(lines.items())

    def _counts(self, text: str, start: int, end: int) -> bool:
        found = text[start:end]
        if self.allow and self.allow.fullmatch(found.strip()):
            return False
        sure_after, not_after, unsure = self._around
        if sure_after is None:
            return True
        line = max(text.rfind("\n", 0, start) + 1, start - _FAR)
        if sure_after.search(text, max(line, start - _NEAR), start):
            return True
        if unsure and unsure.fullmatch(found):
            return False
        return not (not_after and not_after.search(text, line, start))


def _any_of(patterns: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(f"(?:{p})" for p in patterns), _FLAGS) if patterns else None


@cache
def shipped() -> dict[str, Kind]:
    """Return the kinds that the project knows, in the order in which they are applied."""
    return {name: Kind(name, rule) for name, rule in privacy().items()}


def own(patterns: Sequence[Sequence[str]]) -> list[Kind]:
    """Return kinds for patterns of the configuration, given as (kind, regular expression)."""
    return [Kind(kind, {"patterns": [pattern]}) for kind, pattern in patterns]
