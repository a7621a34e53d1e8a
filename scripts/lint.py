"""Run `snakemake --lint` on the workflow with the commented example configuration."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Return the exit code of the linter."""
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        (work / "measurements").mkdir()
        example = (ROOT / "config" / "config.yaml").read_text(encoding="utf-8")
        (work / "config.yaml").write_text(example.replace("path/to/", ""), encoding="utf-8")
        command = [sys.executable, "-m", "snakemake", "--lint", "--snakefile", str(ROOT / "Snakefile")]
        command += ["--directory", scratch, "--configfile", str(work / "config.yaml")]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
