"""See whether a run that was disturbed and started again ended as an undisturbed one."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

#: Names of temporary files and folders start like this.
TEMPORARY = ".dcorflow-"
#: Ids that a server gives.
_ID = re.compile(rb"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
#: Files whose presence depends on how often a run was started, or on what a server held meanwhile.
_ANY_NUMBER = (
    "results/.state/progress",
    "results/.state/seen",
    "logs/",
    ".snakemake/log/",
    ".snakemake/metadata/",
)


class Seen(NamedTuple):
    """One file as it lies on disk."""

    inode: int
    mtime_ns: int
    sha256: str


def seen(path: Path) -> Seen:
    """Return inode, time and checksum of a file."""
    stat = path.stat()
    return Seen(stat.st_ino, stat.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())


def _timeless(value: Any) -> Any:
    """Return JSON data without times of prepared files, which a file made again has anew."""
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k != "mtime_ns"}
    return [_timeless(v) for v in value] if isinstance(value, list) else value


def _digest(path: Path) -> str:
    data = path.read_bytes()
    if path.parent.name == "records":
        record = {k: v for k, v in json.loads(data).items() if k != "checksum"}
        data = json.dumps(_timeless(record)).encode()
    if "uploads" in path.parts:  # receipts: of datasets with other ids, at another time
        data = re.sub(rb'"time": ".*?"', b"", data)
    data = _ID.sub(b"", data)
    if path.name == "report.html":  # tells when it was written, and how long the run took
        data = re.sub(rb'<p class="when">.*?</p>', b"", data)
    return hashlib.sha256(data).hexdigest()


def results(work: Path) -> dict[str, str]:
    """Return the SHA256 of everything below ``results``.

    But for plans and stamps in ``.state``, the index, which holds the times of the records, the ledger,
    and, where a server gave ids, the page, which holds them packed.
    """
    files = [p for p in (work / "results").rglob("*") if p.is_file() and ".state" not in p.parts]
    others = {"index.jsonl", "ledger.tsv"}
    if (work / "results" / "uploads").exists():
        others.add("report.html")
    files = [p for p in files if p.name not in others]
    return {str(p.relative_to(work)): _digest(p) for p in files}


def names(work: Path) -> set[str]:
    """Return all files and folders below a work directory whose presence is no matter of chance."""
    found = {str(p.relative_to(work)) for p in work.rglob("*")}
    return {name for name in found if not name.startswith(_ANY_NUMBER) or TEMPORARY in name}


def records(work: Path) -> dict[str, Any]:
    """Return all records by name; one that is damaged raises `ValueError`."""
    return {p.name: json.loads(p.read_bytes()) for p in (work / "results" / "records").glob("*.json")}


def prepared(work: Path) -> dict[str, Seen]:
    """Return all prepared files that lie under their final name."""
    folder = work / "results" / "datasets"
    return {str(p.relative_to(folder)): seen(p) for p in folder.glob("*/[!.]*.rtdc")}


def held(work: Path, expected: dict[str, Any]) -> dict[str, Seen]:
    """Return the prepared files that must not be made again: those whose record is as `expected`."""
    found = {}
    files = prepared(work)
    for name, record in records(work).items():
        there = record.get("prepared") or {}
        place = f"{record['dataset']}/{there.get('name')}"
        wanted = expected[name]
        keys = ("files", "body_key", "tail_key")
        if place in files and all(record[k] == wanted[k] for k in keys):
            if files[place].mtime_ns != there["mtime_ns"]:
                continue
            found[place] = files[place]
    return found


def differences(work: Path, expected: Path, expected_names: set[str]) -> list[str]:
    """Return what is not as in the work directory of an undisturbed run, with the first line that differs."""
    found, wanted = results(work), results(expected)
    told = [f"{name} is missing" for name in sorted(wanted.keys() - found.keys())]
    for name in sorted(wanted.keys() & found.keys()):
        if wanted[name] != found[name]:
            told.append(f"{name} differs: {_first_difference(work / name, expected / name)}")
    return told + [f"{name} is left over" for name in sorted(names(work) - expected_names)]


def _first_difference(path: Path, expected: Path) -> str:
    """Return where two text files differ."""
    lines = [p.read_text(encoding="utf-8", errors="replace").splitlines() for p in (path, expected)]
    for number, (found, wanted) in enumerate(zip(*lines, strict=False), start=1):
        if found != wanted and "mtime_ns" not in found and "checksum" not in found:
            return f"line {number} is {found.strip()[:300]!r} instead of {wanted.strip()[:300]!r}"
    return f"{len(lines[0])} instead of {len(lines[1])} lines"
