"""Eigenvectors of a symmetric matrix, and divided differences that stay exact where two values meet."""

from __future__ import annotations

import torch
import warp as wp

from physim.numeric import mat33, numeric, real, vec3
from physim.tensor.matrices import identity, roundoff
from physim.wide.values import repeat


@numeric
def spectral(values: vec3, V: mat33) -> mat33:
    """V diag(values) V^T, symmetric to the last bit."""
    a = vec3(V[0, 0], V[1, 0], V[2, 0])
    b = vec3(V[0, 1], V[1, 1], V[2, 1])
    c = vec3(V[0, 2], V[1, 2], V[2, 2])
    return values[0] * wp.outer(a, a) + values[1] * wp.outer(b, b) + values[2] * wp.outer(c, c)


@numeric
def jacobi_angle(app: real, aqq: real, apq: real) -> vec3:
    """(cos, sin, tan) of the rotation that removes apq (Golub and Van Loan, section 8.5)."""
    safe = wp.where(apq == real(0.0), real(1.0), apq)
    theta = (aqq - app) / (real(2.0) * safe)
    t = wp.where(theta < real(0.0), real(-1.0), real(1.0)) / (wp.abs(theta) + wp.sqrt(theta * theta + real(1.0)))
    t = wp.where(apq == real(0.0), real(0.0), t)
    c = real(1.0) / wp.sqrt(t * t + real(1.0))
    return vec3(c, t * c, t)


@numeric
def sym_eig(A: mat33):
    """Values (3,) and vectors (columns) of a symmetric A by Jacobi sweeps, unsorted; no gradient of its own."""
    a00 = A[0, 0] + real(0.0)
    a11 = A[1, 1] + real(0.0)
    a22 = A[2, 2] + real(0.0)
    a01 = A[0, 1] + real(0.0)
    a02 = A[0, 2] + real(0.0)
    a12 = A[1, 2] + real(0.0)
    v0 = vec3(real(1.0), real(0.0), real(0.0))
    v1 = vec3(real(0.0), real(1.0), real(0.0))
    v2 = vec3(real(0.0), real(0.0), real(1.0))
    size = a00 * a00 + a11 * a11 + a22 * a22 + real(2.0) * (a01 * a01 + a02 * a02 + a12 * a12)
    enough = roundoff() * roundoff() * size * real(0.01)
    for _sweep in range(10):
        if a01 * a01 + a02 * a02 + a12 * a12 <= enough:
            break
        r = jacobi_angle(a00, a11, a01)
        a00 = a00 - r[2] * a01
        a11 = a11 + r[2] * a01
        a01 = real(0.0)
        x = r[0] * a02 - r[1] * a12
        a12 = r[1] * a02 + r[0] * a12
        a02 = x
        u = r[0] * v0 - r[1] * v1
        v1 = r[1] * v0 + r[0] * v1
        v0 = u
        r = jacobi_angle(a00, a22, a02)
        a00 = a00 - r[2] * a02
        a22 = a22 + r[2] * a02
        a02 = real(0.0)
        x = r[0] * a01 - r[1] * a12
        a12 = r[1] * a01 + r[0] * a12
        a01 = x
        u = r[0] * v0 - r[1] * v2
        v2 = r[1] * v0 + r[0] * v2
        v0 = u
        r = jacobi_angle(a11, a22, a12)
        a11 = a11 - r[2] * a12
        a22 = a22 + r[2] * a12
        a12 = real(0.0)
        x = r[0] * a01 - r[1] * a02
        a02 = r[1] * a01 + r[0] * a02
        a01 = x
        u = r[0] * v1 - r[1] * v2
        v2 = r[1] * v1 + r[0] * v2
        v1 = u
    V = mat33(v0[0], v1[0], v2[0], v0[1], v1[1], v2[1], v0[2], v1[2], v2[2])
    return vec3(a00, a11, a22), V


@sym_eig.for_wide
def _sym_eig_wide(A):
    def sweep(state):
        S, V = state
        a, v = [[S[i, j] for j in range(3)] for i in range(3)], [[V[i, j] for i in range(3)] for j in range(3)]
        for p, q, k in ((0, 1, 2), (0, 2, 1), (1, 2, 0)):
            r = jacobi_angle(a[p][p], a[q][q], a[p][q])
            a[p][p], a[q][q] = a[p][p] - r[2] * a[p][q], a[q][q] + r[2] * a[p][q]
            a[p][k], a[q][k] = r[0] * a[p][k] - r[1] * a[q][k], r[1] * a[p][k] + r[0] * a[q][k]
            a[p][q] = a[q][p] = real(0.0)
            a[k][p], a[k][q] = a[p][k], a[q][k]
            v[p], v[q] = (
                [r[0] * x - r[1] * y for x, y in zip(v[p], v[q], strict=True)],
                [r[1] * x + r[0] * y for x, y in zip(v[p], v[q], strict=True)],
            )
        rest = a[0][1] * a[0][1] + a[0][2] * a[0][2] + a[1][2] * a[1][2]
        return (mat33(*a[0], *a[1], *a[2]), wp.transpose(mat33(*v[0], *v[1], *v[2]))), rest <= enough

    size = wp.ddot(A, A)
    enough = roundoff() * roundoff() * size * real(0.01)
    S, V = repeat(sweep, (A, identity()), 10)
    return vec3(S[0, 0], S[1, 1], S[2, 2]), V


@sym_eig.for_torch
def _sym_eig_torch(A):
    values, V = torch.linalg.eigh(0.5 * (A + A.mT))
    return values, V


@numeric
def log_ratio(a: real, b: real) -> real:
    """(log a - log b)/(a - b) for positive a, b; 1/a where they meet."""
    z = (a - b) / (a + b)
    q = z * z
    series = real(1.0) / real(15.0)
    series = real(1.0) / real(13.0) + q * series
    series = real(1.0) / real(11.0) + q * series
    series = real(1.0) / real(9.0) + q * series
    series = real(1.0) / real(7.0) + q * series
    series = real(1.0) / real(5.0) + q * series
    series = real(1.0) / real(3.0) + q * series
    series = real(1.0) + q * series
    near = q < real(0.01)
    direct = real(0.5) * wp.log(a / b) / wp.where(near, real(1.0), z)
    return real(2.0) / (a + b) * wp.where(near, series, direct)


@numeric
def exp_ratio(a: real, b: real) -> real:
    """(exp a - exp b)/(a - b); exp(a) where they meet."""
    d = real(0.5) * (a - b)
    q = d * d
    series = real(1.0) + q / real(156.0)
    series = real(1.0) + q / real(110.0) * series
    series = real(1.0) + q / real(72.0) * series
    series = real(1.0) + q / real(42.0) * series
    series = real(1.0) + q / real(20.0) * series
    series = real(1.0) + q / real(6.0) * series
    near = q < real(0.25)
    direct = real(0.5) * (wp.exp(d) - wp.exp(-d)) / wp.where(near, real(1.0), d)
    return wp.exp(real(0.5) * (a + b)) * wp.where(near, series, direct)
