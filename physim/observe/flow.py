"""Points of a body followed through a clip: pyramidal Lucas-Kanade, checked backwards, refined against a patch.

Pixel centres are at whole numbers; (0, 0) is the middle of the top left pixel, x runs right and y down.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from physim.checks import check_shape
from physim.errors import InputError
from physim.observe.background import Image
from physim.observe.masks import HALF, Coverage
from physim.observe.patches import Array, Found, Patches, Spline

RADIUS = 10
"""Half the side of the patch around a point [px]."""

# Way there and back may differ by this much [px] from frame to frame.
_THERE_AND_BACK = 1.0
# Variance of a patch that must be explained: to go on with the patch, and with a newly cut one.
_ALIKE, _STILL_ALIKE = 0.75, 0.5
# The worst part of a patch may be this much worse than the rest, where less than this is explained.
_UNEVEN, _WHOLE = 6.0, 0.95
# Refinement may move a point by this much [px] from where the frame before sent it.
_MOVED = 3.0
# Largest standard deviation of a useful point [px].
_WORST = 1.0
# Halvings of the picture at most.
_LEVELS = 3
# Affine change from which on the patch is cut anew.
_CHANGED = 0.5
# Error of the best point [px]: what interpolation between pixels leaves.
_LEAST = 0.01


@dataclass(frozen=True, eq=False)
class PointTracks:
    """Points in pictures.

    Attributes:
        times: time of each frame since the first of the video [s], (f,).
        xy: positions [px], NaN where lost, (f, m, 2).
        valid: which points are seen, (f, m).
        error: estimated standard deviation of a coordinate [px], (f, m); None where nothing is known.
        size: width and height of the pictures [px].
    """

    times: Array
    xy: Array
    valid: np.ndarray[Any, np.dtype[np.bool_]]
    error: Array | None
    size: tuple[int, int]

    def __post_init__(self) -> None:
        check_shape("tracks: xy", self.xy, (len(self.times), None, 2))
        check_shape("tracks: valid", self.valid, self.xy.shape[:2])
        if self.error is not None:
            check_shape("tracks: error", self.error, self.xy.shape[:2])

    @property
    def count(self) -> int:
        """Number of points."""
        return self.xy.shape[1]

    @property
    def lasting(self) -> float:
        """Mean share of the frames in which a point is seen [-]."""
        return float(self.valid.mean())


def choose_points(image: Image, mask: Coverage, count: int, *, radius: int = RADIUS) -> Array:
    """Points of the body that a tracker can hold on to, evenly spread.

    Args:
        image: the first frame, (h, w, 3) uint8.
        mask: coverage of the body in it, (h, w) uint8.
        count: how many are wanted; there may be fewer.
        radius: half the side of a patch [px].

    Returns:
        Positions [px], (m, 2).

    Raises:
        InputError: the mask is empty, or the body shows no texture.
    """
    import cv2

    area = int((mask >= HALF).sum())
    if area == 0:
        raise InputError(
            "the mask of the first frame is empty, so there is nothing to track; begin where the body is seen."
        )
    # Points a little inside: at the outline half of a patch is background.
    depth = max(1, min(radius // 2, int(0.1 * np.sqrt(area))))
    inner = cv2.erode((mask >= HALF).astype(np.uint8), np.ones((2 * depth + 1, 2 * depth + 1), np.uint8))
    grey = brightness(image).round().astype(np.uint8)
    found = np.zeros((0, 2))
    for share in (0.9, 0.7, 0.5, 0.35, 0.25):
        gap = max(3.0, share * np.sqrt(area / count))
        corners = cv2.goodFeaturesToTrack(grey, 4 * count, 0.01, gap, mask=inner, blockSize=5)
        found = np.zeros((0, 2)) if corners is None else corners.reshape(-1, 2).astype(np.float64)
        if len(found) >= count:
            break
    if len(found) < 3:
        raise InputError(
            f"the body shows {len(found)} points that could be tracked: it has no texture. Dot it with a pen, or "
            "sprinkle it with pepper, and film again; or fit its silhouette, which needs none."
        )
    return found[_spread(found, count)]


def follow(
    frames: Iterable[Image],
    times: Array,
    points: Array,
    *,
    masks: Coverage | None = None,
    radius: int = RADIUS,
) -> PointTracks:
    """Follow points from the first frame on; a point that is lost stays lost.

    From frame to frame a point is carried by pyramidal Lucas-Kanade and given up where the way back ends elsewhere.
    Then the patch around it, with its affine change, is matched with the first frame's, so that errors do not add up;
    where that is no longer like it, with the last frame's.

    Args:
        frames: (h, w, 3) uint8 each; read once, one at a time.
        times: of each [s], (f,).
        points: positions in the first frame [px], (m, 2).
        masks: coverage in each frame, (f, h, w) uint8, of the frames' size: points that leave it are lost, and what is
            behind the body is kept out of patches.
        radius: half the side of a patch [px].
    """
    if len(points) == 0:
        raise InputError("there are no points to follow.")
    run = iter(frames)
    first = next(run)
    height, width = first.shape[:2]
    step = _Step.first(first, points, None if masks is None else masks[0], radius)
    xy, error = [step.p], [np.full(len(points), _LEAST)]
    for number, image in enumerate(run, start=1):
        step = step.next(image, None if masks is None else masks[number])
        xy.append(np.where(step.alive[:, None], step.p, np.nan))
        error.append(np.where(step.alive, np.hypot(step.error, _LEAST), np.nan))
    rows = np.array(xy)
    valid = np.asarray(np.isfinite(rows).all(axis=2))
    return PointTracks(np.asarray(times, dtype=np.float64), rows, valid, np.array(error), (width, height))


@dataclass(frozen=True, eq=False)
class _Step:
    """All points in one frame, and the patches that they are matched with.

    Attributes:
        picture: the frame, for patches.
        grey: the frame, for the pyramid, (h, w) uint8.
        mask: share of the body in each pixel, (h, w); None for everywhere.
        patches: of the first frame, or of the frame from which on a point was followed anew.
        base: error of the points where their patches were cut [px], (m,).
        p: positions [px], (m, 2).
        A: affine change since the patches were cut [-], (m, 2, 2).
        moved: how far they went since the frame before [px], (m, 2).
        alive: which points are not lost, (m,).
        error: standard deviation of a coordinate [px], (m,).
    """

    picture: Spline
    grey: Image
    mask: Array | None
    patches: Patches
    base: Array
    p: Array
    A: Array
    moved: Array
    alive: np.ndarray[Any, np.dtype[np.bool_]]
    error: Array

    @staticmethod
    def first(image: Image, points: Array, mask: Coverage | None, radius: int) -> _Step:
        """The frame in which the points were chosen."""
        light, share = brightness(image), None if mask is None else mask / 255.0
        picture, none = Spline(light), np.zeros(len(points))
        patches = Patches.cut(picture, points, radius, share)
        affine, alive = np.zeros((len(points), 2, 2)), np.ones(len(points), dtype=bool)
        return _Step(picture, _bytes(light), share, patches, none, points.copy(), affine, 0.0 * points, alive, none)

    def next(self, image: Image, mask: Coverage | None) -> _Step:
        """The frame after this one."""
        light, share = brightness(image), None if mask is None else mask / 255.0
        picture, grey = Spline(light), _bytes(light)
        k = np.flatnonzero(self.alive)
        carried, steady = self._carried(grey, share, k)
        k = k[steady]
        guess = carried[steady]
        found = self.patches.chosen(k).find(picture, guess, self.A[k])
        patches, base = self.patches, self.base.copy()
        # Where the first patch is no longer to be seen, the one of the frame before still is.
        radius = int(patches.offsets.max())
        lost = (~_good(found, guess) | (np.abs(found.A).max(axis=(1, 2)) > _CHANGED)) & ~_covered(found)
        if lost.any():
            anew = Patches.cut(self.picture, self.p[k[lost]], radius, self.mask)
            second = anew.find(picture, guess[lost], np.zeros((int(lost.sum()), 2, 2)))
            better = _good(second, guess[lost], alike=_ALIKE)
            places = np.flatnonzero(lost)[better]
            patches = patches.replaced(k[places], anew.chosen(better))
            base[k[places]] = self.error[k[places]]
            for name in ("p", "A", "error", "likeness", "uneven"):
                getattr(found, name)[places] = getattr(second, name)[better]
        fits = _good(found, guess) & _within(found.p, grey.shape, share)
        alive = np.zeros_like(self.alive)
        alive[k[fits]] = True
        p, A, error = self.p.copy(), self.A.copy(), self.error.copy()
        p[k[fits]], A[k[fits]] = found.p[fits], found.A[fits]
        error[k[fits]] = np.hypot(found.error[fits], base[k[fits]])
        return _Step(picture, grey, share, patches, base, p, A, p - self.p, alive, error)

    def _carried(
        self, grey: Image, mask: Array | None, k: np.ndarray[Any, Any]
    ) -> tuple[Array, np.ndarray[Any, np.dtype[np.bool_]]]:
        """Where the pyramid carries points into a frame [px], and which come back to where they were.

        It begins where the body as a whole, or else the point itself before, would have carried them. A body that is
        small at the coarse levels of a pyramid is lost there among what is behind it, so they are left out.
        """
        import cv2

        if not len(k):
            return np.zeros((0, 2)), np.zeros(0, dtype=bool)
        size = 2 * int(self.patches.offsets.max()) + 1
        start = self.p[k].astype(np.float32).reshape(-1, 1, 2)
        whole = _shift(self.mask, mask)
        moved = self.moved[k] if whole is None else np.broadcast_to(whole, (len(k), 2))
        moved = moved.astype(np.float32).reshape(-1, 1, 2)
        levels = _LEVELS
        if whole is not None and mask is not None:
            levels = int(np.clip(np.log2(np.sqrt(mask.sum()) / size), 0, _LEVELS))
        options = {"winSize": (size, size), "maxLevel": levels, "flags": cv2.OPTFLOW_USE_INITIAL_FLOW}
        there, seen, _ = cv2.calcOpticalFlowPyrLK(self.grey, grey, start, start + moved, **options)
        back, returned, _ = cv2.calcOpticalFlowPyrLK(grey, self.grey, there, there - moved, **options)
        apart = np.linalg.norm((back - start).reshape(-1, 2), axis=1)
        steady = (seen.ravel() == 1) & (returned.ravel() == 1) & (apart < _THERE_AND_BACK)
        return there.reshape(-1, 2).astype(np.float64), steady


def brightness(image: Image) -> Array:
    """Brightness of a picture with the digits that rounding it would lose [grey levels], (h, w)."""
    return image[:, :, :3].astype(np.float64) @ np.array([0.299, 0.587, 0.114])


def _bytes(light: Array) -> Image:
    return light.round().astype(np.uint8)


def _shift(before: Array | None, now: Array | None) -> Array | None:
    """How far the middle of the body went between two masks [px], (2,); None where one is unknown or empty."""
    if before is None or now is None:
        return None
    middles = []
    for share in (before, now):
        total = float(share.sum())
        if not 0.0 < total < share.size:
            return None
        h, w = share.shape
        middles.append(np.array([share.sum(axis=0) @ np.arange(w), share.sum(axis=1) @ np.arange(h)]) / total)
    return middles[1] - middles[0]


def _good(found: Found, guess: Array, *, alike: float = _STILL_ALIKE) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which patches were found: alike, near where they were expected, and told apart from their surroundings."""
    moved = np.linalg.norm(found.p - guess, axis=1)
    return (found.likeness > alike) & (moved < _MOVED) & (found.error < _WORST) & ~_covered(found)


def _covered(found: Found) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which patches have something in front of a part of them: that part alone does not fit."""
    return (found.uneven > _UNEVEN) & (found.likeness < _WHOLE)


def _within(p: Array, shape: tuple[int, ...], share: Array | None) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which points lie in the picture, and on the body or at most two pixels beside it."""
    import cv2

    h, w = shape[:2]
    at = np.where(np.isfinite(p), p, -1.0).round().astype(int)
    inside = (at >= 0).all(axis=1) & (at[:, 0] < w) & (at[:, 1] < h)
    if share is None:
        return inside
    near = cv2.dilate((share >= 0.5).astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    x, y = at[:, 0].clip(0, w - 1), at[:, 1].clip(0, h - 1)
    return inside & near[y, x]


def _spread(points: Array, count: int) -> np.ndarray[Any, Any]:
    """Indices of `count` points far from each other; the first is the strongest."""
    chosen, far = [0], np.linalg.norm(points - points[0], axis=1)
    while len(chosen) < min(count, len(points)):
        chosen.append(int(far.argmax()))
        far = np.minimum(far, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return np.array(chosen)
