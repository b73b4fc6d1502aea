"""Multiple shooting: short runs from observed states, for several sets of parameters, all in one launch as worlds.

A run of a thousand substeps says little about a law that is wrong from the first one on; forty runs of 25 substeps from
forty observed states say what is wrong where. Their residuals are nearly linear in the stress, so that differences and
Gauss-Newton steps serve; columns of a Jacobian are worlds too.
"""

from __future__ import annotations

import dataclasses
import gc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from physim.checks import check_shape
from physim.errors import InputError
from physim.sim.state import Control, ParticleState
from physim.sim.trajectory import RolloutFailure
from physim.solvers.mpm.solver import SolverMPM

CROWD = 400_000
"""Most particles in one launch; more worlds than that are run one batch after the other."""
SIZES = 3
"""Most solvers that are kept, each for a number of worlds: a Jacobian, what is left over of it, and trials."""


@dataclass(frozen=True)
class Motion:
    """The state of all particles at equal intervals, as it was observed.

    Attributes:
        states: one after the other, all of one shape.
        dt: substep [s] with which runs go from one to the next.
        every: substeps between two states.
        position_noise: standard deviation of the positions [m].
        velocity_noise: standard deviation of the velocities [m/s], or None where they were not observed (those of the
            states are then only starts).
        strain_noise: standard deviation of the elastic strain F F^T/2 [-], or None where runs are not to be compared in
            it. A return map shows in it at once, and in where particles go only later.
    """

    states: tuple[ParticleState, ...]
    dt: float
    every: int
    position_noise: float
    velocity_noise: float | None = None
    strain_noise: float | None = None

    def __post_init__(self) -> None:
        if len(self.states) < 2:
            raise InputError(f"a motion needs at least two states, got {len(self.states)}.")
        for state in self.states[1:]:
            check_shape("a later state's x", state.x, tuple(self.states[0].x.shape))
        if not self.dt > 0 or self.every < 1:
            raise InputError(f"a motion needs dt above 0 and every at least 1, got {self.dt} s and {self.every}.")
        for name in ("position_noise", "velocity_noise", "strain_noise"):
            noise = getattr(self, name)
            if noise is not None and not noise > 0:
                raise InputError(f"{name} must be above 0, got {noise}: it is the unit of the residuals.")

    @property
    def intervals(self) -> int:
        """Number of intervals between states."""
        return len(self.states) - 1

    def starts(self, length: int, most: int) -> list[int]:
        """States from which runs of `length` intervals begin: at most `most`, evenly over the motion."""
        last = self.intervals - length
        if last < 0:
            raise InputError(f"runs of {length} intervals do not fit into a motion of {self.intervals}.")
        count = min(most, last + 1)
        return sorted({round(i * last / max(1, count - 1)) for i in range(count)})


class Shooting:
    """Residuals of short runs in units of the noise.

    Args:
        solver: of one world, whose model has the material that is learned; its options hold for all runs.
        motion: what was observed, in the solver's order of particles.
        material: the learned material's index in the model.
        through: what columns of theta, (r, k), go through before they are run; the same number of them.
    """

    def __init__(
        self,
        solver: SolverMPM,
        motion: Motion,
        material: int = 0,
        through: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        each = solver.model.vol0.shape[0]
        check_shape("the motion's x", motion.states[0].x, (each, 3))
        self.solver, self.motion = solver, motion
        self.material = solver.model.materials[material]
        held, wanted = motion.states[0].h.shape[1], solver.model.history_size
        if held != wanted:
            raise InputError(
                f"the motion's states hold {held} numbers of history per particle, and the model carries {wanted}: "
                "`physim.fit.learn.flow.with_history` gives them those of a material."
            )
        self.index, self.through = material, through
        self._each = each
        self._solvers: dict[int, SolverMPM] = {}
        self.spent = 0
        """Particle-substeps so far."""

    def residuals(self, thetas: Tensor, starts: Sequence[int], length: int) -> Tensor:
        """Differences between runs and observations, in units of the noise.

        Args:
            thetas: columns of the learned material's parameters, one row per set, (r, k).
            starts: states from which to run.
            length: intervals of each run.

        Returns:
            (r, s m): positions, and velocities and strains where they have a noise, at the end of each run; NaN where
            a run failed.
        """
        thetas = thetas if self.through is None else self.through(thetas)
        rows = max(1, CROWD // (self._each * len(starts)))
        parts = [self._some(thetas[i : i + rows], starts, length) for i in range(0, len(thetas), rows)]
        return torch.cat(parts)

    def _some(self, thetas: Tensor, starts: Sequence[int], length: int) -> Tensor:
        motion, sets = self.motion, len(thetas)
        solver = self.of_worlds(sets * len(starts))
        begin = stacked([motion.states[s] for s in starts], sets)
        control = self.control([motion.states[s].t for s in starts], sets)
        rows = thetas.repeat_interleave(len(starts), dim=0)
        substeps = length * motion.every
        self.check_steady(starts, length)
        self.spent += substeps * begin.x.shape[0]
        wanted = [motion.states[s + length] for s in starts]
        try:
            with torch.no_grad(), self.material.held(rows):
                end = solver.advance(begin, control, motion.dt, substeps)
        except RolloutFailure:  # of all sets of parameters
            noises = {"x": motion.position_noise, "v": motion.velocity_noise, "F": motion.strain_noise}
            compared = [n for n, noise in noises.items() if noise is not None]
            return thetas.new_full((sets, sum(getattr(w, n).numel() for w in wanted for n in compared)), math.nan)
        found = [self._scaled(end.x, [w.x for w in wanted], motion.position_noise, sets)]
        if motion.velocity_noise is not None:
            found.append(self._scaled(end.v, [w.v for w in wanted], motion.velocity_noise, sets))
        if motion.strain_noise is not None:
            found.append(self._scaled(strain_of(end.F), [strain_of(w.F) for w in wanted], motion.strain_noise, sets))
        return torch.cat(found, dim=1)

    @staticmethod
    def _scaled(now: Tensor, wanted: Sequence[Tensor], noise: float, sets: int) -> Tensor:
        target = torch.cat(list(wanted)).double().reshape(1, -1)
        return (now.double().reshape(sets, -1) - target) / noise

    def check_steady(self, starts: Sequence[int], length: int) -> None:
        """Raise `InputError` where a collider changes its velocity within a run of `length` intervals."""
        motion = self.motion
        for s in starts:
            t, change = motion.states[s].t, self.solver.model.next_change(motion.states[s].t)
            if change < t + (length * motion.every - 0.5) * motion.dt:
                raise InputError(
                    f"a collider changes its velocity at {change:g} s, within a run from {t:g} s: runs take constant "
                    "ones. Use shorter runs, states at that time, or a motion that begins after the change."
                )

    def of_worlds(self, worlds: int) -> SolverMPM:
        """The solver of so many worlds, without failures yet; the last few are kept."""
        # Worlds that fail are told by NaN: a set of parameters that cannot be run is a step back, not an end.
        if worlds not in self._solvers:
            if len(self._solvers) >= SIZES:
                self._solvers.clear()
                # Workspaces are large, and lie in cycles of references: nobody else frees them in time.
                gc.collect()
            self._solvers[worlds] = self.solver.of_worlds(worlds, drop_failed=True)
        found = self._solvers[worlds]
        found.failures.clear()
        return found

    def control(self, times: Sequence[float], sets: int) -> Control:
        """Poses of the colliders at some times [s], one world each, `sets` times over."""
        each = [self.solver.model.control_at(t) for t in times]
        fields = {
            f.name: torch.stack([getattr(c, f.name) for c in each]).repeat(sets, *(1,) * getattr(each[0], f.name).ndim)
            for f in dataclasses.fields(Control)
            if isinstance(getattr(each[0], f.name), Tensor)
        }
        return dataclasses.replace(each[0], **fields)


def strain_of(F: Tensor) -> Tensor:
    """F F^T/2, which does not know how the body was turned before it was observed."""
    F = F.double()
    return 0.5 * (F @ F.mT)


def stacked(states: Sequence[ParticleState], sets: int) -> ParticleState:
    """The states as worlds, `sets` times over."""
    fields = {n: torch.cat([getattr(s, n) for s in states]) for n in ("x", "v", "C", "F", "h")}
    return ParticleState(**{n: t.repeat(sets, *(1,) * (t.ndim - 1)) for n, t in fields.items()}, t=states[0].t)
