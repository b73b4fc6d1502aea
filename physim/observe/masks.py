"""Masks: how much of each pixel the body covers, and what looks wrong about them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from physim.checks import check_shape
from physim.errors import InputError
from physim.observe.background import Background
from physim.observe.steady import MOVES

Coverage = np.ndarray[Any, np.dtype[np.uint8]]

FULL = 255
"""Coverage of a pixel inside the body."""
HALF = 128
"""Coverage from which a pixel counts as the body's."""

# The body is in the background where the outlines say so, and areas change by this share between frames.
_KEPT, _CHANGE = 0.12, 0.7


@dataclass(frozen=True, eq=False)
class Masks:
    """Masks of the frames of one clip.

    Attributes:
        times: time of each frame since the first of the video [s], (f,).
        coverage: 0 outside the body, 255 inside, in between at its edge, (f, h, w) uint8.
        valid: False for a frame whose mask says nothing, (f,).
        full_size: width and height of the video's own frames [px]; the masks may be smaller.
    """

    times: np.ndarray[Any, np.dtype[np.float64]]
    coverage: Coverage
    valid: np.ndarray[Any, np.dtype[np.bool_]]
    full_size: tuple[int, int]

    def __post_init__(self) -> None:
        count = len(self.times)
        check_shape("masks", self.coverage, (count, None, None))
        check_shape("masks: valid", self.valid, (count,))

    @property
    def share(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Part of the picture that the body covers in each frame [-], (f,)."""
        return self.coverage.mean(axis=(1, 2)) / FULL

    def check_filled(self, name: str) -> None:
        """Raise `InputError` naming the frames that count and in which nothing is covered."""
        empty = np.flatnonzero(self.valid & ~filled(self.coverage))
        if len(empty):
            others = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
            raise InputError(
                f"{name}: the mask of frame {empty[0]} ({self.times[empty[0]]:.4g} s){others} is empty: the body is "
                "not seen there. Take `begin` and `end` around the frames that show it, draw that mask, or make masks "
                "with `physim mask`, which leaves such frames out."
            )


def filled(coverage: Coverage) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """In which frames anything is covered, (f,)."""
    return np.array([bool((mask >= HALF).any()) for mask in coverage])


def mask_iou(a: Coverage, b: Coverage) -> float:
    """Intersection over union of two masks, (h, w) each, of the pixels that are at least half covered."""
    one, other = a >= HALF, b >= HALF
    union = int((one | other).sum())
    return int((one & other).sum()) / union if union else 1.0


def outline_offset(found: Coverage, mask: Coverage) -> float:
    """How far the outline of one mask is from that of another, on average [px]; NaN where the latter has none.

    The area in which they differ, divided by the length of the latter's outline.
    """
    import cv2

    inside = (mask >= HALF).astype(np.uint8)
    lines, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    length = sum(cv2.arcLength(line, True) for line in lines)
    return float(((found >= HALF) != (inside > 0)).sum()) / length if length > 0.0 else math.nan


def check_background(masks: Masks, background: Background, name: str) -> None:
    """Raise `InputError` where masks show that the background was not known.

    Args:
        masks: of the whole clip.
        background: that they were made with.
        name: of the clip, for the message.
    """
    instead = (
        "give a picture of the scene without the body (`--background empty.png`; in a scene file "
        "`mask: {background: {file: empty.png}}`), or masks made elsewhere"
    )
    share = masks.share
    if not filled(masks.coverage).any():
        raise InputError(
            f"{name}: no frame differs from the background: the body does not move, or looks like what is behind it. "
            f"A body that never moves cannot be told from the background: {instead}."
        )
    if np.median(share) > 0.6:
        raise InputError(f"{name}: {100 * np.median(share):.0f} % of the picture changes: {MOVES}")
    low, high = np.quantile(share, (0.1, 0.9))
    if background.kept > _KEPT and low < _CHANGE * high:
        raise InputError(
            f"{name}: the body covers the same place in most frames, so the background seen there is the body itself: "
            f"{instead}."
        )


def suspicions(masks: Masks) -> dict[int, str]:
    """What looks wrong, by frame: nothing found, a jump in area, the border of the picture touched."""
    found: dict[int, str] = {}
    share, seen = masks.share, filled(masks.coverage)
    for i, here in enumerate(share):
        if not seen[i]:
            found[i] = "nothing found"
            continue
        around = share[max(0, i - 3) : i + 4]
        usual = float(np.median(around[around > 0]))
        if not 0.7 < here / usual < 1.4:
            found[i] = f"area {here / usual:.2g} times that of the frames around"
        rim = np.concatenate(
            [masks.coverage[i][0], masks.coverage[i][-1], masks.coverage[i][:, 0], masks.coverage[i][:, -1]]
        )
        if i not in found and (rim >= HALF).any():
            found[i] = "reaches the border of the picture"
    return found
