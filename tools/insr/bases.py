"""Sine networks, Fourier features and Gaussians at about equal weights, on a pulse and on two flows."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from physim.errors import PhysimError
from physim.solvers.insr.fields import Box, Field, Fourier, Gaussians, Siren
from physim.solvers.insr.flow import Flow
from physim.solvers.insr.project import Projection
from physim.solvers.insr.solver import Settings, SolverInsr
from physim.solvers.insr.transport import Transport
from tools.insr import advection
from tools.insr.flows import BOX, random_points, reference, rms, taylor_green, two_modes, velocity, walled
from tools.insr.tables import show

DT = 0.05
STEPS = {"pulse": 24, "two modes": 20, "Taylor-Green": 20}


def options(parser: argparse.ArgumentParser) -> None:
    """Options of this table."""
    parser.add_argument("--problems", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--linearisations", type=int, default=6, help="of a step, at most")


@dataclass(frozen=True)
class Case:
    """A problem as this table sees it.

    Attributes:
        make: from a box to the solver.
        start: what is carried, at positions.
        wanted: the same at the end, at `x`.
        x: where errors are taken.
    """

    make: Callable[[Field, Settings], SolverInsr]
    start: Callable[[Tensor], Tensor]
    wanted: Tensor
    x: Tensor


def case(problem: str) -> Case:
    """A problem by name."""
    steps = STEPS[problem]
    if problem == "pulse":
        x = advection.grid(1001)
        wanted = advection.pulse(x, steps * DT)

        def carry(field: Field, settings: Settings) -> SolverInsr:
            return SolverInsr(Transport([advection.SPEED]), field, advection.BOX, settings=settings)

        return Case(carry, advection.pulse, wanted, x)
    psi, x = two_modes if problem == "two modes" else taylor_green, random_points()
    (wanted,) = reference(psi, x, [steps * DT], 96, 0.01)

    def flow(field: Field, settings: Settings) -> SolverInsr:
        return SolverInsr(Flow(), walled(field), BOX, settings=settings)

    return Case(flow, velocity(psi), wanted, x)


def fields(problem: str) -> dict[str, Field]:
    """The three bases, with about 900 weights each."""
    box: Box = advection.BOX if problem == "pulse" else BOX
    if problem == "pulse":
        return {
            "sine network, 20 x 3, frequency 30": Siren(box, 20, 3, 30.0),
            "Fourier, 20 waves of scale 15, 20 x 1": Fourier(box, 20, 15.0, 20, 1),
            "Gaussians, 300 of width 1.5": Gaussians(box, 300, 1.5),
        }
    return {
        "sine network, 28 x 2, frequency 5": Siren(box, 28, 2, 5.0),
        "Fourier, 16 waves of scale 2, 26 x 1": Fourier(box, 16, 2.0, 26, 1),
        "Gaussians, 180 of width 1.5": Gaussians(box, 180, 1.5),
    }


def _row(field: Field, given: Case, steps: int, settings: Settings) -> list[str]:
    solver, size = given.make(field, settings), rms(given.wanted)
    began = time.process_time()
    state = solver.initial_state(given.start)
    fitted = time.process_time() - began
    first = rms(solver.carried(state, given.x) - given.start(given.x)) / size
    cells, began, done = [str(field.size), f"{fitted:.1f}", f"{first:.1e}"], time.process_time(), 0
    try:
        with torch.no_grad():
            for _ in range(steps):
                state, done = solver.step(state, None, DT), done + 1
    except PhysimError as error:
        return [*cells, f"stops after {done}: {error}", ""]
    off = rms(solver.carried(state, given.x) - given.wanted) / size
    return [*cells, f"{off:.1e}", f"{(time.process_time() - began) / steps:.2f}"]


def run(args: argparse.Namespace) -> int:
    """The problems asked for."""
    for problem in args.problems:
        given, rows, steps = case(problem), [], STEPS[problem]
        # Characteristics fit anew at each step; in the tangent space the defaults do.
        how = Projection(tolerance=3e-7, linearisations=args.linearisations) if problem == "pulse" else Projection()
        for name, field in fields(problem).items():
            rows.append([name, *_row(field, given, steps, Settings(projection=how, resolved=1.0))])
        still = rms(given.wanted - given.start(given.x)) / rms(given.wanted)
        head = ["basis", "weights", "first fit CPU s", "error at first", f"after {steps} steps", "CPU s per step"]
        show(f"{problem}, errors relative to the RMS; standing still has {still:.1e}", head, rows)
    return 0
