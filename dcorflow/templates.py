"""The sheets to fill in: what is missing, wrong or guessed, and what stands there now."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import xxhash

from dcorflow.config import Config
from dcorflow.errors import UsageError
from dcorflow.facts import dcor
from dcorflow.files import key_of, read_json, to_json, write_bytes_if_changed, write_if_changed
from dcorflow.metadata.fields import MANDATORY, is_generic_title
from dcorflow.metadata.filling import Column, State, Template, contents
from dcorflow.metadata.keys import DATA_KEYS, choices, known_keys, meaning
from dcorflow.metadata.matching import EXPORTED, mark, subject_of, whole_text
from dcorflow.metadata.sheet import FIELDS, DatasetSheet, MeasurementSheet, SheetEntry, field_text, load_sheet
from dcorflow.metadata.supplements import known_supplements, supplement_rule
from dcorflow.metadata.tables import cell_text
from dcorflow.naming import natural_key
from dcorflow.report.summary import Summary
from dcorflow.wording import short_number
from dcorflow.workdir import Workdir

#: Raised when the same results would give another template than before.
_RECIPE = 4
#: The supplement that decides which others make sense; always offered.
_FIRST_SUPPLEMENT = "general:sample type"
_MEANINGS = {
    "measurement": "identifier; do not change it",
    "source": "path of the measurement",
    "dataset": "dataset it belongs to",
    "status": "what became of it in the last run",
    "findings": "what to look at",
    "use": "no leaves it out",
    "reason": "why it is left out",
    "confirm": "yes: the guessed values of this row are right",
    "measurements": "how many of its measurements are ready",
    "title": "title of the dataset",
    "authors": "names, separated by semicolons",
    "license_id": "licence",
    "owner_org": "circle that owns the dataset",
    "private": "whether only members of the circle see it",
    "collections": "collections, separated by semicolons",
    "notes": "description in Markdown",
    "doi": "DOI of the publication",
    "references": "links to more about it",
    "accept_incomplete": "yes uploads it although measurements are missing",
    "tags": "key words, separated by semicolons",
    EXPORTED: "marks of what was exported; leave this column as it is",
}


def write_templates(work: Workdir, config: Config, summary: Summary) -> list[str]:
    """Write both templates where anything in them may have changed; return what a user should know.

    A template that somebody filled in in its place is kept under another name.

    Parameters
    ----------
    work, config
        Work directory and settings.
    summary
        All measurements and datasets with what became of them.
    """
    done = work.state / "templates.json"
    key = _inputs(work, config, summary)
    paths = [work.template(n, s) for n in ("metadata", "datasets") for s in (".tsv", ".xlsx")]
    try:
        before = read_json(done)
        if before["key"] == key and all(p.exists() for p in paths if before["files"][p.name]):
            return []
    except (OSError, ValueError, KeyError, TypeError):
        before = {"files": {}}
    subjects = [subject_of(i.measurement, i.source, f"{i.root}/{i.source}") for i in summary.items]
    sources = {d["dataset"]: d["source"] for d in summary.datasets}
    try:
        sheet = MeasurementSheet(load_sheet(config["metadata"]["sheet"]), subjects)
        table = load_sheet(config["datasets"]["sheet"])
        datasets = DatasetSheet(table, [subject_of(d, s) for d, s in sources.items()])
    except UsageError:
        return []  # discover has told about it
    material = [_material(work, d) for d in sorted({d["group"] for d in summary.datasets})]
    values = {m: v for part in material for m, v in part["measurements"].items()}
    fields = {d: f for part in material for d, f in part["fields"].items()}
    templates = {
        "metadata": measurement_template(config, sheet, summary.measurements, values),
        "datasets": dataset_template(datasets, summary.datasets, fields),
    }
    made = {
        work.template(name, suffix): data
        for name, template in templates.items()
        for suffix, data in zip((".tsv", ".xlsx"), contents(template), strict=True)
    }
    known = {p.name: before["files"].get(p.name, []) for p in paths}
    said = [w for p in paths if (w := _keep_edited(p, known[p.name], config))]
    new = {path.name: [] if data is None else [_digest(data)] for path, data in made.items()}
    # Before the files: a run that is killed in between must not take its own for edited ones.
    write_if_changed(done, to_json({"key": "", "files": {n: known[n] + new[n] for n in new}}))
    for path, data in made.items():
        if data is None:
            path.unlink(missing_ok=True)
        else:
            write_bytes_if_changed(path, data)
    write_if_changed(done, to_json({"key": key, "files": new}))
    return said


def _digest(data: bytes) -> str:
    return xxhash.xxh3_128_hexdigest(data)


def _keep_edited(path: Path, written: list[str], config: Config) -> str:
    """Put a template aside that is none of what was written; return what to tell, else nothing."""
    sheets = [config[part]["sheet"] for part in ("metadata", "datasets")]
    if not written or not path.exists() or str(path) in sheets or _digest(path.read_bytes()) in written:
        return ""
    number = 1
    while (kept := path.with_name(f"{path.stem}_edited{number}{path.suffix}")).exists():
        number += 1
    path.rename(kept)
    return (
        f"results/{path.name} was edited; it is kept as results/{kept.name}: move it out of results and "
        "name it at metadata.sheet or datasets.sheet"
    )


def _inputs(work: Workdir, config: Config, summary: Summary) -> str:
    """Stand for everything that a template is made of."""
    stats = []
    paths = [work.material(d["group"]) for d in summary.datasets]
    paths += [config[part]["sheet"] for part in ("metadata", "datasets") if config[part]["sheet"]]
    for path in sorted(set(map(str, paths))):
        try:
            stat = os.stat(path)  # noqa: PTH116 (a path as text)
            stats.append([path, stat.st_size, stat.st_mtime_ns])
        except OSError:
            stats.append([path])
    rows = [[m["measurement"], m["source"], m["status"], m["reason"]] for m in summary.measurements]
    datasets = [[d["dataset"], d["status"], d["reason"], d["ready"]] for d in summary.datasets]
    return key_of("templates", _RECIPE, config["metadata"], stats, sorted(rows), sorted(datasets))


def _material(work: Workdir, group: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = read_json(work.material(group))
        return found
    except (OSError, ValueError):
        return {"measurements": {}, "fields": {}}


def measurement_template(
    config: Config,
    sheet: MeasurementSheet,
    rows: Iterable[Mapping[str, Any]],
    values: Mapping[str, Mapping[str, Any]],
) -> Template:
    """Return the table of measurements.

    Parameters
    ----------
    config
        Settings.
    sheet
        The sheet of this run: what it says is shown and stays an edit.
    rows
        Rows of the summary.
    values
        ``values``, ``supplements`` and ``gaps`` by measurement.
    """
    shown = sorted(
        (r for r in rows if r["status"] != "gone"), key=lambda r: (r["root"], natural_key(r["source"]))
    )
    gaps = {r["measurement"]: values.get(r["measurement"], {}).get("gaps", {}) for r in shown}
    keys = _key_columns(config, sheet, gaps.values())
    entries = {r["measurement"]: sheet.entry(r["measurement"])[0] for r in shown}
    names = _supplement_columns(config, sheet, [values.get(r["measurement"], {}) for r in shown])
    confirm = any(gap[0] == "guessed" for found in gaps.values() for gap in found.values())
    confirm = confirm or "confirm" in (sheet.table.columns if sheet.table else ())
    lead = ["measurement", "source", "status", "findings", "use", "reason", *(["confirm"] if confirm else [])]
    columns = [_plain_column(name) for name in lead] + [_key_column(k, gaps.values()) for k in keys]
    columns += [_supplement_column(name) for name in names] + [_plain_column(EXPORTED)]
    template = Template("metadata", columns, frozen=2)
    for row in shown:
        name = row["measurement"]
        known = values.get(name, {"values": {}, "supplements": {}, "gaps": {}})
        cells = _lead_cells(lead, row, known["gaps"], entries[name])
        marks = []
        for key in [*keys, *(f"sp:{n}" for n in names)]:
            text, state = _value_cell(key, known, entries[name])
            if state and _explains(known["gaps"].get(key)):
                template.notes[len(template.rows), len(cells)] = known["gaps"][key][2]
            cells.append((text, state))
            if text and key not in entries[name].values and key not in entries[name].supplements:
                marks.append(mark(name, key, text))
        template.rows.append([*cells, (" ".join(marks), "fixed")])
    return template


def _key_columns(config: Config, sheet: MeasurementSheet, gaps: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the keys to show: what is to be done first, then what was asked for."""
    asked = [*config["metadata"]["columns"], *sheet.columns]
    force = config["metadata"]["force"]
    weight: dict[str, int] = {key: 0 for key in asked if not key.startswith("sp:")}
    for found in gaps:
        for key, (kind, level, _) in found.items():
            if key not in DATA_KEYS or key in force:
                urgent = 3 if kind != "missing" else 2 if level == "violation" else 1
                weight[key] = max(weight.get(key, 0), urgent)
    order = {key: number for number, key in enumerate(known_keys())}
    return sorted(weight, key=lambda k: (-min(weight[k], 2), order.get(k, len(order)), k))


def _supplement_columns(
    config: Config, sheet: MeasurementSheet, values: Iterable[Mapping[str, Any]]
) -> list[str]:
    """Return the supplements to show: all of the sections in use, and what was asked for."""
    asked = [
        c.removeprefix("sp:") for c in (*config["metadata"]["columns"], *sheet.columns) if c[:3] == "sp:"
    ]
    used = {name.partition(":")[0] for v in values for name in v.get("supplements", {})}
    used |= {name for name in asked if ":" not in name}
    wanted = {_FIRST_SUPPLEMENT, *asked}
    return [n for n in known_supplements() if n in wanted or n.partition(":")[0] in used]


def _lead_cells(
    lead: list[str], row: Mapping[str, Any], gaps: Mapping[str, Any], entry: SheetEntry
) -> list[tuple[str, State]]:
    kinds = ("wrong", "guessed", "missing")
    words = [f"{kind}: {', '.join(k for k, g in gaps.items() if g[0] == kind and g[1] == 'violation')}"
             for kind in kinds]  # fmt: skip
    found = [w for w in words if not w.endswith(": ")]
    found += [g[2] for g in gaps.values() if g[0] != "guessed" and g[1] == "violation" and _explains(g)]
    if row["reason"] and not gaps:
        found.insert(0, row["reason"])
    texts = {
        "measurement": row["measurement"],
        "source": whole_text(row["source"]),
        "status": row["status"],
        "findings": whole_text("; ".join(found)),
        "use": "" if entry.use is None else cell_text(entry.use),
        "reason": entry.reason,
        "confirm": "yes" if entry.confirm else "",
    }
    fixed = ("measurement", "source", "status", "findings")
    return [(texts[name], "fixed" if name in fixed else "") for name in lead]


def _explains(gap: Sequence[str] | None) -> bool:
    """Return whether a gap says more than that a value is missing."""
    return gap is not None and (gap[0] != "missing" or ": " in gap[2])


def _value_cell(key: str, known: Mapping[str, Any], entry: SheetEntry) -> tuple[str, State]:
    if key.startswith("sp:"):
        said = entry.supplements.get(key)
        value = said.value if said else known["supplements"].get(key[3:])
        return cell_text(value), ""
    said = entry.values.get(key)
    value = said.value if said else known["values"].get(key)
    text = "-" if said and said.value is None else _short(value)
    kind, level, _ = known["gaps"].get(key, ("", "", ""))
    if kind == "missing" and level != "violation":
        return text, "wanted"
    state: State = kind
    return text, state


def _short(value: Any) -> str:
    """Return a value as text; single precision as people write it."""
    return short_number(value) if isinstance(value, float) else cell_text(value)


def _plain_column(name: str) -> Column:
    width = {"source": 40, "findings": 40, "notes": 40, "title": 30, "measurement": 24, "authors": 24}
    yes_no = (
        ("yes", "no")
        if name in ("use", "private", "accept_incomplete")
        else ("yes",)
        if name == "confirm"
        else ()
    )
    options = tuple(dcor()["licenses"]) if name == "license_id" else yes_no
    needed = "yes" if name in ("title", *MANDATORY) else ""
    return Column(name, _MEANINGS[name], needed, options, bool(options), width.get(name, 14))


def _key_column(key: str, gaps: Iterable[Mapping[str, Any]]) -> Column:
    levels = Counter(g[1] for found in gaps if (g := found.get(key)))
    needed = "yes" if levels["violation"] else "good to have" if levels else ""
    options, only = choices(key)
    return Column(key, meaning(key), needed, tuple(options), only, max(14, len(key) + 2))


def _supplement_column(name: str) -> Column:
    rule = supplement_rule(name)
    words = rule.get("about", "") + (f" [{rule['unit']}]" if "unit" in rule else "")
    options = rule.get("fixed") or rule.get("choices") or ()
    if rule["type"] == "boolean":
        options = ("yes", "no")
    only = "fixed" in rule or rule["type"] == "boolean"
    return Column(f"sp:{name}", words, "", tuple(options), only, max(14, len(name) + 5))


def dataset_template(
    sheet: DatasetSheet, datasets: Iterable[Mapping[str, Any]], fields: Mapping[str, Mapping[str, Any]]
) -> Template:
    """Return the table of datasets; parameters as `measurement_template`."""
    rows = sorted(datasets, key=lambda d: natural_key(d["source"]))
    titles = Counter(d["title"] for d in rows)
    lead = ["dataset", "source", "status", "findings", "measurements"]
    own = {
        "dataset": Column("dataset", "identifier; do not change it", width=24),
        "source": Column("source", "path of the folder", width=40),
    }
    columns = [own.get(name) or _plain_column(name) for name in (*lead, *FIELDS, EXPORTED)]
    template = Template("datasets", columns, frozen=2)
    for row in rows:
        name, marks = row["dataset"], []
        said, _ = sheet.entry(name)
        problem = _title_problem(row["title"], titles)
        findings = "; ".join(w for w in (row["reason"], problem) if w)
        cells: list[tuple[str, State]] = [
            (whole_text(text), "fixed")
            for text in (name, row["source"], row["status"], findings, str(row["ready"]))
        ]
        for column in FIELDS:
            value = fields.get(name, {}).get(column)
            text = "-" if column in said and said[column].value is None else field_text(column, value)
            state: State = "missing" if column in MANDATORY and not value else ""
            cells.append((text, "wrong" if column == "title" and problem else state))
            if text and column not in said:
                marks.append(mark(name, column, text))
        template.rows.append([*cells, (" ".join(marks), "fixed")])
    return template


def _title_problem(title: str, titles: Counter[str]) -> str:
    if titles[title] > 1:
        return f"{titles[title]} datasets have the title '{title}'"
    return f"the title '{title}' says nothing" if is_generic_title(title) else ""
