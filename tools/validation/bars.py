"""Bars: longitudinal frequencies with free and mirrored ends, and the speed of an elastic wave."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from physim.sim.model import Grid, Model, Wall
from physim.sim.rollout import rollout
from physim.solvers.mpm.solver import SolverMPM
from tools.validation.bodies import damped_frequency, lattice
from tools.validation.report import Row, case, relative
from tools.validation.solids import elastic

LENGTH, E, RHO = 1.0, 1e4, 1e3  # of every bar: [m], [Pa], [kg/m^3]
SPEED = np.sqrt(E / RHO)
PLAIN = {
    "free_free_bar": {25: "-0.17 %", 50: "-0.04 %", 100: "-0.01 %"},
    "fixed_free_bar": {25: "-0.73 %", 50: "-0.36 %", 100: "-0.18 %"},
}


def bar(dim: int, cells: int, fixed: bool, dtype: torch.dtype = torch.float64) -> tuple[Model, Tensor]:
    """A bar along x with free sides, two cells thick; its left end is free, or held by a mirrored wall at x = 0."""
    dx = LENGTH / cells
    x, vol0 = lattice([0.0] * dim, [LENGTH, 2 * dx, 2 * dx][:dim], dx / 2, dtype=dtype)
    pad = 3
    grid = Grid(
        (-pad * dx, -pad * dx, 0.0 if dim == 2 else -pad * dx),
        dx,
        (cells + 2 * pad + 1, 3 + 2 * pad, 1 if dim == 2 else 3 + 2 * pad),
    )
    walls = (Wall(0, False, 0.0),) if fixed else ()
    return Model(grid, vol0, [elastic(E, 0.0, RHO)], walls=walls), x


def bar_frequency(dim: int, cells: int, fixed: bool, blend: float = 0.0, periods: float = 3.0) -> tuple[float, float]:
    """Frequency of the first longitudinal mode over the closed form, minus one, and loss of amplitude per period."""
    model, x = bar(dim, cells, fixed)
    k = np.pi / LENGTH * (0.5 if fixed else 1.0)
    mode = torch.sin(k * x[:, 0]) if fixed else torch.cos(k * x[:, 0])
    v = torch.zeros_like(x)
    v[:, 0] = 1e-4 * SPEED * mode
    solver = SolverMPM(model, x, v, blend=blend)
    state = solver.initial_state()
    # The affine velocity of the mode: without it the first substep would lose energy.
    C = torch.zeros_like(state.C)
    C[:, 0, 0] = 1e-4 * SPEED * k * (torch.cos(k * x[:, 0]) if fixed else -torch.sin(k * x[:, 0]))
    exact = SPEED * k / (2 * np.pi)
    frames = round(40 * periods)
    per_frame = periods / exact / frames
    every = int(np.ceil(per_frame / (0.2 * LENGTH / cells / SPEED)))
    dt = per_frame / every
    with torch.no_grad():
        path = rollout(
            solver,
            state.replace(C=C),
            dt=dt,
            steps=every * frames,
            every=every,
            save=lambda s: float((s.v[:, 0] * mode).sum()),
        )
    f, decay = damped_frequency(np.array(path.times), np.array(path.saved), exact)
    return f / exact - 1, 1 - np.exp(-decay / f)


def bar_rows(name: str, fixed: bool) -> list[Row]:
    """The rows of one kind of bar, 2D at three resolutions and 3D at the coarsest."""
    rows = []
    exact = SPEED / (4 if fixed else 2) / LENGTH
    for dim, cells in ((2, 25), (2, 50), (2, 100), (3, 25)):
        error, loss = bar_frequency(dim, cells, fixed)
        rows.append(
            Row(
                name,
                dim,
                f"frequency, {cells} cells",
                exact * (1 + error),
                exact,
                "Hz",
                abs(error),
                3e-3 if cells == 25 else None,
                f"{100 * error:+.3f} %; amplitude lost per period {100 * loss:.2f} %",
                PLAIN[name][cells],
            )
        )
    return rows


@case("free_free_bar", quick=True)
def free_free_bar() -> list[Row]:
    """First longitudinal frequency of a free bar, f = c/(2L), c = sqrt(E/rho), nu = 0."""
    return bar_rows("free_free_bar", fixed=False)


@case("fixed_free_bar", quick=True)
def fixed_free_bar() -> list[Row]:
    """First longitudinal frequency of a bar held at a mirrored wall, f = c/(4L)."""
    return bar_rows("fixed_free_bar", fixed=True)


def wave_speed(dim: int, cells: int = 100, blend: float = 0.0) -> tuple[float, float]:
    """Measured and exact speed [m/s] of a plane wave released by a step in velocity, after half of the cells."""
    nu, dx, side = 0.3, LENGTH / cells, 4
    x, vol0 = lattice([0.0] * dim, [LENGTH, side * dx, side * dx][:dim], dx / 2)
    grid = Grid(
        (-3 * dx, 0.0, 0.0),
        dx,
        (cells + 7, side, side if dim == 3 else 1),
        (False, True, dim == 3),
    )
    model = Model(grid, vol0, [elastic(E, nu, RHO)])
    exact = float(np.sqrt(E * (1 - nu) / ((1 + nu) * (1 - 2 * nu)) / RHO))
    release, gauge, amplitude = 0.3 * LENGTH, 0.8 * LENGTH, 1e-4 * exact
    v = torch.zeros_like(x)
    v[x[:, 0] < release, 0] = amplitude
    near = (x[:, 0] - gauge).abs() < 0.3 * dx
    steps = int(np.ceil(0.65 * LENGTH / exact / (0.2 * dx / exact)))
    dt = 0.65 * LENGTH / exact / steps
    solver = SolverMPM(model, x, v, blend=blend)
    with torch.no_grad():
        path = rollout(solver, solver.initial_state(), dt=dt, steps=steps, save=lambda s: float(s.v[near, 0].mean()))
    series, times = np.array(path.saved), np.array(path.times)
    half = amplitude / 4  # a step of height V splits into two waves of height V/2
    i = int(np.argmax(series >= half))
    arrival = times[i - 1] + dt * (half - series[i - 1]) / (series[i] - series[i - 1])
    return (gauge - release) / float(arrival), exact


@case("wave_speed", quick=True)
def elastic_wave() -> list[Row]:
    """Half-height arrival of a plane wave after 50 cells, against sqrt((lam + 2 mu)/rho)."""
    rows = []
    for dim in (2, 3):
        speed, exact = wave_speed(dim)
        note = "half-height arrival 50 cells from the release"
        rows.append(Row("wave_speed", dim, "speed", speed, exact, "m/s", relative(speed, exact), 0.02, note, "not run"))
    return rows
