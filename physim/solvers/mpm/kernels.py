"""The five stages of an MLS-MPM substep: stress, p2g, grid_update, g2p, project.

Quadratic B-splines, APIC, symplectic Euler (Hu et al. 2018, doi:10.1145/3197517.3201293; Jiang et al. 2015,
doi:10.1145/2766996). Node i sits at origin + i dx. In two dimensions DIM is 2, the grid has one layer and the
stencil nine nodes. With BLEND, a particle also keeps a share of its own velocity that the grid cannot represent
(AFLIP: Fei et al. 2021, doi:10.1145/3450626.3459678), which removes most of the numerical viscosity.
"""

from __future__ import annotations

import warp as wp

from physim.numeric import mat33, numeric, real, vec3, vec4
from physim.solvers.mpm.boundary import (
    box_distance,
    contact_velocity,
    field_distance,
    mirror_of,
    reflect,
    side_of,
    sphere_distance,
    turn,
)

# Bound when a kernel is built: dimensions, stencil layers along z, kind of transfer, images per axis (2 with mirrored
# walls), whether contact forces are summed, the geometry of each collider, and a law's sizes and functions.
DIM, LAYERS, BLEND, SIDES, FORCES, PARAMS, HISTORY = 3, 3, 0, 1, 0, 0, 0
KINDS = ()
params = history = stress_of = project_of = None


@numeric
def spline(f: real) -> vec3:
    """Quadratic B-spline weights of the three nodes around a particle; `f` in [0.5, 1.5) from the first node."""
    a = real(1.5) - f
    b = f - real(1.0)
    c = f - real(0.5)
    return vec3(real(0.5) * a * a, real(0.75) - b * b, real(0.5) * c * c)


@numeric
def offsets(f: real, dx: real) -> vec3:
    """Distances [m] from a particle to the three nodes of its stencil along one axis."""
    return vec3(-f * dx, (real(1.0) - f) * dx, (real(2.0) - f) * dx)


@numeric
def wrap(i: int, n: int, periodic: int) -> int:
    """Node index, wrapped on a periodic axis."""
    j = i
    if periodic != 0:
        j = i % n
        if j < 0:
            j = j + n
    return j


@numeric
def outside(i: int, n: int, periodic: int) -> bool:
    """Whether a stencil that starts at node `i` leaves a non-periodic axis of `n` nodes."""
    return periodic == 0 and (i < 0 or i + 2 >= n)


@numeric
def report(status: wp.array(dtype=wp.int64), kind: int, substep: int, particle: int):
    """Record the first substep, and in it the lowest particle, at which something went wrong."""
    wp.atomic_min(status, kind, wp.int64(substep) * wp.int64(4294967296) + wp.int64(particle))


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


def stress(
    F: wp.array(dtype=mat33),
    C: wp.array(dtype=mat33),
    h: wp.array2d(dtype=real),
    theta: wp.array2d(dtype=real),
    start: int,
    stride: int,
    tau: wp.array(dtype=mat33),
):
    """Kirchhoff stress tau [Pa] of one body from F, the velocity gradient and the history."""
    i = wp.tid()
    p = start + i
    parameters = params()
    for j in range(PARAMS):
        parameters[j] = theta[i * stride, j]
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
    origin: vec3,
    dx: real,
    shape: wp.vec3i,
    periodic: wp.vec3i,
    dt: real,
    grid: wp.array3d(dtype=vec4),
    impulse: wp.array3d(dtype=vec3),
):
    """Scatter momentum, with the impulse of the stress, and mass to the grid."""
    p = wp.tid()
    s = (x[p] - origin) / dx
    bx = int(wp.floor(s[0] - real(0.5)))
    by = int(wp.floor(s[1] - real(0.5)))
    bz = 0
    fx = s[0] - real(bx)
    fy = s[1] - real(by)
    fz = real(0.0)  # in 2D: one layer, no lever arm along z
    wz = vec3(real(1.0), real(0.0), real(0.0))
    if wp.static(DIM == 3):
        bz = int(wp.floor(s[2] - real(0.5)))
        fz = s[2] - real(bz)
        wz = spline(fz)
    if outside(bx, shape[0], periodic[0]) or outside(by, shape[1], periodic[1]):
        return
    if wp.static(DIM == 3):
        if outside(bz, shape[2], periodic[2]):
            return
    wx = spline(fx)
    wy = spline(fy)
    dx_i = offsets(fx, dx)
    dy_j = offsets(fy, dx)
    dz_k = offsets(fz, dx)
    m = mass[p]
    A = m * C[p]
    S = (real(-4.0) * dt * vol0[p] / (dx * dx)) * tau[p]
    if wp.static(BLEND == 0):
        A = A + S
    q = m * v[p]
    for i in range(3):
        gi = wrap(bx + i, shape[0], periodic[0])
        for j in range(3):
            gj = wrap(by + j, shape[1], periodic[1])
            for k in range(LAYERS):
                gk = wrap(bz + k, shape[2], periodic[2])
                d = vec3(dx_i[i], dy_j[j], dz_k[k])
                w = wx[i] * wy[j] * wz[k]
                a = q + A @ d
                wp.atomic_add(grid, gi, gj, gk, vec4(w * a[0], w * a[1], w * a[2], w * m))
                if wp.static(BLEND == 1):
                    wp.atomic_add(impulse, gi, gj, gk, w * (S @ d))


def grid_update(
    grid: wp.array3d(dtype=vec4),
    impulse: wp.array3d(dtype=vec3),
    gravity: wp.array(dtype=vec3),
    origin: vec3,
    dx: real,
    dt: real,
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
    grid_v: wp.array3d(dtype=vec3),
    grid_u: wp.array3d(dtype=vec3),
    contact_force: wp.array(dtype=vec3),
):
    """Nodal velocity from momentum, with gravity, mirrored walls and colliders; `grid_u` is the one before forces."""
    i, j, k = wp.tid()
    # A ghost node sees, in the mirror, its image: summing a node's own momentum and the reflected momentum of its
    # mirror node folds the ghosts back and gives every ghost the mirrored velocity, in one gather.
    mi = mirror_of(i, wall_plane[0], wall_plane[1])
    mj = mirror_of(j, wall_plane[2], wall_plane[3])
    mk = mirror_of(k, wall_plane[4], wall_plane[5])
    si = side_of(i, 0, wall_plane[0], wall_plane[1])
    sj = side_of(j, 1, wall_plane[2], wall_plane[3])
    sk = side_of(k, 2, wall_plane[4], wall_plane[5])
    total = vec4()
    before = vec4()
    pull = vec4(gravity[0][0], gravity[0][1], gravity[0][2], real(0.0))
    for a in range(SIDES):
        for b in range(SIDES):
            for c in range(SIDES):
                gi = i
                gj = j
                gk = k
                if a == 1:
                    gi = mi
                if b == 1:
                    gj = mj
                if c == 1:
                    gk = mk
                inside = gi >= 0 and gj >= 0 and gk >= 0
                if inside and gi < grid.shape[0] and gj < grid.shape[1] and gk < grid.shape[2]:
                    node_part = grid[gi, gj, gk]
                    part = node_part + (dt * node_part[3]) * pull
                    if wp.static(BLEND == 1):
                        push = impulse[gi, gj, gk]
                        part = part + vec4(push[0], push[1], push[2], real(0.0))
                        if a == 1:
                            node_part = reflect(node_part, 0, wall_kind[si], wall_velocity[si])
                        if b == 1:
                            node_part = reflect(node_part, 1, wall_kind[sj], wall_velocity[sj])
                        if c == 1:
                            node_part = reflect(node_part, 2, wall_kind[sk], wall_velocity[sk])
                        before = before + node_part
                    if a == 1:
                        part = reflect(part, 0, wall_kind[si], wall_velocity[si])
                    if b == 1:
                        part = reflect(part, 1, wall_kind[sj], wall_velocity[sj])
                    if c == 1:
                        part = reflect(part, 2, wall_kind[sk], wall_velocity[sk])
                    total = total + part
    m = total[3]
    if m <= real(0.0):
        grid_v[i, j, k] = vec3()
        if wp.static(BLEND == 1):
            grid_u[i, j, k] = vec3()
        return
    m = m + mass_floor
    if wp.static(BLEND == 1):
        grid_u[i, j, k] = vec3(before[0] / m, before[1] / m, before[2] / m)
    vel = vec3(total[0] / m, total[1] / m, total[2] / m)
    node = origin + dx * vec3(real(i), real(j), real(k))
    for c in range(wp.static(len(KINDS))):
        at = position[c] + elapsed * velocity[c]
        q = wp.transpose(rotation[c]) @ turn(node - at, real(-elapsed) * spin[c])
        hit = vec4(real(0.0), real(0.0), real(1.0), q[2])
        if wp.static(KINDS[c] == 1):
            hit = box_distance(q, collider_size[c])
        if wp.static(KINDS[c] == 2):
            hit = sphere_distance(q, collider_size[c][0])
        if wp.static(KINDS[c] == 3):
            hit = field_distance(q, field_values, field_at[c], field_origin[c], field_spacing[c], field_dims[c])
        # A node on the surface counts as inside, whatever the rounding of its position.
        if hit[3] < real(1e-4) * dx:
            n = turn(rotation[c] @ vec3(hit[0], hit[1], hit[2]), elapsed * spin[c])
            surface = velocity[c] + wp.cross(spin[c], node - at)
            free = vel
            vel = contact_velocity(free, surface, n, collider_mode[c], collider_friction[c])
            if wp.static(FORCES == 1):
                wp.atomic_add(contact_force, c, (m / dt) * (free - vel))
    grid_v[i, j, k] = vel


def g2p(
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
    x_out: wp.array(dtype=vec3),
    v_out: wp.array(dtype=vec3),
    C_out: wp.array(dtype=mat33),
    F_trial: wp.array(dtype=mat33),
):
    """Gather velocity and its APIC affine part, move the particle, and update F_trial = (I + dt C) F."""
    p = wp.tid()
    s = (x[p] - origin) / dx
    bx = int(wp.floor(s[0] - real(0.5)))
    by = int(wp.floor(s[1] - real(0.5)))
    bz = 0
    fx = s[0] - real(bx)
    fy = s[1] - real(by)
    fz = real(0.0)  # in 2D: one layer, no lever arm along z
    wz = vec3(real(1.0), real(0.0), real(0.0))
    out = outside(bx, shape[0], periodic[0]) or outside(by, shape[1], periodic[1])
    if wp.static(DIM == 3):
        bz = int(wp.floor(s[2] - real(0.5)))
        fz = s[2] - real(bz)
        wz = spline(fz)
        out = out or outside(bz, shape[2], periodic[2])
    if out:
        report(status, 1, substep, p)
        x_out[p] = x[p]
        v_out[p] = v[p]
        C_out[p] = mat33()
        F_trial[p] = F[p]
        return
    wx = spline(fx)
    wy = spline(fy)
    dx_i = offsets(fx, dx)
    dy_j = offsets(fy, dx)
    dz_k = offsets(fz, dx)
    vel = vec3()
    own = v[p]
    B = mat33()
    for i in range(3):
        gi = wrap(bx + i, shape[0], periodic[0])
        for j in range(3):
            gj = wrap(by + j, shape[1], periodic[1])
            for k in range(LAYERS):
                gk = wrap(bz + k, shape[2], periodic[2])
                d = vec3(dx_i[i], dy_j[j], dz_k[k])
                w = wx[i] * wy[j] * wz[k]
                u = w * grid_v[gi, gj, gk]
                if wp.static(BLEND == 1):
                    own = own - w * grid_u[gi, gj, gk]
                vel = vel + u
                B = B + wp.outer(u, d)
    affine = (real(4.0) / (dx * dx)) * B
    speed = wp.dot(vel, vel) * dt * dt / (dx * dx)
    if not (speed < real(1.0)):
        if speed >= real(1.0):
            report(status, 2, substep, p)
        else:
            report(status, 0, substep, p)
    x_out[p] = x[p] + dt * vel
    if wp.static(BLEND == 1):
        v_out[p] = vel + blend * own
    if wp.static(BLEND == 0):
        v_out[p] = vel
    C_out[p] = affine
    F_trial[p] = F[p] + dt * (affine @ F[p])


def project(
    F_trial: wp.array(dtype=mat33),
    h: wp.array2d(dtype=real),
    C: wp.array(dtype=mat33),
    theta: wp.array2d(dtype=real),
    start: int,
    stride: int,
    dt: real,
    F_out: wp.array(dtype=mat33),
    h_out: wp.array2d(dtype=real),
):
    """Return mapping of one body: F and history after plastic or viscous flow."""
    i = wp.tid()
    p = start + i
    parameters = params()
    for j in range(PARAMS):
        parameters[j] = theta[i * stride, j]
    past = history()
    for j in range(HISTORY):
        past[j] = h[p, j]
    f = wp.identity(n=3, dtype=real) + dt * C[p]
    F_new, now = project_of(F_trial[p], past, f, parameters, dt)
    F_out[p] = F_new
    for j in range(HISTORY):
        h_out[p, j] = now[j]
