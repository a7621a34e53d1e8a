"""A text put together from many places, searched once for everything private."""

from __future__ import annotations

import fnmatch
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from dcorflow.privacy.kinds import Kind, shipped

#: Longest text that a finding shows.
_SHOWN = 200
#: Most findings that are listed of one file; the rest is counted.
_MOST = 200


@dataclass
class Finding:
    """One private text, wherever it stands in a file.

    Parameters
    ----------
    place
        The first place: object, attribute or line, such as ``logs/shapein-acquisition:12``.
    kind, text
        What it is.
    count
        How often it was found.
    """

    place: str
    kind: str
    text: str
    count: int = 1

    @property
    def id(self) -> str:
        """The name by which a person accepts it."""
        return f"{self.kind}:{self.text}"

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for a record."""
        return asdict(self)


def is_accepted(finding: Finding, patterns: Iterable[str]) -> bool:
    """Return whether a finding is named in `check.accept_private`, by its id or a pattern of it."""
    return any(finding.id == p or fnmatch.fnmatchcase(finding.id, p) for p in patterns)


class Document:
    """Lines with their places.

    Each place begins a line of its own, so that no finding reaches from one into another.
    """

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._starts: list[int] = []
        self._places: list[tuple[str, bool, bool]] = []
        self._length = 0
        self.findings: list[Finding] = []

    def add(self, place: str, text: str, numbered: bool = False, path: bool = True) -> None:
        """Add the text of a place.

        Parameters
        ----------
        place, text
            Where it stands and what.
        numbered
            Whether findings name the line.
        path
            False where paths are judged in another way.
        """
        self._starts.append(self._length)
        self._places.append((place, numbered, path))
        self._parts.append(text)
        self._length += len(text) + 1

    def search(self, kinds: Sequence[Kind]) -> list[Finding]:
        """Return everything that kinds of private text find, in the order of the document.

        Shipped kinds are always looked for, `kinds` in addition.
        """
        text = "\n".join(self._parts)
        lowered = text.lower()
        hits = [hit for kind in (*kinds, *shipped().values()) for hit in kind.hits(text, lowered)]
        found: dict[tuple[str, str], Finding] = {}
        spans: set[tuple[int, int]] = set()
        for hit in sorted(hits, key=lambda h: text.rfind("\n", 0, h.start)):  # by line, then by kind
            number = bisect_right(self._starts, hit.start) - 1
            place, numbered, path = self._places[number]
            if (hit.kind == "path" and not path) or (hit.start, hit.end) in spans:
                continue
            spans.add((hit.start, hit.end))
            if numbered:
                place = f"{place}:{text.count(chr(10), self._starts[number], hit.start) + 1}"
            _note(found, Finding(place, hit.kind, text[hit.start : hit.end].strip()))
        for finding in self.findings:
            _note(found, finding)
        return _shortened(list(found.values()))


def join_findings(*parts: Iterable[Finding]) -> list[Finding]:
    """Return the findings of several parts of one file, each text once."""
    found: dict[tuple[str, str], Finding] = {}
    for finding in (f for part in parts for f in part):
        known = found.get((finding.kind, finding.text))
        if known is None:
            found[finding.kind, finding.text] = replace(finding)
        else:
            known.count += finding.count
    return list(found.values())


def _note(found: dict[tuple[str, str], Finding], finding: Finding) -> None:
    if len(finding.text) > _SHOWN:
        finding.text = finding.text[: _SHOWN - 1] + "…"
    known = found.setdefault((finding.kind, finding.text), finding)
    if known is not finding:
        known.count += 1


def _shortened(findings: list[Finding]) -> list[Finding]:
    """Return the first findings, and one that counts the others."""
    if len(findings) <= _MOST:
        return findings
    rest = findings[_MOST:]
    more = Finding(rest[0].place, "more", f"{len(rest)} other texts", sum(f.count for f in rest))
    return [*findings[:_MOST], more]
