"""Gradients against central differences, with the kinks of a path named instead of hidden.

Along a random direction d of a tensor p, the gradient's slope g.d is put beside (L(p + s d) - L(p - s d))/2s at two
step sizes s. On a smooth path the two quotients agree; where contact switches or yield sets in between, they do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

# The quotients of a smooth path differ by curvature (second order in the step) and rounding only.
KINK = 1e-5
# Relative rounding of a loss after some ten substeps in float64.
ROUNDING = 2e-15


@dataclass(frozen=True)
class Difference:
    """The slope of a loss along one direction.

    Attributes:
        name: of the tensor.
        gradient: slope from the gradient.
        coarse: difference quotient at the larger step.
        fine: difference quotient at the smaller step.
        sides: forward and backward quotients at the smaller step.
        size: norm of the gradient times the direction's scale: what errors are measured by.
        noise: rounding of the finer quotient: no smaller deviation says anything.
    """

    name: str
    gradient: float
    coarse: float
    fine: float
    sides: tuple[float, float]
    size: float
    noise: float = 0.0

    @property
    def error(self) -> float:
        """|gradient - quotient| over the gradient's size."""
        return abs(self.gradient - self.fine) / max(self.size, abs(self.fine), 1e-300)

    def agrees(self, bar: float) -> bool:
        """Whether the error is within `bar`, or the deviation is the quotient's own rounding."""
        return self.error <= bar or abs(self.gradient - self.fine) <= self.noise

    @property
    def kink(self) -> bool:
        """Whether the loss bends within a step, and the gradient is one of the slopes that meet there.

        The two central quotients then disagree, and the gradient lies within the range of all four quotients, widened
        by a tenth. A gradient outside of it is wrong, kink or not.
        """
        bent = abs(self.coarse - self.fine) > self.noise + KINK * max(self.size, abs(self.fine), 1e-300)
        slopes = (self.coarse, self.fine, *self.sides)
        room = self.noise + 0.1 * (max(slopes) - min(slopes))
        return bent and min(slopes) - room <= self.gradient <= max(slopes) + room


def compare(
    loss: Callable[[], Tensor],
    leaves: Mapping[str, tuple[Tensor, float]],
    *,
    steps: tuple[float, float] = (2e-5, 5e-6),
    seed: int = 0,
    magnitude: float | None = None,
) -> list[Difference]:
    """Differences of a float64 loss along one random direction of each leaf.

    Args:
        loss: evaluates the scalar loss from the leaves' present values.
        leaves: tensors that require gradients, with the scale [own unit] in which the steps are taken.
        steps: the larger and the smaller relative step.
        seed: of the directions.
        magnitude: sum of the sizes of the loss's terms, where they cancel; its rounding sets the noise.
    """
    value = loss()
    here = float(value.detach())
    gradients = torch.autograd.grad(value, [t for t, _ in leaves.values()])
    noise = ROUNDING * (abs(here) if magnitude is None else magnitude) / steps[1]
    draw = torch.Generator().manual_seed(seed)
    found = []
    for (name, (leaf, scale)), gradient in zip(leaves.items(), gradients, strict=True):
        direction = (
            torch.randn(leaf.shape, generator=draw, dtype=torch.float64) if leaf.numel() > 1 else torch.ones_like(leaf)
        )
        direction = (scale * direction).to(leaf)
        quotients, sides = [], (0.0, 0.0)
        start = leaf.detach().clone()
        with torch.no_grad():
            for step in steps:
                ends = []
                for sign in (1.0, -1.0):
                    leaf.copy_(start + sign * step * direction)
                    ends.append(float(loss()))
                quotients.append((ends[0] - ends[1]) / (2 * step))
                sides = ((ends[0] - here) / step, (here - ends[1]) / step)
            leaf.copy_(start)
        size = float(gradient.norm()) * scale
        slope = float((gradient * direction).sum())
        found.append(Difference(name, slope, quotients[0], quotients[1], sides, size, noise))
    return found
