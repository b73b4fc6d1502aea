"""A run of MPM substeps and its adjoint: layouts as long as they hold, and what the backward pass needs.

Kept per substep are the state and the nodal sums (momentum and mass, 16 bytes a node in float32). The backward pass
then runs no transfer again: it recomputes nodal velocities from the sums, and stresses from the states.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from physim.bridge import Arrays, Buffers, Probe, one_torch_thread, raise_if_bad
from physim.sim.trajectory import RolloutFailure, Status
from physim.solvers.mpm.launches import NEVER, Workspace
from physim.solvers.mpm.layout import Layout
from physim.solvers.mpm.substep import Forward, Substep

CHECK = 8
"""Substeps between two looks at whether a particle has strayed, on a device that would have to wait for the answer."""


@dataclass
class _Kept:
    """What a forward pass leaves for the backward pass: the state at the start of each substep, and its nodal sums."""

    states: list[Buffers] = field(default_factory=list)
    grids: list[Buffers] = field(default_factory=list)
    layouts: dict[int, Layout] = field(default_factory=dict)
    last: Buffers | None = None

    def layout_at(self, k: int) -> Layout:
        """The layout of substep `k`."""
        return self.layouts[max(first for first in self.layouts if first <= k)]

    def end(self, k: int, work: Workspace) -> tuple[Buffers, bool]:
        """The state after substep `k` in that substep's order, and whether it was made for the purpose."""
        after = self.states[k + 1] if k + 1 < len(self.states) else self.last
        assert after is not None
        if k + 1 not in self.layouts:
            return after, False
        found = work.take_state()
        found.load({n: t[self.layouts[k + 1].undo] for n, t in after.tensors.items()})
        return found, True


@dataclass
class Bound:
    """The launches that were bound last. They hold the workspace, which therefore does not hold them."""

    substep: Substep | None = None


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
        work, kept = self._work, _Kept()
        work.record.clear()
        with one_torch_thread(work.threads > 1):
            going_on = work.resume(state["x"])
            kept.layouts[0] = going_on or self._layout(state["x"], None)
            now, layout = self._steps(state, inputs, count, kept, keep=keep)
            out = {n: t[layout.inverse] for n, t in now.tensors.items()}
            last = Buffers(out, work.state_types)
            work.record.settle(last.arrays, count, partial(self._replay, state, inputs, count), self._dt, self._t)
        work.leave(out["x"], layout)
        if not keep:
            work.pool.give(now)
            # A layout that goes on from an earlier segment cannot be made again from the state.
            kept = _Kept(layouts={0: going_on}) if going_on else None
        return out, kept

    def _steps(
        self,
        state: Mapping[str, Tensor],
        inputs: Mapping[str, Tensor],
        count: int,
        kept: _Kept,
        *,
        keep: bool,
    ) -> tuple[Buffers, Layout]:
        """Run the substeps from the first layout on; the last state and its layout."""
        work, layout = self._work, kept.layouts[0]
        work.load(inputs)
        current = work.sorted_state(state, layout.order)
        k = 0
        while True:
            current, k = self._hold(self._launches(layout, self._dt).forward, current, k, count, kept, keep=keep)
            if k >= count or work.record.failed():
                break
            layout = kept.layouts[k] = self._layout(current.tensors["x"], layout)
            before, current = current, work.sorted_state(current.tensors, layout.change)
            work.pool.give(before)
        kept.last = current
        return current, layout

    def _hold(
        self, forward: Forward, current: Buffers, k: int, count: int, kept: _Kept, *, keep: bool
    ) -> tuple[Buffers, int]:
        """Go on with one layout until a particle strays; the state reached and the next substep."""
        work = self._work
        work.stray.fill_(NEVER)
        done: list[tuple[Buffers, Buffers]] = []
        grid = work.take_grid()
        strayed = False
        while k < count and not strayed:
            out = work.take_state()
            forward.bind(current, out, grid, k, self._dt)
            forward.run()
            done.append((current, grid))
            current, k = out, k + 1
            # The volume filter does not look whether somebody has strayed.
            if work.cpu or forward.filter or len(done) == CHECK or k == count:
                back = k - 1 - int(work.stray.numpy()[0])
                strayed = back >= 0 or work.record.failed()
                for _ in range(back):
                    # Substeps after the one in which somebody strayed have not moved anyone.
                    work.pool.give(current)
                    current, grid = done.pop()
                    k -= 1
                if keep:
                    kept.states += [s for s, _ in done]
                    kept.grids += [g for _, g in done]
                else:
                    for before, _ in done:
                        work.pool.give(before)
                done = []
            if keep:
                grid = work.take_grid()
        work.pool.give(grid)
        return current, k

    def _launches(self, layout: Layout, dt: float) -> Substep:
        """The launches for a layout; those of the last one serve again where it is the same."""
        if self._work.bind(layout, dt) or self._bound.substep is None:
            self._bound.substep = Substep(self._work, layout)
        return self._bound.substep

    def _layout(self, x: Tensor, before: Layout | None) -> Layout:
        work = self._work
        if before is None:
            self._check(x)
        ranges = [(b.start, b.stop) for b in work.model.bodies]
        order = before.order if before else None
        return Layout(x, order, ranges, work.model.grid, slabs=work.slab_limit, worlds=work.worlds.count)

    def _check(self, x: Tensor) -> None:
        """Raise `RolloutFailure` where a particle cannot be given a cell."""
        grid = self._work.model.grid
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
        kept = _Kept()
        kept.layouts[0] = self._layout(state["x"], None)
        self._steps(state, inputs, count, kept, keep=True)
        noted = work.record.take()
        for k in range(len(kept.states)):
            work.record.note(noted, k)
            end, _ = kept.end(k, work)
            inverse = kept.layout_at(k).inverse
            yield Buffers({n: t[inverse] for n, t in end.tensors.items()}, work.state_types).arrays

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
            kept = _Kept(layouts={0: self._layout(state["x"], None)})
        if not kept.states:
            self._steps(state, inputs, count, kept, keep=True)
        work.load(inputs)
        for tensor in work.grads.tensors.values():
            tensor.zero_()
        layout = kept.layout_at(count - 1)
        end, start = work.take_state(), work.take_state()
        start.tensors["h"].zero_()
        end.load({n: None if g is None else g[layout.order] for n, g in given.items()})
        if probe:
            raise_if_bad("the loss", end.arrays, count, layout.order)
        last = count
        for first in sorted(kept.layouts, reverse=True):
            layout = kept.layouts[first]
            launches = self._launches(layout, self._dt)
            forward, backward = launches.forward, launches.backward
            for k in reversed(range(first, last)):
                told: Probe | None = partial(_tell, k, layout) if probe else None
                before, (after, made), grid = kept.states[k], kept.end(k, work), kept.grids[k]
                forward.bind(before, after, grid, k, self._dt)
                backward.bind(before, after, grid, start, end, k, self._dt)
                backward.run(told)
                start, end = end, start
                if made:
                    work.pool.give(after)
            backward.collect()
            if probe:
                raise_if_bad("parameters", work.grads.arrays, first)
            rows = layout.undo if first else layout.inverse
            end.load({n: t[rows] for n, t in end.tensors.items()})
            last = first
        found = {n: t.clone() for n, t in end.tensors.items()}
        for buffers in (start, end, *kept.states, *kept.grids, kept.last):
            work.pool.give(buffers)
        return found, {n: t.clone() for n, t in work.grads.tensors.items()}

    def contact_forces(self, state: Mapping[str, Tensor], inputs: Mapping[str, Tensor]) -> Tensor:
        """Force [N] of the material on each collider during the substep that starts at `state`, (c, 3)."""
        work = self._work
        layout = self._layout(state["x"], None)
        work.load(inputs)
        forward = self._launches(layout, self._dt).forward
        entry, grid = work.sorted_state(state, layout.order), work.take_grid()
        work.stray.fill_(NEVER)
        forward.bind(entry, entry, grid, 0, self._dt)
        found = forward.contact_forces()
        work.pool.give(entry)
        work.pool.give(grid)
        return found


def _tell(k: int, layout: Layout, term: str, found: Mapping[str, Any]) -> None:
    raise_if_bad(term, found, k, layout.order)
