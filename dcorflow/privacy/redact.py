"""Replace private text by marks and pseudonyms, so that the same text always gives the same bytes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from dcorflow.privacy.kinds import BASIN, Kind, own, shipped
from dcorflow.privacy.pseudonyms import Pseudonyms

#: Replacing is repeated until nothing is found any more, at most so often.
_ROUNDS = 5


def mark_of(kind: str) -> str:
    """Return the mark that stands for a text of this kind."""
    return f"<{kind}>"


class Redactor:
    """Replaces what the settings `prepare.redact` and `prepare.pseudonyms` name.

    Parameters
    ----------
    redact
        Names of shipped kinds, and pairs of kind and regular expression
        (`dcorflow.privacy.settings.plan_of_prepare`).
    pseudonyms
        Pseudonym of each name.
    """

    def __init__(self, redact: list[Any], pseudonyms: Mapping[str, str]) -> None:
        names = [entry for entry in redact if isinstance(entry, str)]
        pairs = [entry for entry in redact if not isinstance(entry, str)]
        self.rules: list[tuple[str, Kind]] = [
            (f"own pattern {number} ({kind.name})", kind) for number, kind in enumerate(own(pairs), 1)
        ]
        if names:
            self.rules += [(name, kind) for name, kind in shipped().items() if name in names]
        self.pseudonyms = Pseudonyms(pseudonyms)
        self.cuts_basins = BASIN in names
        self.active = bool(self.rules or pseudonyms or self.cuts_basins)
        marks = sorted({mark_of(kind.name) for _, kind in self.rules})
        self._marks = re.compile("|".join(map(re.escape, marks))) if marks else None

    @classmethod
    def from_settings(cls, prepare: Mapping[str, Any]) -> Redactor:
        """Return the redactor that the settings `prepare` of a plan ask for."""
        return cls(prepare.get("redact") or [], prepare.get("pseudonyms") or {})

    def text(self, text: str) -> tuple[str, Redacted]:
        """Return `text` without what is private, and what was replaced."""
        done = Redacted()
        if not self.active:
            return text, done
        for _ in range(_ROUNDS):
            before = text
            text, count = self.pseudonyms.replace(text)
            done.add("pseudonyms", count)
            for label, kind in self.rules:
                text = self._apply(label, kind, text, done)
            if text == before:
                break
        return text, done

    def named(self, text: str, name: str) -> tuple[str, Redacted]:
        """Redact the text of an attribute or column, whose name may tell what the text is."""
        head = f"{name} = " if name else ""
        redacted, done = self.text(head + text)
        return (redacted[len(head) :], done) if redacted.startswith(head) else self.text(text)

    def hide(self, text: str) -> str:
        """Return `text` without what is private."""
        return self.text(text)[0]

    def _apply(self, label: str, kind: Kind, text: str, done: Redacted) -> str:
        hits = list(kind.hits(text, text.lower()))
        if not hits:
            return text
        marks = [m.span() for m in self._marks.finditer(text)] if self._marks else []
        out, at, mark = [], 0, mark_of(kind.name)
        for hit in sorted(hits, key=lambda h: (h.start, -h.end)):
            if hit.start < at or any(start <= hit.start < end for start, end in marks):
                continue
            out += [text[at : hit.start], mark]
            at = hit.end
            done.add(label, Counter({mark: 1}))
        return "".join([*out, text[at:]])

    def raw(self, raw: bytes, name: str = "") -> tuple[bytes, Redacted]:
        """Return a text of unknown encoding without what is private; all other bytes stay.

        `name` is that of the attribute or column, which may tell what the text is.
        """
        text, encoding = decode(raw)
        text, done = self.named(text, name)
        return (text.encode(encoding, "xmlcharrefreplace") if done else raw), done

    def values(self, data: Any) -> tuple[Any, Redacted]:
        """Return plain data (as of JSON) with all texts in it redacted."""
        done = Redacted()

        def walk(value: Any) -> Any:
            if isinstance(value, str):
                value, found = self.text(value)
                done.update(found)
            elif isinstance(value, list):
                value = [walk(v) for v in value]
            elif isinstance(value, dict):
                value = {k: walk(v) for k, v in value.items()}
            return value

        return walk(data), done


class Redacted:
    """What was replaced: how often by each rule, and the marks put in; true where there is anything."""

    def __init__(self) -> None:
        self.rules: Counter[str] = Counter()
        self.marks: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self.rules)

    def add(self, rule: str, marks: Counter[str]) -> None:
        """Count the marks that a rule put in."""
        if marks:
            self.rules[rule] += marks.total()
            self.marks |= set(marks)

    def update(self, other: Redacted) -> None:
        """Add what was replaced elsewhere."""
        self.rules += other.rules
        self.marks |= other.marks

    def words(self) -> str:
        """Describe it for record and history: rules and numbers, never the text itself."""
        return "redacted: " + ", ".join(f"{rule} {count}x" for rule, count in sorted(self.rules.items()))


def decode(raw: bytes) -> tuple[str, str]:
    """Return a text and its encoding: UTF-8, or one byte a character where it is none."""
    try:
        return raw.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return raw.decode("latin-1"), "latin-1"


def fits(redacted: str, original: str, marks: list[str]) -> bool:
    """Return whether `redacted` is `original` with some parts replaced by `marks`.

    It proves, without knowing the settings, that everything between the marks is equal.
    """
    if redacted == original:
        return True
    if not marks:
        return False
    first, *rest = re.split("|".join(map(re.escape, sorted(marks, key=len, reverse=True))), redacted)
    if not rest or not original.startswith(first):
        return False
    at = len(first)
    for part in rest[:-1]:  # the first place that fits is as good as any other
        found = original.find(part, at + 1)
        if found < 0:
            return False
        at = found + len(part)
    return original.endswith(rest[-1]) and len(original) - len(rest[-1]) > at
