"""Damaged sources: every corrupt chunk is found and named, nothing is copied in silence."""

import itertools

import h5py
import hdf5plugin
import numpy as np
import pytest

from dcorflow import engine
from dcorflow.engine import parallel

SHAPE, CHUNKS = (120, 8, 25), (10, 8, 25)
DATA = np.random.default_rng(5).integers(0, 40, SHAPE, dtype="u1")
STORED = {
    "fletcher32": {"fletcher32": True},
    "gzip": {"compression": "gzip"},
    "gzip, fletcher32": {"compression": "gzip", "fletcher32": True},
    "shuffle, gzip, fletcher32": {"compression": "gzip", "shuffle": True, "fletcher32": True},
    "lzf, fletcher32": {"compression": "lzf", "fletcher32": True},
    "zstd 3, fletcher32": dict(hdf5plugin.Zstd(clevel=3), fletcher32=True),
    "prepared": dict(hdf5plugin.Zstd(clevel=5), fletcher32=True),
}


@pytest.fixture(autouse=True)
def helpers_pay(monkeypatch):
    """Let helper processes work on these small data, too."""
    monkeypatch.setattr(parallel, "WORTH_BYTES", 0)


def write(path, options):
    with h5py.File(path, "w") as h5:
        h5.create_dataset("events/image", data=DATA, chunks=CHUNKS, **options)
        return [h5["events/image"].id.get_chunk_info(i) for i in range(12)]


def damage(path, info, how, rng):
    """Change the stored bytes of one chunk in place."""
    content = bytearray(path.read_bytes())
    start, size = info.byte_offset, info.size
    at = start + int(rng.integers(size))
    if how == "flip":
        content[at] ^= 1 << int(rng.integers(8))
    elif how == "zero":
        content[start + 3 : start + size] = bytes(size - 3)
    elif how == "noise":
        content[start : start + size] = rng.bytes(size)
    elif how == "shift":
        content[start : start + size - 1] = content[start + 1 : start + size]
    path.write_bytes(content)


def plain(path):
    """What HDF5 itself says: the content, or None where it cannot read it."""
    with h5py.File(path, locking=False) as h5:
        try:
            return h5["events/image"][:]
        except OSError:
            return None


def digest(dataset: h5py.Dataset, threads: int) -> str:
    return engine.digest_datasets({"x": dataset}, threads=threads)["x"]


def copy(dataset, threads):
    with h5py.File.in_memory() as out:
        return engine.copy_dataset(dataset, out, "x", threads=threads)


@pytest.mark.parametrize("how", ["flip", "zero", "noise", "shift"])
@pytest.mark.parametrize("stored", STORED)
def test_damaged_chunk_is_named(tmp_path, stored, how):
    rng = np.random.default_rng(11)
    path = tmp_path / "a.rtdc"
    for number in (0, 7, 11):
        infos = write(path, STORED[stored])
        damage(path, infos[number], how, rng)
        found = 0
        with h5py.File(path, locking=False) as h5:
            for threads, work in itertools.product((1, 2), (copy, digest)):
                try:
                    work(h5["events/image"], threads=threads)
                except engine.CorruptChunk as error:
                    assert error.dataset == "/events/image"
                    assert error.chunk == infos[number].chunk_offset
                    assert error.offset == infos[number].byte_offset
                    assert str(error.chunk) in str(error)
                    assert error.reason in str(error)
                    found += 1
                else:
                    # Some bits of a gzip stream mean nothing: then the content is intact.
                    assert (h5["events/image"][:] == DATA).all()
        assert found == 4 or (stored == "gzip" and how == "flip")


@pytest.mark.parametrize("keep", [0, 1, 4, 5, 20, -5, -1])
@pytest.mark.parametrize("stored", STORED)
def test_short_chunk_is_named(tmp_path, stored, keep):
    path = tmp_path / "a.rtdc"
    write(path, STORED[stored])
    with h5py.File(path, "r+") as h5:
        image = h5["events/image"]
        raw = image.id.read_direct_chunk((30, 0, 0))[1]
        if keep == 0:
            raw = raw[:1]
        image.id.write_direct_chunk((30, 0, 0), raw[:keep] if keep else raw)
    with h5py.File(path, locking=False) as h5, h5py.File.in_memory() as out:
        for threads in (1, 2):
            with pytest.raises(engine.CorruptChunk, match=r"\(30, 0, 0\).*/events/image"):
                engine.copy_dataset(h5["events/image"], out, f"x{threads}", threads=threads)
            with pytest.raises(engine.CorruptChunk, match=r"\(30, 0, 0\)"):
                engine.digest_datasets({"x": h5["events/image"]}, threads=threads)["x"]


def test_chunk_beyond_the_end_of_the_file(tmp_path):
    path = tmp_path / "a.rtdc"
    infos = write(path, STORED["gzip"])
    last = max(infos, key=lambda info: info.byte_offset)
    with h5py.File(path, locking=False) as h5, h5py.File.in_memory() as out:
        with path.open("r+b") as stream:  # cut while it is open: a copy that is still running
            stream.truncate(last.byte_offset + 10)
        with pytest.raises(engine.CorruptChunk, match="the file ends after 10") as caught:
            engine.copy_dataset(h5["events/image"], out, "x")
        assert caught.value.chunk == last.chunk_offset


@pytest.mark.parametrize("stored", ["fletcher32", "shuffle, gzip, fletcher32", "prepared"])
def test_fuzz_never_calls_a_wrong_result_good(tmp_path, stored):
    """Random damage anywhere in the file: an error, or exactly what HDF5 reads."""
    rng = np.random.default_rng(23)
    path = tmp_path / "a.rtdc"
    write(path, STORED[stored])
    original = path.read_bytes()
    for _ in range(60):
        content = bytearray(original)
        start, size = int(rng.integers(2048, len(content))), int(rng.integers(1, 40))
        content[start : start + size] = rng.bytes(len(content[start : start + size]))
        path.write_bytes(content)
        try:
            with h5py.File(path, locking=False) as h5, h5py.File.in_memory() as out:
                done = engine.copy_dataset(h5["events/image"], out, "x", threads=2)
                assert done.digest == engine.digest_plain(out["x"])
                assert (out["x"][:] == plain(path)).all()
        except (engine.CorruptChunk, engine.UnsupportedDataset, OSError, KeyError, RuntimeError):
            continue


def test_prepared_file_is_checked_from_disk(tmp_path):
    """One flipped bit in the copy changes the verdict of the digest."""
    path = tmp_path / "b.rtdc"
    with h5py.File.in_memory() as h5, h5py.File(path, "w") as out:
        made = h5.create_dataset("image", data=DATA, chunks=CHUNKS)
        done = engine.copy_dataset(made, out, "image")
        info = out["image"].id.get_chunk_info(0)
    with h5py.File(path, locking=False) as out:
        assert engine.digest_dataset(out["image"]) == done.digest
    damage(path, info, "flip", np.random.default_rng(1))
    with h5py.File(path, locking=False) as out, pytest.raises(engine.CorruptChunk):
        engine.digest_dataset(out["image"])


def test_zeroed_chunk(tmp_path):
    """Zeros match a checksum of zero: HDF5 calls such a chunk good where it is stored as it is, and so
    does the engine; a zeroed compressed chunk is found."""
    path = tmp_path / "a.rtdc"
    infos = write(path, {"fletcher32": True})
    with path.open("r+b") as stream:
        stream.seek(infos[7].byte_offset)
        stream.write(bytes(infos[7].size))
    with h5py.File(path, locking=False) as h5:
        image = h5["events/image"]
        first = infos[7].chunk_offset[0]
        assert not image[first : first + image.chunks[0]].any()
        assert copy(image, threads=2).digest == engine.digest_plain(image)
    infos = write(path, dict(hdf5plugin.Zstd(clevel=5), fletcher32=True))
    with path.open("r+b") as stream:
        stream.seek(infos[7].byte_offset)
        stream.write(bytes(infos[7].size))
    with h5py.File(path, locking=False) as h5, pytest.raises(engine.CorruptChunk) as raised:
        copy(h5["events/image"], threads=2)
    assert raised.value.chunk == infos[7].chunk_offset


@pytest.mark.parametrize("whole", [True, False])
def test_chunks_too_large_for_a_band(tmp_path, whole):
    """They go through HDF5; their content is the same, and a damaged one is named."""
    path, shape = tmp_path / "a.rtdc", (6, 3000, 2000)
    data = np.arange(np.prod(shape), dtype="u4").reshape(shape).astype("u1")
    with h5py.File(path, "w") as h5:
        made = h5.create_dataset("x", data=data, chunks=(3, 3000, 2000), compression="gzip", fletcher32=True)
        info = made.id.get_chunk_info(1)
    if not whole:
        with path.open("r+b") as stream:
            stream.seek(info.byte_offset + info.size // 2)
            stream.write(b"damaged")
    with h5py.File(path, locking=False) as h5:
        if whole:
            assert copy(h5["x"], threads=2).digest == engine.digest_plain(h5["x"])
        else:
            with pytest.raises(engine.CorruptChunk, match=r"\(3, 0, 0\)"):
                copy(h5["x"], threads=2)
