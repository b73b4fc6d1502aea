"""Hand-written adjoints of the two transfers and of the grid update between them.

P2G scatters, so its adjoint only gathers; G2P gathers, so its adjoint scatters; both use the transfers' own loops over
the stencil. In the backward pass of a substep they run after the adjoint of the return mapping and before that of the
stress, which add to what these assign. Images of nodes are mutual, so that the adjoint of the grid update gathers too.
"""

from __future__ import annotations

import warp as wp

from physim.numeric import mat33, numeric, real, vec3, vec4
from physim.solvers.mpm.boundary import image_adjoint
from physim.solvers.mpm.grid import SIDES, image_node, image_sides
from physim.solvers.mpm.kernels import BLEND, DIM, PERIODIC, STRAIN, WORLDS

__all__ = [
    "BLEND",
    "DIM",
    "PERIODIC",
    "SIDES",
    "STRAIN",
    "WORLDS",
    "blank",
    "g2p_adjoint",
    "gravity_adjoint",
    "grid_update_adjoint",
    "p2g_adjoint",
]

wide_history = scatter = pull = rise = None


def blank(
    first: int,
    flows: int,
    adj_x: wp.array(dtype=vec3),
    adj_F: wp.array(dtype=mat33),
    adj_h: wp.array(dtype=wide_history),
):
    """Zero the cotangents that are added to; that of F is, where a return mapping has its adjoint before G2P."""
    p = first + wp.tid()
    adj_x[p] = vec3()
    if flows != 0:
        adj_F[p] = mat33()
    adj_h[p] = wide_history()


def g2p_adjoint(
    x: wp.array(dtype=vec3),
    v: wp.array(dtype=vec3),
    F: wp.array(dtype=mat33),
    v_out: wp.array(dtype=vec3),
    C_out: wp.array(dtype=mat33),
    grid_v: wp.array(dtype=vec4),
    grid_u: wp.array(dtype=vec4),
    shift: wp.array(dtype=vec3),
    origin: vec3,
    per_dx: real,
    columns: wp.array(dtype=wp.int32),
    width: int,
    place: int,
    places: wp.array(dtype=wp.int32),
    blend: real,
    dt: real,
    first: int,
    adj_x_out: wp.array(dtype=vec3),
    adj_v_out: wp.array(dtype=vec3),
    adj_C_out: wp.array(dtype=mat33),
    adj_F_out: wp.array(dtype=mat33),
    adj_x: wp.array(dtype=vec3),
    adj_v: wp.array(dtype=vec3),
    adj_F: wp.array(dtype=mat33),
    adj_grid_v: wp.array(dtype=vec4),
    adj_grid_u: wp.array(dtype=vec4),
):
    """Assign the cotangents of v, and with STRAIN of F; add those of x and of the nodal velocities."""
    p = first + wp.tid()
    table = place
    if wp.static(WORLDS == 1):
        table = places[p]
    at = x[p]
    if wp.static(PERIODIC == 1):
        at = at - shift[p]
    scale = real(4.0) * per_dx * per_dx
    g_x = adj_x_out[p]
    g_v = adj_v_out[p]
    g_vel = g_v + dt * g_x
    g_C = adj_C_out[p]
    if wp.static(STRAIN == 1):
        g_C = g_C + dt * (adj_F_out[p] @ wp.transpose(F[p]))
    g_B = scale * g_C
    scatter(at, g_vel, g_B, real(0.0), origin, per_dx, columns, width, table, adj_grid_v)
    back = rise(at, g_vel, g_B, real(0.0), origin, per_dx, columns, width, table, grid_v)
    vel = v_out[p]
    if wp.static(STRAIN == 1):
        adj_F[p] = adj_F_out[p] + dt * (wp.transpose(C_out[p]) @ adj_F_out[p])
    if wp.static(BLEND == 0):
        adj_v[p] = vec3()
    if wp.static(BLEND == 1):
        own = blend * g_v
        adj_v[p] = own
        scatter(at, -own, mat33(), real(0.0), origin, per_dx, columns, width, table, adj_grid_u)
        lost = pull(at, -own, mat33(), real(0.0), origin, per_dx, columns, width, table, grid_u)
        back = back + lost[4]
        vel = vel - blend * (v[p] - lost[0])
    # The levers of all nodes shorten alike as x grows.
    back = back - wp.transpose(g_B) @ vel
    # In 2D no lever arm along z exists, and z moves nothing.
    adj_x[p] = adj_x[p] + g_x + vec3(back[0], back[1], real(DIM - 2) * back[2])


def p2g_adjoint(
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
    adj_grid: wp.array(dtype=vec4),
    adj_impulse: wp.array(dtype=vec4),
    adj_x: wp.array(dtype=vec3),
    adj_v: wp.array(dtype=vec3),
    adj_C: wp.array(dtype=mat33),
    adj_tau: wp.array(dtype=mat33),
):
    """Add the cotangents of x and v, and assign those of C and tau, from those of nodal momentum and mass."""
    p = first + wp.tid()
    table = place
    if wp.static(WORLDS == 1):
        table = places[p]
    at = x[p]
    if wp.static(PERIODIC == 1):
        at = at - shift[p]
    m = mass[p]
    impulse_scale = real(-4.0) * dt * vol0[p] * per_dx * per_dx
    A = m * C[p]
    S = impulse_scale * tau[p]
    if wp.static(BLEND == 0):
        A = A + S
    sums = pull(at, m * v[p], A, m, origin, per_dx, columns, width, table, adj_grid)
    adj_A = wp.matrix_from_cols(sums[1], sums[2], sums[3])
    back = sums[4] - wp.transpose(A) @ sums[0]
    if wp.static(BLEND == 0):
        adj_tau[p] = impulse_scale * adj_A
    if wp.static(BLEND == 1):
        push = pull(at, vec3(), S, real(0.0), origin, per_dx, columns, width, table, adj_impulse)
        back = back + push[4] - wp.transpose(S) @ push[0]
        adj_tau[p] = impulse_scale * wp.matrix_from_cols(push[1], push[2], push[3])
    # In 2D no lever arm along z exists, and z moves nothing.
    adj_x[p] = adj_x[p] + vec3(back[0], back[1], real(DIM - 2) * back[2])
    adj_v[p] = adj_v[p] + m * sums[0]
    adj_C[p] = m * adj_A


@numeric
def momentum_cotangent(v: vec4, m: real, g: vec4) -> vec4:
    """Cotangent of (momentum, mass m) from that of the velocity `v`, their quotient; none where there is no mass."""
    found = vec4()
    if m > real(0.0):
        share = g[0] * v[0] + g[1] * v[1] + g[2] * v[2]
        found = vec4(g[0] / m, g[1] / m, g[2] / m, -share / m)
    return found


def grid_update_adjoint(
    grid: wp.array(dtype=vec4),
    node_column: wp.array(dtype=wp.int32),
    column_at: wp.array(dtype=wp.vec4i),
    image_slot: wp.array(dtype=wp.int32),
    images: wp.array(dtype=wp.int32),
    first: int,
    gravity: wp.array(dtype=vec3),
    gravities: int,
    dt: real,
    wall_mirror: wp.array(dtype=vec4),
    grid_v: wp.array(dtype=vec4),
    grid_u: wp.array(dtype=vec4),
    adj_grid_v: wp.array(dtype=vec4),
    adj_grid_u: wp.array(dtype=vec4),
    adj_grid: wp.array(dtype=vec4),
    adj_impulse: wp.array(dtype=vec4),
):
    """Assign the cotangents of nodal momentum, mass and impulse."""
    node = first + wp.tid()
    if node_column[node] < 0:
        return
    world = 0
    if wp.static(WORLDS == 1):
        world = column_at[node_column[node]][3]
    slot = -1
    if wp.static(SIDES > 1):
        slot = image_slot[node]
    forced = vec4()
    unforced = vec4()
    if slot < 0:
        v = grid_v[node]
        forced = momentum_cotangent(v, v[3], adj_grid_v[node])
        if wp.static(BLEND == 1):
            unforced = momentum_cotangent(grid_u[node], v[3], adj_grid_u[node])
    else:
        sides = image_sides(slot, SIDES, images)
        for a in range(SIDES):
            for b in range(SIDES):
                for c in range(SIDES):
                    other = image_node(slot, a, b, c, SIDES, images)
                    if other >= 0:
                        v = grid_v[other]
                        part = momentum_cotangent(v, v[3], adj_grid_v[other])
                        forced = forced + image_adjoint(part, a, b, c, sides, wall_mirror)
                        if wp.static(BLEND == 1):
                            part = momentum_cotangent(grid_u[other], v[3], adj_grid_u[other])
                            unforced = unforced + image_adjoint(part, a, b, c, sides, wall_mirror)
    pulled = gravity[world * gravities]
    weight = forced[0] * pulled[0] + forced[1] * pulled[1] + forced[2] * pulled[2]
    adj_grid[node] = forced + unforced + vec4(real(0.0), real(0.0), real(0.0), dt * weight)
    if wp.static(BLEND == 1):
        adj_impulse[node] = vec4(forced[0], forced[1], forced[2], real(0.0))


def gravity_adjoint(
    grid: wp.array(dtype=vec4),
    adj_forced: wp.array(dtype=vec4),
    dt: real,
    blocks: wp.array(dtype=wp.int32),
    first: int,
    sums: wp.array(dtype=vec3),
):
    """Add the cotangent of gravity from one block of nodes to the block's sum; `blocks` tells where each starts."""
    b = first + wp.tid()
    total = vec3()
    for node in range(blocks[b], blocks[b + 1]):
        g = adj_forced[node]
        total = total + grid[node][3] * vec3(g[0], g[1], g[2])
    sums[b] = sums[b] + dt * total
