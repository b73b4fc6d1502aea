"""A flow that is followed from one time to another, what that takes, and what it keeps."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from physim.sim.state import FieldState
from physim.solvers.insr.fields import Field
from physim.solvers.insr.flow import Flow
from physim.solvers.insr.points import Points, quadrature
from physim.solvers.insr.solver import ROWS, Settings, SolverInsr
from tools.insr.flows import BOX, Psi, velocity


@dataclass
class Clock:
    """A rollout that goes on to one time after another, and what it takes."""

    solver: SolverInsr
    state: FieldState
    fitted: float
    spent: float = 0.0
    steps: int = 0

    def until(self, step: int, dt: float) -> FieldState:
        """The state after so many steps in all."""
        began = time.process_time()
        with torch.no_grad():
            for _ in range(step - self.steps):
                self.state = self.solver.step(self.state, None, dt)
        self.spent, self.steps = self.spent + time.process_time() - began, step
        return self.state

    @property
    def cpu(self) -> float:
        """Processor seconds per step."""
        return self.spent / max(self.steps, 1)


def denser(count: int, cut: float) -> Points:
    """At least `count` points that integrate: half of them on each axis below `cut`, half above."""
    half = math.ceil(0.5 * math.sqrt(count))
    at, share = np.polynomial.legendre.leggauss(half)
    parts = [(lo + 0.5 * (at + 1.0) * (hi - lo), 0.25 * share * (hi - lo)) for lo, hi in ((-1.0, cut), (cut, 1.0))]
    axis, weight = (torch.from_numpy(np.concatenate(column)) for column in zip(*parts, strict=True))
    x = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).reshape(-1, 2)
    return Points(x, (weight[:, None] * weight).reshape(-1))


def begin(field: Field, psi: Psi, nu: float = 0.0, settings: Settings | None = None, cut: float | None = None) -> Clock:
    """Fit the start of a flow; `field` is its stream function, `cut` bounds a corner with denser points."""
    points = None if cut is None else denser(math.ceil(ROWS * field.size / 2), cut)
    solver = SolverInsr(Flow(nu), field, BOX, points=points, settings=settings)
    began = time.process_time()
    state = solver.initial_state(velocity(psi))
    return Clock(solver, state, time.process_time() - began)


def energy(solver: SolverInsr, state: FieldState) -> float:
    """Kinetic energy over the box, of density one."""
    points = quadrature(BOX, 64 * 64)
    return 0.5 * 4.0 * float((points.weight[:, None] * solver.carried(state, points.x).square()).sum())


def divergence(solver: SolverInsr, state: FieldState, x: Tensor) -> float:
    """Largest |du/dx + dv/dy| of the velocity, by differentiating what is sampled rather than the stream function."""
    given = x.clone().requires_grad_()
    found = solver.carried(state, given)
    (du,) = torch.autograd.grad(found[:, 0].sum(), given, retain_graph=True)
    (dv,) = torch.autograd.grad(found[:, 1].sum(), given)
    return float((du[:, 0] + dv[:, 1]).abs().max())
