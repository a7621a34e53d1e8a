"""The engine's public functions: lossless copies, digests, refusals."""

import h5py
import numpy as np
import pytest
from dclab import RTDCWriter
from dclab.rtdc_dataset.copier import is_properly_compressed

from dcorflow import engine
from dcorflow.engine import layout

RNG = np.random.default_rng(7)
LINES = ["start", "", "größe µm", "x" * 150, "end"]


def cases():
    """Yield name and a function that writes the dataset "x" with h5py's own calls."""
    image = RNG.integers(0, 255, (53, 8, 12), dtype="u1")
    table = np.zeros(77, np.dtype([("time", "<f8"), ("n", ">i4"), ("tag", "S5")], align=True))
    table["time"], table["n"], table["tag"] = RNG.normal(size=77), np.arange(77), b"ab"
    text = h5py.string_dtype()
    enum = h5py.enum_dtype({"A": 1, "B": 2}, basetype="i2")
    yield "contiguous", dict(data=image)
    yield "chunked", dict(data=image, chunks=(10, 8, 12), maxshape=(None, 8, 12))
    yield "tiled", dict(data=image, chunks=(7, 3, 5))
    yield "gzip", dict(data=image, chunks=(10, 8, 12), compression="gzip", fletcher32=True)
    yield "lzf", dict(data=image, chunks=(10, 8, 12), compression="lzf", shuffle=True)
    yield (
        "oversized chunks",
        dict(data=image[:3], chunks=(10, 8, 12), maxshape=(None, 8, 12), compression="gzip"),
    )
    yield "big-endian", dict(data=RNG.normal(size=333).astype(">f4"), chunks=(50,))
    yield "float with nan", dict(data=np.array([1.5, np.nan, np.inf, -0.0]))
    yield "bool", dict(data=RNG.random(99) > 0.5, chunks=(10,))
    yield "enum", dict(data=np.array([1, 2, 2], "i2"), dtype=enum)
    yield "complex", dict(data=np.array([1 + 2j, 3 - 1j]))
    yield "compound", dict(data=table)
    yield "compound in chunks", dict(data=table, chunks=(10,), compression="gzip")
    yield "opaque", dict(data=np.array([b"abcd", b"\0xyz"], "V4"))
    yield "fixed strings", dict(data=np.array([s.encode() for s in LINES], "S160"))
    yield "text", dict(data=LINES, dtype=text)
    yield "text in chunks", dict(data=LINES, dtype=text, chunks=(2,), maxshape=(None,))
    yield "ascii text", dict(data=["a", "bb"], dtype=h5py.string_dtype("ascii"))
    yield "no text", dict(shape=(0,), dtype=text, chunks=(10,), maxshape=(None,))
    yield "no events", dict(shape=(0, 80, 250), dtype="u1", maxshape=(None, 80, 250))
    yield "no events, contiguous", dict(shape=(0, 3), dtype="f8")
    yield "scalar", dict(data=3.25)
    yield "scalar text", dict(data="hello", dtype=text)
    yield "fill value", dict(shape=(100, 4), dtype="i2", chunks=(10, 4), fillvalue=-7)
    yield "dates", {"data": np.array(["2020-01-02", "NaT"], "M8[s]").astype(h5py.opaque_dtype("M8[s]"))}
    yield "large images", {"data": RNG.integers(0, 9, (23, 300, 400), dtype="u1")}
    yield "null", dict(data=h5py.Empty("f4"))
    yield "wide", dict(data=RNG.integers(0, 9, (2, 3, 700_000), dtype="i2"))


@pytest.fixture
def files(tmp_path):
    with (
        h5py.File(tmp_path / "source.h5", "w") as source,
        h5py.File(tmp_path / "target.h5", "w") as target,
    ):
        yield source, target


def reopen(source):
    path = source.filename
    source.close()
    return h5py.File(path, "r", locking=False)


def same_content(a, b):
    """Whether two datasets hold the same content, judged by plain h5py reading."""
    if a.shape is None:
        return b.shape == (0,)
    x, y = (np.atleast_1d(d[()]) for d in (a, b))
    if h5py.check_string_dtype(a.dtype):
        return x.tolist() == y.tolist()
    return x.shape == y.shape and a.dtype == b.dtype and x.tobytes() == y.tobytes()


@pytest.mark.parametrize("encoder", ["compat", "best"])
@pytest.mark.parametrize("spec", [pytest.param(s, id=n) for n, s in cases()])
def test_copy_is_lossless(files, spec, encoder):
    source, target = files
    source.create_dataset("x", **spec)
    with reopen(source) as h5:
        done = engine.copy_dataset(h5["x"], target, "x", encoder=encoder)
        copy = target["x"]
        assert same_content(h5["x"], copy)
        assert is_properly_compressed(copy)
        assert copy.fletcher32
        assert copy.fillvalue == h5["x"].fillvalue or copy.dtype.kind in "SVO"
        assert done.digest == engine.digest_plain(h5["x"]) == engine.digest_dataset(h5["x"])
        assert done.digest == engine.digest_plain(copy) == engine.digest_dataset(copy)
        assert done.stored_bytes == copy.id.get_storage_size()
        assert done.decoded_bytes == copy.nbytes


def test_fill_value_of_missing_chunks(files):
    source, target = files
    made = source.create_dataset("x", (100, 4), "i2", chunks=(10, 4), fillvalue=-7)
    made[35:47] = 5
    done = engine.copy_dataset(made, target, "x")
    assert (target["x"][:35] == -7).all()
    assert (target["x"][35:47] == 5).all()
    assert done.digest == engine.digest_plain(target["x"])


def test_ragged(files):
    source, target = files
    kind = h5py.vlen_dtype("i4")
    made = source.create_dataset("x", (3,), kind)
    made[0], made[2] = [1, 2, 3], [4]
    done = engine.copy_dataset(made, target, "x")
    assert target["x"][0].tolist() == [1, 2, 3]
    assert done.digest == engine.digest_plain(target["x"]) == engine.digest_dataset(made)
    made[1] = [0]
    assert done.digest != engine.digest_plain(made)


def test_log_and_its_fixed_copy_have_one_digest(files):
    source, target = files
    made = source.create_dataset("x", data=LINES, dtype=h5py.string_dtype())
    engine.copy_dataset(made, target, "x")
    assert target["x"].dtype == "S154" or target["x"].dtype.itemsize >= 150
    assert h5py.check_string_dtype(target["x"].dtype).encoding == "utf-8"
    assert [v.decode() for v in target["x"][:]] == LINES
    assert engine.digest_plain(made) == engine.digest_plain(target["x"])
    made[0] = "Start"
    assert engine.digest_plain(made) != engine.digest_plain(target["x"])


@pytest.mark.parametrize("pad", [h5py.h5t.STR_NULLTERM, h5py.h5t.STR_SPACEPAD])
def test_padding_of_strings(files, pad):
    source, target = files
    kind = h5py.h5t.C_S1.copy()
    kind.set_size(4)
    kind.set_strpad(pad)
    raw = np.array([b"ab\0\0", b"abcd", b"a   "], "S4").view("V4")
    space = h5py.h5s.create_simple((3,))
    made = h5py.Dataset(h5py.h5d.create(source.id, b"x", kind, space))
    made.id.write(h5py.h5s.ALL, h5py.h5s.ALL, raw, kind)
    done = engine.copy_dataset(made, target, "x")
    assert target["x"].id.get_type() == kind
    again = np.zeros(3, "V4")
    target["x"].id.read(h5py.h5s.ALL, h5py.h5s.ALL, again, kind)
    assert again.tobytes() == raw.tobytes()
    assert done.digest == engine.digest_plain(made) == engine.digest_plain(target["x"])


def test_attributes_are_exact(files):
    source, target = files
    made = source.create_dataset("x", data=[1, 2, 3])
    made.attrs["text"] = "µm"
    made.attrs["bytes"] = np.bytes_(b"IMAGE")
    made.attrs["big-endian"] = np.array([1, 2], ">i2")
    made.attrs["empty"] = h5py.Empty("f4")
    made.attrs["list"] = ["a", "ö"]
    made.attrs["matrix"] = np.arange(6.0).reshape(2, 3)
    padded = h5py.h5t.C_S1.copy()
    padded.set_size(4)
    one = h5py.h5a.create(made.id, b"terminated", padded, h5py.h5s.create(h5py.h5s.SCALAR))
    one.write(np.array(b"abcd", "S4").view("V4"), padded)
    engine.copy_dataset(made, target, "x")
    copy = target["x"]
    assert list(copy.attrs) == list(made.attrs)
    for key in made.attrs:
        a, b = (h5py.h5a.open(d.id, key.encode()) for d in (made, copy))
        assert a.get_type() == b.get_type(), key
        assert a.get_space().shape == b.get_space().shape, key
    assert copy.attrs["text"] == "µm"
    assert copy.attrs["list"].tolist() == ["a", "ö"]
    assert copy.attrs["matrix"].tolist() == made.attrs["matrix"].tolist()
    assert copy.attrs["big-endian"].tolist() == [1, 2]
    again = np.zeros((), "V4")
    h5py.h5a.open(copy.id, b"terminated").read(again, padded)
    assert again.tobytes() == b"abcd"


def test_named_types_are_resolved(files):
    source, target = files
    source["kind"] = np.dtype("<f4")
    made = source.create_dataset("x", data=np.arange(5.0), dtype=source["kind"])
    engine.copy_dataset(made, target, "x")
    assert target["x"][:].tolist() == [0, 1, 2, 3, 4]
    assert not target["x"].id.get_type().committed()


def test_chunks_are_those_of_dclab():
    for shape in [(5000, 80, 250), (30, 80, 250), (40, 300, 400), (9000,), (200, 400)]:
        best = RTDCWriter.get_best_nd_chunks(shape[1:], np.uint8)
        assert layout.dclab_chunks(shape, 1) == (min(best[0], shape[0]), *best[1:])


def test_unknown_encoder(files):
    source, target = files
    with pytest.raises(ValueError, match=r"fast.*compat"):
        engine.copy_dataset(source.create_dataset("x", data=[1]), target, "x", encoder="fast")


def test_references_are_refused(files):
    source, target = files
    made = source.create_dataset("x", (2,), h5py.ref_dtype)
    with pytest.raises(engine.UnsupportedDataset, match=r"'/x'.*references"):
        engine.copy_dataset(made, target, "x")
    with pytest.raises(engine.UnsupportedDataset, match="references"):
        engine.digest_plain(made)
    assert "x" not in target


def test_reference_attributes_are_left_out_and_named(files):
    source, target = files
    made = source.create_dataset("x", data=[1, 2, 3])
    made.attrs["scale"], made.attrs["unit"] = made.ref, "um"
    copied = engine.copy_dataset(made, target, "x")
    assert copied.attributes_left == ("scale",)
    assert dict(target["x"].attrs) == {"unit": "um"}


def test_data_of_other_files_are_refused(files, tmp_path):
    source, target = files
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (4,))
    source.create_virtual_dataset("virtual", layout)
    source.create_dataset("external", (4,), "u1", external=[(str(tmp_path / "other.bin"), 0, 4)])
    for name in ("virtual", "external"):
        with pytest.raises(engine.UnsupportedDataset, match=r"other files|external files"):
            engine.copy_dataset(source[name], target, name)
        with pytest.raises(engine.UnsupportedDataset):
            engine.digest_dataset(source[name])


@pytest.mark.parametrize(
    "data",
    [
        np.array([b"a", b"bcd"], "S100"),
        np.arange(12.0).reshape(3, 4),
        np.zeros((0,), "S100"),
        np.array([(1, 2.5)], [("a", "i4"), ("b", "f8")]),
        np.float32(3),
    ],
    ids=["lines", "matrix", "empty", "table", "scalar"],
)
def test_write_array(files, data):
    _, target = files
    done = engine.write_array(target, "x", data)
    assert target["x"][...].tobytes() == data.tobytes()
    assert is_properly_compressed(target["x"])
    assert done.digest == engine.digest_dataset(target["x"]) == engine.digest_plain(target["x"])


def test_digest_is_stable():
    """The format is a promise: records keep digests over years."""
    with h5py.File.in_memory() as h5:
        number = h5.create_dataset("n", data=np.array([[1, 2], [3, 4]], ">i4"))
        line = h5.create_dataset("s", data=["a", "ö"], dtype=h5py.string_dtype())
        assert engine.digest_plain(number) == EXPECTED["number"]
        assert engine.digest_plain(line) == EXPECTED["line"]


def digest_by_hand(header, content):
    xxhash = pytest.importorskip("xxhash")
    return "xxh3-128:" + xxhash.xxh3_128(header + b"\0" + content).hexdigest()


EXPECTED = {
    "number": digest_by_hand(b'{"item":"<i4","shape":[2,2]}', np.array([1, 2, 3, 4], "<i4").tobytes()),
    "line": digest_by_hand(
        b'{"item":"string","shape":[2]}',
        b"\x01" + bytes(7) + b"a" + b"\x02" + bytes(7) + b"\xc3\xb6",
    ),
}
