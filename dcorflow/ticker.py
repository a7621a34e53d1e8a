"""The lines that show during a run how far it is: in place on a terminal, now and then in a log."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from dcorflow.files import printable
from dcorflow.head import give_sign
from dcorflow.watch import Progress, Stage, Watch
from dcorflow.wording import duration, number, size_text
from dcorflow.workdir import Workdir

#: Seconds between two looks, at least; more where looking takes long (a share of this of the time).
_PAUSE, _SHARE = 1.0, 0.05
#: Seconds until the first line in a log, and between two later ones.
_FIRST, _LATER = 60.0, 600.0
_BAR = 20
#: Back to the start of the block (lines up), and clear the screen below.
_ERASE = "\x1b[{}F\x1b[J"
_CUT = "…"


def stage_cells(stage: Stage) -> list[str]:
    """Return name, bar, count, bytes, rate, time left and failures of a stage."""
    share = stage.bytes_done / stage.bytes_total if stage.bytes_total else stage.done / max(stage.total, 1)
    full = int(min(1.0, share) * _BAR)
    rate, left = stage.rate, stage.seconds_left
    unit = "" if stage.unit == "measurement" else f" {stage.unit}{'s' * (stage.total != 1)}"
    if not stage.total:
        return [stage.name, "nothing to do", "", "", "", "", ""]
    return [
        stage.name,
        f"[{'#' * full:-<{_BAR}}]",
        f"{stage.done:,} of {stage.total:,}{unit}",
        f"{size_text(stage.bytes_done)} of {size_text(stage.bytes_total)}" if stage.bytes_total else "",
        f"{size_text(rate)}/s" if rate else "",
        f"{duration(left)} left" if left is not None else "",
        f"{stage.failed:,} failed" if stage.failed else "",
    ]


def progress_lines(progress: Progress, width: int = 0) -> list[str]:
    """Return a line per stage, then what is worked on.

    Parameters
    ----------
    progress
        How far things are.
    width
        Columns of the terminal; 0 for any.
    """
    if not progress.found:
        return ["discover  looking for new and changed measurements"]
    rows = [stage_cells(stage) for stage in progress.stages]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"{'discover':{widths[0]}}  {progress.found}"]
    for row in rows:
        cells = [f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True) if w]
        lines.append("  ".join(cells).rstrip())
    if progress.now:
        stage, what = progress.now[0]
        more = f" and {number(len(progress.now) - 1, 'other')}" if len(progress.now) > 1 else ""
        lines.append(f"{'now':{widths[0]}}  {stage} {what}{more}")
    lines = [printable(line) for line in lines]
    return [line if not width or len(line) < width else line[: width - 2] + _CUT for line in lines]


def log_line(progress: Progress) -> str:
    """Return the same in one line, with the time."""
    parts = []
    for stage in progress.stages:
        name, _, *cells = stage_cells(stage)
        if stage.spans or stage.done < stage.total:
            parts.append(f"{name} {', '.join(filter(None, cells))}")
    return printable(f"{time.strftime('%H:%M')}  {'; '.join(parts)}")


class Ticker(threading.Thread):
    """Shows how far a run is, from the head's process; never disturbs it.

    Parameters
    ----------
    work
        Work directory.
    before
        The pass of discover that was there before this run.
    stream
        Where to write; a terminal is drawn on in place.
    environment
        Where `CI` is set and there is no terminal, nothing is shown.
    """

    def __init__(
        self, work: Workdir, before: int, stream: TextIO, environment: Mapping[str, str] = os.environ
    ) -> None:
        super().__init__(daemon=True, name="dcorflow progress")
        self.work, self.before, self.stream = work, before, stream
        self.watch = Watch(work)
        self.in_place = stream.isatty() and environment.get("TERM", "dumb") != "dumb"
        self.silent = not self.in_place and environment.get("CI", "").lower() not in ("", "0", "false")
        self._over = threading.Event()
        self._mutex = threading.RLock()
        self._drawn = 0
        self._at_start_of_line = True
        self._next_line = time.monotonic() + _FIRST

    def run(self) -> None:
        """Look and show until told to stop; whatever goes wrong, the run goes on."""
        pause = 0.2
        while not self._over.wait(pause):
            started = time.monotonic()
            try:
                give_sign(self.work)
                if not self.silent:
                    self._show(self.watch.look(self.before))
            except Exception as error:
                logging.getLogger(__name__).debug("no progress shown: %s", error)
            pause = max(_PAUSE, (time.monotonic() - started) / _SHARE)

    def stop(self) -> None:
        """Show the end once more and stop; the lines stay."""
        if self._over.is_set():
            return
        self._over.set()
        self.join(timeout=5)
        try:
            with self._mutex:
                self._erase()
                progress = self.watch.look(self.before)
                if self.in_place and progress.moved:
                    progress.now = []
                    self._write("\n".join(progress_lines(progress, _width())) + "\n")
                self._drawn = 0
        except Exception as error:
            logging.getLogger(__name__).debug("no progress shown: %s", error)

    def share(self, stream: TextIO) -> TextIO:
        """Return a stream to write other text to, so that it does not collide with the lines."""
        return _Beside(self, stream) if self.in_place else stream  # type: ignore[return-value]

    def _show(self, progress: Progress) -> None:
        if self.in_place:
            lines = progress_lines(progress, _width())
            with self._mutex:
                if self._at_start_of_line and not self._over.is_set():
                    self._erase()
                    self._write("\n".join(lines) + "\n")
                    self._drawn = len(lines)
        elif progress.moved and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _LATER
            self._write(f"{log_line(progress)}\n")

    def _erase(self) -> None:
        if self._drawn:
            self._write(_ERASE.format(self._drawn))
            self._drawn = 0

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()


class _Beside:
    """A stream that takes the ticker's lines away before it writes."""

    def __init__(self, ticker: Ticker, stream: TextIO) -> None:
        self._ticker, self._stream = ticker, stream

    def write(self, text: str) -> int:
        """Write text; the lines come back with the next look."""
        with self._ticker._mutex:
            self._ticker._erase()
            self._ticker._at_start_of_line = text.endswith("\n") or not text
            return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _width() -> int:
    return shutil.get_terminal_size().columns


def start_ticker(work: Workdir, before: int, handlers: list[logging.Handler]) -> Callable[[], None]:
    """Show how far a run is until the function that is returned is called.

    Parameters
    ----------
    work, before
        As for `Ticker`.
    handlers
        Those of Snakemake's logger: their text goes above the lines.
    """
    ticker = Ticker(work, before, sys.stderr)
    for handler in handlers:
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            handler.setStream(ticker.share(handler.stream))
    ticker.start()
    return ticker.stop
