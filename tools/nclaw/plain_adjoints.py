# pyright: reportInvalidTypeForm=false
"""Adjoints of `plain_kernels`, written by hand: from the end of a substep to its start."""

from __future__ import annotations

from functools import cache
from typing import Any

import warp as wp

from physim.numeric import F32, kernel, mat33, real, vec3, vec4
from physim.tensor import identity, sym
from physim.tensor.eigen import spectral
from physim.tensor.matrices import axial, cofactor, skew
from tools.nclaw.plain_kernels import corner, decode, encode, flow, forget, g2p, grid_update, p2g, place, shares, slopes


def encode_adjoint(
    F: wp.array2d(dtype=mat33),
    R: wp.array2d(dtype=mat33),
    V: wp.array2d(dtype=mat33),
    t: int,
    adj_R: wp.array(dtype=mat33),
    adj_z: wp.array2d(dtype=real),
    adj_F: wp.array(dtype=mat33),
):
    """Adds to adj_F; the rotation and the stretches have finite slopes where stretches are equal, too."""
    p = wp.tid()
    A, Q = F[t, p], R[t, p]
    S = sym(wp.transpose(Q) @ A)
    M = wp.transpose(Q) @ adj_R[p]
    w = wp.inverse(wp.trace(S) * identity() - S) @ axial(M - wp.transpose(M))
    G = mat33(
        adj_z[p, 3], adj_z[p, 4], adj_z[p, 5],
        adj_z[p, 6], adj_z[p, 7], adj_z[p, 8],
        adj_z[p, 9], adj_z[p, 10], adj_z[p, 11],
    )  # fmt: skip
    turn = Q @ (skew(w) + spectral(vec3(adj_z[p, 0], adj_z[p, 1], adj_z[p, 2]), V[t, p]))
    adj_F[p] = adj_F[p] + turn + A @ (G + wp.transpose(G)) + adj_z[p, 12] * cofactor(A)


def decode_adjoint(
    F: wp.array2d(dtype=mat33),
    R: wp.array2d(dtype=mat33),
    X: wp.array2d(dtype=mat33),
    t: int,
    adj_tau: wp.array(dtype=mat33),
    adj_X: wp.array(dtype=mat33),
    adj_R: wp.array(dtype=mat33),
    adj_F: wp.array(dtype=mat33),
):
    """Adds to adj_F, sets the others."""
    p = wp.tid()
    Y = sym(X[t, p])
    slope = adj_tau[p] @ F[t, p]
    adj_X[p] = sym(wp.transpose(R[t, p]) @ slope)
    adj_R[p] = slope @ Y
    adj_F[p] = adj_F[p] + wp.transpose(adj_tau[p]) @ R[t, p] @ Y


def flow_adjoint(
    R: wp.array2d(dtype=mat33),
    X: wp.array2d(dtype=mat33),
    t: int,
    adj_F: wp.array(dtype=mat33),
    rate: real,
    adj_X: wp.array(dtype=mat33),
    adj_R: wp.array(dtype=mat33),
):
    """What reaches the trial F directly is adj_F itself."""
    p = wp.tid()
    adj_X[p] = rate * sym(wp.transpose(R[t, p]) @ adj_F[p])
    adj_R[p] = rate * (adj_F[p] @ sym(X[t, p]))


def forget_adjoint(F: wp.array2d(dtype=mat33), t: int, adj_F: wp.array(dtype=mat33)):
    """In place."""
    p = wp.tid()
    J = wp.max(wp.determinant(F[t, p]), real(1e-6))
    slope = wp.trace(adj_F[p]) * wp.pow(J, real(-2.0) / real(3.0)) / real(3.0)
    adj_F[p] = slope * cofactor(F[t, p])


def grid_adjoint(grid: wp.array2d(dtype=vec4), t: int, gravity: vec3, dt: real, floor: real, adj: wp.array(dtype=vec4)):
    """In place. A velocity component that a wall took away is exactly 0."""
    i = wp.tid()
    g, a = grid[t, i], adj[i]
    if g[3] > real(0.0):
        ax = wp.where(g[0] == real(0.0), real(0.0), a[0])
        ay = wp.where(g[1] == real(0.0), real(0.0), a[1])
        az = wp.where(g[2] == real(0.0), real(0.0), a[2])
        still = ax * (g[0] - dt * gravity[0]) + ay * (g[1] - dt * gravity[1]) + az * (g[2] - dt * gravity[2])
        adj[i] = vec4(ax, ay, az, -still) / (g[3] + floor)


def g2p_adjoint(
    x: wp.array2d(dtype=vec3),
    v: wp.array2d(dtype=vec3),
    C: wp.array2d(dtype=mat33),
    F: wp.array2d(dtype=mat33),
    grid: wp.array2d(dtype=vec4),
    t: int,
    dt: real,
    dx: real,
    side: int,
    each: int,
    adj_x: wp.array(dtype=vec3),
    adj_v: wp.array(dtype=vec3),
    adj_C: wp.array(dtype=mat33),
    adj_F: wp.array(dtype=mat33),
    adj_grid: wp.array(dtype=vec4),
):
    """From the adjoints of the end of a substep to adj_grid, and to adj_x and adj_F of its start in place."""
    p = wp.tid()
    base = corner(x[t, p], dx)
    f = x[t, p] / dx - base
    line = vec3(real(0.0), real(1.0), real(2.0))
    wx, wy, wz = shares(f[0]), shares(f[1]), shares(f[2])
    sx, sy, sz = slopes(f[0]), slopes(f[1]), slopes(f[2])
    first = place(base, p // each, side)
    low, high = real(0.5) * dx, (real(side) - real(0.5)) * dx
    y = x[t, p] + dt * v[t + 1, p]
    ax = adj_x[p]
    ax = vec3(
        wp.where(y[0] > low and y[0] < high, ax[0], real(0.0)),
        wp.where(y[1] > low and y[1] < high, ax[1], real(0.0)),
        wp.where(y[2] > low and y[2] < high, ax[2], real(0.0)),
    )
    B = (real(4.0) / dx) * (adj_C[p] + dt * (adj_F[p] @ wp.transpose(F[t, p])))
    q = adj_v[p] + dt * ax - B @ f
    found = ax - (wp.transpose(B) @ v[t + 1, p]) / dx
    for a in range(3):
        for b in range(3):
            for c in range(3):
                i = first + (a * side + b) * side + c
                n = grid[t, i]
                k = q + B @ vec3(line[a], line[b], line[c])
                g = (wx[a] * wy[b] * wz[c]) * k
                adj_grid[i] = adj_grid[i] + vec4(g[0], g[1], g[2], real(0.0))
                d = wp.dot(k, vec3(n[0], n[1], n[2])) / dx
                found = found + d * vec3(sx[a] * wy[b] * wz[c], wx[a] * sy[b] * wz[c], wx[a] * wy[b] * sz[c])
    adj_x[p] = found
    adj_F[p] = adj_F[p] + dt * (wp.transpose(C[t + 1, p]) @ adj_F[p])


def p2g_adjoint(
    x: wp.array2d(dtype=vec3),
    v: wp.array2d(dtype=vec3),
    C: wp.array2d(dtype=mat33),
    tau: wp.array2d(dtype=mat33),
    volume: wp.array(dtype=real),
    adj_grid: wp.array(dtype=vec4),
    t: int,
    density: real,
    dt: real,
    dx: real,
    side: int,
    each: int,
    adj_x: wp.array(dtype=vec3),
    adj_v: wp.array(dtype=vec3),
    adj_C: wp.array(dtype=mat33),
    adj_tau: wp.array(dtype=mat33),
):
    """Adds to adj_x, sets the others."""
    p = wp.tid()
    mass = density * volume[p]
    press = real(4.0) * dt * volume[p] / (dx * dx)
    A = mass * C[t, p] - press * tau[t, p]
    base = corner(x[t, p], dx)
    f = x[t, p] / dx - base
    line = vec3(real(0.0), real(1.0), real(2.0))
    wx, wy, wz = shares(f[0]), shares(f[1]), shares(f[2])
    sx, sy, sz = slopes(f[0]), slopes(f[1]), slopes(f[2])
    first = place(base, p // each, side)
    q = mass * v[t, p] - dx * (A @ f)
    total = vec3()
    moment = mat33()
    found = vec3()
    for a in range(3):
        for b in range(3):
            for c in range(3):
                n = adj_grid[first + (a * side + b) * side + c]
                g = vec3(n[0], n[1], n[2])
                o = vec3(line[a], line[b], line[c])
                d = (wp.dot(g, q + dx * (A @ o)) + mass * n[3]) / dx
                found = found + d * vec3(sx[a] * wy[b] * wz[c], wx[a] * sy[b] * wz[c], wx[a] * wy[b] * sz[c])
                g = (wx[a] * wy[b] * wz[c]) * g
                total = total + g
                moment = moment + wp.outer(g, o)
    moment = dx * (moment - wp.outer(total, f))
    adj_x[p] = adj_x[p] + found - wp.transpose(A) @ total
    adj_v[p] = mass * total
    adj_C[p] = mass * moment
    adj_tau[p] = -press * moment


FORWARD = (encode, decode, flow, forget, p2g, grid_update, g2p)
ADJOINTS = (encode_adjoint, decode_adjoint, flow_adjoint, forget_adjoint, p2g_adjoint, grid_adjoint, g2p_adjoint)


@cache
def kernels() -> dict[str, Any]:
    """All of them; Warp compiles at first use."""
    home = "physim_nclaw_plain"
    return {f.__name__: kernel(f, F32, module=home, differentiable=False) for f in (*FORWARD, *ADJOINTS)}


@cache
def taped() -> dict[str, Any]:
    """The transfers, with the adjoints that Warp generates for a `wp.Tape`."""
    return {f.__name__: kernel(f, F32, module="physim_nclaw_taped") for f in (p2g, grid_update, g2p)}
