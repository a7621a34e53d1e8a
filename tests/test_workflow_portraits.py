"""Pictures as the workflow makes them: once, for what changed, again where they are lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
from runs import Comparison, Run, aged, later

FOLDER = "results/.state/portraits"


def portrait(run: Run, name: str) -> Path:
    return run.work / FOLDER / run.record(name).name


def noted(run: Run, name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(run.record(name).read_text("utf-8"))
    return dict(record["portrait"])


def drawn(step: Comparison) -> set[str]:
    """Return the portraits among the files that a step wrote."""
    return {Path(p).name for p in step.files if p.startswith(FOLDER)}


def test_every_measurement_has_one_and_a_changed_file_redraws_one(lab: Run) -> None:
    names = {Path(row["source"]).name for row in lab.rows().values()}
    for name in names:
        stored = json.loads(portrait(lab, name).read_text("utf-8"))
        assert stored["key"] == noted(lab, name)["key"]
        assert stored["flags"] == noted(lab, name)["flags"]
        assert (stored["format"], stored["events"]) == (1, int(lab.row(name)["events"]))
        assert "scatter" in {p["id"] for p in stored["pictures"]}

    changed = lab.source / "alpha" / "one.rtdc"
    with h5py.File(changed, "r+") as h5:
        h5["events/deform"][0] += 0.01
    later(aged(changed))
    with Comparison(lab) as step:
        lab.good()
    assert step.measurements == {"one.rtdc"}
    assert drawn(step) == {portrait(lab, "one.rtdc").name}

    lab.configure({"metadata.override": {"setup:medium": "water"}})
    with Comparison(lab) as step:
        lab.good()
    assert step.measurements
    assert drawn(step) == set()


def test_a_lost_one_is_drawn_again_where_wanted(lab: Run) -> None:
    lost = portrait(lab, "M1_data.rtdc")
    before = lost.read_bytes()
    lost.unlink()
    assert "pictures to draw: 1 measurement\n" in lab.dcorflow("plan").stdout
    lab.configure({"check.pictures": False})
    lab.good()
    assert not lost.exists()
    lab.configure({"check.pictures": True})
    with Comparison(lab) as step:
        lab.good()
    assert drawn(step) == {lost.name}
    assert lost.read_bytes() == before
    assert step.measurements == set()
    assert not {p for p in step.files if p.startswith("results/records/") and p.endswith(".json")}
    assert not lab.good().jobs
