"""What goes wrong where the solver does not look after it: each known trap, sprung on purpose beside what avoids it."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace

import torch
from torch import Tensor

from physim.errors import PhysimError
from physim.laws import Material
from physim.solvers.insr.body import Body
from physim.solvers.insr.conditions import Linear, Walled
from physim.solvers.insr.fields import Box, Siren
from physim.solvers.insr.flow import Flow
from physim.solvers.insr.maps import Weights, rows
from physim.solvers.insr.points import quadrature, scattered
from physim.solvers.insr.project import Match, Projection, project
from physim.solvers.insr.solver import ROWS, Settings, SolverInsr
from physim.solvers.insr.tangent import carried
from physim.solvers.insr.transport import Transport
from tools.insr.flows import BOX, two_modes, velocity, walled
from tools.insr.tables import show

LINE = Box((-2.0,), (2.0,))


def options(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def run(args: argparse.Namespace) -> int:
    """Print them all."""
    for trap in (few_rows, random_points, fine_waves, no_damping, single_precision):
        trap()
    return 0


def _pulse(x: Tensor, t: float = 0.0) -> Tensor:
    return torch.exp(-0.5 * ((x - 0.25 * t + 1.5) / 0.1) ** 2)


def few_rows() -> None:
    """A field that is fitted at few points is right there, and wild between."""
    found: list[tuple[str, ...]] = []
    x = torch.linspace(-2, 2, 4000, dtype=torch.float64)[:, None]
    for share in (0.5, 0.8, 1.0, 2.0, ROWS):
        solver = SolverInsr(
            Transport([0.25]), Siren(LINE, 14, 2, 15.0), LINE, settings=Settings(points=share, resolved=9.0)
        )
        # The same points all along, as a method that draws them once has them.
        fixed = scattered(LINE, solver.count, torch.Generator().manual_seed(1))
        solver = SolverInsr(
            Transport([0.25]),
            Siren(LINE, 14, 2, 15.0),
            LINE,
            points=fixed,
            settings=Settings(points=share, resolved=9.0),
        )
        with torch.no_grad():
            state = solver.initial_state(_pulse)
            try:
                for _ in range(60):
                    state = solver.step(state, None, 0.05)
                error = f"{float((solver.carried(state, x) - _pulse(x, state.t)).square().mean().sqrt()):.1e}"
            except PhysimError as failure:
                error = f"after {round(state.t / 0.05)} steps: {str(failure).split(': ', 1)[1][:60]}"
        found.append((f"{share:g}", f"{state.missed:.1e}", error))
    show(
        "Fewer values than weights: the pulse after 60 steps, Siren 14 x 2 (253 weights)",
        ("values per weight", "missed at the points", "error elsewhere"),
        found,
    )


def random_points() -> None:
    """Random points do not integrate: the gradient of the pressure is taken for motion."""
    found: list[tuple[str, ...]] = []
    field = walled(Siren(BOX, 28, 2, 5.0))
    x = scattered(BOX, 1000, torch.Generator().manual_seed(7)).x
    good = quadrature(BOX, math.ceil(ROWS * field.size / 2))
    with torch.no_grad():
        first = SolverInsr(Flow(), field, BOX, points=good).initial_state(velocity(two_modes))
        right = SolverInsr(Flow(), field, BOX, points=good).step(first, None, 0.05)
        size = carried(field, Flow(), Weights(right.weights), x).square().mean().sqrt()
        loose = scattered(BOX, len(good.x), torch.Generator().manual_seed(3))
        for name, points in (("Gauss-Legendre", good), ("random in cells", loose)):
            solver = SolverInsr(Flow(), field, BOX, points=points)
            try:
                state = solver.step(first, None, 0.05)
                moved = solver.carried(state, x) - solver.carried(right, x)
                energies = [
                    float((good.weight[:, None] * solver.carried(s, good.x).square()).sum()) for s in (first, state)
                ]
                found.append(
                    (name, f"{float(moved.square().mean().sqrt() / size):.1e}", f"{energies[1] / energies[0] - 1:.1e}")
                )
            except PhysimError as failure:
                found.append((name, str(failure)[:70], "-"))
    show(
        "Points that do not integrate: two modes, one step of 0.05, Siren 28 x 2",
        ("points", "relative error after a step", "kinetic energy changes by"),
        found,
    )


def fine_waves() -> None:
    """Waves finer than the points let an energy be small at them and large between."""
    found: list[tuple[str, ...]] = []
    square, material = Box((-1.0, -1.0), (1.0, 1.0)), Material("neo_hookean", rho0=1.0, values={"mu": 1.0, "lam": 20.0})
    for frequency in (3.0, 30.0):
        field = Walled(Linear(Siren(square, 16, 2, frequency, 2)), square, ((1, 1), (0, 0)), lambda x: x[0:2] * 0.0)
        problem = Body(material, square, gravity=(0.0, -2.0))
        solver = SolverInsr(problem, field, square)
        try:
            with torch.no_grad():
                state = solver.settle(solver.initial_state())
                energies = []
                for count in (solver.count, 4 * solver.count):
                    finer = SolverInsr(problem, field, square, points=quadrature(square, count)).stepper.potential
                    shape = finer.shape(state.weights)
                    energies.append(f"{float(finer.energy(shape, shape.q[..., 0], 0.0, math.inf)):.5g}")
            found.append((f"{frequency:g}", *energies))
        except PhysimError as failure:
            found.append((f"{frequency:g}", str(failure)[:90], "-"))
    show(
        "Waves finer than the points: a square stretched by half, Linear(Siren 16 x 2)",
        ("frequency", "energy at the points", "at four times as many"),
        found,
    )


def no_damping() -> None:
    """Gauss-Newton without damping leaves for where its linear picture is wrong."""
    found: list[tuple[str, ...]] = []
    field = Siren(LINE, 20, 3, 30.0)
    points = scattered(LINE, 3 * field.size, torch.Generator().manual_seed(0))
    match = Match(lambda w: carried(field, Transport([0.25]), w, points.x), _pulse(points.x), points.weight)
    start = field.start(torch.Generator().manual_seed(0))
    weights = start
    for _ in range(10):
        _, slopes = rows(weights, match.function)
        step = torch.linalg.lstsq(slopes[0], -match.missed(weights)).solution[:, 0]
        weights = weights + step
    found.append(("none, 10 steps", f"{math.sqrt(match.loss(match.missed(weights))):.1e}"))
    how = Projection(linearisations=40, damping=1e-3)
    found.append(("adaptive, from 1e-3", f"{project(match, start, how).rms:.1e}"))
    found.append(("the same, no repeats of a matrix", f"{project(match, start, replace(how, repeats=0)).rms:.1e}"))
    show(
        "No damping: the pulse fitted from the first weights, Siren 20 x 3, 40 linearisations",
        ("damping", "root mean square left"),
        found,
    )


def single_precision() -> None:
    """Normal equations square the condition number, which single precision has no room for."""
    field = Siren(LINE, 14, 2, 15.0)
    points = scattered(LINE, 3 * field.size, torch.Generator().manual_seed(9))
    match = Match(lambda w: carried(field, Transport([0.25]), w, points.x), _pulse(points.x), points.weight)
    start = project(match, field.start(torch.Generator().manual_seed(0)), Projection(linearisations=25, damping=1e-3))
    found: list[tuple[str, ...]] = [("where both begin", f"{start.rms:.1e}")]
    for name, kind in (("double", torch.float64), ("single", torch.float32)):
        weights = start.weights
        for _ in range(40):
            values, slopes = rows(weights, match.function)
            a, r = slopes[0].to(kind), (values - match.target).to(kind)
            matrix, eye = a.T @ a, torch.eye(field.size, dtype=kind)
            tried = [weights]
            # Of several dampings the best is taken, so that none decides.
            for damping in (1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2):
                factor, info = torch.linalg.cholesky_ex(matrix + damping * matrix.diagonal().mean() * eye)
                if not int(info):
                    tried.append(weights - torch.cholesky_solve(a.T @ r, factor)[:, 0].double())
            weights = min(tried, key=lambda w: match.loss(match.missed(w)))
        found.append((f"{name}, 40 steps", f"{math.sqrt(match.loss(match.missed(weights))):.1e}"))
    title = (
        "Single precision: the pulse fitted by normal equations, Siren 14 x 2, the best of six dampings in each step"
    )
    show(title, ("precision", "root mean square left"), found)
