"""Plane channel flows: Poiseuille and Couette, their start-up series, and viscosity independent of the substep."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from physim.sim.model import Grid, Model, Wall, WallKind
from physim.sim.state import ParticleState
from tools.validation.bodies import lattice
from tools.validation.liquids import PER_AXIS, liquid, run
from tools.validation.report import Row, case, relative

# Width [m], viscosity [Pa s] at unit density, and largest speed [m/s]: a Reynolds number of 1.
WIDTH, VISCOSITY, SPEED = 1.0, 1.0, 1.0
# Times of Morris et al. 1997 (doi:10.1006/jcph.1997.5776), sections 5.1 and 5.2, in units of WIDTH^2/viscosity, and a
# last one at which the series differs from the steady state by 1e-4.
TICK = 0.0225
TIMES = {1: "0.0225", 2: "0.045", 5: "0.1125", 10: "0.225"}
STEADY = 40

Profile = Callable[[np.ndarray, float], np.ndarray]


def poiseuille(y: np.ndarray, t: float) -> np.ndarray:
    """Velocity [m/s] at height y [m] and time t [s] under a body force that ends at SPEED in the middle."""
    force = 8 * VISCOSITY * SPEED / WIDTH**2
    u = force / (2 * VISCOSITY) * y * (WIDTH - y)
    for k in range(1, 400, 2):
        wave = k * np.pi / WIDTH
        u = u - 4 * force / (VISCOSITY * WIDTH * wave**3) * np.sin(wave * y) * np.exp(-VISCOSITY * wave**2 * t)
    return u


def couette(y: np.ndarray, t: float) -> np.ndarray:
    """Velocity [m/s] below a wall that starts to move with SPEED at t = 0."""
    u = SPEED * y / WIDTH
    for k in range(1, 400):
        wave = k * np.pi / WIDTH
        u = u + 2 * SPEED / (k * np.pi) * (-1) ** k * np.sin(wave * y) * np.exp(-VISCOSITY * wave**2 * t)
    return u


def channel(dim: int, cells: int, *, moving: bool, divide: int = 1) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """Times [s], heights [m] and velocities [m/s] of a periodic channel with no-slip walls, at each TICK."""
    dx, pad = WIDTH / cells, 4
    x, vol0 = lattice([0.0] * dim, [4 * dx, WIDTH, 4 * dx][:dim], dx / PER_AXIS)
    grid = Grid((0.0, -pad * dx, 0.0), dx, (4, cells + 2 * pad + 1, 4 if dim == 3 else 1), (True, False, dim == 3))
    force = 0.0 if moving else 8 * VISCOSITY * SPEED / WIDTH**2
    lid = (SPEED if moving else 0.0, 0.0, 0.0)
    walls = [Wall(1, False, 0.0, WallKind.NO_SLIP), Wall(1, True, WIDTH, WallKind.NO_SLIP, lid)]
    model = Model(grid, vol0, [liquid(1.0, SPEED, VISCOSITY)], gravity=(force, 0.0, 0.0), walls=walls)
    unit = WIDTH**2 / VISCOSITY
    path = run(
        model,
        ParticleState.at_rest(x),
        STEADY * TICK * unit,
        STEADY,
        lambda s: (s.x[:, 1].numpy().copy(), s.v[:, 0].numpy().copy()),
        divide=divide,
    )
    return [(t, *saved) for t, saved in zip(path.times, path.saved, strict=True)]


def rows_of(name: str, profile: Profile, dim: int, cells: int, bar: float, plain: str) -> list[Row]:
    """The steady profile and the start-up series of one channel, by the particle and the time that deviate most."""
    record = channel(dim, cells, moving=profile is couette)
    note = "largest deviation of any particle / largest speed"

    def row(quantity: str, k: int, plain: str) -> Row:
        t, y, u = record[k]
        exact = profile(y, t)
        worst = int(np.abs(u - exact).argmax())
        error = abs(float(u[worst] - exact[worst])) / SPEED
        title = f"{cells} cells, {quantity}, y = {y[worst]:.2f} L"
        return Row(name, dim, title, float(u[worst]), float(exact[worst]), "m/s", error, bar, note, plain)

    steady = row("steady", STEADY, plain)
    return [steady, *(row(f"t = {at} L^2/nu", k, "") for k, at in TIMES.items())]


@case("poiseuille", quick=True)
def poiseuille_channel() -> list[Row]:
    """A body force between fixed walls."""
    rows = rows_of("poiseuille", poiseuille, 2, 16, 0.01, "5.4 % (fixed nodes), 0.1 % (mirrored)")
    return rows + rows_of("poiseuille", poiseuille, 3, 16, 0.01, "")


@case("couette", quick=True)
def couette_channel() -> list[Row]:
    """A wall that starts to move."""
    rows = rows_of("couette", couette, 2, 16, 0.005, "0.65 %")
    rows += rows_of("couette", couette, 2, 32, 0.005, "0.40 %")
    return rows + rows_of("couette", couette, 3, 16, 0.005, "")


@case("viscosity")
def viscosity_and_substep(cells: int = 16) -> list[Row]:
    """Viscosity that the steady Poiseuille profile tells, at the stable substep, a half and a quarter of it."""
    found = {}
    for divide in (1, 2, 4):
        t, y, u = channel(2, cells, moving=False, divide=divide)[STEADY]
        exact = poiseuille(y, t)
        found[divide] = VISCOSITY * float((exact**2).sum() / (exact * u).sum())
    rows = []
    for divide, eta in found.items():
        quantity = "apparent viscosity at dt" + (f"/{divide}" if divide > 1 else "")
        # The bar holds for the change with the substep; the first row carries the distance to the stated value.
        other = VISCOSITY if divide == 1 else found[1]
        note = "against the stated one" if divide == 1 else "against the one at dt"
        rows.append(Row("viscosity", 2, quantity, eta, other, "Pa s", relative(eta, other), 0.01, note))
    return rows
