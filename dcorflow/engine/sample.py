"""Try ways to cut and encode a dataset on samples of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from . import layout as lay
from .choose import Account, Credit, bound, choose
from .cut import Cut, cut_of, strips
from .encode import SMOOTH, STANDARD, STRIP, Encoding, plain, shuffled
from .pack import encoded_size
from .parallel import Helpers
from .plugins import has_small_blocks
from .reader import Reader
from .room import Bytes

#: Encodings are compared on the first sample; those chosen get at least so many.
SAMPLES = 4
#: More samples are taken where these leave open whether an encoding is small enough.
STEPS = (1, 3, 6)
#: With fewer than so many times the least samples, they would take as long as what they save.
FEW = 4
#: Part of a dataset that is sampled, within bounds in bytes.
SAMPLE_PART = 96
SAMPLE_BOUNDS = (2**18, 4 * 2**20)
#: Content that the standard encoding makes so many times smaller repeats itself. It is not
#: shuffled or cut into strips: hardly anything is left to win, while taking a shuffle back would
#: take several times as long as the rest.
SMOOTH_FROM = 10


#: How many times longer than the encodings that are chosen in the end those take that are tried.
_COST = 3

#: For each encoding the bytes of samples with it and with the standard one.
Pairs = dict[Encoding, list[tuple[float, float]]]


class Chosen(NamedTuple):
    """How to cut a dataset, and the account of encodings; None for the standard encoding."""

    cut: Cut
    account: Account | None


@dataclass(frozen=True)
class Sizes:
    """What rows of a dataset take; helper processes get it with their work.

    Attributes
    ----------
    reader
        Of the dataset.
    base
        How `dclab-compress` would cut it.
    """

    reader: Reader
    base: Cut

    def standard(self, data: Bytes) -> float:
        """Return the bytes that rows take with the standard encoding in the source's chunks.

        Of rows that fill several chunks of a megabyte or so, only the first chunk is encoded.
        """
        one = self.base.chunks[0] * self.reader.row_bytes
        if self.base.whole and 2 * one <= data.size and one >= lay.MEBIBYTE // 2:
            return encoded_size(self.base, data[:one], STANDARD) * data.size / one
        return encoded_size(self.base, data, STANDARD)


@dataclass(frozen=True)
class _Survey:
    """Return the bytes that a first sample takes: with the standard encoding, and with all that come into
    question, for each way to cut the dataset.

    Attributes
    ----------
    start, stop
        Rows of the sample.
    whole, cuts
        Chunks of whole rows, and strips.
    encoder
        ``"compat"`` or ``"best"``.
    """

    sizes: Sizes
    start: int
    stop: int
    whole: Cut
    cuts: tuple[Cut, ...]
    encoder: str

    def __call__(self, _: None = None) -> tuple[float, dict[Cut, dict[Encoding, float]]]:
        data = self.sizes.reader.band(self.start, self.stop)
        standard = self.sizes.standard(data)
        smooth = data.size > SMOOTH_FROM * standard
        itemsize = self.whole.itemsize
        candidates: dict[Cut, tuple[Encoding, ...]] = {self.whole: SMOOTH if smooth else plain(itemsize)}
        if not smooth:
            candidates |= dict.fromkeys(self.cuts, (STRIP,))
            if self.encoder == "best":
                candidates[self.whole] += shuffled(itemsize, math.prod(self.whole.chunks))
        known = (self.sizes.base, STANDARD)
        return standard, {
            cut: {e: standard if (cut, e) == known else encoded_size(cut, data, e) for e in encodings}
            for cut, encodings in candidates.items()
        }


@dataclass(frozen=True)
class _TryPlace:
    """Return the bytes that rows at a place take with each of some encodings, and with the standard one."""

    sizes: Sizes
    cut: Cut
    encodings: tuple[Encoding, ...]
    unit: int

    def __call__(self, task: tuple[int, float | None]) -> tuple[list[float], float]:
        place, standard = task
        reader, sizes = self.sizes.reader, self.sizes
        data = reader.band(place * self.unit, min((place + 1) * self.unit, reader.shape[0]))
        standard = sizes.standard(data) if standard is None else standard
        known = {STANDARD: standard} if self.cut == sizes.base else {}
        return [known.get(e) or encoded_size(self.cut, data, e) for e in self.encodings], standard


class Sampler:
    """Samples of one dataset.

    Parameters
    ----------
    reader
        Of the dataset.
    base
        Layout that `dclab-compress` would give it.
    fill
        The dataset's fill value.
    helpers
        Who tries.
    """

    def __init__(
        self, reader: Reader, base: lay.Layout, fill: np.ndarray[Any, Any] | None, helpers: Helpers
    ) -> None:
        self.reader, self.fill = reader, fill
        self.base = cut_of(reader, base.chunks, fill)
        self.sizes = Sizes(reader, self.base)
        self.helpers = helpers
        #: Bytes of samples with the standard encoding, by place.
        self._standard: dict[int, float] = {}
        #: Rows of a sample, how many of these there are, and how many are taken at least.
        self._frame: tuple[int, int, int] | None = None
        self._surveyed: Callable[[], tuple[float, dict[Cut, dict[Encoding, float]]]] | None = None

    def survey(self, chunks: tuple[int, ...], encoder: Literal["compat", "best"]) -> None:
        """Begin with what `choose` needs and what does not depend on other datasets.

        Parameters
        ----------
        chunks
            Chunks of whole rows.
        """
        reader, whole = self.reader, cut_of(self.reader, chunks, self.fill)
        cuts = [cut_of(reader, shape, self.fill) for shape in self._strips(chunks)]
        rows = [cut.chunks[0] for cut in (whole, self.base, *cuts)]
        unit = max(*rows, reader.step)
        units, unit_bytes = max(1, reader.shape[0] // unit), unit * reader.row_bytes
        part = reader.shape[0] * reader.row_bytes // SAMPLE_PART
        count = max(SAMPLES, -(-min(max(part, SAMPLE_BOUNDS[0]), SAMPLE_BOUNDS[1]) // unit_bytes))
        self._frame = unit, units, count
        if encoder == "compat" and whole == self.base and units < FEW * count and not cuts:
            return
        start = scattered(units, 1)[0] * unit
        work = _Survey(self.sizes, start, min(start + unit, reader.shape[0]), whole, tuple(cuts), encoder)
        self._surveyed = self.helpers.later(work, None, reader.size)

    def choose(self, encoder: Literal["compat", "best"], credit: Credit) -> Chosen:
        """Return how to cut the dataset and which encodings to use, after a `survey` for this encoder."""
        fallback = Chosen(self.base, None)
        if self._surveyed is None:
            return fallback
        assert self._frame is not None
        unit, units, count = self._frame
        places = scattered(units, STEPS[-1] * count)
        standard, sizes = self._surveyed()
        self._standard[places[0]] = standard
        goal = credit.goal(units * standard)
        while sizes:
            found = choose(_ratios(sizes, standard), encoder, goal=goal)
            if found is None or (found[0] == self.base and found[1].fast == STANDARD):
                break
            cut, mix = found
            wanted = (mix.fast, mix.small, STANDARD)
            pairs = {e: [(sizes[cut][e], standard)] for e in wanted if e in sizes[cut]}
            taken = 1
            for more in (step * count for step in STEPS):  # more where these leave it open
                self._add(pairs, places[taken:more], unit, cut)
                taken = more
                bounds = {e: bound(pairs[e], units) for e in pairs}
                again = choose({cut: bounds}, encoder, goal=goal)
                if again is not None and not (cut == self.base and again[1].fast == STANDARD):
                    return Chosen(cut, Account(again[1], {STANDARD: math.inf} | bounds, goal))
            del sizes[cut]
        return fallback

    def _strips(self, chunks: tuple[int, ...]) -> list[tuple[int, ...]]:
        return strips(self.reader, chunks) if self.base.whole and has_small_blocks() else []

    def _add(self, pairs: Pairs, places: list[int], unit: int, cut: Cut) -> None:
        """Add the bytes of more samples with each encoding and with the standard one."""
        one = unit * self.reader.row_bytes
        work = _TryPlace(self.sizes, cut, tuple(pairs), unit)
        tasks = [(place, self._standard.get(place)) for place in places]
        results = self.helpers.ordered(tasks, work, one, _COST * len(pairs) * len(places) * one)
        for place, (found, standard) in zip(places, results, strict=True):
            self._standard[place] = standard
            for encoding, size in zip(pairs, found, strict=True):
                pairs[encoding].append((size, standard))


def _ratios(
    sizes: Mapping[Cut, Mapping[Encoding, float]], standard: float
) -> dict[Cut, dict[Encoding, float]]:
    return {cut: {e: size / standard for e, size in row.items()} for cut, row in sizes.items()}


def scattered(count: int, wanted: int) -> list[int]:
    """Return up to `wanted` different numbers below `count`; the first ones are spread evenly, too."""
    golden = (math.sqrt(5) - 1) / 2
    found = (int((0.5 + golden * step) % 1 * count) for step in range(8 * wanted))
    return list(dict.fromkeys(found))[: min(count, wanted)]
