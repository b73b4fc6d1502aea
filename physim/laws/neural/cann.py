"""A sparse, readable network: terms with weights that are not negative, each zero with zero slope at rest.

Constitutive artificial neural networks have one unit per term that a textbook would write. Here each measure of strain
has a linear, a square, an exponential and a logarithmic term, and the volume up to four; weights of zero leave a term
out. See `terms`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from physim.errors import InputError, nearest
from physim.laws.core import ElasticLaw, register
from physim.laws.material import Material
from physim.laws.neural.encoders import Encoder
from physim.laws.neural.energy import make_law
from physim.laws.neural.terms import COLUMNS, KINDS, LOCK, Terms, terms_energy, terms_slopes
from physim.laws.neural.weights import HEAD, Coefficient


@dataclass(frozen=True)
class TermPlan:
    """Which terms there are.

    Attributes:
        encoder: "invariants", "stretches" (terms of the stretches themselves), "hencky" (of their logarithms, for
            return maps) or "volume" (fluids).
        convex: polyconvex terms only, of `invariants`: another K2, and no ln(J)^2.
    """

    encoder: str = "invariants"
    convex: bool = False
    family = "cann"

    def __post_init__(self) -> None:
        known = list(dict.fromkeys(name for name, _ in KINDS))
        if self.encoder not in known:
            raise InputError(f"'{self.encoder}' is not an encoder of cann.{nearest(str(self.encoder), known)}")
        if (self.encoder, self.convex) not in KINDS:
            raise InputError(f"cann has no polyconvex terms in '{self.encoder}'; use convex: false, or invariants.")

    @property
    def terms(self) -> Terms:
        """The terms."""
        return KINDS[self.encoder, self.convex]

    @property
    def size(self) -> int:
        """Number of columns of theta."""
        return HEAD + len(COLUMNS)

    def make(self, seed: int) -> TermWeights:
        """Weights drawn at random, each bending term a few percent of the linear ones at K = 1."""
        return TermWeights(self, seed)

    def options(self) -> dict[str, Any]:
        """What `cann` was asked for."""
        return {"encoder": self.encoder, "convex": self.convex}


class TermWeights(nn.Module):
    """Raw weights of the terms; frozen until `Material.free("network")`. A weight is the square of its raw value.

    Weights of terms that are left out have no effect.

    Attributes:
        plan: which terms there are.
        linear: of the measures, (2,): they share the shear modulus, or as one without shear, the bulk modulus.
        bend: of square, exponential and logarithm of both measures in units of the shear modulus, (2, 3).
        shape: logarithms of the exponent and of the lock over 20, of both measures, (2, 2).
        volume: of the terms of the volume, (4,): they share what S leaves of the bulk modulus.
    """

    def __init__(self, plan: TermPlan, seed: int) -> None:
        super().__init__()
        self.plan = plan
        g = torch.Generator().manual_seed(seed)

        def drawn(centre: Tensor, spread: float) -> nn.Parameter:
            noise = torch.randn(centre.shape, dtype=torch.float64, generator=g)
            return nn.Parameter(centre + spread * noise, requires_grad=False)

        full = torch.ones(2, 3, dtype=torch.float64)
        self.linear = drawn(torch.tensor([1.0, 0.3], dtype=torch.float64), 0.05)
        self.bend = drawn(0.15 * full, 0.03)
        self.shape = drawn(0.0 * full[:, :2], 0.1)
        self.volume = drawn(torch.tensor([1.0, 0.3, 0.3, 0.3], dtype=torch.float64), 0.05)
        terms = plan.terms
        present = (torch.arange(2) < len(terms.measures)).double()
        self.volume_kept = torch.tensor([name is not None for name in terms.volume], dtype=torch.float64)
        # Shear and bulk modulus that each measure has by its weight; which measures share the one, which the other.
        self.carried = torch.tensor([terms.shear, terms.bulk], dtype=torch.float64) * present
        self.leads = (self.carried[0] > 0.0).double()
        self.follows = present - self.leads

    @property
    def encoder(self) -> Encoder:
        """What the terms read."""
        return self.plan.terms.read

    def columns(self, named: Tensor) -> Tensor:
        """Columns of theta after the named ones, (n, size), differentiable.

        Args:
            named: the law's named columns, (n, k).
        """
        mu, bulk = (m[:, None] for m in self.encoder.moduli(named))
        linear, volume = self.linear.square(), self.volume.square() * self.volume_kept
        weight = torch.zeros_like(mu) * linear
        if bool(self.leads.any()):
            weight = mu * (linear * self.leads) / (linear @ self.carried[0])
        rest, pool = bulk - (weight @ self.carried[1])[:, None], volume.sum() + linear @ self.follows
        weight = weight + rest * (linear * self.follows) / pool
        bend = mu[:, :, None] * (self.bend.square() * (self.leads + self.follows)[:, None])
        return self._joined(weight[:, 1:], bend, rest * volume / pool)

    def _joined(self, second: Tensor, bend: Tensor, volume: Tensor) -> Tensor:
        """Columns of theta from the coefficient of z[1], (n, 1), and the weights of the others, (n, 2, 3), (n, 4)."""
        shape = torch.exp(self.shape).expand(second.shape[0], -1, -1)
        rows = [bend[..., 0], bend[..., 1], shape[..., 0], bend[..., 2], LOCK * shape[..., 1]]
        terms = torch.stack(rows, dim=2).flatten(1)
        none = torch.zeros_like(second)
        return torch.cat([second, volume[:, :1], volume[:, 3:], none, none, terms, volume[:, 1:3]], dim=1)

    @property
    def coefficients(self) -> tuple[Coefficient, ...]:
        """What the stress is linear in, in the order of `assemble`: the weights of the terms."""
        terms = self.plan.terms
        bends = [f"{kind} of {K}" for K in terms.measures for kind in ("square", "exponential", "logarithm")]
        names = [*terms.measures, *bends, *(name for name in terms.volume if name)]
        return tuple(Coefficient(n, n not in terms.moduli, True) for n in names)

    def begin(self, shear: float, bulk: float) -> Tensor:
        """Coefficients [Pa] of the simplest law: one term of shear and one of volume."""
        terms, first = self.plan.terms, 0.5 * shear
        start = {(*terms.measures, "")[0]: first, terms.plainest: bulk - first * terms.bulk[0]}
        return torch.tensor([start.get(c.name, 0.0) for c in self.coefficients], dtype=torch.float64)

    def assemble(self, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Shear and bulk modulus at rest [Pa], (n, 1), and columns of theta, all linear in the coefficients.

        Args:
            q: `coefficients` [Pa], (n, m).
        """
        linear, bend, volume = self._parted(q)
        shear, bulk = self._moduli(linear, volume)
        return shear, bulk, self._joined(linear[:, 1:], bend, volume)

    def _moduli(self, linear: Tensor, volume: Tensor) -> tuple[Tensor, Tensor]:
        """Shear and bulk modulus at rest [Pa], (n, 1), of weights of measures, (n, 2), and of the volume, (n, 4)."""
        shear, bulk = (linear @ self.carried.T).split(1, dim=1)
        return shear, bulk + volume.sum(dim=1, keepdim=True)

    def _parted(self, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weights of linear, (n, 2), bending, (n, 2, 3), and volumetric terms, (n, 4), zero where one is left out."""
        count, given = len(self.plan.terms.measures), len(q)
        linear, bend, volume = q.new_zeros(given, 2), q.new_zeros(given, 2, 3), q.new_zeros(given, 4)
        linear[:, :count] = q[:, :count]
        bend[:, :count] = q[:, count : 4 * count].reshape(given, count, 3)
        volume[:, self.volume_kept.bool()] = q[:, 4 * count :]
        return linear, bend, volume

    def take(self, q: Tensor) -> tuple[float, float, float]:
        """Set weights from a fit that is linear in them; the shear and bulk modulus [Pa] for the material, and 1.

        Args:
            q: `coefficients` [Pa], (m,).

        Raises:
            InputError: a modulus that is not positive, or a negative coefficient.
        """
        linear, bend, volume = (part[0] for part in self._parted(q[None]))
        shear, bulk = (float(modulus) for modulus in self._moduli(linear[None], volume[None]))
        if not ((shear > 0.0 or not self.plan.terms.measures) and bulk > 0.0):
            raise InputError(f"the fit has a shear modulus of {shear:g} Pa and a bulk modulus of {bulk:g} Pa at rest.")
        if bool((q < 0).any()):
            raise InputError(f"{float(q.min()):g} Pa is a negative weight of a term; fit them with bounds.")
        led, pool = linear @ self.leads, volume.sum() + linear @ self.follows
        with torch.no_grad():
            # A law whose S has all of the bulk modulus keeps the shares of what is nothing.
            if float(pool) > 0.0:
                self.volume.copy_((volume / pool).sqrt())
                self.linear.copy_(torch.where(self.follows > 0.0, (linear / pool).sqrt(), self.linear))
            if self.plan.terms.measures:
                self.linear.copy_(torch.where(self.leads > 0.0, (linear / led).sqrt(), self.linear))
                self.bend.copy_((bend / shear).sqrt())
        return shear, bulk, 1.0

    def prune(self, share: float) -> None:
        """Set weights to zero that carry less than this share of the modulus they belong to; they stay zero."""
        with torch.no_grad():
            linear, volume = self.linear.square(), self.volume.square()
            pool = volume.sum() + linear @ self.follows
            of = torch.where(self.follows > 0.0, pool, linear @ (1.0 - self.follows))
            for weight, whole in ((self.linear, of), (self.bend, torch.ones(())), (self.volume, pool)):
                weight[weight.square() < share * whole] = 0.0


def cann(encoder: str = "invariants", convex: bool = False) -> ElasticLaw:
    """The law of a sparse, readable network; the same law for the same arguments.

    Args:
        encoder: "invariants" (K1, K2 and J), "stretches" (|V - I|, tr V and J), "hencky" (logarithmic strain) or
            "volume" (J alone: fluids).
        convex: polyconvex in F: K2 is then a power of the second invariant that is polyconvex.

    Raises:
        InputError: an unknown encoder, or one without polyconvex terms.
    """
    return _law(TermPlan(encoder, convex))


@cache
def _law(plan: TermPlan) -> ElasticLaw:
    encoder = plan.terms.read
    ending = ("" if plan.encoder == "invariants" else f"_{plan.encoder}") + ("_convex" if plan.convex else "")
    return make_law(
        encoder,
        plan,
        "cann" + ending,
        (terms_energy, terms_slopes),
        "Linka and Kuhl 2023, doi:10.1016/j.cma.2022.115731",
        f"readable network of non-negative terms in {encoder.words}",
        further_energy=plan.terms.further[0],
        further_slope=plan.terms.further[1],
    )


def formula(material: Material) -> str:
    """The energy of a `cann` material as text, numbers with units, terms of weight zero left out.

    Args:
        material: its first row of theta is told.
    """
    law = material.elastic
    terms = law.network.terms  # type: ignore[union-attr]
    first = len(law.params)
    row = material.theta().detach()[:1, : first + law.network.size]  # type: ignore[union-attr]
    shear = float(law.moduli(row[:, :first])[0])
    second, barrier, bowl, _, _, *others = row[0, first:].tolist()
    value = dict(zip(COLUMNS, others, strict=True))
    told = []
    # Of a measure that shares the shear modulus, z[0] has the rest.
    linear = (0.5 * (shear - terms.shear[1] * second), second)
    for i, (K, weight) in enumerate(zip(terms.measures, linear, strict=False), 1):
        a, lock = value[f"exponent_{i}"], value[f"lock_{i}"]
        told.append((weight, K))
        told.append((value[f"square_{i}"], f"{K}^2"))
        told.append((value[f"exponential_{i}"] / a**2, f"(exp({a:.4g} {K}) - 1 - {a:.4g} {K})"))
        told.append((value[f"logarithm_{i}"] * lock**2, f"(-ln(1 - {K}/{lock:.4g}) - {K}/{lock:.4g})"))
    told.sort(key=lambda term: term[1] not in terms.measures)
    for weight, name in zip((barrier, value["volume_linear"], value["volume_log"], bowl), terms.volume, strict=True):
        if name:
            text, _, share = name.partition("/")
            told.append((weight / float(share or 1.0), text))
    largest = max(abs(weight) for weight, _ in told)
    kept = [f"{_pressure(weight)} {term}" for weight, term in told if abs(weight) > 1e-12 * largest]
    return f"psi = {' + '.join(kept)}, {terms.words}"


def _pressure(value: float) -> str:
    for size, unit in ((1e9, "GPa"), (1e6, "MPa"), (1e3, "kPa")):
        if value >= size:
            return f"{value / size:.4g} {unit}"
    return f"{value:.4g} Pa"


default = register(cann())
