"""Layouts of particles and nodes: every stencil has its memory, slabs share no node, orders are permutations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from physim.laws.material import Material
from physim.sim.model import Body, Grid, Model
from physim.solvers.mpm.layout import SLAB, Layout, Lot, _slab_edges, dealt
from physim.solvers.mpm.native import AXES
from physim.solvers.mpm.solver import SolverMPM
from physim.solvers.mpm.substep import shared_lots

DX = 0.1
ORIGIN = (-0.3, 0.2, 0.1)


def box(dim: int, shape: tuple[int, ...], periodic: tuple[bool, ...] = (False, False, False)) -> Grid:
    origin = ORIGIN if dim == 3 else (*ORIGIN[:2], 0.0)
    return Grid(origin, DX, shape if dim == 3 else (*shape[:2], 1), periodic)


def cloud(grid: Grid, low: tuple[float, ...], high: tuple[float, ...], n: int, seed: int = 0) -> Tensor:
    """Random positions [m] between two places given in cells from the grid's origin."""
    draw = torch.Generator().manual_seed(seed)
    s = torch.tensor(low) + (torch.tensor(high) - torch.tensor(low)) * torch.rand(n, 3, generator=draw)
    x = torch.tensor(grid.origin, dtype=torch.float64) + DX * s.double()
    if grid.dim == 2:
        x[:, 2] = 0.0
    return x


def corners(grid: Grid) -> Tensor:
    """The outermost positions [m] that a solver accepts."""
    ends = [(0.5, n - 1.5 - 1e-9) if n > 1 else (0.0,) for n in grid.shape]
    return torch.tensor(grid.origin, dtype=torch.float64) + DX * torch.tensor(
        list(itertools.product(*ends)), dtype=torch.float64
    )


Case = tuple[Tensor, list[tuple[int, int]], Grid]


def case(name: str, dim: int) -> Case:
    """Positions, bodies and grid."""
    wide = box(dim, (40, 12, 11))
    if name == "scattered":
        x = cloud(wide, (0.6, 0.6, 0.6), (38.0, 10.0, 9.0), 300)
        return x, [(0, 300)], wide
    if name == "several bodies":
        parts = [
            cloud(wide, (3.0, 2.0, 2.0), (30.0, 5.0, 5.0), 200, 1),
            cloud(wide, (20.0, 4.0, 4.0), (36.0, 9.0, 8.0), 150, 2),
            cloud(wide, (1.0, 8.0, 2.0), (3.0, 9.5, 3.0), 20, 3),
        ]
        return torch.cat(parts), [(0, 200), (200, 350), (350, 370)], wide
    if name == "one cell":
        return cloud(wide, (7.6, 4.6, 4.6), (8.4, 5.4, 5.4), 5), [(0, 5)], wide
    if name == "one particle":
        return cloud(wide, (7.6, 4.6, 4.6), (8.4, 5.4, 5.4), 1), [(0, 1)], wide
    if name == "corners":
        x = corners(wide)
        return x, [(0, len(x))], wide
    if name == "periodic":
        ring = box(dim, (20, 8, 7), (True, True, dim == 3))
        x = cloud(ring, (-35.0, -9.0, -8.0), (47.0, 17.0, 15.0), 400)
        return x, [(0, 250), (250, 400)], ring
    raise AssertionError(name)


CASES = ["scattered", "several bodies", "one cell", "one particle", "corners", "periodic"]
both = pytest.mark.parametrize("dim", [2, 3])
every = pytest.mark.parametrize("name", CASES)


def bases(x: Tensor, grid: Grid) -> np.ndarray:
    """First node of each stencil, from the definition, in the period that the grid holds."""
    s = (x.numpy() - np.array(grid.origin)) / DX
    for axis in range(3):
        if grid.periodic[axis]:
            s[:, axis] %= grid.shape[axis]
    base = np.floor(s - 0.5).astype(int)
    base[:, grid.dim :] = 0
    return base


def rows_of(layout: Layout, base: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Column, place along r, and first number in memory of each stencil's rows, one more cell each way; (n, m)."""
    a, b, r = AXES[dim]
    reach = range(-1, 4)
    offsets = np.array([(i, j, k) for i in reach for j in (reach if dim == 3 else (0,)) for k in (-1, 0, 1)])
    at_a = base[:, a, None] + offsets[:, 0] + layout.low_a
    at_b = base[:, b, None] + offsets[:, 1] + layout.low_b
    at_r = base[:, r, None] + offsets[:, 2]
    assert at_a.min() >= 0 and at_a.max() < layout.height
    assert at_b.min() >= 0 and at_b.max() < layout.width
    column = at_a * layout.width + at_b
    return column, at_r, layout.columns.numpy()[column] + at_r


@both
@every
def test_every_stencil_has_its_nodes(name: str, dim: int) -> None:
    """With one cell of movement each way, and rows four nodes wide that stay in their own column's memory."""
    x, bodies, grid = case(name, dim)
    layout = Layout(x, None, bodies, grid)
    base = bases(x[layout.change], grid)
    column, r, place = rows_of(layout, base, dim)
    low, high = layout.column_low.numpy()[column], layout.column_high.numpy()[column]
    assert (r >= low).all() and (r + 3 <= high).all()
    owner = layout.node_column.numpy()
    assert place.min() >= 0 and place.max() + 3 < layout.nodes
    for node in range(4):
        assert (owner[place + node] == column).all()
    assert (layout.home.numpy()[:, :dim] == base[:, :dim]).all()


@both
@every
def test_columns_tile_the_memory(name: str, dim: int) -> None:
    x, bodies, grid = case(name, dim)
    layout = Layout(x, None, bodies, grid)
    low, high, first = (getattr(layout, n).numpy().astype(int) for n in ("column_low", "column_high", "columns"))
    used = np.flatnonzero(high > low)
    start, stop = first[used] + low[used], first[used] + high[used] + 1
    assert start[0] == 0 and stop[-1] == layout.nodes
    assert (start[1:] == stop[:-1]).all()
    assert (np.repeat(used, stop - start) == layout.node_column.numpy()).all()
    assert len(first) == layout.height * layout.width
    # Nothing is kept that no particle can reach: 5 columns each way, and 5 nodes and a spare one along the row.
    if name.startswith("one"):
        assert layout.nodes == 5 ** (dim - 1) * 6


@both
@pytest.mark.parametrize("name", ["scattered", "several bodies", "one cell"])
def test_cost_follows_the_material_not_its_box(name: str, dim: int) -> None:
    x, bodies, grid = case(name, dim)
    small = Layout(x, None, bodies, grid)
    shape = tuple(4 * n if n > 1 else 1 for n in grid.shape)
    for shift in (0, 3):
        origin = tuple(o - shift * n * DX if n > 1 else o for o, n in zip(grid.origin, grid.shape, strict=True))
        large = Layout(x, None, bodies, Grid(origin, DX, shape))
        assert large.nodes == small.nodes
        assert torch.equal(large.order, small.order)
        assert large.lots == small.lots and large.slabs == small.slabs


@both
@every
def test_slabs_of_one_parity_share_no_node(name: str, dim: int) -> None:
    """Bodies together, after a cell of movement, and with the spare node of each row."""
    x, bodies, grid = case(name, dim)
    layout = Layout(x, None, bodies, grid)
    if name in ("scattered", "several bodies"):
        assert layout.slabs == 8
    _, _, place = rows_of(layout, bases(x[layout.change], grid), dim)
    reached: dict[int, set[int]] = {}
    for lot in all_lots(layout):
        nodes = place[lot.start : lot.stop, :, None] + np.arange(4)
        reached.setdefault(lot.slab, set()).update(nodes.ravel().tolist())
    for one, other in itertools.combinations(reached, 2):
        if one % 2 == other % 2:
            assert not reached[one] & reached[other]


def all_lots(layout: Layout) -> list[Lot]:
    return [lot for sides in layout.lots for side in sides for lot in side]


@both
@every
@pytest.mark.parametrize("slabs", [1, 2, 8])
def test_lots_part_each_body(name: str, dim: int, slabs: int) -> None:
    x, bodies, grid = case(name, dim)
    layout = Layout(x, None, bodies, grid, slabs=slabs)
    assert layout.slabs <= slabs and len(layout.lots) == len(bodies)
    a, b, r = AXES[dim]
    base = bases(x[layout.change], grid)
    spans: dict[int, list[int]] = {}
    for (start, stop), sides in zip(bodies, layout.lots, strict=True):
        assert sorted(layout.order[start:stop].tolist()) == list(range(start, stop))
        at = start
        for parity, side in enumerate(sides):
            for lot in side:
                assert lot.start == at and lot.stop > at and lot.slab % 2 == parity
                at = lot.stop
                cells = base[lot.start : lot.stop]
                keys = [tuple(c) for c in cells[:, [a, b, r]]]
                assert keys == sorted(keys)
                spans.setdefault(lot.slab, []).extend(cells[:, a].tolist())
        assert at == stop
    ends = [(min(c), max(c)) for _, c in sorted(spans.items())]
    assert all(before[1] < after[0] for before, after in itertools.pairwise(ends))


@both
@every
def test_orders_are_permutations_that_undo_each_other(name: str, dim: int) -> None:
    x, bodies, grid = case(name, dim)
    first = Layout(x, None, bodies, grid)
    there = x[first.change]
    assert torch.equal(there, x[first.order]) and torch.equal(there[first.undo], x)
    moved = there + 0.15 * torch.randn(there.shape, generator=torch.Generator().manual_seed(9), dtype=x.dtype) * DX
    if name == "corners":
        moved = there
    second = Layout(moved, first.order, bodies, grid)
    then = moved[second.change]
    assert torch.equal(then[second.undo], moved)
    assert torch.equal(then[second.inverse], moved[first.inverse])
    assert torch.equal(first.order[second.change], second.order)
    assert torch.equal(second.order[second.inverse], torch.arange(len(x)))
    # Another way to the same layout: from the user's order at once (particles of one cell aside).
    direct = Layout(moved[first.inverse], None, bodies, grid)
    assert direct.nodes == second.nodes and torch.equal(direct.home, second.home)


@both
def test_shifts_are_whole_periods(dim: int) -> None:
    x, bodies, grid = case("periodic", dim)
    layout = Layout(x, None, bodies, grid)
    turns = layout.shift.numpy() / (DX * np.array(grid.shape))
    assert np.abs(turns - turns.round()).max() < 1e-12 and np.abs(turns).max() > 1.5
    s = ((x[layout.change] - layout.shift).numpy() - np.array(grid.origin)) / DX
    for axis in range(dim):
        assert s[:, axis].min() > -1e-9 and s[:, axis].max() < grid.shape[axis] + 1e-9
    assert not layout.shift[:, [i for i in range(3) if not grid.periodic[i]]].any()


def test_slab_edges() -> None:
    draw = np.random.default_rng(1)
    for _ in range(300):
        counts = (draw.integers(0, 5, draw.integers(1, 60)) * draw.integers(0, 2)).tolist()
        counts[draw.integers(len(counts))] += int(draw.choice([1, 200]))
        used = np.flatnonzero(counts)
        for most in (1, 2, 4, 8):
            edges = _slab_edges(counts, most)
            widths = np.diff(edges)
            assert edges[0] == used[0] and edges[-1] == used[-1] + 1
            assert (widths > 0).all() and len(widths) <= most
            assert len(widths) == 1 or len(widths) % 2 == 0
            assert (widths[1:-1] >= SLAB).all()
    assert _slab_edges([0, 0, *[5] * 64, 0], 8) == list(range(2, 67, 8))


def test_slabs_are_dealt_evenly_and_whole() -> None:
    draw = np.random.default_rng(2)
    bodies = []
    for _ in range(2):
        ends = np.cumsum(draw.integers(1, 50, 16)).tolist()
        lots = [Lot(i, start, stop) for i, (start, stop) in enumerate(itertools.pairwise([0, *ends]))]
        bodies.append((lots[::2], lots[1::2]))
    total = sum(lot.stop - lot.start for sides in bodies for lots in sides for lot in lots)
    for threads in (1, 2, 3, 40):
        thread_of = dealt(bodies, threads)
        assert sorted(thread_of) == list(range(16)) and set(thread_of.values()) <= set(range(threads))
        sizes = [0] * threads
        for sides in bodies:
            for lots in sides:
                for lot in lots:
                    sizes[thread_of[lot.slab]] += lot.stop - lot.start
        assert max(sizes) <= total / threads + 100


@both
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_scatter_to_different_nodes_at_the_same_time(dim: int, threads: int) -> None:
    """All bodies are scattered in one phase: a node of one parity belongs to one thread, whatever the body."""
    x, bodies, grid = case("several bodies", dim)
    material = Material("neo_hookean", rho0=1e3, values={"E": 1e4, "nu": 0.3})
    model = Model(grid, torch.full((len(x),), 1e-4), [material], bodies=[Body(*ends, 0) for ends in bodies])
    solver = SolverMPM(model, x, threads=threads)
    work = solver._workspace(solver.initial_state())
    layout = Layout(x, None, bodies, grid)
    _, _, place = rows_of(layout, bases(x[layout.change], grid), dim)
    owner: dict[tuple[int, int], int] = {}
    for _, thread, odd, lots in shared_lots(work, layout):
        for node in np.unique(place[lots[0].start : lots[-1].stop, :, None] + np.arange(3)).tolist():
            assert owner.setdefault((odd, node), thread) == thread, f"threads meet at node {node}"


@both
def test_tables_follow_the_material(dim: int) -> None:
    """The same body in a grid a hundred times as wide has the same tables, and the same order."""
    x, bodies, grid = case("scattered", dim)
    corner = tuple(-100 * grid.shape[i] * grid.dx if i < dim else 0.0 for i in range(3))
    shape = tuple(201 * grid.shape[i] if i < dim else 1 for i in range(3))
    near, far = Layout(x, None, bodies, grid), Layout(x, None, bodies, Grid(corner, grid.dx, shape))
    assert (near.height, near.width, near.nodes) == (far.height, far.width, far.nodes)
    assert torch.equal(near.change, far.change) and torch.equal(near.node_column, far.node_column)
