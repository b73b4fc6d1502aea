"""Gradients through steps of viscous Taylor-Green: the energy by the viscosity, their cost, and a fit from samples."""

from __future__ import annotations

import argparse
import math
import resource
import subprocess
import sys
import time

import torch
from torch import Tensor

from physim.sim.state import FieldState
from physim.solvers.insr.fields import Siren
from physim.solvers.insr.flow import Flow
from physim.solvers.insr.points import quadrature
from physim.solvers.insr.solver import SolverInsr
from tools.insr.flows import BOX, PI, mirrored, random_points, taylor_green, velocity
from tools.insr.tables import judged, show

DT, VISCOSITY, DIFFERENCE = 0.05, 0.01, 1e-3
"""Step [s], viscosity [m^2/s], and by what share it is changed for central differences."""
SAMPLES, NOISE, OBSERVED, GUESS = 200, 0.02, (10, 20, 30, 40), 0.03
"""Samples of the velocity, their noise over its RMS at the start, after which steps, and the viscosity at first."""
OTHERS = 1000
"""Draws of other noise that intervals are counted with."""
TWO_SIDED = 1.645
"""Standard deviations of a 90 % interval."""


def options(parser: argparse.ArgumentParser) -> None:
    """Options of this table."""
    parser.add_argument("--steps", nargs="+", type=int, default=[10, 100])
    parser.add_argument("--width", type=int, default=28, help="neurons of a layer")
    parser.add_argument("--fits", type=int, default=1, help="fits with other noise each; 0 leaves them out")
    parser.add_argument("--alone", type=int, metavar="STEPS", help="only one backward pass, for its memory")


def solver(width: int, nu: float, *, grad: bool = False) -> SolverInsr:
    """The solver with a viscosity that may take gradients."""
    field = mirrored(Siren(BOX, width, 2, 5.0))
    return SolverInsr(Flow(torch.tensor(nu, dtype=torch.float64, requires_grad=grad)), field, BOX)


def energy(found: SolverInsr, state: FieldState) -> Tensor:
    """Kinetic energy over the box, of density one."""
    points = quadrature(BOX, 40 * 40)
    return 2.0 * (points.weight[:, None] * found.carried(state, points.x).square()).sum()


def after(found: SolverInsr, state: FieldState, steps: int) -> FieldState:
    """The state some steps later."""
    return found.advance(state, None, DT, steps)


def derivative(width: int, state: FieldState, steps: int) -> tuple[float, float, float, float]:
    """Energy, its slope by viscosity, and CPU seconds forward and backward."""
    found = solver(width, VISCOSITY, grad=True)
    began = time.process_time()
    value = energy(found, after(found, state, steps))
    middle = time.process_time()
    value.backward()
    slope = found.problem.viscosity.grad
    assert slope is not None
    return float(value.detach()), float(slope), middle - began, time.process_time() - middle


def differences(width: int, state: FieldState, steps: int) -> float:
    """The slope by two more runs."""
    values = []
    for sign in (1.0, -1.0):
        found = solver(width, VISCOSITY * (1.0 + sign * DIFFERENCE))
        with torch.no_grad():
            values.append(float(energy(found, after(found, state, steps))))
    return (values[0] - values[1]) / (2.0 * DIFFERENCE * VISCOSITY)


def alone(steps: int, width: int) -> list[float]:
    """`derivative` in a process of its own, and the largest memory that this takes [MB]."""
    command = (sys.executable, "-m", "tools.insr", "gradients", "--alone", str(steps), "--width", str(width))
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [float(word) for word in told.splitlines()[-1].split()]


def predictions(width: int, state: FieldState, nu: float, x: Tensor) -> Tensor:
    """Velocities at the samples' places, each group after its own number of steps, flat."""
    found, now, out = solver(width, nu), 0, []
    with torch.no_grad():
        for step, places in zip(OBSERVED, x.chunk(len(OBSERVED)), strict=True):
            state, now = after(found, state, step - now), step
            out.append(found.carried(state, places).reshape(-1))
    return torch.cat(out)


def fit(width: int, state: FieldState, seed: int) -> list[str]:
    """A viscosity from noisy samples of the closed form, by Gauss-Newton in its logarithm, with its interval."""
    generator = torch.Generator().manual_seed(seed)
    x = random_points(SAMPLES, 100 + seed)
    begun = velocity(taylor_green)(x)
    times = [DT * step for step in OBSERVED for _ in range(SAMPLES // len(OBSERVED))]
    decay = torch.exp(-2.0 * PI**2 * VISCOSITY * torch.tensor(times, dtype=torch.float64))
    clean = (decay[:, None] * begun).reshape(-1)
    noise = NOISE / PI / math.sqrt(2.0)
    seen = clean + noise * torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    began, nu, runs, change = time.process_time(), GUESS, 0, 1.0
    while abs(change) > 1e-4 and runs < 18:
        here, there = predictions(width, state, nu, x), predictions(width, state, nu * (1.0 + DIFFERENCE), x)
        runs += 2
        slope, left = (there - here) / math.log(1.0 + DIFFERENCE), seen - here
        change = float(slope @ left / (slope @ slope))
        nu *= math.exp(max(-1.5, min(1.5, change)))
    spread = float((left.square().sum() / (len(left) - 1)).sqrt() / slope.norm())
    low, high = nu * math.exp(-TWO_SIDED * spread), nu * math.exp(TWO_SIDED * spread)
    inside = "yes" if low <= VISCOSITY <= high else "no"
    cpu = time.process_time() - began
    cells = (f"{GUESS:g}", f"{nu:.6f}", f"{low:.6f} to {high:.6f}", inside, str(runs), f"{cpu:.0f}")
    # Other noise at the same places: near the optimum what is predicted is linear, and one step is a fit.
    others = noise * torch.randn((OTHERS, len(clean)), generator=generator, dtype=torch.float64)
    errors = math.log(nu / VISCOSITY) + (clean - here + others) @ slope / (slope @ slope)
    held = float((errors.abs() <= TWO_SIDED * noise / slope.norm()).double().mean())
    return [str(seed), *cells, f"{held:.1%}"]


def run(args: argparse.Namespace) -> int:
    """Slopes, costs, memory and fits."""
    start = solver(args.width, VISCOSITY).initial_state(velocity(taylor_green))
    if args.alone is not None:
        found = derivative(args.width, start, args.alone)
        print(*found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return 0
    rows, worst_closed, worst_differences, ratios, memory = [], 0.0, 0.0, [], []
    for steps in args.steps:
        value, slope, forward, backward, most = alone(steps, args.width)
        closed = -4.0 * PI**2 * steps * DT / PI**2 * math.exp(-4.0 * PI**2 * VISCOSITY * steps * DT)
        central = differences(args.width, start, steps)
        memory.append(most)
        off = abs(slope / closed - 1.0), abs(slope / central - 1.0)
        worst_closed, worst_differences = max(worst_closed, off[0]), max(worst_differences, off[1])
        ratios.append(backward / forward)
        cells = (f"{slope:.6f}", f"{closed:.6f}", f"{off[0]:.1e}", f"{central:.6f}", f"{off[1]:.1e}")
        costs = (f"{forward / steps:.2f}", f"{backward / forward:.2f}", f"{memory[-1]:.0f}")
        rows.append([str(steps), f"{value:.6f}", *cells, *costs])
    head = ["steps", "energy", "dKE/dnu", "closed form", "off by", "differences", "off by"]
    size = solver(args.width, VISCOSITY).field.size
    show(
        f"Viscous Taylor-Green, nu = {VISCOSITY}, {size} weights",
        [*head, "forward CPU s per step", "backward over forward", "peak MB"],
        rows,
    )
    print(judged("off the closed form", worst_closed, 1e-3))
    print(judged("off central differences", worst_differences, 1e-3))
    print(judged("backward over forward", max(ratios), 2.0))
    print(f"Memory of {args.steps[-1]} steps over that of {args.steps[0]}: {memory[-1] / memory[0]:.3f}")
    fits = [fit(args.width, start, seed) for seed in range(args.fits)]
    if fits:
        head = [
            "noise",
            "first guess",
            "nu",
            "90 % interval",
            f"holds {VISCOSITY}",
            "rollouts",
            "CPU s",
            f"of {OTHERS:,} other noises",
        ]
        show(f"Viscosity from {SAMPLES} velocities with {NOISE:.0%} noise", head, fits)
    return 0
