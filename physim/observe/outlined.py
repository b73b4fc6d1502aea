"""An outline in a picture, put back into the scene: as a slab seen from its flat side, or as a body of revolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from physim.errors import InputError
from physim.observe.camera import PixelCamera
from physim.observe.contour import Piece
from physim.shapes.outline import Outline
from physim.shapes.revolved import Revolved, turned_profile

Array = np.ndarray[Any, np.dtype[np.float64]]

# Flatter than this towards a plane, a camera does not see what is drawn on it [deg].
_FLATTEST = 20.0
# An axis of revolution farther than this from the plane of the picture is not seen from the side [deg].
_TILTED = 30.0


@dataclass(frozen=True, eq=False)
class View:
    """A piece of a mask and the camera that saw it.

    Attributes:
        camera: of the mask's size.
        piece: outline in its pixels.
    """

    camera: PixelCamera
    piece: Piece

    def rays(self, pixels: Array) -> tuple[Array, Array]:
        """Origins [m], (n, 3), and directions [-], (n, 3), of what pixels, (n, 2), look along."""
        with torch.no_grad():
            origins, ways = self.camera.rays(torch.as_tensor(pixels, dtype=torch.float64))
        return origins.numpy(), ways.numpy()

    @property
    def sight(self) -> tuple[Array, Array]:
        """The line from the eye [m] to the middle of the piece [-], (3,) each."""
        origins, ways = self.rays(self.piece.center[None])
        return origins[0], ways[0]

    def middle(self, at: Sequence[float] | None) -> Array:
        """Where the line of sight is as far away as `at` [m], or at depth 0 of a parallel camera, (3,).

        Raises:
            InputError: a camera with perspective, and no `at`.
        """
        eye, ahead = self.sight
        if at is None:
            if not self.camera.parallel:
                raise InputError(
                    "a camera with perspective does not tell how far away a body is; add `at: [x, y, z]`, a point in "
                    "the middle of the body."
                )
            return eye
        away = float((np.array(at) - eye) @ ahead)
        if not self.camera.parallel and away <= 0.0:
            raise InputError(f"at: {_told(at)} is behind the camera, which stands at {_told(eye)}.")
        return eye + away * ahead


def slab(
    view: View, thickness: float, *, at: Sequence[float] | None = None, along: Sequence[float] | None = None
) -> Outline:
    """The outline as a slab.

    A camera with perspective sees the nearer face, which is therefore what the outline is laid on.

    Args:
        view: what was seen.
        thickness: of the slab [m].
        at: point of the plane in the middle of the slab [m], (3,); needed with perspective.
        along: direction of the thickness [-], (3,); the line of sight to the middle of the outline unless given.

    Raises:
        InputError: the camera looks along the slab.
    """
    normal = view.sight[1] if along is None else np.array(along) / np.linalg.norm(along)
    normal = normal * math.copysign(1.0, float(normal @ view.sight[1]))
    middle = view.middle(at) if along is None or at is None else np.array(at)
    near = 0.0 if view.camera.parallel else 0.5 * thickness
    corners = [_meet(view, ring, middle - near * normal, normal) for ring in view.piece.rings]
    right = view.camera.world_to_camera[0, :3].detach().numpy()
    axes = _frame(right, -normal)
    foot = _meet(view, view.piece.center[None], middle, normal)[0]
    return Outline([((c - foot) @ axes)[:, :2] for c in corners], thickness, tuple(foot), axes)


def section(view: View, at: Sequence[float] | None = None) -> Outline:
    """The outline in the plane of a scene in 2D.

    Args:
        view: what was seen.
        at: point of the plane [m]; only its z counts, 0 unless given.

    Raises:
        InputError: the camera looks along the plane.
    """
    point = np.array([0.0, 0.0, at[2] if at is not None and len(at) > 2 else 0.0])
    rings = [_meet(view, ring, point, np.array([0.0, 0.0, 1.0]))[:, :2] for ring in view.piece.rings]
    return Outline(rings)


def turned(view: View, axis: Sequence[float], at: Sequence[float] | None = None) -> tuple[Revolved, float]:
    """The outline as that of a body of revolution, and how uneven its halves are as a share of its radius [-].

    Args:
        view: what was seen.
        axis: direction of the axis of revolution [-], (3,), about at right angles to the line of sight; it runs through
            the middle of the outline.
        at: point as far away as the body's middle [m], (3,); needed with perspective.

    Raises:
        InputError: the camera looks along the axis.
    """
    up = np.array(axis) / np.linalg.norm(axis)
    eye, ahead = view.sight
    tilt = math.degrees(math.asin(min(1.0, abs(float(up @ ahead)))))
    if tilt > _TILTED:
        raise InputError(
            f"the camera looks along the axis of revolution: the axis is {tilt:.0f} degrees out of the plane of the "
            f"picture, at most {_TILTED:.0f} are allowed. Give another axis, or a `thickness` instead."
        )
    middle = view.middle(at)
    flat = up - (up @ ahead) * ahead
    flat /= np.linalg.norm(flat)
    across = np.cross(flat, -ahead)
    found = _meet(view, view.piece.rings[0], middle, ahead) - middle
    ring = np.column_stack([found @ across, found @ flat])
    if not view.camera.parallel:
        # Lines of sight touch a ball in front of its middle, so that it looks larger than its section.
        away = float(np.linalg.norm(middle - eye))
        ring *= (away / np.sqrt(away**2 + (ring**2).sum(axis=1)))[:, None]
    profile, axle, uneven = turned_profile(ring)
    return Revolved(profile, tuple(middle + axle * across), _frame(across, None, up)), uneven


def _meet(view: View, pixels: Array, point: Array, normal: Array) -> Array:
    """Where pixels, (n, 2), see a plane [m], (n, 3)."""
    eyes, ways = view.rays(pixels)
    slope = ways @ normal
    angle = math.degrees(math.asin(min(1.0, float(np.abs(slope).min()))))
    if angle < _FLATTEST:
        raise InputError(
            f"the camera looks along the plane of the outline, {angle:.0f} degrees from it, at least {_FLATTEST:.0f} "
            "are needed: the body is seen from its edge. Lay the plane across the line of sight (`along`), or use the "
            "video of another camera."
        )
    away = ((point - eyes) @ normal) / slope
    if not view.camera.parallel and (away <= 0.0).any():
        raise InputError(f"the plane of the outline, through {_told(point)}, is behind the camera.")
    return eyes + away[:, None] * ways


def _frame(right: Array, out: Array | None, up: Array | None = None) -> Array:
    """A rotation whose columns are x near `right`, and z = `out`, or y = `up`, exactly."""
    if out is not None:
        x = right - (right @ out) * out
        x /= np.linalg.norm(x)
        return np.stack([x, np.cross(out, x), out], axis=1)
    assert up is not None
    x = right - (right @ up) * up
    x /= np.linalg.norm(x)
    return np.stack([x, up, np.cross(x, up)], axis=1)


def _told(point: Any) -> str:
    return "(" + ", ".join(f"{float(c):.3g}" for c in point) + ") m"
