"""What the rules share: settings, plans, and what happens at the start and end of a run."""

import os
import sys
import time
from pathlib import Path

from dcorflow.files import read_json
from dcorflow.run import end_run, last_turn, note_limits, quiet, server_or_exit, settings_or_exit, start_run

os.environ.update(PYTHONPATH=os.pathsep.join([workflow.basedir, os.environ.get("PYTHONPATH", "")]))

STATE = "results/.state"
DCORFLOW = f"{sys.executable} -m dcorflow"
SETTINGS = settings_or_exit(config)

quiet(workflow)
note_limits(workflow)


def plan():
    """Return the overview that discover wrote: batches and groups of datasets."""
    checkpoints.discover.get()
    return read_json(Path(f"{STATE}/plan.json"))


def task_stamps(wildcards):
    return expand(f"{STATE}/task/{{group}}.done", group=plan()["groups"])


def upload_stamps(wildcards):
    server_or_exit(SETTINGS)
    return expand(f"{STATE}/upload/{{group}}.done", group=plan()["groups"])


def upload_turn(wildcards):
    """Differ from the last turn where a dataset still waits for its upload, so that it is tried again."""
    return last_turn(wildcards.group) or time.time_ns()


def merged_batches(wildcards):
    return expand(f"{STATE}/merge_metadata/{{batch}}.done", batch=plan()["groups"][wildcards.group])


def batch_needs(wildcards):
    """Return the plan of one batch: a job on a node reads it, too, where no checkpoint is known."""
    return read_json(Path(f"{STATE}/batches/{wildcards.batch}.json"))


def batch_threads(wildcards):
    return batch_needs(wildcards)["threads"]


def batch_memory(wildcards, attempt):
    return attempt * batch_needs(wildcards)["mem_mb"]


def batch_runtime(wildcards, attempt):
    return attempt * batch_needs(wildcards)["minutes"]


def now(wildcards):
    """Differ at every start, so that discover always runs."""
    return time.time_ns()
