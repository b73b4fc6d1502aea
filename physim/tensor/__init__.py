"""Small-matrix algebra with checked adjoints, exact at repeated stretches (F = I included).

Every law and return map is built from `log_strain` and `exp_sym`, never from singular vectors, because the
derivative of a singular vector does not exist where two stretches coincide, while that of the matrix logarithm does.
The Warp sources iterate and carry hand-written adjoints; the torch versions are independent (Newton square roots,
series) and differentiable to any order, so the float64 oracle checks one against the other.
"""

from physim.tensor.eigen import spectral, sym_eig
from physim.tensor.logexp import exp_sym, log_strain
from physim.tensor.matrices import (
    axial,
    cauchy_from_kirchhoff,
    cofactor,
    deviator,
    exp_m1,
    identity,
    left_strain,
    log_1p,
    pk1_from_kirchhoff,
    roundoff,
    skew,
    sym,
)
from physim.tensor.polar import polar_rotation, stretches, svd

__all__ = [
    "axial",
    "cauchy_from_kirchhoff",
    "cofactor",
    "deviator",
    "exp_m1",
    "exp_sym",
    "identity",
    "left_strain",
    "log_1p",
    "log_strain",
    "pk1_from_kirchhoff",
    "polar_rotation",
    "roundoff",
    "skew",
    "spectral",
    "stretches",
    "svd",
    "sym",
    "sym_eig",
]
