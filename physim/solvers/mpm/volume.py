"""The volume filter of fluids: draws each particle's volume ratio towards the mean of its neighbourhood.

Several particles share a cell, but the grid feels only their weighted sum, so that volume ratios may drift apart
inside a cell without any force that brings them back; the pressures of single particles then tell nothing. After
the return mapping, each particle of a fluid takes a share s of a mean that the grid sees,

    J <- J + s (M J - J),    M = 2 S - S S,    (S J)_p = sum_i w_ip (sum_q w_iq V_q J_q) / (sum_q w_iq V_q),

V the reference volumes and w the spline weights. S alone flattens a pressure gradient at walls and free surfaces;
the second pass M gives most of it back. The sum of V J, the volume, stays what it was. Walls mirror J.
Compare the density diffusion of delta-SPH: Marrone et al. 2011, doi:10.1016/j.cma.2010.12.016.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import warp as wp

from physim.numeric import Precision, kernel, mat33, numeric, real, vec3
from physim.sim.model import Body
from physim.solvers.mpm.boundary import mirror_of
from physim.solvers.mpm.kernels import outside, spline, wrap

# Bound when a kernel is built: dimensions, stencil layers along z, and 2 where the model has walls.
DIM, LAYERS, SIDES = 3, 3, 1
vec2 = None

# Sums and means at the nodes, of the volume strain and of what its first mean misses.
VOLUME_FIELDS = ("volume_sums", "volume_mean", "volume_sums_rest", "volume_mean_rest")


def volume_strain(F: wp.array(dtype=mat33), start: int, e: wp.array(dtype=real)):
    """Volume strain J - 1 of the particles of one body."""
    p = start + wp.tid()
    e[p] = wp.determinant(F[p]) - real(1.0)


def volume_scatter(
    x: wp.array(dtype=vec3),
    e: wp.array(dtype=real),
    vol0: wp.array(dtype=real),
    start: int,
    origin: vec3,
    dx: real,
    shape: wp.vec3i,
    periodic: wp.vec3i,
    volume: wp.array3d(dtype=vec2),
):
    """Sums of w V e and of w V at the nodes, over the particles of one body."""
    p = start + wp.tid()
    s = (x[p] - origin) / dx
    bx = int(wp.floor(s[0] - real(0.5)))
    by = int(wp.floor(s[1] - real(0.5)))
    bz = 0
    wz = vec3(real(1.0), real(0.0), real(0.0))
    if wp.static(DIM == 3):
        bz = int(wp.floor(s[2] - real(0.5)))
        wz = spline(s[2] - real(bz))
        if outside(bz, shape[2], periodic[2]):
            return
    if outside(bx, shape[0], periodic[0]) or outside(by, shape[1], periodic[1]):
        return
    wx = spline(s[0] - real(bx))
    wy = spline(s[1] - real(by))
    full = vol0[p]
    excess = full * e[p]
    for i in range(3):
        gi = wrap(bx + i, shape[0], periodic[0])
        for j in range(3):
            gj = wrap(by + j, shape[1], periodic[1])
            for k in range(LAYERS):
                gk = wrap(bz + k, shape[2], periodic[2])
                w = wx[i] * wy[j] * wz[k]
                wp.atomic_add(volume, gi, gj, gk, vec2(w * excess, w * full))


def volume_mean(volume: wp.array3d(dtype=vec2), wall_plane: wp.array(dtype=wp.int32), strain: wp.array3d(dtype=real)):
    """Weighted mean at each node, with the mirror images beyond the walls."""
    i, j, k = wp.tid()
    mi = mirror_of(i, wall_plane[0], wall_plane[1])
    mj = mirror_of(j, wall_plane[2], wall_plane[3])
    mk = mirror_of(k, wall_plane[4], wall_plane[5])
    total = vec2()
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
                if inside and gi < volume.shape[0] and gj < volume.shape[1] and gk < volume.shape[2]:
                    total = total + volume[gi, gj, gk]
    if total[1] <= real(0.0):
        strain[i, j, k] = real(0.0)
        return
    strain[i, j, k] = total[0] / total[1]


@numeric
def mean_at(
    at: vec3, strain: wp.array3d(dtype=real), origin: vec3, dx: real, shape: wp.vec3i, periodic: wp.vec3i, layers: int
) -> real:
    """Nodal values interpolated to the position `at` [m]; zero outside the grid."""
    s = (at - origin) / dx
    bx = int(wp.floor(s[0] - real(0.5)))
    by = int(wp.floor(s[1] - real(0.5)))
    bz = 0
    wz = vec3(real(1.0), real(0.0), real(0.0))
    out = outside(bx, shape[0], periodic[0]) or outside(by, shape[1], periodic[1])
    if layers == 3:
        bz = int(wp.floor(s[2] - real(0.5)))
        wz = spline(s[2] - real(bz))
        out = out or outside(bz, shape[2], periodic[2])
    mean = real(0.0)
    if not out:
        wx = spline(s[0] - real(bx))
        wy = spline(s[1] - real(by))
        for i in range(3):
            gi = wrap(bx + i, shape[0], periodic[0])
            for j in range(3):
                gj = wrap(by + j, shape[1], periodic[1])
                for k in range(3):
                    if k < layers:
                        gk = wrap(bz + k, shape[2], periodic[2])
                        mean = mean + wx[i] * wy[j] * wz[k] * strain[gi, gj, gk]
    return mean


def volume_rest(
    x: wp.array(dtype=vec3),
    e: wp.array(dtype=real),
    strain: wp.array3d(dtype=real),
    start: int,
    origin: vec3,
    dx: real,
    shape: wp.vec3i,
    periodic: wp.vec3i,
    r: wp.array(dtype=real),
):
    """What the first mean misses, r = e - S e."""
    p = start + wp.tid()
    r[p] = e[p] - mean_at(x[p], strain, origin, dx, shape, periodic, LAYERS)


def volume_relax(
    x: wp.array(dtype=vec3),
    F: wp.array(dtype=mat33),
    r: wp.array(dtype=real),
    strain: wp.array3d(dtype=real),
    share: real,
    start: int,
    origin: vec3,
    dx: real,
    shape: wp.vec3i,
    periodic: wp.vec3i,
    F_out: wp.array(dtype=mat33),
):
    """F scaled to the volume ratio (1 - share) J + share (M J) = J + share (S r - r)."""
    p = start + wp.tid()
    change = mean_at(x[p], strain, origin, dx, shape, periodic, LAYERS) - r[p]
    ratio = real(1.0) + share * change / wp.determinant(F[p])
    F_out[p] = wp.pow(ratio, real(1.0 / 3.0)) * F[p]


@cache
def volume_kernels(precision: Precision, dim: int, *, walls: bool) -> dict[str, wp.Kernel]:
    """The stages of the filter for one kind of model."""
    sides = 2 if walls else 1
    module = f"physim_volume_{dim}d_{sides}"
    sizes = {"DIM": dim, "LAYERS": 3 if dim == 3 else 1, "SIDES": sides, "vec2": precision.vector(2)}
    stages = (volume_strain, volume_scatter, volume_mean, volume_rest, volume_relax)
    return {k.__name__: kernel(k, precision, module=module, **sizes) for k in stages}


def volume_scratch(
    precision: Precision, bodies: Sequence[Body], n: int, shape: tuple[int, int, int], device: Any
) -> dict[str, wp.array]:
    """Scratch memory of the filter; empty where no body is filtered."""
    if not bodies:
        return {}
    made = {name: wp.zeros(n, dtype=precision.real, device=device) for name in ("volume_e", "volume_r")}
    made["F_flow"] = wp.zeros(n, dtype=precision.mat33, device=device)
    for body in bodies:
        for name in VOLUME_FIELDS:
            kind = precision.vector(2) if "sums" in name else precision.real
            made[f"{name}_{body.start}"] = wp.zeros(shape, dtype=kind, device=device)
    return made
