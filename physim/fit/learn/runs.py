"""Runs of one trajectory that a law is judged by: residuals for several laws at once, and the gradient for one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from physim.errors import InputError
from physim.fit.learn.shooting import CROWD, Shooting, stacked, strain_of
from physim.sim.rollout import rollout
from physim.sim.state import Control, ParticleState
from physim.sim.trajectory import RolloutFailure


class Runs:
    """Runs from some states of a motion over some of its intervals.

    Args:
        shooting: the motion, and the solver of one world.
        starts: states from which to run.
        length: intervals of each run.
        through: compare at the end of every interval on the way, not only at the end.
        observed: the particles whose positions are compared, and nothing else; all states unless given. Such runs are
            compared on the way.
    """

    def __init__(
        self,
        shooting: Shooting,
        starts: Sequence[int],
        length: int,
        *,
        through: bool = False,
        observed: Tensor | None = None,
    ) -> None:
        self.shooting, self.starts, self.length, self.observed = shooting, list(starts), length, observed
        self.through = through or observed is not None
        n = shooting.motion.states[0].x.shape[0]
        if observed is not None and not (len(observed) and 0 <= int(observed.min()) and int(observed.max()) < n):
            raise InputError(f"observed: expected particles from 0 to {n - 1}.")

    @property
    def substeps(self) -> int:
        """Substeps of one run."""
        return self.length * self.shooting.motion.every

    @property
    def size(self) -> int:
        """Particle-substeps of all runs."""
        return self.substeps * len(self.starts) * self.shooting.motion.states[0].x.shape[0]

    def residuals(self, thetas: Tensor) -> Tensor:
        """Differences in units of the noise for rows of theta, (r, m); NaN where a run failed."""
        if not self.through:
            return self.shooting.residuals(thetas, self.starts, self.length)
        each = self.shooting.motion.states[0].x.shape[0] * len(self.starts)
        rows = max(1, CROWD // each)
        return torch.cat([self._on_the_way(thetas[i : i + rows]) for i in range(0, len(thetas), rows)])

    def position_errors(self, theta: Tensor) -> Tensor:
        """Mean squared position error [m^2] after each interval, (length,); NaN once a run fails.

        The mean is over particles and axes of the grid, as NCLaw has it: in 3D a third of the mean squared distance.
        """
        motion, axes = self.shooting.motion, self.shooting.solver.model.grid.dim
        found = self._on_the_way(theta.reshape(1, -1)).reshape(self.length, -1)
        particles = motion.states[0].x.shape[0] if self.observed is None else len(self.observed)
        first = found[:, : 3 * particles * len(self.starts)]  # positions come first
        return 3.0 / axes * first.square().mean(dim=1) * motion.position_noise**2

    def gradient(self, theta: Tensor) -> tuple[float, int, Tensor]:
        """Sum of squared residuals, their number, and the gradient of the sum with respect to theta, (K,).

        Raises:
            SimulationError: a run fails.
            GradientError: the gradient is not finite.
        """
        motion, shooting = self.shooting.motion, self.shooting
        solver = shooting.solver.of_worlds(len(self.starts)) if len(self.starts) > 1 else shooting.solver
        if len(self.starts) > 1:  # a single run is parted where a collider changes
            shooting.check_steady(self.starts, self.length)
        begin = stacked([motion.states[s] for s in self.starts], 1)
        leaf = theta.detach().reshape(1, -1).clone().requires_grad_()
        every = motion.every if self.through else self.substeps
        totals: list[tuple[int, Tensor]] = []

        def save(state: ParticleState) -> tuple[Tensor, ...]:
            return tuple(self._compared(state))

        with torch.enable_grad(), shooting.material.held(leaf):
            found = rollout(
                solver, begin, dt=motion.dt, steps=self.substeps, every=every, save=save, control=self._moved(begin.t)
            )
            step = every // motion.every
            for k, parts in enumerate(found.saved[1:], start=1):
                totals += [self._squares(p, i, k * step) for i, p in enumerate(parts)]
            total = torch.stack([t for _, t in totals]).sum()
            (slope,) = torch.autograd.grad(total, leaf)
        shooting.spent += self.size
        return float(total.detach()), sum(n for n, _ in totals), slope[0]

    def _compared(self, state: ParticleState) -> list[Tensor]:
        """What of a state of all runs is compared."""
        if self.observed is not None:
            return [state.x.reshape(len(self.starts), -1, 3)[:, self.observed]]
        parts = [state.x]
        if self.shooting.motion.velocity_noise is not None:
            parts.append(state.v)
        if self.shooting.motion.strain_noise is not None:
            parts.append(strain_of(state.F))
        return parts

    def _wanted(self, after: int) -> list[Tensor]:
        """What was observed of it after some intervals, in double precision, and the noise."""
        states = [self.shooting.motion.states[s + after] for s in self.starts]
        return [p.double() for p in self._compared(stacked(states, 1))]

    def _noise(self, i: int) -> float:
        motion = self.shooting.motion
        kinds = [motion.position_noise, motion.velocity_noise, motion.strain_noise]
        return [k for k in kinds if k is not None][i]

    def _squares(self, now: Tensor, i: int, after: int) -> tuple[int, Tensor]:
        wanted = self._wanted(after)[i]
        return wanted.numel(), ((now.double() - wanted) / self._noise(i)).square().sum()

    def _on_the_way(self, thetas: Tensor) -> Tensor:
        motion, shooting, sets = self.shooting.motion, self.shooting, len(thetas)
        solver = shooting.of_worlds(sets * len(self.starts))
        state = stacked([motion.states[s] for s in self.starts], sets)
        rows, found = thetas.repeat_interleave(len(self.starts), dim=0), []
        with torch.no_grad(), shooting.material.held(rows):
            for k in range(1, self.length + 1):
                shooting.check_steady([s + k - 1 for s in self.starts], 1)
                control = shooting.control([motion.states[s + k - 1].t for s in self.starts], sets)
                try:
                    state = solver.advance(state, control, motion.dt, motion.every)
                except RolloutFailure:  # of all sets of parameters
                    missing = sum(p.numel() for j in range(k, self.length + 1) for p in self._wanted(j))
                    found.append(thetas.new_full((sets, missing), math.nan))
                    break
                for i, wanted in enumerate(self._wanted(k)):
                    now = self._now(state, sets)[i].double().reshape(sets, -1)
                    found.append((now - wanted.reshape(1, -1)) / self._noise(i))
        shooting.spent += self.size * sets
        return torch.cat(found, dim=1)

    def _now(self, state: ParticleState, sets: int) -> list[Tensor]:
        if self.observed is None:
            return self._compared(state)
        return [state.x.reshape(sets, len(self.starts), -1, 3)[:, :, self.observed]]

    def _moved(self, t0: float) -> Callable[[float], Control] | None:
        """Poses of the colliders of every run; the model's own where there is one run."""
        if len(self.starts) == 1:
            return None
        times = [self.shooting.motion.states[s].t for s in self.starts]
        return lambda t: self.shooting.control([at + (t - t0) for at in times], 1)
