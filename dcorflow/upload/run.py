"""The upload job: all datasets of a group that are to be on the server, several at once."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcorflow.deleted import note_deleted
from dcorflow.errors import UsageError, is_interrupt
from dcorflow.files import key_of, read_json, to_json, write_if_changed, write_text
from dcorflow.progress import JobProgress
from dcorflow.published import read_receipt
from dcorflow.server import find_server
from dcorflow.upload.api import Api
from dcorflow.upload.audit import Seen, matches
from dcorflow.upload.dataset import DatasetUpload, Settings
from dcorflow.upload.drafts import marker_words, own_drafts
from dcorflow.upload.failures import Passing, Patience, Refused, Stopped, UploadError
from dcorflow.upload.ledger import Ledger
from dcorflow.upload.locks import slot, task_lock
from dcorflow.upload.manifest import Manifest, read_manifest
from dcorflow.upload.outcome import accepted, identity, published
from dcorflow.upload.preflight import Facts, learn, objections
from dcorflow.upload.progress import Bar, Meter, find_terminal
from dcorflow.upload.receipts import is_approved, write_receipt
from dcorflow.upload.settled import unsettled
from dcorflow.upload.token import find_token
from dcorflow.workdir import TASK_NAME, Workdir


@dataclass
class Outcome:
    """What became of one dataset in one job.

    Parameters
    ----------
    status
        ``published``, ``draft``, ``unsettled`` or ``upload failed``; as decided before where nothing was
        to be done.
    reason
        One sentence, empty for `published`.
    dataset_id
        On the server, where it has one.
    """

    status: str
    reason: str = ""
    dataset_id: str = ""


class _GroupUpload:
    """One job's work on one group."""

    def __init__(self, work: Workdir, group: str) -> None:
        self.work, self.group = work, group
        self.config = read_json(work.config)
        self.settings = self.config["upload"]
        self.server = find_server(self.settings.get("server"))
        self.folder = self.server.folder(work)
        self.plan = {d["dataset"]: d for d in read_json(work.group(group))["datasets"]}
        self.decisions = read_json(work.settled(group))
        self.rows: dict[str, list[dict[str, Any]]] = {}
        for row in self.decisions["measurements"]:
            self.rows.setdefault(row["dataset"], []).append(row)
        self.stop = threading.Event()
        self.ledger = Ledger(self.folder / "ledger.tsv")
        self.seen: Seen | None = None
        self.drafts: list[dict[str, Any]] = []
        self.bar = Bar(find_terminal())
        self.meters: dict[str, Meter] = {}

    def run(self) -> dict[str, Outcome]:
        """Upload what is due and return what became of each dataset."""
        outcomes: dict[str, Outcome] = {}
        due = []
        for decision in self.decisions["datasets"]:
            waiting = self._waiting(decision)
            if waiting is None:
                due.append(decision)
            else:
                outcomes[decision["dataset"]] = waiting
        if not due:
            return outcomes
        self.sizes = {d["dataset"]: _size_of(self.work.datasets / d["dataset"]) for d in due}
        size = sum(self.sizes.values())
        with JobProgress(self.work, "upload", self.group, len(due), size) as self.progress:
            return outcomes | self._upload_all(due)

    def _upload_all(self, due: list[dict[str, Any]]) -> dict[str, Outcome]:
        """Upload datasets, several at once."""
        say = Meter(self.group, 0, 0, self.stop).say
        try:
            api = Api(self.server, find_token(self.settings.get("token_file")), self.settings["timeout"])
            patience = Patience(self.settings["retries"], say, self.stop)
            facts = learn(api, patience)
            self._find_drafts(api, facts, patience, due)
            if self.settings["duplicates"] != "allow":
                self.seen = Seen(self.work, self.server).refresh(api, facts, patience)
        except (UsageError, Passing, Refused) as error:
            say(str(error))
            return {d["dataset"]: self._ended(self._failed(d, str(error)), d) for d in due}
        with ThreadPoolExecutor(min(len(due), self.settings["parallel"])) as pool:
            done = pool.map(lambda d: self._ended(self._one(api, facts, d), d), due)
            return dict(zip((d["dataset"] for d in due), done, strict=True))

    def _ended(self, outcome: Outcome, decision: dict[str, Any]) -> Outcome:
        """Show that a dataset is done, with all its bytes, whatever became of it."""
        name = decision["dataset"]
        moved = self.meters[name].done if name in self.meters else 0
        self.progress.move(self.sizes[name] - moved, worked=False)
        failure = outcome.reason if outcome.status == "upload failed" else ""
        self.progress.end(name, 0, failure=failure)
        return outcome

    def _find_drafts(self, api: Api, facts: Facts, patience: Patience, due: list[dict[str, Any]]) -> None:
        """Look for drafts of tasks that the ledger does not know; stop where it knows nothing, they exist."""
        if all(self.ledger.of(decision["task_id"]) for decision in due):
            return
        marker = marker_words(self.config["datasets"]["namespace"])
        self.drafts = patience.insist(lambda: own_drafts(api, facts.user_id, marker))
        if self.drafts and not self.ledger.lines:
            raise UsageError(
                f"the ledger {self.ledger.path} is empty, but the server holds {len(self.drafts)} unfinished "
                "drafts of this namespace; was the folder lost? Say 'dcorflow recover' first"
            )

    def _check_duplicates(self, api: Api, manifest: Manifest, say: Callable[[str], None]) -> None:
        """Stop, or warn, where a measurement is on the server in another dataset already."""
        if self.seen is None:
            return
        own = {line.dataset_id for line in self.ledger.of(manifest.task_id)} | {manifest.known_id}
        rows = self.rows.get(manifest.dataset, [])
        seen, patience = self.seen, Patience(self.settings["retries"], say, self.stop)
        try:
            found = patience.insist(lambda: list(matches(api, self.work, seen, manifest, rows, own)))
        except (Passing, Refused) as error:
            raise UploadError(f"whether it is on the server already cannot be told: {error}") from error
        for match in found:
            words = (
                f"{match.name} is on the server already ({match.how}), as {match.other} in "
                f"{self.server.url}/dataset/{match.dataset_id} ('{match.title}', {match.state})"
            )
            if self.settings["duplicates"] == "block":
                raise UploadError(
                    f"{words}; if that is this dataset, say 'dcorflow recover', else see upload.duplicates"
                )
            say(words)

    def _waiting(self, decision: dict[str, Any]) -> Outcome | None:
        """Return what keeps a dataset from being uploaded now; None where it is due."""
        dataset, status = decision["dataset"], decision["status"]
        if published(self.work, self.server, dataset):
            self._delete(dataset)  # unless that was done when it was published
            return Outcome("published")
        if accepted(decision):
            status = "ready"
        if status != "ready":
            return Outcome(status, decision["reason"], decision["dataset_id"])
        roots = {Path(root).name: Path(root) for root in self.config["input"]["root"]}
        reason = unsettled(self.plan[dataset], roots, self.settings["settle"], self.settings["settled_by"])
        if reason:
            known = self.ledger.dataset_of(decision["task_id"])
            return Outcome("unsettled", reason, known)
        return None

    def _failed(self, decision: dict[str, Any], reason: str) -> Outcome:
        return Outcome("upload failed", reason, self.ledger.dataset_of(decision["task_id"]))

    def _one(self, api: Api, facts: Facts, decision: dict[str, Any]) -> Outcome:
        """Upload one dataset; whatever goes wrong with it stays with it."""
        folder, say = self.folder / "locks", Meter(decision["dataset"], 0, 0, self.stop).say
        with (
            slot(folder, self.settings["parallel"], self.stop),
            task_lock(folder, decision["task_id"], self.stop, say) as waited,
        ):
            self.progress.begin(decision["dataset"])
            if waited and (done := self._waiting(decision)):
                return done
            self.ledger.read()
            try:
                manifest = read_manifest(self.work, decision, self.rows.get(decision["dataset"], []))
                if found := objections(manifest, facts):
                    raise UploadError("; ".join(found))
                self._check_duplicates(api, manifest, lambda text: print(text, file=sys.stderr, flush=True))
                return self._upload(api, facts, manifest)
            except UploadError as error:
                print(f"{decision['dataset']}: failed: {error}", file=sys.stderr, flush=True)
                return self._failed(decision, str(error))
            except BaseException as error:  # dcoraid derives its errors from it
                if is_interrupt(error) or isinstance(error, Stopped):
                    raise
                traceback.print_exc()
                return self._failed(decision, f"unexpected: {type(error).__name__}: {error}")

    def _upload(self, api: Api, facts: Facts, manifest: Manifest) -> Outcome:
        bandwidth = 1e6 * self.settings["bandwidth"] / self.settings["parallel"]
        move = self.progress.move
        meter = Meter(manifest.dataset, manifest.size, bandwidth, self.stop, bar=self.bar, moved=move)
        self.meters[manifest.dataset] = meter
        mode = self.settings["activate"]
        activate = mode == "all" or (mode == "approved" and is_approved(self.work, self.server, manifest))
        settings = Settings(
            self.config["datasets"]["namespace"],
            activate,
            self.settings["retries"],
            self.settings["connections"],
        )
        with self.bar.showing(meter):
            shown = DatasetUpload(api, facts, self.ledger, manifest, settings, meter, self.drafts).run()
        url = f"{self.server.url}/dataset/{shown['id']}"
        if shown["state"] == "active":
            write_receipt(self.work, self.server, manifest, shown, url)
            meter.say(f"published: {url}")
            self._delete(manifest.dataset)
            return Outcome("published", "", shown["id"])
        words = (
            "complete and verified; see it and say 'dcorflow approve'" if mode == "approved" else "complete"
        )
        meter.say(f"draft: {url}")
        return Outcome("draft", words, shown["id"])

    def _delete(self, dataset: str) -> None:
        """Delete prepared measurements that are final on a production server; task and companions stay."""
        receipt = read_receipt(self.work, self.server, dataset)
        if self.settings["after"] != "delete" or self.server.is_playground or receipt is None:
            return
        here = {row["resource"]: row for row in self.rows.get(dataset, [])}
        folder, gone = self.work.datasets / dataset, {}
        for resource in receipt["resources"]:
            row = here.get(resource["name"])
            if row is None or row["sha256"] != resource["sha256"]:
                continue
            name = row["name"]
            if (folder / name).exists():
                seen = (folder / name).stat()
                gone[dataset, name] = (seen.st_size, seen.st_mtime_ns)
        if gone:
            with slot(self.folder / "locks" / "deleted", 1, self.stop):
                note_deleted(self.work, gone)
            for _, name in gone:
                (folder / name).unlink(missing_ok=True)


def _size_of(folder: Path) -> int:
    """Return the bytes of what a dataset's folder holds beside its task; for the progress, so about."""
    with contextlib.suppress(OSError):
        return sum(p.stat().st_size for p in folder.iterdir() if p.name != TASK_NAME)
    return 0


def run_group(work: Workdir, group: str, turn: int = 0) -> dict[str, int]:
    """Upload a group of datasets, and write what became of them and the stamp.

    Parameters
    ----------
    work, group
        Work directory and group.
    turn
        Noted in the stamp, see `dcorflow.run.last_turn`.

    Returns
    -------
    dict
        Number of datasets by status.

    Raises
    ------
    UsageError
        Where there is no server to upload to.
    Stopped
        Where the process was told to end.
    """
    job = _GroupUpload(work, group)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: job.stop.set())
    outcomes = job.run()
    if job.stop.is_set():
        raise Stopped
    identities = {
        d["dataset"]: identity(d, job.rows.get(d["dataset"], [])) for d in job.decisions["datasets"]
    }
    told = {
        name: {
            "status": o.status,
            "reason": o.reason,
            "dataset_id": o.dataset_id,
            "server": job.server.name,
            "of": identities[name],
        }
        for name, o in outcomes.items()
    }
    write_if_changed(work.uploaded(group), to_json(told))
    # Work that a later run could finish without anything changing here.
    open_ones = [n for n, o in outcomes.items() if o.status in ("unsettled", "upload failed", "draft")]
    stamp = {"open": sorted(open_ones), "turn": turn, "told": told, "settings": key_of(job.settings)}
    write_text(work.stamp("upload", group), to_json(stamp))
    counts: dict[str, int] = {}
    for outcome in outcomes.values():
        counts[outcome.status] = counts.get(outcome.status, 0) + 1
    return counts
