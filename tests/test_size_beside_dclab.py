"""Prepared files are never larger than what `dclab-compress` writes."""

from pathlib import Path

import bench_cells
import pytest
from dclab.cli import compress

from dcorflow.compress.single import compress_file


def assert_not_larger(source: Path, folder: Path) -> None:
    compress(path_in=source, path_out=folder / "dclab.rtdc")
    peer = (folder / "dclab.rtdc").stat().st_size
    for encoder in ("compat", "best"):
        compress_file(source, folder / f"{encoder}.rtdc", encoder, strip_logs=False, threads=2)
        assert (folder / f"{encoder}.rtdc").stat().st_size <= peer, encoder


@pytest.mark.parametrize("cells", ["blood", "beads"])
def test_every_layout(tmp_path, cells):
    paths = bench_cells.make(tmp_path, 30, cells, bench_cells.LAYOUTS, synthetic=False)
    for layout, path in paths.items():
        folder = tmp_path / layout
        folder.mkdir()
        assert_not_larger(path, folder)


def test_real_files(tmp_path, real_data):
    for number, path in enumerate(sorted(real_data.glob("*/*.rtdc"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert_not_larger(path, folder)
