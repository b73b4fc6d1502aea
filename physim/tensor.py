"""Small-matrix algebra with checked adjoints, exact at repeated stretches (F = I included).

Every law and return map is built from `log_strain` and `exp_sym`, never from singular vectors, because the
derivative of a singular vector does not exist where two stretches coincide, while that of the matrix logarithm does.
The Warp sources iterate and carry hand-written adjoints; the torch versions are independent (Newton square roots,
series) and differentiable to any order, so the float64 oracle checks one against the other.
"""

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


@numeric
def left_strain(F: mat33) -> mat33:
    """F F^T - I from D = F - I, so that small strains keep their digits."""
    D = F - identity()
    return D + wp.transpose(D) + D @ wp.transpose(D)


@numeric
def log_strain(F: mat33) -> mat33:
    """Hencky strain eps = log(F F^T)/2 [-], in the current (left) frame."""
    c, V = sym_eig(left_strain(F))
    return spectral(real(0.5) * vec3(log_1p(c[0]), log_1p(c[1]), log_1p(c[2])), V)


@log_strain.adjoint
def _log_strain_adjoint(F: mat33, adj_ret: mat33):
    # Daleckii-Krein: d log(b) = V (K * (V^T db V)) V^T with the divided differences K of the logarithm.
    c, V = sym_eig(left_strain(F))
    b0 = real(1.0) + c[0]
    b1 = real(1.0) + c[1]
    b2 = real(1.0) + c[2]
    k01 = log_ratio(b0, b1)
    k02 = log_ratio(b0, b2)
    k12 = log_ratio(b1, b2)
    K = mat33(real(1.0) / b0, k01, k02, k01, real(1.0) / b1, k12, k02, k12, real(1.0) / b2)
    M = wp.cw_mul(K, wp.transpose(V) @ sym(adj_ret) @ V)
    wp.adjoint[F] += V @ M @ wp.transpose(V) @ F


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
def exp_sym(A: mat33) -> mat33:
    """exp(A) of a symmetric A, exactly I at A = 0."""
    a, V = sym_eig(A)
    return identity() + spectral(vec3(exp_m1(a[0]), exp_m1(a[1]), exp_m1(a[2])), V)


@exp_sym.adjoint
def _exp_sym_adjoint(A: mat33, adj_ret: mat33):
    a, V = sym_eig(A)
    k01 = exp_ratio(a[0], a[1])
    k02 = exp_ratio(a[0], a[2])
    k12 = exp_ratio(a[1], a[2])
    K = mat33(wp.exp(a[0]), k01, k02, k01, wp.exp(a[1]), k12, k02, k12, wp.exp(a[2]))
    M = wp.cw_mul(K, wp.transpose(V) @ sym(adj_ret) @ V)
    wp.adjoint[A] += V @ M @ wp.transpose(V)


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


@numeric
def newton_polar(F: mat33) -> mat33:
    """`polar_rotation` without a gradient, so that the adjoint can call it too."""
    R = F + real(0.0) * F
    for _step in range(30):
        d = wp.determinant(R)
        d = wp.where(wp.abs(d) < TINY, TINY, d)
        N = real(0.5) * R + (real(0.5) / d) * cofactor(R)
        E = N - R
        R = N
        if wp.ddot(E, E) < roundoff() * real(4.0):
            break
    if wp.determinant(R) < real(0.0):
        # Newton went to the nearest reflection; turn the direction of the smallest stretch around.
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
def svd(F: mat33):
    """U, stretches, V with F = U diag(stretches) V^T, U and V rotations; no gradient: use `log_strain`."""
    R = newton_polar(F)
    s, V = sym_eig(sym(wp.transpose(R) @ F))
    return R @ V, s, V


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


@numeric
def pk1_from_kirchhoff(tau: mat33, F: mat33) -> mat33:
    """First Piola-Kirchhoff stress P = tau F^-T [Pa]."""
    return tau @ wp.transpose(wp.inverse(F))


@numeric
def cauchy_from_kirchhoff(tau: mat33, F: mat33) -> mat33:
    """True stress tau/J [Pa]."""
    return tau / wp.determinant(F)
