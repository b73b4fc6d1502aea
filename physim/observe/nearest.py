"""Neighbours among many points, by a hash grid."""

from __future__ import annotations

from functools import cache
from threading import Lock

import torch
import warp as wp
from torch import Tensor

from physim.bridge import on_stream_of, to_warp
from physim.checks import check_finite
from physim.errors import InputError
from physim.numeric import F32, kernel

CELLS = 64
"""Cells of the hash grid per axis; farther points share them."""
PAIRS = 4_000_000
"""Distances that are kept at once where points are far from all others."""


def nearest_point(
    grid: wp.uint64,
    x: wp.array(dtype=wp.vec3),  # type: ignore[valid-type]
    points: wp.array(dtype=wp.vec3),  # type: ignore[valid-type]
    radius: float,
    found: wp.array(dtype=wp.int32),  # type: ignore[valid-type]
):
    """Index of the nearest of `x` within `radius` of each point, the lowest of equals, or -1."""
    i = wp.tid()
    p = points[i]
    best = radius * radius
    at = wp.int32(-1)
    query = wp.hash_grid_query(grid, p, radius)
    j = wp.int32(0)
    while wp.hash_grid_query_next(query, j):
        away = wp.length_sq(x[j] - p)
        if away < best or (away == best and (at < 0 or j < at)):
            best = away
            at = j
    found[i] = at


def neighbour_mean(
    grid: wp.uint64,
    x: wp.array(dtype=wp.vec3),  # type: ignore[valid-type]
    radius: float,
    found: wp.array(dtype=wp.vec3),  # type: ignore[valid-type]
):
    """From each position to the mean of all within `radius`."""
    i = wp.tid()
    p = x[i]
    total = wp.vec3()
    count = wp.float32(0.0)
    query = wp.hash_grid_query(grid, p, radius)
    j = wp.int32(0)
    while wp.hash_grid_query_next(query, j):
        away = x[j] - p
        if wp.length_sq(away) < radius * radius:
            total = total + away
            count = count + 1.0
    found[i] = total / count


def nearest(points: Tensor, x: Tensor, radius: float) -> Tensor:
    """Index of the nearest position to each point, int64, (p,); searched in single precision.

    Args:
        points: (p, 3) [m].
        x: positions [m], (n, 3).
        radius: where most points have a neighbour [m]; for those that have none all positions are compared.

    Raises:
        InputError: no positions, or coordinates that are not finite.
    """
    if len(x) == 0:
        raise InputError("there are no positions to find the nearest of.")
    check_finite("points", points)
    check_finite("positions", x)
    middle = x.detach().mean(0)
    among, asked = _local(x, middle), _local(points.to(x), middle)
    found = torch.full((len(asked),), -1, dtype=torch.int32, device=x.device)
    if len(asked) == 0:
        return found.long()
    with _LOCK, on_stream_of(x):
        grid, positions = _built(among, radius)
        given = [grid.id, positions, to_warp(asked, wp.vec3), float(radius), to_warp(found, wp.int32)]
        wp.launch(_kernels()[0], len(asked), inputs=given, device=positions.device, record_tape=False)
    left = (found < 0).nonzero()[:, 0]
    for some in left.split(max(1, PAIRS // len(among))):
        found[some] = torch.cdist(asked[some], among).argmin(1).to(torch.int32)
    return found.long()


def lean(x: Tensor, radius: float) -> Tensor:
    """From each position [m] to the mean of all within `radius` [m], (n, 3): long where it is at a surface."""
    check_finite("positions", x)
    among = _local(x, x.detach().mean(0))
    found = torch.zeros_like(among)
    with _LOCK, on_stream_of(x):
        grid, positions = _built(among, radius)
        given = [grid.id, positions, float(radius), to_warp(found, wp.vec3)]
        wp.launch(_kernels()[1], len(among), inputs=given, device=positions.device, record_tape=False)
    return found.to(x)


_LOCK = Lock()


def _local(x: Tensor, middle: Tensor) -> Tensor:
    """Single precision; far from the origin coordinates would lose the digits that tell neighbours apart."""
    return (x.detach() - middle).to(torch.float32).contiguous()


def _built(among: Tensor, radius: float) -> tuple[wp.HashGrid, wp.array]:
    positions = to_warp(among, wp.vec3)
    grid = _grid(str(positions.device))
    grid.build(positions, float(radius))
    return grid, positions


@cache
def _grid(device: str) -> wp.HashGrid:
    return wp.HashGrid(CELLS, CELLS, CELLS, device=device)


@cache
def _kernels() -> tuple[wp.Kernel, wp.Kernel]:
    wp.init()
    first, second = (
        kernel(f, F32, module="physim_nearest", differentiable=False) for f in (nearest_point, neighbour_mean)
    )
    return first, second
