"""What happens at the start and the end of a workflow run; called by the Snakefile only.

Every job parses the Snakefile and so imports this module. What only a head needs, such as the report,
is imported where it is used.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from dcorflow.errors import UsageError
from dcorflow.files import key_of, read_json, to_json, write_if_changed
from dcorflow.head import note_end, note_start
from dcorflow.memory import LIMITED
from dcorflow.progress import pass_of
from dcorflow.secret import hide_token
from dcorflow.workdir import Workdir

if TYPE_CHECKING:
    from dcorflow.config import Config

#: Characters of a line that are seen in the report of Snakemake.
_REPORT_WIDTH = 66

#: Lines of Snakemake's log that tell a user nothing and that no option silences.
_NOISE = (
    "Select jobs to",
    "Execute ",
    "DAG of jobs will",
    "Updating checkpoint",
    "Using shell",
    "Building DAG",
    "Assuming unrestricted",
    "Conda environments: ignored",
    "Complete log",
    "Elapsed time",
)
#: Holds the lock of a running head for as long as the process lives.
_lock: list[IO[str]] = []
#: When this process began its run (`time.monotonic`).
_began = time.monotonic()
#: Ends the lines that show how far the run is.
_stop_ticker: list[Callable[[], None]] = []


def path_of_jobs(repository: str) -> str:
    """Return the PYTHONPATH of what a run starts: this package first, last what makes jobs start quickly."""
    paths = [repository, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    quick = str(Path(repository, "workflow", "jobs"))
    return os.pathsep.join(dict.fromkeys([*filter(None, (p for p in paths if p != quick)), quick]))


def settings_of(workflow: Any, config: Mapping[str, Any]) -> Config:
    """Return the validated settings; a job takes those that its head has validated and stored."""
    if workflow.exec_mode != workflow.exec_mode.DEFAULT:
        with contextlib.suppress(OSError, ValueError):
            stored: Config = read_json(Workdir(Path.cwd()).config)
            return stored
    return settings_or_exit(config)


def settings_or_exit(config: Mapping[str, Any]) -> Config:
    """Return the validated settings; end the run with one clear message where they are wrong."""
    from dcorflow.config import resolve_config
    from dcorflow.discover.run import check_settings
    from dcorflow.server import adopt_facts

    try:
        settings = resolve_config(config, Path.cwd())
        adopt_facts(settings["upload"].get("server"), Workdir(Path.cwd()), ask=True)
        return check_settings(settings, Path.cwd())
    except UsageError as error:
        sys.exit(f"dcorflow: {error}")


def server_or_exit(settings: Config) -> None:
    """End the run with one clear message where an upload is asked for and no server is named."""
    from dcorflow.server import find_server

    try:
        find_server(settings["upload"].get("server"))
    except UsageError as error:
        sys.exit(f"dcorflow: {error}")


def groups_to_run(workflow: Any) -> list[str]:
    """Return the groups of datasets that Snakemake has to plan jobs for: those that are not finished.

    All, where jobs are to run although nothing changed (`--forceall` and the like).
    """
    return list(_plan()["groups"] if _is_forced(workflow) else _unfinished())


def uploads_to_run(workflow: Any, settings: Config) -> list[str]:
    """Return the groups of datasets whose upload job has something to do, or may have."""
    from dcorflow.published import Publications
    from dcorflow.server import find_server

    work, plan = Workdir(Path.cwd()), _plan()
    if _is_forced(workflow):
        return list(plan["groups"])
    key, due = key_of(settings["upload"]), set(_unfinished())
    final = Publications(work, find_server(settings["upload"]["server"])).datasets
    waiting = {g for g in plan["groups"] if not _is_uploaded(work, g, key, final)}
    # As for discover: Snakemake's notes, which show that it is another turn, may be lost.
    workflow.dag.forcefiles.update(str(work.stamp("upload", g).relative_to(work.root)) for g in waiting)
    return [g for g in plan["groups"] if g in due or g in waiting]


def _is_uploaded(work: Workdir, group: str, settings: str, final: set[str]) -> bool:
    """Return whether an upload left nothing open since the tasks were written, with the same settings.

    What it told to be published must still have a receipt, that is, be in `final`.
    """
    stamp = work.stamp("upload", group)
    try:
        told = read_json(stamp)
        later = stamp.stat().st_mtime_ns >= work.stamp("task", group).stat().st_mtime_ns
        published = {name for name, said in told["told"].items() if said["status"] == "published"}
        return later and not told["open"] and told["settings"] == settings and published <= final
    except (OSError, ValueError, KeyError):
        return False


def _is_forced(workflow: Any) -> bool:
    asked = workflow.dag_settings
    return bool(asked.forceall or asked.forcerun or asked.forcetargets)


def _unfinished() -> list[str]:
    """Return the groups that discover told in its stamp to be not finished."""
    groups: list[str] = read_json(Workdir(Path.cwd()).state / "discover.done")["unfinished"]
    return groups


def batches_of(group: str) -> list[str]:
    """Return the batches that prepare the measurements of a group."""
    batches: list[str] = _plan()["groups"][group]
    return batches


def _plan() -> dict[str, Any]:
    """Return the overview that discover wrote; it is asked for again and again, so read once."""
    path = Workdir(Path.cwd()).state / "plan.json"
    seen = path.stat()
    return _read_plan(path, seen.st_mtime_ns, seen.st_ino)


@functools.lru_cache(maxsize=1)
def _read_plan(path: Path, mtime_ns: int, inode: int) -> dict[str, Any]:
    plan: dict[str, Any] = read_json(path)
    return plan


def last_turn(group: str) -> int:
    """Return the number of the upload that left nothing open in a group; 0 where a dataset still waits."""
    try:
        stamp = read_json(Workdir(Path.cwd()).stamp("upload", group))
        return 0 if stamp["open"] else int(stamp["turn"])
    except (OSError, ValueError, KeyError):
        return 0


def quiet(workflow: Any) -> None:
    """Drop Snakemake's chatter from the log of a plain run; errors and messages stay."""
    from snakemake.logging import logger

    if workflow.exec_mode == workflow.exec_mode.DEFAULT:
        logger.addFilter(_worth_reading)


def always(workflow: Any, rule: str) -> list[str]:
    """Let a rule run at every start of the head, as `--forcerun` does; return no input.

    A parameter that differs each time is not enough: Snakemake compares it with its own notes, which a
    power loss leaves empty, and not at all where a user's profile says `rerun-triggers: mtime`.
    """
    if workflow.exec_mode == workflow.exec_mode.DEFAULT:
        workflow.dag.forcerules.add(workflow.get_rule(rule))
    return []


def note_limits(workflow: Any) -> None:
    """Tell the commands of a job that a scheduler watches its memory."""
    if workflow.exec_mode == workflow.exec_mode.REMOTE:
        os.environ[LIMITED] = "yes"


def add_last_lines(config: dict[str, Any]) -> None:
    """Give Snakemake's own report (`snakemake --report`) the last lines of a run, by way of its config."""
    if not any(word.partition("=")[0] == "--report" for word in sys.argv):
        return
    import textwrap

    from dcorflow.report.summary import gather
    from dcorflow.report.words import last_lines

    work = Workdir(Path.cwd())
    with contextlib.suppress(UsageError, OSError, ValueError, KeyError):
        lines = last_lines(gather(work), work)
        # that page cuts long lines off
        wrapped = (
            textwrap.wrap(line, _REPORT_WIDTH, subsequent_indent=" " * 6, break_on_hyphens=False)
            for line in lines
        )
        config["last_lines"] = [part for parts in wrapped for part in parts]


def _worth_reading(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_NOISE)


def start_run(settings: Config) -> None:
    """Take the lock of the work directory and store the settings for the jobs."""
    from dcorflow.ticker import start_ticker

    work = Workdir(Path.cwd())
    work.state.mkdir(parents=True, exist_ok=True)
    stream = (work.state / "head.lock").open("a+")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"dcorflow: another run is at work in {work.root}; wait for it, or use another directory")
    except OSError:
        pass  # no locks on this file system; two runs do each other no harm, they only waste time
    _lock.append(stream)
    hide_token()
    write_if_changed(work.config, to_json(settings))
    note_start(work)
    _stop_ticker.append(start_ticker(work, pass_of(work), _handlers()))
    atexit.register(_stop_ticker[-1])


def _handlers() -> list[logging.Handler]:
    from snakemake.logging import logger

    return list(logger.handlers)


def _forget_incomplete(work: Workdir) -> None:
    """Remove Snakemake's marks of jobs that a killed head had started and that have nothing left to do.

    Stamps appear whole, so whoever finds one needs no mark to know that its job ended.
    """
    for mark in (work.root / ".snakemake" / "incomplete").glob("*"):
        mark.unlink(missing_ok=True)


def end_run(succeeded: bool) -> None:
    """Write the report, print the last lines, and end with the verdict as exit code."""
    from dcorflow.ending import last_steps

    work = Workdir(Path.cwd())
    _forget_incomplete(work)
    for stop in _stop_ticker:
        stop()
    code = last_steps(work, succeeded, time.monotonic() - _began)
    note_end(work, code)
    sys.exit(code)
