"""Where the material points sit among the splines of the reference grid, found once before the first substep.

Node i carries the quadratic B-spline centred on it; its knots lie midway between nodes, so the span in which all
weights are one polynomial, here called a cell, is centred on a node. The cells of one body are its elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from physim.errors import InputError
from physim.sim.model import Body, Grid

# Points closer than this to a knot line, in cells, are put on it, so that no node gets a mass of rounding size.
_SNAP = 1e-9


def spline(s: np.ndarray) -> np.ndarray:
    """Weights of the nodes before, at and after the cell's own, at `s` cells from it, (...) -> (..., 3)."""
    return np.stack([0.5 * (0.5 - s) ** 2, 0.75 - s**2, 0.5 * (0.5 + s) ** 2], axis=-1)


def spline_slope(s: np.ndarray) -> np.ndarray:
    """Derivative of `spline` with respect to `s`."""
    return np.stack([s - 0.5, -2.0 * s, s + 0.5], axis=-1)


@dataclass(frozen=True)
class Stencil:
    """Active nodes, elements and weights; particles are sorted by element.

    A node's place in the compact numbering follows (x, y, z) with the last axis of the grid fastest, so that the
    three nodes of a cell along that axis are neighbours in memory: an element needs only the start of each row.

    Attributes:
        grid: the reference grid.
        nodes: grid index of each active node, (m, 3).
        order: the particle at each sorted place, (n,).
        element: the element of each sorted particle, (n,).
        first: where the particles of each element begin, (e + 1,).
        cells: the cell of each element, (e, 3).
        rows: first node of each stencil row, (e, 9) in 3D, (e, 3) in 2D.
        weights: per sorted particle and axis (first, middle, last), three weights, then three slopes [1/m], (n, 18).
        spans: per body, its first and last element.
    """

    grid: Grid
    nodes: np.ndarray
    order: np.ndarray
    element: np.ndarray
    first: np.ndarray
    cells: np.ndarray
    rows: np.ndarray
    weights: np.ndarray
    spans: tuple[tuple[int, int], ...]

    @property
    def axes(self) -> tuple[int, int, int]:
        """Space axes in stencil order: rows run along the last; in 2D the middle one is the idle z."""
        return (0, 1, 2) if self.grid.dim == 3 else (0, 2, 1)

    @property
    def layers(self) -> int:
        """Stencil nodes along the middle axis."""
        return 3 if self.grid.dim == 3 else 1

    @property
    def positions(self) -> np.ndarray:
        """Reference positions of the nodes [m], (m, 3)."""
        return np.asarray(self.grid.origin) + self.grid.dx * self.nodes

    def node_table(self) -> np.ndarray:
        """The stencil nodes of each element in kernel order, (e, 27) in 3D, (e, 9) in 2D."""
        return (self.rows[:, :, None] + np.arange(3)).reshape(len(self.rows), -1)

    def matrix(self, weights: np.ndarray, axis: int | None = None) -> np.ndarray:
        """Stencil weights, or their derivative [1/m] along a space axis, from per-axis weights: (n, 27 or 9)."""
        parts = []
        for place, space in enumerate(self.axes):
            pair = weights[:, 6 * place : 6 * place + 6]
            part = pair[:, 3:] if space == axis else pair[:, :3]
            parts.append(part[:, : self.layers] if place == 1 else part)
        first, middle, last = parts
        product = first[:, :, None, None] * middle[:, None, :, None] * last[:, None, None, :]
        return product.reshape(len(weights), 9 * self.layers)

    def node_lists(self) -> tuple[np.ndarray, np.ndarray]:
        """For each node the places in the (element, stencil) table that hold it: offsets (m + 1,) and places."""
        table = self.node_table().reshape(-1)
        places = np.argsort(table, kind="stable")
        return _offsets(table[places], len(self.nodes)), places.astype(np.int32)

    def locate(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Element and per-axis weights of reference points [m]; outside the body the nearest element's polynomial."""
        from scipy.spatial import cKDTree

        centres = np.asarray(self.grid.origin) + self.grid.dx * self.cells
        live = [0, 1, 2][: self.grid.dim]
        element = cKDTree(centres[:, live]).query(points[:, live], p=np.inf)[1]
        s = (points - np.asarray(self.grid.origin)) / self.grid.dx - self.cells[element]
        return element, axis_weights(s, self.grid, self.axes)


def axis_weights(s: np.ndarray, grid: Grid, axes: Sequence[int]) -> np.ndarray:
    """Weights and slopes [1/m] per stencil axis of points at `s` cells from their cell's node, (n, 18)."""
    columns = []
    for axis in axes:
        if axis == 2 and grid.dim == 2:
            columns += [np.ones((len(s), 1)), np.zeros((len(s), 5))]
        else:
            columns += [spline(s[:, axis]), spline_slope(s[:, axis]) / grid.dx]
    return np.concatenate(columns, axis=1)


def build_stencil(grid: Grid, X: np.ndarray, vol0: np.ndarray, bodies: Sequence[Body]) -> Stencil:
    """Sort the material points `X` [m] into elements and number the nodes they touch.

    Raises:
        InputError: a point's stencil leaves the grid, or the grid is periodic.
    """
    if any(grid.periodic):
        raise InputError("the total-Lagrangian solid does not support periodic axes; use `solver: mpm`.")
    s = (X - np.asarray(grid.origin)) / grid.dx
    cell = np.floor(s + 0.5 + _SNAP).astype(np.int64)
    if grid.dim == 2:
        cell[:, 2] = 0
    _check_inside(grid, X, cell)
    shape = np.asarray(grid.shape)
    fast = (0, 1, 2)
    body_of = np.empty(len(X), np.int64)
    for index, body in enumerate(bodies):
        body_of[body.start : body.stop] = index
    key = np.ravel_multi_index(tuple(cell[:, a] for a in fast), tuple(shape)) + body_of * shape.prod()
    order = np.argsort(key, kind="stable")
    elements, element = np.unique(key[order], return_inverse=True)
    cells = np.stack(np.unravel_index(elements % shape.prod(), tuple(shape)), axis=1)
    first = _offsets(element, len(elements))
    reach = [np.arange(-1, 2), np.arange(-1, 2), np.arange(-1, 2) if grid.dim == 3 else np.zeros(1, int)]
    offsets = np.stack(np.meshgrid(*reach, indexing="ij"), axis=-1).reshape(-1, 3)
    around = cells[:, None, :] + offsets
    flat = np.ravel_multi_index(tuple(around.reshape(-1, 3).T), tuple(shape))
    active, number = np.unique(flat, return_inverse=True)
    # The last live axis is the fastest of the numbering in both dimensions, so rows start at every third entry.
    rows = number.reshape(len(cells), -1)[:, ::3].astype(np.int32)
    nodes = np.stack(np.unravel_index(active, tuple(shape)), axis=1)
    local = s[order] - cells[element]
    local = spread_to_moments(local, vol0[order], element, grid)
    owner = elements // shape.prod()
    spans = tuple(
        (int(np.searchsorted(owner, b)), int(np.searchsorted(owner, b, side="right"))) for b in range(len(bodies))
    )
    axes = (0, 1, 2) if grid.dim == 3 else (0, 2, 1)
    return Stencil(
        grid,
        nodes,
        order,
        element.astype(np.int32),
        first,
        cells,
        rows,
        axis_weights(local, grid, axes),
        spans,
    )


def spread_to_moments(local: np.ndarray, vol0: np.ndarray, element: np.ndarray, grid: Grid) -> np.ndarray:
    """Move the points of each element apart until its second moments are those of the boxes they stand for.

    A point at the centre of its box misses the box's own second moment l^2/12, which makes bending too soft by
    1/q^2 with q points over the thickness (1.6 % for 8). Stretching an element's points about their centroid by
    sqrt(1 + l^2 / (12 variance)) per axis restores it; on a regular lattice of two points per axis these are the
    Gauss points, which integrate cubics exactly.
    """
    out = local.copy()
    size = (vol0 ** (1.0 / grid.dim)) / grid.dx
    total = np.bincount(element, weights=vol0)

    def mean(values: np.ndarray) -> np.ndarray:
        return (np.bincount(element, weights=vol0 * values) / total)[element]

    for axis in range(grid.dim):
        centre = mean(local[:, axis])
        away = local[:, axis] - centre
        variance, own = mean(away**2), mean(size**2) / 12.0
        # Points that lie in one plane have no spread to stretch; the rest may not leave the cell.
        factor = np.where(variance > 0.05 * own, np.sqrt(1.0 + own / np.maximum(variance, 0.05 * own)), 1.0)
        out[:, axis] = np.clip(centre + factor * away, -0.5, 0.5)
    return out


def _offsets(sorted_keys: np.ndarray, count: int) -> np.ndarray:
    """Start of each key's run in a sorted list, (count + 1,)."""
    return np.searchsorted(sorted_keys, np.arange(count + 1)).astype(np.int32)


def _check_inside(grid: Grid, X: np.ndarray, cell: np.ndarray) -> None:
    live = slice(0, grid.dim)
    low, high = cell[:, live] - 1, cell[:, live] + 1
    bad = np.flatnonzero(((low < 0) | (high >= np.asarray(grid.shape)[live])).any(axis=1))
    if len(bad):
        need = (np.asarray(grid.origin) + 0.5 * grid.dx)[live], (np.asarray(grid.upper) - 0.5 * grid.dx)[live]
        raise InputError(
            f"{len(bad)} of {len(X)} material points lie outside the reference grid, the first at "
            f"{tuple(round(float(c), 6) for c in X[bad[0]])} m; the grid of nodes holds bodies between "
            f"{tuple(need[0].round(6))} and {tuple(need[1].round(6))} m. Enlarge the grid or move the body."
        )
