"""The straight way: drafts, approval, publication, against a real server."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import recipes
import requests
from conftest import write_lab
from dcor import CIRCLE, COLLECTION, Dcor
from runs import Run, aged, later, sha256, wait_for


class UploadRun(Run):
    """A run that uploads."""

    server: Dcor

    def command(self, cores: int = 2, *options: str) -> list[str]:
        """Return the command line that a user types."""
        return super().command(cores, *options, "upload")

    def upload(self, **environment: str) -> Any:
        """Upload, with the token in the environment."""
        return self.run(environment={"DCOR_API_TOKEN": self.server.token} | environment)

    def receipt(self, dataset: str) -> dict[str, Any]:
        """Return the receipt of a dataset."""
        [path] = (self.results / "uploads").glob(f"*/{dataset}.json")
        return json.loads(path.read_text())

    def ledger(self) -> list[list[str]]:
        """Return the lines of the ledger: checksum, time, task, event, id, detail."""
        [path] = (self.results / "uploads").glob("*/ledger.tsv")
        return [line.split("\t") for line in path.read_text().splitlines()]

    def dataset_statuses(self) -> dict[str, str]:
        """Return the status of each dataset."""
        return {row["dataset"]: row["dataset_status"] for row in self.rows().values()}


def new_run(folder: Path, server: Dcor, source: Path, **changes: Any) -> UploadRun:
    settings = {
        "datasets.namespace": f"lab of {folder.name}",
        "datasets.defaults.owner_org": CIRCLE,
        "upload.server": server.url,
        "upload.settle": 0,
        "upload.retries": 2,
        "upload.duplicates": "allow",
    }
    run = UploadRun(folder / "work", source, **(settings | changes))
    run.server = server
    return run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Give a tree of three datasets with two measurements each; titles that only this test has."""
    return write_lab(tmp_path / "source")


def titled(tmp_path: Path) -> dict[str, Any]:
    return {"datasets.title": f"{{directory}} of {tmp_path.name}"}


def test_draft_approval_publication(dcor: Dcor, tmp_path: Path, source: Path) -> None:
    run = new_run(tmp_path, dcor, source, **titled(tmp_path), **{
        "datasets.companions": ["*.txt"],
        "datasets.defaults.collections": [COLLECTION],
        "datasets.defaults.notes": "Three *donors*",
        "datasets.defaults.tags": ["blood"],
        "metadata.supplements": {"cells:organism": "Homo sapiens", "cells:fixed": True},
    })  # fmt: skip
    result = run.upload()
    assert result.code == 0, result.text
    assert run.dataset_statuses() == dict.fromkeys(("alpha", "beta", "gamma"), "draft")
    title = f"alpha of {tmp_path.name}"
    [draft] = dcor.datasets(title)
    assert (draft["state"], draft["private"], draft["notes"]) == ("draft", True, "Three *donors*")
    assert [g["name"] for g in draft["groups"]] == [COLLECTION]
    assert [r["name"] for r in draft["resources"]] == ["one.rtdc", "two.rtdc", "notes.txt"]
    assert draft["resources"][0]["sp:cells:organism"] == "Homo sapiens"
    assert draft["resources"][0]["sp:cells:fixed"] is True
    assert "sp:cells:organism" not in draft["resources"][2]
    approved = run.dcorflow("approve", "alpha", "gamma")
    assert approved.code == 0, approved.text
    for words in (
        "alpha of",
        "A. Name, B. Name",
        "CC0-1.0",
        "members of the circle",
        "one.rtdc",
        "Homo sapiens",
    ):
        assert words in approved.stdout
    result = run.upload()
    assert result.code == 0, result.text
    assert run.dataset_statuses() == {"alpha": "published", "beta": "draft", "gamma": "published"}
    [shown] = dcor.datasets(title)
    assert (shown["state"], shown["id"]) == ("active", draft["id"])
    assert run.row("one.rtdc")["dataset_id"] == draft["id"]
    receipt = run.receipt("alpha")
    assert receipt["dataset_id"] == draft["id"]
    prepared = run.results / "datasets" / "alpha"
    for resource in receipt["resources"]:
        assert resource["sha256"] == sha256(prepared / resource["name"])
        assert (
            requests.get(dcor.stored(resource["id"]), timeout=30).content
            == (prepared / resource["name"]).read_bytes()
        )
    before = len(run.ledger())
    [lost] = (run.results / "uploads").glob("*/alpha.json")
    lost.unlink()
    assert run.upload().code == 0
    assert len(run.ledger()) == before
    assert len(dcor.datasets(title)) == 1
    assert run.receipt("alpha")["resources"] == receipt["resources"], "written anew from what is there"


def test_names_on_the_server_need_not_be_those_of_the_files(dcor: Dcor, tmp_path: Path, source: Path) -> None:
    settings = {"prepare.naming": "dckit", "upload.activate": "all", "upload.after": "delete"}
    run = new_run(tmp_path, dcor, source, **titled(tmp_path), **settings)
    assert run.upload().code == 0
    [shown] = dcor.datasets(f"alpha of {tmp_path.name}")
    names = [r["name"] for r in shown["resources"]]
    digests = {sha256(source / "alpha" / name)[:8] for name in ("one.rtdc", "two.rtdc")}
    assert {name.removesuffix(".rtdc").rpartition("_")[2] for name in names} == digests
    assert set(run.dataset_statuses().values()) == {"published"}
    assert not list((run.results / "datasets" / "alpha").glob("*.rtdc")), "deleted after publication"
    assert run.upload().code == 0
    assert set(run.dataset_statuses().values()) == {"published"}, "neither changed nor late"


def watch_commands(secret: str, found: set[str], stop: threading.Event) -> None:
    """Look for a secret in the command lines of all processes until told to stop.

    Another test may run DCOR-Aid's own command meanwhile, which takes the token there.
    """
    while not stop.wait(0.02):
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                line = path.read_bytes()
                if secret.encode() in line and b"/dcoraid-upload-task\0" not in line:
                    found.add(line.decode(errors="replace"))


def test_the_token_is_nowhere(dcor: Dcor, tmp_path: Path, source: Path) -> None:
    """In no command line, and in none of the files that a run leaves anywhere, after failures as well."""
    run = new_run(tmp_path, dcor, source, **titled(tmp_path), **{"upload.activate": "all"})
    run.plain = True
    places = {name: tmp_path / name.lower() for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    for place in places.values():
        place.mkdir()
    found: set[str] = set()
    stop = threading.Event()
    watcher = threading.Thread(target=watch_commands, args=(dcor.token, found, stop))
    watcher.start()
    try:
        (source / "beta" / "dcorflow.yaml").write_text("dataset: {owner_org: nowhere}\n")
        failed = run.upload(**{name: str(place) for name, place in places.items()})
        (source / "beta" / "dcorflow.yaml").unlink()
        result = run.upload(**{name: str(place) for name, place in places.items()})
    finally:
        stop.set()
        watcher.join()
    assert (failed.code, result.code) == (1, 0), result.text
    assert "circle 'nowhere' does not exist" in failed.text
    assert set(run.dataset_statuses().values()) == {"published"}
    assert not found
    assert dcor.token not in failed.text + result.text
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(".snakemake" in path.parts for path in files)
    assert any(path.parts[-2] == "upload_dataset" for path in files)
    holding = [path for path in files if dcor.token.encode() in path.read_bytes()]
    assert not holding


def test_what_changes_after_publication(dcor: Dcor, tmp_path: Path, source: Path) -> None:
    run = new_run(tmp_path, dcor, source, **titled(tmp_path), **{"upload.activate": "all"})
    assert run.upload().code == 0
    ids = {name: run.receipt(name)["dataset_id"] for name in ("alpha", "beta", "gamma")}
    before = run.ledger()
    recipes.small_measurement(source / "beta" / "M3_data.rtdc", seed=99)
    recipes.small_measurement(source / "gamma" / "five.rtdc", seed=98)
    aged(source)
    later(source / "gamma" / "five.rtdc")
    run.configure({"input.max_vanished": 1})
    result = run.upload()
    assert result.code == 0, result.text
    assert run.dataset_statuses() == {"alpha": "published", "beta": "late", "gamma": "changed"}
    assert "came after the dataset was published" in run.row("M3_data.rtdc")["reason"]
    changed = run.row("five.rtdc")
    old = {r["name"]: r["sha256"] for r in run.receipt("gamma")["resources"]}["five.rtdc"]
    assert old in changed["reason"]
    assert changed["sha256"] in changed["reason"]
    assert old != changed["sha256"]
    assert run.ledger() == before
    for name, dataset_id in ids.items():
        assert run.receipt(name)["dataset_id"] == dataset_id
        assert len(dcor.datasets(f"{name} of {tmp_path.name}")) == 1


def test_failed_uploads_are_told_and_tried_again(dcor: Dcor, tmp_path: Path, source: Path) -> None:
    run = new_run(tmp_path, dcor, source, **titled(tmp_path), **{"upload.activate": "all"})
    result = run.upload(DCOR_API_TOKEN="wrong")
    assert result.code == 1
    assert "the API token is wrong" in result.text
    assert "Traceback" not in result.text
    assert set(run.dataset_statuses().values()) == {"upload failed"}
    for row in run.rows().values():
        assert row["status"] == "ready"
        assert "the API token is wrong" in row["reason"]
    process = run.start(environment={"DCOR_API_TOKEN": dcor.token})
    ledgers = run.results / "uploads"
    assert wait_for(lambda: any(b"\tsent\t" in p.read_bytes() for p in ledgers.glob("*/ledger.tsv")), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    result = run.upload()
    assert result.code == 0, result.text
    assert set(run.dataset_statuses().values()) == {"published"}
    for name in ("alpha", "beta", "gamma"):
        [shown] = dcor.datasets(f"{name} of {tmp_path.name}")
        assert shown["state"] == "active"


def test_without_a_server(tmp_path: Path, source: Path) -> None:
    run = UploadRun(tmp_path / "work", source)
    result = run.run()
    assert result.code != 0
    assert "'upload.server' is not set" in result.text
    assert "Traceback" not in result.text
    assert not (run.results / "datasets").exists()


def test_prepared_files_may_be_deleted_once_final(dcor: Dcor, tmp_path: Path, source: Path) -> None:
    run = new_run(tmp_path, dcor, source, **titled(tmp_path), **{
        "upload.activate": "all", "upload.after": "delete", "datasets.companions": ["*.txt"],
    })  # fmt: skip
    assert run.upload().code == 0
    assert not list((run.results / "datasets").rglob("*.rtdc"))
    assert (run.results / "datasets" / "alpha" / "notes.txt").exists()
    summary = (run.results / "summary.tsv").read_text()
    result = run.upload()
    assert (result.code, result.jobs) == (0, set()), result.text
    assert (run.results / "summary.tsv").read_text() == summary
    assert set(run.dataset_statuses().values()) == {"published"}
    recipes.small_measurement(source / "gamma" / "five.rtdc", seed=98)
    aged(source)
    later(source / "gamma" / "five.rtdc")
    run.configure({"input.max_vanished": 1})
    result = run.upload()
    assert result.code == 0, result.text
    assert run.dataset_statuses() == {"alpha": "published", "beta": "published", "gamma": "changed"}
    assert [p.name for p in (run.results / "datasets").rglob("*.rtdc")] == ["five.rtdc"]
    run.configure({"metadata.override": {"setup:medium": "water"}})
    result = run.upload()
    assert result.code == 0, result.text
    assert [p.name for p in (run.results / "datasets").rglob("*.rtdc")] == ["five.rtdc"]
    assert set(run.statuses().values()) == {"ready"}


def test_late_and_missing_measurements(dcor: Dcor, tmp_path: Path, source: Path) -> None:
    shutil.rmtree(source / "gamma")
    for folder in ("alpha", "beta"):
        (source / folder / "broken.rtdc").write_bytes(b"no measurement")
    (source / "beta" / "dcorflow.yaml").write_text("accept_incomplete: true\n")
    aged(source)
    run = new_run(tmp_path, dcor, source, **titled(tmp_path), **{"upload.activate": "all"})
    assert run.upload().code == 0
    assert run.dataset_statuses() == {"alpha": "incomplete", "beta": "published"}
    (source / "alpha" / "broken.rtdc").unlink()
    recipes.small_measurement(source / "beta" / "late.rtdc", seed=77)
    aged(source)
    run.configure({"input.max_vanished": 1, "datasets.companions": ["*.txt"]})
    run.upload()
    assert run.dataset_statuses() == {"alpha": "published", "beta": "late"}
    assert "late.rtdc came after the dataset was published" in run.row("late.rtdc")["reason"]
    title = f"beta of {tmp_path.name}"
    [before] = dcor.datasets(title)
    run.configure({"datasets.on_late": "new_dataset"})
    result = run.upload()
    assert result.code == 0, result.text
    assert run.dataset_statuses() == {"alpha": "published", "beta": "published", "beta_later-1": "published"}
    assert run.row("beta/broken.rtdc")["dataset"] == "beta"
    assert run.row("late.rtdc")["dataset"] == "beta_later-1"
    assert dcor.datasets(title) == [before], "what is published stays as it is"
    [late] = dcor.datasets(f"{title} (later measurements)")
    assert (late["state"], [r["name"] for r in late["resources"]]) == ("active", ["late.rtdc"])
    assert run.row("late.rtdc")["dataset_id"] == late["id"] != before["id"]
    assert run.receipt("beta_later-1")["task_id"] != run.receipt("beta")["task_id"]
    result = run.upload()
    assert (result.code, result.jobs) == (0, set()), result.text
    (source / "alpha" / "notes.txt").write_text("four donors\n")
    (source / "beta" / "more.txt").write_text("five donors\n")
    run.upload()
    statuses = {"alpha": "changed", "beta": "published", "beta_later-1": "late"}
    assert run.dataset_statuses() == statuses
