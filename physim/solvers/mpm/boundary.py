"""Grid conditions: mirrored walls, and contact of grid nodes with rigid colliders."""

from __future__ import annotations

from typing import Any

import numpy as np
import warp as wp

from physim.numeric import Precision, numeric, real, vec3, vec4
from physim.sim.model import Model, WallKind

FAR = 2**20
"""A plane in half nodes that every node is before."""


@numeric
def image_of(i: int, image: int, low: int, high: int, period: int) -> int:
    """Node index of an image of node `i`: itself (0), its mirror image (1), or copies a period apart (0, 1, 2).

    Wall planes are given in half nodes (twice the node index), or -1 for no wall; `period` is 0 where there is none.
    An image that does not exist is far outside the grid.
    """
    other = -1048576
    if period > 0:
        rest = i % period
        if rest < 0:
            rest = rest + period
        other = rest + (image - 1) * period
    else:
        if image == 0:
            other = i
        if image == 1:
            if low >= 0 and 2 * i <= low + 4:
                other = low - i
            if high >= 0 and 2 * i >= high - 4:
                other = high - i
    return other


@numeric
def mirrored(value: vec4, side: int, wall_mirror: wp.array(dtype=vec4)) -> vec4:
    """Mirror image of (momentum, mass) at a wall, linear: a factor per entry, and a velocity times the mass."""
    return wp.cw_mul(wall_mirror[2 * side], value) + value[3] * wall_mirror[2 * side + 1]


@numeric
def mirrored_adjoint(value: vec4, side: int, wall_mirror: wp.array(dtype=vec4)) -> vec4:
    """Transpose of `mirrored`."""
    through = wp.dot(wall_mirror[2 * side + 1], value)
    return wp.cw_mul(wall_mirror[2 * side], value) + vec4(real(0.0), real(0.0), real(0.0), through)


@numeric
def side_of(i: int, axis: int, low: int, high: int) -> int:
    """Index of the wall (0..5) whose mirror applies near node `i`."""
    side = 2 * axis
    if high >= 0 and 2 * i >= high - 4:
        side = 2 * axis + 1
    return side


@numeric
def sides_of(i: int, j: int, k: int, wall_plane: wp.array(dtype=wp.int32)) -> wp.vec3i:
    """Indices of the walls whose mirrors apply near a node."""
    return wp.vec3i(
        side_of(i, 0, wall_plane[0], wall_plane[1]),
        side_of(j, 1, wall_plane[2], wall_plane[3]),
        side_of(k, 2, wall_plane[4], wall_plane[5]),
    )


@numeric
def image_value(value: vec4, a: int, b: int, c: int, sides: wp.vec3i, wall_mirror: wp.array(dtype=vec4)) -> vec4:
    """What a node sees of (momentum, mass) at its image number (a, b, c)."""
    seen = value
    if a == 1:
        seen = mirrored(seen, sides[0], wall_mirror)
    if b == 1:
        seen = mirrored(seen, sides[1], wall_mirror)
    if c == 1:
        seen = mirrored(seen, sides[2], wall_mirror)
    return seen


@numeric
def image_adjoint(value: vec4, a: int, b: int, c: int, sides: wp.vec3i, wall_mirror: wp.array(dtype=vec4)) -> vec4:
    """Transpose of `image_value`."""
    seen = value
    if c == 1:
        seen = mirrored_adjoint(seen, sides[2], wall_mirror)
    if b == 1:
        seen = mirrored_adjoint(seen, sides[1], wall_mirror)
    if a == 1:
        seen = mirrored_adjoint(seen, sides[0], wall_mirror)
    return seen


@numeric
def turn(a: vec3, angle: vec3) -> vec3:
    """Rotate `a` by the rotation vector `angle` [rad]: a power series, smooth at zero, exact to 1e-12 below 1 rad."""
    t = wp.dot(angle, angle)
    s = real(1.0) - t / real(6.0) * (
        real(1.0)
        - t / real(20.0) * (real(1.0) - t / real(42.0) * (real(1.0) - t / real(72.0) * (real(1.0) - t / real(110.0))))
    )
    c = real(0.5) - t / real(24.0) * (
        real(1.0)
        - t / real(30.0) * (real(1.0) - t / real(56.0) * (real(1.0) - t / real(90.0) * (real(1.0) - t / real(132.0))))
    )
    once = wp.cross(angle, a)
    return a + s * once + c * wp.cross(angle, once)


@numeric
def box_distance(q: vec3, half: vec3) -> vec4:
    """Outward normal and signed distance [m] of a point inside a box; positive distance outside."""
    ax = wp.abs(q[0]) - half[0]
    ay = wp.abs(q[1]) - half[1]
    az = wp.abs(q[2]) - half[2]
    n = vec3(wp.sign(q[0]), real(0.0), real(0.0))
    d = ax
    if ay > d:
        d = ay
        n = vec3(real(0.0), wp.sign(q[1]), real(0.0))
    if az > d:
        d = az
        n = vec3(real(0.0), real(0.0), wp.sign(q[2]))
    return vec4(n[0], n[1], n[2], d)


@numeric
def sphere_distance(q: vec3, radius: real) -> vec4:
    """Outward normal and signed distance [m] of a point from a sphere; at its centre the normal is z."""
    size = wp.length(q)
    out = vec4(real(0.0), real(0.0), real(1.0), -radius)
    if size > real(0.0):
        out = vec4(q[0] / size, q[1] / size, q[2] / size, size - radius)
    return out


@numeric
def field_value(values: wp.array(dtype=real), at: int, dims: wp.vec3i, i: int, j: int, k: int) -> real:
    """One sample of a distance field."""
    return values[at + (i * dims[1] + j) * dims[2] + k]


@numeric
def field_distance(q: vec3, values: wp.array(dtype=real), at: int, origin: vec3, spacing: real, dims: wp.vec3i) -> vec4:
    """Outward normal and signed distance [m] by trilinear interpolation; far outside the field, one metre."""
    s = (q - origin) / spacing
    i = int(wp.floor(s[0]))
    j = int(wp.floor(s[1]))
    k = int(wp.floor(s[2]))
    out = vec4(real(0.0), real(0.0), real(1.0), real(1.0))
    if i >= 0 and j >= 0 and k >= 0 and i < dims[0] - 1 and j < dims[1] - 1 and k < dims[2] - 1:
        a = s[0] - real(i)
        b = s[1] - real(j)
        c = s[2] - real(k)
        one = real(1.0)
        v000 = field_value(values, at, dims, i, j, k)
        v001 = field_value(values, at, dims, i, j, k + 1)
        v010 = field_value(values, at, dims, i, j + 1, k)
        v011 = field_value(values, at, dims, i, j + 1, k + 1)
        v100 = field_value(values, at, dims, i + 1, j, k)
        v101 = field_value(values, at, dims, i + 1, j, k + 1)
        v110 = field_value(values, at, dims, i + 1, j + 1, k)
        v111 = field_value(values, at, dims, i + 1, j + 1, k + 1)
        x00 = v000 * (one - a) + v100 * a
        x01 = v001 * (one - a) + v101 * a
        x10 = v010 * (one - a) + v110 * a
        x11 = v011 * (one - a) + v111 * a
        d = (x00 * (one - b) + x10 * b) * (one - c) + (x01 * (one - b) + x11 * b) * c
        gx = ((v100 - v000) * (one - b) + (v110 - v010) * b) * (one - c) + (
            (v101 - v001) * (one - b) + (v111 - v011) * b
        ) * c
        gy = (x10 - x00) * (one - c) + (x11 - x01) * c
        gz = (x01 * (one - b) + x11 * b) - (x00 * (one - b) + x10 * b)
        g = vec3(gx, gy, gz)
        size = wp.length(g)
        if size > real(0.0):
            g = g / size
        out = vec4(g[0], g[1], g[2], d)
    return out


@numeric
def contact_velocity(v: vec3, wall: vec3, n: vec3, mode: int, friction: real) -> vec3:
    """Grid velocity after contact with a surface moving at `wall`, normal `n`.

    Modes are `physim.sim.model.Contact`: stick, separating slip, Coulomb, bilateral slip.
    """
    rel = v - wall
    vn = wp.dot(rel, n)
    out = v
    if mode == 0:
        out = wall
    if mode == 3:
        out = v - vn * n
    if vn < real(0.0):
        if mode == 1:
            out = v - vn * n
        if mode == 2:
            vt = rel - vn * n
            size = wp.length(vt)
            kept = real(0.0)
            if size > -friction * vn:
                kept = real(1.0) + friction * vn / size
            out = wall + kept * vt
    return out


def mirrors(model: Model) -> list[tuple[int, int]]:
    """Planes of the lower and the upper wall of each axis, in half nodes; -1 where there is none.

    On a periodic axis every node has images: it is before a plane far away.
    """
    planes = [[FAR if periodic else -1, -1] for periodic in model.grid.periodic]
    for wall in model.walls:
        origin = model.grid.origin[wall.axis]
        planes[wall.axis][wall.high] = round(2 * (wall.position - origin) / model.grid.dx)
    return [(low, high) for low, high in planes]


def wall_arrays(model: Model, p: Precision, device: Any) -> dict[str, wp.array]:
    """The plane (in half nodes) and the mirror of each of the six sides, as the grid update takes them.

    A mirror is what the entries of (momentum, mass) are multiplied by, and the velocity that is added times the mass.
    Slip flips the momentum along the normal; no-slip turns the velocity about that of the wall; a periodic side keeps
    all as it is.
    """
    plane, mirror = np.array(mirrors(model), np.int32).reshape(6), np.zeros((6, 2, 4))
    mirror[:, 0] = 1.0
    for side in range(6):
        if not model.grid.periodic[side // 2]:
            mirror[side, 0, side // 2] = -1.0
    for wall in model.walls:
        side = 2 * wall.axis + int(wall.high)
        if wall.kind is WallKind.NO_SLIP:
            mirror[side, 0, :3] = -1.0
            along = [i for i in range(3) if i != wall.axis]
            mirror[side, 1, along] = 2.0 * np.asarray(wall.velocity)[along]
    return {
        "wall_plane": wp.array(plane, dtype=wp.int32, device=device),
        "wall_mirror": wp.array(mirror.reshape(12, 4), dtype=p.vec4, device=device),
    }


def collider_arrays(model: Model, p: Precision, device: Any) -> list[wp.array]:
    """The constant properties of the colliders, as the grid update takes them."""
    colliders = model.colliders
    count = max(1, len(colliders))
    ints = np.zeros((2, count), np.int32)
    friction, size, dims = np.zeros(count), np.zeros((count, 3)), np.ones((count, 3), np.int32)
    origin, spacing, values = np.zeros((count, 3)), np.ones(count), [np.zeros(1)]
    for c, collider in enumerate(colliders):
        ints[0, c] = int(collider.contact)
        friction[c], size[c] = collider.friction, collider.size
        if collider.distances is not None:
            f = collider.distances
            ints[1, c] = sum(len(v) for v in values)
            dims[c], origin[c], spacing[c] = f.shape, f.origin, f.spacing
            values.append(np.asarray(f.values, float).reshape(-1))
    mode, at = (wp.array(row, dtype=wp.int32, device=device) for row in ints)
    return [
        mode,
        wp.array(friction, dtype=p.real, device=device),
        wp.array(size, dtype=p.vec3, device=device),
        at,
        wp.array(dims, dtype=wp.vec3i, device=device),
        wp.array(origin, dtype=p.vec3, device=device),
        wp.array(spacing, dtype=p.real, device=device),
        wp.array(np.concatenate(values), dtype=p.real, device=device),
    ]
