"""Boxes, spheres, cylinders and half-spaces; in plane strain, rectangles, disks and half-planes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from physim.errors import InputError, nearest
from physim.shapes.shape import Array, Shape, as_length, as_vector, require_planar, rotation_matrix

_AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


def box_distance(points: Array, half: Array) -> Array:
    """Signed distance to a centred box of half sizes `half` [m], (n, d) -> (n,)."""
    excess = np.abs(points) - half
    outside = np.linalg.norm(np.maximum(excess, 0.0), axis=1)
    return outside + np.minimum(excess.max(axis=1), 0.0)


@dataclass(frozen=True)
class Box(Shape):
    """Box; with `dim=2` a rectangle in the xy plane.

    Args:
        center: centre [m], (3,) or (2,).
        size: edge lengths [m], (3,) or (2,); a missing depth is one metre.
        rotation: rotation vector about the centre, axis times angle [rad], (3,).
    """

    center: Sequence[float]
    size: Sequence[float]
    rotation: Sequence[float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        size = as_vector("box size", self.size, fill=1.0)
        object.__setattr__(self, "center", as_vector("box center", self.center, fill=0.0))
        object.__setattr__(self, "size", tuple(as_length("box size", s) for s in size))
        object.__setattr__(self, "rotation", as_vector("box rotation", self.rotation, fill=0.0))

    @classmethod
    def from_bounds(cls, lower: Sequence[float], upper: Sequence[float]) -> Box:
        """Box between two corners [m], (3,) or (2,) each."""
        low, high = (
            np.array(as_vector("lower", lower, fill=-0.5)),
            np.array(as_vector("upper", upper, fill=0.5)),
        )
        if not (high > low).all():
            raise InputError(f"box: upper {tuple(high)} must exceed lower {tuple(low)} along each axis.")
        return cls(tuple(0.5 * (low + high)), tuple(high - low))

    @property
    def origin(self) -> Array:
        """Centre [m], (3,)."""
        return np.array(self.center)

    @cached_property
    def frame(self) -> Array:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Rotation of the box [-], (3, 3)."""
        return rotation_matrix(self.rotation)

    @property
    def volume(self) -> float:
        """Volume [m^3]."""
        return float(np.prod(self.size))

    @property
    def area(self) -> float:
        """Area of the rectangle in the xy plane [m^2]."""
        require_planar("box", self.frame)
        return self.size[0] * self.size[1]

    @property
    def local_bounds(self) -> Array:
        """Half sizes on both sides of the centre [m], (2, 3)."""
        half = 0.5 * np.array(self.size)
        return np.stack([-half, half])

    def local_distance(self, points: Array, dim: int) -> Array:
        """Exact distance to the box, or to the rectangle with `dim=2` [m], (n,)."""
        if dim == 2:
            require_planar("box", self.frame)
        return box_distance(points[:, :dim], 0.5 * np.array(self.size[:dim]))


@dataclass(frozen=True)
class Sphere(Shape):
    """Sphere of a centre [m], (3,) or (2,), and a radius [m]; with `dim=2` a disk."""

    center: Sequence[float]
    radius: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "center", as_vector("sphere center", self.center, fill=0.0))
        object.__setattr__(self, "radius", as_length("sphere radius", self.radius))

    @property
    def origin(self) -> Array:
        """Centre [m], (3,)."""
        return np.array(self.center)

    @property
    def volume(self) -> float:
        """Volume [m^3]."""
        return 4.0 / 3.0 * np.pi * self.radius**3

    @property
    def area(self) -> float:
        """Area of the disk through the centre [m^2]."""
        return np.pi * self.radius**2

    @property
    def local_bounds(self) -> Array:
        """Radius on both sides of the centre [m], (2, 3)."""
        return np.array([[-self.radius] * 3, [self.radius] * 3])

    def local_distance(self, points: Array, dim: int) -> Array:
        """Exact distance to the sphere, or to the circle with `dim=2` [m], (n,)."""
        return np.linalg.norm(points[:, :dim], axis=1) - self.radius


@dataclass(frozen=True)
class Cylinder(Shape):
    """Solid cylinder; with `dim=2` a disk, for an axis along z.

    Args:
        center: centre [m], (3,) or (2,).
        radius: radius [m].
        height: length along the axis [m].
        axis: direction [-], (3,), or "x", "y", "z".
    """

    center: Sequence[float]
    radius: float
    height: float
    axis: str | Sequence[float] = "y"

    def __post_init__(self) -> None:
        axis = self.axis
        if isinstance(axis, str):
            if axis not in _AXES:
                raise InputError(f"cylinder axis: '{axis}' is not allowed.{nearest(axis, _AXES)}")
            axis = _AXES[axis]
        direction = np.array(as_vector("cylinder axis", axis, fill=0.0))
        length = float(np.linalg.norm(direction))
        if length == 0.0:
            raise InputError("cylinder axis: the zero vector has no direction.")
        object.__setattr__(self, "axis", tuple(float(a) for a in direction / length))
        object.__setattr__(self, "center", as_vector("cylinder center", self.center, fill=0.0))
        object.__setattr__(self, "radius", as_length("cylinder radius", self.radius))
        object.__setattr__(self, "height", as_length("cylinder height", self.height))

    @property
    def origin(self) -> Array:
        """Centre [m], (3,)."""
        return np.array(self.center)

    @cached_property
    def frame(self) -> Array:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Frame whose third column is the axis [-], (3, 3)."""
        axis = np.array(self.axis)
        # The world axis least aligned with the cylinder gives a well-conditioned first column; for a world
        # axis the frame is then a permutation, so that a lattice inside stays aligned with the world.
        seed = np.eye(3)[int(np.argmin(np.abs(axis)))]
        first = seed - axis * (axis @ seed)
        first /= np.linalg.norm(first)
        return np.column_stack([first, np.cross(axis, first), axis])

    @property
    def volume(self) -> float:
        """Volume [m^3]."""
        return np.pi * self.radius**2 * self.height

    @property
    def area(self) -> float:
        """Area of the disk in the xy plane [m^2]."""
        require_planar("cylinder", self.frame)
        return np.pi * self.radius**2

    @property
    def local_bounds(self) -> Array:
        """Bounds along the local axes, the third along the cylinder [m], (2, 3)."""
        half = np.array([self.radius, self.radius, 0.5 * self.height])
        return np.stack([-half, half])

    def local_distance(self, points: Array, dim: int) -> Array:
        """Exact distance to the cylinder, or to the circle with `dim=2` [m], (n,)."""
        radial = np.linalg.norm(points[:, :2], axis=1)
        if dim == 2:
            require_planar("cylinder", self.frame)
            return radial - self.radius
        return box_distance(np.column_stack([radial, points[:, 2]]), np.array([self.radius, 0.5 * self.height]))


@dataclass(frozen=True)
class Plane(Shape):
    """Half-space behind a plane.

    Args:
        point: a point on the plane [m], (3,) or (2,).
        normal: direction out of the solid [-], (3,) or (2,).
    """

    point: Sequence[float]
    normal: Sequence[float]

    def __post_init__(self) -> None:
        normal = np.array(as_vector("plane normal", self.normal, fill=0.0))
        length = float(np.linalg.norm(normal))
        if length == 0.0:
            raise InputError("plane normal: the zero vector has no direction.")
        object.__setattr__(self, "point", as_vector("plane point", self.point, fill=0.0))
        object.__setattr__(self, "normal", tuple(float(c) for c in normal / length))

    @property
    def origin(self) -> Array:
        """Point on the plane [m], (3,)."""
        return np.array(self.point)

    @property
    def volume(self) -> float:
        """Infinite."""
        return float("inf")

    @property
    def area(self) -> float:
        """Infinite."""
        return float("inf")

    @property
    def local_bounds(self) -> Array:
        """Infinite bounds, (2, 3)."""
        return np.array([[-np.inf] * 3, [np.inf] * 3])

    def local_distance(self, points: Array, dim: int) -> Array:
        """Exact distance to the plane [m], (n,)."""
        if dim == 2 and abs(self.normal[2]) > 1e-9:
            raise InputError(f"plane normal {self.normal}: in plane strain the z component must be zero.")
        return points @ np.array(self.normal)
