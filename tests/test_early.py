"""The disk begins with large files before they are complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import pytest

from dcorflow.engine import early
from dcorflow.engine.early import STEP_BYTES, Early


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Give what the system is asked for."""
    found: list[tuple[Any, ...]] = []
    monkeypatch.setattr(early, "_function", lambda: lambda *arguments: found.append(arguments))
    return found


def test_every_few_megabytes_and_at_the_end(tmp_path: Path, asked: list[tuple[Any, ...]]) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as h5:
        begun = Early(h5)
        begun.begin()
        assert asked == [], "nothing was written"
        for _ in range(5):
            begun.wrote(STEP_BYTES // 2)
        assert asked == [(h5.id.get_vfd_handle(), 0, 0, 2)] * 2
        begun.begin()
        assert len(asked) == 3


def test_not_where_there_is_no_file_of_the_system(asked: list[tuple[Any, ...]]) -> None:
    with h5py.File.in_memory() as h5:
        Early(h5).wrote(STEP_BYTES)
    assert asked == []


def test_not_where_the_system_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early, "_function", lambda: None)
    with h5py.File(tmp_path / "x.h5", "w") as h5:
        Early(h5).wrote(STEP_BYTES)
