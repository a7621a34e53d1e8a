"""results/report.html: one file that shows everything in a browser, without any network."""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import json
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from dcorflow import __version__
from dcorflow.config import Config
from dcorflow.dclab_parts import dclab_version
from dcorflow.errors import UsageError
from dcorflow.files import key_of, printable, read_json, to_json, write_text
from dcorflow.report.approved import approvals_folder, approvals_of
from dcorflow.report.attention import Point, find_points, level_of
from dcorflow.report.cards import make_cards
from dcorflow.report.charts import Chart, events_chart, ratio_chart, status_chart, timeline_chart
from dcorflow.report.shelf import Shelf, Subject, drop_orphans, stats_of
from dcorflow.report.summary import STATUSES, Summary
from dcorflow.server import Server, find_server
from dcorflow.wording import number, size_text
from dcorflow.workdir import Workdir

#: Raised when the same results would give another page than before.
_RECIPE = 3
#: Bytes that details and pictures may take, whatever the number of measurements.
PACKED = 22_000_000
#: Measurements in the table and datasets as cards; beyond, those that need attention most are shown.
MAX_ROWS, MAX_CARDS = 10_000, 400
#: Cards that are shown at once; the others unfold.
_FIRST_CARDS = 60
#: Text by part of the page; scripts and styles are named by their digest in its security policy.
_ASSETS = files("dcorflow.report") / "assets"


def write_page(
    work: Workdir,
    config: Config,
    summary: Summary,
    trouble: Sequence[str] | None = None,
    seconds: float | None = None,
) -> bool:
    """Write the page where anything in it changed; return whether it was written.

    Parameters
    ----------
    work, config, summary
        Work directory, settings, and all measurements and datasets.
    trouble
        What went wrong with the run itself, in sentences; None where there was no run: then what the
        last one said holds.
    seconds
        How long the run took; None where there was no run.
    """
    records, portraits = stats_of(work.records), stats_of(work.portraits)
    drop_orphans(work, portraits, {m["measurement"] for m in summary.measurements} | records.keys())
    server = _server(config)
    approved = stats_of(approvals_folder(work, server)) if server else {}
    done = work.state / "report" / "page.json"
    before = _read(done)
    if trouble is None:
        trouble, seconds = before["trouble"], before["seconds"]
    key = key_of(
        _RECIPE, __version__, dclab_version(), _asset_key(), config, summary.measurements, summary.datasets,
        summary.warnings, list(trouble), sorted(records.items()), sorted(portraits.items()),
        sorted(approved.items()),
    )  # fmt: skip
    with contextlib.suppress(OSError):
        if before["key"] == key and before["page"] == _stat(work.page):
            return False
    shelf = Shelf(work, records, portraits)
    write_text(work.page, build_page(work, config, summary, shelf, trouble, seconds))
    said = {"key": key, "page": _stat(work.page), "trouble": list(trouble), "seconds": seconds}
    write_text(done, to_json(said))
    return True


def _read(done: Path) -> dict[str, Any]:
    """Return what was noted about the page that was written last."""
    nothing: dict[str, Any] = {"key": "", "page": [], "trouble": [], "seconds": None}
    try:
        return nothing | read_json(done)
    except (OSError, ValueError, TypeError):
        return nothing


def _stat(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _asset_key() -> str:
    return key_of(*(_asset(name) for name in ("page.html.j2", "page.css", "page.js", "details.js")))


def build_page(
    work: Workdir,
    config: Config,
    summary: Summary,
    shelf: Shelf,
    trouble: Sequence[str] = (),
    seconds: float | None = None,
) -> str:
    """Return the page; parameters as in `write_page`, and the shelf of what is kept per measurement."""
    plans = _Plans(work, summary)
    leads = shelf.leads(m["measurement"] for m in summary.measurements)
    levels = {
        m["measurement"]: level_of(m, leads.get(m["measurement"], {}), plans.verdicts(m["measurement"]))
        for m in summary.measurements
    }
    ordered = sorted(summary.measurements, key=lambda m: (-levels[m["measurement"]], m["root"], m["source"]))
    shown = ordered[:MAX_ROWS]
    packed = shelf.pack([plans.subject(m) for m in shown], PACKED)
    shown = sorted(shown, key=lambda m: (m["root"], m["source"]))
    by_dataset: dict[str, list[dict[str, Any]]] = {}
    for row in summary.measurements:
        by_dataset.setdefault(row["dataset"], []).append(row)
    server = _server(config)
    there = stats_of(approvals_folder(work, server)) if server else {}
    approvals = approvals_of(work, server, config["upload"]["activate"], summary.datasets, there)
    cards = make_cards(summary.datasets, by_dataset, plans.fields, server, approvals)
    places = {card["dataset"]: place for place, card in enumerate(cards)}
    rows = []
    for row in shown:
        name = row["measurement"]
        private = sum(verdict in ("blocks", "warned") for verdict in plans.verdicts(name))
        rows.append(_row(row, leads.get(name, {}), levels[name], places, private))
    datasets = [[card["id"], card["title"]] for card in cards]
    parts = [packed.get(m["measurement"], ["", "", ""]) for m in shown]
    return _render(
        head=_head(summary, seconds),
        points=find_points(summary, leads, trouble),
        cards=cards[:MAX_CARDS],
        first_cards=_FIRST_CARDS,
        more_cards=len(cards) - MAX_CARDS,
        charts=_charts(summary, leads, cards),
        data=_script_json({"rows": rows, "datasets": datasets, "statuses": STATUSES}),
        packed=list(enumerate(parts)),
        limits=_limits(summary, parts),
        tables=[path.name for path in _tables(work) if path.is_file()],
        roots=sorted({printable(m["root"]) for m in summary.measurements}),
    )


def _tables(work: Workdir) -> list[Path]:
    return [work.summary, work.companions, work.privacy, work.inventory, work.junit]


def _server(config: Config) -> Server | None:
    with contextlib.suppress(UsageError, KeyError):
        return find_server(config["upload"].get("server"))
    return None


class _Plans:
    """What the plans of the groups and the decisions say about measurements and datasets."""

    def __init__(self, work: Workdir, summary: Summary) -> None:
        self.fields: dict[str, dict[str, Any]] = {}
        self._members: dict[str, dict[str, Any]] = {}
        self._private: dict[str, list[list[str]]] = {}
        for group in sorted({d["group"] for d in summary.datasets if "group" in d}):
            try:
                self._add(read_json(work.group(group)))
            except (OSError, ValueError, KeyError):
                continue  # its measurements are shown without what only the plan knows
        for dataset in summary.datasets:
            for measurement, _, *finding in dataset.get("private", []):
                self._private.setdefault(measurement, []).append(finding)

    def _add(self, plan: dict[str, Any]) -> None:
        for dataset in plan["datasets"]:
            self.fields[dataset["dataset"]] = dataset["fields"]
            for member in dataset["members"]:
                self._members[member["measurement"]] = {
                    "supplements": member["supplements"],
                    "origins": member["origins"],
                    "ignore": [*plan["check"]["ignore"], *member["ignore"]],
                }

    def verdicts(self, measurement: str) -> Iterable[str]:
        return (finding[-1] for finding in self._private.get(measurement, ()))

    def subject(self, row: Mapping[str, Any]) -> Subject:
        name, drawn = row["measurement"], row["status"] != "failed"
        return Subject(name, self._members.get(name, {}), self._private.get(name, ()), drawn)


def _row(
    row: Mapping[str, Any], lead: Mapping[str, Any], level: int, places: Mapping[str, int], private: int
) -> list[Any]:
    """Return what the table knows of a measurement; the order is that of `page.js`."""
    reason = "; ".join(filter(None, (row["reason"], row["note"])))
    return [
        printable(row["source"]),
        places.get(row["dataset"], -1),
        STATUSES.index(row["status"]),
        level,
        row["events"] or 0,
        row["source_bytes"] or 0,
        row["prepared_bytes"] or 0,
        row["violations"],
        row["alerts"],
        lead.get("flags", [0])[0],
        printable(lead.get("date", "")),
        printable(reason),
        printable(lead.get("sample", "")),
        row["measurement"],
        private,
        row["gaps"],
    ]


def _head(summary: Summary, seconds: float | None) -> dict[str, Any]:
    rows = summary.measurements
    counts = summary.counts()
    done = [row for row in rows if row["prepared_bytes"]]
    before, after = (sum(int(row[part]) for row in done) for part in ("source_bytes", "prepared_bytes"))
    statuses = Counter(d["status"] for d in summary.datasets)
    now = datetime.datetime.now(datetime.UTC)
    return {
        "measurements": f"{len(rows):,}",
        "counts": [(status, counts[status]) for status in STATUSES if counts[status]],
        "datasets": f"{len(summary.datasets):,}",
        "statuses": sorted(statuses.items()),
        "before": size_text(before) if done else "–",
        "after": size_text(after) if done else "–",
        "percent": f"{after / before * 100:.0f} %" if before else "",
        "events": f"{sum(int(row['events'] or 0) for row in done):,}",
        "time": now.strftime("%Y-%m-%d %H:%M UTC"),
        "machine_time": now.isoformat(timespec="seconds"),
        "took": _duration(seconds) if seconds is not None else "",
        "versions": [
            ("dcorflow", __version__),
            ("dclab", dclab_version()),
            ("Snakemake", version("snakemake")),
            ("Python", platform.python_version()),
        ],
    }


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _charts(
    summary: Summary, leads: Mapping[str, Mapping[str, Any]], cards: Sequence[Mapping[str, Any]]
) -> list[Chart]:
    done = [m for m in summary.measurements if m["prepared_bytes"] and m["source_bytes"]]
    made = (
        status_chart([(card["title"], Counter(dict(card["counts"]))) for card in cards], STATUSES),
        ratio_chart([int(m["prepared_bytes"]) / int(m["source_bytes"]) for m in done]),
        events_chart([int(m["events"] or 0) for m in done]),
        timeline_chart(lead.get("date", "") for lead in leads.values()),
    )
    return [chart for chart in made if chart is not None]


def _limits(summary: Summary, parts: Sequence[Sequence[str]]) -> list[str]:
    """Say what the page leaves out to stay small."""
    total, said = len(summary.measurements), []
    if total > len(parts):
        said.append(f"The table shows {len(parts):,} of {total:,} measurements.")
    if bare := sum(not part[0] for part in parts):
        said.append(f"{number(bare, 'row')} without details.")
    drawn = sum(bool(part[2]) for part in parts)
    small = sum(bool(part[1]) for part in parts)
    if drawn < small:
        said.append(f"Large pictures of {drawn:,} measurements, thumbnails of {small:,}.")
    if said:
        said.append("Those that need attention most come first; summary.tsv and the records have everything.")
    return said


def _script_json(data: Any) -> str:
    """Return JSON that cannot end the script element it stands in."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _render(points: list[Point], **context: Any) -> str:
    from jinja2 import Environment, StrictUndefined

    style = _asset("page.css")
    library = _asset("datatables/dataTables.min.js")
    script = f"{_asset('details.js')}\n{_asset('page.js')}"
    policy = (
        f"default-src 'none'; script-src {_digest(library)} {_digest(script)}; style-src {_digest(style)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(_asset("page.html.j2"))
    return template.render(
        style=style, library=library, script=script, policy=policy,
        licence=_asset("datatables/License.txt"), points=[asdict(point) for point in points],
        script_json=_script_json, **context,
    )  # fmt: skip
