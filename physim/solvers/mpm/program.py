"""One MPM substep as a list of kernel launches, each with its adjoint, and the memory they work in."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import warp as wp
from torch import Tensor

from physim.bridge import Arrays, Probe, Replay, precision_of, to_warp
from physim.laws.compose import Composition
from physim.numeric import Precision, kernel
from physim.sim.model import Model
from physim.solvers.mpm import adjoints, kernels
from physim.solvers.mpm.boundary import collider_arrays, wall_arrays
from physim.solvers.mpm.examine import Record
from physim.solvers.mpm.volume import VOLUME_FIELDS, volume_kernels, volume_scratch


@cache
def transfer_kernels(
    precision: Precision, dim: int, colliders: tuple[int, ...], *, walls: bool, blend: bool
) -> dict[str, wp.Kernel]:
    """P2G, grid update and G2P, and the adjoints of the transfers, for one kind of model."""
    kind = "aflip" if blend else "apic"
    module = f"physim_mpm_{dim}d_{kind}"
    sizes = {"DIM": dim, "LAYERS": 3 if dim == 3 else 1, "BLEND": int(blend)}
    made = {
        source.__name__: kernel(source, precision, module=module, differentiable=False, **sizes)
        for source in (kernels.p2g, kernels.g2p, adjoints.p2g_adjoint, adjoints.g2p_adjoint)
    }
    sides = 2 if walls else 1
    module = f"physim_grid_{kind}_{sides}_{''.join(map(str, colliders))}"
    bound = {"KINDS": colliders, "SIDES": sides, "BLEND": int(blend)}
    made["grid_update"] = kernel(kernels.grid_update, precision, module=module, FORCES=0, **bound)
    made["grid_forces"] = kernel(
        kernels.grid_update, precision, module=module + "_forces", differentiable=False, FORCES=1, **bound
    )
    return made


@cache
def law_kernels(laws: Composition, precision: Precision) -> dict[str, wp.Kernel]:
    """Stress and return-mapping kernels of one composition; made once, so that other threads find them loaded."""
    size, history = len(laws.names), laws.history_size
    bound = {
        "params": precision.vector(size),
        "history": precision.vector(max(1, history)),
        "PARAMS": size,
        "HISTORY": history,
    }
    module = "physim_law_" + laws.name
    stress_of, project_of = laws.stress_function(precision), laws.project_function(precision)
    return {
        "stress": kernel(kernels.stress, precision, module=module, stress_of=stress_of, **bound),
        "project": kernel(kernels.project, precision, module=module, project_of=project_of, **bound),
    }


class Workspace:
    """Kernels, constant arrays and scratch memory of one model in one precision on one device."""

    def __init__(
        self, model: Model, like: Tensor, *, blend: float, mass_floor: float, volume_filter: float = 0.0
    ) -> None:
        wp.init()
        p = self.precision = precision_of(like)
        self.model, self.device = model, wp.device_from_torch(like.device)
        grid = model.grid
        shapes = tuple(int(c.kind) for c in model.colliders)
        self.kernels = transfer_kernels(p, grid.dim, shapes, walls=bool(model.walls), blend=blend > 0)
        self.laws = [law_kernels(m.laws, p) for m in model.materials]
        self.inelastic = any(m.inelastic is not None for m in model.materials)
        self.blend, self.mass_floor, self.volume_filter = p.real(blend), p.real(mass_floor), p.real(volume_filter)
        liquid = [getattr(m.inelastic, "forgets_shape", False) for m in model.materials]
        # Bodies whose volume is filtered; each has its own sums, because volume ratios of two liquids do not mix.
        self.filtered = [b for b in model.bodies if volume_filter > 0 and liquid[b.material]]
        if self.filtered:
            self.kernels = self.kernels | volume_kernels(p, grid.dim, walls=bool(model.walls))
        n = like.shape[0]
        self.constants = [to_warp(t.detach().to(like).contiguous(), p.real) for t in (model.mass, model.vol0)]
        self.walls, self.obstacles = (
            wall_arrays(model, p, self.device),
            collider_arrays(model, p, self.device),
        )
        self.geometry = [
            p.vec3(*grid.origin),
            p.real(grid.dx),
            wp.vec3i(*grid.shape),
            wp.vec3i(*map(int, grid.periodic)),
        ]

        def scratch() -> Arrays:
            kinds = {"tau": p.mat33, "F_trial": p.mat33}
            made = {name: wp.zeros(n, dtype=kind, device=self.device) for name, kind in kinds.items()}
            made["grid"] = wp.zeros(grid.shape, dtype=p.vec4, device=self.device)
            made["grid_v"] = wp.zeros(grid.shape, dtype=p.vec3, device=self.device)
            # The two fields that only a blended transfer uses shrink to one node otherwise.
            extra = grid.shape if blend > 0 else (1, 1, 1)
            made |= {name: wp.zeros(extra, dtype=p.vec3, device=self.device) for name in ("impulse", "grid_u")}
            made["contact_force"] = wp.zeros(max(1, len(shapes)), dtype=p.vec3, device=self.device)
            made |= volume_scratch(p, self.filtered, n, grid.shape, self.device)
            return made

        self.scratch, self._make, self._adjoint = scratch(), scratch, None
        self.record = Record(model, p, self.device)
        self.n = n

    @property
    def adjoint(self) -> Arrays:
        """Adjoint scratch, made when a backward pass first needs it."""
        if self._adjoint is None:
            self._adjoint = self._make()
        return self._adjoint

    def program(self, dt: float, t: float) -> Substep:
        """A program for substeps of `dt` [s] from time `t` [s]."""
        return Substep(self, dt, t)


class Substep:
    """One substep and its adjoint on Warp arrays: the `Program` that the bridge differentiates."""

    def __init__(self, work: Workspace, dt: float, t: float) -> None:
        p = work.precision
        self.work, self.t, self.dt, self._dt = work, t, dt, p.real(dt)
        self.state_types = {"x": p.vec3, "v": p.vec3, "C": p.mat33, "F": p.mat33, "h": p.real}
        motion = {"position": p.vec3, "rotation": p.mat33, "velocity": p.vec3, "spin": p.vec3}
        thetas = {f"theta_{i}": p.real for i in range(len(work.laws))}
        self.input_types = {"gravity": p.vec3, **motion, **thetas}

    def begin(self, inputs: Arrays) -> None:
        """Clear the failure record."""
        self.work.record.clear()

    def finish(self, last: Arrays, count: int, replay: Replay) -> None:
        """Raise `RolloutFailure` for the first substep that failed."""
        self.work.record.settle(last, count, replay, self.dt, self.t)

    def substep(self, state: Arrays, out: Arrays, inputs: Arrays, k: int) -> None:
        """Run the stages forward."""
        for stage in self._stages(state, out, inputs, k):
            stage.forward()

    def contact_forces(self, state: Arrays, inputs: Arrays) -> wp.array:
        """Force [N] of the material on each collider during the substep that starts at `state`."""
        force = self.work.scratch["contact_force"]
        force.zero_()
        for stage in self._stages(state, state, inputs, 0):
            if stage.name == "grid_update":
                stage.forward(self.work.kernels["grid_forces"])
                break
            stage.forward()
        return force

    def substep_adjoint(
        self,
        state: Arrays,
        out: Arrays,
        inputs: Arrays,
        adj_state: Arrays,
        adj_out: Arrays,
        adj_inputs: Arrays,
        k: int,
        probe: Probe | None,
    ) -> None:
        """Recompute the stages, then run their adjoints in reverse."""
        stages = self._stages(state, out, inputs, k, (adj_state, adj_out, adj_inputs))
        for stage in stages:
            stage.forward()
        for array in self.work.adjoint.values():
            array.zero_()
        for stage in reversed(stages):
            stage.backward()
            if probe:
                probe(stage.name, stage.adjoints())

    def _stages(
        self,
        state: Arrays,
        out: Arrays,
        inputs: Arrays,
        k: int,
        adjoints: tuple[Arrays, Arrays, Arrays] | None = None,
    ) -> list[_Stage]:
        """The launches of substep `k` in order; every argument is a (value, adjoint) pair."""
        work, p = self.work, self.work.precision
        adj_state, adj_out, adj_inputs = adjoints or ({}, {}, {})
        adj_scratch = work.adjoint if adjoints else {}

        def of(values: Arrays, grads: Arrays, *names: str) -> list[_Pair]:
            return [(values[n], grads.get(n)) for n in names]

        def fixed(*values: Any) -> list[_Pair]:
            return [(v, None) for v in values]

        def before(*names: str) -> list[_Pair]:
            return of(state, adj_state, *names)

        def temp(*names: str) -> list[_Pair]:
            return of(work.scratch, adj_scratch, *names)

        def given(*names: str) -> list[_Pair]:
            return of(inputs, adj_inputs, *names)

        after = of(out, adj_out, "x", "v", "C", "F", "h")
        trial = temp("F_trial") if work.inelastic else [after[3]]
        geometry, dt, walls = fixed(*work.geometry), fixed(self._dt), fixed(work.walls[0])
        motion = given("position", "rotation", "velocity", "spin")
        stages = []
        for body in work.model.bodies:
            theta = given(f"theta_{body.material}")
            rows = fixed(body.start, int(inputs[f"theta_{body.material}"].shape[0] > 1))
            stages.append(
                _Stage(
                    "stress",
                    work.laws[body.material]["stress"],
                    body.stop - body.start,
                    work.device,
                    [*before("F", "C", "h"), *theta, *rows],
                    temp("tau"),
                )
            )
        stages.append(
            _Stage(
                "p2g",
                work.kernels["p2g"],
                work.n,
                work.device,
                [*before("x", "v", "C"), *temp("tau"), *fixed(*work.constants), *geometry, *dt],
                temp("grid", "impulse"),
                clear=True,
                adjoint=work.kernels["p2g_adjoint"],
            )
        )
        stages.append(
            _Stage(
                "grid_update",
                work.kernels["grid_update"],
                work.model.grid.shape,
                work.device,
                [
                    *temp("grid", "impulse"),
                    *given("gravity"),
                    *geometry[:2],
                    *dt,
                    *fixed(*work.walls, *work.obstacles),
                    *motion,
                    *fixed(p.real(k * self.dt), work.mass_floor),
                ],
                temp("grid_v", "grid_u", "contact_force"),
            )
        )
        stages.append(
            _Stage(
                "g2p",
                work.kernels["g2p"],
                work.n,
                work.device,
                [
                    *before("x", "v", "F"),
                    *temp("grid_v", "grid_u"),
                    *fixed(work.blend),
                    *geometry,
                    *dt,
                    *fixed(k, work.record.status),
                ],
                [*after[:3], *trial],
                adjoint=work.kernels["g2p_adjoint"],
            )
        )
        for body in work.model.bodies if work.inelastic else ():
            theta = given(f"theta_{body.material}")
            rows = fixed(body.start, int(inputs[f"theta_{body.material}"].shape[0] > 1))
            flow = temp("F_flow") if body in work.filtered else [after[3]]
            stages.append(
                _Stage(
                    "project",
                    work.laws[body.material]["project"],
                    body.stop - body.start,
                    work.device,
                    [*trial, *before("h"), after[2], *theta, *rows, *dt],
                    [*flow, after[4]],
                )
            )
        for body in work.filtered:
            count, nodes, first = body.stop - body.start, work.model.grid.shape, fixed(body.start)
            x, flow, vol0 = before("x"), temp("F_flow"), fixed(work.constants[1])
            e, r = temp("volume_e"), temp("volume_r")
            sums, strain, sums2, strain2 = (temp(f"{name}_{body.start}") for name in VOLUME_FIELDS)
            share = fixed(work.volume_filter)
            for name, size, given_to, made in (
                ("volume_strain", count, [*flow, *first], e),
                ("volume_scatter", count, [*x, *e, *vol0, *first, *geometry], sums),
                ("volume_mean", nodes, [*sums, *walls], strain),
                ("volume_rest", count, [*x, *e, *strain, *first, *geometry], r),
                ("volume_scatter", count, [*x, *r, *vol0, *first, *geometry], sums2),
                ("volume_mean", nodes, [*sums2, *walls], strain2),
                ("volume_relax", count, [*x, *flow, *r, *strain2, *share, *first, *geometry], [after[3]]),
            ):
                clear = name == "volume_scatter"
                stages.append(_Stage(name, work.kernels[name], size, work.device, given_to, made, clear=clear))
        return stages


_Pair = tuple[Any, Any]


class _Stage:
    """One kernel launch with the adjoint of each argument beside it.

    A stage whose `adjoint` kernel is written by hand passes it the inputs, the cotangents of the outputs, and the
    buffers of the inputs' cotangents; otherwise Warp's generated adjoint of `kernel` runs.
    """

    def __init__(
        self,
        name: str,
        kernel: wp.Kernel,
        dim: Any,
        device: Any,
        inputs: Sequence[_Pair],
        outputs: Sequence[_Pair],
        *,
        clear: bool = False,
        adjoint: wp.Kernel | None = None,
    ) -> None:
        self.name, self._kernel, self._dim, self._device = name, kernel, dim, device
        self._inputs, self._outputs, self._clear, self._adjoint = inputs, outputs, clear, adjoint

    def forward(self, variant: wp.Kernel | None = None) -> None:
        """Launch the kernel, or a variant of it with the same arguments."""
        values, outputs = [v for v, _ in self._inputs], [v for v, _ in self._outputs]
        if self._clear:
            for array in outputs:
                array.zero_()
        wp.launch(variant or self._kernel, self._dim, values, outputs, device=self._device, record_tape=False)

    def backward(self) -> None:
        """Add the vector-Jacobian products to the adjoints of the inputs."""
        values, grads = [v for v, _ in self._inputs], [g for _, g in self._inputs]
        given = [g for _, g in self._outputs]
        if self._adjoint is not None:
            wanted = [g for g in grads if g is not None]
            wp.launch(self._adjoint, self._dim, [*values, *given], wanted, device=self._device, record_tape=False)
            return
        wp.launch(
            self._kernel,
            self._dim,
            inputs=values,
            outputs=[v for v, _ in self._outputs],
            adj_inputs=grads,
            adj_outputs=given,
            adjoint=True,
            device=self._device,
            record_tape=False,
        )

    def adjoints(self) -> dict[str, Any]:
        """The buffers that `backward` adds to."""
        return {f"{self.name} input {i}": g for i, (_, g) in enumerate(self._inputs) if g is not None}
