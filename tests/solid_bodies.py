"""Bodies for the tests of the total-Lagrangian solid."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from physim.laws.material import Material
from physim.sim.model import Collider, Grid, Model, Wall, WallKind
from physim.sim.state import NodalState
from physim.solvers.solid.solver import SolverSolid

SLIP, NO_SLIP = WallKind.SLIP, WallKind.NO_SLIP
CLAMP = (Wall(0, False, 0.0, NO_SLIP),)


def block(
    cells: tuple[int, int, int],
    dx: float,
    material: Material,
    *,
    dtype: torch.dtype = torch.float64,
    walls: tuple[Wall, ...] = (),
    gravity: tuple[float, float, float] = (0.0, 0.0, 0.0),
    colliders: tuple[Collider, ...] = (),
    v: Tensor | None = None,
    **options: object,
) -> SolverSolid:
    """A box from the origin with faces on knot lines and two points per cell and axis; no cells along z is 2D."""
    dim = 2 if cells[2] == 0 else 3
    axes = [(np.arange(2 * c) + 0.5) * dx / 2 for c in cells[:dim]] + ([np.zeros(1)] if dim == 2 else [])
    X = torch.tensor(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3), dtype=dtype)
    shape = tuple(max(c + 2, 4) for c in cells[:dim]) + ((1,) if dim == 2 else ())
    grid = Grid((-dx / 2, -dx / 2, 0.0 if dim == 2 else -dx / 2), dx, shape)
    vol0 = torch.full((len(X),), (dx / 2) ** dim, dtype=dtype)
    model = Model(grid, vol0, [material], gravity=gravity, walls=walls, colliders=colliders)
    return SolverSolid(model, X, v, **options)  # type: ignore[arg-type]


def neo_hookean(E: float = 100.0, nu: float = 0.0, rho0: float = 1.0, viscosity: float | None = None) -> Material:
    values = {"E": E, "nu": nu} | ({} if viscosity is None else {"viscosity": viscosity})
    return Material("neo_hookean", None if viscosity is None else "kelvin_voigt", rho0=rho0, values=values)


def run(solver: SolverSolid, state: NodalState, duration: float, watch, dt: float | None = None, per: int = 1):
    """Times and `watch(state)` after every `per` substeps."""
    dt = dt or solver.stable_dt(state)
    count = math.ceil(duration / (dt * per))
    dt = duration / (count * per)
    times, seen = [], []
    with torch.no_grad():
        for i in range(count):
            state = solver.advance(state, None, dt, per)
            times.append((i + 1) * per * dt)
            seen.append(watch(state))
    return np.array(times), np.array([float(s) for s in seen]), state
