"""Surfaces of simulated bodies, with the place at rest of every corner, so that a texture moves along."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyvista as pv
from scipy.spatial import cKDTree

from tools.clips.case import Skin
from tools.clips.simulate import Array, Motion

CELL = 0.5
"""Cells of a density field, in particle spacings."""
WIDTH = 1.0
"""Standard deviation of what a particle adds to it, in spacings."""
REST = "rest"


def surfaces(motion: Motion, skin: Skin, frame: int) -> list[pv.PolyData]:
    """One surface per body; the array `rest` holds where its corners were at rest [m]."""
    make = _lattice if skin is Skin.LATTICE else _field
    return [
        make(motion.x[frame, rows], motion.rest[rows], spacing)
        for rows, spacing in zip(motion.bodies, motion.spacings, strict=True)
    ]


def _lattice(x: Array, rest: Array, spacing: float) -> pv.PolyData:
    """Of a box filled with a lattice: its outermost particles, moved outwards by half of the way to the next."""
    counts = [len(np.unique(np.round(rest[:, axis] / (1e-3 * spacing)))) for axis in range(3)]
    if np.prod(counts) != len(rest):
        raise ValueError(f"{len(rest)} particles are no lattice of {counts}")
    order = np.lexsort(tuple(np.round(rest[:, axis] / (1e-3 * spacing)) for axis in (2, 1, 0)))
    both = np.concatenate([x, rest], axis=1)[order].reshape(*counts, 6)
    for axis in range(3):
        lines = np.moveaxis(both, axis, 0)
        first, last = 1.5 * lines[0] - 0.5 * lines[1], 1.5 * lines[-1] - 0.5 * lines[-2]
        both = np.moveaxis(np.concatenate([first[None], lines[1:-1], last[None]]), 0, axis)
    grid = pv.StructuredGrid(*(np.ascontiguousarray(both[..., axis]) for axis in range(3)))
    grid[REST] = np.stack([both[..., 3 + axis].ravel(order="F") for axis in range(3)], axis=1)
    return grid.extract_surface(algorithm="geometry").triangulate().subdivide(2, "linear")


def _field(x: Array, rest: Array, spacing: float) -> pv.PolyData:
    """Of a body that flows: where the density of its particles, each a bell, is half of that at rest."""
    cell, reach = CELL * spacing, 3.0 * WIDTH * spacing
    low = x.min(axis=0) - reach - cell
    shape = np.ceil((x.max(axis=0) + reach + cell - low) / cell).astype(int) + 1
    density = np.zeros(shape)
    near = int(np.ceil(reach / cell))
    steps = np.stack(np.meshgrid(*[np.arange(-near, near + 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    base = np.round((x - low) / cell).astype(int)
    for step in steps:
        at = base + step
        away = ((low + at * cell - x) ** 2).sum(axis=1) / (WIDTH * spacing) ** 2
        np.add.at(density, tuple(at.T), np.exp(-0.5 * away))
    inside = (2.0 * np.pi) ** 1.5 * WIDTH**3
    grid: Any = pv.ImageData(dimensions=tuple(shape), spacing=(cell,) * 3, origin=tuple(low))
    grid["density"] = density.ravel(order="F")
    surface = grid.contour([0.5 * inside], scalars="density")
    count = min(8, len(x))
    away, rows = cKDTree(x).query(np.asarray(surface.points), k=count)
    weights = np.exp(-0.5 * (away / spacing) ** 2)
    surface[REST] = np.einsum("nk,nkd->nd", weights / weights.sum(axis=1, keepdims=True), rest[rows])
    return surface
