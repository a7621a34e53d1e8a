"""Prepare one measurement: convert, write body and tail, put it in its place, keep a record."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from dcorflow import recipes
from dcorflow.compress.basins import Neighbour
from dcorflow.compress.body import Body, BodySettings, write_body
from dcorflow.compress.edits import RootAttributes, apply_edits, values_before
from dcorflow.compress.tail import restore_body, same_tail, write_history, write_tail
from dcorflow.convert import convert, guessed_before
from dcorflow.dclab_parts import dclab_version
from dcorflow.engine import Helpers
from dcorflow.errors import MeasurementError, explain_os_error, os_error_code
from dcorflow.files import content_digest, copy_file, replacing, scratch_folder
from dcorflow.hdf5 import text_of
from dcorflow.metadata.edit import Edit
from dcorflow.records import SOURCE_SHA256, Failure, Record, SourceFile, load_record, save_record, stat_files
from dcorflow.seal import sha256_of
from dcorflow.source.neighbours import neighbours_of
from dcorflow.workdir import Workdir

#: Attributes that later stages show or sort by.
_FACTS = ("experiment:run index", "experiment:date", "experiment:time", "experiment:sample")


@dataclass(frozen=True)
class Entry:
    """One measurement of a batch plan."""

    measurement: str
    dataset: str
    name: str
    root: str
    folder: Path
    kind: str
    files: list[SourceFile]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Entry:
        """Build an entry from a plan file."""
        files = [SourceFile(*f) for f in data["files"]]
        return cls(**{**data, "folder": Path(data["folder"]), "files": files})

    @property
    def paths(self) -> list[Path]:
        """Main file, then side files."""
        return [self.folder / f.path for f in self.files]

    def target(self, work: Workdir) -> Path:
        """Where the prepared file belongs."""
        return work.datasets / self.dataset / self.name


def edits_of(plan: list[list[Any]]) -> list[Edit]:
    """Return the edits of a plan file."""
    return [Edit(*edit) for edit in plan]


def prepare(
    entry: Entry, settings: Mapping[str, Any], edits: list[list[Any]], work: Workdir, threads: int
) -> Record:
    """Make the prepared file of a measurement, or leave it where its record still holds.

    Parameters
    ----------
    entry
        What to prepare.
    settings
        The settings `prepare` of the configuration.
    edits
        Edits of the plan.
    work
        Work directory.
    threads
        Threads for this measurement.

    Returns
    -------
    Record
        As saved; with a `failure` where it could not be prepared.
    """
    old = load_record(work, entry.measurement)
    key = recipes.body_key(settings)
    needs_sha256 = settings["naming"] == "dckit"
    if old is not None and (kept := _still_holds(old, entry, key, work)):
        if needs_sha256 and not kept.failure and SOURCE_SHA256 not in kept.facts:
            kept.facts[SOURCE_SHA256] = sha256_of(entry.paths[0])
            save_record(work, kept)
        return kept
    record = Record(entry.measurement, entry.dataset, entry.root, entry.kind, entry.files, body_key=key)
    try:
        make(record, entry, settings, edits, entry.target(work), threads, _neighbour(entry.dataset, work))
        if needs_sha256:
            record.facts[SOURCE_SHA256] = sha256_of(entry.paths[0])
        _remove_old(old, entry.target(work), work)
    except MeasurementError as error:
        record.failure = Failure("compress", error.reason, error.failure)
    except OSError as error:
        words = explain_os_error(error)
        reason = words or f"reading or writing failed: {' '.join(str(error).split())}"
        record.failure = Failure("compress", reason, "content" if error.errno is None else "environment")
    except MemoryError:
        words = "not enough memory to prepare it; give the job more and run again"
        record.failure = Failure("compress", words, "environment")
    save_record(work, record)
    return record


def _still_holds(old: Record, entry: Entry, key: str, work: Workdir) -> Record | None:
    """Return the old record, adapted to new places and times, where nothing must be made again."""
    if old.body_key != key or old.kind != entry.kind:
        return None
    if [f.size for f in old.files] != [f.size for f in entry.files]:
        return None
    changed = old.files != entry.files
    basins = old.body.get("basins", {})
    if basins and neighbours_of(work.inventory).differ(entry.dataset, basins):
        return None
    if old.failure is not None:
        return old if old.failure.failure != "environment" and not changed else None
    try:
        touched = [f.mtime_ns for f in old.files] != [f.mtime_ns for f in entry.files]
        if touched and content_digest(entry.paths) != old.content:
            return None
        moved = _bring_home(old, entry, work)
    except OSError:
        return None
    if moved is None:
        return None
    if changed or moved:
        old.files, old.root = entry.files, entry.root
        save_record(work, old)
    return old


def _bring_home(old: Record, entry: Entry, work: Workdir) -> bool | None:
    """Put an intact prepared file into its place.

    Returns
    -------
    bool or None
        Whether the record had to be adapted; None where the file is missing or altered.
    """
    place = work.datasets / old.dataset / old.prepared["name"]
    target = entry.target(work)
    if place != target and not place.exists() and target.exists():
        place = target  # moved by a job that was killed before it could write the record
    stat = place.stat()
    if stat.st_size != old.prepared["size"]:
        return None
    if stat.st_mtime_ns != old.prepared["mtime_ns"]:
        sha256 = old.prepared.get("sha256")
        if not sha256 or sha256_of(place) != sha256:
            return None
    before = (old.dataset, old.prepared["name"], old.prepared["mtime_ns"])
    adapted = before != (entry.dataset, entry.name, stat.st_mtime_ns)
    if place != target:
        target.parent.mkdir(parents=True, exist_ok=True)
        place.rename(target)
    old.dataset = entry.dataset
    old.prepared |= {"name": entry.name, "mtime_ns": stat.st_mtime_ns}
    return adapted


def _neighbour(dataset: str, work: Workdir) -> Neighbour:
    """Return what names the prepared file of a dataset for the path of a basin."""
    return lambda path: neighbours_of(work.inventory).name(dataset, path)


def _remove_old(old: Record | None, target: Path, work: Workdir) -> None:
    """Remove the prepared file under its former name; it is made anew under another one."""
    if old is None or "name" not in old.prepared:
        return
    place = work.datasets / old.dataset / old.prepared["name"]
    try:
        if place != target and old.describes(place.stat()):
            place.unlink()
            place.parent.rmdir()
    except OSError:
        pass  # not there any more, or not the last file of its folder


def make(
    record: Record,
    entry: Entry,
    settings: Mapping[str, Any],
    edits: list[list[Any]],
    target: Path,
    threads: int,
    neighbour: Neighbour = lambda path: "",
) -> None:
    """Write the prepared file `target` and fill in the record.

    Raises
    ------
    MeasurementError
        Where the measurement cannot be prepared, or its source changed meanwhile.
    OSError
        Where the target cannot be written.
    """
    _refuse_changed(entry)
    try:
        _write(record, entry, settings, edits, target, threads, neighbour)
    except (MeasurementError, RuntimeError) as error:
        _refuse_changed(entry)  # that is the reason, then
        if isinstance(error, RuntimeError):
            raise _hdf5_error(error, target) from error
        raise
    except (TypeError, ValueError, LookupError) as error:  # whatever a damaged file provokes inside h5py
        _refuse_changed(entry)
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise MeasurementError(
            f"it is damaged, or has something unexpected ({said}): copy it again from the instrument; if "
            "that changes nothing, please report this"
        ) from error
    stat = target.stat()
    record.prepared = {"name": entry.name, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _hdf5_error(error: RuntimeError, target: Path) -> MeasurementError | OSError:
    """Return what an error of HDF5 means: h5py raises `RuntimeError` for most of them."""
    code = os_error_code(error)
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OSError(code, os.strerror(code), str(target))
    if words := explain_os_error(error):
        return MeasurementError(words, "environment")
    said = " ".join(str(error).split())
    return MeasurementError(f"HDF5 cannot read it ({said}): copy it again from the instrument")


def _write(
    record: Record,
    entry: Entry,
    settings: Mapping[str, Any],
    edits: list[list[Any]],
    target: Path,
    threads: int,
    neighbour: Neighbour,
) -> None:
    body_settings = BodySettings.from_plan(settings)
    size = sum(f.size for f in entry.files)
    with (
        replacing(target) as temp,
        Helpers(threads) as helpers,
        helpers.beside(content_digest, entry.paths, size) as digest,
    ):
        if entry.kind == "tdms":
            with scratch_folder(target.parent) as scratch:
                converted = scratch / "converted.rtdc"
                changes, guessed = convert(entry.paths[0], converted)
                body = write_body(converted, temp, body_settings, helpers, neighbour)
                body.changed[:0] = changes
                record.facts["note"] = next((c["how"] for c in changes if c["how"].startswith("only ")), "")
        else:
            path, *beside = entry.paths
            body = write_body(path, temp, body_settings, helpers, neighbour, beside)
            guessed = guessed_before(path)
        record.content = digest()
        record.body = body.as_dict() | {"dclab": dclab_version(), "guessed": guessed}
        _add_tail(record, temp, edits)
        _refuse_changed(entry)


def _refuse_changed(entry: Entry) -> None:
    """Raise where the source is not what discover saw."""
    now = stat_files(entry.folder, [f.path for f in entry.files])
    for seen, found in zip(entry.files, now, strict=True):
        if seen != found:
            raise MeasurementError(
                f"{found.path} changed while dcorflow was working (expected {seen.size} bytes, found "
                f"{found.size}); run again when it is complete",
                "environment",
            )


def _add_tail(
    record: Record, path: Path, edits: list[list[Any]], known: Mapping[str, Any] | None = None
) -> None:
    """Write attributes and history behind a body, and note in the record how to take them off.

    Of the body's attributes, `known` need not be read.
    """

    def fill(h5: h5py.File) -> None:
        guessed = record.body.get("guessed", {})
        values = RootAttributes(h5, known)
        record.edits, record.guessed = apply_edits(values, edits_of(edits), record.body["dclab"], guessed)
        record.metadata = values.values()
        record.facts |= _facts_of(h5, record.metadata)
        record.facts["events"] = values.facts.get("experiment:event count", 0)
        write_history(h5, history(record))

    record.restore = write_tail(path, fill, record.restore)
    if not record.facts["events"]:
        raise MeasurementError("no events: the recording holds zero events")
    record.tail_key = recipes.tail_key(edits)


def _facts_of(h5: h5py.File, values: Mapping[str, Any]) -> dict[str, str]:
    """Return the attributes that later stages show, as text; `values` are those that are known."""
    facts = {}
    for key in _FACTS:
        known = values.get(key)
        if isinstance(known, str | int):  # others look different as h5py reads them
            facts[key.partition(":")[2]] = str(known)
        elif key in h5.attrs:
            facts[key.partition(":")[2]] = text_of(h5.attrs[key])
    return facts


def history(record: Record) -> dict[str, Any]:
    """Return what the prepared file tells of its preparation: no clock, host, user or path."""
    body = Body(**{k: record.body[k] for k in ("datasets", "dropped", "changed", "added")})
    return {
        "software": "dcorflow",
        "recipe": {
            "convert": recipes.CONVERT,
            "compress": recipes.COMPRESS,
            "edits": recipes.EDITS,
            "dclab": record.body["dclab"],
        },
        "source": {"format": record.kind, "content": record.content},
        "dropped": body.dropped,
        "changed": body.changed,
        "added": body.added,
        "edits": [{k: e[k] for k in ("key", "old", "new", "kind")} for e in record.edits],
    }


class _Unchanged(Exception):
    """Other edits gave the same bytes."""


class Replaced(Exception):
    """A prepared file is not the one that its record describes: a job ended between the two."""


def replace_tail(record: Record, edits: list[list[Any]], work: Workdir) -> Record:
    """Apply other edits to a prepared file without touching its data.

    A file that would get the bytes it has is left alone. The caller syncs its folder.

    Raises
    ------
    OSError
        Where the file cannot be copied or written; it then stays as it was.
    Replaced
        Where the file is another one than the record's: what takes off the tail of that one would
        leave parts of the other in place.
    """
    target = work.datasets / record.dataset / record.prepared["name"]
    before = record.restore
    try:
        with replacing(target, sync=False) as temp:
            copy_file(target, temp, before["length"])
            if not record.describes(target.stat()):  # after the copy, as another job may be at work
                raise Replaced(str(target))
            restore_body(temp, before)
            _add_tail(record, temp, edits, values_before(record.metadata, record.edits))
            if record.restore["pages"] == before["pages"] and same_tail(temp, target, before):
                raise _Unchanged
    except _Unchanged:
        return record
    stat = target.stat()
    record.prepared = {"name": target.name, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    return record
