"""Elastic laws of two moduli. Each states psi per reference volume and the Kirchhoff stress tau = dpsi/dF F^T."""

from __future__ import annotations

import warp as wp
from torch import Tensor

from physim.laws.core import ElasticLaw, register
from physim.laws.parameters import LAME
from physim.numeric import mat33, numeric, params, real
from physim.tensor import identity, left_strain, log_strain, polar_rotation
from physim.tensor.matrices import axial, cofactor, skew
from physim.tensor.polar import newton_polar


def lame_moduli(theta: Tensor) -> tuple[Tensor, Tensor]:
    """Shear and bulk modulus [Pa] of theta = (mu, lam)."""
    return theta[..., 0], theta[..., 1] + 2.0 / 3.0 * theta[..., 0]


@numeric
def neo_hookean_energy(F: mat33, theta: params) -> real:
    """Energy psi = mu/2 (tr F F^T - 3) - mu ln J + lam/2 (ln J)^2 [J/m^3]."""
    log_J = wp.log(wp.determinant(F))
    return real(0.5) * theta[0] * (wp.trace(left_strain(F)) - real(2.0) * log_J) + (
        real(0.5) * theta[1] * log_J * log_J
    )


@numeric
def neo_hookean_kirchhoff(F: mat33, theta: params) -> mat33:
    """Stress tau = mu (F F^T - I) + lam ln J I [Pa]."""
    return theta[0] * left_strain(F) + theta[1] * wp.log(wp.determinant(F)) * identity()


@numeric
def fixed_corotated_energy(F: mat33, theta: params) -> real:
    """Energy psi = mu |F - R|^2 + lam/2 (J - 1)^2 [J/m^3]."""
    D = F - polar_rotation(F)
    J = wp.determinant(F)
    return theta[0] * wp.ddot(D, D) + real(0.5) * theta[1] * (J - real(1.0)) * (J - real(1.0))


@numeric
def fixed_corotated_kirchhoff(F: mat33, theta: params) -> mat33:
    """Stress tau = 2 mu (F - R) F^T + lam J (J - 1) I [Pa]."""
    J = wp.determinant(F)
    return real(2.0) * theta[0] * (F - polar_rotation(F)) @ wp.transpose(F) + (
        theta[1] * J * (J - real(1.0)) * identity()
    )


@fixed_corotated_kirchhoff.adjoint
def _fixed_corotated_adjoint(F: mat33, theta: params, adj_ret: mat33):
    # Written out, because it needs the rotation once where the chain of generated adjoints computes it three times.
    R = newton_polar(F)
    D = F - R
    cof = cofactor(F)
    J = F[0, 0] * cof[0, 0] + F[0, 1] * cof[0, 1] + F[0, 2] * cof[0, 2]
    along = adj_ret @ F
    turn = wp.transpose(R) @ along
    S = wp.transpose(R) @ F
    w = wp.inverse(wp.trace(S) * identity() - S) @ axial(wp.transpose(turn) - turn)
    pressure = wp.trace(adj_ret)
    wp.adjoint[F] += (real(2.0) * theta[0]) * (along + wp.transpose(adj_ret) @ D + R @ skew(w)) + (
        theta[1] * (real(2.0) * J - real(1.0)) * pressure
    ) * cof
    wp.adjoint[theta] += params(real(2.0) * wp.ddot(D, along), J * (J - real(1.0)) * pressure)


@numeric
def hencky_energy(F: mat33, theta: params) -> real:
    """Energy psi = mu eps : eps + lam/2 (tr eps)^2 [J/m^3], eps = log(F F^T)/2."""
    eps = log_strain(F)
    trace = wp.trace(eps)
    return theta[0] * wp.ddot(eps, eps) + real(0.5) * theta[1] * trace * trace


@numeric
def hencky_kirchhoff(F: mat33, theta: params) -> mat33:
    """Stress tau = 2 mu eps + lam tr(eps) I [Pa], eps = log(F F^T)/2."""
    eps = log_strain(F)
    return real(2.0) * theta[0] * eps + theta[1] * wp.trace(eps) * identity()


@numeric
def green_strain(F: mat33) -> mat33:
    """E = (F^T F - I)/2 from D = F - I, so that small strains keep their digits."""
    D = F - identity()
    return real(0.5) * (D + wp.transpose(D) + wp.transpose(D) @ D)


@numeric
def stvk_energy(F: mat33, theta: params) -> real:
    """Energy psi = mu E : E + lam/2 (tr E)^2 [J/m^3], E = (F^T F - I)/2."""
    E = green_strain(F)
    trace = wp.trace(E)
    return theta[0] * wp.ddot(E, E) + real(0.5) * theta[1] * trace * trace


@numeric
def stvk_kirchhoff(F: mat33, theta: params) -> mat33:
    """Stress tau = F (2 mu E + lam tr(E) I) F^T [Pa]: the second Piola-Kirchhoff stress pushed forward."""
    E = green_strain(F)
    S = real(2.0) * theta[0] * E + theta[1] * wp.trace(E) * identity()
    return F @ S @ wp.transpose(F)


neo_hookean = register(
    ElasticLaw(
        "neo_hookean",
        LAME,
        neo_hookean_kirchhoff,
        neo_hookean_energy,
        lame_moduli,
        "Simo and Pister 1984, doi:10.1016/0045-7825(84)90062-8; Bonet and Wood 2008, eq. 6.27",
        "compressible neo-Hookean rubber",
    )
)
fixed_corotated = register(
    ElasticLaw(
        "fixed_corotated",
        LAME,
        fixed_corotated_kirchhoff,
        fixed_corotated_energy,
        lame_moduli,
        "Stomakhin et al. 2012, doi:10.2312/SCA/SCA12/025-032",
        "corotated elasticity with a polynomial volume term: robust for soft bodies",
    )
)
hencky = register(
    ElasticLaw(
        "hencky",
        LAME,
        hencky_kirchhoff,
        hencky_energy,
        lame_moduli,
        "Hencky 1928; Anand 1979, doi:10.1115/1.3424532",
        "quadratic in logarithmic strain: metals, soils, clay, with a return map",
    )
)
stvk = register(
    ElasticLaw(
        "stvk",
        LAME,
        stvk_kirchhoff,
        stvk_energy,
        lame_moduli,
        "Saint Venant-Kirchhoff; Bonet and Wood 2008, eq. 6.28",
        "quadratic in Green strain: large rotations, small strains; softens in compression",
    )
)
