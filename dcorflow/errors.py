"""The two kinds of trouble: a mistake of the user, and a problem of one measurement."""

from __future__ import annotations

import errno
from typing import Literal

#: ``content``: the file itself, tried again only when source or recipe changes; ``unfit``: likewise,
#: DCOR-Aid would refuse it; ``environment``: disk, network, permission; tried again at every run.
FailureClass = Literal["content", "unfit", "environment"]

# What the operating system says when the machine, not the measurement, is at fault.
_OS_WORDS = {
    errno.ENOSPC: "the disk is full; make room and run again",
    errno.EDQUOT: "the disk quota is used up; make room and run again",
    errno.EACCES: "no permission to read it; ask its owner, then run again",
    errno.EPERM: "the operation is not permitted here; check the permissions, then run again",
    errno.ENOENT: "it vanished while dcorflow was working; run again",
    errno.EROFS: "the results folder is read-only; make it writable, then run again",
    errno.EFBIG: "the file would be larger than allowed (ulimit -f, or the file system's limit); "
    "raise the limit and run again",
    errno.EIO: "the disk or network share reported a read error; check it, then run again",
    errno.ESTALE: "the network share lost the file (stale handle); run again",
    errno.ENAMETOOLONG: "a file name is too long for this file system; use a shorter work directory",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n) and run again",
    errno.ENOMEM: "not enough memory; free some and run again",
}


class UsageError(Exception):
    """The user asked for something that cannot be done (exit code 64); the text says what to do."""


class MeasurementError(Exception):
    """One measurement cannot be prepared.

    Parameters
    ----------
    reason
        One sentence for the person who measured: what was expected, found, and what to do.
    failure
        Class of the failure.
    """

    def __init__(self, reason: str, failure: FailureClass = "content") -> None:
        super().__init__(reason)
        self.reason = reason
        self.failure: FailureClass = failure


def is_interrupt(error: BaseException) -> bool:
    """Return whether somebody ends the process; dclab derives errors of its own from `BaseException`, too."""
    return isinstance(error, (KeyboardInterrupt, SystemExit, GeneratorExit))


def os_error_code(error: OSError | RuntimeError) -> int | None:
    """Return the number of the system's error, None where it is none.

    h5py raises `OSError` and `RuntimeError` for damaged files, too; those carry no `errno` of the
    system, or only inside their text.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    known = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE)
    return next((code for code in known if f"errno = {code}," in str(error)), None)


def explain_os_error(error: OSError | RuntimeError) -> str | None:
    """Return a plain sentence for an operating system error, None where it is no such error."""
    code = os_error_code(error)
    if code is None:
        return None
    words = _OS_WORDS.get(code)
    return words if words else None
