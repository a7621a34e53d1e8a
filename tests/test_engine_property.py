"""Generated datasets: the engine's copy equals what plain h5py reads from the source."""

import contextlib
import itertools
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dcorflow import engine
from dcorflow.engine import choose, cut, encode, fast, layout, parallel, reader, sample

TABLE = np.dtype([("t", "<f8"), ("n", ">i4"), ("name", "S5"), ("xy", "<u2", (2,))], align=True)
TYPES = ["u1", "i2", "<f4", "f8", ">i4", ">f8", "?", "c8", "S7", "V3", "f2", "u8", TABLE]
FILTERS = [
    {},
    {"compression": "gzip"},
    {"compression": "gzip", "shuffle": True, "fletcher32": True},
    {"fletcher32": True},
    {"compression": "lzf"},
    {"compression": "lzf", "shuffle": True, "fletcher32": True},
    {"scaleoffset": 0},
    dict(hdf5plugin.Zstd(clevel=3)),
    dict(hdf5plugin.Zstd(clevel=5), fletcher32=True),
    dict(hdf5plugin.Zstd(clevel=7), fletcher32=True, shuffle=True),
    dict(hdf5plugin.Bitshuffle(nelems=0, cname="lz4")),
    dict(hdf5plugin.Blosc(cname="zstd", shuffle=hdf5plugin.Blosc.BITSHUFFLE)),
]


@contextlib.contextmanager
def small_limits():
    """Shrink all thresholds, so that small datasets take the paths of large ones."""
    changes = [
        (fast, "SAMPLED_BYTES", 500),
        (cut, "JOIN_BYTES", 300),
        (cut, "SPLIT_BYTES", 2000),
        (sample, "SAMPLE_BOUNDS", (200, 400)),
        (cut, "STRIP_BYTES", 50),
        (cut, "DOUBLE_FROM", 200),
        (cut, "DOUBLE_STRIP_BYTES", 60),
        (layout, "MEBIBYTE", 1500),
        (reader, "BAND_BYTES", 600),
        (choose, "PROBE_EVERY", 3),
        (parallel, "WORTH_BYTES", 0),
    ]
    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in changes:
            patch.setattr(module, name, value)
        yield


@st.composite
def datasets(draw):
    """Return the arguments of `create_dataset`, and what to write where."""
    kind = np.dtype(draw(st.sampled_from(TYPES)))
    shape = tuple(draw(st.lists(st.integers(1, 12), min_size=1, max_size=4)))
    shape = (draw(st.integers(0, 90)), *shape[1:])
    spec = {"shape": shape, "dtype": kind}
    if draw(st.booleans()):
        spec["chunks"] = tuple(draw(st.integers(1, n + 3)) for n in shape)
        spec["maxshape"] = (None,) * len(shape)
        filters = draw(st.sampled_from(FILTERS))
        if "scaleoffset" not in filters or kind.kind in "iu":
            spec |= filters
    if kind.kind in "iuf" and "scaleoffset" not in spec and draw(st.booleans()):
        spec["fillvalue"] = draw(st.integers(0, 100))
    noise = draw(st.sampled_from([0, 3, 256]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    size = int(np.prod(shape)) * kind.itemsize
    raw = rng.integers(0, max(1, noise), size, dtype="u1")
    data = (raw % 2 if kind.kind == "b" else raw).view(kind).reshape(shape)
    if "scaleoffset" in spec:
        data = data % 100
    start = draw(st.integers(0, shape[0])) if draw(st.booleans()) else 0
    return spec, data, slice(start, shape[0])


def raw_bytes(dataset):
    """Return the content as HDF5 itself reads it, without any conversion."""
    kind = dataset.id.get_type()
    out = np.zeros(dataset.shape, f"V{kind.get_size()}")
    if out.size:
        dataset.id.read(h5py.h5s.ALL, h5py.h5s.ALL, out, kind)
    return out.tobytes()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    case=datasets(),
    encoder=st.sampled_from(["compat", "best"]),
    written=st.booleans(),
    count=st.sampled_from([2, 2, 2, 4]),
)
def test_copy_equals_plain_reading(tmp_path_factory, case, encoder, written, count):
    spec, data, part = case
    folder = tmp_path_factory.getbasetemp() / "property"
    folder.mkdir(exist_ok=True)
    path = folder / "source.h5"
    with h5py.File(path, "w") as h5:
        made = h5.create_dataset("x", **spec)
        if part.start < part.stop:
            made[part] = data[part]
    outputs = []
    with small_limits(), h5py.File(path, "r+" if written else "r", locking=False) as h5:
        for threads in (1, count):
            target = folder / f"target{threads}.h5"
            with h5py.File(target, "w") as out, engine.Helpers(threads) as helpers:
                done = engine.copy_dataset(h5["x"], out, "x", encoder=encoder, threads=helpers)
                check_copy(h5["x"], out["x"], done, helpers)
            outputs.append(target.read_bytes())
        with h5py.File(folder / "target1.h5") as out:
            assert engine.digest_dataset(out["x"]) == done.digest
    assert outputs[0] == outputs[1]


def check_copy(source, copy, done, helpers):
    assert copy.shape == source.shape
    assert copy.id.get_type() == source.id.get_type()
    assert raw_bytes(copy) == raw_bytes(source)
    assert done.digest == engine.digest_plain(source) == engine.digest_plain(copy)
    assert done.digest == engine.digest_datasets({"x": source}, threads=helpers)["x"]
    assert copy.fletcher32
    assert copy.id.get_create_plist().get_filter_by_id(32015)[1][0] >= 5
    assert done.stored_bytes == copy.id.get_storage_size()


@settings(max_examples=40, deadline=None)
@given(
    lines=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), max_size=30),
    fixed=st.booleans(),
)
def test_text_of_any_kind(lines, fixed):
    with h5py.File.in_memory() as h5:
        if fixed:
            raw = [line.encode() for line in lines]
            made = h5.create_dataset("x", data=np.array(raw, f"S{max(1, *map(len, raw), 1)}"))
        else:
            made = h5.create_dataset("x", data=lines, dtype=h5py.string_dtype())
        done = engine.copy_dataset(made, h5, "copy")
        copy = h5["copy"]
        assert [line.decode() for line in copy[:]] == lines
        assert done.digest == engine.digest_plain(made) == engine.digest_dataset(copy)


@pytest.mark.parametrize("mask", [0b01, 0b10, 0b11])
@pytest.mark.parametrize("threads", [1, 2])
def test_filter_masks(tmp_path, mask, threads):
    """A chunk may have skipped some filters; HDF5 notes that in the chunk's filter mask."""
    data = np.arange(60, dtype="<i4").reshape(6, 10)
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        made = h5.create_dataset("x", (6, 10), "<i4", chunks=(2, 10), shuffle=True, compression="gzip")
        made[:] = data
        payload = data[2:4].tobytes()
        if not mask & 0b01:
            payload = np.frombuffer(payload, "u1").reshape(-1, 4).T.tobytes()
        if not mask & 0b10:
            import zlib

            payload = zlib.compress(payload)
        made.id.write_direct_chunk((2, 0), payload, mask)
    with h5py.File(tmp_path / "a.h5", locking=False) as h5, h5py.File.in_memory() as out:
        assert (h5["x"][:] == data).all()
        done = engine.copy_dataset(h5["x"], out, "x", threads=threads)
        assert (out["x"][:] == data).all()
        assert done.digest == engine.digest_plain(h5["x"])


@pytest.mark.parametrize("driver", ["userblock", "stream", "family", "core"])
def test_files_that_hdf5_must_read(tmp_path, driver):
    """Addresses in these files are not those of one plain file: HDF5 reads the chunks."""
    data = np.random.default_rng(3).integers(0, 9, (500, 40), dtype="u1")
    options = {"userblock_size": 512} if driver == "userblock" else {}
    path = tmp_path / ("part%d.h5" if driver == "family" else "a.h5")
    if driver == "family":
        options = {"driver": "family", "memb_size": 4096}
    with h5py.File(path, "w", **options) as h5:
        h5.create_dataset("x", data=data, chunks=(50, 40), compression="gzip")
    stack = contextlib.ExitStack()
    with stack:
        if driver == "stream":
            h5 = h5py.File(stack.enter_context(Path(path).open("rb")), "r")
        else:
            options.pop("userblock_size", None)
            h5 = h5py.File(path, "r", **(options or {"driver": driver} if driver == "core" else options))
        out = stack.enter_context(h5py.File.in_memory())
        with small_limits():
            done = engine.copy_dataset(stack.enter_context(h5)["x"], out, "x", threads=2)
        assert (out["x"][:] == data).all()
        assert done.digest == engine.digest_plain(h5["x"])


def test_callers_that_hold_the_lock_of_h5py(tmp_path):
    """`visititems` holds h5py's lock while it calls back: nobody else may wait for it."""
    data = np.random.default_rng(3).integers(0, 9, (3000, 400)).astype(">u2")
    with h5py.File(tmp_path / "a.h5", "w") as h5:
        h5.create_dataset("x", data=data, chunks=(50, 400), compression="gzip")
    with h5py.File(tmp_path / "a.h5", locking=False) as h5, h5py.File.in_memory() as out:
        h5.visititems(lambda name, item: engine.copy_dataset(item, out, name, threads=4) and None)
        assert (out["x"][:] == data).all()


@pytest.mark.parametrize("later", [90, 99, 104, 130])
@pytest.mark.parametrize("when", [0, 300, 1900])
def test_account_keeps_the_goal_when_samples_mislead(later, when):
    """Content changes where no sample looked: the account makes up for it, or notices."""
    small, quick = encode.WIDE[4], encode.WIDE[0]
    account = choose.Account(choose.Mix(quick, small), {quick: 0.99, small: 0.90})
    total = standard = 0
    for band in range(2000):
        encoding, probe = account.next()
        truth = {quick: later if band >= when else 99, small: 95, encode.STANDARD: 100}
        account.add(encoding, truth[encoding], (truth[encoding], 100) if probe else None)
        total, standard = total + truth[encoding], standard + 100
    assert total <= standard or account.finish() > 1
    if later < 110 and when <= 300:
        assert total <= standard
    assert account.finish() == pytest.approx(total / standard, abs=0.02)


def test_choice_of_a_mix():
    quick, small, standard = encode.WIDE[0], encode.WIDE[4], encode.STANDARD
    whole = cut.Cut((999, 80, 250), (50, 80, 250), 1)

    def chosen(*ratios):
        return choose.choose({whole: dict(zip((quick, small, standard), ratios, strict=True))}, "compat")

    assert chosen(0.9, 0.8, 1.0) == (whole, choose.Mix(quick, quick))
    assert chosen(1.04, 0.94, 1.0) == (whole, choose.Mix(quick, small))
    assert chosen(1.1, 1.01, 1.001) is None


def test_choice_of_strips():
    """Many small chunks cost time, too; how much a smaller file is worth depends on the encoder."""
    shape = (999, 80, 250)
    whole, few, many = (cut.Cut(shape, (10, lines, 250), 1) for lines in (80, 10, 5))
    blocks, strip = encode.BYTES[2], encode.STRIP
    ratios = {whole: {blocks: 0.96}, few: {strip: 0.95}, many: {strip: 0.947}}
    assert choose.choose(ratios, "compat") == (few, choose.Mix(strip, strip))
    assert choose.choose(ratios | {many: {strip: 0.9}}, "best") == (many, choose.Mix(strip, strip))
    assert choose.choose(ratios | {few: {strip: 1.1}, many: {strip: 1.1}}, "compat")[0] == whole


@pytest.mark.parametrize("height", [2, 47, 80])
@pytest.mark.parametrize("lines", [1, 2, 8])
@pytest.mark.parametrize("events", [1, 33])
def test_strips_are_read_by_hdf5(height, lines, events):
    data = np.random.default_rng(height).integers(0, 99, (events, height, 7), "u1")
    made = cut.Cut(data.shape, (10, min(lines, height), 7), 1, b"\x05")
    with h5py.File.in_memory() as h5:
        limits = (None, None, 7)
        dataset = h5.create_dataset("x", data.shape, "u1", maxshape=limits, chunks=made.chunks)
        for start in (0, 10, 20, 30):
            rows = data[start : start + 10].reshape(-1)
            parts = [part.tobytes() for block in made.blocks(rows) for part in block]
            assert len(parts) == made.count(rows)
            for offset, part in zip(made.offsets(start, rows).tolist(), parts, strict=True):
                assert len(part) == made.chunk_bytes
                dataset.id.write_direct_chunk(tuple(offset), part)
        assert (dataset[:] == data).all()


def test_never_larger_than_the_standard_encoding(tmp_path):
    """Images of sensor noise, then flat ones: the sum of chunks stays below level 5."""
    rng = np.random.default_rng(1)
    noise = np.rint(rng.normal(120, 2.6, (1500, 40, 60))).astype("u1")
    flat = np.repeat(noise[:1, :, :1], 60, axis=2) + np.zeros((1500, 1, 1), "u1")
    flat[::7] += 1
    for number, data in enumerate([noise, flat, np.concatenate([noise, flat])]):
        with h5py.File(tmp_path / f"{number}.h5", "w") as h5:
            h5.create_dataset("x", data=data, chunks=(20, 40, 60))
            level5 = h5.create_dataset(
                "z", data=data, chunks=(20, 40, 60), fletcher32=True, **hdf5plugin.Zstd(clevel=5)
            )
            standard = level5.id.get_storage_size()
        with h5py.File(tmp_path / f"{number}.h5", locking=False) as h5:
            for encoder, threads in itertools.product(["compat", "best"], [1, 2]):
                with h5py.File.in_memory() as out:
                    done = engine.copy_dataset(h5["x"], out, "x", encoder=encoder, threads=threads)
                    assert done.stored_bytes <= standard, (number, encoder, done)
                    assert done.digest == engine.digest_plain(out["x"])
