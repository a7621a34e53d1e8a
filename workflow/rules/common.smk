"""What the rules share: settings, plans, and what happens at the start and end of a run."""

import json
import sys
import time
from pathlib import Path

from dcorflow.run import end_run, quiet, settings_or_exit, start_run

STATE = "results/.state"
DCORFLOW = f"{sys.executable} -m dcorflow"
SETTINGS = settings_or_exit(config)

quiet(workflow)


def plan():
    """Return the overview that discover wrote: batches and groups of datasets."""
    checkpoints.discover.get()
    return json.loads(Path(f"{STATE}/plan.json").read_text())


def task_stamps(wildcards):
    return expand(f"{STATE}/task/{{group}}.done", group=plan()["groups"])


def merged_batches(wildcards):
    return expand(f"{STATE}/merge_metadata/{{batch}}.done", batch=plan()["groups"][wildcards.group])


def batch_threads(wildcards):
    return plan()["batches"][wildcards.batch]["threads"]


def batch_memory(wildcards, attempt):
    return attempt * plan()["batches"][wildcards.batch]["mem_mb"]


def now(wildcards):
    """Differ at every start, so that discover always runs."""
    return time.time_ns()
