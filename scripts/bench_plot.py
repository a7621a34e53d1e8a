"""Draw the figure of the benchmark: how many times faster, file by file."""

from __future__ import annotations

from html import escape

WIDTH, LEFT, BAR, GAP, TOP = 720, 190, 14, 12, 56
COLOURS = {"compat": "#1f77b4", "best": "#ff7f0e"}


def figure(rows: list[dict[str, object]], threads: int) -> str:
    """Return an SVG with two bars per file: speed relative to `dclab-compress`, and size as text.

    Parameters
    ----------
    rows
        Figures of `bench_engine.py`.
    threads
        Which of its runs are shown.
    """
    shown = [r for r in rows if r["program"] in COLOURS and r["threads"] == threads]
    files = list(dict.fromkeys(str(r["file"]) for r in shown))
    most = max([float(str(r["faster"])) for r in shown], default=1.0)
    scale = (WIDTH - LEFT - 130) / most
    height = TOP + len(files) * (2 * BAR + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="8" y="18" font-size="14">Times faster than dclab-compress, {threads} threads '
        "(size of the file relative to its)</text>",
    ]
    for number, (name, colour) in enumerate(COLOURS.items()):
        x = LEFT + 120 * number
        parts.append(f'<rect x="{x}" y="28" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 18}" y="39">{name}</text>')
    for place, file in enumerate(files):
        y = TOP + place * (2 * BAR + GAP)
        parts.append(f'<text x="{LEFT - 8}" y="{y + BAR + 4}" text-anchor="end">{escape(file)}</text>')
        for line, row in enumerate(r for r in shown if r["file"] == file):
            parts += _bar(row, y + line * BAR, scale)
    one = LEFT + scale
    parts.append(f'<line x1="{one:.1f}" x2="{one:.1f}" y1="{TOP - 4}" y2="{height - GAP}" stroke="#888"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(row: dict[str, object], y: int, scale: float) -> list[str]:
    """Return one bar and its figures."""
    faster, size = float(str(row["faster"])), float(str(row["size_ratio"]))
    width = faster * scale
    colour = COLOURS[str(row["program"])]
    return [
        f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR - 2}" fill="{colour}"/>',
        f'<text x="{LEFT + width + 6:.1f}" y="{y + BAR - 4}">{faster:.1f}  ({size:.3f})</text>',
    ]
