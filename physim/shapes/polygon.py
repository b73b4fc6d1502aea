"""A simple polygon in the xy plane, extruded along z in 3D."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from physim.errors import InputError
from physim.shapes.rings import ring_area, rings_distance
from physim.shapes.shape import Array, Shape, as_length, extruded_distance


@dataclass(frozen=True)
class Polygon(Shape):
    """Region inside a closed chain of straight edges.

    Args:
        corners: corners in order, either way round [m], (m, 2).
        depth: extent along z [m]; not used with `dim=2`.
        z: middle of the extrusion [m].
    """

    corners: Sequence[Sequence[float]]
    depth: float = 1.0
    z: float = 0.0

    def __post_init__(self) -> None:
        corners = np.asarray(self.corners, dtype=np.float64)
        if corners.ndim != 2 or corners.shape[1] != 2 or len(corners) < 3:
            raise InputError(f"polygon corners: expected at least 3 points (x, y) [m], got shape {corners.shape}.")
        if not np.isfinite(corners).all():
            raise InputError("polygon corners: some are not finite.")
        crossing = _first_crossing(corners)
        if crossing:
            raise InputError(
                f"polygon corners: edge {crossing[0]} crosses edge {crossing[1]}; list the corners in order."
            )
        object.__setattr__(self, "corners", tuple((float(x), float(y)) for x, y in corners))
        object.__setattr__(self, "depth", as_length("polygon depth", self.depth))
        if self.area <= 1e-12 * float(np.ptp(corners, axis=0).max()) ** 2:
            raise InputError("polygon corners: they enclose no area.")

    @property
    def origin(self) -> Array:
        """Middle of the extrusion [m], (3,)."""
        return np.array([0.0, 0.0, self.z])

    @property
    def area(self) -> float:
        """Area by the shoelace formula [m^2]."""
        return abs(ring_area(np.asarray(self.corners)))

    @property
    def volume(self) -> float:
        """Area times depth [m^3]."""
        return self.area * self.depth

    @property
    def local_bounds(self) -> Array:
        """Bounds of the corners and of the extrusion [m], (2, 3)."""
        corners = np.asarray(self.corners)
        half = 0.5 * self.depth
        return np.array([[*corners.min(axis=0), -half], [*corners.max(axis=0), half]])

    def local_distance(self, points: Array, dim: int) -> Array:
        """Exact distance to the polygon, or to its extrusion with `dim=3` [m], (n,)."""
        flat = rings_distance(points[:, :2], [np.asarray(self.corners)])
        return flat if dim == 2 else extruded_distance(flat, points[:, 2], self.depth)


def _first_crossing(corners: Array) -> tuple[int, int] | None:
    """Indices of two edges that properly cross, or None."""

    def side(a: Array, b: Array, c: Array) -> float:
        return float((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))

    ends = np.roll(corners, -1, axis=0)
    for i in range(len(corners)):
        for j in range(i + 1, len(corners)):
            a, b, c, d = corners[i], ends[i], corners[j], ends[j]
            if side(a, b, c) * side(a, b, d) < 0.0 and side(c, d, a) * side(c, d, b) < 0.0:
                return i, j
    return None
