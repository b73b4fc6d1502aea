"""Weights of learned flow: a layer of units as a module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from physim.errors import InputError
from physim.laws.neural.rises import MOST
from physim.laws.neural.weights import LARGEST_BIAS


@dataclass(frozen=True)
class FlowPlan:
    """Size of a layer of units: what a file must repeat for its weights to fit.

    Attributes:
        hidden: number of units.
    """

    hidden: int = 8
    family: ClassVar[str]
    inputs: ClassVar[int]

    def __post_init__(self) -> None:
        if not (isinstance(self.hidden, int) and 1 <= self.hidden <= MOST):
            raise InputError(f"hidden: {self.hidden!r} is not a number of units; give 1 to {MOST}.")

    @property
    def size(self) -> int:
        """Number of columns of theta."""
        return (2 + self.inputs) * self.hidden

    def options(self) -> dict[str, Any]:
        """What the law was asked for."""
        return {"hidden": self.hidden}


class FlowWeights(nn.Module):
    """Raw weights of a layer of units; frozen until `Material.free`.

    Each may have a leading axis, one set of weights for each row of theta (worlds).

    Attributes:
        plan: size.
        outer: (hidden,).
        inner: (hidden, inputs).
        bias: (hidden,).
    """

    centre: ClassVar[float] = 0.0
    spread: ClassVar[float] = 0.5

    def __init__(self, plan: FlowPlan, seed: int) -> None:
        super().__init__()
        self.plan = plan
        g = torch.Generator().manual_seed(seed)

        def drawn(centre: float, spread: float, *shape: int) -> nn.Parameter:
            raw = centre + spread * torch.randn(shape, dtype=torch.float64, generator=g)
            return nn.Parameter(raw, requires_grad=False)

        self.outer = drawn(self.centre, self.spread, plan.hidden)
        self.inner = drawn(0.0, 1.0, plan.hidden, plan.inputs)
        self.bias = drawn(0.0, 1.5, plan.hidden)

    def rows(self) -> tuple[Tensor, Tensor, Tensor]:
        """Raw weights with a leading axis: (r, hidden), (r, hidden, inputs), (r, hidden)."""
        n, inputs = self.plan.hidden, self.plan.inputs
        return self.outer.reshape(-1, n), self.inner.reshape(-1, n, inputs), self.bias.reshape(-1, n)

    def joined(self, *parts: Tensor) -> Tensor:
        """Columns side by side, with as many rows as the part that has most."""
        rows = max(p.shape[0] for p in parts)
        return torch.cat([p.expand(rows, -1) for p in parts], dim=1)


def bounded(bias: Tensor) -> Tensor:
    """A bias whose exponential stays within what single precision holds."""
    return LARGEST_BIAS * torch.tanh(bias / LARGEST_BIAS)
