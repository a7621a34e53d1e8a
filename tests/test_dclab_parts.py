"""dclab without the libraries that it hardly needs answers as it does with it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import recipes
from demo_data import write_measurement
from demo_tdms import write_tdms
from runs import REPOSITORY

#: Answers of dclab, those that need scipy among them, after an import of one kind or the other.
ASK = """
import json, sys
from pathlib import Path
if sys.argv[1] == "light":
    from dcorflow.dclab_parts import load_dclab
    load_dclab()
import dclab
import numpy as np
loaded = {m.partition(".")[0] for m in sys.modules}
for heavy in ("scipy", "requests", "nptdms"):
    assert (heavy in loaded) == (sys.argv[1] != "light")
from dcorflow.integrity import read_cues
folder = Path(sys.argv[2])
answers = {p.name: sorted(map(str, read_cues(p, "source"))) for p in sorted(folder.glob("*.*"))}
random = np.random.default_rng(1)
area, deform = random.uniform(50, 150, 80), random.uniform(0.01, 0.1, 80)
answers["density"] = dclab.kde_methods.kde_gauss(area, deform).tolist()
answers["width"] = dclab.kde.binning.bin_width_doane(area)
answers["hull"] = dclab.features.inert_ratio.get_inert_ratio_cvx(
    [np.array([[1, 1], [1, 5], [3, 9], [6, 5], [6, 1], [3, 2]])]).tolist()
import scipy.interpolate
assert isinstance(scipy.interpolate.RectBivariateSpline, type)
assert dclab.features.emodulus.spint.griddata is scipy.interpolate.griddata
import dclab.http_utils, requests
assert issubclass(dclab.http_utils.ResoluteRequestsSession, requests.Session)
try:
    dclab.new_dataset("https://127.0.0.1:9/api/3/action/dcserv?id=00000000-0000-0000-0000-000000000000")
except Exception as error:
    answers["unreachable"] = type(error).__name__
assert dclab.rtdc_dataset.fmt_dcor.RTDC_DCOR.__module__ == "dclab.rtdc_dataset.fmt_dcor.base"
print(json.dumps(answers))
"""
#: An import in which dclab uses scipy as stand-ins cannot serve.
ODD = """
import importlib.abc, sys
from dcorflow import dclab_parts

def refuse(self, *arguments):
    raise TypeError("not to be called while importing")

dclab_parts._LaterModule.__getattr__ = refuse
dclab_parts.load_dclab()
import dclab, scipy.stats
assert dclab.kde.binning.skew is scipy.stats.skew
assert dclab.rtdc_dataset.RTDCBase is sys.modules["dclab.rtdc_dataset.core"].RTDCBase
"""


def run(*arguments: str) -> str:
    command = [sys.executable, "-c", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dclab")
    recipes.small_measurement(folder / "small.rtdc")
    write_measurement(folder / "fluorescence.rtdc", 8)
    recipes.text_file(folder / "bad.rtdc")
    recipes.corrupt_chunk(folder / "worse.rtdc")
    write_tdms(folder, "M1_data", events=4)
    return folder


def test_the_same_answers(folder):
    light, whole = (json.loads(run(ASK, way, str(folder))) for way in ("light", "whole"))
    assert light == whole
    assert len(light) > 8 and light["small.rtdc"] and light["M1_data.tdms"]


def test_where_stand_ins_do_not_serve_dclab_is_imported_as_usual():
    run(ODD)
