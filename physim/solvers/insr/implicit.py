"""Implicit steps in the tangent space: the change of the weights that a rate at its own end, or middle, makes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from physim.errors import GradientError, InputError
from physim.sim.trajectory import RolloutFailure, Status
from physim.solvers.insr.maps import rows
from physim.solvers.insr.normal import MANY
from physim.solvers.insr.tangent import Tangent, derivatives

ITERATIONS = 30
"""Newton steps."""
SETTLED = 1e-7
"""Change of the field by a Newton step, over that by the whole step, at which they end."""


def implicit(tangent: Tangent, flat: Tensor, dt: float, share: float) -> Tensor:
    """The change d with J^T W (J d - dt rate(u0 + share J d)) + held d = 0, (p,); differentiable.

    `held`, the tangent space's damping, keeps weights that hardly matter from moving far.

    Args:
        tangent: the space, at weights `flat`, (p,).
        flat: see there.
        dt: [s].
        share: 1 for backward Euler, 1/2 for the implicit midpoint.

    Raises:
        RolloutFailure: Newton does not converge.
        InputError: the field has too many weights.
    """
    if tangent.normal.only is not None:
        raise InputError(f"implicit schemes take fields of up to {MANY} weights: take scheme=Scheme.RUNGE_KUTTA.")
    given = [p for p in tangent.problem.parameters() if p.requires_grad]
    found = _Implicit.apply(tangent, dt, share, flat, *given)
    assert isinstance(found, Tensor)
    return found


def _matrix(tangent: Tangent, change: Tensor, dt: float, share: float) -> Tensor:
    """J^T W (J - dt share d(rate)/dq Q) + damping, with Q what weights do to derivatives, (p, p)."""
    problem, x = tangent.problem, tangent.points.x
    _, done = rows(tangent.flat, lambda w: derivatives(tangent.field, w, x, problem.wanted).flatten(1))
    with torch.no_grad():
        q, moved = tangent.moved(tangent.flat, share * change, problem.wanted)
    with torch.enable_grad():
        at = (q + moved).requires_grad_()
        rate = problem.rate(at)
        bent = [
            torch.autograd.grad(rate[:, m].sum(), at, retain_graph=True)[0].flatten(1) for m in range(rate.shape[1])
        ]
    found = torch.zeros(len(change), len(change), dtype=change.dtype)
    for m, slopes in enumerate(bent):
        here = tangent.normal.rows(m)
        late = here - dt * share * torch.einsum("nk,knp->np", slopes, done)
        found += (tangent.points.weight[:, None] * here).T @ late
    found.diagonal().add_(tangent.held)
    return found


def _left(tangent: Tangent, flat: Tensor, change: Tensor, dt: float, share: float) -> Tensor:
    """What the equation leaves, (n, m); differentiable."""
    return tangent.push(flat, change) - dt * tangent.rate(flat, share * change)


class _Implicit(torch.autograd.Function):
    """See `implicit`."""

    @staticmethod
    def forward(ctx: Any, tangent: Tangent, dt: float, share: float, flat: Tensor, *given: Tensor) -> Tensor:
        change = torch.zeros_like(tangent.flat)
        with torch.no_grad():
            for _ in range(ITERATIONS):
                left = _left(tangent, tangent.flat, change, dt, share)
                slope = tangent.normal.pull(left) + tangent.held * change
                step = -torch.linalg.solve(_matrix(tangent, change, dt, share), slope)
                change = change + step
                if not torch.isfinite(change).all():
                    break
                if tangent.normal.push(step).norm() <= SETTLED * tangent.normal.push(change).norm():
                    ctx.tangent, ctx.dt, ctx.share = tangent, dt, share
                    ctx.save_for_backward(change, *given)
                    return change
        raise RolloutFailure(Status.MISSED, substep=0, particle=-1, t=0.0, detail="the implicit step was not solved")

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        """With A^T y = dbar, everything given has the slope of -(J y) . W left."""
        tangent, dt, share = ctx.tangent, ctx.dt, ctx.share
        saved, *given = ctx.saved_tensors
        # As an output it leads back here.
        change = saved.detach()
        if not torch.isfinite(cotangents[0]).all():
            raise GradientError("the gradient of an implicit step is not finite.")
        y = torch.linalg.solve(_matrix(tangent, change, dt, share).T, cotangents[0])
        with torch.enable_grad():
            flat = tangent.flat.clone().requires_grad_()
            weight = tangent.points.weight[:, None]
            product = -(weight * tangent.push(flat, y) * _left(tangent, flat, change, dt, share)).sum()
            found = torch.autograd.grad(product, [flat, *given], allow_unused=True)
        return None, None, None, *found
