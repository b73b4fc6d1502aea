"""Is the gradient of a scene right? The adjoint against central differences in double precision.

The scene is run to `at` of its duration, and from that state a short rollout is differentiated with respect to
everything it depends on. Each difference quotient is taken with two step sizes. Where the two disagree, the loss has a
kink within a step (contact made or lost, yield begun), no derivative exists there, and the row says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from physim.fit.differences import Difference
from physim.fit.differences import compare as differences
from physim.scene.build import build
from physim.scene.built import Built
from physim.scene.loader import load_scene
from physim.sim.rollout import rollout
from physim.sim.state import Control

# Agreement asked for where the loss is smooth.
BAR = 1e-6
# Below this share of the largest directional derivative there is no effect worth differentiating.
SILENT = 1e-9
WRONG = "WRONG"
# Steps that fit between the kinks of a plastic or granular path.
FINER = (2e-6, 5e-7)


@dataclass(frozen=True)
class GradientRow:
    """One directional derivative of a scene: `ok`, `ok (to rounding)`, `no effect`, a kink, or WRONG."""

    scene: str
    found: Difference
    verdict: str

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong; a named kink is not an error."""
        return self.verdict != WRONG

    def __str__(self) -> str:
        """One line of the table: adjoint, central difference, relative error, verdict."""
        d = self.found
        return f"{self.scene:18} {d.name:28} {d.gradient:+.9e} {d.fine:+.9e} {d.error:9.1e}  {self.verdict}"


def check_gradients(
    scene: str, *, overrides: Sequence[str] = (), at: float = 0.5, substeps: int = 40, seed: int = 0
) -> Iterator[GradientRow]:
    """Directional derivatives of a scene's rollout: material parameters, state, gravity, collider motion.

    Args:
        scene: file or name of a scene.
        overrides: changes such as `materials.beam.E=80kPa`.
        at: share of the duration after which the checked rollout starts.
        substeps: length of the checked rollout.
        seed: of the random directions and of the random linear loss.
    """
    built = build(load_scene(scene, overrides), precision="double")
    yield from compare(built, at=at, substeps=substeps, seed=seed)


def compare(built: Built, *, at: float, substeps: int, seed: int) -> Iterator[GradientRow]:
    """As `check_gradients`, for a scene that is already built in double precision."""
    model, solver = built.model, built.solver
    with torch.no_grad():
        before = round(at * built.steps)
        start = rollout(solver, built.state, dt=built.dt, steps=before, every=max(before, 1)).final
    generator = torch.Generator().manual_seed(seed)
    points = solver.particles(start).x
    weights = torch.randn(points.shape, dtype=torch.float64, generator=generator) / len(points) ** 0.5
    for material in model.materials:
        material.free(*material.raw)
    control = model.control_at(start.t)
    knobs = _knobs(built, start, control, generator)
    # A loss in units of dx keeps the difference quotients' rounding near 1e-16 divided by their step.
    scale = 1.0 / model.grid.dx

    amounts = {k.name: torch.zeros((), dtype=torch.float64, requires_grad=True) for k in knobs}

    def loss() -> Tensor:
        state, twist, gravity = start, control, None
        for knob in knobs:
            state, twist, gravity = knob.apply(amounts[knob.name], state, twist, gravity)
        now = twist if gravity is None else dataclasses.replace(twist, acceleration=gravity)
        half = max(1, substeps // 2)
        middle = solver.advance(state, now, built.dt, half)
        end = solver.advance(middle, now, built.dt, max(1, substeps - half))
        moved = [solver.particles(s).x - points for s in (middle, end)]
        return scale * ((weights * moved[1]).sum() + (weights.flip(0) * moved[0]).sum())

    raw = [p for m in model.materials for p in m.raw.values()]
    leaves = {**amounts, **dict(zip(_raw_names(built), raw, strict=True))}
    terms = scale * float((weights.abs() * points.abs()).sum())
    found = differences(loss, {name: (leaf, 1.0) for name, leaf in leaves.items()}, seed=seed, magnitude=terms)
    largest = max(abs(d.gradient) for d in found)
    for index, difference in enumerate(found):
        verdict = _verdict(difference, largest)
        if verdict == WRONG:  # kinks on both sides: steps that stay between them decide
            finer = differences(
                loss, {n: (t, 1.0) for n, t in leaves.items()}, steps=FINER, seed=seed, magnitude=terms
            )[index]
            if finer.agrees(BAR) and finer.noise < 1e-3 * finer.size:
                verdict = f"kink: agrees with the quotient {finer.fine:+.6e} of a step of {FINER[1]:g}"
        yield GradientRow(built.scene.name, difference, verdict)


def _verdict(found: Difference, largest: float) -> str:
    if max(abs(found.gradient), abs(found.fine)) <= SILENT * largest:
        return "no effect"
    if found.error <= BAR:
        return "ok"
    if found.agrees(BAR):
        return "ok (to rounding)"
    return f"kink: {found.coarse:+.6e} with the larger step" if found.kink else WRONG


Applied = tuple[Any, Control, Tensor | None]


@dataclass(frozen=True)
class _Knob:
    """A direction in which the rollout's inputs can be moved by a dimensionless amount."""

    name: str
    apply: Callable[[Tensor, Any, Control, Tensor | None], Applied]


def _knobs(built: Built, start: Any, control: Control, generator: torch.Generator) -> list[_Knob]:
    grid = built.model.grid
    plane = torch.tensor([1.0, 1.0, 0.0 if grid.dim == 2 else 1.0], dtype=torch.float64)
    sizes = {"x": grid.dx, "u": grid.dx, "F": 0.1, "h": 0.01}
    knobs = []
    for field in dataclasses.fields(start):
        value = getattr(start, field.name)
        if not isinstance(value, Tensor) or value.numel() == 0:
            continue
        direction = torch.randn(value.shape, dtype=torch.float64, generator=generator)
        if value.shape[-1] == 3:
            direction = direction * plane * (plane[:, None] if value.ndim == 3 else 1.0)
        direction = direction * sizes.get(field.name, max(float(value.abs().max()), 0.1))

        def move(
            a: Tensor, s: Any, c: Control, g: Tensor | None, name: str = field.name, d: Tensor = direction
        ) -> Applied:
            return s.replace(**{name: getattr(s, name) + a * d}), c, g

        knobs.append(_Knob(f"state {field.name}", move))
    pull = torch.randn(3, dtype=torch.float64, generator=generator) * plane * 10.0
    knobs.append(_Knob("gravity", lambda a, s, c, g: (s, c, a * pull)))
    if len(control.velocity):
        twist = torch.randn(control.velocity.shape, dtype=torch.float64, generator=generator) * plane
        turning = torch.randn(control.spin.shape, dtype=torch.float64, generator=generator) * (
            plane if grid.dim == 3 else torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
        )

        def drive(a: Tensor, s: Any, c: Control, g: Tensor | None) -> Applied:
            return s, dataclasses.replace(c, velocity=c.velocity + a * twist), g

        def rotate(a: Tensor, s: Any, c: Control, g: Tensor | None) -> Applied:
            return s, dataclasses.replace(c, spin=c.spin + a * turning), g

        def shift(a: Tensor, s: Any, c: Control, g: Tensor | None) -> Applied:
            return s, dataclasses.replace(c, position=c.position + a * grid.dx * twist), g

        knobs += [
            _Knob("collider velocity", drive),
            _Knob("collider spin", rotate),
            _Knob("collider position", shift),
        ]
    return knobs


def _raw_names(built: Built) -> list[str]:
    names = list(built.scene.materials)
    return [f"{names[i]}.{key}" for i, m in enumerate(built.model.materials) for key in m.raw]
