"""The last steps of a workflow run: the report, the page and the verdict."""

from __future__ import annotations

import contextlib
import gc
import sys
from pathlib import Path

from dcorflow.config import Config
from dcorflow.errors import UsageError
from dcorflow.files import read_json
from dcorflow.report.page import write_page
from dcorflow.report.summary import Summary, exit_code, gather
from dcorflow.report.tables import write_report
from dcorflow.report.words import last_lines
from dcorflow.templates import write_templates
from dcorflow.workdir import Workdir

_JOB_FAILED = "a job failed; its log below logs/ says why"


def last_steps(work: Workdir, succeeded: bool, seconds: float) -> int:
    """Write the report, print the last lines and return the exit code.

    Parameters
    ----------
    succeeded
        Whether all jobs of Snakemake did.
    seconds
        How long the run took.
    """
    gc.disable()  # as in the command `report`; the process ends soon
    if not (work.state / "discover.done").exists():
        words = _last_words(work.log("discover", "discover"))
        print(words, file=sys.stderr)
        with contextlib.suppress(UsageError, OSError, ValueError):
            _write_page(work, read_json(work.config), gather(work), [words], seconds)
        return 1
    try:
        summary = write_report(work)
        settings = read_json(work.config)
        told = write_templates(work, settings, summary)
    except (UsageError, OSError) as error:
        print(f"dcorflow: no report could be written: {error}", file=sys.stderr)
        return 1
    _write_page(work, settings, summary, [] if succeeded else [_JOB_FAILED], seconds)
    print("\n".join([*last_lines(summary, work), *(f"next: {words}" for words in told)]), flush=True)
    code = exit_code(summary, settings["check"]["strict"])
    if not succeeded:
        print(f"dcorflow: {_JOB_FAILED}. Run again to go on.", file=sys.stderr)
    return 0 if succeeded and not code else 1


def _last_words(log: Path) -> str:
    """Return what discover had to say where it stopped the run: it leaves no stamp then."""
    try:
        return log.read_text(encoding="utf-8", errors="replace").rstrip()
    except OSError:
        return "dcorflow: discover was stopped; run again"


def _write_page(
    work: Workdir, settings: Config, summary: Summary, trouble: list[str], seconds: float
) -> None:
    """Write the page for the browser; whatever goes wrong with it does not touch the verdict."""
    try:
        write_page(work, settings, summary, trouble, seconds)
    except OSError as error:
        print(f"dcorflow: {work.page} could not be written: {error}", file=sys.stderr)
    except Exception as error:
        words = f"{type(error).__name__}: {error}"
        print(f"dcorflow: {work.page} could not be written ({words}); please report this", file=sys.stderr)
