"""The states and nodal sums that a segment runs through, and the substeps between them, direct or recorded.

On a CPU a run of substeps is a table with a row for each, which native code goes through (`physim.crew`).
On a device that records, pieces of CHUNK substeps are recorded once as a graph (`physim.launch.Recording`) and repeated
from then on: in the next segment, after the next layout, and in every later iteration of a fit, because memory,
layout and inputs stay at their addresses. Where a layout changes within a piece, its substeps are launched one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from physim.bridge import Buffers, Probe
from physim.launch import Recording
from physim.solvers.mpm.launches import Workspace
from physim.solvers.mpm.substep import Row, Substep

CHUNK = 16
"""Substeps in one recording."""


class Store:
    """Memory for a segment.

    Args:
        work: kernels and memory.
        count: substeps.
        keep: whether each state and its nodal sums stay; otherwise two states alternate.

    Attributes:
        count: substeps of the present segment.
        room: substeps that there is memory for, if their states are kept.
    """

    def __init__(self, work: Workspace, count: int, *, keep: bool) -> None:
        self._work, self.count, self.room, self.keep = work, count, count, keep
        self._states: list[Buffers | None] = [None] * (count + 1 if keep else 2)
        self._grids: list[Buffers | None] = [None] * (count if keep else 1)
        self._ends: tuple[Buffers, Buffers] | None = None
        self._recordings: dict[tuple[str, int, int], Recording] = {}
        self._launches: Substep | None = None

    def state(self, k: int) -> Buffers:
        """The state before substep `k`."""
        i = k if self.keep else k % 2
        found = self._states[i]
        if found is None:
            found = self._states[i] = self._work.take_state()
        return found

    def grid(self, k: int) -> Buffers:
        """The nodal sums of substep `k`."""
        i = k if self.keep else 0
        found = self._grids[i]
        if found is None:
            found = self._grids[i] = self._work.take_grid()
        return found

    def end(self, k: int) -> Buffers:
        """The cotangents of the state before substep `k`; two alternate."""
        if self._ends is None:
            self._ends = self._work.take_state(), self._work.take_state()
            for buffers in self._ends:
                buffers.tensors["h"].zero_()
        return self._ends[k % 2]

    def follow(self, launches: Substep, first: int) -> None:
        """Use these launches from substep `first` on.

        Recordings of others do not serve any more, nor do nodal sums that have too little room for them.
        """
        if launches is self._launches:
            return
        self._launches = launches
        self._recordings.clear()
        for i, old in enumerate(self._grids):
            if old is None or self._fits(old):
                continue
            if self._work.records:
                new = self._grids[i] = self._work.take_grid()
                for name, tensor in old.tensors.items():
                    new.tensors[name][: tensor.shape[0]] = tensor
            elif i >= first or not self.keep:
                self._grids[i] = None

    def _fits(self, grid: Buffers) -> bool:
        return grid.tensors["grid"].shape[0] == self._work.capacity

    def forward(self, first: int, stop: int, dt: float) -> None:
        """Run substeps `first` to `stop` (exclusive) of `dt` [s], to the first in which a particle strays."""
        assert self._launches is not None
        forward = self._launches.forward

        def rows(steps: range) -> list[Row]:
            return [forward.row(self.state(k), self.state(k + 1), self.grid(k), k, dt) for k in steps]

        if forward.filter is not None:
            for k in range(first, stop):
                forward.run(rows(range(k, k + 1)))
                forward.filter.forward(self.state(k), self.state(k + 1))
            return
        for start, end in self._pieces(first, stop):
            self._run("forward", range(start, end), lambda steps: forward.run(rows(steps)))

    def backward(self, first: int, stop: int, dt: float, told: Callable[[int], Probe] | None) -> None:
        """From the cotangents of the state before substep `stop` to those of the state before `first`."""
        assert self._launches is not None
        forward, backward = self._launches.forward, self._launches.backward

        def row(k: int) -> Row:
            before = forward.row(self.state(k), self.state(k + 1), self.grid(k), k, dt)
            return backward.row(before, self.end(k), self.end(k + 1))

        if told is not None or forward.filter is not None:
            for k in reversed(range(first, stop)):
                probe = told(k) if told else None
                backward.run_slowly(row(k), self.state(k), self.end(k), self.end(k + 1), probe)
            return
        for start, end in reversed(list(self._pieces(first, stop))):
            run = range(end - 1, start - 1, -1)
            self._run("backward", run, lambda steps: backward.run([row(k) for k in steps]))

    def _pieces(self, first: int, stop: int) -> Iterator[tuple[int, int]]:
        while first < stop:
            end = min((first // CHUNK + 1) * CHUNK, stop) if self._work.records else stop
            yield first, end
            first = end

    def _run(self, name: str, steps: range, run: Callable[[range], None]) -> None:
        low, high = min(steps), max(steps) + 1
        whole = low % CHUNK == 0 and (high % CHUNK == 0 or high == self.count)
        if not (whole and self._work.records):
            run(steps)
            return
        key = (name, low, high)
        if key not in self._recordings:
            # Nothing may be allocated or zeroed while launches are recorded.
            for k in steps:
                _ = self.state(k), self.state(k + 1), self.grid(k)
                if name == "backward":
                    _ = self.end(k), self.end(k + 1)
            self._recordings[key] = Recording(self._work.device, lambda: run(steps))
        self._recordings[key]()

    def give_back(self) -> None:
        """Return the memory to the workspace."""
        for buffers in (*self._states, *(self._ends or ()), *(g for g in self._grids if g and self._fits(g))):
            if buffers is not None:
                self._work.pool.give(buffers)
        self._states, self._grids, self._ends = [], [], None


class Stores:
    """Stores to be used again, with their recordings: as many as have been in use at one time."""

    def __init__(self) -> None:
        self._idle: dict[bool, list[Store]] = {False: [], True: []}

    def take(self, work: Workspace, count: int, *, keep: bool) -> Store:
        """A store of at least `count` substeps; one that is too short makes room for it."""
        idle = self._idle[keep]
        for i, store in enumerate(idle):
            if store.room >= count or not keep:
                store.count = count
                return idle.pop(i)
        if idle:
            idle.pop().give_back()
        return Store(work, count, keep=keep)

    def give(self, work: Workspace, store: Store) -> None:
        """A store that nobody needs any more."""
        if work.records:
            self._idle[store.keep].append(store)
        else:
            store.give_back()
