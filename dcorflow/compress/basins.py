"""Definitions of basins as a prepared file can hold them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from dcorflow.naming import is_absolute, last_part
from dcorflow.privacy.kinds import BASIN
from dcorflow.privacy.redact import Redacted, Redactor

#: Returns the name of the prepared file of the same dataset for the path of a basin, or "".
Neighbour = Callable[[str], str]


@dataclass
class Rewritten:
    """The definition of a basin as it is published.

    Parameters
    ----------
    lines
        Lines to store; None where the basin is left out.
    how
        What was changed, in words; empty where nothing was.
    redacted
        Private text that was replaced.
    files
        Paths that the basin refers to, and the prepared file that each one became or "".
    """

    lines: list[str] | None
    how: str = ""
    redacted: Redacted = field(default_factory=Redacted)
    files: dict[str, str] = field(default_factory=dict)


def rewrite_basin(
    definition: dict[str, Any] | list[str],
    there: Iterable[str],
    redactor: Redactor,
    neighbour: Neighbour,
) -> Rewritten:
    """Return the definition of a basin without what the prepared file lacks or must not tell.

    Parameters
    ----------
    definition
        As `dcorflow.hdf5.basin_definitions` gives it.
    there
        Features that the prepared file holds for internal basins.
    redactor
        What replaces private text.
    neighbour
        Gives the prepared file of the same dataset that a path stands for.
    """
    if isinstance(definition, list):
        lines, done = redactor.values(definition)
        return Rewritten(lines, redacted=done)
    new = Rewritten(None)
    kept: dict[str, Any] | None = definition
    if definition.get("type") == "internal":
        kept = _without_dropped(definition, set(there), new)
    elif definition.get("type") == "file" and isinstance(definition.get("paths"), list):
        kept = _with_neighbours(definition, redactor, neighbour, new)
    if kept is not None:
        kept, done = redactor.values(kept)
        new.redacted.update(done)
        new.lines = json.dumps(kept, indent=2).split("\n")
    return new


def _without_dropped(definition: dict[str, Any], there: set[str], new: Rewritten) -> dict[str, Any] | None:
    """Take features that were dropped out of an internal basin; one without any goes."""
    wanted = definition.get("features")
    if not isinstance(wanted, list) or not all(isinstance(feature, str) for feature in wanted):
        return definition  # no list of names: dclab finds nothing in it either
    kept = [feature for feature in wanted if feature in there]
    if kept == wanted:
        return definition
    new.how = f"features left in this internal basin: {', '.join(kept) or 'none'}"
    return definition | {"features": kept} if kept else None


def _with_neighbours(
    definition: dict[str, Any], redactor: Redactor, neighbour: Neighbour, new: Rewritten
) -> dict[str, Any]:
    """Let a basin refer to prepared files of its dataset by name: dclab looks beside the file."""
    paths: list[Any] = []
    for path in definition["paths"]:
        if isinstance(path, str):
            name = new.files[path] = neighbour(path)
            if name and name != path:
                path = name
                new.how = f"path rewritten to the prepared file beside it: {name}"
            elif redactor.cuts_basins and is_absolute(path):
                path = last_part(path)
                new.redacted.rules[BASIN] += 1
        if path not in paths:
            paths.append(path)
    return definition | {"paths": paths}
