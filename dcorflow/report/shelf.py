"""What the page holds per measurement, packed, kept between runs: only what changed is read again."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import zlib
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dcorflow.files import key_of, printable, read_json, read_text, write_if_changed
from dcorflow.records import load_record
from dcorflow.report.details import details_of, lead_of
from dcorflow.workdir import Workdir
from dcorflow.workers import spread

#: Raised when the same records would give other leads or details than before.
_RECIPE = 3
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
#: Bytes that are kept free for the thumbnail of each measurement, and at most for all.
_PER_THUMBNAIL, _THUMBNAILS = 8_000, 6_000_000
#: The largest share of the budget that details may take; pictures get the rest.
_DETAILS = 0.6
#: Measurements whose details are made together, by several processes.
_AT_ONCE = 1000

#: Size and time (ns) of a file; empty where there is none.
Stat = Sequence[int]


def stats_of(folder: Path) -> dict[str, Stat]:
    """Return size and time of every JSON file in a folder by its name without suffix."""
    found: dict[str, Stat] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(".json") and not entry.name.startswith("."):
                    stat = entry.stat()
                    found[entry.name[:-5]] = (stat.st_size, stat.st_mtime_ns)
    except OSError:
        return {}
    return found


def drop_orphans(work: Workdir, portraits: dict[str, Stat], known: Container[str]) -> None:
    """Remove the portraits of measurements that neither inventory nor records know, in place and on disk."""
    for name in [name for name in portraits if name not in known]:
        del portraits[name]
        with contextlib.suppress(OSError):
            work.portrait(name).unlink()


@dataclass
class Subject:
    """What stands beside its record about one measurement.

    Parameters
    ----------
    measurement
        Identifier.
    member
        Its entry in the group plan: supplements with their origins, patterns to ignore.
    private
        Private text found in it: place, kind, text, count and verdict.
    drawn
        Whether its portrait belongs to it; that of a failed one is of a former time.
    """

    measurement: str
    member: Mapping[str, Any] = field(default_factory=dict)
    private: Sequence[Sequence[str]] = ()
    drawn: bool = True


class Shelf:
    """Leads of all measurements, and packed details and pictures of those the page has room for.

    Parameters
    ----------
    work
        Work directory; two files below its state hold what was packed the last time.
    records, portraits
        Size and time of these files by measurement (`stats_of`).
    """

    def __init__(self, work: Workdir, records: Mapping[str, Stat], portraits: Mapping[str, Stat]) -> None:
        self.work, self.records, self.portraits = work, records, portraits
        self.read = 0

    def leads(self, measurements: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the lead of every measurement that has a record."""
        path = self.work.state / "report" / "leads.jsonl"
        known = _load(path)
        keys = {name: key_of(_RECIPE, self.records[name]) for name in measurements if name in self.records}
        new = [name for name, key in keys.items() if (name, key) not in known]
        self.read += len(new)
        made = dict(zip(new, spread(self._lead, new), strict=True))
        leads = {name: made[name] if name in made else known[name, key] for name, key in keys.items()}
        _save(path, ([name, key, leads[name]] for name, key in keys.items()))
        return leads

    def _lead(self, name: str) -> dict[str, Any]:
        record = load_record(self.work, name)
        return lead_of(record) if record else {}

    def pack(self, subjects: Sequence[Subject], budget: int) -> dict[str, list[str]]:
        """Return details, thumbnail and pictures of as many measurements as the budget allows.

        Parameters
        ----------
        subjects
            The measurements, those first that matter most.
        budget
            Bytes that all of it may take.

        Returns
        -------
        dict
            By measurement: details and pictures as base64 of raw deflate of JSON, and the thumbnail
            as base64 of WebP, in the order details, thumbnail, pictures; empty where there is none or
            no room.
        """
        path = self.work.state / "report" / "details.jsonl"
        known = _load(path)
        packed: dict[str, list[str]] = {}
        keys: dict[str, list[str]] = {}
        room = int(budget * _DETAILS)
        for start in range(0, len(subjects), _AT_ONCE):
            some = subjects[start : start + _AT_ONCE]
            keys |= {subject.measurement: self._keys(subject) for subject in some}
            for name, details in self._details(some, keys, known).items():
                room -= len(details)
                if room < 0:
                    break
                packed[name] = [details, "", ""]
            if room < 0:
                break
        used = sum(len(parts[0]) for parts in packed.values())
        self._add_pictures(packed, subjects, keys, known, budget - used)
        lines = [[name, keys[name][0], parts[:1]] for name, parts in packed.items()]
        lines += [[name, keys[name][1], parts[1:]] for name, parts in packed.items() if any(parts[1:])]
        _save(path, lines)
        return packed

    def _keys(self, subject: Subject) -> list[str]:
        """Return what stands for details and pictures of a measurement."""
        name = subject.measurement
        return [
            key_of("d", _RECIPE, self.records.get(name, ()), subject.member, subject.private),
            key_of("p", _RECIPE, self.portraits.get(name, ())),
        ]

    def _details(
        self,
        subjects: Sequence[Subject],
        keys: Mapping[str, list[str]],
        known: Mapping[tuple[str, str], Any],
    ) -> dict[str, str]:
        """Return the packed details of measurements, in their order."""
        before = {s.measurement: known.get((s.measurement, keys[s.measurement][0])) for s in subjects}
        new = [subject for subject in subjects if not before[subject.measurement]]
        self.read += len(new)
        made = dict(zip((s.measurement for s in new), spread(self._pack_one, new), strict=True))
        return {name: found[0] if found else made[name] for name, found in before.items()}

    def _pack_one(self, subject: Subject) -> str:
        record = load_record(self.work, subject.measurement)
        return _deflated(details_of(record, subject.member, subject.private))

    def _add_pictures(
        self,
        packed: dict[str, list[str]],
        subjects: Sequence[Subject],
        keys: Mapping[str, list[str]],
        known: Mapping[tuple[str, str], Any],
        room: int,
    ) -> None:
        """Add thumbnails and pictures, those that matter most first, until the room is used."""
        drawn = [s.measurement for s in subjects if s.drawn and s.measurement in self.portraits]
        drawn = [name for name in drawn if name in packed]
        small = min(_THUMBNAILS, _PER_THUMBNAIL * len(drawn), room)
        large = room - small
        for name in drawn:
            if small <= 0 and large <= 0:
                break
            parts = known.get((name, keys[name][1])) or self._portrait(name)
            small, large = small - len(parts[0]), large - len(parts[1])
            packed[name][1:] = [parts[0] if small >= 0 else "", parts[1] if large >= 0 else ""]

    def _portrait(self, name: str) -> list[str]:
        """Return thumbnail and packed pictures; empty where the portrait is damaged."""
        self.read += 1
        try:
            portrait = read_json(self.work.portrait(name))
            thumbnail = portrait["thumbnail"] or ""
            if not isinstance(thumbnail, str) or not _BASE64.fullmatch(thumbnail):
                thumbnail = ""
            pictures = [{k: str(p[k]) for k in ("id", "title", "alt", "svg")} for p in portrait["pictures"]]
            shown = {
                "pictures": pictures,
                "events": int(portrait["events"]),
                "sampled": int(portrait["sampled"]),
                "missing": [printable(str(words)) for words in portrait.get("missing", ())],
            }
            return [thumbnail, _deflated(shown)]
        except (OSError, ValueError, KeyError, TypeError):
            return ["", ""]


def _deflated(data: Any) -> str:
    """Return base64 of raw deflate of JSON, as browsers can unpack it."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return base64.b64encode(packer.compress(text.encode("ascii")) + packer.flush()).decode("ascii")


def _load(path: Path) -> dict[tuple[str, str], Any]:
    known: dict[tuple[str, str], Any] = {}
    try:
        text = read_text(path)
    except OSError:
        return known
    for line in text.split("\n"):
        try:
            name, key, value = json.loads(line)
            known[name, key] = value
        except (ValueError, TypeError):
            continue  # a damaged line is made again
    return known


def _save(path: Path, lines: Iterable[Any]) -> None:
    text = "".join(json.dumps(line, ensure_ascii=True) + "\n" for line in lines)
    write_if_changed(path, text)
