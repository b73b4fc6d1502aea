"""How well the data determine the parameters: covariance, intervals, correlations, warnings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from scipy import stats
from torch import Tensor

from physim.errors import SimulationError
from physim.fit.misfit import Misfit, misfit, score_covariance
from physim.fit.problem import Problem
from physim.fit.space import Quantity, Space, Transform
from physim.fit.spread import caught, parallel
from physim.observe.record import Comparison
from physim.parallel import ALONE, Ranks

WIDE_FACTOR = 10.0
"""A positive parameter whose 90 % interval spans more than this factor is called undetermined."""
WIDE_SHARE = 0.6
"""So is a bounded parameter whose interval covers more than this share of its allowed range."""
TIED = 0.98
"""Correlation above which two parameters are determined only together."""


@dataclass(frozen=True)
class Estimate:
    """One fitted value.

    Attributes:
        name: user-facing name.
        unit: SI unit.
        value: fitted value.
        low: lower end of the 90 % interval.
        high: upper end.
        sd: standard deviation of the value by the delta method.
        determined: False where the data leave it open.
    """

    name: str
    unit: str
    value: float
    low: float
    high: float
    sd: float
    determined: bool


@dataclass(frozen=True)
class Uncertainty:
    """The Laplace approximation around the fitted point.

    Attributes:
        estimates: one per parameter.
        covariance: of the raw parameters, (p, p).
        correlation: (p, p).
        noise: root mean squared residual per observation [noise units].
        effective: independent values per observation, after correcting for correlated residuals.
        freedom: degrees of freedom of the intervals' t distribution.
        warnings: sentences about what the data do not determine.
        shifts: move of each raw parameter per standard deviation of each assumed number, to first order, (p, q).
        combined: estimates whose intervals hold the noise and the assumed numbers; empty without any.
    """

    estimates: tuple[Estimate, ...]
    covariance: Tensor
    correlation: Tensor
    noise: dict[str, float]
    effective: dict[str, float]
    freedom: float
    warnings: tuple[str, ...]
    shifts: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.float64))
    combined: tuple[Estimate, ...] = ()


def assess(problem: Problem, raw: Tensor, *, step: float = 0.01, threads: int = 2, level: float = 0.9) -> Uncertainty:
    """Differentiate all fitted residuals at `raw` and turn them into intervals.

    Args:
        problem: the forward model.
        raw: fitted raw parameters, (p,).
        step: half width of the central differences in raw units.
        threads: runs evaluated at the same time.
        level: probability of the intervals.

    Raises:
        SimulationError: the fitted point itself cannot be simulated.
    """
    base, jacobians = differentiate(problem, raw, step=step, threads=threads)
    return laplace(problem.space, raw, base, jacobians, level=level)


def differentiate(
    problem: Problem, raw: Tensor, *, step: float, threads: int, ranks: Ranks = ALONE
) -> tuple[list[Comparison], list[Tensor]]:
    """Comparisons of all fitted recordings at `raw`, and d(residuals)/d(raw) of each, (m, k, p)."""
    p = len(raw)
    low, high = problem.space.bounds()
    moves = [torch.zeros(p, dtype=torch.float64)]
    moves += [s * step * torch.eye(p, dtype=torch.float64)[i] for i in range(p) for s in (1.0, -1.0)]
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
    columns: list[list[Tensor]] = [[] for _ in base]
    for i in range(p):
        plus, minus = per_point[1 + 2 * i], per_point[2 + 2 * i]
        if isinstance(plus, SimulationError) and isinstance(minus, SimulationError):
            raise plus
        above, below = points[1 + 2 * i][i], points[2 + 2 * i][i]
        if isinstance(plus, SimulationError):
            plus, above = base, raw[i]
        if isinstance(minus, SimulationError):
            minus, below = base, raw[i]
        width = max(float(above - below), 1e-300)
        for column, a, b in zip(columns, plus, minus, strict=True):
            column.append((a.residuals() - b.residuals()) / width)
    return base, [torch.stack(c, dim=-1) for c in columns]


def laplace(
    space: Space,
    raw: Tensor,
    comparisons: Sequence[Comparison],
    jacobians: Sequence[Tensor],
    *,
    level: float = 0.9,
    assumed: Sequence[Tensor] = (),
) -> Uncertainty:
    """Covariance A^-1 B A^-1 with A = J^T J + prior and B the covariance of J^T r, per observation.

    B takes its scale and its correlation in time and between channels from the residuals; it is never taken below
    that of independent residuals of the same scale. Where too few values remain to estimate the scale, the stated
    noise is used. Intervals are t quantiles with the effective degrees of freedom, mapped through the transforms.

    An assumed number a that is off moves the fit by d(raw)/da = -A^-1 J^T J_a, J_a = d(residuals)/da, to first
    order. Half an interval of the combined estimates is the root of the sum of the squares of what either part gives
    alone: the t quantile for the noise, whose size is estimated, and the normal one for the assumed numbers. So it is
    never narrower than from the noise alone.

    Args:
        space: the fitted quantities.
        raw: fitted raw parameters, (p,).
        comparisons: at `raw`.
        jacobians: d(residuals)/d(raw) of each, (m, k, p).
        level: probability of the intervals.
        assumed: change of the residuals of each per standard deviation of every assumed number, (m, k, q).
    """
    p = len(raw)
    information = torch.zeros(p, p, dtype=torch.float64)
    scores, spreads = torch.zeros_like(information), torch.zeros_like(information)
    pulls = torch.zeros(p, assumed[0].shape[-1] if assumed else 0, dtype=torch.float64)
    noise, effective = {}, {}
    total = sum(int((c.fitted & c.valid).sum()) for c in comparisons)
    freedom = 0.0
    for i, (comparison, jacobian) in enumerate(zip(comparisons, jacobians, strict=True)):
        used = comparison.fitted & comparison.valid
        if not bool(used.any()):
            continue
        found = misfit(comparison)
        counted = (found.used * _influence(comparison, found))[..., None]
        J = jacobian[used.any(1)] * counted
        if assumed:
            pulls += comparison.weight * torch.einsum("tkp,tkq->pq", J, assumed[i][used.any(1)] * counted)
        own = torch.einsum("tkp,tkq->pq", J, J)
        information += own * comparison.weight
        spread = comparison.weight**2 * _at_least(score_covariance(found, J), own)
        scores += (found.scale if total > p else 1.0) * spread
        spreads += spread
        noise[comparison.name] = found.scale**0.5
        effective[comparison.name] = found.effective
        freedom += found.effective
    prior = _prior_precision(space)
    inverse = torch.linalg.pinv(information + prior, rtol=1e-13, hermitian=True)
    # The fit has taken this much of the squared residuals away; correlated noise loses more than one value
    # per parameter.
    lost = float((inverse @ spreads).trace())
    grown = total / max(total - lost, 0.25 * total) if total > p else 1.0
    covariance = inverse @ (grown * scores + prior) @ inverse
    open_directions = _null_space(information + prior)
    freedom = max(freedom - lost, 1.0)
    quantile = float(stats.t.ppf(0.5 + level / 2.0, freedom))
    sd = covariance.diagonal().clamp_min(0.0).sqrt()
    sd = torch.where((open_directions**2).sum(1) > 1e-6, math.inf, sd)
    estimates = tuple(_estimate(q, raw[i], float(sd[i]), quantile) for i, q in enumerate(space.quantities))
    size = sd.clamp(1e-300, 1e300)
    correlation = (covariance / size[:, None] / size[None, :]).clamp(-1.0, 1.0)
    correlation.fill_diagonal_(1.0)
    warnings = _warnings(space, estimates, correlation, open_directions)
    shifts = -inverse @ pulls
    combined = _combined(space, raw, sd, shifts, freedom, level) if assumed else ()
    return Uncertainty(estimates, covariance, correlation, noise, effective, freedom, warnings, shifts, combined)


def _combined(
    space: Space, raw: Tensor, sd: Tensor, shifts: Tensor, freedom: float, level: float
) -> tuple[Estimate, ...]:
    """Estimates from the noise's standard deviations, (p,), and the shifts by assumed numbers, (p, q)."""
    estimated, known = (float(d.ppf(0.5 + level / 2.0)) for d in (stats.t(freedom), stats.norm))
    found = []
    for i, quantity in enumerate(space.quantities):
        own, added = float(sd[i]), float(shifts[i].norm())
        both = math.hypot(own, added)
        half = math.hypot(estimated * own, known * added)
        found.append(_estimate(quantity, raw[i], both, half / both if 0.0 < both < math.inf else estimated))
    return tuple(found)


def _influence(comparison: Comparison, found: Misfit) -> Tensor:
    """Slope of the robust residual: how much of each value still counts, (m, k)."""
    if comparison.huber is None:
        return torch.ones_like(found.rows)
    return (comparison.huber / found.rows.abs().clamp_min(comparison.huber)).sqrt()


def _at_least(matrix: Tensor, floor: Tensor) -> Tensor:
    """`matrix` with every direction at least as large as in `floor` (both symmetric, floor semi-definite)."""
    values, vectors = torch.linalg.eigh(floor)
    keep = values > 1e-12 * values.max()
    if not bool(keep.any()):
        return matrix
    root = vectors[:, keep] * values[keep].sqrt()
    back = vectors[:, keep] / values[keep].sqrt()
    inner = back.T @ matrix @ back
    ratio, turn = torch.linalg.eigh(0.5 * (inner + inner.T))
    return root @ (turn * ratio.clamp_min(1.0)) @ turn.T @ root.T


def _null_space(information: Tensor) -> Tensor:
    """Directions that nothing determines, (p, d): eigenvalues below 1e-10 of the largest, or zero."""
    values, vectors = torch.linalg.eigh(information)
    return vectors[:, values <= 1e-10 * max(float(values.max()), 1e-300)]


def _prior_precision(space: Space) -> Tensor:
    rows = [0.0 if q.prior is None else q.prior.sd**-2 for q in space.quantities]
    return torch.diag(torch.tensor(rows, dtype=torch.float64))


def _estimate(q: Quantity, raw: Tensor, sd: float, quantile: float) -> Estimate:
    value = float(q.value(raw))
    if not math.isfinite(sd):
        low = q.lower if math.isfinite(q.lower) or q.transform is not Transform.LOG else 0.0
        return Estimate(q.name, q.unit, value, low, q.upper, math.inf, False)
    # exp of a few hundred overflows; such an interval is open in any case.
    reach = min(quantile * sd, 300.0) if q.transform is not Transform.LINEAR else quantile * sd
    low, high = (float(q.value(raw + s * reach)) for s in (-1.0, 1.0))
    leaf = raw.detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad(q.value(leaf), leaf)
    if q.transform is Transform.LOG:
        determined = reach < 0.5 * math.log(WIDE_FACTOR)
    elif math.isfinite(q.upper - q.lower):
        determined = high - low < WIDE_SHARE * (q.upper - q.lower)
    else:
        determined = reach < WIDE_FACTOR * max(abs(float(raw)), 1.0)
    return Estimate(q.name, q.unit, value, max(low, q.lower), min(high, q.upper), abs(float(slope)) * sd, determined)


def _warnings(
    space: Space, estimates: Sequence[Estimate], correlation: Tensor, open_directions: Tensor
) -> tuple[str, ...]:
    """Sentences for parameters that the data leave open, alone or together."""
    found = []
    for e in estimates:
        if not e.determined:
            found.append(
                f"The data do not determine {e.name}: its 90 % interval reaches from {e.low:.3g} to {e.high:.3g} "
                f"{e.unit}".rstrip()
                + ". Fix it, give it a prior, or add a measurement that depends on it."
            )
    names = space.names
    for direction in open_directions.T:
        involved = [names[i] for i in torch.nonzero(direction.abs() > 0.1).flatten().tolist()]
        if len(involved) > 1:
            found.append(f"Only a combination of {', '.join(involved)} is determined, not each of them.")
    for i in range(len(names)):
        for j in range(i):
            both = estimates[i].determined and estimates[j].determined
            if both and abs(float(correlation[i, j])) > TIED:
                found.append(
                    f"{names[j]} and {names[i]} are nearly tied together (correlation {float(correlation[i, j]):.3f}): "
                    "the record determines them well only in combination."
                )
    return tuple(found)
