"""Child processes of dcorflow: they find the package, and die with their parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

#: The folder that holds the package; children must import the same one.
PACKAGE_HOME = Path(__file__).resolve().parent.parent
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
#: Exit code of a process that was told to end (128 + SIGTERM, as shells count).
TERMINATED = 143


def python(*arguments: str) -> list[str]:
    """Return the command that runs this Python with `arguments`."""
    return [sys.executable, *arguments]


def child_environment() -> dict[str, str]:
    """Return the environment for a child that imports dcorflow."""
    paths = [str(PACKAGE_HOME), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return os.environ | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def fork(serve: Callable[[], None]) -> int:
    """Fork a process that does `serve` and ends, and return its id; it dies with its parent.

    Other threads of this process, if any, must hold no lock that `serve` needs.
    """
    parent = os.getpid()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:  # whatever happens, never return to what the parent was doing
        die_with_parent(parent)
        serve()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BrokenPipeError:
        pass  # nobody listens any more
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
        finally:
            os._exit(code)


def die_with_parent(parent: int | None = None) -> None:
    """Ask the kernel to end this process when its parent ends (Linux; elsewhere do nothing).

    `parent` is its process id where the caller knows it for certain; it may have ended by now.
    """
    if sys.platform == "linux":
        parent = os.getppid() if parent is None else parent
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before the request reached the kernel
            raise SystemExit(TERMINATED)


def end_cleanly() -> None:
    """Let SIGTERM and Ctrl-C end this process once: what is half done is removed, undisturbed by a second."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)


def _end(number: int, frame: object) -> None:
    for other in (signal.SIGTERM, signal.SIGINT):
        signal.signal(other, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(TERMINATED)


def exit_words(code: int) -> str:
    """Describe how a process ended."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
