"""Jacobians by autograd."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def jacobian_of(function: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """d(function)/dz by autograd, (m, k)."""
    leaf = z.detach().clone().requires_grad_()
    with torch.enable_grad():
        return rows_by(function(leaf), leaf)


def rows_by(rows: Tensor, leaf: Tensor) -> Tensor:
    """d(rows)/d(leaf), (m, p): all rows in one batched pass backwards."""
    if not rows.requires_grad:
        return torch.zeros(len(rows), len(leaf), dtype=leaf.dtype)
    unit = torch.eye(len(rows), dtype=rows.dtype)
    (found,) = torch.autograd.grad(rows, leaf, unit, is_grads_batched=True, allow_unused=True)
    return torch.zeros(len(rows), len(leaf), dtype=leaf.dtype) if found is None else found.detach()
