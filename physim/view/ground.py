"""The ground under a 3D scene: a pale sheet with a metre grid, and the soft shadow of the particles on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from physim.shapes.shape import Array
from physim.view.overlay import nice_length

_SHEET_PIXELS, _SHADOW_PIXELS = 1024, 320
_SHEET = np.array([240.0, 243.0, 246.0])
_LINE = np.array([214.0, 220.0, 227.0])
_SHADOW = (70, 80, 95)
_DARKEST = 0.45
# Half widths over the diagonal of the scene: the sheet runs out of the picture, the shadow stays below the body.
_SHEET_REACH, _SHADOW_REACH = 1.5, 0.75
# Width of the shadow's soft edge as a share of its picture.
_BLUR = 0.012


@dataclass(frozen=True, eq=False)
class Ground:
    """A square sheet with pictures whose row 0 lies at -`second`.

    Attributes:
        center: its middle [m], (3,).
        first: direction along the pictures' columns [-], (3,).
        second: direction along the pictures' rows [-], (3,).
        extent: diagonal of the scene above [m].
        cell: spacing of its lines [m].
    """

    center: Array
    first: Array
    second: Array
    extent: float
    cell: float

    @property
    def reach(self) -> float:
        """Half width of the sheet [m]."""
        return _SHEET_REACH * self.extent

    @property
    def corners(self) -> Array:
        """Corners of the sheet in order [m], (4, 3)."""
        return self._square(self.reach)

    @property
    def shadow_corners(self) -> Array:
        """Corners of the shadow's square in order, a little above the sheet [m], (4, 3)."""
        lift = 5e-4 * self.extent * np.cross(self.first, self.second)
        return self._square(_SHADOW_REACH * self.extent) + lift

    def sheet(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The sheet with its lines, fading towards its rim, (p, p, 4) uint8."""
        at = (np.arange(_SHEET_PIXELS) + 0.5) / _SHEET_PIXELS * 2.0 * self.reach - self.reach
        pixel = 2.0 * self.reach / _SHEET_PIXELS
        rgb = np.broadcast_to(_SHEET, (_SHEET_PIXELS, _SHEET_PIXELS, 3)).copy()
        for direction, axis in ((self.first, 0), (self.second, 1)):
            offset = (at + self.center @ direction + 0.5 * self.cell) % self.cell - 0.5 * self.cell
            line = np.clip(1.5 - np.abs(offset) / pixel, 0.0, 1.0)
            rgb += np.expand_dims(line, axis)[..., None] * (_LINE - rgb)
        distance = np.hypot(at[None, :], at[:, None]) / self.reach
        alpha = np.clip((1.0 - distance) / 0.35, 0.0, 1.0)
        return np.dstack([rgb, 255.0 * alpha * alpha * (3.0 - 2.0 * alpha)]).round().astype(np.uint8)

    def shadow(self, points: Array, spacing: float) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The shadow of particles `spacing` apart [m] under light from above, (q, q, 4) uint8."""
        from scipy.ndimage import gaussian_filter

        reach = _SHADOW_REACH * self.extent
        u, v = (((points - self.center) @ d + reach) / (2.0 * reach) for d in (self.first, self.second))
        count, _, _ = np.histogram2d(v, u, bins=_SHADOW_PIXELS, range=((0.0, 1.0), (0.0, 1.0)))
        wide = spacing * _SHADOW_PIXELS / (2.0 * reach)  # a particle's width in pixels
        cover = gaussian_filter(count.astype(np.float32), max(1.0, 0.5 * wide)) * wide**2
        dark = gaussian_filter(1.0 - np.exp(-2.0 * cover), _BLUR * _SHADOW_PIXELS)
        picture = np.empty((_SHADOW_PIXELS, _SHADOW_PIXELS, 4), dtype=np.uint8)
        picture[..., :3] = _SHADOW
        picture[..., 3] = (255.0 * _DARKEST * np.clip(dark, 0.0, 1.0)).round()
        return picture

    def _square(self, reach: float) -> Array:
        steps = ((-1, -1), (1, -1), (1, 1), (-1, 1))
        return np.array([self.center + reach * (a * self.first + b * self.second) for a, b in steps])


def ground_under(bounds: Array, level: float, up: Array) -> Ground:
    """The ground below a scene.

    Args:
        bounds: lower and upper corner of what is shown [m], (2, 3).
        level: height of the ground along `up` [m].
        up: direction against gravity [-], (3,), of unit length.
    """
    center = bounds.mean(axis=0)
    center = center + up * (level - center @ up)
    seed = np.eye(3)[int(np.argmin(np.abs(up)))]
    first = seed - up * (up @ seed)
    first /= np.linalg.norm(first)
    extent = float(np.linalg.norm(bounds[1] - bounds[0]))
    return Ground(center, first, np.cross(up, first).astype(np.float64), extent, nice_length(0.25 * extent))
