"""Time the whole chain for one file, or for many in one process, beside what is done by hand today.

    bench_chain.py FILE.rtdc [--turns 5] [--threads 2] [--encoder compat|best]
    bench_chain.py --many 200 [--turns 3]

By hand means: the steps that DCKit and DCOR-Aid take, with the functions of dclab and dcoraid that
they call: hash the input, compress, history, metadata, repack without logs, integrity check, the
checks before an upload, SHA256 and ETag. dcorflow does the same, and decodes every chunk of the
result and compares it with the source. Both run as processes of their own, in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from demo_data import write_measurement

ROOT = Path(__file__).resolve().parent.parent


def by_hand(inputs: list[Path], folder: Path) -> None:
    """Prepare measurements as a person does with DCKit and DCOR-Aid, without the clicks."""
    import hashlib

    import dclab
    import h5py
    import numpy as np
    from dclab.cli import common, compress, repack
    from dclab.rtdc_dataset.check import IntegrityChecker
    from dcoraid.common import etagsum, sha256sum

    def add_history(path: Path, task: str) -> None:
        with dclab.new_dataset(path) as dataset:
            lines = list(dataset.logs["dckit-history"]) if "dckit-history" in dataset.logs else ["[]"]
        entries = json.loads("\n".join(lines))
        entries.append({**common.get_job_info(), "task": task})
        with h5py.File(path, "a") as h5:
            if "dckit-history" in h5.require_group("logs"):
                del h5["logs/dckit-history"]
        with dclab.RTDCWriter(path) as writer:
            writer.store_log("dckit-history", json.dumps(entries, indent=2).split("\n"))

    for source in inputs:
        final = folder / source.name
        compressed = folder / f"{source.stem}_compressed.rtdc"
        dclab.util.hashfile(source, constructor=hashlib.sha256)
        compress(path_in=source, path_out=compressed)
        add_history(compressed, "compress")
        with h5py.File(compressed, "a") as h5:
            h5.attrs["experiment:sample"] = np.bytes_(b"benchmark")
        add_history(compressed, "metadata")
        repack(path_in=compressed, path_out=final, strip_logs=True)
        compressed.unlink()
        with IntegrityChecker(final) as checker:
            checker.check(expand_section=False)
        with IntegrityChecker(final) as checker:
            checker.check_compression()
            checker.sanity_check()
            checker.check_features_unknown_hdf5()
            checker.check_external_links()
        sha256sum(final)
        etagsum(final)


def by_dcorflow(inputs: list[Path], folder: Path, encoder: str, threads: int) -> None:
    """Prepare measurements with the stages of the workflow, in one process."""
    sys.path.insert(0, str(ROOT))
    from dcorflow.compress.prepare import Entry, prepare
    from dcorflow.integrity import check, merge_metadata
    from dcorflow.records import stat_files
    from dcorflow.workdir import Workdir

    work = Workdir(folder)
    edits = [["experiment:sample", "benchmark", "replace", "configuration override", "configuration"]]
    for source in inputs:
        files = stat_files(source.parent, [source.name])
        entry = Entry(source.stem, "bench", source.name, "", source.parent, "rtdc", files)
        record = prepare(entry, {"encoder": encoder, "logs": "strip"}, edits, work, threads)
        checked = check(entry, work, threads)
        merge_metadata(entry, edits, work)
        if record.failure or checked is None or checked.failure:
            raise SystemExit(f"{source}: {record.failure or checked}")


def measure(who: str, inputs: list[Path], encoder: str, threads: int) -> tuple[float, float, float]:
    """Run one side as a process; return wall seconds, CPU seconds and its peak memory in MB."""
    with tempfile.TemporaryDirectory(dir=inputs[0].parent) as folder:
        command = [sys.executable, __file__, "--child", who, folder, encoder, str(threads)]
        start = time.perf_counter()
        process = subprocess.Popen([*command, *map(str, inputs)], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{who} ended with exit code {process.returncode}")
        return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def compare(title: str, inputs: list[Path], encoders: list[str], threads: int, turns: int) -> list[str]:
    """Return table rows: medians of both sides, and the median of the ratios turn by turn."""
    sides = [("by hand", "compat"), *(("dcorflow", encoder) for encoder in encoders)]
    figures: dict[tuple[str, str], list[tuple[float, float, float]]] = {side: [] for side in sides}
    for _ in range(turns):
        for side in sides:
            figures[side].append(measure(side[0], inputs, side[1], threads))
    rows = []
    hand = figures[sides[0]]
    for who, encoder in sides:
        runs = figures[who, encoder]
        wall, cpu, memory = (statistics.median(r[n] for r in runs) for n in range(3))
        faster = statistics.median(h[0] / r[0] for h, r in zip(hand, runs, strict=True))
        less = statistics.median(h[1] / r[1] for h, r in zip(hand, runs, strict=True))
        name = who if who == "by hand" else f"dcorflow, {encoder}"
        rows.append(
            f"| {title} | {name} | {wall:.2f} | {cpu:.2f} | {memory:.0f} | {faster:.2f} | {less:.2f} |"
        )
    return rows


HEADER = [
    "| what | who | wall s | CPU s | peak MB | times faster | times less CPU |",
    "| --- | --- | --- | --- | --- | --- | --- |",
]


def main() -> int:
    """Run the command line."""
    if sys.argv[1:2] == ["--child"]:
        who, folder, encoder, threads, *inputs = sys.argv[2:]
        paths = [Path(p) for p in inputs]
        if who == "by hand":
            by_hand(paths, Path(folder))
        else:
            by_dcorflow(paths, Path(folder), encoder, int(threads))
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--many", type=int, default=0, metavar="N", help="N files of 2 MB instead")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--encoder", nargs="+", default=["compat", "best"], choices=["compat", "best"])
    parser.add_argument("--folder", type=Path, default=ROOT / "bench" / "work")
    args = parser.parse_args()
    rows = list(HEADER)
    if args.many:
        folder = args.folder.resolve() / "many"
        folder.mkdir(parents=True, exist_ok=True)
        inputs = [write_measurement(folder / f"m{n}.rtdc", events=40, seed=n) for n in range(args.many)]
        rows += compare(f"{args.many} files of 2 MB", inputs, args.encoder, 1, args.turns)
        shutil.rmtree(folder)
    else:
        size = args.file.stat().st_size / 1e6
        rows += compare(
            f"one file of {size:.0f} MB", [args.file.resolve()], args.encoder, args.threads, args.turns
        )
    print("\n".join(rows))
    return 0


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.exit(main())
