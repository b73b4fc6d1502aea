# pyright: reportInvalidTypeForm=false
"""Kernels of a plain MPM program: one per stage, forward and adjoint, none of them the engine's.

Arrays are of several substeps, (substeps, particles or nodes), and `t` says which; worlds of `each` particles lie one
after the other, each with its own grid of `side`^3 nodes, whose entries are momentum and mass, later velocity and mass.
"""

from __future__ import annotations

import warp as wp

from physim.numeric import mat33, numeric, real, vec3, vec4
from physim.tensor import identity, sym
from physim.tensor.eigen import sym_eig
from physim.tensor.polar import newton_polar

RATE = 1e-3
"""How much of what the plastic network says goes into F in one substep."""
FEATURES = 13
FLOOR = 1e-7
"""What the published program adds to the mass of a node [kg]."""


@numeric
def corner(x: vec3, dx: real) -> vec3:
    """The first node of the stencil."""
    return vec3(wp.floor(x[0] / dx - real(0.5)), wp.floor(x[1] / dx - real(0.5)), wp.floor(x[2] / dx - real(0.5)))


@numeric
def place(base: vec3, world: int, side: int) -> int:
    """Where that node is in memory; a particle that was lost, or is nowhere, stays within its grid."""
    i = wp.clamp(wp.int32(base[0]), 0, side - 3)
    j = wp.clamp(wp.int32(base[1]), 0, side - 3)
    k = wp.clamp(wp.int32(base[2]), 0, side - 3)
    return ((world * side + i) * side + j) * side + k


@numeric
def shares(f: real) -> vec3:
    """Quadratic B-splines of three nodes at the distance f from the first."""
    a = real(1.5) - f
    b = f - real(1.0)
    c = f - real(0.5)
    return vec3(real(0.5) * a * a, real(0.75) - b * b, real(0.5) * c * c)


@numeric
def slopes(f: real) -> vec3:
    """Derivatives of `shares`."""
    return vec3(f - real(1.5), real(2.0) - real(2.0) * f, f - real(0.5))


def encode(
    F: wp.array2d(dtype=mat33),
    t: int,
    R: wp.array2d(dtype=mat33),
    V: wp.array2d(dtype=mat33),
    z: wp.array3d(dtype=real),
):
    """Rotation, principal directions, and what the network reads."""
    p = wp.tid()
    A = F[t, p]
    Q = newton_polar(A)
    s, W = sym_eig(sym(wp.transpose(Q) @ A))
    a, b, c = s[0], s[1], s[2]
    i = wp.where(a >= b, wp.where(a >= c, 0, 2), wp.where(b >= c, 1, 2))
    k = wp.where(a < b, wp.where(a < c, 0, 2), wp.where(b < c, 1, 2))
    j = 3 - i - k
    E = wp.transpose(A) @ A - identity()
    R[t, p] = Q
    V[t, p] = mat33(W[0, i], W[0, j], W[0, k], W[1, i], W[1, j], W[1, k], W[2, i], W[2, j], W[2, k])
    z[t, p, 0] = s[i] - real(1.0)
    z[t, p, 1] = s[j] - real(1.0)
    z[t, p, 2] = s[k] - real(1.0)
    for m in range(9):
        z[t, p, 3 + m] = E[m // 3, m % 3]
    z[t, p, 12] = wp.determinant(A) - real(1.0)


def decode(
    F: wp.array2d(dtype=mat33),
    R: wp.array2d(dtype=mat33),
    X: wp.array2d(dtype=mat33),
    t: int,
    tau: wp.array2d(dtype=mat33),
):
    """Tau = R sym(X) F^T."""
    p = wp.tid()
    tau[t, p] = R[t, p] @ sym(X[t, p]) @ wp.transpose(F[t, p])


def flow(
    F: wp.array2d(dtype=mat33),
    R: wp.array2d(dtype=mat33),
    X: wp.array2d(dtype=mat33),
    t: int,
    out: wp.array2d(dtype=mat33),
    rate: real,
):
    """F + rate R sym(X), the learned plastic map."""
    p = wp.tid()
    out[t + 1, p] = F[t, p] + rate * (R[t, p] @ sym(X[t, p]))


def forget(F: wp.array2d(dtype=mat33), t: int, out: wp.array2d(dtype=mat33)):
    """J^(1/3) I: water keeps its volume only."""
    p = wp.tid()
    J = wp.max(wp.determinant(F[t, p]), real(1e-6))
    out[t + 1, p] = wp.pow(J, real(1.0) / real(3.0)) * identity()


def p2g(
    x: wp.array2d(dtype=vec3),
    v: wp.array2d(dtype=vec3),
    C: wp.array2d(dtype=mat33),
    tau: wp.array2d(dtype=mat33),
    volume: wp.array(dtype=real),
    t: int,
    density: real,
    dt: real,
    dx: real,
    side: int,
    each: int,
    grid: wp.array2d(dtype=vec4),
):
    """Momentum and mass of the nodes."""
    p = wp.tid()
    mass = density * volume[p]
    A = mass * C[t, p] - (real(4.0) * dt * volume[p] / (dx * dx)) * tau[t, p]
    base = corner(x[t, p], dx)
    f = x[t, p] / dx - base
    line = vec3(real(0.0), real(1.0), real(2.0))
    wx, wy, wz = shares(f[0]), shares(f[1]), shares(f[2])
    first = place(base, p // each, side)
    q = mass * v[t, p] - dx * (A @ f)
    for a in range(3):
        for b in range(3):
            for c in range(3):
                w = wx[a] * wy[b] * wz[c]
                g = w * (q + dx * (A @ vec3(line[a], line[b], line[c])))
                wp.atomic_add(grid, t, first + (a * side + b) * side + c, vec4(g[0], g[1], g[2], w * mass))


@numeric
def walled(u: real, index: int, side: int) -> real:
    """Free slip: nodes 0 to 2, and from 2 before the last on, lose the velocity into the wall."""
    low = wp.where(index < 3, wp.max(u, real(0.0)), u)
    return wp.where(index > side - 3, wp.min(low, real(0.0)), low)


def grid_update(
    grid: wp.array2d(dtype=vec4),
    t: int,
    gravity: vec3,
    dt: real,
    floor: real,
    side: int,
    point: vec3,
    normal: vec3,
    out: wp.array2d(dtype=vec4),
):
    """Velocity and mass of the nodes; `out` may be `grid`. A plane, if its normal is not zero, is slippery too."""
    i = wp.tid()
    g = grid[t, i]
    if g[3] == real(0.0):
        return  # no particle will ask
    u = vec3(g[0], g[1], g[2]) / (g[3] + floor) + dt * gravity
    n = i % (side * side * side)
    ux, uy, uz = (
        walled(u[0], n // (side * side), side),
        walled(u[1], (n // side) % side, side),
        walled(u[2], n % side, side),
    )
    u = vec3(ux, uy, uz)
    x = vec3(real(n // (side * side)), real((n // side) % side), real(n % side)) / real(side)
    if wp.dot(x - point, normal) < real(0.0):
        u = u - wp.min(wp.dot(u, normal), real(0.0)) * normal
    out[t, i] = vec4(u[0], u[1], u[2], g[3])


def g2p(
    x: wp.array2d(dtype=vec3),
    F: wp.array2d(dtype=mat33),
    grid: wp.array2d(dtype=vec4),
    t: int,
    dt: real,
    dx: real,
    side: int,
    each: int,
    then: int,
    F_row: int,
    x_out: wp.array2d(dtype=vec3),
    v_out: wp.array2d(dtype=vec3),
    C_out: wp.array2d(dtype=mat33),
    F_out: wp.array2d(dtype=mat33),
):
    """Positions, velocities and their gradients into row `then`, (I + dt C) F into `F_row`."""
    p = wp.tid()
    base = corner(x[t, p], dx)
    f = x[t, p] / dx - base
    line = vec3(real(0.0), real(1.0), real(2.0))
    wx, wy, wz = shares(f[0]), shares(f[1]), shares(f[2])
    first = place(base, p // each, side)
    v = vec3()
    B = mat33()
    for a in range(3):
        for b in range(3):
            for c in range(3):
                n = grid[t, first + (a * side + b) * side + c]
                g = (wx[a] * wy[b] * wz[c]) * vec3(n[0], n[1], n[2])
                v = v + g
                B = B + wp.outer(g, vec3(line[a], line[b], line[c]))
    C = (real(4.0) / dx) * (B - wp.outer(v, f))
    low, high = real(0.5) * dx, (real(side) - real(0.5)) * dx
    y = x[t, p] + dt * v
    x_out[then, p] = vec3(wp.clamp(y[0], low, high), wp.clamp(y[1], low, high), wp.clamp(y[2], low, high))
    v_out[then, p] = v
    C_out[then, p] = C
    F_out[F_row, p] = F[t, p] + dt * (C @ F[t, p])
