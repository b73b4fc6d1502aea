"""Plastic return maps in the left Hencky strain: F_new = exp(eps_new - eps_trial) F_trial, coaxial, so no singular
vector is ever differentiated, and F_new = F_trial to the last bit where nothing yields.
"""

from __future__ import annotations

import math

import torch
import warp as wp

from physim.laws.core import InelasticLaw, elastic_params, register
from physim.laws.parameters import Param
from physim.numeric import TINY, Numeric, history, mat33, numeric, params, real, vec3
from physim.tensor import deviator, exp_sym, identity, log_strain, roundoff


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
def cone_return(eps: mat33, span: mat33, d: real, cone: vec3, elastic: elastic_params):
    """Hencky strain returned to the cone |tau_dev| <= shift - alpha tr tau, and the expansion dropped at its tip [-].

    The plastic strain flows along dev/|dev| + dilation I: shear grows the volume by `dilation` d per unit norm, and
    0 <= dilation <= alpha dissipates energy. Beyond the flow lines through the tip all goes to the tip. `span` is the
    unit matrix of the d strained directions, over which traces are taken; cone = (alpha, dilation, shift [Pa]).
    Without friction there is no tip.
    """
    dilation = cone[1]
    shift = cone[2]
    two_mu = real(2.0) * elastic[0]
    slope = cone[0] * (two_mu + d * elastic[1])
    trace = wp.trace(eps)
    e = eps - (trace / d) * span
    size = wp.sqrt(wp.ddot(e, e) + TINY)
    pointed = slope > roundoff() * two_mu
    tip = shift / wp.where(pointed, slope, real(1.0))
    beyond = wp.where(pointed, trace - dilation * d * size - tip, real(-1.0))
    flow = wp.max(size + (slope * trace - shift) / two_mu, real(0.0)) / (real(1.0) + slope * dilation * d / two_mu)
    new = wp.where(beyond >= real(0.0), (tip / d) * span, eps - (flow / size) * e - (flow * dilation) * span)
    return new, wp.max(beyond, real(0.0))


@numeric
def closing(eps: mat33, dropped: real, span: mat33, d: real, cone: vec3, elastic: elastic_params) -> real:
    """The part of the dropped expansion that is used up before there is a pressure [-].

    Compression uses it up, and the volume that shear makes where only cohesion holds.
    """
    trace = wp.trace(eps)
    e = eps - (trace / d) * span
    size = wp.sqrt(wp.ddot(e, e) + TINY)
    made = cone[1] * d * wp.max(size - cone[2] / (real(2.0) * elastic[0]), real(0.0))
    return wp.min(dropped, wp.max(made - trace, real(0.0)))


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
def cone_3d(theta: params) -> vec3:
    """(alpha, dilation, shift [Pa]) of the cone through Mohr-Coulomb's compression corners; theta = (phi, c, psi)."""
    sine = wp.sin(theta[0])
    factor = cone_factor(sine)
    dilating = wp.sin(theta[2])
    return vec3(
        factor * sine / real(3.0),
        cone_factor(dilating) * dilating / real(3.0),
        factor * wp.cos(theta[0]) * theta[1],
    )


@numeric
def drucker_prager_project(F_trial: mat33, h: history, f: mat33, elastic: elastic_params, theta: params, dt: real):
    """|dev tau| <= sqrt(2/3) 6/(3 - sin phi) (p sin phi + c cos phi), p = -tr tau/3.

    In strains, for c = 0: |dev eps| <= -alpha (3 lam + 2 mu)/(2 mu) tr eps, alpha = sqrt(2/3) 2 sin phi/(3 - sin phi).
    Plastic shear of norm g grows the volume by 3 alpha(psi) g, psi the angle of dilation in triaxial compression. It
    does so without end: there is no critical density at which real sand stops to dilate.
    Expansion beyond the tip goes to the tip (zero strain for c = 0). The cone passes through Mohr-Coulomb's triaxial
    compression; in plane strain it is stronger (30 deg acts as 43.9 deg): use `drucker_prager_2d` there. With phi = 0
    it is von Mises' cylinder |dev tau| <= sqrt(8/3) c.
    """
    eps = log_strain(F_trial)
    new, _dropped = cone_return(eps, identity(), real(3.0), cone_3d(theta), elastic)
    return strained(F_trial, new - eps), h


@numeric
def plane() -> mat33:
    """Unit matrix of the x-y plane."""
    return mat33(real(1.0), real(0.0), real(0.0), real(0.0), real(1.0), real(0.0), real(0.0), real(0.0), real(0.0))


@numeric
def cone_2d(theta: params) -> vec3:
    """(alpha, dilation, shift [Pa]) of Mohr-Coulomb in the x-y plane; theta = (phi, c, psi)."""
    sine = wp.sin(theta[0])
    root = wp.sqrt(real(2.0))
    return vec3(
        root * sine / real(2.0),
        root * wp.sin(theta[2]) / real(2.0),
        root * wp.cos(theta[0]) * theta[1],
    )


@numeric
def drucker_prager_2d_project(F_trial: mat33, h: history, f: mat33, elastic: elastic_params, theta: params, dt: real):
    """Mohr-Coulomb in the x-y plane: |dev tau| <= sqrt(2) (p sin phi + c cos phi).

    The pressure p is -(tau_xx + tau_yy)/2. In strains: alpha = sin phi/sqrt(2) with the in-plane trace and stiffness
    2 lam + 2 mu, so that plane strain yields at exactly phi. Plastic shear of norm g grows the area by
    sqrt(2) sin(psi) g, psi the angle of dilation. Sand shears along a plane at the angle
    tan = sin phi cos psi/(1 - sin phi sin psi) of Davis 1968: phi for psi = phi, atan(sin phi) without dilation,
    because shear then happens at equal normal stresses. Trace and deviator are those of the 2x2 block; the body must
    stay in the plane. With phi = 0 it is Tresca's |tau_1 - tau_2| <= 2 c.
    """
    eps = log_strain(F_trial)
    new, _dropped = cone_return(eps, plane(), real(2.0), cone_2d(theta), elastic)
    return strained(F_trial, new - eps), h


@numeric
def drucker_prager_loose_project(
    F_trial: mat33, h: history, f: mat33, elastic: elastic_params, theta: params, dt: real
):
    """As `drucker_prager`, and grains that parted meet again before they carry load.

    The history is the expansion (tr eps) that was dropped at the tip; compression uses it up before it presses, so
    that a body that opened up closes again instead of keeping the volume it gained. The volume that shear makes
    (angle of dilation) fills the gap too; what it makes in closed sand stays, since those grains touch.
    """
    eps = log_strain(F_trial)
    cone = cone_3d(theta)
    closed = closing(eps, h[0], identity(), real(3.0), cone, elastic)
    new, dropped = cone_return(eps + (closed / real(3.0)) * identity(), identity(), real(3.0), cone, elastic)
    return strained(F_trial, new - eps), history(h[0] - closed + dropped)


@numeric
def drucker_prager_2d_loose_project(
    F_trial: mat33, h: history, f: mat33, elastic: elastic_params, theta: params, dt: real
):
    """As `drucker_prager_2d`, with the dropped expansion of `drucker_prager_loose`."""
    eps = log_strain(F_trial)
    cone = cone_2d(theta)
    closed = closing(eps, h[0], plane(), real(2.0), cone, elastic)
    new, dropped = cone_return(eps + (closed / real(2.0)) * plane(), plane(), real(2.0), cone, elastic)
    return strained(F_trial, new - eps), history(h[0] - closed + dropped)


CONE = (
    Param("friction_angle", "rad", 0.0, math.pi / 2, "logit", doc="angle of internal friction", typical=math.pi / 6),
    Param("cohesion", "Pa", default=0.0, doc="shear strength without pressure", typical=100.0),
    Param(
        "dilation_angle",
        "rad",
        0.0,
        math.pi / 2,
        "logit",
        default=0.0,
        doc="how fast shear grows the volume; at most friction_angle",
        typical=math.pi / 18,
    ),
)


def _cone(name: str, project: Numeric, summary: str, *, plane: bool = False, loose: bool = False) -> InelasticLaw:
    cite = (
        "Drucker and Prager 1952, doi:10.1090/qam/48291; Klar et al. 2016, doi:10.1145/2897824.2925906; "
        "Davis 1968, in Soil Mechanics: Selected Topics (dilation)"
    )
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
            at_most=(("dilation_angle", "friction_angle"),),
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
