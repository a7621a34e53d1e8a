"""The body of a prepared file: events, tables, logs, basins, attributes as the source has them."""

from __future__ import annotations

import fnmatch
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from dcorflow import engine
from dcorflow.compress.basins import Neighbour, rewrite_basin
from dcorflow.compress.redacted import redact_rows
from dcorflow.dclab_parts import defective_features, definitions
from dcorflow.errors import MeasurementError, os_error_code
from dcorflow.hdf5 import HISTORY_LOG, Entry, basin_definitions, open_source, refuse_outside_data
from dcorflow.privacy.redact import Redacted, Redactor, decode

#: Features that map the events of a basin (dclab.rtdc_dataset.copier.rtdc_copy).
_BASINMAP = re.compile("^basinmap[0-9]*$")
_GROUPS = ("events", "logs", "tables", "basins", "basin_events")
_STATISTICS = (("min", np.nanmin), ("max", np.nanmax), ("mean", np.nanmean))

#: Bytes of a userblock that are copied at once.
_BLOCK = 1 << 20

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
    redactor
        Replaces private text in everything that is written.
    """

    encoder: Literal["compat", "best"] = "compat"
    logs: LogRule = "keep"
    redactor: Redactor = field(default_factory=lambda: Redactor([], {}))

    @classmethod
    def from_plan(cls, prepare: Mapping[str, Any]) -> BodySettings:
        """Return the settings `prepare` of a plan."""
        return cls(prepare["encoder"], prepare["logs"], Redactor.from_settings(prepare))

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
    dropped: list[dict[str, Any]] = field(default_factory=list)
    changed: list[dict[str, Any]] = field(default_factory=list)
    added: list[dict[str, str]] = field(default_factory=list)
    #: Paths that basins refer to, and the prepared file of the dataset that each one became.
    basins: dict[str, str] = field(default_factory=dict)

    def drop(self, what: str, why: str, redactor: Redactor | None = None) -> None:
        """Note that `what` of the source is not in the body; its name may be private, too."""
        shown, done = redactor.text(what) if redactor else (what, Redacted())
        self.dropped.append({"what": shown, "why": why} | ({"marks": sorted(done.marks)} if done else {}))

    def change(self, what: str, how: str) -> None:
        """Note that `what` is in the body, but not as it was."""
        self.changed.append({"what": what, "how": how})

    def redact(self, what: str, done: Redacted) -> None:
        """Note that private text of `what` was replaced: which rules, how often, by which marks."""
        if done:
            self.changed.append({"what": what, "how": done.words(), "marks": sorted(done.marks)})

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for the record."""
        return dict(vars(self))


class _Writer:
    """Copies one source file; the state is what was noted so far."""

    def __init__(
        self,
        source: h5py.File,
        target: h5py.File,
        settings: BodySettings,
        helpers: engine.Helpers,
        neighbour: Neighbour,
    ) -> None:
        self.source, self.target = source, target
        self.settings, self.helpers, self.neighbour = settings, helpers, neighbour
        self.redactor = settings.redactor
        self.body = Body()
        self.credit = engine.Credit()
        self.ahead: dict[str, engine.Outlook] = {}
        #: What waits for the digest of each dataset.
        self.pending: dict[str, Callable[[], str]] = {}
        self.basins = basin_definitions(source)

    def copy(self, entries: list[Entry], beside: Sequence[Path]) -> Body:
        skipped: list[str] = []
        self._copy_attributes("/", self.target)
        self._look_ahead(entries)
        for entry in entries:
            if any(entry.path.startswith(path + "/") for path in skipped):
                continue
            self.helpers.pump()
            if reason := self._why_not(entry):
                self.body.drop(entry.path, reason, self.redactor)
                skipped.append(entry.path)
            elif entry.kind == "group":
                self._copy_group(entry)
            else:
                self._copy_dataset(entry)
        for name in ("events", "logs"):
            self.target.require_group(name)
        for path in beside:
            self._add_log(path)
        for name, digest in self.pending.items():
            self.body.datasets[name]["digest"] = digest()
        return self.body

    def _look_ahead(self, entries: list[Entry]) -> None:
        """Let helpers look at the large features, while small ones, which come first, are copied."""
        for entry in entries:
            if (
                entry.kind != "dataset"
                or not entry.path.startswith(("events/", "basin_events/"))
                or self._why_not(entry)
            ):
                continue
            found = engine.look_ahead(self.source[entry.path], self.settings.encoder, self.helpers)
            if found is not None:
                self.ahead[entry.path] = found

    def _add_log(self, path: Path) -> None:
        """Store a text file beside the measurement as a log; a log of this name that is there stays."""
        name = path.name
        if f"logs/{name}" in self.source or not self.settings.keeps_log(name):
            return
        text, _ = decode(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
        lines, done = self.redactor.values([line.rstrip() for line in text.splitlines()] or [""])
        self._note_copied(f"logs/{name}", engine.write_array(self.target["logs"], name, text_lines(lines)))
        self.body.added.append({"what": f"logs/{name}", "how": "stored from the file beside the measurement"})
        self.body.redact(f"logs/{name}", done)

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

    def _copy_attributes(self, path: str, target: h5py.Group | h5py.Dataset) -> None:
        redacted: dict[str, Redacted] = {}
        change = self._text_change(redacted)
        try:
            self._drop_attributes(path, engine.copy_attributes(self.source[path], target, change))
        except engine.UnsupportedDataset as error:
            raise MeasurementError(f"{error}; it cannot be published", "unfit") from error
        self._note_redacted(path, redacted)

    def _text_change(self, redacted: dict[str, Redacted]) -> engine.TextChange | None:
        """Return what redacts text attributes, and notes by name what it replaced."""
        if not self.redactor.active:
            return None

        def change(name: str, text: bytes) -> bytes:
            text, done = self.redactor.raw(text, name)
            redacted.setdefault(name, Redacted()).update(done)
            return text

        return change

    def _note_redacted(self, path: str, redacted: dict[str, Redacted]) -> None:
        for name, done in redacted.items():
            self.body.redact(f"{path}@{name}", done)

    def _drop_attributes(self, path: str, names: Iterable[str]) -> None:
        for name in names:
            words = "reference attribute: points into the source file"
            self.body.drop(f"{path}@{name}", words, self.redactor)

    def _copy_dataset(self, entry: Entry) -> None:
        source = self.source[entry.path]
        parent, _, name = entry.path.rpartition("/")
        group = self.target.require_group(parent) if parent else self.target
        if parent == "basins" and self._rewrite_basin(entry.path, name):
            return
        redacted: dict[str, Redacted] = {}
        change = self._text_change(redacted)
        try:
            if not self._copy_redacted(source, entry.path, group, change):
                copied = engine.copy_dataset(
                    source,
                    group,
                    name,
                    encoder=self.settings.encoder,
                    threads=self.helpers,
                    credit=self.credit,
                    change=change,
                    outlook=self.ahead.pop(entry.path, None),
                )
                self._note_copied(entry.path, copied)
        except engine.UnsupportedDataset as error:
            raise MeasurementError(f"{error}; it cannot be published", "unfit") from error
        except (OSError, RuntimeError) as error:
            if os_error_code(error) is not None:
                raise
            said = " ".join(str(error).split())
            raise MeasurementError(
                f"dataset '/{entry.path}' cannot be read ({said}): copy the file again from the instrument"
            ) from error
        self._note_redacted(entry.path, redacted)
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
        if dataset.dtype.kind not in "biufc":
            return
        missing = [(attr, fct) for attr, fct in _STATISTICS if attr not in dataset.attrs]
        if missing:
            values = dataset[:]
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a feature without any number
                for attr, function in missing:
                    _add_number(dataset, attr, function(values))
            self.body.added.append({"what": path, "how": ", ".join(a for a, _ in missing)})

    def _note_copied(self, path: str, copied: engine.Copied) -> None:
        self._drop_attributes(path, copied.attributes_left)
        self.pending[path] = copied.pending
        self.body.datasets[path] = {
            "digest": "",
            "bytes": copied.decoded_bytes,
            "stored": copied.stored_bytes,
            "encoding": copied.encoding,
        }

    def _copy_redacted(
        self, source: h5py.Dataset, path: str, group: h5py.Group, change: engine.TextChange | None
    ) -> bool:
        """Write a dataset with text without what is private; return False where it has nothing private.

        The record then holds the digest of the source's content, too.
        """
        if not self.redactor.active:
            return False
        rows, done = redact_rows(source, self.redactor)
        if rows is None:
            return False
        digest = engine.digest_dataset(source)  # verifies the checksums
        name = path.rpartition("/")[2]
        self._note_copied(path, engine.write_array(group, name, rows))
        self._drop_attributes(path, engine.copy_attributes(source, group[name], change))
        self.body.datasets[path]["source_digest"] = digest
        self.body.redact(path, done)
        return True

    def _rewrite_basin(self, path: str, name: str) -> bool:
        """Write the definition of a basin where it cannot stay as it is; return False where it can.

        The features of an internal basin were copied before: in the order of paths, `basin_events`
        comes first.
        """
        if name not in self.basins:
            return False
        there = set(self.target.get("basin_events", {}))
        new = rewrite_basin(self.basins[name], there, self.redactor, self.neighbour)
        self.body.basins |= new.files
        if new.lines is None:
            self.body.drop(path, new.how)
        elif new.how or new.redacted:
            digest = engine.digest_dataset(self.source[path])
            group = self.target.require_group("basins")
            self._note_copied(path, engine.write_array(group, name, text_lines(new.lines)))
            self._copy_attributes(path, group[name])
            self.body.datasets[path]["source_digest"] = digest
            if new.how:
                self.body.change(path, new.how)
            self.body.redact(path, new.redacted)
        return new.lines is None or path in self.body.datasets


def _add_number(dataset: h5py.Dataset, name: str, value: np.generic) -> None:
    """Add a numeric attribute (through the low-level interface: a file has a hundred of them)."""
    kind = h5py.h5t.py_create(value.dtype, logical=True)
    space = h5py.h5s.create(h5py.h5s.SCALAR)
    h5py.h5a.create(dataset.id, name.encode(), kind, space).write(np.asarray(value))


def text_lines(lines: list[str]) -> np.ndarray:
    """Return text as fixed-length UTF-8, at least 100 bytes a line, as dclab writes logs."""
    encoded = [line.encode("utf-8") for line in lines]
    return np.array(encoded, dtype=f"S{max([100, *map(len, encoded)])}")


def write_body(
    path_in: Path,
    path_out: Path,
    settings: BodySettings,
    threads: int | engine.Helpers = 1,
    neighbour: Neighbour = lambda path: "",
    beside: Sequence[Path] = (),
) -> Body:
    """Write the body of `path_in` to the (existing or new) file `path_out`.

    Parameters
    ----------
    path_in
        An `.rtdc` file; opened read-only.
    path_out
        Written from its beginning.
    settings
        Encoder, log rules, redaction.
    threads
        Processes that encode, or the helpers that do; the bytes do not depend on it.
    neighbour
        Gives the name of the prepared file of the same dataset that the path of a basin stands for,
        "" where there is none.
    beside
        Text files to store as logs.

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
                with engine.helpers_of(threads) as helpers:
                    body = _Writer(source, target, settings, helpers, neighbour).copy(entries, beside)
            except engine.CorruptChunk as error:
                raise MeasurementError(str(error)) from error
    if front:
        with path_in.open("rb") as src, path_out.open("r+b") as dst:
            for start in range(0, front, _BLOCK):
                dst.write(src.read(min(_BLOCK, front - start)))
    return body
