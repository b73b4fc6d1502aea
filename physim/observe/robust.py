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
