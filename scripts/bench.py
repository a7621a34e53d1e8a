"""Run all benchmarks and write the tables into bench/README.md (`make bench`).

    bench.py [--size 1000] [--turns 5] [--measurements 1000] [--quick]

Takes about half an hour on two cores; `--quick` a few minutes, for a first impression.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from bench_engine import make

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "bench" / "README.md"
WORK = ROOT / "bench" / "work"

INTRODUCTION = """\
# Measured

Made by `make bench`; every run is a process of its own, start-up included, and the programs take
turns. Ratios are medians of the ratios turn by turn: above 1, dcorflow is faster.

{machine}
"""


def machine() -> str:
    """Return one line about the machine and the versions."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("dclab", "dcoraid", "h5py", "snakemake"))
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    return (
        f"{day}; {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}; {packages}"
    )


def table(*command: str) -> str:
    """Run a benchmark and return the table it prints."""
    print(f"bench: {' '.join(command)}", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, *command], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT / "scripts"
    )
    return "\n".join(line for line in done.stdout.splitlines() if line.startswith("|")) + "\n"


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=float, default=1000, help="decoded MB of the large files")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--measurements", type=int, default=1000)
    parser.add_argument("--many", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="small files, few turns")
    args = parser.parse_args()
    if args.quick:
        args.size, args.turns, args.measurements, args.many = 200, 3, 100, 40
    WORK.mkdir(parents=True, exist_ok=True)
    large = WORK / "blood.rtdc"
    make(large, args.size, "raw", "blood", None)
    turns = str(args.turns)
    parts = [INTRODUCTION.format(machine=machine())]
    parts.append("## One file: dcorflow compress beside dclab-compress\n")
    parts.append(table("bench_engine.py", "--size", str(args.size), "--repeat", turns))
    parts.append("## One file: the whole chain beside DCKit's and DCOR-Aid's functions\n")
    parts.append(table("bench_chain.py", str(large), "--turns", turns))
    parts.append("## Many files in one process\n")
    parts.append(table("bench_chain.py", "--many", str(args.many), "--turns", str(min(3, args.turns))))
    large.unlink()
    parts.append("## The whole workflow\n")
    parts.append(table("bench_workflow.py", "--measurements", str(args.measurements)))
    README.write_text("\n".join(parts), encoding="utf-8")
    print(f"written: {README}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
