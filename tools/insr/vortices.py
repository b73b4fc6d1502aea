"""Plane vortices in a box: four that stay, waves that turn each other, and vortices of two sizes."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import torch
from torch import Tensor

from physim.errors import PhysimError
from physim.solvers.insr.fields import Box, Siren
from physim.solvers.insr.solver import Settings
from tools.insr.flows import (
    BOX,
    PI,
    Psi,
    mirrored,
    random_points,
    reference,
    rms,
    taylor_green,
    two_modes,
    two_scales,
    velocity,
    walled,
)
from tools.insr.patched import Patched
from tools.insr.rollouts import Clock, begin, divergence, energy
from tools.insr.tables import judged, show

DT, VISCOSITY = 0.05, 0.01
WALLS = {"walls by distance factors": walled, "walls that mirror": mirrored}
FLOWS = ("taylor-green", "viscous", "two-modes", "two-scales")


def options(parser: argparse.ArgumentParser) -> None:
    """Options of this table."""
    parser.add_argument("--flows", nargs="+", choices=FLOWS, default=list(FLOWS))
    parser.add_argument("--width", type=int, default=28, help="neurons of a layer")
    parser.add_argument("--frequency", type=float, default=5.0)
    parser.add_argument("--steps", type=int, default=100, help="steps of Taylor-Green")


def steady(args: argparse.Namespace, nu: float, walls: str) -> None:
    """Taylor-Green against its closed form."""
    field = Siren(BOX, args.width, 2, args.frequency)
    clock = begin(WALLS[walls](field), taylor_green, nu)
    x, rows, first = random_points(), [], energy(clock.solver, clock.state)
    begun = velocity(taylor_green)(x)
    for step in range(0, args.steps + 1, max(1, args.steps // 5)):
        state = clock.until(step, DT)
        decay = math.exp(-2.0 * PI**2 * nu * step * DT)
        off, apart = rms(clock.solver.carried(state, x) - decay * begun), divergence(clock.solver, state, x)
        now = energy(clock.solver, state)
        # The drift is over the closed form's energy: over the first, decay alone would count as one.
        drift = now / (first * decay**2) - 1.0
        cells = (f"{off:.1e}", f"{off / (decay * rms(begun)):.1e}", f"{apart:.1e}", f"{now:.6f}", f"{drift:+.1e}")
        rows.append([str(step), *cells, f"{state.defect:.0e}" if step else "", f"{clock.cpu:.2f}" if step else ""])
    name = f"viscous, nu = {nu}" if nu else "inviscid"
    title = f"Taylor-Green, {name}, {walls}, {field.size} weights; the first fit takes {clock.fitted:.1f} CPU s"
    head = ["step", "RMS error", "over RMS speed", "divergence", "kinetic energy", "drift", "defect", "CPU s per step"]
    show(title, head, rows)
    print(judged(f"RMS error at step {step}", off, 1e-4))
    print(judged("largest divergence", apart, 1e-8))
    print(judged("drift of kinetic energy", abs(drift), 1e-5))
    print(judged("CPU s per step", clock.cpu, 2.0))


def moving(args: argparse.Namespace) -> None:
    """The flow of two modes against sine modes."""
    times, x = [0.5, 1.0, 1.5, 2.0], random_points()
    coarse, fine = reference(two_modes, x, times, 96, 0.01), reference(two_modes, x, times, 128, 0.005)
    clock = begin(walled(Siren(BOX, args.width, 2, args.frequency)), two_modes)
    _against(clock, two_modes, x, times, coarse, fine, "Two modes", DT, lambda t: {1.0: 3e-4, 2.0: 1e-3}.get(t))


def sizes() -> None:
    """Vortices of two sizes, by one network and by one with more weights in the corner, at about equal weights."""
    times, x, dt = [0.05, 0.1, 0.2], random_points(2000), 0.025
    x = torch.cat([x, (random_points(1000, 8) + 1.0) / 8.0 - 1.0])
    coarse, fine = reference(two_scales, x, times, 128, 0.005), reference(two_scales, x, times, 192, 0.005)
    print("Errors of the two sizes are taken at 2,000 points of the box and 1,000 more in the corner, [-1, -0.75]^2.")
    corner = Box((-1.0, -1.0), (-0.4, -0.4))
    patched = Patched(Siren(BOX, 20, 2, 5.0), Siren(corner, 24, 2, 8.0), BOX, (-1.0, -1.0), 0.2)
    # Start and steps are shown however far off they are.
    how = Settings(points=3.5, resolved=1.0, defect=1.0)
    for name, field, cut in (
        ("one network", Siren(BOX, 33, 2, 20.0), None),
        ("one network, points denser in the corner", Siren(BOX, 33, 2, 20.0), -0.5),
        ("a network and a finer one in the corner", patched, None),
        ("a network and a finer one in the corner, points denser there", patched, -0.5),
    ):
        try:
            clock = begin(walled(field), two_scales, settings=how, cut=cut)
            _against(clock, two_scales, x, times, coarse, fine, f"Two sizes, {name}", dt, lambda t: None)
        except PhysimError as error:
            print(f"Two sizes, {name}: {error}")


def _against(
    clock: Clock,
    psi: Psi,
    x: Tensor,
    times: list[float],
    coarse: list[Tensor],
    fine: list[Tensor],
    title: str,
    dt: float,
    required: Callable[[float], float | None],
) -> None:
    """A table of errors over the RMS speed at the start."""
    begun, solver, judgements = velocity(psi)(x), clock.solver, []
    size, first = rms(begun), energy(solver, clock.state)
    rows = [["0", f"{rms(solver.carried(clock.state, x) - begun):.1e}"]]
    rows[0] += [f"{rms(solver.carried(clock.state, x) - begun) / size:.1e}", "0", "", "", "", ""]
    for t, a, b in zip(times, coarse, fine, strict=True):
        state = clock.until(round(t / dt), dt)
        off = rms(solver.carried(state, x) - b)
        still, known = rms(b - begun) / size, rms(a - b) / size
        drift = energy(solver, state) / first - 1.0
        cells = (f"{off:.1e}", f"{off / size:.1e}", f"{still:.1e}", f"{known:.0e}", f"{drift:+.1e}")
        rows.append([f"{t:g}", *cells, f"{state.defect:.0e}", f"{clock.cpu:.2f}"])
        limit = required(t)
        if limit:
            judgements.append(judged(f"relative error at t = {t:g}", off / size, limit))
    weights = f"{solver.field.size} weights, RMS speed {size:.3f}; the first fit takes {clock.fitted:.1f} CPU s"
    head = ["t [s]", "RMS error", "over RMS speed", "standing still", "reference moves by", "energy drift"]
    show(f"{title}, {weights}", [*head, "defect", "CPU s per step"], rows)
    print("\n".join([*judgements, judged("CPU s per step", clock.cpu, 2.0)]))


def run(args: argparse.Namespace) -> int:
    """The flows asked for."""
    for flow in args.flows:
        if flow in ("taylor-green", "viscous"):
            for walls in WALLS:
                steady(args, VISCOSITY if flow == "viscous" else 0.0, walls)
        elif flow == "two-modes":
            moving(args)
        else:
            sizes()
    return 0
