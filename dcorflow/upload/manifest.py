"""What a dataset consists of here: the fields and resources that its task lists, with their checksums."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dcorflow.files import read_json
from dcorflow.records import load_record
from dcorflow.seal import seal
from dcorflow.upload.failures import UploadError
from dcorflow.workdir import TASK_NAME, Workdir

_ANEW = "delete the file and run again, which writes it anew"


@dataclass(frozen=True)
class Resource:
    """One file to be published.

    Parameters
    ----------
    name, path
        Name on the server; where it lies.
    size, sha256, etag
        Of the whole file; the ETag as S3 makes it (`dcorflow.seal`).
    supplements
        Values by ``sp:section:key``.
    measurement
        Identifier of the measurement; empty for a companion.
    """

    name: str
    path: Path
    size: int
    sha256: str
    etag: str
    supplements: dict[str, Any]
    measurement: str = ""


@dataclass
class Manifest:
    """A dataset as it lies on disk.

    Parameters
    ----------
    dataset, task_id
        Identifiers.
    known_id
        DCOR dataset id taken over from elsewhere; empty where there is none.
    fields
        Title, authors and so on, as the task holds them.
    resources
        In their order.
    task
        The task file.
    open
        What somebody who approves should know: violations, alerts, what is missing, places with private
        text that nobody accepted, and warnings.
    """

    dataset: str
    task_id: str
    known_id: str
    fields: dict[str, Any]
    resources: list[Resource]
    task: Path
    open: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all resources."""
        return sum(r.size for r in self.resources)

    @property
    def fields_digest(self) -> str:
        """Stands for title, authors and so on."""
        return digest_of(self.fields)

    @property
    def digest(self) -> str:
        """Stands for everything that becomes public or final."""
        content = [[r.name, r.size, r.sha256, r.supplements] for r in self.resources]
        return digest_of([self.task_id, self.fields, content, self.open])


def digest_of(data: Any) -> str:
    """Return the SHA256 over plain data."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def read_manifest(work: Workdir, decision: dict[str, Any], rows: list[dict[str, Any]]) -> Manifest:
    """Return the manifest of a dataset that has a task.

    Parameters
    ----------
    work
        Work directory.
    decision, rows
        What the task job decided about the dataset and its measurements.

    Raises
    ------
    UploadError
        Where a file is not there, or not the one that was checked.
    """
    folder = work.datasets / decision["dataset"]
    path = folder / TASK_NAME
    job, fields, listed = _read_task(path)
    measurements = {row["name"]: row["measurement"] for row in rows if row["status"] == "ready"}
    resources = []
    for name, listed_path, values in listed:
        file = folder / Path(listed_path).name  # the folder may have been moved
        try:
            measurement = measurements.get(file.name, "")
            sums = _sums(work, file, measurement)
        except OSError as error:
            raise UploadError(f"{file.name} cannot be read ({error.strerror or error}); run again") from error
        composite = {f"sp:{s}:{k}": v for s, inside in values.items() for k, v in inside.items()}
        resources.append(Resource(name, file, *sums, composite, measurement))
    counted = {kind: sum(int(row[kind]) for row in rows) for kind in ("violations", "alerts")}
    told = {
        "missing": decision["reason"] if decision["status"] == "incomplete" else "",
        "private": sum(place[-1] == "warned" for place in decision["private"]),
        "warnings": decision["warnings"],
    }
    return Manifest(
        decision["dataset"], job["task_id"], decision["dataset_id"], fields, resources, path, counted | told
    )


def _read_task(path: Path) -> tuple[dict[str, Any], dict[str, Any], list[tuple[str, str, dict[str, Any]]]]:
    """Return a task's job, the dataset's fields, and name, path and supplements of each resource.

    Raises
    ------
    UploadError
        Where it is not a task as `dcorflow.task` writes them.
    """
    try:
        task = read_json(path)
        job, fields = task["upload_job"], task["dataset_dict"]
        names, *others = (job[f"resource_{what}"] for what in ("names", "paths", "supplements"))
    except OSError as error:
        raise UploadError(f"{path} cannot be read ({error.strerror or error}); run again") from error
    except ValueError as error:
        raise UploadError(f"{path}: expected JSON, found {error}; {_ANEW}") from error
    except (KeyError, TypeError) as error:
        expected = "expected a task with 'dataset_dict' and 'upload_job'"
        raise UploadError(f"{path}: {expected}, {error} is missing; {_ANEW}") from error
    if {len(names)} != {len(other) for other in others}:
        raise UploadError(
            f"{path}: expected as many paths and supplements as resource names ({len(names)}), "
            f"found {len(others[0])} and {len(others[1])}; {_ANEW}"
        )
    return job, fields, list(zip(names, *others, strict=True))


def _sums(work: Workdir, path: Path, measurement: str) -> tuple[int, str, str]:
    """Return size, SHA256 and ETag of a file: from the record of a measurement, else computed."""
    seen = path.stat()
    if not measurement:
        sums = seal(path)
        return seen.st_size, sums["sha256"], sums["etag"]
    record = load_record(work, measurement)
    if record is None or "etag" not in record.prepared:
        raise UploadError(f"{path.name} has no record of its check; run again")
    prepared = record.prepared
    if not record.describes(seen):
        raise UploadError(f"{path.name} was altered after it was checked; run again")
    return seen.st_size, prepared["sha256"], prepared["etag"]
