"""How far predictions are from records, fitted and held out, in the record's own units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from physim.observe.record import Comparison


@dataclass(frozen=True)
class Score:
    """Agreement on one part of one observation.

    Attributes:
        name: observation.
        role: "fitted" or "held out".
        count: values compared.
        rms: root mean square of the difference, in `unit`.
        unit: of the values.
        noise: root mean square of the difference in noise units.
        relative: `rms` over the largest departure of the measurement from its first value.
        r2: 1 - sum of squared differences over the sum of squares about each column's mean.
    """

    name: str
    role: str
    count: int
    rms: float
    unit: str
    noise: float
    relative: float
    r2: float


def score(comparisons: Sequence[Comparison]) -> list[Score]:
    """One score per observation and role; parts without values are left out."""
    found = []
    for c in comparisons:
        for role, chosen in (("fitted", c.fitted & c.valid), ("held out", ~c.fitted & c.valid)):
            if bool(chosen.any()):
                found.append(_score(c, role, chosen))
    return found


def _score(c: Comparison, role: str, chosen: Tensor) -> Score:
    difference = torch.where(chosen, c.predicted - c.measured, 0.0)
    count = int(chosen.sum())
    squares = float((difference**2).sum())
    weight = chosen.to(c.measured)
    mean = (weight * c.measured).sum(0) / weight.sum(0).clamp_min(1.0)
    about = float((weight * (c.measured - mean) ** 2).sum())
    amplitude = _amplitude(c)
    rms = math.sqrt(squares / count)
    return Score(
        name=c.name,
        role=role,
        count=count,
        rms=rms,
        unit=c.unit,
        noise=math.sqrt(float((difference / c.sigma).square().sum()) / count),
        relative=rms / amplitude if amplitude > 0 else math.nan,
        r2=1.0 - squares / about if about > 0 else math.nan,
    )


def _amplitude(c: Comparison) -> float:
    """Largest departure of any column from its first measured value, over the whole record."""
    size = 0.0
    for column in range(c.measured.shape[1]):
        values = c.measured[c.valid[:, column], column]
        if len(values):
            size = max(size, float((values - values[0]).abs().max()))
    return size
