"""The stages of an MLS-MPM substep over particles in cell order: stress, p2g, g2p, project (nodes: `grid.py`).

Quadratic B-splines, APIC, symplectic Euler (Hu et al. 2018, doi:10.1145/3197517.3201293; Jiang et al. 2015,
doi:10.1145/2766996). Node i sits at origin + i dx. In two dimensions DIM is 2, the grid has one layer and the
stencil nine nodes. With BLEND, a particle also keeps a share of its own velocity that the grid cannot represent
(AFLIP: Fei et al. 2021, doi:10.1145/3450626.3459678), which removes most of the numerical viscosity.

Nodes exist in columns where there are particles (see `layout.py`); a node is a vector and a scalar.
"""

from __future__ import annotations

import warp as wp

from physim.numeric import mat33, numeric, real, vec3, vec4

# Bound when a kernel is built: dimensions, kind of transfer, whether an axis is periodic, whether there are several
# worlds, whether g2p updates F, the sizes and functions of a law, the widest history of the model's laws, and the loops
# over the stencil. All arrays have one axis: for others Warp compiles loops that look up strides.
DIM, BLEND, PERIODIC, WORLDS, STRAIN, HISTORY = 3, 0, 0, 0, 1, 0
params = history = wide_history = stress_of = project_of = scatter = gather = None


@numeric
def report(status: wp.array(dtype=wp.int64), kind: int, substep: int, particle: int):
    """Record the first substep, and in it the lowest particle, at which something went wrong."""
    wp.atomic_min(status, kind, wp.int64(substep) * wp.int64(4294967296) + wp.int64(particle))


@numeric
def first_node(s: real) -> int:
    """First of the three nodes around the position `s`, in cells from the origin."""
    return int(wp.floor(s - real(0.5)))


def stress(
    F: wp.array(dtype=mat33),
    C: wp.array(dtype=mat33),
    h: wp.array(dtype=wide_history),
    theta: wp.array(dtype=params),
    first: int,
    row: int,
    stride: int,
    tau: wp.array(dtype=mat33),
):
    """Kirchhoff stress tau [Pa] of particles of one body from F, the velocity gradient and the history."""
    i = wp.tid()
    p = first + i
    past = history()
    for j in range(HISTORY):
        past[j] = h[p][j]
    tau[p] = stress_of(F[p], C[p], past, theta[(row + i) * stride])


def p2g(
    x: wp.array(dtype=vec3),
    v: wp.array(dtype=vec3),
    C: wp.array(dtype=mat33),
    tau: wp.array(dtype=mat33),
    mass: wp.array(dtype=real),
    vol0: wp.array(dtype=real),
    shift: wp.array(dtype=vec3),
    origin: vec3,
    per_dx: real,
    columns: wp.array(dtype=wp.int32),
    width: int,
    place: int,
    places: wp.array(dtype=wp.int32),
    dt: real,
    first: int,
    substep: int,
    stray: wp.array(dtype=wp.int32),
    grid: wp.array(dtype=vec4),
    impulse: wp.array(dtype=vec4),
):
    """Scatter momentum, with the impulse of the stress, and mass to the grid."""
    if stray[0] < substep:
        return
    p = first + wp.tid()
    table = place
    if wp.static(WORLDS == 1):
        table = places[p]
    at = x[p]
    if wp.static(PERIODIC == 1):
        at = at - shift[p]
    m = mass[p]
    A = m * C[p]
    S = (real(-4.0) * dt * vol0[p] * per_dx * per_dx) * tau[p]
    if wp.static(BLEND == 0):
        A = A + S
    scatter(at, m * v[p], A, m, origin, per_dx, columns, width, table, grid)
    if wp.static(BLEND == 1):
        scatter(at, vec3(), S, real(0.0), origin, per_dx, columns, width, table, impulse)


def g2p(
    x: wp.array(dtype=vec3),
    v: wp.array(dtype=vec3),
    F: wp.array(dtype=mat33),
    grid_v: wp.array(dtype=vec4),
    grid_u: wp.array(dtype=vec4),
    shift: wp.array(dtype=vec3),
    home: wp.array(dtype=wp.vec3i),
    order: wp.array(dtype=wp.int32),
    origin: vec3,
    per_dx: real,
    columns: wp.array(dtype=wp.int32),
    width: int,
    place: int,
    places: wp.array(dtype=wp.int32),
    last_node: wp.vec3i,
    blend: real,
    dt: real,
    first: int,
    substep: int,
    stray: wp.array(dtype=wp.int32),
    status: wp.array(dtype=wp.int64),
    x_out: wp.array(dtype=vec3),
    v_out: wp.array(dtype=vec3),
    C_out: wp.array(dtype=mat33),
    F_out: wp.array(dtype=mat33),
):
    """Gather velocity and its APIC affine part, move the particle, and (with STRAIN) update F = (I + dt C) F.

    A particle that has moved by more than a cell since the layout was made is reported as a stray.
    """
    if stray[0] < substep:
        return
    p = first + wp.tid()
    table = place
    if wp.static(WORLDS == 1):
        table = places[p]
    at = x[p]
    if wp.static(PERIODIC == 1):
        at = at - shift[p]
    sums = gather(at, origin, per_dx, columns, width, table, grid_v)
    vel = sums[0]
    C = (real(4.0) * per_dx * per_dx) * wp.matrix_from_cols(sums[1], sums[2], sums[3])
    speed = wp.dot(vel, vel) * dt * dt * per_dx * per_dx
    if not (speed < real(1.0)):
        if speed >= real(1.0):
            report(status, 2, substep, order[p])
        else:
            report(status, 0, substep, order[p])
            wp.atomic_min(stray, 0, substep)
    moved = x[p] + dt * vel
    x_out[p] = moved
    if wp.static(PERIODIC == 1):
        moved = moved - shift[p]
    s = (moved - origin) * per_dx
    start = home[p]
    for axis in range(DIM):
        node = first_node(s[axis])
        if wp.abs(node - start[axis]) > 1:
            wp.atomic_min(stray, 0, substep)
        if last_node[axis] >= 0 and (node < 0 or node > last_node[axis]):
            report(status, 1, substep, order[p])
    C_out[p] = C
    if wp.static(STRAIN == 1):
        F_out[p] = F[p] + dt * (C @ F[p])
    if wp.static(BLEND == 0):
        v_out[p] = vel
    if wp.static(BLEND == 1):
        before = gather(at, origin, per_dx, columns, width, table, grid_u)
        v_out[p] = vel + blend * (v[p] - before[0])


def project(
    F: wp.array(dtype=mat33),
    h: wp.array(dtype=wide_history),
    C_out: wp.array(dtype=mat33),
    theta: wp.array(dtype=params),
    first: int,
    row: int,
    stride: int,
    dt: real,
    substep: int,
    stray: wp.array(dtype=wp.int32),
    F_out: wp.array(dtype=mat33),
    h_out: wp.array(dtype=wide_history),
):
    """Return mapping: F and history after plastic or viscous flow from F_trial = (I + dt C) F."""
    if stray[0] < substep:
        return
    i = wp.tid()
    p = first + i
    past = history()
    for j in range(HISTORY):
        past[j] = h[p][j]
    step = dt * C_out[p]
    f = wp.identity(n=3, dtype=real) + step
    F_new, now = project_of(F[p] + step @ F[p], past, f, theta[(row + i) * stride], dt)
    F_out[p] = F_new
    if wp.static(HISTORY > 0):
        kept = wide_history()
        for j in range(HISTORY):
            kept[j] = now[j]
        h_out[p] = kept


def examine(
    x: wp.array(dtype=vec3),
    v: wp.array(dtype=vec3),
    C: wp.array(dtype=mat33),
    F: wp.array(dtype=mat33),
    h: wp.array(dtype=wide_history),
    start: int,
    size: int,
    each: int,
    columns: int,
    positive: int,
    substep: int,
    status: wp.array(dtype=wp.int64),
):
    """Report the particles of one body whose state cannot be gone on from; `positive` asks for det F > 0.

    The body has `size` particles from `start` on in each world of `each` particles.
    """
    i = wp.tid()
    p = (i / size) * each + start + i % size
    if not wp.isfinite(x[p]):
        report(status, 3, substep, p)
    if not wp.isfinite(v[p]):
        report(status, 4, substep, p)
    if not wp.isfinite(C[p]):
        report(status, 5, substep, p)
    if not wp.isfinite(F[p]):
        report(status, 6, substep, p)
    for j in range(columns):
        if not wp.isfinite(h[p][j]):
            report(status, 7, substep, p)
    if positive != 0 and wp.determinant(F[p]) <= real(0.0):
        report(status, 8, substep, p)
