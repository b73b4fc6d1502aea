"""The first motion of a body in the picture: how long it follows one parabola."""

from __future__ import annotations

from typing import Any

import numpy as np

from physim.errors import InputError

Array = np.ndarray[Any, np.dtype[np.float64]]

# A flight is one where a parabola misses no position by more than this [px].
_MISSED = 0.5
# The first frames that are taken for one flight whatever they do.
_LEAST = 5
# Share of gravity below which a body does not fall but is held; and standard errors by which it must be below.
_HELD, _SURELY = 0.5, 3.0


def mask_center(mask: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Centre of what is covered [px], to the right and down from the picture's upper left corner."""
    weight = mask.astype(np.float64)
    h, w = mask.shape
    total = weight.sum()
    if not total:
        raise InputError("an empty mask has no centre.")
    across, down = weight.sum(axis=0) @ (np.arange(w) + 0.5), weight.sum(axis=1) @ (np.arange(h) + 0.5)
    return float(across / total), float(down / total)


def free_flight(times: Array, centers: Array, fall: Array | None = None) -> tuple[int, Array, float]:
    """How many frames follow one parabola from the start.

    Args:
        times: [s], (f,).
        centers: of the body [px], (f, 2).
        fall: what gravity does in the picture [px/s^2], (2,), where known: a body that surely falls by less than half
            of it stands on something.

    Returns:
        The count (0 for a body that stands), the parabola's coefficients (3, 2) [px, px/s, px/s^2] in time since the
        first frame, and the standard error of twice the last of them downwards [px/s^2], infinite where four frames
        or fewer tell.
    """
    least = min(_LEAST, len(times))
    best = least, np.zeros((3, 2)), np.inf
    for count in range(least, len(times) + 1):
        t = times[:count] - times[0]
        basis = np.stack([np.ones_like(t), t, t**2], axis=1)[:, : min(3, count)]
        found, *_ = np.linalg.lstsq(basis, centers[:count], rcond=None)
        left = centers[:count] - basis @ found
        if count > least and np.abs(left).max() > _MISSED:
            break
        motion = np.zeros((3, 2))
        motion[: len(found)] = found
        error = np.inf
        if count > 4:
            spread = max(float(np.sqrt((left[:, 1] ** 2).sum() / (count - 3))), 0.05)
            error = 2.0 * spread * float(np.sqrt(np.linalg.inv(basis.T @ basis)[2, 2]))
        best = count, motion, error
    count, motion, error = best
    if fall is not None and fall.any():
        down = fall / np.linalg.norm(fall)
        if 2.0 * motion[2] @ down + _SURELY * error < _HELD * np.linalg.norm(fall):
            count = 0
    return count, motion, error
