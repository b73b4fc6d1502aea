"""One substep on one layout, forward and backward, as phases of launches with a barrier between them.

Forward: stress and P2G of the first colour, the same of the second, grid update, G2P and return mapping.
Backward: return mapping and G2P of the first colour, G2P of the second, grid update, P2G and stress.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import warp as wp
from torch import Tensor

from physim.bridge import Buffers, Probe, to_warp
from physim.launch import Launch, Places
from physim.solvers.mpm.launches import Workspace
from physim.solvers.mpm.layout import Layout, Lot, shared_out
from physim.solvers.mpm.volume import VolumeFilter

_STATE = ("x", "v", "C", "F", "h")
Lists = list[list[Launch]]


class Forward:
    """The forward launches of a layout that `work` is bound to."""

    def __init__(self, work: Workspace, layout: Layout) -> None:
        self._work = work
        self.to_grid: list[Lists] = []
        self.grid, self.last, self.flow = (_empty(work) for _ in range(3))
        for colour in range(2):
            lists = _empty(work)
            for index, thread, lots in shared_lots(work, layout, colour):
                start, stop = lots[0].start, lots[-1].stop
                lists[thread].append(work.law_launch("stress", index, start, stop))
                lists[thread].append(work.launch(work.kernels["p2g"], stop - start, {"first": start}))
                kind = "g2p_only" if work.flows[index] else "g2p"
                self.last[thread].append(work.launch(work.kernels[kind], stop - start, {"first": start}))
                if work.flows[index]:
                    project = work.law_launch("project", index, start, stop)
                    self.last[thread].append(project)
                    self.flow[thread].append(project)
            self.to_grid.append(lists)
        self._nodes = layout.nodes
        step = -(-layout.nodes // work.threads)
        for thread in range(work.threads):
            first = thread * step
            count = min(step, layout.nodes - first)
            if count > 0:
                self.grid[thread].append(work.launch(work.kernels["grid_update"], count, {"first": first}))
        self.filter = VolumeFilter(work, layout) if work.filtered else None
        self._places = Places(_flat([*self.to_grid, self.grid, self.last]))
        self._bound: tuple[Buffers, Buffers] | None = None

    def bind(self, state: Buffers, out: Buffers, grid: Buffers, k: int, dt: float) -> None:
        """Point the launches at substep `k`."""
        put = self._places.put
        for name in _STATE:
            put(name, state.packed[name])
            put(f"{name}_out", out.packed[name])
        for name, packed in grid.packed.items():
            put(name, packed)
        put("substep", k)
        put("elapsed", k * dt)
        self._bound = state, out

    def run(self) -> None:
        """Launch everything."""
        assert self._bound is not None
        for lists in (*self.to_grid, self.grid, self.last):
            self._work.crew.run(lists)
        if self.filter:
            self.filter.forward(*self._bound)

    def contact_forces(self, grid: Buffers) -> Tensor:
        """Force [N] on each collider, (c, 3), in the bound substep."""
        work = self._work
        for lists in self.to_grid:
            work.crew.run(lists)
        force = work.contact_force
        force.zero_()
        work.launch(work.kernels["grid_forces"], self._nodes, grid.arrays)()
        return wp.to_torch(force).clone()


class Backward:
    """The adjoint launches of a layout that `work` is bound to, and the parameters' cotangents.

    A law shared by a whole body sums its parameters' cotangents lot by lot, and the lots in order, so that the result
    does not depend on the threads.
    """

    def __init__(self, work: Workspace, layout: Layout, grads: Buffers) -> None:
        self._work, self._layout = work, layout
        self.theta = [_theta_cotangents(work, layout, i) for i in range(len(work.model.bodies))]
        p = work.precision
        self._theta_arrays = [[to_warp(row, p.real) for row in rows] for rows in self.theta]
        arrays = work.scratch.arrays
        nodes = work.node_arrays()
        blank = work.take_state()
        adj_in = {n: blank.arrays[n] for n in _STATE}
        ends = {f"adj_{n}": a for n, a in blank.arrays.items()} | {f"adj_{n}_out": a for n, a in blank.arrays.items()}
        self.flow: list[Lists] = []
        self.rest = _empty(work)
        self._project: list[Launch] = []
        self._stress: list[Launch] = []
        for colour in range(2):
            lists = _empty(work)
            for index, thread, lots in shared_lots(work, layout, colour):
                start, stop = lots[0].start, lots[-1].stop
                flows = work.flows[index]
                if flows:
                    given = {"F": adj_in["F"], "h": adj_in["h"], "C_out": adj_in["C"], "h_out": adj_in["h"]}
                    given["F_out"] = arrays["adj_F_flow"] if index in work.filtered else adj_in["F"]
                    made = self._by_lot("project", index, lots, given)
                    self._project += made
                    lists[thread] += made
                kind = "g2p_adjoint_only" if flows else "g2p_adjoint"
                lists[thread].append(work.launch(work.kernels[kind], stop - start, {"first": start, **ends, **nodes}))
                forward = work.law_launch("stress", index, start, stop)
                self.rest[thread].append(forward)
                extra = {"first": start, **ends, **nodes, "adj_tau": arrays["adj_tau"]}
                self.rest[thread].append(work.launch(work.kernels["p2g_adjoint"], stop - start, extra))
                given = {n: adj_in[n] for n in ("F", "C", "h")} | {"tau": arrays["adj_tau"]}
                made = self._by_lot("stress", index, lots, given)
                self._stress += made
                self.rest[thread] += made
            self.flow.append(lists)
        given = {"grid": nodes["adj_grid"], "impulse": nodes["adj_impulse"]}
        given |= {"grid_v": nodes["adj_grid_v"], "grid_u": nodes["adj_grid_u"]}
        given |= {n: grads.arrays[n] for n in ("gravity", "position", "rotation", "velocity", "spin")}
        self.grid = [[work.launch(work.kernels["grid_update"], layout.nodes, {}, given)]]
        self._places = Places(_flat([*self.flow, self.grid, self.rest]))
        self._of_project, self._of_stress = Places(self._project), Places(self._stress)
        work.pool.give(blank)

    def _by_lot(self, stage: str, index: int, lots: list[Lot], given: dict[str, Any]) -> list[Launch]:
        work, rows = self._work, self._theta_arrays[index]
        if work.theta(index).shape[0] > 1:
            made = given | {"theta": rows[0]}
            return [work.law_launch(stage, index, lots[0].start, lots[-1].stop, made)]
        return [work.law_launch(stage, index, lot.start, lot.stop, given | {"theta": rows[lot.slab]}) for lot in lots]

    def bind(
        self, state: Buffers, out: Buffers, grid: Buffers, adj_state: Buffers, adj_out: Buffers, k: int, dt: float
    ) -> None:
        """Point the launches at substep `k`."""
        put = self._places.put
        for name in _STATE:
            put(name, state.packed[name])
            put(f"{name}_out", out.packed[name])
            put(f"adj_{name}", adj_state.packed[name])
            put(f"adj_{name}_out", adj_out.packed[name])
        for name, packed in grid.packed.items():
            put(name, packed)
        put("elapsed", k * dt)
        for name in ("F", "h"):
            self._of_project.put(name, adj_state.packed[name], True)
            self._of_project.put(f"{name}_out", adj_out.packed[name], True)
        self._of_project.put("C_out", adj_out.packed["C"], True)
        for name in ("F", "C", "h"):
            self._of_stress.put(name, adj_state.packed[name], True)
        self._bound = state, adj_state, adj_out

    def run(self, forward: Forward, adj_state: Buffers, probe: Probe | None) -> None:
        """Launch everything; `forward`, bound to the same substep, recomputes the nodal velocities."""
        work = self._work
        nodes = work.nodes.tensors
        top = self._layout.nodes + 4
        work.crew.run(forward.grid)
        for name in [n for n in nodes if n.startswith("adj_")]:
            nodes[name][:top].zero_()
        # These are added to; the others are assigned first.
        for name in ("x", "h", *(("F",) if any(work.flows) else ())):
            adj_state.tensors[name].zero_()
        if forward.filter:
            work.crew.run(forward.flow)
            forward.filter.backward(*self._bound)
        for lists in self.flow:
            work.crew.run(lists)
        if probe:
            probe("g2p", {**adj_state.arrays, "grid_v": work.nodes.arrays["adj_grid_v"]})
        work.crew.run(self.grid)
        if probe:
            probe("grid_update", {"grid": work.nodes.arrays["adj_grid"]})
        work.crew.run(self.rest)
        if probe:
            probe("p2g and stress", adj_state.arrays)

    def collect(self, grads: Buffers) -> None:
        """Add the parameters' cotangents to those of the user's parameters."""
        work = self._work
        for index, body in enumerate(work.model.bodies):
            total = grads.tensors[f"theta_{body.material}"]
            if work.theta(index).shape[0] > 1:
                rows = self._layout.order[body.start : body.stop] - body.start
                total.index_add_(0, rows, self.theta[index][0])
            else:
                total += self.theta[index].sum(dim=0)


def shared_lots(work: Workspace, layout: Layout, colour: int) -> Iterable[tuple[int, int, list[Lot]]]:
    """Body, thread, and lots of each thread's share of a colour."""
    for index, colours in enumerate(layout.lots):
        for thread, lots in enumerate(shared_out(colours[colour], work.threads)):
            if lots:
                yield index, thread, lots


def _empty(work: Workspace) -> Lists:
    return [[] for _ in range(work.threads)]


def _flat(phases: Iterable[Lists]) -> Iterable[Launch]:
    return (launch for lists in phases for launches in lists for launch in launches)


def _theta_cotangents(work: Workspace, layout: Layout, body: int) -> Tensor:
    theta = work.theta(body)
    rows = 1 if theta.shape[0] > 1 else layout.slabs
    return torch.zeros((rows, *theta.shape), dtype=theta.dtype, device=theta.device)
