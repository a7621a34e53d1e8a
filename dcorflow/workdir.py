"""Where everything lies below a work directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

#: Name of the task file in each dataset's folder.
TASK_NAME = "upload_job.dcoraid-task"


@dataclass(frozen=True)
class Workdir:
    """The layout of one work directory; all paths are below `root`, which is absolute."""

    root: Path

    @property
    def results(self) -> Path:
        """All results."""
        return self.root / "results"

    @property
    def state(self) -> Path:
        """Stamps, plans and caches: may be deleted, is made again."""
        return self.results / ".state"

    @property
    def config(self) -> Path:
        """The validated settings of the last run."""
        return self.state / "config.json"

    @property
    def inventory(self) -> Path:
        """One row per measurement found."""
        return self.results / "inventory.tsv"

    @property
    def records(self) -> Path:
        """One JSON file per measurement."""
        return self.results / "records"

    @property
    def record_index(self) -> Path:
        """One line per record; rebuilt from the records where it does not fit them."""
        return self.records / "index.jsonl"

    @property
    def datasets(self) -> Path:
        """One folder per dataset: prepared files, companions, task."""
        return self.results / "datasets"

    @property
    def summary(self) -> Path:
        """One row per measurement ever found, with status and reason."""
        return self.results / "summary.tsv"

    @property
    def junit(self) -> Path:
        """The summary as JUnit test cases."""
        return self.results / "junit.xml"

    def template(self, name: str, suffix: str) -> Path:
        """The sheet to fill in: `name` is ``metadata`` or ``datasets``, `suffix` ``.tsv`` or ``.xlsx``."""
        return self.results / f"{name}_template{suffix}"

    @property
    def page(self) -> Path:
        """The page that shows it all in a browser."""
        return self.results / "report.html"

    @property
    def companions(self) -> Path:
        """Other files beside the measurements, published or left out."""
        return self.results / "companions.tsv"

    @property
    def privacy(self) -> Path:
        """Private text that would be published, and what it means for its dataset."""
        return self.results / "privacy.tsv"

    @property
    def deleted(self) -> Path:
        """Prepared files that were deleted after their dataset became final."""
        return self.results / "uploads" / "deleted.tsv"

    @property
    def portraits(self) -> Path:
        """One JSON file per measurement with its pictures."""
        return self.state / "portraits"

    def record(self, measurement: str) -> Path:
        """The record of one measurement."""
        return self.records / f"{measurement}.json"

    def learned(self, server: str) -> Path:
        """What a server said that it accepts."""
        return self.state / "servers" / f"{server}.json"

    def batch(self, batch: str) -> Path:
        """What the jobs compress and check of a batch have to do."""
        return self.state / "batches" / f"{batch}.json"

    def edits(self, batch: str) -> Path:
        """The metadata of a batch."""
        return self.state / "edits" / f"{batch}.json"

    def group(self, group: str) -> Path:
        """What the task job of a group of datasets has to do."""
        return self.state / "groups" / f"{group}.json"

    def settled(self, group: str) -> Path:
        """What the task job of a group decided: one row per measurement and dataset."""
        return self.state / "settled" / f"{group}.json"

    def material(self, group: str) -> Path:
        """What the templates show of the measurements and datasets of a group."""
        return self.state / "material" / f"{group}.json"

    def portrait(self, measurement: str) -> Path:
        """Pictures and quality flags of a measurement; drawn again where they are missing."""
        return self.portraits / f"{measurement}.json"

    def uploaded(self, group: str) -> Path:
        """What the upload job of a group achieved, by dataset."""
        return self.state / "uploaded" / f"{group}.json"

    def stamp(self, stage: str, name: str) -> Path:
        """The declared output of one Snakemake job."""
        return self.state / stage / f"{name}.done"

    def attempt(self, measurement: str) -> Path:
        """Present while a job works on a measurement; tells which one killed it."""
        return self.state / "attempts" / f"{measurement}.json"

    @property
    def run(self) -> Path:
        """Who runs the workflow here, since when, and how the last run ended."""
        return self.state / "run.json"

    @property
    def todo(self) -> Path:
        """What discover found to do in this run, by batch."""
        return self.state / "todo.json"

    def progress(self, stage: str, name: str) -> Path:
        """How far a job is, for people to look at."""
        return self.state / "progress" / f"{name}.{stage}.json"

    def log(self, rule: str, name: str) -> Path:
        """The log file of one job."""
        return self.root / "logs" / rule / f"{name}.log"
