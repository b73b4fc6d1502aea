"""A solid given by signed distances on a grid."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from physim.errors import InputError
from physim.shapes.field import DistanceField
from physim.shapes.shape import Array, Shape

# Parts along each edge of a cell that the surface cuts, when its volume is counted.
_FINE = 4


@dataclass(frozen=True, eq=False)
class Tabulated(Shape):
    """Where the interpolated distances of a field are below zero.

    Args:
        field: signed distances; no larger than the true ones, positive on the border of the grid.

    Raises:
        InputError: nothing is inside, or the solid reaches the border of the grid.
    """

    field: DistanceField

    def __post_init__(self) -> None:
        inside = self.field.values < 0.0
        if not inside.any():
            raise InputError("distance field: nothing is inside it; is its spacing too coarse for the body?")
        rim = [inside.take(end, axis=axis).any() for axis in range(3) for end in (0, -1)]
        if any(rim):
            raise InputError("distance field: the solid reaches the border of the grid; make the grid larger.")

    @property
    def origin(self) -> Array:
        """The scene's origin [m], (3,)."""
        return np.zeros(3)

    @cached_property
    def volume(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Volume inside [m^3]: whole cells, and those that the surface cuts part by part."""
        values, h = self.field.values, self.field.spacing
        corners = [values[_shifted(c)] for c in np.ndindex(2, 2, 2)]
        low, high = (functools.reduce(extreme, corners) for extreme in (np.minimum, np.maximum))
        cut = (low < 0.0) & (high >= 0.0)
        share = (np.arange(_FINE) + 0.5) / _FINE
        weights = np.stack([1.0 - share, share])
        cells = np.stack([c[cut] for c in corners]).reshape(2, 2, 2, -1)
        fine = np.einsum("abcn,ai,bj,ck->ijkn", cells, weights, weights, weights, optimize=True)
        # Signs alone would round a face along the grid to whole parts of a cell.
        filled = np.clip(0.5 - fine * (_FINE / h), 0.0, 1.0).mean(axis=(0, 1, 2))
        return float((high < 0.0).sum() + filled.sum()) * h**3

    @property
    def area(self) -> float:
        """Not defined: a tabulated solid has no single section; raises `InputError`."""
        raise InputError("a tabulated solid is three-dimensional; in plane strain use a box, disk, polygon or outline.")

    @cached_property
    def local_bounds(self) -> Array:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Bounds of the surface's crossings of grid lines [m], (2, 3)."""
        values, h = self.field.values, self.field.spacing
        bounds = np.empty((2, 3))
        for axis in range(3):
            a, b = (np.moveaxis(values, axis, 0)[s] for s in (slice(None, -1), slice(1, None)))
            where = np.nonzero((a < 0.0) != (b < 0.0))
            at = self.field.origin[axis] + h * (where[0] + a[where] / (a[where] - b[where]))
            bounds[:, axis] = at.min(), at.max()
        return bounds

    def local_distance(self, points: Array, dim: int) -> Array:
        """Interpolated distance [m], (n,)."""
        if dim != 3:
            raise InputError("a tabulated solid is three-dimensional; in plane strain use a polygon or an outline.")
        return self.field.at(points)


def _shifted(corner: tuple[int, ...]) -> tuple[slice, ...]:
    """One corner of every cell."""
    return tuple(slice(1, None) if c else slice(None, -1) for c in corner)
