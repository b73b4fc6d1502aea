"""How far a step is from its equation, at points that it was not fitted at and without what cancels in a fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from physim.solvers.insr.fields import Field
from physim.solvers.insr.jets import Index
from physim.solvers.insr.maps import Weights
from physim.solvers.insr.points import Points
from physim.solvers.insr.tangent import derivatives


@dataclass(frozen=True)
class Balance:
    """An equation at points, as d(amount)/dt = rate.

    Attributes:
        amount: what is balanced, (n, m).
        rate: how fast it changes by the equation, (n, m).
        size: how large the terms of `rate` are before they cancel, (n,); what a residual is compared with.
    """

    amount: Tensor
    rate: Tensor
    size: Tensor


@runtime_checkable
class Balanced(Protocol):
    """An equation that holds at each point by itself: of a flow that of the vorticity, without pressure."""

    @property
    def local(self) -> Sequence[Index]:
        """Derivatives of the field that `balance` reads."""
        ...

    def balance(self, q: Tensor) -> Balance:
        """The equation at points, from derivatives as in `local`, (n, outputs, k)."""
        ...


def balance(problem: Balanced, field: Field, flat: Tensor, x: Tensor) -> Balance:
    """The equation at positions [m], (n, dim), for the field with weights `flat`; differentiable."""
    return problem.balance(derivatives(field, Weights(flat), x, problem.local))


def residual(before: Balance, after: Balance, dt: float, late: float) -> Tensor:
    """What a step of `dt` [s] leaves of the equation, (n, m).

    Args:
        before, after: the equation at both ends.
        dt: length of the step [s].
        late: share of the rate that is taken at the end: 1/2 for the mean of both (second order), 1 for backward Euler.
    """
    return (after.amount - before.amount) / dt - (1.0 - late) * before.rate - late * after.rate


def terms_of(found: Balance, points: Points) -> float:
    """Root mean square of the size of an equation's terms."""
    return math.sqrt(float((points.weight * found.size.square()).sum()))


def share(left: Tensor, before: Balance, after: Balance, points: Points, least: float) -> float:
    """Root mean square of a residual over that of the equation's terms, or over `least`; 0 where nothing happens."""
    missed = math.sqrt(float((points.weight * left.square().sum(dim=1)).sum()))
    whole = max(terms_of(before, points), terms_of(after, points), least)
    if whole == 0.0:
        return 0.0 if missed == 0.0 else math.inf
    return missed / whole
