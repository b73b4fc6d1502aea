"""Polynomials in the invariants with volumetric terms: one law that many closed forms are cases of.

Its terms are a library to choose from: coefficients that are not given are zero. The stress is linear in them.
"""

from __future__ import annotations

import math

import warp as wp
from torch import Tensor

from physim.laws.core import ElasticLaw, register
from physim.laws.neural.encoders import invariants, spread_invariants
from physim.laws.parameters import Param
from physim.numeric import mat33, numeric, params, real, vec3
from physim.tensor import identity, left_strain, log_1p

WORDS = "I1 = tr(F F^T), I2 = (I1^2 - |F F^T|^2)/2, K1 = J^(-2/3) I1 - 3, K2 = J^(-4/3) I2 - 3, J = det F"
# Each term: name of its coefficient, how formulas write it, its shear and bulk modulus at rest per unit of coefficient,
# and a value with which the law is checked alone [Pa].
_TERMS: tuple[tuple[str, str, float, float, float], ...] = (
    ("c10", "K1", 2.0, 0.0, 1e4),
    ("c01", "K2", 2.0, 0.0, 3e3),
    ("c20", "K1^2", 0.0, 0.0, 5e2),
    ("c11", "K1 K2", 0.0, 0.0, -3e2),
    ("c02", "K2^2", 0.0, 0.0, 2e2),
    ("c30", "K1^3", 0.0, 0.0, 50.0),
    ("c21", "K1^2 K2", 0.0, 0.0, 20.0),
    ("c12", "K1 K2^2", 0.0, 0.0, -10.0),
    ("c03", "K2^3", 0.0, 0.0, 5.0),
    ("s10", "K1 (J - 1)", 0.0, 0.0, 2e3),
    ("s01", "K2 (J - 1)", 0.0, 0.0, -1e3),
    ("n10", "(I1 - 3 - 2 ln J)", 2.0, 4.0 / 3.0, 5e3),
    ("n01", "(I2 - 3 - 4 ln J)", 2.0, 16.0 / 3.0, 2e3),
    ("v2", "(J - 1)^2", 0.0, 2.0, 1e4),
    ("v3", "(J - 1)^3", 0.0, 0.0, 1e3),
    ("v4", "(J - 1)^4", 0.0, 0.0, 1e3),
    ("vb", "(J^2 - 1 - 2 ln J)", 0.0, 4.0, 1e4),
    ("vr", "(J - 1 - ln J)", 0.0, 1.0, 1e4),
    ("vl", "ln(J)^2", 0.0, 2.0, 5e3),
)
TERMS = {name: term for name, term, *_ in _TERMS}


@numeric
def polynomial_energy(F: mat33, theta: params) -> real:
    """Energy psi = sum_ij c_ij K1^i K2^j + terms in I1, I2 and J [J/m^3]; each parameter's doc is its term."""
    B = left_strain(F)
    e = wp.determinant(F) - real(1.0)
    z = invariants(B, e)
    x = z[0]
    y = z[1]
    log_J = log_1p(e)
    t = wp.trace(B)
    in_x = x * (theta[0] + theta[9] * e + x * (theta[2] + x * theta[5]))
    in_y = y * (theta[1] + theta[10] * e + y * (theta[4] + y * theta[8]))
    mixed = x * y * (theta[3] + theta[6] * x + theta[7] * y)
    second = real(2.0) * t + real(0.5) * (t * t - wp.ddot(B, B)) - real(4.0) * log_J
    whole = theta[11] * (t - real(2.0) * log_J) + theta[12] * second
    bend = e * e * (theta[13] + e * (theta[14] + e * theta[15]))
    barrier = theta[16] * (e * (real(2.0) + e) - real(2.0) * log_J) + theta[17] * (e - log_J)
    return in_x + in_y + mixed + whole + bend + barrier + theta[18] * log_J * log_J


@numeric
def polynomial_kirchhoff(F: mat33, theta: params) -> mat33:
    """Stress tau = dpsi/dF F^T [Pa] in closed form, from the slopes in K1, K2 and J."""
    B = left_strain(F)
    J = wp.determinant(F)
    e = J - real(1.0)
    z = invariants(B, e)
    x = z[0]
    y = z[1]
    log_J = log_1p(e)
    t = wp.trace(B)
    in_x = theta[0] + theta[9] * e + x * (real(2.0) * theta[2] + x * real(3.0) * theta[5])
    in_y = theta[1] + theta[10] * e + y * (real(2.0) * theta[4] + y * real(3.0) * theta[8])
    along_x = in_x + y * (theta[3] + real(2.0) * theta[6] * x + theta[7] * y)
    along_y = in_y + x * (theta[3] + theta[6] * x + real(2.0) * theta[7] * y)
    bend = e * (real(2.0) * theta[13] + e * (real(3.0) * theta[14] + e * real(4.0) * theta[15]))
    rise = real(2.0) * theta[16] * e * (real(2.0) + e) + theta[17] * e + real(2.0) * theta[18] * log_J
    slopes = vec3(along_x, along_y, theta[9] * x + theta[10] * y + bend + rise / J)
    second = t * identity() + (real(1.0) + t) * B - B @ B
    return spread_invariants(B, z, slopes) + real(2.0) * (theta[11] * B + theta[12] * second)


def polynomial_moduli(theta: Tensor) -> tuple[Tensor, Tensor]:
    """Shear and bulk modulus [Pa] at rest."""
    shear = sum(of * theta[..., i] for i, (_, _, of, _, _) in enumerate(_TERMS) if of)
    bulk = sum(of * theta[..., i] for i, (_, _, _, of, _) in enumerate(_TERMS) if of)
    assert isinstance(shear, Tensor) and isinstance(bulk, Tensor)
    return shear, bulk


polynomial = register(
    ElasticLaw(
        "polynomial",
        tuple(
            Param(name, "Pa", -math.inf, transform="linear", default=0.0, scale=1e3, doc=f"of {term}", typical=typical)
            for name, term, _, _, typical in _TERMS
        ),
        polynomial_kirchhoff,
        polynomial_energy,
        polynomial_moduli,
        "Rivlin and Saunders 1951, doi:10.1098/rsta.1951.0004, with volumetric terms",
        "polynomial in the invariants: what `physim explain` writes",
    )
)
