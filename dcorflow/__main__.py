"""Run the command line with ``python -m dcorflow``."""

import os

# Nothing here multiplies matrices: to start NumPy's threads for it takes time and memory.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from dcorflow.cli import main

raise SystemExit(main())
