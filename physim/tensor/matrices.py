"""Small matrices: their parts and products, and scalar functions that keep their digits near zero."""

from __future__ import annotations

import torch
import warp as wp

from physim.numeric import TINY, mat33, numeric, real, vec3


@numeric
def identity() -> mat33:
    """The unit matrix I."""
    return mat33(real(1.0), real(0.0), real(0.0), real(0.0), real(1.0), real(0.0), real(0.0), real(0.0), real(1.0))


@numeric
def sym(A: mat33) -> mat33:
    """Symmetric part (A + A^T)/2."""
    return real(0.5) * (A + wp.transpose(A))


@numeric
def deviator(A: mat33) -> mat33:
    """A - tr(A)/3 I."""
    return A - wp.trace(A) / real(3.0) * identity()


@numeric
def skew(w: vec3) -> mat33:
    """The matrix [w]x with [w]x a = w x a."""
    return mat33(real(0.0), -w[2], w[1], w[2], real(0.0), -w[0], -w[1], w[0], real(0.0))


@numeric
def axial(A: mat33) -> vec3:
    """(A21, A02, A10), indices from 0: the vector w of a skew matrix [w]x."""
    return vec3(A[2, 1], A[0, 2], A[1, 0])


@numeric
def cofactor(A: mat33) -> mat33:
    """det(A) A^-T, finite also for a singular A."""
    return mat33(
        A[1, 1] * A[2, 2] - A[1, 2] * A[2, 1],
        A[1, 2] * A[2, 0] - A[1, 0] * A[2, 2],
        A[1, 0] * A[2, 1] - A[1, 1] * A[2, 0],
        A[0, 2] * A[2, 1] - A[0, 1] * A[2, 2],
        A[0, 0] * A[2, 2] - A[0, 2] * A[2, 0],
        A[0, 1] * A[2, 0] - A[0, 0] * A[2, 1],
        A[0, 1] * A[1, 2] - A[0, 2] * A[1, 1],
        A[0, 2] * A[1, 0] - A[0, 0] * A[1, 2],
        A[0, 0] * A[1, 1] - A[0, 1] * A[1, 0],
    )


@numeric
def roundoff() -> real:
    """About the unit roundoff: 1e-7 in float32, 1e-16 in float64 (where TINY is smaller than float32 can hold)."""
    return wp.where(TINY > real(1e-100), real(1e-7), real(1e-16))


@roundoff.for_torch
def _roundoff_torch():
    return 1e-16


@numeric
def log_1p(x: real) -> real:
    """log(1 + x), accurate for small x (Kahan's quotient)."""
    u = real(1.0) + x
    d = u - real(1.0)
    return wp.where(d == real(0.0), x, wp.log(u) * x / wp.where(d == real(0.0), real(1.0), d))


@log_1p.adjoint
def _log1p_adjoint(x: real, adj_ret: real):
    wp.adjoint[x] += adj_ret / (real(1.0) + x)


@log_1p.for_torch
def _log1p_torch(x):
    return torch.log1p(x)


@numeric
def exp_m1(x: real) -> real:
    """exp(x) - 1, accurate for small x (Kahan's quotient)."""
    u = wp.exp(x)
    d = u - real(1.0)
    near = wp.abs(x) < real(1.0)
    safe = wp.where(near, wp.where(d == real(0.0), real(2.0), u), real(2.0))
    return wp.where(near, wp.where(d == real(0.0), x, d * x / wp.log(safe)), d)


@exp_m1.adjoint
def _expm1_adjoint(x: real, adj_ret: real):
    wp.adjoint[x] += adj_ret * wp.exp(x)


@exp_m1.for_torch
def _expm1_torch(x):
    return torch.expm1(x)


@numeric
def left_strain(F: mat33) -> mat33:
    """F F^T - I from D = F - I, so that small strains keep their digits."""
    D = F - identity()
    return D + wp.transpose(D) + D @ wp.transpose(D)
