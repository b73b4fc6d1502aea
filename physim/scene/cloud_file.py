"""Point clouds of a scene: an .npz with `points` and `times`, checked before it is compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from physim.errors import InputError
from physim.scene.document import display
from physim.scene.npz_file import check_clock, read_npz

# No cloud of a body is so many times its size away from it, or larger: it is in another unit.
_FAR = 100.0


def read_cloud(path: Path) -> tuple[Tensor, Tensor]:
    """Times [s], (m,), and points [m], (m, p, 3), NaN where a frame has fewer.

    Raises:
        InputError: unreadable, an array missing or of another shape, times that do not increase, or no point at all.
    """
    name, arrays = display(path), read_npz(path)
    missing = [key for key in ("points", "times") if key not in arrays]
    if missing:
        raise InputError(f"{name}: no array `{missing[0]}` in it, only {', '.join(sorted(arrays)) or 'nothing'}.")
    points, times = arrays["points"], arrays["times"]
    if points.ndim != 3 or points.shape[2] != 3 or points.dtype.kind not in "fui":
        raise InputError(f"{name}: points have shape {points.shape}, expected (frames, points, 3) numbers [m].")
    check_clock(name, times, len(points))
    if not np.isfinite(points).all(axis=2).any():
        raise InputError(f"{name}: there is no point in any frame: all are NaN.")
    return torch.as_tensor(times).double(), torch.as_tensor(points).double()


def check_near(name: str, points: Tensor, x0: Tensor) -> None:
    """Raise `InputError` where points [m], (..., 3), are in another unit than the particles of the body, (n, 3)."""
    cloud = points[torch.isfinite(points).all(-1)]
    low, high = x0.amin(dim=0), x0.amax(dim=0)
    reach = float((high - low).norm()) + float(x0.abs().max())
    farthest = float(cloud.abs().median(dim=0).values.max())
    if farthest > _FAR * reach:
        raise InputError(
            f"{name}: half of the points are beyond {farthest:.3g} m, and the body lies within {reach:.3g} m of the "
            "origin; such numbers are millimetres. Give metres: divide the points by 1000."
        )
