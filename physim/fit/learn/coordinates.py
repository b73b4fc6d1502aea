"""What a refinement moves: the coefficients that the stress is linear in, or every free parameter of a material."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from physim.errors import FitError
from physim.fit.learn.linear import Layer
from physim.laws.material import Material

# Of coefficients in units of the modulus, and of raw parameters.
LINEAR_STEP, RAW_STEP = 0.05, 3e-3


class Coordinates(ABC):
    """Numbers that make columns of theta.

    Attributes:
        names: of the numbers.
        step: of a difference that says how residuals depend on one.
        low: least values, (k,).
    """

    names: tuple[str, ...]
    step: float
    low: Tensor

    @abstractmethod
    def read(self) -> Tensor:
        """The material's present point, (k,)."""

    @abstractmethod
    def theta(self, points: Tensor) -> Tensor:
        """Columns of theta at several points, (r, k) -> (r, K)."""

    @abstractmethod
    def back(self, point: Tensor, slope: Tensor) -> Tensor:
        """The gradient at a point from that with respect to theta, (K,) -> (k,)."""

    @abstractmethod
    def write(self, point: Tensor) -> None:
        """Put a point into the material."""

    def clip(self, point: Tensor) -> Tensor:
        """The nearest point that is allowed."""
        return torch.maximum(point, self.low.to(point))


class Coefficients(Coordinates):
    """The moduli, the head's coefficients and the outer weights, at the present inner ones: theta is linear in them.

    Args:
        material: with a network whose coefficients a linear start finds.

    Attributes:
        scale: the modulus [Pa] whose multiples they are.
    """

    step = LINEAR_STEP

    def __init__(self, material: Material) -> None:
        self.material = material
        layer = self._layer = Layer(material)
        self.names, self.scale = tuple(layer.names), layer.scale
        size = len(self.names)
        self._rest = layer.theta(torch.zeros(1, size, dtype=torch.float64))
        self._slopes = layer.theta(torch.eye(size, dtype=torch.float64)) - self._rest
        bounds = [0.0 if c.bounded else -math.inf for c in layer.network.coefficients]
        self.low = torch.tensor(bounds, dtype=torch.float64)

    def read(self) -> Tensor:
        """See `Coordinates`."""
        now = self.material.theta().detach()[:1] - self._rest
        return torch.linalg.lstsq(self._slopes.T, now.T).solution[:, 0]

    def theta(self, points: Tensor) -> Tensor:
        """See `Coordinates`."""
        return self._rest + points @ self._slopes

    def back(self, point: Tensor, slope: Tensor) -> Tensor:
        """See `Coordinates`."""
        return self._slopes @ slope

    def write(self, point: Tensor) -> None:
        """See `Coordinates`."""
        self._layer.write(point)


class Parameters(Coordinates):
    """Every raw parameter of a material that is free."""

    step = RAW_STEP

    def __init__(self, material: Material) -> None:
        self.material = material
        named = [(n, p) for n, p in material.named_parameters() if p.requires_grad]
        if not named:
            raise FitError("nothing of the material is free; call `material.free('network', 'E', ...)`.")
        self._free = [p for _, p in named]
        self.names = tuple(n if p.numel() == 1 else f"{n} {i + 1}" for n, p in named for i in range(p.numel()))
        self.low = torch.full((len(self.names),), -math.inf, dtype=torch.float64)

    def read(self) -> Tensor:
        """See `Coordinates`."""
        return torch.cat([p.detach().reshape(-1) for p in self._free])

    def theta(self, points: Tensor) -> Tensor:
        """See `Coordinates`."""
        before, rows = self.read(), []
        for point in points:
            self.write(point)
            rows.append(self.material.theta().detach()[:1])
        self.write(before)
        return torch.cat(rows)

    def back(self, point: Tensor, slope: Tensor) -> Tensor:
        """See `Coordinates`."""
        before = self.read()
        self.write(point)
        with torch.enable_grad():
            found = torch.autograd.grad(self.material.theta()[0], self._free, slope, allow_unused=True)
        self.write(before)
        parts = [torch.zeros_like(p) if g is None else g for p, g in zip(self._free, found, strict=True)]
        return torch.cat([g.reshape(-1) for g in parts])

    def write(self, point: Tensor) -> None:
        """See `Coordinates`."""
        at = 0
        with torch.no_grad():
            for p in self._free:
                p.copy_(point[at : at + p.numel()].reshape(p.shape))
                at += p.numel()
