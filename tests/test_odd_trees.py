"""Trees with everything that HDF5 knows: the prepared file holds the same, compared by plain h5py."""

from __future__ import annotations

import warnings

import h5py
import numpy as np
import pytest
import recipes
import trees
from h5py import h5a, h5d, h5s, h5t

from dcorflow.compress.single import compress_file
from dcorflow.compress.verify import verify
from dcorflow.errors import MeasurementError

FILES = {
    "latest": {"libver": "latest"},
    "pages": {"fs_strategy": "page", "fs_persist": True, "fs_page_size": 4096},
    "free space": {"fs_strategy": "fsm", "fs_persist": True, "libver": "latest"},
    "userblock": {"userblock_size": 2048},
    "order": {"track_order": True, "libver": "latest"},
}
TREES = [
    trees.numbers,
    trees.exact_types,
    trees.structures,
    trees.texts,
    trees.attributes,
    trees.storage,
    trees.bare_edges,
    trees.fill_values,
    trees.links,
    trees.measurement,
]


def write(path, tree, **options):
    """Write a small measurement with a tree of something in the group `odd`."""
    with recipes.copied(path, **options) as h5:
        tree(h5.create_group("odd"))
    return path


@pytest.mark.parametrize(
    ("tree", "encoder"), [*((t, "compat") for t in TREES), (trees.numbers, "best"), (trees.storage, "best")]
)
def test_trees(tmp_path, tree, encoder):
    equal_after_compress(write(tmp_path / "a.rtdc", tree), tmp_path / "out.rtdc", encoder)


@pytest.mark.parametrize("name", FILES)
def test_files(tmp_path, name):
    def tree(g):
        for part in (trees.storage, trees.links, trees.texts):
            part(g.file.create_group(part.__name__) if part is not trees.links else g)

    path = write(tmp_path / "a.rtdc", tree, **FILES[name])
    if name == "userblock":
        with path.open("r+b") as stream:
            stream.write(b"userblock" * 200)
    equal_after_compress(path, tmp_path / "out.rtdc", "compat")
    if name == "userblock":
        assert (tmp_path / "out.rtdc").read_bytes()[:2048] == path.read_bytes()[:2048]


def equal_after_compress(path, out, encoder):
    before = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record = compress_file(path, out, encoder, False, 1)
        assert verify(out, path) == []
    dropped = {d["what"] for d in record.body["dropped"]}
    left = (
        dropped
        | {f"/@{e['key']}" for e in record.edits}
        | {c["what"] for c in record.body["changed"] if "basins/" in c["what"]}
    )
    left |= {f"{a['what']}@{n}" for a in record.body["added"] for n in a["how"].split(", ")}
    with h5py.File(path) as source, h5py.File(out) as copy:
        assert list(differences(source.id, copy.id, "", left)) == []
    assert path.read_bytes() == before


def differences(source, copy, path, left):
    """Yield what differs, looked at with HDF5's own types and bytes."""
    yield from attribute_differences(source, copy, path or "/", left)
    for raw in set(source) | set(copy):
        name = f"{path}/{raw.decode()}".lstrip("/")
        if name in left or name == "logs/dcorflow-history":
            continue
        if raw not in source or raw not in copy:
            yield f"only one has {name}"
            continue
        one, other = (h5py.h5o.open(group, raw) for group in (source, copy))
        if type(one) is not type(other):
            yield f"{name} is another kind of thing"
        elif isinstance(one, h5py.h5g.GroupID):
            yield from differences(one, other, name, left)
        else:
            yield from attribute_differences(one, other, name, left)
            yield from data_differences(one, other, name)


def attribute_differences(source, copy, path, left):
    names = [{h5a.open(x, index=i).name for i in range(h5a.get_num_attrs(x))} for x in (source, copy)]
    for name in names[0] | names[1]:
        place = f"{path}@{name.decode('utf-8', 'replace')}"
        if place in left:
            continue
        if not all(name in found for found in names):
            yield f"only one has {place}"
            continue
        one, other = (h5a.open(x, name) for x in (source, copy))
        if one.get_type() != other.get_type() or one.shape != other.shape:
            yield f"type or shape of {place}"
        elif one.get_space().get_simple_extent_type() != other.get_space().get_simple_extent_type():
            yield f"space of {place}"
        elif one.shape is not None and content(one, lambda i, *a: i.read(*a)) != content(
            other, lambda i, *a: i.read(*a)
        ):
            yield f"content of {place}"


def data_differences(source, copy, name):
    null = source.get_space().get_simple_extent_type() == h5s.NULL
    shape = (0,) if null else source.shape or (1,)
    kind = source.get_type()
    flexible = isinstance(kind, h5t.TypeStringID) and kind.is_variable_str()
    if copy.shape != shape:
        yield f"shape of {name}"
    elif flexible and kind.get_cset() != copy.get_type().get_cset():
        yield f"character set of {name}"
    elif not flexible and kind != copy.get_type():
        yield f"type of {name}"
    elif not null:
        read = lambda i, *a: i.read(h5s.ALL, h5s.ALL, *a)  # noqa: E731
        if content(source, read) != content(copy, read):
            yield f"content of {name}"
    filters = copy.get_create_plist()
    if filters.get_filter_by_id(32015)[1][0] < 5:
        yield f"compression of {name}"
    if not pointers(copy.get_type()) and filters.get_filter_by_id(h5py.h5z.FILTER_FLETCHER32) is None:
        yield f"checksum of {name}"


def pointers(kind):
    if isinstance(kind, h5t.TypeStringID):
        return kind.is_variable_str()
    if isinstance(kind, h5t.TypeCompoundID):
        return any(pointers(kind.get_member_type(i)) for i in range(kind.get_nmembers()))
    return kind.get_class() == h5t.VLEN


def content(item, read):
    """Return all that an attribute or dataset holds, as bytes or nested lists."""
    kind, string = item.get_type(), h5py.check_string_dtype(item.dtype) if _has_dtype(item) else None
    if pointers(kind):
        values = np.zeros(item.shape, item.dtype)
        read(item, values)
        return [plain(v) for v in values.reshape(-1)]
    raw = np.zeros(item.shape, f"V{kind.get_size()}")
    if raw.size:
        read(item, raw, kind)
    if string is not None and isinstance(item, h5d.DatasetID) and kind.get_size() >= 100:
        return [bytes(v).rstrip(b"\0") for v in raw.reshape(-1)]
    return raw.tobytes()


def _has_dtype(item):
    try:
        return item.dtype is not None
    except TypeError:
        return False


def plain(value):
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, np.void):
        return [plain(value[n]) for n in value.dtype.names]
    if isinstance(value, np.generic):
        return value.tobytes()
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value or b""


REFUSED = {
    trees.nested_lists: "'/odd/x'.*within each other",
    trees.foreign_lists: "'/odd/x'.*another byte order",
    trees.attribute_of_lists_of_text: "'/odd'.*attribute 'x'.*within each other",
    trees.time_type: "'/odd/x'.*TypeTimeID",
    trees.three_bytes: "'/odd/x'.*<i3",
    trees.undefined: "'/odd/x' cannot be read.*no data can be read",
    trees.name_in_latin_1: r"odd/gr\\xfc\\xdfe.*UTF-8",
    trees.multiplied_links: "objects in one file",
}


@pytest.mark.parametrize("tree", REFUSED)
def test_what_cannot_be_read_is_refused_by_name(tmp_path, tree):
    path = write(tmp_path / "a.rtdc", tree)
    with pytest.raises(MeasurementError, match=REFUSED[tree]) as caught:
        compress_file(path, tmp_path / "out.rtdc", "compat", False, 1)
    assert caught.value.failure != "environment"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.rtdc"]
