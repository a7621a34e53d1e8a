"""Facts that the project ships, as YAML: about DCOR, and about private text."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

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
    return _load("dcor.yaml")


@cache
def privacy() -> dict[str, Any]:
    """Return what is private in text: by kind, how it is found and what is harmless all the same."""
    return _load("privacy.yaml")


def _load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = load_yaml(Path(__file__).with_name(name).read_text(encoding="utf-8"))
    return loaded


def load_yaml(text: str) -> Any:
    """Return what a text in YAML says, in plain data; raise `yaml.YAMLError` where it is none."""
    import yaml  # many jobs need no facts, and it takes as long to be imported as a small file to be checked

    # As safe in C as in Python; the one in C is ten times faster, but not everywhere.
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
