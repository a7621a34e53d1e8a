"""Private text on the way to DCOR, as a user meets it: found, blocked, replaced, accepted."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import dclab
import h5py
import numpy as np
import pytest
import recipes
from runs import Comparison, Run, aged
from test_redact import SECRETS, planted, spellings

#: Text that must be nowhere in what is published, once it is redacted.
HIDDEN = [*SECRETS, "jdoe"]
REDACT: list[Any] = [
    "user", "host", "email", "share", "ip", "path", {"kind": "donor", "pattern": r"Donor_\w+"}
]  # fmt: skip
NAMES = {"Anna Müller": "P01", "Petra": "P02", "Jörg": "P03"}


def write_source(source: Path) -> Path:
    """Write a folder named after a donor: a measurement full of private text, and one that refers to it."""
    folder = source / "2024 Anna Müller"
    folder.mkdir(parents=True)
    planted(folder / "Anna_Mueller_1.rtdc")
    derived = folder / "derived.rtdc"
    recipes.small_measurement(derived, features=("area_um", "deform", "frame"))
    with h5py.File(folder / "Anna_Mueller_1.rtdc", "r+") as h5, h5py.File(derived, "r+") as other:
        h5.attrs["user:by"] = "Anna Müller"  # dclab reads UTF-8 only
        for key in ("experiment:date", "experiment:time", "setup:identifier"):
            if key in h5.attrs:
                other.attrs[key] = h5.attrs[key]
    options = {
        "basin_name": "original",
        "basin_type": "file",
        "basin_format": "hdf5",
        "basin_locs": [folder / "Anna_Mueller_1.rtdc"],
        "basin_feats": ["image"],
    }
    recipes._store_basin(derived, options)
    (folder / "M9_SoftwareSettings.ini").write_text("[Project]\nLast=D:\\\\Exp\\\\Donor_Petra\n")
    recipes.small_measurement(folder / "M9_data.rtdc")
    (folder / "notes.txt").write_text("see protocol 3\n", encoding="utf-8")
    (folder / "who.csv").write_text("donor;age\nJoerg;30\n", encoding="utf-8")
    return aged(source)


def privacy_rows(run: Run) -> list[dict[str, str]]:
    with (run.results / "privacy.tsv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))


def published(run: Run) -> dict[str, bytes]:
    """Return everything that would be uploaded, by path; a task without the paths of this machine."""
    found = {}
    for path in sorted((run.results / "datasets").rglob("*")):
        if path.is_file():
            raw = path.read_bytes()
            if path.suffix == ".dcoraid-task":
                task = json.loads(raw)
                del task["upload_job"]["resource_paths"]
                raw = json.dumps(task, ensure_ascii=False).encode()
            found[path.relative_to(run.results / "datasets").as_posix()] = raw
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("privacy")
    defaults = {
        "authors": ["Anna Müller"],
        "license_id": "CC0-1.0",
        "owner_org": "my-circle",
        "private": False,
        "notes": "Blood of Anna Müller",
    }
    made = Run(folder / "work", write_source(folder / "source"))
    made.configure({"datasets.defaults": defaults, "datasets.companions": ["*.txt", "*.csv"]})
    return made


def test_found_and_blocked_then_replaced_then_accepted(run: Run) -> None:
    first = run.good()
    found = {(r["kind"], r["text"]): r for r in privacy_rows(run)}
    assert found["user", "anna.mueller"]["verdict"] == "blocks"
    assert found["host", "labpc17"]["place"] == "logs/acquisition:2"
    assert ("basin", str(run.source / "2024 Anna Müller" / "Anna_Mueller_1.rtdc")) not in found
    assert ("ip", "2.3.3.54") not in found
    assert not run.tasks()
    assert "private text in " in first.text
    assert "accept it (check.accept_private: ['" in first.text
    assert "private texts in it" in run.row("Anna_Mueller_1.rtdc")["reason"]

    run.configure(
        {
            "prepare.redact": REDACT,
            "prepare.pseudonyms": NAMES,
            "metadata.override": {"experiment:sample": "blood of Anna Müller, Donor_Petra"},
            "metadata.supplements": {"cells:details": "taken by Anna Müller"},
        }
    )
    run.good()
    blocking = [(r["file"], r["place"], r["kind"], r["text"]) for r in privacy_rows(run)]
    assert blocking == [("who.csv", "line:2", "name", "Joerg")]
    run.configure({"datasets.companions": ["*.txt"]})
    run.good()
    files = published(run)
    assert sorted(files) == [
        "2024-p01/M9_data.rtdc" if "2024-p01/M9_data.rtdc" in files else "2024-p01/2024_P01_M9_data.rtdc",
        "2024-p01/P01_1.rtdc",
        "2024-p01/derived.rtdc",
        "2024-p01/notes.txt",
        "2024-p01/upload_job.dcoraid-task",
    ]
    left = {
        (name, secret)
        for name, raw in files.items()
        for secret in HIDDEN
        for form in spellings(secret)
        if form.lower() in (name.encode() + raw.replace(b'"authors": "Anna M\xc3\xbcller"', b"")).lower()
    }
    assert left == set()
    task = run.task_of("Anna_Mueller_1.rtdc")
    assert task["dataset_dict"]["title"] == "2024 P01"
    assert task["dataset_dict"]["authors"] == "Anna Müller"
    assert task["dataset_dict"]["notes"] == "Blood of P01"
    assert task["upload_job"]["resource_supplements"][0]["cells"]["details"] == "taken by P01"
    assert [r for r in privacy_rows(run) if r["verdict"] != "accepted"] == []
    with h5py.File(run.prepared("Anna_Mueller_1.rtdc")) as h5:
        assert h5.attrs["experiment:sample"] == "blood of P01, <donor>"

    with Comparison(run) as again:
        run.good()
    assert not again.files


def test_a_basin_finds_its_neighbour_by_name(run: Run) -> None:
    derived = run.prepared("derived.rtdc")
    with h5py.File(derived) as h5:
        [definition] = [json.loads(b" ".join(lines[:])) for lines in h5["basins"].values()]
    assert definition["paths"] == ["P01_1.rtdc"]
    with dclab.new_dataset(derived) as ds, dclab.new_dataset(run.prepared("Anna_Mueller_1.rtdc")) as other:
        assert "image" in ds.features_basin
        assert np.array_equal(ds["image"][0], other["image"][0])


def test_own_patterns_are_looked_for_without_compressing(run: Run) -> None:
    with Comparison(run) as step:
        run.configure({"check.private": ["protocol \\d", "shapein"]})
        run.good()
    assert not step.measurements
    found = {(r["file"], r["kind"], r["text"]): r["verdict"] for r in privacy_rows(run)}
    assert found["notes.txt", "own", "protocol 3"] == "blocks"
    assert not run.tasks()
    assert not [name for name in published(run) if name.endswith("notes.txt")]
    run.configure({"check.accept_private": ["own:*"]})
    with Comparison(run) as step:
        run.good()
    assert not step.measurements
    assert {r["verdict"] for r in privacy_rows(run)} == {"accepted"}
    assert run.tasks()


def test_settings_of_the_acquisition_software_become_a_log(run: Run) -> None:
    run.configure({"prepare.settings_log": True})
    with Comparison(run) as step:
        run.good()
    assert step.measurements == {run.prepared("M9_data.rtdc").name}
    with h5py.File(run.prepared("M9_data.rtdc")) as h5:
        assert h5["logs/M9_SoftwareSettings.ini"][:].tolist() == [b"[Project]", b"Last=<path>"]
    settings = run.source / "2024 Anna Müller" / "M9_SoftwareSettings.ini"
    assert not run.dcorflow("verify", run.prepared("M9_data.rtdc"), settings.with_name("M9_data.rtdc")).code
    settings.write_text("[Project]\nLast=\n[New]\n")
    aged(run.source)
    with Comparison(run) as step:
        run.good()  # it may still be written
        run.good()
    assert step.measurements == {run.prepared("M9_data.rtdc").name}
