"""Masses and forces at points of a body."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class PointLoad:
    """A mass without volume, a dead force, or both, that moves with a material point.

    Attributes:
        position: reference position [m]; outside the body, the nearest cell's motion is continued to it.
        mass: point mass [kg] ([kg] per metre of depth in 2D); gravity acts on it.
        force: force [N] ([N] per metre of depth in 2D), constant in direction and size; may need gradients.
        name: for messages.
    """

    position: tuple[float, float, float]
    mass: float = 0.0
    force: Tensor | tuple[float, float, float] = (0.0, 0.0, 0.0)
    name: str = "load"
