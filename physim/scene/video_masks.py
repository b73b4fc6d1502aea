"""The masks of a video: read from a file, from its opacity, or told apart from a background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from physim.errors import InputError
from physim.observe.background import median_background, picture_background
from physim.observe.body_colors import BodyColors
from physim.observe.masks import Masks, check_background, filled, suspicions
from physim.observe.segment import mask_of, shadowed_share
from physim.observe.steady import check_camera
from physim.scene.mask_file import coverage_of, read_masks
from physim.scene.npz_file import check_bytes
from physim.scene.video_file import Video, fitted
from physim.scene.video_source import PICTURES, read_picture

# Frames of which the background is made.
_LOOKED_AT = 24
# Where more of what differs than this could be shadow, the body itself looks like one.
_BODY_LIKE_SHADOW = 0.5


@dataclass(frozen=True, eq=False)
class FoundMasks:
    """Masks of a video and what is to be said about them.

    Attributes:
        masks: one for each chosen frame.
        how: in words, where they come from.
        doubts: what looks wrong, by place among the chosen frames.
    """

    masks: Masks
    how: str
    doubts: dict[int, str]


def find_masks(
    video: Video,
    *,
    file: Path | None = None,
    background: Path | None = None,
    shadows: bool | None = None,
    region: tuple[int, int, int, int] | None = None,
    points: Sequence[tuple[int, int]] = (),
    others: Sequence[tuple[int, int]] = (),
) -> FoundMasks:
    """The masks of a video's chosen frames.

    In this order: from `file`; from the opacity of the video's own pictures; from what differs from a picture of the
    scene without the body; from what differs from the median of the frames.

    Args:
        video: the chosen frames.
        file: masks made before: see `read_masks`.
        background: picture without the body, of the video's full size.
        shadows: take what may be shadow out of the mask; decided by how much of it there is unless given.
        region: left, top, right, bottom [px of the full picture] outside of which nothing is looked for.
        points: on the body in the first chosen frame [px of the full picture]; it is then told by its colours.
        others: not on it.

    Raises:
        InputError: files that do not fit, a body that never moves, a camera that does, or nothing found.
    """
    check_bytes(video.name, len(video), video.size, 1)
    if file is not None:
        masks, how = read_masks(file, video), f"read from {file}"
    elif points:
        masks, how = _colored(video, points, others, region), "colours of the points given"
    elif video.alpha and background is None:
        masks, how = _opaque(video), "opacity of the pictures"
    else:
        masks, how = _differing(video, background, shadows, _scaled(video, region))
    return FoundMasks(masks, how, suspicions(masks))


def _opaque(video: Video) -> Masks:
    coverage = np.stack([image[:, :, 3] for image in video])
    masks = Masks(video.times, coverage, filled(coverage), video.full_size)
    if not masks.valid.any():
        raise InputError(f"{video.name}: the pictures are transparent everywhere, in every frame.")
    if float(masks.share.min()) == 1.0:
        raise InputError(
            f"{video.name}: the pictures have opacity, and are opaque everywhere: the body was not cut out. Give "
            "masks, or a picture of the scene without the body."
        )
    return masks


def _colored(
    video: Video,
    points: Sequence[tuple[int, int]],
    others: Sequence[tuple[int, int]],
    region: tuple[int, int, int, int] | None,
) -> Masks:
    """Masks by the colours around points of the first frame."""
    width, height = video.full_size
    for x, y in (*points, *others):
        if not (0 <= x < width and 0 <= y < height):
            raise InputError(f"{video.name}: the point {x} {y} is not within the picture of {width} x {height}.")
    here = [tuple(round(c * n / m) for c, n, m in zip(p, video.size, video.full_size, strict=True)) for p in points]
    there = [tuple(round(c * n / m) for c, n, m in zip(p, video.size, video.full_size, strict=True)) for p in others]
    colors: BodyColors | None = None
    found = []
    for image in video:
        if colors is None:
            colors = BodyColors.learned(image, here, there, _scaled(video, region))
        found.append(colors.mask(image))
    coverage = np.stack(found)
    masks = Masks(video.times, coverage, filled(coverage), video.full_size)
    if not masks.valid.any():
        raise InputError(f"{video.name}: nothing has the colours of the points of the body; give more of them.")
    return masks


def _differing(
    video: Video, picture: Path | None, shadows: bool | None, region: tuple[int, int, int, int] | None
) -> tuple[Masks, str]:
    some = list(video.images(video.spread(_LOOKED_AT)))
    check_camera(some, video.name)
    if picture is None:
        behind, how = median_background(some), f"differs from the median of {len(some)} frames"
    else:
        empty = read_picture(picture)
        if (empty.shape[1], empty.shape[0]) != video.full_size:
            (h, w), (a, b) = empty.shape[:2], video.full_size
            raise InputError(f"{picture}: {w} x {h} pixels, and the video has {a} x {b}; take it with the same camera.")
        behind, how = picture_background(fitted(empty, video.size), some), f"differs from {picture.name}"
    if shadows is None:
        shadows = shadowed_share(some, behind) < _BODY_LIKE_SHADOW
    how += ", shadows taken out" if shadows else ", shadows not taken out"
    coverage = np.stack([mask_of(image, behind, shadows=shadows, region=region) for image in video])
    masks = Masks(video.times, coverage, filled(coverage), video.full_size)
    check_background(masks, behind, video.name)
    return masks, how


def _scaled(video: Video, region: tuple[int, int, int, int] | None) -> tuple[int, int, int, int] | None:
    """A region in pixels of the frames handed out, from one in pixels of the full picture."""
    if region is None:
        return None
    left, top, right, bottom = region
    width, height = video.full_size
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise InputError(
            f"{video.name}: region {left} {top} {right} {bottom} is not within the picture of {width} x {height}; give "
            "left, top, right and bottom in pixels."
        )
    x, y = video.size[0] / width, video.size[1] / height
    return round(left * x), round(top * y), round(right * x), round(bottom * y)


def first_mask(path: Path, video: Video) -> Masks:
    """A drawn picture as the mask of the first chosen frame; of files with more masks, all of them.

    Args:
        path: one picture, or what `read_masks` takes.
        video: whose frames they belong to.
    """
    if path.suffix.lower() not in PICTURES:
        return read_masks(path, video)
    coverage = coverage_of(read_picture(path))
    if (coverage.shape[1], coverage.shape[0]) != video.full_size:
        (h, w), (a, b) = coverage.shape, video.full_size
        raise InputError(f"{path}: a mask of {w} x {h} pixels, and the video has {a} x {b}.")
    masks = Masks(video.times[:1], fitted(coverage, video.size)[None], np.ones(1, dtype=bool), video.full_size)
    masks.check_filled(str(path))
    return masks
