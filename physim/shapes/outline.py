"""A plane region with holes, extruded at right angles to its plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from physim.errors import InputError
from physim.shapes.rings import ring_area, rings_distance
from physim.shapes.shape import Array, Shape, as_length, as_vector, extruded_distance, require_planar


@dataclass(frozen=True, eq=False)
class Outline(Shape):
    """Region between closed chains of edges in the xy plane of its own frame, extruded along z.

    Args:
        rings: corners of the outer edge, and then of each hole [m], (m, 2) each; they must not cross.
        thickness: extent along z [m]; not used with `dim=2`.
        middle: where the frame's origin lies [m], (3,): in the middle of the thickness.
        axes: rotation whose columns are the frame's axes [-], (3, 3).
    """

    rings: Sequence[Array]
    thickness: float = 1.0
    middle: Sequence[float] = (0.0, 0.0, 0.0)
    axes: Any = field(default_factory=lambda: np.eye(3))

    def __post_init__(self) -> None:
        rings = tuple(np.array(ring, dtype=np.float64) for ring in self.rings)
        if not rings or any(r.ndim != 2 or r.shape[1] != 2 or len(r) < 3 for r in rings):
            raise InputError("outline: expected at least one ring of 3 points (x, y) [m].")
        if not all(np.isfinite(r).all() for r in rings):
            raise InputError("outline: some corners are not finite.")
        object.__setattr__(self, "rings", rings)
        object.__setattr__(self, "thickness", as_length("outline thickness", self.thickness))
        object.__setattr__(self, "middle", as_vector("outline middle", self.middle, fill=0.0))
        object.__setattr__(self, "axes", np.array(self.axes, dtype=np.float64))
        if not self.area > 1e-12 * float(np.ptp(rings[0], axis=0).max()) ** 2:
            raise InputError("outline: it encloses no area.")

    @property
    def origin(self) -> Array:
        """Origin of the frame [m], (3,)."""
        return np.array(self.middle)

    @property
    def frame(self) -> Array:
        """Axes of the frame as columns [-], (3, 3)."""
        return self.axes

    @property
    def area(self) -> float:
        """Area of the outer ring less that of the holes [m^2]."""
        outer, *holes = (abs(ring_area(r)) for r in self.rings)
        return outer - sum(holes)

    @property
    def volume(self) -> float:
        """Area times thickness [m^3]."""
        return self.area * self.thickness

    @property
    def local_bounds(self) -> Array:
        """Bounds of the outer ring and of the extrusion [m], (2, 3)."""
        half = 0.5 * self.thickness
        return np.array([[*self.rings[0].min(axis=0), -half], [*self.rings[0].max(axis=0), half]])

    def local_distance(self, points: Array, dim: int) -> Array:
        """Exact distance to the region, or to its extrusion with `dim=3` [m], (n,)."""
        flat = rings_distance(points[:, :2], self.rings)
        if dim == 2:
            require_planar("outline", self.axes)
            return flat
        return extruded_distance(flat, points[:, 2], self.thickness)
