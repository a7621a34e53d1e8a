"""The way of one dataset onto the server: what is there decides what is done next.

Nothing is remembered but in the ledger and on the server, so a process that is killed anywhere is
followed by one that goes on: intent, draft with a marker, id, resources, verification, activation,
receipt.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from dcorflow.upload.api import SLOW, Api
from dcorflow.upload.content import Content
from dcorflow.upload.drafts import (
    marker_of,
    missing_supplements,
    new_resource,
    of_another_task,
    ordered,
    own_drafts,
)
from dcorflow.upload.failures import Passing, Patience, Refused, Stopped, UploadError, seconds_since
from dcorflow.upload.ledger import Ledger
from dcorflow.upload.locks import title_lock
from dcorflow.upload.manifest import Manifest, Resource
from dcorflow.upload.preflight import Facts
from dcorflow.upload.progress import Meter
from dcorflow.upload.transfer import Transfer

#: How often a draft that nobody had asked for again is looked for after a request without an answer.
_LOOKS = 3
#: Seconds to wait for the next file, so that small ones are added to the draft in one request.
_GATHER = 3
#: Drafts that are made anew for one dataset in one run, before it is given up.
_DRAFTS = 3


class _Again(Exception):
    """Something changed; begin with looking at what is there."""


@dataclass
class Settings:
    """What a dataset's upload needs to know.

    Parameters
    ----------
    namespace
        Of this lab; part of the marker.
    activate
        Whether it may become final now.
    retries, connections
        As in the configuration.
    """

    namespace: str
    activate: bool
    retries: int
    connections: int


class DatasetUpload:
    """Brings one dataset onto the server.

    Parameters
    ----------
    api, facts, ledger
        The server, what it allows, and what is known of it.
    manifest
        The dataset.
    settings
        What may be done.
    meter
        Is told of progress.
    drafts
        Those of the user when the job began. A task of which the ledger has no line yet was not begun
        since then, so that it is looked for there, not asked for again.
    """

    def __init__(
        self,
        api: Api,
        facts: Facts,
        ledger: Ledger,
        manifest: Manifest,
        settings: Settings,
        meter: Meter,
        drafts: Sequence[dict[str, Any]] = (),
    ) -> None:
        self.api, self.facts, self.ledger, self.manifest = api, facts, ledger, manifest
        self.settings, self.meter = settings, meter
        self.task, self.drafts = manifest.task_id, drafts
        self.patience = Patience(settings.retries, meter.say, meter.stop)
        self.content = Content(api)
        self._drafts = 0
        self._step = ""

    def run(self) -> dict[str, Any]:
        """Return the dataset as the server shows it: a verified draft, or active.

        Raises
        ------
        UploadError
            Where it cannot be done; the text says why.
        """
        try:
            while True:
                try:
                    return self._advance()
                except Passing as error:
                    self.patience.wait(error, self._step)
                except _Again:
                    continue
        except Passing as error:
            raise UploadError(f"gave up after {self.settings.retries} tries: {error.reason}") from error
        except Refused as error:
            raise UploadError(error.reason) from error

    def _advance(self) -> dict[str, Any]:
        self._step = "claim"
        dataset_id = self._claim()
        self._step = "look" if dataset_id else "create"
        shown = self._look(dataset_id) if dataset_id else self._create()
        if shown["state"] == "active":
            return self._confirm(shown)
        self._step = "fields"
        self._settle_fields(shown)
        self._step = "fill"
        self._fill(shown)
        shown = self._look(shown["id"])
        self._step = "verify"
        self._verify(shown)
        self._step = "finish"
        return self._activate(shown["id"]) if self.settings.activate else self._rest(shown)

    @property
    def marker(self) -> str:
        """The line in the notes of a draft by which it is known to be this task's."""
        return marker_of(self.task, self.settings.namespace)

    def _claim(self) -> str:
        """Return the id of the task's dataset, empty where there is none."""
        for dataset_id in self.ledger.to_remove(self.task):
            self._remove(dataset_id)
        if dataset_id := self.ledger.dataset_of(self.task):
            return dataset_id
        if self.manifest.known_id and not self.ledger.of(self.task):
            self.ledger.add(self.task, "draft", self.manifest.known_id, "taken over")
            return self.manifest.known_id
        if not self.ledger.of(self.task):
            own = [d for d in self.drafts if self.marker in d["notes"]]
            return self._adopt(own) if own else ""
        looks = _LOOKS if self.ledger.unanswered(self.task) else 1
        for number in range(looks):
            if number and self.meter.stop.wait(2 * number):
                raise Stopped
            found = own_drafts(self.api, self.facts.user_id, self.marker)
            if drafts := [d for d in found if not self.ledger.is_removed(self.task, d["id"])]:
                return self._adopt(drafts)
        return ""

    def _adopt(self, drafts: list[dict[str, Any]]) -> str:
        drafts = sorted(drafts, key=lambda d: (-len(d["resources"]), d["metadata_created"]))
        chosen = str(drafts[0]["id"])
        self.ledger.add(self.task, "draft", chosen, "found by its marker")
        return chosen

    def _create(self) -> dict[str, Any]:
        """Make a draft and return it as the server shows it."""
        self._drafts += 1
        if self._drafts > _DRAFTS:
            raise UploadError("its draft vanished or changed again and again while it was filled")
        self.ledger.add(self.task, "intent")
        wanted = self._fields() | {"state": "draft"}
        with title_lock(self.ledger.path.parent / "locks", wanted["title"], self.meter.stop):
            made: dict[str, Any] = self.api.post("package_create", wanted, timeout=SLOW)
        self.ledger.add(self.task, "draft", made["id"])
        self.ledger.add(self.task, "fields", made["id"], self.manifest.fields_digest)
        return made

    def _fields(self) -> dict[str, Any]:
        """Return what a draft is made of: all fields, the marker before the notes."""
        notes = f"{self.marker}\n\n{self.manifest.fields.get('notes', '')}".rstrip()
        return self.manifest.fields | {"notes": notes}

    def _look(self, dataset_id: str) -> dict[str, Any]:
        """Return the dataset as the server shows it now; begin again where a draft is gone."""
        try:
            shown: dict[str, Any] = self.api.get("package_show", id=dataset_id)
        except Refused as error:
            if error.status == 403:
                raise UploadError(
                    f"dataset {dataset_id} of this task is not to be seen with this token"
                ) from error
            if not error.is_missing:
                raise
            shown = {"state": "deleted"}
        if shown["state"] == "draft" and of_another_task(shown, self.task):
            raise self._left(dataset_id, "the server took it for a draft of another task with the same title")
        if shown["state"] in ("draft", "active"):
            return shown
        final = any(self.ledger.last(self.task, event, dataset_id) for event in ("activating", "active"))
        if final or self.manifest.known_id == dataset_id:
            raise UploadError(f"dataset {dataset_id} is not on the server any more; it is not uploaded again")
        raise self._left(dataset_id, "it was deleted on the server")

    def _left(self, dataset_id: str, why: str) -> _Again:
        """Note that a draft is not there, or not the task's; return what begins again."""
        self.ledger.add(self.task, "abandoned", dataset_id, why)
        self.ledger.add(self.task, "removed", dataset_id)
        return _Again()

    def _abandon(self, dataset_id: str, why: str) -> None:
        """Give a draft up, delete it, and begin again: resources of a draft cannot be replaced."""
        activating = self.ledger.last(self.task, "activating", dataset_id)
        if activating and seconds_since(activating.time) < 2 * SLOW:
            raise UploadError(f"{why}, and it may be about to become final; run again in half an hour")
        if dataset_id == self.manifest.known_id:
            raise UploadError(f"{why}; the draft {dataset_id} was not made here, so it is left as it is")
        self.meter.say(f"{why}; starting over with a new draft")
        self.ledger.add(self.task, "abandoned", dataset_id, why)
        raise _Again

    def _remove(self, dataset_id: str) -> None:
        try:
            shown = self.api.get("package_show", id=dataset_id)
            if shown["state"] == "draft" and not of_another_task(shown, self.task):
                self.api.post("package_delete", {"id": dataset_id}, timeout=SLOW)
        except Refused as error:
            if not error.is_missing:
                raise
        self.ledger.add(self.task, "removed", dataset_id)

    def _settle_fields(self, shown: dict[str, Any]) -> None:
        """Send title, authors and the like where they changed since they were sent."""
        sent = self.ledger.last(self.task, "fields", shown["id"])
        if sent is not None and sent.detail == self.manifest.fields_digest:
            return
        empty = {"notes": "", "doi": "", "references": "", "tags": [], "groups": []}
        change = empty | self._fields()
        del change["owner_org"]  # a task belongs to one circle
        try:
            self._revise(shown["id"], update=change)
        except Refused as error:
            if not error.kind:  # not CKAN's word
                raise
            self._abandon(shown["id"], f"its fields cannot be changed ({error.reason})")
        self.ledger.add(self.task, "fields", shown["id"], self.manifest.fields_digest)

    def _revise(self, dataset_id: str, **change: Any) -> None:
        match = {"id": dataset_id, "state": "draft"}
        try:
            self.api.post("package_revise", {"match": match, **change}, timeout=SLOW)
        except Refused as error:
            if "match" in error.about:  # a request of a killed process was carried out only now
                raise Passing("it became final, or was deleted, since it was looked at") from error
            raise

    def _fill(self, shown: dict[str, Any]) -> None:
        """Add the resources that are missing; start over where others are there."""
        wanted = {r.name: r for r in self.manifest.resources}
        there = {r["name"]: r for r in shown["resources"]}
        strange = [name for name in there if name not in wanted]
        if strange or len(there) < len(shown["resources"]):
            self._abandon(shown["id"], f"the draft holds what the task does not list: {', '.join(strange)}")
        for name, resource in there.items():
            self._compare(shown["id"], wanted[name], resource)
            self.meter.skip(wanted[name].size)
        change = {
            f"update__resources__{r['id']}": missing_supplements(wanted[n], r)
            for n, r in there.items()
            if missing_supplements(wanted[n], r)
        }
        if change:
            self._revise(shown["id"], **change)
        missing = [r for r in ordered(self.api, self.manifest, shown["id"]) if r.name not in there]
        if missing:
            self._send(shown, missing)

    def _compare(self, dataset_id: str, wanted: Resource, resource: dict[str, Any]) -> None:
        """Start over where a resource has other content than the file here."""
        if why := self.content.difference(dataset_id, wanted, resource):
            self._abandon(dataset_id, why)

    def _send(self, shown: dict[str, Any], missing: list[Resource]) -> None:
        """Send files, several at a time, and add each run of them that is complete, in order."""
        sent = self.ledger.sent(self.task, shown["id"])
        transfer = Transfer(self.api, self.settings.connections, self.meter)
        circle = shown["organization"]["id"]
        with ThreadPoolExecutor(self.settings.connections) as pool:
            waiting: list[tuple[Resource, Future[str] | None]] = []
            for resource in missing:
                key = (resource.name, resource.etag)
                waiting.append(
                    (resource, None if key in sent else pool.submit(transfer.send, resource, circle))
                )
            ready: list[dict[str, Any]] = []
            failure: Exception | None = None
            for number, (resource, future) in enumerate(waiting):
                try:
                    resource_id = sent[resource.name, resource.etag] if future is None else future.result()
                except (Passing, Refused, UploadError) as error:
                    failure = failure or error
                    continue
                if future is not None:
                    detail = f"{resource_id} {resource.etag} {resource.name}"
                    self.ledger.add(self.task, "sent", shown["id"], detail)
                    self.patience.reset()
                if failure is None:
                    ready.append(new_resource(resource, resource_id))
                    following = waiting[number + 1][1] if number + 1 < len(waiting) else None
                    if following is not None and not wait([following], _GATHER).done:
                        self._add(shown["id"], ready)
                        ready = []
            if ready:
                self._add(shown["id"], ready)
        if failure is not None:
            raise failure

    def _add(self, dataset_id: str, resources: list[dict[str, Any]]) -> None:
        try:
            self._revise(dataset_id, update__resources__extend=resources)
        except Refused as error:
            # Perhaps an earlier request got through after all, or a file sent before is gone.
            self.ledger.add(self.task, "unsent", dataset_id, error.reason)
            raise Passing(error.reason) from error

    def _verify(self, shown: dict[str, Any]) -> None:
        """Compare everything on the server with the files here; start over where it differs."""
        wanted = {r.name: r for r in self.manifest.resources}
        names = sorted(r["name"] for r in shown["resources"])
        if names != sorted(wanted):
            raise Passing(f"the server shows {len(names)} of {len(wanted)} resources")
        with ThreadPoolExecutor(self.settings.connections) as pool:
            looks = [
                pool.submit(self._compare, shown["id"], wanted[r["name"]], r) for r in shown["resources"]
            ]
            for look in looks:
                look.result()
        wrong = [n for r in shown["resources"] for n in missing_supplements(wanted[r["name"]], r)]
        wrong += [
            key for key in ("title", "license_id", "private") if shown[key] != self.manifest.fields[key]
        ]
        if wrong:
            raise UploadError(f"the server stores another value than was sent: {', '.join(wrong)}")
        if self.ledger.unanswered(self.task):
            for draft in own_drafts(self.api, self.facts.user_id, self.marker):
                if draft["id"] != shown["id"]:
                    self.ledger.add(self.task, "abandoned", draft["id"], "a second draft of the same task")
                    self._remove(draft["id"])
        known = self.ledger.last(self.task, "verified", shown["id"])
        if known is None or known.detail != self.manifest.digest:
            self.ledger.add(self.task, "verified", shown["id"], self.manifest.digest)

    def _rest(self, shown: dict[str, Any]) -> dict[str, Any]:
        """Leave a verified draft to somebody; without the marker, should it be activated elsewhere."""
        notes = self.manifest.fields.get("notes", "")
        if (shown.get("notes") or "") != notes:
            self._revise(shown["id"], update={"notes": notes})
            shown["notes"] = notes
        return shown

    def _activate(self, dataset_id: str) -> dict[str, Any]:
        if not self.ledger.last(self.task, "activating", dataset_id):
            self.ledger.add(self.task, "activating", dataset_id, self.manifest.digest)
        change = {"notes": self.manifest.fields.get("notes", ""), "state": "active"}
        self._revise(dataset_id, update=change)
        return self._confirm(self._look(dataset_id))

    def _confirm(self, shown: dict[str, Any]) -> dict[str, Any]:
        """Return an active dataset that is what it should be."""
        wanted = {r.name: r for r in self.manifest.resources}
        there = {r["name"]: r for r in shown["resources"]}
        if set(there) != set(wanted) or len(there) != len(shown["resources"]):
            raise UploadError(f"dataset {shown['id']} is final on the server with other resources than here")
        for name, resource in there.items():
            if why := self.content.difference(shown["id"], wanted[name], resource):
                raise UploadError(f"dataset {shown['id']} is final on the server with another {name}: {why}")
        if not self.ledger.last(self.task, "active", shown["id"]):
            self.ledger.add(self.task, "active", shown["id"], self.manifest.digest)
        return shown
