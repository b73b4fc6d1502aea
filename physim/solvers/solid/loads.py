"""Masses and forces at points of a body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from physim.errors import InputError


@dataclass(frozen=True)
class PointLoad:
    """A mass without volume, a dead force, or both, that moves with a material point.

    Attributes:
        position: reference position [m], (3,), or several that share the load evenly, (k, 3): one point of a fine
            grid gives way locally, so spread a load over the edge or patch it rests on. Outside the body, the
            nearest cell's motion is continued.
        mass: point mass [kg] ([kg] per metre of depth in 2D); gravity acts on it.
        force: force [N] ([N] per metre of depth in 2D), constant in direction and size; may need gradients.
        name: for messages.
    """

    position: Sequence[float] | Sequence[Sequence[float]]
    mass: float = 0.0
    force: Tensor | tuple[float, float, float] = (0.0, 0.0, 0.0)
    name: str = "load"

    @property
    def points(self) -> np.ndarray:
        """The loaded points [m], (k, 3).

        Raises:
            InputError: not points in space, or a negative mass.
        """
        points = np.atleast_2d(np.asarray(self.position, float))
        if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
            raise InputError(f"point load '{self.name}': position must be (x, y, z) or a list of them.")
        if not self.mass >= 0.0:
            raise InputError(f"point load '{self.name}': the mass must not be negative, got {self.mass} kg.")
        return points
