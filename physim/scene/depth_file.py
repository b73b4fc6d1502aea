"""Depth images: distances along the camera's axis in metres, from 16-bit pictures or arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from physim.checks import check_shape
from physim.errors import InputError
from physim.scene.document import display
from physim.scene.npz_file import check_bytes, check_clock, read_npz
from physim.scene.units import LENGTH, UnitError, column_unit
from physim.scene.video_source import picture_files

# Medians [m] beyond which depths are in another unit than the one stated: no depth camera sees farther, or nearer.
_FARTHEST, _NEAREST = 50.0, 5e-3


@dataclass(frozen=True, eq=False)
class DepthFrames:
    """Depth images of one camera.

    Attributes:
        times: time of each frame since the first [s], (f,).
        depth: along the camera's axis [m], NaN where nothing was measured, (f, h, w) float32.
    """

    times: np.ndarray[Any, np.dtype[np.float64]]
    depth: np.ndarray[Any, np.dtype[np.float32]]

    def __post_init__(self) -> None:
        check_shape("depth", self.depth, (len(self.times), None, None))


def read_depth(
    path: str | Path,
    *,
    unit: str | None = None,
    fps: float | None = None,
    begin: float | None = None,
    end: float | None = None,
    every: int = 1,
) -> DepthFrames:
    """Read depth images.

    Args:
        path: a folder of 16-bit pictures (PNG or TIFF) in the order of their names, or an .npz with `depth`
            (f, h, w) and `times` [s] (f,). Zero and NaN mean: not measured.
        unit: of one step of the numbers, such as `mm`, or `0.2 mm`; metres unless given.
        fps: images per second [1/s], where the file has no times.
        begin: leave out images before this time since the first [s].
        end: leave out images after this time [s].
        every: keep each k-th image of those.

    Raises:
        InputError: unreadable, no times, an empty window, or numbers that cannot be of the stated unit.
    """
    path = Path(path)
    name = display(path)
    scale = _scale(name, unit)
    if not path.exists():
        raise InputError(f"{path}: no such folder of depth pictures, or .npz file.")
    if path.is_dir():
        files = picture_files(path)
        times = _clock(name, len(files), fps)
        rows = _rows(name, times, begin, end, every)
        images = [read_depth_picture(files[i]) for i in rows]
        for i, image in zip(rows, images, strict=True):
            if image.shape != images[0].shape:
                (h, w), (a, b) = image.shape, images[0].shape
                raise InputError(
                    f"{display(files[i])} is {w} x {h} pixels, and the first is {b} x {a}; they have one size."
                )
            check_bytes(name, len(rows), (image.shape[1], image.shape[0]), 4)
        raw = np.stack(images)
    else:
        arrays = read_npz(path)
        if "depth" not in arrays:
            raise InputError(f"{name}: no array `depth` in it, only {', '.join(sorted(arrays)) or 'nothing'}.")
        raw = arrays["depth"]
        if raw.ndim != 3 or raw.dtype.kind not in "fui" or 0 in raw.shape:
            raise InputError(f"{name}: depth has shape {raw.shape}, expected (frames, height, width) numbers.")
        times = _clock(name, len(raw), fps) if "times" not in arrays else arrays["times"]
        check_clock(name, times, len(raw))
        times = times.astype(np.float64)
        rows = _rows(name, times, begin, end, every)
        raw = raw[rows]
    depth = raw.astype(np.float32)
    depth[~np.isfinite(depth) | (raw == 0)] = np.nan
    depth *= np.float32(scale)
    _check_plausible(name, depth, unit)
    return DepthFrames(times[rows], depth)


def read_depth_picture(path: Path) -> np.ndarray[Any, Any]:
    """The numbers of one 16-bit picture, (h, w).

    Raises:
        InputError: it cannot be read, or has colours, or only 8 bits.
    """
    from PIL import Image as Picture

    try:
        with Picture.open(path) as picture:
            mode, raw = picture.mode, np.array(picture)
    except (OSError, ValueError, SyntaxError, Picture.DecompressionBombError) as error:
        raise InputError(f"{display(path)}: cannot be read as a picture ({error}).") from None
    if not mode.startswith(("I", "F")) or raw.ndim != 2:
        raise InputError(
            f"{display(path)}: a depth picture has one channel of 16 bits, this one is of kind {mode}; colours and 8 "
            "bits show depth, but do not hold it. Save 16-bit PNG, or .npz with `depth`."
        )
    return raw


def _scale(name: str, unit: str | None) -> float:
    """Metres of one step."""
    if unit is None:
        return 1.0
    try:
        scale, dimension = column_unit(unit)
    except UnitError as error:
        raise InputError(f"{name}: unit: {error}") from None
    if dimension != LENGTH or not (math.isfinite(scale) and scale > 0):
        raise InputError(f"{name}: unit '{unit}' is no length; write mm, m, or such as '0.2 mm'.")
    return scale


def _clock(name: str, count: int, fps: float | None) -> np.ndarray[Any, np.dtype[np.float64]]:
    if fps is None:
        raise InputError(
            f"{name}: {count} depth images without times; add `fps`, the images per second, such as fps: 30."
        )
    if not (math.isfinite(fps) and fps > 0):
        raise InputError(f"{name}: fps {fps:g} is not allowed; give the images per second, above zero.")
    return np.arange(count) / fps


def _rows(name: str, times: np.ndarray[Any, Any], begin: float | None, end: float | None, every: int) -> list[int]:
    if every < 1:
        raise InputError(f"{name}: every {every} is not allowed; 1 keeps each image, 2 each second one.")
    keep = (times >= (begin if begin is not None else -np.inf) - 1e-9) & (
        times <= (end if end is not None else np.inf) + 1e-9
    )
    if not keep.any():
        raise InputError(f"{name}: no image between begin and end; they are from {times[0]:.4g} to {times[-1]:.4g} s.")
    return [int(i) for i in np.flatnonzero(keep)][::every]


def _check_plausible(name: str, depth: np.ndarray[Any, Any], unit: str | None) -> None:
    """Raise `InputError` where the numbers must be of another unit."""
    known = depth[np.isfinite(depth)]
    if not len(known):
        raise InputError(f"{name}: no depth was measured in any pixel: all are zero or NaN.")
    if float(known.min()) < 0:
        raise InputError(
            f"{name}: depths below zero, the least {float(known.min()):.4g} m; depth is counted from the eye."
        )
    middle, told = float(np.median(known)), f"`unit: {unit}`" if unit else "no unit, which means metres"
    if middle > _FARTHEST:
        raise InputError(
            f"{name}: the median depth is {middle:.4g} m with {told}; such numbers are millimetres. Write `unit: mm` "
            "(or what one step is: some cameras have `unit: 0.1 mm` or `0.2 mm`)."
        )
    if middle < _NEAREST:
        raise InputError(
            f"{name}: the median depth is {middle:.4g} m with {told}; such numbers are metres already. Write `unit: m`."
        )
