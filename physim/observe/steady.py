"""Whether the camera stands still."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from physim.errors import InputError
from physim.observe.background import Image

MOVES = (
    "the camera moves, or the light does. Fix the camera on something, switch its automatic exposure and focus off, or "
    "give masks made elsewhere."
)
"""What is said where the whole picture changes."""

# Parts of the picture along each side that are asked whether the camera moves.
_PARTS = 4
# How far the picture may go from one looked-at frame to the next [px].
_SHIFT = 0.7


def check_camera(frames: Sequence[Image], name: str) -> None:
    """Raise `InputError` where the picture as a whole moves.

    Args:
        frames: some of the clip, (h, w, 3) uint8.
        name: of the clip, for the message.
    """
    shift = camera_shift(frames)
    if shift > _SHIFT:
        raise InputError(f"{name}: the picture as a whole goes {shift:.1f} px between frames: {MOVES}")


def camera_shift(frames: Sequence[Image]) -> float:
    """How far the picture as a whole goes from one of these frames to the next [px], the median over them.

    Corners all over the picture tell, each part of it with one voice: a body that moves is outvoted. Zero where less
    than two thirds of the parts agree.
    """
    import cv2

    greys = [f[:, :, :3].mean(axis=2).round().astype(np.uint8) for f in frames]
    h, w = greys[0].shape
    shifts = []
    for before, after in pairwise(greys):
        corners = cv2.goodFeaturesToTrack(before, 300, 0.02, max(4.0, 0.03 * min(h, w)))
        if corners is None:
            continue
        there, seen, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, corners.copy())
        at, moved, seen = corners.reshape(-1, 2), (there - corners).reshape(-1, 2), seen.ravel() == 1
        part = (at[:, 0] * _PARTS / w).astype(int) * _PARTS + (at[:, 1] * _PARTS / h).astype(int)
        votes = [np.median(moved[seen & (part == k)], axis=0) for k in np.unique(part[seen])]
        middle = np.median(votes, axis=0) if votes else np.zeros(2)
        size = float(np.linalg.norm(middle))
        alike = sum(float(np.linalg.norm(v - middle)) < 0.5 + 0.1 * size for v in votes)
        shifts.append(size if alike >= 2 / 3 * _PARTS**2 else 0.0)
    return float(np.median(shifts)) if shifts else 0.0
