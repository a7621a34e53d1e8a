"""Time the whole chain for one file, or for many, beside what is done by hand today; print JSON.

    bench_chain.py [--size MB] [--turns 5] [--threads 2] [--encoder compat|best]
    bench_chain.py --many 200 [--turns 3]

By hand means: the steps that DCKit and DCOR-Aid take, with the functions of dclab and dcoraid that
they call: hash the input, compress, history, metadata, repack without logs, integrity check, the
checks before an upload, SHA256 and ETag. dcorflow does the same, and decodes every chunk of the
result and compares it with the source. Both run as processes of their own, in turn. Many files
are one batch, as in the workflow: one job for each of the stages compress, check and
merge_metadata, which shares the files out to as many workers as it has threads.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench_measure import ENVIRONMENT, ROOT, Run, dcorflow, in_turn, measure, median, times_better
from demo_data import write_measurement

STAGES = ("compress", "check", "merge_metadata")


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
        record = prepare(entry, {"encoder": encoder, "logs": "strip", "naming": "keep"}, edits, work, threads)
        checked = check(entry, work, threads)
        merge_metadata(entry, edits, work)
        if record.failure or checked is None or checked.failure:
            raise SystemExit(f"{source}: {record.failure or checked}")


def by_batch(source: Path, folder: Path, encoder: str, threads: int) -> None:
    """Prepare a folder of measurements with the stages of the workflow, as its jobs do."""
    sys.path.insert(0, str(ROOT))
    from dcorflow.config import resolve_config
    from dcorflow.files import to_json, write_text
    from dcorflow.workdir import Workdir

    defaults = {"authors": ["A. Name"], "license_id": "CC0-1.0", "owner_org": "my-circle"}
    data = {
        "input": {"root": str(source), "min_age": 0},
        "datasets": {"defaults": defaults},
        "metadata": {"override": {"experiment:sample": "benchmark"}},
        "prepare": {"encoder": encoder, "logs": "strip", "naming": "keep"},
        "batches": {"files": 10_000},
    }
    work = Workdir(folder)
    write_text(work.config, to_json(resolve_config(data, folder)))
    jobs = [["discover"], *(["batch", stage, "b000001", str(threads)] for stage in STAGES)]
    for job in jobs:
        subprocess.run(dcorflow("-d", str(folder), *job), check=True, env=ENVIRONMENT)
    prepared = len(list(work.records.glob("**/*.json")))
    if prepared != len(list(source.glob("*.rtdc"))):
        raise SystemExit(f"only {prepared} measurements were prepared")


def run(who: str, inputs: list[Path], encoder: str, threads: int) -> Run:
    """Run one side as a process."""
    with tempfile.TemporaryDirectory(dir=inputs[0].parent.parent) as folder:
        command = [sys.executable, __file__, "--child", who, folder, encoder, str(threads)]
        return measure([*command, *map(str, inputs)])


def compare(what: str, inputs: list[Path], who: str, args: argparse.Namespace) -> list[dict[str, object]]:
    """Return rows: medians of both sides, and the median of the ratios turn by turn."""
    ways = {"by hand": lambda: run("by hand", inputs, "compat", 1)}
    for encoder in args.encoder:
        ways[f"dcorflow, {encoder}"] = lambda e=encoder: run(who, inputs, e, args.threads)
    runs = in_turn(ways, args.turns)
    return [
        {
            "what": what,
            "who": name,
            "wall": median(own, "wall"),
            "per_file": median(own, "wall") / len(inputs),
            "faster": times_better(runs["by hand"], own, "wall"),
            "cpu": median(own, "cpu"),
            "less_cpu": times_better(runs["by hand"], own, "cpu"),
            "rss": max(r.rss for r in own),
        }
        for name, own in runs.items()
    ]


def child(who: str, folder: Path, encoder: str, threads: int, inputs: list[Path]) -> None:
    """Be one side."""
    if who == "by hand":
        by_hand(inputs, folder)
    elif who == "batch":
        by_batch(inputs[0].parent, folder, encoder, threads)
    else:
        by_dcorflow(inputs, folder, encoder, threads)


def main() -> int:
    """Run the command line."""
    if sys.argv[1:2] == ["--child"]:
        who, folder, encoder, threads, *inputs = sys.argv[2:]
        child(who, Path(folder), encoder, int(threads), [Path(p) for p in inputs])
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=float, default=1000, help="decoded MB of the file")
    parser.add_argument("--many", type=int, default=0, metavar="N", help="N files of 2 MB instead")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--encoder", nargs="+", default=["compat", "best"], choices=["compat", "best"])
    parser.add_argument("--folder", type=Path, default=ROOT / "bench" / "work")
    args = parser.parse_args()
    folder = args.folder.resolve() / "chain" / "source"
    folder.mkdir(parents=True, exist_ok=True)
    if args.many:
        inputs = [write_measurement(folder / f"m{n}.rtdc", events=40, seed=n) for n in range(args.many)]
        found = compare(f"{args.many} files of 2 MB", inputs, "batch", args)
    else:
        command = [sys.executable, str(Path(__file__).with_name("bench_cells.py")), str(folder)]
        measure([*command, str(args.size), "--layouts", "raw"])
        found = compare(f"one file, {args.size / 1000:g} GB", [folder / "raw_blood.rtdc"], "one", args)
    shutil.rmtree(folder.parent)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.exit(main())
