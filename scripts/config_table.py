"""Write the table of all settings in config/README.md from the schemas."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from dcorflow.config import schema  # noqa: E402

README = ROOT / "config" / "README.md"
MARK = re.compile(r"(<!-- settings -->\n).*?(<!-- /settings -->)", re.DOTALL)


def resolve(part: dict[str, Any]) -> dict[str, Any]:
    """Return a part of a schema with what it refers to."""
    if "$ref" not in part:
        return part
    target = schema("fields")["$defs"][part["$ref"].rpartition("/")[2]]
    return target | {"required": part.get("required", [])}


def rows(part: dict[str, Any], prefix: str = "") -> list[str]:
    """Return a table row per setting, depth first."""
    part = resolve(part)
    found = []
    for name, rule in part.get("properties", {}).items():
        rule = resolve(rule)
        key = f"{prefix}{name}"
        inner = rows(rule, f"{key}.")
        if inner:
            found += inner
            continue
        default = f"`{rule['default']}`" if rule.get("default", "") != "" else ""
        needed = "must be given" if name in part.get("required", []) else default
        found.append(f"| `{key}` | {needed} | {rule['description'].strip()} |")
    return found


def table() -> str:
    """Return the table as Markdown."""
    lines = ["| key | default | meaning |", "| --- | --- | --- |", *rows(schema("config"))]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Rewrite the table; with --check only tell whether it is up to date."""
    text = README.read_text(encoding="utf-8")
    new = MARK.sub(lambda m: m.group(1) + table() + m.group(2), text)
    if "--check" in sys.argv:
        return int(new != text)
    README.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
