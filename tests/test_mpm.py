"""MLS-MPM: exact motions, conserved quantities, failures that are reported, memory that changes nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from physim.errors import GradientError, InputError
from physim.laws.material import Material
from physim.sim.model import Body, Collider, ColliderKind, Contact, Grid, Model, Wall, WallKind
from physim.sim.rollout import rollout
from physim.sim.trajectory import RolloutFailure, Status
from physim.solvers.mpm.solver import SolverMPM

DX = 0.1
DAMPED = {"E": 2e4, "nu": 0.3, "viscosity": 100.0}


def elastic(**values: object) -> Material:
    return Material("neo_hookean", rho0=1000.0, values={"E": 1e4, "nu": 0.3} | values)


def points(dim: int, low: float = 0.4, cells: int = 2, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    line = low + (torch.arange(2 * cells, dtype=torch.float64) + 0.5) * DX / 2
    axes = [line] * dim + [torch.zeros(1, dtype=torch.float64)] * (3 - dim)
    x = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3).to(dtype)
    return x, torch.full((len(x),), (DX / 2) ** dim, dtype=dtype)


def grid(dim: int, nodes: int = 12, **options: object) -> Grid:
    return Grid((0.0, 0.0, 0.0), DX, (nodes, nodes, nodes if dim == 3 else 1), **options)


def solver(
    dim: int, *, material: Material | None = None, v: Tensor | None = None, blend: float = 0.0, **model: object
) -> SolverMPM:
    x, vol0 = points(dim)
    return SolverMPM(Model(grid(dim), vol0, [material or elastic()], **model), x, v, blend=blend)


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("blend", [0.0, 0.9])
def test_free_fall_is_exact_and_so_are_its_gradients(dim: int, blend: float) -> None:
    sim = solver(dim, blend=blend)
    g = torch.tensor([0.5, -9.81, 0.0], dtype=torch.float64, requires_grad=True)
    sim.model.gravity = g
    start = sim.initial_state()
    v = torch.tensor([0.3, 0.1, 0.0], dtype=torch.float64).repeat(len(start.x), 1).requires_grad_(True)
    dt, steps = 1e-3, 50
    end = rollout(sim, start.replace(v=v), dt=dt, steps=steps, every=steps).final
    t = steps * dt
    moved = v.detach() * t + g.detach() * t * (t + dt) / 2
    assert torch.allclose(end.x, start.x + moved, rtol=0, atol=1e-13)
    assert torch.allclose(end.v, v + g * t, rtol=0, atol=1e-13)
    by_v, by_g = torch.autograd.grad(end.x[:, 1].mean(), [v, g])
    assert float(by_v[:, 1].sum()) == pytest.approx(t, rel=1e-12)
    assert by_g.numpy() == pytest.approx([0.0, t * (t + dt) / 2, 0.0], rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("blend", [0.0, 0.9])
def test_momentum_is_conserved(dim: int, blend: float) -> None:
    x, _ = points(dim)
    spin = torch.tensor([0.0, 0.0, 3.0] if dim == 2 else [1.0, -2.0, 3.0], dtype=x.dtype)
    v = torch.linalg.cross(spin.expand_as(x), x - 0.5 * (x.min(0).values + x.max(0).values))
    v[:, 0] += 0.2 + 2.0 * (x[:, 0] - 0.5)
    sim = solver(dim, v=v, blend=blend)
    with torch.no_grad():
        path = rollout(sim, sim.initial_state(), dt=1e-3, steps=100, every=50, save=lambda s: s)
    totals = []
    for s in path.saved:
        m = sim.model.mass[:, None]
        skew = torch.stack([s.C[:, 2, 1] - s.C[:, 1, 2], s.C[:, 0, 2] - s.C[:, 2, 0], s.C[:, 1, 0] - s.C[:, 0, 1]], 1)
        angular = (m * torch.linalg.cross(s.x, s.v)).sum(0) + (m * skew).sum(0) * DX**2 / 4
        totals.append(torch.cat([(m * s.v).sum(0), angular]))
    assert torch.allclose(totals[0][:3], totals[-1][:3], rtol=0, atol=1e-12)
    if blend == 0.0:  # the part that a particle keeps for itself carries no affine momentum
        assert torch.allclose(totals[0][3:], totals[-1][3:], rtol=0, atol=1e-12)


@pytest.mark.parametrize("dim", [2, 3])
def test_a_body_leaves_a_periodic_side_and_is_where_it_would_be(dim: int) -> None:
    x, vol0 = points(dim)
    v = torch.tensor([3.0, 0.0, 0.0], dtype=x.dtype).repeat(len(x), 1)
    v[:, 1] += 2.0 * (x[:, 0] - 0.5)
    ends = []
    for periodic, nodes in ((True, 8), (False, 30)):
        shape = (nodes, 12, 12 if dim == 3 else 1)
        model = Model(Grid((0.0, 0.0, 0.0), DX, shape, (periodic, False, False)), vol0, [elastic()])
        sim = SolverMPM(model, x, v)
        with torch.no_grad():
            ends.append(rollout(sim, sim.initial_state(), dt=2e-3, steps=200, every=200).final.x)
    assert float(ends[0][:, 0].min()) > 1.0
    assert torch.allclose(ends[0], ends[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("at", [0.4, 0.35])
@pytest.mark.parametrize(("kind", "steps"), [(WallKind.SLIP, 30), (WallKind.NO_SLIP, 1)])
def test_a_mirrored_wall_equals_the_mirror_image(at: float, kind: WallKind, steps: int) -> None:
    """Half a body beside a wall moves as one half of the whole; no-slip negates the image's velocity."""
    x, vol0 = points(2, low=at)
    v = torch.stack([-0.5 + x[:, 1], torch.sin(9 * x[:, 0]), torch.zeros_like(x[:, 0])], 1)
    flip = torch.tensor([-1.0, 1.0, 1.0], dtype=x.dtype)
    image = x * flip + torch.tensor([2 * at, 0.0, 0.0], dtype=x.dtype)
    mirrored = v * flip if kind == WallKind.SLIP else -v
    half = SolverMPM(Model(grid(2), vol0, [elastic()], walls=[Wall(0, False, at, kind)]), x, v)
    whole = SolverMPM(
        Model(grid(2), torch.cat([vol0, vol0]), [elastic()]), torch.cat([x, image]), torch.cat([v, mirrored])
    )
    with torch.no_grad():
        a, b = (rollout(s, s.initial_state(), dt=1e-3, steps=steps, every=steps).final for s in (half, whole))
    assert torch.allclose(a.x, b.x[: len(x)], rtol=0, atol=1e-13)
    assert torch.allclose(a.v, b.v[: len(x)], rtol=0, atol=1e-11)


def test_walls_hold_and_the_coulomb_plane_brakes_by_its_coefficient() -> None:
    friction, speed, g = 0.3, 1.0, 9.81
    x, vol0 = points(2, low=0.4, cells=2)
    floor = Collider.plane((0.0, 0.4, 0.0), (0.0, 1.0, 0.0), contact=Contact.COULOMB, friction=friction)
    model = Model(grid(2, 24), vol0, [elastic(E=1e5)], gravity=(0.0, -g, 0.0), colliders=[floor])
    sim = SolverMPM(model, x, torch.tensor([speed, 0.0, 0.0], dtype=x.dtype).repeat(len(x), 1))
    with torch.no_grad():
        end = rollout(sim, sim.initial_state(), dt=1e-3, steps=200, every=200).final
    assert float(end.v[:, 0].mean()) == pytest.approx(speed - friction * g * 0.2, rel=0.03)
    assert float(end.x[:, 1].min()) > 0.38


def test_memory_changes_nothing() -> None:
    """Kept and recomputed states give the same gradients, up to the order in which substeps are summed."""
    found = []
    for memory in ("auto", 1):
        material = elastic()
        material.free("E")
        floor = Collider.plane((0.0, 0.4, 0.0), (0.0, 1.0, 0.0), contact=Contact.SLIP, velocity=(0.0, 0.5, 0.0))
        sim = solver(2, material=material, colliders=[floor])
        v = torch.tensor([0.1, -1.0, 0.0], dtype=torch.float64).repeat(16, 1).requires_grad_(True)
        path = rollout(sim, sim.initial_state().replace(v=v), dt=1e-3, steps=40, every=20, memory=memory)
        loss = (path.final.x**2).sum() + (path.saved[1] ** 3).sum()
        found.append(torch.autograd.grad(loss, [v, material.raw["E"]]))
    for kept, again in zip(*found, strict=True):
        assert torch.allclose(kept, again, rtol=1e-13, atol=0)


def test_a_keyframe_inside_a_segment_is_not_overrun() -> None:
    """A press that stops within a record: nothing depends on how often records or segments begin."""
    stops = ((0.0, (0.5, 0.25, 0.0)), (0.013, (0.5, 0.45, 0.0)))
    press = Collider(ColliderKind.BOX, (0.5, 0.15, 0.5), contact=Contact.STICK, keyframes=stops)
    made = solver(2, colliders=[press])
    ends = [rollout(made, made.initial_state(), dt=1e-3, steps=20, every=every).final.x for every in (1, 20)]
    assert float((ends[0] - made.initial_state().x).abs().max()) > 0.01
    assert float((ends[0] - ends[1]).abs().max()) < 1e-12


def test_a_second_derivative_is_refused() -> None:
    v = torch.zeros(16, 3, dtype=torch.float64).requires_grad_()
    made = solver(2, v=v)
    end = made.step(made.initial_state(), None, 1e-4)
    (slope,) = torch.autograd.grad((end.x**2).sum(), v, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_parameters_per_particle_must_be_as_many_as_particles() -> None:
    made = solver(2, material=elastic(E=torch.full((5,), 1e4, dtype=torch.float64)))
    with pytest.raises(InputError, match="parameters of 'body'"):
        made.step(made.initial_state(), None, 1e-4)


def test_parameters_per_particle_have_a_gradient_each() -> None:
    n = 16
    stiffness = torch.full((n,), 1e4, dtype=torch.float64)
    material = elastic(E=stiffness)
    assert material.theta().shape == (n, 2)
    material.free("E")
    one = elastic()
    one.free("E")
    v = torch.zeros(n, 3, dtype=torch.float64)
    v[:, 0] = torch.linspace(-1, 1, n, dtype=torch.float64)
    grads = []
    for m in (material, one):
        sim = solver(2, material=m, v=v)
        end = rollout(sim, sim.initial_state(), dt=1e-3, steps=20, every=20).final
        grads.append(torch.autograd.grad((end.x**2).sum(), m.raw["E"])[0])
    assert grads[0].shape == (n,)
    assert int((grads[0] != 0).sum()) == n
    assert float(grads[0].sum()) == pytest.approx(float(grads[1]), rel=1e-10)


def test_a_particle_that_leaves_the_grid_is_reported() -> None:
    v = torch.tensor([0.0, 20.0, 0.0], dtype=torch.float64).repeat(16, 1)
    sim = solver(2, v=v)
    with torch.no_grad(), pytest.raises(RolloutFailure, match="enlarge the grid") as caught:
        rollout(sim, sim.initial_state(), dt=1e-3, steps=100, every=10)
    assert caught.value.status is Status.LEFT_GRID
    assert 20 < caught.value.substep < 40  # 0.55 m to the last stencil at 20 m/s
    assert caught.value.t == pytest.approx(caught.value.substep * 1e-3)
    with torch.no_grad():
        path = rollout(sim, sim.initial_state(), dt=1e-3, steps=100, every=10, strict=False)
    assert path.status is Status.LEFT_GRID and path.failure is not None and len(path.saved) == 3


def test_a_particle_that_crosses_a_cell_per_substep_is_too_fast() -> None:
    sim = solver(2, v=torch.tensor([60.0, 0.0, 0.0], dtype=torch.float64).repeat(16, 1))
    with torch.no_grad(), pytest.raises(RolloutFailure) as caught:
        rollout(sim, sim.initial_state(), dt=2e-3, steps=10, every=10)
    assert caught.value.status is Status.TOO_FAST and caught.value.substep == 0


def test_a_state_that_is_not_finite_is_reported_with_its_particle() -> None:
    sim = solver(2)
    state = sim.initial_state()
    F = state.F.clone()
    F[5, 0, 0] = math.nan
    with torch.no_grad(), pytest.raises(RolloutFailure) as caught:
        rollout(sim, state.replace(F=F), dt=1e-3, steps=5, every=5)
    assert caught.value.status is Status.NONFINITE


def test_a_gradient_that_is_not_finite_names_its_term() -> None:
    sim = solver(2)
    state = sim.initial_state()
    for scale, term in ((math.inf, "the loss"), (1.7e308, "from the adjoint of")):
        v = state.v.clone().requires_grad_(True)
        end = sim.advance(state.replace(v=v), None, 1e-2, 5)
        # A cotangent near the largest number grows past it on the way back.
        weights = torch.linspace(-1.0, 1.0, 16, dtype=torch.float64)[:, None] * scale
        with pytest.raises(GradientError, match=term):
            end.v.backward(weights.expand(16, 3).contiguous())


def test_input_is_checked_at_the_door() -> None:
    x, vol0 = points(2)
    model = Model(grid(2), vol0, [elastic()])
    with pytest.raises(InputError, match="outside the grid"):
        SolverMPM(model, x + 2.0)
    with pytest.raises(InputError, match="blend"):
        SolverMPM(model, x, blend=1.0)
    with pytest.raises(InputError, match="mass_floor"):
        SolverMPM(model, x, mass_floor=-1.0)
    with pytest.raises(InputError, match="expected shape"):
        SolverMPM(model, x[:-1])
    bad = x.clone()
    bad[3, 1] = math.inf
    with pytest.raises(InputError, match="non-finite"):
        SolverMPM(model, bad)


def test_two_materials_keep_to_their_particles() -> None:
    """A fluid and an elastic block that do not touch move as each does alone."""
    a, vol0 = points(2, low=0.2)
    b, _ = points(2, low=0.8)
    fluid = Material(
        "fluid_quadratic", "newtonian", "fluid", rho0=500.0, values={"bulk_modulus": 1e4, "viscosity": 1.0}
    )
    v = torch.cat([a - 0.3, 2.0 * (b - 0.9)]) * torch.tensor([1.0, 1.0, 0.0])
    n = len(a)
    both = Model(grid(2, 14), torch.cat([vol0, vol0]), [elastic(), fluid], bodies=[Body(0, n, 0), Body(n, 2 * n, 1)])
    assert float(both.mass[n]) == pytest.approx(0.5 * float(both.mass[0]))
    ends = []
    with torch.no_grad():
        for model, x, speed in (
            (both, torch.cat([a, b]), v),
            (Model(grid(2, 14), vol0, [elastic()]), a, v[:n]),
            (Model(grid(2, 14), vol0, [fluid]), b, v[n:]),
        ):
            sim = SolverMPM(model, x, speed)
            ends.append(rollout(sim, sim.initial_state(), dt=1e-3, steps=50, every=50).final)
    # Only the order of sums differs, because slabs are cut through both bodies.
    torch.testing.assert_close(ends[0].x[:n], ends[1].x, rtol=1e-12, atol=0.0)
    torch.testing.assert_close(ends[0].x[n:], ends[2].x, rtol=1e-12, atol=0.0)


def test_stable_dt_follows_the_wave_speed_and_holds() -> None:
    sim = solver(2)
    dt = sim.stable_dt(sim.initial_state())
    speed = math.sqrt(1e4 * 0.7 / (1.3 * 0.4) / 1000.0)
    assert 0.3 * DX / speed < dt < 0.6 * DX / speed
    v = torch.zeros(16, 3, dtype=torch.float64)
    v[:, 0] = torch.as_tensor(np.random.default_rng(0).normal(size=16)) * 0.1
    shaken = solver(2, v=v)
    with torch.no_grad():
        end = rollout(shaken, shaken.initial_state(), dt=dt, steps=500, every=500).final
    assert float(end.v.abs().max()) < 0.3


def test_a_resting_body_presses_on_the_floor_with_its_weight() -> None:
    floor = Collider.plane((0.0, 0.3, 0.0), (0.0, 1.0, 0.0), name="floor")
    sim = solver(
        2,
        material=Material("neo_hookean", "kelvin_voigt", rho0=1000.0, values=DAMPED),
        colliders=[floor],
        gravity=(0.0, -9.81, 0.0),
    )
    with torch.no_grad():
        path = rollout(sim, sim.initial_state(), dt=1e-3, steps=2000, save=lambda s: sim.collider_forces(s, 1e-3))
    force = torch.stack(path.saved)[-500:].mean(0)
    assert force[0].numpy() == pytest.approx([0.0, -9.81 * float(sim.model.mass.sum()), 0.0], rel=1e-3, abs=0.1)


def test_a_node_on_a_surface_is_inside_it_whatever_the_rounding() -> None:
    ends = []
    for shift in (-1e-9, 0.0, 1e-9):
        floor = Collider.plane((0.0, 0.4 + shift, 0.0), (0.0, 1.0, 0.0), contact=Contact.STICK)
        sim = solver(2, colliders=[floor], gravity=(0.0, -9.81, 0.0))
        with torch.no_grad():
            ends.append(rollout(sim, sim.initial_state(), dt=1e-3, steps=50, every=50).final.x)
    assert torch.equal(ends[0], ends[1]) and torch.equal(ends[1], ends[2])
