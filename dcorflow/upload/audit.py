"""What of one's own data is on the server already, also when it was uploaded by other means."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import h5py

from dcorflow.files import read_json, to_json, write_text
from dcorflow.records import load_record
from dcorflow.server import Server
from dcorflow.upload.api import Api
from dcorflow.upload.failures import Patience, Refused
from dcorflow.upload.manifest import Manifest, Resource
from dcorflow.upload.preflight import Facts
from dcorflow.upload.transfer import look_into_store
from dcorflow.workdir import Workdir

_ROWS = 100
#: What is asked for again in the next run: a change may be found only after one that was made later.
_OVERLAP = datetime.timedelta(minutes=10)
#: Datasets of one title that are looked at file by file, as long as the server has not computed checksums.
_CLOSER = 10
#: What tells one measurement from all others where no checksum does (`dc:...` on the server).
_KEYS = (
    "experiment:date", "experiment:time", "experiment:run index", "experiment:event count",
    "setup:identifier",
)  # fmt: skip


@dataclass(frozen=True)
class Match:
    """A measurement that is on the server.

    Parameters
    ----------
    name
        Of the file here.
    dataset_id, title, state, other
        Dataset there, and the name of the resource.
    how
        ``same content`` or ``same measurement``.
    """

    name: str
    dataset_id: str
    title: str
    state: str
    other: str
    how: str


class Seen:
    """Checksums and identities of all measurements in the user's circles, kept between runs.

    Only what changed on the server since the last time is asked for.
    """

    def __init__(self, work: Workdir, server: Server) -> None:
        self.path = work.state / "seen" / f"{server.name}.json"
        try:
            stored = read_json(self.path)
            self.until, self.datasets = stored["until"], stored["datasets"]
        except (OSError, ValueError, KeyError, TypeError):
            self.until, self.datasets = "", {}
        self._index()

    def refresh(self, api: Api, facts: Facts, patience: Patience) -> Seen:
        """Ask for what changed, and keep it."""
        circles = sorted(set(facts.circles.values()))
        if not circles:
            return self
        query = f"owner_org:({' OR '.join(circles)})"
        changed, since, start = False, _before(self.until), 0
        while True:
            limit = f" AND metadata_modified:[{since}Z TO *]" if since else ""
            asked = (query + limit, start)
            page = patience.insist(lambda asked=asked: _page(api, *asked))  # type: ignore[misc]
            for shown in page:
                changed |= self._take(shown)
            if len(page) < _ROWS:
                break
            # By time, not by number: what changes meanwhile moves to the end, and all others move up.
            last = page[-1]["metadata_modified"]
            since, start = (last, 0) if last != since else (since, start + len(page))
        if changed:
            write_text(self.path, to_json({"until": self.until, "datasets": self.datasets}))
            self._index()
        return self

    def _take(self, shown: dict[str, Any]) -> bool:
        entry = {
            "title": shown["title"],
            "state": shown["state"],
            "resources": [
                [r["name"], r.get("sha256") or "", r.get("etag") or "", _identity(r)]
                for r in shown["resources"]
                if r["name"].endswith((".rtdc", ".dc"))
            ],
        }
        # What is indexed while the pages are read may come in any order: never go backwards.
        self.until = max(self.until, shown["metadata_modified"])
        changed = self.datasets.get(shown["id"]) != entry
        self.datasets[shown["id"]] = entry
        return changed

    def _index(self) -> None:
        """Note where each checksum, each identity and each title is, so that a look takes no search."""
        self._content: dict[str, list[tuple[str, str]]] = {}
        self._identities: dict[str, list[tuple[str, str]]] = {}
        self._titles: dict[str, list[str]] = {}
        for dataset_id, entry in self.datasets.items():
            self._titles.setdefault(entry["title"], []).append(dataset_id)
            for name, sha256, etag, identity in entry["resources"]:
                for place, key in (
                    (self._content, sha256),
                    (self._content, etag),
                    (self._identities, identity),
                ):
                    if key:
                        place.setdefault(key, []).append((dataset_id, name))

    def titled(self, title: str) -> list[str]:
        """Return the ids of the datasets with a title."""
        return self._titles.get(title, [])

    def unknown(self, dataset_id: str, names: set[str]) -> bool:
        """Return whether a dataset has measurements of these names, and the server no checksum of them."""
        rows = self.datasets[dataset_id]["resources"]
        return {name for name, *_ in rows} == names and not any(sha256 or etag for _, sha256, etag, _ in rows)

    def find(self, name: str, sha256: str, etag: str, identity: str) -> list[Match]:
        """Return where a measurement is on the server, once per dataset; content goes before identity."""
        found: dict[str, Match] = {}

        def note(places: Iterable[tuple[str, str]], how: str) -> None:
            for dataset_id, other in places:
                if dataset_id not in found:
                    entry = self.datasets[dataset_id]
                    found[dataset_id] = Match(name, dataset_id, entry["title"], entry["state"], other, how)

        note([place for key in (sha256, etag) for place in self._content.get(key, ())], "same content")
        note(self._identities.get(identity, ()), "same measurement")
        return sorted(found.values(), key=lambda m: (m.how, m.dataset_id))


def _before(until: str) -> str:
    """Return the time from which to ask on; empty for the very first, as for no time at all."""
    try:
        return (datetime.datetime.fromisoformat(until) - _OVERLAP).isoformat()
    except ValueError:
        return ""


def _page(api: Api, query: str, start: int) -> list[dict[str, Any]]:
    answer = api.get(
        "package_search", q="*:*", fq=query, include_drafts=True, include_private=True, rows=_ROWS,
        start=start, sort="metadata_modified asc",
    )  # fmt: skip
    results: list[dict[str, Any]] = answer["results"]
    return results


def _identity(resource: dict[str, Any]) -> str:
    """Return what the server says that identifies a measurement; empty where something is missing."""
    return _joined([resource.get(f"dc:{key}") for key in _KEYS])


def _joined(values: list[Any]) -> str:
    words = []
    for value in values:
        if value in (None, ""):
            return ""
        try:
            words.append(f"{float(value):.17g}")  # all digits: counts of events may have many
        except (TypeError, ValueError):
            words.append(str(value))
    return "|".join(words)


def identity_of(work: Workdir, measurement: str, dataset: str) -> str:
    """Return what identifies a prepared measurement, in the server's words; empty where it lacks some."""
    record = load_record(work, measurement)
    if record is None or "name" not in record.prepared:
        return ""
    path = work.datasets / dataset / record.prepared["name"]
    try:
        with h5py.File(path, "r", locking=False) as h5:
            values = [h5.attrs.get(key) for key in _KEYS]
    except OSError:
        return ""
    values[_KEYS.index("experiment:event count")] = record.facts.get("events")
    return _joined([v.decode() if isinstance(v, bytes) else v for v in values])


def matches(
    api: Api, work: Workdir, seen: Seen, manifest: Manifest, rows: list[dict[str, Any]], own: set[str]
) -> Iterator[Match]:
    """Yield which measurements of a dataset are on the server in datasets other than its own.

    Parameters
    ----------
    api, work, seen
        The server, work directory, and what is on the server.
    manifest, rows
        The dataset, and what was decided about its measurements.
    own
        Ids of the dataset itself.
    """
    measurements = {row["resource"]: row["measurement"] for row in rows if row["status"] == "ready"}
    here = [r for r in manifest.resources if r.name in measurements]
    alike = [
        i
        for i in seen.titled(manifest.fields["title"])
        if i not in own and seen.unknown(i, {r.name for r in here})
    ]
    for resource in here:
        identity = identity_of(work, measurements[resource.name], manifest.dataset)
        there = seen.find(resource.name, resource.sha256, resource.etag, identity)
        for match in there:
            if match.dataset_id not in own and _shown(api, match.dataset_id):
                yield match
        for dataset_id in alike[:_CLOSER]:
            if _stored_alike(api, dataset_id, resource):
                entry = seen.datasets[dataset_id]
                words = (entry["title"], entry["state"], resource.name, "same content")
                yield Match(resource.name, dataset_id, *words)


def _stored_alike(api: Api, dataset_id: str, resource: Resource) -> bool:
    """Return whether a file lies in the object store under its name; the server has no checksum of it yet."""
    for other in _shown(api, dataset_id).get("resources", []):
        if other["name"] == resource.name:
            try:
                return look_into_store(api, dataset_id, other) == (resource.etag, resource.size)
            except Refused:
                return False
    return False


def _shown(api: Api, dataset_id: str) -> dict[str, Any]:
    """Return a dataset, empty where it does not exist any more: deletions leave no trace in what was seen."""
    try:
        shown: dict[str, Any] = api.get("package_show", id=dataset_id)
    except Refused as error:
        if error.status in (403, 404):
            return {}
        raise
    return shown if shown["state"] in ("draft", "active") else {}
