"""An edit: what somebody wants of one value of a measurement. Jobs get them in the plan of their batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from dcorflow.metadata.keys import Value

#: How an edit is applied: `guess` and `fill` where a file has no value, or only a guessed one (a
#: `guess` stays one); `replace` always; `remove` deletes; `force` sets what the data else decide;
#: `confirm` lifts the mark of a guess that has this value.
Mode = Literal["guess", "fill", "replace", "remove", "force", "confirm"]


@dataclass(frozen=True)
class Edit:
    """One value that somebody asked for.

    Parameters
    ----------
    key, value
        ``section:key`` and the typed value; None for `remove`.
    mode
        How it is applied.
    kind, where
        Kind of origin (stands in the file's history), and file and place (stands in the record).
    """

    key: str
    value: Value | None
    mode: Mode
    kind: str
    where: str

    def as_list(self) -> list[Any]:
        """Return plain data for a plan file."""
        return [self.key, self.value, self.mode, self.kind, self.where]
