"""Walk the source tree: group its files into measurements, companions and settings."""

from __future__ import annotations

import errno
import fnmatch
import os
import re
import stat as stat_module
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dcorflow.config import FOLDER_FILE
from dcorflow.errors import UsageError, explain_os_error
from dcorflow.records import SourceFile

#: Names that are never data: hidden, editors' and file managers' files, network drives' folders.
IGNORED_NAMES = (".*", "~*", "*~", "desktop.ini", "thumbs.db", "@eadir", "$recycle.bin",
                 "#recycle", "system volume information")  # fmt: skip
#: Files that are copies or parts of a measurement, not measurements: condensed versions for
#: quick looks, the backups of DCKit, and the traces of a .tdms measurement.
IGNORED_MEASUREMENTS = ("*_condensed.rtdc", "*_original.rtdc", "*_traces.tdms")
#: Side files of a .tdms measurement share its prefix (`M1_`) and have one of these suffixes;
#: those of the second tuple belong to all measurements of the folder
#: (dclab.rtdc_dataset.fmt_tdms).
SIDE_SUFFIXES = (".ini", ".txt", ".avi", ".tdms", ".tdms_index")
SIDE_NAMES = ("parameters.txt", "fg_config.mcf")
#: A name that its author meant to be that of a settings file.
_ALMOST_SETTINGS = re.compile(r"dcor-?flow\.ya?ml(\.txt)?", re.IGNORECASE)
TASK_SUFFIX = ".dcoraid-task"


@dataclass(frozen=True)
class Found:
    """One measurement as it lies on disk.

    Parameters
    ----------
    root, path
        Name of the root folder and path of the main file below it (POSIX).
    kind
        ``rtdc`` or ``tdms``.
    files
        Main file first, then side files.
    note
        What the user should know, such as a `.tdms` beside its conversion.
    problem
        Why it is no usable file, empty where it is.
    linked
        Whether the path leads over a symbolic link.
    """

    root: str
    path: str
    kind: str
    files: tuple[SourceFile, ...]
    note: str = ""
    problem: str = ""
    linked: bool = False

    @property
    def folder(self) -> str:
        """The folder below the root, empty for the root itself."""
        return self.path.rpartition("/")[0]


@dataclass
class Tree:
    """Everything found below one root folder; paths are POSIX and relative to it."""

    root: Path
    measurements: list[Found] = field(default_factory=list)
    companions: dict[str, list[SourceFile]] = field(default_factory=dict)
    settings: dict[str, SourceFile] = field(default_factory=dict)
    tasks: dict[str, list[SourceFile]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    misnamed: list[str] = field(default_factory=list)
    #: `.tdms` beside their conversions: path -> path of the `.rtdc`.
    converted: dict[str, str] = field(default_factory=dict)
    #: Folders and files behind symbolic links.
    links: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """The root folder's name, which stands for it in the inventory."""
        return self.root.name or "root"


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Return whether a path, its file name, or one of its folders matches a pattern."""
    if "*" in patterns:
        return True
    parts = path.split("/")
    heads = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    return any(
        fnmatch.fnmatchcase(text, pattern.rstrip("/")) for pattern in patterns for text in (*heads, *parts)
    )


def _any_of(patterns: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns))


_IGNORED, _NO_MEASUREMENT = _any_of(IGNORED_NAMES), _any_of(IGNORED_MEASUREMENTS)


def walk(root: Path, include: Sequence[str], exclude: Sequence[str], settings_log: bool = False) -> Tree:
    """Find everything below `root`; the result does not depend on the file system's order.

    Folders behind symbolic links are entered after all others and each folder only once, so links
    in a circle end and a file keeps the path without links. Nothing is opened. With `settings_log`,
    the `M*_SoftwareSettings.ini` beside an `.rtdc` file belongs to it.

    Raises
    ------
    UsageError
        Where the root itself cannot be listed.
    """
    tree = Tree(root)
    visited: set[tuple[int, int]] = set()
    waiting: list[str] = [""]
    linked: list[str] = []
    while waiting or linked:
        folder = waiting.pop() if waiting else linked.pop(0)
        try:
            stat = (root / folder).stat()
            if (stat.st_dev, stat.st_ino) in visited:
                continue
            visited.add((stat.st_dev, stat.st_ino))
            with os.scandir(root / folder) as entries:
                listing = sorted(entries, key=lambda e: e.name)
        except OSError as error:
            if not folder:
                raise UsageError(f"'input.root': {root} cannot be listed: {error}") from error
            tree.unreadable[folder] = explain_os_error(error) or str(error)
            continue
        folders, files = _sort_out(folder, listing, exclude)
        over_link = folder in tree.links
        tree.links |= {path for path, link in folders if link or over_link}
        waiting += [path for path, link in reversed(folders) if not link]
        linked += [path for path, link in folders if link]
        _take_files(tree, folder, files, include, settings_log)
    tree.measurements.sort(key=lambda found: found.path)
    return tree


def _sort_out(
    folder: str, listing: list[os.DirEntry[str]], exclude: Sequence[str]
) -> tuple[list[tuple[str, bool]], list[tuple[str, os.DirEntry[str]]]]:
    """Split a listing into folders (path, is a link) and other entries (path, entry)."""
    folders, files = [], []
    for entry in listing:
        path = f"{folder}/{entry.name}" if folder else entry.name
        if _IGNORED.match(entry.name.lower()) or (exclude and matches(path, exclude)):
            continue
        if _is_folder(entry):
            folders.append((path, entry.is_symlink()))
            if not entry.name.lower().endswith((".rtdc", ".tdms")):
                continue
        files.append((path, entry))
    return folders, files


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a link to one; a link that cannot be followed is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _take_files(
    tree: Tree,
    folder: str,
    files: list[tuple[str, os.DirEntry[str]]],
    include: Sequence[str],
    settings_log: bool,
) -> None:
    """Add the measurements, companions, settings and tasks of one folder to the tree."""
    plain: dict[str, SourceFile] = {}
    measured: list[tuple[str, str, str]] = []
    for path, entry in files:
        name, lower = entry.name, entry.name.lower()
        suffix = lower[-5:] if lower.endswith((".rtdc", ".tdms")) else ""
        seen, problem = _look(path, entry)
        if entry.is_symlink() or folder in tree.links:
            tree.links.add(path)
        if seen is not None:
            plain[name] = seen
        if suffix and not _NO_MEASUREMENT.match(lower) and matches(path, include):
            measured.append((name, suffix[1:], problem))
    taken = _take_measurements(tree, folder, measured, plain, settings_log)
    for name, seen in plain.items():
        if name == FOLDER_FILE:
            tree.settings[folder] = seen
        elif _ALMOST_SETTINGS.fullmatch(name):
            tree.misnamed.append(seen.path)
        elif name.lower().endswith(TASK_SUFFIX):
            tree.tasks.setdefault(folder, []).append(seen)
        elif name not in taken and not name.lower().endswith((".rtdc", ".tdms", ".tdms_index")):
            tree.companions.setdefault(folder, []).append(seen)


def _look(path: str, entry: os.DirEntry[str]) -> tuple[SourceFile | None, str]:
    """Return size and time of an entry, or what is wrong with it."""
    try:
        stat = entry.stat()
    except OSError as error:
        words = explain_os_error(error)
        if entry.is_symlink() and error.errno in (errno.ENOENT, errno.ELOOP):
            words = "a link to a file that does not exist"
        return None, words or str(error)
    if stat_module.S_ISDIR(stat.st_mode):
        return None, "a folder, not a file, although its name ends like a measurement's"
    if not stat_module.S_ISREG(stat.st_mode):
        return None, "not a regular file (a device, pipe or socket)"
    return SourceFile(path, stat.st_size, stat.st_mtime_ns), ""


def _take_measurements(
    tree: Tree,
    folder: str,
    measured: list[tuple[str, str, str]],
    plain: dict[str, SourceFile],
    settings_log: bool,
) -> set[str]:
    """Add a folder's measurements; return the names of all files that belong to them."""
    taken: set[str] = set()
    stems = {name[:-5].lower(): name for name, kind, wrong in measured if kind == "rtdc" and not wrong}
    converted: dict[str, str] = {}
    for name, kind, _ in measured:
        if kind == "tdms":
            taken |= {name, *_side_files(name, plain)}
            if name[:-5].lower() in stems:
                converted[stems[name[:-5].lower()]] = name
    for name, kind, problem in measured:
        path = f"{folder}/{name}" if folder else name
        taken.add(name)
        if name in converted.values():
            rtdc = next(r for r, tdms in converted.items() if tdms == name)
            tree.converted[path] = f"{folder}/{rtdc}" if folder else rtdc
            continue
        if kind == "tdms":
            names = [name, *_side_files(name, plain)]
        else:
            names = [name, *(_settings_file(name, plain) if settings_log else [])]
            taken |= set(names)
        files = tuple(plain[n] for n in names if n in plain)
        note = (
            f"{converted[name]} beside it is the same measurement, unconverted" if name in converted else ""
        )
        tree.measurements.append(
            Found(tree.name, path, kind, files, note, problem, linked=path in tree.links)
        )
    return taken


def _settings_file(name: str, plain: dict[str, SourceFile]) -> list[str]:
    """Return the settings of the acquisition software that belong to the measurement `M*.rtdc`."""
    wanted = f"{re.split(r'[_.]', name)[0]}_SoftwareSettings.ini"
    return [wanted] if name.startswith("M") and wanted in plain else []


def _side_files(name: str, plain: dict[str, SourceFile]) -> list[str]:
    """Return the names of the files that belong to the .tdms measurement `name`."""
    stem = name[:-5].lower()
    prefix = re.split(r"[_.]", stem)[0] + "_"
    found = []
    for other in plain:
        lower = other.lower()
        if lower == name.lower() or lower == FOLDER_FILE:
            continue
        if lower.endswith(".tdms"):
            mine = lower == f"{stem}_traces.tdms"
        elif lower.endswith(".tdms_index"):
            mine = lower in (f"{stem}.tdms_index", f"{stem}_traces.tdms_index")
        else:
            mine = lower.startswith(prefix) and lower.endswith(SIDE_SUFFIXES)
        if mine or lower in SIDE_NAMES:
            found.append(other)
    return sorted(found)
