"""Time how long results/report.html takes, and how large it gets; print JSON.

    bench_page.py [--measurements 1000 5000 10000 20000 100000] [--turns 3] [--folder bench/work/page]

Ten measurements per dataset, in work directories made by `scale_data.py` from five measurements of a
thousand events with images and fluorescence, prepared for real. Each figure is one `dcorflow report`,
its start and all other tables included. Where Debian's Chromium is installed, the page is also opened
in it: until its table is there, and until it shows the rows in another order, those that hold a
word, and the details of one with its pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import scale_data
from bench_measure import dcorflow
from bench_scale import PER_DATASET, ROOT, Figures, measure, median
from demo_data import set_times, write_measurement

from dcorflow.workdir import Workdir

#: Measurements that are prepared for real, one per dataset, and events in each.
_TEMPLATE, _EVENTS = 5, 1000
#: Seconds that a page may take for anything.
_PATIENCE = 60
#: What is done to the page, and what tells that it is done.
_STEPS = {
    "sorted in Chromium": "document.querySelectorAll('#table thead th')[4].click()",
    "row opened in Chromium": "document.querySelector('#table button.open').click()",
    "filtered in Chromium": """
        const box = document.querySelector("input[name=text]");
        box.value = "M0003";
        box.dispatchEvent(new Event("input", {bubbles: true}))""",
}
_SETTLED = {
    "sorted in Chromium": "document.querySelector('#table thead th[aria-sort=ascending], "
    "#table thead th[aria-sort=descending]')?.cellIndex === 4",
    "filtered in Chromium": "document.querySelector('p.count').innerText.includes('(of ')",
    "row opened in Chromium": "document.querySelector('section.opened svg') !== null",
}


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
    rows = [{"what": what, **of, **median(figures), "page": size} for what, figures in found.items()]
    return rows + [
        {"what": what, **of, **figures, "page": size} for what, figures in look(here.page, turns).items()
    ]


def look(page: Path, turns: int) -> dict[str, Figures]:
    """Return the median seconds until a browser shows the page, and what is done with it; {} without one."""
    program = shutil.which("chromium")
    if program is None:
        return {}
    from playwright.sync_api import sync_playwright

    found: dict[str, list[Figures]] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        for _ in range(turns):
            tab = browser.new_page(viewport={"width": 1440, "height": 900})
            start = time.perf_counter()
            tab.goto(page.as_uri())
            tab.wait_for_selector("html[data-ready]", state="attached")
            tab.wait_for_selector("#table .file")
            found.setdefault("opened in Chromium", []).append({"wall": time.perf_counter() - start})
            for what, do in _STEPS.items():
                start = time.perf_counter()
                tab.evaluate(f"() => {{ {do} }}")
                while not tab.evaluate(f"() => {_SETTLED[what]}"):  # the page lets nobody else wait in it
                    if time.perf_counter() - start > _PATIENCE:
                        raise SystemExit(f"{page}: not {what}")
                found.setdefault(what, []).append({"wall": time.perf_counter() - start})
            tab.close()
        browser.close()
    return {what: median(figures) for what, figures in found.items()}


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--measurements", type=int, nargs="+", default=[1_000, 5_000, 10_000, 20_000, 100_000]
    )
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
