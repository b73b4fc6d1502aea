"""The strength of a plastic law, read off observed elastic strains: a start without a run and without a search.

A return map shows in the states themselves. What the observed velocity gradients would have made of an elastic strain
over an interval is known; where the strain observed next is smaller, the particle has yielded, and its stress lies on
the yield surface. The strength is linear in its constants and outer weights, so one least-squares problem with signs
finds them. It is written in Hencky strains times 2 mu and the bulk modulus, as the maps themselves are: the map that it
finds is right in strains even where the moduli are not. So it comes first; the linear start of the elastic energy then
takes the map as it is in strains, and with the moduli that it finds strengths are read once more.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from physim.errors import FitError, InputError
from physim.fit.learn.linear import FOLD, RIDGES, LinearStart, linear_start
from physim.fit.learn.shooting import Motion, Shooting
from physim.fit.learn.strengths import STEEPEST, Form, form_of
from physim.fit.learn.together import Together, each
from physim.laws.material import Material
from physim.laws.neural.plastic import PlasticPlan

LEAST_STRAIN = 1e-6
"""Standard deviation of strains where a motion states none: what single precision leaves of them."""
CLEAR = 4.0
"""A particle has yielded where it lost this many standard deviations of strain."""
UNDECIDED = 0.25
"""Share of a velocity gradient's change within an interval that is not known: it is taken as linear in time."""
ROUNDING = 1e-13
"""A coefficient is zero below this, in units of what would make the strengths by itself."""
ROBUST, PASSES = 1.345, 8
"""Residuals beyond so many standard deviations count less (Huber 1964, doi:10.1214/aoms/1177703732), in so many passes:
after a long interval some of those that have yielded are no longer at the yield surface."""


@dataclass(frozen=True)
class ObservedFlow:
    """What states tell of plastic flow.

    Attributes:
        shear: size of the Hencky strain's deviator at the end of each interval [-], (t, n).
        volume: its trace [-], (t, n).
        lost: by how much flow has made the deviator smaller [-], (t, n), zero where nothing yielded.
        plastic: accumulated plastic strain of each state, zero at first [-], (t + 1, n).
    """

    shear: Tensor
    volume: Tensor
    lost: Tensor
    plastic: Tensor


@dataclass(frozen=True)
class FlowStart:
    """What was read off.

    Attributes:
        values: named constants by name [SI].
        sd: standard deviations of the coefficients that the strength is linear in, by name.
        unexcited: names of those about which the motion says next to nothing.
        ridge: how much units were held back.
        misfit, held_out: root mean square of what is left, relative to that of the strengths, in the intervals fitted
            and left out.
        yielding: share of particles and intervals that yielded.
        pressure: range of pressures [Pa] on which strength was seen.
        plastic: largest accumulated plastic strain [-].
    """

    values: dict[str, float]
    sd: dict[str, float]
    unexcited: tuple[str, ...]
    ridge: float
    misfit: float
    held_out: float
    yielding: float
    pressure: tuple[float, float]
    plastic: float


def observed_flow(motion: Motion) -> ObservedFlow:
    """Elastic strains and plastic flow of a motion, by its own positions and velocity gradients alone.

    Exact where every substep was observed; over longer intervals the velocity gradient is taken as linear in time.
    """
    sure = CLEAR * (motion.strain_noise or LEAST_STRAIN)
    plastic = torch.zeros_like(motion.states[0].F[:, 0, 0], dtype=torch.float64)
    shears, volumes, flow, total = [], [], [], [plastic]
    for one, two in zip(motion.states[:-1], motion.states[1:], strict=True):
        C, change, F = one.C.double(), (two.C - one.C).double(), one.F.double()
        for j in range(1, motion.every + 1):
            F = F + motion.dt * ((C + (j / motion.every) * change) @ F)
        tried, _ = _sizes(F)
        shear, volume = _sizes(two.F.double())
        doubt = sure + (UNDECIDED * motion.every * motion.dt * change.norm(dim=(1, 2)) if motion.every > 1 else 0.0)
        lost = torch.where(tried - shear > doubt, tried - shear, 0.0)
        plastic = plastic + lost
        for rows, row in ((shears, shear), (volumes, volume), (flow, lost), (total, plastic)):
            rows.append(row)
    return ObservedFlow(torch.stack(shears), torch.stack(volumes), torch.stack(flow), torch.stack(total))


def with_history(motion: Motion, material: Material) -> Motion:
    """The motion with the history that a material's law would carry in it, unknown to who observed it.

    The accumulated plastic strain is that of `observed_flow`, which takes the first state as one that never yielded.

    Raises:
        InputError: a law with another history.
    """
    law = material.inelastic
    names = () if law is None else law.history
    if material.elastic.fibre or len(names) != material.history_size or names not in ((), ("plastic_strain",)):
        raise InputError(f"{material.composition}: only a plastic strain is read off states, no other history.")
    if names:
        rows = observed_flow(motion).plastic[:, :, None].to(motion.states[0].F.dtype).unbind()
    else:
        rows = (motion.states[0].F[:, 0, :0],) * len(motion.states)
    states = tuple(s.replace(h=h.contiguous()) for s, h in zip(motion.states, rows, strict=True))
    return dataclasses.replace(motion, states=states)


def flow_start(shooting: Shooting, *, most: int = 20_000) -> FlowStart:
    """Fit the strength of the material's plastic law to observed strains, and write it into the material.

    Args:
        shooting: of the model whose material is learned, of one motion or of several; `von_mises`, `drucker_prager` or
            `neural_plastic` is its inelastic law. Its moduli turn strains into pressures and strengths.
        most: number of particles' strains that are fitted.

    Raises:
        InputError: another inelastic law.
        FitError: hardly anything yields.
    """
    material = shooting.material
    seen = [observed_flow(one.motion) for one in each(shooting)]
    shear, bulk = (float(m) for m in material.elastic.moduli(_elastic(material)))
    form = form_of(material)
    size, trace, before, after, t = (torch.cat(rows) for rows in zip(*(_at_yield(one) for one in seen), strict=True))
    looked = sum(one.lost.numel() for one in seen)
    if len(t) < 10 * FOLD * len(form.names):
        largest = max(float(one.shear.max()) for one in seen)
        raise FitError(
            f"{len(t)} of {looked} observed strains are at yield: the motion says only that the strength is at "
            f"least {2.0 * shear * largest:.3g} Pa. Use a motion that deforms the body more."
        )
    share = len(t) / looked
    keep = torch.linspace(0, len(t) - 1, min(most, len(t))).long()
    size, trace, before, after, t = (row[keep] for row in (size, trace, before, after, t))
    y, p = 2.0 * shear * size, -bulk * trace
    A = form.columns(p, before, after, float(y.square().mean().sqrt()))
    left_out = t % FOLD == FOLD // 2
    q, ridge, (sd, told), misses = _fit(A, y, left_out, form)
    form.write(q.tolist())
    return FlowStart(
        values={n: float(v.detach()) for n, v in material.values().items() if n in form.constants},
        sd=dict(zip(form.names, sd.tolist(), strict=True)),
        unexcited=tuple(n for n, s in zip(form.names, told.tolist(), strict=True) if s < 0.5),
        ridge=ridge,
        misfit=misses[0],
        held_out=misses[1],
        yielding=share,
        pressure=(float(p.min()), float(p.max())),
        plastic=max(float(one.plastic.max()) for one in seen),
    )


def learned_start(shooting: Shooting, **options: Any) -> tuple[FlowStart, LinearStart]:
    """Fit strength and elastic energy to observed states, neither of them right before.

    Args:
        shooting: of the model whose material is learned, a `neural_energy` with a law that `flow_start` takes.
        options: of `linear_start`.

    Raises:
        InputError, FitError: as `flow_start` and `linear_start`.
    """
    flow_start(shooting)
    found = linear_start(held_in_strains(shooting), **options)
    return flow_start(shooting), found


def first_start(shooting: Shooting, **options: Any) -> tuple[FlowStart | None, LinearStart]:
    """`learned_start` where the strength is learned, else `linear_start` alone.

    Args:
        shooting: of the model whose material is learned.
        options: of `linear_start`.

    Raises:
        InputError, FitError: as those.
    """
    law = shooting.material.inelastic
    if law is not None and isinstance(law.network, PlasticPlan):
        return learned_start(shooting, **options)
    return None, linear_start(shooting, **options)


def held_in_strains(shooting: Shooting) -> Shooting:
    """The same runs for a search of the elastic law alone: the return map stays as it is in strains.

    Whatever moduli a set of parameters has, its strengths are those that keep the map; the material's own strengths are
    as before, so `flow_start` comes next. Strains are not compared, since they are what the map was read off.
    """
    if isinstance(shooting, Together):
        return Together([held_in_strains(one) for one in shooting.shootings], shooting.ranks)
    elastic, form = shooting.material.elastic, form_of(shooting.material)
    n = len(elastic.params)
    shear, bulk = elastic.moduli(_elastic(shooting.material))

    def through(thetas: Tensor) -> Tensor:
        now, volume = elastic.moduli(thetas[:, :n])
        return form.scaled(thetas.clone(), now / shear, volume / bulk)

    motion = dataclasses.replace(shooting.motion, strain_noise=None)
    return Shooting(shooting.solver, motion, shooting.index, through)


def _at_yield(seen: ObservedFlow) -> tuple[Tensor, ...]:
    """Sizes and traces of strains at yield, the plastic strain before and after, and the interval, (m,) each."""
    t, i = (seen.lost > 0.0).nonzero(as_tuple=True)
    return seen.shear[t, i], seen.volume[t, i], seen.plastic[t, i], seen.plastic[t + 1, i], t


def _fit(
    A: Tensor, y: Tensor, left_out: Tensor, form: Form
) -> tuple[Tensor, float, tuple[Tensor, Tensor], list[float]]:
    """Coefficients, the ridge that predicts what is left out best, (sd, share of the prior taken away), and misfits."""
    size, each = y.square().mean().sqrt(), A.square().mean(dim=0).sqrt().clamp(min=1e-300)
    A, y = A / each, y / size
    held = torch.zeros(A.shape[1], dtype=A.dtype)
    held[A.shape[1] - form.units :] = 1.0
    high = torch.full_like(held, math.inf)
    if form.sloped is not None:
        high[form.sloped] = STEEPEST * each[form.sloped] / size
    parts = [(A[some], y[some]) for some in (~left_out, left_out)]
    best: tuple[float, float, Tensor, Tensor] | None = None
    for ridge in RIDGES if form.units else (0.0,):
        q, weight = _robust(*parts[0], ridge * held, high)
        miss = _middling(parts[1][0] @ q - parts[1][1])
        if best is None or miss < best[0]:
            best = miss, ridge, q, weight
    assert best is not None
    _, ridge, q, weight = best
    (A, y), root = parts[0], weight.sqrt()
    normal = (A * weight[:, None]).T @ A / len(A)
    inverse = torch.linalg.inv(normal + torch.diag((ridge * held).clamp(min=1e-15)))
    variance = (root * (A @ q - y)).square().mean() / len(A)
    sd = (variance * inverse.diagonal()).clamp(min=0.0).sqrt() * size / each
    told = 1.0 - ridge * held * inverse.diagonal()
    misses = [float((B @ q - z).square().mean().sqrt()) for B, z in parts]
    return q * size / each, ridge, (sd, told), misses


def _robust(A: Tensor, y: Tensor, held: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Least squares with bounds, in which residuals beyond the middling ones count less; and what each counted."""
    from scipy.optimize import lsq_linear

    weight, q = torch.ones_like(y), torch.zeros_like(held)
    for _ in range(PASSES):
        root = (weight / len(y)).sqrt()
        rows = torch.linalg.qr(torch.cat([A * root[:, None], (y * root)[:, None]], dim=1), mode="r")[1]
        left = torch.cat([rows[:, :-1], torch.diag(held.sqrt())]).numpy()
        right = torch.cat([rows[:, -1], torch.zeros_like(held)]).numpy()
        before, bounds = q, (0.0, high.numpy())
        # A method with an active set, but what is at its bound is there to rounding only.
        q = torch.as_tensor(lsq_linear(left, right, bounds, method="bvls", tol=1e-14).x)
        q = torch.where(q > ROUNDING, q, 0.0)
        r = (A @ q - y).abs()
        weight = (ROBUST * max(_middling(r), 1e-12) / r.clamp(min=1e-300)).clamp(max=1.0)
        if float((q - before).abs().max()) < 1e-9:
            break
    return torch.minimum(q, high), weight


def _middling(r: Tensor) -> float:
    """Standard deviation of normal residuals with the same median size."""
    return 1.4826 * float(r.abs().median())


def _elastic(material: Material) -> Tensor:
    """The elastic law's named columns, one row."""
    return material.theta().detach()[:1, : len(material.elastic.params)]


def _sizes(F: Tensor) -> tuple[Tensor, Tensor]:
    """Size of the deviator and trace of the Hencky strain, (n,) each."""
    stretches = torch.linalg.eigvalsh(F @ F.mT).clamp(min=1e-300)
    eps = 0.5 * torch.log(stretches)
    trace = eps.sum(dim=1)
    return (eps - trace[:, None] / 3.0).norm(dim=1), trace
