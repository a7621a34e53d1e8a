"""Look into new files, in processes of their own: a damaged file may take the process down."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO

import xxhash

from dcorflow.errors import FailureClass, MeasurementError, explain_os_error
from dcorflow.processes import child_environment, die_with_parent, exit_words, python

#: A fingerprint reads this many blocks of this many bytes, first and last among them.
_BLOCKS, _BLOCK = 16, 1 << 14
#: One file may take this long (seconds); network shares stall.
_TIME_LIMIT = 300
_TDMS_TAG = b"TDSm"


@dataclass
class Probe:
    """What a first look at a measurement found."""

    fingerprint: str = ""
    events: int = 0
    writing: bool = False
    problem: str = ""
    failure: FailureClass = "content"


def fingerprint(paths: Iterable[Path]) -> str:
    """Return 32 hex digits over sizes and samples of files; equal files have equal ones."""
    digest = xxhash.xxh3_128()
    for path in paths:
        with path.open("rb", buffering=0) as stream:
            size = os.fstat(stream.fileno()).st_size
            digest.update(f"{path.name.rpartition('.')[2].lower()}:{size};".encode())
            step = max(_BLOCK, (size - _BLOCK) // (_BLOCKS - 1)) if size else 1
            for start in sorted({*range(0, size, step), max(0, size - _BLOCK)}):
                digest.update(os.pread(stream.fileno(), _BLOCK, start))
    return str(digest.hexdigest())


def probe(kind: str, paths: Sequence[Path]) -> Probe:
    """Open a measurement and look for what makes it unusable.

    Parameters
    ----------
    kind
        ``rtdc`` or ``tdms``.
    paths
        Main file, then side files.
    """
    try:
        found = Probe(fingerprint=fingerprint(paths))
        if kind == "tdms":
            _probe_tdms(paths[0])
        else:
            _probe_rtdc(paths[0], found)
        return found
    except MeasurementError as error:
        problem, failure = error.reason, error.failure
    except OSError as error:
        words = explain_os_error(error)
        problem, failure = (
            words or f"it cannot be read: {error}",
            "environment" if words else "content",
        )
    except Exception as error:  # whatever a damaged file provokes inside h5py
        problem, failure = f"it cannot be read ({type(error).__name__}: {error})", "content"
    try:
        return Probe(fingerprint(paths), problem=problem, failure=failure)
    except OSError:
        return Probe(problem=problem, failure=failure)


def _probe_tdms(path: Path) -> None:
    with path.open("rb") as stream:
        tag = stream.read(len(_TDMS_TAG))
    if not tag:
        raise MeasurementError("the file is empty (0 bytes): nothing was recorded or the copy failed")
    if tag != _TDMS_TAG:
        raise MeasurementError("not a TDMS file, although its name ends in .tdms: copy it again")


def _probe_rtdc(path: Path, found: Probe) -> None:
    import h5py

    from dcorflow.hdf5 import is_open_for_writing, open_source, refuse_outside_data

    if is_open_for_writing(path):
        found.writing = True
        return
    with open_source(path) as h5:
        refuse_outside_data(h5, path.stat().st_size)
        events = h5.get("events")
        if not isinstance(events, h5py.Group) or not len(events):
            raise MeasurementError(
                "no events: the HDF5 file has no data in its group 'events'; is it RT-DC data?"
            )
        lengths = [_length(events, name) for name in events]
        found.events = max(lengths)
        if not found.events:
            raise MeasurementError("no events: the recording holds zero events")


def _length(events: object, name: str) -> int:
    """Return the number of events of a feature; 0 where it has none or is a broken link."""
    import h5py

    try:
        item = events[name]  # type: ignore[index]
    except (KeyError, OSError):
        return 0
    if isinstance(item, h5py.Dataset):
        return int(item.shape[0]) if item.shape else 0
    if name == "trace" and len(item):
        return _length(item, next(iter(item)))
    return len(item)


class _Worker:
    """A process that probes one measurement after the other; replaced when it dies."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def ask(self, kind: str, paths: Sequence[Path]) -> Probe:
        """Probe a measurement; two deaths of the process make it a problem of the file."""
        for _ in range(2):
            process = self._start()
            request = json.dumps([kind, [str(p) for p in paths]])
            try:
                _stream(process.stdin).write(request + "\n")
                _stream(process.stdin).flush()
                ready, _, _ = select.select([_stream(process.stdout)], [], [], _TIME_LIMIT)
                if not ready:
                    self.stop()
                    return Probe(problem=f"reading it took longer than {_TIME_LIMIT} s; run again",
                                 failure="environment")  # fmt: skip
                answer = _stream(process.stdout).readline()
            except BrokenPipeError:
                answer = ""
            if answer:
                return Probe(**json.loads(answer))
            code = process.wait()
            self.process = None
        return Probe(problem=f"reading it ended the process twice ({exit_words(code)}): damaged file")

    def _start(self) -> subprocess.Popen[str]:
        if self.process is None:
            self.process = subprocess.Popen(
                python("-m", "dcorflow.source.probe"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=child_environment(),
                text=True,
            )
        return self.process

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for stream in (self.process.stdin, self.process.stdout):
                if stream:
                    stream.close()
            self.process = None


def _stream(stream: IO[str] | None) -> IO[str]:
    if stream is None:
        raise BrokenPipeError
    return stream


def probe_all(jobs: Sequence[tuple[str, Sequence[Path]]], workers: int) -> list[Probe]:
    """Probe many measurements with several processes; results in the order of `jobs`."""
    results: list[Probe] = [Probe()] * len(jobs)
    queue: SimpleQueue[int] = SimpleQueue()
    for number in range(len(jobs)):
        queue.put(number)

    def work() -> None:
        worker = _Worker()
        try:
            while True:
                number = queue.get_nowait()
                results[number] = worker.ask(*jobs[number])
        except Empty:
            pass
        finally:
            worker.stop()

    count = min(workers, len(jobs))
    if count:
        with ThreadPoolExecutor(count) as pool:
            for future in [pool.submit(work) for _ in range(count)]:
                future.result()
    return results


def _serve() -> None:
    for line in sys.stdin:
        kind, paths = json.loads(line)
        print(json.dumps(asdict(probe(kind, [Path(p) for p in paths]))), flush=True)


if __name__ == "__main__":
    die_with_parent()
    _serve()
