"""Convert `.tdms` measurements to `.rtdc`, by dclab, without clock, host and path in the result."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import textwrap
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dcorflow.dclab_parts import load_dclab
from dcorflow.errors import MeasurementError, explain_os_error, is_interrupt
from dcorflow.records import TRUNCATED

#: Log with what dclab warned about, named as dclab's own converter names it.
WARNINGS_LOG = "dclab-tdms2rtdc-warnings"
#: Ends of the names of logs in which dclab keeps the settings of a `.tdms` measurement.
_SETTINGS_LOGS = ("_para.ini", "_camera.ini", "_SoftwareSettings.ini", "parameters.txt")
#: Log that dclab's own converter leaves.
CONVERTER_LOG = "dclab-tdms2rtdc"
_RUN_IDENTIFIER = "experiment:run identifier"
#: What dclab puts where a `.tdms` measurement says nothing
#: (dclab.rtdc_dataset.fmt_tdms.RTDC_TDMS.extract_tdms_config, _complete_config_with_data).
_GUESSES = {
    "experiment:date": "from the time of the file",
    "experiment:time": "from the time of the file",
    "experiment:run index": "dclab's default",
    "experiment:sample": "from the name of the folder",
    "imaging:flash duration": "dclab's default",
    "imaging:pixel size": "dclab's default",
    "imaging:roi position x": "dclab's default",
    "imaging:roi position y": "dclab's default",
    "setup:channel width": "from the flow rate",
}


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


def convert(path_in: Path, path_out: Path) -> tuple[list[dict[str, str]], dict[str, str]]:
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
    dict
        Keys whose values were guessed, and how.

    Raises
    ------
    MeasurementError
        Where dclab cannot read the measurement.
    """
    load_dclab()
    from dclab import new_dataset

    with warnings.catch_warnings(record=True) as caught, _universal_time():
        warnings.simplefilter("always")
        for category in (ResourceWarning, DeprecationWarning):
            warnings.simplefilter("ignore", category)
        try:
            with new_dataset(path_in) as dataset:
                changes, mask = _export(dataset, path_out)
                guessed = _guessed(path_in)
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
    return changes, guessed


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


def guessed_before(path: Path) -> dict[str, str]:
    """Return what was guessed when an `.rtdc` file was made from a `.tdms` measurement by dclab.

    Known where the file kept the settings of the measurement as logs.
    """
    with h5py.File(path, "r", locking=False) as h5:
        logs = h5.get("logs")
        if not isinstance(logs, h5py.Group) or CONVERTER_LOG not in logs:
            return {}
        kept = {name: list(log[:]) for name, log in logs.items() if name.endswith(_SETTINGS_LOGS)}
    if not any(name.endswith("_para.ini") for name in kept):
        return {}
    with tempfile.TemporaryDirectory() as folder:
        for name, lines in kept.items():
            kind = name.rpartition("_")[2] if name.endswith(".ini") else ""
            place = Path(folder) / (f"M1_{kind}" if kind else "parameters.txt")
            place.write_bytes(b"\n".join(n if isinstance(n, bytes) else str(n).encode() for n in lines))
        return _guessed(Path(folder) / "M1_data.tdms")


def _guessed(path: Path) -> dict[str, str]:
    """Return which values the side files do not hold, so that dclab guessed them."""
    load_dclab()
    from dclab.rtdc_dataset.config import Configuration
    from dclab.rtdc_dataset.fmt_tdms import naming

    measurement = path.name.split("_")[0]
    names = [f"{measurement}_{kind}.ini" for kind in ("para", "camera", "SoftwareSettings")]
    said = Configuration(files=[p for n in names if (p := path.with_name(n)).exists()], disable_checks=True)
    guessed = dict(_GUESSES)
    for table in (naming.configmap, naming.config_map_set):
        for section, keys in table.items():
            for name, place in keys.items():
                if isinstance(place, tuple) and place[0] in said and place[1] in said[place[0]]:
                    guessed.pop(f"{section}:{name}", None)
    if "channel width" in said.get("general", {}):
        guessed.pop("setup:channel width", None)
    parameters = path.with_name("parameters.txt")
    if parameters.exists() and "pulse_led" in parameters.read_text(encoding="utf-8", errors="replace"):
        guessed.pop("imaging:flash duration", None)
    return guessed


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
