"""The strains within which a law is looked at, such as those that its training data held."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# Stretches from 0.78 to 1.28: looked at where nothing says what a law was trained on.
REACH = 0.25
# Of the strain: the change of volume that is looked at at least, or nothing could be told about the bulk modulus.
LEAST_VOLUME = 0.1


@dataclass(frozen=True)
class Reach:
    """Strains up to a size, within changes of volume.

    Attributes:
        strain: largest norm of the Hencky strain |log(F F^T)/2| [-].
        volume: least and largest J [-].
    """

    strain: float = REACH
    volume: tuple[float, float] = (math.exp(-REACH), math.exp(REACH))

    def times(self, factor: float) -> Reach:
        """Hencky strains larger by a factor."""
        low, high = (J**factor for J in self.volume)
        return Reach(self.strain * factor, (low, high))

    def states(self, n: int, seed: int) -> Tensor:
        """Random principal Hencky strains [-], (n, 3): every kind of shear, sizes and volumes drawn evenly."""
        g = torch.Generator().manual_seed(seed)
        kind = torch.randn(n, 3, dtype=torch.float64, generator=g)
        kind = kind - kind.mean(dim=1, keepdim=True)
        size, place = torch.rand(2, n, 1, dtype=torch.float64, generator=g)
        low, high = self._log_volume()
        log_J = low + (high - low) * place
        room = (self.strain**2 - log_J * log_J / 3.0).clamp(min=0.0).sqrt()
        return room * size * kind / kind.norm(dim=1, keepdim=True) + log_J / 3.0

    def rays(self, kinds: int = 7) -> Tensor:
        """Principal Hencky strains at the edge [-], (m, 3): kinds of shear from pull to push, at either volume.

        Shear is full or half, because a change of volume may be worse with less of it.
        """
        angle = torch.linspace(0.0, math.pi / 3.0, kinds, dtype=torch.float64)[:, None]
        thirds = 2.0 * math.pi / 3.0 * torch.arange(3, dtype=torch.float64)
        kind = math.sqrt(2.0 / 3.0) * torch.cos(angle - thirds)
        low, high = self._log_volume()
        found = []
        for log_J in (low, 0.0, high):
            room = math.sqrt(max(self.strain**2 - log_J * log_J / 3.0, 0.0))
            found += [size * kind + log_J / 3.0 for size in (room, 0.5 * room)]
        alone = torch.tensor([[low], [high]], dtype=torch.float64).expand(2, 3) / 3.0
        return torch.cat([*found, alone])

    def _log_volume(self) -> tuple[float, float]:
        """Range of ln J that is looked at: within the strain, and not nothing."""
        least, most = LEAST_VOLUME * self.strain, math.sqrt(3.0) * self.strain
        low, high = (math.log(J) for J in self.volume)
        return max(min(low, -least), -most), min(max(high, least), most)


def reach_of(strain: Tensor, volume: Tensor) -> Reach:
    """What states have visited; one in a thousand is left out at either end: a corner squeezed for a moment is not it.

    Args:
        strain: norms of their Hencky strains [-], (n,).
        volume: their J [-], (n,).
    """
    strain, volume = strain.sort().values, volume.sort().values
    last = len(strain) - 1
    low, high = float(volume[round(0.001 * last)]), float(volume[round(0.999 * last)])
    return Reach(max(float(strain[round(0.999 * last)]), 1e-3), (min(low, 1.0), max(high, 1.0)))


def stretched(strain: Tensor) -> Tensor:
    """Deformation gradients (n, 3, 3) of principal Hencky strains (n, 3)."""
    return torch.diag_embed(torch.exp(strain))
