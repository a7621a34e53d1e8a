"""A DCOR server for uploads that are killed: started here, emptied between trials, and looked into."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests

LAB = Path(__file__).resolve().parent / "dcor_lab" / "dcor_lab.py"
CIRCLE = "my-circle"
_PATIENCE = 300


class Server:
    """A running server; for root on Debian.

    Parameters
    ----------
    folder
        Where its state is kept; must not exist.

    Raises
    ------
    OSError
        Where it cannot be installed or started here; says why.
    """

    def __init__(self, folder: Path) -> None:
        done = subprocess.run([sys.executable, str(LAB), "install"], capture_output=True, text=True)
        if done.returncode:
            raise OSError(done.stderr.strip())
        command = [sys.executable, str(LAB), "run", str(folder), "--parent", str(os.getpid())]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        end = time.monotonic() + _PATIENCE
        while not (folder / "server.json").exists():
            if self.process.poll() is not None or time.monotonic() > end:
                self.remove()
                raise OSError("the server did not start")
            time.sleep(0.1)
        told = json.loads((folder / "server.json").read_text())
        self.url, self.s3, self.tokens = told["url"], told["s3"], told["tokens"]
        self._call("organization_create", "uploader", name=CIRCLE)
        # Nobody asks here for what the server's worker makes of an upload: rest it, by RQ's own switch.
        rest = ["redis-cli", "-p", str(told["redis"]), "set", "rq:suspended", "1"]
        subprocess.run(rest, check=True, stdout=subprocess.DEVNULL)

    def remove(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(60)

    def _call(self, action: str, user: str = "admin", **data: Any) -> Any:
        address, headers = f"{self.url}/api/3/action/{action}", {"Authorization": self.tokens[user]}
        answer = requests.post(address, json=data, headers=headers, timeout=60)
        answer.raise_for_status()
        return answer.json()["result"]

    def datasets(self) -> list[dict[str, Any]]:
        """Return all datasets and drafts that are not deleted."""
        query = {"q": "*:*", "include_drafts": True, "include_private": True, "rows": 1000}
        found: list[dict[str, Any]] = self._call("package_search", **query)["results"]
        return found

    def clear(self) -> None:
        """Delete all of them."""
        for dataset in self.datasets():
            self._call("package_delete", id=dataset["id"])

    def _stored(self, dataset: dict[str, Any], resource: str) -> str:
        """Return the SHA256 of what lies in the object store, which takes any signature."""
        place = (
            f"circle-{dataset['organization']['id']}/resource/{resource[:3]}/{resource[3:6]}/{resource[6:]}"
        )
        signed = f"AWSAccessKeyId=testkey&Signature=any&Expires={int(time.time()) + 3600}"
        answer = requests.get(f"{self.s3}/{place}?{signed}", timeout=60)
        return hashlib.sha256(answer.content).hexdigest()

    def problems(self, work: Path) -> list[str]:
        """Return where the server is not as the tasks of a work directory, its receipts and ledger say.

        Each task is to be exactly one final dataset with the same files, byte by byte, but for datasets
        that are kept back, since measurements are missing or not as they should be.
        """
        with (work / "results" / "summary.tsv").open(encoding="utf-8", newline="") as stream:
            rows = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
            kept = {row["dataset"] for row in rows if row["dataset_status"] in ("incomplete", "blocked")}
        [folder] = (work / "results" / "uploads").iterdir()
        found: dict[str, list[dict[str, Any]]] = {}
        for dataset in self.datasets():
            found.setdefault(dataset["title"], []).append(dataset)
        told = []
        for path in sorted((work / "results" / "datasets").glob("*/upload_job.dcoraid-task")):
            if path.parent.name in kept:
                continue
            title = json.loads(path.read_bytes())["dataset_dict"]["title"]
            there = found.pop(title, [])
            if len(there) != 1:
                told.append(f"the server has {len(there)} datasets '{title}'")
                continue
            told += [f"'{title}': {words}" for words in self._differences(there[0], path.parent, folder)]
        return told + [f"the server has '{title}', which no task names" for title in found]

    def _differences(self, dataset: dict[str, Any], prepared: Path, folder: Path) -> list[str]:
        """Return what is wrong with one dataset on the server."""
        files = {p.name: p for p in prepared.iterdir() if p.suffix != ".dcoraid-task"}
        wanted = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
        stored = {r["name"]: self._stored(dataset, r["id"]) for r in dataset["resources"]}
        told = [] if dataset["state"] == "active" else [f"it is {dataset['state']}"]
        if stored != wanted or len(dataset["resources"]) != len(stored):
            told.append(f"it has {sorted(stored)} with other content, or not {sorted(wanted)}")
        if "dcorflow" in (dataset["notes"] or ""):
            told.append("the marker is still in its description")
        receipt = folder / f"{prepared.name}.json"
        if not receipt.exists():
            return [*told, "there is no receipt"]
        proof = json.loads(receipt.read_bytes())
        if (
            proof["dataset_id"] != dataset["id"]
            or {r["name"]: r["sha256"] for r in proof["resources"]} != wanted
        ):
            told.append("its receipt proves something else")
        lines = [line.split("\t") for line in (folder / "ledger.tsv").read_text().splitlines()]
        final = [line[4] for line in lines if line[2:4] == [proof["task_id"], "active"]]
        if set(final) != {dataset["id"]}:
            told.append(f"the ledger says that {final} became final")
        return told
