"""Masks to outlines: closed lines at half coverage, to a fraction of a pixel, with the holes in them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from physim.errors import InputError
from physim.observe.masks import FULL, Coverage
from physim.shapes.rings import ring_area, ring_center, rings_distance

Array = np.ndarray[Any, np.dtype[np.float64]]

# A corner is left out where the straight line past it is nearer than this [px].
_STRAIGHT = 0.04
# Rings smaller than this are specks [px^2]; of holes, as a share of the ring around them.
_SPECK, _PINHOLE = 4.0, 1e-3


@dataclass(frozen=True, eq=False)
class Piece:
    """A connected part of a mask.

    Attributes:
        rings: outer edge and edges of holes [px], (m, 2) each; pixel centres at whole numbers.
        share: its part of all that the mask covers [-].
    """

    rings: tuple[Array, ...]
    share: float

    @property
    def area(self) -> float:
        """Area without the holes [px^2]."""
        outer, *holes = (abs(ring_area(r)) for r in self.rings)
        return outer - sum(holes)

    @property
    def center(self) -> Array:
        """Centre of the area within the outer edge [px], (2,)."""
        return ring_center(self.rings[0])

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom end [px]."""
        (left, top), (right, bottom) = self.rings[0].min(axis=0), self.rings[0].max(axis=0)
        return float(left), float(top), float(right), float(bottom)


def pieces(mask: Coverage) -> list[Piece]:
    """The connected parts of a mask, the largest first; specks are left out.

    Args:
        mask: coverage, (h, w) uint8 from 0 to 255.
    """
    from contourpy import FillType, contour_generator

    # A ring of empty pixels closes what reaches the border of the picture.
    padded = np.pad(mask.astype(np.float64), 1)
    lines = contour_generator(z=padded, fill_type=FillType.OuterOffset).filled(0.5 * FULL, 2.0 * FULL)
    found = []
    for points, offsets in zip(*lines, strict=True):
        rings = [_simplified(points[a : b - 1] - 1.0) for a, b in pairwise(offsets)]  # type: ignore[arg-type]
        whole = abs(ring_area(rings[0]))
        holes = [r for r in rings[1:] if abs(ring_area(r)) > max(_SPECK, _PINHOLE * whole)]
        if whole > _SPECK:
            found.append((rings[0], *holes))
    sizes = [Piece(rings, 1.0).area for rings in found]
    order = np.argsort(sizes)[::-1]
    return [Piece(found[i], sizes[i] / sum(sizes)) for i in order]


def piece_of(mask: Coverage, at: tuple[float, float] | None = None) -> Piece:
    """The largest part of a mask, or that which lies at a pixel.

    Args:
        mask: coverage, (h, w) uint8 from 0 to 255.
        at: pixel (u, v) whose part is wanted, where it lies in one.

    Raises:
        InputError: the mask is empty.
    """
    found = pieces(mask)
    if not found:
        raise InputError("its mask is empty.")
    if at is not None:
        for piece in found:
            if float(rings_distance(np.array([at], dtype=np.float64), piece.rings)[0]) < 0.0:
                return piece
    return found[0]


def cut_off(piece: Piece, mask: Coverage) -> dict[str, float]:
    """Along how many pixels of which sides of the picture a piece reaches the border."""
    h, w = mask.shape
    left, top, right, bottom = piece.box
    rims = {"left": mask[:, 0], "upper": mask[0], "right": mask[:, -1], "lower": mask[-1]}
    # The edge lies half a pixel outside of the last centre where a full pixel is next to nothing.
    touched = {"left": left < -0.2, "upper": top < -0.2, "right": right > w - 0.8, "lower": bottom > h - 0.8}
    return {side: float((rims[side] >= 0.5 * FULL).sum()) for side, cut in touched.items() if cut}


def _simplified(ring: Array) -> Array:
    """A ring without the corners that lie on a line between others."""
    import cv2

    some = cv2.approxPolyDP(ring.astype(np.float32)[:, None], _STRAIGHT, True)[:, 0].astype(np.float64)
    return some if len(some) >= 3 else ring
