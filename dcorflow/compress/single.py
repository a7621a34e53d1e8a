"""Handle a single file from the command line, with the same code as the workflow."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from dcorflow.compress.prepare import Entry, make
from dcorflow.errors import MeasurementError, UsageError, explain_os_error
from dcorflow.files import clean_leftovers
from dcorflow.hdf5 import open_source, refuse_outside_data
from dcorflow.records import Record, SourceFile


def compress_file(
    path_in: Path, path_out: Path, encoder: Literal["compat", "best"], strip_logs: bool, threads: int
) -> Record:
    """Write a compressed and repacked copy of a measurement, with history and nothing else changed.

    Raises
    ------
    UsageError
        Where input and output are the same file or the output's name does not end in `.rtdc`.
    MeasurementError
        Where the measurement cannot be prepared.
    """
    if not path_in.is_file():
        raise UsageError(f"{path_in}: no such file")
    if path_out.suffix != ".rtdc":
        raise UsageError(f"{path_out}: the name of the output must end in .rtdc")
    try:
        same = path_out.exists() and path_out.samefile(path_in)
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise UsageError(f"{path_out}: {error.strerror}; choose another output") from error
    if same:
        raise UsageError(f"{path_out}: input and output are the same file; choose another output")
    try:
        stat = path_in.stat()
    except FileNotFoundError as error:  # since it was looked at
        raise MeasurementError(f"{path_in}: it vanished", "environment") from error
    files = [SourceFile(path_in.name, stat.st_size, stat.st_mtime_ns)]
    kind = "tdms" if path_in.suffix.lower() == ".tdms" else "rtdc"
    entry = Entry("", "", path_out.name, "", path_in.absolute().parent, kind, files)
    record = Record("", "", "", kind, files)
    try:
        clean_leftovers(path_out.absolute().parent)
        settings = {"encoder": encoder, "logs": "strip" if strip_logs else "keep"}
        make(record, entry, settings, [], path_out.absolute(), threads)
    except OSError as error:
        words = explain_os_error(error) or str(error)
        raise MeasurementError(f"{path_out}: {words}", "environment") from error
    return record


def look_closely(path: Path) -> None:
    """Raise `MeasurementError` where a file cannot be read or refers to data outside of itself."""
    if not path.exists():
        raise UsageError(f"{path}: no such file")
    if path.is_dir():
        raise MeasurementError("a folder, not a file")
    if path.suffix.lower() == ".rtdc":
        with open_source(path) as h5:
            refuse_outside_data(h5, path.stat().st_size)
