"""The plane flows of the tables, by their stream functions in [-1, 1]^2, zero on the walls."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from physim.solvers.insr.conditions import Mirrored, Walled
from physim.solvers.insr.fields import Box, Field
from tools.insr.spectral import SineFlow

BOX = Box((-1.0, -1.0), (1.0, 1.0))
Psi = Callable[[Any, Any], Any]
"""A stream function of x and y, arrays or tensors alike."""
PI = math.pi


def _sin(a: Any) -> Any:
    return torch.sin(a) if isinstance(a, Tensor) else np.sin(a)


def _cos(a: Any) -> Any:
    return torch.cos(a) if isinstance(a, Tensor) else np.cos(a)


def _exp(a: Any) -> Any:
    return torch.exp(a) if isinstance(a, Tensor) else np.exp(a)


def taylor_green(x: Any, y: Any) -> Any:
    """Velocity (sin X cos Y, -cos X sin Y)/pi, X = pi (x + 1): four vortices that stay as they are."""
    return _sin(PI * (x + 1.0)) * _sin(PI * (y + 1.0)) / PI**2


def two_modes(x: Any, y: Any) -> Any:
    """Waves of different lengths, which turn each other."""
    a, b = 0.5 * PI * (x + 1.0), 0.5 * PI * (y + 1.0)
    return (_sin(2 * a) * _sin(2 * b) + 0.5 * _sin(a) * _sin(2 * b) + 0.3 * _sin(3 * a) * _sin(b)) / PI**2


SMALLER = 8
"""How many times smaller the vortices in the corner are."""


def two_scales(x: Any, y: Any) -> Any:
    """Taylor-Green, and in the lower left corner its four vortices again, eight times smaller and as fast.

    The small ones fade where they would be cut off: psi = psi_1(x, y) + psi_1(8 (x + 1) - 1, 8 (y + 1) - 1)/8 f(x) f(y)
    with f = exp(-q^2), q = (1 - cos(pi (x + 1)/2))/(1 - cos(pi/8)), 1 in the corner and 1/e at a distance of 1/4. This
    is smooth also when continued beyond the walls as an odd function.
    """
    edge = 1.0 - math.cos(PI / SMALLER)
    away = ((1.0 - _cos(0.5 * PI * (s + 1.0))) / edge for s in (x, y))
    small = taylor_green(*(SMALLER * (s + 1.0) - 1.0 for s in (x, y))) / SMALLER
    p, q = away
    return taylor_green(x, y) + small * _exp(-(p * p) - q * q)


def velocity(psi: Psi) -> Callable[[Tensor], Tensor]:
    """(d psi/dy, -d psi/dx) at positions (n, 2)."""

    def at(x: Tensor) -> Tensor:
        with torch.enable_grad():
            given = x.detach().clone().requires_grad_()
            (slope,) = torch.autograd.grad(psi(given[:, 0], given[:, 1]).sum(), given)
        return torch.stack([slope[:, 1], -slope[:, 0]], dim=1)

    return at


def walled(field: Field) -> Walled:
    """A stream function that is zero on the walls."""
    return Walled(field, BOX, ((1, 1), (1, 1)))


def mirrored(field: Field) -> Mirrored:
    """A stream function that is zero on the walls, and its vorticity too."""
    return Mirrored(field, BOX)


def random_points(count: int = 1000, seed: int = 7) -> Tensor:
    """Points at which errors are taken, (count, 2)."""
    return 2.0 * torch.rand((count, 2), generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1.0


def reference(psi: Psi, x: Tensor, times: list[float], modes: int, dt: float) -> list[Tensor]:
    """Velocities at points, (n, 2), at times [s], by sine modes without viscosity."""
    flow, now, out = SineFlow(modes), 0.0, []
    state = flow.start(psi)
    for t in times:
        state, now = flow.advance(state, dt, round((t - now) / dt)), t
        out.append(torch.from_numpy(flow.velocity(state, x.numpy())))
    return out


def rms(difference: Tensor) -> float:
    """Root mean square of the lengths of vectors (n, m)."""
    return float(difference.square().sum(dim=1).mean().sqrt())
