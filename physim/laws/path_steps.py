"""A path of a test cut into steps: at its own rows, thinned where they are fine and divided where they are coarse."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

STRAIN = 0.1
"""Hencky strain of one step on the coarsest level."""
PARTS = 2
"""Least number of steps between two turning points, on the coarsest level."""


@dataclass(frozen=True)
class Steps:
    """A path of m rows cut into steps.

    Attributes:
        stretch: at the ends of the steps, the first one the undeformed body, (k + 1,).
        time: there [s], (k + 1,).
        before: of each row, the last end that is not after it, (m,).
    """

    stretch: Tensor
    time: Tensor
    before: Tensor


def cut(stretch: Tensor, time: Tensor, rest: float, level: int) -> Steps:
    """Steps of a path: ends lie on rows, on every turning point, and between rows that are far apart.

    Args:
        stretch: of the rows, linear in time between them, (m,).
        time: of the rows [s], not falling, (m,).
        rest: stretch of the undeformed body at time 0, from where the path starts.
        level: each has half the steps of the next one.
    """
    s, t = [rest, *stretch.tolist()], [0.0, *time.tolist()]
    every = torch.cat([stretch.new_tensor([rest]), stretch])
    strain = torch.log(every) if rest else every
    moving = every.diff().sign()
    piece = torch.cat([moving[:1] != moving[:1], moving[1:] != moving[:-1]]).cumsum(0)
    way = strain.diff().abs()
    empty = torch.zeros(int(piece[-1]) + 1, dtype=way.dtype)
    whole, rows = (empty.index_add(0, piece, w) for w in (way, torch.ones_like(way)))
    # Of what a piece between two turning points covers, of its rows where it holds still.
    share = torch.where(moving == 0, 1.0 / rows[piece], way / torch.where(whole > 0, whole, 1.0)[piece])
    need = (share * (whole / STRAIN).clamp(min=PARTS)[piece] * 2.0**level).tolist()
    turns = [*(piece.diff() > 0).tolist(), False]
    ends, before, gathered = [(rest, 0.0)], [], 0.0
    for i, wanted in enumerate(need):
        gathered += wanted
        parts = max(1, math.ceil(wanted - 1e-9))
        # Sums of shares of a piece come back to whole numbers but for roundoff.
        if gathered > 1.0 - 1e-9 or turns[i] or t[i + 1] == t[i]:
            for part in range(1, parts + 1):
                share = part / parts
                ends.append((s[i] + share * (s[i + 1] - s[i]), t[i] + share * (t[i + 1] - t[i])))
            gathered = 0.0
        before.append(len(ends) - 1)
    stretch_at, time_at = (torch.tensor(v, dtype=torch.float64) for v in zip(*ends, strict=True))
    return Steps(stretch_at, time_at, torch.tensor(before))
