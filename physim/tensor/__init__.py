"""Small-matrix algebra with checked adjoints, exact at repeated stretches (F = I included).

Every law and return map is built from `log_strain` and `exp_sym`, never from singular vectors, because the
derivative of a singular vector does not exist where two stretches coincide, while that of the matrix logarithm does.
For the same reason there is no `svd`: `polar_rotation`, `stretch_strain`, `log_strain` and `stretches` (for
symmetric functions of them) are its parts that have a derivative everywhere, and each carries it.
The Warp sources iterate and carry hand-written adjoints; the torch versions are independent (Newton square roots,
series) and differentiable to any order, so the float64 oracle checks one against the other.
"""

from physim.tensor.eigen import exp_ratio, spectral, sym_eig
from physim.tensor.logexp import exp_sym, log_strain
from physim.tensor.matrices import (
    axial,
    cofactor,
    deviator,
    exp_m1,
    identity,
    left_strain,
    log_1p,
    roundoff,
    skew,
    sym,
)
from physim.tensor.polar import polar_rotation, stretch_strain, stretches

__all__ = [
    "axial",
    "cofactor",
    "deviator",
    "exp_m1",
    "exp_ratio",
    "exp_sym",
    "identity",
    "left_strain",
    "log_1p",
    "log_strain",
    "polar_rotation",
    "roundoff",
    "skew",
    "spectral",
    "stretch_strain",
    "stretches",
    "sym",
    "sym_eig",
]
