"""Facts that the project ships, as YAML: about DCOR, and about private text."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

#: As safe in C as in Python; the one in C is ten times faster, but not everywhere.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: What was learned from the server of this work directory, in place of what is shipped.
_learned: dict[str, Any] = {}


def use(learned: dict[str, Any] | None) -> None:
    """Take what a server said about itself instead of what is shipped; None goes back to that."""
    _learned.clear()
    _learned.update(learned or {})


def dcor() -> dict[str, Any]:
    """Return what a DCOR server accepts: ``suffixes``, ``licenses``, ``supplements``."""
    return _learned or _shipped()


@cache
def _shipped() -> dict[str, Any]:
    path = Path(__file__).parent / "dcor.yaml"
    loaded: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
    return loaded


@cache
def privacy() -> dict[str, Any]:
    """Return what is private in text: by kind, how it is found and what is harmless all the same."""
    path = Path(__file__).parent / "privacy.yaml"
    loaded: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)
    return loaded
