"""Time an edit of one large measurement beside preparing it anew, without and with clones; print JSON.

    bench_edit.py [--size MB] [--turns 5] [--threads 2]

Both are measured within one process, without its start: compress, check and merge_metadata with two
processes, then merge_metadata alone, each time with another value. Clones need a file system that
shares blocks between files; for root, one is made in a file (XFS). There the sums of the whole file
are what is left of an edit: SHA256 and ETag are timed, too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench_measure import ENVIRONMENT, ROOT

SETTINGS = {"encoder": "compat", "logs": "keep", "naming": "keep"}


def timed(do: Callable[[], object]) -> tuple[float, float]:
    """Return wall and CPU seconds of a call, its children included."""
    start, before = time.perf_counter(), _cpu()
    do()
    return time.perf_counter() - start, _cpu() - before


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def child(source: Path, folder: Path, turns: int, threads: int) -> list[dict[str, Any]]:
    """Prepare a measurement in `folder`, then edit it again and again; return the rows."""
    from dcorflow.compress.prepare import Entry, prepare
    from dcorflow.dclab_parts import load_dclab
    from dcorflow.integrity import check, merge_metadata
    from dcorflow.records import load_record, stat_files
    from dcorflow.seal import seal
    from dcorflow.workdir import Workdir

    load_dclab()
    work = Workdir(folder)
    entry = Entry("m", "bench", "m.rtdc", "", source.parent, "rtdc", stat_files(source.parent, [source.name]))

    def edits(number: int) -> list[list[Any]]:
        return [["experiment:sample", f"sample {number}", "replace", "sheet", "row 2"]]

    def anew() -> None:
        prepare(entry, SETTINGS, edits(0), work, threads)
        check(entry, work, threads)
        merge_metadata(entry, edits(0), work)

    first = timed(anew)
    runs = [timed(lambda n=turn: merge_metadata(entry, edits(n), work)) for turn in range(1, turns + 2)][1:]
    record = load_record(work, "m")
    if record is None or record.failure or record.metadata["experiment:sample"] != f"sample {turns + 1}":
        raise SystemExit(f"the edit failed: {record and record.failure}")
    sums = [timed(lambda: seal(entry.target(work))) for _ in range(turns)]
    medians = [(name, [statistics.median(run[i] for run in found) for i in (0, 1)])
               for name, found in (("edit", runs), ("SHA256 and ETag alone", sums))]  # fmt: skip
    return [
        {"what": name, "wall": wall, "cpu": cpu, "faster": first[0] / wall, "less_cpu": first[1] / cpu,
         "size": record.prepared["size"]}
        for name, (wall, cpu) in (("prepared anew", first), *medians)
    ]  # fmt: skip


@contextlib.contextmanager
def cloning(folder: Path, megabytes: float) -> Iterator[Path | None]:
    """Yield a folder on a file system that can clone; None where none can be made."""
    image, place = folder / "clones.img", folder / "clones"
    place.mkdir()
    with image.open("wb") as stream:
        stream.truncate(int(max(400, 3 * megabytes)) << 20)
    try:
        subprocess.run(["mkfs.xfs", "-q", str(image)], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"bench_edit: no clones ({error}); needs root and xfsprogs", file=sys.stderr)
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def main() -> int:
    """Run the command line."""
    if sys.argv[1:2] == ["--child"]:
        source, place, turns, threads = sys.argv[2:]
        print(json.dumps(child(Path(source), Path(place), int(turns), int(threads))))
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=float, default=1000, help="decoded MB of the file")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=ROOT / "bench" / "work")
    args = parser.parse_args()
    folder = args.folder.resolve() / "edit"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "source").mkdir(parents=True)
    maker = [sys.executable, str(Path(__file__).with_name("bench_cells.py")), str(folder / "source")]
    subprocess.run([*maker, str(args.size), "--layouts", "raw"], check=True, stdout=subprocess.DEVNULL)
    rows = []
    with cloning(folder, args.size) as place:
        for how, where in (("copied", folder / "plain"), ("cloned", place)):
            if where is not None:
                where.mkdir(exist_ok=True)
                os.sync()
                command = [sys.executable, __file__, "--child", str(folder / "source" / "raw_blood.rtdc")]
                command += [str(where), str(args.turns), str(args.threads)]
                done = subprocess.run(command, check=True, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
                rows += [{"how": how, **row} for row in json.loads(done.stdout.splitlines()[-1])]
    shutil.rmtree(folder)
    print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
