"""One step in weight space, and its adjoint by the implicit function theorem."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from physim.errors import GradientError
from physim.sim.trajectory import RolloutFailure, Status
from physim.solvers.insr.defect import Balanced, balance, residual, share
from physim.solvers.insr.fields import Box, Field
from physim.solvers.insr.normal import MANY
from physim.solvers.insr.points import Points
from physim.solvers.insr.project import Found, Match, Projection, project
from physim.solvers.insr.schemes import LATE, Scheme, target
from physim.solvers.insr.tangent import Equation, Tangent, carried

FOLLOWED = 1e-3
"""Share of a step's change that may be missed before it is taken again with more damping."""
NEAR = 1e-6
"""Share of the field itself below which what is missed does not matter, where hardly anything changes."""
LOST = 0.1
"""Share that may be missed at all."""
SHARP = 1e-3
"""Share of a step's change that may be missed for its gradient to be told."""
DAMPINGS = 3
"""Tries with a hundred times the damping each."""
STILL = 1e-3
"""Share of the equation's terms at the start that those of a step are compared with at least."""
SETTLED = 1e-2
"""Newton decrement over the change of a step beyond which its gradient is refused."""


@dataclass
class Stepper:
    """Takes steps of one problem.

    Attributes:
        problem, field, box, scheme: see `SolverInsr`.
        projection: how hard the nearest field is looked for.
        damping: of changes in the tangent space.
        checks: points at which steps are judged; others than those compared.
        latest: the tangent space used last; a backward pass needs each twice.
    """

    problem: Equation
    field: Field
    box: Box
    scheme: Scheme
    projection: Projection
    damping: float
    checks: Points
    latest: Tangent | None = dataclasses.field(default=None, repr=False)

    @property
    def in_tangent(self) -> bool:
        """Whether steps are taken in the tangent space, or along characteristics."""
        return self.scheme is not Scheme.SEMI_LAGRANGIAN

    def tangent(self, points: Points, flat: Tensor, damping: float) -> Tangent:
        """The tangent space at weights; the last one is kept."""
        last = self.latest
        same = last is not None and last.points is points and torch.equal(last.flat, flat)
        if not same or last is None:
            last = Tangent(self.field, self.problem, points, flat, damping)
        last.damping = damping
        self.latest = last
        return last

    def take(self, flat: Tensor, before: Tensor, points: Points, t: float, dt: float, terms: float) -> Taken:
        """A step of `dt` [s] from weights `flat`, (p,).

        Raises:
            RolloutFailure: the field is not finite, or misses what it should follow by more than a tenth of the change.
        """
        best: Taken | None = None
        unsolved: RolloutFailure | None = None
        tries = DAMPINGS if self.in_tangent else 1
        for damping in (self.damping * 100.0**k for k in range(tries)):
            try:
                taken = self._once(flat, before, points, dt, damping)
            except RolloutFailure as failure:
                unsolved = failure
                continue
            if best is None or taken.share < best.share:
                best = taken
            if best.share < FOLLOWED or best.found.rms < NEAR * best.size:
                break
        if best is None:
            raise RolloutFailure(Status.MISSED, substep=0, particle=-1, t=t, detail=unsolved.detail if unsolved else "")
        if not (best.share < LOST or best.found.rms < NEAR * best.size):
            finite = math.isfinite(best.share)
            told = f"it misses {best.found.rms:.2g}, the step changes {best.moved:.2g}" if finite else "not finite"
            raise RolloutFailure(Status.MISSED, substep=0, particle=-1, t=t, detail=told)
        return dataclasses.replace(best, defect=self.defect(flat, best, dt, terms))

    def defect(self, flat: Tensor, taken: Taken, dt: float, terms: float) -> float:
        """What a step left of its equation at other points, over the equation's terms.

        Along characteristics, which a step may follow far, it is what the step missed there over what it changes.
        """
        checks, after = self.checks, taken.found.weights
        if not self.in_tangent:
            wanted, _ = self.aim(None, flat, checks, dt)
            match = Match(lambda w: carried(self.field, self.problem, w, checks.x), wanted, checks.weight)
            missed, moved = (math.sqrt(match.loss(match.missed(w))) for w in (after, flat))
            # Where next to nothing changes any more, noise is no sign of anything.
            return missed / moved if missed > 10.0 * self.projection.tolerance else 0.0
        if not isinstance(self.problem, Balanced):
            return 0.0
        begin, end = (balance(self.problem, self.field, w, checks.x) for w in (flat, after))
        return share(residual(begin, end, dt, LATE.get(self.scheme, 0.5)), begin, end, checks, STILL * terms)

    def _once(self, flat: Tensor, before: Tensor, points: Points, dt: float, damping: float) -> Taken:
        tangent = self.tangent(points, flat, damping) if self.in_tangent else None
        wanted, change = self.aim(tangent, flat, points, dt)
        match = Match(lambda w: carried(self.field, self.problem, w, points.x), wanted, points.weight)
        now = match.missed(flat)
        moved = math.sqrt(match.loss(now))
        # Where weights go on as they went, the field is often near already.
        start = min((flat, 2.0 * flat - before), key=lambda w: match.loss(match.missed(w)))
        if change is not None:
            start = flat + change
        found = project(match, start, self.projection, first=tangent.normal if tangent else None)
        return Taken(found, moved, damping, math.sqrt(match.loss(wanted)))

    def aim(self, tangent: Tangent | None, flat: Tensor, points: Points, dt: float) -> tuple[Tensor, Tensor | None]:
        """What a step is to reach, and the change of the weights that does so to first order; differentiable."""
        return target(self.scheme, self.field, self.problem, tangent, flat, points, self.box, dt)

    def step(
        self, flat: Tensor, before: Tensor, points: Points, t: float, dt: float, last: float, terms: float
    ) -> tuple[Tensor, Taken]:
        """`take`, differentiable in the weights and the problem's parameters."""
        given = [p for p in self.problem.parameters() if p.requires_grad]
        if not torch.is_grad_enabled() or not (flat.requires_grad or given):
            with torch.no_grad():
                taken = self.take(flat, before, points, t, dt, terms)
            return taken.found.weights, taken
        if len(flat) > MANY:
            raise GradientError(f"gradients are offered for fields of up to {MANY} weights; this one has {len(flat)}.")
        box: list[Taken] = []
        weights = _Step.apply(self, box, before.detach(), points, t, dt, terms, flat, *given)
        assert isinstance(weights, Tensor)
        return weights, box[0]


@dataclass(frozen=True)
class Taken:
    """A step that was taken.

    Attributes:
        found: the weights, and what is missed.
        moved: root mean square of what the step changes.
        damping: of the tangent space.
        size: root mean square of what is to be reproduced.
        held_back: which damping was tried, over the mean of the curvature's diagonal.
        defect: what was left of the equation at other points, see `FieldState`.
    """

    found: Found
    moved: float
    damping: float
    size: float = 0.0
    held_back: float = 0.0
    defect: float = 0.0

    @property
    def share(self) -> float:
        """What is missed over what changes."""
        return self.found.rms / self.moved if self.moved > 0 else (0.0 if self.found.rms == 0 else math.inf)


def copies(module: Any) -> list[Tensor]:
    """What a problem's parameters are now."""
    return [p.detach().clone() for p in module.parameters()]


def check_unchanged(module: Any, then: Sequence[Tensor]) -> None:
    """Raise `GradientError` where parameters are not what they were when a step was taken."""
    now = list(module.parameters())
    if len(now) != len(then) or not all(map(torch.equal, now, then)):
        raise GradientError("parameters changed between a step and its backward pass: call backward first.")


class _Step(torch.autograd.Function):
    """Weights after a step: they minimise |u(w) - target|^2, and J^T W (u - target) = 0 is differentiated."""

    @staticmethod
    def forward(
        ctx: Any,
        stepper: Stepper,
        box: list,
        before: Tensor,
        points: Points,
        t: float,
        dt: float,
        terms: float,
        *given: Tensor,
    ) -> Tensor:
        taken = stepper.take(given[0].detach(), before, points, t, dt, terms)
        box.append(taken)
        ctx.stepper, ctx.points, ctx.t, ctx.dt, ctx.taken = stepper, points, t, dt, taken
        ctx.then = copies(stepper.problem)
        ctx.save_for_backward(*given)
        return taken.found.weights

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        """With y = (J^T W J)^-1 wbar at the new weights, the target's share is W J y; the rest is the target's own."""
        stepper: Stepper = ctx.stepper
        points, taken, (cotangent,) = ctx.points, ctx.taken, cotangents
        if not torch.isfinite(cotangent).all():
            raise GradientError(f"step at t = {ctx.t:.6g} s: the gradient of the weights after it is not finite.")
        check_unchanged(stepper.problem, ctx.then)
        if taken.share > SHARP and taken.found.rms > NEAR * taken.size:
            raise GradientError(
                f"step at t = {ctx.t:.6g} s: the field misses {taken.found.rms:.2g} of what the step changes by "
                f"{taken.moved:.2g}, and its gradient would be off by several times that share. Use more weights, a "
                "smaller dt, or more linearisations."
            )
        after = stepper.tangent(points, taken.found.weights, taken.damping)
        _, pulled = after.back(cotangent)
        flat, *given = ctx.saved_tensors
        before = stepper.tangent(points, flat.detach(), taken.damping) if stepper.in_tangent else None
        with torch.enable_grad():
            leaf = flat.detach().requires_grad_()
            wanted, _ = stepper.aim(before, leaf, points, ctx.dt)
            _check_settled(after, wanted.detach(), taken, ctx.t)
            needed = [leaf, *given] if ctx.needs_input_grad[7] else given
            found = torch.autograd.grad(wanted, needed, pulled, allow_unused=True)
        slopes = found if ctx.needs_input_grad[7] else (None, *found)
        for slope in slopes:
            if slope is not None and not torch.isfinite(slope).all():
                raise GradientError(f"step at t = {ctx.t:.6g} s: the gradient of its target is not finite.")
        return (None,) * 7 + slopes


def _check_settled(after: Tangent, wanted: Tensor, taken: Taken, t: float) -> None:
    """Refuse the gradient of a search that ended before its minimum."""
    left = after.values(after.flat) - wanted
    step, _ = after.back(after.normal.pull(left))
    decrement = float((after.points.weight[:, None] * after.normal.push(step).square()).sum().sqrt())
    if decrement > SETTLED * taken.moved:
        raise GradientError(
            f"step at t = {t:.6g} s: the search for the nearest field ended {decrement:.2g} from its minimum, and the "
            f"step changes {taken.moved:.2g}: its gradient would not be that of the minimum. Allow more linearisations."
        )
