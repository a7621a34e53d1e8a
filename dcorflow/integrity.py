"""Check a prepared measurement: dclab's findings, and every byte of the data against the source."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py

from dcorflow import engine, recipes
from dcorflow.cached_hdf5 import cached_reading
from dcorflow.compress.prepare import Entry, replace_tail
from dcorflow.cues import Cue, identify
from dcorflow.dclab_parts import dclab_version, load_dclab
from dcorflow.errors import MeasurementError, explain_os_error, is_interrupt
from dcorflow.hdf5 import HISTORY_LOG, members, open_source
from dcorflow.memory import release_memory
from dcorflow.metadata.keys import DATA_KEYS
from dcorflow.portrait.keys import holds
from dcorflow.privacy.document import Document, Finding, join_findings
from dcorflow.privacy.kinds import own
from dcorflow.privacy.scan import scan_body, tail_text
from dcorflow.privacy.settings import SHIPPED_ONLY
from dcorflow.records import Failure, Record, load_record, save_record
from dcorflow.seal import seal
from dcorflow.workdir import Workdir

#: Checks whose violations make DCOR-Aid refuse a dataset: those of `IntegrityChecker.sanity_check`,
#: and two more (dcoraid.upload.job.UploadJob.task_compress_resources).
_DCORAID_CHECKS = (
    "check_feature_size",
    "check_metadata_bad",
    "check_features_unknown_hdf5",
    "check_external_links",
)
#: Checks whose findings depend on the data alone, and on metadata that hardly ever change.
_DATA_CHECKS = (
    "check_basin_features_internal",
    "check_compression",
    "check_empty",
    "check_external_links",
    "check_feat_index",
    "check_feature_size",
    "check_features_unknown_hdf5",
    "check_fl_max_positive",
    "check_fl_samples_per_event",
    "check_fmt_hdf5",
    "check_fmt_hdf5_swmr_mode",
    "check_metadata_bad",
    "check_ml_class",
    "check_temperature_zero_zmd",
)
#: What in the metadata decides over their findings.
_DATA_CHECK_KEYS = (*DATA_KEYS, "setup:identifier")


def read_cues(
    path: Path,
    file: str,
    known: Iterable[Cue] | None = None,
    meanwhile: Callable[[h5py.File], object] = lambda h5: None,
) -> list[Cue]:
    """Return dclab's findings on a measurement (`.rtdc` or `.tdms`), one of each id.

    The checks are those of `IntegrityChecker.check`, called one by one to know which are decisive.
    A file that makes dclab's check fail gives a violation that says so.

    Parameters
    ----------
    path, file
        The measurement; ``source`` or ``prepared``.
    known
        Findings on the same data with other metadata: what depends on the data is taken from them.
    meanwhile
        Called with the open file, which remembers what was read of it.
    """
    load_dclab()
    from dclab.rtdc_dataset import check as checks
    from dclab.rtdc_dataset.fmt_hdf5 import base

    try:
        with cached_reading(checks, base), checks.IntegrityChecker(path) as checker:
            _list_features_once(checker)
            found = [_cue(c, file) for c in checker.warn_cues]
            found += [c for c in known or () if c.check in _DATA_CHECKS]
            for name in sorted(n for n in dir(checker) if n.startswith("check_")):
                if known is not None and name in _DATA_CHECKS:
                    continue
                if name.startswith("check_fl_") and not checker.has_fluorescence:
                    continue
                cues = getattr(checker, name)()
                found += [_cue(c, file, name) for c in cues]
            if checker.ds.format == "hdf5":
                meanwhile(checker.ds.h5file)
    except OSError as error:
        if words := explain_os_error(error):
            raise MeasurementError(words, "environment") from error
        found = [_stopped(error, file)]
    except BaseException as error:  # dclab raises whatever an odd file provokes
        if is_interrupt(error):
            raise
        found = [_stopped(error, file)]
    gc.collect(1)  # dclab's objects hold each other; HDF5 gets slow with what they keep open
    # dclab goes through sets, whose order differs from process to process.
    return list({c.id: c for c in sorted(found, key=lambda c: (c.check, c.id, c.message))}.values())


def _list_features_once(checker: Any) -> None:
    """Keep dclab's list of features: it makes it afresh hundreds of times, a fifth of a check."""
    events = getattr(checker.ds, "_events", None)
    if events is not None and checker.ds.format == "hdf5":
        names = list(events.keys())
        events.keys = lambda: list(names)


def _cue(cue: Any, file: str, check: str = "") -> Cue:
    section, key = cue.cfg_section or "", cue.cfg_key or ""
    name = identify(cue.category, section, key, cue.msg)
    unfit = check in _DCORAID_CHECKS and cue.level == "violation"
    return Cue(name, cue.level, cue.category, section, key, cue.msg, file, unfit, check)


def _stopped(error: BaseException, file: str) -> Cue:
    message = f"dclab's integrity check cannot handle this file ({type(error).__name__}: {error})"
    return Cue("check:failed", "violation", "check", "", "", message, file, unfit=file == "prepared")


def verify_data(
    path: Path,
    digests: dict[str, dict[str, Any]],
    threads: int = 1,
    meanwhile: Callable[[], Callable[[], object]] = lambda: lambda: None,
) -> None:
    """Decode every chunk of a prepared file from disk and compare it with the source's digests.

    Parameters
    ----------
    path
        The prepared file.
    digests
        ``digest`` of the source's content, by path of the dataset.
    threads
        Processes that decode.
    meanwhile
        Begins what goes on in threads of its own, when the processes are there; returns what is
        called when the data are compared, before anything of dclab is needed.

    Raises
    ------
    MeasurementError
        Where a dataset is missing, too much, corrupt, or differs from the source.
    """
    again = "written data differ from the source (bad disk or memory?); run again"
    with open_source(path) as h5, engine.Helpers(threads) as helpers:
        if path.stat().st_size > engine.WORTH_BYTES:
            helpers.start()
        before_dclab = meanwhile()
        found = {e.path for e in members(h5) if e.kind == "dataset"}
        for name in sorted(set(digests) - found):
            raise MeasurementError(f"'{name}' is missing in the prepared file; {again}", "environment")
        for name in sorted(found - set(digests)):
            if name != f"logs/{HISTORY_LOG}" and not name.startswith("basins/"):
                raise MeasurementError(f"'{name}' was not in the source; {again}", "environment")
        datasets = {name: h5[name] for name in sorted(found)}
        try:
            now = engine.digest_datasets(datasets, threads=helpers)
        except engine.CorruptChunk as error:
            raise MeasurementError(f"in the prepared file: {error}; {again}", "environment") from error
        for name in sorted(digests):
            if digests[name]["digest"] != now[name]:
                expected = f"expected {digests[name]['digest']}, found {now[name]}"
                raise MeasurementError(f"'{name}': {expected}; {again}", "environment")
        before_dclab()
        _refuse_uncompressed(datasets)


def _refuse_uncompressed(datasets: dict[str, h5py.Dataset]) -> None:
    """Raise where a dataset is not compressed as dcoraid wants it: it would do it all again."""
    load_dclab()
    from dclab.rtdc_dataset.copier import is_properly_compressed

    loose = [name for name, dataset in datasets.items() if not is_properly_compressed(dataset)]
    if loose:
        raise MeasurementError(f"not compressed as DCOR wants it: {', '.join(loose[:5])}; please report this")


def check(
    entry: Entry,
    work: Workdir,
    threads: int,
    scan: Mapping[str, Any] = SHIPPED_ONLY,
    pictures: bool = False,
) -> Record | None:
    """Check a prepared measurement and keep findings and checksums in its record.

    Parameters
    ----------
    entry, work, threads
        What to check, where, and with how many threads.
    scan
        What private text to look for (`dcorflow.privacy.settings.plan_of_scan`); where nothing else
        changed, only this is done again.
    pictures
        Whether to draw its portrait where it has none.

    Returns
    -------
    Record or None
        The record; None where there is none to check.
    """
    record = load_record(work, entry.measurement)
    if record is None or record.failure is not None:
        return record
    key = recipes.check_key(record.body_key, record.content)
    target = entry.target(work)
    checked = record.check_key == key and "sha256" in record.prepared
    scanned = checked and record.check.get("scan_key") == scan["key"]
    drawn = not pictures or holds(record, work)
    if scanned and drawn:
        return record
    release_memory()
    try:
        if checked:
            before = asdict(record)
            if not scanned:
                _scan(record, target, scan)
            if not drawn:
                _draw(record, work)
            if asdict(record) != before:
                save_record(work, record)
            return record
        # All three use other parts of the machine, or leave some of it free, most of the time.
        with ThreadPoolExecutor(2) as pool:
            sums: list[Future[dict[str, str]]] = []

            def begin() -> Callable[[], object]:
                sums.append(pool.submit(seal, target))
                return pool.submit(load_dclab).result

            verify_data(target, record.body["datasets"], threads, begin)
        source = read_cues(entry.paths[0], "source")
        record.check = {"source": [asdict(c) for c in source]}
        _finish(record, target, sums[0].result(), scan)
        record.check_key = key
        if not drawn:
            _draw(record, work)
    except (MeasurementError, OSError) as error:
        _fail(record, error)
    save_record(work, record)
    return record


def _finish(
    record: Record,
    target: Path,
    sums: dict[str, str],
    scan: Mapping[str, Any],
    known: Iterable[Cue] | None = None,
) -> None:
    """Add what depends on the final bytes: findings on the prepared file, and its checksums."""
    record.prepared |= sums
    tails: list[Document] = []
    cues = read_cues(target, "prepared", known, lambda h5: tails.append(tail_text(h5)))
    record.check["prepared"] = [asdict(c) for c in cues]
    record.check["dclab"] = dclab_version()
    _scan(record, target, scan, *tails)


def _scan(record: Record, target: Path, scan: Mapping[str, Any], tail: Document | None = None) -> None:
    """Look for private text in the prepared file; not again in what an edit of metadata leaves as it was.

    `tail` is the text of the rest, where it has been read already.
    """
    found = record.check.get("private_body")
    if found is None or record.check.get("scan_key") != scan["key"]:
        found = [finding.as_dict() for finding in scan_body(target, scan["private"])]
    if tail is None:
        with open_source(target) as h5:
            tail = tail_text(h5)
    joined = join_findings(tail.search(own(scan["private"])), (Finding(**finding) for finding in found))
    record.check |= {
        "private": [finding.as_dict() for finding in joined],
        "private_body": found,
        "scan_key": scan["key"],
    }


def _draw(record: Record, work: Workdir) -> None:
    from dcorflow.portrait.make import portray  # loads more than all the rest here

    portray(record, work)


def _fail(record: Record, error: MeasurementError | OSError) -> None:
    if isinstance(error, MeasurementError):
        record.failure = Failure("check", error.reason, error.failure)
    else:
        words = explain_os_error(error) or f"reading failed: {' '.join(str(error).split())}"
        record.failure = Failure("check", words, "environment")


def merge_metadata(
    entry: Entry,
    edits: list[list[Any]],
    work: Workdir,
    scan: Mapping[str, Any] = SHIPPED_ONLY,
    pictures: bool = False,
) -> Record | None:
    """Give a checked measurement the tail its edits ask for, and repeat the check of its metadata.

    The caller syncs the folders of file and record, once for many: as long as a power loss may take the
    new names, both are made again from what is there.
    """
    record = load_record(work, entry.measurement)
    if record is None or record.failure is not None:
        return record
    if recipes.is_merged(record, edits):
        return record
    try:
        facts = {key: record.metadata.get(key) for key in _DATA_CHECK_KEYS}
        known = _still_true(record)
        if record.tail_key != recipes.tail_key(edits):
            replace_tail(record, edits, work)
        if facts != {key: record.metadata.get(key) for key in _DATA_CHECK_KEYS}:
            known = None
        target = entry.target(work)
        _finish(record, target, seal(target), scan, known)
        if pictures and not holds(record, work):  # other values may be seen in it
            _draw(record, work)
    except (MeasurementError, OSError) as error:
        _fail(record, error)
    save_record(work, record, sync=False)
    return record


def _still_true(record: Record) -> list[Cue] | None:
    """Return the findings on the prepared file; None where they must all be made anew."""
    cues = [Cue(**c) for c in record.check.get("prepared", [])]
    stopped = any(c.id == "check:failed" for c in cues)
    same = record.check.get("dclab") == dclab_version() and not stopped
    return cues if same else None
