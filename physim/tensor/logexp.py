"""Logarithm and exponential of symmetric matrices: all that spectral laws and return maps are built from."""

from __future__ import annotations

import torch
import warp as wp

from physim.numeric import mat33, numeric, real, vec3
from physim.tensor.eigen import exp_ratio, log_ratio, spectral, sym_eig
from physim.tensor.matrices import exp_m1, identity, left_strain, log_1p, roundoff, sym


@numeric
def in_series(A: mat33, single: real, double: real) -> bool:
    """Whether |A|^2 is below the limit of this precision, where a short series is exact to roundoff."""
    return wp.ddot(A, A) < wp.where(roundoff() > real(1e-10), single, double)


# Series instead of eigenvectors for small strains: ten times cheaper, and most states of plastic bodies are small.
_LOG_SINGLE, _LOG_DOUBLE = 0.2, 0.02  # |F F^T - I|^2: what is left out is z^14/15, z = 0.29 and 0.076
_EXP_SINGLE, _EXP_DOUBLE = 0.2, 0.004  # |A|^2: what is left out is |A|^9/9!


@numeric
def log_series(C: mat33) -> mat33:
    """log(I + C)/2 = atanh(Z) with Z = C (2 I + C)^-1, for a small symmetric C."""
    Z = C @ wp.inverse(real(2.0) * identity() + C)
    Q = Z @ Z
    S = (real(1.0) / real(11.0)) * identity() + (real(1.0) / real(13.0)) * Q
    S = (real(1.0) / real(9.0)) * identity() + Q @ S
    S = (real(1.0) / real(7.0)) * identity() + Q @ S
    S = (real(1.0) / real(5.0)) * identity() + Q @ S
    S = (real(1.0) / real(3.0)) * identity() + Q @ S
    return sym(Z + Z @ Q @ S)


@numeric
def log_series_adjoint(C: mat33, G: mat33) -> mat33:
    """Adjoint of `log_series` for a symmetric cotangent G; Z, Q and the partial sums are symmetric and commute."""
    W = wp.inverse(real(2.0) * identity() + C)
    Z = C @ W
    Q = Z @ Z
    S5 = (real(1.0) / real(11.0)) * identity() + (real(1.0) / real(13.0)) * Q
    S4 = (real(1.0) / real(9.0)) * identity() + Q @ S5
    S3 = (real(1.0) / real(7.0)) * identity() + Q @ S4
    S2 = (real(1.0) / real(5.0)) * identity() + Q @ S3
    S1 = (real(1.0) / real(3.0)) * identity() + Q @ S2
    S0 = identity() + Q @ S1
    # Nested, so that no high power of Q stands alone: subnormal numbers are slow.
    Y = Z @ G
    X = Y @ S5 + (real(1.0) / real(13.0)) * (Q @ Y)
    X = Y @ S4 + Q @ X
    X = Y @ S3 + Q @ X
    X = Y @ S2 + Q @ X
    adj_Q = Y @ S1 + Q @ X
    adj_Z = G @ S0 + adj_Q @ Z + Z @ adj_Q
    return sym((identity() - Z) @ adj_Z @ W)


@numeric
def log_strain(F: mat33) -> mat33:
    """Hencky strain eps = log(F F^T)/2 [-], in the current (left) frame."""
    C = left_strain(F)
    if in_series(C, real(_LOG_SINGLE), real(_LOG_DOUBLE)):
        return log_series(C)
    c, V = sym_eig(C)
    return spectral(real(0.5) * vec3(log_1p(c[0]), log_1p(c[1]), log_1p(c[2])), V)


@log_strain.adjoint
def _log_strain_adjoint(F: mat33, adj_ret: mat33):
    C = left_strain(F)
    if in_series(C, real(_LOG_SINGLE), real(_LOG_DOUBLE)):
        wp.adjoint[F] += real(2.0) * log_series_adjoint(C, sym(adj_ret)) @ F
    else:
        wp.adjoint[F] += log_adjoint(C, adj_ret) @ F


@numeric
def log_adjoint(C: mat33, G: mat33) -> mat33:
    """Adjoint of log(I + C) for a symmetric C of any size.

    Daleckii-Krein: d log(b) = V (K * (V^T db V)) V^T with the divided differences K of the logarithm.
    """
    c, V = sym_eig(C)
    b0 = real(1.0) + c[0]
    b1 = real(1.0) + c[1]
    b2 = real(1.0) + c[2]
    k01 = log_ratio(b0, b1)
    k02 = log_ratio(b0, b2)
    k12 = log_ratio(b1, b2)
    K = mat33(real(1.0) / b0, k01, k02, k01, real(1.0) / b1, k12, k02, k12, real(1.0) / b2)
    return V @ wp.cw_mul(K, wp.transpose(V) @ sym(G) @ V) @ wp.transpose(V)


_ROOTS = 5  # b^(1/32) of any stretch in 0.03..30 lies within 0.8..1.25, where the series below ends at 1e-18
_NEWTON = 14  # Denman-Beavers steps: half of them bring such a b near I, the rest converge quadratically


@log_strain.for_torch
def _log_strain_torch(F):
    # Inverse scaling and squaring (Higham, Functions of Matrices, 2008, sections 6.3 and 11.5).
    eye = torch.eye(3, dtype=F.dtype, device=F.device)
    X = F @ F.mT
    for _root in range(_ROOTS):
        M = X
        for _step in range(_NEWTON):
            inverse = torch.linalg.inv(M)
            X = 0.5 * X @ (eye + inverse)
            M = 0.5 * (eye + 0.5 * (M + inverse))
        X = 0.5 * (X + X.mT)
    Z = (X - eye) @ torch.linalg.inv(X + eye)
    Q = Z @ Z
    series = eye / 23.0
    for odd in range(21, 0, -2):
        series = eye / odd + Q @ series
    log_b = 2.0 ** (_ROOTS + 1) * (Z @ series)
    return 0.25 * (log_b + log_b.mT)


@numeric
def exp_series(A: mat33) -> mat33:
    """Taylor sum of exp(A) to the eighth power, for a small symmetric A."""
    T = identity() + real(0.125) * A
    T = identity() + (real(1.0) / real(7.0)) * (A @ T)
    T = identity() + (real(1.0) / real(6.0)) * (A @ T)
    T = identity() + real(0.2) * (A @ T)
    T = identity() + real(0.25) * (A @ T)
    T = identity() + (real(1.0) / real(3.0)) * (A @ T)
    T = identity() + real(0.5) * (A @ T)
    return identity() + sym(A @ T)


@numeric
def exp_series_adjoint(A: mat33, G: mat33) -> mat33:
    """Adjoint of `exp_series` for a symmetric cotangent G."""
    T7 = identity() + real(0.125) * A
    T6 = identity() + (real(1.0) / real(7.0)) * (A @ T7)
    T5 = identity() + (real(1.0) / real(6.0)) * (A @ T6)
    T4 = identity() + real(0.2) * (A @ T5)
    T3 = identity() + real(0.25) * (A @ T4)
    T2 = identity() + (real(1.0) / real(3.0)) * (A @ T3)
    T1 = identity() + real(0.5) * (A @ T2)
    X = G @ T7 + real(0.125) * (A @ G)
    X = G @ T6 + (real(1.0) / real(7.0)) * (A @ X)
    X = G @ T5 + (real(1.0) / real(6.0)) * (A @ X)
    X = G @ T4 + real(0.2) * (A @ X)
    X = G @ T3 + real(0.25) * (A @ X)
    X = G @ T2 + (real(1.0) / real(3.0)) * (A @ X)
    return sym(G @ T1 + real(0.5) * (A @ X))


@numeric
def exp_sym(A: mat33) -> mat33:
    """exp(A) of a symmetric A, exactly I at A = 0."""
    if in_series(A, real(_EXP_SINGLE), real(_EXP_DOUBLE)):
        return exp_series(A)
    a, V = sym_eig(A)
    return identity() + spectral(vec3(exp_m1(a[0]), exp_m1(a[1]), exp_m1(a[2])), V)


@exp_sym.adjoint
def _exp_sym_adjoint(A: mat33, adj_ret: mat33):
    if in_series(A, real(_EXP_SINGLE), real(_EXP_DOUBLE)):
        wp.adjoint[A] += exp_series_adjoint(A, sym(adj_ret))
    else:
        wp.adjoint[A] += exp_adjoint(A, adj_ret)


@numeric
def exp_adjoint(A: mat33, G: mat33) -> mat33:
    """Adjoint of exp(A) for a symmetric A of any size, by the divided differences of the exponential."""
    a, V = sym_eig(A)
    k01 = exp_ratio(a[0], a[1])
    k02 = exp_ratio(a[0], a[2])
    k12 = exp_ratio(a[1], a[2])
    K = mat33(wp.exp(a[0]), k01, k02, k01, wp.exp(a[1]), k12, k02, k12, wp.exp(a[2]))
    return V @ wp.cw_mul(K, wp.transpose(V) @ sym(G) @ V) @ wp.transpose(V)


_SQUARINGS, _TERMS = 6, 13  # a norm of 20 is scaled to 0.3, where 13 terms leave 1e-17


@exp_sym.for_torch
def _exp_sym_torch(A):
    # torch.linalg.matrix_exp is off by 2e-10 at a norm of 0.05; scaling and squaring of a Taylor sum is not.
    eye = torch.eye(3, dtype=A.dtype, device=A.device)
    small = (A + A.mT) * 0.5 ** (_SQUARINGS + 1)
    E = eye
    for order in range(_TERMS, 0, -1):
        E = eye + small @ E / order
    for _squaring in range(_SQUARINGS):
        E = E @ E
    return 0.5 * (E + E.mT)
