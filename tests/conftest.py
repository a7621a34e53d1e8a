"""Fixtures that several test files share, and what happens where a prerequisite is missing."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "scripts"))

# A run starts a dozen processes: where they may not keep bytecode, each compiles all modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

import recipes  # noqa: E402
from dcor import dcor, started_dcor  # noqa: E402, F401
from runs import Run, aged  # noqa: E402
from uploads import labs, prepared  # noqa: E402, F401

#: Test files that take a minute or more, the longest first; one that waits a lot stands beside one that
#: needs the processor. They are begun first, lest one of them is alone at the end.
LONGEST = (
    "slurm", "upload_faults", "upload_states", "upload", "crash", "workflow_metadata", "week",
    "workflow_results_changes", "upload_commands", "workflow_interrupted", "workflow_source_changes",
    "workflow_demo", "workflow_bad_input", "fuzz_files", "workflow_privacy", "compress_failures",
    "workflow_portraits", "workflow_real_data", "dcor_lab", "page_browser", "status", "size_beside_dclab",
    "scale",
)  # fmt: skip
#: Real measurements; a folder beside the repository, not a part of the product.
REAL_DATA = REPOSITORY.parent / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files."""
    order = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture
def missing() -> Callable[[str], NoReturn]:
    """Give the function to call where a prerequisite is missing: it skips, but in CI it fails."""

    def end(reason: str) -> NoReturn:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"missing in CI: {reason}")
        pytest.skip(reason)

    return end


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Give the folder of real measurements; skip, even in CI, where it is not there."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real measurements: {REAL_DATA} does not exist")
    return REAL_DATA


def write_lab(source: Path) -> Path:
    """Write three folders with two small measurements each, and a companion in the first.

    `alpha/two.rtdc` has no medium; all others have `CellCarrier`.
    """
    small = recipes.small_measurement
    for folder, names in (
        ("alpha", ("one", "two")),
        ("beta", ("M1_data", "M2_data")),
        ("gamma", ("five", "six")),
    ):
        for name in names:
            seed = len(folder) * 10 + len(name) + ord(name[-1]) + ord(name[1])
            metadata = {"setup:medium": None if name == "two" else "CellCarrier"}
            small(source / folder / f"{name}.rtdc", seed=seed, metadata=metadata)
    (source / "alpha" / "notes.txt").write_text("three donors\n", encoding="utf-8")
    return aged(source)


@pytest.fixture(scope="session")
def settled_lab(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Prepare the lab's tree once; return its folder and a copy of it to restore it from."""
    folder = tmp_path_factory.mktemp("lab") / "lab"
    write_lab(folder / "source")
    run = lab_run(folder)
    run.good()
    run.good()
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept, symlinks=True)
    return folder, kept


def lab_run(folder: Path) -> Run:
    """Return the run of the lab: one dataset per group, two measurements per batch."""
    return Run(
        folder / "work",
        folder / "source",
        **{
            "datasets.companions": ["*.txt"],
            "datasets.namespace": "lab",
            "batches.files": 2,
            "batches.datasets": 1,
        },
    )


@pytest.fixture
def lab(settled_lab: tuple[Path, Path]) -> Run:
    """Give a run of the lab with nothing left to do; each test finds it at the same path."""
    folder, kept = settled_lab
    shutil.rmtree(folder)
    shutil.copytree(kept, folder, symlinks=True)
    return lab_run(folder)
