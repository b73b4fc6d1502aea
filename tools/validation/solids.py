"""Solids: free fall, momentum, energy of a spinning disk and of two colliding disks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from physim.laws.material import Material
from physim.sim.model import Grid, Model
from physim.sim.rollout import rollout
from physim.solvers.mpm.solver import SolverMPM
from tools.validation.bodies import ball, energies, lattice, momenta
from tools.validation.report import Row, case


def elastic(E: float, nu: float, rho0: float) -> Material:
    """A neo-Hookean material."""
    return Material(elastic="neo_hookean", rho0=rho0, values={"E": E, "nu": nu})


def open_grid(dim: int, dx: float, lower: Sequence[float], upper: Sequence[float]) -> Grid:
    """A grid that covers a box [m] with two cells to spare."""
    shape = [round((high - low) / dx) + 5 for low, high in zip(lower, upper, strict=True)][:dim] + [1] * (3 - dim)
    origin = [low - 2 * dx for low in lower][:dim] + [0.0] * (3 - dim)
    return Grid((origin[0], origin[1], origin[2]), dx, (shape[0], shape[1], shape[2]))


def fall(dim: int, steps: int = 1000, dt: float = 4e-4) -> tuple[float, float]:
    """Largest relative error of velocity and of displacement of any particle of a block in free fall, float32."""
    g, dx = 9.81, 0.05
    x, vol0 = lattice([0.3] * dim, [0.5] * dim, dx / 2, dtype=torch.float32)
    gravity = (0.0, -g, 0.0)
    model = Model(
        open_grid(dim, dx, [0.2, -0.6, 0.2], [0.6, 0.6, 0.6]), vol0, [elastic(1e4, 0.3, 1e3)], gravity=gravity
    )
    solver = SolverMPM(model, x)
    with torch.no_grad():
        end = rollout(solver, solver.initial_state(), dt=dt, steps=steps).final
    t = steps * dt
    v, y = -g * t, -g * t * (t + dt) / 2
    drop = (end.x[:, 1].double() - x[:, 1].double()).numpy()
    return float(np.abs(end.v[:, 1].double().numpy() / v - 1).max()), float(np.abs(drop / y - 1).max())


@case("free_fall", quick=True)
def free_fall() -> list[Row]:
    """A block falls for 0.4 s in float32; the discrete solution is y = -g t (t + dt)/2."""
    rows = []
    for dim in (2, 3):
        v, y = fall(dim)
        note = "worst particle, float32, 1,000 substeps"
        rows += [Row("free_fall", dim, "velocity error", v, 0.0, "-", v, 1e-5, note, "exact")]
        rows += [Row("free_fall", dim, "displacement error", y, 0.0, "-", y, 1e-5, note, "exact")]
    return rows


def tumble(dim: int, dtype: torch.dtype, steps: int = 1000, blend: float = 0.0) -> tuple[float, float]:
    """Relative drift of linear and of angular momentum of a block that spins, drifts and deforms freely."""
    dx = 0.05
    x, vol0 = lattice([-0.2, -0.1, -0.1][:dim], [0.2, 0.1, 0.1][:dim], dx / 2, dtype=dtype)
    model = Model(open_grid(dim, dx, [-0.6] * 3, [0.9] * 3), vol0, [elastic(2e3, 0.3, 1e3)])
    spin = torch.tensor([0.0, 0.0, 3.0] if dim == 2 else [2.0, -1.0, 3.0], dtype=dtype)
    drift = torch.tensor([0.3, 0.4, 0.0] if dim == 2 else [0.3, 0.4, -0.2], dtype=dtype)
    v = torch.linalg.cross(spin.expand_as(x), x) + drift
    v[:, 0] += 0.5 * torch.sin(8.0 * x[:, 0])  # stretches the block, so that stress does work
    solver = SolverMPM(model, x, v, blend=blend)
    with torch.no_grad():
        path = rollout(solver, solver.initial_state(), dt=5e-4, steps=steps, every=steps // 10, save=lambda s: s)
    found = [momenta(model, s) for s in path.saved]
    drifts = []
    for k in range(2):
        series = np.array([f[k] for f in found])
        drifts.append(float(np.linalg.norm(series - series[0], axis=1).max() / np.linalg.norm(series[0])))
    return drifts[0], drifts[1]


@case("momentum", quick=True)
def momentum() -> list[Row]:
    """A free, spinning, deforming block: linear and angular momentum with the affine part, float32."""
    rows = []
    for dim in (2, 3):
        note = "largest drift in 1,000 substeps, float32"
        for name, drift, plain in zip(
            ("linear", "angular"), tumble(dim, torch.float32), ("4e-14", "3e-14"), strict=True
        ):
            rows.append(Row("momentum", dim, f"{name} drift", drift, 0.0, "-", drift, 1e-5, note, f"{plain} (float64)"))
    return rows


def spinning(dim: int, radius_cells: float, blend: float = 0.0) -> float:
    """Energy kept after half a second (one turn) by a disk or ball of E = 1 MPa."""
    radius = 0.2
    dx = radius / radius_cells
    x, vol0 = ball([0.0] * dim, radius, dx / 2)
    model = Model(open_grid(dim, dx, [-0.25] * 3, [0.25] * 3), vol0, [elastic(1e6, 0.3, 1e3)])
    spin = torch.tensor([0.0, 0.0, 4 * np.pi], dtype=x.dtype)
    solver = SolverMPM(model, x, torch.linalg.cross(spin.expand_as(x), x), blend=blend)
    state = solver.initial_state()
    # A rigid rotation has the affine velocity C = [spin]x; starting with C = 0 would start without part of the spin.
    state = state.replace(C=torch.linalg.cross(spin.expand(3, 3), torch.eye(3, dtype=x.dtype)).mT.repeat(len(x), 1, 1))
    if dim == 2:
        state = state.replace(C=state.C * torch.tensor([1.0, 1.0, 0.0], dtype=x.dtype))
    dt = 0.5 / int(np.ceil(0.5 / (0.9 * solver.stable_dt(state))))
    with torch.no_grad():
        end = rollout(solver, state, dt=dt, steps=round(0.5 / dt)).final
    return sum(energies(model, end)) / sum(energies(model, state))


@case("spinning_disk")
def spinning_disk() -> list[Row]:
    """A disk (ball) of radius 0.2 m, E 1 MPa, turns once in 0.5 s: kinetic plus elastic energy."""
    rows = []
    for dim, cells in ((2, 8), (3, 8)):
        kept = spinning(dim, cells)
        note = f"R/dx {cells}; energy lost beyond 0.1 % or gained is a miss"
        rows.append(Row("spinning_disk", dim, "energy kept", kept, 1.0, "-", abs(1 - kept), 1e-3, note, "0.9997"))
    return rows


def collide(dim: int, radius_cells: float, blend: float, courant: float = 0.3) -> tuple[float, float, float]:
    """Two disks (balls) meet, part and fly on: largest and final energy and momentum drift, relative to the start."""
    radius = 0.2
    dx = radius / radius_cells
    # Unequal offsets from the nodes, so that the result does not hang on a mirror symmetry of the lattice.
    first, second = [0.2, 0.2, 0.2][:dim], [0.8, 0.8, 0.2][:dim]
    (a, vol_a), (b, vol_b) = ball(first, radius, dx / 2), ball(second, radius, dx / 2)
    v = torch.zeros(len(a) + len(b), 3, dtype=a.dtype)
    v[: len(a), :2], v[len(a) :, :2] = 0.1, -0.1
    grid = open_grid(dim, dx, [-0.1, -0.1, -0.1], [1.1, 1.1, 0.5])
    model = Model(grid, torch.cat([vol_a, vol_b]), [elastic(1e3, 0.3, 1e3)])
    solver = SolverMPM(model, torch.cat([a, b]), v, blend=blend)
    state = solver.initial_state()
    span, frames = 3.5, 35
    dt = span / frames / int(np.ceil(span / frames / (courant * dx / np.sqrt(1.35))))
    with torch.no_grad():
        path = rollout(
            solver,
            state,
            dt=dt,
            steps=round(span / dt),
            every=round(span / dt) // frames,
            save=lambda s: energies(model, s),
        )
    total = np.array([sum(e) for e in path.saved])
    scale = float(model.mass.sum()) * 0.1 * np.sqrt(2)
    drift = float(np.linalg.norm(momenta(model, path.final)[0])) / scale
    return total.max() / total[0], total[-1] / total[0], drift


@case("two_disks")
def two_disks() -> list[Row]:
    """Sulsky's two elastic disks (balls): E 1000 Pa, nu 0.3, rho 1000, R 0.2 m, v (0.1, 0.1) m/s, until 3.5 s."""
    rows = []
    for dim in (2, 3):
        for blend in (0.0, BLEND):
            name = f"AFLIP {blend}" if blend else "APIC"
            most, left, _ = collide(dim, 8, blend)
            most_bar, left_bar = (1e-4, 0.1) if blend else (1e-4, None)
            rows += [
                Row("two_disks", dim, f"largest energy, {name}", most, 1.0, "-", max(0.0, most - 1), most_bar),
                Row("two_disks", dim, f"energy left, {name}", left, 1.0, "-", 1 - left, left_bar, "R/dx 8", "0.82"),
            ]
    return rows


BLEND = 0.95
