# pyright: reportInvalidTypeForm=false, reportIndexIssue=false
"""The loops over a particle's stencil as plain Warp functions, whose adjoints Warp generates.

What `physim.solvers.mpm.native` does with vector registers, node by node with atomic additions.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import warp as wp

from physim.numeric import Precision, mat33, real, rebind, vec3, vec4
from physim.solvers.mpm.native import AXES

# Bound when a function is built: coordinates that a, b and r stand for, and layers of the stencil along b.
A, B, R, NB = 0, 1, 2, 3
spline: Any = None
lever: Any = None


def plain_spline(u: real, i: int) -> real:
    """Quadratic B-spline of node i, u in cells from node 0, in 0.5 to 1.5."""
    s = u - real(i)
    w = real(0.75) - s * s
    if i == 0:
        w = real(0.5) * (real(1.5) - u) * (real(1.5) - u)
    if i == 2:
        w = real(0.5) * (u - real(0.5)) * (u - real(0.5))
    return w


def plain_lever(u: real, i: int) -> real:
    """From the particle to node i, in cells."""
    return real(i) - u


def plain_scatter(
    x: vec3,
    q: vec3,
    K: mat33,
    m: real,
    origin: vec3,
    per_dx: real,
    columns: wp.array(dtype=wp.int32),
    width: int,
    place: int,
    nodes: wp.array(dtype=vec4),
):
    """Add w (q + K d, m) to each node of the stencil, d being the node's distance from the particle at `x` [m]."""
    s = (x - origin) * per_dx
    first = wp.vec3i(int(wp.floor(s[0] - real(0.5))), int(wp.floor(s[1] - real(0.5))), int(wp.floor(s[2] - real(0.5))))
    for i in range(3):
        for j in range(NB):
            for k in range(3):
                u_a = s[A] - real(first[A])
                u_r = s[R] - real(first[R])
                w = spline(u_a, i) * spline(u_r, k)
                node = vec3()
                at = place + (first[A] + i) * width
                if wp.static(NB == 3):
                    u_b = s[B] - real(first[B])
                    w = w * spline(u_b, j)
                    node = vec3(lever(u_a, i), lever(u_b, j), lever(u_r, k))
                    at = at + first[B] + j
                if wp.static(NB == 1):
                    node = vec3(lever(u_a, i), lever(u_r, k), real(0.0))
                at = columns[at] + first[R] + k
                p = q + K @ (node / per_dx)
                wp.atomic_add(nodes, at, vec4(w * p[0], w * p[1], w * p[2], w * m))


def plain_gather(
    x: vec3,
    origin: vec3,
    per_dx: real,
    columns: wp.array(dtype=wp.int32),
    width: int,
    place: int,
    nodes: wp.array(dtype=vec4),
):
    """Sums over the nodes' vectors g: row 0 is sum w g, row 1 + e is sum w g d_e."""
    s = (x - origin) * per_dx
    first = wp.vec3i(int(wp.floor(s[0] - real(0.5))), int(wp.floor(s[1] - real(0.5))), int(wp.floor(s[2] - real(0.5))))
    total = vec3()
    by_x = vec3()
    by_y = vec3()
    by_z = vec3()
    for i in range(3):
        for j in range(NB):
            for k in range(3):
                u_a = s[A] - real(first[A])
                u_r = s[R] - real(first[R])
                w = spline(u_a, i) * spline(u_r, k)
                node = vec3()
                at = place + (first[A] + i) * width
                if wp.static(NB == 3):
                    u_b = s[B] - real(first[B])
                    w = w * spline(u_b, j)
                    node = vec3(lever(u_a, i), lever(u_b, j), lever(u_r, k))
                    at = at + first[B] + j
                if wp.static(NB == 1):
                    node = vec3(lever(u_a, i), lever(u_r, k), real(0.0))
                found = nodes[columns[at] + first[R] + k]
                g = w * vec3(found[0], found[1], found[2])
                d = node / per_dx
                total = total + g
                by_x = by_x + d[0] * g
                by_y = by_y + d[1] * g
                by_z = by_z + d[2] * g
    return wp.matrix_from_rows(total, by_x, by_y, by_z)


@cache
def stencil(precision: Precision, dim: int) -> dict[str, Any]:
    """The loops over a stencil as Warp functions with generated adjoints."""
    axes = dict(zip("ABR", AXES[dim], strict=True)) | {"NB": 3 if dim == 3 else 1}
    names = precision.names() | axes
    for label, helper in (("spline", plain_spline), ("lever", plain_lever)):
        names[label] = wp.func(rebind(helper, names, f"_{precision.name}"))
    made = {"scatter": plain_scatter, "gather": plain_gather}
    return {n: wp.func(rebind(f, names, f"_{precision.name}_{dim}d")) for n, f in made.items()}
