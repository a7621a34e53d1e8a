"""Settings in source folders: the files `dcorflow.yaml` beside the measurements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dcorflow.config import FOLDER_FILE, load_yaml, problems
from dcorflow.errors import UsageError
from dcorflow.source.walk import Tree, matches


@dataclass(frozen=True)
class Layer:
    """One source of settings that applies to a measurement: where it stands and what it says."""

    where: str
    settings: dict[str, Any]
    #: True for an entry for single measurements, which is nearer than its folder's.
    single: bool = False
    #: Kind of origin, for the history of the file.
    origin: str = "folder"


class FolderSettings:
    """All folder files of the trees, read once.

    Raises
    ------
    UsageError
        One message with all problems of all files.
    """

    def __init__(self, trees: list[Tree]) -> None:
        self.files: dict[tuple[str, str], dict[str, Any]] = {}
        self.used: set[tuple[str, str, str]] = set()
        found: list[str] = []
        for tree in trees:
            found += [
                f"{tree.root / path}: did you mean '{FOLDER_FILE}'? Rename it" for path in tree.misnamed
            ]
            for folder, seen in sorted(tree.settings.items()):
                path = tree.root / seen.path
                try:
                    data = load_yaml(path) or {}
                except UsageError as error:
                    found.append(str(error))
                    continue
                wrong = [f"{path}: {p}" for p in (problems("folder", data) or _unreasoned(data))]
                found += wrong
                if not wrong:
                    self.files[tree.name, folder] = data
        if found:
            raise UsageError("folder settings need changes:\n" + "\n".join(f"  - {f}" for f in found))

    def layers(self, root: str, source: str) -> list[Layer]:
        """Return what applies to a measurement, farthest folder first, nearest last."""
        if not self.files:
            return []
        folder, _, name = source.rpartition("/")
        found = []
        for place in _ancestors(folder):
            data = self.files.get((root, place))
            if data is None:
                continue
            where = f"{place}/dcorflow.yaml".lstrip("/")
            found.append(Layer(where, data))
            below = source[len(place) + 1 :] if place else source
            for pattern, single in data.get("measurements", {}).items():
                if matches(below, [pattern]) or name == pattern:
                    self.used.add((root, place, pattern))
                    found.append(Layer(f"{where}, measurements, {pattern}", single or {}, single=True))
        return found

    def left_out(self, root: str, source: str) -> str:
        """Return why a measurement is left out on purpose, empty where it is not."""
        reason = ""
        for layer in self.layers(root, source):
            if layer.settings.get("use") is not None:
                reason = "" if layer.settings["use"] else str(layer.settings["reason"])
        return reason

    def unused(self) -> list[str]:
        """Return the entries for single measurements that matched none: probably mistyped."""
        return [
            f"{place}/dcorflow.yaml".lstrip("/") + f": 'measurements.{pattern}' matches no measurement"
            for (root, place), data in sorted(self.files.items())
            for pattern in data.get("measurements", {})
            if (root, place, pattern) not in self.used
        ]


def _ancestors(folder: str) -> Iterator[str]:
    """Yield the root ("") and every folder down to `folder`."""
    yield ""
    if folder:
        parts = folder.split("/")
        for count in range(1, len(parts) + 1):
            yield "/".join(parts[:count])


def _unreasoned(data: dict[str, Any]) -> list[str]:
    """Return what is wrong with `use: no` without a reason."""
    entries = [
        ("", data),
        *((f"measurements.{n}.", d or {}) for n, d in data.get("measurements", {}).items()),
    ]
    return [
        f"'{key}use' is no, but '{key}reason' is missing; say why, it stands in the summary"
        for key, entry in entries
        if entry.get("use") is False and not entry.get("reason")
    ]
