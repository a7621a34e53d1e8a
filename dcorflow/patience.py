"""End this process where HDF5 does not come back: a damaged file can lead it round in a circle.

Seen with HDF5 2.0: zeroed bytes in a heap of texts of variable length. HDF5 then holds Python's lock,
so that no signal handler and no thread of Python can do it.
"""

from __future__ import annotations

import contextlib
import faulthandler
from collections.abc import Iterator

#: Seconds that any file may take, and bytes per second that even a slow network share brings.
SECONDS = 900.0
BYTES_PER_SECOND = 1e6
_STDERR = 2


@contextlib.contextmanager
def patience(size: int) -> Iterator[None]:
    """End the process with exit code 1 and the place in the code where the block takes too long.

    Parameters
    ----------
    size
        Bytes that are read in it.
    """
    faulthandler.dump_traceback_later(SECONDS + size / BYTES_PER_SECOND, exit=True, file=_STDERR)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
