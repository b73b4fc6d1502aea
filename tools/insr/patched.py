"""A field that has more weights in one part of the box: a coarse one everywhere, and a fine one that fades."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from physim.solvers.insr.fields import Box, Field
from physim.solvers.insr.jets import Jet
from physim.solvers.insr.maps import Weights


@dataclass(frozen=True)
class Patched:
    """The sum of two fields, the second times a Gaussian around a point.

    Attributes:
        coarse, fine: the fields.
        box: where the coordinates of both lie.
        centre: of the Gaussian [m].
        reach: its standard deviation [m].
    """

    coarse: Field
    fine: Field
    box: Box
    centre: tuple[float, ...]
    reach: float

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.coarse.size + self.fine.size

    @property
    def dim(self) -> int:
        """Coordinates that it takes."""
        return self.box.dim

    @property
    def outputs(self) -> int:
        """Numbers that it gives."""
        return self.coarse.outputs

    def start(self, generator: torch.Generator) -> Tensor:
        """Weights to begin with."""
        return torch.cat([self.coarse.start(generator), self.fine.start(generator)])

    def __call__(self, weights: Weights, x: Jet) -> Jet:
        """Coarse field, plus fine field where it counts."""
        away = Jet(x.terms, (x.value - x.value.new_tensor(self.centre), *x.parts[1:]))
        square = (away * away).each(lambda a: a.sum(dim=1, keepdim=True))
        near = (square * (-0.5 / self.reach**2)).exp()
        return self.coarse(weights, x) + self.fine(weights, x) * near
