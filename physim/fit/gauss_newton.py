"""Levenberg-Marquardt: Gauss-Newton steps, damped until they lower the loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from physim.errors import SimulationError
from physim.fit.optimiser import StepReport
from physim.fit.problem import Objective
from physim.observe.robust import huber_curvature

TRIES = 12
"""Damped steps tried per iteration before the point counts as a minimum."""
SMALLEST_GAIN = 1e-4
"""Share of the predicted decrease that a step must bring to be accepted."""
OLDEST = 3
"""Accepted steps after which an updated Jacobian is differenced anew."""
GOOD_GAIN = 0.8
"""Share of the predicted decrease below which the Jacobian was poor."""
ONE_SIDED = 0.1
"""Last move of a raw parameter above which one-sided differences suffice."""
FLAT = 1e-9
"""Relative decrease of the loss below which the search is over."""


class GaussNewton:
    """Minimise half the sum of squared residuals r(z).

    Each iteration solves (J^T J + damping diag(J^T J)) dz = -J^T r and compares the decrease with the predicted one
    (Nielsen 1999, IMM-REP-1999-05). J comes from differences or autograd; between them it is updated along the
    steps taken (Broyden 1965, doi:10.1090/S0025-5718-1965-0198670-6), and no search ends on an updated one. A
    failing simulation is a rejected step: the damping grows and the point stays.

    Args:
        z: where to start, (k,).
        step: half width of the differences in raw units.
        largest: largest move of one raw parameter in one iteration.
        tolerance: stop when no raw parameter moves by more than this.
    """

    def __init__(self, z: Tensor, *, step: float = 0.01, largest: float = 1.0, tolerance: float = 1e-3) -> None:
        self._z = z.detach().clone()
        self._step = step
        self._largest = largest
        self._tolerance = tolerance
        self._damping = 1e-2
        self._growth = 2.0
        self._change = largest
        self._age = 0
        self._r: Tensor | None = None
        self._limits: Tensor | None = None
        self._J: Tensor | None = None
        self.average: Tensor | None = None

    def step(self, objective: Objective) -> StepReport:
        """A Jacobian, and damped steps until one is accepted."""
        if self._r is None:
            (first,) = objective.residuals([self._z])
            if isinstance(first, SimulationError):
                raise first
            self._r, self._limits = first, objective.limits(len(first))
        assert self._limits is not None
        r, loss, note = self._r, 0.5 * float(self._r @ self._r), ""
        if self._J is None:
            try:
                central = self._change <= ONE_SIDED
                self._J, self._age = objective.jacobian(self._z, r, self._step, central=central), 0
            except SimulationError as error:
                return StepReport(loss, self._z.clone(), False, 0.0, _stuck(str(error)), str(error), loss)
        J = self._J
        gradient, normal = J.T @ r, J.T @ (huber_curvature(r, self._limits)[:, None] * J)
        for _ in range(TRIES):
            # A lone recording can leave a thread idle, which tries the more cautious step at the same time.
            tried = (1.0, 10.0) if len(objective.recordings) == 1 else (1.0,)
            points = [self._trial(objective, normal, gradient, t * self._damping) for t in tried]
            for z, value in zip(points, self._values(objective, points), strict=True):
                if isinstance(value, SimulationError):
                    note = str(value)
                    continue
                move = z - self._z
                predicted = -float(gradient @ move) - 0.5 * float(move @ normal @ move)
                actual = loss - 0.5 * float(value @ value)
                if actual > 0.0 and actual >= SMALLEST_GAIN * predicted:
                    return self._accept(objective, (actual, predicted, z, value), loss, note)
            if all(float((z - self._z).abs().max()) <= self._tolerance for z in points):
                break
            self._damping *= tried[-1] * self._growth
            self._growth *= 2.0
        return self._refuse(loss, note)

    @staticmethod
    def _values(objective: Objective, points: Sequence[Tensor]) -> Iterator[Tensor | SimulationError]:
        """Residuals at the points, bold to cautious, asked for one after the other until one is good enough.

        Threads and ranks that one point leaves idle evaluate the next at the same time; which one is taken stays the
        same.
        """
        if objective.places > len(objective.recordings):
            yield from objective.residuals(points)
            return
        for z in points:
            yield objective.residuals([z])[0]

    def _trial(self, objective: Objective, normal: Tensor, gradient: Tensor, damping: float) -> Tensor:
        """The damped step from here, no longer than allowed and inside the bounds.

        A parameter at a bound that the step would cross stays there, and the others are solved without it.
        """
        free = torch.ones(len(gradient), dtype=torch.bool)
        for _ in range(len(gradient)):
            move = torch.zeros_like(gradient)
            move[free] = self._damped(normal[free][:, free], gradient[free], damping)
            pinned = free & (move != 0.0) & (objective.clip(self._z + move) == self._z)
            if not bool(pinned.any()):
                break
            free = free & ~pinned
        move = move * min(1.0, self._largest / max(float(move.abs().max()), 1e-300))
        return objective.clip(self._z + move)

    @staticmethod
    def _damped(normal: Tensor, gradient: Tensor, damping: float) -> Tensor:
        """Solution of the damped normal equations."""
        if not len(gradient):
            return gradient
        diagonal = normal.diagonal()
        # A parameter without any influence has a zero column: the floor keeps the system solvable and its step zero.
        floor = 1e-12 * float(diagonal.max()) + 1e-300
        system = normal + damping * torch.diag(diagonal) + floor * torch.eye(len(gradient), dtype=normal.dtype)
        return torch.linalg.solve(system, -gradient)

    def _accept(
        self, objective: Objective, outcome: tuple[float, float, Tensor, Tensor], loss: float, note: str
    ) -> StepReport:
        actual, predicted, z, r = outcome
        move = z - self._z
        change = float(move.abs().max())
        gain = actual / predicted if predicted > 0 else 0.0
        self._damping = max(self._damping * max(1.0 / 3.0, 1.0 - (2.0 * gain - 1.0) ** 3), 1e-9)
        self._growth = 2.0
        stop = ""
        if self._exact(objective):
            if change <= self._tolerance:
                stop = _stuck(note) if note else "converged: the parameters stand still"
            elif actual <= FLAT * loss:
                stop = "converged: the loss stands still"
        assert self._J is not None and self._r is not None
        still = change <= self._tolerance or actual <= FLAT * loss
        if objective.problem.exact_jacobian or gain < GOOD_GAIN or self._age >= OLDEST or still:
            self._J = None
        else:
            missed = r - self._r - self._J @ move
            self._J = self._J + torch.outer(missed, move) / (move @ move)
            self._age += 1
        self._z, self._r, self._change = z.clone(), r, change
        return StepReport(loss - actual, z.clone(), True, change, stop, note, loss)

    def _refuse(self, loss: float, note: str) -> StepReport:
        """No step helps: the end with a true central Jacobian, a reason for one otherwise."""
        poor = self._age > 0 or self._change > ONE_SIDED
        if poor:
            self._J, self._change, self._damping, self._growth = None, 0.0, 1e-2, 2.0
        return StepReport(loss, self._z.clone(), False, 0.0, "" if poor else _stuck(note), note, loss)

    def _exact(self, objective: Objective) -> bool:
        """Whether the present Jacobian was differenced here, on both sides."""
        return objective.problem.exact_jacobian or (self._age == 0 and self._change <= ONE_SIDED)

    def state(self) -> dict[str, Any]:
        """Point, residuals, Jacobian and damping."""
        return {
            "z": self._z,
            "r": self._r,
            "limits": self._limits,
            "J": self._J,
            "age": self._age,
            "change": self._change,
            "damping": self._damping,
            "growth": self._growth,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""
        self._z, self._r, self._J = state["z"], state["r"], state["J"]
        self._limits = state["limits"]
        self._age, self._change = state["age"], state["change"]
        self._damping, self._growth = state["damping"], state["growth"]


def _stuck(note: str) -> str:
    """Why no step is accepted any more, given the last failed simulation, if any."""
    if note:
        return f"stuck beside parameters where the simulation fails: {note}"
    return "converged: no smaller loss nearby"
