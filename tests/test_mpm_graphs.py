"""Recorded runs of substeps give what direct ones give, and are recorded once; Warp records on a CPU too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from physim import launch
from physim.laws.material import Material
from physim.shapes import Box, sample
from physim.sim.model import Body, Collider, ColliderKind, Contact, Grid, Model, Wall
from physim.sim.rollout import rollout
from physim.sim.trajectory import RolloutFailure
from physim.solvers.mpm import store
from physim.solvers.mpm.solver import SolverMPM

DX, DT = 0.1, 2e-4


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How often something was recorded, and repeated."""
    found: list[str] = []

    class Counted(launch.Recording):
        def __init__(self, *args: Any) -> None:
            found.append("recorded")
            super().__init__(*args)

        def __call__(self) -> None:
            found.append("repeated")
            super().__call__()

    monkeypatch.setattr(store, "Recording", Counted)
    return found


def block(
    speed: float = 1.0,
    *,
    two: bool = False,
    spread: float = 0.0,
    dtype: torch.dtype = torch.float64,
    **options: Any,
) -> tuple[SolverMPM, Material]:
    """A plane block over a moving box between walls, thrown down; `two` puts clay on it, `spread` tears it apart."""
    boxes = [Box((0.5, 0.45), (0.3, 0.2))] + ([Box((0.5, 0.65), (0.3, 0.2))] if two else [])
    made = [sample(b, spacing=0.05, dim=2) for b in boxes]
    x = torch.cat([torch.as_tensor(p.x) for p in made]).to(dtype)
    vol0 = torch.cat([torch.as_tensor(p.vol0) for p in made])
    jelly = Material("neo_hookean", rho0=1000.0, values={"E": 1e4, "nu": 0.3})
    given = {"E": 2e4, "nu": 0.3, "yield_stress": 100.0, "hardening": 1e3}
    clay = Material("hencky", inelastic="von_mises", rho0=1500.0, values=given)
    jelly.free("E")
    n = len(made[0].x)
    bodies = [Body(0, n, 0, "jelly")] + ([Body(n, len(x), 1, "clay")] if two else [])
    box = Collider(
        ColliderKind.BOX,
        (0.3, 0.12, 0.5),
        (0.45, 0.2, 0.0),
        contact=Contact.COULOMB,
        friction=0.3,
        velocity=(0.2, 0, 0),
    )
    model = Model(
        Grid((0.0, 0.0, 0.0), DX, (21, 21, 1)),
        vol0,
        [jelly, clay] if two else [jelly],
        bodies=bodies,
        gravity=(0.0, -9.8, 0.0),
        walls=[Wall(1, False, 0.15)],
        colliders=[box],
    )
    v = torch.zeros_like(x)
    v[:, 1] = -speed
    v[:, 0] = speed + spread * (x[:, 0] - 0.5)
    return SolverMPM(model, x, v, **options), jelly


def run(solver: SolverMPM, material: Material, steps: int, every: int, memory: Any = "auto") -> dict[str, Tensor]:
    """Final state and gradients."""
    start = solver.initial_state()
    v = start.v.clone().requires_grad_()
    material.raw["E"].grad = None
    final = rollout(solver, start.replace(v=v), dt=DT, steps=steps, every=every, memory=memory).final
    (final.x.square().sum() + final.F.square().sum() + final.v.sum()).backward()
    assert v.grad is not None and material.raw["E"].grad is not None
    found = {n: getattr(final, n).detach() for n in ("x", "v", "C", "F", "h")}
    return found | {"by v": v.grad, "by E": material.raw["E"].grad.clone()}


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "fast, with many layouts": {"speed": 30.0},
    "torn apart, so that nodes outgrow their memory": {"speed": 5.0, "spread": 90.0},
    "two materials": {"two": True},
    "two fast materials": {"two": True, "speed": 20.0},
    "blended": {"blend": 0.5},
    "worlds": {"worlds": 2},
    "single precision": {"dtype": torch.float32},
}


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("memory", ["auto", 4e5])
def test_recorded_substeps_give_the_same(name: str, memory: Any, recorded: list[str]) -> None:
    expected = run(*block(**CASES[name]), 90, 45, memory)
    assert not recorded
    found = run(*block(**CASES[name], graphs=True), 90, 45, memory)
    assert recorded.count("repeated") > 3
    for key, value in expected.items():
        if value.numel():
            tight = 1e-10 if value.dtype == torch.float64 and name != "single precision" else 1e-4
            scale = float(value.abs().max())
            assert float((found[key] - value).abs().max()) <= tight * scale, key


def test_what_has_been_recorded_serves_every_iteration(recorded: list[str]) -> None:
    """Also after the layout, the parameters and the speed have changed."""
    solver, material = block(graphs=True)
    first = run(solver, material, 96, 96)
    once = recorded.count("recorded")
    assert once == 2 * 96 // store.CHUNK
    again = run(solver, material, 96, 96)
    material.set(E=2e4)
    stiffer = run(solver, material, 96, 96)
    assert recorded.count("recorded") == once
    assert torch.equal(first["x"], again["x"]) and torch.equal(first["by v"], again["by v"])
    other, soft = block()
    soft.set(E=2e4)
    expected = run(other, soft, 96, 96)
    assert float((stiffer["by v"] - expected["by v"]).abs().max()) < 1e-10 * float(expected["by v"].abs().max())


def test_two_segments_may_wait_for_their_backward_pass(recorded: list[str]) -> None:
    """Each has memory of its own, and a rollout that is never differentiated gives its memory back."""
    solver, material = block(graphs=True)
    for _ in range(3):
        first, second = (solver.initial_state().v.clone().requires_grad_() for _ in range(2))
        ends = [rollout(solver, solver.initial_state().replace(v=v), dt=DT, steps=32) for v in (first, second)]
        for end in ends:
            end.final.x.square().sum().backward()
        assert torch.equal(first.grad, second.grad)  # type: ignore[arg-type]
    expected = run(solver, material, 32, 32)
    assert torch.isfinite(expected["by v"]).all()


@pytest.mark.parametrize("graphs", [False, True])
def test_failures_are_found_and_named_alike(graphs: bool) -> None:
    solver, _ = block(graphs=graphs)
    state = solver.initial_state()
    with pytest.raises(RolloutFailure, match=r"substep 0 .*particle 0, velocity v") as caught:
        rollout(solver, state.replace(v=1500.0 * torch.ones_like(state.v) * torch.tensor([1.0, 0, 0])), dt=DT, steps=64)
    assert caught.value.substep == 0
    falling = state.replace(v=state.v + torch.tensor([40.0, 30.0, 0.0], dtype=torch.float64))
    with pytest.raises(RolloutFailure, match="left the grid") as caught:
        rollout(solver, falling, dt=DT, steps=640, every=640)
    assert 100 < caught.value.substep < 300


def test_gradients_that_are_not_finite_name_substep_and_term() -> None:
    from physim.errors import GradientError

    solver, _ = block(graphs=True)
    state = solver.initial_state()
    v = state.v.clone().requires_grad_()
    final = rollout(solver, state.replace(v=v), dt=DT, steps=40).final
    with pytest.raises(GradientError, match="the loss"):
        (final.x.sum() * float("inf")).backward()


@pytest.mark.parametrize("graphs", [False, True])
def test_flow_goes_on_right_after_a_stray_where_no_state_is_kept(graphs: bool) -> None:
    """Launches after the substep in which somebody strayed must leave the state that follows it alone."""
    ends = []
    for recorded_too in (False, graphs):
        solver, _ = block(20.0, two=True, graphs=recorded_too)
        with torch.no_grad():
            ends.append(rollout(solver, solver.initial_state(), dt=DT, steps=90, every=90).final)
    for name in ("x", "F", "h"):
        first, second = (getattr(e, name) for e in ends)
        assert float((first - second).abs().max()) < 1e-10 * float(first.abs().max())


def test_nothing_is_allocated_while_launches_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    from physim.bridge import Pool

    busy: list[bool] = []
    take, make = Pool.take, launch.Recording.__init__

    def careful(self: Pool, *args: Any) -> Any:
        assert not busy
        return take(self, *args)

    def marked(self: launch.Recording, *args: Any) -> None:
        busy.append(True)
        make(self, *args)
        busy.pop()

    monkeypatch.setattr(Pool, "take", careful)
    monkeypatch.setattr(launch.Recording, "__init__", marked)
    options: dict[str, Any]
    for options in ({"two": True}, {"worlds": 2}):
        run(*block(graphs=True, **options), 70, 35, 4e5)


def test_several_kept_segments_are_recorded_once(recorded: list[str]) -> None:
    solver, material = block(graphs=True)
    run(solver, material, 96, 16)
    once = recorded.count("recorded")
    run(solver, material, 96, 16)
    assert recorded.count("recorded") == once


@pytest.mark.parametrize("graphs", [False, True])
def test_a_backward_pass_after_a_failure_is_right(graphs: bool) -> None:
    """What was saved before the failure has its gradient, also where states are recomputed."""
    found = []
    for steps in (640, 160):
        solver, _ = block(graphs=graphs)
        state = solver.initial_state()
        v = (state.v + torch.tensor([40.0, 30.0, 0.0], dtype=torch.float64)).requires_grad_()
        path = rollout(solver, state.replace(v=v), dt=DT, steps=steps, every=80, memory=2e5, strict=False)
        assert (path.failure is not None) == (steps == 640)
        path.saved[1].square().sum().backward()
        found.append(v.grad)
    assert float((found[0] - found[1]).abs().max()) < 1e-12 * float(found[1].abs().max())
