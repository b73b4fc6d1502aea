"""What a rollout holds for the backward pass stays within its budget, changes no gradient, and is told beforehand."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from physim import bridge
from physim.errors import GradientError, InputError
from physim.laws.material import Material
from physim.sim.budget import plan_memory
from physim.sim.model import Collider, ColliderKind, Contact, Grid, Model
from physim.sim.rollout import rollout
from physim.sim.state import Control
from physim.sim.trajectory import RolloutFailure, Status, Trajectory
from physim.solvers.mpm.solver import SolverMPM

DX = 0.1
CPU = torch.device("cpu")


def block(**options: object) -> tuple[SolverMPM, Material, Tensor]:
    line = 0.4 + (torch.arange(6, dtype=torch.float64) + 0.5) * DX / 3
    x = torch.stack(torch.meshgrid(line, line, torch.zeros(1, dtype=torch.float64), indexing="ij"), -1).reshape(-1, 3)
    material = Material("neo_hookean", rho0=1000.0, values={"E": 1e4, "nu": 0.3})
    material.free("E")
    vol0 = torch.full((len(x),), (DX / 3) ** 2, dtype=torch.float64)
    sim = SolverMPM(Model(Grid((0.0, 0.0, 0.0), DX, (12, 12, 1)), vol0, [material], **options), x)
    v = torch.stack([torch.sin(9 * x[:, 0]), 0.3 - x[:, 1], torch.zeros_like(line[:1]).expand(len(x))], 1)
    return sim, material, v.requires_grad_()


class Meter:
    """The most states of the segments that live at the same time, whether Python or autograd holds them."""

    def __init__(self) -> None:
        self.refs: dict[int, StorageWeakRef] = {}
        self.peak = 0

    def see(self, tensor: Tensor) -> None:
        ref = StorageWeakRef(tensor.untyped_storage())
        self.refs = {k: r for k, r in self.refs.items() if not r.expired()} | {ref.cdata: ref}
        self.peak = max(self.peak, len(self.refs))


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Meter]:
    found = Meter()
    made, run = bridge.Buffers.__init__, bridge.run_segment

    def noted(self: bridge.Buffers, *args: object) -> None:
        made(self, *args)
        if {"F", "x"} <= set(self.tensors):
            found.see(self.tensors["F"])

    def seen(*args: object, **options: object) -> dict[str, Tensor]:
        out = run(*args, **options)
        found.see(out["F"])
        return out

    monkeypatch.setattr(bridge.Buffers, "__init__", noted)
    monkeypatch.setattr("physim.solvers.mpm.solver.run_segment", seen)
    yield found


def gradients(every: int, memory: str | float, steps: int = 60) -> tuple[list[Tensor], Trajectory]:
    sim, material, v = block()
    path = rollout(sim, sim.initial_state().replace(v=v), dt=1e-3, steps=steps, every=every, memory=memory)
    loss = (path.final.x**2).sum() + sum((s**3).sum() for s in path.saved[1:])
    return list(torch.autograd.grad(loss, [v, material.raw["E"]])), path


@pytest.mark.parametrize("every", [1, 5, 60])
def test_groups_give_the_same_gradients(every: int) -> None:
    kept, path = gradients(every, "auto")
    assert path.stats["levels"] == 0 and len(path.saved) == 60 // every + 1
    size = path.final.bytes()
    levels = set()
    for states in (70, 35, 22, 1):
        again, path = gradients(every, states * size)
        levels.add(path.stats["levels"])
        assert len(path.saved) == 60 // every + 1 and path.stats["substeps"] == 60
        for a, b in zip(kept, again, strict=True):
            assert float((a - b).abs().max() / a.abs().max()) < 1e-12
    assert max(levels) >= (2 if every < 60 else 1)


@pytest.mark.parametrize(("every", "steps"), [(1, 400), (20, 400), (400, 400)])
@pytest.mark.parametrize("states", [60, 40, 32])
def test_what_is_held_stays_within_the_budget(every: int, steps: int, states: int, meter: Meter) -> None:
    """Every frame of a long horizon is recorded; measured are the states themselves, alive at the same time."""
    sim, _, _ = block()
    size = sim.initial_state().bytes()
    _, path = gradients(every, states * size, steps)
    assert path.stats["kept_bytes"] <= path.stats["memory"] == states * size
    assert meter.peak * size <= path.stats["kept_bytes"]
    assert meter.peak >= 0.4 * path.stats["kept_bytes"] / size


def test_keeping_everything_stays_within_its_bound(meter: Meter) -> None:
    for every in (1, 10, 100):
        meter.peak = 0
        _, path = gradients(every, "auto", 100)
        assert meter.peak * path.final.bytes() <= path.stats["kept_bytes"]
        del _, path  # and with them the solver, which keeps its memory for the next rollout


def test_the_plan_recomputes_no_more_than_the_budget_asks_for() -> None:
    kept = plan_memory(100, 1, 1000, 1e9, CPU)
    assert kept.keep and kept.levels == 0
    plans = [plan_memory(10_000, 1, 1000, states * 1000, CPU) for states in (10_010, 500, 100, 60, 45)]
    assert [p.levels for p in plans] == [0, 1, 2, 3, 4]
    assert all(p.bytes <= p.budget for p in plans)
    least = plan_memory(10_000, 1, 1000, 1, CPU)
    assert least.bytes > least.budget and least.bytes <= 50_000


def test_auto_follows_the_device() -> None:
    plan = plan_memory(100, 1000, 2**24, "auto", CPU)
    assert not plan.keep and plan.bytes <= plan.budget and plan.budget >= 2**28


@pytest.mark.parametrize("memory", [0, -1, math.nan, "much"])
def test_a_budget_must_be_a_number_above_zero(memory: float) -> None:
    sim, _, _ = block()
    with pytest.raises(InputError, match="memory must be"):
        rollout(sim, sim.initial_state(), dt=1e-3, steps=2, memory=memory)


def test_a_failure_inside_a_group_ends_the_record_there() -> None:
    """What was recorded before it can still be differentiated, and nothing of torch's state is left changed."""
    sim, _, v = block()
    fast = (v + torch.tensor([0.0, 20.0, 0.0], dtype=v.dtype)).detach().requires_grad_()
    start = sim.initial_state().replace(v=fast)
    path = rollout(sim, start, dt=1e-3, steps=100, memory=1, strict=False)
    assert path.status is Status.LEFT_GRID and path.failure is not None
    assert len(path.saved) == path.failure.substep + 1 and path.stats["levels"] > 0
    (slope,) = torch.autograd.grad(path.saved[-1][:, 1].sum(), fast)
    assert float(slope[:, 1].sum()) == pytest.approx(len(fast) * (len(path.saved) - 1) * 1e-3, rel=1e-9)
    with pytest.raises(RolloutFailure) as caught:
        rollout(sim, start, dt=1e-3, steps=100, memory=1)
    assert caught.value.substep == path.failure.substep


def test_going_forward_save_is_called_once_per_record_and_its_errors_pass() -> None:
    sim, _, v = block()
    times = []
    start = sim.initial_state().replace(v=v)
    rollout(sim, start, dt=1e-3, steps=40, memory=1, save=lambda s: times.append(s.t))
    assert len(times) == 41 and times == sorted(times)

    def broken(state: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        rollout(sim, start, dt=1e-3, steps=40, memory=1, save=broken)


def swing(t: float) -> Control:
    """A box that swings and turns."""
    speed = torch.tensor([[0.0, math.cos(40 * t), 0.0]], dtype=torch.float64)
    place = torch.tensor([[0.5, 0.2 + math.sin(40 * t) / 40, 0.0]], dtype=torch.float64)
    c, s = math.cos(5 * t), math.sin(5 * t)
    turned = torch.tensor([[[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]], dtype=torch.float64)
    return Control(place, turned, speed, torch.tensor([[0.0, 0.0, 5.0]], dtype=torch.float64))


def test_control_is_asked_for_at_each_record_whatever_the_memory() -> None:
    press = Collider(ColliderKind.BOX, (0.5, 0.2, 0.5), contact=Contact.STICK)
    ends, asked = [], []

    def control(t: float) -> Control:
        asked.append(t)
        return swing(t)

    for memory in ("auto", 1):
        asked.clear()
        sim, material, v = block(colliders=[press])
        start = sim.initial_state().replace(v=v)
        path = rollout(sim, start, dt=1e-3, steps=40, every=20, memory=memory, control=control)
        assert sorted(set(asked)) == pytest.approx([0.0, 0.02], abs=1e-12)
        ends.append((path.final.x.detach(), *torch.autograd.grad((path.final.x**2).sum(), [v, material.raw["E"]])))
    assert path.stats["segment"] < 20
    for a, b in zip(*ends, strict=True):
        assert float((a - b).abs().max() / a.abs().max()) < 1e-11
    free, _, v = block()
    alone = rollout(free, free.initial_state().replace(v=v), dt=1e-3, steps=40, every=20).final.x.detach()
    assert float((alone - ends[0][0]).abs().max()) > 1e-3


def test_groups_are_recomputed_with_the_gravity_of_their_time() -> None:
    """A caller may set gravity for one rollout and put it back before the backward pass."""
    floor = Collider.plane((0.0, 0.4, 0.0), (0.0, 1.0, 0.0), contact=Contact.STICK)
    found = []
    for memory in ("auto", 1):
        sim, _, v = block(colliders=[floor])
        g = torch.tensor([3.0, -50.0, 0.0], dtype=torch.float64, requires_grad=True)
        before, sim.model.gravity = sim.model.gravity, g
        end = rollout(sim, sim.initial_state().replace(v=v), dt=1e-3, steps=60, memory=memory).final.x
        sim.model.gravity = before
        found.append(torch.cat([a.reshape(-1) for a in torch.autograd.grad((end**3).sum(), [g, v])]))
        assert sim.model.gravity is before
    assert float((found[0] - found[1]).abs().max() / found[0].abs().max()) < 1e-12


def test_parameters_that_changed_since_are_refused() -> None:
    sim, material, _ = block()
    end = rollout(sim, sim.initial_state(), dt=1e-3, steps=40, memory=1).final.x
    material.set(E=2e4)
    with pytest.raises(GradientError, match="parameters changed"):
        end.square().sum().backward()
