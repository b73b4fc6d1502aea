"""What goes wrong where the solver does not look after it: each known trap, sprung on purpose beside what avoids it."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace

import torch
from torch import Tensor

from physim.errors import PhysimError
from physim.laws import Material
from physim.sim.state import FieldState
from physim.solvers.insr.body import Body
from physim.solvers.insr.conditions import Linear, Walled
from physim.solvers.insr.fields import Box, Field, Siren
from physim.solvers.insr.flow import Flow
from physim.solvers.insr.maps import Weights, rows
from physim.solvers.insr.points import Points, quadrature, scattered
from physim.solvers.insr.project import Match, Projection, project
from physim.solvers.insr.solver import ROWS, START, Settings, SolverInsr
from physim.solvers.insr.tangent import Tangent, carried
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
    """A field that is fitted at few points is right there and wild between; steps that nothing holds back leave it."""
    found: list[tuple[str, ...]] = []
    field, transport = Siren(LINE, 14, 2, 30.0), Transport([0.25])
    x = torch.linspace(-2, 2, 4000, dtype=torch.float64)[:, None]
    for share in (0.25, 0.5, 1.0, 2.0, ROWS):
        # The same points all along, as a method that draws them once has them.
        points = scattered(LINE, round(share * field.size), torch.Generator().manual_seed(1))
        match = Match(lambda w, at=points.x: carried(field, transport, w, at), _pulse(points.x), points.weight)
        start = project(match, field.start(torch.Generator().manual_seed(0)), START)
        elsewhere = f"{_off(field, start.weights, x, 0.0):.1e}"
        solver = SolverInsr(transport, field, LINE, points=points, settings=Settings(points=share))
        state = FieldState(start.weights, start.weights)
        try:
            with torch.no_grad():
                state = solver.advance(state, None, 0.05, 60)
            after = f"{_off(field, state.weights, x, state.t):.1e}"
        except PhysimError:
            after = "refused"
        loose = _off(field, _loose(field, transport, points, start.weights, 60), x, 60 * 0.05)
        found.append((f"{share:g}", f"{start.rms:.1e}", elsewhere, after, f"{loose:.1e}"))
    show(
        "Few values and nothing that holds back: a pulse, Siren 14 x 2 (253 weights), frequency 30",
        ("values per weight", "start missed at the points", "elsewhere", "after 60 steps", "with nothing held back"),
        found,
    )


def _off(field: Field, weights: Tensor, x: Tensor, t: float) -> float:
    found = carried(field, Transport([0.25]), Weights(weights), x)
    return float((found - _pulse(x, t)).square().mean().sqrt())


def _loose(field: Field, transport: Transport, points: Points, weights: Tensor, steps: int) -> Tensor:
    """Weights after steps of 0.05 s, each by three of Gauss-Newton, undamped and accepted whatever they do."""
    for _ in range(steps):
        wanted = carried(field, transport, Weights(weights), points.x - 0.25 * 0.05)
        match = Match(lambda w: carried(field, transport, w, points.x), wanted, points.weight)
        for _ in range(3):
            _, slopes = rows(weights, match.function)
            weights = weights + torch.linalg.lstsq(slopes[0], -match.missed(weights), rcond=1e-10).solution[:, 0]
    return weights


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
                found.append((name, str(failure).split("frequency ")[-1], "-"))
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
        "Waves finer than the points: a square held at two sides that sags, Linear(Siren 16 x 2)",
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
    field, found = walled(Siren(BOX, 20, 2, 5.0)), []
    solver = SolverInsr(Flow(), field, BOX)
    with torch.no_grad():
        flat, points = solver.initial_state(velocity(two_modes)).weights, solver.points(0.0)
        tangent = Tangent(field, Flow(), points, flat, 1e-9)
        wanted = tangent.rate(flat)
    _, slopes = rows(flat, lambda w: carried(field, Flow(), w, points.x))
    root = points.weight.sqrt()
    a, b = (slopes * root[:, None]).flatten(0, 1), (wanted * root[:, None]).T.reshape(-1)
    right = a @ torch.linalg.lstsq(a, b, rcond=1e-8, driver="gelsd").solution

    def noted(name: str, damping: str, change: Tensor) -> None:
        found.append((name, damping, f"{float((a @ change - right).norm() / right.norm()):.1e}"))

    for name, kind in (("double", torch.float64), ("single", torch.float32)):
        narrow = a.to(kind)
        matrix, pull = narrow.T @ narrow, narrow.T @ b.to(kind)
        for power in range(16, 0, -1):
            held = matrix + 10.0**-power * matrix.diagonal().mean() * torch.eye(len(matrix), dtype=kind)
            factor, failed = torch.linalg.cholesky_ex(held)
            if not int(failed):
                change = torch.cholesky_solve(pull[:, None], factor)[:, 0].double()
                noted(f"{name}, normal equations", f"1e-{power}", change)
                break
        cut = 1e-8 if kind is torch.float64 else 1e-6
        change = torch.linalg.lstsq(narrow, b.to(kind), rcond=cut, driver="gelsd").solution.double()
        noted(f"{name}, singular values", f"cut at {cut:g}", change)
    title = (
        f"Single precision: the rate of two modes in the space of small changes, Siren 20 x 2 ({field.size} weights)"
    )
    show(title, ("solved in", "least damping that can be solved with", "of the rate missed"), found)
