"""Choose how a dataset is encoded: the fastest way that is not larger than dclab's.

The measure is Zstandard level 5 in the chunks that `dclab-compress` would write ("standard").
Samples say how each encoding compares with it; often a fast one comes out a little larger and a
slower one smaller, and a mix of both just meets the goal in the least time. While the dataset is
written, an account of all chunks and standard encodings of a few keep the mix on course. Nothing
here depends on time or threads.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import stdev

from .cut import Cut
from .encode import STANDARD, Encoding
from .parallel import LAG

#: Goal for the size, relative to the standard one; the rest is a margin for what samples miss.
#: A single encoding may come closer: its ratio is a bound already, and no account has to keep it.
GOAL, SURE = 0.998, 1.0
#: Part of the bytes saved in a file that its next dataset may spend, and the goal it may then have.
CREDIT_SPENT, GOAL_LIMIT = 0.25, 1.1
#: Every so many bands of an encoding the standard one is tried, too, on a part of the band; more
#: seldom where there is room to spare.
PROBE_EVERY, PROBE_SELDOM, ROOMY = 64, 256, 0.97
#: Samples are believed up to this many standard errors; the deviation of a single one is taken
#: to be `DEVIATION` (measured: 0.001 to 0.015).
STANDARD_ERRORS, DEVIATION = 3.0, 0.006
#: What one per cent of size is worth in milliseconds per megabyte, by encoder.
SIZE_WORTH = {"compat": 0.1, "best": 0.3}
#: What a chunk takes beside its encoding, in milliseconds on the scale of `Encoding.cost`.
CHUNK_COST = 0.013
#: What chunks of twice the rows of others cost, on the same scale: it takes up to 1.5 times as long to
#: read single events from them, which is only worth it where the others do not come into question.
ROWS_COST = 1.0


@dataclass
class Credit:
    """Bytes that the datasets of a file so far are smaller than with the standard encoding.

    Part of them may be spent where time can be saved: what counts is the size of the file.

    Attributes
    ----------
    saved
        Estimated bytes, from below.
    """

    saved: float = 0.0

    def goal(self, standard: float) -> float:
        """Return the goal for the size of a dataset of `standard` bytes, relative to them."""
        spent = CREDIT_SPENT * max(self.saved, 0.0)
        return min(GOAL + spent / max(standard, 1.0), GOAL_LIMIT)

    def note(self, stored: float, ratio: float) -> None:
        """Note that a dataset takes `stored` bytes, `ratio` times the standard ones at most."""
        self.saved += stored / ratio - stored


@dataclass(frozen=True)
class Mix:
    """Two encodings with the same shuffle: a fast one, and one that makes up for its size."""

    fast: Encoding
    small: Encoding

    @property
    def words(self) -> str:
        """The encodings, for the record."""
        return " and ".join(dict.fromkeys([self.small.words, self.fast.words]))


def best_mix(ratios: dict[Encoding, float], goal: float) -> tuple[float, float, Mix] | None:
    """Return cost, size and encodings of the mix that meets `goal` in the least time.

    Parameters
    ----------
    ratios
        Size of each encoding (all with the same shuffle) relative to the standard one.
    goal
        Upper bound for the size of the mix.

    Returns
    -------
    mix
        Cost in ms/MB, relative size and the encodings; None where none is small enough.
    """
    found: list[tuple[float, float, Mix]] = []
    for small, low in ratios.items():
        if low <= max(goal, SURE):
            found.append((small.cost, low, Mix(small, small)))
        if low > goal:
            continue
        for fast, high in ratios.items():
            if high > goal and fast.cost < small.cost:
                part = (goal - low) / (high - low)
                found.append((part * fast.cost + (1 - part) * small.cost, goal, Mix(fast, small)))
    return min(found, key=lambda entry: entry[:2], default=None)


def choose(
    ratios: Mapping[Cut, Mapping[Encoding, float]], encoder: str, *, goal: float = GOAL
) -> tuple[Cut, Mix] | None:
    """Return chunks and encodings for a dataset, None where only the standard ones are small enough.

    Parameters
    ----------
    ratios
        For each way to cut the dataset, the size of encodings relative to the standard one in the
        chunks that `dclab-compress` would write.
    encoder
        ``"compat"`` or ``"best"``: how much time a smaller file is worth.
    """
    worth = SIZE_WORTH[encoder] * 100
    rows = min(cut.chunks[0] for cut in ratios)
    options: list[tuple[float, float, Cut, Mix]] = []
    for cut, encodings in ratios.items():
        for group in dict.fromkeys((e.shuffle, e.block) for e in encodings):
            members = {e: r for e, r in encodings.items() if (e.shuffle, e.block) == group}
            goals = (goal, *(0.995 * r for r in members.values() if r < goal))
            for cost, size, mix in filter(None, (best_mix(members, g) for g in goals)):
                total = cost + CHUNK_COST * 1e6 / cut.chunk_bytes + worth * size
                total += ROWS_COST * (cut.chunks[0] / rows - 1)
                options.append((total, size, cut, mix))
    return min(options, key=lambda option: option[:2])[2:] if options else None


def bound(samples: Sequence[tuple[float, float]], units: int) -> float:
    """Return what the size of all content, relative to the standard one, hardly exceeds.

    Parameters
    ----------
    samples
        For each sample, its bytes with an encoding and with the standard one.
    units
        How many samples all content would make.
    """
    size, standard = (sum(pair[i] for pair in samples) for i in (0, 1))
    deviation = stdev(a / b for a, b in samples) if len(samples) > 2 else DEVIATION
    if all(a == b for a, b in samples):
        deviation = 0.0
    unseen = 1 - len(samples) / units
    return size / standard + STANDARD_ERRORS * deviation * math.sqrt(unseen / len(samples))


@dataclass
class Account:
    """Decide for each band which encoding of a mix it gets.

    Decisions for band `j` rest on the results of bands up to ``j - LAG`` only, which are known
    whatever the number of threads.

    Parameters
    ----------
    mix
        The encodings.
    ratios
        Bound of the size of each encoding of the mix relative to the standard one; of the standard
        encoding, too, where that is not one.
    goal
        Upper bound for the size relative to the standard encoding.
    """

    mix: Mix
    ratios: dict[Encoding, float]
    goal: float = GOAL
    _pending: dict[Encoding, float] = field(default_factory=dict)
    _unprobed: dict[Encoding, int] = field(default_factory=dict)
    _settled: tuple[float, float] = (0.0, 0.0)
    _bands: int = 0
    _open: deque[Encoding] = field(default_factory=deque)
    _late: deque[tuple[Encoding, int, tuple[float, float] | None]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._ratios = {STANDARD: 1.0, **self.ratios}

    def next(self) -> tuple[Encoding, bool]:
        """Return the encoding of the next band, and whether to try the standard one, too."""
        while len(self._open) >= LAG:
            self._note(*self._late.popleft())
            self._open.popleft()
        encoding = self._pick()
        self._open.append(encoding)
        every = PROBE_EVERY if self._ratios[encoding] > ROOMY else PROBE_SELDOM
        waited = self._unprobed.get(encoding, every // 2) + 1
        probe = waited >= every and encoding != STANDARD
        self._unprobed[encoding] = 0 if probe else waited
        return encoding, probe

    def add(self, encoding: Encoding, size: int, probe: tuple[float, float] | None) -> None:
        """Note the result of a band, in order.

        Parameters
        ----------
        encoding
            What the band was encoded with.
        size
            Bytes it takes.
        probe
            Bytes of a part of it with this encoding and with the standard one, if tried.
        """
        self._late.append((encoding, size, probe))

    def finish(self) -> float:
        """Return the estimated size of everything relative to the standard encoding."""
        while self._late:
            self._note(*self._late.popleft())
        size, standard = self._totals()
        return size / standard if standard else 1.0

    def _note(self, encoding: Encoding, size: int, probe: tuple[float, float] | None) -> None:
        self._bands += 1
        self._pending[encoding] = self._pending.get(encoding, 0.0) + size
        if probe is not None:
            before, now = self._ratios[encoding], probe[0] / probe[1]
            # The content may have changed right after the last probe of this encoding: what
            # makes the account worse is believed at once, what makes it better by and by.
            ratio = max(now, (before + now) / 2)
            waiting = self._pending.pop(encoding)
            done, standard = self._settled
            self._settled = (done + waiting, standard + waiting / ratio)
            self._ratios[encoding] = ratio

    def _totals(self) -> tuple[float, float]:
        size, standard = self._settled
        for encoding, waiting in self._pending.items():
            size += waiting
            standard += waiting / self._ratios[encoding]
        return size, standard

    def _pick(self) -> Encoding:
        size, standard = self._totals()
        # In units of bands: what is above the goal, with the bands under way as expected
        over = (size - self.goal * standard) * self._bands / standard if standard else 0.0
        over += sum(self._ratios[encoding] - self.goal for encoding in self._open)
        if over + self._ratios[self.mix.fast] - self.goal <= 0:
            return self.mix.fast
        if self._ratios[self.mix.small] <= self.goal:
            return self.mix.small
        return min((STANDARD, self.mix.small), key=lambda encoding: self._ratios[encoding])
