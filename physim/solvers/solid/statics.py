"""Static equilibrium of a solid by dynamic relaxation: it moves with about critical damping until it rests."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from physim.errors import SimulationError
from physim.sim.state import Control, NodalState
from physim.solvers.solid.solver import SolverSolid

SHARE = 0.5
"""Share of the stable substep that is used: damping in jumps feeds waves near the shortest stable period."""
LOOKS = (7, 11, 9, 13)
"""Substeps between looks, in turn; unequal, so that no wave is always met at the same phase."""
QUIET = 6
"""Looks in a row with little kinetic energy that count as rest; one alone may be a turning point."""
LONGEST = 40.0
"""Give up after so many quarter periods of the first swing."""


def equilibrium(solver: SolverSolid, state: NodalState, *, acceleration: Tensor, tolerance: float = 1e-4) -> NodalState:
    """The state in which elastic forces balance gravity plus `acceleration`.

    The body starts at rest and swings freely until it is fastest, near its equilibrium, after a quarter of its
    lowest period. There it is stopped, and from then on its velocities decay at twice that angular frequency.

    Args:
        solver: with an elastic material, and clamps that do not move.
        state: where to begin.
        acceleration: added to the model's gravity [m/s^2], (3,).
        tolerance: rest is when speeds are below this share of the fastest swing.

    Raises:
        SimulationError: the body does not come to rest.
    """
    mass = torch.as_tensor(solver.nodal_mass, dtype=torch.float64)[:, None]
    still = solver.model.control_at(state.t)
    control = Control(still.position, still.rotation, still.velocity, still.spin, acceleration)
    dt = SHARE * solver.stable_dt(state)
    state = state.replace(w=torch.zeros_like(state.w), t=0.0)
    fastest, rate, quiet, quarter = 0.0, 0.0, 0, math.inf
    look = 0
    with torch.no_grad():
        while state.t < LONGEST * quarter:
            count = LOOKS[look % len(LOOKS)]
            look += 1
            state = solver.advance(state, control, dt, count)
            energy = float((mass * state.w.double().cpu() ** 2).sum())
            if rate == 0.0 and energy < fastest:
                quarter = state.t
                rate = math.pi / quarter
                state = state.replace(w=torch.zeros_like(state.w))
                continue
            fastest = max(fastest, energy)
            quiet = quiet + 1 if rate > 0.0 and energy <= tolerance**2 * fastest else 0
            if fastest == 0.0 or quiet >= QUIET:
                return state.replace(w=torch.zeros_like(state.w))
            state = state.replace(w=math.exp(-rate * count * dt) * state.w)
    raise SimulationError(
        f"the body does not come to rest within {LONGEST:g} times {quarter:.3g} s under {acceleration.tolist()} m/s^2 "
        "on top of gravity: is it held by a wall or clamp?"
    )
