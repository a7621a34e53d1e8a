"""Copy datasets chunk by chunk past HDF5's filters, with helper processes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import h5py
import numpy as np

from . import layout as lay
from .attributes import TextChange, copy_attributes
from .choose import Account, Credit, Mix
from .chunks import Pack
from .cut import Cut, cut_of, tuned_chunks
from .digest import Canonical, Hasher
from .early import Early
from .encode import STANDARD, Encoding, shuffled
from .errors import Copied, CorruptChunk, UnsupportedDataset
from .filters import BITSHUFFLE, SHUFFLE
from .pack import pack
from .parallel import ALONE, LATER_BYTES, Helpers
from .plain import hasher_of
from .reader import Reader, band_rows
from .room import Bytes
from .sample import SMOOTH_FROM, Sampler, Sizes

#: Smaller datasets are encoded in the standard way at once: samples would take as long.
SAMPLED_BYTES = 3 * 2**19
#: Roughly what HDF5 stores for one more filter of a dataset, in bytes.
FILTER_BYTES = 400
#: A dataset that is so many times the share of a helper of all that is decoded is shared out in bands.
MORE_THAN_A_SHARE = 1.3
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
    """Encoded rows: content for the digest, their chunks, all bytes of these; see `Account.add`."""

    encoding: Encoding
    content: Any
    pack: Pack
    size: int
    probe: tuple[float, float] | None


@dataclass(frozen=True)
class _Decode:
    """Return the content of `rows` rows for the digest, and the stored chunks where wanted."""

    reader: Reader
    canonical: Canonical
    rows: int
    keep: bool

    def __call__(self, start: int) -> tuple[Any, Pack | None]:
        stop = min(start + self.rows, self.reader.shape[0])
        if self.keep:
            content, kept = self.reader.band_as_stored(start, stop)
            return self.canonical.of_bytes(content), kept
        return self.canonical.of_bytes(self.reader.band(start, stop)), None


@dataclass(frozen=True)
class _Encode:
    """Read, cut and encode rows."""

    sizes: Sizes
    canonical: Canonical
    cut: Cut

    def __call__(self, task: Task) -> Done:
        reader, base, cut = self.sizes.reader, self.sizes.base, self.cut
        data = task.data if task.data is not None else reader.band(task.start, task.stop)
        made, probe = pack(cut, data, task.encoding, task.start), None
        if task.probe:
            unit = max(cut.chunks[0], base.chunks[0])
            head = made.size(cut.index_bytes, task.start + unit)
            probe = (head, self.sizes.standard(data[: unit * reader.row_bytes]))
        content = self.canonical.of_bytes(data)
        return Done(task.encoding, content, made, made.size(cut.index_bytes), probe)


class Outlook:
    """What can be known of a dataset before its turn to be copied comes.

    Parameters
    ----------
    source
        Dataset for which `Reader.fits` holds.
    encoder
        How it will be encoded.
    helpers
        Who looks at samples.
    """

    def __init__(self, source: h5py.Dataset, encoder: Literal["compat", "best"], helpers: Helpers) -> None:
        self.encoder = encoder
        self.reader = Reader(source)
        self.fill = lay.fill_value(source)
        self.base = lay.base_layout(source)
        #: Who reads.
        self.readers = helpers if self.reader.parallel else ALONE
        self.sampler = Sampler(self.reader, self.base, self.fill, self.readers)
        self.chunks = None if self.reader.accepted else tuned_chunks(self.reader, self.base.chunks)
        if self.chunks is not None and self.reader.size > SAMPLED_BYTES:
            self.sampler.survey(self.chunks, encoder)


def look_ahead(source: h5py.Dataset, encoder: Literal["compat", "best"], helpers: Helpers) -> Outlook | None:
    """Let helpers look at a dataset before its turn comes; None where that would be of no use."""
    if helpers.count <= 1 or source.shape is None or source.nbytes <= SAMPLED_BYTES:
        return None
    try:
        lay.refuse(source)
        return Outlook(source, encoder, helpers) if Reader.fits(source) else None
    except (UnsupportedDataset, CorruptChunk, OSError, RuntimeError):
        return None  # is said when its turn comes


class FastCopy:
    """Copy one dataset.

    Parameters
    ----------
    source
        Dataset for which `Reader.fits` holds.
    outlook
        What is known of it.
    target, name
        Where it goes.
    helpers
        Who decodes and encodes.
    credit
        What the datasets of the file saved so far.
    change
        Gives text attributes another text.
    """

    def __init__(
        self,
        source: h5py.Dataset,
        outlook: Outlook,
        target: h5py.Group,
        name: str,
        helpers: Helpers,
        credit: Credit,
        change: TextChange | None = None,
    ) -> None:
        self.change = change
        self.source, self.target, self.name = source, target, name
        self.credit = credit
        self.early = Early(target.file)
        self.reader, self.fill, self.base = outlook.reader, outlook.fill, outlook.base
        self.outlook, self.readers, self.sampler = outlook, outlook.readers, outlook.sampler
        #: Whether the source's chunks are parts of rows; those of the target never are.
        self.tiled = self.base.chunks[1:] != self.reader.shape[1:]
        self.helpers = helpers

    def pass_through(self) -> Copied:
        """Copy the stored chunks; decode them to verify checksums and to take the digest."""
        reader, source = self.reader, self.source
        assert reader.pipeline is not None
        layout = dataclasses.replace(self.base, chunks=source.chunks, filters=reader.pipeline.filters)
        dataset = lay.create(self.target, self.name, layout, self.fill)
        if self.readers.count > 1 and reader.size >= LATER_BYTES:
            digest = digest_later(source, reader, self.readers)
            for some in reader.packs():
                for offset, raw in some.stored():
                    dataset.id.write_direct_chunk(offset, raw)
                self.early.wrote(some.memory.size)
                self.readers.pump()
            return self._finish(dataset, digest, layout, "passed through")
        hasher, rows = hasher_of(source), band_rows(reader)
        work = _Decode(reader, hasher.canonical, rows, keep=True)
        starts = range(0, reader.shape[0], rows)
        for content, kept in self.readers.ordered(starts, work, rows * reader.row_bytes, reader.size):
            hasher.update_bytes(content)
            assert kept is not None
            for offset, raw in kept.stored():
                dataset.id.write_direct_chunk(offset, raw)
            self.early.wrote(kept.memory.size)
        return self._finish(dataset, hasher.digest, layout, "passed through")

    def encode(self) -> Copied | None:
        """Copy with new chunks; return None where the source's own are better, but tiles."""
        chunks, encoder = self.outlook.chunks, self.outlook.encoder
        assert chunks is not None
        if self.reader.size <= SAMPLED_BYTES:
            return self._encode_small(chunks, encoder)
        cut, account = self.sampler.choose(encoder, self.credit)
        if account is None and self.tiled:
            return None
        copied = self._encode_bands(cut, account)
        if copied is None:  # larger than the standard encoding after all
            del self.target[self.name]
            if self.tiled:
                return None
            copied = self._encode_bands(self.sampler.base, None)
        return copied

    def _layout(self, chunks: tuple[int, ...], encoding: Encoding) -> lay.Layout:
        prefix: tuple[lay.Filter, ...] = ()
        if encoding.shuffle == "byte":
            prefix = ((SHUFFLE, (self.reader.itemsize,)),)
        elif encoding.shuffle == "bit":
            prefix = ((BITSHUFFLE, (0, 0, self.reader.itemsize, encoding.block, 0)),)
        return dataclasses.replace(self.base, chunks=chunks, filters=(*prefix, *lay.PLAIN_FILTERS))

    def _finish(
        self, dataset: h5py.Dataset, digest: Callable[[], str], layout: lay.Layout, words: str
    ) -> Copied:
        left = tuple(copy_attributes(self.source, dataset, self.change))
        self.early.begin()
        stored = dataset.id.get_storage_size()
        return Copied(digest, lay.decoded_bytes(layout), stored, words, left)

    def _encode_small(self, chunks: tuple[int, ...], encoder: str) -> Copied | None:
        """Encode in all ways that come into question and keep the smallest."""
        reader = self.reader
        data = reader.band(0, reader.shape[0])
        cut = cut_of(reader, chunks, self.fill)
        ways = [(cut, STANDARD)]
        if self.sampler.base != cut and not self.tiled:
            ways.append((self.sampler.base, STANDARD))
        if encoder == "best":
            # Only the two that are most often the smallest: each costs time for every file.
            promising = shuffled(reader.itemsize, math.prod(chunks))
            ways += [(cut, e) for e in promising if e.words in SMALL_WORDS]
        results: list[tuple[int, Cut, Encoding, Pack]] = []
        for way, encoding in ways:
            if encoding is not STANDARD and data.size > SMOOTH_FROM * results[0][0]:
                break
            made = pack(way, data, encoding)
            total = made.size(way.index_bytes)
            results.append((total + (encoding.shuffle != "none") * FILTER_BYTES, way, encoding, made))
        total, cut, encoding, made = min(results, key=lambda result: result[0])
        if self.tiled and total > self.sampler.sizes.standard(data):
            return None
        layout = self._layout(cut.chunks, encoding)
        dataset = lay.create(self.target, self.name, layout, self.fill)
        hasher = hasher_of(self.source)
        hasher.update_bytes(hasher.canonical.of_bytes(data))
        for offset, payload in made.stored():
            dataset.id.write_direct_chunk(offset, payload)
        return self._finish(dataset, hasher.digest, layout, encoding.words)

    def _tasks(self, rows: int, account: Account | None) -> Iterator[Task]:
        for start in range(0, self.reader.shape[0], rows):
            stop = min(start + rows, self.reader.shape[0])
            encoding, probe = account.next() if account is not None else (STANDARD, False)
            data = None if self.reader.parallel else self.reader.band(start, stop)
            yield Task(start, stop, encoding, probe, data)

    def _encode_bands(self, cut: Cut, account: Account | None) -> Copied | None:
        """Write the dataset; return None if it came out larger than the standard encoding."""
        reader, mix = self.reader, account.mix if account else Mix(STANDARD, STANDARD)
        layout = self._layout(cut.chunks, mix.small)
        dataset = lay.create(self.target, self.name, layout, self.fill)
        hasher = hasher_of(self.source)
        # Where the shuffle is not applied to a chunk, the filter mask says so.
        skip = 0b1 if mix.small.shuffle != "none" else 0
        rows = band_rows(reader, max(cut.chunks[0], self.base.chunks[0]))
        work, written = _Encode(self.sampler.sizes, hasher.canonical, cut), 0
        tasks = self._tasks(rows, account)
        for done in self.helpers.ordered(tasks, work, rows * reader.row_bytes, reader.size):
            hasher.update_bytes(done.content)
            mask = skip if done.encoding.shuffle == "none" else 0
            for offset, payload in done.pack.stored():
                dataset.id.write_direct_chunk(offset, payload, mask)
            written += done.size
            self.early.wrote(done.size)
            if account is not None:
                account.add(done.encoding, done.size, done.probe)
        if account is not None:
            ratio = account.finish()
            if ratio > max(1.0, account.goal):
                return None
            self.credit.note(written, ratio)
        return self._finish(dataset, hasher.digest, layout, mix.words)


def copy_fast(
    source: h5py.Dataset,
    target: h5py.Group,
    name: str,
    encoder: Literal["compat", "best"],
    helpers: Helpers,
    credit: Credit,
    change: TextChange | None = None,
    outlook: Outlook | None = None,
) -> Copied | None:
    """Copy a dataset, see :func:`dcorflow.engine.copy_dataset`; None if HDF5 has to do it."""
    lay.refuse(source)
    hasher_of(source)
    if not Reader.fits(source):
        return None
    outlook = outlook or Outlook(source, encoder, helpers)
    copy = FastCopy(source, outlook, target, name, helpers, credit, change)
    if outlook.reader.accepted:
        return copy.pass_through()
    return None if outlook.chunks is None else copy.encode()


@dataclass(frozen=True)
class _Digest:
    """Return the digest of a dataset, by default all of it decoded in one process."""

    reader: Reader
    dtype: np.dtype[Any]

    def __call__(self, _: None = None) -> str:
        return self.shared_by(ALONE)

    def shared_by(self, helpers: Helpers) -> str:
        """Return it, decoded in bands by all of these."""
        reader, hasher = self.reader, Hasher(self.dtype, self.reader.shape)
        rows = band_rows(reader)
        work = _Decode(reader, hasher.canonical, rows, keep=False)
        starts = range(0, reader.shape[0], rows)
        for content, _ in helpers.ordered(starts, work, rows * reader.row_bytes, reader.size):
            hasher.update_bytes(content)
        return hasher.digest()


def digest_later(source: h5py.Dataset, reader: Reader, helpers: Helpers) -> Callable[[], str]:
    """Let a helper take the digest of a dataset; return what waits for it.

    What a helper decodes stays with it, where it would otherwise cross over to this process in bands.
    """
    return helpers.later(_Digest(reader, source.dtype), None, reader.size)


def digest_fast(source: h5py.Dataset, helpers: Helpers, part: float = 1.0) -> Callable[[], str] | None:
    """Return what waits for the digest of a dataset, decoded chunk by chunk; None if HDF5 has to do it.

    Parameters
    ----------
    part
        Part of all data that helpers decode at the same time; what is less than the share of one of them
        is left to one.
    """
    lay.refuse(source)
    hasher_of(source)
    if not Reader.fits(source):
        return None
    reader = Reader(source)
    if not reader.parallel:
        return _Digest(reader, source.dtype)
    if part * helpers.count < MORE_THAN_A_SHARE:
        return digest_later(source, reader, helpers)
    digest = _Digest(reader, source.dtype).shared_by(helpers)
    return lambda: digest
