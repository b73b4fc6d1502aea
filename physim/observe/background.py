"""What a resting camera sees without the body: colour and noise of each pixel, from the frames of a clip or a picture.

Pictures are compared as brightness and two colour differences (Y, Cr, Cb): a shadow scales all three, compression blurs
the last two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from physim.errors import InputError

Image = np.ndarray[Any, np.dtype[np.uint8]]
Field = np.ndarray[Any, np.dtype[Any]]
"""Numbers per pixel, in single precision where memory counts."""

# Smallest noise of a pixel [grey levels], of brightness and of colour differences: compression leaves some pixels
# without any, and shifts the colours of a whole block that something moves through.
_LEAST_NOISE = np.array([1.2, 2.4, 2.4])
# Brightness that a shadow leaves, as a share, and what counts as unchanged.
_SHADE, _UNSHADED = 0.35, 0.97
# An outline is the background's where it is this much stronger there than in the frame.
_STRONGER = 1.5
# Least number of frames that must show the background where the median does not.
_WITNESSES = 3
# Pixels around an outline over which it is looked for; smoothing before [px].
_SMOOTH = 1.5


@dataclass(frozen=True, eq=False)
class Background:
    """The scene without the body.

    Attributes:
        color: brightness and colour differences [grey levels], (h, w, 3).
        noise: standard deviation of each over the frames [grey levels], (h, w, 3).
        kept: share of outlines that lie in the background and not in the frames: the body itself is in it.
    """

    color: Field
    noise: Field
    kept: float = 0.0

    def difference(self, image: Image) -> tuple[Field, Field]:
        """How far a frame is from the background [noise], (h, w), and the frame in its exposure, (h, w, 3).

        Differences of one sign over a few pixels count whole. Those that change sign count half: compression codes
        texture anew, and otherwise, in the blocks that something moves through.
        """
        check_size(image, self.color)
        color = exposed(to_ycc(image), self.color)
        apart = (color - self.color) / self.noise
        each = np.sqrt(blurred((apart**2).sum(axis=2), 0.7))
        together = np.sqrt((blurred(apart, 1.5) ** 2).sum(axis=2))
        return np.maximum(0.5 * each, together), color

    def shaded(self, color: Field) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Pixels that a shadow on the background explains: darker, of the same hue, with its texture, (h, w).

        Args:
            color: a frame as `difference` returns it, (h, w, 3).
        """
        ratio = color[:, :, 0] / np.maximum(self.color[:, :, 0], 8.0)
        left = color[:, :, 1:] - ratio[:, :, None] * self.color[:, :, 1:]
        alike = (np.abs(blurred(left, 1.0)) < 3.0 * self.noise[:, :, 1:] + 3.0).all(axis=2)
        mean = blurred(ratio, 2.0)
        even = np.sqrt(np.maximum(blurred(ratio**2, 2.0) - mean**2, 0.0)) < 0.08 + 3.0 * _LEAST_NOISE[0] / np.maximum(
            self.color[:, :, 0], 8.0
        )
        return alike & even & (ratio > _SHADE) & (ratio < _UNSHADED)


def median_background(frames: Sequence[Image]) -> Background:
    """The background of a clip in which the body moves: the median over frames, mended where it shows the body.

    Where the body rests for most of the clip, the median is the body. Such places differ from other frames in the shape
    of the body, with the outline in the background and not in the frame; there the frames are right.

    Args:
        frames: some twenty frames spread over the clip, (h, w, 3) uint8.

    Raises:
        InputError: fewer than three frames.
    """
    if len(frames) < 3:
        raise InputError(
            f"a background needs at least three frames in which the body moves, got {len(frames)}; give a picture of "
            "the scene without the body, or masks."
        )
    stack = np.stack([to_ycc(f) for f in frames])
    color = np.median(stack, axis=0).astype(np.float32)
    # Exposure is set against the first guess, once: the camera's drift, not the body's, is what is taken out.
    stack = np.stack([exposed(s, color) for s in stack])
    color = np.median(stack, axis=0).astype(np.float32)
    noise = _noise(stack, color)
    kept = 0.0
    for _ in range(4):
        ghosts, kept = _ghosts(stack, color, noise)
        if not ghosts.any():
            break
        color, noise = _mended(stack, ghosts, color, noise)
    return Background(color, noise.astype(np.float32), kept)


def picture_background(picture: Image, frames: Sequence[Image]) -> Background:
    """The background that a picture without the body shows.

    Args:
        picture: (h, w, 3) uint8, of the frames' size.
        frames: some frames of the clip, for its noise.
    """
    check_size(frames[0], picture)
    color = blurred(to_ycc(picture), 0.3)
    stack = np.stack([exposed(to_ycc(f), color) for f in frames])
    return Background(color, _noise(stack, np.median(stack, axis=0).astype(np.float32)))


def to_ycc(image: Image) -> Field:
    """Brightness and colour differences around zero [grey levels], float32, (h, w, 3)."""
    import cv2

    color = cv2.cvtColor(np.ascontiguousarray(image[:, :, :3]).astype(np.float32), cv2.COLOR_RGB2YCrCb)
    color[:, :, 1:] -= 0.5
    return color


def exposed(color: Field, background: Field) -> Field:
    """A frame divided by its exposure relative to the background: the most frequent ratio of brightness."""
    bright = background[::2, ::2, 0] > 20.0
    if bright.sum() < 64:
        return color
    ratio = color[::2, ::2, 0][bright] / background[::2, ::2, 0][bright]
    counts, edges = np.histogram(ratio, bins=80, range=(0.6, 1.4))
    if not counts.any():
        return color
    smooth = np.convolve(counts, np.ones(3), mode="same")
    peak = edges[int(smooth.argmax())] + 0.005
    gain = float(np.median(ratio[np.abs(ratio - peak) < 0.05]))
    return color if abs(gain - 1.0) < 0.004 else color / np.float32(gain)


def check_size(image: Image, other: np.ndarray[Any, Any]) -> None:
    """Raise `InputError` where two pictures of one view differ in size."""
    if image.shape[:2] != other.shape[:2]:
        (h, w), (a, b) = image.shape[:2], other.shape[:2]
        raise InputError(f"the background is {b} x {a} pixels, and the frames are {w} x {h}; give one of their size.")


def _noise(stack: Field, color: Field) -> Field:
    """Standard deviation of each pixel and channel [grey levels], from medians, smoothed, (h, w, 3)."""
    spread = 1.4826 * np.median(np.abs(stack - color), axis=0)
    local = blurred(spread.astype(np.float32), 2.0)
    whole = np.median(spread, axis=(0, 1))
    # Where a body moves all the time, deviations are its own, so no place is taken to be much noisier than others.
    return np.maximum(np.clip(local, whole, 3.0 * whole), _LEAST_NOISE).astype(np.float32)


def _mended(
    stack: Field, ghosts: np.ndarray[Any, np.dtype[np.bool_]], color: Field, noise: Field
) -> tuple[Field, Field]:
    """Colour and noise with those of the frames where several of them show the same in place of the body."""
    usual = np.median(noise, axis=(0, 1))
    places = ghosts.sum(axis=0) >= max(_WITNESSES, 0.1 * len(stack))
    shown = np.where(ghosts[:, places, None], stack[:, places], np.nan)
    seen = np.nanmedian(shown, axis=0)
    # A body that moves shows different parts of itself, the background always the same.
    still = (np.nanmedian(np.abs(shown - seen), axis=0) < 2.0 * usual + 2.0).all(axis=1)
    rows, columns = (axis[still] for axis in np.nonzero(places))
    color, noise = color.copy(), noise.copy()
    color[rows, columns] = seen[still]
    noise[rows, columns] = usual
    return color, noise


def _ghosts(stack: Field, color: Field, noise: Field) -> tuple[np.ndarray[Any, np.dtype[np.bool_]], float]:
    """Where frames show the background and `color` does not, (f, h, w), and the share of outlines that are half so."""
    import cv2

    found = np.zeros(stack.shape[:3], dtype=bool)
    below = _slopes(color)
    all_, mixed = 0, 0
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    for i, frame in enumerate(stack):
        apart = np.sqrt(blurred((((frame - color) / noise) ** 2).sum(axis=2), 1.0))
        changed = cv2.morphologyEx((apart > 7.0).astype(np.uint8), cv2.MORPH_CLOSE, disc)
        number, labels, stats, _ = cv2.connectedComponentsWithStats(changed, connectivity=8)
        above = _slopes(frame)
        for label in range(1, number):
            if stats[label, cv2.CC_STAT_AREA] < max(30, 1e-4 * apart.size):
                continue
            body = (labels == label).astype(np.uint8)
            rim = cv2.dilate(body, disc).astype(bool) & ~cv2.erode(body, disc).astype(bool)
            inside = blurred(body.astype(np.float32), _SMOOTH)
            nx, ny = cv2.Sobel(inside, cv2.CV_32F, 1, 0), cv2.Sobel(inside, cv2.CV_32F, 0, 1)
            long = np.sqrt(nx**2 + ny**2) + 1e-6
            # Across the outline, not along it: texture beside it counts for little.
            in_back = _across(below, nx / long, ny / long)[rim]
            in_frame = _across(above, nx / long, ny / long)[rim]
            mine = float((in_back > _STRONGER * in_frame).mean())
            if in_back.mean() > _STRONGER * in_frame.mean() and mine > 0.5:
                found[i] |= cv2.dilate(body, disc).astype(bool)
            else:
                all_ += int(rim.sum())
                mixed += int(rim.sum() * mine)
    return found, mixed / all_ if all_ else 0.0


def _slopes(color: Field) -> tuple[Field, Field]:
    """Derivatives of a smoothed picture along x and y, (h, w, 3) each."""
    import cv2

    smooth = blurred(color, _SMOOTH)
    return cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)


def _across(slopes: tuple[Field, Field], nx: Field, ny: Field) -> Field:
    """Size of the derivative along (nx, ny), over all channels, (h, w)."""
    return np.sqrt(((slopes[0] * nx[..., None] + slopes[1] * ny[..., None]) ** 2).sum(axis=2))


def blurred(field: Field, sigma: float) -> Field:
    """`field` under a Gaussian of this width [px]."""
    import cv2

    return cv2.GaussianBlur(field, (0, 0), sigma)
