"""Gradients: central differences in float64 on six scenes, and derivatives with a closed form."""

from __future__ import annotations

import math

import torch

from physim.fit.differences import compare
from physim.laws.material import Material
from physim.sim.model import Grid, Model, Wall, WallKind
from physim.sim.rollout import rollout, substep_size
from physim.sim.state import ParticleState
from physim.solvers.mpm.solver import SolverMPM
from tools.validation.bars import LENGTH, SPEED, E, bar
from tools.validation.bodies import lattice
from tools.validation.gradient_scenes import SCENES
from tools.validation.liquids import BLEND, compressed, liquid, ratio_at
from tools.validation.report import Row, case, relative

SMOOTH = 1e-6  # agreement asked for where the path is smooth


def scene_rows(name: str, dims: tuple[int, ...] = (2, 3)) -> list[Row]:
    """One row per tensor: the gradient's slope beside the central difference; kinks are named, with both quotients."""
    rows = []
    for dim in dims:
        loss, leaves = SCENES[name].setup(dim)
        for d in compare(loss, leaves):
            note = f"kink: quotients {d.coarse:.6g} and {d.fine:.6g}" if d.kink else ""
            bar_ = None if d.kink else SMOOTH
            rows.append(Row(f"gradient_{name}", dim, f"d/d {d.name}", d.gradient, d.fine, "-", d.error, bar_, note))
    return rows


for _name in SCENES:
    case(f"gradient_{_name}")(lambda name=_name: scene_rows(name))


def free_fall_rows(dim: int, steps: int = 100, dt: float = 1e-3) -> list[Row]:
    """dx/dv0 = t and dx/dg = t (t + dt)/2 along gravity."""
    x, vol0 = lattice([0.3] * dim, [0.5] * dim, 0.025)
    model = Model(Grid((0.0, 0.0, 0.0), 0.05, (20, 20, 1 if dim == 2 else 20)), vol0, [
        Material("neo_hookean", rho0=1e3, values={"E": 1e4, "nu": 0.3})
    ])  # fmt: skip
    g = torch.tensor([0.0, -9.81, 0.0], dtype=torch.float64, requires_grad=True)
    model.gravity = g
    v = torch.zeros_like(x, requires_grad=True)
    solver = SolverMPM(model, x)
    end = rollout(solver, solver.initial_state().replace(v=v), dt=dt, steps=steps, every=steps).final
    by_v, by_g = torch.autograd.grad(end.x[:, 1].mean(), [v, g])
    t = steps * dt
    found = [("dx/dv0", float(by_v[:, 1].sum()), t, "s"), ("dx/dg", float(by_g[1]), t * (t + dt) / 2, "s^2")]
    return [
        Row("gradient_closed_forms", dim, f"{what}, free fall", value, exact, unit, relative(value, exact), SMOOTH)
        for what, value, exact, unit in found
    ]


def bar_row(dim: int, cells: int = 25) -> Row:
    """df/dE = f/(2E), from the phase after one period: there dq/dE = v0 t/(2E), q the modal displacement."""
    model, x = bar(dim, cells, fixed=False)
    material = model.materials[0]
    material.free("E")  # type: ignore[operator]
    k, amplitude = math.pi / LENGTH, 1e-4 * SPEED
    mode = torch.cos(k * x[:, 0])
    v = torch.zeros_like(x)
    v[:, 0] = amplitude * mode
    solver = SolverMPM(model, x, v)
    C = x.new_zeros(len(x), 3, 3)
    C[:, 0, 0] = -amplitude * k * torch.sin(k * x[:, 0])
    span = 2 * LENGTH / SPEED
    dt, steps = substep_size(span, 0.2 * LENGTH / cells / SPEED)
    end = rollout(solver, solver.initial_state().replace(C=C), dt=dt, steps=steps, every=steps).final
    q = ((end.x - x)[:, 0] * mode).sum() / (mode**2).sum()
    raw = material.raw["E"]  # type: ignore[index]
    slope = float(torch.autograd.grad(q, raw)[0]) / E  # raw is log E
    f = 1 / span
    value, exact = slope * f / (amplitude * span), f / (2 * E)
    note = f"{cells} cells, from the phase after one period; holds the frequency error and the damping of the scheme"
    return Row(
        "gradient_closed_forms", dim, "df/dE, free bar", value, exact, "Hz/Pa", relative(value, exact), 0.01, note
    )


def poiseuille_row(cells: int = 8) -> Row:
    """du/dnu = -u/nu in the steady flow, for the mean velocity."""
    width, nu = 1.0, 1.0
    dx, pad = width / cells, 4
    x, vol0 = lattice([0.0, 0.0], [4 * dx, width], dx / 2)
    fluid = liquid(1.0, 1.0, nu)
    fluid.free("viscosity")
    grid = Grid((0.0, -pad * dx, 0.0), dx, (4, cells + 2 * pad + 1, 1), (True, False, False))
    walls = [Wall(1, False, 0.0, WallKind.NO_SLIP), Wall(1, True, width, WallKind.NO_SLIP)]
    model = Model(grid, vol0, [fluid], gravity=(8.0, 0.0, 0.0), walls=walls)
    solver = SolverMPM(model, x, blend=BLEND)
    state = solver.initial_state()
    dt, steps = substep_size(1.0, solver.stable_dt(state))
    end = rollout(solver, state, dt=dt, steps=steps, every=steps).final
    u = end.v[:, 0].mean()
    slope = float(torch.autograd.grad(u, fluid.raw["viscosity"])[0]) / nu
    exact = -float(u.detach()) / nu
    note = f"{cells} cells, mean velocity at t = L^2/nu"
    return Row(
        "gradient_closed_forms", 2, "du/dnu, Poiseuille", slope, exact, "1/m", relative(slope, exact), 0.01, note
    )


def vortices_row(cells: int = 32, nu: float = 0.02, duration: float = 0.1) -> Row:
    """d(KE)/dnu = -16 pi^2 t KE in Taylor-Green vortices."""
    dx, k = 1.0 / cells, 2 * math.pi
    x, cell = lattice([0.0, 0.0], [1.0, 1.0], dx / 2)
    sx, cx, sy, cy = torch.sin(k * x[:, 0]), torch.cos(k * x[:, 0]), torch.sin(k * x[:, 1]), torch.cos(k * x[:, 1])
    fluid = liquid(1.0, 1.0, nu)
    fluid.free("viscosity")
    with torch.no_grad():
        J = ratio_at(fluid, 0.25 * (torch.cos(2 * k * x[:, 0]) + torch.cos(2 * k * x[:, 1])))
    v, C = torch.zeros_like(x), x.new_zeros(len(x), 3, 3)
    v[:, 0], v[:, 1] = sx * cy, -cx * sy
    C[:, 0, 0], C[:, 0, 1], C[:, 1, 0], C[:, 1, 1] = k * cx * cy, -k * sx * sy, k * sx * sy, -k * cx * cy
    model = Model(Grid((0.0, 0.0, 0.0), dx, (cells, cells, 1), (True, True, False)), cell / J, [fluid])
    start = compressed(ParticleState.at_rest(x, v=v), J).replace(C=C)
    solver = SolverMPM(model, x, v, blend=BLEND)
    dt, steps = substep_size(duration, solver.stable_dt(start))
    end = rollout(solver, start, dt=dt, steps=steps, every=steps).final
    energy = 0.5 * (model.mass * (end.v**2).sum(1)).sum()
    slope = float(torch.autograd.grad(energy, fluid.raw["viscosity"])[0]) / nu
    exact = -16 * math.pi**2 * duration * float(energy.detach())
    note = f"{cells}^2 cells, t = {duration} s"
    return Row(
        "gradient_closed_forms", 2, "dKE/dnu, Taylor-Green", slope, exact, "J s/m^2", relative(slope, exact), 0.02, note
    )


@case("gradient_closed_forms")
def closed_forms() -> list[Row]:
    """Free fall, bar, Poiseuille, Taylor-Green."""
    return [*free_fall_rows(2), *free_fall_rows(3), bar_row(2), bar_row(3), poiseuille_row(), vortices_row()]
