"""Which dataset a measurement belongs to, and under which name."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

from dcorflow.discover.late import kept_part
from dcorflow.naming import natural_key, resource_name, short_hash, slug, unique
from dcorflow.source.inventory import Item
from dcorflow.source.walk import Tree


def rename_hidden(items: list[Item], hide: Callable[[str], str]) -> set[str]:
    """Rename datasets and prepared files whose names tell what is to be hidden (in place).

    Datasets keep what else they are; prepared files become nameless, for `assign_names`.

    Parameters
    ----------
    items
        The inventory.
    hide
        Returns a text with pseudonyms instead of names.

    Returns
    -------
    set of str
        The former names of datasets.
    """
    present = [item for item in items if item.dataset and item.state != "gone"]
    taken = {item.dataset for item in items}
    renamed: dict[str, str] = {}
    for item in sorted(present, key=lambda i: i.dataset):
        if item.dataset not in renamed and _tells(item.dataset, slug(item.origin), item.origin, hide):
            hidden = slug(hide(item.origin))
            hidden = hidden if hide(hidden) == hidden else slug(hide(hidden))
            renamed[item.dataset] = _free(hidden, item.origin, taken)
            taken.add(renamed[item.dataset])
    for item in present:
        item.dataset = renamed.get(item.dataset, item.dataset)
        stem = item.name_on_disk.rpartition(".")[0]
        if item.name and _tells(item.name, resource_name(stem), stem, hide):
            item.name = ""
    return set(renamed)


def _tells(name: str, made: str, origin: str, hide: Callable[[str], str]) -> bool:
    """Return whether `name` shows what is to be hidden, or is what was `made` of an origin that does."""
    return hide(name) != name or (name.startswith(made) and hide(origin) != origin)


def assign_datasets(items: list[Item], by: str, hide: Callable[[str], str] = str, server: str = "") -> None:
    """Give every measurement a dataset (in place).

    A measurement whose key (folder, or match of the expression `by`) is the same as before keeps
    its dataset. A key that is new takes over the dataset of measurements that moved there
    together, where nothing of it is left behind; else it is a new dataset.

    Parameters
    ----------
    items
        The inventory.
    by
        ``directory`` or a regular expression with a group ``dataset``.
    hide
        Returns a name with pseudonyms.
    server
        Name of the server that datasets of late measurements belong to.
    """
    several = len({item.root for item in items}) > 1
    present = [item for item in items if item.state != "gone"]
    keys = {id(item): _key(item, by, several) for item in present}
    keys = {
        i: key and key + kept_part(item.key, server)
        for (i, key), item in zip(keys.items(), present, strict=True)
    }
    living = {item.dataset for item in present}
    settled = {item.key: (item.dataset, item.origin) for item in items
               if item.state == "gone" and item.dataset and item.dataset not in living}  # fmt: skip
    settled |= {item.key: (item.dataset, item.origin) for item in present
                if item.dataset and item.key == keys[id(item)]}  # fmt: skip
    movers = defaultdict(list)
    for item in present:
        if item.key != keys[id(item)] or not item.dataset:
            movers[keys[id(item)]].append(item)
    taken = {item.dataset for item in items if item.dataset}
    staying = {dataset for dataset, _ in settled.values()}
    for key in sorted(movers, key=natural_key):
        arrived = movers[key]
        if not key:
            for item in arrived:
                item.dataset, item.key, item.name = "", "", ""
                if item.state == "found":
                    item.state = "problem"
                    item.reason = "its path does not match 'datasets.by', so it belongs to no dataset"
            continue
        if key not in settled:
            settled[key] = _moved_dataset(arrived, staying) or _new_dataset(key, taken, hide)
            taken.add(settled[key][0])
            staying.add(settled[key][0])
        for item in arrived:
            if item.dataset != settled[key][0]:
                item.name = ""
            item.key = key
            item.dataset, item.origin = settled[key]


def belongs(item: Item, by: str) -> bool:
    """Return whether a measurement belongs to any dataset."""
    return bool(_key(item, by, several=False))


def _key(item: Item, by: str, several: bool) -> str:
    if by == "directory":
        key = item.folder or f"{item.root}/."
        return f"{item.root}/{item.folder}".rstrip("/") if several and item.folder else key
    match = re.search(by, item.source)
    return (match.group("dataset") or "") if match else ""


def _moved_dataset(arrived: list[Item], staying: set[str]) -> tuple[str, str] | None:
    """Return the dataset that most of the arrived come from, if it has no other place."""
    origins = Counter((i.dataset, i.origin) for i in arrived if i.dataset and i.dataset not in staying)
    return origins.most_common(1)[0][0] if origins else None


def _new_dataset(key: str, taken: set[str], hide: Callable[[str], str]) -> tuple[str, str]:
    return _free(slug(hide(key)), key, taken), key


def _free(name: str, key: str, taken: set[str]) -> str:
    if name in taken:
        name = f"{name}-{short_hash(key, digits=4)}"
    while name in taken:
        name += "x"
    return name


def assign_names(items: list[Item], hide: Callable[[str], str] = str) -> None:
    """Give every measurement the name of its prepared file, unique in its dataset (in place).

    A name once given is kept; it says the folder's name first where the file's own says nothing.
    """
    taken: dict[str, set[str]] = defaultdict(set)
    for item in items:
        if item.name:
            taken[item.dataset].add(item.name.lower())
    nameless = [item for item in items if item.dataset and not item.name and item.state != "gone"]
    for item in sorted(nameless, key=lambda i: (i.root, natural_key(i.source))):
        folder = item.folder.rpartition("/")[2] or item.root
        stem = item.source.rpartition("/")[2].rpartition(".")[0]
        name = unique(resource_name(f"{hide(stem)}.rtdc", hide(folder)), taken[item.dataset])
        taken[item.dataset].add(name.lower())
        item.name = name


def uploaded_before(trees: list[Tree]) -> dict[tuple[str, str], tuple[str, str]]:
    """Return (root, folder) -> (task file, DCOR dataset id) of folders uploaded by other means.

    A task file of DCOR-Aid holds the id under `upload_job` or `dataset_dict` once a draft was
    made (dcoraid.upload.task.load_task).
    """
    known = {}
    for tree in trees:
        for folder, tasks in tree.tasks.items():
            for task in tasks:
                dataset_id = _dataset_id(tree.root / task.path)
                if dataset_id:
                    known[tree.name, folder] = (task.path, dataset_id)
    return known


def _dataset_id(path: Path) -> str:
    try:
        data = json.loads(path.read_bytes())
        return str(data["upload_job"].get("dataset_id") or data.get("dataset_dict", {}).get("id") or "")
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return ""
