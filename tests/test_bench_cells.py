"""The measurements of the benchmark compress like real ones."""

import contextlib

import bench_cells
import h5py
import numpy as np
import pytest

from dcorflow.engine import encode
from dcorflow.engine.cut import Cut
from dcorflow.engine.pack import encoded_size


def sizes(image: np.ndarray, rows: int) -> dict[str, float]:
    """Return how many times smaller level 5 makes images, and other encodings relative to it."""
    cut = Cut(image.shape, (rows, *image.shape[1:]), 1)
    total = {e.words: encoded_size(cut, image.reshape(-1), e) for e in encode.BYTES}
    standard = total[encode.STANDARD.words]
    return {words: size / standard for words, size in total.items()} | {"level 5": image.size / standard}


@pytest.mark.parametrize("synthetic", [True, False])
@pytest.mark.parametrize(("cells", "least", "most"), [("blood", 1.38, 1.52), ("beads", 1.66, 1.8)])
def test_images_compress_like_real_ones(cells, least, most, synthetic, request):
    if not synthetic:
        request.getfixturevalue("real_data")
    _, features = next(bench_cells.blocks(200, cells, synthetic, seed=0))
    small, large = sizes(features["image"], 10), sizes(features["image"], 100)
    assert least < small["level 5"] < most
    assert large["level 5"] > 1.03 * small["level 5"]
    if cells == "beads":  # where cheaper searches come out larger
        assert 0.99 < small["zstd fast 4/16"] < large["zstd fast 4/16"] < 1.06
    else:
        assert 0.86 < small["zstd blocks of 2250"] < large["zstd blocks of 2250"] < 1


def test_layouts_hold_the_same(tmp_path):
    paths = bench_cells.make(tmp_path, 6, "blood", bench_cells.LAYOUTS, synthetic=True)
    with contextlib.ExitStack() as stack:
        files = {layout: stack.enter_context(h5py.File(path)) for layout, path in paths.items()}
        compare(files)


def compare(files):
    raw = files["raw"]["events"]
    assert raw["image"].chunks == (10, 80, 250) and not raw["image"].compression
    assert files["gzip"]["events/mask"].compression == "gzip" and files["gzip"]["events/mask"].fletcher32
    assert files["contiguous"]["events/image"].chunks is None
    assert files["mebibyte"]["events/image"].chunks[0] * 20_000 <= 2**20
    for h5 in files.values():
        assert (h5["events/image"][:] == raw["image"][:]).all()
        assert (h5["events/trace/fl1_raw"][:] == raw["trace/fl1_raw"][:]).all()
