"""The rotation of a deformation, and its stretches."""

from __future__ import annotations

import torch
import warp as wp

from physim.numeric import mat33, numeric, real, vec3
from physim.tensor.eigen import spectral, sym_eig
from physim.tensor.matrices import axial, identity, skew, sym

_NEWTON = """
typedef {REAL} number;
const number tiny = {TINY}, near = sizeof(number) == 4 ? 4e-4 : 1e-8;
wp::mat_t<3, 3, number> out;
#if defined(__CUDA_ARCH__)
out = F;
for (int step = 0; step < 32; ++step) {{
    const number d = wp::determinant(out);
    out = wp::mul(wp::add(out, wp::transpose(wp::inverse(out))), number(0.5));
    if (step > 0 && wp::abs(d) - 1 < near) break;
}}
#else
typedef number row __attribute__((vector_size(4 * sizeof(number))));
auto turned = [](row v) -> row {{ return __builtin_shufflevector(v, v, 1, 2, 0, 3); }};
auto cross = [&](row a, row b) -> row {{ return turned(a * turned(b) - turned(a) * b); }};
row r[3];
for (int i = 0; i < 3; ++i) r[i] = row{{F.data[i][0], F.data[i][1], F.data[i][2], 0}};
for (int step = 0; step < 32; ++step) {{
    const row c[3] = {{cross(r[1], r[2]), cross(r[2], r[0]), cross(r[0], r[1])}};
    const row p = r[0] * c[0];
    const number d = p[0] + p[1] + p[2];
    const number half = number(0.5) / (d < tiny && d > -tiny ? tiny : d);
    for (int i = 0; i < 3; ++i) r[i] = r[i] * number(0.5) + c[i] * half;
    if (step > 0 && (d < 0 ? -d : d) - 1 < near) break;
}}
for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) out.data[i][j] = r[i][j];
#endif
return out;
"""


@numeric
def nearest_orthogonal(F: mat33):
    """R of F = R S by Newton's iteration, a reflection for det F < 0.

    From the first step on no stretch is below 1, so that none is farther from 1 than their product, and a step leaves
    half the square of the distance.
    """
    return mat33()


nearest_orthogonal.native(_NEWTON)


@numeric
def newton_polar(F: mat33) -> mat33:
    """`polar_rotation` without a gradient, so that the adjoint can call it too."""
    R = nearest_orthogonal(F)
    if wp.determinant(R) < real(0.0):
        # Turn the direction of the smallest stretch around.
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
