"""What the masks of a clip say about a scene: where the body is, how it moves, how large a pixel may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from physim.observe.flight import free_flight, mask_center
from physim.observe.masks import FULL, HALF, Masks

GRAVITY = 9.81
"""Acceleration of a falling body [m/s^2]."""

# Size that an unknown body is taken to have [m].
_SIZE = 0.1
# Intersection over union from which a box or a ball, or the left half for the right one, is taken for the body.
_ALIKE = 0.93
# A fall's acceleration is told to this share.
_CERTAIN = 0.04
# Sizes of a body that a fall may tell [m]; others are slow motion, or no fall.
_SIZES = (5e-3, 2.0)

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Guess:
    """What can be seen, in pixels of the full picture; rows count downwards.

    Attributes:
        begin: time of the first frame that shows the body [s].
        end: time of the last [s].
        box: left, top, right, bottom edge of the body at `begin` [px].
        swept: the same of all places that it visits [px].
        velocity: of its centre at `begin`, right and down [px/s].
        shape: "box", "sphere", "revolved" (neither, and alike on the left and the right) or "slab".
        alike: intersection over union of the first mask with a box, with a disk, and with its own mirror image [-].
        metres_per_pixel: size of a pixel at the body [m].
        fallen: whether that size comes from a free fall.
        contact: time at which the motion first differs from its beginning [s].
    """

    begin: float
    end: float
    box: Box
    swept: Box
    velocity: tuple[float, float]
    shape: str
    alike: tuple[float, float, float]
    metres_per_pixel: float
    fallen: bool
    contact: float

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the body [px]."""
        left, top, right, bottom = self.box
        return right - left, bottom - top


def guess_from(masks: Masks) -> Guess:
    """Read a guess off the masks that say something."""
    rows = np.flatnonzero(masks.valid & (masks.coverage >= HALF).any(axis=(1, 2)))
    h, w = masks.coverage.shape[1:]
    x, y = masks.full_size[0] / w, masks.full_size[1] / h
    boxes = np.array([_box(masks.coverage[i]) for i in rows]) * np.array([x, y, x, y])
    times = masks.times[rows]
    centers = np.array([mask_center(masks.coverage[i]) for i in rows]) * np.array([x, y])
    left, top, right, bottom = (float(v) for v in boxes[0])
    width, height = right - left, bottom - top
    alike = _alike(masks.coverage[rows[0]])
    count, motion, error = free_flight(times, centers)
    # A fall: down, with an acceleration known well, over a way that can be seen, and of a body of a sensible size.
    down = 2.0 * motion[2, 1]
    way = abs(centers[count - 1, 1] - centers[0, 1])
    size = GRAVITY / down * max(width, height) if down > 0 else 0.0
    fallen = down > 0 and error < _CERTAIN * down and way > 0.3 * height and _SIZES[0] < size < _SIZES[1]
    swept = (*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0))
    return Guess(
        begin=float(times[0]),
        end=float(times[-1]),
        box=(left, top, right, bottom),
        swept=tuple(float(v) for v in swept),  # pyright: ignore[reportArgumentType]
        velocity=(float(motion[1, 0]), float(motion[1, 1])),
        shape=_shape(alike, masks.coverage[rows[0]]),
        alike=alike,
        metres_per_pixel=GRAVITY / down if fallen else _SIZE / max(width, height),
        fallen=bool(fallen),
        contact=float(times[count - 1]),
    )


def _box(mask: np.ndarray[Any, Any]) -> tuple[float, float, float, float]:
    """Edges of what is covered, in pixels from the picture's upper left corner."""
    columns, lines = (np.flatnonzero((mask >= HALF).any(axis=a)) for a in (0, 1))
    return float(columns[0]), float(lines[0]), float(columns[-1] + 1), float(lines[-1] + 1)


def _alike(mask: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    """Intersection over union of a mask with the box around it, a disk in that box, and its mirror image."""
    left, top, right, bottom = _box(mask)
    covered = mask / FULL
    h, w = mask.shape
    x, y = np.arange(w) + 0.5, np.arange(h)[:, None] + 0.5
    box = ((x > left) & (x < right) & (y > top) & (y < bottom)).astype(np.float64)
    away = np.hypot(x - 0.5 * (left + right), y - 0.5 * (top + bottom))
    disk = np.clip(0.25 * (right - left + bottom - top) + 0.5 - away, 0.0, 1.0)
    # Twice the centre, to a whole pixel: where column i of the mirror image comes from.
    source = round(2.0 * mask_center(mask)[0] - 1.0) - np.arange(w)
    mirror = np.where((source >= 0) & (source < w), covered[:, np.clip(source, 0, w - 1)], 0.0)
    found = [float(np.minimum(covered, o).sum() / np.maximum(covered, o).sum()) for o in (box, disk, mirror)]
    return found[0], found[1], found[2]


def _shape(alike: tuple[float, float, float], mask: np.ndarray[Any, Any]) -> str:
    """What the body is taken for."""
    box, disk, mirror = alike
    rim = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    if max(box, disk) >= _ALIKE or (rim >= HALF).any():  # what is cut off by the picture has no outline
        return "sphere" if disk > box else "box"
    return "revolved" if mirror >= _ALIKE else "slab"
