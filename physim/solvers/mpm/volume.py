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

from functools import cache
from typing import TYPE_CHECKING, Any

import warp as wp

from physim.bridge import Buffers
from physim.numeric import Precision, kernel, mat33, numeric, real, vec3, vec4
from physim.solvers.mpm.grid import image_node
from physim.solvers.mpm.layout import FixedLayout, Layout
from physim.solvers.mpm.native import stencil_functions

if TYPE_CHECKING:
    from physim.solvers.mpm.launches import Workspace

# Bound when a kernel is built: dimensions, whether an axis is periodic, images per axis, and the stencil's loops.
DIM, PERIODIC, SIDES = 3, 0, 1
scatter = gather = pull = None


@numeric
def strain_of(e: real) -> vec3:
    """A scalar as the vector that a node carries."""
    return vec3(e, real(0.0), real(0.0))


def volume_strain(F: wp.array(dtype=mat33), first: int, e: wp.array(dtype=real)):
    """Volume strain J - 1 of the particles of one body."""
    p = first + wp.tid()
    e[p] = wp.determinant(F[p]) - real(1.0)


def volume_scatter(
    x: wp.array(dtype=vec3),
    e: wp.array(dtype=real),
    vol0: wp.array(dtype=real),
    shift: wp.array(dtype=vec3),
    origin: vec3,
    per_dx: real,
    columns: wp.array(dtype=wp.int32),
    width: int,
    places: wp.array(dtype=wp.int32),
    first: int,
    sums: wp.array(dtype=vec4),
):
    """Sums of w V e and of w V at the nodes, over the particles of one body."""
    p = first + wp.tid()
    at = x[p] - shift[p]
    q = strain_of(vol0[p] * e[p])
    scatter(at, q, mat33(), vol0[p], origin, per_dx, columns, width, places[p], sums)


def volume_scatter_adjoint(
    x: wp.array(dtype=vec3),
    e: wp.array(dtype=real),
    vol0: wp.array(dtype=real),
    shift: wp.array(dtype=vec3),
    origin: vec3,
    per_dx: real,
    columns: wp.array(dtype=wp.int32),
    width: int,
    places: wp.array(dtype=wp.int32),
    first: int,
    adj_sums: wp.array(dtype=vec4),
    adj_x: wp.array(dtype=vec3),
    adj_e: wp.array(dtype=real),
):
    """Add the cotangents of x and e."""
    p = first + wp.tid()
    at = x[p] - shift[p]
    q = strain_of(vol0[p] * e[p])
    found = pull(at, q, mat33(), vol0[p], origin, per_dx, columns, width, places[p], adj_sums)
    adj_e[p] = adj_e[p] + vol0[p] * found[0][0]
    adj_x[p] = adj_x[p] + vec3(found[4][0], found[4][1], real(DIM - 2) * found[4][2])


def volume_mean(
    sums: wp.array(dtype=vec4),
    node_column: wp.array(dtype=wp.int32),
    image_slot: wp.array(dtype=wp.int32),
    images: wp.array(dtype=wp.int32),
    mean: wp.array(dtype=vec4),
):
    """Weighted mean at each node, with the images beyond walls and periodic sides."""
    node = wp.tid()
    if node_column[node] < 0:
        return
    slot = -1
    if wp.static(SIDES > 1):
        slot = image_slot[node]
    total = vec4()
    if slot < 0:
        total = sums[node]
    else:
        for a in range(SIDES):
            for b in range(SIDES):
                for c in range(SIDES):
                    other = image_node(slot, a, b, c, SIDES, images)
                    if other >= 0:
                        total = total + sums[other]
    if total[3] <= real(0.0):
        mean[node] = vec4()
        return
    mean[node] = vec4(total[0] / total[3], real(0.0), real(0.0), real(0.0))


def volume_read(
    x: wp.array(dtype=vec3),
    mean: wp.array(dtype=vec4),
    shift: wp.array(dtype=vec3),
    origin: vec3,
    per_dx: real,
    columns: wp.array(dtype=wp.int32),
    width: int,
    places: wp.array(dtype=wp.int32),
    first: int,
    e: wp.array(dtype=real),
    r: wp.array(dtype=real),
):
    """What a mean misses at the particles, r = e - S e."""
    p = first + wp.tid()
    found = gather(x[p] - shift[p], origin, per_dx, columns, width, places[p], mean)
    r[p] = e[p] - found[0][0]


def volume_read_adjoint(
    x: wp.array(dtype=vec3),
    mean: wp.array(dtype=vec4),
    shift: wp.array(dtype=vec3),
    origin: vec3,
    per_dx: real,
    columns: wp.array(dtype=wp.int32),
    width: int,
    places: wp.array(dtype=wp.int32),
    first: int,
    adj_r: wp.array(dtype=real),
    adj_x: wp.array(dtype=vec3),
    adj_e: wp.array(dtype=real),
    adj_mean: wp.array(dtype=vec4),
):
    """Add the cotangents of x, e and the nodal mean."""
    p = first + wp.tid()
    at = x[p] - shift[p]
    q = strain_of(-adj_r[p])
    scatter(at, q, mat33(), real(0.0), origin, per_dx, columns, width, places[p], adj_mean)
    found = pull(at, q, mat33(), real(0.0), origin, per_dx, columns, width, places[p], mean)
    adj_e[p] = adj_e[p] + adj_r[p]
    adj_x[p] = adj_x[p] + vec3(found[4][0], found[4][1], real(DIM - 2) * found[4][2])


def volume_relax(
    F: wp.array(dtype=mat33), r: wp.array(dtype=real), share: real, first: int, F_out: wp.array(dtype=mat33)
):
    """F scaled to the volume ratio (1 - share) J + share (M J) = J - share (r - S r), from r - S r."""
    p = first + wp.tid()
    ratio = real(1.0) - share * r[p] / wp.determinant(F[p])
    F_out[p] = wp.pow(ratio, real(1.0 / 3.0)) * F[p]


@cache
def volume_kernels(precision: Precision, dim: int, *, images: int) -> dict[str, wp.Kernel]:
    """The stages of the filter for one kind of model, with the hand-written adjoints."""
    module = f"physim_volume_{dim}d_{images}"
    sizes = {"DIM": dim, "SIDES": images} | stencil_functions(precision, dim)
    by_hand = (volume_scatter, volume_scatter_adjoint, volume_read, volume_read_adjoint)
    made = {k.__name__: kernel(k, precision, module=module, differentiable=False, **sizes) for k in by_hand}
    rest = (volume_strain, volume_mean, volume_relax)
    return made | {k.__name__: kernel(k, precision, module=module + "_a", **sizes) for k in rest}


class VolumeFilter:
    """The filter on one layout: from the deformation after plastic flow to the one that is kept."""

    def __init__(self, work: Workspace, layout: Layout | FixedLayout) -> None:
        p, n, dim = work.precision, work.n, work.model.grid.dim
        self._work, self._layout = work, layout
        self._kernels = volume_kernels(p, dim, images=work.images)
        scalars, nodes = ("e", "r", "rr"), ("sums", "mean", "sums_rest", "mean_rest")
        shapes = {s: (n,) for s in scalars} | {s: (work.capacity, 4) for s in nodes}
        types = {s: p.real for s in scalars} | {s: p.vec4 for s in nodes}
        like = work.mass
        self._values, self._grads = (Buffers.zeros(shapes, types, like) for _ in range(2))

    def _stages(self, F: Any, F_out: Any) -> list[tuple[str, dict[str, tuple[Any, str | None]]]]:
        """Kernels in order, with the arrays that differ between two uses of one kernel."""
        return [
            ("volume_strain", {"F": F, "e": "e"}),
            ("volume_scatter", {"e": "e", "sums": "sums"}),
            ("volume_mean", {"sums": "sums", "mean": "mean"}),
            ("volume_read", {"mean": "mean", "e": "e", "r": "r"}),
            ("volume_scatter", {"e": "r", "sums": "sums_rest"}),
            ("volume_mean", {"sums": "sums_rest", "mean": "mean_rest"}),
            ("volume_read", {"mean": "mean_rest", "e": "r", "r": "rr"}),
            ("volume_relax", {"F": F, "r": "rr", "F_out": F_out}),
        ]

    def _launch(self, name: str, values: dict[str, Any], index: int, adjoints: dict | None = None) -> None:
        made = self._kernels[name]
        first, stop = self._work.worlds.ranges[index]
        if name == "volume_mean":
            first, stop = 0, self._layout.nodes
        self._work.launch(made, stop - first, {"first": first, **values}, adjoints)()

    def forward(self, state: Buffers, out: Buffers) -> None:
        """From `F_flow` in the scratch memory to `out`'s F."""
        arrays = self._work.scratch.arrays | self._values.arrays | {"kept": out.arrays["F"], "x": state.arrays["x"]}
        for index in self._work.filtered:
            self._work.clear(self._values, "sums", "sums_rest")
            for name, used in self._stages("F_flow", "kept"):
                values = {label: arrays[source] for label, source in used.items()}
                self._launch(name, {"x": arrays["x"], **values}, index)

    def backward(self, state: Buffers, adj_state: Buffers, adj_out: Buffers) -> None:
        """Cotangent of `F_flow` from that of F, and what is added to that of x."""
        work, scratch = self._work, self._work.scratch
        values = scratch.arrays | self._values.arrays | {"x": state.arrays["x"], "kept": scratch.arrays["F_flow"]}
        grads = self._grads.arrays | {"F_flow": scratch.arrays["adj_F_flow"], "kept": adj_out.arrays["F"]}
        scratch.tensors["adj_F_flow"].zero_()
        for index in work.filtered:
            work.clear(self._values, "sums", "sums_rest")
            stages = self._stages("F_flow", "kept")
            for name, used in stages[:-1]:
                self._launch(name, {"x": values["x"], **{n: values[s] for n, s in used.items()}}, index)
            for name in ("e", "r", "rr"):
                self._grads.tensors[name].zero_()
            work.clear(self._grads, "sums", "mean", "sums_rest", "mean_rest")
            for name, used in reversed(stages):
                given = {"x": values["x"], **{n: values[s] for n, s in used.items()}}
                back = {n: grads[s] for n, s in used.items()}
                if f"{name}_adjoint" in self._kernels:
                    named = {f"adj_{n}": a for n, a in back.items()} | {"adj_x": adj_state.arrays["x"]}
                    self._launch(f"{name}_adjoint", given | named, index)
                else:
                    self._launch(name, given, index, back)
