"""A strip of event images with the outlines of their masks, and what a sample of images tells."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import h5py
import numpy as np
import numpy.typing as npt
from PIL import Image

from dcorflow.dclab_parts import load_dclab
from dcorflow.portrait.events import Events, Values
from dcorflow.portrait.svg import WIDTH, number, path_data, svg, text, webp

Pixels = npt.NDArray[np.uint8]
#: Images read, evenly spread over the measurement.
_SAMPLE = 12
#: Bytes of them all at most; what is not read at all: larger images, or such in larger chunks.
_MOST_BYTES, _LARGEST, _LARGEST_CHUNK = 16 << 20, 16 << 20, 32 << 20
#: An outline is looked for in at most so many rows and columns, of every n-th pixel if need be.
_FINEST = 400
#: Layouts by the least ratio of width to height: columns and rows.
_LAYOUTS = ((4.5, 1, 4), (2.0, 2, 3), (1.2, 3, 2), (0.0, 5, 1))
_GAP, _CAPTION = 6, 15
#: Pixels of the strip per user unit; the qualities of its WebP, tried until it is small enough (bytes of
#: base64): only noise needs another than the first.
_SCALE, _QUALITIES, _LARGEST_STRIP = 1.0, (55, 30, 10, 1), 6000
#: Points of an outline may be left out where it moves by less than so many pixels.
_TOLERANCE = 0.45
#: The median of an image needs about so many of its pixels, in even distances.
_ENOUGH = 4000
_MASK_COLOUR = "#ffd400"


class Images:
    """A sample of a measurement's images.

    Parameters
    ----------
    events
        The open measurement.
    stack
        Its images.
    """

    def __init__(self, events: Events, stack: h5py.Dataset) -> None:
        self.events = events
        self.height, self.width = stack.shape[1:]
        count = min(_SAMPLE, events.count, max(1, _MOST_BYTES // (stack[0].nbytes or 1)))
        self.numbers = ((np.arange(count) + 0.5) * events.count / count).astype(np.int64)
        self.pixels = np.stack([stack[n] for n in self.numbers.tolist()])
        self.full = float(np.iinfo(stack.dtype).max) if stack.dtype.kind in "ui" else 1.0
        self.background = self._background()

    def _background(self) -> Values:
        """Return the median brightness of each background, or of each image: most of it is background."""
        stack = self.events.stack("image_bg")
        images = iter(self.pixels)
        if stack is not None and _is_readable(stack):
            images = (stack[n] for n in self.numbers.tolist())
        step = max(1, math.isqrt(self.height * self.width // _ENOUGH))
        return np.array([float(np.median(image[::step, ::step])) for image in images])

    @property
    def saturated(self) -> Values:
        """The share of pixels of each image that are as bright as can be."""
        return np.asarray((self.pixels == self.full).mean(axis=(1, 2)))

    @property
    def empty(self) -> npt.NDArray[np.bool_]:
        """Whether each image shows one grey value only."""
        return np.asarray(self.pixels.min(axis=(1, 2)) == self.pixels.max(axis=(1, 2)))


def images_of(events: Events) -> Images | None:
    """Return a sample of images; None where a measurement has none that can be read."""
    stack = events.stack("image")
    return Images(events, stack) if stack is not None and events.count and _is_readable(stack) else None


def _is_readable(stack: h5py.Dataset) -> bool:
    one, chunk = (
        math.prod(shape) * stack.dtype.itemsize for shape in (stack.shape[1:], stack.chunks or (0,))
    )
    return one <= _LARGEST and chunk <= _LARGEST_CHUNK


def strip(images: Images, alt: str) -> tuple[str, int]:
    """Return the picture, and how many images it shows."""
    ratio = images.width / images.height
    columns, rows = next((c, r) for least, c, r in _LAYOUTS if ratio >= least)
    places = np.linspace(0, len(images.numbers) - 1, min(columns * rows, len(images.numbers)))
    shown = [round(place) for place in places.tolist()]
    rows = -(-len(shown) // columns)
    width = (WIDTH - _GAP * (columns - 1)) / columns
    height = min(width / ratio, 240.0)
    width = height * ratio
    step = height + _CAPTION + _GAP
    scale = min(_SCALE, images.width / width)
    sheet = np.zeros((round(rows * step * scale), round(WIDTH * scale), 2), np.uint8)
    parts = []
    for place, (n, outline) in enumerate(zip(shown, _outlines(images, shown), strict=True)):
        left, top = (place % columns) * (width + _GAP), (place // columns) * step
        x, y, w, h = (round(v * scale) for v in (left, top, width, height))
        tile = np.asarray(Image.fromarray(_grey(images, n)).resize((w, h), Image.Resampling.LANCZOS))
        cut = sheet[y : y + h, x : x + w]
        cut[..., 0], cut[..., 1] = tile[: cut.shape[0], : cut.shape[1]], 255
        parts.append(text(left + 1, top + height + 11, _caption(images, n), "start", "note"))
        for points in outline:
            at = points * (width / images.width, height / images.height) + (left, top)
            parts.append(
                f"<path class='mask' d='{path_data(at, closed=True)}' fill='none' "
                f"stroke='{_MASK_COLOUR}' stroke-width='.9'/>"
            )
    rgba = sheet[..., [0, 0, 0, 1]]
    for quality in _QUALITIES:
        data = webp(rgba, quality=quality, method=2, alpha_quality=100)
        if len(data) <= _LARGEST_STRIP:
            break
    image = f"<image width='{WIDTH}' height='{number(sheet.shape[0] / scale)}' href='{data}'/>"
    return svg("images", alt, [image, *parts], rows * step - _GAP), len(shown)


def _grey(images: Images, n: int) -> Pixels:
    """Return an image with 8 bits: as it is, or stretched to what the sample holds."""
    pixels = images.pixels[n]
    if pixels.dtype == np.uint8:
        return np.asarray(pixels)
    low, high = float(images.pixels.min()), float(images.pixels.max())
    return np.asarray(((pixels - low) * (255 / max(high - low, 1))).astype(np.uint8))


def _caption(images: Images, n: int) -> str:
    number_ = int(images.numbers[n])
    time = images.events.time
    when = "" if time is None else f", {float(np.interp(number_, images.events.index, time)):.1f} s"
    return f"event {number_ + 1}{when}"


def _outlines(images: Images, shown: list[int]) -> Iterator[list[Values]]:
    """Yield the outlines of the event in each image shown, in pixels, each of shape (n, 2) as x, y."""
    load_dclab()
    from dclab.external.skimage.measure import find_contours

    mask, group = images.events.stack("mask"), images.events.group.get("contour")
    for n in (int(images.numbers[n]) for n in shown):
        found: list[Values] = []
        if mask is not None and _is_readable(mask):
            found = _around(mask[n] > 0, find_contours)
        elif isinstance(group, h5py.Group) and isinstance(group.get(str(n)), h5py.Dataset):
            points = np.asarray(group[str(n)])
            found = [points.astype(float) + 0.5] if points.ndim == 2 and points.shape[1] == 2 else []
        largest = sorted(found, key=len, reverse=True)[:3]
        yield [thinned(p[:: len(p) // 1000 + 1], _TOLERANCE) for p in largest if len(p) > 3]


def _around(mask: npt.NDArray[np.bool_], find_contours: Callable[..., list[Values]]) -> list[Values]:
    """Return the lines around what is set in a mask, in pixels, each of shape (n, 2) as x, y."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return []
    top, left = int(rows[0]), int(columns[0])
    cut = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    step = -(-max(cut.shape) // _FINEST)
    lines = find_contours(np.pad(cut[::step, ::step], 1).astype(float), 0.5)
    return [(line[:, ::-1] - 0.5) * step + (left, top) for line in lines]


def thinned(points: Values, tolerance: float) -> Values:
    """Return a line with fewer points that keeps within `tolerance` (Douglas-Peucker)."""
    keep = np.zeros(len(points), bool)
    keep[[0, -1]] = True
    waiting = [(0, len(points) - 1)]
    while waiting:
        first, last = waiting.pop()
        if last - first < 2:
            continue
        start, chord = points[first], points[last] - points[first]
        away = points[first + 1 : last] - start
        length = float(np.hypot(*chord))
        if length:
            distance = np.abs(chord[0] * away[:, 1] - chord[1] * away[:, 0]) / length
        else:
            distance = np.hypot(*away.T)
        worst = int(distance.argmax())
        if distance[worst] > tolerance:
            keep[first + 1 + worst] = True
            waiting += [(first, first + 1 + worst), (first + 1 + worst, last)]
    return points[keep]
