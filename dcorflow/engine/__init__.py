"""Copy single datasets, compressed as DCOR wants them, as fast as the machine can.

The engine decodes each stored chunk once, verifies its checksum, takes a digest of the content,
and writes it again with Zstandard and fletcher32. It knows nothing of measurements: the walk
through a file, its attributes and what is dropped from it are the business of `compress`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import h5py
import numpy as np

from .attributes import TextChange, copy_attributes
from .choose import Credit
from .digest import digest_plain
from .errors import Copied, CorruptChunk, UnsupportedDataset
from .fast import Outlook, copy_fast, digest_fast, look_ahead
from .parallel import WORTH_BYTES, Helpers, helpers_of
from .plain import copy_plain, digest_stored, write_plain

__all__ = [
    "WORTH_BYTES",
    "Copied",
    "CorruptChunk",
    "Credit",
    "Helpers",
    "Outlook",
    "TextChange",
    "UnsupportedDataset",
    "copy_attributes",
    "copy_dataset",
    "digest_dataset",
    "digest_datasets",
    "digest_plain",
    "helpers_of",
    "look_ahead",
    "write_array",
]


def copy_dataset(
    source: h5py.Dataset,
    target: h5py.Group,
    name: str,
    *,
    encoder: Literal["compat", "best"] = "compat",
    threads: int | Helpers = 1,
    credit: Credit | None = None,
    change: TextChange | None = None,
    outlook: Outlook | None = None,
) -> Copied:
    """Copy one dataset with its attributes, compressed and with checksums.

    Shape, type, fill value and attributes stay; the storage changes. Variable-length strings
    become fixed-length ones (at least 100 bytes, as dclab writes them), since checksums do not
    cover what variable-length elements point at. A 0-d dataset gets the shape (1,), one with a
    null dataspace the shape (0,); what is empty can grow.

    Parameters
    ----------
    source
        Dataset of a file opened read-only.
    target
        Group in a file opened for writing.
    name
        Name of the new dataset in `target`; it must not exist.
    encoder
        ``"compat"``: dclab's filters (Zstandard, fletcher32). ``"best"``: a byte or bit shuffle
        in front of Zstandard where it pays.
    threads
        Number of processes that decode and encode, or the helpers that the copies of a file's
        datasets share. The result does not depend on it.
    credit
        Shared by the copies of a file's datasets: what one of them saves, another may spend. The
        file is then never larger than with the standard encoding, though a dataset can be.
    change
        Gives text attributes of the dataset another text.
    outlook
        What `look_ahead` gave for it, with the same encoder and helpers.

    Raises
    ------
    CorruptChunk
        If a chunk of the source cannot be decoded or its checksum is wrong.
    UnsupportedDataset
        For references, virtual and externally stored datasets.
    ValueError
        For an unknown encoder.
    OSError
        If the source cannot be read or the target cannot be written.
    """
    if encoder not in ("compat", "best"):
        raise ValueError(f"unknown encoder {encoder!r}: expected 'compat' or 'best'")
    with helpers_of(threads) as helpers:
        copied = copy_fast(source, target, name, encoder, helpers, credit or Credit(), change, outlook)
        if copied is not None and helpers is not threads:  # they end here
            digest = copied.digest
            copied = dataclasses.replace(copied, pending=lambda: digest)
    return copied if copied is not None else copy_plain(source, target, name, change)


def write_array(
    target: h5py.Group,
    name: str,
    data: np.ndarray[Any, Any],
    *,
    maxshape: tuple[int | None, ...] | None = None,
    chunks: tuple[int, ...] | None = None,
) -> Copied:
    """Write an array in memory as a compressed dataset with checksums, reproducibly.

    Parameters
    ----------
    target
        Group in a file opened for writing.
    name
        Name of the new dataset; it must not exist.
    data
        Array of any shape (0-d becomes (1,)) and any type that h5py can store except references.
    maxshape
        As for h5py; by default the shape of `data` (empty dimensions can grow).
    chunks
        As for h5py; by default rows of about 1 MiB.
    """
    return write_plain(target, name, data, maxshape, chunks)


def digest_dataset(dataset: h5py.Dataset) -> str:
    """Return the digest of a dataset, decoded from disk chunk by chunk.

    Every checksum is verified. See :mod:`dcorflow.engine.digest` for the format.

    Raises
    ------
    CorruptChunk
        If a chunk cannot be decoded, is short, or its checksum is wrong.
    UnsupportedDataset
        For references, virtual and externally stored datasets.
    """
    return digest_datasets({"": dataset})[""]


def digest_datasets(datasets: Mapping[str, h5py.Dataset], *, threads: int | Helpers = 1) -> dict[str, str]:
    """Return the digests of datasets of one file, see `digest_dataset`.

    Each is decoded by one process as long as the data spread well over all of them.
    """
    whole = sum(dataset.nbytes for dataset in datasets.values()) or 1
    found: dict[str, Callable[[], str]] = {}
    with helpers_of(threads) as helpers:
        # The largest first: small ones fill what time is left at the end.
        for name in sorted(datasets, key=lambda name: -datasets[name].nbytes):
            dataset = datasets[name]
            later = digest_fast(dataset, helpers, dataset.nbytes / whole)
            found[name] = later or functools.partial(digest_stored, dataset)
        return {name: found[name]() for name in datasets}
