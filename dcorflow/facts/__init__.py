"""Facts that the project ships, as YAML: about DCOR, and about private text."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml


@cache
def dcor() -> dict[str, Any]:
    """Return what a DCOR server accepts: ``suffixes``, ``licenses``, ``supplements``."""
    path = Path(__file__).parent / "dcor.yaml"
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


@cache
def privacy() -> dict[str, Any]:
    """Return what is private in text: by kind, how it is found and what is harmless all the same."""
    path = Path(__file__).parent / "privacy.yaml"
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded
