"""dclab as far as it is needed: its definitions alone, or all of it with the rest loaded on demand.

`import dclab` loads all of its analysis code (1.5 s of CPU, 100 MB). Planning and compressing need
the definitions of features and metadata only, which depend on numpy alone. They are loaded from the
installed package under a name of their own, with empty stand-ins for the packages around them.

Checking and converting need the real dclab, but hardly ever the scipy that it imports for plots and
fits, or what reads `.tdms` and from the network. These take most of the time and half of the memory:
`load_dclab` leaves them for later.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import sys
import threading
import types
from collections.abc import Iterator, Sequence
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


def _version(package: str) -> str:
    from importlib.metadata import version  # takes as long to be imported as all parts of dclab together

    return version(package)


@cache
def dclab_version() -> str:
    """Return the version of the installed dclab, without importing it."""
    with contextlib.suppress(ImportError, AttributeError):
        return str(_part("._version").version)
    return _version("dclab")


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


#: Only one thread may import dclab at a time: its modules import each other in circles.
_LOADING = threading.Lock()
#: dclab's modules for data on servers; their basins are known once these are imported, which no file
#: that is checked or converted may bring about.
_REMOTE = tuple(f"dclab.rtdc_dataset.fmt_{name}" for name in ("dcor", "http", "s3"))
#: What is loaded when it is first used.
_HEAVY = ("scipy", "imageio", "nptdms", *_REMOTE)


def load_dclab() -> None:
    """Import dclab; scipy and others follow where something of them is used.

    Everything in dclab does what it always does: its names of these are stand-ins that load the real
    thing. Where dclab came to use them in a way that stand-ins cannot serve, it is imported as usual.
    """
    with _LOADING:
        if "dclab" in sys.modules:
            return
        before = set(sys.modules)
        try:
            with _heavy_later():
                importlib.import_module("dclab")
        except (AttributeError, ImportError, TypeError):
            for name in set(sys.modules) - before:
                if name.partition(".")[0] == "dclab":
                    del sys.modules[name]
            importlib.import_module("dclab")


@contextlib.contextmanager
def _heavy_later() -> Iterator[None]:
    """Let imports of what is heavy give stand-ins; the next import outside gives the real package."""
    finder = _LaterFinder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        finder.importing = False
        for name in finder.given:
            stand_in = sys.modules.pop(name, None)
            parent, _, child = name.rpartition(".")
            package = sys.modules.get(parent)
            if package is not None and vars(package).get(child) is stand_in:
                delattr(package, child)


class _LaterFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds what is heavy and its parts, and gives stand-ins for them."""

    def __init__(self) -> None:
        self.importing = True
        self.given: list[str] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not any(fullname == name or fullname.startswith(f"{name}.") for name in _HEAVY):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        self.given.append(spec.name)
        return _LaterModule(spec.name, self)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing is loaded yet."""


class _LaterModule(types.ModuleType):
    """Stands for a module: gives names to those who import them, and what they name to others."""

    def __init__(self, name: str, finder: _LaterFinder) -> None:
        super().__init__(name)
        self._finder = finder

    def __getattr__(self, name: str) -> Any:
        if name == "__version__":
            return _version(self.__name__.partition(".")[0])
        if name.startswith("__"):
            raise AttributeError(name)
        later = _Later(self.__name__, name)
        return later if self._finder.importing else later.real()


class _Later:
    """Stands for a function, class or module in a module that is not loaded yet."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def real(self) -> Any:
        """Load what this stands for."""
        return getattr(importlib.import_module(self._module), self._name)

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        return self.real()(*arguments, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real(), name)
