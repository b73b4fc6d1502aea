"""The fitted parameters, and the map between their physical and their unconstrained values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from physim.errors import InputError, nearest


class Transform(Enum):
    """How a physical value follows from the unconstrained raw one."""

    LOG = "log"
    """value = exp(raw): positive quantities over orders of magnitude; one raw unit is a factor of e."""
    LOGIT = "logit"
    """value = lower + (upper - lower) sigmoid(raw): quantities between two bounds."""
    LINEAR = "linear"
    """value = scale * raw: quantities of either sign."""


@dataclass(frozen=True)
class Prior:
    """What is known beforehand: a normal distribution of the raw value.

    Attributes:
        value: physical value at its centre.
        sd: standard deviation in raw units.
    """

    value: float
    sd: float


@dataclass(frozen=True)
class Quantity:
    """One fitted number.

    Attributes:
        name: user-facing path, such as "materials.silicone.E".
        unit: SI unit, such as "Pa"; "" for a pure number.
        start: physical value to start from.
        transform: map to the unconstrained value.
        lower: smallest allowed value.
        upper: largest allowed value.
        scale: physical size of one raw unit for `Transform.LINEAR`.
        prior: optional prior knowledge.
    """

    name: str
    unit: str
    start: float
    transform: Transform = Transform.LOG
    lower: float = -math.inf
    upper: float = math.inf
    scale: float = 1.0
    prior: Prior | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.start) or not self.lower <= self.start <= self.upper:
            raise InputError(
                f"{self.name}: the start {self.start:g} {self.unit} is outside its bounds "
                f"{self.lower:g} to {self.upper:g} {self.unit}."
            )
        if self.transform is Transform.LOG and not self.start > 0:
            raise InputError(f"{self.name}: a start above zero is needed, got {self.start:g} {self.unit}.")
        if self.transform is Transform.LOGIT and not math.isfinite(self.upper - self.lower):
            raise InputError(f"{self.name}: fitting between bounds needs a finite lower and upper bound.")
        if self.prior is not None and not self.prior.sd > 0:
            raise InputError(f"{self.name}: the prior's width must be positive, got {self.prior.sd:g}.")

    def raw(self, value: float) -> float:
        """The unconstrained value of a physical one; bounds of a logit are kept a little away from."""
        if self.transform is Transform.LOG:
            if not value > 0:
                raise InputError(f"{self.name}: a value above zero is needed, got {value:g} {self.unit}.")
            return math.log(value)
        if self.transform is Transform.LOGIT:
            share = (value - self.lower) / (self.upper - self.lower)
            share = min(max(share, 1e-6), 1.0 - 1e-6)
            return math.log(share / (1.0 - share))
        return value / self.scale

    def value(self, raw: Tensor) -> Tensor:
        """The physical value of an unconstrained one."""
        if self.transform is Transform.LOG:
            return torch.exp(raw)
        if self.transform is Transform.LOGIT:
            return self.lower + (self.upper - self.lower) * torch.sigmoid(raw)
        return raw * self.scale

    def raw_bounds(self) -> tuple[float, float]:
        """Bounds of the unconstrained value; infinite where the transform or the quantity has none."""
        if self.transform is Transform.LOGIT:
            return -math.inf, math.inf
        if self.transform is Transform.LOG:
            low = math.log(self.lower) if self.lower > 0 else -math.inf
            return low, math.log(self.upper) if math.isfinite(self.upper) else math.inf
        return self.lower / self.scale, self.upper / self.scale


@dataclass(frozen=True)
class Space:
    """All fitted quantities of a problem, in order."""

    quantities: tuple[Quantity, ...]

    def __post_init__(self) -> None:
        if not self.quantities:
            raise InputError("there is nothing to fit: name at least one parameter under fit.parameters.")
        names = self.names
        twice = {n for n in names if names.count(n) > 1}
        if twice:
            raise InputError(f"fitted twice: {', '.join(sorted(twice))}.")

    @property
    def names(self) -> tuple[str, ...]:
        """User-facing names."""
        return tuple(q.name for q in self.quantities)

    def start(self) -> Tensor:
        """Raw values of the starts, (p,)."""
        return self.raw([q.start for q in self.quantities])

    def raw(self, values: Sequence[float]) -> Tensor:
        """Raw values of physical ones, (p,)."""
        pairs = zip(self.quantities, values, strict=True)
        return torch.tensor([q.raw(float(v)) for q, v in pairs], dtype=torch.float64)

    def values(self, raw: Tensor) -> Tensor:
        """Physical values of raw ones, differentiable, (p,)."""
        return torch.stack([q.value(raw[i]) for i, q in enumerate(self.quantities)])

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Raw lower and upper bounds, (p,) each."""
        pairs = [q.raw_bounds() for q in self.quantities]
        return tuple(torch.tensor(b, dtype=torch.float64) for b in zip(*pairs, strict=True))  # type: ignore[return-value]

    def prior_residuals(self, raw: Tensor) -> Tensor:
        """(raw - centre) / sd of every quantity with a prior, flat."""
        rows = [
            (raw[i] - q.raw(q.prior.value)) / q.prior.sd for i, q in enumerate(self.quantities) if q.prior is not None
        ]
        return torch.stack(rows) if rows else raw.new_zeros(0)

    def index(self, name: str) -> int:
        """Position of a quantity.

        Raises:
            InputError: no such fitted quantity.
        """
        if name not in self.names:
            raise InputError(f"'{name}' is not among the fitted parameters.{nearest(name, self.names)}")
        return self.names.index(name)

    def factored(self, factor: float) -> Tensor:
        """A start with every positive (log) quantity multiplied by `factor`, clipped to its bounds, (p,)."""
        low, high = self.bounds()
        moves = [math.log(factor) if q.transform is Transform.LOG else 0.0 for q in self.quantities]
        return torch.clamp(self.start() + torch.tensor(moves, dtype=torch.float64), low, high)

    def replaced(self, values: Mapping[str, float]) -> Tensor:
        """A start with some physical values given by name, (p,)."""
        raw = self.start()
        for name, value in values.items():
            i = self.index(name)
            raw[i] = self.quantities[i].raw(value)
        return raw
