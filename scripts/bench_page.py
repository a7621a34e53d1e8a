"""Time how long results/report.html takes, and how large it gets; print JSON.

    bench_page.py [--measurements 1000 10000 20000 100000] [--turns 3] [--folder bench/work/page]

Ten measurements per dataset, in work directories made by `scale_data.py` from five measurements of a
thousand events with images and fluorescence, prepared for real. Each figure is one `dcorflow report`,
its start and all other tables included.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import scale_data
from bench_measure import dcorflow
from bench_scale import PER_DATASET, ROOT, Figures, measure, median
from demo_data import set_times, write_measurement

from dcorflow.workdir import Workdir

#: Measurements that are prepared for real, one per dataset, and events in each.
_TEMPLATE, _EVENTS = 5, 1000


def prepare_template(folder: Path) -> Path:
    """Write and prepare measurements whose pictures are as large as those of real ones."""
    shutil.rmtree(folder, ignore_errors=True)
    for seed, path in enumerate(scale_data.source_paths(_TEMPLATE, _TEMPLATE)):
        write_measurement(folder / "source" / path, events=_EVENTS, seed=seed)
    set_times(folder / "source")
    (folder / "config.yaml").write_text(scale_data.CONFIG, encoding="utf-8")
    subprocess.run(scale_data.snakemake(folder), check=True, capture_output=True)
    return folder


def measure_page(work: Path, measurements: int, turns: int) -> list[dict[str, Any]]:
    """Return the rows of one work directory."""
    here = Workdir(work)
    record = min(here.records.glob("[!.]*.json"))
    command = dcorflow("-d", str(work), "report")
    found: dict[str, list[Figures]] = {}
    for turn in range(turns):
        here.page.unlink(missing_ok=True)
        shutil.rmtree(here.state / "report", ignore_errors=True)
        found.setdefault("page made anew", []).append(measure(command))
        os.utime(record, ns=(turn, turn))
        found.setdefault("one record changed", []).append(measure(command))
        found.setdefault("nothing changed", []).append(measure(command))
    of = {"measurements": measurements, "datasets": measurements // PER_DATASET}
    size = here.page.stat().st_size / 1e6
    return [{"what": what, **of, **median(figures), "page": size} for what, figures in found.items()]


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measurements", type=int, nargs="+", default=[1_000, 10_000, 20_000, 100_000])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=ROOT / "bench" / "work" / "page")
    args = parser.parse_args()
    folder = args.folder.resolve()
    template = prepare_template(folder / "template")
    rows = []
    for measurements in args.measurements:
        work = folder / str(measurements)
        scale_data.multiply(template, work, measurements, measurements // PER_DATASET)
        rows += measure_page(work, measurements, args.turns)
        shutil.rmtree(work)
    print(json.dumps(rows))
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
