"""Make a work directory of very many measurements in which nothing is left to do.

    scale_data.py WORK [--measurements 10000] [--datasets 1000] [--prepare]

Preparing a hundred thousand files takes hours, so a small tree is prepared for real and multiplied:
source tree and prepared files are sparse, with sizes and times of the real ones; what a source file
holds is made up; everything else (inventory, plans, records, tasks, stamps, Snakemake's notes) is
written by the code that a run calls. `--prepare` prepares all of it for real, to compare.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from demo_data import set_times, write_measurement  # noqa: E402

from dcorflow import recipes  # noqa: E402
from dcorflow.batch import write_stamp  # noqa: E402
from dcorflow.discover.run import discover  # noqa: E402
from dcorflow.files import key_of, read_json, to_json, write_text  # noqa: E402
from dcorflow.portrait import make as portrait  # noqa: E402
from dcorflow.records import Record, SourceFile, load_record, save_record  # noqa: E402
from dcorflow.source import identity  # noqa: E402
from dcorflow.source.inventory import Item, load_inventory  # noqa: E402
from dcorflow.source.probe import Probe  # noqa: E402
from dcorflow.task import run_group  # noqa: E402
from dcorflow.workdir import Workdir  # noqa: E402

#: Measurements that are prepared for real, in so many datasets.
TEMPLATE, TEMPLATE_DATASETS = 50, 5
CONFIG = """\
input: {root: source, min_age: 0}
datasets:
  defaults: {authors: [A. Name], license_id: CC0-1.0, owner_org: my-circle}
"""
_FEATURES = ("area_um", "deform", "frame", "time")
#: Time of all source files, ns.
_TIME = 1_710_955_800 * 10**9
#: Marks thousands of jobs as done at once: Snakemake's own way does it one by one, with a pause each.
_TOUCH = """
from unittest import mock
import snakemake.executors.touch
from snakemake.cli import main
with mock.patch("snakemake.executors.touch.time"):
    main()
"""
#: A measurement that was prepared for real, and what its pictures are made of.
Known = tuple[Record, dict[str, Any]]


def snakemake(work: Path, *options: str, start: Sequence[str] = ("-m", "snakemake")) -> list[str]:
    """Return the command line of a run."""
    return [
        *(sys.executable, *start, "--snakefile", str(ROOT / "Snakefile")),
        *("--directory", str(work), "--configfile", str(work / "config.yaml")),
        *("--cores", str(os.cpu_count() or 1), *options),
    ]


def _quietly(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def source_paths(measurements: int, datasets: int) -> list[str]:
    """Return the paths of all measurements below the root, each dataset's in a folder of its own."""
    return [f"day-{n % datasets:05d}/M{n // datasets:04d}_blood.rtdc" for n in range(measurements)]


def write_tiny(path: Path, seed: int) -> Path:
    """Write a real measurement of a few kilobytes."""
    return write_measurement(
        path, events=4, seed=seed, roi=(32, 48), fluorescence=False, table=False, features=_FEATURES
    )


def _new(work: Path) -> Path:
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    (work / "config.yaml").write_text(CONFIG, encoding="utf-8")
    return work


def prepare(work: Path, measurements: int, datasets: int) -> None:
    """Write real tiny measurements and run the workflow on them."""
    _new(work)
    for seed, path in enumerate(source_paths(measurements, datasets)):
        write_tiny(work / "source" / path, seed)
    set_times(work / "source")
    _quietly(snakemake(work))


def multiply(template: Path, work: Path, measurements: int, datasets: int) -> None:
    """Make a work directory of many measurements from one that was prepared for real."""
    _new(work)
    here, there = Workdir(work), Workdir(template)
    known = [_known(there, item) for item in load_inventory(there.inventory)]
    for number, path in enumerate(source_paths(measurements, datasets)):
        _write_sparse(work / "source" / path, known[number % len(known)][0].files[0].size, _TIME)
    config = read_json(there.config)
    config["input"]["root"] = [str(work / "source")]
    here.state.mkdir(parents=True)
    shutil.copy(there.config, here.config)
    with _without_reading_or_syncing():
        items = discover(config, here).items
        _share(range(len(items)), lambda n: _write_record(here, items[n], *known[n % len(known)]))
        _write_stamps(here)
    # Snakemake's notes about each job, and the report of the end of the run.
    at_once = ("--cores", str(measurements), "--scheduler", "greedy")
    _quietly(snakemake(work, "--touch", "--forceall", *at_once, start=("-c", _TOUCH)))
    _quietly(snakemake(work))


def _known(template: Workdir, item: Item) -> Known:
    record = load_record(template, item.measurement)
    assert record is not None, item
    return record, read_json(template.portrait(item.measurement))


def _share(things: Sequence[Any], do: Callable[[Any], None]) -> None:
    """Do something with each of many things, in as many forked processes as there are cores."""
    context, parts = multiprocessing.get_context("fork"), os.cpu_count() or 1

    def work(part: int) -> None:
        for thing in things[part::parts]:
            do(thing)

    processes = [context.Process(target=work, args=(part,)) for part in range(parts)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit("a process that wrote a part of the work directory failed")


@contextmanager
def _without_reading_or_syncing() -> Iterator[None]:
    """Let discover take made-up looks into the source files, and write without waiting for the disk."""

    def looks(jobs: Sequence[tuple[str, Sequence[Path]]], workers: int) -> list[Probe]:
        return [Probe(fingerprint=key_of(str(paths[0])) * 2, events=4) for _, paths in jobs]

    with mock.patch.object(identity, "probe_all", looks), mock.patch.object(os, "fsync", lambda handle: None):
        yield


def _write_sparse(path: Path, size: int, mtime_ns: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.truncate(size)
    os.utime(path, ns=(mtime_ns, mtime_ns))


def _write_record(work: Workdir, item: Item, known: Record, pictures: dict[str, Any]) -> None:
    """Write prepared file, pictures and record of a measurement as if it had been prepared."""
    content = f"xxh3-128:{key_of(item.measurement) * 2}"
    made = {"name": item.name, "sha256": key_of(item.measurement, "prepared") * 4}
    record = replace(
        known,
        measurement=item.measurement,
        dataset=item.dataset,
        root=item.root,
        files=[SourceFile(f.path, f.size, f.mtime_ns) for f in item.files],
        content=content,
        check_key=recipes.check_key(known.body_key, content),
        prepared=known.prepared | made,
    )
    _write_sparse(
        work.datasets / item.dataset / item.name, known.prepared["size"], known.prepared["mtime_ns"]
    )
    key = portrait.key_for(record)
    record.portrait = known.portrait | {"key": key}
    write_text(work.portrait(item.measurement), to_json(pictures | {"key": key}))
    save_record(work, record)


def _write_stamps(work: Workdir) -> None:
    """Write what the jobs of all batches and groups leave behind."""

    def write(path: Path) -> None:
        plan = read_json(path)
        for stage in ("compress", "check", "merge_metadata"):
            write_stamp(work, stage, plan["batch"], [e["measurement"] for e in plan["entries"]])

    _share(sorted((work.state / "batches").glob("*.json")), write)
    write_text(work.state / "discover.done", to_json({"unfinished": []}))
    _share(sorted(read_json(work.state / "plan.json")["groups"]), lambda group: run_group(work, group))


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--measurements", type=int, default=10_000)
    parser.add_argument("--datasets", type=int, default=1_000)
    parser.add_argument("--prepare", action="store_true", help="prepare all of it for real")
    args = parser.parse_args()
    work = args.work.resolve()
    if args.prepare:
        prepare(work, args.measurements, args.datasets)
        return 0
    template = work.with_name(f"{work.name}-template")
    prepare(template, TEMPLATE, TEMPLATE_DATASETS)
    multiply(template, work, args.measurements, args.datasets)
    shutil.rmtree(template)
    return 0


if __name__ == "__main__":
    sys.exit(main())
