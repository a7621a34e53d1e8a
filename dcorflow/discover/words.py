"""What a run would do, as Markdown for a comment on a merge request."""

from __future__ import annotations

import re

from dcorflow.discover.run import Discovery
from dcorflow.files import printable

#: Most rows of a list: a comment is read, not searched.
_SHOWN = 50


def as_markdown(found: Discovery) -> str:
    """Return counts, and what is waiting or wrong; names from the source tree are escaped."""
    pending = found.pending
    counts = {
        "measurements known": len(found.items),
        "new": len(found.changes.new),
        "altered": len(found.changes.altered),
        "gone": len(found.changes.gone),
        "to prepare": len(pending.prepare),
        "to edit without compressing": len(pending.edit),
        "tasks or companions to restore": len(pending.tasks),
    }
    lines = ["### What the next run would do", "", "| | |", "| --- | ---: |"]
    lines += [f"| {words} | {count} |" for words, count in counts.items()]
    told = [(state_word(i.state), i.source, i.reason) for i in found.items
            if i.state in ("in progress", "problem")]  # fmt: skip
    if told:
        lines += ["", "| state | measurement | why |", "| --- | --- | --- |"]
        lines += [f"| {' | '.join(map(_cell, row))} |" for row in told[:_SHOWN]]
        lines += [f"\n... and {len(told) - _SHOWN} more"] if len(told) > _SHOWN else []
    lines += ["", *(f"- {_cell(warning)}" for warning in found.warnings[:_SHOWN])] if found.warnings else []
    return "\n".join(lines)


def state_word(state: str) -> str:
    """Return what the summary calls a state of the inventory that a plan shows."""
    return "failed" if state == "problem" else state


def _cell(text: str) -> str:
    """Make text from files harmless in Markdown: no markup, no HTML, no mention, one line."""
    return (
        re.sub(r"([\\`*_{}\[\]()#+!|<>@~&-])", r"\\\1", printable(text))
        .replace("\\@", "@\u200b")
        .replace("\\<", "&lt;")
    )
