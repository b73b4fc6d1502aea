"""Generalised Maxwell relaxation: branches of a spring and a dashpot beside the elastic law.

The history of a branch is its elastic Hencky strain h, a symmetric deviator in the current frame. In a substep of
length dt it relaxes by exp(-dt/(2 T)), is carried along by the increment f of the deformation gradient, and relaxes
again: exact for a held deformation at any dt, second order in dt for a moving one, and never stiff.
"""

from __future__ import annotations

import warp as wp

from physim.laws.core import InelasticLaw, elastic_params, register
from physim.laws.parameters import Param
from physim.numeric import Numeric, history, mat33, numeric, params, real
from physim.tensor import deviator, exp_sym, log_strain


@numeric
def symmetric(xx: real, yy: real, zz: real, xy: real, xz: real, yz: real) -> mat33:
    """The symmetric matrix of six components."""
    return mat33(xx, xy, xz, xy, yy, yz, xz, yz, zz)


@numeric
def carried(e: mat33, f: mat33, relaxation_time: real, dt: real) -> mat33:
    """Elastic Hencky strain of a branch after a substep: half the relaxation, the motion f, the other half."""
    half = wp.exp(real(-0.5) * dt / relaxation_time)
    return half * deviator(log_strain(f @ exp_sym(half * e)))


@numeric
def maxwell_1_project(F_trial: mat33, h: history, f: mat33, elastic: elastic_params, theta: params, dt: real):
    """F = F_trial, h -> exp(-dt/T) h with the motion in between; one branch."""
    a = carried(symmetric(h[0], h[1], h[2], h[3], h[4], h[5]), f, theta[1], dt)
    return F_trial, history(a[0, 0], a[1, 1], a[2, 2], a[0, 1], a[0, 2], a[1, 2])


@numeric
def maxwell_1_overstress(F: mat33, h: history, theta: params) -> mat33:
    """Stress tau = 2 G h [Pa]."""
    return real(2.0) * theta[0] * symmetric(h[0], h[1], h[2], h[3], h[4], h[5])


@numeric
def maxwell_1_stored(h: history, theta: params) -> real:
    """Energy psi = G h : h [J/m^3]."""
    a = symmetric(h[0], h[1], h[2], h[3], h[4], h[5])
    return theta[0] * wp.ddot(a, a)


@numeric
def maxwell_2_project(F_trial: mat33, h: history, f: mat33, elastic: elastic_params, theta: params, dt: real):
    """F = F_trial, h_i -> exp(-dt/T_i) h_i with the motion in between; two branches."""
    a = carried(symmetric(h[0], h[1], h[2], h[3], h[4], h[5]), f, theta[1], dt)
    b = carried(symmetric(h[6], h[7], h[8], h[9], h[10], h[11]), f, theta[3], dt)
    return F_trial, history(
        a[0, 0], a[1, 1], a[2, 2], a[0, 1], a[0, 2], a[1, 2],
        b[0, 0], b[1, 1], b[2, 2], b[0, 1], b[0, 2], b[1, 2],
    )  # fmt: skip


@numeric
def maxwell_2_overstress(F: mat33, h: history, theta: params) -> mat33:
    """Stress tau = sum_i 2 G_i h_i [Pa]."""
    a = symmetric(h[0], h[1], h[2], h[3], h[4], h[5])
    b = symmetric(h[6], h[7], h[8], h[9], h[10], h[11])
    return real(2.0) * (theta[0] * a + theta[2] * b)


@numeric
def maxwell_2_stored(h: history, theta: params) -> real:
    """Energy psi = sum_i G_i h_i : h_i [J/m^3]."""
    a = symmetric(h[0], h[1], h[2], h[3], h[4], h[5])
    b = symmetric(h[6], h[7], h[8], h[9], h[10], h[11])
    return theta[0] * wp.ddot(a, a) + theta[2] * wp.ddot(b, b)


@numeric
def maxwell_3_project(F_trial: mat33, h: history, f: mat33, elastic: elastic_params, theta: params, dt: real):
    """F = F_trial, h_i -> exp(-dt/T_i) h_i with the motion in between; three branches."""
    a = carried(symmetric(h[0], h[1], h[2], h[3], h[4], h[5]), f, theta[1], dt)
    b = carried(symmetric(h[6], h[7], h[8], h[9], h[10], h[11]), f, theta[3], dt)
    c = carried(symmetric(h[12], h[13], h[14], h[15], h[16], h[17]), f, theta[5], dt)
    return F_trial, history(
        a[0, 0], a[1, 1], a[2, 2], a[0, 1], a[0, 2], a[1, 2],
        b[0, 0], b[1, 1], b[2, 2], b[0, 1], b[0, 2], b[1, 2],
        c[0, 0], c[1, 1], c[2, 2], c[0, 1], c[0, 2], c[1, 2],
    )  # fmt: skip


@numeric
def maxwell_3_overstress(F: mat33, h: history, theta: params) -> mat33:
    """Stress tau = sum_i 2 G_i h_i [Pa]."""
    a = symmetric(h[0], h[1], h[2], h[3], h[4], h[5])
    b = symmetric(h[6], h[7], h[8], h[9], h[10], h[11])
    c = symmetric(h[12], h[13], h[14], h[15], h[16], h[17])
    return real(2.0) * (theta[0] * a + theta[2] * b + theta[4] * c)


@numeric
def maxwell_3_stored(h: history, theta: params) -> real:
    """Energy psi = sum_i G_i h_i : h_i [J/m^3]."""
    a = symmetric(h[0], h[1], h[2], h[3], h[4], h[5])
    b = symmetric(h[6], h[7], h[8], h[9], h[10], h[11])
    c = symmetric(h[12], h[13], h[14], h[15], h[16], h[17])
    return theta[0] * wp.ddot(a, a) + theta[2] * wp.ddot(b, b) + theta[4] * wp.ddot(c, c)


def _maxwell(branches: int, project: Numeric, overstress: Numeric, stored: Numeric) -> InelasticLaw:
    constants, names = [], []
    for i in range(1, branches + 1):
        constants.append(Param(f"branch_modulus_{i}", "Pa", doc=f"shear modulus of branch {i}", typical=3e4 / i))
        constants.append(Param(f"relaxation_time_{i}", "s", doc=f"branch {i} relaxes to 1/e in it", typical=0.1 * i))
        names += [f"strain_{i}_{c}" for c in ("xx", "yy", "zz", "xy", "xz", "yz")]
    return register(
        InelasticLaw(
            f"maxwell_{branches}",
            tuple(constants),
            project,
            "Reese and Govindjee 1998, doi:10.1016/S0020-7683(97)00217-5, in Hencky strain, with linear dashpots",
            f"generalised Maxwell: {branches} relaxing branch{'es' if branches > 1 else ''} beside the elastic law",
            history=tuple(names),
            rest_history=(0.0,) * len(names),
            overstress=overstress,
            stored=stored,
        )
    )


maxwell_1 = _maxwell(1, maxwell_1_project, maxwell_1_overstress, maxwell_1_stored)
maxwell_2 = _maxwell(2, maxwell_2_project, maxwell_2_overstress, maxwell_2_stored)
maxwell_3 = _maxwell(3, maxwell_3_project, maxwell_3_overstress, maxwell_3_stored)
