"""Write the demo for `make run` (source tree and settings), and show what became of it."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

from demo_data import write_tree

CONFIG = """\
# Settings of the demo; see config/config.yaml for all keys.
input:
  root: source
datasets:
  namespace: demo
  companions: ["*.txt", "*.pdf", "*.png"]
  defaults:
    authors: [A. Name, B. Name]
    license_id: CC0-1.0
    owner_org: my-circle
metadata:
  supplements:
    cells:organism: Homo sapiens
"""
COLUMNS = ("source", "status", "events", "source_bytes", "prepared_bytes", "violations", "alerts")


def write_demo(folder: Path) -> None:
    """Write source tree and settings below `folder`, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "source").exists():
        write_tree(folder / "source")
    (folder / "config.yaml").write_text(CONFIG, encoding="utf-8")


def show_table(folder: Path) -> None:
    """Print the summary as a table, and where the results are."""
    with (folder / "results" / "summary.tsv").open(encoding="utf-8", newline="") as stream:
        rows = [[row[c] for c in COLUMNS] for row in csv.DictReader(stream, delimiter="\t")]
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
    print()
    for row in [COLUMNS, ["-" * w for w in widths], *rows]:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    print(f"\nprepared files and tasks: {(folder / 'results' / 'datasets').resolve()}")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--table", action="store_true", help="show the results")
    args = parser.parse_args()
    if args.table:
        show_table(args.folder)
    else:
        write_demo(args.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
