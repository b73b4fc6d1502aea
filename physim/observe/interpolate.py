"""Values at record times from values at saved frames."""

from __future__ import annotations

import torch
from torch import Tensor

from physim.errors import InputError


def interpolation_matrix(frames: Tensor, times: Tensor, *, order: int = 3) -> Tensor:
    """Weights that turn a series at `frames` into its values at `times`.

    Each value is the Lagrange polynomial through the `order + 1` frames around it (fewer where the series is
    shorter), exact for polynomials of that degree. The weights depend on `times` differentiably.

    Args:
        frames: strictly increasing times of the series [s], (F,).
        times: where values are wanted [s], (m,).
        order: 1 for linear, 3 for cubic.

    Returns:
        (m, F) weights; rows sum to one.

    Raises:
        InputError: frames not increasing, or a time beyond them by more than rounding.
    """
    f = frames.to(torch.float64)
    t = times.to(torch.float64)
    if len(f) < 1 or bool((f[1:] <= f[:-1]).any()):
        raise InputError("the saved frames must have strictly increasing times.")
    slack = 1e-6 * max(float(f[-1] - f[0]), 1e-12) + 1e-12
    if float(t.detach().min()) < float(f[0]) - slack or float(t.detach().max()) > float(f[-1]) + slack:
        low, high = float(t.detach().min()), float(t.detach().max())
        raise InputError(
            f"the record covers {low:.6g} to {high:.6g} s, the simulation {float(f[0]):.6g} to "
            f"{float(f[-1]):.6g} s: simulate longer, or shorten the record."
        )
    points = min(order + 1, len(f))
    cell = torch.searchsorted(f, t.detach().contiguous(), right=True) - 1
    first = (cell - (points - 1) // 2).clamp(0, len(f) - points)
    columns = first[:, None] + torch.arange(points)
    nodes = f[columns]
    weights = torch.stack([_lagrange(t, nodes, a) for a in range(points)], dim=1)
    return torch.zeros(len(t), len(f), dtype=torch.float64).scatter(1, columns, weights)


def _lagrange(t: Tensor, nodes: Tensor, a: int) -> Tensor:
    """Basis polynomial `a` through `nodes`, (m, p), evaluated at `t`, (m,)."""
    others = [b for b in range(nodes.shape[1]) if b != a]
    value = torch.ones_like(t)
    for b in others:
        value = value * (t - nodes[:, b]) / (nodes[:, a] - nodes[:, b])
    return value
