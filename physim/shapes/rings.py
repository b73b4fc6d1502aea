"""Closed chains of straight edges in a plane: area, distance, and how far they reach across."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from physim.shapes.shape import Array


def ring_area(ring: Array) -> float:
    """Area of one ring by the shoelace formula [m^2]; below zero where it runs clockwise.

    Args:
        ring: corners [m], (m, 2); the last is joined to the first.
    """
    x, y = (ring - ring[0]).T
    return 0.5 * float(x @ np.roll(y, -1) - y @ np.roll(x, -1))


def ring_center(ring: Array) -> Array:
    """Centre of the area of one ring [m], (2,)."""
    x, y = (ring - ring[0]).T
    cross = x * np.roll(y, -1) - y * np.roll(x, -1)
    total = 3.0 * float(cross.sum())
    return ring[0] + np.array([(x + np.roll(x, -1)) @ cross, (y + np.roll(y, -1)) @ cross]) / total


def rings_distance(points: Array, rings: Sequence[Array]) -> Array:
    """Exact signed distance to the region between rings [m], (n, 2) -> (n,); rings inside another are its holes.

    The distance is that to the nearest edge, the sign comes from the parity of crossings of a ray along +x.
    """
    nearest = np.full(len(points), np.inf)
    inside = np.zeros(len(points), dtype=bool)
    for ring in rings:
        for start, end in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            edge, arm = end - start, points - start
            length = float(edge @ edge)
            if length == 0.0:
                continue
            along = np.clip(arm @ edge / length, 0.0, 1.0)
            away = arm - along[:, None] * edge
            np.minimum(nearest, np.einsum("ij,ij->i", away, away), out=nearest)
            spans = (start[1] > points[:, 1]) != (end[1] > points[:, 1])
            rise = edge[1] if edge[1] != 0.0 else 1.0
            inside ^= spans & (arm[:, 0] < arm[:, 1] / rise * edge[0])
    distance = np.sqrt(nearest)
    return np.where(inside, -distance, distance)


def chords(ring: Array, heights: Array) -> tuple[Array, Array]:
    """Where a ring begins and ends at heights y [m], (k,) each; NaN where it is not."""
    start, end = ring, np.roll(ring, -1, axis=0)
    rise = end[:, 1] - start[:, 1]
    slanted = rise != 0.0
    start, end, rise = start[slanted], end[slanted], rise[slanted]
    share = (heights[:, None] - start[:, 1]) / rise
    x = np.where((share >= 0.0) & (share <= 1.0), start[:, 0] + share * (end[:, 0] - start[:, 0]), np.nan)
    met = np.isfinite(x).any(axis=1)
    left, right = (np.full(len(heights), np.nan) for _ in range(2))
    left[met], right[met] = np.nanmin(x[met], axis=1), np.nanmax(x[met], axis=1)
    return left, right
