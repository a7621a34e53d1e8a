"""What a group plan says about a dataset: its fields, members and companions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dcorflow.config import Config
from dcorflow.discover.late import base_of, late_title, part_of
from dcorflow.facts import dcor
from dcorflow.metadata.fields import resolve_dataset
from dcorflow.metadata.folders import FolderSettings
from dcorflow.metadata.resolve import Wanted
from dcorflow.metadata.sheet import DatasetSheet
from dcorflow.naming import natural_key, resource_name, short_hash, unique
from dcorflow.privacy.plain import with_pseudonyms
from dcorflow.source.inventory import Item
from dcorflow.source.walk import Tree, matches

#: What a plan says of a measurement, beside what the settings want of it.
_MEMBER_FIELDS = (
    "measurement", "name", "source", "root", "kind", "state", "reason", "failure", "note", "twin",
)  # fmt: skip


class EntryMaker:
    """Makes the entries of datasets from settings and inventory.

    Parameters
    ----------
    config, folders, sheet
        Settings, files in the source folders, sheet of datasets.
    trees
        What lies on disk.
    wanted
        What the settings want of each measurement.
    known
        (root, folder) -> (task file, DCOR dataset id) of what was uploaded by other means.
    hide
        Puts pseudonyms into a text.
    takes
        Says of a dataset and the name of a companion in its folders whether they belong together.
    """

    def __init__(
        self,
        config: Config,
        trees: list[Tree],
        folders: FolderSettings,
        sheet: DatasetSheet,
        wanted: Mapping[str, Wanted],
        known: Mapping[tuple[str, str], tuple[str, str]],
        hide: Callable[[str], str],
        takes: Callable[[str, str], bool],
    ) -> None:
        self.config, self.folders, self.sheet = config, folders, sheet
        self.trees = {tree.name: tree for tree in trees}
        self.wanted, self.known, self.hide = wanted, known, hide
        self.takes = takes

    def entry(self, dataset: str, items: list[Item]) -> tuple[dict[str, Any], list[str]]:
        """Return the entry of a dataset with the measurements `items`, and what is wrong with it."""
        present = [i for i in items if i.state != "gone"] or items
        present = sorted(present, key=lambda i: (i.root, natural_key(i.source)))
        sources = [(i.root, i.source) for i in present]
        key, part = base_of(present[0].key), part_of(present[0].key)
        fields, wrong = resolve_dataset(self.config, self.folders, self.sheet, dataset, key, sources)
        if part and fields.get("title"):
            fields["title"] = late_title(fields["title"], part)
        ids = {self.known[place] for i in present if (place := (i.root, i.folder)) in self.known}
        if self.config["datasets"]["uploaded"] == "leave" and any(i.state != "left alone" for i in present):
            ids = set()  # the id belongs to what is left alone
        if part:
            ids = set()  # the id belongs to the first measurements
        if len({dataset_id for _, dataset_id in ids}) > 1:
            found = "; ".join(f"{path}: {dataset_id}" for path, dataset_id in sorted(ids))
            wrong.append(
                f"dataset of '{key}': its folders were uploaded as different DCOR datasets "
                f"({found}); split it with 'datasets.by'"
            )
        fields = with_pseudonyms(fields, self.hide)
        companions, left = self._companions(present, {i.name.lower() for i in items})
        companions = [c for c in companions if self.takes(dataset, c["name"])]
        entry = {
            "dataset": dataset,
            "source": key,
            "part": part,
            "task_id": self._task_id(dataset, present[0].origin, str(fields.get("owner_org"))),
            "dataset_id": sorted(ids)[0][1] if ids else "",
            "fields": fields,
            "members": [
                self._member(item) for item in sorted(items, key=lambda i: (i.root, natural_key(i.source)))
            ],
            "companions": companions,
            "companions_left": left,
        }
        return entry, wrong

    def _task_id(self, dataset: str, origin: str, circle: str) -> str:
        return f"{dataset}-{short_hash(self.config['datasets']['namespace'], circle, origin)}"

    def _member(self, item: Item) -> dict[str, Any]:
        wanted = self.wanted.get(item.measurement, Wanted())
        member = {name: getattr(item, name) for name in _MEMBER_FIELDS}
        return member | {
            "bytes": item.size,
            "supplements": with_pseudonyms(wanted.supplements, self.hide),
            "origins": wanted.origins,
            "ignore": wanted.ignore,
        }

    def _companions(self, items: list[Item], taken: set[str]) -> tuple[list[dict[str, Any]], list[list[str]]]:
        """Return the companions to upload, with unique names, and those left out with the reason."""
        allowed = self.config["datasets"]["companions"]
        chosen, left = [], []
        for root, folder in sorted({(i.root, i.folder) for i in items}):
            for seen in self._companions_of(root, folder):
                name = seen.path.rpartition("/")[2]
                if not matches(name, allowed):
                    left.append([seen.path, "not in datasets.companions"])
                    continue
                suffix = resource_name(name).rpartition(".")[2]
                if f".{suffix}" not in dcor()["suffixes"] or suffix == "rtdc":
                    left.append([seen.path, f"DCOR takes only {', '.join(dcor()['suffixes'])}"])
                    continue
                final = unique(resource_name(self.hide(name)), taken)
                taken.add(final.lower())
                path = str(self.trees[root].root / seen.path)
                chosen.append(
                    {
                        "source": path,
                        "path": seen.path,
                        "name": final,
                        "size": seen.size,
                        "mtime_ns": seen.mtime_ns,
                    }
                )
        return chosen, left

    def _companions_of(self, root: str, folder: str) -> list[Any]:
        return self.trees[root].companions.get(folder, []) if root in self.trees else []
