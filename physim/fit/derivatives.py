"""Derivatives of predictions with respect to everything fitted: exact where cheap, else by differences of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from physim.errors import SimulationError
from physim.fit.block import Block
from physim.fit.problem import Problem
from physim.fit.slopes import rows_by
from physim.fit.spread import caught, parallel
from physim.observe.record import Comparison
from physim.parallel import ALONE, Ranks

MOST_WEIGHTS = 40
"""Weights that are differenced by simulation, each in two runs of every recording; more are left out."""


def left_out(problem: Problem) -> tuple[Block, ...]:
    """Blocks that `differentiate` takes as known, because there are too many weights to simulate a change of each."""
    blocks = problem.space.blocks
    few = problem.exact_jacobian or sum(b.count for b in blocks) <= MOST_WEIGHTS
    return () if few else blocks


def differentiate(
    problem: Problem, raw: Tensor, *, step: float, threads: int, ranks: Ranks = ALONE
) -> tuple[list[Comparison], list[Tensor]]:
    """Comparisons of all fitted recordings at `raw`, and d(residuals)/d(raw) of each, (m, k, p).

    Columns of weights that are `left_out` are zero.

    Args:
        problem: the forward model.
        raw: raw parameters, (p,).
        step: half width of the differences in raw units.
        threads: runs evaluated at the same time by each rank.
        ranks: who shares the runs.

    Raises:
        SimulationError: the point itself, or both sides of a parameter, cannot be simulated.
    """
    if problem.exact_jacobian:
        return exactly(problem, raw, problem.recordings)
    p = len(raw)
    varied = range(p - sum(b.count for b in left_out(problem)))
    low, high = problem.space.bounds()
    unit = torch.eye(p, dtype=torch.float64)
    moves = [torch.zeros(p, dtype=torch.float64), *(s * step * unit[i] for i in varied for s in (1.0, -1.0))]
    points = [torch.minimum(torch.maximum(raw + m, low), high) if bool(m.any()) else raw for m in moves]
    tasks = [(i, recording) for i in range(len(points)) for recording in problem.recordings]

    def run(task: tuple[int, str]) -> list[Comparison]:
        with torch.no_grad():
            return problem.predict(task[1], points[task[0]])

    results = parallel(lambda t: caught(run, t), tasks, threads, ranks)
    per_point: list[list[Comparison] | SimulationError] = []
    count = len(problem.recordings)
    for i in range(len(points)):
        mine = results[i * count : (i + 1) * count]
        failed = [m for m in mine if isinstance(m, SimulationError)]
        per_point.append(failed[0] if failed else [c for m in mine for c in m])  # type: ignore[union-attr]
    base = per_point[0]
    if isinstance(base, SimulationError):
        raise base
    jacobians = [torch.zeros(*c.measured.shape, p, dtype=torch.float64) for c in base]
    for i in varied:
        plus, minus = per_point[1 + 2 * i], per_point[2 + 2 * i]
        if isinstance(plus, SimulationError) and isinstance(minus, SimulationError):
            raise plus
        above, below = points[1 + 2 * i][i], points[2 + 2 * i][i]
        if isinstance(plus, SimulationError):
            plus, above = base, raw[i]
        if isinstance(minus, SimulationError):
            minus, below = base, raw[i]
        width = max(float(above - below), 1e-300)
        for jacobian, a, b in zip(jacobians, plus, minus, strict=True):
            jacobian[..., i] = (a.residuals() - b.residuals()) / width
    return base, jacobians


def exactly(problem: Problem, raw: Tensor, recordings: Sequence[str]) -> tuple[list[Comparison], list[Tensor]]:
    """As `differentiate`, by autograd, of the recordings named.

    Raises:
        SimulationError: the point cannot be used.
    """
    base, jacobians = [], []
    for recording in recordings:
        leaf = raw.detach().clone().requires_grad_()
        with torch.enable_grad():
            for c in problem.predict(recording, leaf):
                rows = c.residuals()
                jacobians.append(rows_by(rows.reshape(-1), leaf).reshape(*rows.shape, len(raw)))
                base.append(replace(c, predicted=c.predicted.detach()))
    return base, jacobians
