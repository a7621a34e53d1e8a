"""Let the disk begin with what was written while the rest is still being encoded."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import h5py

#: Bytes after which the system is asked to begin. Left to itself it waits for half a minute, or for the
#: sync at the end, which then takes as long as all data need.
STEP_BYTES = 16 * 2**20
#: `SYNC_FILE_RANGE_WRITE` of Linux, see sync_file_range(2): begin, and do not wait.
_WRITE = 2


@functools.cache
def _function() -> Any:
    """Return `sync_file_range` of the C library, None where there is none."""
    try:
        function = ctypes.CDLL(None).sync_file_range
    except (OSError, AttributeError, TypeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return function


class Early:
    """Begins to write a file to the disk each time that some megabytes were added.

    Parameters
    ----------
    file
        Open for writing; with another driver than plain files nothing happens.
    """

    def __init__(self, file: h5py.File) -> None:
        self._file = file
        self._waiting = 0

    @functools.cached_property
    def _handle(self) -> int | None:
        plain = self._file.id.get_access_plist().get_driver() == h5py.h5fd.SEC2
        return int(self._file.id.get_vfd_handle()) if plain and _function() is not None else None

    def wrote(self, count: int) -> None:
        """Note that `count` bytes were added."""
        self._waiting += count
        if self._waiting >= STEP_BYTES:
            self.begin()

    def begin(self) -> None:
        """Begin now, with everything that the file has. Errors show in the sync at the end."""
        if self._waiting and self._handle is not None:
            _function()(self._handle, 0, 0, _WRITE)
        self._waiting = 0
