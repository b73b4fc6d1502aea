"""Hand-written adjoints of the stages of `kernels` that know no law, in the order in which they run backwards."""

from __future__ import annotations

import warp as wp

from physim.numeric import mat33, real, vec3
from physim.solvers.solid.kernels import collect, plane_identity, plane_trace
from physim.tensor import cofactor

# Bound when a kernel is built; SHARE is 1 / DIM.
DIM, RATE, BAR, MOTION, LANES = 3, 1, 0, 0, 8
SHARE = 1.0 / 3.0
gather_block = spread_block = None


def kick_adjoint(
    q: wp.array(dtype=vec3),
    position: wp.array(dtype=vec3),
    velocity: wp.array(dtype=vec3),
    turning: wp.array(dtype=mat33),
    dt: real,
    substep: int,
    group_first: wp.array(dtype=wp.int32),
    members: wp.array(dtype=wp.int32),
    sign: wp.array(dtype=vec3),
    clamp: wp.array(dtype=wp.int32),
    rest: wp.array(dtype=vec3),
    inverse_mass: wp.array(dtype=vec3),
    adj_w_new: wp.array(dtype=vec3),
    adj_q: wp.array(dtype=vec3),
    adj_w: wp.array(dtype=vec3),
    adj_load: wp.array(dtype=vec3),
    adj_position: wp.array(dtype=vec3),
    adj_velocity: wp.array(dtype=vec3),
    adj_turning: wp.array(dtype=mat33),
    gamma: wp.array(dtype=vec3),
):
    """Adjoint of `kick`; overwrites gamma, the adjoint of the nodal forces, and adds to the others."""
    g = wp.tid()
    leader = members[group_first[g]]
    adj_base = vec3()
    for k in range(group_first[g], group_first[g + 1]):
        i = members[k]
        adj_base += wp.cw_mul(sign[i], adj_w_new[i])
        if MOTION == 1:
            c = clamp[i]
            if c >= 0:
                since = real(substep + 1) * dt
                arm = (rest[i] + q[i] + rest[leader] + q[leader]) * real(0.5) - position[c] - velocity[c] * since
                adj_v = wp.cw_mul(vec3(real(1.0), real(1.0), real(1.0)) - sign[i], adj_w_new[i])
                adj_arm = wp.transpose(turning[c]) @ adj_v
                wp.atomic_add(adj_velocity, c, adj_v - adj_arm * since)
                wp.atomic_add(adj_position, c, -adj_arm)
                wp.atomic_add(adj_turning, c, wp.outer(adj_v, arm))
                adj_q[i] = adj_q[i] + adj_arm * real(0.5)
                adj_q[leader] = adj_q[leader] + adj_arm * real(0.5)
    adj_w[leader] = adj_w[leader] + adj_base
    adj_force = wp.cw_mul(inverse_mass[leader], adj_base) * dt
    for k in range(group_first[g], group_first[g + 1]):
        i = members[k]
        share = wp.cw_mul(sign[i], adj_force)
        gamma[i] = share
        adj_load[i] = adj_load[i] + share


def spread_adjoint(
    gamma: wp.array(dtype=vec3),
    tau: wp.array(dtype=mat33),
    F: wp.array(dtype=mat33),
    J_bar: wp.array(dtype=real),
    beta: wp.array(dtype=real),
    rows: wp.array2d(dtype=wp.int32),
    lanes: wp.array(dtype=real),
    blocks: wp.array(dtype=wp.int32),
    first: wp.array(dtype=wp.int32),
    vol0: wp.array(dtype=real),
    adj_tau: wp.array(dtype=mat33),
    adj_F: wp.array(dtype=mat33),
    adj_G: wp.array(dtype=mat33),
    adj_J_bar: wp.array(dtype=real),
):
    """Adjoints of `spread` from gamma, the adjoint of the nodal force; overwrites them and clears that of G."""
    e = wp.tid()
    for b in range(blocks[e], blocks[e + 1]):
        start = first[e] + (b - blocks[e]) * LANES
        # The gradient of gamma waits where the result will be.
        gather_block(gamma, rows, lanes, e, b, start, wp.min(LANES, first[e + 1] - start), real(0.0), adj_tau)
    pressure = real(0.0)
    total = real(0.0)
    if BAR == 1:
        for p in range(first[e], first[e + 1]):
            pressure += vol0[p] * plane_trace(tau[p], DIM) * SHARE
            total += vol0[p]
        pressure = pressure / (total * J_bar[e])
    adj_pressure = real(0.0)
    for p in range(first[e], first[e + 1]):
        J = wp.determinant(F[p])
        inverse = wp.transpose(cofactor(F[p])) / J
        adj_P = adj_tau[p] * (-vol0[p])
        T = tau[p]
        if BAR == 1:
            T = T + plane_identity(DIM) * (beta[e] * (pressure * J - plane_trace(T, DIM) * SHARE))
        adj_T = adj_P @ inverse
        # P = T F^-T and dF^-T = -F^-T dF^T F^-T.
        adj_now = wp.transpose(inverse) @ wp.transpose(adj_P) @ T @ wp.transpose(inverse) * real(-1.0)
        if BAR == 1:
            t = plane_trace(adj_T, DIM) * beta[e]
            adj_pressure += t * J
            adj_now = adj_now + wp.transpose(inverse) * (t * pressure * J)
            adj_T = adj_T - plane_identity(DIM) * (t * SHARE)
        adj_tau[p] = adj_T
        adj_F[p] = adj_now
        if RATE == 1:
            adj_G[p] = mat33()
    adj_J_bar[e] = real(0.0)
    if BAR == 1:
        adj_J_bar[e] = -adj_pressure * pressure / J_bar[e]
        for p in range(first[e], first[e + 1]):
            share = adj_pressure * vol0[p] * SHARE / (total * J_bar[e])
            adj_tau[p] = adj_tau[p] + plane_identity(DIM) * share


def gather_adjoint(
    adj_F: wp.array(dtype=mat33),
    adj_G: wp.array(dtype=mat33),
    adj_J_bar: wp.array(dtype=real),
    F: wp.array(dtype=mat33),
    row_weights: wp.array(dtype=real),
    first: wp.array(dtype=wp.int32),
    vol0: wp.array(dtype=real),
    block_q: wp.array2d(dtype=vec3),
    block_w: wp.array2d(dtype=vec3),
):
    """Adjoints of `gather` with respect to q = u + dt w and to the w in G, in element blocks."""
    e = wp.tid()
    count = first[e + 1] - first[e]
    if BAR == 1:
        total = real(0.0)
        for p in range(first[e], first[e + 1]):
            total += vol0[p]
        mean = adj_J_bar[e] / total
        for p in range(first[e], first[e + 1]):
            adj_F[p] = adj_F[p] + cofactor(F[p]) * (mean * vol0[p])
    spread_block(adj_F, row_weights, e, first[e], count, block_q)
    if RATE == 1:
        spread_block(adj_G, row_weights, e, first[e], count, block_w)


def drift_adjoint(
    adj_q: wp.array(dtype=vec3),
    block_q: wp.array(dtype=vec3),
    block_w: wp.array(dtype=vec3),
    node_first: wp.array(dtype=wp.int32),
    node_places: wp.array(dtype=wp.int32),
    dt: real,
    adj_u: wp.array(dtype=vec3),
    adj_w: wp.array(dtype=vec3),
):
    """Sum the adjoints of the element blocks at each node, and undo q = u + dt w."""
    i = wp.tid()
    back = adj_q[i] + collect(block_q, node_first, node_places, i)
    adj_u[i] = adj_u[i] + back
    adj_w[i] = adj_w[i] + back * dt
    if RATE == 1:
        adj_w[i] = adj_w[i] + collect(block_w, node_first, node_places, i)
