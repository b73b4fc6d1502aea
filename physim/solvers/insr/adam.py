"""First-order descent with random points, as weight-space steps were published: the baseline of every table."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from physim.errors import InputError


@dataclass(frozen=True)
class Descent:
    """How far to descend (INSR-PDE, Chen et al., ICML 2023, arXiv 2210.00124: the defaults are theirs).

    Attributes:
        rate: of Adam at the start.
        least: the rate at which a search ends.
        factor: of the rate whenever the loss has not fallen for a while.
        patience: iterations of such a while.
        most: iterations at which a search ends in any case.
    """

    rate: float = 1e-4
    least: float = 1e-8
    factor: float = 0.1
    patience: int = 500
    most: int = 20_000


@dataclass(frozen=True)
class Descended:
    """Where a descent ended.

    Attributes:
        weights: (p,).
        loss: at the last iteration, before its step.
        iterations: how many gradients were taken.
        settled: the rate came down to the least.
    """

    weights: Tensor
    loss: float
    iterations: int
    settled: bool


def descend(loss: Callable[[Tensor], Tensor], start: Tensor, how: Descent | None = None) -> Descended:
    """Lower a loss by Adam (Kingma and Ba, ICLR 2015), its rate cut whenever the loss rests.

    Args:
        loss: from flat weights (p,) to a scalar; it may draw other points at each call.
        start: weights to begin with, (p,).
        how: see there.

    Raises:
        InputError: the loss is not finite.
    """
    how = how or Descent()
    weights = start.detach().clone().requires_grad_()
    adam = torch.optim.Adam([weights], lr=how.rate)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(adam, factor=how.factor, patience=how.patience)
    value, settled = math.inf, False
    for done in range(1, how.most + 1):
        adam.zero_grad()
        with torch.enable_grad():
            found = loss(weights)
            found.backward()
        value = float(found.detach())
        if not math.isfinite(value):
            raise InputError(f"the loss is {value} at iteration {done}: lower the rate, {how.rate:g}.")
        adam.step()
        plateau.step(value)
        # A little above, as the rate comes down by factors that are not exact.
        settled = adam.param_groups[0]["lr"] <= 1.01 * how.least
        if settled:
            return Descended(weights.detach(), value, done, settled)
    return Descended(weights.detach(), value, how.most, settled)
