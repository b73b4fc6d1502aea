"""Points that a field is compared at, and what each of them stands for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from physim.solvers.insr.fields import Box


@dataclass(frozen=True)
class Points:
    """Points with weights.

    Attributes:
        x: positions [m], (n, dim).
        weight: share of the volume, (n,), 1 in all.
    """

    x: Tensor
    weight: Tensor


def quadrature(box: Box, count: int, periodic: tuple[int, ...] = ()) -> Points:
    """At least `count` points that integrate smooth functions to rounding: Gauss-Legendre, equal on periodic axes."""
    size = np.asarray(box.size)
    spacing = float((size.prod() / max(count, 1)) ** (1.0 / box.dim))
    numbers = [max(2, math.ceil(s / spacing * (1 - 1e-9))) for s in size]
    axes, weights = [], []
    for axis, n in enumerate(numbers):
        if axis in periodic:
            at, share = (2.0 * np.arange(n) + 1.0) / n - 1.0, np.full(n, 1.0 / n)
        else:
            at, share = np.polynomial.legendre.leggauss(n)
            share = 0.5 * share
        axes.append(torch.as_tensor(box.lower[axis] + 0.5 * (at + 1.0) * size[axis]))
        weights.append(torch.as_tensor(share))
    x = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, box.dim)
    weight = torch.stack(torch.meshgrid(*weights, indexing="ij"), dim=-1).reshape(-1, box.dim).prod(dim=1)
    return Points(x, weight)


def scattered(box: Box, count: int, generator: torch.Generator) -> Points:
    """One point at random in each of about `count` equal cells: no two alike, none left out."""
    size = torch.tensor(box.size, dtype=torch.float64)
    spacing = float((size.prod() / max(count, 1)) ** (1.0 / box.dim))
    numbers = torch.tensor([max(1, math.ceil(s / spacing * (1 - 1e-9))) for s in box.size])
    cells = torch.stack(torch.meshgrid(*(torch.arange(int(n)) for n in numbers), indexing="ij"), dim=-1)
    cells = cells.reshape(-1, box.dim)
    inside = torch.rand(cells.shape, generator=generator, dtype=torch.float64)
    x = torch.tensor(box.lower, dtype=torch.float64) + (cells + inside) / numbers * size
    return Points(x, torch.full((len(x),), 1.0 / len(x), dtype=torch.float64))


def surface(box: Box, spacing: float) -> Points:
    """Points on all sides of a box, about `spacing` [m] apart; the weights are areas [m^2] (lengths in 2D)."""
    places, areas = [], []
    for axis in range(box.dim):
        others = [a for a in range(box.dim) if a != axis]
        if others:
            side = Box(tuple(box.lower[a] for a in others), tuple(box.upper[a] for a in others))
            on = quadrature(side, math.ceil(math.prod(side.size) / spacing ** len(others)))
            area = on.weight * math.prod(side.size)
        else:
            on, area = Points(torch.zeros(1, 0), torch.ones(1)), torch.ones(1, dtype=torch.float64)
        for at in (box.lower[axis], box.upper[axis]):
            x = torch.full((len(on.x), box.dim), at, dtype=torch.float64)
            x[:, others] = on.x
            places.append(x)
            areas.append(area)
    return Points(torch.cat(places), torch.cat(areas))
