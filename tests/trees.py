"""Trees with everything that HDF5 knows, written into a group with h5py's own calls."""

from __future__ import annotations

import ctypes
import itertools

import h5py
import hdf5plugin
import numpy as np
from h5py import h5a, h5d, h5p, h5s, h5t

from dcorflow.engine import plugins

#: Functions of HDF5 that h5py lacks.
HDF5 = ctypes.CDLL(h5py.defs.__file__)
RNG = np.random.default_rng(5)
NUMBERS = [
    "i1",
    "u1",
    "<i2",
    ">u2",
    ">i4",
    "<u8",
    ">i8",
    "<f2",
    ">f2",
    "<f4",
    ">f4",
    "f8",
    ">f8",
    "c8",
    ">c16",
]
NUMBERS += ["longdouble", "?"]
FILTERS = {
    "szip": {"compression": "szip"},
    "lzf": {"compression": "lzf"},
    "scale": {"scaleoffset": 0},
    "lz4": dict(hdf5plugin.LZ4()),
    "blosc": dict(hdf5plugin.Blosc()),
    "bitshuffle lz4": dict(hdf5plugin.Bitshuffle()),
    "bitshuffle zstd": dict(hdf5plugin.Bitshuffle(cname="zstd")),
    "bitshuffle": dict(hdf5plugin.Bitshuffle(cname="none")),
    "gzip": {"compression": "gzip"},
    "zstd": dict(hdf5plugin.Zstd(clevel=9)),
}


def low(group, name, kind, shape, raw=None, *, chunks=None, plist=None, maxshape=None):
    """Write a dataset with an exact HDF5 type and creation properties."""
    plist = plist or h5p.create(h5p.DATASET_CREATE)
    if chunks:
        plist.set_chunk(chunks)
    limits = tuple(h5s.UNLIMITED if m is None else m for m in maxshape or shape)
    space = h5s.create_simple(shape, limits) if shape else h5s.create(h5s.SCALAR)
    made = h5d.create(group.id, name.encode(), kind, space, plist)
    if raw is not None:
        made.write(h5s.ALL, h5s.ALL, raw, kind)
    return h5py.Dataset(made)


def add_attribute(item, name, kind, shape, raw=None):
    space = h5s.create_simple(shape) if shape else h5s.create(h5s.SCALAR)
    made = h5a.create(item.id, name, kind, space)
    if raw is not None:
        made.write(raw, kind)


def noise(count, kind):
    """Return any bits as elements of a type; long doubles have bytes that hold nothing."""
    if kind == "longdouble":
        return np.frombuffer(RNG.bytes(count * 10), "V10").astype("V16").view("longdouble")
    raw = RNG.integers(0, 2 if kind == "?" else 256, count * np.dtype(kind).itemsize, "u1")
    return raw.view(kind)


def numbers(g):
    for kind in NUMBERS:
        data, one = noise(37, kind), g.create_group(kind.strip("<>?") + kind[0].strip("abcdefgil"))
        one["piece"], one["scalar"], one["null"] = data, data[0], h5py.Empty(kind)
        one.create_dataset(
            "chunks", data=data, chunks=(10,), maxshape=(None,), compression="gzip", shuffle=True
        )
        one.create_dataset("nothing", (0, 3), kind, maxshape=(None, 3), chunks=(5, 3))
        one["piece"].attrs["all"], one["piece"].attrs["one"] = data[:3], data[1]


def exact_types(g):
    for number, kind in enumerate(
        [h5t.STD_B8LE, h5t.STD_B16BE, h5t.STD_B64BE, _opaque(5), _bits(h5t.STD_U16LE)]
    ):
        size = kind.get_size()
        raw = RNG.integers(0, 256, 30 * size, "u1").view(f"V{size}")
        made = low(g, f"piece{number}", kind, (30,), raw)
        low(g, f"chunks{number}", kind, (30,), raw, chunks=(7,), maxshape=(None,))
        low(g, f"scalar{number}", kind, (), raw[:1].reshape(()))
        add_attribute(made, b"a", kind, (2,), raw[:2])
    add_attribute(g, b"time", h5t.UNIX_D32LE, (), np.zeros((), "V4"))
    add_attribute(g, b"array", h5t.array_create(h5t.STD_I32BE, (2, 3)), (), np.zeros((), "V24"))
    for pad, cset in itertools.product((0, 1, 2), (0, 1)):
        kind = h5t.C_S1.copy()
        kind.set_size(6)
        kind.set_strpad(pad)
        kind.set_cset(cset)
        raw = np.array([b"ab\0cd\0", b"a     ", b"\xfc\xff\0\0  ", b"  a\0\0 "], "V6")
        made = low(g, f"text{pad}{cset}", kind, (4,), raw)
        low(g, f"lines{pad}{cset}", kind, (4,), raw, chunks=(3,), maxshape=(None,))
        add_attribute(made, b"a", kind, (4,), raw)
        add_attribute(made, b"\xfcber", kind, (), raw[:1].reshape(()))


def _opaque(size):
    kind = h5t.create(h5t.OPAQUE, size)
    kind.set_tag(b"some tag")
    return kind


def _bits(kind):
    kind = kind.copy()
    kind.set_precision(12)
    kind.set_offset(3)
    return kind


def structures(g):
    nested = [("a", "<i4"), ("b", [("c", "S3"), ("d", ">f8", (2, 2))]), ("e", "V3"), ("f", "?")]
    g["compound"] = np.zeros(5, nested)
    mixed = np.zeros(4, [("n", "i4"), ("s", h5py.string_dtype()), ("v", h5py.vlen_dtype("i2"))])
    for i in range(4):
        mixed[i] = (i, "ü" * i, np.arange(i, dtype="i2"))
    g["mixed"] = mixed
    g.create_dataset("arrays", (5,), np.dtype(("<i4", (2, 3))))[...] = RNG.integers(0, 9, (5, 2, 3))
    ragged = g.create_dataset("ragged", (9, 2), h5py.vlen_dtype("u2"), chunks=(4, 2), maxshape=(None, 2))
    for i in range(0, 9, 2):
        ragged[i, 1] = np.arange(i)
    g.create_dataset("equal lists", (3,), h5py.vlen_dtype("f4"))
    g.create_dataset("one list", (), h5py.vlen_dtype("i4"))[()] = np.arange(3, dtype="i4")
    g["kind"] = np.dtype([("a", "i4")])
    g.create_dataset("named", data=np.zeros(3, [("a", "i4")]), dtype=g["kind"])
    g["fortran"] = np.asfortranarray(RNG.integers(0, 9, (30, 20)))
    g["dimensions"] = np.ones((1,) * 32, "i1")


def texts(g):
    for name, encoding in (("utf", "utf-8"), ("ascii", "ascii")):
        made = g.create_dataset(name, (5,), h5py.string_dtype(encoding))
        made[0], made[1], made[2], made[3] = (
            b"\xff\xfe",
            "ü".encode("latin-1"),
            b"x" * 70_000,
            "größe".encode(),
        )
    g["inside"] = np.array([b"a\0b", b"\0\0c", b""], "S5")
    g["long"] = np.array([b"z" * 70_000, b"a"])
    g["scalar"], g["null"] = "hällo", h5py.Empty(h5py.string_dtype())
    g.create_dataset("rows", (3, 2), h5py.string_dtype(), chunks=(2, 2), maxshape=(None, None))[0, 1] = (
        "a" * 150
    )
    g.create_dataset("unwritten", (3,), h5py.string_dtype())


def attributes(g):
    made = g.create_dataset("x", data=[1])
    lists, words = np.empty(2, object), np.zeros(2, [("n", "i4"), ("s", h5py.string_dtype())])
    lists[:], words[0] = [np.arange(3, dtype="i4"), np.arange(1, dtype="i4")], (1, "ü")
    words[1] = (2, "")
    for item in (g, made):
        for i in range(100):
            item.attrs[f"k{i:03}"] = np.arange(i)
        item.attrs["list"], item.attrs["words"] = ["ä", "", "b"], words
        item.attrs["empty"], item.attrs["none"] = h5py.Empty("f4"), np.zeros((0, 3))
        item.attrs["no text"], item.attrs["bytes"] = h5py.Empty(h5py.string_dtype()), np.bytes_(b"\xff\xfe")
        item.attrs["nan"], item.attrs["µ \n/x"], item.attrs["large"] = np.nan, 1 + 2j, ["x" * 3000] * 40
        item.attrs.create("lists", lists, dtype=h5py.vlen_dtype("i4"))
        add_attribute(item, b"unset", h5t.py_create(h5py.string_dtype(), logical=True), (2,))


def storage(g):
    data = RNG.integers(0, 9, (20, 6)).astype("i4")
    for name, limits in (("fixed", None), ("one", (40, 6)), ("many", (None, 6)), ("tree", (None, None))):
        g.create_dataset(f"{name} whole", data=data, chunks=(20, 6), maxshape=limits)
        g.create_dataset(name, data=data, chunks=(3, 4), maxshape=limits)
        g.create_dataset(
            f"{name} gzip", data=data, chunks=(3, 4), maxshape=limits, compression="gzip", fletcher32=True
        )
    early = h5p.create(h5p.DATASET_CREATE)
    early.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    low(g, "implicit", h5t.STD_I32LE, (20, 6), data.view("V4"), chunks=(3, 4), plist=early)
    for name, raw in (("compact", np.arange(7, dtype=">i4").view("V4")), ("compact unwritten", None)):
        plist = h5p.create(h5p.DATASET_CREATE)
        plist.set_layout(h5d.COMPACT)
        low(g, name, h5t.STD_I32BE, (7,), raw, plist=plist)
    shrunk = g.create_dataset("shrunk", data=data, maxshape=(None, None), chunks=(3, 2), compression="gzip")
    shrunk.resize((5, 3))
    for (name, options), more in itertools.product(
        FILTERS.items(), ({}, {"shuffle": True}, {"fletcher32": True})
    ):
        if "fletcher32" in more and name == "scale":
            continue  # h5py refuses it
        label = f"{name} {' '.join(more)}"
        g.create_dataset(label, data=data, chunks=(16, 6), **(options | more))


def bare_edges(g):
    """Chunks at the end without filters, which no filter mask tells."""
    for number, filters in enumerate(
        [{"compression": "gzip"}, {"compression": "gzip", "fletcher32": True}, {}]
    ):
        filters = filters or dict(hdf5plugin.Zstd(clevel=5), fletcher32=True)
        plist = g.create_dataset("model", (10, 7), "i4", chunks=(4, 3), **filters).id.get_create_plist()
        del g["model"]
        assert HDF5.H5Pset_chunk_opts(ctypes.c_int64(plist.id), ctypes.c_uint(2)) >= 0
        assert not plugins.filters_edges(plist)
        low(
            g,
            f"x{number}",
            h5t.STD_I32LE,
            (10, 7),
            RNG.integers(0, 99, (10, 7), "i4").view("V4"),
            plist=plist,
        )


def fill_values(g):
    """Missing chunks, with every way to say what stands in them."""
    ways = itertools.product((0, 1, 2, 3), (0, 1, 2), (None, 7, "undefined"), (None, (3, 4)), (False, True))
    for alloc, when, fill, chunks, written in ways:
        if fill == "undefined" and when == h5d.FILL_TIME_IFSET:
            continue  # HDF5 itself does not read it
        plist = h5p.create(h5p.DATASET_CREATE)
        plist.set_alloc_time(alloc)
        plist.set_fill_time(when)
        if fill == "undefined":
            HDF5.H5Pset_fill_value(ctypes.c_int64(plist.id), ctypes.c_int64(h5t.STD_I16BE.id), None)
        elif fill is not None:
            plist.set_fill_value(np.array(fill, ">i2"))
        try:
            made = low(
                g, f"{alloc}{when}{fill}{chunks}{written}", h5t.STD_I16BE, (10, 9), chunks=chunks, plist=plist
            )
        except ValueError:
            continue  # a way that HDF5 refuses
        if written:
            made[2:5, 3:8] = 5
    kinds = {"S4": b"ab", "?": True, "c8": 1 + 2j, ">f8": np.nan, "f2": 1.5, "u8": 2**64 - 1}
    for kind, fill in kinds.items():
        g.create_dataset(f"kind {kind}", (9,), kind, chunks=(2,), fillvalue=fill, maxshape=(None,))
    table = np.dtype([("a", ">i4"), ("s", "S4")])
    g.create_dataset("table", (9,), table, chunks=(2,), fillvalue=np.array((5, b"ab"), table))[3] = (1, b"q")
    rare = [_opaque(3), h5t.STD_B16BE, h5t.array_create(h5t.STD_I32BE, (2,)), _bits(h5t.STD_U16LE)]
    for number, kind in enumerate(rare):
        plist = h5p.create(h5p.DATASET_CREATE)
        content = ctypes.create_string_buffer(b"\0\0\0\1abcd", 8)
        HDF5.H5Pset_fill_value(ctypes.c_int64(plist.id), ctypes.c_int64(kind.id), content)
        low(g, f"rare{number}", kind, (9,), chunks=(2,), plist=plist)


def links(g):
    g["x"] = np.arange(5)
    g["y"], g["soft"], g["point"] = g["x"], h5py.SoftLink("/odd/x"), h5py.SoftLink("./x")
    below = g.create_group("below", track_order=True)
    below["z"], below["up"], g["group"] = g["x"], g, h5py.SoftLink("/odd/below")
    g["self"], g["top"], g["gone"] = h5py.SoftLink("/odd/self"), h5py.SoftLink("/"), h5py.SoftLink("/gone")
    for name in ("a b", "ü", "a\nb", "-x", "%s", "x" * 300, " ", "\t", "...", "名"):
        below[name] = [1]
    g["x"].make_scale("scale")
    g["below/z"].dims[0].label = "label"
    g.create_dataset("measured", data=np.arange(5)).dims[0].attach_scale(g["x"])
    for _ in range(100):
        g = g.create_group("d")


def measurement(g):
    """What stands where a measurement has other things."""
    h5 = g.file
    logs, tables, events = (h5.require_group(name) for name in ("logs", "tables", "events"))
    logs["scalar"], logs["numbers"], logs["none"] = "a", np.arange(4), np.zeros((0,), "S10")
    logs["rows"], logs["null"], logs["sub/x"] = np.array([[b"a", b"b"]]), h5py.Empty("S3"), [b"x"]
    tables["empty"], tables["plain"], tables["sub/x"] = (
        np.zeros(0, [("a", "f8")]),
        np.arange(6).reshape(2, 3),
        [1],
    )
    events["trace/deeper/x"], events["trace/fl1_raw"] = [1], np.zeros((8, 30), "i2")
    events["contour/0"], events["contour/1"] = [[1, 2]], np.zeros((0, 2), "i4")
    features = [
        np.full(8, np.nan),
        np.array([True] * 8),
        np.array([1 + 1j] * 8),
        np.array([b"a"] * 8),
        ["ü"] * 8,
    ]
    features += [np.zeros(8, [("a", "i4")]), h5py.Empty("f4"), np.array([np.inf] * 8), np.float16([1] * 8)]
    for number, data in enumerate(features):
        events[f"userdef{number}"] = data
    h5.attrs["µ:x"], h5.attrs[":"], h5.attrs["experiment:time"] = 1, 2, h5py.Empty("f4")
    h5.attrs["setup:software version"] = np.bytes_(b"ShapeIn \xff")
    lists = np.empty(2, object)
    lists[:] = [np.arange(3, dtype="i4"), np.arange(1, dtype="i4")]
    h5.attrs.create("setup:identifier", lists, dtype=h5py.vlen_dtype("i4"))
    inside = '{"type":"internal","format":"h5dataset","mapping":"basinmap0","features":%s}'
    basins = [inside % f for f in ("[]", "null", "3", '{"a":1}', '[["x"]]', '["userdef5","nope"]')]
    basins += [
        "{}",
        "[]",
        "null",
        "no json",
        '{"type":3}',
        "[" * 2000,
        '{"type":["internal"]}',
        '{"paths":{"a":1}}',
    ]
    basins += ['{"type":"file","paths":["/etc/passwd",3,null,["a"]]}', '{"type":"file","paths":"x"}']
    for number, text in enumerate(basins):
        h5[f"basins/{number}"] = np.array([text.encode()], "S3000")
        h5[f"basins/{number}"].attrs["kept"] = number
    h5["basins/group/x"], h5["basins/table"] = [1], np.zeros(2, [("a", "S2")])
    h5["basin_events/userdef5"] = np.arange(4.0)


def nested_lists(g):
    low(g, "x", h5t.vlen_create(h5t.vlen_create(h5t.STD_I32LE)), (3,))


def foreign_lists(g):
    g.create_dataset("x", (4,), h5py.vlen_dtype(">i4"))[0] = [1, 2]


def attribute_of_lists_of_text(g):
    add_attribute(g, b"x", h5t.vlen_create(h5t.py_create(h5py.string_dtype(), logical=True)), (2,))


def time_type(g):
    low(g, "x", h5t.UNIX_D32LE, (5,), np.zeros(5, "V4"))


def three_bytes(g):
    kind = h5t.STD_I32LE.copy()
    kind.set_precision(24)
    kind.set_size(3)
    low(g, "x", kind, (5,), np.zeros(5, "V3"))


def undefined(g):
    plist = h5p.create(h5p.DATASET_CREATE)
    HDF5.H5Pset_fill_value(ctypes.c_int64(plist.id), ctypes.c_int64(h5t.STD_I32LE.id), None)
    low(g, "x", h5t.STD_I32LE, (5,), plist=plist)


def name_in_latin_1(g):
    h5py.h5g.create(g.id, b"gr\xfc\xdfe")


def multiplied_links(g):
    for _ in range(40):
        below = g.create_group("a")
        g["b"] = below
        g = below
