"""Bodies whose shape is read off the first pictures of videos: outlines and visual hulls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from physim.errors import InputError
from physim.observe.camera import PixelCamera
from physim.observe.contour import cut_off, piece_of
from physim.observe.hull import Cone, prior, visual_hull
from physim.observe.outlined import View, section, slab, turned
from physim.scene.fields import padded
from physim.scene.loader import Scene
from physim.scene.spec_space import HullPart, OutlinePart
from physim.scene.video_part import COVERED, masks_of, scene_times
from physim.shapes import Shape

AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}

# Of the mask: less than this in the piece that is taken is told. Of the radius: halves more uneven than this are.
_MOSTLY, _UNEVEN = 0.95, 0.05
# Share of an outline that a hull must cover when it is seen by the same camera.
_FILLED = 0.97


@dataclass(frozen=True, eq=False)
class SeenShape:
    """A shape that was read off pictures.

    Attributes:
        shape: the solid, or the region in 2D.
        told: how it was found, in words.
        doubts: what is allowed, and probably not meant.
    """

    shape: Shape
    told: str
    doubts: tuple[str, ...]


def seen_shape(part: OutlinePart | HullPart, scene: Scene, cameras: Mapping[str, PixelCamera]) -> SeenShape:
    """The shape of an outline or a hull.

    Args:
        part: what the scene says.
        scene: for its videos.
        cameras: by name.

    Raises:
        InputError: no mask in a first picture, cameras that do not see enough, or that contradict each other.
    """
    doubts: list[str] = []
    at = None if part.at is None else padded(part.at)
    if isinstance(part, HullPart):
        return _hull(part, {n: _first_view(n, scene, cameras, at, doubts) for n in part.videos}, at, doubts)
    view = _first_view(part.video, scene, cameras, at, doubts)
    told = f"outline in the first picture of '{part.video}'"
    if scene.spec.dim == 2:
        return SeenShape(section(view, at), told, tuple(doubts))
    if part.revolve is not None:
        axis = AXES[part.revolve] if isinstance(part.revolve, str) else padded(part.revolve)
        shape, uneven = turned(view, axis, at)
        if uneven > _UNEVEN:
            doubts.append(
                f"left and right of the axis differ by {100 * uneven:.0f} % of the radius: is the body round, and its "
                "axis along `revolve`?"
            )
        return SeenShape(shape, told + ", revolved", tuple(doubts))
    assert part.thickness is not None
    along = None if part.along is None else padded(part.along)
    return SeenShape(slab(view, part.thickness, at=at, along=along), told, tuple(doubts))


def _hull(
    part: HullPart, views: dict[str, View], at: tuple[float, float, float] | None, doubts: list[str]
) -> SeenShape:
    bound = None if part.thickness is None else prior(list(views.values()), part.thickness, at)
    found = visual_hull([Cone(name, view) for name, view in views.items()], bound, part.resolution)
    for name, filled in zip(views, found.filled, strict=True):
        if filled < _FILLED:
            doubts.append(
                f"the hull fills {100 * filled:.0f} % of the outline in '{name}': the cameras contradict each "
                "other, or the pictures are not of the same moment"
            )
    told = f"hull of {len(views)} outlines, {1e3 * found.shape.field.spacing:.3g} mm apart"
    return SeenShape(found.shape, told, tuple(doubts))


def _first_view(
    name: str,
    scene: Scene,
    cameras: Mapping[str, PixelCamera],
    at: tuple[float, float, float] | None,
    doubts: list[str],
) -> View:
    """The outline of the body in the picture nearest to the scene's start, with what is odd about it noted."""
    film = scene.spec.videos[name]
    masks = masks_of(scene, name).masks
    first = int((scene_times(film, masks.times) + film.delay).abs().argmin())
    if not masks.valid[first] or not (masks.coverage[first] > COVERED).any():
        later = [float(t) for t in masks.times[first:][masks.valid[first:]]]
        seen = f"the first picture with one is at {later[0]:.4g} s: `begin: {later[0]:.4g} s`" if later else "nor later"
        raise InputError(f"no mask in the first picture of '{name}', at {masks.times[first]:.4g} s; {seen}.")
    mask = masks.coverage[first]
    camera = cameras[film.camera].scaled(mask.shape[1], mask.shape[0])
    pixel = None
    if at is not None:
        with torch.no_grad():
            u, v = camera.project(torch.tensor(at, dtype=torch.float64))[0].tolist()
        pixel = (u, v)
    piece = piece_of(mask, pixel)
    for side, length in cut_off(piece, mask).items():
        doubts.append(
            f"the body reaches the {side} border of the first picture of '{name}', along {length:.0f} pixels, and is "
            "taken to end there; begin later, when all of it is seen"
        )
    if piece.share < _MOSTLY:
        which = "the one at `at`" if at is not None else "the largest"
        doubts.append(
            f"the mask in the first picture of '{name}' has several pieces; {which}, {100 * piece.share:.0f} % of it, "
            "is the body. `at` chooses another, `region` of the mask leaves others out"
        )
    return View(camera, piece)
