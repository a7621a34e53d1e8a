"""Who is who: match what lies on disk now with what was known before."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from dcorflow.errors import UsageError
from dcorflow.files import content_digest
from dcorflow.naming import short_hash, slug
from dcorflow.source.inventory import Item
from dcorflow.source.probe import Probe, probe_all
from dcorflow.source.walk import Found, Tree

#: A time stamp this far in the future (seconds) is a wrong clock, not a file being written.
_CLOCK_ERROR = 86400
#: Below this number of known measurements, their vanishing is nothing unusual.
_FEW = 4


@dataclass
class Changes:
    """What this run found to be different."""

    new: list[Item] = field(default_factory=list)
    altered: list[Item] = field(default_factory=list)
    moved: list[tuple[str, Item]] = field(default_factory=list)
    gone: list[Item] = field(default_factory=list)
    back: list[Item] = field(default_factory=list)


class Matcher:
    """Brings the inventory in line with the trees.

    Parameters
    ----------
    items
        The inventory of the last run; changed in place and extended.
    trees
        What lies on disk.
    min_age, max_vanished
        Settings of the same name.
    known_content
        Returns the digest over all bytes of a measurement's source from its record, or "".
    workers
        Processes that look into new files.
    wanted
        Returns False for what the user left out: it is no original of a duplicate.
    """

    def __init__(
        self,
        items: list[Item],
        trees: list[Tree],
        *,
        min_age: float,
        max_vanished: float,
        known_content: Callable[[str], str],
        workers: int,
        wanted: Callable[[Item], bool] = lambda item: True,
    ) -> None:
        self.items, self.trees = items, trees
        self.min_age, self.max_vanished = min_age, max_vanished
        self.known_content, self.workers, self.wanted = known_content, workers, wanted
        self.roots = {tree.name: tree.root for tree in trees}
        self.changes = Changes()
        self.now = time.time()

    def run(self) -> Changes:
        """Match, probe and mark duplicates; return what changed."""
        places = {(i.root, i.source): i for i in self.items}
        fresh: list[Found] = []
        look: list[Item] = []
        for tree in self.trees:
            for found in tree.measurements:
                item = places.get((found.root, found.path))
                if item is None:
                    fresh.append(found)
                elif self._see_again(item, found):
                    look.append(item)
        look += self._admit(fresh)
        self._probe(look)
        self._refuse_vanished()
        self._mark_gone()
        self._mark_duplicates()
        return self.changes

    def _see_again(self, item: Item, found: Found) -> bool:
        """Update a known item; return whether it must be probed."""
        item.unseen = False
        item.note, item.linked = found.note, found.linked
        before = item.state
        sizes_differ = _sizes_differ(item, found)
        differs = item.files != found.files or item.kind != found.kind
        item.kind, item.files = found.kind, found.files
        if before == "gone":
            self.changes.back.append(item)
        elif differs and before != "in progress":
            self.changes.altered.append(item)
        if differs:
            item.content = ""
        if found.problem:
            self._set(item, "problem", found.problem)
            return False
        if differs or before == "in progress":
            if waits := self._why_wait(found, sizes_differ and before != "gone"):
                self._set(item, "in progress", waits)
                return False
            return True
        if before == "problem":
            return item.failure == "environment"
        if before == "gone" and not self.known_content(item.measurement):
            return True  # perhaps it could not be used before it vanished
        self._set(item, "found")
        return not item.fingerprint

    def _why_wait(self, found: Found, size_changed: bool) -> str:
        newest = max(f.mtime_ns for f in found.files) / 1e9
        age = self.now - newest
        if -_CLOCK_ERROR < age < self.min_age:
            return (
                f"changed {max(0, age):.0f} s ago, younger than input.min_age ({self.min_age:.0f} s): "
                "perhaps still being written; a later run takes it"
            )
        if size_changed:
            return "its size changed since the last run: perhaps still being written; a later run takes it"
        return ""

    def _refuse_vanished(self) -> None:
        """Stop where most of a root is missing: its share is probably not mounted."""
        for tree in self.trees:
            known = [i for i in self.items if i.root == tree.name and i.state != "gone"]
            missing = [i for i in known if i.unseen and not self._hidden(tree, i) and not self._filtered(i)]
            if not tree.measurements and not known:
                raise UsageError(
                    f"'input.root': no measurement (*.rtdc, *.tdms) below {tree.root}; is the path right, "
                    "the share mounted, and do input.include and input.exclude leave anything?"
                )
            mostly = len(missing) > self.max_vanished * len(known) and len(known) >= _FEW
            if self.max_vanished < 1 and (mostly or not tree.measurements):
                raise UsageError(
                    f"'input.root': {len(missing)} of {len(known)} known measurements below {tree.root} are "
                    "missing; is the share mounted? Nothing was changed. If they were removed on "
                    "purpose, run once with 'input.max_vanished: 1'"
                )

    def _filtered(self, item: Item) -> bool:
        """Return whether an item that was not found lies where it lay: the settings leave it out."""
        root = self.roots.get(item.root)
        return root is not None and (root / item.source).exists()

    def _hidden(self, tree: Tree, item: Item) -> bool:
        """Return whether an item lies in a folder that cannot be listed at present."""
        return any(item.source.startswith(folder + "/") for folder in tree.unreadable)

    def _admit(self, fresh: list[Found]) -> list[Item]:
        """Make items of new files; return those to probe."""
        look = []
        taken = {item.measurement for item in self.items}
        for found in fresh:
            item = Item(_new_id(found, taken), found.root, found.path, found.kind, found.files)
            taken.add(item.measurement)
            item.note, item.unseen, item.linked = found.note, False, found.linked
            self.items.append(item)
            self.changes.new.append(item)
            if found.problem:
                self._set(item, "problem", found.problem)
            elif waits := self._why_wait(found, False):
                self._set(item, "in progress", waits)
            else:
                look.append(item)
        return look

    def _probe(self, look: list[Item]) -> None:
        """Probe items, and recognise those of the new ones that moved here."""
        paths = [[self.roots[i.root] / f.path for f in i.files] for i in look]
        probes = probe_all([(i.kind, p) for i, p in zip(look, paths, strict=True)], self.workers)
        missing: dict[tuple[str, int], list[Item]] = {}
        for old in self.items:
            if old.unseen and old.fingerprint:
                missing.setdefault((old.fingerprint, old.size), []).append(old)
        unknown = {i.measurement for i in look if not i.fingerprint and not self.known_content(i.measurement)}
        for item, result in zip(look, probes, strict=True):
            self._apply(item, result)
            if item.measurement not in unknown or not result.fingerprint:
                continue
            same = missing.get((result.fingerprint, item.size), [])
            same.sort(key=lambda old: old.name_on_disk != item.name_on_disk)
            candidate = next((old for old in same if self._same_content(old, item)), None)
            if candidate is not None:
                same.remove(candidate)
                self._move(candidate, item)

    def _apply(self, item: Item, result: Probe) -> None:
        item.fingerprint = result.fingerprint
        if result.writing:
            self._set(
                item,
                "in progress",
                "a program has it open for writing; a later run takes it. If none has, its "
                "writer crashed: clear the flag in a copy with 'h5clear -s FILE'",
            )
        elif result.problem:
            self._set(item, "problem", result.problem)
            item.failure = result.failure
        else:
            self._set(item, "found")

    def _same_content(self, old: Item, item: Item) -> bool:
        """Return whether `item` is the moved `old`: same times, or else the same bytes."""
        if [f.mtime_ns for f in old.files] == [f.mtime_ns for f in item.files]:
            return True
        known = old.content or self.known_content(old.measurement)
        return bool(known) and known == self._content(item)

    def _content(self, item: Item) -> str:
        if not item.content:
            item.content = content_digest([self.roots[item.root] / f.path for f in item.files])
        return item.content

    def _move(self, old: Item, item: Item) -> None:
        """Give the identity of `old` to the place of `item`."""
        self.changes.moved.append((old.source, old))
        if item in self.changes.new:
            self.changes.new.remove(item)
        self.items.remove(item)
        old.root, old.source, old.files = item.root, item.source, item.files
        old.kind, old.note, old.unseen = item.kind, item.note, False
        old.state, old.reason, old.failure = item.state, item.reason, item.failure

    def _mark_gone(self) -> None:
        trees = {tree.name: tree for tree in self.trees}
        for item in self.items:
            if not item.unseen:
                continue
            tree = trees.get(item.root)
            if tree is not None and self._hidden(tree, item):
                self._set(item, "problem", "its folder cannot be listed: no permission; run again")
                item.failure = "environment"
            elif tree is not None and item.source in tree.converted:
                rtdc = tree.converted[item.source]
                self._set(item, "left out", f"{rtdc} is the same measurement, converted")
            elif self._filtered(item):
                self._set(item, "left out", "left out by input.include or input.exclude")
            elif item.state != "gone":
                self.changes.gone.append(item)
                self._set(item, "gone", "its source vanished; the prepared file is kept")

    def _mark_duplicates(self) -> None:
        """Keep one of several measurements with the same bytes; the others name it."""
        groups: dict[tuple[str, int], list[Item]] = {}
        for item in self.items:
            if item.state == "found" and item.fingerprint:
                groups.setdefault((item.fingerprint, item.size), []).append(item)
        for alike in groups.values():
            group = [item for item in alike if self.wanted(item)] if len(alike) > 1 else []
            if len(group) < 2:
                continue
            group.sort(key=self._originality)
            first: dict[str, Item] = {}
            for item in group:
                original = first.setdefault(self._content(item), item)
                if original is not item:
                    where = original.source
                    if original.root != item.root:
                        where += f" in {original.root}"
                    self._set(item, "duplicate", f"same content as {where}; not prepared twice")
                    item.twin = original.measurement

    def _originality(self, item: Item) -> tuple[bool, bool, int, int, str, str]:
        """Sort the likely original first: prepared before, no link, the oldest, the shortest name."""
        newest = max(f.mtime_ns for f in item.files)
        known = bool(self.known_content(item.measurement))
        return (not known, item.linked, newest, len(item.source), item.root, item.source)

    def _set(self, item: Item, state: str, reason: str = "") -> None:
        item.state, item.reason = state, reason  # type: ignore[assignment]
        item.failure, item.twin = "content", ""


def _new_id(found: Found, taken: set[str]) -> str:
    """Return a measurement id from the path at first sight."""
    stem = found.path.rpartition(".")[0] or found.path
    number = 0
    while True:
        mark = short_hash(found.path, str(number) if number else "")
        name = f"{slug(stem)}-{mark}"
        if name not in taken:
            return name
        number += 1


def _sizes_differ(item: Item, found: Found) -> bool:
    """Return whether files of a measurement grew or came; a settings file beside an `.rtdc` may come."""
    before = {f.path: f.size for f in item.files}
    if found.kind == "rtdc":
        return any(before.get(f.path, f.size) != f.size for f in found.files)
    return list(before.values()) != [f.size for f in found.files]
