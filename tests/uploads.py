"""Work directories ready for an upload, each with tasks of its own, and uploads without Snakemake."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import pytest
from dcor import CIRCLE, Dcor
from runs import REPOSITORY, Run

from dcorflow.files import read_json, to_json, write_text
from dcorflow.records import Record, load_record, save_record
from dcorflow.seal import seal
from dcorflow.server import Server, find_server
from dcorflow.upload import failures
from dcorflow.upload.approve import to_approve
from dcorflow.upload.receipts import approve
from dcorflow.upload.run import run_group
from dcorflow.workdir import Workdir

GROUP = "g00001"
#: Words of the prepared work directory that each copy replaces.
TITLE, NAMESPACE = "TITLE-TO-BE", "NAMESPACE-TO-BE"


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepare the three datasets of the lab once; return the work directory."""
    from conftest import write_lab

    folder = tmp_path_factory.mktemp("prepared")
    changes = {
        "datasets.title": f"{{directory}} {TITLE}",
        "datasets.namespace": NAMESPACE,
        "datasets.companions": ["*.txt"],
        "datasets.defaults.owner_org": CIRCLE,
        "metadata.supplements": {"cells:organism": "Homo sapiens"},
    }
    run = Run(folder / "work", write_lab(folder / "source"), **changes)
    run.good()
    return run.work


@dataclass
class Lab:
    """A work directory of its own, and the server."""

    work: Workdir
    dcor: Dcor
    title: str
    url: str = ""
    outcomes: dict[str, Any] = field(default_factory=dict)

    @property
    def server(self) -> Server:
        return find_server(self.url or self.dcor.url)

    @property
    def folder(self) -> Path:
        """Folder of ledger and receipts."""
        return self.server.folder(self.work)

    def configure(self, **upload: Any) -> None:
        """Change settings of the upload."""
        config = read_json(self.work.config)
        config["upload"] |= upload
        write_text(self.work.config, to_json(config))

    def keep(self, *datasets: str) -> Lab:
        """Forget all datasets but these."""
        for path in (self.work.group(GROUP), self.work.settled(GROUP)):
            content = read_json(path)
            content["datasets"] = [d for d in content["datasets"] if d["dataset"] in datasets]
            write_text(path, to_json(content))
        return self

    def edit_task(self, dataset: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the task of a dataset as the task job would, were the settings others."""
        path = self.work.datasets / dataset / "upload_job.dcoraid-task"
        task = read_json(path)
        change(task)
        write_text(path, to_json(task))

    def upload(self) -> dict[str, Any]:
        """Run the upload job in this process; return status and reason by dataset."""
        run_group(self.work, GROUP)
        self.outcomes = read_json(self.work.uploaded(GROUP))
        return self.statuses

    @property
    def statuses(self) -> dict[str, str]:
        return {name: o["status"] for name, o in self.outcomes.items()}

    def reason(self, dataset: str) -> str:
        return str(self.outcomes[dataset]["reason"])

    def start(self, **environment: str) -> subprocess.Popen[str]:
        """Run the upload job in a process of its own."""
        command = [sys.executable, "-m", "dcorflow", "-d", str(self.work.root), "upload", GROUP]
        environment = {"PYTHONPATH": str(REPOSITORY), "DCOR_API_TOKEN": self.dcor.token} | environment
        return subprocess.Popen(
            command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def fork(self) -> int:
        """Run the upload job in a fork of this process; return its id."""
        child = os.fork()
        if not child:
            code = 1
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                run_group(self.work, GROUP)
                code = 0
            finally:
                os._exit(code)
        return child

    def killed_after(self, seconds: float) -> bool:
        """Run the upload job and kill it; return whether it was still at work."""
        child = self.fork()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if os.waitpid(child, os.WNOHANG)[0]:
                return False
            time.sleep(0.005)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return True

    def approve(self, *datasets: str) -> None:
        """Approve datasets, or all."""
        for manifest in to_approve(self.work, read_json(self.work.config), self.server, list(datasets)):
            approve(self.work, self.server, manifest)

    def ledger(self) -> list[list[str]]:
        """Return the lines of the ledger: checksum, time, task, event, id, detail."""
        text = (self.folder / "ledger.tsv").read_text()
        return list(csv.reader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))

    def events(self) -> list[str]:
        return [line[3] for line in self.ledger()]

    def receipt(self, dataset: str) -> dict[str, Any]:
        return json.loads((self.folder / f"{dataset}.json").read_text())

    def found(self, dataset: str) -> list[dict[str, Any]]:
        """Return what the server has of a dataset: by its title, drafts as well."""
        return self.dcor.datasets(f"{dataset} {self.title}")

    def prepared(self, dataset: str) -> dict[str, bytes]:
        """Return the content of a dataset's files by name."""
        paths = (self.work.datasets / dataset).iterdir()
        return {p.name: p.read_bytes() for p in paths if not p.name.endswith(".dcoraid-task")}

    def assert_whole(self, dataset: str, state: str) -> dict[str, Any]:
        """Insist on exactly one dataset on the server, in a state, with equal content; return it."""
        import requests

        [shown] = self.found(dataset)
        assert shown["state"] == state
        assert "dcorflow" not in (shown["notes"] or "")
        files = self.prepared(dataset)
        assert sorted(r["name"] for r in shown["resources"]) == sorted(files)
        for resource in shown["resources"]:
            stored = requests.get(self.dcor.stored(resource["id"]), timeout=60).content
            assert stored == files[resource["name"]], resource["name"]
            assert ("sp:cells:organism" in resource) == resource["name"].endswith(".rtdc")
        return shown


def copy_lab(prepared: Path, folder: Path, server: Dcor, url: str = "") -> Lab:
    """Return a copy of the prepared work directory with titles and task ids that nobody else has."""
    mark = f"{folder.name} {time.time_ns():x}"
    work = Workdir(folder / f"work-{time.time_ns():x}")
    shutil.copytree(prepared / "results", work.results)
    suffix = f"{time.time_ns() & 0xFFFFFFFF:08x}"
    for path in [*work.state.rglob("*.json"), *work.datasets.rglob("*.dcoraid-task")]:
        text = path.read_text().replace(str(prepared), str(work.root)).replace(TITLE, mark)
        text = re.sub(r'("task_id": "\w+)-[0-9a-f]{8}"', rf'\1-{suffix}"', text.replace(NAMESPACE, mark))
        write_text(path, text)
    lab = Lab(work, server, mark, url)
    # All copies have the same files, which is no mistake here.
    lab.configure(server=url or server.url, settle=0, retries=3, duplicates="allow")
    return lab


@pytest.fixture
def labs(
    prepared: Path, dcor: Dcor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Lab]]:
    """Give what makes work directories; the token is in the environment, pauses are short."""
    monkeypatch.setenv("DCOR_API_TOKEN", dcor.token)
    monkeypatch.setattr(failures, "_FIRST", 0.02)
    monkeypatch.setattr(failures, "_LONGEST", 0.5)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def make(*datasets: str, url: str = "", **upload: Any) -> Lab:
        made = copy_lab(prepared, tmp_path, dcor, url)
        made.configure(**upload)
        return made.keep(*(datasets or ("alpha", "beta", "gamma")))

    yield make
    for number, handler in before.items():
        signal.signal(number, handler)


@contextmanager
def altered(path: Path) -> Iterator[None]:
    """Alter a file for a while, its time as well."""
    content, seen = path.read_bytes(), path.stat()
    path.write_bytes(content + b"x")
    yield
    path.write_bytes(content)
    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def multiply(lab: Lab, dataset: str, count: int) -> list[str]:
    """Make more datasets of one, all with the same title; return the names of all."""
    names = [f"{dataset}{number}" for number in range(count)]
    settled, group = (read_json(path) for path in (lab.work.settled(GROUP), lab.work.group(GROUP)))
    [decision] = [d for d in settled["datasets"] if d["dataset"] == dataset]
    [plan] = [d for d in group["datasets"] if d["dataset"] == dataset]
    rows = [r for r in settled["measurements"] if r["dataset"] == dataset]
    for number, name in enumerate(names):
        shutil.copytree(lab.work.datasets / dataset, lab.work.datasets / name)
        task_id = f"{decision['task_id']}-{number}"
        lab.edit_task(name, lambda task, task_id=task_id: task["upload_job"].update(task_id=task_id))
        settled["datasets"].append(decision | {"dataset": name, "task_id": task_id})
        settled["measurements"] += [row | {"dataset": name} for row in rows]
        group["datasets"].append(plan | {"dataset": name})
    write_text(lab.work.settled(GROUP), to_json(settled))
    write_text(lab.work.group(GROUP), to_json(group))
    return [dataset, *names]


def records_of(made: Lab) -> list[Record]:
    """Return all records of a work directory."""
    found = [load_record(made.work, path.stem) for path in made.work.records.glob("*.json")]
    return [record for record in found if record is not None]


def make_unique(made: Lab, *datasets: str) -> None:
    """Change measurements so that nobody else has them, and their records, as a new check would."""
    for dataset in datasets:
        for path in (made.work.datasets / dataset).glob("*.rtdc"):
            with h5py.File(path, "a") as h5:
                h5.attrs["experiment:time"] = f"{time.time_ns()}"
            for record in records_of(made):
                if record.prepared.get("name") == path.name:
                    seen = path.stat()
                    record.prepared |= seal(path) | {"size": seen.st_size, "mtime_ns": seen.st_mtime_ns}
                    save_record(made.work, record)
