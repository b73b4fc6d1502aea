"""Error against memory: fields with several numbers of weights, waves, differences on a grid, and finite elements."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from physim.errors import PhysimError
from physim.solvers.insr.fields import Siren
from physim.solvers.insr.project import Projection
from physim.solvers.insr.solver import Settings, SolverInsr
from physim.solvers.insr.transport import Transport
from tools.insr import advection
from tools.insr.differences import Array, flow_by_differences, pulse_by_differences, pulse_by_waves
from tools.insr.flows import BOX, random_points, reference, rms, two_modes, velocity, walled
from tools.insr.rollouts import begin
from tools.insr.stretch import pulled, settled
from tools.insr.tables import show

Curve = list[tuple[int, float]]
"""Bytes of a state, and its error."""
NAMES = ("sine network", "waves", "second-order differences", "bilinear elements")
NUMBER = 8
"""Bytes of a number."""
PULSE_STEPS, FLOW_TIME = 100, 1.0


def options(parser: argparse.ArgumentParser) -> None:
    """Options of this table."""
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the curves (png, svg or pdf)")
    parser.add_argument("--pulse-widths", nargs="+", type=int, default=[6, 10, 14, 20])
    parser.add_argument("--flow-widths", nargs="+", type=int, default=[10, 14, 20, 28])
    parser.add_argument("--stretch-widths", nargs="+", type=int, default=[6, 8, 12, 16, 24])


def _pulse(widths: list[int]) -> dict[str, Curve]:
    """The pulse after 100 steps, over its RMS."""
    t, x, ours = PULSE_STEPS * advection.DT, advection.grid(), []
    places = x[:, 0].numpy()

    def off(values: Array) -> float:
        return advection.error(torch.from_numpy(values)[:, None], t, x)[1]

    def begun(at: Array) -> Array:
        return np.exp(-0.5 * ((at - advection.CENTRE) / advection.WIDTH) ** 2)

    settings = Settings(projection=Projection(tolerance=3e-7, linearisations=6), resolved=1.0)
    for width in widths:
        field = Siren(advection.BOX, width, 3, 30.0)
        solver = SolverInsr(Transport([advection.SPEED]), field, advection.BOX, settings=settings)
        try:
            with torch.no_grad():
                state = solver.advance(solver.initial_state(advection.pulse), None, advection.DT, PULSE_STEPS)
            ours.append((NUMBER * field.size, advection.error(solver.carried(state, x), t, x)[1]))
        except PhysimError as error:
            print(f"pulse, {field.size} weights: {error}")
    speed = advection.SPEED
    waves = [(NUMBER * (2 * k + 1), off(pulse_by_waves(begun, k, speed, t, places))) for k in (8, 16, 24, 32, 40, 48)]
    counts = (64, 128, 256, 512, 901, 2048, 4096)
    grid = [(NUMBER * n, off(pulse_by_differences(begun, n, speed, t, places))) for n in counts]
    return {"sine network": ours, "waves": waves, "second-order differences": grid}


def _flow(widths: list[int]) -> dict[str, Curve]:
    """The flow of two modes after a second, over its RMS speed."""
    x, ours, waves, grid = random_points(), [], [], []
    (wanted,), size = reference(two_modes, x, [FLOW_TIME], 96, 0.01), rms(velocity(two_modes)(x))
    for width in widths:
        field = walled(Siren(BOX, width, 2, 5.0))
        try:
            clock = begin(field, two_modes, settings=Settings(resolved=1.0))
            state = clock.until(20, FLOW_TIME / 20)
            ours.append((NUMBER * field.size, rms(clock.solver.carried(state, x) - wanted) / size))
        except PhysimError as error:
            print(f"two modes, {field.size} weights: {error}")
    for modes in (4, 6, 8, 11, 15, 20, 30, 40):
        found = reference(two_modes, x, [FLOW_TIME], modes, 0.01)[0]
        waves.append((NUMBER * modes**2, rms(found - wanted) / size))
    for count in (8, 11, 15, 21, 30, 60, 120, 240):
        found, _ = flow_by_differences(two_modes, count, FLOW_TIME, 0.01, x.numpy())
        grid.append((NUMBER * count**2, rms(torch.from_numpy(found) - wanted) / size))
    return {"sine network": ours, "waves": waves, "second-order differences": grid}


def _stretch(widths: list[int]) -> dict[str, Curve]:
    """Displacements of a square pulled to twice its length, over their RMS."""
    make, begun, given = pulled("neo_hookean", 4)
    ours = []
    for width in widths:
        _, off, last = settled(make, begun, [width], given)
        if last is not None:
            ours.append((NUMBER * last[0].field.size, off[1]))
    return {"sine network": ours, "bilinear elements": [(NUMBER * count, error) for count, error in given.curve]}


def _tell(title: str, curves: dict[str, Curve]) -> None:
    """The numbers, and who wins at each size of a network."""
    for name, curve in curves.items():
        show(f"{title}: {name}", ["bytes", "relative error"], [[f"{b:,}", f"{e:.1e}"] for b, e in curve])
    for size, error in curves["sine network"]:
        for name in (name for name in curves if name != "sine network"):
            least = min((e for b, e in curves[name] if b <= size), default=float("nan"))
            if least != least:
                continue
            won = "wins" if error < least else "loses"
            print(f"{title}, {size:,} bytes: the network has {error:.1e} and {won} against {name}: {least:.1e}")


def _plot(found: dict[str, dict[str, Curve]], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(found), figsize=(4.6 * len(found), 3.6), squeeze=False)
    for ax, (title, curves) in zip(axes[0], found.items(), strict=True):
        for name, curve in curves.items():
            ax.plot(*zip(*curve, strict=True), "o-", label=name, markersize=4, color=f"C{NAMES.index(name)}")
        ax.set(xscale="log", yscale="log", xlabel="bytes of a state", ylabel="relative error", title=title)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=130)
    plt.close(figure)


def run(args: argparse.Namespace) -> int:
    """All problems."""
    problems: dict[str, Callable[[], dict[str, Curve]]] = {
        "Two modes at t = 1": lambda: _flow(args.flow_widths),
        f"Pulse after {PULSE_STEPS} steps": lambda: _pulse(args.pulse_widths),
        "Square pulled to twice its length": lambda: _stretch(args.stretch_widths),
    }
    found = {}
    for title, curves in problems.items():
        found[title] = curves()
        _tell(title, found[title])
    print("Memory of the weights alone; a network also keeps those of the step before, where its next search begins.")
    if args.plot:
        _plot(found, args.plot)
    return 0
