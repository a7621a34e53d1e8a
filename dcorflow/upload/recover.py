"""`dcorflow recover` and `dcorflow audit`: what the server has of the datasets here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from dcorflow.files import read_json
from dcorflow.server import find_server
from dcorflow.upload.api import Api
from dcorflow.upload.audit import Match, Seen, matches
from dcorflow.upload.drafts import marker_words, own_drafts
from dcorflow.upload.failures import Patience, Refused, UploadError
from dcorflow.upload.ledger import Ledger
from dcorflow.upload.manifest import Manifest, Resource, read_manifest
from dcorflow.upload.preflight import Facts, learn
from dcorflow.upload.token import find_token
from dcorflow.upload.transfer import look_into_store
from dcorflow.workdir import Workdir


class Look:
    """A look at the server from one work directory; nothing is changed there."""

    def __init__(self, work: Workdir, config: dict[str, Any]) -> None:
        self.work, self.config = work, config
        self.server = find_server(config["upload"].get("server"))
        self.ledger = Ledger(self.server.folder(work) / "ledger.tsv")
        self.api = Api(
            self.server, find_token(config["upload"].get("token_file")), config["upload"]["timeout"]
        )
        self.patience = Patience(config["upload"]["retries"], print, threading.Event())
        self.facts: Facts = learn(self.api, self.patience)
        self.seen = Seen(work, self.server).refresh(self.api, self.facts, self.patience)

    def datasets(self) -> Iterator[tuple[Manifest, list[dict[str, Any]]]]:
        """Yield the datasets that have a task, with what was decided about their measurements."""
        for group in read_json(self.work.state / "plan.json")["groups"]:
            try:
                decisions = read_json(self.work.settled(group))
            except (OSError, ValueError):
                continue
            for decision in decisions["datasets"]:
                rows = [r for r in decisions["measurements"] if r["dataset"] == decision["dataset"]]
                try:
                    yield read_manifest(self.work, decision, rows), rows
                except UploadError:
                    continue  # it has no task: nothing of it can be compared

    def audit(self) -> list[tuple[str, Match]]:
        """Return (dataset, match) for every measurement that is on the server, wherever it came from."""
        found = []
        for manifest, rows in self.datasets():
            alike = self.patience.insist(
                lambda m=manifest, r=rows: list(matches(self.api, self.work, self.seen, m, r, set()))  # type: ignore[misc]
            )
            found += [(manifest.dataset, match) for match in alike]
        return found

    def recover(self) -> tuple[list[str], list[str]]:
        """Write lines into the ledger for tasks that it lacks and the server has.

        A draft is known by its marker; a dataset by its resources, all of which must have the same names
        and content as here.

        Returns
        -------
        (found, doubtful)
            One sentence for each dataset that was found, and for each that a person must look at.
        """
        found, doubtful = [], []
        marker = marker_words(self.config["datasets"]["namespace"])
        drafts = self.patience.insist(lambda: own_drafts(self.api, self.facts.user_id, marker))
        for manifest, _ in self.datasets():
            task = manifest.task_id
            if self.ledger.dataset_of(task):
                continue
            marked = [d["id"] for d in drafts if f" task {task} " in d["notes"]]
            ids = [i for i in marked if self._shown(i).get("state") == "draft"]
            ids += [i for i in self._equal(manifest) if i not in ids]
            if len(ids) == 1:
                self.ledger.add(task, "draft", ids[0], "recovered")
                found.append(f"{manifest.dataset}: {self.server.url}/dataset/{ids[0]}")
            elif ids:
                doubtful.append(f"{manifest.dataset}: several datasets could be it: {', '.join(ids)}")
        return found, doubtful

    def _equal(self, manifest: Manifest) -> list[str]:
        """Return the datasets on the server with the title and exactly the resources of a manifest."""
        wanted = {r.name: r for r in manifest.resources}
        equal = []
        for dataset_id in self.seen.titled(manifest.fields["title"]):
            shown = self._shown(dataset_id)
            there = {r["name"]: r for r in shown.get("resources", ())}
            if shown.get("state") not in ("draft", "active") or there.keys() != wanted.keys():
                continue
            if all(self._same(dataset_id, wanted[name], there[name]) for name in wanted):
                equal.append(dataset_id)
        return equal

    def _shown(self, dataset_id: str) -> dict[str, Any]:
        """Return a dataset; empty where it is gone, though the search still finds it, or not to be seen."""
        try:
            shown: dict[str, Any] = self.patience.insist(lambda: self.api.get("package_show", id=dataset_id))
        except Refused:
            return {}
        return shown

    def _same(self, dataset_id: str, mine: Resource, other: dict[str, Any]) -> bool:
        """Compare checksums; where the server has none yet, the object store has."""
        if other.get("sha256"):
            return bool(other["sha256"] == mine.sha256)
        if other.get("etag"):
            return bool(other["etag"] == mine.etag)
        seen = self.patience.insist(lambda: look_into_store(self.api, dataset_id, other))
        return seen == (mine.etag, mine.size)


def audit_lines(look: Look) -> list[str]:
    """Return the audit for a person to read."""
    lines = []
    known = {line.dataset_id for line in look.ledger.lines}
    for dataset, match in look.audit():
        place = f"{look.server.url}/dataset/{match.dataset_id}"
        origin = "uploaded from here" if match.dataset_id in known else "not uploaded from here"
        lines.append(
            f"{dataset}/{match.name}: {match.how} as {match.other} in {place} ({match.state}, {origin})"
        )
    return lines
