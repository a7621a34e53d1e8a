"""The token of a DCOR user: known to the head and to what it starts on its own machine, not to jobs.

A scheduler keeps the whole environment of whoever submits a job, on disk and on every node. So the
head takes the token out of its environment and holds it in memory, where only processes of the same
user on the same machine find it, and only while the head lives.
"""

from __future__ import annotations

import os

#: The variable that a user sets, and the one that tells where the token is while a head runs.
VARIABLE, PLACE = "DCOR_API_TOKEN", "DCORFLOW_TOKEN_AT"


def hide_token() -> None:
    """Take the token out of the environment (Linux; elsewhere do nothing)."""
    if VARIABLE not in os.environ or not hasattr(os, "memfd_create"):
        return
    handle = os.memfd_create("dcorflow-token")
    os.write(handle, os.environ.pop(VARIABLE).encode())
    os.environ[PLACE] = f"/proc/{os.getpid()}/fd/{handle}"
