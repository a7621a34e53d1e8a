"""dclab is imported beside the decoding, by one thread: its modules import each other in circles."""

from __future__ import annotations

import subprocess
import sys

import recipes
from runs import REPOSITORY

#: Checks a measurement in a fresh Python and counts the threads that import dclab at a time.
SCRIPT = """
import builtins, sys, threading
from pathlib import Path
from dcorflow import dclab_parts, integrity
from dcorflow.compress.prepare import Entry, prepare
from dcorflow.records import SourceFile
from dcorflow.workdir import Workdir

path, work = Path(sys.argv[1]), Workdir(Path(sys.argv[2]))
stat = path.stat()
files = [SourceFile(path.name, stat.st_size, stat.st_mtime_ns)]
entry = Entry("m-1", "a", "M1.rtdc", "raw", path.parent, "rtdc", files)
settings = {"encoder": "compat", "logs": "keep", "naming": "keep"}
assert prepare(entry, settings, [], work, 1).failure is None

importing, together = set(), []

def watched(function):
    def call(name, *rest, **more):
        me = threading.get_ident()
        if not name.startswith("dclab") or me in importing:
            return function(name, *rest, **more)
        importing.add(me)
        together.append(len(importing))
        try:
            return function(name, *rest, **more)
        finally:
            importing.discard(me)
    return call

builtins.__import__ = watched(builtins.__import__)
dclab_parts.importlib.import_module = watched(dclab_parts.importlib.import_module)
assert integrity.check(entry, work, 1).failure is None
assert together and max(together) == 1, together
"""


def test_one_thread_at_a_time(tmp_path):
    recipes.small_measurement(tmp_path / "M1.rtdc")
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "M1.rtdc"), str(tmp_path / "work")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
