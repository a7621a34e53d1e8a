#!/usr/bin/env python3
"""Write raw measurements of any size that compress like real ones, in several layouts at once.

    bench_cells.py FOLDER MEGABYTES [--cells blood|beads] [--layouts raw ...] [--synthetic]

Images are events from `../shared/data` where that is there, otherwise simulated ones: freed from
their noise, moved along the channel, a little brighter or darker, and with fresh sensor noise.
MEGABYTES is the decoded size. `raw` is what acquisition software writes: images uncompressed in
chunks of 10, masks with gzip, scalars in chunks of 1000. `gzip`: everything with gzip and
fletcher32 in chunks of 100. `mebibyte`: chunks of 1 MiB with fletcher32. `contiguous`: no chunks.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
from demo_cells import simulate
from scipy import ndimage

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LAYOUTS = ("raw", "gzip", "contiguous", "mebibyte")
SAMPLES = 400  # of a fluorescence trace
BLOCK = 500  # events in memory
EVENTS_PER_BACKGROUND = 10
#: Amplitude, baseline and noise of the fluorescence channels, in digits.
CHANNELS = ((1800, 15, 9.0), (600, 30, 6.0), (900, 12, 9.0))
SCALARS = {
    "f4": "area_msd area_ratio area_um aspect bright_avg bright_sd circ deform frame inert_ratio_cvx "
    "inert_ratio_raw pos_x pos_y size_x size_y temp fl1_max fl2_max fl3_max fl1_area fl1_pos fl1_width",
    "f8": "time tilt inert_ratio_prnc area_cvx pressure bright_perc_10",
}


class Cells(NamedTuple):
    """Where the images of a kind of cells come from.

    `noise` is the deviation of the sensor noise in grey levels; `contrast` stretches simulated
    images until they compress like the real ones.
    """

    file: str
    noise: float
    contrast: float


CELLS = {
    "blood": Cells("fmt-hdf5_image-mask-blood_2021/blood_rbc_leukocytes.rtdc", 2.6, 1.3),
    "beads": Cells("fmt-hdf5_fl_2018/calibration_beads.rtdc", 2.2, 0.6),
}


def templates(cells: str, synthetic: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return images without noise (count, height, width) as float32, and masks as uint8."""
    kind = CELLS[cells]
    path = DATA / kind.file
    if synthetic or not path.exists():
        events = simulate(40, sample=cells, fluorescence=False)
        smooth = _without_noise(events.image)
        middle = smooth.mean()
        return middle + kind.contrast * (smooth - middle), events.mask
    with h5py.File(path, locking=False) as h5:
        image = h5["events/image"][:]
        mask = h5["events/mask"][:] if "mask" in h5["events"] else None
    if mask is None:
        mask = np.where(image < image.mean() - 20, 255, 0).astype("u1")
    return _without_noise(image), mask


def _without_noise(image: np.ndarray) -> np.ndarray:
    along = [ndimage.median_filter(one, size=(1, 9)).astype("f4") for one in image]
    return np.stack([ndimage.uniform_filter1d(one, 5, axis=1) for one in along])


def count_of(megabytes: float, cells: str, synthetic: bool) -> int:
    """Return the number of events that make so many decoded megabytes."""
    height, width = templates(cells, synthetic)[0].shape[1:]
    scalars = 4 * len(SCALARS["f4"].split()) + 8 * len(SCALARS["f8"].split())
    return max(1, int(megabytes * 1e6 / (3 * height * width + 12 * SAMPLES + scalars)))


def blocks(
    count: int, cells: str, synthetic: bool, seed: int
) -> Iterator[tuple[slice, dict[str, np.ndarray]]]:
    """Yield rows, and the images, masks and traces of up to `BLOCK` events."""
    rng = np.random.default_rng(seed)
    smooth, masks = templates(cells, synthetic)
    height, width = smooth.shape[1:]
    background = np.median(smooth, axis=0)
    pool = rng.standard_normal(1 << 24, dtype="f4")
    current = background
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        image, image_bg, mask = (np.empty((size, height, width), "u1") for _ in range(3))
        for i in range(size):
            pick, shift = int(rng.integers(len(smooth))), int(rng.integers(-100, 100))
            at = int(rng.integers(pool.size - height * width))
            grain = pool[at : at + height * width].reshape(height, width)
            level = np.roll(smooth[pick], shift, 1) + CELLS[cells].noise * grain + rng.normal(0, 1.2)
            image[i] = np.clip(np.rint(level), 0, 255)
            mask[i] = np.roll(masks[pick], shift, 1)
            if i % EVENTS_PER_BACKGROUND == 0:
                drift = 0.8 * np.sin((start + i) / 4000)
                current = np.rint(background + drift + 0.1 * CELLS[cells].noise * grain)
            image_bg[i] = current
        features = {"image": image, "image_bg": image_bg, "mask": mask}
        yield slice(start, start + size), features | traces(rng, pool, size)


def traces(rng: np.random.Generator, pool: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """Return raw and filtered traces (size, SAMPLES) of three channels as int16."""
    found = {}
    position = np.arange(SAMPLES)
    for number, (amplitude, base, noise) in enumerate(CHANNELS, 1):
        height = rng.gamma(1.5, amplitude / 3, (size, 1))
        peak = height * np.exp(-0.5 * ((position - 200 - rng.normal(0, 6, (size, 1))) / 14) ** 2)
        at = int(rng.integers(pool.size - size * SAMPLES))
        grain = noise * pool[at : at + size * SAMPLES].reshape(size, SAMPLES)
        raw = np.rint(base + peak + grain).astype("i2")
        found[f"trace/fl{number}_raw"] = raw
        found[f"trace/fl{number}_median"] = ndimage.median_filter(raw, size=(1, 5))
    return found


def scalars(count: int, seed: int) -> dict[str, np.ndarray]:
    """Return the scalar features of all events."""
    rng = np.random.default_rng(seed + 1)
    found = {}
    for dtype, names in SCALARS.items():
        for name in names.split():
            if name in ("frame", "time"):
                values = np.sort(rng.integers(1, 30 * count, count)) / (1 if name == "frame" else 2000)
            elif name in ("size_x", "size_y"):
                values = rng.integers(10, 40, count) * 0.34
            elif name in ("temp", "pressure"):
                values = np.round(23 + np.cumsum(rng.normal(0, 0.001, count)), 2)
            else:
                values = rng.lognormal(1, 0.3, count)
            found[name] = values.astype(dtype)
    return found


def storage(layout: str, data: np.ndarray, count: int, name: str) -> dict[str, Any]:
    """Return h5py's options for a feature in a layout."""
    item = data.shape[1:]
    if layout == "contiguous":
        return {}
    if layout == "raw":
        packed = {"compression": "gzip", "compression_opts": 2} if name == "mask" else {}
        return {"chunks": (10 if item else 1000, *item), "maxshape": (None, *item), **packed}
    rows = 100
    if layout == "mebibyte":
        rows = max(10, 2**20 // max(1, int(np.prod(item)) * data.itemsize))
    packed = {"compression": "gzip", "compression_opts": 1} if layout == "gzip" else {}
    return {"chunks": (min(rows, count), *item), "maxshape": (None, *item), "fletcher32": True, **packed}


def make(
    folder: Path, megabytes: float, cells: str, layouts: tuple[str, ...], synthetic: bool
) -> dict[str, Path]:
    """Write the same measurement in several layouts; return the files."""
    count = count_of(megabytes, cells, synthetic)
    paths = {layout: folder / f"{layout}_{cells}.rtdc" for layout in layouts}
    with ExitStack() as stack:
        files = {layout: stack.enter_context(h5py.File(path, "w")) for layout, path in paths.items()}
        for rows, features in blocks(count, cells, synthetic, seed=0):
            for name, data in features.items():
                for layout, h5 in files.items():
                    if f"events/{name}" not in h5:
                        options = storage(layout, data, count, name)
                        h5.create_dataset(f"events/{name}", (count, *data.shape[1:]), data.dtype, **options)
                    h5[f"events/{name}"][rows] = data
        roi = features["image"].shape[1:]
        for layout, h5 in files.items():
            for name, data in scalars(count, seed=0).items():
                h5.create_dataset(f"events/{name}", data=data, **storage(layout, data, count, name))
            _add_rest(h5, count, roi)
    return paths


def _add_rest(h5: h5py.File, count: int, roi: tuple[int, ...]) -> None:
    """Add logs, a table and metadata."""
    lines = [f"{i:05d} 12:00:{i % 60:02d} INFO step {i} of the acquisition" for i in range(400)]
    h5.create_dataset(
        "logs/acquisition", data=lines, dtype=h5py.string_dtype(), chunks=(10,), maxshape=(None,)
    )
    table = np.zeros(max(10, count // 100), [(name, "<f8") for name in ("time", "brightness", "focus")])
    h5.create_dataset("tables/monitor", data=table)
    h5.attrs.update(
        {
            "experiment:date": "2024-05-01",
            "experiment:event count": count,
            "experiment:run index": 1,
            "experiment:sample": "benchmark",
            "experiment:time": "12:00:00",
            "fluorescence:samples per event": SAMPLES,
            "imaging:pixel size": 0.34,
            "imaging:roi size x": roi[1],
            "imaging:roi size y": roi[0],
            "setup:channel width": 20.0,
            "setup:chip region": "channel",
            "setup:medium": "CellCarrierB",
            "setup:software version": "ShapeIn 2.3.4",
        }
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("megabytes", type=float)
    parser.add_argument("--cells", default="blood", choices=list(CELLS))
    parser.add_argument("--layouts", nargs="+", default=LAYOUTS, choices=LAYOUTS)
    parser.add_argument("--synthetic", action="store_true", help="simulate events even where real ones are")
    args = parser.parse_args()
    make(args.folder, args.megabytes, args.cells, tuple(args.layouts), args.synthetic)


if __name__ == "__main__":
    main()
