"""`dcorflow status`: how far a run is, or how the last one ended; reads only."""

from __future__ import annotations

from collections import Counter
from typing import Any

from dcorflow.errors import UsageError
from dcorflow.files import printable
from dcorflow.head import Head, read_head
from dcorflow.report.summary import IN_PROGRESS, Summary, gather
from dcorflow.report.words import last_lines
from dcorflow.ticker import progress_lines
from dcorflow.watch import Progress, Watch
from dcorflow.workdir import Workdir

#: Failures of the run that are shown, before they stand in the summary.
_SHOWN = 12


class Status:
    """What can be told about a work directory at this moment.

    Parameters
    ----------
    work
        Work directory.

    Raises
    ------
    UsageError
        Where nothing was ever run there.
    """

    def __init__(self, work: Workdir) -> None:
        self.work = work
        self.head: Head | None = read_head(work)
        if self.head is None and not work.inventory.exists():
            raise UsageError(
                f"no run in {work.root} yet; start with 'snakemake', or say 'dcorflow -d DIR status'"
            )
        self.running = self.head is not None and self.head.is_running
        self.progress: Progress = Watch(work).look(self.head.before if self.head else 0)
        self.summary: Summary = gather(work, judge_rest=False)

    def lines(self, width: int = 0) -> list[str]:
        """Return the progress of the run, then the same as at its end."""
        lines = [self.head.words()] if self.head else []
        if self.running or self.progress.moved:
            lines += progress_lines(self.progress, width)
        lines += last_lines(self.summary, self.work, self.running)
        told = {row["source"] for row in self.summary.measurements if row["status"] == "failed"}
        told |= {d["dataset"] for d in self.summary.datasets if d["status"] == "upload failed"}
        early = [f for f in self.progress.failures if f[1] not in told]
        lines += [printable(f"  {stage} failed: {what}: {why}") for stage, what, why in early[:_SHOWN]]
        if self.running:
            lines.append("next: wait for the end of the run; finished measurements are kept whatever happens")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return the same as plain data; bytes, seconds, and seconds since the epoch."""
        stages = [
            {
                "stage": s.name,
                "unit": s.unit,
                "done": s.done,
                "total": s.total,
                "bytes_done": s.bytes_done,
                "bytes_total": s.bytes_total,
                "failed": s.failed,
                "bytes_per_second": round(s.rate),
                "seconds_left": s.seconds_left,
            }
            for s in self.progress.stages
        ]
        head = (
            {k: v for k, v in vars(self.head).items() if k in ("started", "ended", "code")}
            if self.head
            else {}
        )
        return {
            "running": self.running,
            "run": head,
            "stages": stages,
            "now": [{"stage": stage, "source": what} for stage, what in self.progress.now],
            "failures": [
                {"stage": stage, "source": what, "reason": why} for stage, what, why in self.progress.failures
            ],
            "measurements": dict(self.summary.counts()),
            "datasets": dict(Counter(d["status"] for d in self.summary.datasets)),
            "unfinished": self.summary.counts()[IN_PROGRESS] > 0 and not self.running,
        }
