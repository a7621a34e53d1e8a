"""What the engine reports: one finished copy, a corrupt chunk, a dataset it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Copied:
    """How one dataset was written.

    Attributes
    ----------
    pending
        Returns the digest of the decoded source content, see :mod:`dcorflow.engine.digest`, or raises
        `CorruptChunk`; a helper process may still be at work on it.
    decoded_bytes
        Size of the content without compression, as stored in the target.
    stored_bytes
        Sum of the sizes of the target's stored chunks.
    encoding
        A few words for the record, such as ``"zstd level 5"`` or ``"passed through"``.
    attributes_left
        Attributes that were not copied, since they hold references into the source.
    """

    pending: Callable[[], str]
    decoded_bytes: int
    stored_bytes: int
    encoding: str
    attributes_left: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The digest, waited for."""
        return self.pending()


class CorruptChunk(Exception):
    """A stored chunk cannot be decoded or does not match its checksum.

    Parameters
    ----------
    dataset
        Path of the dataset in its file, e.g. ``/events/image``.
    chunk
        Offset of the chunk's first element in the dataset; empty if it is not known.
    offset
        Offset of the chunk in the file in bytes, or None if it is not stored as one piece.
    reason
        What was expected and what was found.
    """

    def __init__(self, dataset: str, chunk: tuple[int, ...], offset: int | None, reason: str) -> None:
        self.dataset = dataset
        self.chunk = chunk
        self.offset = offset
        self.reason = reason
        super().__init__(dataset, chunk, offset, reason)

    def __str__(self) -> str:
        where = f" at byte {self.offset}" if self.offset is not None else ""
        return (
            f"corrupt chunk {self.chunk} of dataset '{self.dataset}'{where}: {self.reason}. "
            "Copy the file again from where it was recorded; if that copy is the same, "
            "the data were damaged there"
        )


class UnsupportedDataset(Exception):
    """A dataset that cannot or must not be copied.

    Parameters
    ----------
    dataset
        Path of the dataset in its file.
    reason
        Why it is refused.
    """

    def __init__(self, dataset: str, reason: str) -> None:
        self.dataset = dataset
        self.reason = reason
        super().__init__(dataset, reason)

    def __str__(self) -> str:
        return f"dataset '{self.dataset}' is not supported: {self.reason}"
