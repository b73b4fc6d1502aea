"""Bodies at rest and in contact beside finite elements and particles, forces in balance, gradients by stiffness."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from physim.errors import PhysimError
from physim.laws.material import Material
from physim.sim.model import Collider, ColliderKind
from physim.sim.state import FieldState
from physim.solvers.insr.body import Body
from physim.solvers.insr.conditions import Linear, Walled
from physim.solvers.insr.fields import Box, Siren
from physim.solvers.insr.incremental import BodyStepper
from physim.solvers.insr.jets import Jet
from physim.solvers.insr.points import quadrature
from physim.solvers.insr.solver import SolverInsr
from tools.insr.elements import Elements
from tools.insr.hanging import hanging
from tools.insr.refined import Reference, reference, rms
from tools.insr.tables import judged, show

SQUARE = Box((-1.0, -1.0), (1.0, 1.0))
LAWS = {"fixed_corotated": 2000.0, "neo_hookean": 20.0}
"""lam [Pa] of each; mu is 1 Pa."""
COARSE = 8
"""Cells along the shorter side of the coarsest grid of elements."""
SHARE, STEP = 3e-3, 0.01
"""Change of the logarithm of E for central differences, and length of a dynamic step [s]."""
FINER = 4
"""Points at which energies are taken, over those at which they were made least."""
PARTS = ("pull", "contact", "particles", "gradients")


def options(parser: argparse.ArgumentParser) -> None:
    """Options of this table."""
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--laws", nargs="+", choices=LAWS, default=list(LAWS), help="of the square that is pulled")
    parser.add_argument("--widths", nargs="+", type=int, default=[12, 16, 24], help="neurons of a layer")
    parser.add_argument("--cells", nargs="+", type=int, default=[8, 16], help="of the particles' grid along a block")
    parser.add_argument("--grids", type=int, default=4, help="grids of elements, each with half the spacing")


def energy(solver: SolverInsr, state: FieldState) -> float:
    """Energy of a body at rest [J/m], by many more points than it was made least with."""
    assert isinstance(solver.stepper, BodyStepper)
    kept = SolverInsr(solver.problem, solver.field, solver.box, points=quadrature(solver.box, FINER * solver.count))
    assert isinstance(kept.stepper, BodyStepper)
    potential = kept.stepper.potential
    with torch.no_grad():
        shape = potential.shape(state.weights)
        return float(potential.energy(shape, shape.q[..., 0], 0.0, math.inf))


def settled(
    make: Callable[[int], SolverInsr],
    start: Callable[[Tensor], Tensor],
    widths: Sequence[int],
    given: Reference,
) -> tuple[list[list[str]], tuple[float, float], tuple[SolverInsr, FieldState] | None]:
    """Rows of fields of several widths; how far energy and displacement of the last are off; its solver and state."""
    rows, off, last = [], (math.inf, math.inf), None
    for width in widths:
        solver, began = make(width), time.process_time()
        name = f"field {width} x 2"
        try:
            with torch.no_grad():
                state = solver.settle(_apart(solver).initial_state(start))
        except PhysimError as error:
            told = f"{time.process_time() - began:.1f}", str(error).split("frequency ")[-1]
            rows.append([name, str(solver.field.size), "", "", "", *told])
            continue
        cpu, e = time.process_time() - began, energy(solver, state)
        u = solver.sample(state, given.places)[..., 0]
        off = e / given.energy - 1.0, rms(u - given.u) / rms(given.u)
        cells = (f"{e:.6g}", f"{off[0]:+.1e}", f"{off[1]:.1e}", f"{cpu:.1f}")
        rows.append([name, str(solver.field.size), *cells, f"{len(solver.points(0.0).x)} points"])
        last = solver, state
    return rows, off, last


def _apart(solver: SolverInsr) -> SolverInsr:
    """The same without obstacles, so that a body may begin pressed into one."""
    body = solver.problem
    assert isinstance(body, Body)
    return SolverInsr(Body(body.material, body.box), solver.field, solver.box)


HEAD = ["", "unknowns", "energy [J/m]", "off", "displacement off", "CPU s", ""]


def pulled(law: str, grids: int) -> tuple[Callable[[int], SolverInsr], Callable[[Tensor], Tensor], Reference]:
    """A square from 2 m to 4 m long, both ends held fully: a solver by width, where to begin, what elements find."""
    body = Body(Material(law, rho0=1.0, values={"mu": 1.0, "lam": LAWS[law]}), SQUARE)

    def lift(x: Jet) -> Jet:
        parts = [None if p is None else p[:, :2] * p.new_tensor([1.0, 0.0]) for p in x.parts]
        assert parts[0] is not None
        parts[0] = parts[0] + parts[0].new_tensor([1.0, 0.0])
        return Jet(x.terms, tuple(parts))

    def stretched(x: Tensor) -> Tensor:
        return torch.stack([x[:, 0] + 1.0, torch.zeros_like(x[:, 0])], dim=1)

    def make(width: int) -> SolverInsr:
        inner = Linear(Siren(SQUARE, width, 2, 3.0, 2))
        return SolverInsr(body, Walled(inner, SQUARE, ((1, 1), (0, 0)), lift), SQUARE)

    first = Elements.clamped(body, (COARSE, COARSE), (True, True))
    given = reference(first, stretched(first.X), grids, soften=law == "fixed_corotated")
    return make, stretched, given


def pull(law: str, widths: Sequence[int], grids: int) -> None:
    """What fields of several widths find, beside elements."""
    make, stretched, given = pulled(law, grids)
    rows, off, _ = settled(make, stretched, widths, given)
    show(f"Square pulled from 2 to 4, {law}, mu = 1, lam = {LAWS[law]:g} Pa", HEAD, [*given.rows, *rows])
    print(judged("energy off", abs(off[0]), 0.01))
    print(judged("displacement off", off[1], 0.01))


def contact(kind: str, widths: Sequence[int], grids: int) -> None:
    """A block at rest on a floor, or one held at its left side that sags onto a ball."""
    free = kind == "floor"
    # Half of the block that lies on a floor, which slides along its middle: nothing else holds it along x.
    box = Box((0.0, 0.0), (0.05, 0.1)) if free else Box((0.0, 0.0), (0.2, 0.05))
    floor = Collider.plane((0.0, 0.0, 0.0), (0.0, 1.0, 0.0), name="floor")
    ball = Collider(ColliderKind.SPHERE, position=(0.15, -0.06, 0.0), size=(0.05,) * 3, name="ball")
    material = Material("neo_hookean", rho0=1000.0, values={"E": 2e4 if free else 5e4, "nu": 0.3})
    body = Body(material, box, gravity=(0.0, -9.81), obstacles=[floor if free else ball])

    def make(width: int) -> SolverInsr:
        # Contact with a ball is narrow.
        inner = Linear(Siren(box, width, 2, 3.0 if free else 6.0, 2))
        return SolverInsr(body, Walled(inner, box, ((1, 0), (0, 0)), held=(0,) if free else None), box)

    shape = (COARSE // 2, COARSE) if free else (4 * COARSE, COARSE)
    first = Elements.clamped(body, shape, (True, False), (0,) if free else (0, 1))
    # A free body begins as deep in the floor as bears its weight, for nothing but contact holds it.
    depth = 9.81 * 1000.0 * box.size[1] / float(body.firm.detach()) if free else 0.0
    down = torch.tensor([0.0, -depth], dtype=torch.float64)

    def begun(x: Tensor) -> Tensor:
        return down.expand(len(x), 2)

    given = reference(first, begun(first.X), grids)
    rows, off, last = settled(make, begun, widths, given)
    title = "Block at rest on a floor, half of it" if free else "Block held at its left side that lies on a ball"
    show(f"{title}, neo_hookean, the same penalty of contact", HEAD, [*given.rows, *rows])
    print(judged("energy off", abs(off[0]), 0.01))
    print(judged("displacement off", off[1], 0.01))
    theirs = given.finest[0].pressed(given.finest[1])[1]
    if last is not None:
        weight = 9.81 * 1000.0 * body.volume
        with torch.no_grad():
            ours = -float(last[0].collider_forces(last[1], 0.0)[0, 1])
        print(f"Contact's force: {ours:.5g} N/m, elements {theirs:.5g}, weight {weight:.5g}.")
        print(judged("force off the elements'", abs(ours / float(theirs) - 1.0), 0.01))
        if free:
            print(judged("force off the weight", abs(ours / weight - 1.0), 0.01))


def gradients() -> None:
    """How far a held block's tip sags, by the logarithm of E, in equilibrium and after 8 steps."""
    box, rows, worst, dearest = Box((0.0, 0.0), (0.2, 0.05)), [], 0.0, 0.0
    tip = torch.tensor([[0.2, 0.025]], dtype=torch.float64)
    for floor in (False, True):
        for steps in (0, 8):
            material = Material("neo_hookean", rho0=1000.0, values={"E": 5e4, "nu": 0.3})
            obstacles = [Collider.plane((0.0, -0.01, 0.0), (0.0, 1.0, 0.0), name="floor")] if floor else []
            material.free("E")
            body = Body(material, box, gravity=(0.0, -9.81), obstacles=obstacles)
            field = Walled(Linear(Siren(box, 12, 2, 3.0, 2)), box, ((1, 0), (0, 0)))
            solver, raw = SolverInsr(body, field, box), material.raw["E"]

            def sag(solver: SolverInsr = solver, steps: int = steps) -> Tensor:
                state = solver.initial_state()
                state = solver.advance(state, None, STEP, steps) if steps else solver.settle(state)
                return solver.sample(state, tip)[0, 1, 0]

            began = time.process_time()
            value = sag()
            middle = time.process_time()
            slope = float(torch.autograd.grad(value, raw)[0])
            ratio, old, pair = (time.process_time() - middle) / (middle - began), raw.detach().clone(), []
            for sign in (1.0, -1.0):
                with torch.no_grad():
                    raw.copy_(old + sign * SHARE)
                    pair.append(float(sag()))
            off = abs(slope / ((pair[0] - pair[1]) / (2.0 * SHARE)) - 1.0)
            worst, dearest = max(worst, off), max(dearest, ratio)
            name = f"{f'{steps} steps' if steps else 'equilibrium'}, {'floor' if floor else 'no floor'}"
            cells = (f"{1e3 * float(value.detach()):.4f}", f"{1e3 * slope:.5f}", f"{off:.1e}", f"{middle - began:.2f}")
            rows.append([name, *cells, f"{ratio:.2f}"])
    head = ["", "tip [mm]", "d tip / d ln E [mm]", "off differences", "forward CPU s", "backward over forward"]
    show(f"Block held at its left side, {field.size} weights", head, rows)
    print(judged("off central differences", worst, 1e-3))
    print(judged("backward over forward", dearest, 2.0))


def run(args: argparse.Namespace) -> int:
    """The parts asked for."""
    if "pull" in args.parts:
        for law in args.laws:
            pull(law, args.widths, args.grids)
    if "contact" in args.parts:
        for kind in ("floor", "ball"):
            contact(kind, args.widths, min(args.grids, 3))
    if "particles" in args.parts:
        hanging(args.laws, args.cells, args.widths[-1])
    if "gradients" in args.parts:
        gradients()
    return 0
