"""Shapes to particles whose volumes add up to the shape's exact volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from physim.errors import InputError, nearest
from physim.shapes.shape import Array, Shape, as_length, check_dim

_MAX_LATTICE = 200_000_000
# A lattice whose cells fill less than half or more than twice the shape does not resolve it.
_FILL_RANGE = (0.5, 2.0)
# Edge of the blocks that one distance can rule in or out as a whole, in lattice cells.
_BLOCK = 6


class Fill(StrEnum):
    """Where particles are put."""

    LATTICE = "lattice"
    """Cell centres of a regular lattice fitted to the shape's bounding box."""
    JITTER = "jitter"
    """One random point in each lattice cell."""
    FACES = "faces"
    """Nodes of a regular lattice, those on the faces of the bounding box included."""


@dataclass(frozen=True, eq=False)
class ParticleSet:
    """Particles that fill a shape.

    Attributes:
        x: positions [m], (n, 3); z is 0 in plane strain.
        vol0: reference volumes [m^3], (n,), with sum equal to the shape's volume; per metre of depth in 2D.
        spacing: mean distance between neighbours [m].
        fill_ratio: volume of the lattice cells over the exact volume [-]; 1 for a box.
        counts: points of the lattice along each of the shape's own axes.
    """

    x: Array
    vol0: Array
    spacing: float
    fill_ratio: float
    counts: tuple[int, ...] = ()

    @property
    def n(self) -> int:
        """Number of particles."""
        return len(self.x)


def sample(
    shape: Shape,
    *,
    spacing: float | None = None,
    per_cell: float | None = None,
    dx: float | None = None,
    counts: Sequence[int] | None = None,
    dim: int = 3,
    method: Fill | str = Fill.LATTICE,
    budget: int | None = None,
    rng: np.random.Generator | None = None,
) -> ParticleSet:
    """Fill a shape with particles.

    The resolution is one of: `spacing`; `per_cell` particles in each cell of a grid of spacing `dx`; `counts`
    across the bounding box; or, with `budget` alone, the finest spacing (to 1 %) that needs no more particles.
    The lattice follows the shape's own axes and is stretched a little so that whole cells fit its bounds. All
    particles have the same volume.

    Args:
        shape: what to fill.
        spacing: distance between particles [m].
        per_cell: particles per grid cell [-], such as 4 in 2D and 8 in 3D; needs `dx`.
        dx: grid spacing [m], with `per_cell` only.
        counts: particles along each local axis across the bounds, (3,) or (2,).
        dim: 3, or 2 for plane strain: the shape's section in the xy plane, at z = 0.
        method: `Fill`, or its value.
        budget: largest number of particles allowed.
        rng: source of the jitter; a fixed one unless given.

    Raises:
        InputError: no or contradictory resolution, unbounded shape, more particles than the budget allows, or
            a spacing too coarse for the shape.
    """
    fill = _as_fill(method)
    measure = shape.measure(check_dim(dim))
    bounds = shape.local_bounds[:, :dim]
    name = type(shape).__name__.lower()
    if not np.isfinite(measure):
        raise InputError(f"sample: a {name} is unbounded and cannot be filled; use a box.")
    if budget is not None and (int(budget) != budget or budget < 1):
        raise InputError(f"budget: {budget!r} is not allowed; give a whole number of particles, at least 1.")
    step = _spacing(spacing, per_cell, dx, dim)
    if sum(option is not None for option in (step, counts)) > 1:
        raise InputError("sample: give either a spacing (or per_cell with dx) or counts, not both.")
    rng = np.random.default_rng(0) if rng is None else rng
    if counts is not None:
        numbers = _as_counts(counts, dim)
        points, cell = _place(shape, dim, fill, numbers, rng)
    elif step is not None:
        numbers = _fitted_counts(bounds, step, fill)
        points, cell = _place(shape, dim, fill, numbers, rng)
    elif budget is not None:
        points, cell, step = _place_within(shape, dim, fill, int(budget), rng)
        numbers = _fitted_counts(bounds, step, fill)
    else:
        raise InputError("sample: no resolution; give spacing, per_cell with dx, counts, or a budget of particles.")
    n = len(points)
    asked = "" if step is None else f" with spacing {step:.4g} m"
    if n == 0:
        raise InputError(f"sample: no particle falls inside the {name}{asked}; try a finer spacing.")
    if budget is not None and n > budget:
        fitting = 1.001 * _place_within(shape, dim, fill, int(budget), rng)[2]
        raise InputError(
            f"sample: the {name} needs {n} particles{asked}, over the budget of {budget}; try a spacing of "
            f"{fitting:.4g} m or more, or raise the budget."
        )
    ratio = n * cell / measure
    if fill is not Fill.FACES and not _FILL_RANGE[0] <= ratio <= _FILL_RANGE[1]:
        raise InputError(
            f"sample: {n} particles{asked} cover {100 * ratio:.0f} % of the {name}'s volume {measure:.4g} m^3: the "
            "spacing is too coarse for its thin parts, or its surface overlaps itself; try a finer spacing."
        )
    world = np.zeros((n, 3))
    world[:, :dim] = points
    world = world @ shape.frame.T + shape.origin
    if dim == 2:
        world[:, 2] = 0.0
    return ParticleSet(world, np.full(n, measure / n), (measure / n) ** (1.0 / dim), float(ratio), numbers)


def _as_fill(method: Fill | str) -> Fill:
    try:
        return Fill(method)
    except ValueError:
        raise InputError(f"method: '{method}' is not allowed.{nearest(str(method), list(Fill))}") from None


def _spacing(spacing: float | None, per_cell: float | None, dx: float | None, dim: int) -> float | None:
    """The distance between particles [m] from either way of stating it, or None."""
    if (per_cell is None) != (dx is None):
        raise InputError("sample: per_cell and dx (the grid spacing [m]) go together; give both or neither.")
    if per_cell is None:
        return None if spacing is None else as_length("spacing", spacing)
    if spacing is not None:
        raise InputError("sample: give either spacing or per_cell with dx, not both.")
    return as_length("dx", float(dx or 0.0)) / as_length("per_cell", per_cell) ** (1.0 / dim)


def _as_counts(counts: Sequence[int], dim: int) -> tuple[int, ...]:
    values = tuple(int(c) for c in counts)[:dim]
    if len(values) < dim or min(values) < 1 or any(int(c) != c for c in counts):
        raise InputError(f"counts: {counts!r} is not allowed; give {dim} whole numbers, at least 1 each.")
    return values


def _fitted_counts(bounds: Array, spacing: float, fill: Fill) -> tuple[int, ...]:
    """Particles along each axis: whole cells across the bounds, plus one more with both faces."""
    cells = np.maximum(1.0, np.round((bounds[1] - bounds[0]) / spacing))
    if float(np.prod(cells)) > _MAX_LATTICE:
        coarse = spacing * (float(np.prod(cells)) / _MAX_LATTICE) ** (1.0 / len(cells))
        raise InputError(
            f"sample: spacing {spacing:.3g} m needs a lattice of {np.prod(cells):.2g} points across the "
            f"bounding box, over the limit of {_MAX_LATTICE:.0e}; try a spacing of {1.1 * coarse:.2g} m or more."
        )
    return tuple(int(c) + (1 if fill is Fill.FACES else 0) for c in cells)


def _place(
    shape: Shape, dim: int, fill: Fill, counts: tuple[int, ...], rng: np.random.Generator
) -> tuple[Array, float]:
    """Lattice points inside the shape, in its frame [m], (n, dim), and the volume of one cell [m^dim]."""
    low, high = shape.local_bounds[:, :dim]
    if fill is Fill.FACES:
        steps = (high - low) / np.maximum(np.array(counts) - 1, 1)
        axes = [
            np.linspace(a, b, c) if c > 1 else np.array([0.5 * (a + b)])
            for a, b, c in zip(low, high, counts, strict=True)
        ]
        tolerance = 1e-9 * float((high - low).max())
    else:
        steps = (high - low) / np.array(counts)
        axes = [a + s * (np.arange(c) + 0.5) for a, s, c in zip(low, steps, counts, strict=True)]
        tolerance = 0.0
    cell = float(np.prod(steps))
    if fill is Fill.JITTER:
        # Points outside are drawn and dropped, so that the point of a cell does not depend on the others.
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, dim)
        points += steps * rng.uniform(-0.5, 0.5, size=points.shape)
        return points[_distance(shape, points, dim) <= tolerance], cell
    return _inside(shape, axes, steps, dim, tolerance), cell


def _distance(shape: Shape, points: Array, dim: int) -> Array:
    """Signed distance of points in the shape's frame [m], (n, dim) -> (n,)."""
    full = points if dim == 3 else np.column_stack([points, np.zeros(len(points))])
    return shape.local_distance(full, dim)


def _inside(shape: Shape, axes: list[Array], steps: Array, dim: int, tolerance: float) -> Array:
    """Lattice points with distance at most `tolerance` [m], (n, dim).

    A block of cells whose centre is farther from the surface than its corners is inside or outside as a whole,
    so that the number of distances grows with the surface and not with the volume.
    """
    counts = [len(a) for a in axes]
    blocks = [-(-c // _BLOCK) for c in counts]
    reach = 0.5 * float(np.linalg.norm(steps * (_BLOCK - 1))) + tolerance + 1e-9 * float(steps.max()) * _BLOCK
    middle = [
        a[0] + s * (_BLOCK * np.arange(b) + 0.5 * (_BLOCK - 1)) for a, s, b in zip(axes, steps, blocks, strict=True)
    ]
    centers = np.stack(np.meshgrid(*middle, indexing="ij"), axis=-1).reshape(-1, dim)
    coarse = _distance(shape, centers, dim).reshape(blocks)
    state = np.where(coarse < -reach, 1, np.where(coarse > reach, 0, 2)).astype(np.int8)
    for axis, count in enumerate(counts):
        state = np.repeat(state, _BLOCK, axis=axis).take(np.arange(count), axis=axis)
    undecided = np.argwhere(state == 2)
    points = np.stack([axes[a][undecided[:, a]] for a in range(dim)], axis=-1)
    state[tuple(undecided.T)] = _distance(shape, points, dim) <= tolerance
    chosen = np.argwhere(state == 1)
    return np.stack([axes[a][chosen[:, a]] for a in range(dim)], axis=-1)


def _place_within(
    shape: Shape, dim: int, fill: Fill, budget: int, rng: np.random.Generator
) -> tuple[Array, float, float]:
    """Points, cell volume and spacing of the finest lattice with at most `budget` points inside."""
    bounds = shape.local_bounds[:, :dim]
    spacing = (shape.measure(dim) / budget) ** (1.0 / dim)
    state: Any = rng.bit_generator.state
    tried: tuple[int, ...] | None = None
    for _ in range(200):
        counts = _fitted_counts(bounds, spacing, fill)
        if counts != tried:
            rng.bit_generator.state = state  # the jitter of the result must not depend on the trials before it
            points, cell = _place(shape, dim, fill, counts, rng)
            if 0 < len(points) <= budget:
                return points, cell, spacing
            tried = counts
        spacing *= 1.01
    raise InputError(
        f"sample: no lattice with at most {budget} particles resolves the {type(shape).__name__.lower()}; "
        "raise the budget."
    )
