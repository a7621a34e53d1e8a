"""Run the command line with ``python -m dcorflow``."""

from dcorflow.cli import main

raise SystemExit(main())
