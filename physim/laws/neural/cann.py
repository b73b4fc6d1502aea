"""A sparse, readable network: terms with weights that are not negative, each zero with zero slope at rest.

Constitutive artificial neural networks have one unit per term that a textbook would write. Here each of K1 and K2 has a
linear, a square, an exponential and a logarithmic term, and the volume four; weights of zero leave a term out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import warp as wp
from torch import Tensor, nn

from physim.errors import InputError
from physim.laws.core import ElasticLaw, register
from physim.laws.material import Material
from physim.laws.neural.encoders import PLAIN, POLYCONVEX, Encoder
from physim.laws.neural.energy import make_law
from physim.laws.neural.weights import HEAD, Coefficient
from physim.numeric import numeric, params, real, vec3
from physim.tensor import exp_m1, exp_ratio, log_1p

# Bound by a law: where the columns of its terms begin.
FIRST = 0
# Columns after the head: for K1 and for K2 the weights [Pa] of square, exponential and logarithm with the exponent and
# the value at which the logarithm locks, then the weights [Pa] of two volumetric terms.
SHAPE = ("square", "exponential", "exponent", "logarithm", "lock")
COLUMNS = (*(f"{n}_{i}" for i in (1, 2) for n in SHAPE), "volume_linear", "volume_log")
LOCK = 20.0
# What the weights of the volume multiply.
VOLUMES = ("(J^2 - 1 - 2 ln J)/4", "J - 1 - ln J", "ln(J)^2/2", "(J - 1)^2/2")


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
def terms_energy(z: vec3, theta: params) -> real:
    """All terms but those of the head [J/m^3]."""
    i = FIRST
    first = term_energy(z[0], theta[i], theta[i + 1], theta[i + 2], theta[i + 3], theta[i + 4])
    second = term_energy(z[1], theta[i + 5], theta[i + 6], theta[i + 7], theta[i + 8], theta[i + 9])
    log_J = log_1p(z[2])
    return first + second + theta[i + 10] * (z[2] - log_J) + real(0.5) * theta[i + 11] * log_J * log_J


@numeric
def terms_slopes(z: vec3, theta: params) -> vec3:
    """Their slopes in z [Pa]."""
    i = FIRST
    volume = (theta[i + 10] * z[2] + theta[i + 11] * log_1p(z[2])) / (real(1.0) + z[2])
    return vec3(
        term_slope(z[0], theta[i], theta[i + 1], theta[i + 2], theta[i + 3], theta[i + 4]),
        term_slope(z[1], theta[i + 5], theta[i + 6], theta[i + 7], theta[i + 8], theta[i + 9]),
        volume,
    )


@dataclass(frozen=True)
class TermPlan:
    """Which terms there are.

    Attributes:
        convex: polyconvex terms only: another K2, and no ln(J)^2.
    """

    convex: bool = False
    family = "cann"

    @property
    def read(self) -> Encoder:
        """What the terms read."""
        return POLYCONVEX if self.convex else PLAIN

    @property
    def size(self) -> int:
        """Number of columns of theta."""
        return HEAD + len(COLUMNS)

    def make(self, seed: int) -> TermWeights:
        """Weights drawn at random, each bending term a few percent of the linear ones at K = 1."""
        return TermWeights(self, seed)

    def options(self) -> dict[str, Any]:
        """What `cann` was asked for."""
        return {"convex": self.convex}


class TermWeights(nn.Module):
    """Raw weights of the terms; frozen until `Material.free("network")`. A weight is the square of its raw value.

    Attributes:
        plan: which terms there are.
        linear: of K1 and K2, (2,): they share the shear modulus.
        bend: of square, exponential and logarithm of K1 and of K2 in units of the shear modulus, (2, 3).
        shape: logarithms of the exponent and of the lock over 20, of K1 and of K2, (2, 2).
        volume: of (J^2 - 1 - 2 ln J)/4, J - 1 - ln J, ln(J)^2/2 and (J - 1)^2/2, (4,): they share the bulk modulus.
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

    @property
    def encoder(self) -> Encoder:
        """What the terms read."""
        return self.plan.read

    def columns(self, named: Tensor) -> Tensor:
        """Columns of theta after the named ones, (n, size), differentiable.

        Args:
            named: shear and bulk modulus [Pa], (n, 2).
        """
        mu, bulk = named[:, :1], named[:, 1:2]
        linear, volume = self.linear.square(), self.volume.square()
        if self.plan.convex:
            volume = volume * torch.tensor([1.0, 1.0, 0.0, 1.0], dtype=volume.dtype)
        second = 0.5 * mu * linear[1] / linear.sum()
        return self._joined(second, mu[:, :, None] * self.bend.square(), bulk * volume / volume.sum())

    def _joined(self, second: Tensor, bend: Tensor, volume: Tensor) -> Tensor:
        """Columns of theta from the coefficient of K2, (n, 1), and the weights of the others, (n, 2, 3), (n, 4)."""
        shape = torch.exp(self.shape).expand(second.shape[0], -1, -1)
        rows = [bend[..., 0], bend[..., 1], shape[..., 0], bend[..., 2], LOCK * shape[..., 1]]
        terms = torch.stack(rows, dim=2).flatten(1)
        none = torch.zeros_like(second)
        return torch.cat([second, volume[:, :1], volume[:, 3:], none, none, terms, volume[:, 1:3]], dim=1)

    @property
    def coefficients(self) -> tuple[Coefficient, ...]:
        """What the stress is linear in, in the order of `assemble`: the weights of the terms."""
        bends = [f"{kind} of {K}" for K in ("K1", "K2") for kind in ("square", "exponential", "logarithm")]
        volume = [n for n in VOLUMES if not (self.plan.convex and n == "ln(J)^2/2")]
        free = ("K1", "K2", "(J - 1)^2/2")
        return tuple(Coefficient(n, n not in free, True) for n in ("K1", "K2", *bends, *volume))

    def begin(self, shear: float, bulk: float) -> Tensor:
        """Coefficients [Pa] of the law of K1 and (J - 1)^2 alone."""
        start = {"K1": 0.5 * shear, "(J - 1)^2/2": bulk}
        return torch.tensor([start.get(c.name, 0.0) for c in self.coefficients], dtype=torch.float64)

    def assemble(self, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Shear and bulk modulus at rest [Pa], (n, 1), and columns of theta, all linear in the coefficients.

        Args:
            q: `coefficients` [Pa], (n, m).
        """
        volume = q[:, 8:]
        if self.plan.convex:
            volume = torch.cat([volume[:, :2], torch.zeros_like(q[:, :1]), volume[:, 2:]], dim=1)
        shear = 2.0 * (q[:, :1] + q[:, 1:2])
        columns = self._joined(q[:, 1:2], q[:, 2:8].reshape(-1, 2, 3), volume)
        return shear, volume.sum(dim=1, keepdim=True), columns

    def take(self, q: Tensor) -> tuple[float, float, float]:
        """Set weights from a fit that is linear in them; the shear and bulk modulus [Pa] for the material, and 1.

        Args:
            q: `coefficients` [Pa], (m,).

        Raises:
            InputError: a modulus that is not positive, or a negative coefficient.
        """
        shear, bulk = 2.0 * float(q[:2].sum()), float(q[8:].sum())
        if not (shear > 0.0 and bulk > 0.0):
            raise InputError(f"the fit has a shear modulus of {shear:g} Pa and a bulk modulus of {bulk:g} Pa at rest.")
        if bool((q < 0).any()):
            raise InputError(f"{float(q.min()):g} Pa is a negative weight of a term; fit them with bounds.")
        volume = q[8:] / bulk
        with torch.no_grad():
            self.linear.copy_((q[:2] / q[:2].sum()).sqrt())
            self.bend.copy_((q[2:8].reshape(2, 3) / shear).sqrt())
            kept = [n for n, name in enumerate(VOLUMES) if not (self.plan.convex and name == "ln(J)^2/2")]
            self.volume.zero_()
            self.volume[kept] = volume.sqrt()
        return shear, bulk, 1.0

    def prune(self, share: float) -> None:
        """Set weights to zero that carry less than this share of the modulus they belong to; they stay zero."""
        with torch.no_grad():
            for weight in (self.linear, self.bend, self.volume):
                of = 1.0 if weight is self.bend else weight.square().sum()
                weight[weight.square() < share * of] = 0.0


def cann(convex: bool = False) -> ElasticLaw:
    """The law of a sparse, readable network in K1, K2 and J; the same law for the same arguments.

    Args:
        convex: polyconvex in F: K2 is then a power of the second invariant that is polyconvex.
    """
    return _law(TermPlan(convex))


@cache
def _law(plan: TermPlan) -> ElasticLaw:
    encoder = plan.read
    return make_law(
        encoder,
        plan,
        "cann" + ("_convex" if plan.convex else ""),
        (terms_energy, terms_slopes),
        "Linka and Kuhl 2023, doi:10.1016/j.cma.2022.115731",
        f"readable network of non-negative terms in {encoder.words}",
    )


def formula(material: Material) -> str:
    """The energy of a `cann` material as text, numbers with units, terms of weight zero left out.

    Args:
        material: its first row of theta is told.
    """
    law = material.elastic
    row = material.theta().detach()[0, : len(law.params) + law.network.size].tolist()  # type: ignore[union-attr]
    second, barrier, bowl, _, _, *terms = row[2:]
    value = dict(zip(COLUMNS, terms, strict=True))
    told = [(0.5 * row[0] - second, "K1"), (second, "K2")]
    for i in (1, 2):
        a, lock, K = value[f"exponent_{i}"], value[f"lock_{i}"], f"K{i}"
        told.append((value[f"square_{i}"], f"{K}^2"))
        told.append((value[f"exponential_{i}"] / a**2, f"(exp({a:.4g} {K}) - 1 - {a:.4g} {K})"))
        told.append((value[f"logarithm_{i}"] * lock**2, f"(-ln(1 - {K}/{lock:.4g}) - {K}/{lock:.4g})"))
    told += [(barrier / 4, "(J^2 - 1 - 2 ln J)"), (value["volume_linear"], "(J - 1 - ln J)")]
    told += [(value["volume_log"] / 2, "ln(J)^2"), (bowl / 2, "(J - 1)^2")]
    largest = max(abs(weight) for weight, _ in told)
    kept = [f"{_pressure(weight)} {term}" for weight, term in told if abs(weight) > 1e-12 * largest]
    words = material.network.encoder.words.partition(", e = ")[0]  # type: ignore[union-attr]
    return f"psi = {' + '.join(kept)}, {words}"


def _pressure(value: float) -> str:
    for size, unit in ((1e9, "GPa"), (1e6, "MPa"), (1e3, "kPa")):
        if value >= size:
            return f"{value / size:.4g} {unit}"
    return f"{value:.4g} Pa"


default = register(cann())
