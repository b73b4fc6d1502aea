"""How a gradient's errors are measured: against other adjoints, other numbers of worlds, and central differences."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from physim.sim.rollout import rollout
from physim.sim.state import ParticleState
from physim.solvers.mpm.solver import SolverMPM
from tools.bench.generated import GeneratedSolver
from tools.bench.gradient_scenes import SCENES, WORLDLY, Setup

BARS = {"generated_64": 1e-11, "alone_64": 1e-11, "differences_64": 1e-6, "float64_32": 1e-3, "generated_32": 1e-3}
REASONS = {
    "generated_64": "the same sums in another order: rounding, 1e-16, times the condition of some 50 substeps",
    "alone_64": "likewise",
    "differences_64": "curvature and rounding of a quotient; where its rounding alone is larger, that",
    "float64_32": "rounding, 6e-8, times the same condition; a node or particle may switch contact or yield with it",
    "generated_32": "likewise: sums in another order round differently",
}
RATIO = 4.0
STEPS = tuple(1e-2 * RATIO**-k for k in range(10))
"""Steps of the central differences, relative to a leaf's scale."""
ROUNDING = 2e-15
"""Relative rounding of a loss after some fifty substeps in float64."""
Gradients = dict[str, Tensor]
Make = Callable[[Setup], Callable[[], ParticleState]]


def fast(setup: Setup, threads: int = 2) -> Callable[[], ParticleState]:
    """The engine's rollout, from the leaves' present values on."""
    scene = setup.scene
    solver = SolverMPM(
        setup.model,
        setup.start.x.detach(),
        setup.start.v.detach(),
        threads=threads,
        worlds=setup.worlds,
        **scene.options,
    )

    def run() -> ParticleState:
        state, control = setup.given()
        steps = scene.steps
        return rollout(solver, state, dt=scene.dt, steps=steps, every=steps, control=lambda t: control).final

    return run


def generated(setup: Setup) -> Callable[[], ParticleState]:
    """The same with generated adjoints."""
    solver = GeneratedSolver(setup.model, **setup.scene.options)

    def run() -> ParticleState:
        state, control = setup.given()
        return solver.advance(state, control, setup.scene.dt, setup.scene.steps)

    return run


def gradients(setup: Setup, make: Make) -> Gradients:
    """Gradients of the loss by name of the leaf."""
    leaves = [t for t, _scale in setup.leaves.values()]
    found = torch.autograd.grad(setup.loss(make(setup)()), leaves)
    return {n: g.double() for n, g in zip(setup.leaves, found, strict=True)}


def world_by_world(setup: Setup, make: Make) -> Gradients:
    """The same from solvers of one world each."""
    if setup.worlds == 1:
        return gradients(setup, make)
    parts = [gradients(setup.world(w), make) for w in range(setup.worlds)]
    found = {}
    for name, (leaf, _scale) in setup.leaves.items():
        mine = [p[name] for p in parts]
        if name in WORLDLY or (leaf.ndim == 1 and leaf.shape[0] == setup.worlds):
            found[name] = torch.stack(mine)
        elif leaf.shape[:1] == setup.start.x.shape[:1]:
            found[name] = torch.cat(mine)
        else:
            found[name] = torch.stack(mine).sum(dim=0)
    return found


@dataclass(frozen=True)
class Slope:
    """The slope of the loss along a direction from central differences.

    Attributes:
        direction: in the leaf's own unit.
        value: Richardson's extrapolation from the two steps at which it changes least.
        spread: by how much it changes there.
        step: the smaller of them, relative to the scale.
        noise: rounding of the quotient there.
    """

    direction: Tensor
    value: float
    spread: float
    step: float
    noise: float


def slopes(
    setup: Setup, directions: int = 2, seed: int = 0, names: Sequence[str] | None = None
) -> Iterator[tuple[str, Slope]]:
    """Slopes of the float64 loss by each leaf (or those named) along random directions; gradients play no part."""
    draw, run = torch.Generator().manual_seed(seed), fast(setup, threads=1)
    with torch.no_grad():
        rounding = ROUNDING * abs(float(setup.loss(run())))
        for name in names or tuple(setup.leaves):
            leaf, scale = setup.leaves[name]
            start = leaf.detach().clone()
            for _ in range(directions if leaf.numel() > 1 else 1):
                way = torch.randn(leaf.shape, generator=draw, dtype=leaf.dtype) if leaf.numel() > 1 else leaf * 0 + 1
                quotients = []
                for step in STEPS:
                    ends = []
                    for sign in (1.0, -1.0):
                        leaf.copy_(start + sign * step * scale * way)
                        ends.append(float(setup.loss(run())))
                    quotients.append((ends[0] - ends[1]) / (2 * step))
                leaf.copy_(start)
                better = [(RATIO**2 * b - a) / (RATIO**2 - 1) for a, b in itertools.pairwise(quotients)]
                changes = [abs(b - a) for a, b in itertools.pairwise(better)]
                best = changes.index(min(changes))
                step = STEPS[best + 1]
                yield name, Slope(scale * way, better[best], changes[best], step, rounding / step)


@dataclass
class Row:
    """Relative errors of one gradient.

    Attributes:
        scene, by: what is differentiated by what.
        size: norm of the gradient, times the leaf's scale.
        errors: by kind, see `BARS`; `differences_32` has no bar beside that of float64.
        spread: of the central differences themselves, by the same measure.
        noise: their rounding, by the same measure; no smaller error says anything.
    """

    scene: str
    by: str
    size: float
    errors: dict[str, float] = field(default_factory=dict)
    spread: float = 0.0
    noise: float = 0.0

    @property
    def bad(self) -> list[str]:
        """Kinds of error above their bar."""
        bars = BARS | {"differences_64": max(BARS["differences_64"], self.noise)}
        return [k for k, bar in bars.items() if not self.errors.get(k, 0.0) <= bar]


def relative(found: Tensor, true: Tensor) -> float:
    """|found - true| / |true|; zero where both are."""
    gap, size = float((found - true).norm()), float(true.norm())
    return gap / size if size > 0 else 0.0 if gap == 0 else float("inf")


def compare(name: str, tell: Callable[[str], None] = lambda text: None, *, differences: bool = True) -> list[Row]:
    """All rows of one scene."""
    scene, found = SCENES[name], {}
    for bits, dtype in ((64, torch.float64), (32, torch.float32)):
        tell(f"{name}: float{bits}")
        setup = scene.set_up(dtype)
        found["fast", bits] = gradients(setup, fast)
        found["generated", bits] = world_by_world(setup, generated)
        if scene.worlds > 1:
            found["alone", bits] = world_by_world(setup, fast)
    setup = scene.set_up(torch.float64)
    rows = {}
    for by, (_leaf, scale) in setup.leaves.items():
        exact, single = found["fast", 64][by], found["fast", 32][by]
        row = rows[by] = Row(name, by, float(exact.norm()) * scale)
        row.errors["generated_64"] = relative(exact, found["generated", 64][by])
        if scene.worlds > 1:
            row.errors["alone_64"] = relative(exact, found["alone", 64][by])
        row.errors["float64_32"] = relative(single, exact)
        row.errors["generated_32"] = relative(single, found["generated", 32][by])
    if differences:
        tell(f"{name}: central differences")
        for by, slope in slopes(setup):
            row = rows[by]
            size = row.size if row.size > 0 else 1.0
            for bits in (64, 32):
                gap = abs(float((found["fast", bits][by] * slope.direction).sum()) - slope.value)
                kind = f"differences_{bits}"
                row.errors[kind] = max(row.errors.get(kind, 0.0), gap / size)
            row.spread, row.noise = max(row.spread, slope.spread / size), max(row.noise, slope.noise / size)
    return list(rows.values())
