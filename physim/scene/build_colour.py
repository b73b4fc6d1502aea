"""What a body looks like in its video: colours of its particles from the first frame, and the record of all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from physim.errors import InputError
from physim.observe.nearest import nearest
from physim.observe.reduce import reduce_colour
from physim.observe.splat import Splatter
from physim.scene.built import Built
from physim.scene.video_file import fitted
from physim.scene.video_part import COVERED, film_of, masks_of
from physim.scene.video_source import read_picture
from physim.scene.video_views import View, delay_of, spacings

LEAST = 0.02
"""Noise of a colour that is not gone below [-]: what the spacing of particles leaves of a texture."""
FIRST_LAYER = 1.0
"""Particles that are not farther behind the front than this are seen [spacings]; it is half a spacing for the first."""
LOOKED_AT = 24
"""Frames that the background is taken from, at most."""

Pictures = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Look:
    """How a body looks, and how the film shows it.

    Attributes:
        colours: red, green and blue of each particle of the body [-], (n, 3).
        background: of each pixel of the reduced picture [-], (pixels, 3).
        values: the record, (frames, pixels * 3).
        noise: standard deviation of a value [-].
    """

    colours: Tensor
    background: Tensor
    values: Tensor
    noise: float


def look_of(built: Built, part: Any, view: View) -> Look:
    """The look of a body in a video of the scene.

    Args:
        built: the scene.
        part: what is observed: `video`, `body`, `blur`, `delay`.
        view: where the body moves.

    Raises:
        InputError: the first frame does not show the body where the scene has it.
    """
    pictures = _pictures(built, part.video, view)
    behind = _background(built, part.video, view, pictures)
    colours = _colours(built, part, view, pictures[0])
    background = reduce_colour(behind, view.size).reshape(-1, 3)
    values = reduce_colour(pictures, view.size, part.blur)
    return Look(colours, background, values, _noise(pictures, view, behind, part.blur))


def _pictures(built: Built, video: str, view: View) -> Pictures:
    """The frames that have a mask, where the body moves, in the size of the masks, (m, h, w, 3)."""
    film, found = film_of(built.scene, video), masks_of(built.scene, video).masks
    h, w = found.coverage.shape[1:]
    frames = film.images([int(i) for i in np.flatnonzero(found.valid)])
    return np.stack([_cut(image, (w, h), view) for image in frames])


def _cut(image: Pictures, size: tuple[int, int], view: View) -> Pictures:
    left, top, right, bottom = view.box
    return fitted(np.ascontiguousarray(image[:, :, :3]), size)[top:bottom, left:right]


def _background(built: Built, video: str, view: View, pictures: Pictures) -> Pictures:
    """What is behind the body, (h, w, 3): the picture that the scene names, or the median of what is not covered."""
    named = getattr(built.scene.spec.videos[video].mask.background, "file", None)
    if named is not None:
        h, w = masks_of(built.scene, video).masks.coverage.shape[1:]
        return _cut(read_picture(Path(named)), (w, h), view)
    some = np.unique(np.linspace(0, len(pictures) - 1, LOOKED_AT).round().astype(int))
    hidden = np.repeat(view.masks[some][..., None] > 0, 3, axis=-1)
    seen = np.ma.median(np.ma.array(pictures[some], mask=hidden), axis=0)
    # What the body never leaves is not seen, and is not compared either but at the body's edge.
    usual = np.ma.median(seen.reshape(-1, 3), axis=0)
    return np.where(np.ma.getmaskarray(seen), np.asarray(usual), seen.data).round().astype(np.uint8)


def _colours(built: Built, part: Any, view: View, picture: Pictures) -> Tensor:
    """Colours of the body's particles [-], (n, 3): of the pixel where one is seen, or of the nearest that is."""
    rows = built.rows(part.body)
    after = max(0.0, float(view.times[0]) + delay_of(built.scene, part))
    x, spacing = (built.x0 + after * built.v0)[rows], spacings(built)[rows]
    u, depth = view.camera.project(x)
    across, down = u.round().long().unbind(1)
    inside = (across >= 0) & (across < view.camera.width) & (down >= 0) & (down < view.camera.height)
    across, down = across.clamp(0, view.camera.width - 1), down.clamp(0, view.camera.height - 1)
    front, there = Splatter(view.camera, spacing).depth(x)
    seen = inside & there[down, across] & (depth - front[down, across] < FIRST_LAYER * spacing)
    seen &= torch.as_tensor(view.masks[0] > COVERED)[down, across]
    if not bool(seen.any()):
        raise InputError(
            "no particle of the body is where the first frame shows it: check the camera, the body's place at the "
            "start, and `begin` of the video"
        )
    colours = torch.as_tensor(picture)[down, across].double() / 255.0
    at = seen.nonzero()[:, 0]
    return colours[at[nearest(x, x[at], 2.0 * float(spacing.max()))]]


def _noise(pictures: Pictures, view: View, behind: Pictures, blur: float) -> float:
    """Standard deviation of a value over what is not the body [-], and no less than `LEAST`."""
    some = np.unique(np.linspace(0, len(pictures) - 1, LOOKED_AT).round().astype(int))
    free = reduce_colour(np.repeat(view.masks[some][..., None], 3, axis=-1), view.size, blur) < 1e-3
    away = (reduce_colour(pictures[some], view.size, blur) - reduce_colour(behind, view.size, blur)).abs()[free]
    return max(LEAST, 1.4826 * float(away.median())) if len(away) else LEAST
