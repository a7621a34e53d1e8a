"""`dcorflow init`: write a commented configuration from a few answers."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

import yaml

from dcorflow.config import SCHEMAS
from dcorflow.errors import UsageError
from dcorflow.files import write_text

#: The commented example that the project ships.
EXAMPLE = SCHEMAS.parent.parent / "config" / "config.yaml"


def write_config(path: Path, answers: dict[str, str]) -> None:
    """Write a configuration with every key and its explanation.

    Parameters
    ----------
    path
        Must not exist.
    answers
        ``root``, ``authors`` (separated by commas), ``license_id``, ``owner_org``, ``server`` (may be
        empty) and ``namespace`` (made up where empty).

    Raises
    ------
    UsageError
        Where the file exists.
    """
    if path.exists():
        raise UsageError(f"{path} exists; it is left as it is. Choose another name, or edit it")
    authors = [name.strip() for name in answers["authors"].split(",") if name.strip()]
    namespace = answers["namespace"] or f"{answers['owner_org']}-{secrets.token_hex(3)}"
    values = {
        r"  root: .*": f"  root: {_yaml(answers['root'])}",
        r"    authors: .*": f"    authors: {_yaml(authors)}",
        r"    license_id: .*": f"    license_id: {_yaml(answers['license_id'])}",
        r"    owner_org: .*": f"    owner_org: {_yaml(answers['owner_org'])}",
        r"  namespace: .*": f"  namespace: {_yaml(namespace)}",
    }
    if answers["server"]:
        values[r"  # server: .*"] = f"  server: {_yaml(answers['server'])}"
    text = EXAMPLE.read_text(encoding="utf-8")
    for pattern, line in values.items():
        text, count = re.subn(f"^{pattern}$", lambda _, line=line: line, text, count=1, flags=re.MULTILINE)  # type: ignore[misc]
        if not count:
            raise UsageError(f"{EXAMPLE} has no line '{pattern.strip()}'; the installation is damaged")
    write_text(path, text)


def _yaml(value: object) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")
