"""MLS-MPM: particles carry the state, a background grid solves momentum each substep."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
import warp as wp
from torch import Tensor

from physim.bridge import Arrays, Probe, precision_of, run_segment, to_warp
from physim.checks import check_finite, check_shape
from physim.errors import InputError
from physim.laws.material import Material
from physim.laws.stability import stable_substep
from physim.numeric import Precision, kernel
from physim.sim.model import Grid, Model
from physim.sim.state import Control, ParticleState
from physim.sim.trajectory import RolloutFailure, Status
from physim.solvers.mpm import kernels

_FAILURES = (Status.NONFINITE, Status.LEFT_GRID, Status.TOO_FAST)
_NEVER = np.iinfo(np.int64).max


@cache
def transfer_kernels(precision: Precision, dim: int, colliders: int) -> dict[str, wp.Kernel]:
    """P2G, grid update and G2P for one precision, dimension and number of colliders."""
    module = f"physim_mpm_{dim}d"
    layers = 3 if dim == 3 else 1
    p2g = kernel(kernels.p2g, precision, module=module, DIM=dim, LAYERS=layers)
    g2p = kernel(kernels.g2p, precision, module=module, DIM=dim, LAYERS=layers)
    grid = kernel(kernels.grid_update, precision, module=f"physim_grid_{colliders}", COLLIDERS=colliders)
    return {"p2g": p2g, "g2p": g2p, "grid_update": grid}


def law_kernels(material: Material, precision: Precision) -> dict[str, wp.Kernel]:
    """Stress and return-mapping kernels of one material's composition."""
    size, history = len(material.names), material.history_size
    bound = {
        "params": precision.vector(size),
        "history": precision.vector(max(1, history)),
        "PARAMS": size,
        "HISTORY": history,
    }
    module = "physim_law_" + material.composition
    stress_of, project_of = material.stress_function(precision), material.project_function(precision)
    return {
        "stress": kernel(kernels.stress, precision, module=module, stress_of=stress_of, **bound),
        "project": kernel(kernels.project, precision, module=module, project_of=project_of, **bound),
    }


class SolverMPM:
    """Moving-least-squares MPM with quadratic B-splines and APIC, 2D (plane strain) or 3D.

    Args:
        model: grid, materials, walls, colliders.
        x: initial positions [m], (n, 3); their dtype and device are those of the simulation.
        v: initial velocities [m/s], (n, 3); zero unless given.

    Raises:
        InputError: shapes disagree, numbers are not finite, or particles start outside the grid.
    """

    def __init__(self, model: Model, x: Tensor, v: Tensor | None = None) -> None:
        n = model.vol0.shape[0]
        check_shape("x", x, (n, 3))
        check_finite("x", x)
        if v is not None:
            check_shape("v", v, (n, 3))
            check_finite("v", v)
        _check_inside(model.grid, x)
        self.model = model
        self._x, self._v = x, v
        self._workspaces: dict[tuple, _Workspace] = {}

    def initial_state(self) -> ParticleState:
        """Undeformed particles at their initial positions and velocities."""
        x = self._x
        h = x.new_zeros(x.shape[0], self.model.history_size)
        for body in self.model.bodies:
            material = self.model.materials[body.material]
            rest = material.rest_history(body.stop - body.start).to(h)
            h[body.start : body.stop, : rest.shape[1]] = rest
        return ParticleState.at_rest(x, v=self._v, h=h)

    def stable_dt(self, state: ParticleState) -> float:
        """Largest safe substep [s]: wave speed, viscosity, and particles crossing cells."""
        dx = self.model.grid.dx
        limits = [
            stable_substep(
                self.model.materials[b.material],
                state.F[b.start : b.stop].detach(),
                dx,
                dim=self.model.grid.dim,
            )
            for b in self.model.bodies
        ]
        speed = float(state.v.detach().norm(dim=1).max())
        return min([*limits, 0.5 * dx / speed if speed > 0 else float("inf")])

    def particles(self, state: ParticleState) -> ParticleState:
        """The state itself."""
        return state

    def step(self, state: ParticleState, control: Control | None, dt: float) -> ParticleState:
        """One substep of `dt` [s]."""
        return self.advance(state, control, dt, 1)

    def advance(
        self, state: ParticleState, control: Control | None, dt: float, substeps: int, *, keep: bool = False
    ) -> ParticleState:
        """`substeps` substeps as one differentiable segment, with constant collider twists.

        Raises:
            RolloutFailure: a particle left the grid, moved too fast, or is not finite.
            GradientError: in backward, when a gradient is not finite.
        """
        control = control or self.model.control_at(state.t)
        program = self._workspace(state).program(dt, state.t)
        history = state.h if state.h.shape[1] else state.x.new_zeros(state.x.shape[0], 1)
        now = {"x": state.x, "v": state.v, "C": state.C, "F": state.F, "h": history}
        out = run_segment(program, substeps, now, self._inputs(state, control), keep=keep)
        h = out["h"] if state.h.shape[1] else state.h
        return ParticleState(out["x"], out["v"], out["C"], out["F"], h, t=state.t + substeps * dt)

    def _inputs(self, state: ParticleState, control: Control) -> dict[str, Tensor]:
        gravity = self.model.gravity
        if control.acceleration is not None:
            gravity = gravity + control.acceleration.to(gravity)
        motion = {"position": control.position, "rotation": control.rotation}
        motion |= {"velocity": control.velocity, "spin": control.spin}
        if not self.model.colliders:
            motion = {n: t.new_zeros(1, *t.shape[1:]) for n, t in motion.items()}
        thetas = {f"theta_{i}": m.theta() for i, m in enumerate(self.model.materials)}
        return {n: t.to(state.x) for n, t in {"gravity": gravity.reshape(1, 3), **motion, **thetas}.items()}

    def _workspace(self, state: ParticleState) -> _Workspace:
        key = (state.x.dtype, state.x.device)
        if key not in self._workspaces:
            self._workspaces[key] = _Workspace(self.model, state.x)
        return self._workspaces[key]


class _Workspace:
    """Kernels, constant arrays and scratch memory of one model in one precision on one device."""

    def __init__(self, model: Model, like: Tensor) -> None:
        wp.init()
        p = self.precision = precision_of(like)
        self.model, self.device = model, wp.device_from_torch(like.device)
        grid = model.grid
        self.kernels = transfer_kernels(p, grid.dim, len(model.colliders))
        self.laws = [law_kernels(m, p) for m in model.materials]
        self.inelastic = any(m.inelastic is not None for m in model.materials)
        n = like.shape[0]
        self.constants = [to_warp(t.detach().to(like).contiguous(), p.real) for t in (model.mass, model.vol0)]
        self.walls, self.obstacles = (
            _wall_arrays(model, p, self.device),
            _collider_arrays(model, p, self.device),
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
            return made

        self.scratch, self._make, self._adjoint = scratch(), scratch, None
        self.status = wp.full(3, value=_NEVER, dtype=wp.int64, device=self.device)
        self.n = n

    @property
    def adjoint(self) -> Arrays:
        """Adjoint scratch, made when a backward pass first needs it."""
        if self._adjoint is None:
            self._adjoint = self._make()
        return self._adjoint

    def program(self, dt: float, t: float) -> _Substep:
        return _Substep(self, dt, t)


class _Substep:
    """One substep and its adjoint on Warp arrays: the `Program` that the bridge differentiates."""

    def __init__(self, work: _Workspace, dt: float, t: float) -> None:
        p = work.precision
        self.work, self.t, self.dt, self._dt = work, t, dt, p.real(dt)
        self.state_types = {"x": p.vec3, "v": p.vec3, "C": p.mat33, "F": p.mat33, "h": p.real}
        motion = {"position": p.vec3, "rotation": p.mat33, "velocity": p.vec3, "spin": p.vec3}
        thetas = {f"theta_{i}": p.real for i in range(len(work.laws))}
        self.input_types = {"gravity": p.vec3, **motion, **thetas}

    def begin(self, inputs: Arrays) -> None:
        self.work.status.fill_(_NEVER)

    def finish(self) -> None:
        keys = self.work.status.numpy()
        found = [(int(key), status) for key, status in zip(keys, _FAILURES, strict=True) if key != _NEVER]
        if found:
            key, status = min(found, key=lambda f: f[0])
            substep, particle = divmod(key, 2**32)
            raise RolloutFailure(status, substep=substep, particle=particle, t=self.t + substep * self.dt)

    def substep(self, state: Arrays, out: Arrays, inputs: Arrays, k: int) -> None:
        for stage in self._stages(state, out, inputs, k):
            stage.forward()

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
        geometry, dt = fixed(*work.geometry), fixed(self._dt)
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
                temp("grid"),
                clear=True,
            )
        )
        stages.append(
            _Stage(
                "grid_update",
                work.kernels["grid_update"],
                work.model.grid.shape,
                work.device,
                [
                    *temp("grid"),
                    *given("gravity"),
                    *geometry[:2],
                    *dt,
                    *fixed(*work.walls, *work.obstacles),
                    *motion,
                    *fixed(p.real(k * self.dt)),
                ],
                temp("grid_v"),
            )
        )
        stages.append(
            _Stage(
                "g2p",
                work.kernels["g2p"],
                work.n,
                work.device,
                [*before("x", "v", "F"), *temp("grid_v"), *geometry, *dt, *fixed(k, work.status)],
                [*after[:3], *trial],
            )
        )
        for body in work.model.bodies if work.inelastic else ():
            theta = given(f"theta_{body.material}")
            rows = fixed(body.start, int(inputs[f"theta_{body.material}"].shape[0] > 1))
            stages.append(
                _Stage(
                    "project",
                    work.laws[body.material]["project"],
                    body.stop - body.start,
                    work.device,
                    [*trial, *before("h"), after[2], *theta, *rows, *dt],
                    [after[3], after[4]],
                )
            )
        return stages


_Pair = tuple[Any, Any]


class _Stage:
    """One kernel launch with the adjoint of each argument beside it."""

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
    ) -> None:
        self.name, self._kernel, self._dim, self._device = name, kernel, dim, device
        self._inputs, self._outputs, self._clear = inputs, outputs, clear

    def forward(self) -> None:
        outputs = [v for v, _ in self._outputs]
        if self._clear:
            for array in outputs:
                array.zero_()
        wp.launch(
            self._kernel,
            self._dim,
            inputs=[v for v, _ in self._inputs],
            outputs=outputs,
            device=self._device,
            record_tape=False,
        )

    def backward(self) -> None:
        wp.launch(
            self._kernel,
            self._dim,
            inputs=[v for v, _ in self._inputs],
            outputs=[v for v, _ in self._outputs],
            adj_inputs=[g for _, g in self._inputs],
            adj_outputs=[g for _, g in self._outputs],
            adjoint=True,
            device=self._device,
            record_tape=False,
        )

    def adjoints(self) -> dict[str, Any]:
        """The buffers that `backward` adds to."""
        return {f"{self.name} input {i}": g for i, (_, g) in enumerate(self._inputs) if g is not None}


def _check_inside(grid: Grid, x: Tensor) -> None:
    low, high = np.asarray(grid.origin) + 0.5 * grid.dx, np.asarray(grid.upper) - 0.5 * grid.dx
    at = x.detach().cpu().numpy()
    free = [a for a in range(grid.dim) if not grid.periodic[a]]
    bad = np.flatnonzero(((at[:, free] < low[free]) | (at[:, free] > high[free])).any(axis=1))
    if len(bad):
        raise InputError(
            f"{len(bad)} of {len(at)} particles start outside the grid (or within half a cell of its edge), the first "
            f"at {tuple(round(float(c), 6) for c in at[bad[0]])} m; the grid holds {tuple(low.round(6))} to "
            f"{tuple(high.round(6))} m. Enlarge the grid or move the body."
        )


def _wall_arrays(model: Model, p: Precision, device: Any) -> list[wp.array]:
    plane = np.full(6, -1, np.int32)
    kind = np.zeros(6, np.int32)
    velocity = np.zeros((6, 3))
    for wall in model.walls:
        side = 2 * wall.axis + int(wall.high)
        plane[side] = round(2 * (wall.position - model.grid.origin[wall.axis]) / model.grid.dx)
        kind[side], velocity[side] = int(wall.kind), wall.velocity
    return [
        wp.array(plane, dtype=wp.int32, device=device),
        wp.array(kind, dtype=wp.int32, device=device),
        wp.array(velocity, dtype=p.vec3, device=device),
    ]


def _collider_arrays(model: Model, p: Precision, device: Any) -> list[wp.array]:
    colliders = model.colliders
    count = max(1, len(colliders))
    ints = np.zeros((3, count), np.int32)
    friction, size, dims = np.zeros(count), np.zeros((count, 3)), np.ones((count, 3), np.int32)
    origin, spacing, values = np.zeros((count, 3)), np.ones(count), [np.zeros(1)]
    for c, collider in enumerate(colliders):
        ints[:2, c] = int(collider.kind), int(collider.contact)
        friction[c], size[c] = collider.friction, collider.size
        if collider.distances is not None:
            f = collider.distances
            ints[2, c] = sum(len(v) for v in values)
            dims[c], origin[c], spacing[c] = f.shape, f.origin, f.spacing
            values.append(np.asarray(f.values, float).reshape(-1))
    kind, mode, at = (wp.array(row, dtype=wp.int32, device=device) for row in ints)
    return [
        kind,
        mode,
        wp.array(friction, dtype=p.real, device=device),
        wp.array(size, dtype=p.vec3, device=device),
        at,
        wp.array(dims, dtype=wp.vec3i, device=device),
        wp.array(origin, dtype=p.vec3, device=device),
        wp.array(spacing, dtype=p.real, device=device),
        wp.array(np.concatenate(values), dtype=p.real, device=device),
    ]
