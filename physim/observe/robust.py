"""Robust losses as transformed residuals, so that half their sum of squares is the loss."""

from __future__ import annotations

import torch
from torch import Tensor

HUBER_DELTA = 2.0
"""Residual [noise units] beyond which Huber's loss is linear; normal noise exceeds it in 5 % of values."""


def huber_residual(r: Tensor, delta: float | None = HUBER_DELTA) -> Tensor:
    """f(r) with f^2 / 2 = Huber's loss: r inside `delta`, sign(r) sqrt(2 delta |r| - delta^2) outside.

    f is once continuously differentiable, so Gauss-Newton applies to it as it is.

    Args:
        r: residuals [noise units].
        delta: where the loss becomes linear [noise units]; None returns `r` unchanged.
    """
    if delta is None:
        return r
    size = r.abs()
    outside = size > delta
    # The square root must not see values inside, where its argument may vanish and its derivative blow up.
    tail = torch.sqrt(2.0 * delta * torch.where(outside, size, delta) - delta**2)
    return torch.where(outside, torch.sign(r) * tail, r)


def huber_curvature(f: Tensor, limits: Tensor) -> Tensor:
    """Factor by which the rows of robust residuals `f` count in J_f^T J_f, (m,).

    Beyond its limit d, Huber's loss is d |r| - d^2/2 and f = sign(r) sqrt(2 d |r| - d^2): Gauss-Newton steps from
    J_f^T J_f would be twice too long there. Iteratively reweighted least squares has the Hessian
    J_r^T (d/|r|) J_r, which is J_f^T J_f with rows multiplied by 2 f^2 / (f^2 + d^2).

    Args:
        f: robust residuals, (m,).
        limits: |f| beyond which the loss is linear, infinite for squares, (m,).
    """
    return torch.where(f.abs() > limits, 2.0 * f**2 / (f**2 + limits.clamp_max(1e150) ** 2), 1.0)
