"""What every shape answers: signed distance, exact size, bounding box."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from physim.errors import InputError

Array = np.ndarray[Any, np.dtype[np.float64]]


class Shape(ABC):
    """A solid region of space, or of the xy plane when asked with `dim=2` (plane strain).

    A subclass works in its own frame (`origin`, `frame`), where it is aligned with the axes; world coordinates
    are handled here once. With `dim=2` the z coordinate of a point is ignored.
    """

    @property
    @abstractmethod
    def origin(self) -> Array:
        """Origin of the local frame in world coordinates [m], (3,)."""

    @property
    def frame(self) -> Array:
        """Rotation whose columns are the local axes in world coordinates [-], (3, 3)."""
        return np.eye(3)

    @property
    @abstractmethod
    def volume(self) -> float:
        """Exact volume [m^3]; infinite for an unbounded shape."""

    @property
    @abstractmethod
    def area(self) -> float:
        """Exact area of the xy section [m^2], which is the volume per metre of depth in plane strain."""

    @property
    @abstractmethod
    def local_bounds(self) -> Array:
        """Lower and upper corner in the local frame [m], (2, 3)."""

    @abstractmethod
    def local_distance(self, points: Array, dim: int) -> Array:
        """Signed distance at points given in the local frame [m], (n, 3) -> (n,)."""

    def signed_distance(self, points: Any, *, dim: int = 3) -> Array:
        """Signed distance to the surface, negative inside.

        Args:
            points: world positions [m], (n, 3), or (n, 2) with `dim=2`.
            dim: 3, or 2 for the section in the xy plane.

        Returns:
            Distances [m], (n,).
        """
        world = as_points(points, dim)
        return self.local_distance((world - self.origin) @ self.frame, dim)

    def measure(self, dim: int = 3) -> float:
        """Volume [m^3] for `dim=3`; for `dim=2` the volume of one metre of depth [m^3]."""
        return self.volume if check_dim(dim) == 3 else self.area * 1.0

    @property
    def bounds(self) -> Array:
        """Lower and upper corner of the axis-aligned box around the shape [m], (2, 3)."""
        low, high = self.local_bounds
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            return np.array([[-np.inf] * 3, [np.inf] * 3])
        corners = np.array([[x, y, z] for x in (low[0], high[0]) for y in (low[1], high[1]) for z in (low[2], high[2])])
        world = corners @ self.frame.T + self.origin
        return np.stack([world.min(axis=0), world.max(axis=0)])


def check_dim(dim: int) -> int:
    """Return `dim` if it is 2 or 3, else raise `InputError`."""
    if dim not in (2, 3):
        raise InputError(f"dim: {dim!r} is not allowed; use 2 (plane strain in xy) or 3.")
    return int(dim)


def as_points(points: Any, dim: int) -> Array:
    """Return points as a float64 array (n, 3); with `dim=2`, z is set to zero and (n, 2) is accepted."""
    check_dim(dim)
    array = np.array(points, dtype=np.float64, ndmin=2)
    if dim == 2 and array.ndim == 2 and array.shape[1] in (2, 3):
        return np.column_stack([array[:, :2], np.zeros(len(array))])
    if array.ndim != 2 or array.shape[1] != 3:
        raise InputError(f"points: expected shape (n, 3) [m], got {np.shape(points)}.")
    return array


def as_vector(name: str, value: Sequence[float] | Array, *, fill: float) -> tuple[float, float, float]:
    """Return a finite 3-vector; a 2-vector, natural in plane strain, gets `fill` as its z component."""
    try:
        array = np.asarray(value, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{name}: {value!r} is not a vector of numbers; give 3 of them, or 2 in plane strain."
        ) from error
    if array.size == 2:
        array = np.append(array, fill)
    if array.size != 3:
        raise InputError(f"{name}: expected 3 numbers (2 in plane strain), got {array.size}: {value!r}.")
    if not np.isfinite(array).all():
        raise InputError(f"{name}: not finite: {value!r}.")
    return (float(array[0]), float(array[1]), float(array[2]))


def as_length(name: str, value: float) -> float:
    """Return a finite length above zero [m]."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: {value!r} is not a number; give a length in metres.") from error
    if not (np.isfinite(number) and number > 0.0):
        raise InputError(f"{name}: {value!r} is not allowed; give a finite length above zero, in metres.")
    return number


def rotation_matrix(rotation: Sequence[float] | Array) -> Array:
    """Matrix of a rotation vector: axis times angle [rad], (3,) -> (3, 3) (Rodrigues)."""
    vector = np.asarray(rotation, dtype=np.float64)
    angle = float(np.linalg.norm(vector))
    if angle == 0.0:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * (cross @ cross)


def require_planar(name: str, rotation: Array) -> None:
    """Raise `InputError` if a frame turns the z axis, so that the xy section is not the local one."""
    if not np.allclose(rotation[:, 2], (0.0, 0.0, 1.0), atol=1e-9):
        raise InputError(f"{name}: in plane strain a shape may be turned about the z axis only.")


def extruded_distance(flat: Array, z: Array, thickness: float) -> Array:
    """Signed distance to an extrusion [m], (n,), from that to its section, (n,), and heights from its middle, (n,)."""
    excess = np.column_stack([flat, np.abs(z) - 0.5 * thickness])
    return np.linalg.norm(np.maximum(excess, 0.0), axis=1) + np.minimum(excess.max(axis=1), 0.0)
