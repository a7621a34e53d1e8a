"""Let the Snakemake of a job start without pandas: a fifth of the CPU time of its start.

Snakemake loads all executor plugins that are installed, and the one for Slurm imports pandas, which
only the head needs, and only for a report on efficiency. Python imports this module at its start where
its folder is in PYTHONPATH (`dcorflow.run.path_of_jobs`). pandas is loaded as soon as something of it
is used.
"""

import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from pathlib import Path


class _Pandas:
    """Finds pandas, and puts off to load it."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name) if name == "pandas" else None
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


def _next_one() -> None:
    """Import the module of this name that stands in the way of nobody but for this one."""
    here = str(Path(__file__).parent)
    paths, mine = sys.path[:], sys.modules.pop(__name__)
    sys.path[:] = [path for path in paths if path != here]
    try:
        import sitecustomize  # noqa: F401
    except ImportError:
        sys.modules[__name__] = mine
    finally:
        sys.path[:] = paths


if sys.orig_argv[1:3] == ["-m", "snakemake"]:
    sys.meta_path.insert(0, _Pandas)  # type: ignore[arg-type]
_next_one()
