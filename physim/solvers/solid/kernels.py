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

# Bound when a kernel is built; SHARE is 1 / DIM.
LAYERS, DIM, RATE, BAR, PARAMS, HISTORY, MOTION = 3, 3, 1, 0, 0, 0, 0
SHARE = 1.0 / 3.0
params = history = stress_of = project_of = None


@numeric
def outer_sum(
    field: wp.array(dtype=vec3),
    rows: wp.array2d(dtype=wp.int32),
    weights: wp.array2d(dtype=real),
    e: int,
    p: int,
    layers: int,
) -> mat33:
    """Sum over the stencil of field_i (x) grad N_i."""
    z0 = weights[p, 12]
    z1 = weights[p, 13]
    z2 = weights[p, 14]
    y0 = weights[p, 15]
    y1 = weights[p, 16]
    y2 = weights[p, 17]
    first = vec3()
    middle = vec3()
    last = vec3()
    for a in range(3):
        na = weights[p, a]
        da = weights[p, 3 + a]
        for b in range(layers):
            nb = weights[p, 6 + b]
            db = weights[p, 9 + b]
            at = rows[e, a * layers + b]
            f0 = field[at]
            f1 = field[at + 1]
            f2 = field[at + 2]
            value = f0 * z0 + f1 * z1 + f2 * z2
            slope = f0 * y0 + f1 * y1 + f2 * y2
            first += value * (da * nb)
            middle += value * (na * db)
            last += slope * (na * nb)
    # In two dimensions rows run along y, the last stencil axis; z is idle.
    if layers == 1:
        middle = last
        last = vec3()
    return mat33(first[0], middle[0], last[0], first[1], middle[1], last[1], first[2], middle[2], last[2])


@numeric
def add_outer(
    block: wp.array2d(dtype=vec3), weights: wp.array2d(dtype=real), e: int, p: int, layers: int, P: mat33
):
    """Add P grad N_i to every stencil node's place in the element's block: the transpose of `outer_sum`."""
    z0 = weights[p, 12]
    z1 = weights[p, 13]
    z2 = weights[p, 14]
    y0 = weights[p, 15]
    y1 = weights[p, 16]
    y2 = weights[p, 17]
    first = vec3(P[0, 0], P[1, 0], P[2, 0])
    middle = vec3(P[0, 1], P[1, 1], P[2, 1])
    last = vec3(P[0, 2], P[1, 2], P[2, 2])
    if layers == 1:
        last = middle
        middle = vec3()
    for a in range(3):
        na = weights[p, a]
        da = weights[p, 3 + a]
        for b in range(layers):
            nb = weights[p, 6 + b]
            db = weights[p, 9 + b]
            value = first * (da * nb) + middle * (na * db)
            slope = last * (na * nb)
            at = (a * layers + b) * 3
            block[e, at] = block[e, at] + value * z0 + slope * y0
            block[e, at + 1] = block[e, at + 1] + value * z1 + slope * y1
            block[e, at + 2] = block[e, at + 2] + value * z2 + slope * y2


@numeric
def clear(block: wp.array2d(dtype=vec3), e: int, layers: int):
    """Set an element's block to zero."""
    for i in range(9 * layers):
        block[e, i] = vec3()


@numeric
def cofactor(F: mat33) -> mat33:
    """J F^-T, which is also dJ/dF."""
    a = vec3(F[0, 0], F[0, 1], F[0, 2])
    b = vec3(F[1, 0], F[1, 1], F[1, 2])
    c = vec3(F[2, 0], F[2, 1], F[2, 2])
    x = wp.cross(b, c)
    y = wp.cross(c, a)
    z = wp.cross(a, b)
    return mat33(x[0], x[1], x[2], y[0], y[1], y[2], z[0], z[1], z[2])


@numeric
def scaled(F: mat33, s: real, dim: int) -> mat33:
    """`F` with its in-plane part times `s`: the whole of it in 3D."""
    S = wp.identity(n=3, dtype=real) * s
    if dim == 2:
        S = mat33(s, real(0.0), real(0.0), real(0.0), s, real(0.0), real(0.0), real(0.0), real(1.0))
    return S @ F


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
    weights: wp.array2d(dtype=real),
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
    volume = real(0.0)
    total = real(0.0)
    for p in range(first[e], first[e + 1]):
        now = wp.identity(n=3, dtype=real) + outer_sum(q, rows, weights, e, p, LAYERS)
        J = wp.determinant(now)
        F[p] = now
        if RATE == 1:
            G[p] = outer_sum(w, rows, weights, e, p, LAYERS)
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
    theta: wp.array2d(dtype=real),
    start: int,
    stride: int,
    F_new: wp.array(dtype=mat33),
    h_new: wp.array2d(dtype=real),
):
    """Elastic deformation and history after the substep's deformation and the law's return map."""
    i = wp.tid()
    p = start + i
    parameters = params()
    for j in range(PARAMS):
        parameters[j] = theta[i * stride, j]
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
    theta: wp.array2d(dtype=real),
    start: int,
    stride: int,
    tau: wp.array(dtype=mat33),
):
    """Kirchhoff stress [Pa] of one body's particles; with BAR, of a deformation nearer the element's volume ratio."""
    i = wp.tid()
    p = start + i
    parameters = params()
    for j in range(PARAMS):
        parameters[j] = theta[i * stride, j]
    past = history()
    for j in range(HISTORY):
        past[j] = h[p, j]
    L = mat33()
    if RATE == 1:
        L = G[p] @ wp.inverse(F[p])
    E = F_e[p]
    if BAR == 1:
        e = element[p]
        E = scaled(E, wp.pow(J_bar[e] / wp.determinant(F[p]), beta[e] * SHARE), DIM)
    tau[p] = stress_of(E, L, past, parameters)


def spread(
    tau: wp.array(dtype=mat33),
    F: wp.array(dtype=mat33),
    J_bar: wp.array(dtype=real),
    beta: wp.array(dtype=real),
    weights: wp.array2d(dtype=real),
    first: wp.array(dtype=wp.int32),
    vol0: wp.array(dtype=real),
    block: wp.array2d(dtype=vec3),
):
    """Forces [N] of an element's particles on its stencil."""
    e = wp.tid()
    clear(block, e, LAYERS)
    pressure = real(0.0)
    if BAR == 1:
        total = real(0.0)
        for p in range(first[e], first[e + 1]):
            pressure += vol0[p] * plane_trace(tau[p], DIM) * SHARE
            total += vol0[p]
        pressure = pressure / (total * J_bar[e])
    for p in range(first[e], first[e + 1]):
        T = tau[p]
        J = wp.determinant(F[p])
        if BAR == 1:
            T = T + plane_identity(DIM) * (beta[e] * (pressure * J - plane_trace(T, DIM) * SHARE))
        add_outer(block, weights, e, p, LAYERS, T @ cofactor(F[p]) * (-vol0[p] / J))


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
