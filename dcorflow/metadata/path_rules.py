"""Values from the path of a measurement, by the expressions of `metadata.from_path`."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Any

from dcorflow.metadata.folders import Layer

#: A day in a path, such as 20160905, 2016-09-05 or 2016_09_05.
_DAY = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_.]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)")
#: The run index in the name of a `.tdms` measurement, which the acquisition software counted.
_RUN = re.compile(r"(?:^|/)M(\d+)_[^/]*$")


class PathRules:
    """The rules of `metadata.from_path`, compiled.

    Parameters
    ----------
    rules
        As in the configuration: ``match``, ``set``, ``map``, ``override``.

    Raises
    ------
    re.error
        Where an expression is none; `problems` tells beforehand.
    """

    def __init__(self, rules: list[dict[str, Any]]) -> None:
        self._rules = [(re.compile(rule["match"]), rule) for rule in rules]
        #: (rule, group, text) of what a map says nothing about, and one path where it stands.
        self.unmapped: dict[tuple[int, str, str], str] = {}

    def layers(self, source: str) -> list[Layer]:
        """Return what the rules say about the measurement at `source`, later rules last."""
        found = []
        for number, (expression, rule) in enumerate(self._rules, start=1):
            match = expression.search(source)
            if match is None:
                continue
            values = _filled(rule.get("set", {}), match)
            for group, table in rule.get("map", {}).items():
                text = match.group(group) or ""
                if text in table:
                    values |= table[text]
                elif text:
                    self.unmapped.setdefault((number, group, text), source)
            found.append(_layer(f"configuration, metadata.from_path, rule {number}", values, rule))
        return found

    def warnings(self) -> list[str]:
        """Return what was met in paths and is missing in a map."""
        return [
            f"metadata.from_path, rule {number}: 'map.{group}' has no entry for '{text}' ({source})"
            for (number, group, text), source in sorted(self.unmapped.items())
        ]


def _filled(templates: Mapping[str, Any], match: re.Match[str]) -> dict[str, Any]:
    groups = {name: text or "" for name, text in match.groupdict().items()}
    values = {}
    for key, template in templates.items():
        value = template
        if isinstance(template, str):
            value = re.sub(r"\{(\w+)\}", lambda m: groups[m.group(1)], template)
        if value != "":
            values[key] = value
    return values


def _layer(where: str, values: Mapping[str, Any], rule: Mapping[str, Any]) -> Layer:
    part = "override" if rule.get("override") else "defaults"
    keys = {k: v for k, v in values.items() if not k.startswith("sp:")}
    supplements = {k: v for k, v in values.items() if k.startswith("sp:")}
    return Layer(where, {"metadata": {part: keys, "supplements": supplements}}, origin="path rule")


def problems(rules: list[dict[str, Any]]) -> list[str]:
    """Return what is wrong with rules beyond their schema."""
    found = []
    for number, rule in enumerate(rules, start=1):
        name = f"'metadata.from_path', rule {number}"
        try:
            groups = re.compile(rule["match"]).groupindex
        except re.error as error:
            found.append(f"{name}: '{rule['match']}' is not a regular expression: {error}")
            continue
        known = ", ".join(groups) or "none"
        for key, template in rule.get("set", {}).items():
            for group in re.findall(r"\{(\w+)\}", str(template)):
                if group not in groups:
                    found.append(f"{name}: '{key}' uses the group '{group}'; groups of 'match': {known}")
        found += [
            f"{name}: 'map.{group}' is no group of 'match'; its groups: {known}"
            for group in rule.get("map", {})
            if group not in groups
        ]
    return found


def guesses(source: str) -> dict[str, Any]:
    """Return what the path suggests where a conversion only guessed: day and run index.

    The day nearest to the file counts.
    """
    values: dict[str, Any] = {}
    for match in reversed(list(_DAY.finditer(source))):
        year, _, month, day = match.groups()
        try:
            values["experiment:date"] = datetime.date(int(year), int(month), int(day)).isoformat()
            break
        except ValueError:
            continue
    if run := _RUN.search(source):
        values["experiment:run index"] = int(run.group(1))
    return values
