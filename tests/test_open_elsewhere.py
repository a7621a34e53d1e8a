"""Prepared files open in the programs that people use: h5py, dclab, dcnum, HDF5's own tools."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest
from demo_data import write_measurement

from dcorflow.compress.single import compress_file
from dcorflow.hdf5 import members


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


def test_h5dump(pair, tmp_path):
    program = shutil.which("h5dump")
    if program is None:
        pytest.skip("h5dump is not installed (apt install hdf5-tools)")
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


def test_dcnum(pair):
    read = pytest.importorskip("dcnum.read", reason="dcnum is not installed (pip install dcnum)")
    with read.HDF5Data(pair[1]) as data, h5py.File(pair[0]) as source:
        assert len(data) == 60
        assert np.array_equal(data.image[:], source["events/image"][:])
        assert np.array_equal(data["deform"], source["events/deform"][:])
