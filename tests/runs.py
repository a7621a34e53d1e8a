"""Start the workflow as a user does, and see what it did: files by inode, time and SHA256."""

from __future__ import annotations

import contextlib
import copy
import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from starter import Starter

#: Starts the runs of which nothing but their end is of interest.
STARTER = Starter()
REPOSITORY = Path(__file__).resolve().parent.parent
SNAKEFILE = REPOSITORY / "Snakefile"
TASK = "upload_job.dcoraid-task"
TEMPORARY = ".dcorflow-"
FIELDS = {"authors": ["A. Name", "B. Name"], "license_id": "CC0-1.0", "owner_org": "my-circle"}
#: Files that every start writes anew: that discover ran, its log, who runs, how far it is, and
#: Snakemake's own notes.
EVERY_RUN = (
    "results/.state/discover.done",
    "results/.state/run.json",
    "results/.state/todo.json",
    "results/.state/progress/",
    "logs/discover/discover.log",
    ".snakemake/",
)
#: What a run writes, too, that cannot begin: the page says why.
PAGE = {"results/report.html", "results/.state/report/page.json"}
#: Imported by every Python of a run that shall be met at work: each source takes a while to open.
SLOW = """
import sys, time

def on_open(event, args):
    if event == "open" and str(args[0]).endswith((".rtdc", ".tdms")) and args[0] not in seen:
        seen.append(args[0])
        time.sleep(0.5)

if "batch" in sys.orig_argv:
    seen = []
    sys.addaudithook(on_open)
"""


def _heed_interrupts() -> None:
    """Let Ctrl-C end the new process, also where the tests were started in the background of a shell."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def slow(folder: Path) -> dict[str, str]:
    """Return the environment in which the jobs of a run take their time."""
    (folder / "slow").mkdir()
    (folder / "slow" / "sitecustomize.py").write_text(SLOW)
    return {"PYTHONPATH": str(folder / "slow")}


class Seen(NamedTuple):
    """One file as it lies on disk; of a folder or link, `sha256` holds its kind."""

    inode: int
    mtime_ns: int
    sha256: str


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def snapshot(folder: Path, pattern: str = "**/*") -> dict[str, Seen]:
    """Return everything below `folder` that matches, by its path relative to it.

    What a run that is under way takes away meanwhile is not there.
    """
    seen = {}
    for path in folder.glob(pattern):
        with contextlib.suppress(FileNotFoundError):
            stat = path.lstat()
            if path.is_symlink():
                kind = f"link to {path.readlink()}"
            elif path.is_dir():
                kind = "folder"
            else:
                kind = sha256(path) if path.is_file() else "special"
            seen[path.relative_to(folder).as_posix()] = Seen(stat.st_ino, stat.st_mtime_ns, kind)
    return seen


def changed(before: Mapping[str, Seen], after: Mapping[str, Seen]) -> set[str]:
    """Return the files (not folders) that are new, gone, or were written again."""
    paths = {p for p in before.keys() | after.keys() if before.get(p) != after.get(p)}
    return {p for p in paths if "folder" not in {s.sha256 for s in (before.get(p), after.get(p)) if s}}


def contents(seen: Mapping[str, Seen]) -> dict[str, str]:
    """Return path -> SHA256 of a snapshot."""
    return {path: entry.sha256 for path, entry in seen.items()}


def leftovers(folder: Path) -> list[str]:
    """Return the temporary files of dcorflow below `folder`."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob(f"{TEMPORARY}*"))


def merged(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `config` with `changes`, whose keys may hold dots (`input.min_age`)."""
    made = copy.deepcopy(dict(config))
    for key, value in changes.items():
        *path, last = key.split(".")
        place = made
        for name in path:
            place = place.setdefault(name, {})
        place[last] = value
    return made


@dataclass
class Result:
    """How a run ended."""

    code: int
    stdout: str
    stderr: str
    jobs: set[str] = field(default_factory=set)

    @property
    def text(self) -> str:
        """All output."""
        return self.stdout + self.stderr


class Run:
    """A work directory, its source tree and its configuration."""

    #: Put in front of the command line, such as a command that takes away capabilities.
    wrapper: tuple[str, ...] = ()
    #: Whether to start Python anew, also where a process that has imported Snakemake would do.
    plain = False

    def __init__(self, work: Path, source: Path, **changes: Any) -> None:
        self.work, self.source = work, source
        self.config: dict[str, Any] = {"input": {"root": str(source)}, "datasets": {"defaults": dict(FIELDS)}}
        self.work.mkdir(parents=True, exist_ok=True)
        self.configure(changes)

    def configure(self, changes: Mapping[str, Any]) -> Run:
        """Change settings by dotted keys and write the configuration file."""
        self.config = merged(self.config, changes)
        self.configfile.write_text(yaml.safe_dump(self.config, allow_unicode=True), encoding="utf-8")
        return self

    @property
    def configfile(self) -> Path:
        return self.work / "settings.yaml"

    @property
    def results(self) -> Path:
        return self.work / "results"

    @property
    def state(self) -> Path:
        return self.results / ".state"

    def command(self, cores: int = 2, *options: str) -> list[str]:
        """Return the command line that a user types."""
        return [
            *(sys.executable, "-m", "snakemake", "-s", str(SNAKEFILE), "-d", str(self.work)),
            *("--configfile", str(self.configfile), "--cores", str(cores), *options),
        ]

    def start(
        self, cores: int = 2, environment: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """Start a run in a process group of its own."""
        return subprocess.Popen(
            [*self.wrapper, *self.command(cores)],
            cwd=self.work.parent,
            env=os.environ | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **{"preexec_fn": _heed_interrupts} | options,
        )

    def run(self, cores: int = 2, environment: Mapping[str, str] | None = None, **options: Any) -> Result:
        """Run the workflow to its end: where nothing special is asked, with Snakemake imported before."""
        before = self.stamps()
        special = {"PYTHONPATH", "HOME"} & set(environment or {})
        if self.plain or self.wrapper or special or options:
            process = self.start(cores, environment, **options)
            stdout, stderr = process.communicate(timeout=300)
            code = process.returncode
        else:
            settings = os.environ | dict(environment or {})
            code, stdout, stderr = STARTER.run(self.command(cores)[3:], self.work.parent, settings, 300)
        jobs = {job for job, seen in self.stamps().items() if before.get(job) != seen}
        return Result(code, stdout, stderr, jobs)

    def good(self, cores: int = 2, environment: Mapping[str, str] | None = None, **options: Any) -> Result:
        """Run the workflow and insist on success."""
        result = self.run(cores, environment, **options)
        assert result.code == 0, result.text
        return result

    def dcorflow(self, *arguments: str | Path) -> Result:
        """Run a command of dcorflow in the work directory."""
        done = subprocess.run(
            [sys.executable, "-m", "dcorflow", *map(str, arguments)],
            cwd=self.work,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def stamps(self) -> dict[str, Seen]:
        """Return the stamps of finished jobs as `rule/batch`; every job writes its stamp anew."""
        found = snapshot(self.state, "*/*.done") if self.state.is_dir() else {}
        return {path.removesuffix(".done"): seen for path, seen in found.items()}

    def rows(self) -> dict[str, dict[str, str]]:
        """Return the rows of summary.tsv by source."""
        with (self.results / "summary.tsv").open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
        by_source = {row["source"]: row for row in rows}
        assert len(by_source) == len(rows), "two rows for one source"
        return by_source

    def statuses(self) -> dict[str, str]:
        """Return the status of each source."""
        return {source: row["status"] for source, row in self.rows().items()}

    def row(self, name: str) -> dict[str, str]:
        """Return the row of the only source that ends in `name`."""
        [found] = [row for source, row in self.rows().items() if source.endswith(name)]
        return found

    def record(self, name: str) -> Path:
        """Return the record of the measurement whose source ends in `name`."""
        return self.results / "records" / f"{self.row(name)['measurement']}.json"

    def prepared(self, name: str) -> Path:
        """Return the prepared file of the measurement whose source ends in `name`."""
        row = self.row(name)
        stored = json.loads(self.record(name).read_text(encoding="utf-8"))["prepared"]["name"]
        return self.results / "datasets" / row["dataset"] / stored

    def datasets(self) -> dict[str, Seen]:
        """Return a snapshot of the dataset folders."""
        return snapshot(self.results / "datasets")

    def measurements(self) -> dict[str, Seen]:
        """Return a snapshot of the prepared files."""
        return {path: seen for path, seen in self.datasets().items() if path.endswith(".rtdc")}

    def tasks(self) -> dict[str, dict[str, Any]]:
        """Return the tasks by dataset."""
        return {
            path.parent.name: json.loads(path.read_text(encoding="utf-8"))
            for path in sorted((self.results / "datasets").glob(f"*/{TASK}"))
        }

    def task_of(self, name: str) -> dict[str, Any]:
        """Return the task of the dataset with the measurement whose source ends in `name`."""
        return self.tasks()[self.row(name)["dataset"]]

    def resources(self, name: str) -> list[str]:
        """Return the resource names in that task."""
        return list(self.task_of(name)["upload_job"]["resource_names"])


@dataclass
class Comparison:
    """What a step between two snapshots of a work directory wrote again."""

    run: Run
    before: dict[str, Seen] = field(default_factory=dict)

    def __enter__(self) -> Comparison:
        self.before = snapshot(self.run.work)
        return self

    def __exit__(self, *_: object) -> None:
        self.after = snapshot(self.run.work)

    @property
    def files(self) -> set[str]:
        """All files written, removed or replaced, but for what every start writes."""
        return {p for p in changed(self.before, self.after) if not p.startswith(EVERY_RUN)}

    @property
    def measurements(self) -> set[str]:
        """Names of the prepared files among them."""
        return {Path(p).name for p in self.files if p.startswith("results/datasets/") and p.endswith(".rtdc")}

    @property
    def tasks(self) -> set[str]:
        """Names of the dataset folders whose task is among them."""
        return {Path(p).parent.name for p in self.files if p.endswith(TASK)}


def later(path: Path, seconds: float = 60) -> Path:
    """Move a file's time stamp forward (it stays in the past where it was old)."""
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + int(seconds * 1e9)))
    return path


def aged(path: Path) -> Path:
    """Give a file, or everything in a folder, a time stamp of long ago."""
    for place in [path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else [])]:
        os.utime(place, (1_700_000_000, 1_700_000_000), follow_symlinks=False)
    return path


def flip_bytes(path: Path, offset: int, count: int = 16) -> None:
    """Invert some bytes of a file in place; its size stays."""
    with path.open("r+b") as stream:
        stream.seek(offset)
        data = stream.read(count)
        stream.seek(offset)
        stream.write(bytes(byte ^ 0xFF for byte in data))


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str], seconds: float = 60) -> bool:
    """Wait until something is the case; False where the process ended before."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.01)
    raise TimeoutError("it did not happen")


def steps_of(call: Callable[[], Any]) -> int:
    """Return how many lines of Python a call runs through."""
    count = 0

    def trace(*_: Any) -> Any:
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count
