"""Masks on disk: the .npz that `physim mask` writes, or pictures and films drawn or made elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from physim.errors import InputError
from physim.observe.masks import FULL, Coverage, Masks, filled
from physim.scene.document import display
from physim.scene.npz_file import check_bytes, check_clock, read_npz, write_npz
from physim.scene.video_file import Video, fitted, open_video

FORMAT = "physim-masks-1"

# Share of a frame's interval by which the time of a mask may differ from its frame's.
_NEAR = 0.25


def write_masks(path: Path, masks: Masks) -> Path:
    """Write masks as .npz: `masks` (f, h, w) uint8 0 to 255, `times` [s], `valid`, `size` of the video, `format`."""
    return write_npz(
        path,
        {
            "format": np.array(FORMAT),
            "masks": masks.coverage,
            "times": masks.times,
            "valid": masks.valid,
            "size": np.array(masks.full_size),
        },
    )


def read_masks(path: Path, video: Video) -> Masks:
    """The masks of a video's chosen frames.

    Args:
        path: an .npz of `physim mask`, or of any program: `masks` (f, h, w), whole numbers from 0 to 255, or true and
            false, or fractions from 0 to 1, and `times` [s] (f,) unless there is one for every frame. Or a folder of
            pictures, or a film: white, or opaque, is the body.
        video: whose frames they belong to.

    Raises:
        InputError: unreadable, of another shape than the video, too few, or empty in every frame. Those that are empty
            in some are marked as not valid there.
    """
    if path.suffix.lower() == ".npz":
        masks = _from_npz(path, video)
    else:
        masks = _from_pictures(path, video)
    width, height = video.full_size
    h, w = masks.coverage.shape[1:]
    # A frame reduced to fewer pixels may be rounded by half a pixel on each side.
    if abs(w / h - width / height) > (1.0 / h) * (1.0 + width / height):
        raise InputError(
            f"{display(path)}: masks of {w} x {h} pixels do not fit a video of {width} x {height}; they may be "
            "smaller, but of the same shape, upright like the video."
        )
    return _without_empty(display(path), masks)


def _without_empty(name: str, masks: Masks) -> Masks:
    """The masks, with those that show nothing marked as not valid."""
    seen = masks.valid & filled(masks.coverage)
    if not seen.any():
        raise InputError(
            f"{name}: the masks of all {len(seen)} frames are empty; the body is white (or opaque) in a mask, the rest "
            "black. Draw them anew, or make them with `physim mask`."
        )
    return replace(masks, valid=seen)


def coverage_of(picture: np.ndarray[Any, np.dtype[np.uint8]]) -> Coverage:
    """How much of each pixel is the body's in a drawn mask: its opacity, or its brightness, (h, w) uint8."""
    if picture.ndim == 3 and picture.shape[2] == 4 and picture[:, :, 3].min() < FULL:
        return picture[:, :, 3]
    bright = picture if picture.ndim == 2 else picture[:, :, :3].max(axis=2)
    # Labels 0 and 1 look black in a viewer, and are as common as 0 and 255.
    return bright * np.uint8(FULL) if bright.max() == 1 else bright


def _from_pictures(path: Path, video: Video) -> Masks:
    """Masks of a folder or film: one for every frame of the video's file, or one for every chosen frame."""
    drawn = open_video(path, fps=1.0)
    numbers = matched(display(path), len(drawn), video)
    size = video.size if drawn.size[0] >= video.size[0] else drawn.size
    check_bytes(video.name, len(video), size, 1)
    coverage = np.stack([fitted(coverage_of(image), size) for image in drawn.images(numbers)])
    return Masks(video.times, coverage, np.ones(len(video), dtype=bool), video.full_size)


def _from_npz(path: Path, video: Video) -> Masks:
    name, arrays = display(path), read_npz(path)
    if "masks" not in arrays:
        raise InputError(f"{name}: no array `masks` in it, only {', '.join(sorted(arrays)) or 'nothing'}.")
    coverage = arrays["masks"]
    if coverage.ndim != 3 or 0 in coverage.shape:
        raise InputError(f"{name}: masks have shape {coverage.shape}, expected (frames, height, width).")
    coverage = _bytes(name, coverage)
    count = len(coverage)
    if "times" in arrays:
        rows = at_times(name, arrays["times"], count, video)
    else:
        rows = matched(name, count, video)
    valid = arrays.get("valid", np.ones(count, dtype=bool))
    if valid.shape != (count,):
        raise InputError(f"{name}: valid has shape {valid.shape}, expected ({count},), one for each mask.")
    return Masks(video.times, coverage[rows], valid[rows].astype(bool), video.full_size)


def _bytes(name: str, masks: np.ndarray[Any, Any]) -> Coverage:
    if masks.dtype.kind == "f":
        if not np.isfinite(masks).all() or masks.min() < 0 or masks.max() > 1:
            raise InputError(f"{name}: masks of fractions are from 0 to 1; whole numbers from 0 to 255.")
        return (masks * FULL).round().astype(np.uint8)
    if masks.dtype.kind not in "bui" or masks.min() < 0 or masks.max() > FULL:
        raise InputError(f"{name}: masks are whole numbers from 0 to 255, true and false, or fractions from 0 to 1.")
    return (masks * (FULL if masks.max() <= 1 else 1)).astype(np.uint8)


def matched(name: str, count: int, video: Video) -> list[int]:
    """Rows of a file without times that belong to the video's chosen frames.

    Raises:
        InputError: as many rows as neither the video has frames, nor were chosen.
    """
    if count == len(video.source.times):
        return list(video.numbers)
    if count == len(video):
        return list(range(count))
    raise InputError(
        f"{name}: {count} frames, and the video has {len(video.source.times)}, of which {len(video)} are used; "
        "give one for every frame."
    )


def at_times(name: str, times: np.ndarray[Any, Any], count: int, video: Video) -> list[int]:
    """Rows of a file whose times are those of the video's chosen frames.

    Raises:
        InputError: not one increasing time for each row, or a frame without one.
    """
    check_clock(name, times, count)
    steps = np.diff(video.source.times)
    slack = _NEAR * float(steps.min()) if len(steps) else np.inf
    rows = np.abs(times[None, :] - video.times[:, None]).argmin(axis=1)
    late = np.flatnonzero(np.abs(times[rows] - video.times) > slack)
    if len(late):
        raise InputError(
            f"{name}: nothing for the frame at {video.times[late[0]]:.4g} s ({len(late)} of {len(video)} frames); its "
            f"times go from {times[0]:.4g} to {times[-1]:.4g} s. Make it anew with the same fps, or take begin, end "
            "and every that it has."
        )
    return [int(i) for i in rows]
