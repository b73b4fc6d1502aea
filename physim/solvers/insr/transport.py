"""What a flow that is given carries along: du/dt + a . grad u = 0."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from physim.solvers.insr.defect import Balance
from physim.solvers.insr.jets import Index


class Transport(nn.Module):
    """Advection of one number with a uniform velocity; nothing comes in through the sides.

    Args:
        velocity: [m/s], (dim,).
    """

    def __init__(self, velocity: Tensor | Sequence[float]) -> None:
        super().__init__()
        given = torch.as_tensor(velocity, dtype=torch.float64)
        self.velocity = nn.Parameter(given.clone(), requires_grad=False)

    @property
    def wanted(self) -> Sequence[Index]:
        """Derivatives that `rate` reads: the value and the gradient."""
        dim = len(self.velocity)
        return [(0,) * dim, *(tuple(int(a == b) for b in range(dim)) for a in range(dim))]

    @property
    def carried(self) -> Sequence[tuple[Index, float]]:
        """What a step matches: the value."""
        return [((0,) * len(self.velocity), 1.0)]

    def rate(self, q: Tensor) -> Tensor:
        """-a . grad u, (n, 1), from derivatives as in `wanted`, (n, 1, 1 + dim)."""
        return -(q[:, 0, 1:] * self.velocity).sum(dim=1, keepdim=True)

    @property
    def local(self) -> Sequence[Index]:
        """Derivatives that `balance` reads."""
        return self.wanted

    def balance(self, q: Tensor) -> Balance:
        """u_t = -a . grad u."""
        size = q[:, 0, 1:].square().sum(dim=1).sqrt() * self.velocity.square().sum().sqrt()
        return Balance(q[:, :, 0], self.rate(q), size)

    def foot(self, x: Tensor, dt: float) -> Tensor:
        """Where what is at `x` [m], (n, dim), was `dt` [s] before."""
        return x - dt * self.velocity
