"""A sparse, readable network: terms with weights that are not negative, each zero with zero slope at rest.

Constitutive artificial neural networks have one unit per term that a textbook would write. Here each measure of shear
has a linear, a square, an exponential and a logarithmic term, and the volume up to four; weights of zero leave a term
out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import warp as wp
from torch import Tensor, nn

from physim.errors import InputError, nearest
from physim.laws.core import ElasticLaw, register
from physim.laws.material import Material
from physim.laws.neural.encoders import ENCODERS, PLAIN, POLYCONVEX, Encoder
from physim.laws.neural.energy import make_law
from physim.laws.neural.weights import HEAD, Coefficient
from physim.numeric import Numeric, Word, numeric, params, real, vec3
from physim.tensor import exp_m1, exp_ratio, log_1p

# Bound by a law: where the columns of its terms begin, and its further terms in z[2].
FIRST = 0
further_energy = further_slope = Word
# Columns after the head: for K1 and for K2 the weights [Pa] of square, exponential and logarithm with the exponent and
# the value at which the logarithm locks, then the weights [Pa] of two volumetric terms.
SHAPE = ("square", "exponential", "exponent", "logarithm", "lock")
COLUMNS = (*(f"{n}_{i}" for i in (1, 2) for n in SHAPE), "volume_linear", "volume_log")
LOCK = 20.0


@numeric
def term_energy(K: real, square: real, exponential: real, exponent: real, logarithm: real, lock: real) -> real:
    """S K^2 + e (exp(a K) - 1 - a K)/a^2 - l (L^2 ln(1 - K/L) + L K); NaN from the lock K = L on."""
    x = exponent * K
    bend = square * K * K + exponential * (exp_m1(x) - x) / (exponent * exponent)
    return bend - logarithm * lock * (lock * log_1p(-K / lock) + K)


@numeric
def term_slope(K: real, square: real, exponential: real, exponent: real, logarithm: real, lock: real) -> real:
    """2 s K + e (exp(a K) - 1)/a + l K/(1 - K/L); NaN beyond the lock K = L."""
    room = wp.sqrt(real(1.0) - K / lock)
    return K * (real(2.0) * square + exponential * exp_ratio(exponent * K, real(0.0)) + logarithm / (room * room))


@numeric
def log_terms(e: real, linear: real, log: real) -> real:
    """A (J - 1 - ln J) + B ln(J)^2/2 of e = J - 1."""
    log_J = log_1p(e)
    return linear * (e - log_J) + real(0.5) * log * log_J * log_J


@numeric
def log_terms_slope(e: real, linear: real, log: real) -> real:
    """Its slope in e."""
    return (linear * e + log * log_1p(e)) / (real(1.0) + e)


@numeric
def no_terms(e: real, linear: real, log: real) -> real:
    """Nothing: e is no volume of which these terms could be."""
    return real(0.0) * e


@numeric
def terms_energy(z: vec3, theta: params) -> real:
    """All terms but those of the head [J/m^3]."""
    i = FIRST
    first = term_energy(z[0], theta[i], theta[i + 1], theta[i + 2], theta[i + 3], theta[i + 4])
    second = term_energy(z[1], theta[i + 5], theta[i + 6], theta[i + 7], theta[i + 8], theta[i + 9])
    return first + second + further_energy(z[2], theta[i + 10], theta[i + 11])


@numeric
def terms_slopes(z: vec3, theta: params) -> vec3:
    """Their slopes in z [Pa]."""
    i = FIRST
    return vec3(
        term_slope(z[0], theta[i], theta[i + 1], theta[i + 2], theta[i + 3], theta[i + 4]),
        term_slope(z[1], theta[i + 5], theta[i + 6], theta[i + 7], theta[i + 8], theta[i + 9]),
        further_slope(z[2], theta[i + 10], theta[i + 11]),
    )


@dataclass(frozen=True, eq=False)
class Terms:
    """Which terms there are for one choice of z.

    Attributes:
        read: what the terms read.
        shear: names of the measures of shear, z[0] and z[1].
        volume: by what the weights of the volume multiply: the volume's own energy, two terms in J - 1, z[2]^2/2; None
            where a term is left out.
        words: what the names mean.
        further: energy and slope of two further terms in z[2] by their weights.
    """

    read: Encoder
    shear: tuple[str, ...]
    volume: tuple[str | None, ...]
    words: str
    further: tuple[Numeric, Numeric]

    def kept(self) -> tuple[list[bool], list[bool]]:
        """Which of two measures of shear, and which of four terms of the volume, there are."""
        return [i < len(self.shear) for i in range(2)], [name is not None for name in self.volume]


_LOG, _NONE = (log_terms, log_terms_slope), (no_terms, no_terms)
_VOLUME = ("(J^2 - 1 - 2 ln J)/4", "(J - 1 - ln J)", "ln(J)^2/2", "(J - 1)^2/2")
_K = "K1 = J^(-2/3) I1 - 3, "
_STRAIN = "S = 2 |dev eps|^2, eps = log(F F^T)/2"
KINDS = {
    ("invariants", False): Terms(PLAIN, ("K1", "K2"), _VOLUME, _K + "K2 = J^(-4/3) I2 - 3", _LOG),
    ("invariants", True): Terms(
        POLYCONVEX,
        ("K1", "K2"),
        (*_VOLUME[:2], None, _VOLUME[3]),
        _K + "K2 = 2 (J^-2 (I2/3)^(3/2) - 1)",
        _LOG,
    ),
    ("hencky", False): Terms(ENCODERS["hencky"], ("S",), ("tr(eps)^2/2", None, None, None), _STRAIN, _NONE),
    ("volume", False): Terms(ENCODERS["volume"], (), _VOLUME, "J = det F", _LOG),
}


@dataclass(frozen=True)
class TermPlan:
    """Which terms there are.

    Attributes:
        encoder: "invariants", "hencky" (terms of the logarithmic strain, for return maps) or "volume" (fluids).
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
        linear: of the measures of shear, (2,): they share the shear modulus.
        bend: of square, exponential and logarithm of both measures in units of the shear modulus, (2, 3).
        shape: logarithms of the exponent and of the lock over 20, of both measures, (2, 2).
        volume: of the terms of the volume, (4,): they share the bulk modulus.
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
        shear, kept = plan.terms.kept()
        self.shear_kept = torch.tensor(shear, dtype=torch.float64)
        self.volume_kept = torch.tensor(kept, dtype=torch.float64)

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
        linear, volume = self.linear.square() * self.shear_kept, self.volume.square() * self.volume_kept
        second = 0.5 * mu * linear[1] / linear.sum() if self.plan.terms.shear else torch.zeros_like(mu)
        bend = mu[:, :, None] * (self.bend.square() * self.shear_kept[:, None])
        return self._joined(second, bend, bulk * volume / volume.sum())

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
        bends = [f"{kind} of {K}" for K in terms.shear for kind in ("square", "exponential", "logarithm")]
        names = [*terms.shear, *bends, *(name for name in terms.volume if name)]
        free = (*terms.shear, _plainest(terms))
        return tuple(Coefficient(n, n not in free, True) for n in names)

    def begin(self, shear: float, bulk: float) -> Tensor:
        """Coefficients [Pa] of the simplest law: one term of shear and one of volume."""
        start = {(*self.plan.terms.shear, "")[0]: 0.5 * shear, _plainest(self.plan.terms): bulk}
        return torch.tensor([start.get(c.name, 0.0) for c in self.coefficients], dtype=torch.float64)

    def assemble(self, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Shear and bulk modulus at rest [Pa], (n, 1), and columns of theta, all linear in the coefficients.

        Args:
            q: `coefficients` [Pa], (n, m).
        """
        linear, bend, volume = self._parted(q)
        shear, bulk = 2.0 * linear.sum(dim=1, keepdim=True), volume.sum(dim=1, keepdim=True)
        return shear, bulk, self._joined(linear[:, 1:], bend, volume)

    def _parted(self, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weights of linear, (n, 2), bending, (n, 2, 3), and volumetric terms, (n, 4), zero where one is left out."""
        count, given = len(self.plan.terms.shear), len(q)
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
        shear, bulk = 2.0 * float(linear.sum()), float(volume.sum())
        if not ((shear > 0.0 or not self.plan.terms.shear) and bulk > 0.0):
            raise InputError(f"the fit has a shear modulus of {shear:g} Pa and a bulk modulus of {bulk:g} Pa at rest.")
        if bool((q < 0).any()):
            raise InputError(f"{float(q.min()):g} Pa is a negative weight of a term; fit them with bounds.")
        with torch.no_grad():
            self.volume.copy_((volume / bulk).sqrt())
            if self.plan.terms.shear:
                self.linear.copy_((linear / linear.sum()).sqrt())
                self.bend.copy_((bend / shear).sqrt())
        return shear, bulk, 1.0

    def prune(self, share: float) -> None:
        """Set weights to zero that carry less than this share of the modulus they belong to; they stay zero."""
        with torch.no_grad():
            for weight in (self.linear, self.bend, self.volume):
                of = 1.0 if weight is self.bend else weight.square().sum()
                weight[weight.square() < share * of] = 0.0


def _plainest(terms: Terms) -> str:
    """The volume's term that a law has if it has one: the last."""
    return [name for name in terms.volume if name][-1]


def cann(encoder: str = "invariants", convex: bool = False) -> ElasticLaw:
    """The law of a sparse, readable network; the same law for the same arguments.

    Args:
        encoder: "invariants" (K1, K2 and J), "hencky" (logarithmic strain) or "volume" (J alone: fluids).
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
    for i, (K, weight) in enumerate(zip(terms.shear, (0.5 * shear - second, second), strict=False), 1):
        a, lock = value[f"exponent_{i}"], value[f"lock_{i}"]
        told.append((weight, K))
        told.append((value[f"square_{i}"], f"{K}^2"))
        told.append((value[f"exponential_{i}"] / a**2, f"(exp({a:.4g} {K}) - 1 - {a:.4g} {K})"))
        told.append((value[f"logarithm_{i}"] * lock**2, f"(-ln(1 - {K}/{lock:.4g}) - {K}/{lock:.4g})"))
    told.sort(key=lambda term: term[1] not in terms.shear)
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
