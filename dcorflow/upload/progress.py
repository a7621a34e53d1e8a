"""How far an upload is: lines in a log, a bar on a terminal; and not faster than allowed."""

from __future__ import annotations

import sys
import threading
import time
from typing import TextIO

from dcorflow.upload.failures import Stopped
from dcorflow.wording import duration, size_text

#: Seconds between two lines in a log, and between two drawings of the bar.
_LOG_PAUSE, _BAR_PAUSE = 30.0, 0.5
_BAR_WIDTH = 24


class Meter:
    """Counts the bytes of one dataset, from several threads.

    Parameters
    ----------
    name
        Of the dataset.
    total
        Bytes to send.
    bandwidth
        Most bytes per second; 0 for no limit.
    stop
        Set when the process shall end.
    stream
        Where to tell; a bar is drawn where it is a terminal.
    """

    def __init__(
        self, name: str, total: int, bandwidth: float, stop: threading.Event, stream: TextIO = sys.stderr
    ) -> None:
        self.name, self.total, self.bandwidth, self.stop = name, total, bandwidth, stop
        self.done = 0
        self._sent = 0
        self._start = time.monotonic()
        self._free_at = self._start
        self._stream = stream
        self._bar = stream.isatty()
        self._told = self._start
        self._mutex = threading.Lock()

    def skip(self, count: int) -> None:
        """Count bytes that are on the server already."""
        with self._mutex:
            self.done += count

    def count(self, count: int) -> None:
        """Count bytes about to be sent; wait where that would be too fast; negative: they failed."""
        if self.stop.is_set():
            raise Stopped
        with self._mutex:
            self.done += count
            self._sent += max(count, 0)
            now = time.monotonic()
            pause = 0.0
            if self.bandwidth and count > 0:
                self._free_at = max(self._free_at, now) + count / self.bandwidth
                pause = self._free_at - now
            if now - self._told > (_BAR_PAUSE if self._bar else _LOG_PAUSE):
                self._told = now
                self._tell(now)
        if pause > 0 and self.stop.wait(pause):
            raise Stopped

    def _tell(self, now: float) -> None:
        rate = self._sent / max(now - self._start, 1e-3)
        left = (self.total - self.done) / rate if rate else 0
        share = min(1.0, self.done / max(self.total, 1))
        words = (
            f"{size_text(self.done)} of {size_text(self.total)}, {size_text(rate)}/s, {duration(left)} left"
        )
        if self._bar:
            full = round(share * _BAR_WIDTH)
            print(
                f"\r{self.name} [{'#' * full:{_BAR_WIDTH}}] {words}   ", end="", file=self._stream, flush=True
            )
        else:
            print(f"{self.name}: {words}", file=self._stream, flush=True)

    def say(self, text: str) -> None:
        """Tell something about the dataset."""
        with self._mutex:
            print(f"{chr(10) if self._bar else ''}{self.name}: {text}", file=self._stream, flush=True)
