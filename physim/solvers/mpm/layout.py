"""Where particles and nodes lie in memory: particles in cell order, nodes in columns only where particles are.

A column is the run of nodes along the row axis above one place (a, b) of the other two axes (see `native.py`); it
reaches from the lowest to the highest node that its particles touch. The memory and time of a grid therefore follow
the material, not its bounding box. A layout holds while no particle moves by more than a cell.

Particles are sorted by body, then by slab: slabs are runs of cells along a, four or more wide except at the ends. Even
slabs touch no common node and scatter to one set of nodal sums, odd ones to another, which is then added. So all
slabs may be scattered at the same time, and each node adds up its contributions in the same order for any number of
threads.

Several worlds have a table of columns each, one after the other, and slabs of whole worlds, which share no node at
all. What happens in one world does not depend on the others, but for rounding after a layout has been made anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
import warp as wp
from torch import Tensor

from physim.sim.model import Grid
from physim.solvers.mpm.native import AXES

LOW, HIGH = 2, 3
"""Cells of the column table before the first and after the last node: the free cell of movement, and the images of a
periodic axis."""
SLAB = 4
"""Fewest cells in a slab between two others: one more than a stencil and its movement on either side reach."""
SLABS = 8
"""Most slabs."""
BLOCK = 256
"""Nodes whose cotangents of gravity are summed one after the other, whatever the threads."""
ROOM = 1.2
"""Nodes that memory is taken for, as a multiple of those of the first layout that needs more."""
MIRROR = 4
"""Half nodes before a wall within which a node has an image."""
NO_MIRRORS = ((-1, -1),) * 3
_NOWHERE = 2**30


@dataclass(frozen=True)
class Lot:
    """A run of particles of one body in one slab."""

    slab: int
    start: int
    stop: int


class Layout:
    """An order of the particles and a numbering of the nodes.

    Args:
        x: positions [m], (n, 3), in the order that the layout is to change.
        order: the user's index of each row of `x`, or None where `x` is in the user's order.
        ranges: first and last particle (exclusive) of each body, in the user's order of one world.
        grid: the grid.
        slabs: most slabs; 1 where threads do not matter.
        worlds: number of worlds, one after the other in the user's order.
        mirrors: planes of the lower and of the upper wall of each axis, in half nodes, -1 where there is none.
        sides: images of a node on each axis: 2 with mirrors, 3 with a periodic axis.
        whole: let the table of columns cover the whole grid, so that its size does not change from layout to layout.

    Attributes:
        change: rows of `x` in the new order, (n,).
        order: the user's index of each particle, (n,).
        lots: per body, those of even slabs and those of odd ones.
        nodes: number of nodes.
        image_slot: for each node, where in `images` the nodes are that its images lie on, or -1; they are found by the
            grid's own kernel (`grid.find_images`).
        place: place of node (0, 0, 0) of the first world in the table of columns; `places`, for each particle, that of
            its own world, (n,).
    """

    def __init__(
        self,
        x: Tensor,
        order: Tensor | None,
        ranges: list[tuple[int, int]],
        grid: Grid,
        *,
        slabs: int = SLABS,
        worlds: int = 1,
        mirrors: Sequence[tuple[int, int]] = NO_MIRRORS,
        sides: int = 1,
        whole: bool = False,
    ) -> None:
        n, device = x.shape[0], x.device
        user = torch.arange(n, device=device) if order is None else order
        within, world = user, torch.zeros((), dtype=torch.int64, device=device)
        if worlds > 1:
            world = torch.div(user, n // worlds, rounding_mode="floor")
            within = user - world * (n // worlds)
        a, b, r = AXES[grid.dim]
        origin = torch.tensor(grid.origin, dtype=x.dtype, device=device)
        s = (x - origin) * (1.0 / grid.dx)
        turned = None
        if any(grid.periodic):
            shape = torch.tensor(grid.shape, dtype=x.dtype, device=device)
            turned = torch.floor(s / shape) * torch.tensor(grid.periodic, dtype=x.dtype, device=device) * shape
            s = s - turned
        base = torch.floor(s - 0.5).to(torch.int32)
        if grid.dim == 2:
            base[:, 2] = 0
        along_a, along_b, along_r = (base[:, i].to(torch.int64) for i in (a, b, r))
        if whole:
            first, last = [0, 0, 0], [size - 1 for size in grid.shape]
        else:
            # The table of columns reaches as far as the material does, whatever the size of the grid.
            first, last = (t.tolist() for t in torch.aminmax(base, dim=0))
        self.height = last[a] - first[a] + 1 + LOW + HIGH
        self.width = last[b] - first[b] + 1 + LOW + HIGH if grid.dim == 3 else 1
        self.low_a, self.low_b = LOW - first[a], LOW - first[b] if grid.dim == 3 else 0
        rows = grid.shape[r] + LOW + HIGH
        self.worlds, self.table = worlds, self.height * self.width
        self.place = self.low_a * self.width + self.low_b
        places = world * self.table + self.place
        column = places + along_a * self.width + along_b

        if worlds > 1:
            count = min(slabs, worlds)
            slab, odd = torch.div(world * count, worlds, rounding_mode="floor"), 0
        else:
            at = along_a + self.low_a
            edges = _slab_edges(torch.bincount(at, minlength=self.height).tolist(), slabs)
            slab = torch.bucketize(at, torch.tensor(edges[1:-1], device=device), right=True)
            count, odd = len(edges) - 1, slab % 2
        group = slab + odd * count
        for i, (start, stop) in enumerate(ranges[1:], start=1):
            group[(within >= start) & (within < stop)] += 2 * i * count
        key = (group * (worlds * self.table) + column) * rows + along_r + LOW
        self.change = torch.argsort(key, stable=True)
        self.order = self.change if order is None else user.index_select(0, self.change)
        self.home = base.index_select(0, self.change)
        self.shift = torch.zeros_like(x) if turned is None else turned.index_select(0, self.change) * grid.dx
        self.places = places.to(torch.int32).expand(n).index_select(0, self.change)
        self.lots = _lots(torch.bincount(group, minlength=2 * count * len(ranges)).tolist(), len(ranges), count)
        self.slabs = count

        low = torch.full((worlds * self.table,), _NOWHERE, dtype=torch.int64, device=device)
        high = torch.full_like(low, -_NOWHERE)
        low.scatter_reduce_(0, column, along_r, "amin")
        high.scatter_reduce_(0, column, along_r, "amax")
        used = _spread(low, high, (self.width, 1)[: grid.dim - 1])
        bottom, top = low[used] - 1, high[used] + 4
        # One node more than needed: a row is four nodes wide in memory.
        length = top - bottom + 1
        ends = torch.cumsum(length, 0)
        blank = torch.zeros(worlds * self.table, dtype=torch.int32, device=device)
        self.columns = blank.index_copy(0, used, (ends - length - bottom).to(torch.int32))
        self.column_low = blank.index_copy(0, used, bottom.to(torch.int32))
        self.column_high = blank.index_copy(0, used, top.to(torch.int32))
        self.node_column = torch.repeat_interleave(used.to(torch.int32), length)
        across = torch.div(used, self.width, rounding_mode="floor")
        its_world = torch.div(across, self.height, rounding_mode="floor")
        at = [across - its_world * self.height - self.low_a, used - across * self.width - self.low_b]
        along = torch.stack([*at, ends - length - bottom, its_world], dim=1)
        self.column_at = blank.new_zeros(len(blank), 4).index_copy_(0, used, along.to(torch.int32))
        self.image_slot, imaged = torch.full_like(self.node_column, -1), 0
        if sides > 1:
            has = _imaged([*at, bottom], length, [mirrors[i] for i in (a, b, r)])
            slot = torch.cumsum(has, 0)
            imaged = int(slot[-1])
            self.image_slot = torch.where(has, slot - 1, -1).to(torch.int32)
        self.images = blank.new_empty(max(1, imaged * (sides**3 + 1)))
        # First node of each world, and the end.
        worlds_at = torch.searchsorted(used, torch.arange(worlds + 1, device=device) * self.table)
        self.starts = torch.nn.functional.pad(ends, (1, 0))[worlds_at].tolist()
        self.nodes = self.starts[-1]

    @cached_property
    def inverse(self) -> Tensor:
        """Row of the layout in which each of the user's particles is, (n,)."""
        return _inverse(self.order)

    @cached_property
    def undo(self) -> Tensor:
        """The permutation that undoes `change`, (n,)."""
        return _inverse(self.change)

    def arrays(self) -> dict[str, Any]:
        """What kernels take, by argument name."""
        names = ("columns", "column_low", "column_high", "node_column", "image_slot", "images")
        found: dict[str, Any] = {n: wp.from_torch(getattr(self, n), dtype=wp.int32) for n in names}
        found["column_at"] = wp.from_torch(self.column_at, dtype=wp.vec4i)
        found["home"] = wp.from_torch(self.home, dtype=wp.vec3i)
        found["order"] = wp.from_torch(self.order.to(torch.int32), dtype=wp.int32)
        found["places"] = wp.from_torch(self.places, dtype=wp.int32)
        sizes = {"width": self.width, "height": self.height, "low_a": self.low_a, "low_b": self.low_b}
        return found | sizes | {"place": self.place}

    @cached_property
    def blocks(self) -> tuple[Tensor, Tensor]:
        """First nodes of blocks of at most BLOCK nodes of one world, with the end; and the world of each block."""
        starts, worlds = [], []
        for world, (first, stop) in enumerate(pairwise(self.starts)):
            found = range(first, stop, BLOCK)
            starts += found
            worlds += [world] * len(found)
        device = self.order.device
        return (
            torch.tensor([*starts, self.nodes], dtype=torch.int32, device=device),
            torch.tensor(worlds, device=device),
        )

    @property
    def odd(self) -> bool:
        """Whether there are odd slabs."""
        return any(sides[1] for sides in self.lots)


class FixedLayout:
    """A layout at addresses that stay, with room for more nodes: launches bound to it serve one layout after another.

    Nodes beyond those of the present layout have no column, and kernels leave them alone. There is one slab, and one
    thread for all worlds.

    Args:
        layout: the first layout; its table, and those of all that follow, cover the whole grid.

    Attributes:
        nodes: number of nodes that there is room for; the other attributes are those of `Layout`.
    """

    def __init__(self, layout: Layout) -> None:
        self.nodes = int(ROOM * layout.nodes)
        self.lots, self.slabs, self.worlds, self.odd = layout.lots, layout.slabs, layout.worlds, layout.odd
        self.starts = [0] * layout.worlds + [self.nodes]
        self._same = ("columns", "column_low", "column_high", "column_at", "home", "order", "places", "shift")
        self._tensors = {n: torch.empty_like(getattr(layout, n)) for n in self._same}
        self.order, self.shift = self._tensors["order"], self._tensors["shift"]
        self._order = self.order.to(torch.int32)
        self._node_column, self._image_slot = (layout.node_column.new_empty(self.nodes) for _ in range(2))
        self._images = layout.images.new_empty(int(ROOM * len(layout.images)))
        most = self.nodes // BLOCK + layout.worlds
        starts, worlds = layout.blocks
        self.blocks = starts.new_empty(most + 1), worlds.new_empty(most)
        self._sizes = {n: v for n, v in layout.arrays().items() if isinstance(v, int)}
        self.load(layout)

    def holds(self, layout: Layout) -> bool:
        """Whether there is room for another layout."""
        return layout.nodes <= self.nodes and len(layout.images) <= len(self._images)

    def load(self, layout: Layout) -> None:
        """Take over another layout of the same particles, for which there is room."""
        for name, tensor in self._tensors.items():
            tensor.copy_(getattr(layout, name))
        self._order.copy_(layout.order)
        self._node_column.fill_(-1)
        self._node_column[: layout.nodes] = layout.node_column
        self._image_slot[: layout.nodes] = layout.image_slot
        for kept, given, rest in zip(self.blocks, layout.blocks, (layout.nodes, 0), strict=True):
            kept.fill_(rest)
            kept[: len(given)] = given

    def arrays(self) -> dict[str, Any]:
        """What kernels take, by argument name."""
        tensors = {n: self._tensors[n] for n in ("columns", "column_low", "column_high", "places")}
        tensors |= {
            "order": self._order,
            "node_column": self._node_column,
            "image_slot": self._image_slot,
            "images": self._images,
        }
        found: dict[str, Any] = {n: wp.from_torch(t, dtype=wp.int32) for n, t in tensors.items()}
        found["column_at"] = wp.from_torch(self._tensors["column_at"], dtype=wp.vec4i)
        found["home"] = wp.from_torch(self._tensors["home"], dtype=wp.vec3i)
        return found | self._sizes


def _inverse(permutation: Tensor) -> Tensor:
    rows = torch.arange(len(permutation), device=permutation.device)
    return torch.empty_like(permutation).index_copy_(0, permutation, rows)


def _imaged(at: list[Tensor], length: Tensor, mirrors: Sequence[tuple[int, int]]) -> Tensor:
    """Whether each node has images, from the places of the columns' lowest nodes, their lengths and the mirrors."""

    def near(i: Tensor, low: int, high: int) -> Tensor:
        found = torch.zeros_like(i, dtype=torch.bool)
        if low >= 0:
            found |= 2 * i <= low + MIRROR
        if high >= 0:
            found |= 2 * i >= high - MIRROR
        return found

    columns = near(at[0], *mirrors[0]) | near(at[1], *mirrors[1])
    found = columns.repeat_interleave(length)
    if mirrors[2] != NO_MIRRORS[2]:
        first = torch.cumsum(length, 0) - length
        rows = torch.arange(len(found), device=length.device) - (first - at[2]).repeat_interleave(length)
        found |= near(rows, *mirrors[2])
    return found


def _slab_edges(counts: list[int], most: int) -> list[int]:
    """Edges of an even number of slabs (or of one) with about equally many particles."""
    used = [i for i, c in enumerate(counts) if c]
    first, end = used[0], used[-1] + 1
    slabs = min(most, max(2, (end - first) // SLAB))
    slabs -= slabs % 2
    if slabs < 2 or end - first < 2:
        return [first, end]
    total, seen, edges = sum(counts), 0, [first]
    for i in range(first, end):
        left = slabs - len(edges)
        wide = i - edges[-1] >= (SLAB if slabs > 2 else 1)
        if left and wide and (seen * slabs >= total * len(edges) or end - i <= SLAB * left):
            edges.append(i)
        seen += counts[i]
    return [*edges, end]


def _lots(counts: list[int], bodies: int, slabs: int) -> list[tuple[list[Lot], list[Lot]]]:
    found, at = [], 0
    for b in range(bodies):
        sides: tuple[list[Lot], list[Lot]] = ([], [])
        for odd in range(2):
            for slab in range(slabs):
                size = counts[(2 * b + odd) * slabs + slab]
                if size:
                    sides[odd].append(Lot(slab, at, at + size))
                    at += size
        found.append(sides)
    return found


def _spread(low: Tensor, high: Tensor, strides: tuple[int, ...]) -> Tensor:
    """Take over the lowest and highest of neighbours whose stencil reaches a column; the columns that are reached."""
    for stride in strides:
        used = torch.nonzero(high > -_NOWHERE).squeeze(1)
        bottom, top = low[used], high[used]
        # A node is reached by the cells from three below to one above: the stencil, and one cell of movement.
        for offset in (-1, 1, 2, 3):
            to = used + offset * stride
            low[to] = torch.minimum(low[to], bottom)
            high[to] = torch.maximum(high[to], top)
    return torch.nonzero(high > -_NOWHERE).squeeze(1)


def dealt(lots: list[tuple[list[Lot], list[Lot]]], threads: int) -> dict[int, int]:
    """A thread for each slab, the same for all bodies, which may touch the same nodes; even slabs come first."""
    sizes: dict[int, int] = {}
    for odd in range(2):
        for sides in lots:
            for lot in sides[odd]:
                sizes[lot.slab] = sizes.get(lot.slab, 0) + lot.stop - lot.start
    total, seen, found = sum(sizes.values()), 0, {}
    for slab in sorted(sizes, key=lambda s: (s % 2, s)):
        middle = seen + sizes[slab] / 2
        found[slab] = min(threads - 1, int(threads * middle / total))
        seen += sizes[slab]
    return found
