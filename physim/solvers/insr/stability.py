"""How long a Runge-Kutta step may be: by the fastest motion that changes of the weights can make."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from physim.solvers.insr.tangent import Tangent

REACH = 2.6
"""A disc of this radius left of zero, nearly, in which the fourth-order method is stable [-]."""
ITERATIONS = 30


def limit(tangent: Tangent) -> float:
    """The longest stable step [s] for the equation linearised at a field, by power iteration.

    Growth that the flow itself has counts too, so that this is also a step that resolves it.
    """
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(tangent.flat.shape, generator=generator, dtype=torch.float64)
    rate, fastest = tangent.rate(tangent.flat), 0.0
    small = 1e-6 * (float(tangent.flat.norm()) or 1.0)
    for _ in range(ITERATIONS):
        length = float(direction.norm())
        if not (length > 0 and small > 0):
            return math.inf
        direction = direction * (small / length)
        done = tangent.solve(tangent.flat, tangent.rate(tangent.flat, direction) - rate)
        before = _size(tangent, direction)
        fastest, direction = _size(tangent, done) / before if before > 0 else 0.0, done
        if not fastest > 0:
            return math.inf
    return REACH / fastest


def _size(tangent: Tangent, change: Tensor) -> float:
    """Root mean square of what a change of the weights does."""
    done = tangent.normal.push(change)
    return math.sqrt(float((tangent.points.weight[:, None] * done.square()).sum()))
