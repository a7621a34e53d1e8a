"""Make this checkout's package and its command `dcorflow` available in the environment that runs this."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMAND = """\
#!{python}
import sys

from dcorflow.__main__ import main

sys.exit(main())
"""


def main() -> None:
    """Write a path file and a start script."""
    Path(sysconfig.get_path("purelib"), "dcorflow.pth").write_text(f"{ROOT}\n", encoding="utf-8")
    command = Path(sysconfig.get_path("scripts"), "dcorflow")
    command.write_text(COMMAND.format(python=sys.executable), encoding="utf-8")
    command.chmod(0o755)


if __name__ == "__main__":
    main()
