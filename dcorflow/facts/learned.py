"""What one DCOR server accepts, asked from it once a day: its supplements, licences and suffixes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from dcorflow.files import read_json, to_json, write_text

#: Age in seconds after which a server is asked again.
_FRESH = 86400
#: Seconds until a server that did not answer is asked again.
_PAUSE = 3600
#: Seconds to wait for an answer: a run must not hang where the network does.
_PATIENCE = 4
#: Types of ckanext-dcor_schemas, by the names used here.
_TYPES = {"string": "text", "float": "number", "integer": "integer", "boolean": "boolean",
          "date": "date", "list": "list"}  # fmt: skip


def refresh(url: str, path: Path) -> bool:
    """Ask a server what it accepts and keep the answer at `path`; return whether it answered.

    A fresh answer is kept; where the server cannot be reached or says something odd, so is an old
    one. Nothing secret is sent.
    """
    import requests

    tried = path.with_suffix(".tried")
    if _is_younger(path, _FRESH):
        return True
    if _is_younger(tried, _PAUSE):
        return False
    write_text(tried, "")
    try:
        answers = [
            requests.get(f"{url}/api/3/action/{action}", timeout=_PATIENCE).json()["result"]
            for action in ("resource_schema_supplements", "license_list", "supported_resource_suffixes")
        ]
        facts = _facts(*answers)
    except (requests.RequestException, ValueError, KeyError, TypeError, AttributeError):
        return False
    write_text(path, to_json(facts))
    return True


def _is_younger(path: Path, seconds: float) -> bool:
    try:
        return time.time() - path.stat().st_mtime < seconds
    except OSError:
        return False


def load(path: Path) -> dict[str, Any] | None:
    """Return what was learned from a server; None where that is nothing."""
    try:
        facts = read_json(path)
        return facts if facts["supplements"] and facts["suffixes"] and facts["licenses"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _facts(schema: dict[str, Any], licences: list[dict[str, Any]], suffixes: list[str]) -> dict[str, Any]:
    return {
        "supplements": {
            section: {
                "requires": part.get("requires", {}),
                "items": {item["key"]: _rule(item) for item in part["items"]},
            }
            for section, part in schema.items()
        },
        "licenses": {x["id"]: str(x.get("title", "")) for x in licences},
        "suffixes": [str(s).lower() for s in suffixes],
    }


def _rule(item: dict[str, Any]) -> dict[str, Any]:
    options = item.get("options", [])
    rule: dict[str, Any] = {"type": _TYPES[item["type"]], "about": item.get("hint") or item.get("name", "")}
    if ">0" in options:
        rule["positive"] = True
    if item.get("choices"):
        rule["fixed" if "choices fixed" in options else "choices"] = item["choices"]
    return rule | {name: item[name] for name in ("unit", "requires") if item.get(name)}
