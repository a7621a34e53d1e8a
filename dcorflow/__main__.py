"""Run the command line: ``dcorflow``, or ``python -m dcorflow``."""

import os

# Nothing here multiplies matrices: to start NumPy's threads for it takes time and memory.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from dcorflow.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
