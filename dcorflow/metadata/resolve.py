"""From settings to decisions: the edits of each measurement and the fields of each dataset."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dcorflow.config import Config
from dcorflow.metadata.folders import FolderSettings, Layer
from dcorflow.metadata.keys import Value, convert_value
from dcorflow.metadata.supplements import convert_supplement

MANDATORY = ("authors", "license_id", "owner_org")


@dataclass(frozen=True)
class Edit:
    """One value that somebody asked for.

    Parameters
    ----------
    key, value
        ``section:key`` and the typed value.
    mode
        ``fill``: only where the file has none; ``replace``: always.
    kind, where
        Kind of origin (stands in the file's history), and file and place (stands in the record).
    """

    key: str
    value: Value
    mode: Literal["fill", "replace"]
    kind: str
    where: str

    def as_list(self) -> list[Any]:
        """Return plain data for a plan file."""
        return [self.key, self.value, self.mode, self.kind, self.where]


@dataclass
class Wanted:
    """What the settings say about one measurement."""

    edits: list[Edit] = field(default_factory=list)
    supplements: dict[str, dict[str, Any]] = field(default_factory=dict)
    ignore: list[str] = field(default_factory=list)
    left_out: str = ""


def resolve_measurement(
    config: Config, folders: FolderSettings, root: str, source: str
) -> tuple[Wanted, list[str]]:
    """Return what is wanted for a measurement, and what is wrong with the settings.

    For each key the nearest value wins; an override, however far, wins over a default.
    """
    layers = [
        Layer("configuration", {"metadata": config["metadata"]}),
        *folders.layers(root, source),
    ]
    wanted, wrong = Wanted(), []
    edits: dict[str, dict[str, Edit]] = {"defaults": {}, "override": {}}
    for layer in layers:
        metadata = layer.settings.get("metadata") or {}
        for part, target in edits.items():
            for key, value in (metadata.get(part) or {}).items():
                try:
                    target[str(key)] = _edit(layer, part, str(key), value)
                except ValueError as error:
                    wrong.append(f"{layer.where}: metadata.{part}: {error}")
        for key, value in (metadata.get("supplements") or {}).items():
            section, _, name = str(key).removeprefix("sp:").partition(":")
            try:
                typed = convert_supplement(section, name, value)
                wanted.supplements.setdefault(section, {})[name] = typed
            except ValueError as error:
                wrong.append(f"{layer.where}: metadata.supplements: {error}")
        wanted.ignore += layer.settings.get("ignore") or []
        if layer.settings.get("use") is not None:
            wanted.left_out = "" if layer.settings["use"] else str(layer.settings["reason"])
    final = edits["defaults"] | edits["override"]
    wanted.edits = [final[key] for key in sorted(final)]
    return wanted, wrong


def _edit(layer: Layer, part: str, key: str, value: object) -> Edit:
    origin = "configuration" if layer.where == "configuration" else "folder"
    typed = convert_value(key, value)
    if part == "defaults":
        return Edit(key, typed, "fill", f"{origin} default", layer.where)
    return Edit(key, typed, "replace", f"{origin} override", layer.where)


def settings_problems(config: Config) -> list[str]:
    """Return what is wrong with the metadata and the title template of a configuration."""
    _, wrong = resolve_measurement(config, FolderSettings([]), "", "")
    by = config["datasets"]["by"]
    groups = [] if by == "directory" else list(re.compile(by).groupindex)
    known = {"directory", "path", "dataset", *groups}
    try:
        names = {n: s or c for _, n, s, c in string.Formatter().parse(config["datasets"]["title"])}
    except ValueError as error:
        return [*wrong, f"'datasets.title': {error}"]
    for name, extra in names.items():
        if name is not None and (name not in known or extra):
            wrong.append(
                f"'datasets.title': unknown placeholder '{{{name}}}'; known: {', '.join(sorted(known))}"
            )
    return wrong


def resolve_dataset(
    config: Config, folders: FolderSettings, key: str, sources: list[tuple[str, str]]
) -> tuple[dict[str, Any], list[str]]:
    """Return the fields of a dataset and what is wrong with them.

    Parameters
    ----------
    config, folders
        Settings.
    key
        What made the dataset: folder or match of ``datasets.by``.
    sources
        (root, path) of its measurements. Different folders may not contradict each other.
    """
    defaults = config["datasets"]["defaults"]
    fields: dict[str, Any] = {"private": True} | {k: v for k, v in defaults.items() if v is not None}
    said: dict[str, tuple[Any, str]] = {}
    wrong: list[str] = []
    for root, source in sources:
        nearest: dict[str, tuple[Any, str]] = {}
        for layer in folders.layers(root, source):
            if not layer.single:
                nearest |= {k: (v, layer.where) for k, v in (layer.settings.get("dataset") or {}).items()}
        for name, (value, where) in nearest.items():
            if name in said and said[name][0] != value:
                wrong.append(
                    f"dataset of '{key}': two values for '{name}': {said[name][0]!r} in {said[name][1]}, "
                    f"{value!r} in {where}; keep one"
                )
            said.setdefault(name, (value, where))
    fields |= {name: value for name, (value, _) in said.items()}
    if "title" not in fields:
        try:
            fields["title"] = make_title(config, key, sources)
        except (KeyError, ValueError, IndexError) as error:
            wrong.append(f"configuration: datasets.title: {error}")
    return fields, list(dict.fromkeys(wrong))


def missing_fields(fields: Mapping[str, Any]) -> list[str]:
    """Return the mandatory fields that nobody gave."""
    return [name for name in MANDATORY if not fields.get(name)]


def make_title(config: Config, key: str, sources: list[tuple[str, str]]) -> str:
    """Fill the title template; raise `ValueError` naming an unknown placeholder."""
    root, source = sources[0]
    folder = source.rpartition("/")[0]
    values: dict[str, str] = {}
    by = config["datasets"]["by"]
    if by != "directory" and (match := re.search(by, source)):
        values = {k: v or "" for k, v in match.groupdict().items()}
    values |= {"directory": folder.rpartition("/")[2] or root, "path": folder or root}
    values["dataset"] = key if by != "directory" else values["directory"]
    template = config["datasets"]["title"]
    out = ""
    for text, name, spec, conversion in string.Formatter().parse(template):
        out += text
        if name is None:
            continue
        if name not in values or spec or conversion:
            raise ValueError(f"unknown placeholder '{{{name}}}'; known: {', '.join(sorted(values))}")
        out += values[name]
    return " ".join(out.split())
