"""Convert `.tdms` measurements to `.rtdc`, by dclab, without clock, host and path in the result."""

from __future__ import annotations

import contextlib
import hashlib
import os
import textwrap
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dcorflow.errors import MeasurementError, explain_os_error, is_interrupt

#: Log with what dclab warned about, named as dclab's own converter names it.
WARNINGS_LOG = "dclab-tdms2rtdc-warnings"
#: Said of a conversion that lost events since a side file is shorter than the measurement.
TRUNCATED = "images, contours or traces are truncated"
_RUN_IDENTIFIER = "experiment:run identifier"


@contextlib.contextmanager
def _universal_time() -> Iterator[None]:
    """Make local time UTC: dclab guesses a missing date from the file's time in local time."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    try:
        yield
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()


def convert(path_in: Path, path_out: Path) -> list[dict[str, str]]:
    """Write the `.tdms` measurement `path_in` as `.rtdc`.

    Empty first and last images are left out, as dclab's converter does.

    Parameters
    ----------
    path_in
        The `.tdms` file; its side files lie beside it.
    path_out
        Written anew; its name must end in `.rtdc`.

    Returns
    -------
    list of dict
        What the conversion changed or computed (``what``, ``how``).

    Raises
    ------
    MeasurementError
        Where dclab cannot read the measurement.
    """
    from dclab import new_dataset

    with warnings.catch_warnings(record=True) as caught, _universal_time():
        warnings.simplefilter("always")
        for category in (ResourceWarning, DeprecationWarning):
            warnings.simplefilter("ignore", category)
        try:
            with new_dataset(path_in) as dataset:
                changes, mask = _export(dataset, path_out)
                logs = {name: list(dataset.logs[name]) for name in dataset.logs}
                identifier = dataset.get_measurement_identifier()
        except OSError as error:
            words = explain_os_error(error)
            if words:
                raise MeasurementError(words, "environment") from error
            raise MeasurementError(_why_not(path_in, error)) from error
        except (MeasurementError, MemoryError):
            raise
        except BaseException as error:  # dclab and npTDMS raise whatever a damaged file provokes
            if is_interrupt(error):
                raise
            raise MeasurementError(_why_not(path_in, error)) from error
    lines = _warning_lines(caught, path_in.parent)
    _normalize(path_out, logs | ({WARNINGS_LOG: lines} if lines else {}), identifier, mask)
    return changes


def _export(dataset: Any, path_out: Path) -> tuple[list[dict[str, str]], np.ndarray]:
    from dclab.cli.common import skip_empty_image_events
    from dclab.rtdc_dataset import fmt_tdms

    warnings.simplefilter("ignore", fmt_tdms.event_image.SlowVideoWarning)
    warnings.simplefilter("ignore", fmt_tdms.event_image.InitialFrameMissingWarning)
    skip_empty_image_events(dataset, initial=True, final=True)
    kept = np.array(dataset.filter.all, dtype=bool)
    if not kept.any():
        raise MeasurementError("no events: the recording holds zero events")
    features = [f for f in dataset.features_innate if f != "contour"]
    dataset.export.hdf5(path=path_out, features=features, filtered=True, override=True)
    with h5py.File(path_out, "r", locking=False) as h5:
        exported = len(h5["events"][sorted(h5["events"])[0]])
    changes = [{"what": "events", "how": "converted from .tdms by dclab"}]
    if "contour" in dataset.features_innate:
        changes.append(
            {"what": "events/mask", "how": "computed by dclab from the contours, which it replaces"}
        )
    if exported < kept.sum():
        changes.append(
            {
                "what": "events",
                "how": f"only {exported} of {kept.sum()} events: {TRUNCATED}",
            }
        )
    if not kept.all():
        left = ", ".join(str(n) for n in np.flatnonzero(~kept)[:5])
        changes.append({"what": "events", "how": f"events without an image left out: {left}"})
    return changes, kept


def _why_not(path: Path, error: BaseException) -> str:
    words = " ".join(str(error).replace(str(path.parent), "").split())[:200]
    return (
        f"dclab cannot read this .tdms measurement ({type(error).__name__}: {words}); "
        "are its side files (*_para.ini, *_camera.ini) there and complete?"
    )


def _warning_lines(caught: list[warnings.WarningMessage], folder: Path) -> list[str]:
    found = dict.fromkeys(
        f"{w.category.__name__}: {w.message}".replace(f"{folder}{os.sep}", "") for w in caught
    )
    return [line for text in found for line in textwrap.wrap(text, 100)]


def _normalize(path: Path, logs: dict[str, list[str]], identifier: str, kept: np.ndarray) -> None:
    """Replace what dclab's export makes different each time: its logs and a random identifier."""
    with h5py.File(path, "a", locking=False) as h5:
        group = h5.require_group("logs")
        for name in list(group):
            del group[name]
        for name, lines in logs.items():
            encoded = [line.encode("utf-8") for line in lines]
            group.create_dataset(name, data=np.array(encoded, dtype=f"S{max([100, *map(len, encoded)])}"))
        mark = ""
        if not kept.all():
            mark = "_" + hashlib.sha256(np.packbits(kept).tobytes()).hexdigest()[:7]
        h5.attrs[_RUN_IDENTIFIER] = f"{identifier}{mark}"
