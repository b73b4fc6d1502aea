"""A run of MPM substeps and its adjoint: layouts as long as they hold, and what the backward pass needs.

Kept per substep are the state and the nodal sums (momentum and mass, 16 bytes a node in float32). The backward pass
then runs no transfer again: it recomputes nodal velocities from the sums, and stresses from the states.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from physim.bridge import Arrays, Buffers, Probe, one_torch_thread, raise_if_bad
from physim.errors import GradientError
from physim.sim.trajectory import RolloutFailure, Status
from physim.solvers.mpm.launches import NEVER, Workspace
from physim.solvers.mpm.layout import Layout
from physim.solvers.mpm.store import CHUNK, Store, Stores
from physim.solvers.mpm.substep import Substep

CHECK = 4 * CHUNK
"""Most substeps between two looks at whether a particle has strayed or something has failed."""
SPAN = 4_000_000
"""Most particles moved between two looks: a second or less, in which nobody can interrupt the program."""


@dataclass
class _Kept:
    """What a forward pass leaves for the backward pass: a store of states and nodal sums, and the layouts they had."""

    layouts: dict[int, Layout]
    store: Store | None = None
    steps: int = 0

    def layout_at(self, k: int) -> Layout:
        """The layout of substep `k`."""
        return self.layouts[max(first for first in self.layouts if first <= k)]


@dataclass
class Bound:
    """Launches and recordings that may serve again. They hold the workspace, which therefore does not hold them."""

    substep: Substep | None = None
    stores: Stores = field(default_factory=Stores)


class MPMSegment:
    """Substeps of one size from one time, as a `Segment` of the gradient boundary.

    Args:
        work: kernels and memory.
        bound: launches that may serve again.
        dt: substep [s].
        t: time at the start [s].
    """

    def __init__(self, work: Workspace, bound: Bound, dt: float, t: float) -> None:
        self._work, self._bound, self._dt, self._t = work, bound, dt, t

    def forward(
        self, state: Mapping[str, Tensor], inputs: Mapping[str, Tensor], count: int, *, keep: bool
    ) -> tuple[dict[str, Tensor], Any]:
        """See `Segment`; raises `RolloutFailure`."""
        work = self._work
        work.record.clear()
        with one_torch_thread(work.threads > 1):
            going_on = work.resume(state["x"])
            kept = _Kept({0: going_on or self._layout(state["x"], None)})
            layout = self._steps(state, inputs, count, kept, keep=keep)
            assert kept.store is not None
            now = kept.store.state(kept.steps)
            out = {n: t.index_select(0, layout.inverse) for n, t in now.tensors.items()}
            last = Buffers(out, work.state_types)
            if not keep or kept.steps < count or work.record.failed():
                self._bound.stores.give(work, kept.store)
                kept.store = None
            work.record.settle(last.arrays, count, partial(self._replay, state, inputs, count), self._dt, self._t)
        work.leave(out["x"], layout)
        if keep:
            return out, kept
        # A layout that goes on from an earlier segment cannot be made again from the state.
        return out, _Kept({0: going_on}) if going_on else None

    def _steps(
        self, state: Mapping[str, Tensor], inputs: Mapping[str, Tensor], count: int, kept: _Kept, *, keep: bool
    ) -> Layout:
        """Run the substeps from the first layout on; the last layout."""
        for _ in self._walk(state, inputs, count, kept, keep=keep):
            pass
        return kept.layout_at(kept.steps - 1)

    def _walk(
        self,
        state: Mapping[str, Tensor],
        inputs: Mapping[str, Tensor],
        count: int,
        kept: _Kept,
        *,
        keep: bool,
        each: bool = False,
    ) -> Iterator[tuple[int, Layout]]:
        """Run the substeps until all are done or something fails; the next substep and the layout at each look.

        There is a look after `each` substep, or else every CHECK of them; substeps after one in which a particle
        strays are left out, or do nothing.
        """
        work, layout = self._work, kept.layouts[0]
        work.load(inputs)
        launches = self._launches(layout)
        store = kept.store = self._bound.stores.take(work, count, keep=keep)
        work.sort(state, layout.order, store.state(0))
        # The volume filter does not look whether somebody has strayed.
        each = each or launches.forward.filter is not None
        span = CHECK if work.records else max(1, min(CHECK, SPAN // work.n))
        k = 0
        while True:
            store.follow(launches, k)
            work.stray.fill_(NEVER)
            over = False
            while k < count and not over:
                stop = k + 1 if each else min(count, (k // span + 1) * span)
                store.forward(k, stop, self._dt)
                # Substeps after the one in which somebody strayed have not moved anyone.
                strayed = int(work.stray.numpy()[0])
                over = strayed < stop or work.record.failed()
                kept.steps = k = min(stop, strayed + 1)
                yield k, layout
            if k >= count or work.record.failed():
                return
            now = store.state(k)
            layout = kept.layouts[k] = self._layout(now.tensors["x"], layout)
            now.load({n: t.index_select(0, layout.change) for n, t in now.tensors.items()})
            launches = self._launches(layout)

    def _launches(self, layout: Layout) -> Substep:
        """The launches for a layout; those of the last one serve again where it lies at the same addresses."""
        at = self._work.placed(layout)
        if self._work.bind(at, self._dt) or self._bound.substep is None:
            self._bound.substep = Substep(self._work, at)
        return self._bound.substep

    def _layout(self, x: Tensor, before: Layout | None) -> Layout:
        work = self._work
        if before is None:
            self._check(x)
        ranges = [(b.start, b.stop) for b in work.model.bodies]
        order = before.order if before else None
        options = {"slabs": work.slab_limit, "worlds": work.worlds.count, "whole": work.records}
        options |= {"mirrors": work.mirrors, "sides": work.images}
        return Layout(x, order, ranges, work.model.grid, **options)

    def _check(self, x: Tensor) -> None:
        """Raise `RolloutFailure` where a particle cannot be given a cell."""
        grid = self._work.model.grid
        first, last = torch.aminmax(x, dim=0)
        ends = [((e.double().cpu() - torch.tensor(grid.origin).double()) / grid.dx).tolist() for e in (first, last)]
        closed = [i for i in range(grid.dim) if not grid.periodic[i]]
        # Numbers that are none are neither above nor below; the sum sees those of periodic axes.
        inside = all(0.5 < ends[0][i] and ends[1][i] < grid.shape[i] - 1.5 for i in closed)
        if inside and math.isfinite(sum(ends[0]) + sum(ends[1])):
            return
        # Slowly, with the names of those that are lost.
        origin = torch.tensor(grid.origin, dtype=x.dtype, device=x.device)
        s = (x - origin) / grid.dx
        shape = torch.tensor(grid.shape, dtype=x.dtype, device=x.device)
        free = torch.tensor([i < grid.dim and not grid.periodic[i] for i in range(3)], device=x.device)
        lost = ((s < 0.5) | (s >= shape - 1.5)) & free
        for status, bad in (
            (Status.NONFINITE, ~torch.isfinite(x).all(dim=1)),
            (Status.LEFT_GRID, lost.any(dim=1)),
        ):
            if bool(bad.any()):
                p = int(bad.nonzero()[0, 0])
                at = ", ".join(f"{float(c):.4g}" for c in x[p])
                told = {"quantity": "position x", "detail": f"it is at ({at}) m"}
                worlds = self._work.worlds
                world, particle = divmod(p, worlds.each)
                where = world if worlds.count > 1 else None
                raise RolloutFailure(status, substep=0, particle=particle, world=where, t=self._t, **told)

    def _replay(self, state: Mapping[str, Tensor], inputs: Mapping[str, Tensor], count: int) -> Iterator[Arrays]:
        """The start and the state after each substep, in the user's order."""
        work = self._work
        work.record.clear()
        yield Buffers(dict(state), work.state_types).arrays
        kept = _Kept({0: self._layout(state["x"], None)})
        for k, layout in self._walk(state, inputs, count, kept, keep=False, each=True):
            assert kept.store is not None
            now = {n: t.index_select(0, layout.inverse) for n, t in kept.store.state(k).tensors.items()}
            yield Buffers(now, work.state_types).arrays

    def backward(
        self,
        state: Mapping[str, Tensor],
        inputs: Mapping[str, Tensor],
        count: int,
        kept: Any,
        given: Mapping[str, Tensor | None],
        *,
        probe: bool,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """See `Segment`."""
        with one_torch_thread(self._work.threads > 1):
            return self._backward(state, inputs, count, kept, given, probe=probe)

    def _backward(
        self,
        state: Mapping[str, Tensor],
        inputs: Mapping[str, Tensor],
        count: int,
        kept: Any,
        given: Mapping[str, Tensor | None],
        *,
        probe: bool,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        work = self._work
        if kept is None:
            kept = _Kept({0: self._layout(state["x"], None)})
        if kept.store is None:
            work.record.clear()
            self._steps(state, inputs, count, kept, keep=True)
            if kept.steps < count:
                raise GradientError(
                    f"substep {kept.steps - 1} of a segment fails when it is run again for the backward pass, but did "
                    "not before: parameters have changed in between. Call backward first, or allow more memory."
                )
        work.load(inputs)
        # Adjoints of launches that look at it run all.
        work.stray.fill_(NEVER)
        for tensor in work.grads.tensors.values():
            tensor.zero_()
        store, layout = kept.store, kept.layout_at(count - 1)
        assert store is not None
        if probe:
            # What an earlier sweep has left must not be blamed on this one.
            for buffers in (store.end(0), store.end(1), work.nodes, work.scratch):
                for tensor in buffers.tensors.values():
                    tensor.zero_()
        end = store.end(count)
        end.load({n: None if g is None else g.index_select(0, layout.order) for n, g in given.items()})
        if probe:
            raise_if_bad("the loss", end.arrays, count, layout.order)
        last = count
        for first in sorted(kept.layouts, reverse=True):
            layout = kept.layouts[first]
            launches = self._launches(layout)
            store.follow(launches, last)
            if last in kept.layouts:
                after = store.state(last)
                after.load({n: t.index_select(0, kept.layouts[last].undo) for n, t in after.tensors.items()})
            store.backward(first, last, self._dt, partial(_tell, layout) if probe else None)
            launches.backward.collect()
            if probe:
                raise_if_bad("parameters", work.grads.arrays, first)
            end = store.end(first)
            rows = layout.undo if first else layout.inverse
            end.load({n: t.index_select(0, rows) for n, t in end.tensors.items()})
            last = first
        found = {n: t.clone() for n, t in end.tensors.items()}
        self._bound.stores.give(work, store)
        return found, {n: t.clone() for n, t in work.grads.tensors.items()}

    def contact_forces(self, state: Mapping[str, Tensor], inputs: Mapping[str, Tensor]) -> Tensor:
        """Force [N] of the material on each collider during the substep that starts at `state`, (c, 3)."""
        work = self._work
        if not work.model.colliders:
            return state["x"].new_zeros(work.worlds.count, 3)
        layout = self._layout(state["x"], None)
        work.load(inputs)
        forward = self._launches(layout).forward
        entry, grid = work.take_state(), work.take_grid()
        work.sort(state, layout.order, entry)
        work.stray.fill_(NEVER)
        found = forward.contact_forces(forward.row(entry, entry, grid, 0, self._dt))
        work.pool.give(entry)
        work.pool.give(grid)
        return found


def _tell(layout: Layout, k: int) -> Probe:
    return lambda term, found: raise_if_bad(term, found, k, layout.order)
