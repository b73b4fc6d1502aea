"""One round of a refinement: Gauss-Newton on columns that run side by side, or a step along adjoint gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from physim.errors import FitError
from physim.fit.learn.coordinates import Coordinates
from physim.fit.learn.runs import Runs
from physim.parallel import ALONE, Ranks

DAMPINGS = (0.0, 1e-2, 1.0, 1e2)
"""Multiples of the last damping that are tried at once."""
LIGHTEST, HEAVIER = 1e-9, 1e4
"""The least damping, and how much more is tried where all of them fail."""
SIZE = 3.0
"""What a difference should change in the residuals on the average, in units of the noise."""
CHORDS, WORTH = 4, 0.02
"""Most steps with one Jacobian, and the decrease of the mean square below which another is not worth it."""
FEW = 4
"""About as many runs of a trajectory tell how large differences should be."""
LEAST = 1e-9
"""Of the largest curvature: the least that a direction is given."""
ROUNDING = 1e-14
"""Of the largest curvature: what is left of none where that and the damping vanish in rounding."""


@dataclass
class Search:
    """Where a refinement is; all of it goes into a checkpoint.

    Attributes:
        point: coordinates, (k,).
        damping: of the last step, in units of `metric`.
        metric: how the residuals of the first runs depend on the coordinates, (k, k): what "small" means.
        curve: the same for the last runs, by which the differences of the next ones are sized.
        optimiser: memory of a gradient method.
    """

    point: Tensor
    damping: float = 1e-2
    metric: Tensor | None = None
    curve: Tensor | None = None
    optimiser: dict[str, Any] | None = field(default=None)


@dataclass(frozen=True)
class Linearised:
    """Residuals of all runs at a point, and their differences along directions.

    Attributes:
        square: mean squared residual.
        normal: J J^T over the number of residuals, (d, d).
        pull: J r over the number of residuals, (d,).
        count: number of residuals.
        each: J r of each of the runs, (s, d).
        slopes: J of the runs that this rank has run, (d, m), by number.
    """

    square: float
    normal: Tensor
    pull: Tensor
    count: int
    each: Tensor
    slopes: dict[int, Tensor]


class Objective:
    """The mean squared residual of runs of several trajectories, over coordinates of the law.

    Args:
        coordinates: what is moved.
        runs: of each trajectory.
        ranks: who shares the trajectories.
    """

    def __init__(self, coordinates: Coordinates, runs: Sequence[Runs], ranks: Ranks = ALONE) -> None:
        self.coordinates, self.runs, self.ranks = coordinates, list(runs), ranks

    def few(self) -> Objective:
        """The same with a few of the runs: enough to tell which coefficients matter how much."""
        runs = [
            Runs(r.shooting, s, r.length, through=r.through, observed=r.observed)
            for r, s in ((r, r.starts[:: max(1, len(r.starts) // FEW)]) for r in self.runs)
        ]
        return Objective(self.coordinates, runs, self.ranks)

    def misfits(self, points: Tensor) -> Tensor:
        """Mean squared residual at several points, (r, k) -> (r,); infinite where a run fails."""
        theta = self.coordinates.theta(points)

        def run(one: Runs) -> tuple[Tensor, int]:
            r = one.residuals(theta)
            return r.square().sum(dim=1), r.shape[1]

        parts = self.ranks.map(run, self.runs)
        found = torch.stack([s for s, _ in parts]).sum(dim=0) / sum(n for _, n in parts)
        return torch.where(torch.isfinite(found), found, math.inf)

    def linearised(self, point: Tensor, directions: Tensor) -> Linearised:
        """The residuals at a point and how they change along directions, kept by the rank that has run them.

        Args:
            point: (k,).
            directions: steps of the differences, one per row, (d, k).

        Raises:
            FitError: the runs fail at the point itself.
        """
        theta = self.coordinates.theta(torch.cat([point[None], point[None] + directions]))
        slopes: dict[int, Tensor] = {}

        def run(i: int) -> tuple[Tensor, Tensor, Tensor, int]:
            r = self.runs[i].residuals(theta)
            # A direction whose small step fails has no column this time.
            slopes[i] = torch.where(torch.isfinite(r[1:]), r[1:] - r[0], 0.0)
            return r[0].square().sum(), slopes[i] @ slopes[i].T, slopes[i] @ r[0], r.shape[1]

        parts = self.ranks.map(run, range(len(self.runs)))
        count = sum(n for *_, n in parts)
        square = torch.stack([p[0] for p in parts]).sum() / count
        normal = torch.stack([p[1] for p in parts]).sum(dim=0) / count
        each = torch.stack([p[2] for p in parts])
        if not math.isfinite(float(square)):
            lengths = ", ".join(str(r.length) for r in self.runs)
            raise FitError(f"runs of {lengths} intervals fail at the present law; begin with shorter ones.")
        return Linearised(float(square), normal, each.sum(dim=0) / count, count, each, slopes)

    def trials(self, points: Tensor, slopes: dict[int, Tensor]) -> tuple[Tensor, Tensor]:
        """Mean squared residual at several points, (r,), and J r over the number of residuals at each, (r, d)."""
        theta = self.coordinates.theta(points)

        def run(i: int) -> tuple[Tensor, Tensor, int]:
            r = self.runs[i].residuals(theta)
            return r.square().sum(dim=1), r @ slopes[i].T, r.shape[1]

        parts = self.ranks.map(run, range(len(self.runs)))
        count = sum(n for *_, n in parts)
        squares = torch.stack([p[0] for p in parts]).sum(dim=0) / count
        pulls = torch.stack([p[1] for p in parts]).sum(dim=0) / count
        return torch.where(torch.isfinite(squares), squares, math.inf), pulls

    def gradient(self, point: Tensor) -> tuple[float, Tensor]:
        """Mean squared residual and its gradient, (k,), by adjoints.

        Raises:
            SimulationError: a run fails.
            GradientError: the gradient is not finite.
        """
        theta = self.coordinates.theta(point[None])[0]
        parts = self.ranks.map(lambda one: one.gradient(theta), self.runs)
        count = sum(n for _, n, _ in parts)
        slope = torch.stack([g for *_, g in parts]).sum(dim=0) / count
        return sum(s for s, *_ in parts) / count, self.coordinates.back(point, slope)


def gauss_newton(objective: Objective, search: Search) -> tuple[float, float]:
    """One round: the Jacobian by differences, then several steps with it, each tried at several dampings at once.

    Residuals are so nearly linear that one Jacobian serves several steps, which cost a tenth of it.

    Returns:
        The mean square before and after; the search is changed.
    """
    here, size = objective.coordinates, len(search.point)
    vectors, lengths = torch.eye(size, dtype=search.point.dtype), torch.full_like(search.point, here.step)
    if search.curve is None:
        rough = objective.few().linearised(search.point, lengths[:, None] * vectors).normal / here.step**2
        search.curve = 0.5 * (rough + rough.T)
    # Along its own directions each difference changes the residuals by as much: rounding hides none of them.
    values, vectors = torch.linalg.eigh(search.curve)
    lengths = (SIZE / values.clamp(min=LEAST * float(values.max())).sqrt()).clamp(max=here.step)
    found = objective.linearised(search.point, lengths[:, None] * vectors.T)
    normal = vectors @ (found.normal / (lengths[:, None] * lengths)) @ vectors.T
    normal = 0.5 * (normal + normal.T)
    metric = search.metric
    if metric is None:
        values, axes = torch.linalg.eigh(normal)
        metric = search.metric = axes @ torch.diag(values.clamp(min=LEAST * float(values.max()))) @ axes.T
    search.curve = normal
    pull, now, taken = vectors @ (found.pull / lengths), found.square, 0
    for _ in range(CHORDS):
        tried = [max(search.damping * m, LIGHTEST) for m in DAMPINGS]
        points = torch.stack([bounded(normal + d * metric, pull, search.point, here.low) for d in tried])
        squares, pulls = objective.trials(points, found.slopes)
        best = int(squares.argmin())
        after = float(squares[best])
        if not after < now:
            search.damping = min(HEAVIER * search.damping, 1e9)
            if taken:
                break
            continue  # a step that is held back more costs little
        taken += 1
        gained, now = 1.0 - after / now, after
        search.point, search.damping = points[best], max(tried[best], 1e-6)
        pull = vectors @ (pulls[best] / lengths)
        if gained < WORTH:
            break
    return found.square, now


def bounded(normal: Tensor, pull: Tensor, point: Tensor, low: Tensor) -> Tensor:
    """The minimum of d^T normal d/2 + pull^T d over steps d from a point that keep it above its bounds."""
    if not bool(torch.isfinite(low).any()):
        return point - torch.linalg.solve(normal, pull)
    from scipy.optimize import lsq_linear

    root, failed = torch.linalg.cholesky_ex(normal)
    wanted = torch.linalg.solve_triangular(root, -pull[:, None], upper=False)[:, 0]
    if int(failed):
        # Rounding leaves nothing of what some directions do.
        values, axes = torch.linalg.eigh(normal)
        size = values.clamp(min=ROUNDING * float(values.max())).sqrt()
        root, wanted = axes * size, -(axes.T @ pull) / size
    least = torch.minimum(low - point, torch.zeros_like(point))
    free = torch.where(torch.isfinite(least), least - 1e-12, least)
    step = lsq_linear(root.T.numpy(), wanted.numpy(), (free.numpy(), math.inf), method="bvls").x
    return torch.maximum(point + torch.as_tensor(step), low)
