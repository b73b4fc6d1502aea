"""Several trajectories as one: what is asked of one `Shooting` is asked of all, and shared among the ranks."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from physim.errors import InputError
from physim.fit.learn.shooting import Shooting
from physim.parallel import ALONE, Ranks

STRIDE = 1_000_000
"""A start of trajectory j is counted from j times this."""


class Together(Shooting):
    """Residuals of runs from the states of several motions, one after the other.

    Args:
        shootings: one per trajectory; columns of theta hold for the learned material of each.
        ranks: who shares the trajectories; all get the same residuals.
    """

    def __init__(self, shootings: Sequence[Shooting], ranks: Ranks = ALONE) -> None:
        if not shootings:
            raise InputError("no trajectory to learn from.")
        self.shootings, self.ranks = tuple(shootings), ranks
        self.solver, self.material = shootings[0].solver, shootings[0].material
        first: Any = shootings[0].motion
        told = {n: getattr(first, n) for n in ("dt", "every", "position_noise", "velocity_noise")}
        self.motion: Any = SimpleNamespace(starts=self.starts, states=first.states, intervals=self.intervals, **told)

    @property
    def intervals(self) -> int:
        """Intervals of the longest motion."""
        return max(s.motion.intervals for s in self.shootings)

    @property
    def spent(self) -> int:  # type: ignore[override]
        """Particle-substeps so far, of this rank."""
        return sum(s.spent for s in self.shootings)

    def starts(self, length: int, most: int) -> list[int]:
        """States from which runs of `length` intervals begin, `most` in all, shared by how long each motion is."""
        fits = [s.motion.intervals - length + 1 for s in self.shootings]
        if max(fits) < 1:
            raise InputError(f"runs of {length} intervals do not fit into motions of at most {self.intervals}.")
        room = sum(n for n in fits if n > 0)
        found = []
        for j, (shooting, n) in enumerate(zip(self.shootings, fits, strict=True)):
            if n > 0:
                own = shooting.motion.starts(length, max(1, round(most * n / room)))
                found += [STRIDE * j + s for s in own]
        return found

    def residuals(self, thetas: Tensor, starts: Sequence[int], length: int) -> Tensor:
        """See `Shooting.residuals`; trajectory by trajectory."""
        by: dict[int, list[int]] = {}
        for s in starts:
            by.setdefault(s // STRIDE, []).append(s % STRIDE)

        def run(j: int) -> Tensor:
            return self.shootings[j].residuals(thetas, by[j], length)

        return torch.cat(self.ranks.map(run, sorted(by)), dim=1)


def each(shooting: Shooting) -> tuple[Shooting, ...]:
    """The trajectories of a shooting, one after the other."""
    return shooting.shootings if isinstance(shooting, Together) else (shooting,)
