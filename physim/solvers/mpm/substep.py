"""One substep on one layout, forward and backward, as phases of launches with a barrier between them.

Forward: clear the nodal sums; stress and P2G; add up the sums of even and odd slabs; grid update; G2P and return
mapping. Backward: clear, and recompute nodal velocities; adjoints of return mapping and G2P; add up; of the grid
update; of P2G and stress.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
import warp as wp
from torch import Tensor

from physim.bridge import Buffers, Probe, to_warp
from physim.crew import Plan
from physim.launch import Launch
from physim.solvers.mpm.launches import Workspace
from physim.solvers.mpm.layout import FixedLayout, Layout, Lot, dealt
from physim.solvers.mpm.volume import VolumeFilter

_STATE = ("x", "v", "C", "F", "h")
Row = list[Any]
Lists = list[list[Launch]]
APART = 128
"""Bytes that keep what two threads write in different lines of memory, and in different pairs of lines."""


class Forward:
    """The forward launches of a layout that `work` is bound to."""

    def __init__(self, work: Workspace, layout: Layout | FixedLayout) -> None:
        self._work = work
        scatter, last, flow = (_empty(work) for _ in range(3))
        for index, thread, odd, lots in shared_lots(work, layout):
            start, stop = lots[0].start, lots[-1].stop
            scatter[thread].append(work.law_launch("stress", index, start, stop))
            scatter[thread].append(_onto_grid(work, "p2g", start, stop, odd, "grid", "impulse"))
            kind = "g2p_only" if work.flows[index] else "g2p"
            last[thread].append(work.launch(work.kernels[kind], stop - start, {"first": start}))
            if work.flows[index]:
                project = work.law_launch("project", index, start, stop)
                last[thread].append(project)
                flow[thread].append(project)
        clear, merge = (_over_nodes(work, layout, name) for name in ("clear", "merge"))
        if not layout.odd:
            merge = _empty(work)
        grid = _grid_update(work, layout, "grid_update")
        if work.model.colliders:
            _extend(grid, _over_nodes(work, layout, "contact"))
        self._nodes = layout.nodes
        self.filter = VolumeFilter(work, layout) if work.filtered else None
        self.grid, self.columns = grid, columns_of(work)
        self._phases = [clear, scatter, merge, grid, last]
        self._whole = Plan(self._phases, work.threads, self.columns)
        self._flow = flow

    @cached_property
    def flow(self) -> Plan:
        """The return mappings alone."""
        return Plan([self._flow], self._work.threads, self.columns)

    def row(self, state: Buffers, out: Buffers, grid: Buffers, k: int, dt: float) -> Row:
        """What changes in substep `k`, in the order of `columns`."""
        if self._work.records:
            return [k, k * dt, *(v for b in (state, out, grid) for v in b.packed.values())]
        return [k, self._work.bits(k * dt), *state.words.values(), *out.words.values(), *grid.words.values()]

    def run(self, rows: list[Row]) -> None:
        """Run the substeps of these rows, to the first in which a particle strays."""
        self._work.crew.run(self._whole, rows, self._work.stray)

    def contact_forces(self, row: Row) -> Tensor:
        """Force [N] on each collider, (c, 3), in the substep of a row."""
        work = self._work
        work.crew.run(Plan(self._phases[:-1], work.threads, self.columns), [row])
        force = work.contact_force
        force.zero_()
        work.launch(work.kernels["contact_forces"], self._nodes, {})()
        return wp.to_torch(force).clone()


class Backward:
    """The adjoint launches of a layout that `work` is bound to, and the parameters' cotangents.

    A law shared by a whole body sums its parameters' cotangents lot by lot, and the lots in order, so that the result
    does not depend on the threads.

    Args:
        work: kernels and memory.
        layout: the layout.
        forward: the forward launches, to be bound to the same substep.
    """

    def __init__(self, work: Workspace, layout: Layout | FixedLayout, forward: Forward) -> None:
        self._work, self._layout, self._forward = work, layout, forward
        self.theta = [_theta_cotangents(work, layout, i) for i in range(len(work.model.bodies))]
        p = work.precision
        self._theta_arrays = [[to_warp(row, p.vector(row.shape[-1])) for row in rows] for rows in self.theta]
        arrays, nodes = work.scratch.arrays, work.node_arrays()
        blank = work.take_state()
        adj_in = {n: blank.arrays[n] for n in _STATE}
        ends = {f"adj_{n}": a for n, a in blank.arrays.items()} | {f"adj_{n}_out": a for n, a in blank.arrays.items()}
        ends |= {"adj_tau": arrays["adj_tau"]}
        clear, flow, rest = (_empty(work) for _ in range(3))
        for index, thread, odd, lots in shared_lots(work, layout):
            start, stop = lots[0].start, lots[-1].stop
            flows = work.flows[index]
            fresh = {"first": start, "flows": int(flows), **ends}
            clear[thread].append(work.launch(work.kernels["blank"], stop - start, fresh))
            if flows:
                given = {"F": adj_in["F"], "h": adj_in["h"], "C_out": adj_in["C"], "h_out": adj_in["h"]}
                given["F_out"] = arrays["adj_F_flow"] if index in work.filtered else adj_in["F"]
                flow[thread] += self._by_lot("project", index, lots, given)
            kind = "g2p_adjoint_only" if flows else "g2p_adjoint"
            flow[thread].append(_onto_grid(work, kind, start, stop, odd, "adj_grid_v", "adj_grid_u", **ends))
            rest[thread].append(work.law_launch("stress", index, start, stop))
            extra = {"first": start, **ends}
            rest[thread].append(work.launch(work.kernels["p2g_adjoint"], stop - start, extra))
            given = {n: adj_in[n] for n in ("F", "C", "h")} | {"tau": arrays["adj_tau"]}
            rest[thread] += self._by_lot("stress", index, lots, given)
        named = {"grid": nodes["adj_grid_v"], "impulse": nodes["adj_grid_u"]}
        _extend(clear, _over_nodes(work, layout, "clear", "grid", "impulse", **named))
        _extend(clear, forward.grid)
        merge = _over_nodes(work, layout, "merge", "grid", "impulse", **named) if layout.odd else _empty(work)
        touch: Lists = _empty(work)
        if work.model.colliders:
            _extend(clear, _over_nodes(work, layout, "clear", "grid", grid=nodes["adj_grid_free"]))
            given = {"grid_free": nodes["adj_grid_free"], "grid_v": nodes["adj_grid_v"]}
            given |= {n: work.grads.arrays[n] for n in ("position", "rotation", "velocity", "spin")}
            # All nodes of a world add to the same few cotangents, so that they are one thread's.
            for thread, (first, stop) in enumerate(_whole_worlds(work, layout)):
                if stop > first:
                    touch[thread].append(work.launch(work.kernels["contact"], stop - first, {"first": first}, given))
        grid = _grid_update(work, layout, "grid_update_adjoint")
        starts, self._worlds_of_blocks = layout.blocks
        blocks = len(starts) - 1
        self._gravity = Buffers.zeros({"sums": (blocks, 3)}, {"sums": p.vec3}, work.mass)
        self._blocks = wp.from_torch(starts, dtype=wp.int32)
        weighed: Lists = _empty(work)
        weighed[0].append(self._weigh(nodes["adj_impulse" if work.blend else "adj_grid"], blocks))
        self.columns = forward.columns + tuple(f"adj_{n}{end}" for end in ("", "_out") for n in _STATE)
        self._clear = clear
        _extend(weighed, rest)
        parts = {"g2p": [flow, merge], "contact": [touch], "grid_update": [grid], "p2g and stress": [weighed]}
        self._stages = parts
        self._whole = Plan([clear, flow, merge, touch, grid, weighed], work.threads, self.columns)
        work.pool.give(blank)

    def _weigh(self, forced: Any, blocks: int) -> Launch:
        values = {
            "adj_forced": forced,
            "blocks": self._blocks,
            "sums": self._gravity.arrays["sums"],
        }
        return self._work.launch(self._work.kernels["gravity_adjoint"], blocks, values)

    def _by_lot(self, stage: str, index: int, lots: list[Lot], given: dict[str, Any]) -> list[Launch]:
        work, rows = self._work, self._theta_arrays[index]
        if work.theta(index).shape[0] > 1:
            made = given | {"theta": rows[0]}
            return [work.law_launch(stage, index, lots[0].start, lots[-1].stop, made)]
        return [work.law_launch(stage, index, lot.start, lot.stop, given | {"theta": rows[lot.slab]}) for lot in lots]

    @cached_property
    def _parts(self) -> dict[str, Plan]:
        """The stages one by one; the first has no name."""
        stages = {"": [self._clear], **self._stages}
        return {name: Plan(phases, self._work.threads, self.columns) for name, phases in stages.items()}

    def row(self, row: Row, adj_state: Buffers, adj_out: Buffers) -> Row:
        """What changes in a substep: the forward row, and where the cotangents are."""
        if self._work.records:
            return [*row, *adj_state.packed.values(), *adj_out.packed.values()]
        return [*row, *adj_state.words.values(), *adj_out.words.values()]

    def run(self, rows: list[Row]) -> None:
        """Go back through the substeps of these rows."""
        self._work.crew.run(self._whole, rows)

    def run_slowly(self, row: Row, state: Buffers, adj_state: Buffers, adj_out: Buffers, probe: Probe | None) -> None:
        """Go back through one substep with a probe after each stage, or with a volume filter."""
        work, filtered = self._work, self._forward.filter
        seen = {**adj_state.arrays, **{n: a for n, a in work.nodes.arrays.items() if n.startswith("adj_")}}
        for name, plan in self._parts.items():
            work.crew.run(plan, [row])
            if filtered and not name:
                work.crew.run(self._forward.flow, [row[: len(self._forward.columns)]])
                filtered.backward(state, adj_state, adj_out)
            if probe and name:
                probe(name, seen)

    def collect(self) -> None:
        """Add the cotangents of gravity and of the parameters to those of the inputs, and zero them."""
        work = self._work
        pulled, sums = work.grads.tensors["gravity"], self._gravity.tensors["sums"]
        if pulled.shape[0] == 1:
            pulled += sums.sum(dim=0)
        else:
            pulled.index_add_(0, self._worlds_of_blocks, sums)
        for index, body in enumerate(work.model.bodies):
            total = work.grads.tensors[f"theta_{body.material}"]
            if work.theta(index).shape[0] > 1:
                total.index_add_(0, work.theta_rows(self._layout, index), self.theta[index][0])
            else:
                total += self.theta[index].sum(dim=0)
        for tensor in (self._gravity.tensors["sums"], *self.theta):
            tensor.zero_()


class Substep:
    """The launches of a layout that `work` is bound to; those of the adjoint are made when they are needed."""

    def __init__(self, work: Workspace, layout: Layout | FixedLayout) -> None:
        self._work, self._layout = work, layout
        self.forward = Forward(work, layout)

    @cached_property
    def backward(self) -> Backward:
        """The adjoint launches."""
        return Backward(self._work, self._layout, self.forward)


def columns_of(work: Workspace) -> tuple[str, ...]:
    """Arguments that change from substep to substep."""
    return ("substep", "elapsed", *_STATE, *(f"{n}_out" for n in _STATE), *work.grid_names)


def shared_lots(work: Workspace, layout: Layout | FixedLayout) -> Iterable[tuple[int, int, int, list[Lot]]]:
    """Body, thread, whether the slabs are odd, and lots of each thread's share."""
    threads = dealt(layout.lots, work.threads)
    for index, sides in enumerate(layout.lots):
        for thread in range(work.threads):
            for odd in range(2):
                lots = [lot for lot in sides[odd] if threads[lot.slab] == thread]
                if lots:
                    yield index, thread, odd, lots


def _empty(work: Workspace) -> Lists:
    return [[] for _ in range(work.threads)]


def _extend(lists: Lists, more: Lists) -> None:
    for mine, others in zip(lists, more, strict=True):
        mine += others


def _over_nodes(work: Workspace, layout: Layout | FixedLayout, name: str, *fixed: str, **values: Any) -> Lists:
    """A kernel over all nodes, each thread with its share."""
    step = -(-layout.nodes // work.threads)
    found = _empty(work)
    for thread in range(work.threads):
        first = thread * step
        count = min(step, layout.nodes - first)
        if count > 0:
            found[thread].append(work.launch(work.kernels[name], count, {"first": first, **values}, None, *fixed))
    return found


def _whole_worlds(work: Workspace, layout: Layout | FixedLayout) -> list[tuple[int, int]]:
    """First and last node (exclusive) of each thread's worlds."""
    at = [layout.starts[-(-layout.worlds * t // work.threads)] for t in range(work.threads + 1)]
    return list(pairwise(at))


def _grid_update(work: Workspace, layout: Layout | FixedLayout, name: str) -> Lists:
    """The grid update or its adjoint; with colliders it ends at the velocities before contact."""
    nodes = work.node_arrays()
    if not work.model.colliders:
        return _over_nodes(work, layout, name)
    free = {"grid_v": nodes["grid_free"]}
    if name.endswith("adjoint"):
        free["adj_grid_v"] = nodes["adj_grid_free"]
    return _over_nodes(work, layout, name, "grid_v", "adj_grid_v", **free)


def _onto_grid(work: Workspace, name: str, start: int, stop: int, odd: int, *sums: str, **values: Any) -> Launch:
    """A kernel that scatters to two nodal sums, or to the ones of odd slabs in their place."""
    nodes = work.node_arrays()
    if odd:
        values |= dict(zip(sums, (nodes["odd_grid"], nodes["odd_impulse"]), strict=True))
    return work.launch(work.kernels[name], stop - start, {"first": start, **values}, None, *(sums if odd else ()))


def _theta_cotangents(work: Workspace, layout: Layout | FixedLayout, body: int) -> Tensor:
    theta = work.theta(body)
    if theta.shape[0] > 1:
        return torch.zeros((1, *theta.shape), dtype=theta.dtype, device=theta.device)
    # Two threads that add to neighbouring numbers wait for each other at every particle: rows lie far apart.
    apart = APART // theta.element_size()
    width = -(-theta.shape[1] // apart) * apart
    return torch.zeros((layout.slabs, 1, width), dtype=theta.dtype, device=theta.device)[..., : theta.shape[1]]
