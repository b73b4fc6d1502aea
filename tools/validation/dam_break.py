"""Dam break on a dry bed: a column of 1 x 2 m whose front is compared with two experiments."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from physim.sim.model import Grid, Model, Wall
from physim.sim.state import ParticleState
from tools.validation.bodies import lattice
from tools.validation.liquids import PER_AXIS, compressed, liquid, ratio_at, run
from tools.validation.report import Row, case, relative

WIDTH, HEIGHT, GRAVITY, RHO, WATER = 1.0, 2.0, 9.81, 1000.0, 1e-3  # [m], [m], [m/s^2], [kg/m^3], [Pa s]
# Front [m] at times [s], scaled to a column of 1 x 2 m: Koshizuka and Oka 1996, Nucl. Sci. Eng. 123, 421-434,
# as tabulated by DualSPHysics (examples/main/01_DamBreak, LGPL-2.1).
KOSHIZUKA_OKA = (
    (0.190699774, 1.244), (0.266343115, 1.464), (0.32214447, 1.695), (0.368058691, 1.903), (0.413950339, 2.123),
    (0.446591422, 2.365), (0.495801354, 2.584), (0.521851016, 2.804), (0.56462754, 3.034), (0.594018059, 3.219),
    (0.636591422, 3.462), (0.669255079, 3.704), (0.70214447, 3.9),
)  # fmt: skip
# Front over column width against t sqrt(2 g/width): Martin and Moyce 1952, Phil. Trans. R. Soc. A 244, 312-324,
# figure 3, n^2 = 2, width 1.125 in, as tabulated by PySPH (examples/db_exp_data.py, BSD-3).
MARTIN_MOYCE = ((1.212, 1.443), (1.602, 1.884), (2.283, 2.689), (2.95, 3.728))
DURATION, FRAMES = 0.705, 235


@dataclass(frozen=True)
class Collapse:
    """Times [s], front [m], mean volume ratio [-], and filling of the inner nodes [-] at each record."""

    t: np.ndarray
    front: np.ndarray
    ratio: np.ndarray
    filling: np.ndarray


def filling(x: np.ndarray, dx: float, full: float) -> float:
    """Mean number density of the particles well inside the liquid, over that of the lattice they started from.

    Counted with quadratic spline weights on a grid of spacing `dx` [m] at the nodes that have liquid two nodes away
    on every side; bed and left wall mirror it. `full` particles per square of side `dx` are the reference.
    """
    at = x[:, :2] / dx + 4
    size = tuple(np.ceil(at.max(axis=0)).astype(int) + 4)
    base = np.floor(at - 0.5).astype(int)
    f = at - base
    w = np.stack([0.5 * (1.5 - f) ** 2, 0.75 - (f - 1) ** 2, 0.5 * (f - 0.5) ** 2])
    density = np.zeros(size)
    for i in range(3):
        for j in range(3):
            np.add.at(density, (base[:, 0] + i, base[:, 1] + j), w[i, :, 0] * w[j, :, 1])
    # Walls at x = 0 and y = 0 are node 4: fold what lies beyond them back, and continue the liquid there.
    density[5:7] += density[3:1:-1]
    density[:, 5:7] += density[:, 3:1:-1]
    density[4] *= 2
    density[:, 4] *= 2
    density[3:1:-1] = density[5:7]
    density[:, 3:1:-1] = density[:, 5:7]
    wet = density > 0.5 * full
    nx, ny = size[0] - 8, size[1] - 8
    inner = np.all([wet[4 + i : 4 + i + nx, 4 + j : 4 + j + ny] for i in range(-2, 3) for j in range(-2, 3)], axis=0)
    return float(density[4 : 4 + nx, 4 : 4 + ny][inner].mean()) / full


def collapse(dim: int, cells: int) -> Collapse:
    """A column with `cells` per width that starts under its own weight and loses its gate at t = 0; slip walls."""
    dx, pad, k = WIDTH / cells, 4, PER_AXIS
    x, cell = lattice([0.0] * dim, [WIDTH, HEIGHT, 4 * dx][:dim], dx / k)
    shape = (round(4.6 * cells) + pad, round(1.1 * HEIGHT * cells) + pad, 4 if dim == 3 else 1)
    grid = Grid((-pad * dx, -pad * dx, 0.0), dx, shape, (False, False, dim == 3))
    water = liquid(RHO, math.sqrt(2 * GRAVITY * HEIGHT), WATER)
    J = ratio_at(water, RHO * GRAVITY * (HEIGHT - x[:, 1]))
    vol0 = cell / J
    model = Model(grid, vol0, [water], gravity=(0.0, -GRAVITY, 0.0), walls=[Wall(0, False, 0.0), Wall(1, False, 0.0)])
    full = k**2 * (4 * k if dim == 3 else 1)

    def save(s: ParticleState) -> tuple[float, float, float]:
        at = s.x.numpy()
        return float(at[:, 0].max()), float((vol0 * s.F[:, 0, 0] ** 3).sum() / cell.sum()), filling(at, dx, full)

    path = run(model, compressed(ParticleState.at_rest(x), J), DURATION, FRAMES, save)
    front, ratio, filled = np.array(path.saved).T
    return Collapse(np.array(path.times), front + 0.5 * dx / k, ratio, filled)


def front_rows(dim: int, cells: int, found: Collapse) -> list[Row]:
    """The front at two times, its speed between them, its lag, and the volume."""
    name, rows = "dam_break", []

    def front(t: float) -> float:
        return float(np.interp(t, found.t, found.front))

    marks = [(t, x) for t, x in KOSHIZUKA_OKA if x in (2.365, 3.9)]
    for t, x in marks:
        note = "frictionless bed, no gate"
        title = f"front at {t:.3f} s, {cells} cells per width"
        rows.append(Row(name, dim, title, front(t), x, "m", relative(front(t), x), 0.06, note, "+8 to +9 %"))
    (t0, x0), (t1, x1) = marks
    speed, measured = (front(t1) - front(t0)) / (t1 - t0), (x1 - x0) / (t1 - t0)
    note = "does not depend on when the clock of the experiment started"
    rows.append(
        Row(name, dim, "front speed between them", speed, measured, "m/s", relative(speed, measured), None, note)
    )
    scale = math.sqrt(WIDTH / (2 * GRAVITY))
    series = {"Koshizuka-Oka": KOSHIZUKA_OKA, "Martin-Moyce": [(t * scale, x * WIDTH) for t, x in MARTIN_MOYCE]}
    for who, points in series.items():
        lags = [t - float(np.interp(x, found.front, found.t)) for t, x in points]
        span = f"{points[0][1]:.2f} to {points[-1][1]:.2f} m"
        note = f"at {len(lags)} fronts from {span}: {min(lags):.3f} to {max(lags):.3f} s"
        rows.append(Row(name, dim, f"delay of {who}, mean", float(np.mean(lags)), None, "s", None, None, note))
    for title, series_of in (("volume, from J", found.ratio), ("volume, from the particles' spacing", found.filling)):
        worst = float(series_of[np.abs(series_of - 1).argmax()])
        note = f"worst of {len(series_of)} records"
        rows.append(Row(name, dim, title, worst, 1.0, "-", abs(worst - 1), 0.01, note))
    return rows


@case("dam_break")
def dam_break() -> list[Row]:
    """The front of 1996, the front of 1952, and the volume."""
    return front_rows(2, 20, collapse(2, 20)) + front_rows(3, 12, collapse(3, 12))
