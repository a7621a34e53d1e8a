"""dclab's density of events and its contours, computed with numpy alone.

dclab's own functions (`dclab.kde`) load scipy for an interpolation, which takes longer than all pictures
of a measurement together. What they compute is small enough to be written down; the lines themselves
are found by dclab.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dcorflow.dclab_parts import load_dclab
from dcorflow.portrait.events import Values

#: Fewer events have no density worth drawing: contours would follow single events.
_FEWEST = 100
#: Least and most places of the grid along one axis.
_GRID = (20, 120)


class Density(NamedTuple):
    """A density on a grid: `x` of n, `y` of m places, ascending; `values` of shape (n, m)."""

    x: Values
    y: Values
    values: Values


def density_of(
    x: Values, y: Values, x_range: tuple[float, float], y_range: tuple[float, float]
) -> Density | None:
    """Return the density of events on a grid, as `dclab.kde.methods.kde_histogram` estimates it.

    Parameters
    ----------
    x, y
        One finite number per event.
    x_range, y_range
        First and last place of the grid.

    Returns
    -------
    Density or None
        None where there are too few events, or all lie on a line along an axis.
    """
    load_dclab()
    from dclab.kde.binning import bin_width_percentile

    if len(x) < _FEWEST or not (np.ptp(x) > 0 and np.ptp(y) > 0):
        return None
    grids = []
    for values, (low, high) in ((x, x_range), (y, y_range)):
        places = np.ceil((high - low) / bin_width_percentile(values))
        grids.append(np.linspace(low, high, int(np.clip(places, *_GRID))))
    across, up = grids
    return Density(across, up, histogram_density(x, y, across, up))


def histogram_density(x: Values, y: Values, x_grid: Values, y_grid: Values) -> Values:
    """Return the histogram of events, interpolated by a bicubic spline, on a grid: shape (n, m).

    The same as `dclab.kde.methods.kde_histogram(x, y, *numpy.meshgrid(x_grid, y_grid, indexing="ij"))`.
    """
    bins = (max(5, _doane(x)), max(5, _doane(y)))
    counts, x_edges, y_edges = np.histogram2d(x, y, bins=bins, density=True)
    across = _spline((x_edges[1:] + x_edges[:-1]) / 2, x_grid)
    up = _spline((y_edges[1:] + y_edges[:-1]) / 2, y_grid)
    return np.asarray(np.clip(across @ counts @ up.T, 0, None))


def _doane(values: Values) -> int:
    """Return the number of bins by Doane's formula (`dclab.kde.binning.bin_num_doane`)."""
    count, spread = len(values), values - values.mean()
    skew = (spread**3).mean() / (spread**2).mean() ** 1.5
    sigma = np.sqrt(6 * (count - 2) / ((count + 1) * (count + 3)))
    return int(np.round(1 + np.log2(count) + np.log2(1 + np.abs(skew) / sigma)))


def _spline(places: Values, wanted: Values) -> Values:
    """Return the matrix that takes n values at equal distances to their cubic spline at `wanted`.

    The third derivative is continuous at the second and last but one place ("not a knot", as in
    `scipy.interpolate.RectBivariateSpline`); beyond the ends the values stay what they are there.
    """
    count, step = len(places), places[1] - places[0]
    # second derivatives m of the spline: one equation per place, on unit distance
    left, right = np.zeros((count, count)), np.zeros((count, count))
    for n in range(1, count - 1):
        left[n, n - 1 : n + 2] = 1, 4, 1
        right[n, n - 1 : n + 2] = 6, -12, 6
    left[0, :3] = left[-1, -3:] = 1, -2, 1
    second = np.linalg.solve(left, right)
    at = np.clip((wanted - places[0]) / step, 0, count - 1)
    cell = np.minimum(at.astype(int), count - 2)
    t = (at - cell)[:, None]
    value = np.eye(count)
    return np.asarray(
        (1 - t) * value[cell]
        + t * value[cell + 1]
        + ((1 - t) ** 3 - (1 - t)) / 6 * second[cell]
        + (t**3 - t) / 6 * second[cell + 1]
    )


def quantile_levels(density: Density, x: Values, y: Values, quantiles: tuple[float, ...]) -> Values:
    """Return the densities below which these shares of the events lie.

    The same as `dclab.kde.contours.get_quantile_levels` with `normalize=False`.
    """
    inside = (x >= density.x[0]) & (x <= density.x[-1]) & (y >= density.y[0]) & (y <= density.y[-1])
    found = np.zeros(len(x))
    places = []
    for grid, values in ((density.x, x[inside]), (density.y, y[inside])):
        at = (values - grid[0]) / (grid[1] - grid[0])
        cell = np.clip(at.astype(int), 0, len(grid) - 2)
        places.append((cell, at - cell))
    (i, s), (j, t) = places
    v = density.values
    found[inside] = (1 - s) * ((1 - t) * v[i, j] + t * v[i, j + 1]) + s * (
        (1 - t) * v[i + 1, j] + t * v[i + 1, j + 1]
    )
    return np.asarray(np.percentile(found, np.array(quantiles) * 100))


def contours(density: Density, levels: Values) -> list[list[Values]]:
    """Return the lines at each level, each of shape (n, 2) in units of the axes."""
    load_dclab()
    from dclab.kde.contours import find_contours_level

    relative = (levels / density.values.max()).tolist()
    return [
        find_contours_level(density.values, density.x, density.y, level) if 1e-12 < level < 1 else []
        for level in relative
    ]
