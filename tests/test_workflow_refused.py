"""What a run refuses before it writes anything, and how it says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import demo_data
import pytest
from runs import SNAKEFILE, Result, Run, snapshot


def refused(result: Result, words: list[str]) -> None:
    """Insist that a run ended with a message that holds all the words."""
    assert result.code != 0
    assert not [w for w in words if w not in result.stderr], result.text
    assert "Traceback" not in result.text


def test_work_directory_in_the_source_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    demo_data.write_measurement(source / "a.rtdc", 4, roi=(32, 48), fluorescence=False, table=False)
    for work in (source / "work", source):
        run = Run(work, source)
        before = {p for p in snapshot(source) if not p.startswith((".snakemake", "work/"))}
        result = run.run()
        assert result.code != 0
        assert {p for p in snapshot(source) if not p.startswith((".snakemake", "work/"))} == before
        assert not list(source.rglob("results")), "refused before anything was written"
        refused(result, ["inside the source"])


def test_no_settings_at_all(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-s", str(SNAKEFILE), "-d", str(tmp_path), "--cores", "1"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode != 0
    assert "--configfile" in done.stderr
    assert "Traceback" not in done.stderr


#: Wrong settings (by dotted key) and what the message must hold; those of one entry come together.
MISTAKES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "schema": (
        {
            "input.min_age": "soon",
            "inptu": {"root": "x"},
            "datasets.companion": ["*.txt"],
            "datasets.defaults": {"authors": ["Name, A."], "license_id": "CC0-1.0"},
            "check.on_violation": "acept",
            "batches.files": 0,
            "prepare.encoder": True,
        },
        [
            "'input.min_age'", "unknown key 'inptu'", "did you mean 'input'", "'datasets.companion'",
            "did you mean 'companions'", "'datasets.defaults.owner_org' is missing", "comma",
            "'check.on_violation'", "accept, exclude, block", "'batches.files'", "'prepare.encoder'",
        ],
    ),
    "no part datasets": ({"datasets": None}, ["'datasets'", "a mapping"]),
    "no such folder": (
        {"input.root": "no/such/folder", "datasets.by": "(?P<data>.*)", "metadata.defaults": {"medium": 1}},
        ["'input.root'", "no/such/folder", "'datasets.by'", "(?P<dataset>", "'medium'"],
    ),
    "no regular expression": ({"datasets.by": "(?P<dataset>"}, ["'datasets.by'", "regular expression"]),
    "mistyped metadata": (
        {"metadata.defaults": {"setup:mediun": "water", "imaging:pixel size": "small"}},
        ["'setup:mediun'", "did you mean 'setup:medium'", "'imaging:pixel size'", "number"],
    ),
    "unknown placeholder": ({"datasets.title": "{folder}"}, ["datasets.title", "{folder}", "directory"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def small_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("small") / "source"
    demo_data.write_measurement(source / "a" / "a.rtdc", 4, roi=(32, 48), fluorescence=False, table=False)
    demo_data.set_times(source)
    return source


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_in_the_settings(small_tree: Path, tmp_path: Path, name: str) -> None:
    changes, words = MISTAKES[name]
    run = Run(tmp_path / "work", small_tree, **changes)
    result = run.run()
    refused(result, words)
    found = sorted(p for p in snapshot(run.results) if not p.startswith(".state"))
    assert found == [], "refused before any job"


def test_settings_that_are_no_yaml(small_tree: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "work", small_tree)
    run.configfile.write_text("input: {root: [\n", encoding="utf-8")
    result = run.run()
    assert result.code != 0
    assert "not valid JSON or YAML" in result.stderr
    assert "Traceback" not in result.text
    assert not run.results.exists()
    run.configfile.unlink()
    result = run.run()
    assert result.code != 0
    assert run.configfile.name in result.stderr
    assert not run.results.exists()


def test_folder_without_measurements(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "notes.txt").write_text("nothing yet\n", encoding="utf-8")
    run = Run(tmp_path / "work", source)
    result = run.run()
    assert not (run.results / "inventory.tsv").exists()
    refused(result, ["'input.root'", "no measurement"])
