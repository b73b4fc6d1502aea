"""What a learned energy reads of a deformation, and how its slopes become a stress.

An encoder turns F into a strain M, this and J into three numbers z that vanish at rest, and slopes dpsi/dz into the
Kirchhoff stress. z[0] is 2 |dev eps|^2 (of `STRETCHES` 2 |eps|^2) and z[2] is tr(eps) for small strains eps, so the
moduli at rest can be read off any energy of z; z[1] tells states apart that these two do not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import warp as wp
from torch import Tensor

from physim.errors import InputError, nearest
from physim.laws.elastic import lame_moduli
from physim.laws.fluid import fluid_moduli
from physim.laws.parameters import BULK, LAME, MU, Param
from physim.numeric import Numeric, mat33, numeric, real, vec3
from physim.tensor import deviator, identity, left_strain, log_1p, log_strain, stretch_strain
from physim.tensor.matrices import cofactor


@numeric
def log_volume_energy(e: real) -> real:
    """(J^2 - 1 - 2 ln J)/4 of e = J - 1: infinite at J = 0 and at infinity, of curvature 1 at rest, convex in J."""
    return real(0.25) * (e * (real(2.0) + e) - real(2.0) * log_1p(e))


@numeric
def log_volume_slope(e: real) -> real:
    """Its slope (J - 1/J)/2."""
    return real(0.5) * e * (real(2.0) + e) / (real(1.0) + e)


@numeric
def square_energy(e: real) -> real:
    """e^2/2."""
    return real(0.5) * e * e


@numeric
def square_slope(e: real) -> real:
    """Its slope e."""
    return e


@numeric
def invariants(B: mat33, e: real) -> vec3:
    """K1 = J^(-2/3) I1 - 3, K2 = J^(-4/3) I2 - 3 and e = J - 1 from B = F F^T - I; NaN for J < 0."""
    t = wp.trace(B)
    p = wp.pow(real(1.0) + e, real(-2.0) / real(3.0))
    I2 = real(3.0) + real(2.0) * t + real(0.5) * (t * t - wp.ddot(B, B))
    return vec3(p * (real(3.0) + t) - real(3.0), p * p * I2 - real(3.0), e)


@numeric
def spread_invariants(B: mat33, z: vec3, g: vec3) -> mat33:
    """Stress 2 g1 p dev B + 2 g2 p^2 dev((1 + tr B) B - B^2) + g3 J I with p = J^(-2/3)."""
    t = wp.trace(B)
    p = (real(3.0) + z[0]) / (real(3.0) + t)
    shape = (g[0] * p + g[1] * p * p * (real(1.0) + t)) * B - (g[1] * p * p) * (B @ B)
    return real(2.0) * deviator(shape) + (g[2] * (real(1.0) + z[2])) * identity()


@numeric
def contrast(B: mat33, e: real) -> vec3:
    """K1, (K2 - K1)/(1 + K2) and J - 1: the second tells pull from push, and is at most K1 in size for any F."""
    z = invariants(B, e)
    return vec3(z[0], (z[1] - z[0]) / (real(1.0) + z[1]), z[2])


@numeric
def spread_contrast(B: mat33, z: vec3, g: vec3) -> mat33:
    """As `spread_invariants`, by the chain rule; 1 + K2 = (1 + K1)/(1 - z[1])."""
    per = (real(1.0) - z[1]) / (real(1.0) + z[0])
    return spread_invariants(B, z, vec3(g[0] - g[1] * per, g[1] * per * (real(1.0) - z[1]), g[2]))


@numeric
def polyconvex(B: mat33, e: real) -> vec3:
    """K1, 2 ((1 + K2/3)^(3/2) - 1) and J - 1: K2 is not polyconvex, this power of it is; both agree near rest."""
    z = invariants(B, e)
    s = wp.sqrt(real(1.0) + z[1] / real(3.0))
    x = z[1] / (real(3.0) * (real(1.0) + s))
    return vec3(z[0], real(2.0) * x * (real(1.0) + s + s * s), z[2])


@numeric
def spread_polyconvex(B: mat33, z: vec3, g: vec3) -> mat33:
    """As `spread_invariants`, by the chain rule: d z[1]/dK2 = (1 + K2/3)^(1/2)."""
    s = wp.pow(real(1.0) + real(0.5) * z[1], real(1.0) / real(3.0))
    return spread_invariants(B, z, vec3(g[0], g[1] * s, g[2]))


@numeric
def hencky_inputs(eps: mat33, e: real) -> vec3:
    """2 q, det(dev eps)/sqrt(1 + q) and tr eps with q = |dev eps|^2: size, kind of shear (Lode angle), volume."""
    X = deviator(eps)
    q = wp.ddot(X, X)
    return vec3(real(2.0) * q, wp.determinant(X) / wp.sqrt(real(1.0) + q), wp.trace(eps))


@numeric
def spread_hencky(eps: mat33, z: vec3, g: vec3) -> mat33:
    """Stress dpsi/deps: 4 g1 X + g2 (dev cof X/r - det X X/r^3) + g3 I with X = dev eps, r^2 = 1 + |X|^2."""
    X = deviator(eps)
    rr = real(1.0) + real(0.5) * z[0]
    along = real(4.0) * g[0] - g[1] * z[1] / rr
    return along * X + (g[1] / wp.sqrt(rr)) * deviator(cofactor(X)) + g[2] * identity()


@numeric
def stretch_inputs(M: mat33, e: real) -> vec3:
    """2 |M|^2, (tr M)^2/2 and e = J - 1 from M = V - I, V^2 = F F^T."""
    t = wp.trace(M)
    return vec3(real(2.0) * wp.ddot(M, M), real(0.5) * t * t, e)


@numeric
def spread_stretches(M: mat33, z: vec3, g: vec3) -> mat33:
    """Stress (4 g1 M + g2 tr(M) I) (I + M) + g3 J I: dpsi/dV V, for V goes with its own slopes."""
    P = (real(4.0) * g[0]) * M + (g[1] * wp.trace(M)) * identity()
    return P + P @ M + (g[2] * (real(1.0) + z[2])) * identity()


@numeric
def itself(F: mat33) -> mat33:
    """F."""
    return F


@numeric
def volume_input(F: mat33, e: real) -> vec3:
    """0, 0 and J - 1."""
    return vec3(real(0.0), real(0.0), e)


@numeric
def spread_volume(F: mat33, z: vec3, g: vec3) -> mat33:
    """Stress g3 J I."""
    return (g[2] * (real(1.0) + z[2])) * identity()


@numeric
def fibre_inputs(B: mat33, f: vec3, e: real) -> vec3:
    """K1, K4 = J^(-2/3) |F a|^2 - 1 and e = J - 1 from B = F F^T - I and f = F a, a a fibre's unit vector at rest."""
    t = wp.trace(B)
    p = wp.pow(real(1.0) + e, real(-2.0) / real(3.0))
    return vec3(p * (real(3.0) + t) - real(3.0), p * wp.dot(f, f) - real(1.0), e)


@numeric
def spread_fibre(B: mat33, f: vec3, z: vec3, g: vec3) -> mat33:
    """Stress 2 p dev(g1 B + g2 f f^T) + g3 J I with p = J^(-2/3)."""
    p = (real(3.0) + z[0]) / (real(3.0) + wp.trace(B))
    return (real(2.0) * p) * deviator(g[0] * B + g[1] * wp.outer(f, f)) + (g[2] * (real(1.0) + z[2])) * identity()


def mu_bulk(theta: Tensor) -> tuple[Tensor, Tensor]:
    """Shear and bulk modulus [Pa] of theta = (mu, bulk, ...)."""
    return theta[..., 0], theta[..., 1]


@dataclass(frozen=True, eq=False)
class Encoder:
    """One choice of z.

    Attributes:
        name: as files write it.
        params: named parameters, the first columns of theta.
        moduli: theta (..., k) -> (shear, bulk) modulus at rest [Pa].
        measure: F -> M.
        inputs: (M, J - 1) -> z; with a fibre, (M, F a, J - 1) -> z.
        spread: (M, z, dpsi/dz) -> tau [Pa]; with a fibre, (M, F a, z, dpsi/dz) -> tau.
        volume: z[2] -> an energy of unit curvature that is infinite at J = 0 and at infinity; and its slope.
        barrier: whether the volume's energy is more than z[2]^2/2, so that the two share the bulk modulus.
        used: which of z the encoder sets.
        second: what z[1] is: as large as z[0] for small strains ("even"), of third order ("odd"), of first order, the
            strain of a fibre and at most z[0] + 2 ("fibre"), of second order in the volume ("volume"), or none.
        words: z in words, for formulas.
        carried: bulk modulus at rest that goes with z[0], in units of the shear modulus.
        convex: whether z[0], z[1] are polyconvex and z[2] is affine in J, so that a convex energy that does not fall
            with z[0] and z[1] is polyconvex.
    """

    name: str
    params: tuple[Param, ...]
    moduli: Callable[[Tensor], tuple[Tensor, Tensor]]
    measure: Numeric
    inputs: Numeric
    spread: Numeric
    volume: tuple[Numeric, Numeric]
    used: tuple[int, ...]
    second: Literal["even", "odd", "fibre", "volume", "none"]
    words: str
    convex: bool = False
    barrier: bool = True
    carried: float = 0.0


_LOG, _SQUARE = (log_volume_energy, log_volume_slope), (square_energy, square_slope)
_K = "K1 = J^(-2/3) I1 - 3, "
PLAIN = Encoder(
    "plain", (MU, BULK), mu_bulk, left_strain, invariants, spread_invariants, _LOG,
    (0, 1, 2), "even", _K + "K2 = J^(-4/3) I2 - 3, e = J - 1",
)  # fmt: skip
POLYCONVEX = Encoder(
    "polyconvex", (MU, BULK), mu_bulk, left_strain, polyconvex, spread_polyconvex, _LOG,
    (0, 1, 2), "even", _K + "K2 = 2 (J^-2 (I2/3)^(3/2) - 1), e = J - 1", True,
)  # fmt: skip
STRETCHES = Encoder(
    "stretches", LAME, lame_moduli, stretch_strain, stretch_inputs, spread_stretches, _LOG,
    (0, 1, 2), "volume", "2 |V - I|^2, (tr V - 3)^2/2 with V^2 = F F^T, e = J - 1", carried=2.0 / 3.0,
)  # fmt: skip
ENCODERS = {
    e.name: e
    for e in (
        Encoder(
            "invariants", (MU, BULK), mu_bulk, left_strain, contrast, spread_contrast, _LOG,
            (0, 1, 2), "odd", _K + "(K2 - K1)/(1 + K2) with K2 = J^(-4/3) I2 - 3, e = J - 1",
        ),
        STRETCHES,
        Encoder(
            "hencky", LAME, lame_moduli, log_strain, hencky_inputs, spread_hencky, _SQUARE,
            (0, 1, 2), "odd", "2 |dev eps|^2, det(dev eps)/sqrt(1 + |dev eps|^2), tr eps",
            barrier=False,
        ),
        Encoder(
            "fibre", (MU, BULK), mu_bulk, left_strain, fibre_inputs, spread_fibre, _LOG,
            (0, 1, 2), "fibre", _K + "K4 = J^(-2/3) |F a|^2 - 1, e = J - 1", True,
        ),
        Encoder(
            "volume", (BULK,), fluid_moduli, itself, volume_input, spread_volume, _LOG,
            (2,), "none", "e = J - 1", True,
        ),
    )
}  # fmt: skip


def get_encoder(name: str, convex: bool = False) -> Encoder:
    """The encoder of this name; with `convex` the one for polyconvex energies.

    Raises:
        InputError: unknown name, or one that makes no polyconvex energy.
    """
    if name not in ENCODERS:
        raise InputError(f"'{name}' is not an encoder of neural laws.{nearest(str(name), ENCODERS)}")
    found = POLYCONVEX if convex and name == "invariants" else ENCODERS[name]
    if convex and not found.convex:
        raise InputError(f"the encoder '{name}' makes no polyconvex energy; use convex: false, or invariants.")
    return found
