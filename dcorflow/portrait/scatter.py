"""Deformation against area as a density scatter with dclab's contours, and its thumbnail."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dcorflow.portrait.events import Events, Values
from dcorflow.portrait.svg import HEIGHT, Axes, line, number, svg, webp, webp_base64

#: Shares of the events outside of the contours, as dclab and Shape-Out draw them.
_QUANTILES = (0.5, 0.95)
#: Events that the contours' levels are interpolated from.
_FOR_LEVELS = 20_000
#: Cells of the picture's raster, two user units wide, and of the thumbnail.
_CELLS = (164, 114)
_THUMBNAIL = (80, 60)
_THUMBNAIL_SCALE = 2
#: Fewer events have no density worth drawing.
_FEWEST = 10
#: Least and most places of the density's grid.
_GRID = (20, 120)
#: Events outside of these quantiles must not shrink the rest; they are counted instead.
_TRIMMED = (0.002, 0.998)
#: From few events to many in one place: all middle tones, for light and for dark ground.
_RAMP = np.array(
    [(86, 120, 205), (39, 152, 196), (38, 174, 140), (132, 186, 60), (232, 176, 20), (240, 120, 30)]
)
#: Steps of the ramp: few colours make a small file.
_STEPS = 12
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


class Density(NamedTuple):
    """A density on a grid: `x` of n, `y` of m places, `values` of shape (n, m)."""

    x: Values
    y: Values
    values: Values


def limits(values: Values, floor: float | None = None) -> tuple[float, float]:
    """Return the range that an axis shows: all but the outermost events, and some room.

    `floor` is a value below which none can lie.
    """
    low, high = np.quantile(values, _TRIMMED).tolist()
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    least = float(values.min()) - room if floor is None else max(floor, float(values.min()) - room)
    return max(low - room, least), min(high + room, float(values.max()) + room)


def density_of(cloud: Cloud, x: tuple[float, float], y: tuple[float, float]) -> Density | None:
    """Return dclab's density of the events within limits; None where there is none to speak of."""
    from dclab.kde.binning import bin_width_percentile
    from dclab.kde.methods import kde_histogram

    inside = _inside(cloud, x, y)
    area, deform = cloud.area[inside], cloud.deform[inside]
    if len(area) < _FEWEST or not (np.ptp(area) > 0 and np.ptp(deform) > 0):
        return None
    grids = []
    for values, (low, high) in ((area, x), (deform, y)):
        cells = np.ceil((high - low) / bin_width_percentile(values))
        grids.append(np.linspace(low, high, int(np.clip(cells, *_GRID))))
    across, up = np.meshgrid(*grids, indexing="ij")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = kde_histogram(area, deform, xout=across, yout=up)
    return Density(grids[0], grids[1], values) if np.nanmax(values) > 0 else None


def _inside(cloud: Cloud, x: tuple[float, float], y: tuple[float, float]) -> npt.NDArray[np.bool_]:
    area, deform = cloud
    return (area >= x[0]) & (area <= x[1]) & (deform >= y[0]) & (deform <= y[1])


def contours(density: Density, cloud: Cloud) -> list[list[Values]]:
    """Return dclab's contour lines, for each quantile those in units of the axes, of shape (n, 2)."""
    from dclab.kde.contours import find_contours_level, get_quantile_levels

    step = max(1, len(cloud.area) // _FOR_LEVELS)
    levels = get_quantile_levels(
        density.values, density.x, density.y, cloud.area[::step], cloud.deform[::step],
        np.array(_QUANTILES), normalize=False,
    )  # fmt: skip
    relative = levels / density.values.max()
    return [
        find_contours_level(density.values, density.x, density.y, level) if 1e-12 < level < 1 else []
        for level in relative.tolist()
    ]


def raster(
    cloud: Cloud, density: Density | None, axes: Axes, cells: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """Return the events as pixels, RGBA of shape (cells up, cells across, 4), coloured by density."""
    counts, across, up = np.histogram2d(cloud.area, cloud.deform, bins=cells, range=(axes.x, axes.y))
    shade = np.zeros(cells)
    if density is not None:
        columns = np.searchsorted(density.x, (across[:-1] + across[1:]) / 2).clip(0, len(density.x) - 1)
        rows = np.searchsorted(density.y, (up[:-1] + up[1:]) / 2).clip(0, len(density.y) - 1)
        shade = density.values[np.ix_(columns, rows)] / density.values.max()
    ramp = _ramp()
    pixels = np.zeros((*cells, 4), np.uint8)
    shown = counts > 0
    pixels[shown, :3] = ramp[(shade[shown].clip(0, 1) * (len(ramp) - 1)).round().astype(int)]
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
        self.density = density_of(cloud, self.x, self.y)
        self.outside = len(cloud.area) - int(_inside(cloud, self.x, self.y).sum())

    def svg(self, alt: str) -> str:
        """Return the picture."""
        axes = Axes(54, 10, 2 * _CELLS[0], 2 * _CELLS[1], self.x, self.y)
        pixels = raster(self.cloud, self.density, axes, _CELLS)
        image = (
            f"<image x='{number(axes.left)}' y='{number(axes.top)}' width='{number(axes.width)}' "
            f"height='{number(axes.height)}' image-rendering='pixelated' preserveAspectRatio='none' "
            f"href='{webp(pixels, lossless=True, quality=80, method=4)}'/>"
        )
        lines = [
            line(axes.at(points[:, 0], points[:, 1]), f"contour contour{n + 1}", "currentColor", 1.0)
            for n, several in enumerate(contours(self.density, self.cloud) if self.density else [])
            for points in several
        ]
        frame = axes.frame(feature_label("area_um"), feature_label("deform"))
        return svg("scatter", alt, [*frame, image, *lines], HEIGHT)

    def thumbnail(self) -> str:
        """Return the small picture: the cloud and the corner of its axes, WebP in base64."""
        axes = Axes(0, 0, 1, 1, self.x, self.y)
        pixels = raster(self.cloud, self.density, axes, _THUMBNAIL)
        pixels = pixels.repeat(_THUMBNAIL_SCALE, axis=0).repeat(_THUMBNAIL_SCALE, axis=1)
        pixels[:, :1] = pixels[-1:, :] = _GREY
        return webp_base64(pixels, lossless=True, quality=80, method=4)


def feature_label(name: str) -> str:
    """Return how dclab calls a feature, with its unit."""
    from dclab import dfn

    return str(dfn.get_feature_label(name))
