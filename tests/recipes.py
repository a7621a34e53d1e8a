"""Small bad or odd measurement files, one function each; all return the path they wrote.

Files take at most 100 kB and some milliseconds. `RECIPES` holds all of them by name.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from demo_data import write_measurement

EVENTS = 8
ROI = (32, 48)
FEATURES = ("area_um", "deform", "frame", "pos_x", "time", "image", "mask")
RECIPES: dict[str, Callable[..., Path]] = {}


def recipe(function: Callable[..., Path]) -> Callable[..., Path]:
    """Register a recipe under its name."""
    RECIPES[function.__name__] = function
    return function


def small_measurement(path: Path, **options: Any) -> Path:
    """Write a valid measurement of 8 events with few features; options as of write_measurement."""
    settings: dict[str, Any] = {"events": EVENTS, "roi": ROI, "fluorescence": False, "table": False}
    return write_measurement(path, **(settings | {"features": FEATURES} | options))


@contextmanager
def edited(path: Path, **options: Any) -> Iterator[h5py.File]:
    """Write a small measurement and give it opened for changes."""
    with h5py.File(small_measurement(path, **options), "r+") as h5:
        yield h5


def copied(path: Path, **file_options: Any) -> h5py.File:
    """Write a small measurement with other options of h5py.File, and return it still open."""
    source = small_measurement(path.with_name(f"{path.name}.source"))
    target = h5py.File(path, "w", **file_options)
    with h5py.File(source) as h5:
        target.attrs.update(h5.attrs)
        for name in h5:
            h5.copy(name, target)
    source.unlink()
    return target


@recipe
def empty_file(path: Path) -> Path:
    """A file of zero bytes."""
    path.write_bytes(b"")
    return path


@recipe
def truncated(path: Path, fraction: float = 0.6) -> Path:
    """A measurement of which only the first part was copied."""
    small_measurement(path)
    os.truncate(path, int(path.stat().st_size * fraction))
    return path


@recipe
def text_file(path: Path) -> Path:
    """Text with the suffix of a measurement."""
    path.write_text("transfer interrupted, try again\n", encoding="utf-8")
    return path


@recipe
def png_file(path: Path) -> Path:
    """The beginning of a PNG picture with the suffix of a measurement."""
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(2000))
    return path


@recipe
def without_events(path: Path) -> Path:
    """An HDF5 file with metadata and logs, but without the group `events`."""
    with edited(path) as h5:
        del h5["events"]
    return path


@recipe
def zero_events(path: Path) -> Path:
    """A measurement that was stopped before its first event: all features are empty."""
    with edited(path) as h5:
        h5.attrs["experiment:event count"] = 0
        for feature in h5["events"].values():
            feature.resize(0, axis=0)
    return path


@recipe
def unequal_lengths(path: Path) -> Path:
    """A measurement whose feature `deform` misses the last two events."""
    with edited(path) as h5:
        h5["events/deform"].resize(EVENTS - 2, axis=0)
    return path


@recipe
def scalar_in_events(path: Path) -> Path:
    """A feature that is one number (0-d) instead of one number per event."""
    with edited(path) as h5:
        h5["events/userdef1"] = 1.5
    return path


@recipe
def scalar_in_logs(path: Path) -> Path:
    """A log that is one string (0-d) instead of lines."""
    with edited(path) as h5:
        h5["logs/comment"] = "a single string"
    return path


@recipe
def broken_soft_link(path: Path) -> Path:
    """A feature that is a soft link to nothing."""
    with edited(path) as h5:
        h5["events/userdef1"] = h5py.SoftLink("/events/missing")
    return path


@recipe
def soft_link(path: Path) -> Path:
    """A feature that is a soft link to another feature of the same file."""
    with edited(path) as h5:
        h5["events/userdef1"] = h5py.SoftLink("/events/deform")
    return path


def neighbour(path: Path, suffix: str = ".h5") -> Path:
    """Return the path of the file that a recipe writes beside `path`."""
    return path.with_name(f"{path.stem}_neighbour{suffix}")


@recipe
def external_link(path: Path) -> Path:
    """A feature that is an external link into a file beside it (relative path)."""
    with h5py.File(neighbour(path), "w") as h5:
        h5["secret"] = np.arange(EVENTS, dtype="f4")
    with edited(path) as h5:
        h5["events/userdef1"] = h5py.ExternalLink(neighbour(path).name, "/secret")
    return path


@recipe
def virtual_dataset(path: Path) -> Path:
    """A feature that is a virtual dataset on a file beside it."""
    with h5py.File(neighbour(path), "w") as h5:
        h5["secret"] = np.arange(EVENTS, dtype="f4")
    layout = h5py.VirtualLayout((EVENTS,), "f4")
    layout[:] = h5py.VirtualSource(neighbour(path), "secret", (EVENTS,))
    with edited(path) as h5:
        h5.create_virtual_dataset("events/userdef1", layout)
    return path


@recipe
def external_storage(path: Path) -> Path:
    """A feature whose values are raw bytes in a file beside it."""
    raw = neighbour(path, ".raw")
    raw.write_bytes(np.arange(EVENTS, dtype="<f4").tobytes())
    with edited(path) as h5:
        h5.create_dataset("events/userdef1", (EVENTS,), "<f4", external=[(str(raw), 0, EVENTS * 4)])
    return path


@recipe
def unknown_feature(path: Path) -> Path:
    """A feature that dclab does not know."""
    with edited(path) as h5:
        h5["events/glow_worm"] = np.arange(EVENTS, dtype="f4")
    return path


@recipe
def unknown_group(path: Path) -> Path:
    """A group that dclab does not know in `events`, with another group in it."""
    with edited(path) as h5:
        h5["events/glow_worm/colour/red"] = np.arange(EVENTS, dtype="f4")
    return path


@recipe
def empty_log(path: Path) -> Path:
    """A log without lines, with variable-length strings."""
    with edited(path) as h5:
        h5.create_dataset("logs/silence", (0,), h5py.string_dtype(), maxshape=(None,))
    return path


@recipe
def corrupt_chunk(path: Path, feature: str = "deform") -> Path:
    """A feature with one flipped byte in a chunk that a Fletcher32 checksum protects."""
    with edited(path) as h5:
        values, attributes = h5["events"][feature][:], dict(h5["events"][feature].attrs)
        del h5["events"][feature]
        chunks = (4, *values.shape[1:])
        dataset = h5["events"].create_dataset(feature, data=values, chunks=chunks, fletcher32=True)
        dataset.attrs.update(attributes)
        dataset.flush()
        offset = dataset.id.get_chunk_info(1).byte_offset
    with path.open("r+b") as stream:
        stream.seek(offset + 2)
        byte = stream.read(1)[0]
        stream.seek(offset + 2)
        stream.write(bytes([byte ^ 0x10]))
    return path


def _leave_open(path: Path, swmr: bool) -> Path:
    """Keep the bytes of a file from while it was open for writing (HDF5 notes that in it)."""
    working = path.with_name(f"{path.name}.working")
    with copied(working, libver="latest") as h5:
        if swmr:
            h5.swmr_mode = True
        h5.flush()
        path.write_bytes(working.read_bytes())
    working.unlink()
    return path


@recipe
def left_open(path: Path) -> Path:
    """A file whose writer died: its superblock says that it is open for writing."""
    return _leave_open(path, swmr=False)


@recipe
def left_open_swmr(path: Path) -> Path:
    """A file that a measurement still writes to in SWMR mode, or whose writer died."""
    return _leave_open(path, swmr=True)


@recipe
def wrong_roi_size(path: Path) -> Path:
    """Metadata that give another width of the region of interest than the images have."""
    return small_measurement(path, metadata={"imaging:roi size x": ROI[1] + 7})


@recipe
def swapped_roi_size(path: Path) -> Path:
    """Metadata in which width and height of the region of interest are swapped."""
    swapped = {"imaging:roi size x": ROI[0], "imaging:roi size y": ROI[1]}
    return small_measurement(path, metadata=swapped)


@recipe
def missing_attributes(
    path: Path, keys: tuple[str, ...] = ("setup:medium", "experiment:sample", "imaging:pixel size")
) -> Path:
    """A measurement without some mandatory metadata."""
    return small_measurement(path, metadata=dict.fromkeys(keys))


@recipe
def group_attributes(path: Path) -> Path:
    """Attributes on the groups `events` and `logs`, which dclab's copy loses."""
    with edited(path) as h5:
        h5["events"].attrs["origin"] = "camera 2"
        h5["logs"].attrs["language"] = "de"
    return path


@recipe
def non_ascii_log(path: Path) -> Path:
    """A log whose lines hold umlauts, Greek, Japanese, and nothing."""
    return small_measurement(path, logs={"notizen": ["Größe 5 µm", "αβγ", "細胞", ""]})


@recipe
def long_log_line(path: Path, length: int = 20_000) -> Path:
    """A log with one very long line between two short ones."""
    return small_measurement(path, logs={"notes": ["begin", "x" * length, "end"]})


@recipe
def userblock(path: Path) -> Path:
    """An HDF5 file that begins with 512 bytes of something else."""
    copied(path, userblock_size=512).close()
    with path.open("r+b") as stream:
        stream.write(b"written by another program\n")
    return path


@recipe
def big_endian(path: Path) -> Path:
    """Scalar features in big-endian byte order."""
    with edited(path) as h5:
        for feature, dtype in (("deform", ">f4"), ("frame", ">f8"), ("area_um", ">f4")):
            values = h5["events"][feature][:].astype(dtype)
            del h5["events"][feature]
            h5["events"].create_dataset(feature, data=values, chunks=(4,), maxshape=(None,))
    return path


@recipe
def contours(path: Path) -> Path:
    """The old feature `contour`: a group with one dataset of corner points per event."""
    with edited(path) as h5:
        for event in range(EVENTS):
            corners = np.array([[3, 3], [9 + event, 3], [9 + event, 9], [3, 9]])
            h5[f"events/contour/{event}"] = corners
    return path


@recipe
def tables(path: Path) -> Path:
    """Two tables with columns of different types, one with attributes, one without rows."""
    rows = np.zeros(5, [("time", "<f8"), ("count", "<i4")])
    rows["time"], rows["count"] = np.arange(5) / 10, np.arange(5) * 3
    with edited(path) as h5:
        h5["tables/monitor"] = rows
        h5["tables/monitor"].attrs["COLOR_time"] = "#ff0000"
        h5["tables/nothing"] = rows[:0]
    return path


def _store_basin(path: Path, options: Mapping[str, Any]) -> Path:
    from dclab import RTDCWriter

    with warnings.catch_warnings(), RTDCWriter(path, mode="append") as writer:
        warnings.simplefilter("ignore")
        writer.store_basin(**options)
    return path


@recipe
def internal_basin(path: Path) -> Path:
    """A file that keeps the feature `userdef1` in an internal basin."""
    options = {
        "basin_name": "background",
        "basin_type": "internal",
        "basin_format": "h5dataset",
        "basin_locs": ["basin_events"],
        "basin_feats": ["userdef1"],
        "basin_map": np.arange(EVENTS, dtype=np.int64) // 4,
        "internal_data": {"userdef1": np.array([3.0, 7.0])},
    }
    return _store_basin(small_measurement(path), options)


@recipe
def file_basin(path: Path) -> Path:
    """A file without images that refers to a measurement beside it for them."""
    source = small_measurement(neighbour(path, ".rtdc"))
    small_measurement(path, features=("area_um", "deform", "frame"))
    options = {
        "basin_name": "original",
        "basin_type": "file",
        "basin_format": "hdf5",
        "basin_locs": [source],
        "basin_feats": ["image", "mask"],
    }
    return _store_basin(path, options)


@recipe
def directory(path: Path) -> Path:
    """A directory with the suffix of a measurement."""
    path.mkdir()
    return path
