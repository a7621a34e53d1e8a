"""How far uploads are: lines in a log, one bar on a terminal; and not faster than allowed."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from dcorflow.upload.failures import Stopped
from dcorflow.wording import duration, size_text

#: Seconds between two lines in a log, and between two drawings of the bar.
_LOG_PAUSE, _BAR_PAUSE = 30.0, 0.5
_BAR_WIDTH, _LINE = 24, 80
_CLEAR = "\r\033[K"


def find_terminal() -> TextIO | None:
    """Return the terminal to draw on; None where a log takes what is printed."""
    return sys.stderr if sys.stderr.isatty() else None


class Bar:
    """One line on a terminal for all datasets of a process.

    Parameters
    ----------
    stream
        The terminal; None for no bar.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self._meters: list[Meter] = []
        self._drawn_at = 0.0
        self._drawn = False
        self._mutex = threading.RLock()

    @contextlib.contextmanager
    def showing(self, meter: Meter) -> Iterator[None]:
        """Show a dataset while it is uploaded."""
        with self._mutex:
            self._meters.append(meter)
        try:
            yield
        finally:
            with self._mutex:
                self._meters.remove(meter)
                self.clear()

    def draw(self, now: float) -> None:
        """Draw the bar anew where that was not done just now."""
        with self._mutex:
            if self.stream is None or now - self._drawn_at < _BAR_PAUSE or not self._is_in_front():
                return
            self._drawn_at, self._drawn = now, True
            names = [meter.name for meter in self._meters]
            done, total = sum(m.done for m in self._meters), sum(m.total for m in self._meters)
            share = min(1.0, done / max(total, 1))
            words = progress(done, total, sum(m.rate(now) for m in self._meters))
            name = names[0] if len(names) == 1 else f"{len(names)} datasets"
            line = f"{name} [{'#' * round(share * _BAR_WIDTH):{_BAR_WIDTH}}] {words}"
            self._write(_CLEAR + line[: self._columns() - 1])

    def clear(self) -> None:
        """Take the bar away, for other lines or for good."""
        with self._mutex:
            if self._drawn and self._is_in_front():
                self._write(_CLEAR)
            self._drawn = False

    def _write(self, text: str) -> None:
        if self.stream is not None:
            with contextlib.suppress(OSError):  # the terminal was closed: no reason to stop
                print(text, end="", file=self.stream, flush=True)

    def _is_in_front(self) -> bool:
        """Return whether this process is in the foreground of its terminal."""
        try:
            return self.stream is not None and os.tcgetpgrp(self.stream.fileno()) == os.getpgrp()
        except (OSError, ValueError):
            return False

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self.stream.fileno()).columns or _LINE if self.stream else _LINE
        except (OSError, ValueError):
            return _LINE


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
        The log.
    bar
        Is drawn anew as bytes are counted.
    moved
        Is told of bytes as they are counted (negative: they failed), and whether they were sent now.
    """

    def __init__(
        self,
        name: str,
        total: int,
        bandwidth: float,
        stop: threading.Event,
        stream: TextIO | None = None,
        bar: Bar | None = None,
        moved: Callable[[int, bool], None] | None = None,
    ) -> None:
        self.name, self.total, self.bandwidth, self.stop = name, total, bandwidth, stop
        self.done = 0
        self.bar = bar or Bar(None)
        self._moved = moved or (lambda count, sent: None)
        self._sent = 0
        self._start = time.monotonic()
        self._free_at = self._start
        self._stream = stream or sys.stderr
        self._told = self._start
        self._mutex = threading.Lock()

    def skip(self, count: int) -> None:
        """Count bytes that are on the server already."""
        with self._mutex:
            self.done += count
        self._moved(count, False)

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
            due = now - self._told > _LOG_PAUSE and self._stream is not self.bar.stream
            if due:
                self._told = now
        self._moved(count, True)
        if due:
            self.say(progress(self.done, self.total, self.rate(now)))
        self.bar.draw(now)
        if pause > 0 and self.stop.wait(pause):
            raise Stopped

    def rate(self, now: float) -> float:
        """Return the bytes sent per second so far."""
        return self._sent / max(now - self._start, 1e-3)

    def say(self, text: str) -> None:
        """Tell something about the dataset."""
        if self._stream is self.bar.stream:
            self.bar.clear()
        with self._mutex:
            print(f"{self.name}: {text}", file=self._stream, flush=True)


def progress(done: int, total: int, rate: float) -> str:
    """Return bytes, rate and time left in words."""
    left = f"{duration(max(total - done, 0) / rate)} left" if rate else "waiting"
    return f"{size_text(done)} of {size_text(total)}, {size_text(rate)}/s, {left}"
