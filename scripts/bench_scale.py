"""Time what grows with the number of measurements when nothing, or one file, is new; print JSON.

    bench_scale.py [--measurements 1000 10000 100000] [--turns 3] [--only job] [--folder bench/work/scale]

Ten measurements per dataset, in work directories made by `scale_data.py`. "start of a job" is what a
job costs before its own command runs, "start of an empty job" the same of a Snakefile with one rule
and nothing else. "Snakemake itself" is what is left of a run with nothing to do without discover and
report. With `--only job` the starts of jobs alone are measured: two minutes with 1,000 measurements.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import scale_data
from bench_measure import ENVIRONMENT, dcorflow

from dcorflow.run import path_of_jobs

ROOT = Path(__file__).resolve().parent.parent
PER_DATASET = 10
#: Pause between two looks at the memory of all processes, seconds.
_PAUSE = 0.05
#: What a head gives its jobs.
OF_JOBS = ENVIRONMENT | {"PYTHONPATH": path_of_jobs(str(ROOT))}
#: As small as a Snakefile can be in which a job runs a command.
EMPTY = "rule compress:\n    output: 'compress.done'\n    shell: 'touch {output}'\n"
#: Options that Snakemake's executors give to a job.
_AS_JOBS_ARE = (
    *("--allowed-rules", "compress", "--mode", "remote", "--attempt", "1", "--force"),
    *("--force-use-threads", "--target-files-omit-workdir-adjustment", "--max-inventory-time", "0"),
    *("--nocolor", "--notemp", "--no-hooks", "--nolock", "--ignore-incomplete"),
    *("--rerun-triggers", "mtime", "params"),
)

Figures = dict[str, float]


class Together(threading.Thread):
    """Watches how much memory a process and its children have, all together and the largest one, MB.

    What the system keeps as the peak of a process is that of its parent, where that had more.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak, self.largest, self.ended = pid, 0.0, 0.0, threading.Event()

    def run(self) -> None:
        """Look until the process is gone."""
        while not self.ended.wait(_PAUSE):
            try:
                process = psutil.Process(self.pid)
                family = [process, *process.children(recursive=True)]
                sizes = [p.memory_info().rss / 2**20 for p in family]
                self.peak, self.largest = max(self.peak, sum(sizes)), max(self.largest, *sizes)
            except psutil.Error:
                continue


def measure(command: list[str], environment: dict[str, str] = ENVIRONMENT) -> Figures:
    """Run a command; return wall and CPU seconds, memory of its largest process and of all, MB."""
    start = time.perf_counter()
    child = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT.parent
    )
    watch = Together(child.pid)
    watch.start()
    assert child.stderr is not None
    errors = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - start
    watch.ended.set()
    watch.join()
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {errors.decode(errors='replace')[-800:]}")
    cpu = usage.ru_utime + usage.ru_stime
    return {"wall": wall, "cpu": cpu, "rss": watch.largest, "together": watch.peak}


def job(work: Path) -> list[str]:
    """Return the command that a scheduler's job runs, as Snakemake's executors put it together."""
    return scale_data.snakemake(work, "--target-jobs", "compress:batch=b000001", *_AS_JOBS_ARE)


def empty_job(folder: Path) -> list[str]:
    """Return the command of a job whose Snakefile has nothing in it but its rule."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Snakefile").write_text(EMPTY, encoding="utf-8")
    start = [sys.executable, "-m", "snakemake", "--snakefile", str(folder / "Snakefile")]
    place = ["--directory", str(folder), "--cores", str(os.cpu_count() or 1)]
    return [*start, *place, "--target-jobs", "compress:", *_AS_JOBS_ARE]


def ways(work: Path, only_job: bool) -> dict[str, Callable[[], Figures]]:
    """Return what is measured again and again, by name."""
    here = ["-d", str(work)]
    commands = {
        "nothing to do": scale_data.snakemake(work),
        "discover": dcorflow(*here, "discover"),
        "report": dcorflow(*here, "report"),
        "dcorflow plan": dcorflow(*here, "plan"),
        "dcorflow status": dcorflow(*here, "status"),
    }
    jobs = {
        "job": job(work),
        "its command": dcorflow(*here, "batch", "compress", "b000001", "1"),
        "start of an empty job": empty_job(work.parent / "empty"),
    }
    found = {} if only_job else {name: partial(measure, command) for name, command in commands.items()}
    return found | {name: partial(measure, command, OF_JOBS) for name, command in jobs.items()}


def median(turns: list[Figures]) -> Figures:
    """Return the median of each figure, and the least CPU time: whatever else runs only adds to it."""
    found = {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}
    return found | {"least": min(turn["cpu"] for turn in turns)}


def less(whole: Figures, *parts: Figures) -> Figures:
    """Return what is left of a command without others that it calls; memory is that of the whole."""
    times = {n: max(0.0, whole[n] - sum(p[n] for p in parts)) for n in ("wall", "cpu", "least")}
    return whole | times


def jobs_of(work: Path, do: Callable[[], Figures]) -> tuple[Figures, list[str]]:
    """Return what a run took, and the jobs that it ran, by their stamps."""
    state = work / "results" / ".state"

    def stamps() -> dict[str, int]:  # a new file may get the inode of the one that it replaces
        return {f"{p.parent.name}/{p.stem}": p.stat().st_mtime_ns for p in state.glob("*/*.done")}

    before = stamps()
    figures = do()
    return figures, sorted(name for name, mtime in stamps().items() if before.get(name) != mtime)


def measure_size(work: Path, measurements: int, turns: int, only_job: bool = False) -> list[dict[str, Any]]:
    """Return the rows of one work directory."""
    datasets = measurements // PER_DATASET
    what = ways(work, only_job)
    found: dict[str, list[Figures]] = {name: [] for name in what}
    for name in ("job", "start of an empty job"):
        what[name]()  # bytecode and caches are there afterwards
    for _ in range(turns):
        for name, do in what.items():
            found[name].append(do())
    rows = {name: median(figures) for name, figures in found.items()}
    rows["start of a job"] = less(rows.pop("job"), rows.pop("its command"))
    if only_job:
        return [{"what": n, "measurements": measurements, "datasets": datasets, **f} for n, f in rows.items()]
    rows["Snakemake itself"] = less(rows["nothing to do"], rows["discover"], rows["report"])
    scale_data.write_tiny(work / "source" / f"day-{datasets - 1:05d}" / "added.rtdc", measurements)
    figures, ran = jobs_of(work, lambda: measure(scale_data.snakemake(work)))
    rows["one file added"] = median([figures])
    expected = {"compress", "check", "merge_metadata", "task"}
    if {name.partition("/")[0] for name in ran} != expected or len(ran) != len(expected):
        raise SystemExit(f"one file was added, and these jobs ran: {ran}")
    return [{"what": n, "measurements": measurements, "datasets": datasets, **f} for n, f in rows.items()]


def exponents(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return how the least CPU time grows, for sizes of equal ratios: t = start + slope * n ** exponent.

    The fixed cost of a start drops out of the differences between sizes. The start of a job is left out:
    it does not grow.
    """
    found = []
    for what in dict.fromkeys(row["what"] for row in rows):
        points = sorted((r["measurements"], r["least"]) for r in rows if r["what"] == what)
        if len(points) < 3 or what.startswith("start"):
            continue
        (n1, t1), (n2, t2), (n3, t3) = points[-3:]
        if t2 > t1 and t3 > t2 and n1 * n3 == n2 * n2:
            exponent = math.log((t3 - t2) / (t2 - t1)) / math.log(n3 / n2)
            found.append({"what": what, "exponent": exponent, "per_million": 1e6 * (t3 - t2) / (n3 - n2)})
    return found


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measurements", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--only", choices=["job"], help="measure nothing but the starts of jobs")
    parser.add_argument("--folder", type=Path, default=ROOT / "bench" / "work" / "scale")
    args = parser.parse_args()
    folder = args.folder.resolve()
    template = folder / "template"
    scale_data.prepare(template, scale_data.TEMPLATE, scale_data.TEMPLATE_DATASETS)
    rows = []
    for measurements in args.measurements:
        work = folder / str(measurements)
        scale_data.multiply(template, work, measurements, measurements // PER_DATASET)
        rows += measure_size(work, measurements, args.turns, args.only == "job")
        shutil.rmtree(work)
    print(json.dumps(rows + exponents(rows)))
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
