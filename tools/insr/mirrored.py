"""A stream function that its walls mirror: they are slippery and free of stress, for all weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from physim.solvers.insr.fields import Box, Field
from physim.solvers.insr.jets import Jet, joined
from physim.solvers.insr.maps import Weights


@dataclass(frozen=True)
class Mirrored:
    """prod sin(a_i) N(cos a), a_i = pi/2 (s_i + 1) with s from -1 to 1: odd about each side, with all derivatives.

    The value and the second derivative across are zero at every side. Viscous flow needs both: where only the value is
    zero, nothing tells the vorticity at a wall, and errors there grow.

    Attributes:
        field: of the cosines, in the box from -1 to 1.
        box: whose sides are meant.
    """

    field: Field
    box: Box

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.field.size

    @property
    def dim(self) -> int:
        """Coordinates that it takes."""
        return self.box.dim

    @property
    def outputs(self) -> int:
        """Numbers that it gives."""
        return self.field.outputs

    def start(self, generator: torch.Generator) -> Tensor:
        """Weights to begin with."""
        return self.field.start(generator)

    def __call__(self, weights: Weights, x: Jet) -> Jet:
        """Sines times the field of the cosines."""
        phase = self.box.centred(x) * (0.5 * torch.pi)
        # sin(a) = cos of the centred phase, cos(a) = -sin of it.
        even, odd = phase.sin(), phase.cos()
        out = self.field(weights, joined([even]))
        for axis in range(self.box.dim):
            out = out * odd[axis]
        return out
