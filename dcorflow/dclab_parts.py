"""Parts of dclab without the rest: its definitions, at a tenth of the time of `import dclab`.

`import dclab` loads all of its analysis code (1.5 s of CPU, 100 MB). Planning and compressing need
the definitions of features and metadata only, which depend on numpy alone. They are loaded from the
installed package under a name of their own, with empty stand-ins for the packages around them.
"""

from __future__ import annotations

import importlib
import sys
import types
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

_ALIAS = "_dcorflow_dclab"
_STAND_INS = (
    "",
    ".rtdc_dataset",
    ".rtdc_dataset.fmt_hdf5",
    ".external",
    ".features",
    ".features.emodulus",
)


@cache
def _part(name: str) -> Any:
    spec = PathFinder.find_spec("dclab")
    if spec is None or spec.origin is None:
        raise ImportError("dclab is not installed; install what requirements.lock lists")
    home = Path(spec.origin).parent
    for package in _STAND_INS:
        if _ALIAS + package not in sys.modules:
            stand_in = types.ModuleType(_ALIAS + package)
            stand_in.__path__ = [str(home.joinpath(*package.split(".")))]
            sys.modules[_ALIAS + package] = stand_in
    return importlib.import_module(_ALIAS + name)


def definitions() -> Any:
    """Return the module `dclab.definitions`."""
    return _part(".definitions")


def defective_features() -> Any:
    """Return `dclab.rtdc_dataset.fmt_hdf5.feat_defect.DEFECTIVE_FEATURES`.

    A mapping from the name of a feature to a function of an open file that tells whether its values
    are known to be wrong.
    """
    return _part(".rtdc_dataset.fmt_hdf5.feat_defect").DEFECTIVE_FEATURES


def known_media() -> list[str]:
    """Return `dclab.features.emodulus.viscosity.KNOWN_MEDIA`, spelled as dclab's own names are."""
    part = _part(".features.emodulus.viscosity")
    names = {name for same in part.SAME_MEDIA.values() for name in same}
    return sorted(names, key=str.lower)
