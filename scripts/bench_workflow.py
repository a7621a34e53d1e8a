"""Time the whole workflow on many small measurements, and print JSON.

First run, nothing to do, one file added, one column of the sheet changed for all of them.

bench_workflow.py [--measurements 1000] [--datasets 20] [--folder bench/work]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from demo_data import set_times, write_measurement

ROOT = Path(__file__).resolve().parent.parent
CONFIG = """\
input: {root: source, min_age: 0}
datasets:
  defaults: {authors: [A. Name], license_id: CC0-1.0, owner_org: my-circle}
"""


def write_source(folder: Path, measurements: int, datasets: int) -> None:
    """Write `measurements` files of 1 to 2 MB into `datasets` folders."""
    for number in range(measurements):
        place = folder / f"2024-{number % datasets:03d}_day"
        place.mkdir(parents=True, exist_ok=True)
        events = 25 + number % 20
        write_measurement(place / f"M{number}_data.rtdc", events=events, seed=number)
    set_times(folder)


def run(work: Path, cores: int) -> tuple[float, float, float]:
    """Run the workflow; return wall seconds, CPU seconds and the largest process in MB."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(work), "--configfile", str(work / "config.yaml"), "--cores", str(cores)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, after.ru_maxrss / 1024


def measure(work: Path, measurements: int, datasets: int, cores: int) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    (work / "config.yaml").write_text(CONFIG, encoding="utf-8")
    write_source(work / "source", measurements, datasets)
    size = sum(p.stat().st_size for p in (work / "source").rglob("*.rtdc")) / 1e6
    what = f"{measurements} measurements in {datasets} datasets, {size:.0f} MB, {cores} cores"
    rows = [_row(what, "first run", run(work, cores), measurements)]
    reruns = sorted(run(work, cores) for _ in range(5))
    rows.append(_row(what, "nothing to do (median of 5)", reruns[2], measurements))
    write_measurement(work / "source" / "2024-000_day" / "added.rtdc", events=30, seed=measurements)
    set_times(work / "source")
    rows.append(_row(what, "one file added", run(work, cores), measurements))
    changes = []
    for medium in ("water", "CellCarrier", "CellCarrierB"):
        sheet = f"source\tsetup:medium\n*\t{medium}\n"
        (work / "sheet.tsv").write_text(sheet, encoding="utf-8")
        (work / "config.yaml").write_text(CONFIG + "metadata: {sheet: sheet.tsv}\n", encoding="utf-8")
        changes.append(run(work, cores))
    rows.append(_row(what, "one column changed (median of 3)", sorted(changes)[1], measurements))
    first = rows[0]["wall"]
    return [row | {"faster": first / row["wall"]} for row in rows]


def _row(what: str, name: str, figures: tuple[float, float, float], measurements: int) -> dict[str, Any]:
    wall, cpu, memory = figures
    return {
        "what": what,
        "run": name,
        "wall": wall,
        "cpu": cpu,
        "per_file": wall / measurements,
        "rss": memory,
    }


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measurements", type=int, default=1000)
    parser.add_argument("--datasets", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=ROOT / "bench" / "work")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    rows = measure(args.folder.resolve(), args.measurements, args.datasets, args.cores)
    print(json.dumps(rows))
    shutil.rmtree(args.folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
