"""Sand in plane strain: runout of a collapsing column, and the tilt at which a bed starts to move."""

from __future__ import annotations

import math

import numpy as np
import torch

from physim.laws.material import Material
from physim.sim.model import Grid, Model, Wall, WallKind
from physim.sim.rollout import rollout
from physim.solvers.mpm.solver import SolverMPM
from tools.validation.bodies import lattice
from tools.validation.report import Row, case, relative

RHO, G, PHI = 1500.0, 9.81, 30.0  # [kg/m^3], [m/s^2], [deg]
WIDTH = 0.1  # of the column [m]
# A deposit ends where it is thinner than this share of the column's width: a few grains of the experiments.
THIN = 0.05
# Runout laws of Lagree et al. 2011 (doi:10.1017/jfm.2011.335), eq. 3.1, runout/L0 = l1 a below a0, l2 a^(2/3) above:
# (l1, l2, a0) of Lube et al. 2005 and of Lajeunesse et al. 2005.
LAWS = {"Lube": (1.2, 1.9, 2.3), "Lajeunesse": (1.8, 2.3, 3.0)}
PLAIN = {0.5: "0.43", 1.0: "1.29", 2.0: "3.50", 3.0: "4.65", 5.0: "7.06"}


def sand(E: float, phi: float = PHI, psi: float = 0.0, law: str = "drucker_prager_2d") -> Material:
    """Dry sand: Hencky elasticity with a Drucker-Prager return map; angles of friction and dilation in degrees."""
    angles = {"friction_angle": math.radians(phi), "dilation_angle": math.radians(psi)}
    return Material("hencky", inelastic=law, rho0=RHO, values={"E": E, "nu": 0.3} | angles)


def front(x: np.ndarray, vol0: np.ndarray, dx: float) -> float:
    """Front of a deposit [m]: the end of the connected layer, from x = 0, that is at least `THIN` thick.

    Thickness is solid volume per area in strips one cell wide; the front is interpolated between strips.
    """
    thickness = np.bincount((x / dx).astype(int), weights=vol0, minlength=int(x.max() / dx) + 2) / dx
    below = int(np.argmax(thickness < THIN * WIDTH))
    last, after = thickness[below - 1], thickness[below]
    return dx * (below - 0.5 + (last - THIN * WIDTH) / (last - after))


def runout(aspect: float, cells: int) -> float:
    """(L - L0)/L0 of a column of height `aspect` L0 that collapses along a rough floor, L0 over `cells` cells.

    The left side is a smooth (mirrored) wall; the floor holds the grains on it (mirrored no-slip). E is 60 times the
    pressure rho g H at the foot. The run ends after 5 sqrt(H/g), when nothing moves any more.
    """
    H, dx, pad = aspect * WIDTH, WIDTH / cells, 3
    x, vol0 = lattice([0.0, 0.0], [WIDTH, H], dx / 2, dtype=torch.float32)
    reach = 1.0 + (3.2 * aspect if aspect <= 3 else 4.6 * aspect ** (2 / 3))
    shape = (math.ceil(reach * cells) + 2 * pad, math.ceil(H / dx) + 2 * pad, 1)
    walls = (Wall(0, False, 0.0), Wall(1, False, 0.0, WallKind.NO_SLIP))
    grid = Grid((-pad * dx, -pad * dx, 0.0), dx, shape)
    model = Model(grid, vol0, [sand(60.0 * RHO * G * H)], gravity=(0.0, -G, 0.0), walls=walls)
    solver = SolverMPM(model, x)
    state = solver.initial_state()
    total = 5.0 * math.sqrt(H / G)
    steps = math.ceil(total / (0.8 * solver.stable_dt(state)))
    with torch.no_grad():
        end = rollout(solver, state, dt=total / steps, steps=steps, every=steps).final
    return front(end.x[:, 0].double().numpy(), vol0.double().numpy(), dx) / WIDTH - 1


def law_runout(aspect: float, law: tuple[float, float, float]) -> float:
    """Runout/L0 of a published law."""
    l1, l2, a0 = law
    return l1 * aspect if aspect < a0 else l2 * aspect ** (2 / 3)


def runout_rows(aspect: float, cells: int, coarse: int | None = None) -> list[Row]:
    """Runout beside the band 1.2 a to 1.8 a, or beside both published laws; and its change with resolution."""
    value = runout(aspect, cells)
    rows, what = [], f"runout/L0, a = {aspect:g}"
    note = f"L0/dx {cells}; deposit at least L0/20 thick"
    if aspect < 3:
        low, high = 1.2 * aspect, 1.8 * aspect
        off = max(0.0, low - value, value - high) / aspect
        bar = 0.0 if aspect >= 1 else None
        note = f"distance from {low:g}..{high:g} over a; {note}"
        rows.append(Row("granular_column", 2, what, value, 1.5 * aspect, "-", off, bar, note, PLAIN[aspect]))
    else:
        for name, law in LAWS.items():
            exact = law_runout(aspect, law)
            rows.append(
                Row(
                    "granular_column", 2, f"{what}, {name}", value, exact, "-", relative(value, exact), 0.2, note,
                    PLAIN[aspect],
                )
            )  # fmt: skip
    if coarse is not None:
        change = relative(runout(aspect, coarse), value)
        rows.append(
            Row("granular_column", 2, f"resolution change, a = {aspect:g}", change, 0.0, "-", change, 0.05,
                f"L0/dx {coarse} and {cells}")
        )  # fmt: skip
    return rows


@case("granular_column_low")
def column_low() -> list[Row]:
    """Columns of aspect ratio 0.5 and 1."""
    return runout_rows(0.5, 40) + runout_rows(1.0, 48, coarse=24)


@case("granular_column_2")
def column_two() -> list[Row]:
    """A column of aspect ratio 2."""
    return runout_rows(2.0, 32, coarse=24)


@case("granular_column_3")
def column_three() -> list[Row]:
    """A column of aspect ratio 3."""
    return runout_rows(3.0, 20)


@case("granular_column_5")
def column_five() -> list[Row]:
    """A column of aspect ratio 5."""
    return runout_rows(5.0, 12)


def creep(
    tilt: float, phi: float, dim: int = 2, law: str = "drucker_prager_2d", psi: float = 0.0, span: float = 0.7
) -> float:
    """Acceleration [m/s^2] of the top of an endless sand bed at `tilt` [deg] over the second half of `span` [s].

    The bed is periodic downhill, 12 cells deep (8 in 3D), on a rough (mirrored no-slip) floor; gravity is tilted. The
    slope of the speed is a least-squares one, which averages over the bed's elastic vibration.
    """
    dx, side, deep, parts = 0.01, 4, 12 if dim == 2 else 8, 40
    x, vol0 = lattice([0.0] * dim, [side * dx, deep * dx, side * dx][:dim], dx / 2)
    # Sand that dilates rises.
    room = 12 if psi > 0.0 else 4
    grid = Grid((0.0, -3 * dx, 0.0), dx, (side, deep + 3 + room, side if dim == 3 else 1), (True, False, dim == 3))
    gravity = (G * math.sin(math.radians(tilt)), -G * math.cos(math.radians(tilt)), 0.0)
    walls = (Wall(1, False, 0.0, WallKind.NO_SLIP),)
    model = Model(grid, vol0, [sand(1e5, phi, psi, law)], gravity=gravity, walls=walls)
    solver = SolverMPM(model, x)
    state = solver.initial_state()
    steps = parts * math.ceil(span / parts / (0.8 * solver.stable_dt(state)))
    top = x[:, 1] > (deep - 1) * dx
    with torch.no_grad():
        path = rollout(
            solver, state, dt=span / steps, steps=steps, every=steps // parts, save=lambda s: float(s.v[top, 0].mean())
        )
    late = slice(parts // 2, None)
    return float(np.polyfit(np.array(path.times)[late], np.array(path.saved)[late], 1)[0])


def moving_angle(
    phi: float, low: float, high: float, dim: int = 2, law: str = "drucker_prager_2d", psi: float = 0.0
) -> float:
    """Tilt [deg] at which the bed starts to move, by bisection to 0.2 deg: it speeds up by more than 0.01 m/s^2."""
    while high - low > 0.2:
        middle = 0.5 * (low + high)
        if creep(middle, phi, dim, law, psi) > 0.01:
            high = middle
        else:
            low = middle
    return 0.5 * (low + high)


def plane_strain_cone(phi: float) -> float:
    """Angle [deg] of the cone through the compression corners that, dilating by it, holds `phi` [deg] in plane strain.

    Its slope is a = sqrt(2) tan phi/sqrt(9 + 12 tan^2 phi) (Drucker and Prager 1952), and sqrt(2/3) 2 s/(3 - s) for
    its sine s.
    """
    tangent = math.tan(math.radians(phi))
    share = math.sqrt(3) / 2 * tangent / math.sqrt(9 + 12 * tangent**2)
    return math.degrees(math.asin(3 * share / (1 + share)))


def start_row(dim: int, quantity: str, value: float, exact: float, note: str, plain: str = "") -> Row:
    """A tilt beside its reference [deg], with a bar of 1 degree."""
    note = f"error in units of 1 deg per 100 %; {note}"
    return Row("tilted_bed", dim, quantity, value, exact, "deg", abs(value - exact), 1.0, note, plain)


@case("tilted_bed")
def tilted_bed() -> list[Row]:
    """Tilt at which an endless bed of sand starts to move, against its angle of friction.

    Sand that dilates by its angle of friction moves at that angle. Sand that neither dilates nor contracts shears with
    equal normal stresses, so that the shear stress it carries parallel to the slope is p sin phi (Davis 1968): it must
    move at atan(sin phi), below phi. The cone of three dimensions is stronger in plane strain than its angle says.
    """
    sine = math.sin(math.radians(PHI))
    rows = []
    value = moving_angle(PHI, 24.0, 36.0, psi=PHI)
    rows.append(start_row(2, "tilt at start, psi = phi", value, PHI, "dilates by its angle of friction", "not run"))
    value = moving_angle(PHI, 22.0, 34.0)
    exact = math.degrees(math.atan(sine))
    note = "sand without dilation, as in the columns: its closed form is atan(sin phi), not phi"
    rows.append(start_row(2, "tilt at start, psi = 0, closed form atan(sin phi)", value, exact, note))
    cone = plane_strain_cone(PHI)
    value = moving_angle(cone, 27.0, 33.0, 3, "drucker_prager", cone)
    note = f"cone of {cone:.2f} deg, which is Mohr-Coulomb's {PHI:g} deg in plane strain"
    rows.append(start_row(3, "tilt at start, psi = phi, cone of plane strain", value, PHI, note, "not run"))
    value = moving_angle(PHI, 31.0, 37.0, 3, "drucker_prager")
    exact = math.degrees(math.atan(6 * sine / (math.sqrt(3) * (3 - sine))))
    note = "cone through the compression corners: atan(6 sin phi/(sqrt(3) (3 - sin phi))), above phi"
    rows.append(start_row(3, "tilt at start, psi = 0, closed form of the cone", value, exact, note))
    return rows
