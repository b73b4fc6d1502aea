"""The same substep under `wp.Tape`: every adjoint is one that Warp generates, as a check of those written by hand.

The kernels are physim's own formulas (`p2g`, `grid_update`, `contact`, `g2p`, `stress`, `project`), built once more
with adjoints, on plain loops over the stencil (`plain_stencil`) and on laws without hand-written adjoints
(`plain_laws`). Particles stay in the user's order, each substep has fresh memory and a layout of its own, and one tape
holds them all. What depends on the insides of `physim.solvers.mpm` is in this file and in `plain_stencil`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
import warp as wp
from torch import Tensor

from physim.bridge import precision_of, run_segment
from physim.laws.compose import Composition
from physim.numeric import Precision, kernel
from physim.sim.model import Body, Model
from physim.sim.state import Control, ParticleState
from physim.solvers.mpm import grid, kernels, volume
from physim.solvers.mpm.boundary import collider_arrays, mirrors, wall_arrays
from physim.solvers.mpm.examine import FAILURES
from physim.solvers.mpm.layout import Layout
from tools.bench.plain_laws import plain_laws
from tools.bench.plain_stencil import stencil

NEVER = 2**31 - 1
STATE = ("x", "v", "C", "F", "h")
INPUTS = ("gravity", "position", "rotation", "velocity", "spin")


@cache
def stages(
    precision: Precision, dim: int, colliders: tuple[int, ...], *, images: int, blend: bool
) -> dict[str, wp.Kernel]:
    """The stages that every body shares, with generated adjoints."""
    periodic = int(images == 3)
    bound: dict[str, Any] = {"DIM": dim, "BLEND": int(blend)}
    loops: dict[str, Any] = bound | {"PERIODIC": periodic} | stencil(precision, dim)
    kind = f"{dim}d_{int(blend)}{periodic}"
    made = {"p2g": kernel(kernels.p2g, precision, module=f"bench_generated_p2g_{kind}", **loops)}
    for strain, name in enumerate(("g2p_only", "g2p")):
        module = f"bench_generated_{name}_{kind}"
        made[name] = kernel(kernels.g2p, precision, module=module, STRAIN=strain, **loops)
    module = f"bench_generated_grid_{kind}_{images}"
    made["grid_update"] = kernel(grid.grid_update, precision, module=module, SIDES=images, **bound)
    made["find_images"] = kernel(
        grid.find_images, precision, module=module + "_images", differentiable=False, SIDES=images, **bound
    )
    if colliders:
        module = f"bench_generated_contact_{dim}d_{''.join(map(str, colliders))}"
        made["contact"] = kernel(grid.contact, precision, module=module, FORCES=0, DIM=dim, KINDS=colliders)
    module = f"bench_generated_volume_{dim}d_{images}"
    loops["SIDES"] = images
    filters = (volume.volume_strain, volume.volume_scatter, volume.volume_mean, volume.volume_read, volume.volume_relax)
    return made | {f.__name__: kernel(f, precision, module=f"{module}_{f.__name__}", **loops) for f in filters}


@cache
def law_stages(laws: Composition, precision: Precision, wide: int) -> dict[str, wp.Kernel]:
    """Stress and return mapping of one composition, with generated adjoints."""
    plain = plain_laws(laws)
    size, history = len(laws.names), laws.history_size
    vectors = {"params": precision.vector(size), "history": precision.vector(max(1, history))}
    bound: dict[str, Any] = vectors | {"wide_history": precision.vector(wide), "HISTORY": history}
    bound |= {"stress_of": plain.stress_function(precision), "project_of": plain.project_function(precision)}
    module = f"bench_generated_law_{wide}_{laws.name}"
    made = {"stress": kernels.stress, "project": kernels.project}
    return {n: kernel(f, precision, module=f"{module}_{n}", **bound) for n, f in made.items()}


@dataclass
class _Taped:
    """A forward pass on its tape."""

    tape: wp.Tape
    first: dict[str, wp.array]
    last: dict[str, wp.array]
    inputs: dict[str, wp.array]


class GeneratedSegment:
    """Substeps of `dt` [s] as a `Segment` of the gradient boundary."""

    def __init__(self, model: Model, like: Tensor, dt: float, *, blend: float, volume_filter: float) -> None:
        wp.init()
        self._model, self._dt, self._n = model, dt, like.shape[0]
        p = self._p = precision_of(like)
        space, self._filter = model.grid, volume_filter
        images = self._images = 3 if any(space.periodic) else 2 if model.walls else 1
        self._mirrors = mirrors(model)
        shapes = tuple(int(c.kind) for c in model.colliders)
        self._stages = stages(p, space.dim, shapes, images=images, blend=blend > 0)
        wide = max(1, model.history_size)
        self._laws = [law_stages(m.laws, p, wide) for m in model.materials]
        keys = [f"collider_{n}" for n in ("mode", "friction", "size")]
        keys += [f"field_{n}" for n in ("at", "dims", "origin", "spacing", "values")]
        self._of_particles = [t.detach().to(like).contiguous() for t in (model.mass, model.vol0)]
        self._constants: dict[str, Any] = {
            **wall_arrays(model, p, "cpu"),
            **dict(zip(keys, collider_arrays(model, p, "cpu"), strict=True)),
            "mass": wp.from_torch(self._of_particles[0], dtype=p.real),
            "vol0": wp.from_torch(self._of_particles[1], dtype=p.real),
            "origin": p.vec3(*space.origin),
            "per_dx": p.real(1.0 / space.dx),
            "period": wp.vec3i(*(s if w else 0 for s, w in zip(space.shape, space.periodic, strict=True))),
            "last_node": wp.vec3i(-1, -1, -1),
            "blend": p.real(blend),
            "mass_floor": p.real(0.0),
            "share": p.real(volume_filter),
            "dt": p.real(dt),
            "first": 0,
            "row": 0,
            "substep": 0,
            "gravities": 0,
            "stray": wp.full(1, value=NEVER, dtype=wp.int32, device="cpu"),
            "status": wp.full(len(FAILURES), value=2**63 - 1, dtype=wp.int64, device="cpu"),
            "contact_force": wp.zeros(max(1, len(shapes)), dtype=p.vec3, device="cpu"),
        }
        self._types = {"x": p.vec3, "v": p.vec3, "C": p.mat33, "F": p.mat33, "h": p.vector(wide)}

    def forward(
        self, state: dict[str, Tensor], inputs: dict[str, Tensor], count: int, *, keep: bool
    ) -> tuple[dict[str, Tensor], Any]:
        """See `Segment`."""
        kinds = {"gravity": self._p.vec3, "rotation": self._p.mat33}
        kinds |= {n: self._p.vec3 for n in ("position", "velocity", "spin")}
        kinds |= {n: self._p.vector(t.shape[1]) for n, t in inputs.items() if n.startswith("theta_")}
        first = {n: self._taken(t, self._types[n]) for n, t in state.items()}
        given = {n: self._taken(t, kinds[n]) for n, t in inputs.items()}
        tape, now = wp.Tape(), first
        with tape:
            for k in range(count):
                now = self._substep(now, given, k)
        if bool((self._constants["status"].numpy() != 2**63 - 1).any()):
            raise RuntimeError("a particle is not finite or moves by a cell in a substep; the scene is too fast.")
        return {n: wp.to_torch(a).clone() for n, a in now.items()}, _Taped(tape, first, now, given)

    def backward(
        self,
        state: dict[str, Tensor],
        inputs: dict[str, Tensor],
        count: int,
        kept: Any,
        given: dict[str, Tensor | None],
        *,
        probe: bool,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """See `Segment`."""
        if kept is None:
            _out, kept = self.forward(state, inputs, count, keep=True)
        seeds = {kept.last[n]: wp.from_torch(g.contiguous(), dtype=self._types[n]) for n, g in given.items()
                 if g is not None}  # fmt: skip
        kept.tape.backward(grads=seeds)
        found = [{n: wp.to_torch(a.grad).clone() for n, a in side.items()} for side in (kept.first, kept.inputs)]
        return found[0], found[1]

    @staticmethod
    def _taken(tensor: Tensor, kind: Any) -> wp.array:
        return wp.clone(wp.from_torch(tensor.detach().contiguous(), dtype=kind), requires_grad=True)

    def _layout(self, x: wp.array) -> tuple[Layout, dict[str, Any]]:
        """Where nodes are in memory; `home` and `shift` in the user's order."""
        ranges = [(b.start, b.stop) for b in self._model.bodies]
        options = {"mirrors": self._mirrors, "sides": self._images}
        layout = Layout(wp.to_torch(x).detach(), None, ranges, self._model.grid, slabs=1, **options)
        back, found = layout.inverse, layout.arrays()
        found["home"] = wp.from_torch(layout.home[back].contiguous(), dtype=wp.vec3i)
        found["shift"] = wp.from_torch(layout.shift[back].contiguous(), dtype=self._p.vec3)
        found["places"] = wp.from_torch(layout.places[back].contiguous(), dtype=wp.int32)
        images = self._stages["find_images"]
        given = [(self._constants | found)[a.label] for a in images.adj.args]
        wp.launch(images, layout.nodes, given, device="cpu", record_tape=False)
        found["order"] = wp.from_torch(torch.arange(self._n, dtype=torch.int32), dtype=wp.int32)
        return layout, found

    def _substep(self, now: dict[str, wp.array], inputs: dict[str, wp.array], k: int) -> dict[str, wp.array]:
        p, model, n = self._p, self._model, self._n
        layout, where = self._layout(now["x"])
        fresh: Any = partial(wp.zeros, device="cpu", requires_grad=True)
        # A body without a history of its own, or with fewer columns than another, keeps the one it has.
        then = {f: fresh(n, dtype=self._types[f]) for f in STATE}
        wide = {b.stop - b.start for b in model.bodies if model.materials[b.material].history_size}
        if not wide:
            then["h"] = now["h"]
        nodal = ("grid", "impulse", "grid_free", "grid_v", "grid_u")
        values: dict[str, Any] = {
            **self._constants, **where, **now, **{f"{f}_out": a for f, a in then.items()}, **inputs,
            **{f: fresh(layout.nodes + 4, dtype=p.vec4) for f in nodal},
            "tau": fresh(n, dtype=p.mat33), "elapsed": p.real(k * self._dt),
        }  # fmt: skip

        def launch(stage: str, count: int, made: Any = None, **extra: Any) -> None:
            made, found = made or self._stages[stage], values | extra
            wp.launch(made, count, [found[a.label] for a in made.adj.args], device="cpu")

        def by_body(stage: str, body: Body, **extra: Any) -> None:
            theta = inputs[f"theta_{body.material}"]
            extra |= {"theta": theta, "first": body.start, "stride": int(theta.shape[0] > 1)}
            launch(stage, body.stop - body.start, self._laws[body.material][stage], **extra)

        def filtered(body: Body, flown: wp.array) -> None:
            e, r, rest = (fresh(n, dtype=p.real) for _ in range(3))
            only = partial(launch, count=body.stop - body.start, first=body.start)
            only("volume_strain", F=flown, e=e)
            for source, missed in ((e, r), (r, rest)):
                sums, mean = (fresh(layout.nodes + 4, dtype=p.vec4) for _ in range(2))
                only("volume_scatter", e=source, sums=sums)
                launch("volume_mean", layout.nodes, sums=sums, mean=mean)
                only("volume_read", mean=mean, e=source, r=missed)
            only("volume_relax", F=flown, r=rest)

        for body in model.bodies:
            by_body("stress", body)
        launch("p2g", n)
        launch("grid_update", layout.nodes, grid_v=values["grid_free" if model.colliders else "grid_v"])
        if model.colliders:
            launch("contact", layout.nodes)
        for body in model.bodies:
            flow = model.materials[body.material].inelastic
            launch("g2p_only" if flow else "g2p", body.stop - body.start, first=body.start)
            if flow and flow.forgets_shape and self._filter > 0:
                flown = fresh(n, dtype=p.mat33)
                by_body("project", body, F_out=flown)
                filtered(body, flown)
            elif flow:
                by_body("project", body)
        return then


class GeneratedSolver:
    """What `SolverMPM.advance` does, with generated adjoints; options as there."""

    def __init__(self, model: Model, *, blend: float = 0.0, volume_filter: float = 0.0) -> None:
        self.model, self._options = model, {"blend": blend, "volume_filter": volume_filter}

    def advance(self, state: ParticleState, control: Control, dt: float, substeps: int) -> ParticleState:
        """`substeps` substeps of `dt` [s] with constant collider twists."""
        motion = [control.position, control.rotation, control.velocity, control.spin]
        if not self.model.colliders:
            motion = [t.new_zeros(1, *t.shape[1:]) for t in motion]
        gravity = self.model.gravity
        if control.acceleration is not None:
            gravity = gravity + control.acceleration.to(gravity)
        inputs = dict(zip(INPUTS, (gravity.reshape(1, 3), *motion), strict=True))
        inputs |= {f"theta_{i}": m.theta() for i, m in enumerate(self.model.materials)}
        inputs = {n: t.to(state.x) for n, t in inputs.items()}
        h = state.h if state.h.shape[1] else state.x.new_zeros(state.x.shape[0], 1)
        segment: Any = GeneratedSegment(self.model, state.x, dt, **self._options)
        given = {"x": state.x, "v": state.v, "C": state.C, "F": state.F, "h": h}
        out = run_segment(segment, substeps, given, inputs, keep=True)
        out["h"] = out["h"] if state.h.shape[1] else state.h
        return ParticleState(**out, t=state.t + substeps * dt)
