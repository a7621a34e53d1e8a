"""From settings to decisions: the fields of each dataset."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from typing import Any

from dcorflow.config import Config
from dcorflow.facts import dcor
from dcorflow.metadata.folders import FolderSettings
from dcorflow.metadata.keys import nearest
from dcorflow.metadata.sheet import DatasetSheet

MANDATORY = ("authors", "license_id", "owner_org")
#: Titles, in lower case, that say nothing about a dataset.
_GENERIC_TITLES = ("data", "dataset", "daten", "measurement", "measurements", "messung", "messungen",
                   "new folder", "neuer ordner", "raw", "rawdata", "raw data", "rtdc", "test",
                   "untitled")  # fmt: skip

#: A DOI or its address: DCOR takes any text, and keeps it for good.
_DOI = re.compile(r"(https?://\S+/)?10\.\d{4,9}(\.\d+)*/\S+")
#: What CKAN takes as a tag (`ckan.logic.validators.tag_name_validator` and `tag_length_validator`).
_TAG = re.compile(r"[\w .-]{2,100}")


def title_problems(config: Config) -> list[str]:
    """Return what is wrong with the title template of a configuration."""
    by = config["datasets"]["by"]
    groups = [] if by == "directory" else list(re.compile(by).groupindex)
    known = {"directory", "path", "dataset", *groups}
    try:
        names = {n: s or c for _, n, s, c in string.Formatter().parse(config["datasets"]["title"])}
    except ValueError as error:
        return [f"'datasets.title': {error}"]
    return [
        f"'datasets.title': unknown placeholder '{{{name}}}'; known: {', '.join(sorted(known))}"
        for name, extra in names.items()
        if name is not None and (name not in known or extra)
    ]


def is_generic_title(title: str) -> bool:
    """Return whether a title says nothing: a stock word, or no three letters in a row."""
    return title.strip().lower() in _GENERIC_TITLES or not re.search(r"[^\W\d_]{3}", title)


def resolve_dataset(
    config: Config,
    folders: FolderSettings,
    sheet: DatasetSheet,
    dataset: str,
    key: str,
    sources: list[tuple[str, str]],
) -> tuple[dict[str, Any], list[str]]:
    """Return the fields of a dataset and what is wrong with them.

    Parameters
    ----------
    config, folders, sheet
        Settings, files in the source folders, and the sheet of datasets, which wins.
    dataset
        Its identifier.
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
        closest: dict[str, tuple[Any, str]] = {}
        for layer in folders.layers(root, source):
            if not layer.single:
                closest |= {k: (v, layer.where) for k, v in (layer.settings.get("dataset") or {}).items()}
        for name, (value, where) in closest.items():
            if name in said and said[name][0] != value:
                wrong.append(
                    f"dataset of '{key}': two values for '{name}': {said[name][0]!r} in {said[name][1]}, "
                    f"{value!r} in {where}; keep one"
                )
            said.setdefault(name, (value, where))
    fields |= {name: value for name, (value, _) in said.items()}
    if sources and all(_accepts_incomplete(folders, *place) for place in sources):
        fields["accept_incomplete"] = True
    in_sheet, problems = sheet.entry(dataset)
    for name, cell in in_sheet.items():
        fields[name] = cell.value
        if cell.value is None:
            del fields[name]
    wrong += problems
    if "title" not in fields:
        try:
            fields["title"] = make_title(config, key, sources)
        except (KeyError, ValueError, IndexError) as error:
            wrong.append(f"configuration: datasets.title: {error}")
    fields.setdefault("private", True)
    for name, problem_of in (
        ("license_id", _licence_problem),
        ("doi", _doi_problem),
        ("tags", _tags_problem),
    ):
        if fields.get(name) and (words := problem_of(fields[name])):
            where = said.get(name, ("", "configuration, datasets.defaults"))[1]
            wrong.append(f"{in_sheet[name].where if name in in_sheet else where}: {words}")
    return fields, list(dict.fromkeys(wrong))


def _licence_problem(licence: str) -> str:
    known = list(dcor()["licenses"])
    if licence in known:
        return ""
    near = nearest(licence, known)
    hint = f"did you mean '{near}'?" if near else f"known: {', '.join(known)}"
    return f"DCOR has no licence '{licence}'; {hint}"


def _doi_problem(doi: str) -> str:
    words = f"expected a DOI such as 10.1038/nmeth.3281, or its address, found '{doi}'"
    return "" if _DOI.fullmatch(doi) else words


def _tags_problem(tags: list[str]) -> str:
    odd = [tag for tag in tags if not _TAG.fullmatch(tag)]
    what = "expected 2 to 100 letters, digits, blanks, '-', '_' and '.' for each tag"
    return f"{what}, found {', '.join(map(repr, odd))}" if odd else ""


def _accepts_incomplete(folders: FolderSettings, root: str, source: str) -> bool:
    """Return whether the folder of a measurement says that its dataset may be incomplete."""
    said = [layer.settings.get("accept_incomplete") for layer in folders.layers(root, source)]
    return bool([word for word in said if word is not None][-1:] == [True])


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
