"""A pulse carried along in the published setting, beside Adam steps as published, from the same weights."""

from __future__ import annotations

import argparse
import dataclasses
import time

import numpy as np
import torch
from torch import Tensor

from physim.solvers.insr.adam import Descended, descend
from physim.solvers.insr.fields import Box, Siren
from physim.solvers.insr.maps import Weights
from physim.solvers.insr.solver import STEPS as PROJECTION
from physim.solvers.insr.solver import Settings, SolverInsr
from physim.solvers.insr.tangent import derivatives
from physim.solvers.insr.transport import Transport
from tools.insr.tables import judged, show

SPEED, CENTRE, WIDTH, DT, STEPS = 0.25, -1.5, 0.1, 0.05, 240
BOX = Box((-2.0,), (2.0,))
POINTS = 5000
"""Random points of an Adam iteration."""
ERRORS = ("RMS error", "over RMS of the pulse", "largest")
FLOOR = "exact Crank-Nicolson, relative"


def options(parser: argparse.ArgumentParser) -> None:
    """Options of this table."""
    parser.add_argument("--adam-steps", type=int, default=1, help="time steps by Adam, about 40 CPU s each")
    parser.add_argument("--steps", type=int, default=STEPS, help="time steps by the solver")
    parser.add_argument("--tolerance", type=float, default=1e-7, help="root mean square at which a step is near enough")
    parser.add_argument("--linearisations", type=int, default=10, help="of a step, at most")


def pulse(x: Tensor, t: float = 0.0) -> Tensor:
    """The solution, (n, 1)."""
    return torch.exp(-0.5 * ((x - SPEED * t - CENTRE) / WIDTH) ** 2)


def grid(count: int = 4001) -> Tensor:
    """Points at which errors are taken, (count, 1)."""
    return torch.linspace(-2.0, 2.0, count, dtype=torch.float64)[:, None]


def error(values: Tensor, t: float, x: Tensor) -> tuple[float, float, float]:
    """Difference from the solution: root mean square, the same over that of the solution, and the largest."""
    wanted = pulse(x, t)
    off, size = values - wanted, float(wanted.square().mean().sqrt())
    rms = float(off.square().mean().sqrt())
    return rms, rms / size, float(off.abs().max())


def _cells(found: tuple[float, float, float]) -> list[str]:
    return [f"{e:.1e}" for e in found]


def crank_nicolson(x: Tensor, steps: int) -> Tensor:
    """What the trapezoid formula gives with no error in space: each wave turned by its own factor."""
    # A period so long that nothing comes round, and so many waves that the pulse has none beyond.
    length, count = 32.0, 4096
    at = CENTRE + (np.arange(count) / count - 0.5) * length
    wave = 2.0 * np.pi * np.fft.rfftfreq(count, length / count)
    half = 0.5j * DT * SPEED * wave
    spectrum = np.fft.rfft(np.exp(-0.5 * ((at - CENTRE) / WIDTH) ** 2)) * ((1.0 - half) / (1.0 + half)) ** steps
    phases = np.exp(1j * np.outer(x[:, 0].numpy() - at[0], wave))
    twice = np.where(np.arange(len(wave)) == 0, 1.0, 2.0) / count
    return torch.from_numpy((phases * (twice * spectrum)).sum(axis=1).real)[:, None]


def adam_step(field: Siren, flat: Tensor, generator: torch.Generator) -> Descended:
    """One step as published: the trapezoid residual at fresh random points, and zero at both ends."""
    ends, wanted = BOX.lower + BOX.upper, [(0,), (1,)]
    edge = torch.tensor(ends, dtype=torch.float64)[:, None]

    def loss(weights: Tensor) -> Tensor:
        x = 4.0 * torch.rand((POINTS, 1), generator=generator, dtype=torch.float64) - 2.0
        with torch.no_grad():
            old = derivatives(field, Weights(flat), x, wanted)[:, 0]
        new = derivatives(field, Weights(weights), x, wanted)[:, 0]
        residual = (new[:, 0] - old[:, 0]) / DT + 0.5 * SPEED * (new[:, 1] + old[:, 1])
        at_ends = derivatives(field, Weights(weights), edge, wanted[:1])
        return residual.square().mean() + at_ends.square().mean()

    return descend(loss, flat)


def ours(args: argparse.Namespace, field: Siren, x: Tensor) -> tuple[Tensor, float, dict[int, tuple[float, ...]]]:
    """Steps of the solver: weights at the start, CPU seconds per step, and errors by step."""
    how = dataclasses.replace(PROJECTION, tolerance=args.tolerance, linearisations=args.linearisations)
    solver = SolverInsr(Transport([SPEED]), field, BOX, settings=Settings(projection=how))
    began = time.process_time()
    first = state = solver.initial_state(pulse)
    fitted, spent, rows, errors = time.process_time() - began, 0.0, [], {}
    for n in range(args.steps + 1):
        if n in (12, args.adam_steps) or n % 20 == 0:
            errors[n] = error(solver.carried(state, x), n * DT, x)
            floor = error(crank_nicolson(x, n), n * DT, x)[1]
            rows.append([str(n), *_cells(errors[n]), f"{spent / n:.2f}" if n else "", f"{floor:.1e}"])
        if n < args.steps:
            began = time.process_time()
            with torch.no_grad():
                state = solver.step(state, None, DT)
            spent += time.process_time() - began
    title = f"Advection, {field.size} weights, {solver.count} points; the first fit takes {fitted:.1f} CPU s"
    show(title, ["step", *ERRORS, "CPU s per step", FLOOR], rows)
    return first.weights, spent / args.steps, errors


def theirs(steps: int, field: Siren, flat: Tensor, x: Tensor) -> tuple[float, tuple[float, ...]]:
    """Steps by Adam: CPU seconds per step, and the last error."""
    generator, rows, spent, last = torch.Generator().manual_seed(0), [], 0.0, (0.0, 0.0, 0.0)
    for n in range(1, steps + 1):
        began = time.process_time()
        found = adam_step(field, flat, generator)
        cpu, flat = time.process_time() - began, found.weights
        spent += cpu
        last = error(derivatives(field, Weights(flat), x, [(0,)])[:, 0], n * DT, x)
        floor = error(crank_nicolson(x, n), n * DT, x)[1]
        rows.append([str(n), *_cells(last), f"{cpu:.1f}", f"{found.iterations:,}", f"{floor:.1e}"])
    show("Adam as published, from the same weights", ["step", *ERRORS, "CPU s", "iterations", FLOOR], rows)
    return spent / steps, last


def run(args: argparse.Namespace) -> int:
    """Both methods, the formula's floor, and what is required."""
    field, x = Siren(BOX, width=20, depth=3, frequency=30.0), grid()
    flat, fast, errors = ours(args, field, x)
    if args.adam_steps:
        slow, last = theirs(args.adam_steps, field, flat, x)
        if args.adam_steps in errors:
            print(
                f"Relative error after {args.adam_steps} step(s): {errors[args.adam_steps][1]:.1e}, Adam {last[1]:.1e}."
            )
        print(judged("times as fast as Adam", slow / fast, 20.0, 80.0, least=True))
    for n, required, aim in ((12, 1e-4, 1e-5), (240, 1e-3, 1e-4)):
        if n in errors:
            print(judged(f"relative error at step {n}", errors[n][1], required, aim))
            print(judged(f"largest error at step {n}", errors[n][2], required, aim))
    return 0
