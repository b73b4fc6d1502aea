"""The stages of a total-Lagrangian substep: drift, gather, project, stress, spread, kick.

    drift    q = u + dt w
    gather   F = I + sum_i q_i (x) grad N_i,  G = sum_i w_i (x) grad N_i
    project  F_e, h = map(F (F - dt G)^-1 F_e, h), for laws with history
    stress   tau(F_e, G F^-1, h)
    spread   f_i = -sum_p V_p tau_p F_p^-T grad N_i
    kick     w <- w + dt (f + load) / m, with the conditions of `boundary`;  u <- q

Weights are constant, so gather and spread are linear maps with constant coefficients and each other's transpose up to
the volume. One thread handles one element (the particles of one body in one cell): it writes the forces on its own
stencil into its own block, and one thread per node group then sums blocks; no atomics, the same order every time.
With BAR the stress is that of F (J_bar/J)^(beta/d), J_bar the mean volume ratio of the element: the F-bar of de Souza
Neto et al. 1996 (doi:10.1016/0020-7683(95)00259-6) to the part beta, with the forces that follow from its energy.
"""

from __future__ import annotations

import warp as wp

from physim.numeric import mat33, numeric, real, vec3
from physim.tensor import cofactor

# Bound when a kernel is built; SHARE is 1 / DIM.
DIM, RATE, BAR, HISTORY, MOTION, LANES = 3, 1, 0, 0, 0, 8
SHARE = 1.0 / 3.0
params = history = stress_of = project_of = gather_block = spread_block = None


@numeric
def scaled(F: mat33, s: real, dim: int) -> mat33:
    """`F` with its live rows times `s`."""
    z = s
    if dim == 2:
        z = real(1.0)
    return mat33(
        s * F[0, 0],
        s * F[0, 1],
        s * F[0, 2],
        s * F[1, 0],
        s * F[1, 1],
        s * F[1, 2],
        z * F[2, 0],
        z * F[2, 1],
        z * F[2, 2],
    )


@numeric
def plane_trace(A: mat33, dim: int) -> real:
    """Trace over the live axes."""
    t = A[0, 0] + A[1, 1]
    if dim == 3:
        t = t + A[2, 2]
    return t


@numeric
def plane_identity(dim: int) -> mat33:
    """Identity on the live axes."""
    one = real(1.0)
    last = real(0.0)
    if dim == 3:
        last = one
    return mat33(one, real(0.0), real(0.0), real(0.0), one, real(0.0), real(0.0), real(0.0), last)


def drift(u: wp.array(dtype=vec3), w: wp.array(dtype=vec3), dt: real, q: wp.array(dtype=vec3)):
    """Advance the displacement: q = u + dt w."""
    i = wp.tid()
    q[i] = u[i] + w[i] * dt


def gather(
    q: wp.array(dtype=vec3),
    w: wp.array(dtype=vec3),
    rows: wp.array2d(dtype=wp.int32),
    lanes: wp.array(dtype=real),
    blocks: wp.array(dtype=wp.int32),
    first: wp.array(dtype=wp.int32),
    vol0: wp.array(dtype=real),
    order: wp.array(dtype=wp.int32),
    substep: int,
    F: wp.array(dtype=mat33),
    G: wp.array(dtype=mat33),
    J_bar: wp.array(dtype=real),
    status: wp.array(dtype=wp.int64),
):
    """F = I + dq/dX and G = dw/dX of an element's particles, and its mean volume ratio."""
    e = wp.tid()
    for b in range(blocks[e], blocks[e + 1]):
        start = first[e] + (b - blocks[e]) * LANES
        count = wp.min(LANES, first[e + 1] - start)
        gather_block(q, rows, lanes, e, b, start, count, real(1.0), F)
        if RATE == 1:
            gather_block(w, rows, lanes, e, b, start, count, real(0.0), G)
    volume = real(0.0)
    total = real(0.0)
    for p in range(first[e], first[e + 1]):
        J = wp.determinant(F[p])
        volume += vol0[p] * J
        total += vol0[p]
        # A NaN fails the comparison too, and is told apart by its kind.
        if not J > real(0.0):
            kind = wp.where(wp.isfinite(J), 1, 0)
            wp.atomic_min(status, kind, wp.int64(substep) * wp.int64(4294967296) + wp.int64(order[p]))
    J_bar[e] = volume / total


def project(
    F: wp.array(dtype=mat33),
    G: wp.array(dtype=mat33),
    dt: real,
    F_old: wp.array(dtype=mat33),
    h_old: wp.array2d(dtype=real),
    theta: wp.array(dtype=params),
    start: int,
    stride: int,
    F_new: wp.array(dtype=mat33),
    h_new: wp.array2d(dtype=real),
):
    """Elastic deformation and history after the substep's deformation and the law's return map."""
    i = wp.tid()
    p = start + i
    parameters = theta[i * stride]
    past = history()
    for j in range(HISTORY):
        past[j] = h_old[p, j]
    f = F[p] @ wp.inverse(F[p] - G[p] * dt)
    elastic, after = project_of(f @ F_old[p], past, f, parameters, dt)
    F_new[p] = elastic
    for j in range(HISTORY):
        h_new[p, j] = after[j]


def stress(
    F: wp.array(dtype=mat33),
    G: wp.array(dtype=mat33),
    F_e: wp.array(dtype=mat33),
    h: wp.array2d(dtype=real),
    J_bar: wp.array(dtype=real),
    beta: wp.array(dtype=real),
    element: wp.array(dtype=wp.int32),
    theta: wp.array(dtype=params),
    start: int,
    stride: int,
    tau: wp.array(dtype=mat33),
):
    """Kirchhoff stress [Pa] of one body's particles; with BAR, of a deformation nearer the element's volume ratio."""
    i = wp.tid()
    p = start + i
    parameters = theta[i * stride]
    past = history()
    for j in range(HISTORY):
        past[j] = h[p, j]
    L = mat33()
    if RATE == 1:
        L = G[p] @ wp.inverse(F[p])
    E = F_e[p]
    if BAR == 1:
        e = element[p]
        # exp(log) instead of pow for the sake of its adjoint.
        E = scaled(E, wp.exp(beta[e] * SHARE * wp.log(J_bar[e] / wp.determinant(F[p]))), DIM)
    tau[p] = stress_of(E, L, past, parameters)


def spread(
    tau: wp.array(dtype=mat33),
    F: wp.array(dtype=mat33),
    J_bar: wp.array(dtype=real),
    beta: wp.array(dtype=real),
    row_weights: wp.array(dtype=real),
    first: wp.array(dtype=wp.int32),
    vol0: wp.array(dtype=real),
    P: wp.array(dtype=mat33),
    block: wp.array2d(dtype=vec3),
):
    """Forces [N] of an element's particles on its stencil; `P` is scratch for -V P."""
    e = wp.tid()
    pressure = real(0.0)
    if BAR == 1:
        total = real(0.0)
        for p in range(first[e], first[e + 1]):
            pressure += vol0[p] * plane_trace(tau[p], DIM) * SHARE
            total += vol0[p]
        pressure = pressure / (total * J_bar[e])
    for p in range(first[e], first[e + 1]):
        T = tau[p]
        C = cofactor(F[p])
        J = F[p][0, 0] * C[0, 0] + F[p][0, 1] * C[0, 1] + F[p][0, 2] * C[0, 2]
        if BAR == 1:
            T = T + plane_identity(DIM) * (beta[e] * (pressure * J - plane_trace(T, DIM) * SHARE))
        P[p] = T @ C * (-vol0[p] / J)
    spread_block(P, row_weights, e, first[e], first[e + 1] - first[e], block)


@numeric
def collect(
    block: wp.array(dtype=vec3), first: wp.array(dtype=wp.int32), places: wp.array(dtype=wp.int32), node: int
) -> vec3:
    """Sum of the element blocks at one node."""
    total = vec3()
    for k in range(first[node], first[node + 1]):
        total += block[places[k]]
    return total


@numeric
def clamp_velocity(
    position: wp.array(dtype=vec3),
    velocity: wp.array(dtype=vec3),
    turning: wp.array(dtype=mat33),
    c: int,
    since: real,
    place: vec3,
) -> vec3:
    """Velocity of a clamp at `place`; `turning` is (rotation over dt - I) / dt, so that circles close."""
    return velocity[c] + turning[c] @ (place - position[c] - velocity[c] * since)


def kick(
    q: wp.array(dtype=vec3),
    w: wp.array(dtype=vec3),
    load: wp.array(dtype=vec3),
    position: wp.array(dtype=vec3),
    velocity: wp.array(dtype=vec3),
    turning: wp.array(dtype=mat33),
    dt: real,
    substep: int,
    block: wp.array(dtype=vec3),
    node_first: wp.array(dtype=wp.int32),
    node_places: wp.array(dtype=wp.int32),
    group_first: wp.array(dtype=wp.int32),
    members: wp.array(dtype=wp.int32),
    sign: wp.array(dtype=vec3),
    clamp: wp.array(dtype=wp.int32),
    held: wp.array(dtype=vec3),
    rest: wp.array(dtype=vec3),
    inverse_mass: wp.array(dtype=vec3),
    w_new: wp.array(dtype=vec3),
    status: wp.array(dtype=wp.int64),
):
    """Kick one group of nodes by the forces on all its members, and apply the conditions."""
    g = wp.tid()
    leader = members[group_first[g]]
    force = vec3()
    for k in range(group_first[g], group_first[g + 1]):
        i = members[k]
        force += wp.cw_mul(sign[i], collect(block, node_first, node_places, i) + load[i])
    base = w[leader] + wp.cw_mul(inverse_mass[leader], force) * dt
    for k in range(group_first[g], group_first[g + 1]):
        i = members[k]
        out = wp.cw_mul(sign[i], base) + held[i]
        if MOTION == 1:
            if clamp[i] >= 0:
                place = (rest[i] + q[i] + rest[leader] + q[leader]) * real(0.5)
                moved = clamp_velocity(position, velocity, turning, clamp[i], real(substep + 1) * dt, place)
                out += wp.cw_mul(vec3(real(1.0), real(1.0), real(1.0)) - sign[i], moved)
        w_new[i] = out
    if not wp.isfinite(wp.length(base)):
        wp.atomic_min(status, 2, wp.int64(substep) * wp.int64(4294967296) + wp.int64(leader))
