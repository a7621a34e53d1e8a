"""From settings to decisions: the edits and supplements of each measurement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dcorflow.config import Config
from dcorflow.metadata.edit import Edit, Mode
from dcorflow.metadata.folders import FolderSettings, Layer
from dcorflow.metadata.keys import DATA_KEYS, convert_value, known_keys, nearest
from dcorflow.metadata.path_rules import PathRules
from dcorflow.metadata.path_rules import guesses as path_guesses
from dcorflow.metadata.path_rules import problems as path_problems
from dcorflow.metadata.sheet import MeasurementSheet
from dcorflow.metadata.supplements import convert_supplement, known_supplements


@dataclass
class Wanted:
    """What the settings say about one measurement.

    Parameters
    ----------
    edits
        Sorted by key; a `confirm` may follow another edit of its key.
    supplements, origins
        Section -> key -> value; and ``section:key`` -> where that was said.
    ignore, left_out
        Findings that do not count; why it is left out on purpose, else empty.
    """

    edits: list[Edit] = field(default_factory=list)
    supplements: dict[str, dict[str, Any]] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    ignore: list[str] = field(default_factory=list)
    left_out: str = ""


class Resolver:
    """All that is said about measurements, and what is wrong with it.

    Parameters
    ----------
    config, folders
        Settings, and the files in the source folders.
    sheet
        The measurement sheet.
    """

    def __init__(self, config: Config, folders: FolderSettings, sheet: MeasurementSheet) -> None:
        self.folders, self.sheet = folders, sheet
        self.rules = PathRules(config["metadata"]["from_path"])
        self._force = frozenset(config["metadata"]["force"])
        self._base = Layer("configuration", {"metadata": config["metadata"]}, origin="configuration")

    def resolve(
        self, measurement: str, root: str, source: str, converted: bool = False
    ) -> tuple[Wanted, list[str]]:
        """Return what is wanted for a measurement, and what is wrong with the settings.

        For each key the nearest value wins, an override, however far, over a default, the sheet
        over all.

        Parameters
        ----------
        measurement, root, source
            Its identifier, its root folder's name, and its path below it.
        converted
            Whether a conversion may guess values that its path tells better.
        """
        wanted, wrong = Wanted(), []
        final: dict[str, Edit] = {}
        if converted:
            final = {k: Edit(k, v, "guess", "path", source) for k, v in path_guesses(source).items()}
        overrides: dict[str, Edit] = {}
        for layer in [self._base, *self.rules.layers(source), *self.folders.layers(root, source)]:
            metadata = layer.settings.get("metadata") or {}
            for part, target in (("defaults", final), ("override", overrides)):
                for key, value in (metadata.get(part) or {}).items():
                    try:
                        target[str(key)] = self._edit(layer, part, str(key), value)
                    except ValueError as error:
                        wrong.append(f"{layer.where}: metadata.{part}: {error}")
            wrong += _supplement(wanted, layer, metadata.get("supplements") or {})
            wanted.ignore += layer.settings.get("ignore") or []
            if layer.settings.get("use") is not None:
                wanted.left_out = "" if layer.settings["use"] else str(layer.settings["reason"])
        final |= overrides
        confirmed, problems = self._read_sheet(measurement, wanted, final)
        wanted.edits = [final[key] for key in sorted(final)] + confirmed
        return wanted, wrong + problems

    def left_out(self, measurement: str, root: str, source: str) -> str:
        """Return why a measurement is left out on purpose, empty where it is not."""
        entry, _ = self.sheet.entry(measurement)
        if entry.use is not None:
            return "" if entry.use else entry.reason
        return self.folders.left_out(root, source)

    def _read_sheet(
        self, measurement: str, wanted: Wanted, final: dict[str, Edit]
    ) -> tuple[list[Edit], list[str]]:
        """Add what the sheet says; return confirmations of guesses, and what is wrong."""
        entry, wrong = self.sheet.entry(measurement)
        for key, said in entry.values.items():
            mode: Mode = "replace" if said.value is not None else "remove"
            try:
                final[key] = Edit(key, said.value, self._mode(key, mode), "sheet", said.where)
            except ValueError as error:
                wrong.append(f"{said.where}: {error}")
        for name, said in entry.supplements.items():
            section, _, key = name.removeprefix("sp:").partition(":")
            if said.value is None:
                wanted.supplements.get(section, {}).pop(key, None)
                wanted.origins.pop(f"{section}:{key}", None)
            else:
                wanted.supplements.setdefault(section, {})[key] = said.value
                wanted.origins[f"{section}:{key}"] = said.where
        wanted.supplements = {s: values for s, values in wanted.supplements.items() if values}
        if entry.use is not None:
            wanted.left_out = "" if entry.use else entry.reason
        return [
            Edit(key, said.value, "confirm", "sheet", said.where)
            for key, said in sorted(entry.confirmed.items())
        ], wrong

    def _mode(self, key: str, mode: Mode) -> Mode:
        if key not in DATA_KEYS:
            return mode
        if key not in self._force:
            raise ValueError(
                f"'{key}' describes the data and is taken from them; to set it all the same, name it in "
                "'metadata.force'"
            )
        if mode == "remove":
            raise ValueError(f"'{key}' describes the data and cannot be removed")
        return "force" if mode == "replace" else mode

    def _edit(self, layer: Layer, part: str, key: str, value: object) -> Edit:
        typed = convert_value(key, value)
        if part == "defaults":
            return Edit(key, typed, "fill", f"{layer.origin} default", layer.where)
        return Edit(key, typed, self._mode(key, "replace"), f"{layer.origin} override", layer.where)


def _supplement(wanted: Wanted, layer: Layer, supplements: Mapping[str, Any]) -> list[str]:
    """Add the supplements of a layer; return what is wrong with them."""
    wrong = []
    for name, value in supplements.items():
        section, _, key = str(name).removeprefix("sp:").partition(":")
        try:
            typed = convert_supplement(section, key, value)
        except ValueError as error:
            wrong.append(f"{layer.where}: metadata.supplements: {error}")
            continue
        wanted.supplements.setdefault(section, {})[key] = typed
        wanted.origins[f"{section}:{key}"] = layer.where
    return wrong


def settings_problems(config: Config) -> list[str]:
    """Return what is wrong with the metadata of a configuration, as far as no file is needed."""
    rules = config["metadata"]["from_path"]
    wrong = path_problems(rules) + _unknown_columns(config)
    if wrong:
        return wrong
    resolver = Resolver(config, FolderSettings([]), MeasurementSheet(None, []))
    wrong = resolver.resolve("", "", "")[1]
    for number, rule in enumerate(rules, start=1):
        tables = [table for by_text in rule.get("map", {}).values() for table in by_text.values()]
        for key, value in [*rule.get("set", {}).items(), *(pair for t in tables for pair in t.items())]:
            if isinstance(value, str) and "{" in value and value in rule.get("set", {}).values():
                continue  # known when a path is
            try:
                _check(str(key), value)
            except ValueError as error:
                wrong.append(f"'metadata.from_path', rule {number}: {error}")
    return wrong


def _unknown_columns(config: Config) -> list[str]:
    """Return the columns to show and keys to force that do not exist."""
    asked = [(name, key) for name in ("columns", "force") for key in config["metadata"][name]]
    if not asked:  # dclab's definitions need not be loaded, then
        return []
    supplements = [f"sp:{name}" for name in known_supplements()]
    sections = {name.rpartition(":")[0] for name in supplements}
    known = [*known_keys(), *supplements, *sorted(sections)]
    wrong = []
    for name, key in asked:
        if key in known or key.startswith("user:"):
            continue
        near = nearest(key, known)
        hint = f"did you mean '{near}'?" if near else "keys look like 'setup:medium'"
        wrong.append(f"'metadata.{name}': unknown key '{key}'; {hint}")
    return wrong


def _check(key: str, value: object) -> None:
    if not key.startswith("sp:"):
        convert_value(key, value)
        return
    section, _, name = key.removeprefix("sp:").partition(":")
    convert_supplement(section, name, value)
