"""Cellular flows of a body at the start."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from physim.scene.spec_space import StreamPart


def stream_velocity(parts: Sequence[StreamPart], low: Sequence[float], high: Sequence[float], x: Tensor) -> Tensor:
    """Velocities [m/s], (n, 2), at positions [m], (n, 2 or 3), in a box with corners `low` and `high` [m].

    psi = A sin(m pi (x - low) / width) sin(n pi (y - low) / height); u = (dpsi/dy, -dpsi/dx), without divergence, along
    the sides of the box.
    """
    width, height = high[0] - low[0], high[1] - low[1]
    u = torch.zeros(len(x), 2, dtype=torch.float64)
    for part in parts:
        a, b = (math.pi * n / size for n, size in zip(part.waves, (width, height), strict=True))
        along, up = a * (x[:, 0] - low[0]), b * (x[:, 1] - low[1])
        cells = torch.stack([along.sin() * up.cos(), -a / b * along.cos() * up.sin()], dim=1)
        u = u + part.speed * cells
    return u
