"""Prepared files open in the programs that people use: h5py, dclab, dcnum, HDF5's own tools."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import debian
import h5py
import hdf5plugin
import numpy as np
import pytest
from demo_data import write_measurement

from dcorflow.compress.single import compress_file
from dcorflow.hdf5 import members

#: The reader of another program for such files; installed by its test.
DCNUM = "dcnum==0.31.0"


@pytest.fixture(scope="module", params=["compat", "best"])
def pair(request, tmp_path_factory) -> tuple[Path, Path]:
    """Give a measurement with all kinds of features, and its prepared file."""
    folder = tmp_path_factory.mktemp(request.param)
    write_measurement(folder / "source.rtdc", events=60)
    compress_file(folder / "source.rtdc", folder / "prepared.rtdc", request.param, False, 2)
    return folder / "source.rtdc", folder / "prepared.rtdc"


def test_plain_h5py(pair):
    source, prepared = pair
    code = (
        "import sys, h5py, hdf5plugin\n"
        "with h5py.File(sys.argv[1]) as h5:\n"
        "    h5.visititems(lambda n, o: o[()] if isinstance(o, h5py.Dataset) else None)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(prepared)], check=True, timeout=60)
    with h5py.File(source) as ours, h5py.File(prepared) as theirs:
        for name in ("events/image", "events/mask", "events/deform", "events/trace/fl1_raw"):
            assert np.array_equal(ours[name][:], theirs[name][:])


def test_dclab_verify_dataset(pair):
    program = Path(sys.executable).with_name("dclab-verify-dataset")
    done = subprocess.run([str(program), str(pair[1])], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert "0 violations and 0 alerts" in done.stdout and "Compression: All" in done.stdout


@pytest.fixture
def h5dump(missing) -> str:
    """Give h5dump; in CI, Debian's package is installed where it is missing."""
    program = debian.program("h5dump", "hdf5-tools")
    return program or missing("h5dump is not installed (apt install hdf5-tools)")


def test_h5dump(pair, tmp_path, h5dump):
    program = h5dump
    environment = os.environ | {"HDF5_PLUGIN_PATH": hdf5plugin.PLUGINS_PATH}
    with h5py.File(pair[1]) as h5:
        numbers = [e.path for e in members(h5) if e.kind == "dataset" and h5[e.path].dtype.kind in "iuf"]
        assert len(numbers) > 10
        for name in numbers:
            out = tmp_path / "values"
            command = [program, "-d", f"/{name}", "-b", "LE", "-o", str(out), str(pair[1])]
            subprocess.run(command, check=True, capture_output=True, env=environment, timeout=60)
            values = h5[name][:]
            assert out.read_bytes() == values.astype(values.dtype.newbyteorder("<")).tobytes(), name


@pytest.fixture
def dcnum(tmp_path_factory, missing) -> str:
    """Give a folder with dcnum, without what it needs to segment images: only its reader is used."""
    folder = tmp_path_factory.getbasetemp() / "dcnum"
    if (folder / "dcnum").is_dir():
        return str(folder)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check"]
    command += ["--retries", "1", "--target", str(folder), DCNUM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return str(folder) if done.returncode == 0 else missing(f"pip cannot install {DCNUM}: {done.stderr}")


READ_WITH_DCNUM = """
import sys
import h5py, numpy
from dcnum.read import HDF5Data
with HDF5Data(sys.argv[2]) as data, h5py.File(sys.argv[1]) as source:
    assert len(data) == len(source["events/deform"])
    for name in ("image", "mask"):
        assert numpy.array_equal(getattr(data, name)[:], source["events"][name][:] != 0 if name == "mask"
                                 else source["events"][name][:]), name
    assert numpy.array_equal(data["deform"], source["events/deform"][:])
"""


def test_dcnum(pair, dcnum):
    command = [sys.executable, "-c", READ_WITH_DCNUM, *map(str, pair)]
    environment = os.environ | {"PYTHONPATH": dcnum}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr


def test_strips(tmp_path, h5dump):
    """A file whose images are stored in strips: h5dump and a plain reader see the same images."""
    source, prepared = tmp_path / "source.rtdc", tmp_path / "prepared.rtdc"
    write_measurement(source, events=400)
    compress_file(source, prepared, "compat", False, 2)
    out = tmp_path / "values"
    command = [h5dump, "-d", "/events/image", "-b", "LE", "-o", str(out), str(prepared)]
    environment = os.environ | {"HDF5_PLUGIN_PATH": hdf5plugin.PLUGINS_PATH}
    subprocess.run(command, check=True, capture_output=True, env=environment, timeout=60)
    with h5py.File(source) as ours, h5py.File(prepared) as theirs:
        image, copy = ours["events/image"], theirs["events/image"]
        assert copy.chunks[1] < image.shape[1]
        assert np.array_equal(image[:], copy[:])
        assert out.read_bytes() == image[:].tobytes()
