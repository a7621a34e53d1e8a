"""Measure uploads through a line as to a distant server, against `dcoraid-upload-task` and plain `curl`.

Starts a local DCOR (scripts/dcor_lab) and a proxy that adds a delay and limits each connection, then
uploads: a dataset of eight files, one large file, and many small datasets. Prints its rows as JSON, see
`scripts/bench.py`; a line for each on standard error as soon as it is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import h5py
import hdf5plugin
import numpy as np
import requests
import zstandard
from dcoraid.api.s3_api import assemble_complete_multipart_xml, compute_upload_part_parameters

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from dcorflow.files import to_json, write_text  # noqa: E402
from dcorflow.records import Record, save_record  # noqa: E402
from dcorflow.seal import seal  # noqa: E402
from dcorflow.workdir import TASK_NAME, Workdir  # noqa: E402

LAB = ROOT / "scripts" / "dcor_lab" / "dcor_lab.py"
CIRCLE = "bench"
_BLOCK = 1 << 18
#: The stand-in for an object store deletes for whoever signs, whatever the signature.
_ANYBODY = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=a"
}


class Line:
    """A line with a delay per request, and a rate per connection.

    Parameters
    ----------
    backends
        Addresses behind it: server, object store.
    delay
        Seconds that each request takes longer.
    rate
        Bytes per second and connection, to the server.
    """

    def __init__(self, backends: tuple[str, str], delay: float, rate: float) -> None:
        self.backends, self.delay, self.rate = backends, delay, rate
        self.servers: list[ThreadingHTTPServer] = []
        for backend in backends:
            handler = type("Handler", (_Handler,), {"line": self, "backend": backend})
            server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self.servers.append(server)
        self.urls = [f"http://127.0.0.1:{s.server_port}" for s in self.servers]

    def rewritten(self, content: bytes) -> bytes:
        """Lead the client back to the line."""
        for behind, before in zip(self.backends, self.urls, strict=True):
            content = content.replace(behind.encode(), before.encode())
        return content


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    line: Line
    backend: str

    def handle_any(self) -> None:
        """Pass a request on, slowly."""
        self.close_connection = True
        time.sleep(self.line.delay)
        url = urlsplit(self.backend)
        length = int(self.headers.get("Content-Length") or 0)
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=600)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("host", "connection", "expect"):
                connection.putheader(name, value)
        connection.putheader("Host", url.netloc)
        connection.endheaders()
        start, done = time.monotonic(), 0
        while done < length:
            block = self.rfile.read(min(_BLOCK, length - done))
            if not block:
                return
            done += len(block)
            connection.send(block)
            time.sleep(max(0.0, start + done / self.line.rate - time.monotonic()))
        answer = connection.getresponse()
        content = self.line.rewritten(answer.read())
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "connection", "transfer-encoding", "date", "server"):
                self.send_header(name, self.line.rewritten(value.encode("latin-1")).decode("latin-1"))
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_HEAD = handle_any

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def write_measurement(path: Path, megabytes: float, template: Path) -> None:
    """Write a measurement that dclab accepts, as large as asked for: a small one with a long log."""
    shutil.copyfile(template, path)
    rows, width = 10_000, 100
    pairs = np.array([f"{b:02x}" for b in range(256)]).astype("S2")
    noise = np.frombuffer(np.random.default_rng().bytes(rows * width // 2), np.uint8)
    block = zstandard.ZstdCompressor(level=5).compress(pairs[noise].tobytes())
    count = max(1, int(megabytes * 1e6 / len(block)))
    with h5py.File(path, "a") as h5:
        log = h5.require_group("logs").create_dataset(
            "filler", (count * rows,), f"S{width}", chunks=(rows,), **hdf5plugin.Zstd(clevel=5)
        )
        for number in range(count):
            log.id.write_direct_chunk((number * rows,), block)


def write_dataset(work: Workdir, name: str, files: list[Path]) -> dict[str, Any]:
    """Write task, records and decisions of one dataset; return its decision."""
    folder = work.datasets / name
    folder.mkdir(parents=True)
    rows = []
    for path in files:
        target = folder / path.name
        os.link(path, target)
        seen = target.stat()
        record = Record(f"{name}-{path.stem}", name, "raw", "rtdc", [])
        record.prepared = {
            "name": path.name,
            "size": seen.st_size,
            "mtime_ns": seen.st_mtime_ns,
            **seal(target),
        }
        save_record(work, record)
        rows.append({"measurement": record.measurement, "dataset": name, "name": path.name,
                     "resource": path.name, "status": "ready", "violations": 0, "alerts": 0,
                     "sha256": record.prepared["sha256"]})  # fmt: skip
    fields = {"title": f"Bench {name}", "authors": "A. Name", "license_id": "CC0-1.0", "owner_org": CIRCLE,
              "private": True}  # fmt: skip
    task_id = f"{name}-{time.time_ns() & 0xFFFFFFFF:08x}"
    job = {"task_id": task_id, "resource_paths": [str(folder / f.name) for f in files],
           "resource_names": [f.name for f in files],
           "resource_supplements": [{} for _ in files]}  # fmt: skip
    write_text(folder / TASK_NAME, json.dumps({"dataset_dict": fields, "upload_job": job}))
    decision = {"dataset": name, "status": "ready", "reason": "", "dataset_id": "", "task_id": task_id,
                "ready": len(files), "files": {}, "private": [], "warnings": []}  # fmt: skip
    return {"decision": decision, "rows": rows}


def write_work(work: Workdir, url: str, datasets: dict[str, list[Path]], **upload: Any) -> Workdir:
    """Write a work directory whose only group is ready to be uploaded."""
    made = [write_dataset(work, name, files) for name, files in datasets.items()]
    settings = {"server": url, "activate": "all", "settle": 0, "settled_by": "",
                "duplicates": "allow", "after": "keep", "parallel": 2, "connections": 6, "bandwidth": 0,
                "retries": 3, "timeout": 60} | upload  # fmt: skip
    config = {"upload": settings, "input": {"root": []}, "datasets": {"namespace": "bench", "defaults": {}}}
    write_text(work.config, to_json(config))
    plan = [{"dataset": m["decision"]["dataset"], "members": [], "companions": []} for m in made]
    write_text(work.group("g1"), to_json({"datasets": plan}))
    decisions = {
        "datasets": [m["decision"] for m in made],
        "measurements": [r for m in made for r in m["rows"]],
    }
    write_text(work.settled("g1"), to_json(decisions))
    return work


def ours(work: Workdir, token: str) -> float:
    """Return the seconds that our upload takes, start of the process included."""
    command = [sys.executable, "-m", "dcorflow", "-d", str(work.root), "upload", "g1"]
    environment = os.environ | {"DCOR_API_TOKEN": token, "PYTHONPATH": str(ROOT)}
    start = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    seconds = time.monotonic() - start
    if "failed" in done.stdout:
        raise SystemExit(done.stdout + done.stderr)
    return seconds


def theirs(work: Workdir, url: str, token: str) -> float:
    """Return the seconds that DCOR-Aid's command takes for the same tasks, one after the other.

    Not a number where it fails.
    """
    seconds = 0.0
    command = str(Path(sys.executable).with_name("dcoraid-upload-task"))
    for task in sorted(work.datasets.glob(f"*/{TASK_NAME}")):
        start = time.monotonic()
        done = subprocess.run([command, str(task), url, token], capture_output=True, text=True, check=False)
        if done.returncode:
            print(done.stdout[-500:], file=sys.stderr)
            return float("nan")
        seconds += time.monotonic() - start
    return seconds


def curl(path: Path, url: str, token: str, parts: Path) -> float:
    """Return the seconds that `curl` takes to put one file into the object store, part after part.

    Parameters
    ----------
    path, url, token
        What, where, and who.
    parts
        Folder for the parts of a large file, which are cut out beforehand.
    """
    api, headers = f"{url}/api/3/action", {"Authorization": token}
    circle = _asked(f"{api}/organization_show?id={CIRCLE}", headers)["id"]
    size = path.stat().st_size
    plan = compute_upload_part_parameters(size)
    files = [path] if plan["num_parts"] == 1 else cut(path, plan["part_size"], parts)
    start = time.monotonic()
    place = _asked(f"{api}/resource_upload_s3_urls?organization_id={circle}&file_size={size}", headers)
    etags = []
    for file, target in zip(files, place["upload_urls"], strict=True):
        command = ["curl", "-sfS", "-o", os.devnull, "-w", "%header{etag}", "-T", str(file), target]
        etags.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
    if len(files) > 1:
        plain = ("-H", "Content-Type:")  # none was signed; a form would be taken apart
        joined = ["curl", "-sfS", "-o", os.devnull, *plain, "--data-binary", "@-", place["complete_url"]]
        subprocess.run(joined, check=True, input=assemble_complete_multipart_xml(etags), text=True)
        shutil.rmtree(parts)
    return time.monotonic() - start


def _asked(address: str, headers: dict[str, str]) -> dict[str, Any]:
    answer = requests.get(address, headers=headers, timeout=60)
    answer.raise_for_status()
    result: dict[str, Any] = answer.json()["result"]
    return result


def cut(path: Path, size: int, folder: Path) -> list[Path]:
    """Cut a file into parts of a size, the last one smaller; return them in order."""
    folder.mkdir()
    made: list[Path] = []
    with path.open("rb") as stream:
        while stream.tell() < path.stat().st_size:
            made.append(folder / f"{len(made)}")
            with made[-1].open("wb") as part:
                left = size
                while left and (block := stream.read(min(_BLOCK, left))):
                    part.write(block)
                    left -= len(block)
    return made


@contextlib.contextmanager
def server() -> Iterator[dict[str, Any]]:
    """Start a local DCOR."""
    subprocess.run([sys.executable, str(LAB), "install"], check=True)
    folder = Path(tempfile.gettempdir()) / f"dcor-bench-{os.getpid()}"
    command = [sys.executable, str(LAB), "run", str(folder), "--parent", str(os.getpid())]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while not (folder / "server.json").exists():
            if process.poll() is not None:
                raise SystemExit("no server")
            time.sleep(0.2)
        told = json.loads((folder / "server.json").read_text())
        os.setpriority(os.PRIO_PROCESS, told["processes"]["worker"], 15)  # and those that it forks
        headers = {"Authorization": told["tokens"]["uploader"]}
        made = requests.post(
            f"{told['url']}/api/3/action/organization_create",
            json={"name": CIRCLE},
            headers=headers,
            timeout=60,
        )
        made.raise_for_status()
        yield told
    finally:
        process.terminate()
        process.wait(60)


def row(what: str, mine: float, other: float, **more: float) -> dict[str, Any]:
    """Return the figures of one comparison (seconds), and tell them."""
    found = {"what": what, "wall": mine, "other": other, "faster": other / mine, **more}
    print("bench: " + ", ".join(f"{k} {v:.2f}" if k != "what" else v for k, v in found.items()),
          file=sys.stderr, flush=True)  # fmt: skip
    return found


def forget(store: str) -> None:
    """Empty the object store at an address, which keeps all it has, several times over, in memory."""
    name = "{http://s3.amazonaws.com/doc/2006-03-01/}"

    def listed(address: str, what: str) -> list[str]:
        answer = requests.get(address, timeout=60)
        answer.raise_for_status()
        return [found.text or "" for found in ElementTree.fromstring(answer.content).iter(f"{name}{what}")]

    for bucket in [text for text in listed(store, "Name") if text]:
        for key in listed(f"{store}/{bucket}?list-type=2", "Key"):
            requests.delete(f"{store}/{bucket}/{key}", headers=_ANYBODY, timeout=60).raise_for_status()


def measure_large(place: Path, line: Line, token: str, files: dict[str, list[Path]]) -> list[dict[str, Any]]:
    """Measure datasets through the line."""
    rows = []
    for name, paths in files.items():
        mine = ours(write_work(Workdir(place / f"ours-{name}"), line.urls[0], {name: paths}), token)
        forget(line.backends[1])
        work = write_work(Workdir(place / f"theirs-{name}"), line.urls[0], {name: paths})
        other = theirs(work, line.urls[0], token)
        forget(line.backends[1])
        plain = sum(curl(path, line.urls[0], token, place / "parts") for path in paths)
        size = sum(path.stat().st_size for path in paths) / len(paths) / 1e6
        forget(line.backends[1])
        rows.append(row(f"distant server: {len(paths)} x {size:.0f} MB", mine, other, curl=plain))
    return rows


def measure_small(place: Path, url: str, token: str, template: Path, count: int) -> list[dict[str, Any]]:
    """Measure many small datasets, without the line: what each one costs."""
    few = {f"small{n}": [template] for n in range(count)}
    three = dict(list(few.items())[:3])
    reference = theirs(write_work(Workdir(place / "reference"), url, three), url, token) / len(three)
    rows = []
    for what, parallel in (("in a row", 1), ("8 at once", 8)):
        work = write_work(Workdir(place / f"small-{parallel}"), url, few, parallel=parallel)
        rows.append(row(f"each of {count} small datasets, {what}", ours(work, token) / count, reference))
    return rows


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--delay", type=float, default=0.05, help="seconds per request")
    parser.add_argument("--rate", type=float, default=20, help="MB/s per connection")
    parser.add_argument("--eight", type=float, default=500, help="MB of each of eight files; 0: leave out")
    parser.add_argument("--large", type=float, default=4000, help="MB of one large file; 0: leave out")
    parser.add_argument("--small", type=int, default=50, help="number of small datasets; 0: leave out")
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))
    from recipes import small_measurement

    with server() as told, tempfile.TemporaryDirectory(prefix="dcor-bench-") as scratch:
        place, token = Path(scratch), told["tokens"]["uploader"]
        raw, template = place / "raw.rtdc", place / "small.rtdc"
        small_measurement(raw, seed=1, metadata={})
        compress = [sys.executable, "-m", "dcorflow", "compress", str(raw), str(template)]
        subprocess.run(compress, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        files: dict[str, list[Path]] = {}
        if args.eight:
            files["eight"] = [place / f"eight_{n}.rtdc" for n in range(8)]
        if args.large:
            files["large"] = [place / "large.rtdc"]
        for name, paths in files.items():
            for path in paths:
                write_measurement(path, args.eight if name == "eight" else args.large, template)
        rows = measure_small(place, told["url"], token, template, args.small) if args.small else []
        line = Line((told["url"], told["s3"]), args.delay, args.rate * 1e6)
        rows += measure_large(place, line, token, files)
    print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
