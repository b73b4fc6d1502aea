"""Weight-space solver: a step moves the weights of a field so that it follows a differential equation."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from physim.checks import check_finite, check_shape
from physim.errors import InputError
from physim.sim.state import Control, FieldState, ParticleState
from physim.sim.trajectory import RolloutFailure, Status
from physim.solvers.insr.body import Body
from physim.solvers.insr.conditions import Walled, at
from physim.solvers.insr.defect import Balanced, balance, residual, terms_of
from physim.solvers.insr.fields import Box, Field
from physim.solvers.insr.flow import Flow
from physim.solvers.insr.halving import divided
from physim.solvers.insr.incremental import BodyStepper
from physim.solvers.insr.jets import Index
from physim.solvers.insr.maps import Weights
from physim.solvers.insr.normal import MANY
from physim.solvers.insr.points import Points, quadrature, scattered
from physim.solvers.insr.project import Match, Projection, project
from physim.solvers.insr.schemes import LATE, Scheme
from physim.solvers.insr.stability import limit
from physim.solvers.insr.steps import Stepper
from physim.solvers.insr.tangent import Equation, carried, derivatives
from physim.solvers.insr.transport import Transport

ROWS = 3.0
"""Values compared per weight; below this a field is right at the points and wild between them."""
LEAST = 300
"""Points at which a body's energy is taken at least: fewer leave motions that cost nothing, along which it creeps."""
ROUNDS = 3
"""Sets of points that a field which is compared at random points begins with."""
STEPS, START = Projection(), Projection(linearisations=60, damping=1e-3)
ALONG = Projection(tolerance=3e-7, linearisations=6)
SAFETY = 0.8
"""Share of the linear stability limit that `stable_dt` allows."""


@dataclass(frozen=True)
class Settings:
    """How steps are taken; the defaults hold for all problems.

    Attributes:
        points: values compared per weight.
        projection: how hard the nearest field is looked for in a step; harder along characteristics, whose steps keep
            all that is missed, unless given.
        start: and at the start.
        resolved: share of the initial condition's root mean square that a field may miss.
        tangent: damping of changes in the tangent space, over the mean of the diagonal of J^T W J.
        seed: of the points that move from step to step, and of those that start and steps are judged at.
        defect: what a step may leave of its equation at points other than those compared, over the equation's terms.
        halvings: how often a step that leaves more, or fails, is halved.
    """

    points: float = ROWS
    projection: Projection | None = None
    start: Projection = START
    resolved: float = 0.01
    tangent: float = 1e-9
    seed: int = 0
    defect: float = 0.1
    halvings: int = 5


class FieldModel(nn.Module):
    """What does not change during a simulation of a field: the equation with its parameters."""

    def __init__(self, problem: Any) -> None:
        super().__init__()
        self.problem = problem
        self.gravity = torch.zeros(3, dtype=torch.float64)

    def next_change(self, t: float) -> float:
        """Nothing begins or ends during a rollout."""
        return math.inf

    def control_at(self, t: float) -> Control:
        """There are no colliders."""
        none = torch.zeros(0, 3, dtype=torch.float64)
        return Control(none, none[..., None].expand(0, 3, 3), none, none)


class SolverInsr:
    """Steps of a field's weights.

    Args:
        problem: the equation; its parameters may take gradients.
        field: what represents the solution, with conditions at walls built in.
        box: where the equation holds.
        scheme: how a step is taken; characteristics for `Transport`, Runge-Kutta else.
        periodic: axes along which everything repeats.
        points: where steps compare; Gauss-Legendre points over the box unless given, or new ones at random in each step
            along characteristics.
        settings: see there.
        model: what does not change, where more than the problem is known of it.
        begin: what is carried at t = 0, see `initial_state`.
        X: material points that are looked at [m], (n, 3); those of a flow stay where they are. The points compared
            unless given.
    """

    def __init__(
        self,
        problem: Equation | Body,
        field: Field,
        box: Box,
        *,
        scheme: Scheme | None = None,
        periodic: tuple[int, ...] = (),
        points: Points | None = None,
        settings: Settings | None = None,
        model: Any = None,
        begin: Callable[[Tensor], Tensor] | None = None,
        X: Tensor | None = None,
    ) -> None:
        _check_fits(problem, field, box)
        self.problem, self.field, self.box, self.periodic = problem, field, box, periodic
        self.settings = settings or Settings()
        self.model = model if model is not None else FieldModel(problem)
        self.begin = begin
        given = isinstance(problem, Transport)
        self.scheme = scheme or (Scheme.SEMI_LAGRANGIAN if given else Scheme.RUNGE_KUTTA)
        self.count = math.ceil(self.settings.points * field.size / (field.outputs * len(problem.carried)))
        if isinstance(problem, Body):
            self.count = max(self.count, LEAST)
        how = self.settings
        along = self.scheme is Scheme.SEMI_LAGRANGIAN
        if along and periodic:
            raise InputError("characteristics do not go around: with periodic axes take scheme=Scheme.RUNGE_KUTTA.")
        self._fixed = points if points is not None or along else quadrature(box, self.count, periodic)
        nearest = how.projection or (ALONG if self._fixed is None else STEPS)
        self._checks = scattered(box, max(64, self.count // 3), torch.Generator().manual_seed(how.seed + 1))
        if isinstance(problem, Body):
            self.stepper = BodyStepper.of(problem, field, self.points(0.0), nearest)
        else:
            self.stepper = Stepper(problem, field, box, self.scheme, nearest, how.tangent, self._checks)
        rest = self.points(0.0).x
        self._X = X.double() if X is not None else nn.functional.pad(rest, (0, 3 - box.dim))

    def initial_state(self, wanted: Callable[[Tensor], Tensor] | None = None) -> FieldState:
        """The field nearest to what is wanted at t = 0.

        Args:
            wanted: from positions [m], (n, dim), to what the problem carries there, (n, m); what the solver was made
                with, else a body at rest, unless given.

        Raises:
            RolloutFailure: the field misses it by more than `Settings.resolved` of its root mean square.
        """
        wanted = wanted or self.begin
        if wanted is None:
            if not isinstance(self.problem, Body):
                raise InputError("a field begins with a function: initial_state(lambda x: ...).")
            wanted = torch.zeros_like
        numbers = self.field.outputs * len(self.problem.carried)
        generator = torch.Generator().manual_seed(self.settings.seed)
        weights, found = self.field.start(generator), None
        rounds = 1 if self._fixed is not None else ROUNDS
        for _ in range(rounds):
            points = self._fixed or scattered(self.box, self.count, generator)
            value = wanted(points.x)
            check_shape("wanted(x)", value, (len(points.x), numbers))
            check_finite("wanted(x)", value)
            found = project(self._match(points, value), weights, self.settings.start)
            weights = found.weights
        value = wanted(self._checks.x)
        match = self._match(self._checks, value)
        if not value.any():
            # Nothing to compare with but what the field begins with.
            value = carried(self.field, self.problem, Weights(self.field.start(generator)), self._checks.x)
        missed, size = math.sqrt(match.loss(match.missed(weights))), math.sqrt(match.loss(value))
        if isinstance(self.stepper, BodyStepper):
            self.stepper.check_start(weights, 0.0)
            size = max(size, max(self.box.size))
        if missed > self.settings.resolved * size:
            told = f"it misses {missed:.2g} of {size:.2g} (root mean squares) with {self.field.size} weights"
            raise RolloutFailure(Status.UNRESOLVED, substep=0, particle=-1, t=0.0, detail=told)
        terms = 0.0
        if isinstance(self.problem, Balanced):
            shown = weights if bool(wanted(self._checks.x).any()) else self.field.start(generator)
            with torch.no_grad():
                terms = terms_of(balance(self.problem, self.field, shown, self._checks.x), self._checks)
        return FieldState(weights, weights, missed=missed, terms=terms)

    def points(self, t: float) -> Points:
        """Where a step that begins at `t` [s] compares: fixed points that integrate, or others at each time."""
        if self._fixed is not None:
            return self._fixed
        # A seed that follows from the time makes a step a function of its state.
        seed = hash((self.settings.seed, round(t, 12))) % 2**31
        return scattered(self.box, self.count, torch.Generator().manual_seed(seed))

    def step(self, state: FieldState, control: Control | None, dt: float) -> FieldState:
        """One step of `dt` [s], or several shorter ones where one is not enough; differentiable.

        Gradients are by the weights and the problem's parameters, with memory for two states for each step.

        Raises:
            RolloutFailure: the field cannot follow, however short the steps, or misses `Settings.defect`.
            GradientError: in backward, where the search for the field had not converged.
        """
        if control is not None and control.acceleration is not None:
            raise InputError("the weight-space solver takes no acceleration from a control; set the model's gravity.")
        return divided(self._once, state, dt, self.settings.defect, self.settings.halvings)

    def _once(self, state: FieldState, dt: float) -> FieldState:
        points = self.points(state.t)
        given = (state.weights, state.before, points, state.t, dt, state.dt, state.terms)
        weights, taken = self.stepper.step(*given)
        return FieldState(weights, state.weights, state.t + dt, taken.found.rms, dt, taken.defect, state.terms)

    def advance(
        self, state: FieldState, control: Control | None, dt: float, substeps: int, *, keep: bool = False
    ) -> FieldState:
        """Several steps."""
        for _ in range(substeps):
            state = self.step(state, control, dt)
        return state

    def stable_dt(self, state: FieldState) -> float:
        """The largest safe step [s]: that of Runge-Kutta for the fastest motion that the weights can make; else any."""
        if not isinstance(self.stepper, Stepper) or self.scheme is not Scheme.RUNGE_KUTTA:
            return math.inf
        with torch.no_grad():
            return SAFETY * limit(self.stepper.tangent(self.points(state.t), state.weights, self.settings.tangent))

    def settle(self, state: FieldState) -> FieldState:
        """A body's equilibrium under gravity, conditions and obstacles as they are now; differentiable.

        Raises:
            InputError: the problem is no body.
            RolloutFailure, GradientError: see `step`.
        """
        if not isinstance(self.stepper, BodyStepper):
            raise InputError("only a body has an equilibrium.")
        weights, taken = self.stepper.step(
            state.weights, state.before, self.points(state.t), state.t, math.inf, state.dt
        )
        if taken.defect > self.settings.defect:
            told = f"{taken.defect:.2g} of its energy hides between the points compared: take more of them"
            raise RolloutFailure(Status.MISSED, substep=0, particle=-1, t=state.t, detail=told)
        return FieldState(weights, weights, state.t, taken.found.rms, math.inf, taken.defect)

    def sample(self, state: FieldState, x: Tensor, wanted: Sequence[Index] | None = None) -> Tensor:
        """Values of the field, or derivatives, at positions [m], (n, dim): (n, outputs, k); differentiable."""
        return derivatives(at(self.field, state.t), Weights(state.weights), x, wanted or [(0,) * self.box.dim])

    def carried(self, state: FieldState, x: Tensor) -> Tensor:
        """What the problem carries (a value, a velocity) at positions [m], (n, m); differentiable."""
        return carried(at(self.field, state.t), self.problem, Weights(state.weights), x)

    def residual(self, state: FieldState, x: Tensor) -> Tensor:
        """What is left of the equation at positions [m], (n, dim), over the root mean square of its terms there, (n,).

        Of a flow the equation of the vorticity over the last step, of a body div P + rho g: where that is in motion it
        is what accelerates it.

        Raises:
            InputError: a flow that has not been stepped yet.
        """
        flat, problem = state.weights, self.problem
        if isinstance(problem, Body):
            left, size = problem.imbalance(self.sample(state, x, problem.local))
        elif isinstance(problem, Balanced):
            if not 0 < state.dt < math.inf:
                raise InputError("the residual is that of a step, and no step has been taken yet.")
            begin, end = (balance(problem, self.field, w, x) for w in (state.before, flat))
            late = LATE.get(self.scheme, 0.5)
            left, size = residual(begin, end, state.dt, late), torch.maximum(begin.size, end.size)
            if self.scheme is Scheme.SEMI_LAGRANGIAN:
                # A step follows characteristics, however far, and is to be compared with what it followed.
                wanted, _ = self.stepper.aim(None, state.before, Points(x, x.new_ones(len(x))), state.dt)
                left = (end.amount - wanted) / state.dt
        else:
            raise InputError("this equation does not say what is balanced at a point.")
        whole = size.square().mean().sqrt()
        missed = left.square().sum(dim=1).sqrt()
        return missed if float(whole) == 0.0 else missed / whole

    def particles(self, state: FieldState) -> ParticleState:
        """Positions, velocities and deformation of the material points; differentiable in the weights."""
        X, dim = self._X, self.box.dim
        pad = (0, 3 - dim)
        identity = torch.eye(3, dtype=X.dtype).expand(len(X), 3, 3)
        none = torch.zeros(len(X), 3, 3, dtype=X.dtype)
        if not isinstance(self.problem, Body):
            v = nn.functional.pad(self.carried(state, X[:, :dim]), pad) if isinstance(self.problem, Flow) else 0.0 * X
            return ParticleState(X, v, none, identity, X.new_zeros(len(X), 0), t=state.t)
        q = self.sample(state, X[:, :dim], self.problem.wanted)
        u, first = q[..., 0], self.problem.velocity
        if math.isinf(state.dt):
            v = torch.zeros_like(u)
        elif state.dt > 0:
            earlier = state.replace(weights=state.before, t=state.t - state.dt)
            v = (u - self.carried(earlier, X[:, :dim])) / state.dt
        else:
            v = first(X[:, :dim]) if first is not None else torch.zeros_like(u)
        F = self.problem.deformation(q)
        return ParticleState(
            X + nn.functional.pad(u, pad), nn.functional.pad(v, pad), none, F, X.new_zeros(len(X), 0), t=state.t
        )

    def velocity(self, state: FieldState, x: Tensor) -> Tensor:
        """Velocity [m/s] of a flow at positions [m], (n, 3), anywhere in the box; differentiable in the weights.

        Raises:
            InputError: the problem is no flow, or a position lies outside of the box.
        """
        if not isinstance(self.problem, Flow):
            raise InputError("velocities at points are those of a flow; a body has tracks.")
        places = x[:, : self.box.dim].double()
        lower, upper = (places.new_tensor(c) for c in (self.box.lower, self.box.upper))
        outside = ((places < lower) | (places > upper)).any(dim=1)
        if outside.any():
            where = ", ".join(f"{c:.4g}" for c in places[outside][0].tolist())
            raise InputError(f"the point ({where}) m lies outside of the flow, {self.box.lower} to {self.box.upper} m.")
        return nn.functional.pad(self.carried(state, places), (0, 3 - self.box.dim))

    def collider_forces(self, state: FieldState, dt: float) -> Tensor:
        """Force of a body on each obstacle [N], (c, 3), N/m in 2D; differentiable in weights and parameters.

        It is that of contact in the state itself, whatever `dt`.

        Raises:
            InputError: there is no obstacle.
        """
        if not isinstance(self.stepper, BodyStepper) or not self.stepper.potential.body.obstacles:
            raise InputError("there is no obstacle that a force could act on.")
        return self.stepper.potential.pressed(state.weights, state.t)

    def _match(self, points: Points, value: Tensor) -> Match:
        return Match(lambda w: carried(self.field, self.problem, w, points.x), value, points.weight)


def _check_fits(problem: Any, field: Field, box: Box) -> None:
    """Refuse what does not go together, and warn of what goes wrong slowly."""
    if field.dim != box.dim:
        raise InputError(f"a field of {field.dim} coordinates in a box of {box.dim}.")
    if isinstance(problem, Body):
        if field.size > MANY:
            raise InputError(f"a body takes a field of up to {MANY} weights; this one has {field.size}.")
    elif at(field, 1.0) is not field:
        raise InputError("conditions that move are those of bodies.")
    if isinstance(problem, Flow) and problem.viscous and isinstance(field, Walled) and (1, 1) in field.powers:
        warnings.warn(
            "a viscous flow along walls where only the stream function is zero: nothing tells the vorticity there, and "
            "errors grow. Use Mirrored for slip, power 2 for no slip.",
            stacklevel=3,
        )
