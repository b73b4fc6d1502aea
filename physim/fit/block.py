"""The weights of one learned law as one thing to fit."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from physim.errors import InputError

RIDGE = 3.0
"""Standard deviation of a raw value around its start where no prior is given: weights are drawn with about 1."""


@dataclass(frozen=True, eq=False)
class Block:
    """Weights that are fitted together, held near their start by a normal prior.

    Attributes:
        name: user-facing path, such as "materials.rubber.network".
        start: raw values to start from, and centre of the prior, (w,).
        sd: the prior's standard deviation in raw units.
        noise: residual that counts as one standard deviation where the prior is weighed against the data.
        scale: the module's weight for a raw value of one, such that moves by one matter alike, (w,); one unless given.
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
    def precision(self) -> float:
        """What the prior adds to the second derivative of the loss by each raw value."""
        return (self.noise / self.sd) ** 2

    def raw(self, weights: Tensor) -> Tensor:
        """Raw values of the module's weights, (w,)."""
        return weights if self.scale is None else weights / self.scale

    def weights(self, raw: Tensor) -> Tensor:
        """The module's weights of raw values, differentiable, (w,)."""
        return raw if self.scale is None else raw * self.scale

    def moved(self, raw: Tensor) -> float:
        """Root mean square move from the start."""
        return float((raw.detach() - self.start).square().mean().sqrt())
