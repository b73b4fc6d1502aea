"""MLS-MPM: particles carry the state, a background grid solves momentum each substep."""

from __future__ import annotations

import threading
import weakref
from typing import Any

import numpy as np
import torch
from torch import Tensor

from physim.bridge import on_stream_of, run_segment
from physim.checks import check_finite
from physim.errors import InputError
from physim.laws.stability import largest_shear_rate, stable_substep
from physim.sim.model import Grid, Model
from physim.sim.state import Control, ParticleState
from physim.sim.trajectory import RolloutFailure
from physim.solvers.mpm.launches import Workspace
from physim.solvers.mpm.layout import ROOM, Layout
from physim.solvers.mpm.segment import Bound, MPMSegment
from physim.solvers.mpm.worlds import Worlds

FEW = 4000
"""Particles below which a second thread costs more than it brings."""


class SolverMPM:
    """Moving-least-squares MPM with quadratic B-splines and APIC, 2D (plane strain) or 3D.

    Args:
        model: grid, materials, walls, colliders.
        x: initial positions [m], (n, 3); their dtype and device are those of the simulation.
        v: initial velocities [m/s], (n, 3); zero unless given.
        blend: share in [0, 1) of a particle's own velocity that the grid cannot represent and that it keeps (AFLIP);
            0 is plain APIC: robust, and more viscous.
        mass_floor: mass [kg] added to every node when its velocity is formed. It calms nodes that a body barely
            touches, at the price of a little momentum; 0 conserves momentum exactly.
        volume_filter: share in [0, 1] by which, each substep, a fluid particle's volume ratio is drawn towards the
            mean of its neighbourhood (`volume`); 0.02 keeps the pressures inside a cell together.
        threads: CPU threads; unless given, torch's number (`torch.set_num_threads`) on the main thread and from FEW
            particles on, else one. Results do not depend on it.
        worlds: copies of the model that run side by side in one launch and never touch each other. States then hold
            all their particles, world after world: x is (B n, 3), and `split` gives (B, n, 3); initial positions and
            velocities may be given for one world or for all. Material parameters may have one row per world, and a
            control an axis of worlds before its colliders.
        drop_failed: let the other worlds go on where one fails (unless all have): its state is NaN from the end of that
            segment on, which takes no part in gradients, and `failures` tells what happened. Otherwise a failure in
            one world is raised and ends them all.
        graphs: record runs of substeps once and repeat them without Python (CUDA graphs); unless given, on a GPU.
            Only on the main thread, and not with a volume filter.

    Attributes:
        failures: the failure of each world that has been dropped; its substep is counted from the start of the rollout.

    Raises:
        InputError: shapes disagree, numbers are not finite, or particles start outside the grid.
    """

    def __init__(
        self,
        model: Model,
        x: Tensor,
        v: Tensor | None = None,
        *,
        blend: float = 0.0,
        mass_floor: float = 0.0,
        volume_filter: float = 0.0,
        threads: int | None = None,
        worlds: int = 1,
        drop_failed: bool = False,
        graphs: bool | None = None,
    ) -> None:
        self.worlds = Worlds(model, worlds)
        x = self.worlds.spread("x", x)
        check_finite("x", x)
        if v is not None:
            v = self.worlds.spread("v", v)
            check_finite("v", v)
        _check_inside(model.grid, x)
        self.model = model
        if not 0.0 <= blend < 1.0:
            raise InputError(f"blend must be in [0, 1), got {blend}.")
        if not 0.0 <= mass_floor < float("inf"):
            raise InputError(f"mass_floor must be a finite mass [kg], at least 0, got {mass_floor}.")
        if not 0.0 <= volume_filter <= 1.0:
            raise InputError(f"volume_filter must be in [0, 1], got {volume_filter}.")
        self._x, self._v = x, v
        self._options = {"blend": blend, "mass_floor": mass_floor, "volume_filter": volume_filter}
        self.threads = threads
        self.graphs = graphs
        self.drop_failed = drop_failed
        self.failures: dict[int, RolloutFailure] = {}
        self._workspaces: dict[tuple, Workspace] = {}
        self._bound: dict[int, Bound] = {}
        self._counted: tuple[weakref.ref[Tensor] | None, int, int] = (None, 0, 0)

    def of_worlds(self, worlds: int, *, drop_failed: bool = False) -> SolverMPM:
        """The same solver for another number of copies of the model; this one must have one."""
        options: dict[str, Any] = {"threads": self.threads, "graphs": self.graphs, **self._options}
        return SolverMPM(self.model, self._x, self._v, worlds=worlds, drop_failed=drop_failed, **options)

    def initial_state(self) -> ParticleState:
        """Undeformed particles at their initial positions and velocities."""
        x = self._x
        h = x.new_zeros(x.shape[0], self.model.history_size)
        for body in self.model.bodies:
            material = self.model.materials[body.material]
            rest = material.rest_history(body.stop - body.start).to(h)
            self.split(h)[:, body.start : body.stop, : rest.shape[1]] = rest
        return ParticleState.at_rest(x, v=self._v, h=h)

    def split(self, rows: Tensor) -> Tensor:
        """Rows of all particles, (B n, ...), by world, (B, n, ...)."""
        return self.worlds.split(rows)

    def stable_dt(self, state: ParticleState) -> float:
        """Largest safe substep [s]: wave speed, viscosity, and particles crossing cells."""
        dx = self.model.grid.dx
        limits, worlds = [], self.worlds
        thetas = [m.theta().detach() for m in self.model.materials]
        worlds.check_parameters(thetas)
        going = torch.isfinite(state.x.detach()).all(dim=1) | (not self.drop_failed)
        for body in self.model.bodies:
            material = self.model.materials[body.material]
            use = worlds.of_body(going, body)
            F, C = (worlds.of_body(t.detach(), body)[use] for t in (state.F, state.C))
            theta = worlds.spread_parameters(body, thetas[body.material])
            theta = theta if theta.shape[0] == 1 else theta[use.cpu()]
            rate = largest_shear_rate(C)
            limits.append(stable_substep(material, F, dx, dim=self.model.grid.dim, theta=theta, rate=rate))
        speed = float(state.v.detach()[going].norm(dim=1).max())
        return min([*limits, 0.5 * dx / speed if speed > 0 else float("inf")])

    def substep_bytes(self, state: ParticleState) -> int:
        """Memory [bytes] that a substep leaves for its adjoint: the state, the nodal sums, and a share of layouts."""
        x = state.x.detach()
        # Rollouts from one start, as a fit makes them, count its nodes once.
        start, version, nodes = self._counted
        if start is None or start() is not state.x or version != state.x._version:
            ranges = [(b.start, b.stop) for b in self.model.bodies]
            living = self.worlds.living(x)
            some = self.worlds.rows_of(living, x)
            nodes = Layout(some, None, ranges, self.model.grid, worlds=len(living)).nodes if living else 0
            self._counted = (weakref.ref(state.x), state.x._version, nodes)
        sums = 2 if self._options["blend"] > 0 else 1
        # Sorted indices, cells and their inverses, once for several substeps.
        layout = 16 * x.shape[0]
        return state.bytes() + int(ROOM * nodes + 4) * 4 * sums * x.element_size() + layout

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
        worlds, tensors, inputs = self.worlds, _tensors(state), self._inputs(state, control)

        def run(worlds: Worlds, tensors: dict[str, Tensor], inputs: dict[str, Tensor]) -> dict[str, Tensor]:
            return run_segment(self._segment(state, dt, worlds), substeps, tensors, inputs, keep=keep)

        living = worlds.living(state.x) if self.drop_failed else []
        while True:
            try:
                if len(living) in (0, worlds.count):
                    out = run(worlds, tensors, inputs)
                else:
                    some = {n: worlds.rows_of(living, t) for n, t in tensors.items()}
                    out = run(worlds.part(living), some, worlds.inputs_of(living, inputs))
                    out = {n: worlds.fill(living, t) for n, t in out.items()}
                break
            except RolloutFailure as error:
                if not living:
                    raise
                world = living[error.world or 0]
                failure = self.failures.setdefault(world, error.in_world(world))
                if len(living) == 1:
                    raise failure from None
                living.remove(world)
        h = out["h"] if state.h.shape[1] else state.h
        return ParticleState(out["x"], out["v"], out["C"], out["F"], h, t=state.t + substeps * dt)

    def collider_forces(self, state: ParticleState, dt: float, control: Control | None = None) -> Tensor:
        """Force of the material on each collider [N], (c, 3), over the next substep of `dt` [s]; carries no gradient.

        Several worlds give (B, c, 3). In two dimensions per metre of depth [N/m].
        """
        control = control or self.model.control_at(state.t)
        worlds, count = self.worlds, len(self.model.colliders)
        with on_stream_of(state.x), torch.no_grad():
            now = {n: t.detach().contiguous() for n, t in _tensors(state).items()}
            inputs = {n: t.detach().contiguous() for n, t in self._inputs(state, control).items()}
            living = worlds.living(state.x) if self.drop_failed else list(range(worlds.count))
            if len(living) < worlds.count:
                now = {n: worlds.rows_of(living, t) for n, t in now.items()}
                inputs = worlds.inputs_of(living, inputs)
            segment = self._segment(state, dt, worlds.part(living))
            some = segment.contact_forces(now, inputs).reshape(len(living), -1, 3)[:, :count]
            found = some.new_full((worlds.count, count, 3), float("nan"))
            found[living] = some
            return found[0] if worlds.count == 1 else found

    def _segment(self, state: ParticleState, dt: float, worlds: Worlds) -> MPMSegment:
        work = self._workspace(state, worlds)
        return MPMSegment(work, self._bound.setdefault(id(work), Bound()), dt, state.t)

    def _inputs(self, state: ParticleState, control: Control) -> dict[str, Tensor]:
        thetas = {f"theta_{i}": m.theta() for i, m in enumerate(self.model.materials)}
        self.worlds.check_parameters([thetas[f"theta_{i}"] for i in range(len(self.model.materials))])
        motion = self.worlds.motions(control)
        return {n: t.to(state.x) for n, t in {"gravity": self.worlds.gravity(control), **motion, **thetas}.items()}

    def _workspace(self, state: ParticleState, worlds: Worlds | None = None) -> Workspace:
        worlds = worlds or self.worlds
        # Whoever runs simulations on several threads already has them busy.
        alone = threading.current_thread() is threading.main_thread()
        threads = self.threads or (torch.get_num_threads() if alone and worlds.total >= FEW else 1)
        # One recording at a time: launches of other threads would get into it.
        records = alone and (state.x.is_cuda if self.graphs is None else self.graphs)
        key = (state.x.dtype, state.x.device, 1 if records else threads, worlds.count, records)
        if key not in self._workspaces:
            self._workspaces[key] = Workspace(
                self.model, state.x, threads=threads, worlds=worlds, records=records, **self._options
            )
        return self._workspaces[key]


def _tensors(state: ParticleState) -> dict[str, Tensor]:
    """The tensors of a state; laws without history still have the argument."""
    history = state.h if state.h.shape[1] else state.x.new_zeros(state.x.shape[0], 1)
    return {"x": state.x, "v": state.v, "C": state.C, "F": state.F, "h": history}


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
