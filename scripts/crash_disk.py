"""A file system of its own whose power can be cut: what was not synced is lost, as after a power loss.

An ext4 in a file, mounted through a loop device. `EXT4_IOC_SHUTDOWN` stops it at once: data that was
not written back and changes that are not in its journal are gone at the next mount. Writing back and
the journal's own commits are put off as far as possible, and the mount option `noauto_da_alloc`
takes away the kernel's help for programs that rename without a sync.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import struct
import subprocess
import time
from pathlib import Path

#: _IOR('X', 125, __u32) and its value "do not write the journal", linux/ext4.h.
_SHUTDOWN, _NO_LOG_FLUSH = 0x8004587D, 2
_OPTIONS = "loop,noatime,commit=3600,noauto_da_alloc"
_MEGABYTES = 1024


class Disk:
    """A mounted file system in the file `image`; for root on Linux.

    Raises
    ------
    OSError
        Where this machine does not allow it; says why.
    """

    def __init__(self, image: Path, place: Path) -> None:
        self.image, self.place = image, place
        for program in ("mkfs.ext4", "mount", "umount"):
            if shutil.which(program) is None:
                raise OSError(f"{program} is not installed")
        if os.geteuid() != 0:
            raise OSError("needs root, to mount a file system")
        with image.open("wb") as stream:
            stream.truncate(_MEGABYTES << 20)
        _do("mkfs.ext4", "-q", "-F", "-m", "0", str(image))
        place.mkdir(exist_ok=True)
        self._mount()

    def _mount(self) -> None:
        _do("mount", "-o", _OPTIONS, str(self.image), str(self.place))

    def sync(self) -> None:
        """Bring everything to the disk."""
        handle = os.open(self.place, os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(handle):
                raise OSError(ctypes.get_errno(), "syncfs failed", str(self.place))
        finally:
            os.close(handle)

    def cut(self) -> None:
        """Cut the power: nothing is written from now on, and what was not synced is lost."""
        handle = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(handle)

    def restore(self) -> None:
        """Mount again after `cut`, when no process uses it any more."""
        self.unmount()
        self._mount()

    def unmount(self) -> None:
        """Take it away."""
        for _ in range(100):
            try:
                _do("umount", str(self.place))
                return
            except OSError:
                time.sleep(0.1)  # a process is still ending
        _do("umount", str(self.place))

    def remove(self) -> None:
        """Take it away and remove the image."""
        self.unmount()
        self.image.unlink()


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{command[0]}: {' '.join(done.stderr.split()) or 'failed'}")
