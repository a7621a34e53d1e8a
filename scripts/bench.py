"""Run the benchmarks and write figures, tables and a plot into bench/ (`make bench`).

    bench.py [--only PART ...] [--files 'raw blood' ...] [--size 1000] [--turns 5] [--measurements 1000]
             [--eight 500] [--large 4000] [--small 50] [--quick] [--tables]

Takes about half an hour on two cores; `--quick` a few minutes, for a first impression. Parts and
files that are not run keep the figures they have in bench/results.json, which is written after each
file. `--tables` only writes the tables.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench_cells import CELLS, LAYOUTS
from bench_measure import table
from bench_plot import figure

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / "bench"
Rows = list[dict[str, Any]]

INTRODUCTION = """\
# Measured

Made by `make bench`; every run is a process of its own, start-up included, and the programs take
turns. Ratios are medians of the ratios turn by turn: above 1, dcorflow is faster. "8 threads" is
extrapolated from the wall time with one and with two. "random" is the time to read one image at a
random place. "prepared again" is a prepared file as input. "decode and digest" is what it takes to
verify all checksums of a prepared file and to take the digests of its content. "by hand" are the
functions of dclab and dcoraid that DCKit and DCOR-Aid call, which verify nothing. Memory is that of
all processes of a program together, with what they share counted once.

Parts can be run one by one; what is not run keeps its figures. With 5 turns on two cores:

    python scripts/bench.py --only engine --files 'raw blood'    2 to 3 minutes for each file
    python scripts/bench.py --only cold                          2 minutes
    python scripts/bench.py --only large                         4 minutes
    python scripts/bench.py --only chain                         3 minutes
    python scripts/bench.py --only many                          5 minutes: 200 files in one batch
    python scripts/bench.py --only workflow                      5 minutes
    python scripts/bench.py --only edit                          1 minute; as root with clones, too
    python scripts/bench.py --only page                          10 minutes, most of them to make the data
    python scripts/bench.py --only upload --eight 0 --large 0    5 minutes: 50 small datasets
    make bench-upload                                            that, and large ones

Other metadata change the head and the end of a prepared file, and the contract wants SHA256 and ETag of
the whole file: where the file system clones, hardly anything else is left of an edit. How many times
faster an edit is than preparing the file anew is limited by that; see "Other metadata for a large file".

Uploads go to a DCOR server that is started on this machine (as root), the large ones through a proxy
that delays each request by 50 ms and lets 20 MB/s through per connection; only on request, not with
the rest. `dcoraid-upload-task` sends one file and one part after the other. So does `curl`, with nothing
else: it asks for addresses, puts the parts of a file (1 GiB at most, cut beforehand) into the object store,
and has them joined; no draft, no checksums, nothing verified. The server's own jobs run with low priority,
as they take no time of the client where the server is another machine. Where a cell is empty, the program
gave up: `dcoraid-upload-task` does with a file of 4 GB through this line.

What stands in the way of more is told in [limits.md](limits.md).

`bench/results.json` says for each part how many seconds it took.
"""
TITLES = {
    "engine": "One file: dcorflow compress beside dclab-compress",
    "cold": "The same with the input read from the disk",
    "large": "A large file",
    "chain": "One file: the whole chain",
    "many": "Many files in one batch",
    "workflow": "The whole workflow",
    "edit": "Other metadata for a large file",
    "scale": "Very many measurements",
    "page": "The report",
    "upload": "Uploads",
}
FILES = [f"{layout} {cells}" for layout in LAYOUTS for cells in CELLS]
MARKS = ("<!-- figures of make bench -->", "<!-- end of figures -->")


def machine() -> str:
    """Return one line about the machine and the versions."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("dclab", "dcoraid", "h5py", "snakemake"))
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    return (
        f"{day}; {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}; {packages}"
    )


def commands(args: argparse.Namespace) -> dict[str, list[list[str]]]:
    """Return what to run for each part."""
    turns = ["--turns", str(args.turns)]
    sized = ["bench_engine.py", "--size", str(args.size), *turns]
    files = [name.split() for name in args.files or FILES]
    large = ["bench_engine.py", "--size", str(3 * args.size), *turns]
    raw = ["--layouts", "raw", "--cells", "blood"]
    fewer = ["--turns", str(min(3, args.turns))]
    uploads = ["--eight", str(args.eight), "--large", str(args.large), "--small", str(args.small)]
    return {
        "engine": [
            [*sized, "--layouts", layout, "--cells", cells, *([] if layout == "raw" else ["--threads", "2"])]
            for layout, cells in files
        ],
        "cold": [[*sized, *raw, "--threads", "2", "--cold"]],
        "large": [[*large, *raw, "--threads", "2", "--brief"]],
        "chain": [["bench_chain.py", "--size", str(args.size), *turns]],
        "many": [["bench_chain.py", "--many", str(args.many), *fewer]],
        "workflow": [["bench_workflow.py", "--measurements", str(args.measurements)]],
        "edit": [["bench_edit.py", "--size", str(args.size), *turns]],
        "scale": [["bench_scale.py", "--measurements", *map(str, args.scale), "--turns", fewer[1]]],
        "page": [["bench_page.py", "--measurements", *map(str, args.page), "--turns", fewer[1]]],
        "upload": [["bench_upload.py", *uploads]],
    }


def run(command: list[str]) -> Rows:
    """Run one benchmark and return its rows."""
    print(f"bench: {' '.join(command)}", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, *command], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT / "scripts"
    )
    rows: Rows = json.loads(done.stdout.splitlines()[-1])
    return rows


def merged(old: Rows, new: Rows) -> Rows:
    """Return rows with those of the files, or uploads, measured again in the place of the old ones."""

    def subject(row: dict[str, Any]) -> str:
        return str(row.get("file") or row.get("what"))

    again = {subject(row) for row in new}
    rows = [row for row in old if subject(row) not in again] + new
    order = {name: number for number, name in enumerate(FILES)}
    return sorted(rows, key=lambda row: order.get(subject(row).partition(",")[0], -1))


def measure_part(part: str, args: argparse.Namespace, results: dict[str, Any]) -> None:
    """Run a part and keep its figures, file by file."""
    start = time.monotonic()
    in_pieces = part == "engine" and args.files
    in_pieces = in_pieces or (part == "upload" and not all((args.eight, args.large, args.small)))
    rows: Rows = results.get(part, {}).get("rows", []) if in_pieces else []
    for command in commands(args)[part]:
        rows = merged(rows, run(command))
        seconds = round(time.monotonic() - start)
        results[part] = {"machine": machine(), "seconds": seconds, "rows": rows}
        (BENCH / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(f"bench: {part} took {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)


def cell(row: dict[str, Any], name: str, digits: int = 2, scale: float = 1.0) -> str:
    """Return a figure for a table, empty where there is none, or the program gave up."""
    value = row.get(name)
    return "" if value is None or math.isnan(value) else f"{value * scale:.{digits}f}"


def engine_table(rows: Rows) -> list[str]:
    """Return the table of `bench_engine.py`."""
    header = ["file", "program", "threads", "wall s", "times faster", "CPU s", "times less CPU", "memory MB"]
    header += ["size MB", "size ratio", "random ms", "ratio"]
    return table(
        header,
        (
            [r["file"], r["program"], r["threads"], cell(r, "wall"), cell(r, "faster"), cell(r, "cpu"),
             cell(r, "less_cpu"), cell(r, "rss", 0), cell(r, "size", 1, 1e-6), cell(r, "size_ratio", 4),
             cell(r, "random"), cell(r, "random_ratio")]
            for r in rows
        ),
    )  # fmt: skip


def chain_table(rows: Rows) -> list[str]:
    """Return the table of `bench_chain.py`."""
    header = ["what", "who", "wall s", "s per file", "times faster", "CPU s", "times less CPU", "peak MB"]
    return table(
        header,
        (
            [r["what"], r["who"], cell(r, "wall"), cell(r, "per_file", 3), cell(r, "faster"), cell(r, "cpu"),
             cell(r, "less_cpu"), cell(r, "rss", 0)]
            for r in rows
        ),
    )  # fmt: skip


def workflow_table(rows: Rows) -> list[str]:
    """Return the table of `bench_workflow.py`."""
    header = [rows[0]["what"], "wall s", "times faster", "CPU s", "ms wall per file", "largest process MB"]
    return table(
        header,
        (
            [r["run"], cell(r, "wall", 1), cell(r, "faster", 1), cell(r, "cpu", 1),
             cell(r, "per_file", 1, 1000), cell(r, "rss", 0)]
            for r in rows
        ),
    )  # fmt: skip


def edit_table(rows: Rows) -> list[str]:
    """Return the table of `bench_edit.py`."""
    header = ["file system", "what", "prepared MB", "wall s", "times faster", "CPU s", "times less CPU"]
    return table(
        header,
        (
            [r["how"], r["what"], cell(r, "size", 1, 1e-6), cell(r, "wall", 3), cell(r, "faster", 1),
             cell(r, "cpu", 3), cell(r, "less_cpu", 1)]
            for r in rows
        ),
    )  # fmt: skip


def scale_table(rows: Rows) -> list[str]:
    """Return the tables of `bench_scale.py`: what each size takes, and how that grows."""
    header = ["measurements", "datasets", "what", "wall s", "CPU s", "largest process MB", "all together MB"]
    lines = table(
        header,
        (
            [r["measurements"], r["datasets"], r["what"], cell(r, "wall"), cell(r, "cpu"), cell(r, "rss", 0),
             cell(r, "together", 0)]
            for r in rows
            if "wall" in r
        ),
    )  # fmt: skip
    grown = [[r["what"], cell(r, "exponent"), cell(r, "per_million", 0)] for r in rows if "exponent" in r]
    header = ["least CPU time, without the start", "exponent", "s per million measurements"]
    return [*lines, "", *table(header, grown)] if grown else lines


def page_table(rows: Rows) -> list[str]:
    """Return the table of `bench_page.py`."""
    header = ["measurements", "datasets", "dcorflow report", "wall s", "CPU s", "process MB", "page MB"]
    return table(
        header,
        (
            [r["measurements"], r["datasets"], r["what"], cell(r, "wall"), cell(r, "cpu"), cell(r, "rss", 0),
             cell(r, "page", 1)]
            for r in rows
        ),
    )  # fmt: skip


def upload_table(rows: Rows) -> list[str]:
    """Return the table of `bench_upload.py`."""
    header = ["what", "dcorflow, wall s", "dcoraid-upload-task, wall s", "times faster", "curl, wall s"]
    return table(
        header,
        ([r["what"], cell(r, "wall"), cell(r, "other"), cell(r, "faster", 1), cell(r, "curl")] for r in rows),
    )


def summary(results: dict[str, Any]) -> list[str]:
    """Return the short table of the project's README."""
    files = [r for part in ("engine", "large") for r in results.get(part, {}).get("rows", [])]
    lines = []
    for name in dict.fromkeys(r["file"] for r in files):
        found = {r["program"]: r for r in files if r["file"] == name and r["threads"] == 2}
        compat, best = found["compat"], found["best"]
        lines.append([name, cell(compat, "faster", 1), cell(compat, "size_ratio", 3), cell(best, "faster", 1),
                      cell(best, "size_ratio", 3)])  # fmt: skip
    header = [
        "2 threads, beside `dclab-compress`",
        "compat: times faster",
        "size",
        "best: times faster",
        "size",
    ]
    parts = table(header, lines) if lines else []
    chain = [r for part in ("chain", "many") for r in results.get(part, {}).get("rows", [])]
    rows = [[r["what"], r["who"].removeprefix("dcorflow, "), cell(r, "faster", 1), cell(r, "per_file", 3)]
            for r in chain if r["who"] != "by hand"]  # fmt: skip
    if rows:
        parts += [
            "",
            *table(["whole chain, beside the same steps by hand", "", "times faster", "s per file"], rows),
        ]
    return [*parts, "", "![Times faster than dclab-compress](bench/speed.svg)"]


def write(results: dict[str, Any]) -> None:
    """Write bench/README.md, the plot, and the figures in the project's README."""
    tables = {"chain": chain_table, "many": chain_table, "workflow": workflow_table, "edit": edit_table,
              "scale": scale_table, "page": page_table, "upload": upload_table}  # fmt: skip
    parts = [INTRODUCTION]
    for name, title in TITLES.items():
        if name in results:
            lines = tables.get(name, engine_table)(results[name]["rows"])
            parts += [f"## {title}\n", results[name]["machine"] + "\n", "\n".join(lines) + "\n"]
        if name == "engine" and name in results:
            (BENCH / "speed.svg").write_text(figure(results[name]["rows"], 2), encoding="utf-8")
            parts.append("![Times faster than dclab-compress](speed.svg)\n")
    (BENCH / "README.md").write_text("\n".join(parts), encoding="utf-8")
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    begin, end = (re.escape(mark) for mark in MARKS)
    block = "\n\n".join([MARKS[0], "\n".join(summary(results)), MARKS[1]])
    readme.write_text(re.sub(f"{begin}.*{end}", lambda _: block, text, flags=re.DOTALL), encoding="utf-8")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    usual = [part for part in TITLES if part != "upload"]  # which starts servers
    parser.add_argument("--only", nargs="+", default=usual, choices=list(TITLES), metavar="PART")
    parser.add_argument("--files", nargs="+", choices=FILES, metavar="FILE", help="of the part 'engine'")
    parser.add_argument("--size", type=float, default=1000, help="decoded MB of the files")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--measurements", type=int, default=1000)
    parser.add_argument("--many", type=int, default=200)
    parser.add_argument("--scale", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--page", type=int, nargs="+", default=[1_000, 5_000, 10_000, 20_000, 100_000])
    parser.add_argument(
        "--eight", type=float, default=500, help="MB of each of eight files to upload; 0: none"
    )
    parser.add_argument("--large", type=float, default=4000, help="MB of a large file to upload; 0: none")
    parser.add_argument("--small", type=int, default=50, help="number of small datasets to upload; 0: none")
    parser.add_argument("--quick", action="store_true", help="small files, few turns")
    parser.add_argument(
        "--tables", action="store_true", help="only write the tables of the figures there are"
    )
    args = parser.parse_args()
    if args.quick:
        args.size, args.turns, args.measurements, args.many = 200, 3, 100, 40
        args.scale, args.page = [1_000, 10_000], [1_000, 10_000]
        args.eight, args.large, args.small = 50, 400, 8
    file = BENCH / "results.json"
    results = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for part in [] if args.tables else args.only:
        measure_part(part, args, results)
    write(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
