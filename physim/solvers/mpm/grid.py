"""The stages of an MLS-MPM substep over nodes: nodal velocity from momentum, mirrored walls, contact with colliders.

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
    sides_of,
    sphere_distance,
    turn,
)

# Bound when a kernel is built: dimensions, kind of transfer, images per axis (2 with mirrored walls, 3 with a periodic
# axis), whether there are several worlds, whether contact forces are summed, and the geometry of each collider.
DIM, BLEND, SIDES, WORLDS, FORCES = 3, 0, 1, 0, 0
KINDS = ()


@numeric
def node_place(
    node: int, node_column: wp.array(dtype=wp.int32), column_at: wp.array(dtype=wp.vec4i), dim: int
) -> wp.vec4i:
    """Indices along x, y and z of a node in the list of nodes, and its world."""
    at = column_at[node_column[node]]
    r = node - at[2]
    place = wp.vec4i(at[0], at[1], r, at[3])
    if dim == 2:
        place = wp.vec4i(at[0], r, at[1], at[3])
    return place


@numeric
def node_index(
    i: int,
    j: int,
    k: int,
    world: int,
    columns: wp.array(dtype=wp.int32),
    column_low: wp.array(dtype=wp.int32),
    column_high: wp.array(dtype=wp.int32),
    width: int,
    height: int,
    low_a: int,
    low_b: int,
    dim: int,
) -> int:
    """Place of a node in the list of nodes, or -1 if no particle of its world is near it."""
    a = i + low_a
    b = j + low_b
    r = k
    if dim == 2:
        b = k + low_b
        r = j
    found = -1
    if a >= 0 and a < height and b >= 0 and b < width:
        c = (world * height + a) * width + b
        if r >= column_low[c] and r < column_high[c]:
            found = columns[c] + r
    return found


@numeric
def image_node(slot: int, a: int, b: int, c: int, sides: int, images: wp.array(dtype=wp.int32)) -> int:
    """Node at image number (a, b, c) of the node that has this slot, or -1; see `find_images`."""
    return images[slot * (sides * sides * sides + 1) + (a * sides + b) * sides + c]


@numeric
def image_sides(slot: int, sides: int, images: wp.array(dtype=wp.int32)) -> wp.vec3i:
    """Indices of the walls whose mirrors apply near the node that has this slot."""
    code = images[(slot + 1) * (sides * sides * sides + 1) - 1]
    return wp.vec3i(code & 1, 2 + ((code >> 1) & 1), 4 + ((code >> 2) & 1))


def find_images(
    node_column: wp.array(dtype=wp.int32),
    column_at: wp.array(dtype=wp.vec4i),
    image_slot: wp.array(dtype=wp.int32),
    columns: wp.array(dtype=wp.int32),
    column_low: wp.array(dtype=wp.int32),
    column_high: wp.array(dtype=wp.int32),
    width: int,
    height: int,
    low_a: int,
    low_b: int,
    period: wp.vec3i,
    wall_plane: wp.array(dtype=wp.int32),
    images: wp.array(dtype=wp.int32),
):
    """Images of the nodes that have any, once per layout: SIDES^3 nodes in each slot, and which walls are near."""
    node = wp.tid()
    if node_column[node] < 0:
        return
    slot = image_slot[node]
    if slot < 0:
        return
    at = node_place(node, node_column, column_at, DIM)
    place = slot * (SIDES * SIDES * SIDES + 1)
    for a in range(SIDES):
        for b in range(SIDES):
            for c in range(SIDES):
                gi = image_of(at[0], a, wall_plane[0], wall_plane[1], period[0])
                gj = image_of(at[1], b, wall_plane[2], wall_plane[3], period[1])
                gk = image_of(at[2], c, wall_plane[4], wall_plane[5], period[2])
                images[place] = node_index(
                    gi, gj, gk, at[3], columns, column_low, column_high, width, height, low_a, low_b, DIM
                )
                place += 1
    sides = sides_of(at[0], at[1], at[2], wall_plane)
    images[place] = sides[0] + 2 * (sides[1] - 2) + 4 * (sides[2] - 4)


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


def grid_update(
    grid: wp.array(dtype=vec4),
    impulse: wp.array(dtype=vec4),
    node_column: wp.array(dtype=wp.int32),
    column_at: wp.array(dtype=wp.vec4i),
    image_slot: wp.array(dtype=wp.int32),
    images: wp.array(dtype=wp.int32),
    first: int,
    gravity: wp.array(dtype=vec3),
    gravities: int,
    dt: real,
    wall_mirror: wp.array(dtype=vec4),
    mass_floor: real,
    grid_v: wp.array(dtype=vec4),
    grid_u: wp.array(dtype=vec4),
):
    """Nodal velocity from momentum, with gravity and mirrored walls, and mass; `grid_u` is the one before forces."""
    node = first + wp.tid()
    if node_column[node] < 0:
        return
    world = 0
    if wp.static(WORLDS == 1):
        world = column_at[node_column[node]][3]
    slot = -1
    if wp.static(SIDES > 1):
        slot = image_slot[node]
    g = gravity[world * gravities]
    pull = vec4(g[0], g[1], g[2], real(0.0))
    total = vec4()
    before = vec4()
    # A ghost node sees, in the mirror, its image: summing a node's own momentum and the reflected momentum of its
    # mirror node folds the ghosts back and gives every ghost the mirrored velocity, in one gather. On a periodic axis
    # the images are whole periods away, and nothing is reflected.
    if slot < 0:
        before = grid[node]
        total = before + (dt * before[3]) * pull
        if wp.static(BLEND == 1):
            total = total + impulse[node]
    else:
        sides = image_sides(slot, SIDES, images)
        for a in range(SIDES):
            for b in range(SIDES):
                for c in range(SIDES):
                    other = image_node(slot, a, b, c, SIDES, images)
                    if other >= 0:
                        own = grid[other]
                        part = own + (dt * own[3]) * pull
                        if wp.static(BLEND == 1):
                            part = part + impulse[other]
                            own = image_value(own, a, b, c, sides, wall_mirror)
                        part = image_value(part, a, b, c, sides, wall_mirror)
                        total = total + part
                        before = before + own
    m = total[3]
    if m <= real(0.0):
        grid_v[node] = vec4()
        if wp.static(BLEND == 1):
            grid_u[node] = vec4()
        return
    m = m + mass_floor
    grid_v[node] = vec4(total[0] / m, total[1] / m, total[2] / m, m)
    if wp.static(BLEND == 1):
        grid_u[node] = vec4(before[0] / m, before[1] / m, before[2] / m, real(0.0))


def contact(
    grid_free: wp.array(dtype=vec4),
    node_column: wp.array(dtype=wp.int32),
    column_at: wp.array(dtype=wp.vec4i),
    first: int,
    origin: vec3,
    per_dx: real,
    dt: real,
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
    grid_v: wp.array(dtype=vec4),
    contact_force: wp.array(dtype=vec3),
):
    """Nodal velocity after contact with the colliders, one after the other."""
    node = first + wp.tid()
    if node_column[node] < 0:
        return
    free_node = grid_free[node]
    m = free_node[3]
    vel = vec3(free_node[0], free_node[1], free_node[2])
    if m > real(0.0):
        place = node_place(node, node_column, column_at, DIM)
        at = origin + vec3(real(place[0]), real(place[1]), real(place[2])) / per_dx
        for c in range(wp.static(len(KINDS))):
            solid = place[3] * wp.static(len(KINDS)) + c
            centre = position[solid] + elapsed * velocity[solid]
            q = wp.transpose(rotation[solid]) @ turn(at - centre, real(-elapsed) * spin[solid])
            hit = vec4(real(0.0), real(0.0), real(1.0), q[2])
            if wp.static(KINDS[c] == 1):
                hit = box_distance(q, collider_size[c])
            if wp.static(KINDS[c] == 2):
                hit = sphere_distance(q, collider_size[c][0])
            if wp.static(KINDS[c] == 3):
                hit = field_distance(q, field_values, field_at[c], field_origin[c], field_spacing[c], field_dims[c])
            # A node on the surface counts as inside, whatever the rounding of its position.
            if hit[3] * per_dx < real(1e-4):
                n = turn(rotation[solid] @ vec3(hit[0], hit[1], hit[2]), elapsed * spin[solid])
                surface = velocity[solid] + wp.cross(spin[solid], at - centre)
                free = vel
                vel = contact_velocity(free, surface, n, collider_mode[c], collider_friction[c])
                if wp.static(FORCES == 1):
                    wp.atomic_add(contact_force, solid, (m / dt) * (free - vel))
    grid_v[node] = vec4(vel[0], vel[1], vel[2], m)
