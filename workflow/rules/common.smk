"""What the rules share: settings, plans, and what happens at the start and end of a run."""

import os
import sys
import time
from pathlib import Path

from dcorflow.files import read_json
from dcorflow.run import (
    add_last_lines,
    always,
    batches_of,
    end_run,
    groups_to_run,
    last_turn,
    note_limits,
    path_of_jobs,
    quiet,
    server_or_exit,
    settings_of,
    start_run,
    uploads_to_run,
)

# Not parameters of rules: where Python lies is no reason to run a job again.
os.environ.update(PYTHONPATH=path_of_jobs(workflow.basedir), DCORFLOW_PYTHON=sys.executable)

STATE = "results/.state"
SETTINGS = settings_of(workflow, config)

add_last_lines(config)
quiet(workflow)
note_limits(workflow)


report: "../report/workflow.rst"


def task_stamps(wildcards):
    checkpoints.discover.get()
    return expand(f"{STATE}/task/{{group}}.done", group=groups_to_run(workflow))


def upload_stamps(wildcards):
    server_or_exit(SETTINGS)
    checkpoints.discover.get()
    return expand(f"{STATE}/upload/{{group}}.done", group=uploads_to_run(workflow, SETTINGS))


def upload_turn(wildcards):
    """Differ from the last turn where a dataset still waits for its upload, so that it is tried again."""
    return last_turn(wildcards.group) or time.time_ns()


def merged_batches(wildcards):
    checkpoints.discover.get()
    return expand(f"{STATE}/merge_metadata/{{batch}}.done", batch=batches_of(wildcards.group))


def batch_needs(wildcards):
    """Return the plan of one batch: a job on a node reads it, too, where no checkpoint is known."""
    return read_json(Path(f"{STATE}/batches/{wildcards.batch}.json"))


def batch_threads(wildcards):
    return batch_needs(wildcards)["threads"]


def batch_memory(wildcards, attempt):
    return attempt * batch_needs(wildcards)["mem_mb"]


def batch_runtime(wildcards, attempt):
    return attempt * batch_needs(wildcards)["minutes"]


def every_time(wildcards):
    return always(workflow, "discover")
