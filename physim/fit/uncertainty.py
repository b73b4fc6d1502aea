"""How well the data determine the parameters: covariance, intervals, correlations, warnings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from scipy import stats
from torch import Tensor

from physim.fit.block import Block
from physim.fit.derivatives import differentiate, left_out
from physim.fit.misfit import Misfit, misfit, score_covariance
from physim.fit.problem import Problem
from physim.fit.space import Quantity, Space, Transform
from physim.observe.record import Comparison

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
class Weights:
    """What became of the weights of one learned law.

    Attributes:
        name: user-facing name.
        count: number of weights.
        moved: root mean square move from the start in raw units.
        determined: how many independent combinations of them the data fix, rather than the prior; NaN where that was
            not looked at.
    """

    name: str
    count: int
    moved: float
    determined: float


@dataclass(frozen=True)
class Uncertainty:
    """The Laplace approximation around the fitted point.

    Attributes:
        estimates: one per quantity; where weights are fitted too, with what these leave open.
        covariance: of all raw parameters, weights included, (p, p).
        correlation: of the quantities, (q, q).
        noise: root mean squared residual per observation [noise units].
        effective: independent values per observation, after correcting for correlated residuals.
        freedom: degrees of freedom of the intervals' t distribution.
        warnings: sentences about what the data do not determine.
        shifts: move of each raw parameter per standard deviation of each assumed number, to first order, and after
            them what other grids add, (p, q).
        combined: estimates whose intervals hold the noise and the assumed numbers; empty without any.
        weights: one entry per block of weights.
        open_directions: raw directions that nothing determines, (p, d).
        left_out: names of the blocks that the intervals take as known.
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
    weights: tuple[Weights, ...] = ()
    open_directions: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.float64))
    left_out: tuple[str, ...] = ()


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
    return laplace(problem.space, raw, base, jacobians, level=level, known=left_out(problem))


def laplace(
    space: Space,
    raw: Tensor,
    comparisons: Sequence[Comparison],
    jacobians: Sequence[Tensor],
    *,
    level: float = 0.9,
    assumed: Sequence[Tensor] = (),
    known: Sequence[Block] = (),
) -> Uncertainty:
    """Covariance A^-1 B A^-1 with A = J^T J + prior and B the covariance of J^T r, per observation.

    B takes its scale and its correlation in time and between channels from the residuals; it is never taken below
    that of independent residuals of the same scale. Where too few values remain to estimate the scale, the stated
    noise is used. Intervals are t quantiles with the effective degrees of freedom, mapped through the transforms.

    An assumed number a that is off moves the fit by d(raw)/da = -A^-1 J^T J_a, J_a = d(residuals)/da, to first
    order. Half an interval of the combined estimates is the root of the sum of the squares of what either part gives
    alone: the t quantile for the noise, whose size is estimated, and the normal one for the assumed numbers. So it is
    never narrower than from the noise alone.

    Weights are parameters like the others, with their prior: the intervals of the quantities are wider by what the
    weights leave open, unless the weights are `known`.

    Args:
        space: the fitted quantities.
        raw: fitted raw parameters, (p,).
        comparisons: at `raw`.
        jacobians: d(residuals)/d(raw) of each, (m, k, p).
        level: probability of the intervals.
        assumed: change of the residuals of each per standard deviation of every assumed number, and of what else may
            be off, (m, k, q).
        known: blocks whose derivatives were not taken.
    """
    p, named = len(raw), len(space.quantities)
    information = torch.zeros(p, p, dtype=torch.float64)
    scores, spreads = torch.zeros_like(information), torch.zeros_like(information)
    pulls = torch.zeros(p, assumed[0].shape[-1] if assumed else 0, dtype=torch.float64)
    noise, effective = {}, {}
    total = sum(int((c.fitted & c.valid).sum()) for c in comparisons)
    freedom = 0.0
    # Weights have a prior, so that fewer values than weights still tell their own scale.
    enough = total > (named if space.blocks else p)
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
        scores += (found.scale if enough else 1.0) * spread
        spreads += spread
        noise[comparison.name] = found.scale**0.5
        effective[comparison.name] = found.effective
        freedom += found.effective
    prior, believed = _prior_precision(space)
    inverse = torch.linalg.pinv(information + prior, rtol=1e-13, hermitian=True)
    # The fit has taken this much of the squared residuals away; correlated noise loses more than one value
    # per parameter.
    lost = float((inverse @ spreads).trace())
    grown = total / max(total - lost, 0.25 * total) if enough else 1.0
    covariance = inverse @ (grown * scores + believed) @ inverse
    open_directions = _null_space(information + prior, named)
    freedom = max(freedom - lost, 1.0)
    quantile = float(stats.t.ppf(0.5 + level / 2.0, freedom))
    sd = covariance.diagonal().clamp_min(0.0).sqrt()
    sd = torch.where((open_directions**2).sum(1) > 1e-6, math.inf, sd)
    estimates = tuple(_estimate(q, raw[i], float(sd[i]), quantile) for i, q in enumerate(space.quantities))
    size = sd[:named].clamp(1e-300, 1e300)
    correlation = (covariance[:named, :named] / size[:, None] / size[None, :]).clamp(-1.0, 1.0)
    correlation.fill_diagonal_(1.0)
    warnings = (*_warnings(space, estimates, correlation, open_directions[:named]), *_known(known))
    fixed = 1.0 - (prior.diagonal() * inverse.diagonal())
    weights = tuple(
        Weights(b.name, b.count, moved, math.nan if b in known else float(fixed[space.rows(b.name)].sum()))
        for b, moved in zip(space.blocks, space.moves(raw).values(), strict=True)
    )
    shifts = -inverse @ pulls
    combined = _combined(space, raw, sd, shifts, freedom, level) if assumed else ()
    return Uncertainty(
        estimates,
        covariance,
        correlation,
        noise,
        effective,
        freedom,
        warnings,
        shifts,
        combined,
        weights,
        open_directions,
        tuple(b.name for b in known),
    )


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


def _null_space(information: Tensor, named: int) -> Tensor:
    """Directions that nothing determines, (p, d): eigenvalues below 1e-10 of the largest, or zero.

    Args:
        information: of all parameters, (p, p).
        named: number of quantities. The weights after them have a prior, so they are never open themselves, but they
            may follow a quantity along its direction.
    """
    among, across, inner = information[:named, :named], information[named:, :named], information[named:, named:]
    follow = -torch.linalg.solve(inner, across)
    values, vectors = torch.linalg.eigh(among + across.T @ follow)
    largest = max([0.0, *values.tolist(), *among.diagonal().tolist()])
    chosen = vectors[:, values <= 1e-10 * max(largest, 1e-300)]
    return torch.cat([chosen, follow @ chosen])


def _prior_precision(space: Space) -> tuple[Tensor, Tensor]:
    """Second derivatives of the priors in the loss, (p, p), and the covariance of their first ones."""
    rows = [0.0 if q.prior is None else q.prior.sd**-2 for q in space.quantities]
    belief = list(rows)
    for block in space.blocks:
        rows += [block.precision] * block.count
        # The loss weighs it against residuals of the size `noise`, so their variance is its unit.
        belief += [block.precision * block.noise**2] * block.count
    return torch.diag(torch.tensor(rows, dtype=torch.float64)), torch.diag(torch.tensor(belief, dtype=torch.float64))


def _known(blocks: Sequence[Block]) -> tuple[str, ...]:
    """What the intervals leave out, in a sentence."""
    if not blocks:
        return ()
    told = ", ".join(f"the {b.words} of {b.name}" for b in blocks)
    return (
        f"The intervals take {told} as known, and predictions have no band: a derivative by every weight would need "
        "two runs of each recording. What the weights leave open is not in them.",
    )


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
