"""How far a body reaches along an axis: a maximum that one stray particle cannot move."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from physim.observe.gauge import Snapshot, chosen
from physim.observe.gauges import Coordinate


@dataclass(frozen=True)
class Front:
    """The coordinate beyond which a small fraction of the volume lies.

    The front f solves

        sum_i share_i sigmoid((s_i - f) / width) = fraction

    with s_i the coordinate of particle i: a quantile whose edge is softened over `width`. As fraction and
    width go to zero it becomes the largest coordinate; a finite fraction ignores stray particles, and a
    finite width makes it differentiable, df/ds_i = share_i sigmoid'_i / sum_j share_j sigmoid'_j.

    Attributes:
        indices: which particles, (m,).
        share: fraction of the volume of each, summing to one, (m,).
        coordinate: the axis (or the distance from an axis) along which the front advances.
        width: softening length [m]; about half a particle spacing.
        fraction: share of the volume beyond the front [-].
        zero: subtracted value [m].
        name: column name.
    """

    indices: Tensor
    share: Tensor
    coordinate: Coordinate
    width: float
    fraction: float = 0.005
    zero: float = 0.0
    name: str = "front"

    @property
    def columns(self) -> tuple[str, ...]:
        """One value."""
        return (self.name,)

    @property
    def unit(self) -> str:
        """Metres."""
        return "m"

    def read(self, snapshot: Snapshot) -> Tensor:
        """The front position [m], (1,)."""
        s = self.coordinate.of(chosen(snapshot.x, self.indices))
        return (soft_quantile(s, self.share, self.width, self.fraction) - self.zero).reshape(1)


def soft_quantile(s: Tensor, share: Tensor, width: float, fraction: float) -> Tensor:
    """Solve sum(share * sigmoid((s - f) / width)) = fraction for f, differentiable in `s`.

    Args:
        s: coordinates [m], (m,).
        share: weights that sum to one, (m,).
        width: softening length [m].
        fraction: between 0 and 1.

    Returns:
        f [m], a scalar tensor. The root is found by bisection; its derivative is the implicit one.
    """
    fixed = s.detach()
    reach = width * 60.0
    low, high = float(fixed.min()) - reach, float(fixed.max()) + reach
    for _ in range(80):
        middle = 0.5 * (low + high)
        beyond = float((share * torch.sigmoid((fixed - middle) / width)).sum())
        low, high = (middle, high) if beyond > fraction else (low, middle)
    root = 0.5 * (low + high)
    soft = torch.sigmoid((s - root) / width)
    slope = (share * soft * (1.0 - soft)).sum().detach() / width
    return root + ((share * soft).sum() - fraction) / slope
