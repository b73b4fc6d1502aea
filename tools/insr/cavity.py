"""The lid-driven cavity at Reynolds number 100, to its steady state by implicit steps, beside published values."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from physim.errors import PhysimError
from physim.sim.state import FieldState
from physim.solvers.insr.conditions import Linear, Walled
from physim.solvers.insr.fields import Box, Siren
from physim.solvers.insr.flow import Flow
from physim.solvers.insr.jets import Jet, constant
from physim.solvers.insr.schemes import Scheme
from physim.solvers.insr.solver import Settings, SolverInsr
from tools.insr.tables import judged, show

BOX = Box((0.0, 0.0), (1.0, 1.0))
VISCOSITY = 0.01
"""Kinematic [m^2/s]; the lid is 1 m long and moves at 1 m/s."""
STEPS = (1.0, 4.0, 10.0, 20.0, 40.0)
"""Of backward Euler [s]."""
REQUIRED = 0.02
"""Largest difference from the published values, in share of the lid's speed."""

# Ghia, Ghia and Shin 1982, J. Comput. Phys. 48, 387-411, Tables I and II, Re = 100, a grid of 129 x 129.
GHIA_Y = (
    *(1.0, 0.9766, 0.9688, 0.9609, 0.9531, 0.8516, 0.7344, 0.6172, 0.5, 0.4531),
    *(0.2813, 0.1719, 0.1016, 0.0703, 0.0625, 0.0547, 0.0),
)
GHIA_U = (
    *(1.0, 0.84123, 0.78871, 0.73722, 0.68717, 0.23151, 0.00332, -0.13641, -0.20581, -0.21090),
    *(-0.15662, -0.10150, -0.06434, -0.04775, -0.04192, -0.03717, 0.0),
)
GHIA_X = (
    *(1.0, 0.9688, 0.9609, 0.9531, 0.9453, 0.9063, 0.8594, 0.8047, 0.5, 0.2344),
    *(0.2266, 0.1563, 0.0938, 0.0781, 0.0703, 0.0625, 0.0),
)
GHIA_V = (
    *(0.0, -0.05906, -0.07391, -0.08864, -0.10313, -0.16914, -0.22445, -0.24533, 0.05454, 0.17527),
    *(0.17507, 0.16077, 0.12317, 0.10890, 0.10091, 0.09233, 0.0),
)
# Extrema of u along x = 0.5 and of v along y = 0.5: Ghia's are the largest of the table; Botella and Peyret 1998,
# Comput. Fluids 27, 421-433, take the corners' singularities out of a spectral method.
PUBLISHED = {
    "Ghia et al. 1982": (-0.21090, 0.17527, -0.24533),
    "Botella and Peyret 1998": (-0.21404, 0.17957, -0.25380),
}


@dataclass(frozen=True)
class Case:
    """One setting.

    Attributes:
        width: neurons of a layer.
        frequency: of the field.
        smooth: length over which the lid's speed rises from the corners.
    """

    width: int
    frequency: float
    smooth: float

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.width} x 2, frequency {self.frequency:g}, corners {self.smooth:g}"


CASES = tuple(Case(w, 4.0, s) for w, s in ((24, 0.1), (24, 0.05), (24, 0.03), (32, 0.1), (32, 0.05), (32, 0.03)))


@dataclass(frozen=True)
class Outcome:
    """What a case leads to.

    Attributes:
        size, points: of weights, and of points compared.
        u, v: at Ghia's points.
        extrema: least u, largest v, least v.
        changed: of the extrema in the last step, at most.
        cpu: processor seconds, of all steps.
    """

    size: int
    points: int
    u: Tensor
    v: Tensor
    extrema: tuple[float, float, float]
    changed: float
    cpu: float

    @property
    def differences(self) -> Tensor:
        """From Ghia's values, those at the walls left out, which conditions give."""
        return torch.cat([self.u - torch.tensor(GHIA_U), self.v - torch.tensor(GHIA_V)])[_inner()]


def options(parser: argparse.ArgumentParser) -> None:
    """Options of this table."""
    parser.add_argument("--steps", nargs="+", type=float, default=list(STEPS), help="lengths of the steps [s]")
    parser.add_argument("--case", nargs=3, type=float, metavar=("WIDTH", "FREQUENCY", "SMOOTH"), help="only this one")


def lid(smooth: float, x: Jet) -> Jet:
    """A stream function whose velocity is zero at the walls and s(x) at the lid: y^2 (y - 1) s(x)."""
    across, up = x[0], x[1]
    one = constant(across, torch.ones_like(across.value))
    left = one + (across * (-1.0 / smooth)).exp() * -1.0
    right = one + ((one + across * -1.0) * (-1.0 / smooth)).exp() * -1.0
    return up * up * (up + one * -1.0) * left * left * right * right


def cavity(case: Case) -> SolverInsr:
    """The solver: no slip at four walls, of which the upper one moves."""
    inner = Linear(Siren(BOX, case.width, 2, case.frequency))
    field = Walled(inner, BOX, ((2, 2), (2, 2)), lambda x: lid(case.smooth, x))
    # At the lid's corners the vorticity's own derivatives are resolved by none of these fields.
    settings = Settings(defect=1.0)
    return SolverInsr(Flow(VISCOSITY), field, BOX, scheme=Scheme.BACKWARD_EULER, settings=settings)


def along(solver: SolverInsr, state: FieldState, places: Tensor, axis: int) -> Tensor:
    """The velocity across a middle line, at places on it: u along y for axis 1, v along x for axis 0."""
    half = torch.full_like(places, 0.5)
    x = torch.stack([half, places] if axis else [places, half], dim=1)
    return solver.carried(state, x)[:, 1 - axis]


def extrema(solver: SolverInsr, state: FieldState) -> tuple[float, float, float]:
    """The least u, the largest v and the least v of the middle lines."""
    fine = torch.linspace(0.0, 1.0, 1001, dtype=torch.float64)
    u, v = along(solver, state, fine, 1), along(solver, state, fine, 0)
    return float(u.min()), float(v.max()), float(v.min())


def steady(case: Case, steps: list[float]) -> Outcome:
    """From rest to what the last step leaves.

    Raises:
        RolloutFailure: a step is not solved.
    """
    solver = cavity(case)
    rest = torch.zeros(solver.field.size, dtype=torch.float64)
    state, before, began = FieldState(rest, rest), (0.0, 0.0, 0.0), time.process_time()
    with torch.no_grad():
        for k, dt in enumerate(steps):
            if k == len(steps) - 1:
                before = extrema(solver, state)
            state = solver.step(state, None, dt)
        cpu = time.process_time() - began
        found = extrema(solver, state)
        u = along(solver, state, torch.tensor(GHIA_Y, dtype=torch.float64), 1)
        v = along(solver, state, torch.tensor(GHIA_X, dtype=torch.float64), 0)
    changed = max(abs(a - b) for a, b in zip(found, before, strict=True))
    return Outcome(solver.field.size, len(solver.points(0.0).x), u, v, found, changed, cpu)


def _inner() -> Tensor:
    places = torch.tensor([*GHIA_Y, *GHIA_X])
    return (places > 0) & (places < 1)


def _differences(found: Outcome, published: tuple[float, float, float]) -> float:
    return max(abs(a - b) for a, b in zip(found.extrema, published, strict=True))


def _profiles(case: Case, found: Outcome) -> None:
    rows = []
    for y, u, here, x, v, there in zip(GHIA_Y, GHIA_U, found.u, GHIA_X, GHIA_V, found.v, strict=True):
        told = (f"{y:.4f}", f"{u:.5f}", f"{here:.5f}", f"{here - u:+.5f}")
        rows.append([*told, f"{x:.4f}", f"{v:.5f}", f"{there:.5f}", f"{there - v:+.5f}"])
    head = ["y", "u, Ghia", "u", "difference", "x", "v, Ghia", "v", "difference"]
    show(f"Cavity, Re = 100, {case.name}: u along x = 0.5 and v along y = 0.5", head, rows)


def run(args: argparse.Namespace) -> int:
    """All cases beside the published values, and the profiles of the nearest to Ghia's."""
    cases = CASES if args.case is None else (Case(int(args.case[0]), *args.case[1:]),)
    rows, best = [], None
    for case in cases:
        try:
            found = steady(case, args.steps)
        except PhysimError as error:
            rows.append([case.name, str(error), *[""] * 10])
            continue
        off = found.differences
        if best is None or off.abs().max() < best[1].differences.abs().max():
            best = case, found
        cells = [f"{e:.5f}" for e in found.extrema] + [f"{found.changed:.1e}"]
        others = [f"{_differences(found, of):.4f}" for of in PUBLISHED.values()]
        both = [f"{float(off.abs().max()):.4f}", f"{float(off.square().mean().sqrt()):.4f}"]
        rows.append([case.name, str(found.size), str(found.points), *both, *cells, *others, f"{found.cpu:.1f}"])
    for name, of in PUBLISHED.items():
        rows.append([name, "", "", "", "", *(f"{e:.5f}" for e in of), "", "", "", ""])
    head = ["field", "weights", "points", "largest", "RMS", "least u", "largest v", "least v", "last step changes"]
    head += [f"extrema off {name.split()[0]}" for name in PUBLISHED] + ["CPU s"]
    steps = ", ".join(f"{dt:g}" for dt in args.steps)
    title = "Cavity, Re = 100, differences from Ghia et al. in shares of the lid's speed"
    show(f"{title}; backward Euler steps of {steps} s", head, rows)
    if best is None:
        return 1
    case, found = best
    _profiles(case, found)
    print(f"{case.name}, {found.cpu:.1f} CPU s:")
    print(judged("largest difference from Ghia et al.", float(found.differences.abs().max()), REQUIRED))
    print(judged("RMS difference from Ghia et al.", float(found.differences.square().mean().sqrt()), REQUIRED))
    for name, of in PUBLISHED.items():
        print(judged(f"extrema off {name}", _differences(found, of), REQUIRED))
    return 0
