#!/usr/bin/env python3
"""Measure `dcorflow compress` beside `dclab-compress`; print JSON: rows of figures, one per program and file.

    bench_engine.py [--size MB] [--turns N] [--cells ...] [--layouts ...] [--threads 1 2] [--cold] [--brief]

Every run is a process of its own, start-up included; the programs take turns. Ratios are medians
of the ratios turn by turn: above 1, dcorflow is better. "random" is the time to read one image at
a random place. "decode and digest" verifies all checksums of a prepared file and takes the
digests of its content. "prepared again" is the prepared file as input, for both programs.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (registers the filters)
import numpy as np
from bench_cells import CELLS, LAYOUTS
from bench_measure import PEER, ROOT, Run, dcorflow, eight_cores, in_turn, measure, median, times_better

DIGEST = """
import sys, h5py, hdf5plugin
from dcorflow import engine
from dcorflow.hdf5 import members
with h5py.File(sys.argv[1], locking=False) as h5, engine.Helpers(int(sys.argv[2])) as helpers:
    datasets = {entry.path: h5[entry.path] for entry in members(h5) if entry.kind == "dataset"}
    engine.digest_datasets(datasets, threads=helpers)
"""


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


def row(label: str, name: str, threads: int, own: list[Run], peer: list[Run], size: int) -> dict[str, object]:
    """Return the figures of one program on one file."""
    found: dict[str, object] = {
        "file": label,
        "program": name,
        "threads": threads,
        "wall": median(own, "wall"),
        "faster": times_better(peer, own, "wall"),
        "cpu": median(own, "cpu"),
        "less_cpu": times_better(peer, own, "cpu"),
        "rss": max(run.rss for run in own),
    }
    if own[0].size:
        found |= {"size": own[0].size, "size_ratio": own[0].size / size}
    return found


def compressing(source: Path, out: Path, encoder: str, threads: int, cold: bool) -> Run:
    """Run `dcorflow compress`."""
    command = dcorflow("compress", str(source), str(out), "--encoder", encoder, "--threads", str(threads))
    return measure(command, out, source if cold else None)


def bench(source: Path, label: str, folder: Path, args: argparse.Namespace) -> list[dict]:
    """Measure one file."""
    threads, cold = args.threads, args.cold
    out = {way: folder / f"{way}.rtdc" for way in ("dclab", "compat", "best", "again", "dclab_again")}
    first = source if cold else None
    ways = {"dclab": lambda: measure([*PEER, str(source), str(out["dclab"])], out["dclab"], first)}
    for count in threads:
        for encoder in ("compat", "best"):
            ways[f"{encoder} {count}"] = lambda e=encoder, n=count: compressing(source, out[e], e, n, cold)
    if not (cold or args.brief):
        prepared, twice = str(out["compat"]), out["dclab_again"]
        for count in threads:
            ways[f"again {count}"] = lambda n=count: compressing(
                out["compat"], out["again"], "compat", n, False
            )
            digest = [sys.executable, "-c", DIGEST, prepared, str(count)]
            ways[f"digest {count}"] = lambda command=digest: measure(command)
        ways["dclab_again"] = lambda: measure([*PEER, prepared, str(twice)], twice)
    runs = in_turn(ways, args.turns)
    access = {name: random_access(out[name]) for name in ("dclab", "compat", "best")}
    return rows(runs, label, threads, access)


def rows(runs: dict[str, list[Run]], label: str, threads: list[int], access: dict[str, float]) -> list[dict]:
    """Return the rows of one file."""
    peer = runs["dclab"]
    size = peer[0].size
    found = [row(label, "dclab-compress", 1, peer, peer, size) | {"random": access["dclab"]}]
    for count in threads:
        for way in ("compat", "best"):
            seek = {"random": access[way], "random_ratio": access[way] / access["dclab"]}
            found.append(row(label, way, count, runs[f"{way} {count}"], peer, size) | seek)
    for way in ("compat", "best"):
        if {1, 2} <= set(threads):
            wall = eight_cores(runs[f"{way} 1"], runs[f"{way} 2"])
            eight = {"file": label, "program": f"{way}, extrapolated", "threads": 8, "wall": wall}
            found.append(eight | {"faster": median(peer, "wall") / wall})
    if "dclab_again" in runs:
        other = runs["dclab_again"]
        found.append(row(label, "prepared again: dclab-compress", 1, other, other, size))
        for count in threads:
            found.append(row(label, "prepared again: compat", count, runs[f"again {count}"], other, size))
            found.append(row(label, "decode and digest", count, runs[f"digest {count}"], peer, size))
    return found


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=float, default=1000, help="decoded size in MB")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--layouts", nargs="+", default=LAYOUTS, choices=LAYOUTS)
    parser.add_argument("--cells", nargs="+", default=list(CELLS), choices=list(CELLS))
    parser.add_argument("--cold", action="store_true", help="read each input from the disk")
    parser.add_argument("--brief", action="store_true", help="only compress, do not read the results again")
    parser.add_argument("--folder", type=Path, default=ROOT / "bench" / "work")
    parser.add_argument("--inputs", type=Path, nargs="*", default=[], help="measure these files instead")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    found = []
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        for path in args.inputs:
            found += bench(path, path.stem, folder, args)
        for cells in args.cells if not args.inputs else []:
            # In a process of its own: a child's peak memory counts from its parent's.
            command = [sys.executable, str(Path(__file__).with_name("bench_cells.py")), str(folder)]
            measure([*command, str(args.size), "--cells", cells, "--layouts", *args.layouts])
            for layout in args.layouts:
                source = folder / f"{layout}_{cells}.rtdc"
                label = f"{layout} {cells}, {args.size / 1000:g} GB" + (", cold" if args.cold else "")
                print(label, file=sys.stderr, flush=True)
                found += bench(source, label, folder, args)
                source.unlink()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
