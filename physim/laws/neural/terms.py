"""The terms of a readable network, each zero with zero slope at rest, and which of them go with which measures."""

from __future__ import annotations

from dataclasses import dataclass

import warp as wp

from physim.laws.neural.encoders import ENCODERS, PLAIN, POLYCONVEX, STRETCHES, Encoder
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
        measures: names of z[0] and z[1].
        volume: by what the weights of the volume multiply: the volume's own energy, two terms in J - 1, z[2]^2/2; None
            where a term is left out.
        words: what the names mean.
        further: energy and slope of two further terms in z[2] by their weights.
        shear: shear modulus at rest that each measure has by its weight.
        bulk: bulk modulus that it has by its weight.
    """

    read: Encoder
    measures: tuple[str, ...]
    volume: tuple[str | None, ...]
    words: str
    further: tuple[Numeric, Numeric]
    shear: tuple[float, ...] = (2.0, 2.0)
    bulk: tuple[float, ...] = (0.0, 0.0)

    @property
    def moduli(self) -> tuple[str, ...]:
        """Names of the terms whose weight is a modulus in any law: measures with shear, and the volume's plainest."""
        shear = (K for K, modulus in zip(self.measures, self.shear, strict=False) if modulus > 0.0)
        return (*shear, self.plainest)

    @property
    def plainest(self) -> str:
        """The volume's term that a law has if it has one: the last."""
        return [name for name in self.volume if name][-1]


_LOG, _NONE = (log_terms, log_terms_slope), (no_terms, no_terms)
_VOLUME = ("(J^2 - 1 - 2 ln J)/4", "(J - 1 - ln J)", "ln(J)^2/2", "(J - 1)^2/2")
_K = "K1 = J^(-2/3) I1 - 3, "
_STRAIN = "S = 2 |dev eps|^2, eps = log(F F^T)/2"
_STRETCH = "S = 2 |V - I|^2, T = (tr V - 3)^2/2, V^2 = F F^T"
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
    # By its weight S has 4/3 of bulk modulus beside 2 of shear modulus, T has 1 of bulk modulus alone.
    ("stretches", False): Terms(STRETCHES, ("S", "T"), _VOLUME, _STRETCH, _LOG, (2.0, 0.0), (4.0 / 3.0, 1.0)),
    ("volume", False): Terms(ENCODERS["volume"], (), _VOLUME, "J = det F", _LOG),
}
