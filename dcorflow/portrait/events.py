"""Read a sample of a measurement's events, whatever its size: features, images, names."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from dcorflow.hdf5 import open_source, text_of

Values = npt.NDArray[np.float64]
#: Scalar features are read whole up to this many events, else in blocks spread evenly over the
#: measurement that hold as many: 1.6 MB per feature.
WHOLE = 200_000
_BLOCKS = 16
#: Cache for decoded chunks: holds the chunk that several images are taken from.
_CACHE = 4 << 20


class Events:
    """The events of one open measurement.

    Parameters
    ----------
    h5
        The file; it stays open as long as this is used.
    metadata
        Values ``section:key`` of the measurement.
    """

    def __init__(self, h5: h5py.File, metadata: Mapping[str, Any]) -> None:
        self.group = h5["events"]
        self.metadata = metadata
        self._read: dict[str, Values | None] = {}

    @cached_property
    def scalars(self) -> dict[str, h5py.Dataset]:
        """All features with one number per event."""
        found = {}
        for name, item in self.group.items():
            if isinstance(item, h5py.Dataset) and item.ndim == 1 and item.dtype.kind in "fiub":
                found[name] = item
        return found

    @cached_property
    def count(self) -> int:
        """The number of events: that of most features."""
        lengths = [item.shape[0] for item in self.scalars.values()]
        lengths += [item.shape[0] for item in self.group.values() if _is_stack(item)]
        return max(lengths, key=lambda n: (lengths.count(n), n), default=0)

    @cached_property
    def index(self) -> npt.NDArray[np.int64]:
        """Numbers of the events whose features are read, from 0, ascending."""
        if self.count <= WHOLE:
            return np.arange(self.count)
        return np.concatenate([np.arange(start, stop) for start, stop in self._blocks()])

    def _blocks(self) -> list[tuple[int, int]]:
        if self.count <= WHOLE:
            return [(0, self.count)]
        size = WHOLE // _BLOCKS
        starts = np.linspace(0, self.count - size, _BLOCKS).astype(int).tolist()
        return [(start, start + size) for start in starts]

    def __contains__(self, name: str) -> bool:
        return self[name] is not None

    def __getitem__(self, name: str) -> Values | None:
        """Return a feature's values for the events of `index`; None where it has none."""
        if name not in self._read:
            item = self.scalars.get(name)
            if item is None or item.shape[0] != self.count or not self.count:
                self._read[name] = None
            else:
                parts = [item[start:stop] for start, stop in self._blocks()]
                self._read[name] = np.concatenate(parts).astype(np.float64)
        return self._read[name]

    def stack(self, name: str) -> h5py.Dataset | None:
        """Return a feature with one image per event, of shape (events, height, width)."""
        item = self.group.get(name)
        return item if _is_stack(item) and item.shape[0] == self.count else None

    @cached_property
    def time(self) -> Values | None:
        """Seconds of each event of `index`; None where neither times nor frames are of use.

        From the frame number where there is no time, from zero then.
        """
        found = self["time"]
        if found is None or not _advances(found):
            rate, frame = self.number("imaging:frame rate"), self["frame"]
            if rate is None or frame is None:
                return None
            found = (frame - frame[0]) / rate
        return found if _advances(found) else None

    def number(self, key: str) -> float | None:
        """Return a metadata value as a positive number; None where it is none."""
        try:
            value = float(self.metadata[key])
        except (KeyError, TypeError, ValueError):
            return None
        return value if 0 < value < np.inf else None

    def text(self, key: str) -> str:
        """Return a metadata value as text on one line, empty where it is not there."""
        return " ".join(text_of(self.metadata.get(key, "")).split())


class OpenEvents:
    """Opens a prepared file as `Events` for the length of a `with` block."""

    def __init__(self, path: Any, metadata: Mapping[str, Any]) -> None:
        self._h5 = open_source(path, cache=_CACHE)
        self._metadata = metadata

    def __enter__(self) -> Events:
        return Events(self._h5, self._metadata)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._h5.close()


def _is_stack(item: object) -> bool:
    return (
        isinstance(item, h5py.Dataset)
        and item.ndim == 3
        and item.dtype.kind in "uib"
        and 0 not in item.shape[1:]
    )


def _advances(time: Values) -> bool:
    """Return whether these can be the times of events: finite numbers, and not all the same."""
    return bool(np.isfinite(time).all()) and bool(np.ptp(time) > 0)
