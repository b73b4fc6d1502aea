"""The rotation of a deformation, and its stretches."""

from __future__ import annotations

import torch
import warp as wp

from physim.numeric import TINY, mat33, numeric, real, vec3
from physim.tensor.eigen import spectral, sym_eig
from physim.tensor.matrices import axial, cofactor, identity, roundoff, skew, sym
from physim.wide.values import repeat

_STEPS = 30
"""Most steps of a polar decomposition; it takes three near a rotation."""


@numeric
def newton_step(R: mat33) -> mat33:
    """(R + R^-T)/2."""
    d = wp.determinant(R)
    d = wp.where(wp.abs(d) < TINY, TINY, d)
    return real(0.5) * R + (real(0.5) / d) * cofactor(R)


@numeric
def upright(R: mat33, F: mat33) -> mat33:
    """R, or where it is a reflection, R with the direction of the smallest stretch turned around."""
    if wp.determinant(R) < real(0.0):
        s, V = sym_eig(sym(wp.transpose(R) @ F))
        n = vec3(V[0, 0], V[1, 0], V[2, 0])
        least = s[0]
        if s[1] < least:
            n = vec3(V[0, 1], V[1, 1], V[2, 1])
            least = s[1]
        if s[2] < least:
            n = vec3(V[0, 2], V[1, 2], V[2, 2])
        R = R - real(2.0) * wp.outer(R @ n, n)
    return R


@numeric
def newton_polar(F: mat33) -> mat33:
    """`polar_rotation` without a gradient, so that the adjoint can call it too."""
    R = F + real(0.0) * F
    for _step in range(_STEPS):
        N = newton_step(R)
        E = N - R
        R = N
        if wp.ddot(E, E) < roundoff() * real(4.0):
            break
    # Where det F < 0, Newton went to the nearest reflection.
    return upright(R, F)


@newton_polar.for_wide
def _newton_polar_wide(F):
    def step(R):
        N = newton_step(R)
        E = N - R
        return N, wp.ddot(E, E) < roundoff() * real(4.0)

    return upright(repeat(step, F, _STEPS), F)


@numeric
def polar_rotation(F: mat33) -> mat33:
    """The rotation R of F = R S, by Newton's iteration R <- (R + R^-T)/2 (Higham 1986, doi:10.1137/0907079).

    For det F < 0 it is the rotation nearest to F, with the smallest stretch counted as negative.
    """
    return newton_polar(F)


@polar_rotation.adjoint
def _polar_rotation_adjoint(F: mat33, adj_ret: mat33):
    # dR = R [w]x with (tr(S) I - S) w = axial(R^T dF - dF^T R); transposed.
    R = newton_polar(F)
    S = sym(wp.transpose(R) @ F)
    M = wp.transpose(R) @ adj_ret
    w = wp.inverse(wp.trace(S) * identity() - S) @ axial(M - wp.transpose(M))
    wp.adjoint[F] += R @ skew(w)


@polar_rotation.for_torch
def _polar_rotation_torch(F):
    R = F / torch.sqrt((F * F).sum() / 3.0)
    for _step in range(14):
        R = 0.5 * (R + torch.linalg.inv(R).mT)
    return R


@numeric
def stretch_strain(F: mat33) -> mat33:
    """V - I of F = V R, symmetric, from F - R, so that small strains keep their digits."""
    R = polar_rotation(F)
    return sym((F - R) @ wp.transpose(R))


@stretch_strain.adjoint
def _stretch_strain_adjoint(F: mat33, adj_ret: mat33):
    # dF R^T = dV + V [w]x, whose skew part gives w: (tr(V) I - V) w = axial(dF R^T - R dF^T); transposed.
    R = newton_polar(F)
    V = sym(F @ wp.transpose(R))
    A = sym(adj_ret)
    turn = V @ A
    w = wp.inverse(wp.trace(V) * identity() - V) @ axial(turn - wp.transpose(turn))
    wp.adjoint[F] += (A - skew(w)) @ R


@numeric
def stretches(F: mat33) -> vec3:
    """Singular values of F [-], unsorted; the smallest is negative where det F < 0."""
    s, _V = sym_eig(sym(wp.transpose(polar_rotation(F)) @ F))
    return s


@stretches.adjoint
def _stretches_adjoint(F: mat33, adj_ret: vec3):
    # ds_i = u_i . dF v_i holds also at repeated values for every symmetric function of the stretches.
    R = newton_polar(F)
    _s, V = sym_eig(sym(wp.transpose(R) @ F))
    wp.adjoint[F] += R @ spectral(adj_ret, V)
