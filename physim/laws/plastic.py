"""Plastic return maps in the left Hencky strain: F_new = exp(eps_new - eps_trial) F_trial, coaxial, so no singular
vector is ever differentiated, and F_new = F_trial to the last bit where nothing yields.
"""

from __future__ import annotations

import math

import torch
import warp as wp

from physim.laws.core import InelasticLaw, elastic_params, register
from physim.laws.parameters import Param
from physim.numeric import TINY, Numeric, history, mat33, numeric, params, real
from physim.tensor import deviator, exp_sym, identity, log_strain


@numeric
def von_mises_project(F_trial: mat33, h: history, f: mat33, elastic: elastic_params, theta: params, dt: real):
    """|dev eps| <= (yield_stress + hardening alpha)/(2 mu), alpha the accumulated plastic strain.

    Radial return: the multiplier is (2 mu |dev eps| - yield_stress - hardening alpha)/(2 mu + hardening), if positive.
    """
    e = deviator(log_strain(F_trial))
    size = wp.sqrt(wp.ddot(e, e) + TINY)
    two_mu = real(2.0) * elastic[0]
    excess = two_mu * size - theta[0] - theta[1] * h[0]
    flow = wp.max(excess, real(0.0)) / (two_mu + theta[1])
    return strained(F_trial, (-flow / size) * e), history(h[0] + flow)


@numeric
def cone_strain(eps: mat33, span: mat33, d: real, alpha: real, shift: real, elastic: elastic_params) -> mat33:
    """Hencky strain returned to the cone |tau_dev| <= shift - alpha d/d tr tau, and to its tip beyond it [-].

    `span` is the unit matrix of the d strained directions.
    """
    two_mu = real(2.0) * elastic[0]
    stiffness = two_mu + d * elastic[1]
    trace = wp.trace(eps)
    e = eps - (trace / d) * span
    size = wp.sqrt(wp.ddot(e, e) + TINY)
    tip = shift / (alpha * stiffness)
    flow = wp.max(size + (alpha * stiffness * trace - shift) / two_mu, real(0.0))
    return wp.where(trace >= tip, (tip / d) * span, eps - (flow / size) * e)


@numeric
def strained(F: mat33, change: mat33) -> mat33:
    """The deformation with its Hencky strain changed by a coaxial `change`; F itself where that is zero."""
    if wp.ddot(change, change) > real(0.0):
        return exp_sym(change) @ F
    return F


@strained.for_torch
def _strained_torch(F, change):
    return torch.where((change * change).sum() > 0.0, exp_sym(change) @ F, F)


@numeric
def cone_factor(sine: real) -> real:
    """sqrt(2/3) 6/(3 - sin phi): the cone through Mohr-Coulomb's compression corners."""
    return wp.sqrt(real(24.0)) / (real(3.0) - sine)


@numeric
def drucker_prager_project(F_trial: mat33, h: history, f: mat33, elastic: elastic_params, theta: params, dt: real):
    """|dev tau| <= sqrt(2/3) 6/(3 - sin phi) (p sin phi + c cos phi), p = -tr tau/3; no dilation.

    In strains, for c = 0: |dev eps| <= -alpha (3 lam + 2 mu)/(2 mu) tr eps, alpha = sqrt(2/3) 2 sin phi/(3 - sin phi).
    Expansion beyond the tip goes to the tip (zero strain for c = 0). The cone passes through Mohr-Coulomb's triaxial
    compression; in plane strain it is stronger (30 deg acts as 43.9 deg): use `drucker_prager_2d` there.
    """
    eps = log_strain(F_trial)
    sine = wp.sin(theta[0])
    factor = cone_factor(sine)
    new = cone_strain(
        eps, identity(), real(3.0), factor * sine / real(3.0), factor * wp.cos(theta[0]) * theta[1], elastic
    )
    return strained(F_trial, new - eps), h


@numeric
def plane() -> mat33:
    """Unit matrix of the x-y plane."""
    return mat33(real(1.0), real(0.0), real(0.0), real(0.0), real(1.0), real(0.0), real(0.0), real(0.0), real(0.0))


@numeric
def drucker_prager_2d_project(F_trial: mat33, h: history, f: mat33, elastic: elastic_params, theta: params, dt: real):
    """Mohr-Coulomb in the x-y plane: |dev tau| <= sqrt(2) (p sin phi + c cos phi), no dilation.

    The pressure p is -(tau_xx + tau_yy)/2. In strains: alpha = sin phi/sqrt(2) with the in-plane trace and stiffness
    2 lam + 2 mu, so that plane strain yields at exactly phi. Without dilation a slope then starts to slide at
    atan(sin phi), below phi, because shear happens at equal normal stresses (Davis 1968). Trace and deviator are those
    of the 2x2 block; the body must stay in the plane.
    """
    eps = log_strain(F_trial)
    sine = wp.sin(theta[0])
    root = wp.sqrt(real(2.0))
    new = cone_strain(eps, plane(), real(2.0), root * sine / real(2.0), root * wp.cos(theta[0]) * theta[1], elastic)
    return strained(F_trial, new - eps), h


@numeric
def closing(eps: mat33, dropped: real) -> real:
    """The part of the dropped expansion that a compression tr eps < 0 uses up [-]."""
    return wp.min(dropped, wp.max(-wp.trace(eps), real(0.0)))


@numeric
def drucker_prager_loose_project(
    F_trial: mat33, h: history, f: mat33, elastic: elastic_params, theta: params, dt: real
):
    """As `drucker_prager`, and grains that parted meet again before they carry load.

    The history is the expansion (tr eps) that was dropped at the tip; compression uses it up before it presses, so
    that a body that opened up closes again instead of keeping the volume it gained.
    """
    eps = log_strain(F_trial)
    sine = wp.sin(theta[0])
    factor = cone_factor(sine)
    loose = eps + (closing(eps, h[0]) / real(3.0)) * identity()
    new = cone_strain(
        loose, identity(), real(3.0), factor * sine / real(3.0), factor * wp.cos(theta[0]) * theta[1], elastic
    )
    return strained(F_trial, new - eps), history(h[0] + wp.trace(eps) - wp.trace(new))


@numeric
def drucker_prager_2d_loose_project(
    F_trial: mat33, h: history, f: mat33, elastic: elastic_params, theta: params, dt: real
):
    """As `drucker_prager_2d`, with the dropped expansion of `drucker_prager_loose`."""
    eps = log_strain(F_trial)
    sine = wp.sin(theta[0])
    root = wp.sqrt(real(2.0))
    loose = eps + (closing(eps, h[0]) / real(2.0)) * plane()
    new = cone_strain(loose, plane(), real(2.0), root * sine / real(2.0), root * wp.cos(theta[0]) * theta[1], elastic)
    return strained(F_trial, new - eps), history(h[0] + wp.trace(eps) - wp.trace(new))


CONE = (
    Param("friction_angle", "rad", 0.0, math.pi / 2, "logit", doc="angle of internal friction", typical=math.pi / 6),
    Param("cohesion", "Pa", default=0.0, doc="shear strength without pressure", typical=100.0),
)


def _cone(name: str, project: Numeric, summary: str, *, plane: bool = False, loose: bool = False) -> InelasticLaw:
    cite = "Drucker and Prager 1952, doi:10.1090/qam/48291; Klar et al. 2016, doi:10.1145/2897824.2925906"
    if loose:
        cite += "; Tampubolon et al. 2017, doi:10.1145/3072959.3073651, section 4.3"
    return register(
        InelasticLaw(
            name,
            CONE,
            project,
            cite,
            summary,
            history=("dropped_expansion",) if loose else (),
            rest_history=(0.0,) if loose else (),
            needs=("mu", "lam"),
            plane=plane,
        )
    )


von_mises = register(
    InelasticLaw(
        "von_mises",
        (
            Param(
                "yield_stress",
                "Pa",
                doc="norm of the stress deviator at yield: sqrt(2/3) of the tensile one",
                typical=2e3,
            ),
            Param("hardening", "Pa", default=0.0, doc="growth of the yield stress with plastic strain", typical=1e3),
        ),
        von_mises_project,
        "Simo 1992, doi:10.1016/0045-7825(92)90123-2; Ma et al. 2023, arXiv 2304.14369",
        "metal or clay plasticity with linear isotropic hardening",
        history=("plastic_strain",),
        rest_history=(0.0,),
        needs=("mu",),
    )
)
drucker_prager = _cone("drucker_prager", drucker_prager_project, "sand: friction and cohesion, 3D cone constant")
drucker_prager_2d = _cone(
    "drucker_prager_2d", drucker_prager_2d_project, "sand in plane strain: Mohr-Coulomb's angle exactly", plane=True
)
drucker_prager_loose = _cone(
    "drucker_prager_loose", drucker_prager_loose_project, "sand that closes again after it opened up", loose=True
)
drucker_prager_2d_loose = _cone(
    "drucker_prager_2d_loose",
    drucker_prager_2d_loose_project,
    "sand in plane strain that closes again after it opened up",
    plane=True,
    loose=True,
)
