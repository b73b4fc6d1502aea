"""Levenberg-Marquardt on all weights, with every column of the Jacobian and every damping a row of one launch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from physim.errors import FitError
from physim.fit.learn.coordinates import Parameters
from physim.fit.learn.shooting import Shooting

STEP = 3e-3
"""Step of the differences in raw units."""
DAMPINGS = (1e-3, 1e-1, 1.0, 10.0, 1e3)
"""Multiples of the last damping that are tried at once."""
FLAT = 1e-3
"""Relative decrease of the misfit below which a stage is over."""


@dataclass(frozen=True)
class Round:
    """One round of a stage.

    Attributes:
        length: intervals of each run.
        misfit: root mean square of the residuals after it, in units of the noise.
        damping: of the step taken.
        moved: whether a step was taken.
    """

    length: int
    misfit: float
    damping: float
    moved: bool


def refine(
    shooting: Shooting, *, length: int, most: int = 40, rounds: int = 10, told: Callable[[Round], None] | None = None
) -> list[Round]:
    """Lower the misfit of runs of `length` intervals over all parameters of the material that are free.

    Args:
        shooting: the runs; its material is changed in place.
        length: intervals of each run.
        most: number of runs.
        rounds: most rounds.
        told: is told each round.

    Raises:
        FitError: nothing is free, or the runs fail from the start.
    """
    free = Parameters(shooting.material)
    starts = shooting.motion.starts(length, most)
    z, damping, done = free.read(), 1e-2, []
    size = len(z)
    for _ in range(rounds):
        moved = torch.cat([z[None], z[None] + STEP * torch.eye(size, dtype=z.dtype)])
        values = shooting.residuals(free.theta(moved), starts, length)
        here = values[0]
        misfit = float(here.square().mean())
        if not math.isfinite(misfit):
            raise FitError(f"runs of {length} intervals fail at the present parameters; begin with shorter ones.")
        # A parameter whose small step fails has no column this time.
        slopes = torch.where(torch.isfinite(values[1:]), values[1:] - here, 0.0) / STEP
        del values
        normal, pull = slopes @ slopes.T, slopes @ here
        spread = normal.diagonal().clamp(min=1e-9 * float(normal.diagonal().max()))
        tried = [damping * m for m in DAMPINGS]
        trials = torch.stack([z - torch.linalg.solve(normal + d * torch.diag(spread), pull) for d in tried])
        found = shooting.residuals(free.theta(trials), starts, length).square().mean(dim=1)
        found = torch.where(torch.isfinite(found), found, math.inf)
        best = int(found.argmin())
        better = float(found[best]) < misfit
        damping = max(tried[best], 1e-12) if better else min(1e3 * damping, 1e9)
        if better:
            z = trials[best]
        now = float(found[best]) if better else misfit
        done.append(Round(length, math.sqrt(now), damping, better))
        if told:
            told(done[-1])
        if (better and misfit - now < FLAT * misfit) or (not better and damping >= 1e6):
            break
    free.write(z)
    return done
