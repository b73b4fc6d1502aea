"""A body of revolution: an egg, a drop, a bottle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from physim.errors import InputError
from physim.shapes.rings import chords, ring_center, rings_distance
from physim.shapes.shape import Array, Shape, as_vector

# Of the height: how near to a corner its two sides are looked at, where the width may jump.
_BESIDE = 1e-9


@dataclass(frozen=True, eq=False)
class Revolved(Shape):
    """Solid within a radius that depends on the height, about the y axis of its own frame.

    Args:
        profile: radius and height [m], (m, 2); heights do not decrease; straight in between, flat at both ends.
        middle: where the frame's origin lies [m], (3,): on the axis, at height 0.
        axes: rotation whose columns are the frame's axes [-], (3, 3).
    """

    profile: Any
    middle: Sequence[float] = (0.0, 0.0, 0.0)
    axes: Any = field(default_factory=lambda: np.eye(3))

    def __post_init__(self) -> None:
        profile = np.array(self.profile, dtype=np.float64)
        if profile.ndim != 2 or profile.shape[1] != 2 or len(profile) < 2:
            raise InputError(f"profile: expected at least 2 points (radius, height) [m], got shape {profile.shape}.")
        if not np.isfinite(profile).all() or (profile[:, 0] < 0.0).any() or (np.diff(profile[:, 1]) < 0.0).any():
            raise InputError("profile: radii must not be below zero, and heights must not decrease.")
        object.__setattr__(self, "profile", profile)
        object.__setattr__(self, "middle", as_vector("profile middle", self.middle, fill=0.0))
        object.__setattr__(self, "axes", np.array(self.axes, dtype=np.float64))
        if not self.volume > 0.0:
            raise InputError("profile: it encloses no volume.")

    @property
    def origin(self) -> Array:
        """Origin of the frame [m], (3,)."""
        return np.array(self.middle)

    @property
    def frame(self) -> Array:
        """Axes of the frame as columns [-], (3, 3)."""
        return self.axes

    @property
    def area(self) -> float:
        """Not defined: a body of revolution has no single section; raises `InputError`."""
        raise InputError("a body of revolution is three-dimensional; in plane strain use its outline alone.")

    @property
    def volume(self) -> float:
        """Sum of the frusta between points of the profile [m^3]."""
        r, y = self.profile.T
        return float(np.pi / 3.0 * (np.diff(y) @ (r[1:] ** 2 + r[1:] * r[:-1] + r[:-1] ** 2)))

    @property
    def local_bounds(self) -> Array:
        """Bounds of the largest radius and of the heights [m], (2, 3)."""
        r, (low, high) = float(self.profile[:, 0].max()), self.profile[[0, -1], 1]
        return np.array([[-r, low, -r], [r, high, r]])

    def local_distance(self, points: Array, dim: int) -> Array:
        """Exact distance to the solid [m], (n,)."""
        if dim != 3:
            raise InputError("a body of revolution is three-dimensional; in plane strain use its outline alone.")
        flat = np.column_stack([np.hypot(points[:, 0], points[:, 2]), points[:, 1]])
        # The section through the axis, both halves: its edge is the surface, and has none along the axis.
        ring = np.concatenate([self.profile, self.profile[::-1] * np.array([-1.0, 1.0])])
        return rings_distance(flat, [ring])


def turned_profile(ring: Array) -> tuple[Array, float, float]:
    """The profile of a body of revolution seen from the side.

    The radius at a height is half of the distance between the leftmost and the rightmost place there: the mean of the
    left and the right half of the outline.

    Args:
        ring: outline [m], (m, 2), the second coordinate along the axis.

    Returns:
        radius and height [m], (k, 2); where the axis is along the first coordinate [m]; and how far the middles of the
        widths are from it on average, as a share of the largest radius [-].
    """
    axis = float(ring_center(ring)[0])
    low, high = float(ring[:, 1].min()), float(ring[:, 1].max())
    beside = _BESIDE * (high - low)
    corners = np.unique(ring[:, 1])
    heights = np.unique(np.clip(np.concatenate([corners - beside, corners + beside]), low + beside, high - beside))
    left, right = chords(ring, heights)
    radius, middle = 0.5 * (right - left), 0.5 * (right + left)
    lengths = np.gradient(heights)
    tilted = float((np.abs(middle - axis) * radius) @ lengths / (radius @ lengths)) / float(radius.max())
    return np.column_stack([radius, heights]), axis, tilted
