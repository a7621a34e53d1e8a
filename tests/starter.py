"""Start Snakemake from a process that has imported it: more than half of a run with little to do is imports.

The process knows nothing of dcorflow. Each run is a fork of it, in a process group of its own, that goes
through `python -m snakemake` as if it had been typed: arguments, folder, environment and exit are the same.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: What a run imports of other people's packages.
_IMPORTED = "import docutils.parsers.rst, snakemake.cli, snakemake.report, smart_open"


class Starter:
    """The process that has imported Snakemake, started at the first use and ended with this one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def run(
        self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str], seconds: float
    ) -> tuple[int, str, str]:
        """Run Snakemake with some arguments in a folder; return exit code, output and error output.

        Raises
        ------
        TimeoutError
            Where it takes longer than some seconds; its process group was ended then.
        """
        with self._lock, tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            process = self._started()
            assert process.stdin is not None
            streams = [f"/proc/{os.getpid()}/fd/{stream.fileno()}" for stream in (output, errors)]
            asked = {
                "arguments": list(arguments),
                "folder": str(folder),
                "streams": streams,
                "environment": dict(environment),
            }
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            pid = self._answer(60)
            try:
                code = self._answer(seconds)
            except BaseException:
                os.killpg(pid, signal.SIGKILL)
                self._answer(60)
                raise
            texts = []
            for stream in (output, errors):
                stream.seek(0)
                texts.append(stream.read().decode())
            return code, texts[0], texts[1]

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            atexit.register(self._process.kill)
        return self._process

    def _answer(self, seconds: float) -> int:
        assert self._process is not None and self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            raise TimeoutError(f"Snakemake did not end within {seconds} s")
        return int(self._process.stdout.readline())


def serve() -> None:
    """Fork for every line that asks for a run, tell the process and its exit code; return in the fork."""
    exec(_IMPORTED, {})
    assert threading.active_count() == 1
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _become(json.loads(line))
            return
        for number in (pid, None):
            told = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if number is None else number
            print(told, flush=True)
    os._exit(0)


def _become(asked: dict[str, Any]) -> None:
    """Make this process like one that was started for the run that is asked for."""
    arguments, folder, streams, environment = (
        asked[part] for part in ("arguments", "folder", "streams", "environment")
    )
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for place, stream in enumerate(("/dev/null", *streams)):
        opened = os.open(stream, os.O_RDONLY if place == 0 else os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, place)
        os.close(opened)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = str(folder)
    sys.argv = ["snakemake", *arguments]
    sys.orig_argv = [sys.executable, "-m", "snakemake", *arguments]


if __name__ == "__main__":
    serve()
    runpy.run_module("snakemake", run_name="__main__", alter_sys=True)
