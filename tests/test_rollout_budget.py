"""A memory budget in words, the plan it leads to, and that the plan is what happens."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from physim.errors import InputError
from physim.laws.material import Material
from physim.sim import budget, sizes
from physim.sim.budget import plan_memory
from physim.sim.model import Collider, ColliderKind, Grid, Model
from physim.sim.rollout import rollout, rollout_memory
from physim.solvers.mpm.segment import MPMSegment
from physim.solvers.mpm.solver import SolverMPM

CPU = torch.device("cpu")


def block(**options: object) -> tuple[SolverMPM, torch.Tensor]:
    line = 0.4 + (torch.arange(6, dtype=torch.float64) + 0.5) / 30
    x = torch.stack(torch.meshgrid(line, line, torch.zeros(1, dtype=torch.float64), indexing="ij"), -1).reshape(-1, 3)
    material = Material("neo_hookean", rho0=1000.0, values={"E": 1e4, "nu": 0.3})
    vol0 = torch.full((len(x),), 1 / 900, dtype=torch.float64)
    sim = SolverMPM(Model(Grid((0.0, 0.0, 0.0), 0.1, (12, 12, 1)), vol0, [material], **options), x)
    v = torch.stack([torch.sin(9 * x[:, 0]), 0.3 - x[:, 1], torch.zeros(len(x), dtype=torch.float64)], 1)
    return sim, v.requires_grad_()


@pytest.mark.parametrize(
    ("text", "amount"),
    [("2 GiB", 2**31), ("512MiB", 2**29), ("1.5 GB", 1.5e9), (" 8 kib ", 8192), ("100", 100), ("1e6 B", 1e6), (7, 7)],
)
def test_amounts_have_units(text: str | float, amount: float) -> None:
    assert sizes.in_bytes(text) == amount


@pytest.mark.parametrize("text", ["2 gigs", "-1 GiB", "0 MB", "GiB", "1 GiB 2", "auto 2", math.inf, "2,5 GiB"])
def test_what_is_no_amount_is_refused_with_examples(text: str | float) -> None:
    with pytest.raises(InputError, match="Examples: '2 GiB'"):
        sizes.in_bytes(text)


def test_amounts_are_written_for_people() -> None:
    assert [sizes.written(n) for n in (12, 2048, 1.5 * 2**30, 2**50)] == [
        "12 bytes",
        "2 KiB",
        "1.5 GiB",
        "1,048,576 GiB",
    ]


@pytest.mark.parametrize("states", [100, 45, 30, 20, 1])
@pytest.mark.parametrize("every", [1, 6, 120])
def test_the_plan_is_what_happens(states: int, every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Substeps run forward, those of the backward pass included, are as many as the plan says."""
    ran = []
    steps = MPMSegment._steps

    def counted(self: MPMSegment, state: dict, inputs: dict, count: int, *args: object, **options: object) -> object:
        ran.append(count)
        return steps(self, state, inputs, count, *args, **options)

    monkeypatch.setattr(MPMSegment, "_steps", counted)
    sim, v = block()
    start = sim.initial_state().replace(v=v)
    arguments = {"dt": 1e-3, "steps": 120, "every": every, "memory": states * start.bytes()}
    plan = rollout_memory(sim, start, **arguments)
    path = rollout(sim, start, **arguments)
    assert sum(ran) == 120 and path.stats["kept_bytes"] == plan.bytes and path.stats["passes"] == plan.passes
    path.final.x.square().sum().backward()
    # Segments at the end may be shorter than others.
    assert sum(ran) == pytest.approx(120 * plan.passes, abs=plan.length)


def test_what_the_budget_leaves_keeps_the_last_segments() -> None:
    plans = [plan_memory(1, 10_000, 1000, states * 1000, CPU) for states in (230, 1000, 5000, 9000)]
    assert [p.levels for p in plans] == [0, 0, 0, 0]
    assert all(p.bytes <= p.budget for p in plans)
    passes = [p.passes for p in plans]
    assert passes[0] == pytest.approx(1.99) and passes == sorted(passes, reverse=True) and passes[-1] < 1.2
    # Longer segments where there is memory for them, and otherwise the same ones.
    assert [p.length for p in plans] == [100, 200, 200, 200]


def test_what_is_kept_changes_no_bit() -> None:
    """With "auto" it follows the free memory, which a result must not depend on."""
    found = []
    for states in (80, 120, 160):
        sim, v = block()
        start = sim.initial_state().replace(v=v)
        path = rollout(sim, start, dt=1e-3, steps=200, every=200, memory=states * start.bytes())
        assert path.stats["levels"] == 0 and path.stats["segment"] == 25
        path.final.x.square().sum().backward()
        found.append((path.stats["passes"], v.grad))
    assert found[0][0] > found[1][0] > found[2][0]
    assert torch.equal(found[0][1], found[1][1]) and torch.equal(found[0][1], found[2][1])


def test_auto_takes_a_share_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for free in (2**28, 2**32, 2**40):
        monkeypatch.setattr(budget, "free_memory", lambda device, free=free: float(free))
        found[free] = plan_memory(1, 10_000, 2**20, "auto", CPU)
    assert found[2**28].levels == 0 and found[2**28].budget == 2**28 < found[2**32].budget == 2**30
    assert [found[f].kept for f in (2**28, 2**32)] == [1, 1] and found[2**40].kept == found[2**40].segments
    assert found[2**40].passes == 1.0


def test_free_memory_heeds_the_limit_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "_CGROUP", tmp_path)
    whole = sizes.free_memory(CPU)
    for name, text in (("max", "1000000"), ("current", "400000"), ("stat", "anon 1\ninactive_file 50000\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert sizes.free_memory(CPU) == 650_000 < whole
    (tmp_path / "memory.max").write_text("max\n")
    assert sizes.free_memory(CPU) > 650_000


def test_a_plan_can_be_read() -> None:
    sim, v = block()
    start = sim.initial_state().replace(v=v)
    told = str(rollout_memory(sim, start, dt=1e-3, steps=1000, every=1000, memory="200 KiB"))
    assert "36 particles" in told and "200 KiB allowed" in told and "forward passes" in told
    assert "a state takes 192 bytes per particle" in told
    least = str(rollout_memory(sim, start, dt=1e-3, steps=1000, memory="1 KiB"))
    assert "the least possible (1 KiB allowed)" in least and "levels of groups" in least
    assert "all substeps are kept" in str(rollout_memory(sim, start, dt=1e-3, steps=10))
    with pytest.raises(InputError, match="multiple"):
        rollout_memory(sim, start, dt=1e-3, steps=10, every=3)


def test_the_plan_counts_where_a_collider_turns_back() -> None:
    way = ((0.0, (0.3, 0.3, 0.0)), (0.0105, (0.35, 0.3, 0.0)), (0.0313, (0.3, 0.3, 0.0)))
    ball = Collider(ColliderKind.SPHERE, size=(0.05, 0.05, 0.05), keyframes=way)
    sim, v = block(colliders=[ball])
    start = sim.initial_state().replace(v=v)
    arguments = {"dt": 1e-3, "steps": 60, "every": 20, "memory": 40 * start.bytes()}
    plan, path = rollout_memory(sim, start, **arguments), rollout(sim, start, **arguments)
    assert path.stats["segments"] <= plan.segments <= path.stats["segments"] + 2


@pytest.mark.parametrize("states", [45, 1])
def test_starts_of_segments_on_the_host_change_nothing(states: int) -> None:
    found = []
    for offload in (False, True):
        sim, v = block()
        start = sim.initial_state().replace(v=v)
        options = {"dt": 1e-3, "steps": 120, "every": 6, "memory": states * start.bytes(), "offload": offload}
        plan = rollout_memory(sim, start, **options)
        rollout(sim, start, **options).final.x.square().sum().backward()
        found.append((plan.bytes - plan.host_bytes, plan.levels, plan.host_bytes > 0, v.grad))
        assert ("host" in str(plan)) == offload
    assert not found[0][2] and found[1][2]
    if found[0][1] == found[1][1]:
        assert torch.equal(found[0][3], found[1][3])
    assert float((found[0][3] - found[1][3]).abs().max() / found[0][3].abs().max()) < 1e-12


def test_nodes_are_counted_again_where_particles_have_moved() -> None:
    """Rollouts from one start count them once; a start that has changed, in place or not, is another one."""
    sim, _ = block()
    start = sim.initial_state()
    first = sim.substep_bytes(start)
    assert sim.substep_bytes(start) == first
    wide = start.replace(x=0.6 + 1.8 * (start.x - 0.6))
    assert sim.substep_bytes(wide) > first == sim.substep_bytes(start)
    start.x.copy_(wide.x)
    assert sim.substep_bytes(start) == sim.substep_bytes(wide)
