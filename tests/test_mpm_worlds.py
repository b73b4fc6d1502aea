"""Several worlds in one launch: each is what it would be alone, with its own parameters, motions and gradients."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from physim.errors import InputError
from physim.laws.material import Material
from physim.shapes import Box, sample
from physim.sim.model import Body, Collider, ColliderKind, Contact, Grid, Model, Wall
from physim.sim.rollout import rollout
from physim.sim.state import Control
from physim.sim.trajectory import RolloutFailure, Status
from physim.solvers.mpm.solver import SolverMPM

DX, DT, STEPS, B = 0.1, 1e-4, 24, 3
STIFFNESS = (8e3, 1e4, 1.5e4)
SPEED = ((0.1, 0.5, 0.0), (-0.3, 0.8, 0.0), (0.0, 0.2, 0.0))
PULL = ((0.0, -9.8, 0.0), (5.0, -9.8, 0.0), (0.0, -2.0, 0.0))


def scene(dim: int, E: float | Tensor) -> tuple[Model, Tensor]:
    """Jelly beside liquid over a moving box, between walls."""
    parts = [((0.3, 0.45, 0.45), (0.2, 0.3, 0.2)), ((0.6, 0.4, 0.45), (0.2, 0.2, 0.2))]
    made = [sample(Box(at[:dim], size[:dim]), spacing=0.05, dim=dim) for at, size in parts]
    x = torch.cat([torch.as_tensor(p.x) for p in made]).double()
    vol0 = torch.cat([torch.as_tensor(p.vol0) for p in made]).double()
    jelly = Material("neo_hookean", rho0=1000.0, values={"E": E, "nu": 0.3})
    given = {"bulk_modulus": 2e4, "exponent": 7.0, "viscosity": 2.0}
    liquid = Material("fluid_tait", viscous="newtonian", inelastic="fluid", rho0=1000.0, values=given)
    jelly.free("E")
    n = len(made[0].x)
    bodies = [Body(0, n, 0, "jelly"), Body(n, len(x), 1, "liquid")]
    at = (0.45, 0.2, 0.45 if dim == 3 else 0.0)
    box = Collider(ColliderKind.BOX, (0.3, 0.12, 0.5), at, contact=Contact.COULOMB, friction=0.4)
    grid = Grid((0.0, 0.0, 0.0), DX, (10, 10, 10 if dim == 3 else 1))
    walls = [Wall(0, False, 0.1), Wall(1, False, 0.15)]
    return Model(grid, vol0, [jelly, liquid], bodies=bodies, walls=walls, colliders=[box]), x


def velocities(x: Tensor, dim: int) -> Tensor:
    """A different start for each world [m/s], (B, n, 3)."""
    draw = torch.Generator().manual_seed(4)
    v = 0.3 * torch.randn(B, *x.shape, generator=draw, dtype=torch.float64)
    v[:, :, dim:] = 0.0
    return v - torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)


def moved(model: Model, velocity: Tensor, pull: Tensor) -> Control:
    """The model's control with other velocities of the collider and a body force."""
    control = model.control_at(0.0)
    several = velocity.ndim == 3
    fields = {n: getattr(control, n) for n in ("position", "rotation", "spin")}
    fields = {n: t.expand(B, *t.shape) if several else t for n, t in fields.items()}
    return Control(velocity=velocity, acceleration=pull, **fields)


Found = dict[str, Tensor]


def run(dim: int, x: Tensor, v: Tensor, E: Tensor, speed: Tensor, pull: Tensor, worlds: int, **options: Any) -> Found:
    """Final state, and the gradients of a loss by everything that may differ between worlds."""
    model, _ = scene(dim, E.clone())
    v, speed, pull = (t.clone().requires_grad_() for t in (v, speed, pull))
    memory = options.pop("memory", "auto")
    solver = SolverMPM(model, x, v, worlds=worlds, **options)
    control = moved(model, speed, pull)
    trajectory = rollout(
        solver, solver.initial_state(), dt=DT, steps=STEPS, every=STEPS, control=lambda _: control, memory=memory
    )
    final = trajectory.final
    weights = torch.sin(torch.arange(x.shape[0], dtype=x.dtype))[:, None]
    loss = (solver.split(final.x) * weights).sum() + 1e-2 * final.v.square().sum() + final.F.square().sum()
    loss.backward()
    raw = model.materials[0].raw["E"]
    assert v.grad is not None and speed.grad is not None and pull.grad is not None and raw.grad is not None
    state = {n: solver.split(getattr(final, n)).detach() for n in ("x", "v", "C", "F")}
    return state | {"by v": v.grad, "by E": raw.grad, "by speed": speed.grad, "by pull": pull.grad}


@pytest.fixture
def inputs(request: pytest.FixtureRequest) -> tuple[Tensor, ...]:
    """Positions, and per world velocities, stiffness [Pa], speed of the collider [m/s], body force [m/s^2]."""
    dim, dtype = request.param
    _, x = scene(dim, 1e4)
    speed, pull = (torch.tensor(t, dtype=torch.float64) for t in (SPEED, PULL))
    return tuple(
        t.to(dtype) if i < 2 else t
        for i, t in enumerate((x, velocities(x, dim), torch.tensor(STIFFNESS).double(), speed[:, None], pull))
    )


BOTH = pytest.mark.parametrize("inputs", [(2, torch.float64), (3, torch.float64), (3, torch.float32)], indirect=True)


@BOTH
@pytest.mark.parametrize("blend", [0.0, 0.5])
def test_a_world_is_what_it_would_be_alone(inputs: tuple[Tensor, ...], blend: float) -> None:
    x, v, E, speed, pull = inputs
    dim = 2 if bool((x[:, 2] == 0).all()) else 3
    together = run(dim, x, v, E, speed, pull, B, blend=blend, volume_filter=0.05)
    tight = 1e-11 if x.dtype == torch.float64 else 2e-4
    for w in range(B):
        alone = run(dim, x, v[w], E[w : w + 1], speed[w], pull[w], 1, blend=blend, volume_filter=0.05)
        for name, expected in alone.items():
            found = together[name][w] if name in ("by v", "by speed", "by pull") else together[name][w : w + 1]
            error = float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-12))
            assert error < tight, (w, name, error)


@pytest.mark.parametrize("inputs", [(3, torch.float32)], indirect=True)
def test_what_happens_in_one_world_does_not_depend_on_the_others(inputs: tuple[Tensor, ...]) -> None:
    x, v, E, speed, pull = inputs
    first = run(3, x, v, E, speed, pull, B, threads=1)
    other = v.clone()
    other[1:] = -2.0 * v[1:]
    for options in ({"threads": 1}, {"threads": 2}):
        second = run(3, x, other, E, speed, pull, B, **options)
        for name in ("x", "v", "C", "F", "by v", "by speed", "by pull", "by E"):
            assert torch.equal(first[name][0], second[name][0]), name
        assert not torch.equal(first["x"][1], second["x"][1])


@pytest.mark.parametrize("inputs", [(2, torch.float64)], indirect=True)
def test_parameters_of_each_particle_may_be_the_same_in_all_worlds_or_not(inputs: tuple[Tensor, ...]) -> None:
    x, v, _, speed, pull = inputs
    model, _ = scene(2, 1e4)
    n = model.bodies[0].stop
    field = 1e4 * (1.0 + 0.3 * torch.rand(n, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    same = run(2, x, v, field, speed, pull, B)
    own = run(2, x, v, field.repeat(B), speed, pull, B)
    for name in ("x", "F", "by v"):
        assert torch.equal(same[name], own[name])
    total = own["by E"].reshape(B, n).sum(dim=0)
    assert float((same["by E"] - total).abs().max()) < 1e-12 * float(total.abs().max())


def test_a_state_for_one_world_starts_them_all() -> None:
    model, x = scene(2, 1e4)
    solver = SolverMPM(model, x, worlds=B)
    state = solver.initial_state()
    assert state.x.shape == (B * len(x), 3)
    assert torch.equal(solver.split(state.x)[2], x)
    alone = SolverMPM(model, x)
    assert solver.stable_dt(state) == pytest.approx(alone.stable_dt(alone.initial_state()), rel=1e-12)
    assert alone.collider_forces(alone.initial_state(), DT).shape == (1, 3)
    assert solver.collider_forces(state, DT).shape == (B, 1, 3)


def test_the_stiffest_world_limits_the_substep() -> None:
    model, x = scene(2, torch.tensor(STIFFNESS, dtype=torch.float64))
    solver = SolverMPM(model, x, worlds=B)
    stiff, _ = scene(2, STIFFNESS[2])
    alone = SolverMPM(stiff, x)
    expected = alone.stable_dt(alone.initial_state())
    assert solver.stable_dt(solver.initial_state()) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_failure_names_its_world(threads: int) -> None:
    model, x = scene(2, 1e4)
    v = torch.zeros(B, *x.shape, dtype=torch.float64)
    v[1, :, 0] = 1500.0
    solver = SolverMPM(model, x, v, worlds=B, threads=threads)
    with pytest.raises(RolloutFailure, match="world 1, particle 0") as caught:
        rollout(solver, solver.initial_state(), dt=DT, steps=10)
    assert caught.value.world == 1
    assert caught.value.status is Status.TOO_FAST
    far = x.repeat(B, 1)
    far[2 * len(x) + 5, 0] = float("nan")
    good = SolverMPM(model, x, worlds=B)
    with pytest.raises(RolloutFailure, match="world 2, particle 5"):
        good.step(dataclasses.replace(good.initial_state(), x=far), None, DT)


@pytest.mark.parametrize("inputs", [(2, torch.float64)], indirect=True)
def test_a_world_that_fails_is_dropped_and_the_others_go_on(inputs: tuple[Tensor, ...]) -> None:
    x, v, E, speed, pull = inputs
    expected = run(2, x, v, E, speed, pull, B)
    model, _ = scene(2, E.clone())
    fast = v.clone()
    fast[1, :, 0] = 1500.0
    fast, speed, pull = (t.clone().requires_grad_() for t in (fast, speed, pull))
    solver = SolverMPM(model, x, fast, worlds=B, drop_failed=True)
    control = moved(model, speed, pull)
    start = solver.initial_state()
    assert solver.stable_dt(start) > 0
    path = rollout(solver, start, dt=DT, steps=STEPS, every=STEPS // 2, control=control.moved_on)
    assert path.status is Status.OK
    assert list(solver.failures) == [1]
    assert "world 1" in str(solver.failures[1])
    ends = solver.split(path.final.x)
    assert bool(ends[1].isnan().all())
    assert solver.stable_dt(path.final) > 0
    weights = torch.sin(torch.arange(x.shape[0], dtype=x.dtype))[:, None]
    kept = torch.tensor([0, 2])
    found = [solver.split(t)[kept] for t in (path.final.x, path.final.v, path.final.F)]
    loss = (found[0] * weights).sum() + 1e-2 * found[1].square().sum() + found[2].square().sum()
    loss.backward()
    assert fast.grad is not None and pull.grad is not None and speed.grad is not None
    by_E = model.materials[0].raw["E"].grad
    made = {"x": ends.detach(), "by v": fast.grad, "by pull": pull.grad, "by speed": speed.grad, "by E": by_E}
    for name, tensor in made.items():
        error = float((tensor[kept] - expected[name][kept]).abs().max() / expected[name].abs().max())
        assert error < 1e-10, (name, error)
    assert float(fast.grad[1].abs().max()) == 0.0


def test_the_last_world_to_fail_is_raised() -> None:
    model, x = scene(2, 1e4)
    v = torch.zeros(2, *x.shape, dtype=torch.float64)
    v[:, :, 0] = 1500.0
    solver = SolverMPM(model, x, v, worlds=2, drop_failed=True)
    with pytest.raises(RolloutFailure, match="world 1"):
        solver.step(solver.initial_state(), None, DT)
    assert sorted(solver.failures) == [0, 1]


def test_shapes_that_fit_no_world_are_refused() -> None:
    model, x = scene(2, 1e4)
    with pytest.raises(InputError, match="worlds must be at least 1"):
        SolverMPM(model, x, worlds=0)
    with pytest.raises(InputError, match="x: expected shape"):
        SolverMPM(model, x[:-1], worlds=B)
    solver = SolverMPM(model, x, worlds=B)
    control = model.control_at(0.0)
    wrong = dataclasses.replace(control, velocity=control.velocity.expand(B + 1, -1, -1))
    with pytest.raises(InputError, match=r"control\.velocity"):
        solver.step(solver.initial_state(), wrong, DT)
    model.materials[0].set(E=torch.full((B + 1,), 1e4, dtype=torch.float64))
    with pytest.raises(InputError, match=r"parameters of 'jelly'.*3 \(one per world\)"):
        solver.step(solver.initial_state(), None, DT)


def test_a_dropped_world_stays_dropped() -> None:
    model, x = scene(2, torch.tensor(STIFFNESS, dtype=torch.float64))
    v = torch.zeros(B, *x.shape, dtype=torch.float64)
    v[0, :, 0] = 1500.0
    v.requires_grad_()
    solver = SolverMPM(model, x, v, worlds=B, drop_failed=True)
    first = rollout(solver, solver.initial_state(), dt=DT, steps=4, every=2)
    assert first.failures[0].substep == 0
    second = rollout(solver, first.final, dt=DT, steps=20, every=5)
    assert not second.failures
    forces = solver.collider_forces(second.final, DT)
    assert bool(forces[0].isnan().all()) and bool(forces[1:].isfinite().all())
    solver.split(second.final.x)[1:].square().sum().backward()
    assert v.grad is not None and bool(v.grad.isfinite().all())


def test_a_late_failure_is_counted_from_the_start_of_the_rollout() -> None:
    model, x = scene(2, 1e4)
    v = torch.zeros(B, *x.shape, dtype=torch.float64)
    v[2, :, 0] = 60.0
    solver = SolverMPM(model, x, v, worlds=B, drop_failed=True)
    path = rollout(solver, solver.initial_state(), dt=DT, steps=120, every=5)
    assert 10 < path.failures[2].substep < 120
    assert path.failures[2].t == pytest.approx(path.failures[2].substep * DT)


def test_rows_that_may_mean_two_things_are_refused() -> None:
    model, x = scene(2, 1e4)
    n = model.bodies[0].stop
    model.materials[0].set(E=torch.full((n,), 1e4, dtype=torch.float64))
    solver = SolverMPM(model, x, worlds=n)
    with pytest.raises(InputError, match="one per world or one per particle"):
        solver.step(solver.initial_state(), None, DT)


def test_inference_mode_and_models_without_colliders() -> None:
    model, x = scene(2, 1e4)
    bare = Model(model.grid, model.vol0, list(model.materials), bodies=model.bodies)
    solver = SolverMPM(bare, x, worlds=2)
    with torch.inference_mode():
        end = rollout(solver, solver.initial_state(), dt=DT, steps=6, every=2).final
    assert bool(end.x.isfinite().all())
    assert solver.collider_forces(solver.initial_state(), DT).shape == (2, 0, 3)
