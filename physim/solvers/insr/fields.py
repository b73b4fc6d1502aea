"""Functions of space with adjustable weights: sine networks, random Fourier features, moving Gaussians."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from physim.errors import InputError
from physim.solvers.insr.jets import Jet, joined
from physim.solvers.insr.maps import Weights


class Field(Protocol):
    """A function of space with `size` weights, all in one flat vector."""

    @property
    def size(self) -> int:
        """Number of weights."""
        ...

    @property
    def dim(self) -> int:
        """Coordinates that it takes."""
        ...

    @property
    def outputs(self) -> int:
        """Numbers that it gives."""
        ...

    def start(self, generator: torch.Generator) -> Tensor:
        """Weights to begin with, (size,), float64."""
        ...

    def __call__(self, weights: Weights, x: Jet) -> Jet:
        """The function at points, with its derivatives."""
        ...


@dataclass(frozen=True)
class Box:
    """A part of space, along its axes.

    Attributes:
        lower, upper: corners [m], one number for each axis.
    """

    lower: tuple[float, ...]
    upper: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.lower) != len(self.upper) or not all(a < b for a, b in zip(self.lower, self.upper, strict=True)):
            raise InputError(f"a box needs lower < upper along each axis, got {self.lower} to {self.upper}.")

    @property
    def dim(self) -> int:
        """Number of axes."""
        return len(self.lower)

    @property
    def size(self) -> tuple[float, ...]:
        """Lengths of its edges [m]."""
        return tuple(b - a for a, b in zip(self.lower, self.upper, strict=True))

    def centred(self, x: Jet) -> Jet:
        """Coordinates that run from -1 to 1 in the box."""
        value = x.value
        middle = value.new_tensor([0.5 * (a + b) for a, b in zip(self.lower, self.upper, strict=True)])
        half = value.new_tensor([0.5 * s for s in self.size])
        return Jet(x.terms, ((value - middle) / half, *(None if a is None else a / half for a in x.parts[1:])))


@dataclass(frozen=True)
class Siren:
    """A network of sines (Sitzmann et al., NeurIPS 2020): sin(frequency (W x + b)), repeated, and a linear end.

    Attributes:
        box: where it is used; coordinates are scaled to -1 to 1 in it.
        width, depth: neurons of a layer, and layers of sines.
        frequency: factor in the sines [-]: about how many half waves the first layer begins with.
        outputs: numbers that it gives.
    """

    box: Box
    width: int = 20
    depth: int = 3
    frequency: float = 30.0
    outputs: int = 1

    @property
    def dim(self) -> int:
        """Coordinates that it takes."""
        return self.box.dim

    @property
    def _widths(self) -> list[int]:
        return [self.dim, *[self.width] * self.depth, self.outputs]

    @property
    def size(self) -> int:
        """Number of weights."""
        return sum((a + 1) * b for a, b in zip(self._widths, self._widths[1:], strict=False))

    def start(self, generator: torch.Generator) -> Tensor:
        """Uniform weights as published: waves of all lengths up to the frequency, of size one."""
        pieces = []
        for layer, (a, b) in enumerate(zip(self._widths, self._widths[1:], strict=False)):
            bound = 1.0 / a if layer == 0 else math.sqrt(6.0 / a) / self.frequency
            for shape, limit in (((b, a), bound), ((b,), 1.0 / math.sqrt(a))):
                drawn = torch.rand(shape, generator=generator, dtype=torch.float64)
                pieces.append(((2.0 * drawn - 1.0) * limit).reshape(-1))
        return torch.cat(pieces)

    def __call__(self, weights: Weights, x: Jet) -> Jet:
        """The network at points."""
        h = self.box.centred(x)
        for width in self._widths[1:-1]:
            h = (weights.affine(h, width) * self.frequency).sin()
        return weights.affine(h, self.outputs)


@dataclass(frozen=True)
class Fourier:
    """Random Fourier features (Tancik et al., NeurIPS 2020) before a network of hyperbolic tangents.

    Attributes:
        box: where it is used.
        features: pairs of sine and cosine, of fixed random waves.
        scale: standard deviation of the waves' numbers [rad per half of the box].
        width, depth: of the network behind.
        outputs: numbers that it gives.
        seed: of the waves.
    """

    box: Box
    features: int = 16
    scale: float = 3.0
    width: int = 20
    depth: int = 1
    outputs: int = 1
    seed: int = 0

    @property
    def dim(self) -> int:
        """Coordinates that it takes."""
        return self.box.dim

    @property
    def _widths(self) -> list[int]:
        return [2 * self.features, *[self.width] * self.depth, self.outputs]

    @property
    def size(self) -> int:
        """Number of weights; the waves are not among them."""
        return sum((a + 1) * b for a, b in zip(self._widths, self._widths[1:], strict=False))

    def start(self, generator: torch.Generator) -> Tensor:
        """Normal weights that keep the spread from layer to layer (Glorot)."""
        pieces = []
        for a, b in zip(self._widths, self._widths[1:], strict=False):
            drawn = torch.randn((b, a), generator=generator, dtype=torch.float64)
            pieces += [(drawn * math.sqrt(2.0 / (a + b))).reshape(-1), torch.zeros(b, dtype=torch.float64)]
        return torch.cat(pieces)

    def __call__(self, weights: Weights, x: Jet) -> Jet:
        """The network at points."""
        generator = torch.Generator().manual_seed(self.seed)
        waves = self.scale * torch.randn((self.dim, self.features), generator=generator, dtype=torch.float64)
        phases = self.box.centred(x).each(lambda a: a @ waves)
        h = joined([phases.sin(), phases.cos()])
        for width in self._widths[1:-1]:
            h = weights.affine(h, width).tanh()
        return weights.affine(h, self.outputs)


@dataclass(frozen=True)
class Gaussians:
    """A sum of Gaussians whose centres, widths along the axes and heights are weights (PIG, Kang et al. 2024).

    Attributes:
        box: where it is used; the centres begin spread over it.
        count: number of Gaussians.
        width: their standard deviation at the start, in mean distances of the centres.
        outputs: numbers that it gives.
    """

    box: Box
    count: int = 100
    width: float = 1.0
    outputs: int = 1

    @property
    def dim(self) -> int:
        """Coordinates that it takes."""
        return self.box.dim

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.count * (2 * self.dim + self.outputs) + self.outputs

    def start(self, generator: torch.Generator) -> Tensor:
        """Centres from a Sobol sequence, equal widths, heights near zero."""
        seed = int(torch.randint(2**31, (1,), generator=generator))
        sobol = torch.quasirandom.SobolEngine(self.dim, scramble=True, seed=seed)
        centres = 2.0 * sobol.draw(self.count, dtype=torch.float64) - 1.0
        steep = torch.full_like(centres, 1.0 / (self.width * 2.0 / self.count ** (1.0 / self.dim)))
        heights = 1e-3 * torch.randn((self.outputs, self.count), generator=generator, dtype=torch.float64)
        ends = torch.zeros(self.outputs, dtype=torch.float64)
        return torch.cat([steep.reshape(-1), (-steep * centres).reshape(-1), heights.reshape(-1), ends])

    def __call__(self, weights: Weights, x: Jet) -> Jet:
        """The sum at points."""
        near = self.box.centred(x)
        repeated = near.each(lambda a: a.repeat(1, self.count))
        away = weights.scale(repeated)
        total = (away * away).each(lambda a: a.reshape(a.shape[0], self.count, self.dim).sum(dim=2))
        return weights.affine((total * -0.5).exp(), self.outputs)
