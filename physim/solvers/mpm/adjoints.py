"""Hand-written adjoints of the two transfers: each is the transposed loop of its kernel in `kernels.py`.

P2G scatters, so its adjoint only gathers; G2P gathers, so its adjoint scatters. Arguments are the kernel's inputs,
then the cotangents of its outputs, then the buffers that the cotangents of its inputs are added to.
"""

from __future__ import annotations

import warp as wp

from physim.numeric import mat33, numeric, real, vec3, vec4
from physim.solvers.mpm.kernels import BLEND, DIM, LAYERS, offsets, outside, spline, wrap

__all__ = ["BLEND", "DIM", "LAYERS", "g2p_adjoint", "p2g_adjoint"]


@numeric
def slope(f: real, dx: real) -> vec3:
    """Derivatives of the spline weights with respect to the particle's position [1/m]."""
    return vec3((f - real(1.5)) / dx, (real(2.0) - real(2.0) * f) / dx, (f - real(0.5)) / dx)


def p2g_adjoint(
    x: wp.array(dtype=vec3),
    v: wp.array(dtype=vec3),
    C: wp.array(dtype=mat33),
    tau: wp.array(dtype=mat33),
    mass: wp.array(dtype=real),
    vol0: wp.array(dtype=real),
    origin: vec3,
    dx: real,
    shape: wp.vec3i,
    periodic: wp.vec3i,
    dt: real,
    adj_grid: wp.array3d(dtype=vec4),
    adj_impulse: wp.array3d(dtype=vec3),
    adj_x: wp.array(dtype=vec3),
    adj_v: wp.array(dtype=vec3),
    adj_C: wp.array(dtype=mat33),
    adj_tau: wp.array(dtype=mat33),
):
    """Cotangents of x, v, C and tau from those of nodal momentum and mass."""
    p = wp.tid()
    s = (x[p] - origin) / dx
    bx = int(wp.floor(s[0] - real(0.5)))
    by = int(wp.floor(s[1] - real(0.5)))
    bz = 0
    fx = s[0] - real(bx)
    fy = s[1] - real(by)
    fz = real(0.0)
    wz = vec3(real(1.0), real(0.0), real(0.0))
    sz = vec3()
    if wp.static(DIM == 3):
        bz = int(wp.floor(s[2] - real(0.5)))
        fz = s[2] - real(bz)
        wz = spline(fz)
        sz = slope(fz, dx)
    if outside(bx, shape[0], periodic[0]) or outside(by, shape[1], periodic[1]):
        return
    if wp.static(DIM == 3):
        if outside(bz, shape[2], periodic[2]):
            return
    wx = spline(fx)
    wy = spline(fy)
    sx = slope(fx, dx)
    sy = slope(fy, dx)
    dx_i = offsets(fx, dx)
    dy_j = offsets(fy, dx)
    dz_k = offsets(fz, dx)
    m = mass[p]
    impulse_scale = real(-4.0) * dt * vol0[p] / (dx * dx)
    A = m * C[p]
    S = impulse_scale * tau[p]
    if wp.static(BLEND == 0):
        A = A + S
    q = m * v[p]
    adj_q = vec3()
    adj_A = mat33()
    adj_S = mat33()
    pull = vec3()
    push = vec3()
    for i in range(3):
        gi = wrap(bx + i, shape[0], periodic[0])
        for j in range(3):
            gj = wrap(by + j, shape[1], periodic[1])
            for k in range(LAYERS):
                gk = wrap(bz + k, shape[2], periodic[2])
                d = vec3(dx_i[i], dy_j[j], dz_k[k])
                w = wx[i] * wy[j] * wz[k]
                rise = vec3(sx[i] * wy[j] * wz[k], wx[i] * sy[j] * wz[k], wx[i] * wy[j] * sz[k])
                g4 = adj_grid[gi, gj, gk]
                g = vec3(g4[0], g4[1], g4[2])
                wg = w * g
                along = wp.dot(g, q + A @ d) + g4[3] * m
                adj_q = adj_q + wg
                adj_A = adj_A + wp.outer(wg, d)
                if wp.static(BLEND == 1):
                    h = adj_impulse[gi, gj, gk]
                    wh = w * h
                    along = along + wp.dot(h, S @ d)
                    adj_S = adj_S + wp.outer(wh, d)
                    push = push + wh
                pull = pull + along * rise
    back = pull - wp.transpose(A) @ adj_q
    if wp.static(BLEND == 1):
        back = back - wp.transpose(S) @ push
    if wp.static(BLEND == 0):
        adj_S = adj_A
    # In 2D no lever arm along z exists, and z moves nothing.
    adj_x[p] = adj_x[p] + vec3(back[0], back[1], real(DIM - 2) * back[2])
    adj_v[p] = adj_v[p] + m * adj_q
    adj_C[p] = adj_C[p] + m * adj_A
    adj_tau[p] = adj_tau[p] + impulse_scale * adj_S


def g2p_adjoint(
    x: wp.array(dtype=vec3),
    v: wp.array(dtype=vec3),
    F: wp.array(dtype=mat33),
    grid_v: wp.array3d(dtype=vec3),
    grid_u: wp.array3d(dtype=vec3),
    blend: real,
    origin: vec3,
    dx: real,
    shape: wp.vec3i,
    periodic: wp.vec3i,
    dt: real,
    substep: int,
    status: wp.array(dtype=wp.int64),
    adj_x_out: wp.array(dtype=vec3),
    adj_v_out: wp.array(dtype=vec3),
    adj_C_out: wp.array(dtype=mat33),
    adj_F_trial: wp.array(dtype=mat33),
    adj_x: wp.array(dtype=vec3),
    adj_v: wp.array(dtype=vec3),
    adj_F: wp.array(dtype=mat33),
    adj_grid_v: wp.array3d(dtype=vec3),
    adj_grid_u: wp.array3d(dtype=vec3),
):
    """Cotangents of x, F and the nodal velocities from those of the moved particle."""
    p = wp.tid()
    s = (x[p] - origin) / dx
    bx = int(wp.floor(s[0] - real(0.5)))
    by = int(wp.floor(s[1] - real(0.5)))
    bz = 0
    fx = s[0] - real(bx)
    fy = s[1] - real(by)
    fz = real(0.0)
    wz = vec3(real(1.0), real(0.0), real(0.0))
    sz = vec3()
    if wp.static(DIM == 3):
        bz = int(wp.floor(s[2] - real(0.5)))
        fz = s[2] - real(bz)
        wz = spline(fz)
        sz = slope(fz, dx)
    wx = spline(fx)
    wy = spline(fy)
    sx = slope(fx, dx)
    sy = slope(fy, dx)
    dx_i = offsets(fx, dx)
    dy_j = offsets(fy, dx)
    dz_k = offsets(fz, dx)
    scale = real(4.0) / (dx * dx)
    g_x = adj_x_out[p]
    g_v = adj_v_out[p]
    g_F = adj_F_trial[p]
    g_vel = g_v + dt * g_x
    g_B = scale * (adj_C_out[p] + dt * (g_F @ wp.transpose(F[p])))
    g_own = blend * g_v
    B = mat33()
    mean = vec3()
    pull = vec3()
    for i in range(3):
        gi = wrap(bx + i, shape[0], periodic[0])
        for j in range(3):
            gj = wrap(by + j, shape[1], periodic[1])
            for k in range(LAYERS):
                gk = wrap(bz + k, shape[2], periodic[2])
                d = vec3(dx_i[i], dy_j[j], dz_k[k])
                w = wx[i] * wy[j] * wz[k]
                rise = vec3(sx[i] * wy[j] * wz[k], wx[i] * sy[j] * wz[k], wx[i] * wy[j] * sz[k])
                u = grid_v[gi, gj, gk]
                g = g_vel + g_B @ d
                wp.atomic_add(adj_grid_v, gi, gj, gk, w * g)
                along = wp.dot(u, g)
                wu = w * u
                B = B + wp.outer(wu, d)
                mean = mean + wu
                if wp.static(BLEND == 1):
                    along = along - wp.dot(grid_u[gi, gj, gk], g_own)
                    wp.atomic_add(adj_grid_u, gi, gj, gk, (-w) * g_own)
                pull = pull + along * rise
    back = pull - wp.transpose(g_B) @ mean
    # In 2D no lever arm along z exists, and z moves nothing.
    adj_x[p] = adj_x[p] + g_x + vec3(back[0], back[1], real(DIM - 2) * back[2])
    adj_F[p] = adj_F[p] + g_F + (dt * scale) * (wp.transpose(B) @ g_F)
    if wp.static(BLEND == 1):
        adj_v[p] = adj_v[p] + g_own
