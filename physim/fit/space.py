"""The fitted parameters, and the map between their physical and their unconstrained values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from physim.errors import InputError, nearest
from physim.fit.block import Block


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
    """All fitted quantities of a problem in order, and after them its blocks of weights.

    Attributes:
        quantities: named numbers; one raw value each.
        blocks: weights of learned laws; as many raw values as they have weights.
    """

    quantities: tuple[Quantity, ...]
    blocks: tuple[Block, ...] = ()

    def __post_init__(self) -> None:
        if not self.quantities and not self.blocks:
            raise InputError("there is nothing to fit: name at least one parameter under fit.parameters.")
        names = self.members
        twice = {n for n in names if names.count(n) > 1}
        if twice:
            raise InputError(f"fitted twice: {', '.join(sorted(twice))}.")

    @property
    def names(self) -> tuple[str, ...]:
        """User-facing names of the quantities."""
        return tuple(q.name for q in self.quantities)

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the quantities and of the blocks."""
        return (*self.names, *(b.name for b in self.blocks))

    @property
    def size(self) -> int:
        """Number of raw values."""
        return len(self.quantities) + sum(b.count for b in self.blocks)

    def start(self) -> Tensor:
        """Raw values of the starts, (p,)."""
        return self.raw([q.start for q in self.quantities])

    def raw(self, values: Sequence[float]) -> Tensor:
        """Raw values of physical ones, weights at their start, (p,)."""
        pairs = zip(self.quantities, values, strict=True)
        own = torch.tensor([q.raw(float(v)) for q, v in pairs], dtype=torch.float64)
        return torch.cat([own, *(b.start for b in self.blocks)])

    def values(self, raw: Tensor) -> Tensor:
        """Physical values of the quantities, differentiable, one each."""
        if not self.quantities:
            return raw[:0]
        return torch.stack([q.value(raw[i]) for i, q in enumerate(self.quantities)])

    def named(self, raw: Tensor) -> dict[str, Tensor]:
        """Physical values of the quantities by name, differentiable."""
        return dict(zip(self.names, self.values(raw), strict=True))

    def weights(self, raw: Tensor) -> dict[str, Tensor]:
        """The modules' weights by name of the block, differentiable."""
        return {b.name: b.weights(raw[self.rows(b.name)]) for b in self.blocks}

    def moves(self, raw: Tensor) -> dict[str, float]:
        """Root mean square move of each block's weights from their start, in raw units."""
        return {b.name: b.moved(raw[self.rows(b.name)]) for b in self.blocks}

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Raw lower and upper bounds, (p,) each; weights have none."""
        pairs = [q.raw_bounds() for q in self.quantities]
        low, high = (torch.tensor([pair[side] for pair in pairs], dtype=torch.float64) for side in (0, 1))
        open_end = torch.full((self.size - len(pairs),), math.inf, dtype=torch.float64)
        return torch.cat([low, -open_end]), torch.cat([high, open_end])

    def prior_residuals(self, raw: Tensor) -> Tensor:
        """(raw - centre) / sd of everything with a prior, flat."""
        rows = [
            (raw[i] - q.raw(q.prior.value)) / q.prior.sd for i, q in enumerate(self.quantities) if q.prior is not None
        ]
        own = [torch.stack(rows)] if rows else []
        own += [(raw[self.rows(b.name)] - b.start) * b.precision**0.5 for b in self.blocks]
        return torch.cat(own) if own else raw.new_zeros(0)

    def index(self, name: str) -> int:
        """Position of a quantity.

        Raises:
            InputError: no such fitted quantity.
        """
        if name not in self.names:
            raise InputError(f"'{name}' is not among the fitted parameters.{nearest(name, self.names)}")
        return self.names.index(name)

    def rows(self, name: str) -> slice:
        """Raw values of a quantity or a block.

        Raises:
            InputError: nothing of that name is fitted.
        """
        if name in self.names:
            return slice(self.index(name), self.index(name) + 1)
        begin = len(self.quantities)
        for block in self.blocks:
            if block.name == name:
                return slice(begin, begin + block.count)
            begin += block.count
        raise InputError(f"'{name}' is not among the fitted parameters.{nearest(name, self.members)}")

    def owner(self, index: int) -> str:
        """Name of the quantity or block that a raw value belongs to."""
        for name in self.members:
            rows = self.rows(name)
            if rows.start <= index < rows.stop:
                return name
        raise InputError(f"raw value {index} of {self.size} does not exist.")

    def factored(self, factor: float) -> Tensor:
        """A start with every positive (log) quantity multiplied by `factor`, clipped to its bounds, (p,)."""
        low, high = self.bounds()
        moves = torch.zeros(self.size, dtype=torch.float64)
        for i, q in enumerate(self.quantities):
            moves[i] = math.log(factor) if q.transform is Transform.LOG else 0.0
        return torch.clamp(self.start() + moves, low, high)

    def replaced(self, values: Mapping[str, float]) -> Tensor:
        """A start with some physical values given by name, (p,)."""
        raw = self.start()
        for name, value in values.items():
            i = self.index(name)
            raw[i] = self.quantities[i].raw(value)
        return raw
