"""Fluids: equations of state as elastic laws in J, viscous stresses, and the map that forgets the shape."""

from __future__ import annotations

import torch
import warp as wp
from torch import Tensor

from physim.laws.core import ElasticLaw, InelasticLaw, ViscousLaw, elastic_params, register
from physim.laws.parameters import BULK, Param
from physim.numeric import TINY, history, mat33, numeric, params, real
from physim.tensor import deviator, exp_m1, exp_ratio, identity, sym


def fluid_moduli(theta: Tensor) -> tuple[Tensor, Tensor]:
    """No shear modulus, and the bulk modulus [Pa] in the first column."""
    return torch.zeros_like(theta[..., 0]), theta[..., 0]


@numeric
def fluid_quadratic_energy(F: mat33, theta: params) -> real:
    """Energy psi = K/2 (J - 1)^2 [J/m^3]."""
    J = wp.determinant(F)
    return real(0.5) * theta[0] * (J - real(1.0)) * (J - real(1.0))


@numeric
def fluid_quadratic_kirchhoff(F: mat33, theta: params) -> mat33:
    """Stress tau = K J (J - 1) I [Pa]: pressure p = K (1 - J)."""
    J = wp.determinant(F)
    return theta[0] * J * (J - real(1.0)) * identity()


@numeric
def fluid_tait_energy(F: mat33, theta: params) -> real:
    """Energy psi = K/g ((J^(1-g) - 1)/(g - 1) + J - 1) [J/m^3], g the exponent; K (J - 1 - ln J) at g = 1."""
    J = wp.determinant(F)
    log_J = wp.log(J)
    # (J^(1-g) - 1)/(g - 1) = -ln J (exp z - 1)/z with z = (1 - g) ln J, which has a limit at z = 0.
    lift = -log_J * exp_ratio((real(1.0) - theta[1]) * log_J, real(0.0))
    return theta[0] / theta[1] * (lift + J - real(1.0))


@numeric
def fluid_tait_kirchhoff(F: mat33, theta: params) -> mat33:
    """Stress tau = K/g (J - J^(1-g)) I [Pa]: pressure p = K/g ((rho/rho0)^g - 1)."""
    J = wp.determinant(F)
    return theta[0] / theta[1] * (J - wp.pow(J, real(1.0) - theta[1])) * identity()


@numeric
def newtonian_kirchhoff(F: mat33, L: mat33, theta: params) -> mat33:
    """Stress tau = J (2 eta dev D + zeta tr(D) I) [Pa], D = sym L, eta shear and zeta bulk viscosity [Pa s]."""
    D = sym(L)
    return wp.determinant(F) * (real(2.0) * theta[0] * deviator(D) + theta[1] * wp.trace(D) * identity())


@numeric
def herschel_bulkley_kirchhoff(F: mat33, L: mat33, theta: params) -> mat33:
    """Stress tau = 2 J eta(g) dev D [Pa], g = sqrt(2 dev D : dev D) the shear rate [1/s].

    eta = tau_y (1 - exp(-m g))/g + k (g^2 + 1/m^2)^((n-1)/2): yield stress tau_y, consistency k, index n, and the
    regularisation time m, below whose rate 1/m the fluid is Newtonian.
    """
    D = deviator(sym(L))
    squared = real(2.0) * wp.ddot(D, D)
    rate = wp.sqrt(squared + TINY)
    m = theta[3]
    plastic = -theta[0] * exp_m1(-m * rate) / rate
    power = theta[1] * wp.pow(squared + real(1.0) / (m * m), real(0.5) * (theta[2] - real(1.0)))
    return real(2.0) * wp.determinant(F) * (plastic + power) * D


@numeric
def fluid_project(F_trial: mat33, h: history, f: mat33, elastic: elastic_params, theta: params, dt: real):
    """F = J^(1/3) I: a fluid remembers its volume only."""
    return wp.pow(wp.determinant(F_trial), real(1.0) / real(3.0)) * identity(), h


VISCOSITY = Param("viscosity", "Pa s", doc="shear viscosity", typical=2.0)
BULK_VISCOSITY = Param("bulk_viscosity", "Pa s", default=0.0, doc="bulk viscosity", typical=1.0)

fluid_quadratic = register(
    ElasticLaw(
        "fluid_quadratic",
        (BULK,),
        fluid_quadratic_kirchhoff,
        fluid_quadratic_energy,
        fluid_moduli,
        "Ma et al. 2023, arXiv 2304.14369: its water",
        "weakly compressible fluid, linear equation of state",
    )
)
fluid_tait = register(
    ElasticLaw(
        "fluid_tait",
        (BULK, Param("exponent", "-", 1.0, default=7.0, doc="Tait exponent")),
        fluid_tait_kirchhoff,
        fluid_tait_energy,
        fluid_moduli,
        "Cole 1948, Underwater Explosions; Monaghan 1994, doi:10.1006/jcph.1994.1034",
        "weakly compressible fluid, Tait equation of state",
    )
)
newtonian = register(
    ViscousLaw(
        "newtonian",
        (VISCOSITY, BULK_VISCOSITY),
        newtonian_kirchhoff,
        "Batchelor 1967, section 3.3",
        "Newtonian viscosity of a fluid, independent of the time step",
    )
)
kelvin_voigt = register(
    ViscousLaw(
        "kelvin_voigt",
        (VISCOSITY, BULK_VISCOSITY),
        newtonian_kirchhoff,
        "Kelvin 1865; Simo and Hughes 1998, section 10.1",
        "damping of a solid: a viscous stress beside the elastic one",
    )
)
herschel_bulkley = register(
    ViscousLaw(
        "herschel_bulkley",
        (
            Param("yield_stress", "Pa", doc="shear stress below which the fluid hardly flows", typical=10.0),
            Param("consistency", "Pa s^n", doc="viscosity at 1/s without the yield stress", typical=2.0),
            Param("flow_index", "-", 0.0, 3.0, "logit", 1.0, doc="1: Bingham; below 1: shear-thinning", typical=0.6),
            Param("regularisation", "s", default=100.0, doc="inverse of the rate below which it is Newtonian"),
        ),
        herschel_bulkley_kirchhoff,
        "Herschel and Bulkley 1926; Papanastasiou 1987, doi:10.1122/1.549926",
        "yield-stress fluid, shear-thinning or -thickening",
    )
)
fluid = register(
    InelasticLaw(
        "fluid",
        (),
        fluid_project,
        "Ma et al. 2023, arXiv 2304.14369",
        "forgets the shape and keeps the volume",
        forgets_shape=True,
    )
)
