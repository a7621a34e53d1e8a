"""A DCOR server on this machine, to try uploads with.

CKAN with all DCOR extensions, PostgreSQL and Redis are the real ones; the object store is moto, the
search index a small stand-in (`search_index.py`). Everything listens on the loopback interface only.

    python scripts/dcor_lab/dcor_lab.py install       Debian packages (as root), Python environment: once
    python scripts/dcor_lab/dcor_lab.py run FOLDER    start it with its state in FOLDER, until Ctrl-C

`FOLDER/server.json` appears when the server is up: its URL, tokens, process ids. The servers are
children of this process, which the kernel ends with it.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
import ctypes
import functools
import json
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
#: The server's own Python environment, apart from the one of dcorflow.
VENV = Path(os.environ.get("DCOR_LAB_VENV", HERE.parent.parent / ".venv" / "dcor_lab"))
REQUIREMENTS = HERE / "requirements.lock"
PACKAGES = ("postgresql", "redis-server", "libmagic1")
PLUGINS = "dcor_depot dcor_schemas dc_serve dc_view dc_log_view dcor_theme"
QUEUES = ("dcor-short", "dcor-normal", "dcor-long", "default")
#: Seconds that a server may take to start, and to end.
_START, _END = 240, 10
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class LabError(Exception):
    """The server cannot be installed or started; the text says why."""


def postgres_bin() -> Path | None:
    """Return the folder of PostgreSQL's programs, None where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return found[-1] if found else None


def missing_packages() -> list[str]:
    """Return the Debian packages that are still to be installed."""
    there = {
        "postgresql": postgres_bin() is not None,
        "redis-server": shutil.which("redis-server") is not None,
        "libmagic1": any(Path("/usr/lib").glob("*/libmagic.so.1")),
    }
    return [name for name in PACKAGES if not there[name]]


def install() -> None:
    """Install what is missing; raise `LabError` where that is not possible."""
    if lacking := missing_packages():
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise LabError(f"needs {', '.join(lacking)}: install them, or be root on Debian")
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *lacking]):
            _call(["apt-get", *command], env=environment)
    done = VENV / "installed.lock"
    if not done.is_file() or done.read_bytes() != REQUIREMENTS.read_bytes():
        done.unlink(missing_ok=True)
        _call([sys.executable, "-m", "venv", str(VENV)])
        pip = [str(VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
        _call([*pip, "install", "--no-deps", "--requirement", str(REQUIREMENTS)])
        done.write_bytes(REQUIREMENTS.read_bytes())


def _call(command: list[str], **options: Any) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode:
        raise LabError(f"{' '.join(command)}: {done.stdout[-2000:]}")


def free_port() -> int:
    """Return the first of six free ports in a row, from 15000 upwards."""
    for first in range(15000, 20000, 10):
        if all(_is_free(first + n) for n in range(6)):
            return first
    raise LabError("no free port between 15000 and 20000")


def _is_free(port: int) -> bool:
    with socket.socket() as place:
        try:
            place.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Lab:
    """A server with its state in one folder.

    Parameters
    ----------
    folder
        Made where it is missing; user `postgres` must be able to enter it.
    port
        CKAN's; the other servers take the five behind it.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.url = f"http://127.0.0.1:{port}"
        self.postgres_port, self.redis_port, self.search_port, self.s3_port = range(port + 1, port + 5)
        self.ini = folder / "ckan.ini"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = os.environ | {
            "CKAN_INI": str(self.ini),
            "AWS_EC2_METADATA_DISABLED": "true",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        self.environment.pop("PYTHONPATH", None)

    def start(self) -> None:
        """Start all servers with an empty database."""
        for name in ("log", "storage", "webassets", "tmp"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)
        self._start_postgres()
        redis = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.redis_port)]
        self.spawn("redis", [*redis, "--save", "", "--appendonly", "no", "--dir", str(self.folder)])
        schema = next((VENV / "lib").glob("*/site-packages/ckan/config/solr/schema.xml"))
        self.spawn(
            "search",
            [self.python, str(HERE / "search_index.py"), str(self.search_port), str(schema)],
        )
        self.spawn("s3", [str(VENV / "bin" / "moto_server"), "-H", "127.0.0.1", "-p", str(self.s3_port)])
        self._configure()
        for name, port in (("redis", self.redis_port), ("search", self.search_port), ("s3", self.s3_port)):
            self.await_port(name, port)
        tokens = self.folder / "tokens.json"
        _call([self.python, str(HERE / "setup_ckan.py"), str(self.ini), str(tokens)], env=self.environment)
        self.start_worker()
        self.start_ckan()
        self._tell(json.loads(tokens.read_text()))

    @property
    def python(self) -> str:
        """The server's Python."""
        return str(VENV / "bin" / "python")

    def start_ckan(self) -> None:
        """Start CKAN, and wait until it answers."""
        command = [str(VENV / "bin" / "ckan"), "run", "-H", "127.0.0.1", "-p", str(self.port)]
        self.spawn("ckan", [*command, "--disable-reloader", "--threaded"])
        self.await_port("ckan", self.port)

    def start_worker(self) -> None:
        """Start the worker, which handles what is uploaded."""
        self.spawn("worker", [str(VENV / "bin" / "ckan"), "jobs", "worker", *QUEUES])

    def spawn(self, name: str, command: list[str], before: Callable[[], None] | None = None) -> None:
        """Start one server as a child that ends with this process."""
        with (self.folder / "log" / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=before or _end_with_parent,
            )

    def _start_postgres(self) -> None:
        programs, data = postgres_bin(), self.folder / "postgres"
        if programs is None:
            raise LabError("PostgreSQL is not installed")
        demote = _become_postgres if os.geteuid() == 0 else _end_with_parent
        data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            shutil.chown(data, "postgres", "postgres")
        initdb = [str(programs / "initdb"), "-D", str(data), "-A", "trust", "-U", "postgres", "-E", "UTF8"]
        _call([*initdb, "--no-sync", "--locale=C.UTF-8"], cwd="/", preexec_fn=demote)
        options = ("listen_addresses=127.0.0.1", f"unix_socket_directories={data}", "fsync=off")
        settings = [word for option in options for word in ("-c", option)]
        command = [str(programs / "postgres"), "-D", str(data), "-p", str(self.postgres_port), *settings]
        self.spawn("postgres", command, demote)
        self.await_port("postgres", self.postgres_port)
        place = ["-h", "127.0.0.1", "-p", str(self.postgres_port)]
        self._until_it_works([str(programs / "pg_isready"), "-q", *place])  # it listens before it answers
        sql = [str(programs / "psql"), "-q", *place]
        create = "CREATE DATABASE ckan OWNER ckan ENCODING 'utf-8' TEMPLATE template0"
        _call([*sql, "-U", "postgres", "-c", "CREATE ROLE ckan LOGIN", "-c", create])

    def _until_it_works(self, command: list[str]) -> None:
        end = time.monotonic() + _START
        while subprocess.run(command, check=False).returncode:
            if time.monotonic() > end:
                raise LabError(f"{' '.join(command)} never succeeded; see {self.folder / 'log'}")
            time.sleep(0.1)

    def _configure(self) -> None:
        _call([str(VENV / "bin" / "ckan"), "generate", "config", str(self.ini)], env=self.environment)
        licences = next((VENV / "lib").glob("*/site-packages/ckanext/dcor_schemas/licenses.json"))
        ini = configparser.RawConfigParser()
        ini.optionxform = str  # type: ignore[assignment,method-assign]  # CKAN's keys are case sensitive
        ini.read(self.ini)
        for line in (HERE / "ckan.conf").read_text().splitlines():
            if line and not line.startswith("#"):
                key, _, value = line.partition(" = ")
                ini["app:main"][key] = value.format(lab=self, plugins=PLUGINS, licences=licences)
        with self.ini.open("w") as stream:
            ini.write(stream)

    def await_port(self, name: str, port: int) -> None:
        """Wait until a server listens; raise `LabError` where it ends or takes too long."""
        end = time.monotonic() + _START
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            if self.processes[name].poll() is not None:
                break
            time.sleep(0.05)
        log = (self.folder / "log" / f"{name}.log").read_text(errors="replace")
        raise LabError(f"{name} did not start: {log[-2000:]}")

    def _tell(self, tokens: dict[str, str]) -> None:
        """Write `server.json`, readable for its owner only."""
        made = {"url": self.url, "s3": f"http://127.0.0.1:{self.s3_port}", "tokens": tokens}
        made["redis"] = self.redis_port
        made |= {"pid": os.getpid(), "processes": {name: p.pid for name, p in self.processes.items()}}
        temporary = self.folder / ".server.json"
        temporary.touch(mode=0o600)
        temporary.write_text(json.dumps(made))
        temporary.rename(self.folder / "server.json")

    def stop(self) -> None:
        """End what was started, the last one first."""
        (self.folder / "server.json").unlink(missing_ok=True)
        for name in reversed(self.processes):
            self.stop_one(name)

    def stop_one(self, name: str) -> None:
        """End one server."""
        process = self.processes[name]
        if process.poll() is None:
            process.send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
            process.send_signal(signal.SIGCONT)  # should somebody have stopped it
            try:
                process.wait(_END)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _end_with_parent() -> None:
    """Ask the kernel to end this child with its parent, and keep the terminal's Ctrl-C from it."""
    _leave_terminal(signal.SIGKILL)  # also reaches a server that somebody has stopped


def _leave_terminal(at_end: signal.Signals) -> None:
    os.setpgid(0, 0)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, at_end)


def _become_postgres() -> None:
    """Drop root's rights, which PostgreSQL refuses to run with."""
    user = pwd.getpwnam("postgres")
    os.initgroups("postgres", user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    _leave_terminal(signal.SIGTERM)  # its own children end with it


def wait_for_end(parent: int | None) -> None:
    """Return on SIGTERM, SIGINT, or when the process `parent` is gone."""
    wake, wake_up = os.pipe()
    os.set_blocking(wake_up, False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, functools.partial(_wake, wake_up))
    watched = [wake]
    if parent is not None:
        try:
            watched.append(os.pidfd_open(parent))
        except ProcessLookupError:
            return
    select.select(watched, [], [])


def _wake(handle: int, *_: object) -> None:
    os.write(handle, b"x")


def run(folder: Path, port: int | None, parent: int | None) -> None:
    """Serve until told to end; the state is removed then."""
    lab = Lab(folder.resolve(), port or free_port())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        lab.start()
        print(f"DCOR at {lab.url}; tokens in {lab.folder / 'server.json'}; Ctrl-C ends it", flush=True)
        wait_for_end(parent)
    finally:
        lab.stop()
        shutil.rmtree(lab.folder, ignore_errors=True)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True, dest="command")
    commands.add_parser("install", help="install what is missing")
    starter = commands.add_parser("run", help="start the server")
    starter.add_argument("folder", type=Path, help="for its state; must not exist, is removed at the end")
    starter.add_argument("--port", type=int, help="first of six ports (default: six free ones from 15000)")
    starter.add_argument("--parent", type=int, metavar="PID", help="end when this process ends")
    args = parser.parse_args()
    try:
        if args.command == "install":
            install()
        else:
            args.folder.mkdir(parents=True)
            run(args.folder, args.port, args.parent)
    except (LabError, FileExistsError) as error:
        print(f"dcor_lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
