"""The kernel launches of an MPM substep, built once per model, and the memory they work in.

A substep is a few phases with a barrier between them; in a phase each thread has its own list of launches.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
import warp as wp
from torch import Tensor

from physim.bridge import Arrays, Buffers, Pool, precision_of, to_warp
from physim.crew import Crew
from physim.launch import Launch
from physim.laws.compose import Composition
from physim.numeric import Precision, kernel
from physim.sim.model import Model
from physim.solvers.mpm import adjoints, grid, kernels
from physim.solvers.mpm.boundary import collider_arrays, mirrors, wall_arrays
from physim.solvers.mpm.examine import Record
from physim.solvers.mpm.layout import ROOM, SLABS, FixedLayout, Layout
from physim.solvers.mpm.native import stencil_functions
from physim.solvers.mpm.wide_laws import traceable, wide_kernel
from physim.solvers.mpm.worlds import Worlds

NEVER = 2**31 - 1


@cache
def transfer_kernels(
    precision: Precision,
    dim: int,
    colliders: tuple[int, ...],
    *,
    images: int,
    blend: bool,
    several: bool,
    wide: int = 1,
) -> dict[str, wp.Kernel]:
    """P2G, grid update and G2P, and the adjoints of the transfers, for one kind of model.

    `wide` is the widest history of the model's laws.
    """
    periodic, kind = int(images == 3), "aflip" if blend else "apic"
    sizes = {"DIM": dim, "BLEND": int(blend), "WORLDS": int(several)}
    particles = {"PERIODIC": periodic} | sizes | stencil_functions(precision, dim)
    particles["wide_history"] = precision.vector(wide)
    worlds = "_worlds" if several else ""
    made = {}
    for strain in (0, 1):
        module = f"physim_mpm_{dim}d_{kind}_{periodic}{strain}{worlds}_{wide}"
        both = (kernels.p2g, adjoints.p2g_adjoint, grid.clear, grid.merge, adjoints.blank)
        for source in (kernels.g2p, adjoints.g2p_adjoint, *(both if strain else ())):
            name = source.__name__ + ("" if strain else "_only")
            made[name] = kernel(source, precision, module=module, differentiable=False, STRAIN=strain, **particles)
    module = f"physim_grid_{dim}d_{kind}_{images}{worlds}"
    for source in (grid.find_images, grid.grid_update, adjoints.grid_update_adjoint, adjoints.gravity_adjoint):
        made[source.__name__] = kernel(source, precision, module=module, differentiable=False, SIDES=images, **sizes)
    if colliders:
        module = f"physim_contact_{dim}d_{''.join(map(str, colliders))}{worlds}"
        bound = {"KINDS": colliders, "DIM": dim, "WORLDS": int(several)}
        made["contact"] = kernel(grid.contact, precision, module=module, FORCES=0, **bound)
        made["contact_forces"] = kernel(
            grid.contact, precision, module=module + "_forces", differentiable=False, FORCES=1, **bound
        )
    return made


@cache
def law_kernels(laws: Composition, precision: Precision, wide: int) -> dict[str, wp.Kernel]:
    """Stress and return-mapping kernels of one composition; made once, so that other threads find them loaded.

    They serve where `wide_kernel` does not: on a GPU, and for laws that cannot be traced.
    """
    bound = {
        "params": precision.vector(laws.width),
        "history": precision.vector(max(1, laws.history_size)),
        "wide_history": precision.vector(wide),
        "HISTORY": laws.history_size,
    }
    module = f"physim_law_{wide}_{laws.name}"
    stress_of, project_of = laws.stress_function(precision), laws.project_function(precision)
    return {
        "stress": kernel(kernels.stress, precision, module=module, stress_of=stress_of, **bound),
        "project": kernel(kernels.project, precision, module=module, project_of=project_of, **bound),
    }


class Workspace:
    """Kernels, constant arrays and scratch memory of one model in one precision on one device.

    Args:
        model: what is simulated.
        like: a tensor of the state's type and device.
        blend, mass_floor, volume_filter: see `SolverMPM`.
        threads: CPU threads.
        worlds: copies of the model.
        records: whether runs of substeps are recorded and repeated; memory then stays at its addresses.
    """

    def __init__(
        self,
        model: Model,
        like: Tensor,
        *,
        blend: float,
        mass_floor: float,
        volume_filter: float,
        threads: int,
        worlds: Worlds,
        records: bool,
    ) -> None:
        wp.init()
        p = self.precision = precision_of(like)
        self.model, self.device = model, wp.device_from_torch(like.device)
        space, self.n = model.grid, worlds.total
        self.worlds = worlds
        self.cpu = like.device.type == "cpu"
        self.records = records
        direct = self.cpu and not records
        self.threads = threads if direct else 1
        self.crew = Crew(self.threads)
        self.slab_limit = SLABS if direct else 1
        self.blend = blend > 0
        shapes = tuple(int(c.kind) for c in model.colliders)
        self.periodic = any(space.periodic)
        self.images = 3 if self.periodic else 2 if model.walls else 1
        self.wide = max(1, model.history_size)
        self.kernels = transfer_kernels(
            p, space.dim, shapes, images=self.images, blend=self.blend, several=worlds.count > 1, wide=self.wide
        )
        self.laws = [law_kernels(m.laws, p, self.wide) for m in model.materials]
        # Bodies whose law works on many particles at once.
        self.many = [self.cpu and traceable(model.materials[b.material].laws, p) for b in model.bodies]
        widths = [model.materials[b.material].history_size for b in model.bodies]
        self._unwritten = any(w < model.history_size for w in widths)
        self.flows = [model.materials[b.material].evolves for b in model.bodies]
        liquid = [getattr(m.inelastic, "forgets_shape", False) for m in model.materials]
        # Bodies whose volume is filtered; each has its own sums, because volume ratios of two liquids do not mix.
        self.filtered = [i for i, b in enumerate(model.bodies) if volume_filter > 0 and liquid[b.material]]
        self.record, self.pool = Record(model, worlds.count, p, self.device), Pool()
        self.mass, self.vol0 = (worlds.repeat(t.detach().to(like)).contiguous() for t in (model.mass, model.vol0))
        walls = wall_arrays(model, p, self.device)
        self.mirrors = mirrors(model)
        names = ("mode", "friction", "size")
        fields = ("at", "dims", "origin", "spacing", "values")
        keys = [f"collider_{n}" for n in names] + [f"field_{n}" for n in fields]
        solids = dict(zip(keys, collider_arrays(model, p, self.device), strict=True))
        last = [space.shape[i] - 3 if i < space.dim and not space.periodic[i] else -1 for i in range(3)]
        self.stray = wp.full(1, value=NEVER, dtype=wp.int32, device=self.device)
        self.contact_force = wp.zeros(worlds.count * max(1, len(shapes)), dtype=p.vec3, device=self.device)
        self.constants: dict[str, Any] = {
            **walls,
            **solids,
            "origin": p.vec3(*space.origin),
            "per_dx": p.real(1.0 / space.dx),
            "period": wp.vec3i(*(s if w else 0 for s, w in zip(space.shape, space.periodic, strict=True))),
            "last_node": wp.vec3i(*last),
            "blend": p.real(blend),
            "mass_floor": p.real(mass_floor),
            "share": p.real(volume_filter),
            "stray": self.stray,
            "status": self.record.status,
            "contact_force": self.contact_force,
        }
        flow = (self.n if self.filtered else 1, 3, 3)
        particles = {"tau": (self.n, 3, 3), "adj_tau": (self.n, 3, 3), "F_flow": flow, "adj_F_flow": flow}
        self.scratch = Buffers.zeros(particles, {n: p.mat33 for n in particles}, like)
        self._like, self._nodes = like, Buffers.zeros({}, {}, like)
        self.capacity = 0
        self.layout: Layout | FixedLayout | None = None
        self._bound: dict[str, Any] = {}
        self._bound_to: tuple[Layout | FixedLayout, float] | None = None
        self._fixed: FixedLayout | None = None
        thetas = {f"theta_{i}": p.vector(m.laws.width) for i, m in enumerate(model.materials)}
        motion = {"position": p.vec3, "rotation": p.mat33, "velocity": p.vec3, "spin": p.vec3}
        self.input_types = {"gravity": p.vec3, **motion, **thetas}
        self.inputs = self.grads = Buffers({}, {})
        self._left: tuple[Tensor, int, Layout] | None = None

    @property
    def grid_names(self) -> tuple[str, ...]:
        """Nodal sums that the particles scatter, and that the backward pass needs."""
        return ("grid", "impulse") if self.blend else ("grid",)

    def bits(self, value: float) -> int:
        """A real number of this precision as the word that `Crew.run` takes."""
        return int.from_bytes(struct.pack("<f" if self.precision.name == "f32" else "<d", value), "little", signed=True)

    def take_state(self) -> Buffers:
        """Memory for one state."""
        n = self.n
        shapes = {"x": (n, 3), "v": (n, 3), "C": (n, 3, 3), "F": (n, 3, 3), "h": (n, self.wide)}
        found = self._take(shapes, self.state_types)
        if self._unwritten:
            # A body's law writes only its own columns of a history that another body has made wider.
            found.tensors["h"].zero_()
        return found

    def _take(self, shapes: dict[str, tuple[int, ...]], types: dict[str, Any]) -> Buffers:
        found = self.pool.take(shapes, types, self._like)
        if self.records and self.cpu:
            # What Warp records on a CPU it must see as arrays.
            found.packed = found.arrays
        return found

    @staticmethod
    def sort(state: Mapping[str, Tensor], rows: Tensor, into: Buffers) -> None:
        """Copy a state with its rows in another order."""
        for name, tensor in into.tensors.items():
            torch.index_select(state[name], 0, rows, out=tensor)

    def leave(self, x: Tensor, layout: Layout) -> None:
        """Remember the positions at which a segment ended, and its layout if it still holds."""
        holds = (self.cpu or self.records) and int(self.stray.numpy()[0]) == NEVER
        # Detached, because the graph of `x` holds this workspace. Without versions nobody can tell whether `x` changes.
        self._left = (x.detach(), x._version, layout) if holds and not x.is_inference() else None

    def resume(self, x: Tensor) -> Layout | None:
        """The layout of the segment that ended at these positions."""
        if (
            self._left is None
            or x.is_inference()
            or self._left[0].data_ptr() != x.data_ptr()
            or self._left[1] != x._version
        ):
            return None
        return self._left[2]

    def take_grid(self) -> Buffers:
        """Memory for the nodal sums of one substep."""
        shapes = {n: (self.capacity, 4) for n in self.grid_names}
        return self._take(shapes, {n: self.precision.vec4 for n in shapes})

    def clear(self, nodes: Buffers, *names: str) -> None:
        """Zero nodal fields, all or those named, as far as the layout reaches."""
        assert self.layout is not None
        for name in names or nodes.tensors:
            nodes.tensors[name][: self.layout.nodes + 4].zero_()

    @property
    def state_types(self) -> dict[str, Any]:
        """Warp types of the state."""
        p = self.precision
        return {"x": p.vec3, "v": p.vec3, "C": p.mat33, "F": p.mat33, "h": p.vector(self.wide)}

    @property
    def nodes(self) -> Buffers:
        """Nodal scratch fields; a blended transfer has one more of each kind."""
        return self._nodes

    def _grow(self, nodes: int) -> None:
        if nodes + 4 <= self.capacity:
            return
        # A layout at fixed addresses has its room already.
        self.capacity = (nodes if self.records else int(ROOM * nodes)) + 4
        self._bound_to = None
        self.pool.clear()
        fields = ["grid_v", "adj_grid", "adj_grid_v", "odd_grid"]
        fields += ["grid_free", "adj_grid_free"] if self.model.colliders else []
        fields += ["grid_u", "adj_impulse", "adj_grid_u", "odd_impulse"] if self.blend else []
        p = self.precision
        self._nodes = Buffers.zeros({n: (self.capacity, 4) for n in fields}, {n: p.vec4 for n in fields}, self._like)

    def node_arrays(self) -> Arrays:
        """Nodal scratch by name, with placeholders for what a substep brings along or only a blended transfer has."""
        arrays = dict(self._nodes.arrays)
        for name in ("grid", "impulse", "grid_u", "adj_impulse", "adj_grid_u", "odd_impulse"):
            arrays.setdefault(name, self._nodes.arrays["grid_v"])
        return arrays

    def load(self, inputs: Mapping[str, Tensor]) -> None:
        """Take over the inputs of a segment, into memory of our own, so that launches need not be built again."""
        shapes = {n: tuple(t.shape) for n, t in inputs.items()}
        if shapes != {n: tuple(t.shape) for n, t in self.inputs.tensors.items()}:
            self.inputs = Buffers.zeros(shapes, self.input_types, self._like)
            self.grads = Buffers.zeros(shapes, self.input_types, self._like)
            self._bound_to = None
        self.inputs.load(inputs)

    def placed(self, layout: Layout) -> Layout | FixedLayout:
        """The layout, or where launches are recorded, the same one at fixed addresses."""
        if not self.records:
            return layout
        if self._fixed is None or not self._fixed.holds(layout):
            self._fixed = FixedLayout(layout)
        else:
            self._fixed.load(layout)
            for kept, given in zip(self._of_particles, (self.mass, self.vol0), strict=True):
                torch.index_select(given, 0, layout.order, out=kept)
        return self._fixed

    def bind(self, layout: Layout | FixedLayout, dt: float) -> bool:
        """Point new launches to a layout and a substep [s]; False if those from before still serve."""
        self._grow(layout.nodes)
        same = self._bound_to is not None and self._bound_to[0] is layout and self._bound_to[1] == dt
        if not same:
            self._bound_to, self.layout = (layout, dt), layout
            self._bound = self._arguments(layout, dt)
            self._thetas = [self._sorted_theta(i) for i in range(len(self.model.bodies))]
        if self.images > 1 and (self.records or not same):
            self.launch(self.kernels["find_images"], layout.nodes, {})()
        for index, (sorted_theta, _) in enumerate(self._thetas):
            theta = self._theta_of(index)
            if theta.shape[0] > 1:
                sorted_theta.copy_(theta[self.theta_rows(layout, index)])
        return not same

    def theta_rows(self, layout: Layout | FixedLayout, index: int) -> Tensor:
        """Rows of its material's parameters for the particles of a body, in the layout's order."""
        start, stop = self.worlds.ranges[index]
        return self.worlds.parameter_rows(self.model.bodies[index], self._theta_of(index), layout.order[start:stop])

    def _theta_of(self, index: int) -> Tensor:
        return self.inputs.tensors[f"theta_{self.model.bodies[index].material}"]

    def _sorted_theta(self, index: int) -> tuple[Tensor, wp.array]:
        theta = self._theta_of(index)
        if theta.shape[0] == 1:
            return theta, self.inputs.arrays[f"theta_{self.model.bodies[index].material}"]
        start, stop = self.worlds.ranges[index]
        made = theta.new_empty(stop - start, theta.shape[1])
        return made, to_warp(made, self.precision.vector(theta.shape[1]))

    def _arguments(self, layout: Layout | FixedLayout, dt: float) -> dict[str, Any]:
        p, order = self.precision, layout.order
        blank = self.take_state()
        self.pool.give(blank)
        self._of_particles = [self.mass[order], self.vol0[order]]
        return {
            **self.constants,
            **blank.arrays,
            **{f"{n}_out": a for n, a in blank.arrays.items()},
            **self.scratch.arrays,
            **layout.arrays(),
            **self.node_arrays(),
            **self.inputs.arrays,
            "mass": to_warp(self._of_particles[0], p.real),
            "vol0": to_warp(self._of_particles[1], p.real),
            "shift": to_warp(layout.shift, p.vec3),
            "dt": p.real(dt),
            "elapsed": p.real(0.0),
            "substep": 0,
            "first": 0,
            "row": 0,
            "stride": 0,
            "gravities": int(self.inputs.tensors["gravity"].shape[0] > 1),
        }

    def theta(self, body: int) -> Tensor:
        """Parameters of a body in the layout's order, (1, k) or (n_b, k)."""
        return self._thetas[body][0]

    def launch(
        self, made: wp.Kernel, count: int, extra: dict[str, Any], adjoints: dict | None = None, *fixed: str
    ) -> Launch:
        """A launch with the bound arguments and others."""
        values = self._bound | extra
        return Launch(made, count, self.device, values, adjoints, frozenset(fixed), recordable=self.records)

    def law_launch(self, stage: str, index: int, start: int, stop: int, adjoints: dict | None = None) -> Launch:
        """A launch of a law's kernel over particles of one body."""
        body = self.model.bodies[index]
        theta, array = self._thetas[index]
        extra = {
            "theta": array,
            "first": start,
            "row": start - self.worlds.ranges[index][0],
            "stride": int(theta.shape[0] > 1),
        }
        fixed = []
        if stage == "project" and index in self.filtered:
            extra["F_out"] = self.scratch.arrays["F_flow"]
            fixed = ["F_out", "adj_F_out"]
        if self.many[index]:
            extra |= {"count": stop - start} | {f"adj_{n}": a for n, a in (adjoints or {}).items()}
            name = stage if adjoints is None else f"{stage}_adjoint"
            laws = self.model.materials[body.material].laws
            made = wide_kernel(laws, self.precision, self.wide, name, extra["stride"] > 0)
            return self.launch(made, 1, extra, None, *fixed)
        return self.launch(self.laws[body.material][stage], stop - start, extra, adjoints, *fixed)
