"""The volume filter of fluids: what it keeps, what it removes, and its derivatives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from physim.errors import InputError
from physim.laws.material import Material
from physim.sim.model import Body, Grid, Model, Wall
from physim.sim.state import ParticleState
from physim.solvers.mpm.solver import SolverMPM


def pool(
    dim: int, *, elastic_half: bool = False, share: float = 0.1, stiffness: float = 1e4, threads: int = 1
) -> SolverMPM:
    """A box of liquid (with a solid beside it) between walls, with scattered particles."""
    generator = torch.Generator().manual_seed(3)
    x = 0.02 + 0.46 * torch.rand(60 * dim, 3, generator=generator, dtype=torch.float64)
    if dim == 2:
        x[:, 2] = 0.0
    values = {"bulk_modulus": stiffness, "viscosity": 1.0}
    water = Material("fluid_quadratic", "newtonian", "fluid", rho0=1000.0, values=values)
    jelly = Material("neo_hookean", rho0=1000.0, values={"E": 1e4, "nu": 0.3})
    grid = Grid((-0.2, -0.2, 0.0 if dim == 2 else -0.2), 0.1, (10, 10, 1 if dim == 2 else 10))
    n = len(x)
    bodies = [Body(0, n // 2, 0, "water"), Body(n // 2, n, 1, "jelly")] if elastic_half else [Body(0, n, 0)]
    vol0 = torch.full((n,), 0.5**dim / n, dtype=torch.float64)
    walls = [Wall(axis, False, 0.0) for axis in range(dim)] + [Wall(0, True, 0.5)]
    model = Model(grid, vol0, [water, jelly], bodies=bodies, gravity=(0.0, -9.81, 0.0), walls=walls)
    return SolverMPM(model, x, blend=0.5, volume_filter=share, threads=threads)


def noisy(solver: SolverMPM, size: float = 1e-2) -> ParticleState:
    """The initial state with volume ratios scattered by `size`."""
    state = solver.initial_state()
    generator = torch.Generator().manual_seed(4)
    J = 1 + size * torch.randn(len(state.x), generator=generator, dtype=torch.float64)
    return state.replace(F=J.pow(1 / 3)[:, None, None] * state.F)


def ratio(state: ParticleState) -> Tensor:
    return torch.linalg.det(state.F)


@pytest.mark.parametrize("dim", [2, 3])
def test_it_keeps_the_volume_and_removes_the_scatter(dim: int) -> None:
    plain, filtered = pool(dim, share=0.0), pool(dim, share=0.3)
    with torch.no_grad():
        before = noisy(plain)
        free, held = plain.step(before, None, 1e-6), filtered.step(before, None, 1e-6)
    assert float(ratio(held).sum()) == pytest.approx(float(ratio(free).sum()), rel=1e-12)
    assert ratio(held).std() < 0.85 * ratio(free).std()
    assert torch.equal(held.x, free.x) and torch.equal(held.v, free.v)


def test_a_uniform_compression_passes_unchanged() -> None:
    plain, filtered = pool(2, share=0.0, stiffness=1.0), pool(2, share=0.5, stiffness=1.0)
    with torch.no_grad():
        start = plain.initial_state()
        start = start.replace(F=0.97 * start.F)
        assert torch.allclose(filtered.step(start, None, 1e-9).F, plain.step(start, None, 1e-9).F, atol=1e-9)


def test_solids_are_left_alone() -> None:
    plain, filtered = pool(2, elastic_half=True, share=0.0), pool(2, elastic_half=True, share=0.3)
    with torch.no_grad():
        start = noisy(plain)
        free, held = plain.step(start, None, 1e-4), filtered.step(start, None, 1e-4)
    half = len(start.x) // 2
    assert torch.equal(free.F[half:], held.F[half:])
    assert not torch.allclose(free.F[:half], held.F[:half], atol=1e-6)


@pytest.mark.parametrize("dim", [2, 3])
def test_gradients_agree_with_central_differences(dim: int) -> None:
    solver = pool(dim, elastic_half=True)
    start = noisy(solver)
    weight = torch.randn(start.x.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def loss(x: Tensor, F: Tensor, keep: bool = False) -> Tensor:
        end = solver.advance(start.replace(x=x, F=F), None, 2e-4, 12, keep=keep)
        return ((end.x + 1e-2 * end.v) * weight).sum() + ratio(end).square().sum()

    x, F = start.x.clone().requires_grad_(True), start.F.clone().requires_grad_(True)
    gradients = torch.autograd.grad(loss(x, F, keep=dim == 2), (x, F))
    for which, (value, gradient) in enumerate(zip((start.x, start.F), gradients, strict=True)):
        way = torch.randn(value.shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
        if which == 0 and dim == 2:
            way[:, 2] = 0.0
        h = 1e-6
        with torch.no_grad():
            ends = [
                loss(*((value + s * h * way, start.F) if which == 0 else (start.x, value + s * h * way)))
                for s in (1, -1)
            ]
        slope = float(ends[0] - ends[1]) / (2 * h)
        assert float((gradient * way).sum()) == pytest.approx(slope, rel=1e-6)


def test_a_share_outside_its_range_is_refused() -> None:
    with pytest.raises(InputError, match=r"volume_filter must be in \[0, 1\]"):
        pool(2, share=1.5)


@pytest.mark.parametrize("dim", [2, 3])
def test_threads_change_no_bit(dim: int) -> None:
    """Without a collider: the backward pass then has a stage without launches."""
    found = []
    for threads in (1, 2, 2, 2):
        solver = pool(dim, threads=threads)
        state = noisy(solver)
        leaves = [getattr(state, n).requires_grad_(True) for n in ("x", "v", "F")]
        end = solver.advance(state, None, 1e-3, 8)
        loss = end.x.square().mean() + end.v.square().mean() + end.F.square().mean()
        found.append([end.x.detach(), end.F.detach(), *torch.autograd.grad(loss, leaves)])
    for others in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], others, strict=True))
