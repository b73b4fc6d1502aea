"""A step of a body: the displacement of least incremental potential, and its adjoint."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from physim.errors import GradientError, InputError
from physim.sim.model import ColliderKind
from physim.sim.trajectory import RolloutFailure, Status
from physim.solvers.insr.body import Body
from physim.solvers.insr.fields import Field
from physim.solvers.insr.maps import Weights
from physim.solvers.insr.normal import Damped, Normal
from physim.solvers.insr.points import Points, quadrature, surface
from physim.solvers.insr.potential import GRAVITY, Potential, Shape, Space, end_of, root
from physim.solvers.insr.project import Found, Match, Projection, project
from physim.solvers.insr.steps import FOLLOWED, LOST, Taken, check_unchanged, copies
from physim.solvers.insr.tangent import derivatives

DAMPINGS = (1e-10, 1e-6, 1e-4, 1e-2)
"""How strongly changes of the weights are held back, over the mean of the curvature's diagonal: the first with which
the field can follow is taken."""
ROUNDS = 100
"""Tangent spaces that a search for equilibrium may go through."""
ITERATIONS, HALVINGS = 60, 60
"""Newton steps in one of them, and how often one of these is halved."""
SETTLED = 1e-5
"""Root mean square of what a round changes at which equilibrium is found, over the size of the body."""
STILL = 1e-12
"""The same for a Newton step within a round."""
UNBALANCED = 1e-6
"""Share of the first imbalance of forces that may be left where no step makes the energy less."""
PASSED = 0.1
"""Share of a sphere's radius that a point may be deeper in it on its way than at both ends of a step."""
NOTHING, HELD, NOISE = 1e-8, 1e-3, 10.0
"""Strain that does not count where a body is judged: by itself, over a step's motion in sizes of the body, and over the
strain that the field misses."""
EXACT = 1e-10
"""Damping of adjoints, over the mean of the diagonal."""


@dataclass
class BodyStepper:
    """Implicit Euler on the incremental potential.

    A round looks for the least energy among displacements that are linear in the change of the weights, with that
    change held back a little, by Newton with the law's exact tangent made positive; then for the weights whose field
    is nearest to the one found, in the norm of the tangent. A step is one round, with `past` = 2 u_n - u_(n-1); an
    equilibrium as many as change anything.

    Attributes:
        potential: of the body.
        projection: how hard the nearest field is looked for.
        judge: the potential at other points, where steps are judged.
    """

    potential: Potential
    projection: Projection
    judge: Potential

    @staticmethod
    def of(body: Body, field: Field, points: Points, projection: Projection) -> BodyStepper:
        """With points on the surface about as far apart as those inside."""
        spacing = (body.volume / len(points.x)) ** (1.0 / body.dim)
        for obstacle in body.obstacles:
            if obstacle.kind is ColliderKind.SPHERE and obstacle.size[0] < spacing:
                raise InputError(
                    f"'{obstacle.name}' has a radius of {obstacle.size[0]:.3g} m, and contact is looked for at points "
                    f"{spacing:.3g} m apart: give the field more weights, or take solver: mpm."
                )
        others = quadrature(body.box, math.ceil(1.5 * len(points.x)))
        closer = surface(body.box, spacing / 1.5)
        own = Potential(body, field, points, surface(body.box, spacing))
        return BodyStepper(own, projection, Potential(body, field, others, closer))

    def check_start(self, flat: Tensor, t: float) -> None:
        """Raise where the body is inside an obstacle at the start."""
        body = self.potential.body
        if not body.obstacles:
            return
        deepest = body.gaps(self.potential.skin(Weights(flat)), t).min(dim=0)
        for obstacle, gap, point in zip(body.obstacles, deepest.values, deepest.indices, strict=True):
            if float(gap) < -1e-6 * max(body.box.size):
                at = ", ".join(f"{c:.4g}" for c in self.potential.surface.x[point].tolist())
                raise InputError(
                    f"the body begins {-float(gap):.3g} m inside '{obstacle.name}', deepest at ({at}) m: move one of "
                    "them apart."
                )

    def step(
        self, flat: Tensor, before: Tensor, points: Points, t: float, dt: float, last: float, terms: float = 0.0
    ) -> tuple[Tensor, Taken]:
        """Weights after a step of `dt` [s], or at equilibrium for an infinite one; differentiable.

        Rounds go on while changes of the weights must be held back for the field to follow.

        Raises:
            RolloutFailure: no damping lets the field follow, or rounds do not settle.
            GradientError: gravity takes a gradient, which is not offered.
        """
        body = self.potential.body
        if torch.is_grad_enabled() and body.gravity.requires_grad:
            raise GradientError("the weight-space solver offers no gradient by gravity: detach it.")
        end = end_of(t, dt)
        moving = BodyStepper(self.potential.at(end), self.projection, self.judge.at(end))
        return moving._rounds(flat, before, t, dt, last)

    def _rounds(self, flat: Tensor, before: Tensor, t: float, dt: float, last: float) -> tuple[Tensor, Taken]:
        """See `step`; conditions are those at its end."""
        body = self.potential.body
        given = [p for p in body.parameters() if p.requires_grad]
        size, weights, moved = max(body.box.size), flat, 0.0
        changed, first = math.inf, self.potential.at(t).displacement(Weights(flat.detach()), self.potential.points.x)
        for _ in range(ROUNDS):
            box: list[Taken] = []
            now = self._displacement(weights)
            if torch.is_grad_enabled() and (flat.requires_grad or before.requires_grad or given):
                applied = _Round.apply(self, box, t, dt, last, weights, flat, before, *given)
                assert isinstance(applied, Tensor)
                weights = applied
            else:
                weights = self._round(weights, self.potential.past(flat, before, t, dt, last), t, dt, box)
            here = self._displacement(weights)
            changed, moved = self.potential.rms(here - now), self.potential.rms(here - first)
            still = SETTLED * size if math.isinf(dt) else FOLLOWED * moved
            free = box[0].held_back == DAMPINGS[0] and not math.isinf(dt)
            if free or changed <= still:
                with torch.no_grad():
                    taken = Taken(Found(weights.detach(), box[0].found.rms, 1), moved, box[0].damping)
                    defect = self._judged(taken, flat.detach(), before.detach(), t, dt, last)
                return weights, replace(taken, defect=defect)
        told = f"after {ROUNDS} rounds displacements still change by {changed:.2g} m"
        raise RolloutFailure(Status.MISSED, substep=0, particle=-1, t=t, detail=told)

    def _judged(self, taken: Taken, flat: Tensor, before: Tensor, t: float, dt: float, last: float) -> float:
        """How much of its energy a body hides between the points, over that energy; gravity's hides nothing.

        Raises:
            RolloutFailure: a sphere is passed through in one step, or the body is inverted between the points.
        """
        weights = taken.found.weights
        self._check_passed(flat, weights, t, dt)
        here, there = (
            p.parts(p.shape(weights), p.past(flat, before, t, dt, last), t, dt) for p in (self.potential, self.judge)
        )
        if not here or not there:
            raise RolloutFailure(Status.INVERTED, substep=0, particle=-1, t=t, detail="between the points compared")
        body = self.potential.body
        # Strains that the field misses anyhow do not count, nor those that holding changes back leaves.
        strain = NOTHING + HELD * taken.moved / max(body.box.size) + NOISE * taken.found.rms
        least = body.volume * body.stiffest * strain**2
        hidden = sum(float(a - b) for k, (a, b) in enumerate(zip(here, there, strict=True)) if k != GRAVITY)
        whole = sum(float(part) for k, part in enumerate(there) if k != GRAVITY) + least
        return abs(hidden) / whole

    def _check_passed(self, flat: Tensor, weights: Tensor, t: float, dt: float) -> None:
        """Raise where a point of the surface goes through a sphere: on its way far deeper than at both ends."""
        body = self.judge.body
        spheres = [o for o in body.obstacles if o.kind is ColliderKind.SPHERE]
        if not spheres or math.isinf(dt):
            return
        ends = [self.judge.at(t).skin(Weights(flat)), self.judge.skin(Weights(weights))]
        for ball in spheres:
            at = [torch.as_tensor(ball.motion(time)[0][: body.dim], dtype=flat.dtype) for time in (t, t + dt)]
            begin, end = (x - centre for x, centre in zip(ends, at, strict=True))
            way = end - begin
            along = (-(begin * way).sum(dim=1) / way.square().sum(dim=1).clamp(min=1e-300)).clamp(0.0, 1.0)
            nearest, least = (
                (begin + along[:, None] * way).norm(dim=1),
                torch.minimum(begin.norm(dim=1), end.norm(dim=1)),
            )
            deeper = torch.minimum(least, torch.tensor(ball.size[0])) - nearest
            if float(deeper.max()) > PASSED * ball.size[0]:
                told = f"a point goes through '{ball.name}' in one step, {float(deeper.max()):.2g} m deep"
                raise RolloutFailure(Status.MISSED, substep=0, particle=-1, t=t, detail=told)

    def _displacement(self, flat: Tensor) -> Tensor:
        with torch.no_grad():
            return self.potential.displacement(Weights(flat.detach()), self.potential.points.x)

    def _round(self, flat: Tensor, past: Tensor, t: float, dt: float, box: list[Taken]) -> Tensor:
        """Weights after a round; what is missed is left in `box`."""
        with torch.no_grad():
            space = Space.at(self.potential, flat)
            best: tuple[float, Taken] | None = None
            for damping in DAMPINGS:
                change, shape, held = self.least(space, past, t, dt, damping)
                match = self.match(shape, dt)
                still = match.loss(match.missed(flat))
                found = project(match, flat + change, self.projection)
                if not found.rms**2 <= still:
                    found = project(match, flat, self.projection)
                share = found.rms / math.sqrt(still) if still > 0 else 0.0
                if best is None or share < best[0]:
                    best = share, Taken(found, math.sqrt(still), held, held_back=damping)
                if share < FOLLOWED or found.rms < self.projection.tolerance:
                    break
            assert best is not None
            if not best[0] < LOST:
                told = f"it misses {100 * best[0]:.0f} % of what the step changes"
                raise RolloutFailure(Status.MISSED, substep=0, particle=-1, t=t, detail=told)
            box.append(best[1])
            return best[1].found.weights

    def least(
        self, space: Space, past: Tensor, t: float, dt: float, damping: float, held: float = 0.0
    ) -> tuple[Tensor, Shape, float]:
        """The change of the weights with the least E + held/2 |change|^2, the displacement it leads to, and `held`.

        `held` is `damping` times the mean diagonal of a curvature with the stiffest modulus of the body as it was
        built, so that it does not change with the parameters, unless it is given.
        """
        change, size = torch.zeros_like(space.flat), max(self.potential.body.box.size)
        shape = space.start
        held, first = held or damping * space.scale(dt), 0.0
        energy = float(self.potential.energy(shape, past, t, dt))
        if math.isinf(energy):
            raise RolloutFailure(Status.INVERTED, substep=0, particle=-1, t=t)
        for count in range(ITERATIONS):
            slope, stiff = space.slope(shape, past, t, dt)
            normal = Damped(space.curvature(shape, stiff, t, dt))
            left = slope + held * change
            first = first or float(left.norm())
            step = -normal.solve(left, held / normal.scale)
            for _ in range(HALVINGS):
                tried = space.moved(change + step)
                now = float(self.potential.energy(tried, past, t, dt) + 0.5 * held * (change + step).square().sum())
                if now <= energy + 1e-14 * abs(energy):
                    break
                step = 0.5 * step
            else:
                if float(left.norm()) <= UNBALANCED * first:
                    return change, shape, held
                break
            went = self.potential.rms((tried.q - shape.q)[..., 0])
            change, shape, energy = change + step, tried, now
            if went < STILL * size and count:
                return change, shape, held
        told = f"the least energy was not found: {float(left.norm()) / first:.1g} of the first imbalance is left"
        raise RolloutFailure(Status.MISSED, substep=0, particle=-1, t=t, detail=told)

    def match(self, shape: Shape, dt: float) -> Match:
        """Nearness to a displacement, in the norm of the energy there over its stiffest modulus."""
        body, dim = self.potential.body, self.potential.body.dim
        _, stiff = body.tangent(body.deformation(shape.q))
        # Where nothing resists (a rigid motion without inertia) nearness counts still.
        stiff = stiff / body.stiffest + 1e-3 * torch.eye(dim * dim, dtype=stiff.dtype)
        turned = root(stiff)
        inert = 0.0 if math.isinf(dt) else body.material.rho0 / dt**2 / body.stiffest
        held = math.sqrt(inert + 1e-3 / max(body.box.size) ** 2)

        def seen(q: Tensor) -> Tensor:
            strain = torch.einsum("nij,nj->ni", turned, q[..., 1:].flatten(1))
            return torch.cat([held * q[..., 0], strain], dim=1)

        x, field, wanted = self.potential.points.x, self.potential.field, body.wanted
        return Match(
            lambda w: seen(derivatives(field, w, x, wanted)), seen(shape.q), self.potential.points.weight, seen
        )


class _Round(torch.autograd.Function):
    """A round; both of its minima are differentiated by their conditions."""

    @staticmethod
    def forward(ctx: Any, stepper: BodyStepper, box: list, t: float, dt: float, last: float, *given: Tensor) -> Tensor:
        weights, flat, before = (g.detach() for g in given[:3])
        with torch.no_grad():
            past = stepper.potential.past(flat, before, t, dt, last)
        found = stepper._round(weights, past, t, dt, box)
        ctx.stepper, ctx.t, ctx.dt, ctx.last, ctx.held, ctx.found = stepper, t, dt, last, box[0].damping, found
        ctx.then = copies(stepper.potential.body)
        ctx.save_for_backward(*given)
        return found

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        """The nearest field: y = (J^T J)^-1 wbar, J y for the displacement. The least energy: as much, with its own."""
        stepper: BodyStepper = ctx.stepper
        potential, t, dt, held = stepper.potential, ctx.t, ctx.dt, ctx.held
        (cotangent,) = cotangents
        if not torch.isfinite(cotangent).all():
            raise GradientError(f"step at t = {t:.6g} s: the gradient of the weights after it is not finite.")
        check_unchanged(potential.body, ctx.then)
        weights, flat, before, *parameters = ctx.saved_tensors
        with torch.no_grad():
            past = potential.past(flat.detach(), before.detach(), t, dt, ctx.last)
            space = Space.at(potential, weights.detach())
            change, shape, curvature = _again(stepper, space, past, t, dt, held)
            match = stepper.match(shape, dt)
            normal = Normal(match.function, ctx.found, match.weight)
            aimed = match.weight[:, None] * normal.push(normal.solve(cotangent, EXACT))
            # What the points do not see stays as the search began: weights plus change.
            unseen = cotangent - normal.pull(aimed / match.weight[:, None])
        with torch.enable_grad():
            leaves = [w.detach().requires_grad_() for w in (weights, flat, before)]
            moving = change.clone().requires_grad_()
            start, done = potential.moved(leaves[0], moving)
            reached = _plus(start, done)
            (pulled,) = torch.autograd.grad((aimed * match.seen(reached.q)).sum(), moving, retain_graph=True)
            y = torch.linalg.solve(curvature, pulled + unseen)
            # dE/d(change) . y, of which everything that is given has its share; E's slopes stay in the graph.
            at = potential.past(leaves[1], leaves[2], t, dt, ctx.last)
            parts = [reached.q] if reached.skin is None else [reached.q, reached.skin]
            slopes = torch.autograd.grad(potential.energy(reached, at, t, dt), parts, create_graph=True)
            _, along = potential.moved(leaves[0], y)
            bent = (slopes[0] * along.q).sum()
            if along.skin is not None:
                bent = bent + (slopes[1] * along.skin).sum()
            direct = (aimed * match.seen(_plus(*potential.moved(leaves[0], change)).q)).sum() + unseen @ leaves[0]
            grads = torch.autograd.grad(direct - bent, [*leaves, *parameters], allow_unused=True)
        for slope in grads:
            if slope is not None and not torch.isfinite(slope).all():
                raise GradientError(f"step at t = {t:.6g} s: the gradient of its least energy is not finite.")
        return (None,) * 5 + tuple(grads)


def _again(
    stepper: BodyStepper, space: Space, past: Tensor, t: float, dt: float, held: float
) -> tuple[Tensor, Shape, Tensor]:
    """The least energy once more, with the exact curvature there, (p, p)."""
    change, shape, _ = stepper.least(space, past, t, dt, 0.0, held)
    _, stiff = space.slope(shape, past, t, dt)
    positive = space.curvature(shape, stiff, t, dt)
    weight = stepper.potential.points.weight * stepper.potential.body.volume
    negative = torch.einsum("nij,jnp->nip", root(-stiff), space.strained) * weight.sqrt()[:, None, None]
    negative = negative.flatten(0, 1)
    exact = positive.T @ positive - negative.T @ negative + space.bent(shape, t, dt)
    exact.diagonal().add_(held)
    return change, shape, exact


def _plus(start: Shape, done: Shape) -> Shape:
    skin = None if start.skin is None or done.skin is None else start.skin + done.skin
    return Shape(start.q + done.q, skin)
