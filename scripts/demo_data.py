#!/usr/bin/env python3
"""Write a demo tree of RT-DC measurements, as a laboratory might leave it.

    demo_data.py OUT [--scale S] [--seed N]

Three directories hold about a dozen small measurements in the acquisition software's layout,
some of them incomplete or damaged, and companions beside them. The same seed gives the same bytes.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from demo_cells import (
    CHANNEL_WIDTH,
    FRAME_RATE,
    PIXEL_SIZE,
    SAMPLE_RATE,
    SAMPLES_PER_EVENT,
    Events,
    simulate,
)
from demo_tdms import write_tdms

__all__ = ["LAYOUTS", "set_times", "write_measurement", "write_tdms", "write_tree"]

#: Features that the acquisition software and dclab store in double precision.
DOUBLE_PRECISION = {"inert_ratio_prnc", "tilt"}
IMAGE_ATTRIBUTES = {"CLASS": "IMAGE", "IMAGE_VERSION": "1.2", "IMAGE_SUBCLASS": "IMAGE_GRAYSCALE"}
TABLE_COLUMNS = ("time", "brightness", "contrast", "focus", "pressure", "temp")
TREE_TIME = datetime.datetime(2024, 3, 20, 17, 30, tzinfo=datetime.UTC).timestamp()


@dataclass(frozen=True)
class Layout:
    """How datasets are stored; `chunk` counts events, None is contiguous."""

    scalar_chunk: int | None
    image_chunk: int | None
    filters: Mapping[str, Any]
    mask_filters: Mapping[str, Any]
    dclab: bool = False


_GZIP = {"compression": "gzip", "compression_opts": 4, "fletcher32": True}
_ZSTD = {**hdf5plugin.Zstd(clevel=5), "fletcher32": True}

#: `raw` is what the acquisition software writes, `gzip` what older versions of dclab wrote,
#: `dclab` what `dclab-compress` writes today (but without its log, which holds a time).
LAYOUTS = {
    "raw": Layout(1000, 10, {}, {"compression": "gzip", "compression_opts": 2}),
    "gzip": Layout(100, 100, _GZIP, _GZIP),
    "dclab": Layout(1000, 50, _ZSTD, _ZSTD, dclab=True),
    "contiguous": Layout(None, None, {}, {}),
}


def write_measurement(
    path: str | Path,
    events: int = 50,
    seed: int = 0,
    layout: str = "raw",
    *,
    roi: tuple[int, int] = (80, 250),
    sample: str = "blood",
    fluorescence: bool = True,
    table: bool = True,
    features: Iterable[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    logs: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Write one complete .rtdc measurement and return its path.

    About 42 kB per event in the layout `raw` (see LAYOUTS) with the default region of interest.

    Parameters
    ----------
    path
        file to write; replaced if it exists, its directory is made
    events
        number of events, at least 1
    seed
        the same arguments give the same bytes
    roi
        height and width of the images in pixels, at least (32, 48)
    sample
        what was measured: `blood`, `HL60` or `beads`
    fluorescence
        with traces of three channels and their features
    table
        with the table `cytoshot_monitor`
    features
        names of the features to store (also `image`, `image_bg`, `mask`, `trace`); default: all
    metadata
        attributes to set on top of a complete set (`{"setup:medium": "water"}`); None removes one
    logs
        logs to add to or replace in those of the acquisition software
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    how = LAYOUTS[layout]
    simulated = simulate(events, seed, roi=roi, sample=sample, fluorescence=fluorescence)
    attributes = complete_metadata(simulated, seed, sample)
    if how.dclab:
        attributes["setup:software version"] += " | dclab 0.73.4"
    attributes |= metadata or {}
    lines = {"shapein-acquisition": acquisition_log(attributes, seed), "shapein-warning": ()}
    with h5py.File(path, "w") as h5:
        for key, value in attributes.items():
            if value is not None:
                h5.attrs[key] = value
        _write_events(h5.create_group("events"), simulated, how, features)
        _write_logs(h5.create_group("logs"), lines | dict(logs or {}), how)
        if table:
            _write_table(h5.create_group("tables"), simulated, how)
    return path


def complete_metadata(simulated: Events, seed: int = 0, sample: str = "blood") -> dict[str, Any]:
    """Return attributes with which dclab's integrity check finds nothing to complain about."""
    height, width = simulated.image.shape[1:]
    start = datetime.datetime(2024, 3, 12, 9, 30) + datetime.timedelta(seconds=97 * (seed % 200))
    attributes: dict[str, Any] = {
        "experiment:date": start.strftime("%Y-%m-%d"),
        "experiment:event count": len(simulated),
        "experiment:run index": seed % 100 + 1,
        "experiment:sample": f"{sample} {seed}",
        "experiment:time": start.strftime("%H:%M:%S"),
        "imaging:flash device": "LED (ZMD L1)",
        "imaging:flash duration": 2.0,
        "imaging:frame rate": FRAME_RATE,
        "imaging:pixel size": PIXEL_SIZE,
        "imaging:roi position x": 629,
        "imaging:roi position y": 512,
        "imaging:roi size x": width,
        "imaging:roi size y": height,
        "online_contour:bg empty": True,
        "online_contour:bin area min": 10,
        "online_contour:bin kernel": 5,
        "online_contour:bin threshold": -6,
        "online_contour:image blur": 0,
        "online_contour:no absdiff": True,
        "online_filter:area_um max": 200.0,
        "online_filter:area_um min": 20.0,
        "online_filter:area_um soft limit": False,
        "online_filter:target event count": 5000,
        "setup:channel width": CHANNEL_WIDTH,
        "setup:chip region": "channel",
        "setup:flow rate": 0.06,
        "setup:flow rate sample": 0.015,
        "setup:flow rate sheath": 0.045,
        "setup:identifier": "ZMDD-AcC-a8548d-ce00be",
        "setup:medium": "CellCarrier",
        "setup:module composition": "AcCellerator,FluorescenceModule",
        "setup:software version": "ShapeIn 2.3.4.54",
        "setup:temperature": 23.0,
    }
    if not simulated.trace:
        return attributes | {"setup:module composition": "AcCellerator"}
    return attributes | {
        "fluorescence:bit depth": 16,
        "fluorescence:channel 1 name": "525/50",
        "fluorescence:channel 2 name": "593/46",
        "fluorescence:channel 3 name": "700/75",
        "fluorescence:channel count": 3,
        "fluorescence:channels installed": 3,
        "fluorescence:laser 1 lambda": 488.0,
        "fluorescence:laser 1 power": 8.0,
        "fluorescence:laser 3 lambda": 640.0,
        "fluorescence:laser 3 power": 100.0,
        "fluorescence:laser count": 2,
        "fluorescence:lasers installed": 3,
        "fluorescence:sample rate": SAMPLE_RATE,
        "fluorescence:samples per event": SAMPLES_PER_EVENT,
        "fluorescence:signal max": 1.0,
        "fluorescence:signal min": -1.0,
        "fluorescence:trace median": 3,
    }


def acquisition_log(attributes: Mapping[str, Any], seed: int) -> list[str]:
    """Return the log of a run; one line names a folder of the user."""
    run, day = attributes.get("experiment:run index"), attributes.get("experiment:date")
    start = attributes.get("experiment:time") or "09:30:00"
    settings = [f"{key} = {value}" for key, value in attributes.items() if key.startswith("online")]
    progress = [f"{5 * step} s: temperature {23 + seed % 7 / 100:.2f} C, ok" for step in range(12)]
    lines = [
        f"measurement {run} of {day} prepared",
        f"writing to C:\\Users\\jdoe\\Documents\\RT-DC\\{day}\\M{run}_data.rtdc",
        *settings,
        "focus found, background recorded from empty frames",
        *progress,
        "stopped by user",
    ]
    return [f"{start}.{index:03d} INFO {line}"[:100] for index, line in enumerate(lines)]


def _create(
    group: h5py.Group, name: str, data: np.ndarray, how: Layout, filters: Mapping[str, Any]
) -> h5py.Dataset:
    count = how.image_chunk if data.ndim > 1 else how.scalar_chunk
    if count is None:
        return group.create_dataset(name, data=data)
    item = data.shape[1:]
    return group.create_dataset(name, data=data, chunks=(count, *item), maxshape=(None, *item), **filters)


def _write_events(group: h5py.Group, simulated: Events, how: Layout, features: Iterable[str] | None) -> None:
    wanted = None if features is None else set(features)
    for name, values in simulated.scalars.items():
        if how.dclab and name == "time":
            continue  # dclab drops the imprecise time of the acquisition software
        if wanted is None or name in wanted:
            data = values if name in DOUBLE_PRECISION else values.astype(np.float32)
            dataset = _create(group, name, data, how, how.filters)
            if how.dclab:
                dataset.attrs.update(min=data.min(), max=data.max(), mean=data.mean())
    for name in ("image", "image_bg", "mask"):
        if wanted is None or name in wanted:
            filters = how.mask_filters if name == "mask" else how.filters
            dataset = _create(group, name, getattr(simulated, name), how, filters)
            for key, value in IMAGE_ATTRIBUTES.items():
                dataset.attrs[key] = np.bytes_(value)
    if wanted is None or "trace" in wanted:
        for name, trace in simulated.trace.items():
            _create(group.require_group("trace"), name, trace, how, how.filters)


def _write_logs(group: h5py.Group, logs: Mapping[str, Sequence[str]], how: Layout) -> None:
    """Write logs as variable-length strings; dclab's fixed-length ones leave out empty logs."""
    for name, lines in logs.items():
        if how.dclab and lines:
            data = np.array([line.encode() for line in lines])
            group.create_dataset(name, data=data, chunks=True, maxshape=(None,), **how.filters)
        elif not how.dclab:
            text = np.array(list(lines), object)
            group.create_dataset(name, data=text, dtype=h5py.string_dtype(), chunks=(10,), maxshape=(None,))


def _write_table(group: h5py.Group, simulated: Events, how: Layout) -> None:
    """Write what the acquisition software monitors about once per second."""
    duration = simulated.scalars["time"][-1]
    rows = np.zeros(int(duration) + 5, [(name, "<f8") for name in TABLE_COLUMNS])
    rows["time"] = np.linspace(0, duration, len(rows))
    for number, name in enumerate(TABLE_COLUMNS[1:], start=1):
        rows[name] = 20 * number + np.sin(rows["time"] / 3 + number)
    filters = {**how.filters, "chunks": True} if how.filters else {}
    table = group.create_dataset("cytoshot_monitor", data=rows, **filters)
    table.attrs["COLOR_brightness"] = "#1f77b4"


def write_tree(out: str | Path, scale: float = 1.0, seed: int = 0) -> Path:
    """Write the demo tree into the folder `out` (new or empty) and return it.

    `scale` multiplies the number of events: 1 gives about 43 MB, 0.1 about 8 MB.

    Raises
    ------
    FileExistsError
        if `out` holds anything
    """
    out = Path(out)
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out}: expected a new or empty folder, found files in it")

    def count(events: int) -> int:
        return max(4, round(events * scale))

    _write_blood(out / "2024-03-12_Blood_Müller lab", count, seed)
    _write_drug(out / "2024-03-14_HL60_LatrunculinA", count, seed + 20)
    _write_beads(out / "2023-11-07_Beads calibration", count, seed + 40)
    set_times(out)
    return out


def _write_blood(folder: Path, count: Callable[[int], int], seed: int) -> None:
    """Write generic names whose order matters, a copy, logs of DCKit, and companions."""
    history = {"dckit-history": json.dumps({"setup": {"medium": "CellCarrier"}}).splitlines()}
    for run, layout, logs in ((1, "raw", None), (2, "raw", history), (10, "gzip", None)):
        write_measurement(
            folder / f"M{run}_data.rtdc",
            count(110),
            seed + run,
            layout,
            metadata={"experiment:run index": run, "experiment:sample": f"Spender {run}, männlich"},
            logs=logs,
        )
    shutil.copyfile(folder / "M2_data.rtdc", folder / "Kopie von M2_data.rtdc")
    (folder / "README.txt").write_text(
        "Whole blood of three donors, 1:20 in CellCarrier, measured within two hours.\n",
        encoding="utf-8",
    )
    (folder / "donors.csv").write_text("donor,age,sex\n1,34,m\n2,29,m\n10,41,m\n", encoding="utf-8")


def _write_drug(folder: Path, count: Callable[[int], int], seed: int) -> None:
    """Write a series of concentrations: one compressed, one without metadata, one cut off."""
    date: dict[str, Any] = {"experiment:date": "2024-03-14"}
    removed = {"setup:medium": None, "experiment:sample": None}
    measurements: tuple[tuple[str, int, str, dict[str, Any]], ...] = (
        ("HL60_control", 110, "raw", date),
        ("HL60_DMSO", 90, "raw", date),
        ("HL60_LatA_10nM", 110, "dclab", date),
        ("HL60_LatA_100nM", 90, "raw", date | removed),
        ("HL60_LatA_1uM", 90, "raw", date),
    )
    for index, (name, events, layout, metadata) in enumerate(measurements):
        write_measurement(
            folder / f"{name}.rtdc",
            count(events),
            seed + index,
            layout,
            sample="HL60",
            table=name != "HL60_DMSO",
            metadata=metadata,
        )
    cut = folder / "HL60_LatA_1uM.rtdc"
    os.truncate(cut, cut.stat().st_size * 3 // 5)
    picture = simulate(1, seed, sample="HL60").image[0]
    (folder / "example cell.png").write_bytes(encode_png(picture))


def _write_beads(folder: Path, count: Callable[[int], int], seed: int) -> None:
    """Write measurements without fluorescence, one of the old format, one that is no HDF5 file."""
    options: dict[str, Any] = {"sample": "beads", "fluorescence": False}
    date = {"experiment:date": "2023-11-07"}
    for number in (1, 2):
        name = f"beads_{number:02d}.rtdc"
        write_measurement(folder / name, count(90), seed + number, metadata=date, **options)
    (folder / "beads_03.rtdc").write_text("transfer interrupted\n" * 50, encoding="utf-8")
    write_tdms(folder, "M1_data", count(60), seed + 3)
    (folder / "protocol.pdf").write_bytes(b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n")


def encode_png(image: np.ndarray) -> bytes:
    """Encode a uint8 image (height, width) as PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    height, width = image.shape
    lines = b"".join(b"\0" + line.tobytes() for line in image)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def set_times(folder: Path, timestamp: float = TREE_TIME) -> None:
    """Set the modification time of everything in `folder` (and of itself) to a past date."""
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (timestamp, timestamp))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write, new or empty")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of events")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other cells")
    options = parser.parse_args(arguments)
    try:
        out = write_tree(options.out, options.scale, options.seed)
    except FileExistsError as error:
        parser.error(str(error))
    files = [path for path in out.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    print(f"{out}: {len(files)} files, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
