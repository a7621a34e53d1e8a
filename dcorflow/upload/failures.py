"""The two ways in which a server says no: for now, and for good."""

from __future__ import annotations

import calendar
import random
import threading
import time
from collections.abc import Callable, Collection
from typing import TypeVar

_Result = TypeVar("_Result")
#: Pauses in seconds: the first one doubles until the longest.
_FIRST, _LONGEST = 1.0, 60.0
#: More failures than this many times the allowed row are too many, whatever works in between.
_TOTAL = 10
_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


class Passing(Exception):
    """A request failed for a reason that passes: network, overload, maintenance.

    Parameters
    ----------
    reason
        One sentence.
    pause
        Seconds that the server asks to wait.
    """

    def __init__(self, reason: str, pause: float = 0) -> None:
        super().__init__(reason)
        self.reason, self.pause = reason, pause


class Refused(Exception):
    """The server refused a request for good.

    Parameters
    ----------
    reason
        One sentence.
    status
        HTTP status.
    kind
        What CKAN calls the error; empty where something else answered.
    about
        What CKAN found wrong, by name.
    """

    def __init__(self, reason: str, status: int = 0, kind: str = "", about: Collection[str] = ()) -> None:
        super().__init__(reason)
        self.reason, self.status, self.kind, self.about = reason, status, kind, about

    @property
    def is_missing(self) -> bool:
        """Whether CKAN itself, not something before it, says that what was asked for does not exist."""
        return self.status == 404 and self.kind == "Not Found Error"


class UploadError(Exception):
    """One dataset cannot be uploaded; the text says why and what to do, in one sentence."""


class Stopped(Exception):
    """The process was told to end."""


class Patience:
    """Counts failures in a row and waits longer after each.

    Parameters
    ----------
    retries
        Failures in a row that are borne.
    say
        Is told of every failure that is borne.
    stop
        Set when the process shall end.
    """

    def __init__(self, retries: int, say: Callable[[str], None], stop: threading.Event) -> None:
        self.retries, self._say, self._stop = retries, say, stop
        self.failures = 0
        self._total, self._step = 0, ""

    def wait(self, error: Passing, step: str = "") -> None:
        """Wait after a failure; raise it where there were too many.

        Parameters
        ----------
        error
            The failure.
        step
            What failed. Another step than before is progress, and counted anew, but not for ever.
        """
        self._total += 1
        self.failures = self.failures + 1 if step == self._step else 1
        self._step = step
        if self.failures > self.retries or self._total > _TOTAL * self.retries:
            raise error
        pause = max(error.pause, min(_LONGEST, _FIRST * 2 ** (self.failures - 1)))
        pause *= random.uniform(0.8, 1.2)  # so that many clients do not come back at once
        self._say(f"{error.reason}; next try in {pause:.0f} s")
        if self._stop.wait(pause):
            raise Stopped

    def reset(self) -> None:
        """Forget failures: something worked."""
        self.failures = self._total = 0

    def insist(self, ask: Callable[[], _Result]) -> _Result:
        """Return what `ask` returns, asking again after failures that pass; only for harmless questions."""
        while True:
            try:
                answer = ask()
            except Passing as error:
                self.wait(error)
            else:
                self.reset()
                return answer


def now() -> str:
    """Return the time for ledger and receipts (UTC)."""
    return time.strftime(_FORMAT, time.gmtime())


def time_of(when: str) -> float:
    """Return a time written by `now` in seconds since 1970."""
    return calendar.timegm(time.strptime(when, _FORMAT))


def seconds_since(when: str) -> float:
    """Return how long ago a time written by `now` was."""
    return time.time() - time_of(when)
