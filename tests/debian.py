"""Programs of Debian that tests need, installed where they are missing and that is possible."""

from __future__ import annotations

import os
import shutil
import subprocess


def program(name: str, package: str) -> str | None:
    """Return the path of a program, from a package that is installed as root in CI; None without it."""
    path = shutil.which(name)
    if path is None and os.geteuid() == 0 and shutil.which("apt-get") and os.environ.get("CI"):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", package]):
            # Another test process may be installing something, too.
            wait = "-oDPkg::Lock::Timeout=600"
            subprocess.run(
                ["apt-get", "-qq", wait, *command], check=False, capture_output=True, env=environment
            )
        path = shutil.which(name)
    return path
