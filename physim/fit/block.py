"""The weights of one learned law as one thing to fit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from physim.errors import InputError

RIDGE = 3.0
"""Standard deviation of a raw weight around its start where no prior is given: weights are drawn with about 1."""


@dataclass(frozen=True, eq=False)
class Block:
    """Raw weights that are fitted together, held near their start by a normal prior.

    Attributes:
        name: user-facing path, such as "materials.rubber.network".
        start: raw weights to start from, and centre of the prior, (w,).
        sd: the prior's standard deviation in units of `scale`.
        scale: size of a change of each weight that matters, (w,); one unless given.
        noise: residual that counts as one standard deviation where the prior is weighed against the data.
    """

    name: str
    start: Tensor
    sd: float = RIDGE
    noise: float = 1.0
    scale: Tensor | None = None

    def __post_init__(self) -> None:
        if not (self.sd > 0 and self.noise > 0):
            raise InputError(f"{self.name}: the prior's width must be positive, got {self.sd:g}.")

    @property
    def count(self) -> int:
        """Number of weights."""
        return len(self.start)

    @property
    def words(self) -> str:
        """What it is, for a reader."""
        return f"{self.count} weights"

    @property
    def scales(self) -> Tensor:
        """Sizes of changes that matter, (w,)."""
        return torch.ones_like(self.start) if self.scale is None else self.scale

    @property
    def precision(self) -> Tensor:
        """What the prior adds to the second derivatives of the loss by the weights, (w,)."""
        return (self.noise / (self.sd * self.scales)) ** 2

    def moved(self, weights: Tensor) -> float:
        """Root mean square move of the weights, (w,), from the start, in units of `scale`."""
        return float(((weights.detach() - self.start) / self.scales).square().mean().sqrt())
