"""Signed distance of a shape, tabulated on a grid for trilinear interpolation in kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from physim.errors import InputError
from physim.shapes.shape import Array, Shape, as_length

_MAX_NODES = 50_000_000


@dataclass(frozen=True, eq=False)
class DistanceField:
    """Signed distance at the nodes of a regular grid, negative inside.

    Attributes:
        origin: position of node (0, 0, 0) [m].
        spacing: distance between nodes [m].
        shape: nodes along x, y, z, at least 2 each.
        values: signed distances [m], (nx, ny, nz) float64.
    """

    origin: tuple[float, float, float]
    spacing: float
    shape: tuple[int, int, int]
    values: Array

    def __post_init__(self) -> None:
        if self.values.shape != tuple(self.shape) or min(self.shape) < 2:
            raise InputError(f"distance field: values of shape {self.values.shape} do not fit the grid {self.shape}.")
        as_length("distance field spacing", self.spacing)

    @property
    def upper(self) -> tuple[float, float, float]:
        """Position of the last node [m]."""
        x, y, z = (o + self.spacing * (s - 1) for o, s in zip(self.origin, self.shape, strict=True))
        return (x, y, z)

    def at(self, points: Any) -> Array:
        """Trilinear interpolation [m], (n, 3) -> (n,).

        Outside the grid, the value at the nearest point of the grid plus the distance to that point: an upper
        bound of the true distance, positive wherever the padding is.
        """
        world = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        scaled = (world - np.array(self.origin)) / self.spacing
        inside = np.clip(scaled, 0.0, np.array(self.shape) - 1.0)
        base = np.minimum(inside.astype(np.int64), np.array(self.shape) - 2)
        along = inside - base
        total = np.zeros(len(world))
        for corner in np.ndindex(2, 2, 2):
            weight = np.prod(np.where(np.array(corner) == 1, along, 1.0 - along), axis=1)
            i, j, k = (base + np.array(corner)).T
            total += weight * self.values[i, j, k]
        return total + self.spacing * np.linalg.norm(scaled - inside, axis=1)


def distance_field(shape: Shape, spacing: float, padding: float | None = None) -> DistanceField:
    """Tabulate the signed distance of a bounded shape.

    Args:
        shape: usually a `Mesh`; any bounded shape.
        spacing: distance between nodes [m]; about that of the simulation grid, or half of it.
        padding: margin around the bounding box [m]; three spacings unless given.

    Raises:
        InputError: unbounded shape, or a spacing that needs more than 50 million nodes.
    """
    spacing = as_length("distance field spacing", spacing)
    margin = 3.0 * spacing if padding is None else float(padding)
    if not (np.isfinite(margin) and margin >= 0.0):
        raise InputError(f"distance field padding: {padding!r} is not allowed; give a length in metres, at least 0.")
    low, high = shape.bounds
    if not np.isfinite([low, high]).all():
        raise InputError(f"distance field: {type(shape).__name__} is unbounded; use it as a collider directly.")
    extent = high - low + 2.0 * margin
    needed = np.ceil(extent / spacing - 1e-9) + 1.0
    if float(np.prod(needed)) > _MAX_NODES:
        coarse = spacing * float(np.cbrt(np.prod(needed) / _MAX_NODES)) * 1.05
        raise InputError(
            f"distance field: spacing {spacing:g} m over {' x '.join(f'{e:.4g}' for e in extent)} m needs "
            f"{np.prod(needed):.3g} nodes, at most {_MAX_NODES:g}; try a spacing of {coarse:.2g} m or more."
        )
    nx, ny, nz = (max(2, int(c)) for c in needed)
    # Centring spreads the rounding of the extent over both sides.
    origin = 0.5 * (low + high) - 0.5 * spacing * (np.array([nx, ny, nz]) - 1.0)
    x, y, z = (origin[a] + spacing * np.arange(count) for a, count in enumerate((nx, ny, nz)))
    values = np.empty((nx, ny, nz))
    for i, level in enumerate(x):  # one slab at a time keeps the peak memory at a few slabs
        slab = np.stack(np.meshgrid([level], y, z, indexing="ij"), axis=-1).reshape(-1, 3)
        values[i] = shape.signed_distance(slab).reshape(ny, nz)
    return DistanceField((float(origin[0]), float(origin[1]), float(origin[2])), spacing, (nx, ny, nz), values)
