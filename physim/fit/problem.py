"""What a fit needs from a forward model, and its residuals and gradients at many points."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from physim.errors import FitError, GradientError, SimulationError, nearest
from physim.fit.slopes import jacobian_of
from physim.fit.space import Space
from physim.fit.spread import caught, parallel
from physim.fit.stage import Stage
from physim.observe.record import Comparison
from physim.observe.robust import huber_residual
from physim.parallel import ALONE, Ranks
from physim.scene.loader import Scene


class Problem(ABC):
    """A forward model from raw parameters to comparisons with records.

    Attributes:
        space: the fitted quantities.
        recordings: names of the experiments that are fitted; each is one independent run.
        held_recordings: names of those that are only scored.
        without_gradient: quantities that predictions do not differentiate with respect to.
        exact_jacobian: whether rows of the Jacobian are cheap through autograd (no simulation).
    """

    space: Space
    recordings: tuple[str, ...]
    held_recordings: tuple[str, ...] = ()
    without_gradient: tuple[str, ...] = ()
    exact_jacobian: bool = False

    @abstractmethod
    def predict(self, recording: str, raw: Tensor, *, end: float | None = None) -> list[Comparison]:
        """Run one experiment.

        Called from several threads at once. Differentiable in `raw` where that requires gradients.

        Args:
            recording: which experiment.
            raw: unconstrained parameters, (p,).
            end: nothing after this abscissa is needed.

        Raises:
            SimulationError: the run failed; the optimiser treats it as a rejected step.
        """

    def for_stage(self, stage: Stage) -> Problem:
        """The problem that a stage solves: the same, unless the stage changes the scene."""
        return self

    def moved(self, overrides: Callable[[Scene], Sequence[str]]) -> Problem:
        """The same problem with other numbers of its scene.

        Args:
            overrides: changes such as `bodies.beam.shape.box.upper.x=96 mm`, given the scene of a recording.

        Raises:
            FitError: the problem has no scene.
            InputError: the changed scene cannot be built.
        """
        raise FitError("this problem has no scene whose numbers could be moved.")


class Rejected(SimulationError):
    """A point that cannot be used: a parameter outside its bounds, or a result that is not finite."""


class Objective:
    """Residuals, Jacobian and gradient of a problem in the parameters that a stage frees.

    Args:
        problem: the forward model.
        stage: time window and free parameters.
        raw: all raw parameters; the fixed ones stay as they are, (p,).
        threads: runs evaluated at the same time by each rank.
        ranks: who shares the runs; all of them get every result, and sums are taken in the order of the recordings.
    """

    def __init__(self, problem: Problem, stage: Stage, raw: Tensor, *, threads: int = 2, ranks: Ranks = ALONE) -> None:
        self.problem = problem.for_stage(stage)
        self.stage = stage
        self.threads, self.ranks = threads, ranks
        space = problem.space
        names = stage.parameters or space.members
        self.free = torch.cat([torch.arange(space.size)[space.rows(n)] for n in names])
        self.base = raw.detach().clone()
        low, high = space.bounds()
        self.lower, self.upper = low[self.free], high[self.free]
        self.recordings = tuple(r for r in problem.recordings if not stage.recordings or r in stage.recordings)
        if not self.recordings:
            raise FitError(f"stage '{stage.name}' fits no recording.{nearest(stage.recordings[0], problem.recordings)}")
        self.evaluations = 0
        self._limits: dict[str, Tensor] = {}
        self._frames: dict[str, int] = {}

    @property
    def places(self) -> int:
        """Runs that can go on at the same time."""
        return self.threads * self.ranks.size

    @property
    def frames(self) -> int:
        """Times of all recordings at which anything is fitted; known after a run."""
        return sum(self._frames.values())

    def full(self, z: Tensor) -> Tensor:
        """All raw parameters with the free ones at `z`, (p,)."""
        return self.base.index_put((self.free,), z)

    def start(self) -> Tensor:
        """The free parameters where the stage begins, (k,)."""
        return self.base[self.free].clone()

    def clip(self, z: Tensor) -> Tensor:
        """`z` moved into the bounds."""
        return torch.minimum(torch.maximum(z, self.lower), self.upper)

    def residuals(self, points: Sequence[Tensor]) -> list[Tensor | SimulationError]:
        """Robust residuals at several points, all runs in parallel; a failed run gives its error instead."""
        with torch.no_grad():
            raws = [self.full(z) for z in points]
        tasks = [(i, recording) for i in range(len(raws)) for recording in self.recordings]

        def run(task: tuple[int, str]) -> tuple[Tensor, Tensor, int]:
            with torch.no_grad():
                return self._recorded(task[1], raws[task[0]])

        parts = parallel(lambda t: caught(run, t), tasks, self.threads, self.ranks)
        self.evaluations += len(tasks)
        found: list[Tensor | SimulationError] = []
        for i, raw in enumerate(raws):
            rows, failed = [], []
            for part, (j, recording) in zip(parts, tasks, strict=True):
                if j != i:
                    continue
                if isinstance(part, SimulationError):
                    failed.append(part)
                else:
                    rows.append(part[0])
                    self._limits[recording], self._frames[recording] = part[1], part[2]
            found.append(failed[0] if failed else torch.cat([*rows, self.problem.space.prior_residuals(raw)]))
        return found

    def losses(self, points: Sequence[Tensor]) -> list[float]:
        """Half the sum of squared residuals at several points; infinite where a run fails."""
        found = self.residuals(points)
        return [math.inf if isinstance(r, SimulationError) else 0.5 * float(r @ r) for r in found]

    def unfitted(self, points: Sequence[Tensor]) -> list[float]:
        """Half the sum of squared residuals of what the stage's early stop looks at; infinite where a run fails."""
        early = self.stage.early
        assert early is not None
        begin = math.inf if early.begin is None else early.begin
        names = (*(self.recordings if early.begin is not None else ()), *early.recordings)
        tasks = [(self.full(z.detach()), name) for z in points for name in names]

        def run(task: tuple[Tensor, str]) -> float:
            with torch.no_grad():
                compared = self.problem.predict(task[1], task[0])
                squares = 0.0
                for c in compared:
                    rows = huber_residual(c.residuals(), c.huber).square() * c.weight
                    looked = c.valid & ((c.at >= begin)[:, None] | (task[1] in early.recordings))
                    squares += 0.5 * float(torch.where(looked, rows, 0.0).sum())
            return squares if math.isfinite(squares) else math.inf

        parts = parallel(lambda t: caught(run, t), tasks, self.threads, self.ranks)
        self.evaluations += len(tasks)
        values = [math.inf if isinstance(p, SimulationError) else p for p in parts]
        return [sum(values[i : i + len(names)]) for i in range(0, len(values), len(names))]

    def value_and_gradient(self, z: Tensor) -> tuple[float, Tensor]:
        """Loss (half the sum of squares) and its gradient by the adjoint, (k,).

        Raises:
            SimulationError: a run or its gradient failed, or `z` is outside the bounds.
            FitError: a free quantity has no gradient.
        """
        own = self.problem.space.names
        blind = [own[i] for i in self.free if i < len(own) and own[i] in self.problem.without_gradient]
        if blind:
            raise FitError(f"{', '.join(blind)} has no gradient; use `method: gauss_newton` for it.")
        if bool((z < self.lower).any()) or bool((z > self.upper).any()):
            raise Rejected("a parameter is outside its bounds.")

        def run(recording: str) -> tuple[float, Tensor, int]:
            with torch.enable_grad():
                leaf = z.detach().clone().requires_grad_()
                rows, _, frames = self._recorded(recording, self.full(leaf))
                loss = 0.5 * (rows**2).sum()
                try:
                    (gradient,) = torch.autograd.grad(loss, leaf)
                except GradientError as error:
                    # A point without a gradient is no place to step from, and no reason to end the whole fit.
                    raise Rejected(f"the gradient fails: {error}") from None
            return float(loss.detach()), gradient, frames

        results = parallel(lambda r: caught(run, r), self.recordings, self.threads, self.ranks)
        parts = []
        for result in results:
            if isinstance(result, SimulationError):
                raise result
            parts.append(result)
        self.evaluations += len(parts)
        self._frames = {name: part[2] for name, part in zip(self.recordings, parts, strict=True)}
        leaf = z.detach().clone().requires_grad_()
        prior = 0.5 * (self.problem.space.prior_residuals(self.full(leaf)) ** 2).sum()
        gradient = sum((g for _, g, _ in parts), torch.zeros_like(z))
        if prior.requires_grad:
            gradient = gradient + torch.autograd.grad(prior, leaf)[0]
        value = sum(v for v, _, _ in parts) + float(prior.detach())
        if not math.isfinite(value) or not bool(torch.isfinite(gradient).all()):
            raise Rejected("the loss or its gradient is not finite at these parameters.")
        return value, gradient

    def limits(self, count: int) -> Tensor:
        """Entry of each of `count` robust residuals beyond which its loss grows linearly, (m,); known after a run."""
        found = torch.cat([self._limits[r] for r in self.recordings])
        return torch.cat([found, torch.full((count - len(found),), math.inf, dtype=found.dtype)])

    def jacobian(self, z: Tensor, here: Tensor, step: float, *, central: bool = True) -> Tensor:
        """d(residuals)/dz at `z`, (m, k): by autograd where cheap, else by differences of `step`.

        Where one side of a difference fails, the other side and `here` (the residuals at `z`) are used; so they are
        with one-sided differences, `central=False`, at half the cost and an error of the order of `step`.

        Raises:
            Rejected: the simulation fails on both sides.
        """
        if self.problem.exact_jacobian:
            return jacobian_of(self._all, z)
        sides = (1.0, -1.0) if central else (1.0,)
        moves = [s * step * torch.eye(len(z), dtype=z.dtype)[i] for i in range(len(z)) for s in sides]
        # At a bound a difference turns inwards: a clipped point would be no step at all.
        points = [p if bool((p != z).any()) else self.clip(z - m) for m in moves for p in (self.clip(z + m),)]
        values = self.residuals(points)
        if not central:
            points = [p for point in points for p in (point, z)]
            values = [v for value in values for v in (value, here)]
        columns = []
        for i, index in enumerate(self.free.tolist()):
            plus, minus = values[2 * i], values[2 * i + 1]
            high, low = points[2 * i][i], points[2 * i + 1][i]
            if isinstance(plus, SimulationError) and isinstance(minus, SimulationError):
                name = self.problem.space.owner(index)
                raise Rejected(f"the simulation fails on both sides of the current {name}: {plus}")
            if isinstance(plus, SimulationError):
                plus, high = here, z[i]
            if isinstance(minus, SimulationError):
                minus, low = here, z[i]
            if high == low:  # both sides turned inwards from the same bound
                minus, low = here, z[i]
            if high == low:
                name = self.problem.space.owner(index)
                raise Rejected(f"the bounds of {name} leave no room to vary it.")
            columns.append((plus - minus) / (high - low))
        return torch.stack(columns, dim=1)

    def _recorded(self, recording: str, raw: Tensor) -> tuple[Tensor, Tensor, int]:
        """Robust residuals of one recording and their `limits`, (m,) each, and the times at which any is fitted."""
        comparisons = self.problem.predict(recording, raw, end=self.stage.end)
        comparisons = [c.within(self.stage.begin, self.stage.end) for c in comparisons]
        parts = [c.objective() for c in comparisons]
        rows = torch.cat(parts)
        if not bool(torch.isfinite(rows.detach()).all()):
            raise Rejected(f"recording '{recording}' gives residuals that are not finite at these parameters.")
        limits = [torch.full_like(p.detach(), c.limit) for p, c in zip(parts, comparisons, strict=True)]
        frames = max((int((c.fitted & c.valid).any(1).sum()) for c in comparisons), default=0)
        return rows, torch.cat(limits), frames

    def _all(self, z: Tensor) -> Tensor:
        raw = self.full(z)
        parts = [self._recorded(r, raw)[0] for r in self.recordings]
        return torch.cat([*parts, self.problem.space.prior_residuals(raw)])
