"""Which prepared file of a dataset the path of a source file stands for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from dcorflow.naming import last_part
from dcorflow.source.inventory import Item, load_inventory


class Neighbours:
    """The measurements of all datasets by the names of their source files.

    Parameters
    ----------
    items
        The inventory.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._items: dict[tuple[str, str], list[Item]] = defaultdict(list)
        for item in items:
            if item.dataset and item.name and item.state == "found":
                for name in {item.name_on_disk.lower(), item.name.lower()}:
                    self._items[item.dataset, name].append(item)

    def name(self, dataset: str, path: str) -> str:
        """Return the name of the prepared file in `dataset` that `path` stands for.

        The path may be of another computer, so its file name decides, and of several measurements
        with this name, the one with the most folders in common at the end; "" where there is none,
        or no telling which.
        """
        named = self._items.get((dataset, last_part(path).lower()), [])
        scores = sorted(((_common(item.source, path), item.name) for item in named), reverse=True)
        if not scores or (len(scores) > 1 and scores[0][0] == scores[1][0]):
            return ""
        return scores[0][1]

    def differ(self, dataset: str, basins: dict[str, str]) -> bool:
        """Return whether paths stand for other prepared files now than those they were rewritten to."""
        return any(self.name(dataset, path) != name for path, name in basins.items())


def _common(one: str, other: str) -> int:
    """Return how many parts two paths have in common at their ends."""
    left, right = (p.replace("\\", "/").lower().split("/")[::-1] for p in (one, other))
    count = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        count += 1
    return count


def neighbours_of(inventory: Path) -> Neighbours:
    """Return the neighbours that the inventory on disk tells of; none where there is no inventory."""
    try:
        stat = inventory.stat()
    except FileNotFoundError:
        return Neighbours([])
    return _load(inventory, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1)
def _load(inventory: Path, size: int, mtime_ns: int) -> Neighbours:
    return Neighbours(load_inventory(inventory))
