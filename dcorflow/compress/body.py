"""The body of a prepared file: events, tables, logs, basins, attributes as the source has them."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from dcorflow import engine
from dcorflow.dclab_parts import defective_features, definitions
from dcorflow.errors import MeasurementError
from dcorflow.hdf5 import Entry, open_source, refuse_outside_data

#: The log this project writes into each prepared file.
HISTORY_LOG = "dcorflow-history"
#: Features that map the events of a basin (dclab.rtdc_dataset.copier.rtdc_copy).
_BASINMAP = re.compile("^basinmap[0-9]*$")
_GROUPS = ("events", "logs", "tables", "basins", "basin_events")
_STATISTICS = (("min", np.nanmin), ("max", np.nanmax), ("mean", np.nanmean))

LogRule = Literal["keep", "strip"] | dict[str, list[str]]


@dataclass(frozen=True)
class BodySettings:
    """What decides over the bytes of a body, beside the source.

    Parameters
    ----------
    encoder
        ``compat`` (dclab's filters) or ``best`` (byte or bit shuffle in front where it pays).
    logs
        ``keep``, ``strip``, or a mapping with the lists ``keep`` and ``drop`` of log name patterns.
    """

    encoder: Literal["compat", "best"] = "compat"
    logs: LogRule = "keep"

    def keeps_log(self, name: str) -> bool:
        """Return whether the log `name` goes into the prepared file."""
        if isinstance(self.logs, str):
            return self.logs == "keep"
        drop = any(fnmatch.fnmatchcase(name, p) for p in self.logs.get("drop", []))
        keep = self.logs.get("keep")
        return not drop and (keep is None or any(fnmatch.fnmatchcase(name, p) for p in keep))


@dataclass
class Body:
    """What was done to a source, one by one (invariant: lossless, proven)."""

    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)
    dropped: list[dict[str, str]] = field(default_factory=list)
    changed: list[dict[str, str]] = field(default_factory=list)
    added: list[dict[str, str]] = field(default_factory=list)

    def drop(self, what: str, why: str) -> None:
        """Note that `what` of the source is not in the body."""
        self.dropped.append({"what": what, "why": why})

    def change(self, what: str, how: str) -> None:
        """Note that `what` is in the body, but not as it was."""
        self.changed.append({"what": what, "how": how})

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for the record."""
        return asdict(self)


class _Writer:
    """Copies one source file; the state is what was noted so far."""

    def __init__(self, source: h5py.File, target: h5py.File, settings: BodySettings, threads: int) -> None:
        self.source, self.target = source, target
        self.settings, self.threads = settings, threads
        self.body = Body()
        self.credit = engine.Credit()
        self.basins = _basin_definitions(source)

    def copy(self, entries: list[Entry]) -> Body:
        skipped: list[str] = []
        self._copy_attributes("/", self.target)
        for entry in entries:
            if any(entry.path.startswith(path + "/") for path in skipped):
                continue
            if reason := self._why_not(entry):
                self.body.drop(entry.path, reason)
                skipped.append(entry.path)
            elif entry.kind == "group":
                self._copy_group(entry)
            else:
                self._copy_dataset(entry)
        for name in ("events", "logs"):
            self.target.require_group(name)
        self._rewrite_basins()
        return self.body

    def _why_not(self, entry: Entry) -> str | None:
        """Return why an object of the source is left out, None where it is copied."""
        if entry.kind == "broken":
            return "broken link: its target does not exist"
        if entry.kind == "cycle":
            return "link in a circle"
        if entry.kind == "datatype":
            return "named data type: its users carry their type themselves"
        section, _, name = entry.path.partition("/")
        if not name and section in _GROUPS and entry.kind == "dataset":
            return "a dataset where the format has a group"
        if not name or "/" in name:
            return None
        if section == "logs" and name == HISTORY_LOG:
            return "history of an earlier run: replaced"
        if section == "logs" and not self.settings.keeps_log(name):
            return "log stripped (setting prepare.logs)"
        if section in ("events", "basin_events"):
            return self._why_no_feature(section, name)
        return None

    def _why_no_feature(self, section: str, name: str) -> str | None:
        if section == "events" and _BASINMAP.match(name):
            return None
        if not definitions().feature_exists(name):
            return "unknown feature: dclab does not define it"
        if section == "events" and name in defective_features():
            try:
                defective = bool(defective_features()[name](self.source))
            except (AttributeError, IndexError, ValueError, TypeError):
                return None  # an attribute of an unexpected type: keep what cannot be judged
            if defective:
                return "defective feature: known to be computed wrongly; dclab computes it afresh"
        return None

    def _copy_group(self, entry: Entry) -> None:
        self._copy_attributes(entry.path, self.target.require_group(entry.path))

    def _copy_attributes(self, path: str, target: h5py.Group) -> None:
        self._drop_attributes(path, engine.copy_attributes(self.source[path], target))

    def _drop_attributes(self, path: str, names: Iterable[str]) -> None:
        for name in names:
            self.body.drop(f"{path}@{name}", "reference attribute: points into the source file")

    def _copy_dataset(self, entry: Entry) -> None:
        source = self.source[entry.path]
        parent, _, name = entry.path.rpartition("/")
        group = self.target.require_group(parent) if parent else self.target
        try:
            copied = engine.copy_dataset(
                source, group, name, encoder=self.settings.encoder, threads=self.threads, credit=self.credit
            )
        except engine.UnsupportedDataset as error:
            raise MeasurementError(f"{error}; it cannot be published", "unfit") from error
        self._drop_attributes(entry.path, copied.attributes_left)
        self.body.datasets[entry.path] = {
            "digest": copied.digest,
            "bytes": copied.decoded_bytes,
            "stored": copied.stored_bytes,
            "encoding": copied.encoding,
        }
        if entry.soft:
            self.body.change(entry.path, "link replaced by the data it points to")
        if source.shape == ():
            self.body.change(entry.path, "single value stored as a list of one")
        if h5py.check_string_dtype(source.dtype) and source.dtype.kind == "O":
            self.body.change(entry.path, "variable-length text stored with a fixed length")
        if parent == "events":
            self._complete_statistics(entry.path, group[name])

    def _complete_statistics(self, path: str, dataset: h5py.Dataset) -> None:
        """Add the attributes min, max, mean that dclab reads instead of the data."""
        name = path.partition("/")[2]
        if dataset.ndim != 1 or not dataset.size or not definitions().scalar_feature_exists(name):
            return
        missing = [(attr, fct) for attr, fct in _STATISTICS if attr not in dataset.attrs]
        if missing:
            values = dataset[:]
            with np.errstate(all="ignore"):
                for attr, function in missing:
                    _add_number(dataset, attr, function(values))
            self.body.added.append({"what": path, "how": ", ".join(a for a, _ in missing)})

    def _rewrite_basins(self) -> None:
        """Take features that were dropped out of the definitions of internal basins."""
        for name, definition in self.basins.items():
            if definition.get("type") != "internal":
                continue
            wanted = definition.get("features") or []
            kept = [f for f in wanted if f"basin_events/{f}" in self.target]
            if kept == wanted:
                continue
            del self.target[f"basins/{name}"]
            del self.body.datasets[f"basins/{name}"]
            how = f"features left in this internal basin: {', '.join(kept) or 'none'}"
            if not kept:
                self.body.drop(f"basins/{name}", how)
                continue
            self.body.change(f"basins/{name}", how)
            lines = json.dumps(definition | {"features": kept}, indent=2).split("\n")
            engine.write_array(self.target["basins"], name, _text_lines(lines))


def _add_number(dataset: h5py.Dataset, name: str, value: np.generic) -> None:
    """Add a numeric attribute (through the low-level interface: a file has a hundred of them)."""
    kind = h5py.h5t.py_create(value.dtype, logical=True)
    space = h5py.h5s.create(h5py.h5s.SCALAR)
    h5py.h5a.create(dataset.id, name.encode(), kind, space).write(np.asarray(value))


def _text_lines(lines: list[str]) -> np.ndarray:
    """Return text as fixed-length UTF-8, at least 100 bytes a line, as dclab writes logs."""
    encoded = [line.encode("utf-8") for line in lines]
    return np.array(encoded, dtype=f"S{max([100, *map(len, encoded)])}")


def _basin_definitions(source: h5py.File) -> dict[str, dict[str, Any]]:
    """Return the basins a file defines; one that is no JSON is kept as it is."""
    found = {}
    group = source.get("basins")
    for name in group if isinstance(group, h5py.Group) else []:
        try:
            lines = [ln.decode("utf-8") if isinstance(ln, bytes) else ln for ln in group[name][:]]
            definition = json.loads(" ".join(lines))
        except (KeyError, OSError, ValueError, TypeError, AttributeError):
            continue
        if isinstance(definition, dict):
            found[name] = definition
    return found


def write_body(path_in: Path, path_out: Path, settings: BodySettings, threads: int = 1) -> Body:
    """Write the body of `path_in` to the (existing or new) file `path_out`.

    Parameters
    ----------
    path_in
        An `.rtdc` file; opened read-only.
    path_out
        Written from its beginning.
    settings
        Encoder and log rules.
    threads
        Threads that encode; the bytes do not depend on it.

    Returns
    -------
    Body
        Digest, size and encoding per dataset, and what was dropped, changed and added.

    Raises
    ------
    MeasurementError
        Where the source is damaged, or refers to data outside of itself.
    """
    with open_source(path_in) as source:
        entries = refuse_outside_data(source, path_in.stat().st_size)
        front = source.userblock_size
        with h5py.File(path_out, "w", locking=False, userblock_size=front) as target:
            try:
                body = _Writer(source, target, settings, threads).copy(entries)
            except engine.CorruptChunk as error:
                raise MeasurementError(str(error)) from error
    if front:
        with path_in.open("rb") as src, path_out.open("r+b") as dst:
            dst.write(src.read(front))
    return body
