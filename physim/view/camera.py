"""Where a picture is taken from, and a default that shows everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from physim.errors import InputError
from physim.shapes.shape import Array

# Three-quarter view [rad]: enough from the side to see depth, low enough to judge heights.
_AZIMUTH, _ELEVATION = np.radians(28.0), np.radians(17.0)


@dataclass(frozen=True)
class Camera:
    """A pinhole or parallel camera.

    Attributes:
        position: eye [m], (3,).
        target: point in the middle of the picture [m], (3,).
        up: direction shown upwards [-], (3,).
        view_angle: vertical opening angle [deg].
        height: visible height [m] of a parallel projection; None for a perspective one.
    """

    position: Sequence[float]
    target: Sequence[float]
    up: Sequence[float] = (0.0, 1.0, 0.0)
    view_angle: float = 30.0
    height: float | None = None

    def __post_init__(self) -> None:
        ahead = np.subtract(self.target, self.position)
        if not np.linalg.norm(np.cross(ahead, self.up)) > 0.0:
            raise InputError("camera: position, target and up lie on one line; move the position or change up.")

    @property
    def basis(self) -> Array:
        """Rows: right, up, and towards the viewer [-], (3, 3)."""
        back = np.subtract(self.position, self.target).astype(np.float64)
        back /= np.linalg.norm(back)
        right = np.cross(np.asarray(self.up, dtype=np.float64), back)
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(back, right), back])

    def project(self, points: Array, size: tuple[int, int]) -> tuple[Array, Array, Array]:
        """Pixel coordinates (n, 2) from the lower left, pixels per metre (n,), and depth [m] (n,)."""
        local = (np.asarray(points) - np.asarray(self.position)) @ self.basis.T
        depth = -local[:, 2]
        if self.height is None:
            scale = 0.5 * size[1] / (np.tan(np.radians(0.5 * self.view_angle)) * np.maximum(depth, 1e-9))
        else:
            scale = np.full(len(local), size[1] / self.height)
        return local[:, :2] * scale[:, None] + 0.5 * np.array(size), scale, depth


def fit_camera(
    bounds: Array,
    *,
    up: Sequence[float] = (0.0, 1.0, 0.0),
    dim: int = 3,
    aspect: float = 4 / 3,
    margin: float = 0.1,
) -> Camera:
    """A camera that shows a box whole: three-quarter view in 3D, face-on in 2D.

    Args:
        bounds: lower and upper corner of what must be visible [m], (2, 3).
        up: direction against gravity [-], (3,); in 2D, y is always up.
        dim: 2 or 3.
        aspect: width over height of the picture [-].
        margin: free share on each side of the picture [-].
    """
    low, high = np.asarray(bounds, dtype=np.float64)
    center, extent = 0.5 * (low + high), high - low
    free = 1.0 - 2.0 * margin
    if dim == 2:
        height = max(float(max(extent[1], extent[0] / aspect)) / free, 1e-9)
        eye = center + np.array([0.0, 0.0, 2.0 * height])
        return Camera(tuple(eye), tuple(center), (0.0, 1.0, 0.0), height=height)
    axis = np.asarray(up, dtype=np.float64) / np.linalg.norm(up)
    # The side that faces the viewer: +z when y is up (the usual page), -y when z is up (so that x runs right).
    front = np.array([0.0, -1.0, 0.0]) if abs(axis[2]) > 0.9 else np.array([0.0, 0.0, 1.0])
    front -= axis * (axis @ front)
    front /= np.linalg.norm(front)
    level = np.cos(_AZIMUTH) * front + np.sin(_AZIMUTH) * np.cross(axis, front)
    back = np.cos(_ELEVATION) * level + np.sin(_ELEVATION) * axis
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * extent + low - center
    basis = Camera(tuple(back), (0.0, 0.0, 0.0), tuple(axis)).basis
    across, above, towards = basis @ corners.T
    tangent = np.tan(np.radians(15.0)) * free
    distance = float(np.max(towards + np.maximum(np.abs(above), np.abs(across) / aspect) / tangent))
    return Camera(tuple(center + back * max(distance, 1e-6)), tuple(center), tuple(axis), 30.0)
