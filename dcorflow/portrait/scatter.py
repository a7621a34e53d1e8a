"""Deformation against area as a density scatter with dclab's contours, and its thumbnail."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dcorflow.dclab_parts import definitions
from dcorflow.portrait.density import Density, contours, density_of, quantile_levels
from dcorflow.portrait.events import Events, Values
from dcorflow.portrait.svg import (
    HEIGHT,
    LINES,
    Axes,
    dots,
    grouped,
    line,
    number,
    svg,
    text,
    webp,
    webp_base64,
)

#: Shares of the events outside of the contours, as dclab and Shape-Out draw them.
_QUANTILES = (0.5, 0.95)
#: Events that the contours' levels are interpolated from.
_FOR_LEVELS = 20_000
#: Cells of the picture's raster, two user units wide, and of the thumbnail.
_CELLS = (164, 109)
_THUMBNAIL = (80, 60)
_THUMBNAIL_SCALE = 2
#: From so many events on they are drawn as cells coloured by density, below as dots (user units wide).
_MANY, _DOT = 100, 4.0
#: Axes reach beyond these quantiles by this share of what lies between: single events far away must not
#: shrink all others; they are counted instead.
_TRIMMED, _BEYOND = (0.02, 0.98), 0.4
#: Room at the ends of an axis.
_ROOM = 0.05
#: From few events to many in one place: all middle tones, for light and for dark ground.
_RAMP = np.array(
    [(86, 120, 205), (39, 152, 196), (38, 174, 140), (132, 186, 60), (232, 176, 20), (240, 120, 30)]
)
#: Exponent on the density, so that what is rare is not all of one colour.
_GAMMA = 0.7
#: Steps of the ramp: few colours make a small file.
_STEPS = 9
_GREY = (128, 128, 128, 255)


class Cloud(NamedTuple):
    """Area (um²) and deformation of those events that have both."""

    area: Values
    deform: Values


def cloud_of(events: Events) -> Cloud | None:
    """Return what the scatter shows; None where the measurement lacks a feature."""
    area, deform = events["area_um"], events["deform"]
    if deform is None and (circ := events["circ"]) is not None:
        deform = 1 - circ  # so dclab defines it
    pixel = events.number("imaging:pixel size")
    if area is None and pixel and (convex := events["area_cvx"]) is not None:
        area = convex * pixel**2
    if area is None or deform is None:
        return None
    good = np.isfinite(area) & np.isfinite(deform)
    return Cloud(area[good], deform[good])


def limits(values: Values, floor: float | None = None) -> tuple[float, float]:
    """Return the range that an axis shows: all but the outermost events, and some room.

    `floor` is a value below which none can lie.
    """
    least, most = float(values.min()), float(values.max())
    low, high = least, most
    if len(values) >= _MANY:
        low, high = np.quantile(values, _TRIMMED).tolist()
        beyond = _BEYOND * (high - low)
        low, high = max(least, low - beyond), min(most, high + beyond)
    room = _ROOM * (high - low) or _ROOM * abs(high) or 1.0
    return low - room if floor is None else max(floor, low - room), high + room


def _inside(cloud: Cloud, x: tuple[float, float], y: tuple[float, float]) -> npt.NDArray[np.bool_]:
    area, deform = cloud
    return (area >= x[0]) & (area <= x[1]) & (deform >= y[0]) & (deform <= y[1])


def raster(
    cloud: Cloud, density: Density | None, axes: Axes, cells: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """Return the events as pixels, RGBA of shape (cells up, cells across, 4), coloured by density."""
    counts, across, up = np.histogram2d(cloud.area, cloud.deform, bins=cells, range=(axes.x, axes.y))
    shade = np.zeros(cells)
    if density is not None:
        columns = np.searchsorted(density.x, (across[:-1] + across[1:]) / 2).clip(0, len(density.x) - 1)
        rows = np.searchsorted(density.y, (up[:-1] + up[1:]) / 2).clip(0, len(density.y) - 1)
        shade = (density.values[np.ix_(columns, rows)] / density.values.max()).clip(0, 1) ** _GAMMA
    ramp = _ramp()
    pixels = np.zeros((*cells, 4), np.uint8)
    shown = counts > 0
    pixels[shown, :3] = ramp[(shade[shown] * (len(ramp) - 1)).round().astype(int)]
    pixels[shown, 3] = 255
    return np.ascontiguousarray(pixels.transpose(1, 0, 2)[::-1])


def _ramp() -> npt.NDArray[np.uint8]:
    places = np.linspace(0, len(_RAMP) - 1, _STEPS)
    return (
        np.stack([np.interp(places, range(len(_RAMP)), c) for c in _RAMP.T], axis=1).round().astype(np.uint8)
    )


class Scatter:
    """What scatter and thumbnail share."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.x, self.y = limits(cloud.area, floor=0), limits(cloud.deform, floor=0)
        inside = _inside(cloud, self.x, self.y)
        self.outside = len(cloud.area) - int(inside.sum())
        self.density = density_of(cloud.area[inside], cloud.deform[inside], self.x, self.y)

    def svg(self, alt: str) -> str:
        """Return the picture."""
        axes = Axes(54, 20, 2 * _CELLS[0], 2 * _CELLS[1], self.x, self.y)
        events = dots(axes.at(*self.cloud), "event", LINES[0], _DOT)
        if len(self.cloud.area) >= _MANY:
            events = self._image(axes)
        lines = [
            line(axes.at(points[:, 0], points[:, 1]), f"contour contour{n + 1}", "currentColor", 1.0)
            for n, several in enumerate(self._contours())
            for points in several
        ]
        frame = axes.frame(feature_label("area_um"), feature_label("deform"))
        note = f"{grouped(self.outside)} outside" if self.outside else ""
        aside = [text(axes.left + axes.width, axes.top - 6, note, "end", "note")] if note else []
        return svg("scatter", alt, [*frame, *aside, events, *lines], HEIGHT)

    def _image(self, axes: Axes) -> str:
        pixels = raster(self.cloud, self.density, axes, _CELLS)
        return (
            f"<image x='{number(axes.left)}' y='{number(axes.top)}' width='{number(axes.width)}' "
            f"height='{number(axes.height)}' image-rendering='pixelated' preserveAspectRatio='none' "
            f"href='{webp(pixels, lossless=True, quality=80, method=4)}'/>"
        )

    def _contours(self) -> list[list[Values]]:
        if self.density is None:
            return []
        step = max(1, len(self.cloud.area) // _FOR_LEVELS)
        area, deform = (values[::step] for values in self.cloud)
        return contours(self.density, quantile_levels(self.density, area, deform, _QUANTILES))

    def thumbnail(self) -> str:
        """Return the small picture: the cloud and the corner of its axes, WebP in base64."""
        axes = Axes(0, 0, 1, 1, self.x, self.y)
        pixels = raster(self.cloud, self.density, axes, _THUMBNAIL)
        if len(self.cloud.area) < _MANY:
            pixels = _thick(pixels)
        pixels = pixels.repeat(_THUMBNAIL_SCALE, axis=0).repeat(_THUMBNAIL_SCALE, axis=1)
        pixels[:, :1] = pixels[-1:, :] = _GREY
        return webp_base64(pixels, lossless=True, quality=80, method=4)


def _thick(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return pixels with each one that is set made two wide and two high."""
    found = pixels.copy()
    for target, source in (
        (found[1:], pixels[:-1]),
        (found[:, 1:], pixels[:, :-1]),
        (found[1:, 1:], pixels[:-1, :-1]),
    ):
        free = (target[..., 3] == 0) & (source[..., 3] > 0)
        target[free] = source[free]
    return found


def feature_label(name: str) -> str:
    """Return how dclab calls a feature, with its unit."""
    return str(definitions().get_feature_label(name))
