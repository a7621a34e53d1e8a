"""The size of what the engine writes, beside Zstandard level 5 in the source's chunks."""

import h5py
import hdf5plugin
import numpy as np
import pytest
from test_pack import encoded

from dcorflow import engine
from dcorflow.engine import choose, encode, plugins, sample


def varied_traces(seed: int) -> np.ndarray:
    """Return traces (3000, 400) as int16 whose noise changes every hundred events."""
    rng = np.random.default_rng(seed)
    deviation = rng.choice([3, 6, 9, 14], 30).repeat(100)[:, None]
    return np.rint(rng.normal(20, 1, (3000, 400)) * deviation).astype("i2")


def varied_images(seed: int) -> np.ndarray:
    """Return noisy images (400, 40, 100) as uint8 of six scenes that take turns."""
    rng = np.random.default_rng(seed)
    x, y = np.arange(100), np.arange(40)[:, None]
    scenes = np.stack(
        [
            120 + rng.uniform(5, 50) * np.sin(x / rng.uniform(4, 60)) + 20 * np.sin(y / rng.uniform(2, 9))
            for _ in range(6)
        ]
    )
    turn = rng.integers(0, 6, 10).repeat(40)
    return np.clip(np.rint(scenes[turn] + rng.normal(0, 2.6, (400, 40, 100))), 0, 255).astype("u1")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("encoder", ["compat", "best"])
@pytest.mark.parametrize(("make", "rows"), [(varied_traces, 10), (varied_traces, 100), (varied_images, 50)])
def test_never_larger_where_chunks_differ(make, rows, encoder, seed):
    data = make(seed)
    chunks = (rows, *data.shape[1:])
    with h5py.File.in_memory() as h5, h5py.File.in_memory() as out:
        source = h5.create_dataset("x", data=data, chunks=chunks)
        zstd = hdf5plugin.Zstd(clevel=5)
        standard = h5.create_dataset("z", data=data, chunks=chunks, fletcher32=True, **zstd)
        done = engine.copy_dataset(source, out, "x", encoder=encoder)
        assert done.stored_bytes <= standard.id.get_storage_size(), done.encoding


def test_few_samples_are_trusted_less_than_many():
    assert choose.bound([(99, 100)], 1) == 0.99  # that one is all there is
    assert choose.bound([(100, 100)] * 3, 90) == 1  # the standard encoding itself
    few = choose.bound([(98, 100), (99, 100), (100, 100)], 1000)
    many = choose.bound([(98, 100), (99, 100), (100, 100)] * 9, 1000)
    assert 0.99 < many < 0.995 < 1 < few


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_samples_are_spread(count):
    places = sample.scattered(count, 12)
    assert len(set(places)) == len(places) == min(count, 12)
    assert all(0 <= place < count for place in places)
    assert count < 100 or max(np.diff([0, *sorted(places), count])) < count / 6


@pytest.mark.parametrize("encoding", encode.BYTES, ids=lambda e: e.words)
@pytest.mark.parametrize("kind", ["noise", "image", "flat", "one byte"])
def test_small_blocks_are_read_by_hdf5(encoding, kind):
    """Content that cannot be compressed takes some bytes more; HDF5 decodes all of it."""
    rng = np.random.default_rng(3)
    size = 1 if kind == "one byte" else 300_001
    scale = {"noise": 256, "image": 12}.get(kind, 1)
    data = rng.integers(0, scale, size, dtype="u1")
    payload = encoded(encoding, data)
    with h5py.File.in_memory() as h5:
        made = h5.create_dataset("x", (size,), "u1", chunks=(size,), **hdf5plugin.Zstd(clevel=5))
        made.id.write_direct_chunk((0,), payload)
        assert (made[:] == data).all()


def test_the_standard_encoding_is_that_of_hdf5():
    data = np.random.default_rng(5).integers(0, 9, (100, 50, 60), dtype="u1")
    with h5py.File.in_memory() as h5:
        made = h5.create_dataset("x", data=data, chunks=data.shape, **hdf5plugin.Zstd(clevel=5))
        assert made.id.read_direct_chunk((0, 0, 0))[1] == encoded(encode.STANDARD, data.reshape(-1))


def test_images_have_encodings_without_small_blocks(monkeypatch):
    """Another build of HDF5's filter may not know the parameter; the engine does without."""
    assert encode.plain(1) == encode.BYTES
    monkeypatch.setattr(plugins, "_PARAMETERS", plugins._PARAMETERS | {"block_bytes": 99999})
    plugins.has_small_blocks.cache_clear()
    try:
        assert encode.plain(1) == encode.WIDE
    finally:
        monkeypatch.undo()
        plugins.has_small_blocks.cache_clear()


def smooth_images(seed: int) -> np.ndarray:
    """Return background images (400, 40, 100) as uint8: each stays for ten events."""
    rng = np.random.default_rng(seed)
    few = np.rint(110 + 20 * np.sin(np.arange(100) / 9) + rng.normal(0, 0.3, (40, 40, 100)))
    return np.repeat(few, 10, axis=0).astype("u1")


def lit_images(seed: int) -> np.ndarray:
    """Return noisy images (400, 40, 100) as uint8, brighter from row to row."""
    rng = np.random.default_rng(seed)
    light = 40 + 4 * np.arange(40)[:, None]
    return np.rint(light + rng.normal(0, 2.6, (400, 40, 100))).astype("u1")


def test_what_one_dataset_saves_another_may_spend():
    """The file is not larger than with level 5, whatever the order; without credit, no dataset is."""
    noisy, smooth = lit_images(1), smooth_images(1)
    spent = {}
    for order in (("noisy", "smooth"), ("smooth", "noisy")):
        credit, stored, standard = engine.Credit(), {}, {}
        with h5py.File.in_memory() as h5, h5py.File.in_memory() as out:
            for name in order:
                options = {"data": {"noisy": noisy, "smooth": smooth}[name], "chunks": (10, 40, 100)}
                source = h5.create_dataset(name, **options)
                level5 = h5.create_dataset(
                    f"{name}5", **options, fletcher32=True, **hdf5plugin.Zstd(clevel=5)
                )
                standard[name] = level5.id.get_storage_size()
                stored[name] = engine.copy_dataset(source, out, name, credit=credit).stored_bytes
        assert sum(stored.values()) <= sum(standard.values())
        assert 0 <= credit.saved <= sum(standard.values()) - sum(stored.values())
        spent[order[0]] = stored["smooth"] / standard["smooth"]
    assert spent["smooth"] <= 1 < spent["noisy"]


def test_credit_is_never_given_before_it_is_saved():
    credit = choose.Credit()
    assert credit.goal(1000) == choose.GOAL
    credit.note(900, 0.9)
    assert credit.saved == pytest.approx(100)
    assert choose.GOAL < credit.goal(1000) <= choose.GOAL + 0.1
    credit.note(1200, 1.2)
    assert credit.goal(1000) == choose.GOAL
