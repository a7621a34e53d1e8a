"""What looks odd in a measurement's data, in plain sentences: information, never a verdict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from dcorflow.portrait.events import Events

Level = Literal["alert", "info"]
#: Below this many events, quantiles of a population and its density mean little.
_FEW_EVENTS = 100


@dataclass(frozen=True)
class Flag:
    """One remark: a stable name, whether somebody should look, and a sentence with the figures."""

    id: str
    level: Level
    text: str


def find_flags(events: Events) -> list[dict[str, Any]]:
    """Return the remarks on a measurement, as they stand in record and portrait."""
    return [asdict(flag) for flag in _all(events)]


def _all(events: Events) -> Iterator[Flag]:
    if events.count < _FEW_EVENTS:
        yield Flag("few-events", "info", f"only {events.count} events: too few for statistics")
