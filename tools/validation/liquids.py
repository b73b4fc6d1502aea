"""What the fluid cases share: one setting for all of them, pressure, and runs that stop at given times.

A lattice of three particles per cell and axis, a share of 0.9 of the particles' own velocity
kept (AFLIP), a sound speed of ten times the flow's, the substep that `stable_dt` names, and mirrored walls. No case
departs from it; the volume filter is off unless a row names it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from physim.laws.material import Material
from physim.sim.model import Model
from physim.sim.rollout import rollout, substep_size
from physim.sim.state import ParticleState
from physim.sim.trajectory import Trajectory
from physim.solvers.mpm.solver import SolverMPM

PER_AXIS = 3  # particles per cell along each axis: with 2, a column that spreads threefold is 2 % too dense
BLEND = 0.9
MACH = 0.1


def liquid(rho0: float, speed: float, viscosity: float, bulk_viscosity: float = 0.0) -> Material:
    """A weakly compressible Newtonian fluid whose sound speed is `speed`/MACH.

    Args:
        rho0: density [kg/m^3].
        speed: largest expected flow speed [m/s].
        viscosity: shear viscosity [Pa s].
        bulk_viscosity: [Pa s]; damps sound and nothing else.
    """
    values = {"bulk_modulus": rho0 * (speed / MACH) ** 2, "viscosity": viscosity, "bulk_viscosity": bulk_viscosity}
    return Material("fluid_quadratic", "newtonian", "fluid", rho0=rho0, values=values)


def ratio_at(material: Material, pressure: Tensor) -> Tensor:
    """Volume ratio J at a pressure [Pa], p = K (1 - J); a particle that fills a cell of volume V has vol0 = V/J."""
    return 1 - pressure / float(material.values()["bulk_modulus"])


def compressed(state: ParticleState, J: Tensor) -> ParticleState:
    """The state with volume ratios J, (n,)."""
    eye = torch.eye(3, dtype=J.dtype)
    return state.replace(F=J.pow(1 / 3)[:, None, None] * eye)


def pressure(material: Material, state: ParticleState) -> Tensor:
    """Pressure [Pa] of each particle without its viscous part, -tr(tau)/(3 J), (n,)."""
    F = state.F.detach().double()
    tau = material.kirchhoff(F).detach()
    return -tau.diagonal(dim1=1, dim2=2).sum(1) / (3 * torch.linalg.det(F))


def run(
    model: Model,
    state: ParticleState,
    duration: float,
    frames: int,
    save: Callable[[ParticleState], Any],
    *,
    divide: int = 1,
    blend: float = BLEND,
    volume_filter: float = 0.0,
) -> Trajectory:
    """Advance for `duration` [s] with `frames` equally spaced records, at the stable substep over `divide`."""
    solver = SolverMPM(model, state.x, state.v, blend=blend, volume_filter=volume_filter)
    dt, every = substep_size(duration / frames, solver.stable_dt(state) / divide)
    with torch.no_grad():
        return rollout(solver, state, dt=dt, steps=every * frames, every=every, save=save)
