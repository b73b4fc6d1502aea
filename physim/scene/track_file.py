"""Tracks of image points on disk: the .npz that `physim track` writes, or that of any tracker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from physim.errors import InputError
from physim.observe.flow import PointTracks
from physim.scene.document import display
from physim.scene.mask_file import matched
from physim.scene.npz_file import Arrays, check_clock, read_npz, write_npz
from physim.scene.video_file import Video

FORMAT = "physim-tracks-1"

# Names that trackers give to one thing; those after the first are read, not written.
_XY = ("xy", "tracks", "pred_tracks")
_SEEN = ("valid", "visible", "visibility", "visibles", "pred_visibility")
_HIDDEN = ("occluded", "occlusion")
_ERROR = ("error", "sigma")

# How far beyond the outermost pixel centres a point may be [px].
_BEYOND = 1.0


def write_tracks(path: Path, tracks: PointTracks) -> Path:
    """Write tracks as .npz: `xy` (f, m, 2) [px], `valid` (f, m), `error` (f, m) [px], `times` [s], `size`, `format`."""
    arrays = {
        "format": np.array(FORMAT),
        "xy": tracks.xy,
        "valid": tracks.valid,
        "times": tracks.times,
        "size": np.array(tracks.size),
    }
    return write_npz(path, arrays | ({} if tracks.error is None else {"error": tracks.error}))


def read_tracks(path: Path, video: Video | None = None) -> PointTracks:
    """The tracks of a file.

    Args:
        path: an .npz with `xy` (or `tracks`), (frames, points, 2) [px], x before y. A point that is not seen is NaN,
            or false in `valid` (or `visible`, `visibility`), or true in `occluded`, (frames, points). `times` [s]
            (frames,) may be left out where the video is given; `error` [px] (frames, points), and `size` (width,
            height), always.
        video: whose points they are; rows outside its window are left out.

    Raises:
        InputError: unreadable, arrays missing or of other shapes, times unknown, or points outside the picture.
    """
    name, arrays = display(path), read_npz(path)
    xy = _positions(name, arrays)
    frames, points = xy.shape[:2]
    valid = _seen(name, arrays, (frames, points)) & np.isfinite(xy).all(axis=2)
    if not valid.any():
        raise InputError(f"{name}: no point is seen in any frame.")
    size = _size(name, arrays, video)
    _check_inside(name, xy, valid, size)
    error = _one(name, arrays, _ERROR)
    if error is not None:
        error = _shaped(name, "error", error, (frames, points)).astype(np.float64)
        if not (error[valid] > 0).all():
            raise InputError(f"{name}: error must be above zero [px] wherever a point is seen.")
        error = np.where(valid, error, np.nan)
    times, rows = _times(name, arrays, frames, video)
    if len(rows) == 0:
        raise InputError(
            f"{name}: no row between begin and end; its times go from {times[0]:.4g} to {times[-1]:.4g} s."
        )
    xy = np.where(valid[..., None], xy, np.nan)
    return PointTracks(times[rows], xy[rows], valid[rows], None if error is None else error[rows], size)


def _positions(name: str, arrays: Arrays) -> np.ndarray[Any, np.dtype[np.float64]]:
    xy = _one(name, arrays, _XY)
    if xy is None:
        raise InputError(f"{name}: no array `xy` in it, only {', '.join(sorted(arrays)) or 'nothing'}.")
    if xy.ndim == 4 and len(xy) == 1:
        xy = xy[0]
    if xy.ndim != 3 or xy.shape[2] != 2 or 0 in xy.shape or xy.dtype.kind not in "fui":
        raise InputError(f"{name}: xy has shape {xy.shape}, expected (frames, points, 2) numbers, x before y [px].")
    return xy.astype(np.float64)


def _one(name: str, arrays: Arrays, names: tuple[str, ...]) -> np.ndarray[Any, Any] | None:
    """The array under one of its names."""
    given = [n for n in names if n in arrays]
    if len(given) > 1:
        raise InputError(f"{name}: {' and '.join(given)} mean the same; leave all but one out.")
    return arrays[given[0]] if given else None


def _shaped(name: str, what: str, array: np.ndarray[Any, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    if array.ndim == len(shape) + 1 and len(array) == 1:
        array = array[0]
    if array.shape != shape:
        turned = " It looks like (points, frames); transpose it." if array.shape == shape[::-1] else ""
        raise InputError(f"{name}: {what} has shape {array.shape}, expected {shape} like xy (frames, points).{turned}")
    return array


def _seen(name: str, arrays: Arrays, shape: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    seen, hidden = _one(name, arrays, _SEEN), _one(name, arrays, _HIDDEN)
    if seen is not None:
        # A probability, as some trackers tell it, counts from a half.
        return _shaped(name, "valid", seen, shape) > (0.5 if seen.dtype.kind == "f" else 0)
    if hidden is not None:
        return ~(_shaped(name, "occluded", hidden, shape) > (0.5 if hidden.dtype.kind == "f" else 0))
    return np.ones(shape, dtype=bool)


def _size(name: str, arrays: Arrays, video: Video | None) -> tuple[int, int]:
    if "size" in arrays:
        if arrays["size"].shape != (2,) or arrays["size"].dtype.kind not in "fui" or not (arrays["size"] > 0).all():
            raise InputError(f"{name}: size must be two numbers, width and height of the pictures [px].")
        size = (int(arrays["size"][0]), int(arrays["size"][1]))
        if video is not None and size != video.full_size:
            raise InputError(
                f"{name}: tracks of pictures of {size[0]} x {size[1]} pixels, and the video has {video.full_size[0]} x "
                f"{video.full_size[1]}; track that video, or scale xy: u' = (u + 0.5) s - 0.5."
            )
        return size
    if video is None:
        raise InputError(f"{name}: the size of the pictures is not known; add `size`, (width, height) [px].")
    return video.full_size


def _check_inside(
    name: str,
    xy: np.ndarray[Any, np.dtype[np.float64]],
    valid: np.ndarray[Any, np.dtype[np.bool_]],
    size: tuple[int, int],
) -> None:
    with np.errstate(invalid="ignore"):
        out = valid & ((xy < -_BEYOND).any(axis=2) | (xy > np.array(size) - 1 + _BEYOND).any(axis=2))
    if not out.any():
        if size[0] > 2 and float(xy[valid].max()) <= 1.0:
            raise InputError(f"{name}: all positions are between 0 and 1; give pixels: multiply by width and height.")
        return
    frame, point = (int(i) for i in np.argwhere(out)[0])
    x, y = xy[frame, point]
    swapped = size[0] != size[1] and bool(
        (xy[valid] > -_BEYOND).all() and (xy[valid] < np.array(size)[::-1] - 1 + _BEYOND).all()
    )
    hint = (
        "x and y seem to be swapped; x (to the right) comes first"
        if swapped
        else "are they of this video, at its full size? A point out of view is NaN, or false in `valid`"
    )
    raise InputError(
        f"{name}: {int(out.sum())} of {int(valid.sum())} tracked positions lie outside the picture of {size[0]} x "
        f"{size[1]} pixels, first point {point} in frame {frame} at ({x:.1f}, {y:.1f}): {hint}."
    )


def _times(
    name: str, arrays: Arrays, frames: int, video: Video | None
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], list[int]]:
    """Times of all rows [s], and the rows within the video's window."""
    if "times" not in arrays:
        if video is None:
            raise InputError(f"{name}: no `times` [s] in it; add them, or name the video that the points are of.")
        rows = matched(name, frames, video)
        times = np.full(frames, np.nan)
        times[rows] = video.times
        return times, rows
    times = arrays["times"]
    check_clock(name, times, frames)
    times = times.astype(np.float64)
    if video is None:
        return times, list(range(frames))
    last = float(video.source.times[-1])
    slack = 1e-6 + 1e-6 * abs(last)
    frame = last / max(1, len(video.source.times) - 1)
    if times[0] < -slack or times[-1] > last + frame + slack:
        raise InputError(
            f"{name}: {frames} frames from {times[0]:.4g} to {times[-1]:.4g} s, and the video has "
            f"{len(video.source.times)} from 0 to {last:.4g} s: tracks of another video, or of other times (`fps`)? "
            "Track this one: physim track."
        )
    keep = (times >= video.times[0] - slack) & (times <= video.times[-1] + slack)
    return times, [int(i) for i in np.flatnonzero(keep)]
