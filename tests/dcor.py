"""The local DCOR of a test session, shared by all workers of pytest-xdist."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from runs import REPOSITORY

LAB = REPOSITORY / "scripts" / "dcor_lab" / "dcor_lab.py"
#: The circle and the collection that exist on the server.
CIRCLE, COLLECTION = "my-circle", "my-collection"
_PATIENCE = 300


class Another:
    """A CKAN of one test.

    Parameters
    ----------
    folder
        Of the server whose database and so on it has.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as place:
            place.bind(("127.0.0.1", 0))
            self.port = place.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        ckan = Path(os.environ.get("DCOR_LAB_VENV", REPOSITORY / ".venv" / "dcor_lab")) / "bin" / "ckan"
        command = [ckan, "run", "-H", "127.0.0.1", "-p", str(self.port), "--disable-reloader", "--threaded"]
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        with (self.folder / "log" / f"ckan-{self.port}.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment | {"CKAN_INI": str(self.folder / "ckan.ini")}, stdout=log, stderr=log
            )
        end = time.monotonic() + _PATIENCE
        while self.process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        raise OSError(f"another CKAN did not start; see {log.name}")

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        self.process.kill()
        self.process.wait()


@dataclass
class Dcor:
    """A running server."""

    folder: Path
    url: str
    s3: str
    tokens: dict[str, str]
    worker: int
    redis: int

    @contextlib.contextmanager
    def working(self, title: str, *jobs: str) -> Iterator[None]:
        """Let the server's worker handle what is uploaded meanwhile; else it rests, to save time.

        One test after the other: the worker is shared by all test processes, and the end of one must
        not put it to rest while another waits. What was uploaded before is forgotten: nobody asks
        for it any more. RQ's own switch is used, as a worker stopped by a signal loses its connection.

        Parameters
        ----------
        title
            Words in the title of the datasets that count. Other processes upload at the same time, faster
            than the worker works: their jobs are taken from its queues.
        jobs
            Names of the jobs to do; all but the server's excerpts of files where none is given.
        """
        with (self.folder / "worker.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._redis("del", *self._queues(), "rq:suspended")
            stop = threading.Event()
            sorter = threading.Thread(target=self._sort_out, args=(title, jobs, stop))
            sorter.start()
            try:
                yield
            finally:
                stop.set()
                sorter.join()
                self.rest()

    def _queues(self) -> list[str]:
        return self._redis("--raw", "keys", "rq:queue:*").split()

    def _sort_out(self, title: str, jobs: tuple[str, ...], stop: threading.Event) -> None:
        """Take jobs from the worker's queues that nobody waits for, until told to stop."""
        wanted: dict[str, bool] = {}
        while not stop.wait(0.2):
            for queue in self._queues():
                for job in self._redis("--raw", "lrange", queue, "0", "-1").split():
                    # ids of jobs: dataset, number of the file, name
                    dataset, _, name = job.split("_", 2)
                    if dataset not in wanted:
                        wanted[dataset] = title in self._title(dataset)
                    due = name in jobs if jobs else name != "generate_condensed_resource"
                    if not (wanted[dataset] and due):
                        self._redis("lrem", queue, "0", job)

    def _title(self, dataset: str) -> str:
        try:
            return str(self.call("package_show", "admin", id=dataset)["title"])
        except requests.HTTPError:  # it was purged meanwhile
            return ""

    def rest(self) -> None:
        """Let the worker take no further job."""
        self._redis("set", "rq:suspended", "1")

    @contextlib.contextmanager
    def another(self) -> Iterator[Another]:
        """Start one more CKAN before the same database, search index and object store, to be killed."""
        made = Another(self.folder)
        try:
            made.start()
            yield made
        finally:
            made.kill()

    def index(self, path: str, data: Any = None, kind: str = "application/json") -> list[dict[str, Any]]:
        """Ask the search index; return the documents that were found."""
        address = f"http://127.0.0.1:{int(self.s3.rpartition(':')[2]) - 1}/solr/ckan/{path}"
        answer = requests.post(address, data=data, headers={"Content-Type": kind}, timeout=60)
        answer.raise_for_status()
        return answer.json().get("response", {}).get("docs", [])

    def await_worker(self, done: Callable[[], bool]) -> None:
        """Wait until the worker has done something, however long that takes on a busy machine."""
        end = time.monotonic() + 900
        while not done():
            told = (self.folder / "log" / "worker.log").read_text(errors="replace")[-2000:]
            state = Path(f"/proc/{self.worker}/stat")
            assert state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z", told
            assert time.monotonic() < end, f"the worker lives, and does not do it: {told}"
            time.sleep(0.2)

    def _redis(self, *words: str) -> str:
        command = ["redis-cli", "-p", str(self.redis), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    @property
    def token(self) -> str:
        """The token of the user who uploads."""
        return self.tokens["uploader"]

    def call(self, action: str, user: str = "uploader", data: Any = None, **query: Any) -> Any:
        """Call an action of the server's API as a user: GET, or POST where there is `data`."""
        address = f"{self.url}/api/3/action/{action}"
        headers = {"Authorization": self.tokens[user]} if user else {}
        if data is None:
            answer = requests.get(address, params=query, headers=headers, timeout=60)
        else:
            answer = requests.post(address, json=data, headers=headers, timeout=60)
        answer.raise_for_status()
        return answer.json()["result"]

    def datasets(self, title: str | None = None) -> list[dict[str, Any]]:
        """Return all datasets and drafts that are not deleted, or those with a title."""
        query = {"q": "*:*", "include_drafts": True, "include_private": True, "rows": 1000}
        found = self.call("package_search", "admin", **query)["results"]
        return [d for d in found if title in (None, d["title"])]

    def stored(self, resource: str) -> str:
        """Return the address of a resource in the object store, which takes any signature."""
        shown = self.call("resource_show", "admin", id=resource)
        circle = self.call("package_show", "admin", id=shown["package_id"])["organization"]["id"]
        place = f"{self.s3}/circle-{circle}/resource/{resource[:3]}/{resource[3:6]}/{resource[6:]}"
        return f"{place}?AWSAccessKeyId=testkey&Signature=any&Expires={int(time.time()) + 3600}"


def _folder() -> tuple[Path, int]:
    """Return the folder of this session's server and the process that lives as long as the session."""
    session = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    return Path(tempfile.gettempdir()) / f"dcor-lab-{session}", session


def _start(folder: Path, session: int) -> str:
    """Start the server unless another worker did; return why not, or nothing."""
    if (folder / "server.json").exists():
        return ""
    done = subprocess.run([sys.executable, LAB, "install"], capture_output=True, text=True, timeout=900)
    if done.returncode:
        return done.stderr
    with tempfile.TemporaryFile("w+") as output:
        command = [sys.executable, LAB, "run", folder, "--parent", str(session)]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        end = time.monotonic() + _PATIENCE
        while not (folder / "server.json").exists():
            if process.poll() is not None or time.monotonic() > end:
                process.terminate()
                output.seek(0)
                return f"dcor_lab did not start: {output.read()}"
            time.sleep(0.1)
    return ""


def _prepare(server: Dcor) -> None:
    """Make circle and collection, once."""
    if CIRCLE not in server.call("organization_list"):
        server.call("organization_create", data={"name": CIRCLE})
        server.call("group_create", data={"name": COLLECTION, "title": COLLECTION})
        server.rest()


@pytest.fixture(scope="session")
def started_dcor() -> Iterator[Dcor | str]:
    """Start the server on first use; give the reason where that cannot be done here.

    It watches the session's process and ends with it, however that ends.
    """
    folder, session = _folder()
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        reason = _start(folder, session)
        if not reason:
            told = json.loads((folder / "server.json").read_text())
            worker = told["processes"]["worker"]
            server = Dcor(folder, told["url"], told["s3"], told["tokens"], worker, told["redis"])
            _prepare(server)
    folder.with_suffix(".lock").unlink(missing_ok=True)
    yield reason or server


@pytest.fixture
def dcor(started_dcor: Dcor | str, missing: Any) -> Dcor:
    """Give the running server."""
    if isinstance(started_dcor, str):
        missing(started_dcor)
    return started_dcor
