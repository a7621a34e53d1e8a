"""Simulate RT-DC events: images, masks, traces and the features that follow from them.

The images show what a camera sees in real-time deformability cytometry: a channel between two
walls, a dark cell with a bright halo, sensor noise. All randomness comes from one seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

PIXEL_SIZE = 0.34  # um
FRAME_RATE = 2000.0  # Hz
CHANNEL_WIDTH = 20.0  # um
SAMPLE_RATE = 312500  # Hz, of the fluorescence traces
SAMPLES_PER_EVENT = 177
TRACE_BASELINE = 20
EVENTS_PER_BACKGROUND = 20
AREA_RANGE = (20.0, 200.0)  # um^2
DEFORM_RANGE = (0.005, 0.2)
PATCH = (60, 96)  # px, holds the largest cell and its halo

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Population:
    """Cells of one kind: their share, median area in um^2, median deformation, their spreads."""

    share: float
    area: float
    deform: float
    area_spread: float = 0.13
    deform_spread: float = 0.25
    fluorescence: tuple[float, float, float] = (1800.0, 600.0, 900.0)


#: What can be measured; the first population of each kind is the most frequent one.
SAMPLES: dict[str, tuple[Population, ...]] = {
    "blood": (
        Population(0.7, 55.0, 0.045, fluorescence=(2600.0, 300.0, 400.0)),
        Population(0.3, 34.0, 0.030, fluorescence=(250.0, 1400.0, 300.0)),
    ),
    "HL60": (Population(1.0, 105.0, 0.055),),
    "beads": (Population(1.0, 68.0, 0.008, area_spread=0.03, deform_spread=0.12),),
}


@dataclass(frozen=True)
class Events:
    """Simulated events.

    `image`, `image_bg` and `mask` are uint8 of shape (events, height, width), a mask is 0 or 255;
    `trace` holds int16 of shape (events, samples); `scalars` maps feature names to float64.
    """

    image: NDArray[np.uint8]
    image_bg: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    trace: dict[str, NDArray[np.int16]]
    scalars: dict[str, NDArray[np.float64]]

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True)
class _Shapes:
    """Outlines in pixels: semi-axes, shear, asymmetry, centre, and the origin of the patch."""

    deform: Array
    semi_x: Array
    semi_y: Array
    shear: Array
    skew: Array
    centre_x: Array
    centre_y: Array
    left: NDArray[np.int64]
    top: NDArray[np.int64]


def simulate(
    count: int,
    seed: int = 0,
    *,
    roi: tuple[int, int] = (80, 250),
    sample: str = "blood",
    fluorescence: bool = True,
) -> Events:
    """Simulate `count` events of `sample` (a key of SAMPLES) in a region of `roi` pixels.

    `roi` is (height, width), at least (32, 48). The same arguments give the same events.
    """
    rng = np.random.default_rng([seed, count])
    populations = SAMPLES[sample]
    kind = rng.choice(len(populations), count, p=[p.share for p in populations])
    shapes = _draw_shapes(rng, kind, populations, roi)
    distance = _distance_to_outline(shapes, roi)
    inside = distance < 0
    image, image_bg, values = _expose(rng, shapes, distance, roi)
    mask = np.zeros((count, *roi), np.uint8)
    for index, patch in enumerate(_patches(mask, shapes, roi)):
        patch[inside[index]] = 255
    scalars = _measure_shape(shapes, inside) | _measure_brightness(values, inside)
    scalars |= _measure_run(rng, count)
    scalars["area_msd"] = scalars["area_cvx"] / scalars["area_ratio"]
    trace: dict[str, NDArray[np.int16]] = {}
    if fluorescence:
        trace, peaks = _record_traces(rng, kind, populations)
        scalars |= peaks
    return Events(image, image_bg, mask, trace, scalars)


@cache
def _deformation_table() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return deformations and the aspect ratios of the ellipses that have them.

    Deformation is 1 - circularity; the perimeter is Ramanujan's second approximation.
    """
    aspect = np.linspace(1, 4, 600)
    h = ((aspect - 1) / (aspect + 1)) ** 2
    perimeter = np.pi * (aspect + 1) * (1 + 3 * h / (10 + np.sqrt(4 - 3 * h)))
    return 1 - 2 * np.pi * np.sqrt(aspect) / perimeter, aspect


@cache
def _grain() -> NDArray[np.int8]:
    """Return a pool of sensor noise in grey levels; each image takes a random stretch of it."""
    noise = np.random.default_rng(7).standard_normal(1 << 21, dtype=np.float32)
    return np.rint(noise * 2.4).astype(np.int8)


@cache
def _texture() -> Array:
    """Return a smooth random field (mean 0, deviation 1) for the inside of cells."""
    noise = np.random.default_rng(11).standard_normal((256, 256))
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None, :])
    field = np.fft.irfft2(np.fft.rfft2(noise) * np.exp(-((frequency / 0.07) ** 2)))
    return (field / field.std()).astype(np.float32)


def _half_width(roi: tuple[int, int]) -> float:
    """Return the distance in px from the middle of the channel to its walls."""
    return min(CHANNEL_WIDTH / 2 / PIXEL_SIZE, roi[0] / 2 - 4)


@cache
def _channel(roi: tuple[int, int]) -> Array:
    """Return the empty channel in grey levels: two walls with fringes, uneven light, some dirt."""
    height, width = roi
    y = np.arange(height) - (height - 1) / 2
    x = np.arange(width)[None, :]
    wall = _half_width(roi) - np.abs(y)  # px, positive in the channel
    profile = 104 - 22 / (1 + np.exp(wall / 1.5))
    for offset, depth, spread in ((0, -34, 1.1), (2.6, 16, 1.2), (5.5, -6, 1.4), (9, 5, 2.5)):
        profile = profile + depth * np.exp(-0.5 * ((wall - offset) / spread) ** 2)
    image = profile[:, None] * (1 + 0.05 * np.sin(np.pi * (x + 0.2 * width) / width))
    rng = np.random.default_rng(13)
    for _ in range(6):
        spot = np.hypot(y[:, None] - rng.uniform(y[0], y[-1]), x - rng.uniform(0, width))
        image = image - rng.uniform(2, 7) * np.exp(-0.5 * (spot / rng.uniform(0.8, 1.6)) ** 2)
    return image.astype(np.float32)


def _patch_size(roi: tuple[int, int]) -> tuple[int, int]:
    return min(PATCH[0], roi[0]), min(PATCH[1], roi[1])


def _patches(images: NDArray[np.uint8], shapes: _Shapes, roi: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Yield the view of each image around its cell."""
    height, width = _patch_size(roi)
    for image, top, left in zip(images, shapes.top.tolist(), shapes.left.tolist(), strict=True):
        yield image[top : top + height, left : left + width]


def _draw_shapes(
    rng: np.random.Generator,
    kind: NDArray[np.int64],
    populations: tuple[Population, ...],
    roi: tuple[int, int],
) -> _Shapes:
    """Draw outlines; within a population, larger cells deform more."""
    count = len(kind)
    height, width = _patch_size(roi)
    median = np.array([p.area for p in populations])[kind]
    spread = np.array([p.area_spread for p in populations])[kind]
    largest = np.pi * ((height / 2 - 6) * PIXEL_SIZE) ** 2
    area = np.clip(median * np.exp(spread * rng.standard_normal(count)), *AREA_RANGE)
    area = np.minimum(area, largest * 0.97)
    deform = np.array([p.deform for p in populations])[kind] * (area / median) ** 1.3
    scatter = np.array([p.deform_spread for p in populations])[kind]
    deform = np.clip(deform * np.exp(scatter * rng.standard_normal(count)), *DEFORM_RANGE)
    aspect = np.interp(deform, *_deformation_table())
    semi_y = np.sqrt(area / np.pi / aspect) / PIXEL_SIZE
    semi_x = np.minimum(semi_y * aspect, width / 2 - 6)
    centre_x = rng.uniform(width / 2, roi[1] - width / 2, count)
    room = np.clip(_half_width(roi) - semi_y - 3, 0, max((roi[0] - height) / 2 - 1, 0))
    centre_y = (roi[0] - 1) / 2 + np.clip(rng.normal(0, 2, count), -room, room)
    return _Shapes(
        deform=deform.astype(np.float32),
        semi_x=semi_x.astype(np.float32),
        semi_y=semi_y.astype(np.float32),
        shear=rng.normal(0, 0.02, count).astype(np.float32),
        skew=(rng.uniform(0.0, 0.6, count) * deform).astype(np.float32),
        centre_x=centre_x.astype(np.float32),
        centre_y=centre_y.astype(np.float32),
        left=np.clip(np.rint(centre_x - width / 2), 0, roi[1] - width).astype(np.int64),
        top=np.clip(np.rint(centre_y - height / 2), 0, roi[0] - height).astype(np.int64),
    )


def _distance_to_outline(shapes: _Shapes, roi: tuple[int, int]) -> Array:
    """Return, per pixel of the patches, about the distance to the outline; negative inside."""
    height, width = _patch_size(roi)
    x = np.arange(width, dtype=np.float32) + (shapes.left - shapes.centre_x)[:, None]
    y = np.arange(height, dtype=np.float32) + (shapes.top - shapes.centre_y)[:, None]
    x, y = x.astype(np.float32), y.astype(np.float32)
    stretch = shapes.semi_x[:, None] * (1 + np.sign(x) * shapes.skew[:, None])
    across = y[:, :, None] - (x * shapes.shear[:, None])[:, None, :]
    across /= shapes.semi_y[:, None, None]
    across *= across
    across += ((x / stretch) ** 2)[:, None, :]
    distance = np.sqrt(across, out=across)
    distance -= 1
    distance *= np.sqrt(shapes.semi_x * shapes.semi_y)[:, None, None]
    return distance


def _expose(
    rng: np.random.Generator, shapes: _Shapes, distance: Array, roi: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Take the pictures: return images, backgrounds, and the images' patches around the cells."""
    count = len(distance)
    height, width = _patch_size(roi)
    size = roi[0] * roi[1]
    grain, texture, channel = _grain(), _texture(), _channel(roi)
    rows = rng.integers(0, 256 - height, count).tolist()
    columns = rng.integers(0, 256 - width, count).tolist()
    starts = rng.integers(0, grain.size - size, count).tolist()
    depth = np.clip(rng.normal(42, 5, count), 28, 52)
    image = np.empty((count, *roi), np.uint8)
    image_bg = np.empty_like(image)
    values = np.empty((count, height, width), np.uint8)
    base = channel
    for index, patch in enumerate(_patches(image, shapes, roi)):
        if index % EVENTS_PER_BACKGROUND == 0:
            dim = grain[-size - index : grain.size - index].reshape(roi) * np.float32(0.15)
            base = np.rint(channel + np.float32(np.sin(index / 300)) + dim).astype(np.uint8)
        field = texture[rows[index] : rows[index] + height, columns[index] :][:, :width]
        cell = _shade(distance[index], field, float(depth[index]))
        start = starts[index]
        # grey levels stay far from 0 and 255, so 8 bits do not overflow
        image[index] = base + grain[start : start + size].reshape(roi).view(np.uint8)
        patch += cell.astype(np.int8).view(np.uint8)
        values[index] = patch
        image_bg[index] = base
    return image, image_bg, values


def _shade(distance: Array, field: Array, depth: float) -> Array:
    """Return what one cell adds to the background: dark inside with texture, a rim, a halo."""
    near = np.clip(distance, -12, 12)
    inside = 1 / (1 + np.exp(near * 1.6))
    rim = np.exp(-0.4 * (near + 1) ** 2)
    halo = np.exp(-0.12 * (near - 3.5) ** 2)
    return np.rint(inside * (5 * field - depth) - 12 * rim + 13 * halo)


def _measure_shape(shapes: _Shapes, inside: NDArray[np.bool_]) -> dict[str, NDArray[np.float64]]:
    """Measure what dclab derives from the mask; positions and sizes in um, areas in px and um^2."""
    columns, rows = inside.sum(1, dtype=np.int64), inside.sum(2, dtype=np.int64)
    count = rows.sum(1).astype(np.float64)
    x, y = np.arange(columns.shape[1]), np.arange(rows.shape[1])
    mean_x, mean_y = columns @ x / count, rows @ y / count
    var_x = columns @ x**2 / count - mean_x**2
    var_y = rows @ y**2 / count - mean_y**2
    weighted = np.matmul(inside.astype(np.float32), x.astype(np.float32))
    covariance = weighted.astype(np.float64) @ y / count - mean_x * mean_y
    spread = np.hypot((var_x - var_y) / 2, covariance)
    mean_var = (var_x + var_y) / 2
    size_x = np.count_nonzero(columns, axis=1) * PIXEL_SIZE
    size_y = np.count_nonzero(rows, axis=1) * PIXEL_SIZE
    deform = shapes.deform.astype(np.float64)
    return {
        "area_cvx": count,
        "area_um": count * PIXEL_SIZE**2,
        "area_ratio": 1.005 + 0.4 * deform,
        "aspect": size_x / size_y,
        "circ": 1 - deform,
        "deform": deform,
        "inert_ratio_cvx": np.sqrt(var_x / var_y),
        "inert_ratio_raw": np.sqrt(var_x / var_y) * (1 + 0.05 * deform),
        "inert_ratio_prnc": np.sqrt((mean_var + spread) / (mean_var - spread)),
        "pos_x": (mean_x + shapes.left) * PIXEL_SIZE,
        "pos_y": (mean_y + shapes.top) * PIXEL_SIZE,
        "size_x": size_x,
        "size_y": size_y,
        "tilt": np.abs(np.arctan2(2 * covariance, var_x - var_y) / 2),
    }


def _measure_brightness(
    values: NDArray[np.uint8], inside: NDArray[np.bool_]
) -> dict[str, NDArray[np.float64]]:
    """Measure mean and deviation of the grey levels inside the masks."""
    levels = np.where(inside, values, 0).reshape(len(values), -1)
    count = inside.sum((1, 2), dtype=np.int64)
    mean = levels.sum(1, dtype=np.float64) / count
    wide = levels.astype(np.float32)
    square = np.einsum("ij,ij->i", wide, wide, dtype=np.float64) / count
    return {"bright_avg": mean, "bright_sd": np.sqrt(square - mean**2)}


def _measure_run(rng: np.random.Generator, count: int) -> dict[str, NDArray[np.float64]]:
    """Return what changes during the run: frame, time in s, temperature in deg C, online index."""
    frame = 100 + np.cumsum(rng.integers(4, 220, count), dtype=np.float64)
    return {
        "frame": frame,
        "time": (frame - frame[:1]) / FRAME_RATE,
        "temp": np.round(23 + np.cumsum(rng.normal(0, 0.004, count)), 2),
        "index_online": np.cumsum(rng.integers(1, 4, count)).astype(np.float64),
    }


def _record_traces(
    rng: np.random.Generator, kind: NDArray[np.int64], populations: tuple[Population, ...]
) -> tuple[dict[str, NDArray[np.int16]], dict[str, NDArray[np.float64]]]:
    """Record three channels: raw and median-filtered (3 samples) traces, and their peaks.

    Positions and widths are in us, areas in samples times digits.
    """
    count = len(kind)
    x = np.arange(SAMPLES_PER_EVENT, dtype=np.float32)
    centre = rng.normal(SAMPLES_PER_EVENT / 2, 6, count).astype(np.float32)
    pulse = np.exp(-0.5 * ((x - centre[:, None]) / 12) ** 2)
    traces: dict[str, NDArray[np.int16]] = {}
    peaks: dict[str, NDArray[np.float64]] = {}
    for channel in (1, 2, 3):
        bright = np.array([p.fluorescence[channel - 1] for p in populations])[kind]
        height = (bright * np.exp(0.35 * rng.standard_normal(count))).astype(np.float32)
        noise = rng.standard_normal((count, SAMPLES_PER_EVENT), dtype=np.float32) * 8
        raw = np.rint(TRACE_BASELINE + height[:, None] * pulse + noise).astype(np.int16)
        low, high = np.minimum(raw[:, :-1], raw[:, 1:]), np.maximum(raw[:, :-1], raw[:, 1:])
        median = raw.copy()
        median[:, 1:-1] = np.maximum(low[:, :-1], np.minimum(high[:, :-1], raw[:, 2:]))
        top = median.max(1)
        above = np.count_nonzero(median > top[:, None] / 2, axis=1)
        microseconds = 1e6 / SAMPLE_RATE
        traces |= {f"fl{channel}_raw": raw, f"fl{channel}_median": median}
        peaks |= {
            f"fl{channel}_max": top.astype(np.float64),
            f"fl{channel}_pos": median.argmax(1) * microseconds,
            f"fl{channel}_width": above * microseconds,
            f"fl{channel}_area": (median - TRACE_BASELINE).sum(1, dtype=np.int64) * 1.0,
        }
    return traces, peaks
