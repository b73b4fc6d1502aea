"""Fluids at rest and in a periodic box: hydrostatic column and Taylor-Green vortices."""

from __future__ import annotations

import math

import numpy as np
import torch

from physim.sim.model import Grid, Model, Wall
from physim.sim.state import ParticleState
from tools.validation.bodies import lattice
from tools.validation.liquids import BLEND, PER_AXIS, compressed, liquid, pressure, ratio_at, run
from tools.validation.report import Row, case

GRAVITY = 9.81  # [m/s^2]
HEIGHT, SIDE, RHO = 1.0, 0.5, 1000.0  # of the column: [m], [m], [kg/m^3]
WATER = 1e-3  # shear viscosity [Pa s]


def column(
    dim: int,
    cells: int,
    *,
    balanced: bool = True,
    bulk_viscosity: float = 0.0,
    scatter: float = 0.0,
    volume_filter: float = 0.0,
    duration: float,
    frames: int,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Heights [m] and pressures [Pa] of the particles of a column between slip walls, at each record.

    A balanced column starts compressed by its own weight; the other one starts without pressure and drops. `scatter`
    displaces each particle of the lattice at random by up to that share of half the spacing.
    """
    dx, pad, up = HEIGHT / cells, 4, dim - 1
    size = [SIDE] * dim
    size[up] = HEIGHT
    x, cell = lattice([0.0] * dim, size, dx / PER_AXIS)
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype) - 0.5
    x[:, :dim] += scatter * dx / PER_AXIS * noise[:, :dim]
    shape = [round(s / dx) + 2 * pad + 1 for s in size] + [1] * (3 - dim)
    grid = Grid(tuple([-pad * dx] * dim + [0.0] * (3 - dim)), dx, tuple(shape))
    water = liquid(RHO, math.sqrt(2 * GRAVITY * HEIGHT), WATER, bulk_viscosity)
    weight = RHO * GRAVITY * (HEIGHT - x[:, up])
    J = ratio_at(water, weight if balanced else torch.zeros_like(weight))
    gravity = [0.0, 0.0, 0.0]
    gravity[up] = -GRAVITY
    sides = [Wall(axis, high, SIDE if high else 0.0) for axis in range(dim) if axis != up for high in (False, True)]
    model = Model(grid, cell / J, [water], gravity=gravity, walls=[*sides, Wall(up, False, 0.0)])
    state = compressed(ParticleState.at_rest(x), J)
    path = run(
        model,
        state,
        duration,
        frames,
        lambda s: (s.x[:, up].numpy().copy(), pressure(water, s).numpy()),
        volume_filter=volume_filter,
    )
    return path.saved


def column_rows(dim: int, what: str, records: list[tuple[np.ndarray, np.ndarray]], cells: int) -> list[Row]:
    """The largest deviations in any of the records, over the pressure at the bottom."""
    bottom, dx = RHO * GRAVITY * HEIGHT, HEIGHT / cells
    rows_worst, single_worst, force_worst = 0.0, 0.0, 0.0
    for y, p in records:
        off = p - RHO * GRAVITY * (HEIGHT - y)
        layer = np.clip((y / dx).astype(int), 0, cells - 1)
        means = np.bincount(layer, off) / np.bincount(layer)
        line = np.polyfit(y[y < HEIGHT / 4], p[y < HEIGHT / 4], 1)
        rows_worst = max(rows_worst, float(np.abs(means).max()) / bottom)
        single_worst = max(single_worst, float(np.abs(off).max()) / bottom)
        force = float(line[1]) / bottom
        force_worst = max(force_worst, abs(force - 1))
    area = SIDE ** (dim - 1)
    name, note = "hydrostatic", f"worst of {len(records)} records / bottom pressure"
    return [
        Row(name, dim, f"{what}: rows", rows_worst * bottom, 0.0, "Pa", rows_worst, 0.02, note, "2.6 to 3.6 %"),
        Row(name, dim, f"{what}: particles", single_worst * bottom, 0.0, "Pa", single_worst, 0.05, note, "16 to 19 %"),
        Row(
            name,
            dim,
            f"{what}: bottom force",
            force * bottom * area,
            bottom * area,
            "N",
            force_worst,
            0.01,
            "pressure of the lowest quarter, continued to the wall; worst record",
        ),
    ]


@case("hydrostatic", quick=True)
def hydrostatic() -> list[Row]:
    """Pressure rho g (H - y) in water that rests (3 s are 9 sqrt(H/g)), and in a column that dropped and settled."""
    rows = []
    for dim, cells, duration in ((2, 16, 3.0), (3, 12, 1.0)):
        still = column(dim, cells, duration=duration, frames=30)[1:]
        rows += column_rows(dim, f"{cells} cells, at rest from the start", still, cells)
    # Water keeps sounding for minutes; a bulk viscosity that damps the slowest sound by exp(-15) lets the drop settle.
    settled = column(2, 16, balanced=False, bulk_viscosity=4.0 * RHO, duration=3.0, frames=30)[-5:]
    rows += column_rows(2, "16 cells, dropped and settled", settled, 16)
    for share in (0.0, 0.02):
        scattered = column(2, 16, scatter=0.5, volume_filter=share, duration=1.5, frames=15)[1:]
        rows += column_rows(2, f"16 cells, scattered, volume filter {share:g}", scattered, 16)
    return rows


def vortices(
    cells: int, viscosity: float, *, per_axis: int = PER_AXIS, blend: float = BLEND, duration: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Times [s] and kinetic energies [J] of Taylor-Green vortices of unit speed in a unit periodic square."""
    dx, k = 1.0 / cells, 2 * math.pi
    x, cell = lattice([0.0, 0.0], [1.0, 1.0], dx / per_axis)
    sx, cx, sy, cy = torch.sin(k * x[:, 0]), torch.cos(k * x[:, 0]), torch.sin(k * x[:, 1]), torch.cos(k * x[:, 1])
    fluid = liquid(1.0, 1.0, viscosity)
    J = ratio_at(fluid, 0.25 * (torch.cos(2 * k * x[:, 0]) + torch.cos(2 * k * x[:, 1])))
    v, C = torch.zeros_like(x), x.new_zeros(len(x), 3, 3)
    v[:, 0], v[:, 1] = sx * cy, -cx * sy
    C[:, 0, 0], C[:, 0, 1], C[:, 1, 0], C[:, 1, 1] = k * cx * cy, -k * sx * sy, k * sx * sy, -k * cx * cy
    model = Model(Grid((0.0, 0.0, 0.0), dx, (cells, cells, 1), (True, True, False)), cell / J, [fluid])
    start = compressed(ParticleState.at_rest(x, v=v), J).replace(C=C)
    path = run(model, start, duration, 10, lambda s: 0.5 * float((model.mass * (s.v**2).sum(1)).sum()), blend=blend)
    return np.array(path.times), np.array(path.saved)


def apparent(times: np.ndarray, energy: np.ndarray) -> float:
    """Viscosity [m^2/s] that takes the kinetic energy from its first to its last value, KE = KE0 exp(-16 pi^2 nu t)."""
    return math.log(energy[0] / energy[-1]) / (16 * math.pi**2 * (times[-1] - times[0]))


@case("taylor_green")
def taylor_green() -> list[Row]:
    """Decay of vortices at Re 100 on 64^2 cells, and how little viscosity the scheme can tell from none."""
    name, cells, nu = "taylor_green", 64, 0.01
    rows = []
    for title, per_axis, blend, bar, plain in (
        ("apparent viscosity, 64^2, Re 100", PER_AXIS, BLEND, 0.02, "+3.9 %"),
        ("the same, 4 particles per cell", 2, BLEND, None, ""),
        ("the same, 4 per cell, plain APIC", 2, 0.0, None, "+3.9 %"),
    ):
        found = apparent(*vortices(cells, nu, per_axis=per_axis, blend=blend))
        note = f"from the kinetic energy at t = 1; {100 * (found / nu - 1):+.2f} %"
        rows.append(Row(name, 2, title, found, nu, "m^2/s", abs(found / nu - 1), bar, note, plain))
    thin = 0.001
    own = abs(apparent(*vortices(cells, thin)) - thin)
    rows.append(Row(name, 2, "numerical viscosity, 64^2, Re 1000", own * cells, None, "U dx", None, None, "", "0.046"))
    note = "ten times the numerical one: an error of 10 %"
    rows.append(Row(name, 2, "smallest usable viscosity, 64^2", 10 * own, None, "m^2/s", None, None, note))
    return rows
