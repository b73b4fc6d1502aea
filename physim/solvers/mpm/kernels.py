"""The stages of an MLS-MPM substep on particles in cell order: stress, p2g, grid_update, g2p, project.

Quadratic B-splines, APIC, symplectic Euler (Hu et al. 2018, doi:10.1145/3197517.3201293; Jiang et al. 2015,
doi:10.1145/2766996). Node i sits at origin + i dx. In two dimensions DIM is 2, the grid has one layer and the
stencil nine nodes. With BLEND, a particle also keeps a share of its own velocity that the grid cannot represent
(AFLIP: Fei et al. 2021, doi:10.1145/3450626.3459678), which removes most of the numerical viscosity.

Nodes exist in columns where there are particles (see `layout.py`); a node is a vector and a scalar.
"""

from __future__ import annotations

import warp as wp

from physim.numeric import mat33, numeric, real, vec3, vec4
from physim.solvers.mpm.boundary import (
    box_distance,
    contact_velocity,
    field_distance,
    image_of,
    image_value,
    side_of,
    sphere_distance,
    turn,
)

# Bound when a kernel is built: dimensions, kind of transfer, whether an axis is periodic, whether g2p updates F, images
# per axis (2 with mirrored walls or a periodic axis), whether contact forces are summed, the geometry of each
# collider, a law's sizes and functions, and the loops over the stencil.
DIM, BLEND, PERIODIC, STRAIN, SIDES, FORCES, PARAMS, HISTORY = 3, 0, 0, 1, 1, 0, 0, 0
KINDS = ()
params = history = stress_of = project_of = scatter = gather = None


@numeric
def report(status: wp.array(dtype=wp.int64), kind: int, substep: int, particle: int):
    """Record the first substep, and in it the lowest particle, at which something went wrong."""
    wp.atomic_min(status, kind, wp.int64(substep) * wp.int64(4294967296) + wp.int64(particle))


@numeric
def first_node(s: real) -> int:
    """First of the three nodes around the position `s`, in cells from the origin."""
    return int(wp.floor(s - real(0.5)))


def clear(first: int, grid: wp.array(dtype=vec4), impulse: wp.array(dtype=vec4)):
    """Zero nodal sums."""
    node = first + wp.tid()
    grid[node] = vec4()
    if wp.static(BLEND == 1):
        impulse[node] = vec4()


def merge(
    first: int,
    odd_grid: wp.array(dtype=vec4),
    odd_impulse: wp.array(dtype=vec4),
    grid: wp.array(dtype=vec4),
    impulse: wp.array(dtype=vec4),
):
    """Add what odd slabs have scattered to what even slabs have, and zero it for the next time."""
    node = first + wp.tid()
    grid[node] = grid[node] + odd_grid[node]
    odd_grid[node] = vec4()
    if wp.static(BLEND == 1):
        impulse[node] = impulse[node] + odd_impulse[node]
        odd_impulse[node] = vec4()


def stress(
    F: wp.array(dtype=mat33),
    C: wp.array(dtype=mat33),
    h: wp.array2d(dtype=real),
    theta: wp.array2d(dtype=real),
    first: int,
    row: int,
    stride: int,
    tau: wp.array(dtype=mat33),
):
    """Kirchhoff stress tau [Pa] of particles of one body from F, the velocity gradient and the history."""
    i = wp.tid()
    p = first + i
    parameters = params()
    for j in range(PARAMS):
        parameters[j] = theta[(row + i) * stride, j]
    past = history()
    for j in range(HISTORY):
        past[j] = h[p, j]
    tau[p] = stress_of(F[p], C[p], past, parameters)


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
    low_a: int,
    low_b: int,
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
    at = x[p]
    if wp.static(PERIODIC == 1):
        at = at - shift[p]
    m = mass[p]
    A = m * C[p]
    S = (real(-4.0) * dt * vol0[p] * per_dx * per_dx) * tau[p]
    if wp.static(BLEND == 0):
        A = A + S
    scatter(at, m * v[p], A, m, origin, per_dx, columns, width, low_a, low_b, grid)
    if wp.static(BLEND == 1):
        scatter(at, vec3(), S, real(0.0), origin, per_dx, columns, width, low_a, low_b, impulse)


@numeric
def node_index(
    i: int,
    j: int,
    k: int,
    columns: wp.array(dtype=wp.int32),
    column_low: wp.array(dtype=wp.int32),
    column_high: wp.array(dtype=wp.int32),
    width: int,
    low_a: int,
    low_b: int,
    dim: int,
) -> int:
    """Place of a node in the list of nodes, or -1 if no particle is near it."""
    a = i + low_a
    b = j + low_b
    r = k
    if dim == 2:
        b = k + low_b
        r = j
    found = -1
    if a >= 0 and b >= 0 and b < width:
        c = a * width + b
        if c < columns.shape[0]:
            if r >= column_low[c] and r < column_high[c]:
                found = columns[c] + r
    return found


def grid_update(
    grid: wp.array(dtype=vec4),
    impulse: wp.array(dtype=vec4),
    node_column: wp.array(dtype=wp.int32),
    columns: wp.array(dtype=wp.int32),
    column_low: wp.array(dtype=wp.int32),
    column_high: wp.array(dtype=wp.int32),
    width: int,
    low_a: int,
    low_b: int,
    first: int,
    gravity: wp.array(dtype=vec3),
    origin: vec3,
    per_dx: real,
    dt: real,
    period: wp.vec3i,
    wall_plane: wp.array(dtype=wp.int32),
    wall_kind: wp.array(dtype=wp.int32),
    wall_velocity: wp.array(dtype=vec3),
    collider_mode: wp.array(dtype=wp.int32),
    collider_friction: wp.array(dtype=real),
    collider_size: wp.array(dtype=vec3),
    field_at: wp.array(dtype=wp.int32),
    field_dims: wp.array(dtype=wp.vec3i),
    field_origin: wp.array(dtype=vec3),
    field_spacing: wp.array(dtype=real),
    field_values: wp.array(dtype=real),
    position: wp.array(dtype=vec3),
    rotation: wp.array(dtype=mat33),
    velocity: wp.array(dtype=vec3),
    spin: wp.array(dtype=vec3),
    elapsed: real,
    mass_floor: real,
    grid_v: wp.array(dtype=vec4),
    grid_u: wp.array(dtype=vec4),
    contact_force: wp.array(dtype=vec3),
):
    """Nodal velocity from momentum, with gravity, mirrored walls and colliders; `grid_u` is the one before forces."""
    node = first + wp.tid()
    c0 = node_column[node]
    i = c0 / width - low_a
    j = c0 % width - low_b
    k = node - columns[c0]
    if wp.static(DIM == 2):
        k = j
        j = node - columns[c0]
    pull = vec4(gravity[0][0], gravity[0][1], gravity[0][2], real(0.0))
    total = vec4()
    before = vec4()
    # A ghost node sees, in the mirror, its image: summing a node's own momentum and the reflected momentum of its
    # mirror node folds the ghosts back and gives every ghost the mirrored velocity, in one gather. On a periodic axis
    # the images are whole periods away, and nothing is reflected.
    for a in range(SIDES):
        for b in range(SIDES):
            for c in range(SIDES):
                other = node
                if wp.static(SIDES > 1):
                    gi = image_of(i, a, wall_plane[0], wall_plane[1], period[0])
                    gj = image_of(j, b, wall_plane[2], wall_plane[3], period[1])
                    gk = image_of(k, c, wall_plane[4], wall_plane[5], period[2])
                    other = node_index(gi, gj, gk, columns, column_low, column_high, width, low_a, low_b, DIM)
                if other >= 0:
                    own = grid[other]
                    part = own + (dt * own[3]) * pull
                    if wp.static(BLEND == 1):
                        part = part + impulse[other]
                    if wp.static(SIDES > 1):
                        si = side_of(i, 0, wall_plane[0], wall_plane[1])
                        sj = side_of(j, 1, wall_plane[2], wall_plane[3])
                        sk = side_of(k, 2, wall_plane[4], wall_plane[5])
                        part = image_value(part, a, b, c, si, sj, sk, wall_kind, wall_velocity)
                        if wp.static(BLEND == 1):
                            own = image_value(own, a, b, c, si, sj, sk, wall_kind, wall_velocity)
                    total = total + part
                    before = before + own
    m = total[3]
    if m <= real(0.0):
        grid_v[node] = vec4()
        if wp.static(BLEND == 1):
            grid_u[node] = vec4()
        return
    m = m + mass_floor
    if wp.static(BLEND == 1):
        grid_u[node] = vec4(before[0] / m, before[1] / m, before[2] / m, real(0.0))
    vel = vec3(total[0] / m, total[1] / m, total[2] / m)
    if wp.static(len(KINDS) > 0):
        at = origin + vec3(real(i), real(j), real(k)) / per_dx
        for c in range(wp.static(len(KINDS))):
            centre = position[c] + elapsed * velocity[c]
            q = wp.transpose(rotation[c]) @ turn(at - centre, real(-elapsed) * spin[c])
            hit = vec4(real(0.0), real(0.0), real(1.0), q[2])
            if wp.static(KINDS[c] == 1):
                hit = box_distance(q, collider_size[c])
            if wp.static(KINDS[c] == 2):
                hit = sphere_distance(q, collider_size[c][0])
            if wp.static(KINDS[c] == 3):
                hit = field_distance(q, field_values, field_at[c], field_origin[c], field_spacing[c], field_dims[c])
            # A node on the surface counts as inside, whatever the rounding of its position.
            if hit[3] * per_dx < real(1e-4):
                n = turn(rotation[c] @ vec3(hit[0], hit[1], hit[2]), elapsed * spin[c])
                surface = velocity[c] + wp.cross(spin[c], at - centre)
                free = vel
                vel = contact_velocity(free, surface, n, collider_mode[c], collider_friction[c])
                if wp.static(FORCES == 1):
                    wp.atomic_add(contact_force, c, (m / dt) * (free - vel))
    grid_v[node] = vec4(vel[0], vel[1], vel[2], real(0.0))


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
    low_a: int,
    low_b: int,
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
    at = x[p]
    if wp.static(PERIODIC == 1):
        at = at - shift[p]
    sums = gather(at, origin, per_dx, columns, width, low_a, low_b, grid_v)
    vel = sums[0]
    C = (real(4.0) * per_dx * per_dx) * wp.matrix_from_cols(sums[1], sums[2], sums[3])
    speed = wp.dot(vel, vel) * dt * dt * per_dx * per_dx
    if not (speed < real(1.0)):
        if speed >= real(1.0):
            report(status, 2, substep, order[p])
        else:
            report(status, 0, substep, order[p])
    moved = at + dt * vel
    s = (moved - origin) * per_dx
    start = home[p]
    for axis in range(DIM):
        node = first_node(s[axis])
        if wp.abs(node - start[axis]) > 1:
            wp.atomic_min(stray, 0, substep)
        if last_node[axis] >= 0 and (node < 0 or node > last_node[axis]):
            report(status, 1, substep, order[p])
    x_out[p] = x[p] + dt * vel
    C_out[p] = C
    if wp.static(STRAIN == 1):
        F_out[p] = F[p] + dt * (C @ F[p])
    if wp.static(BLEND == 0):
        v_out[p] = vel
    if wp.static(BLEND == 1):
        before = gather(at, origin, per_dx, columns, width, low_a, low_b, grid_u)
        v_out[p] = vel + blend * (v[p] - before[0])


def project(
    F: wp.array(dtype=mat33),
    h: wp.array2d(dtype=real),
    C_out: wp.array(dtype=mat33),
    theta: wp.array2d(dtype=real),
    first: int,
    row: int,
    stride: int,
    dt: real,
    F_out: wp.array(dtype=mat33),
    h_out: wp.array2d(dtype=real),
):
    """Return mapping: F and history after plastic or viscous flow from F_trial = (I + dt C) F."""
    i = wp.tid()
    p = first + i
    parameters = params()
    for j in range(PARAMS):
        parameters[j] = theta[(row + i) * stride, j]
    past = history()
    for j in range(HISTORY):
        past[j] = h[p, j]
    step = dt * C_out[p]
    f = wp.identity(n=3, dtype=real) + step
    F_new, now = project_of(F[p] + step @ F[p], past, f, parameters, dt)
    F_out[p] = F_new
    for j in range(HISTORY):
        h_out[p, j] = now[j]


def examine(
    x: wp.array(dtype=vec3),
    v: wp.array(dtype=vec3),
    C: wp.array(dtype=mat33),
    F: wp.array(dtype=mat33),
    h: wp.array2d(dtype=real),
    start: int,
    columns: int,
    positive: int,
    substep: int,
    status: wp.array(dtype=wp.int64),
):
    """Report the particles of one body whose state cannot be gone on from; `positive` asks for det F > 0."""
    i = wp.tid()
    p = start + i
    if not wp.isfinite(x[p]):
        report(status, 3, substep, p)
    if not wp.isfinite(v[p]):
        report(status, 4, substep, p)
    if not wp.isfinite(C[p]):
        report(status, 5, substep, p)
    if not wp.isfinite(F[p]):
        report(status, 6, substep, p)
    for j in range(columns):
        if not wp.isfinite(h[p, j]):
            report(status, 7, substep, p)
    if positive != 0 and wp.determinant(F[p]) <= real(0.0):
        report(status, 8, substep, p)
