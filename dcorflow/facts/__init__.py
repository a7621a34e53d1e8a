"""Facts about DCOR that the project ships, as YAML."""

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
