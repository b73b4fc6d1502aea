"""A law's stress as the sparse sum of terms that a reader knows: regression on sampled strains.

The stress of many laws is linear in their parameters: of each such law the columns are its stresses at unit
parameters, and a fit is a linear one. `polynomial` is a library of terms, of which subsets are tried; the others are
tried whole.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from physim.errors import InputError
from physim.laws.compose import Composition
from physim.laws.core import LAWS, ElasticLaw
from physim.laws.material import Material
from physim.laws.polynomial import polynomial
from physim.laws.reach import Reach, stretched

SAMPLES = 400
# Subsets of so many terms are all tried; larger ones by leaving out one term after another.
EXHAUSTIVE, MOST = 5, 8
# A further term must be worth this factor in the error once the formula is good enough, and errors below are zero.
WORTH, NOTHING = 10.0, 1e-8
LEVEL, RESAMPLES = 0.9, 400
BEYOND = 1.5


@dataclass(frozen=True)
class Misfit:
    """Root mean square error of a stress over the root mean square of the stress itself.

    Attributes:
        shear: of the deviator [-].
        pressure: of the mean stress [-].
    """

    shear: float
    pressure: float

    @property
    def worse(self) -> float:
        """The larger of the two; infinite where one is no number."""
        worst = max(self.shear, self.pressure)
        return worst if math.isfinite(self.shear + self.pressure) else math.inf


@dataclass(frozen=True)
class Formula:
    """One law with some of its parameters.

    Attributes:
        law: the others of its parameters are zero.
        names: its parameters that are not.
        values: their values [Pa], (k,).
        held: error on strains that were not fitted.
    """

    law: ElasticLaw
    names: tuple[str, ...]
    values: Tensor
    held: Misfit

    def theta(self, values: Tensor | None = None) -> Tensor:
        """Columns of theta [Pa], (1, k)."""
        given = dict(zip(self.names, self.values if values is None else values, strict=True))
        zero = torch.zeros((), dtype=torch.float64)
        return torch.stack([given.get(p.name, zero) for p in self.law.params])[None]


@dataclass(frozen=True)
class Distilled:
    """What distilling found.

    Attributes:
        formula: the one to use.
        low, high: ends of the intervals of its values [Pa], (k,), over resampled strains.
        larger: its error on strains 1.5 times larger.
        tried: the best formula of each number of terms, ascending.
        reach: the strains.
    """

    formula: Formula
    low: Tensor
    high: Tensor
    larger: Misfit
    tried: tuple[Formula, ...]
    reach: Reach


@dataclass(frozen=True)
class _Data:
    """Sampled strains: F (n, 3, 3) and principal stresses (n, 3) [Pa], with what their parts are divided by."""

    F: Tensor
    stress: Tensor
    scale: Tensor

    @staticmethod
    def of(material: Material, F: Tensor, scale: Tensor | None = None) -> _Data:
        elastic = torch.vmap(material.laws.torch_elastic(), in_dims=(0, None, None))
        tau = elastic(F, material.rest_history(1)[0], material.theta().detach()[0])
        stress = torch.diagonal(tau, dim1=1, dim2=2)
        parts = _parts(stress)
        sizes = torch.stack([_rms(parts[:, :3]), _rms(parts[:, 3:])])
        return _Data(F, stress, sizes if scale is None else scale)

    def rows(self, stress: Tensor) -> Tensor:
        """Deviator and mean of stresses (n, 3, ...), each over its size, (n, 4, ...)."""
        per = torch.cat([self.scale[:1].expand(3), self.scale[1:]]).clamp(min=1e-300)
        return _parts(stress) / per.reshape(1, 4, *[1] * (stress.ndim - 2))

    def columns(self, law: ElasticLaw) -> Tensor:
        """Principal stresses of a law at unit parameters, (n, 3, k)."""
        read = law.kirchhoff.torch()
        units = torch.eye(len(law.params), dtype=torch.float64)
        tau = torch.vmap(torch.vmap(read, in_dims=(None, 0)), in_dims=(0, None))(self.F, units)
        return torch.diagonal(tau, dim1=2, dim2=3).mT

    def misfit(self, law: ElasticLaw, theta: Tensor) -> Misfit:
        """Errors of a law with these columns of theta, (1, k)."""
        got = torch.vmap(law.kirchhoff.torch(), in_dims=(0, None))(self.F, theta[0])
        off, whole = (_parts(s) for s in (torch.diagonal(got, dim1=1, dim2=2) - self.stress, self.stress))
        shear, pressure = (float(_rms(off[:, p]) / _rms(whole[:, p])) for p in (slice(0, 3), slice(3, 4)))
        return Misfit(shear, pressure)


def distil(material: Material, reach: Reach, *, tolerance: float = 0.01, seed: int = 0) -> Distilled:
    """The shortest formula whose stress is that of a material's elastic law within a tolerance.

    If none is that good, the shortest that is as good as any. A longer one is taken where each further term divides the
    error by ten. Fitted and held-out strains are different; intervals tell how the values move with the strains.

    Args:
        material: its elastic law is distilled; the formula works beside its viscous and inelastic laws.
        reach: strains on which the formula is fitted.
        tolerance: largest error of deviator and pressure on held-out strains [-].
        seed: of the strains.

    Raises:
        InputError: a law that cannot be distilled, or stresses that are not finite within these strains.
    """
    _check(material)
    fitted = _Data.of(material, stretched(reach.states(SAMPLES, seed)))
    if not bool(torch.isfinite(fitted.stress).all()):
        raise InputError(
            f"{material.composition}: the law gives no stress somewhere within strains of {reach.strain:g}; "
            "ask for smaller ones."
        )
    more = reach.states(SAMPLES, seed + 1)
    held = _Data.of(material, stretched(more), fitted.scale)
    best: dict[int, Formula] = {}
    # Laws with a name first: of equals the one that readers know is taken.
    for law in sorted(_linear_laws(material), key=lambda law: law is polynomial):
        for names, values in _fits(law, fitted):
            theta = Formula(law, names, values, Misfit(math.inf, math.inf)).theta()
            found = Formula(law, names, values, held.misfit(law, theta))
            known = best.get(len(names))
            if known is None or max(found.held.worse, NOTHING) < 0.95 * max(known.held.worse, NOTHING):
                best[len(names)] = found
    tried = tuple(best[n] for n in sorted(best))
    if not tried:
        raise InputError(f"{material.composition}: no sum of known terms is stable at rest and follows this law.")
    chosen = _choose(tried, tolerance)
    low, high = _intervals(chosen, fitted, seed)
    larger = _Data.of(material, stretched(BEYOND * more), fitted.scale)
    return Distilled(chosen, low, high, larger.misfit(chosen.law, chosen.theta()), tried, reach)


def _check(material: Material) -> None:
    law = material.elastic
    if law.energy is None:
        raise InputError(f"'{law.name}' states no energy, so there is none to write as a formula.")
    if law.is_fluid:
        raise InputError(f"'{law.name}' is a fluid's law, and only the energies of isotropic solids are distilled.")
    if law.fibre:
        raise InputError(f"'{law.name}' has fibres, and only the energies of isotropic solids are distilled.")


def _linear_laws(material: Material) -> list[ElasticLaw]:
    """Registered solids whose stress is linear in moduli, and which the material's other laws go with."""
    found = []
    F = stretched(torch.tensor([[0.3, -0.2, 0.1]], dtype=torch.float64))[0]
    for law in LAWS.values():
        solid = isinstance(law, ElasticLaw) and not (law.network or law.fibre or law.is_fluid)
        if not (isinstance(law, ElasticLaw) and solid and all(p.unit == "Pa" for p in law.params)):
            continue
        try:
            Composition(law, material.viscous, material.inelastic)
        except InputError:
            continue
        read, one = law.kirchhoff.torch(), torch.arange(1.0, len(law.params) + 1.0, dtype=torch.float64)
        if torch.allclose(read(F, 2.0 * one), 2.0 * read(F, one)):
            found.append(law)
    return found


def _fits(law: ElasticLaw, data: _Data) -> list[tuple[tuple[str, ...], Tensor]]:
    """The best allowed subset of each number of parameters with its values [Pa]; all of them unless zero is default."""
    A = data.rows(data.columns(law)).reshape(4 * SAMPLES, -1)
    b = data.rows(data.stress).reshape(-1)
    size = A.norm(dim=0)
    Q, R = torch.linalg.qr(A / size)
    y, names, k = Q.mT @ b, [p.name for p in law.params], len(law.params)
    if any(p.default != 0.0 for p in law.params):
        subsets = [torch.arange(k)[None]]
    else:
        subsets = [torch.tensor(list(itertools.combinations(range(k), n))) for n in range(1, EXHAUSTIVE + 1)]
        subsets += _eliminated(R, y)
    found = []
    for chosen in subsets:
        q, r = torch.linalg.qr(R[:, chosen].movedim(1, 0))
        values = torch.linalg.solve_triangular(r, (q.mT @ y)[..., None], upper=True)[..., 0] / size[chosen]
        left = (y @ y - (q.mT @ y).square().sum(dim=1)).masked_fill(~_allowed(law, chosen, values), math.inf)
        least = int(left.argmin())
        if math.isfinite(float(left[least])):
            found.append((tuple(names[i] for i in chosen[least].tolist()), values[least]))
    return found


def _eliminated(R: Tensor, y: Tensor) -> list[Tensor]:
    """Subsets of MOST to EXHAUSTIVE + 1 columns that leaving out the least needed one, again and again, comes to."""
    kept, found = list(range(R.shape[1])), []
    while len(kept) > EXHAUSTIVE + 1:
        without = torch.tensor([[*kept[:i], *kept[i + 1 :]] for i in range(len(kept))])
        explained = (torch.linalg.qr(R[:, without].movedim(1, 0)).Q.mT @ y).square().sum(dim=1)
        kept = without[int(explained.argmax())].tolist()
        if len(kept) <= MOST:
            found.append(torch.tensor([kept]))
    return found


def _allowed(law: ElasticLaw, chosen: Tensor, values: Tensor) -> Tensor:
    """Whether values (m, n) of parameters (m, n) are within bounds and make a solid that is stable at rest, (m,)."""
    theta = torch.zeros(len(chosen), len(law.params), dtype=torch.float64).scatter(1, chosen, values)
    shear, bulk = law.moduli(theta)
    inside = torch.isfinite(theta).all(dim=1) & (shear > 0.0) & (bulk > 0.0)
    for i, param in enumerate(law.params):
        inside &= (theta[:, i] >= param.lower) & (theta[:, i] <= param.upper)
    return inside


def _choose(tried: tuple[Formula, ...], tolerance: float) -> Formula:
    errors = [max(f.held.worse, NOTHING) for f in tried]
    enough = tolerance if min(errors) <= tolerance else 1.1 * min(errors)
    at = next(i for i, error in enumerate(errors) if error <= enough)
    for i in range(at + 1, len(tried)):
        further = len(tried[i].names) - len(tried[at].names)
        if errors[i] < errors[at] / WORTH**further:
            at = i
    return tried[at]


def _intervals(formula: Formula, data: _Data, seed: int) -> tuple[Tensor, Tensor]:
    """Ends of the values' intervals [Pa] over bootstrap samples of the strains."""
    chosen = [i for i, p in enumerate(formula.law.params) if p.name in formula.names]
    A, b = data.rows(data.columns(formula.law)[..., chosen]), data.rows(data.stress)
    size = A.flatten(0, 1).norm(dim=0)
    A = A / size
    g = torch.Generator().manual_seed(seed)
    drawn = torch.randint(SAMPLES, (RESAMPLES, SAMPLES), generator=g)
    count = torch.zeros(RESAMPLES, SAMPLES, dtype=torch.float64).scatter_add_(
        1, drawn, torch.ones(drawn.shape, dtype=torch.float64)
    )
    gram = torch.einsum("rn,npi,npj->rij", count, A, A)
    values = torch.linalg.solve(gram, torch.einsum("rn,npi,np->ri", count, A, b)) / size
    ends = torch.quantile(values, torch.tensor([0.5 - LEVEL / 2, 0.5 + LEVEL / 2], dtype=torch.float64), dim=0)
    return torch.minimum(ends[0], formula.values), torch.maximum(ends[1], formula.values)


def _parts(stress: Tensor) -> Tensor:
    """Deviator and mean of principal stresses (n, 3, ...), (n, 4, ...)."""
    mean = stress.mean(dim=1, keepdim=True)
    return torch.cat([stress - mean, mean], dim=1)


def _rms(values: Tensor) -> Tensor:
    return values.square().mean().sqrt()
