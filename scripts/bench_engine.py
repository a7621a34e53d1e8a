#!/usr/bin/env python3
"""Measure the compression engine beside `dclab-compress` and print a Markdown table.

    bench_engine.py [--size MB] [--repeat N] [--threads 1 2] [--layouts ...] [--cells ...]

Every run is a process of its own, start-up included; the programs take turns, so that a slow
moment of the machine meets all of them. Ratios are medians over the turns. Measurements are
synthesised: images of cells in a channel with sensor noise, their background and mask,
fluorescence traces, scalar features, a log and a table. With `--events FILE.rtdc` the images are
made from real ones instead (denoised, moved, with fresh noise). "random" is the time to read one
image at a random place, relative to the file that `dclab-compress` writes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np

REAL = {"blood": "*blood*/*.rtdc", "beads": "*fl_2018/*beads*.rtdc"}
ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
NOISE = {"blood": 2.6, "beads": 2.2}
LAYOUTS = ("raw", "gzip", "contiguous", "mebibyte")
SCALARS = 26
SAMPLES = 400
BLOCK = 500


class Run(NamedTuple):
    """One measured process: seconds, CPU seconds, peak memory in MB, size of the output."""

    wall: float
    cpu: float
    rss: float
    size: int


def templates(cells: str, events: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Return noise-free images (count, height, width) as float32, and their masks as uint8."""
    path = events or next(iter(sorted(DATA.glob(REAL[cells]))), None)
    if path is not None:
        with h5py.File(path, locking=False) as h5:
            image = h5["events/image"][:].astype("f4")
        kernel = np.ones(7, "f4") / 7
        smooth = np.apply_along_axis(np.convolve, 2, image, kernel, "same")
        background = np.median(smooth, axis=0)
        return smooth, (np.abs(smooth - background) > 8).astype("u1") * 255
    rng = np.random.default_rng(11)
    y, x = np.mgrid[:80, :250].astype("f4")
    wall = 60 / (1 + np.exp((np.minimum(y, 79 - y) - 8) / 2))
    images, masks = [], []
    for _ in range(40):
        size, at = rng.uniform(8, 15), (rng.uniform(30, 50), rng.uniform(60, 190))
        radius = np.hypot(y - at[0], (x - at[1]) / rng.uniform(1, 1.5)) / size
        ring = -45 * np.exp(-(((radius - 1) / 0.12) ** 2)) + 25 * np.exp(-((radius / 0.5) ** 2))
        images.append(120 + 0.05 * x - wall + (ring if cells == "blood" else 1.6 * ring))
        masks.append((radius < 1).astype("u1") * 255)
    return np.array(images, "f4"), np.array(masks)


def blocks(count: int, cells: str, events: Path | None) -> Iterator[tuple[slice, dict]]:
    """Yield the rows and the image-like features of up to `BLOCK` events at a time."""
    rng = np.random.default_rng(2)
    smooth, masks = templates(cells, events)
    height, width = smooth.shape[1:]
    pool = rng.standard_normal(1 << 23, dtype="f4") * NOISE[cells]
    background = np.median(smooth, axis=0)
    time_axis = np.arange(SAMPLES)
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        image, image_bg, mask = (np.empty((size, height, width), "u1") for _ in range(3))
        for i in range(size):
            pick, shift = rng.integers(len(smooth)), int(rng.integers(-60, 60))
            grain = pool[(at := rng.integers(pool.size - height * width)) :][: height * width]
            shifted = np.roll(smooth[pick], shift, 1) + grain.reshape(height, width)
            image[i] = np.clip(np.rint(shifted + rng.normal(0, 1.2)), 0, 255)
            mask[i] = np.roll(masks[pick], shift, 1)
            if i % 10 == 0:
                faint = 0.1 * pool[at : at + height * width].reshape(height, width)
                current = np.rint(background + np.sin((start + i) / 3000) + faint)
            image_bg[i] = current
        features = {"image": image, "image_bg": image_bg, "mask": mask}
        for channel in (1, 2, 3):
            centre = 200 + rng.normal(0, 6, (size, 1))
            peak = rng.gamma(1.5, 300, (size, 1)) * np.exp(-(((time_axis - centre) / 20) ** 2))
            trace = np.rint(peak + 20 + rng.normal(0, 8, (size, SAMPLES))).astype("i2")
            features[f"trace/fl{channel}_raw"] = trace
            middle = np.sort(np.stack([trace[:, :-2], trace[:, 1:-1], trace[:, 2:]]), axis=0)[1]
            features[f"trace/fl{channel}_median"] = np.pad(middle, ((0, 0), (1, 1)), "edge")
        yield slice(start, start + size), features


def storage(layout: str, item: tuple[int, ...], itemsize: int, name: str) -> dict:
    """Return h5py's options for a feature: as acquisition software or older programs write it."""
    if layout == "contiguous":
        return {}
    growing = {"maxshape": (None, *item)}
    if layout == "raw":
        packed = {"compression": "gzip", "compression_opts": 2} if name == "mask" else {}
        return {"chunks": (10 if item else 1000, *item), **growing, **packed}
    if layout == "gzip":
        return {"chunks": (100, *item), "compression": "gzip", "fletcher32": True, **growing}
    rows = max(10, 2**20 // (int(np.prod(item)) * itemsize))
    return {"chunks": (rows, *item), "fletcher32": True, **growing}


def make(path: Path, megabytes: float, layout: str, cells: str, events: Path | None) -> None:
    """Write a measurement of about `megabytes` decoded."""
    height, width = templates(cells, events)[0].shape[1:]
    count = int(megabytes * 1e6 / (3 * height * width + 12 * SAMPLES + 4 * SCALARS))
    rng = np.random.default_rng(1)
    with h5py.File(path, "w") as h5:
        for rows, features in blocks(count, cells, events):
            for name, data in features.items():
                full = f"events/{name}"
                if full not in h5:
                    options = storage(layout, data.shape[1:], data.itemsize, name)
                    if "chunks" in options and "maxshape" not in options:
                        options["maxshape"] = (None, *data.shape[1:])
                    h5.create_dataset(full, (count, *data.shape[1:]), data.dtype, **options)
                h5[full][rows] = data
        scalars = ["deform", "area_um", "time", "frame", "bright_avg", "pos_x", "pos_y", "temp"]
        scalars += [f"userdef{i}" for i in range(SCALARS - len(scalars))]
        for name in scalars:
            data = rng.lognormal(1, 0.3, count).astype("f4")
            options = storage(layout, (), 4, name)
            h5.create_dataset(f"events/{name}", data=data, **options)
        h5["logs/acquisition"] = [f"{i:05d} acquisition step" for i in range(300)]
        h5["tables/monitor"] = np.zeros(max(10, count // 100), [("time", "f8"), ("temp", "f8")])
        h5.attrs["experiment:event count"] = count
        h5.attrs["imaging:roi size x"], h5.attrs["imaging:roi size y"] = width, height
        h5.attrs["setup:software version"] = "synthetic"
        h5.attrs["fluorescence:samples per event"] = SAMPLES


def copy_file(source: Path, target: Path, encoder: str, threads: int) -> None:
    """Copy all datasets and attributes of a file with the engine; what a child process does."""
    from dcorflow import engine

    with h5py.File(source, "r", locking=False) as h5, h5py.File(target, "w") as out:
        names: list[str] = []
        h5.visit(names.append)
        engine.copy_attributes(h5, out)
        for name in names:
            if isinstance(h5[name], h5py.Group):
                engine.copy_attributes(h5[name], out.require_group(name))
            else:
                parent, _, base = name.rpartition("/")
                group = out.require_group(parent) if parent else out
                engine.copy_dataset(h5[name], group, base, encoder=encoder, threads=threads)


def check_file(path: Path, threads: int) -> None:
    """Decode and verify every chunk of a file; what a child process does."""
    from dcorflow import engine

    with h5py.File(path, "r", locking=False) as h5:
        names: list[str] = []
        h5.visit(names.append)
        for name in names:
            if isinstance(h5[name], h5py.Dataset):
                engine.digest_dataset(h5[name], threads=threads)


def measure(command: list[str], target: Path | None) -> Run:
    """Run a command and return what it took."""
    if target is not None:
        target.unlink(missing_ok=True)
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT)
    assert child.stderr is not None
    errors = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {errors.decode(errors='replace')[-800:]}")
    size = target.stat().st_size if target is not None else 0
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, size)


def random_access(path: Path) -> float:
    """Return milliseconds to read one image at a random place, the chunk cache switched off."""
    with h5py.File(path, rdcc_nbytes=0, locking=False) as h5:
        images = h5["events/image"]
        places = np.random.default_rng(3).integers(0, len(images), 150)
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            for place in places:
                images[int(place)]
            best = min(best, (time.perf_counter() - start) / len(places) * 1e3)
    return best


def bench(source: Path, label: str, args: argparse.Namespace, folder: Path) -> list[str]:
    """Measure one file; return rows of the table."""
    out = {way: folder / f"{way}.rtdc" for way in ("dclab", "compat", "best", "again")}
    me = [sys.executable, str(Path(__file__).resolve()), "--child"]
    peer = [sys.executable, "-c", "from dclab.cli import compress; compress()"]
    ways: dict[tuple[str, int], tuple[list[str], Path | None]] = {}
    for threads in args.threads:
        for encoder in ("compat", "best"):
            command = [*me, encoder, str(threads), str(source), str(out[encoder])]
            ways[encoder, threads] = (command, out[encoder])
        command = [*me, "compat", str(threads), str(out["compat"]), str(out["again"])]
        ways["prepared file again", threads] = (command, out["again"])
        command = [*me, "check", str(threads), str(out["compat"]), "-"]
        ways["verify prepared", threads] = (command, None)
    turns: list[tuple[Run, Run, dict[tuple[str, int], Run]]] = []
    for _ in range(args.repeat):
        base = measure([*peer, str(source), str(out["dclab"])], out["dclab"])
        runs = {way: measure(*spec) for way, spec in ways.items()}
        second = measure([*peer, str(out["compat"]), str(folder / "p.rtdc")], folder / "p.rtdc")
        turns.append((base, second, runs))
    access = {name: random_access(out[name]) for name in ("dclab", "compat", "best")}

    def median(values: Iterator[float]) -> float:
        return statistics.median(values)

    base_wall, base_cpu = (median(getattr(t[0], k) for t in turns) for k in ("wall", "cpu"))
    size, rss = turns[0][0].size, turns[0][0].rss
    rows = [
        f"| {label} | dclab-compress | 1 | {base_wall:.2f} | 1 | {base_cpu:.2f} | 1 "
        f"| {rss:.0f} | {size / 1e6:.1f} | 1 | {access['dclab']:.2f} ms |"
    ]
    for way, threads in ways:
        runs = [turn[2][way, threads] for turn in turns]
        peers = [turn[1] if way == "prepared file again" else turn[0] for turn in turns]
        faster = median(p.wall / r.wall for p, r in zip(peers, runs, strict=True))
        less = median(p.cpu / r.cpu for p, r in zip(peers, runs, strict=True))
        part = f"{runs[0].size / size:.4f}" if runs[0].size else ""
        seek = f"{access[way] / access['dclab']:.2f}" if way in access else ""
        rows.append(
            f"| {label} | {way} | {threads} | {median(r.wall for r in runs):.2f} | {faster:.2f} "
            f"| {median(r.cpu for r in runs):.2f} | {less:.2f} | {max(r.rss for r in runs):.0f} "
            f"| {runs[0].size / 1e6:.1f} | {part} | {seek} |"
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=float, default=300, help="decoded size in MB")
    parser.add_argument("--repeat", type=int, default=5, help="turns per file")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--layouts", nargs="+", default=LAYOUTS, choices=LAYOUTS)
    parser.add_argument("--cells", nargs="+", default=list(REAL), choices=list(REAL))
    parser.add_argument("--events", type=Path, help="measurement whose images are taken")
    parser.add_argument("--inputs", type=Path, nargs="*", help="measure these files instead")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        way, threads, source, target = args.child
        if way == "make":
            return make(Path(target), args.size, *source.split(), args.events)
        if way == "check":
            return check_file(Path(source), int(threads))
        return copy_file(Path(source), Path(target), way, int(threads))
    print("| file | program | threads | wall s | times faster | CPU s | times less CPU | RSS MB ", end="")
    print("| size MB | size ratio | random |\n|" + " --- |" * 11)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "source.rtdc"
        for path in args.inputs or []:
            print(*bench(path, path.stem, args, folder), sep="\n", flush=True)
        for cells in args.cells if not args.inputs else []:
            for layout in args.layouts:
                # In a process of its own: a child's peak memory counts from its parent's.
                event_file = ["--events", str(args.events)] if args.events else []
                command = [sys.executable, __file__, "--size", str(args.size), *event_file]
                measure([*command, "--child", "make", "1", f"{layout} {cells}", str(source)], source)
                rows = bench(source, f"{layout} {cells}", args, folder)
                print(*rows, sep="\n", flush=True)
    return None


if __name__ == "__main__":
    main()
