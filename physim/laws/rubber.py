"""Rubber: isochoric energies in the invariants or stretches of J^(-2/3) F F^T, with one volumetric energy for all.

U(J) = K (J - 1 - ln J), J dU/dJ = K (J - 1), which punishes both collapse and swelling. With W1 = dW/dI1, W2 = dW/dI2
of the isochoric b the stress is tau = dev(2 (W1 + I1 W2) b - 2 W2 b^2) + K (J - 1) I.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import warp as wp
from torch import Tensor

from physim.laws.core import ElasticLaw, register
from physim.laws.parameters import BULK, MU, Param
from physim.numeric import Numeric, mat33, numeric, params, real
from physim.tensor import deviator, exp_sym, identity, left_strain, log_strain


@numeric
def isochoric_left(F: mat33) -> mat33:
    """The left Cauchy-Green tensor without its volume change, b = J^(-2/3) F F^T [-]."""
    return wp.pow(wp.determinant(F), real(-2.0) / real(3.0)) * (identity() + left_strain(F))


@numeric
def second_invariant(b: mat33) -> real:
    """I2 = (tr(b)^2 - tr(b^2))/2 [-]."""
    return real(0.5) * (wp.trace(b) * wp.trace(b) - wp.ddot(b, b))


@numeric
def volume_energy(F: mat33, bulk: real) -> real:
    """U = K (J - 1 - ln J) [J/m^3]."""
    J = wp.determinant(F)
    return bulk * (J - real(1.0) - wp.log(J))


@numeric
def volume_kirchhoff(F: mat33, bulk: real) -> mat33:
    """J dU/dJ I = K (J - 1) I [Pa]."""
    return bulk * (wp.determinant(F) - real(1.0)) * identity()


@numeric
def mooney_rivlin_energy(F: mat33, theta: params) -> real:
    """Energy psi = c10 (I1 - 3) + c01 (I2 - 3) + U(J) [J/m^3]."""
    b = isochoric_left(F)
    shape = theta[0] * (wp.trace(b) - real(3.0)) + theta[1] * (second_invariant(b) - real(3.0))
    return shape + volume_energy(F, theta[2])


@numeric
def mooney_rivlin_kirchhoff(F: mat33, theta: params) -> mat33:
    """Stress tau = dev(2 (c10 + I1 c01) b - 2 c01 b^2) + K (J - 1) I [Pa]."""
    b = isochoric_left(F)
    shape = real(2.0) * deviator((theta[0] + wp.trace(b) * theta[1]) * b - theta[1] * (b @ b))
    return shape + volume_kirchhoff(F, theta[2])


@numeric
def yeoh_energy(F: mat33, theta: params) -> real:
    """Energy psi = c1 x + c2 x^2 + c3 x^3 + U(J) [J/m^3], x = I1 - 3."""
    x = wp.trace(isochoric_left(F)) - real(3.0)
    return x * (theta[0] + x * (theta[1] + x * theta[2])) + volume_energy(F, theta[3])


@numeric
def yeoh_kirchhoff(F: mat33, theta: params) -> mat33:
    """Stress tau = 2 (c1 + 2 c2 x + 3 c3 x^2) dev b + K (J - 1) I [Pa], x = I1 - 3."""
    b = isochoric_left(F)
    x = wp.trace(b) - real(3.0)
    slope = theta[0] + x * (real(2.0) * theta[1] + x * real(3.0) * theta[2])
    return real(2.0) * slope * deviator(b) + volume_kirchhoff(F, theta[3])


@numeric
def gent_energy(F: mat33, theta: params) -> real:
    """Energy psi = -mu Jm/2 ln(1 - (I1 - 3)/Jm) + U(J) [J/m^3]; NaN beyond the locking I1 = 3 + Jm."""
    x = wp.trace(isochoric_left(F)) - real(3.0)
    return real(-0.5) * theta[0] * theta[1] * wp.log(real(1.0) - x / theta[1]) + volume_energy(F, theta[2])


@numeric
def gent_kirchhoff(F: mat33, theta: params) -> mat33:
    """Stress tau = mu Jm/(Jm - (I1 - 3)) dev b + K (J - 1) I [Pa]; NaN beyond the locking I1 = 3 + Jm."""
    b = isochoric_left(F)
    room = real(1.0) - (wp.trace(b) - real(3.0)) / theta[1]
    # Past the locking stretch the quotient would turn negative and pull the chains further: the root says no.
    root = wp.sqrt(room)
    return theta[0] / (root * root) * deviator(b) + volume_kirchhoff(F, theta[2])


@numeric
def isochoric_log(F: mat33) -> mat33:
    """Hencky strain without its volume change [-]."""
    return deviator(log_strain(F))


@numeric
def ogden_term_energy(e: mat33, mu: real, alpha: real) -> real:
    """2 mu/alpha^2 (s1^alpha + s2^alpha + s3^alpha - 3) [J/m^3] of the isochoric stretches."""
    return real(2.0) * mu / (alpha * alpha) * (wp.trace(exp_sym(alpha * e)) - real(3.0))


@numeric
def ogden_term_kirchhoff(e: mat33, mu: real, alpha: real) -> mat33:
    """2 mu/alpha dev exp(alpha e) [Pa]."""
    return real(2.0) * mu / alpha * deviator(exp_sym(alpha * e))


@numeric
def ogden_1_energy(F: mat33, theta: params) -> real:
    """Energy psi = 2 mu/alpha^2 (sum_i s_i^alpha - 3) + U(J) [J/m^3], s_i the isochoric stretches."""
    return ogden_term_energy(isochoric_log(F), theta[0], theta[1]) + volume_energy(F, theta[2])


@numeric
def ogden_1_kirchhoff(F: mat33, theta: params) -> mat33:
    """Stress tau = 2 mu/alpha dev exp(alpha e) + K (J - 1) I [Pa], e the isochoric Hencky strain."""
    return ogden_term_kirchhoff(isochoric_log(F), theta[0], theta[1]) + volume_kirchhoff(F, theta[2])


@numeric
def ogden_2_energy(F: mat33, theta: params) -> real:
    """Energy psi = sum_p 2 mu_p/alpha_p^2 (sum_i s_i^alpha_p - 3) + U(J) [J/m^3], two terms."""
    e = isochoric_log(F)
    shape = ogden_term_energy(e, theta[0], theta[1]) + ogden_term_energy(e, theta[2], theta[3])
    return shape + volume_energy(F, theta[4])


@numeric
def ogden_2_kirchhoff(F: mat33, theta: params) -> mat33:
    """Stress tau = sum_p 2 mu_p/alpha_p dev exp(alpha_p e) + K (J - 1) I [Pa], two terms."""
    e = isochoric_log(F)
    shape = ogden_term_kirchhoff(e, theta[0], theta[1]) + ogden_term_kirchhoff(e, theta[2], theta[3])
    return shape + volume_kirchhoff(F, theta[4])


@numeric
def ogden_3_energy(F: mat33, theta: params) -> real:
    """Energy psi = sum_p 2 mu_p/alpha_p^2 (sum_i s_i^alpha_p - 3) + U(J) [J/m^3], three terms."""
    e = isochoric_log(F)
    shape = ogden_term_energy(e, theta[0], theta[1]) + ogden_term_energy(e, theta[2], theta[3])
    return shape + ogden_term_energy(e, theta[4], theta[5]) + volume_energy(F, theta[6])


@numeric
def ogden_3_kirchhoff(F: mat33, theta: params) -> mat33:
    """Stress tau = sum_p 2 mu_p/alpha_p dev exp(alpha_p e) + K (J - 1) I [Pa], three terms."""
    e = isochoric_log(F)
    shape = ogden_term_kirchhoff(e, theta[0], theta[1]) + ogden_term_kirchhoff(e, theta[2], theta[3])
    return shape + ogden_term_kirchhoff(e, theta[4], theta[5]) + volume_kirchhoff(F, theta[6])


def _rubber(
    name: str, constants: tuple[Param, ...], laws: tuple[Numeric, Numeric], shear: Callable[[Tensor], Tensor],
    cite: str, summary: str,
) -> ElasticLaw:  # fmt: skip
    """Register a law whose last parameter is the bulk modulus; `shear` reads its modulus [Pa] from theta."""
    kirchhoff, energy = laws
    size = len(constants)
    return register(
        ElasticLaw(name, (*constants, BULK), kirchhoff, energy, lambda t: (shear(t), t[..., size]), cite, summary)
    )


def _ogden(terms: int, laws: tuple[Numeric, Numeric]) -> ElasticLaw:
    constants = []
    for p in range(1, terms + 1):
        constants.append(Param(f"mu_{p}", "Pa", doc=f"share {p} of the shear modulus", typical=2e4 / p))
        constants.append(
            Param(
                f"alpha_{p}",
                "-",
                -20.0,
                20.0,
                "logit",
                doc=f"exponent of term {p}; not 0",
                typical=(2.0, 4.0, -2.0)[p - 1],
            )
        )
    return _rubber(
        f"ogden_{terms}",
        tuple(constants),
        laws,
        lambda t: t[..., 0 : 2 * terms : 2].sum(dim=-1),
        "Ogden 1972, doi:10.1098/rspa.1972.0026, scaled so that mu_p add up to the shear modulus",
        f"Ogden rubber of {terms} term{'s' if terms > 1 else ''}: stretch to any power",
    )


mooney_rivlin = _rubber(
    "mooney_rivlin",
    (
        Param("c10", "Pa", doc="half the shear modulus carried by I1", typical=1.5e4),
        Param("c01", "Pa", doc="half the shear modulus carried by I2", typical=5e3),
    ),
    (mooney_rivlin_kirchhoff, mooney_rivlin_energy),
    lambda t: 2.0 * (t[..., 0] + t[..., 1]),
    "Mooney 1940, doi:10.1063/1.1712836; Rivlin 1948, doi:10.1098/rsta.1948.0024",
    "two-constant rubber for moderate stretch",
)
yeoh = _rubber(
    "yeoh",
    (
        Param("c1", "Pa", doc="half the shear modulus", typical=2e4),
        Param(
            "c2",
            "Pa",
            -math.inf,
            transform="linear",
            scale=1e3,
            doc="usually negative",
            typical=-2e2,
        ),
        Param(
            "c3",
            "Pa",
            -math.inf,
            transform="linear",
            scale=10.0,
            doc="the final upturn",
            typical=5.0,
        ),
    ),
    (yeoh_kirchhoff, yeoh_energy),
    lambda t: 2.0 * t[..., 0],
    "Yeoh 1993, doi:10.5254/1.3538343",
    "cubic in I1: the S-shape of rubber in tension",
)
gent = _rubber(
    "gent",
    (MU, Param("locking", "-", doc="Jm, the largest I1 - 3 that the chains allow", typical=60.0)),
    (gent_kirchhoff, gent_energy),
    lambda t: t[..., 0],
    "Gent 1996, doi:10.5254/1.3538357",
    "rubber whose chains lock at a finite stretch",
)
ogden_1 = _ogden(1, (ogden_1_kirchhoff, ogden_1_energy))
ogden_2 = _ogden(2, (ogden_2_kirchhoff, ogden_2_energy))
ogden_3 = _ogden(3, (ogden_3_kirchhoff, ogden_3_energy))
