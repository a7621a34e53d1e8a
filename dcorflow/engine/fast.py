"""Copy datasets chunk by chunk past HDF5's filters, with threads."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import h5py
import numpy as np

from . import layout as lay
from .attributes import TextChange, copy_attributes
from .choose import (
    SAMPLE_BOUNDS,
    SAMPLE_PART,
    SAMPLED_BYTES,
    SAMPLES,
    Account,
    Credit,
    Mix,
    bound,
    choose,
    scattered,
)
from .digest import Hasher
from .encode import SMOOTH, STANDARD, Encoding, plain, shuffled
from .errors import Copied
from .filters import BITSHUFFLE, CHECKSUM_BYTES, SHUFFLE, add_fletcher32
from .parallel import ordered
from .plain import hasher_of
from .reader import Bytes, Reader, band_rows, canonical

#: Chunks below this are joined. Reading one event costs about 0.1 ms in h5py whatever the size
#: of its chunk, so that larger chunks cost little up to here, and compress better.
JOIN_BYTES = 48 * 2**10
#: Chunks above this are divided.
SPLIT_BYTES = 3 * 2**19


#: Content that the standard encoding makes so many times smaller repeats itself. It is not
#: shuffled: hardly anything is left to win, while taking a shuffle back would take several times
#: as long as the rest.
SMOOTH_FROM = 10
#: Roughly what HDF5 stores beside a chunk, and for one more filter of a dataset, in bytes.
INDEX_BYTES, FILTER_BYTES = 40, 400
#: Encodings with a shuffle that small datasets try.
SMALL_WORDS = ("bitshuffle + zstd dfast", "shuffle + zstd level 5")


class Task(NamedTuple):
    """Rows to encode; `data` are their decoded bytes if they were read already."""

    start: int
    stop: int
    encoding: Encoding
    probe: bool
    data: Bytes | None


class Done(NamedTuple):
    """Encoded rows: content for the digest, chunks by offset, their bytes; see `Account.add`."""

    encoding: Encoding
    content: Any
    chunks: list[tuple[tuple[int, ...], bytes]]
    size: int
    probe: tuple[int, int] | None


def tuned_chunks(reader: Reader, base: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the target's chunks, aligned with those of the source; None if that cannot be.

    Parameters
    ----------
    base
        Chunks that `dclab-compress` would write.
    """
    rows, row_bytes = base[0], reader.row_bytes
    if rows * row_bytes < JOIN_BYTES:
        rows *= JOIN_BYTES // (rows * row_bytes)
    elif rows * row_bytes > SPLIT_BYTES:
        parts = (d for d in range(2, rows + 1) if rows % d == 0)
        rows //= next((d for d in parts if rows // d * row_bytes <= lay.MEBIBYTE), rows)
    chunks = (min(rows, reader.shape[0]), *reader.shape[1:])
    tiled = base[1:] != reader.shape[1:]
    return None if tiled and math.prod(chunks) * reader.itemsize > SPLIT_BYTES else chunks


class FastCopy:
    """Copy one dataset.

    Parameters
    ----------
    source
        Dataset for which `Reader.fits` holds.
    target, name
        Where it goes.
    threads
        Number of threads.
    credit
        What the datasets of the file saved so far.
    change
        Gives text attributes another text.
    """

    def __init__(
        self,
        source: h5py.Dataset,
        target: h5py.Group,
        name: str,
        threads: int,
        credit: Credit,
        change: TextChange | None = None,
    ) -> None:
        self.change = change
        self.source, self.target, self.name, self.threads = source, target, name, threads
        self.credit = credit
        self.reader = Reader(source)
        self.fill = lay.fill_value(source)
        self.base = lay.base_layout(source)
        #: Whether the source's chunks are parts of rows; those of the target never are.
        self.tiled = self.base.chunks[1:] != self.reader.shape[1:]

    def pass_through(self) -> Copied:
        """Copy the stored chunks; decode them to verify checksums and to take the digest."""
        reader, source = self.reader, self.source
        assert reader.pipeline is not None
        layout = dataclasses.replace(self.base, chunks=source.chunks, filters=reader.pipeline.filters)
        dataset = lay.create(self.target, self.name, layout, self.fill)
        hasher, rows = hasher_of(source), band_rows(reader)

        def work(start: int) -> tuple[list[Any], list[tuple[tuple[int, ...], bytes]]]:
            kept: list[tuple[tuple[int, ...], bytes]] = []
            pieces = reader.pieces(start, min(start + rows, reader.shape[0]), kept)
            return [canonical(hasher, reader, piece) for piece in pieces], kept

        starts = range(0, reader.shape[0], rows)
        threads = self.threads if reader.parallel else 1
        for contents, kept in ordered(starts, work, threads, rows * reader.row_bytes):
            for content in contents:
                hasher.update_bytes(content)
            for offset, raw in kept:
                dataset.id.write_direct_chunk(offset, raw)
        return self._finish(dataset, hasher, layout, "passed through")

    def encode(self, encoder: Literal["compat", "best"]) -> Copied | None:
        """Copy with new chunks; return None where the source's own are better, but tiles."""
        chunks = tuned_chunks(self.reader, self.base.chunks)
        assert chunks is not None
        if self.reader.shape[0] * self.reader.row_bytes <= SAMPLED_BYTES:
            return self._encode_small(chunks, encoder)
        chunks, account = self._sample(chunks, encoder)
        if account is None and self.tiled:
            return None
        copied = self._encode_bands(chunks, account)
        if copied is None:  # larger than the standard encoding after all
            del self.target[self.name]
            if self.tiled:
                return None
            copied = self._encode_bands(self.base.chunks, None)
        return copied

    def _layout(self, chunks: tuple[int, ...], encoding: Encoding) -> lay.Layout:
        prefix: tuple[lay.Filter, ...] = ()
        if encoding.shuffle == "byte":
            prefix = ((SHUFFLE, (self.reader.itemsize,)),)
        elif encoding.shuffle == "bit":
            prefix = ((BITSHUFFLE, (0, 0, self.reader.itemsize, encoding.block, 0)),)
        return dataclasses.replace(self.base, chunks=chunks, filters=(*prefix, *lay.PLAIN_FILTERS))

    def _finish(self, dataset: h5py.Dataset, hasher: Hasher, layout: lay.Layout, words: str) -> Copied:
        left = tuple(copy_attributes(self.source, dataset, self.change))
        stored = dataset.id.get_storage_size()
        return Copied(hasher.digest(), lay.decoded_bytes(layout), stored, words, left)

    def _cut(self, data: Bytes, rows: int) -> Iterator[Bytes]:
        """Yield chunks of whole rows; the last one is filled up."""
        size = rows * self.reader.row_bytes
        for at in range(0, data.size, size):
            part = data[at : at + size]
            if part.size < size:
                full = np.zeros(size, np.uint8)
                if self.fill is not None:
                    full.view(f"V{self.reader.itemsize}")[:] = np.frombuffer(
                        self.fill.tobytes(), f"V{self.reader.itemsize}"
                    )[0]
                full[: part.size] = part
                part = full
            yield part

    def _size(self, data: Bytes, rows: int, encoding: Encoding) -> int:
        """Return the bytes that rows take with an encoding, in chunks of `rows` rows."""
        parts = self._cut(data, rows)
        itemsize = self.reader.itemsize
        return sum(len(encoding.encode(p, itemsize)) + CHECKSUM_BYTES for p in parts)

    def _standard_size(self, data: Bytes) -> int:
        """Return the bytes that rows take with the standard encoding in the source's chunks."""
        if not self.tiled:
            return self._size(data, self.base.chunks[0], STANDARD)
        itemsize, tile = self.reader.itemsize, self.base.chunks
        rows = data.view(f"V{itemsize}").reshape(-1, *self.reader.shape[1:])
        total, full = 0, np.zeros(tile, rows.dtype)
        grid = tuple(-(-n // c) for n, c in zip(rows.shape, tile, strict=True))
        for index in np.ndindex(*grid):
            part = rows[tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, tile, strict=True))]
            full[tuple(map(slice, part.shape))] = part
            total += len(STANDARD.encode(full.reshape(-1).view(np.uint8), itemsize))
            total += CHECKSUM_BYTES
        return total

    def _encode_small(self, chunks: tuple[int, ...], encoder: str) -> Copied | None:
        """Encode in all ways that come into question and keep the smallest."""
        reader = self.reader
        data = reader.band(0, reader.shape[0])
        ways = [(chunks, STANDARD)]
        if self.base.chunks != chunks and not self.tiled:
            ways.append((self.base.chunks, STANDARD))
        if encoder == "best":
            # Only the two that are most often the smallest: each costs time for every file.
            promising = shuffled(reader.itemsize, math.prod(chunks))
            ways += [(chunks, e) for e in promising if e.words in SMALL_WORDS]
        results: list[tuple[int, tuple[int, ...], Encoding, list[bytes]]] = []
        for shape, encoding in ways:
            if encoding is not STANDARD and data.size > SMOOTH_FROM * results[0][0]:
                break
            parts = [encoding.encode(p, reader.itemsize) for p in self._cut(data, shape[0])]
            overhead = INDEX_BYTES * len(parts) + (encoding.shuffle != "none") * FILTER_BYTES
            results.append((sum(map(len, parts)) + overhead, shape, encoding, parts))
        total, shape, encoding, parts = min(results, key=lambda result: result[0])
        if self.tiled and total > self._standard_size(data):
            return None
        layout = self._layout(shape, encoding)
        dataset = lay.create(self.target, self.name, layout, self.fill)
        hasher = hasher_of(self.source)
        hasher.update_bytes(canonical(hasher, reader, data))
        rest = (0,) * (len(shape) - 1)
        for number, part in enumerate(parts):
            dataset.id.write_direct_chunk((number * shape[0], *rest), add_fletcher32(part))
        return self._finish(dataset, hasher, layout, encoding.words)

    def _sample(
        self, chunks: tuple[int, ...], encoder: Literal["compat", "best"]
    ) -> tuple[tuple[int, ...], Account | None]:
        """Return the target's chunks and the account that chooses encodings, None for standard."""
        reader, rows = self.reader, chunks[0]
        unit = max(rows, self.base.chunks[0], reader.step)
        units, unit_bytes = max(1, reader.shape[0] // unit), unit * reader.row_bytes
        part = reader.shape[0] * reader.row_bytes // SAMPLE_PART
        wanted = min(max(part, SAMPLE_BOUNDS[0]), SAMPLE_BOUNDS[1])
        count = max(SAMPLES, -(-wanted // unit_bytes))
        same = rows == self.base.chunks[0]
        if encoder == "compat" and same and units < 2 * count:
            return self.base.chunks, None  # samples would take as long as what they save
        places = scattered(units, 3 * count)
        sizes = self._try(places[:1], unit, rows, (STANDARD,))
        smooth = unit_bytes > SMOOTH_FROM * sizes[STANDARD][0][1]
        candidates = SMOOTH if smooth else plain(reader.itemsize)
        if encoder == "best" and not smooth:
            candidates += shuffled(reader.itemsize, math.prod(chunks))
        sizes |= self._try(places[:1], unit, rows, candidates)
        goal = self.credit.goal(units * sizes[STANDARD][0][1])
        mix = choose({e: size / standard for e, [(size, standard)] in sizes.items()}, encoder, goal=goal)
        if mix is None or (same and mix.fast == STANDARD):
            return self.base.chunks, None
        ratios = {STANDARD: bound(sizes[STANDARD], units)}
        chosen = tuple(dict.fromkeys((mix.fast, mix.small)))
        taken = 1
        for more in (count, 3 * count):  # more where these leave it open
            for encoding, pairs in self._try(places[taken:more], unit, rows, chosen).items():
                sizes[encoding] += pairs
            taken = more
            ratios |= {e: bound(sizes[e], units) for e in chosen}
            mix = choose(ratios, encoder, goal=goal)
            if mix is not None and not (same and mix.fast == STANDARD):
                return chunks, Account(mix, ratios, goal)
        return self.base.chunks, None

    def _try(
        self, places: Any, unit: int, rows: int, candidates: tuple[Encoding, ...]
    ) -> dict[Encoding, list[tuple[float, float]]]:
        """Encode samples; return the bytes of each candidate and of the standard encoding, by sample."""
        reader, same = self.reader, not self.tiled and rows == self.base.chunks[0]

        def work(place: int) -> list[int]:
            start = place * unit
            data = reader.band(start, min(start + unit, reader.shape[0]))
            standard = self._standard_size(data)
            sizes = [standard if same and e == STANDARD else self._size(data, rows, e) for e in candidates]
            return [*sizes, standard]

        threads = self.threads if reader.parallel else 1
        table = list(ordered(places, work, threads, 2 * unit * reader.row_bytes))
        return {e: [(row[i], row[-1]) for row in table] for i, e in enumerate(candidates)}

    def _tasks(self, rows: int, account: Account | None) -> Iterator[Task]:
        for start in range(0, self.reader.shape[0], rows):
            stop = min(start + rows, self.reader.shape[0])
            encoding, probe = account.next() if account is not None else (STANDARD, False)
            data = None if self.reader.parallel else self.reader.band(start, stop)
            yield Task(start, stop, encoding, probe, data)

    def _worker(self, hasher: Hasher, rows: int) -> Callable[[Task], Done]:
        reader = self.reader
        rest = (0,) * (len(reader.shape) - 1)
        unit = max(rows, self.base.chunks[0])

        def work(task: Task) -> Done:
            data = task.data if task.data is not None else reader.band(task.start, task.stop)
            chunks, probe = [], None
            for number, part in enumerate(self._cut(data, rows)):
                payload = add_fletcher32(task.encoding.encode(part, reader.itemsize))
                chunks.append(((task.start + number * rows, *rest), payload))
            sizes = [len(payload) for _, payload in chunks]
            if task.probe:
                head = data[: unit * reader.row_bytes]
                probe = (sum(sizes[: unit // rows]), self._standard_size(head))
            content = canonical(hasher, reader, data)
            return Done(task.encoding, content, chunks, sum(sizes), probe)

        return work

    def _encode_bands(self, chunks: tuple[int, ...], account: Account | None) -> Copied | None:
        """Write the dataset; return None if it came out larger than the standard encoding."""
        reader, mix = self.reader, account.mix if account else Mix(STANDARD, STANDARD)
        layout = self._layout(chunks, mix.small)
        dataset = lay.create(self.target, self.name, layout, self.fill)
        hasher = hasher_of(self.source)
        # Where the shuffle is not applied to a chunk, the filter mask says so.
        skip = 0b1 if mix.small.shuffle != "none" else 0
        rows = band_rows(reader, max(chunks[0], self.base.chunks[0]))
        tasks, work = self._tasks(rows, account), self._worker(hasher, chunks[0])
        for done in ordered(tasks, work, self.threads, rows * reader.row_bytes):
            hasher.update_bytes(done.content)
            mask = skip if done.encoding.shuffle == "none" else 0
            for offset, payload in done.chunks:
                dataset.id.write_direct_chunk(offset, payload, mask)
            if account is not None:
                account.add(done.encoding, done.size, done.probe)
        if account is not None:
            ratio, stored = account.finish(), dataset.id.get_storage_size()
            if ratio > max(1.0, account.goal):
                return None
            self.credit.note(stored, ratio)
        return self._finish(dataset, hasher, layout, mix.words)


def copy_fast(
    source: h5py.Dataset,
    target: h5py.Group,
    name: str,
    encoder: Literal["compat", "best"],
    threads: int,
    credit: Credit,
    change: TextChange | None = None,
) -> Copied | None:
    """Copy a dataset, see :func:`dcorflow.engine.copy_dataset`; None if HDF5 has to do it."""
    lay.refuse(source)
    hasher_of(source)
    if not Reader.fits(source):
        return None
    copy = FastCopy(source, target, name, threads, credit, change)
    if copy.reader.accepted:
        return copy.pass_through()
    if tuned_chunks(copy.reader, copy.base.chunks) is None:
        return None
    return copy.encode(encoder)


def digest_fast(source: h5py.Dataset, threads: int) -> str | None:
    """Return the digest of a dataset, decoded chunk by chunk; None if HDF5 has to do it."""
    lay.refuse(source)
    hasher = hasher_of(source)
    if not Reader.fits(source):
        return None
    reader = Reader(source)
    rows = band_rows(reader)

    def work(start: int) -> list[Any]:
        pieces = reader.pieces(start, min(start + rows, reader.shape[0]))
        return [canonical(hasher, reader, piece) for piece in pieces]

    starts = range(0, reader.shape[0], rows)
    parallel = threads if reader.parallel else 1
    for contents in ordered(starts, work, parallel, rows * reader.row_bytes):
        for content in contents:
            hasher.update_bytes(content)
    return hasher.digest()
