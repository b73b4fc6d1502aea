"""The states and nodal sums that a segment runs through, and the substeps between them, direct or recorded.

On a device that records, pieces of CHUNK substeps are recorded once as a graph (`physim.launch.Recording`) and repeated
from then on: in the next segment, after the next layout, and in every later iteration of a fit, because memory,
layout and inputs stay at their addresses. Where a layout changes within a piece, its substeps are launched one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from physim.bridge import Buffers, Probe
from physim.launch import Recording
from physim.solvers.mpm.launches import Workspace
from physim.solvers.mpm.substep import Substep

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

    def follow(self, launches: Substep) -> None:
        """Use these launches; recordings of others do not serve any more, nor do grids that are too small for them."""
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
            elif not self.keep:
                self._grids[i] = None

    def _fits(self, grid: Buffers) -> bool:
        return grid.tensors["grid"].shape[0] == self._work.capacity

    def forward(self, first: int, stop: int, dt: float) -> None:
        """Run substeps `first` to `stop` (exclusive) of `dt` [s]."""
        assert self._launches is not None
        forward = self._launches.forward

        def one(k: int) -> None:
            forward.bind(self.state(k), self.state(k + 1), self.grid(k), k, dt)
            forward.run()

        for start, end in self._pieces(first, stop):
            self._run("forward", range(start, end), one, record=forward.filter is None)

    def backward(self, first: int, stop: int, dt: float, told: Callable[[int], Probe] | None) -> None:
        """From the cotangents of the state before substep `stop` to those of the state before `first`."""
        assert self._launches is not None
        forward, backward = self._launches.forward, self._launches.backward

        def one(k: int) -> None:
            before, after, grid = self.state(k), self.state(k + 1), self.grid(k)
            forward.bind(before, after, grid, k, dt)
            backward.bind(before, after, grid, self.end(k), self.end(k + 1), k, dt)
            backward.run(told(k) if told else None)

        plain = told is not None or forward.filter is not None
        for start, end in reversed(list(self._pieces(first, stop))):
            self._run("backward", range(end - 1, start - 1, -1), one, record=not plain)

    def _pieces(self, first: int, stop: int) -> Iterator[tuple[int, int]]:
        while first < stop:
            end = min((first // CHUNK + 1) * CHUNK, stop) if self._work.records else stop
            yield first, end
            first = end

    def _run(self, name: str, steps: range, one: Callable[[int], None], *, record: bool) -> None:
        def run() -> None:
            for k in steps:
                one(k)

        low, high = min(steps), max(steps) + 1
        whole = low % CHUNK == 0 and (high % CHUNK == 0 or high == self.count)
        if not (record and whole and self._work.records):
            run()
            return
        key = (name, low, high)
        if key not in self._recordings:
            # Nothing may be allocated or zeroed while launches are recorded.
            for k in steps:
                _ = self.state(k), self.state(k + 1), self.grid(k)
                if name == "backward":
                    _ = self.end(k), self.end(k + 1)
            self._recordings[key] = Recording(self._work.device, run)
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
