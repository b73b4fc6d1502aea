"""Clamps, loads, stability, memory and messages of the total-Lagrangian solid."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from solid_bodies import CLAMP, SLIP, block, neo_hookean, run

from physim.errors import InputError
from physim.laws.material import Material
from physim.sim.model import Body, Collider, ColliderKind, Contact, Grid, Model, Wall
from physim.sim.rollout import rollout
from physim.sim.trajectory import RolloutFailure, Status
from physim.solvers.solid.loads import PointLoad
from physim.solvers.solid.solver import SAFETY, SolverSolid


def box_clamp(**options: object) -> Collider:
    """A box whose face x = 0 the body touches."""
    return Collider(
        ColliderKind.BOX,
        size=(0.1, 0.5, 0.5),
        position=(-0.1, 0.1, 0.1),
        contact=Contact.STICK,
        name="jaw",
        **options,
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "collider",
    [box_clamp(), Collider.plane((0, 0, 0), (1, 0, 0), contact=Contact.STICK)],
    ids=["box", "plane"],
)
def test_flush_clamp_equals_a_wall(collider: Collider) -> None:
    options = {"gravity": (0.5, -1.0, 0.3)}
    walled = block((3, 2, 2), 0.1, neo_hookean(nu=0.3), walls=CLAMP, **options)
    clamped = block((3, 2, 2), 0.1, neo_hookean(nu=0.3), colliders=(collider,), **options)
    with torch.no_grad():
        a, b = (s.advance(s.initial_state(), None, 2e-3, 100) for s in (walled, clamped))
    assert float((a.u - b.u).abs().max()) < 1e-13
    assert float(walled.follow([[0.0, 0.03, 0.1]])(a)[0, 0].abs()) < 1e-15


def test_clamp_turns_a_body_in_a_closed_circle() -> None:
    turn = Collider.plane((0, 0, 0), (1, 0, 0), contact=Contact.STICK, spin=(0, 0, 2 * math.pi))
    solver = block((2, 2, 0), 0.1, neo_hookean(E=1e3, nu=0.3), colliders=(turn,))
    x = solver.particles(solver.initial_state()).x
    v = torch.linalg.cross(torch.tensor([0, 0, 2 * math.pi], dtype=x.dtype).expand_as(x), x)
    wall = solver.follow([[0.0, 0.1, 0.0], [0.2, 0.1, 0.0]])
    start = solver.initial_state(v=v)
    dt = 1.0 / math.ceil(1.0 / solver.stable_dt(start))
    with torch.no_grad():
        end = solver.advance(start, None, dt, round(1.0 / dt))
    moved = (wall(end) - wall(start)).norm(dim=1)
    assert float(moved[0]) < 1e-9  # the clamped face is back where it was
    assert float(moved[1]) < 0.02 * 0.2  # the free end stretches under its own weight


def test_box_inside_the_body_moves_its_nodes() -> None:
    grip = Collider(
        ColliderKind.BOX,
        size=(0.06, 1.0, 1.0),
        position=(0.05, 0.0, 0.0),
        contact=Contact.STICK,
        velocity=(0.0, 0.2, 0.0),
    )
    solver = block((4, 2, 0), 0.1, neo_hookean(), colliders=(grip,))
    with torch.no_grad():
        state = solver.advance(solver.initial_state(), None, 1e-3, 500)
    held = np.isclose(solver.stencil.positions[:, 0], 0.05)
    assert held.any()
    assert torch.allclose(state.u[held], torch.tensor([0.0, 0.1, 0.0], dtype=torch.float64), atol=1e-12)


def test_point_force_and_tip_mass() -> None:
    walls = (Wall(0, False, 0.0, SLIP), Wall(1, False, 0.0, SLIP), Wall(1, True, 0.2, SLIP))
    force = torch.tensor([0.01, 0.0, 0.0], dtype=torch.float64, requires_grad=True)
    load = PointLoad((1.0, 0.1, 0.0), force=force)
    solver = block((10, 2, 0), 0.1, neo_hookean(viscosity=3.0), walls=walls, loads=[load])
    tip = solver.follow([[1.0, 0.1, 0.0]])
    state = solver.initial_state()
    dt = solver.stable_dt(state)
    x = tip(solver.advance(state, None, dt, math.ceil(3.0 / dt), keep=True))[0, 0]
    x.backward()
    exact = 0.01 / 0.2 / 100.0
    assert x.item() - 1.0 == pytest.approx(exact, rel=5e-3)
    assert float(force.grad[0]) == pytest.approx(exact / 0.01, rel=5e-3)

    edge = PointLoad([(1.0, 0.0, 0.0), (1.0, 0.2, 0.0)], mass=0.1)
    shared = block((10, 2, 0), 0.1, neo_hookean(), loads=[edge])
    bare = block((10, 2, 0), 0.1, neo_hookean())
    added = shared.nodal_mass - bare.nodal_mass
    assert added.sum() == pytest.approx(0.1)
    assert added @ shared.stencil.positions[:, :2] == pytest.approx([0.1 * 1.0, 0.1 * 0.1])

    # A bar with an end mass M: tan(k L) k L = (bar mass) / M.
    heavy = block((20, 2, 0), 0.05, neo_hookean(), walls=(walls[0], walls[1], Wall(1, True, 0.1, SLIP)),
                  loads=[PointLoad((1.0, 0.05, 0.0), mass=0.1)])  # fmt: skip
    rest = heavy.particles(heavy.initial_state()).x
    v = torch.zeros_like(rest)
    v[:, 0] = 1e-4 * torch.sin(0.86033 * rest[:, 0])
    end = heavy.follow([[1.0, 0.05, 0.0]])
    t, y, _ = run(heavy, heavy.initial_state(v=v), 1.6, lambda s: end(s)[0, 0] - 1.0)
    i = np.flatnonzero((y[:-1] > 0) & (y[1:] <= 0))
    zeros = t[i] + y[i] / (y[i] - y[i + 1]) * (t[i + 1] - t[i])
    assert 1 / (zeros[1] - zeros[0]) == pytest.approx(0.86033 * 10.0 / (2 * math.pi), rel=5e-3)


@pytest.mark.parametrize("viscosity", [None, 0.5], ids=["elastic", "viscous"])
@pytest.mark.parametrize("cut", [0.0, 0.9, 0.5], ids=["aligned", "sliver", "half"])
def test_stable_dt_is_the_limit(viscosity: float | None, cut: float) -> None:
    dx = 0.1
    x = (np.arange(8) + 0.5) * dx / 2 + cut * dx
    X = torch.tensor(np.stack(np.meshgrid(x, x, [0.0], indexing="ij"), -1).reshape(-1, 3))
    material = neo_hookean(nu=0.3, viscosity=viscosity)
    model = Model(
        Grid((-dx / 2, -dx / 2, 0.0), dx, (8, 8, 1)),
        torch.full((64,), dx * dx / 4, dtype=X.dtype),
        [material],
    )
    solver = SolverSolid(model, X)
    state = solver.initial_state()
    noise = 1e-9 * torch.randn(state.w.shape, dtype=X.dtype, generator=torch.Generator().manual_seed(0))
    state = state.replace(w=noise * torch.tensor([1.0, 1.0, 0.0], dtype=X.dtype))
    limit = solver.stable_dt(state) / SAFETY
    with torch.no_grad():
        assert float(solver.advance(state, None, 0.98 * limit, 3000).w.abs().max()) < 1e-7
        try:
            grown = float(solver.advance(state, None, 1.05 * limit, 300).w.abs().max())
        except RolloutFailure:
            grown = math.inf
    assert grown > 1e-4


def test_unstable_run_is_reported() -> None:
    solver = block((3, 3, 0), 0.1, neo_hookean(nu=0.3), walls=CLAMP, gravity=(0, -1, 0))
    state = solver.initial_state()
    with torch.no_grad(), pytest.raises(RolloutFailure) as caught:
        solver.advance(state, None, 3 * solver.stable_dt(state), 2000)
    assert caught.value.status in (Status.INVERTED, Status.NONFINITE)
    assert 0 <= caught.value.particle < len(solver.model.vol0)


def test_recomputed_segments_give_the_same_gradient_in_less_memory() -> None:
    solver = block((3, 2, 0), 0.1, neo_hookean(nu=0.3, viscosity=0.1), walls=CLAMP, gravity=(0, -1, 0))
    material = solver.model.materials[0]
    material.free("E", "viscosity")
    state = solver.initial_state()
    found, kept = [], []
    for memory in (1e9, 1e4):
        material.zero_grad()
        trajectory = rollout(solver, state, dt=1e-3, steps=400, every=100, memory=memory)
        torch.stack(trajectory.saved).pow(2).sum().backward()
        found.append([float(material.raw[n].grad) for n in ("E", "viscosity")])
        kept.append(trajectory.stats["kept_bytes"])
    assert found[0] == pytest.approx(found[1], rel=1e-12)
    assert kept[1] < 0.15 * kept[0]


def test_nearly_incompressible_beam_does_not_lock() -> None:
    drops = {}
    for cells, share in ((2, None), (2, 0.0), (6, None)):
        dx = 0.2 / cells
        solver = block((5 * cells, cells, 0), dx, neo_hookean(nu=0.495), walls=CLAMP, gravity=(0, -0.05, 0),
                       mean_dilatation=share)  # fmt: skip
        tip = solver.follow([[1.0, 0.1, 0.0]])
        state = solver.initial_state()
        _, y, _ = run(solver, state, 1.5, lambda s, f=tip: f(s)[0, 1] - 0.1, per=20)
        drops[cells, share] = -y.min()
    assert drops[2, None] == pytest.approx(drops[6, None], rel=0.05)
    assert drops[2, 0.0] < 0.93 * drops[6, None]


def test_plastic_law_below_yield_is_elastic_without_drift() -> None:
    values = {"E": 100.0, "nu": 0.3}
    plastic = Material("hencky", None, "von_mises", rho0=1.0, values=values | {"yield_stress": 1e6, "hardening": 0.0})
    ends = []
    for material in (Material("hencky", rho0=1.0, values=values), plastic):
        solver = block((4, 2, 0), 0.1, material, walls=CLAMP, gravity=(0, -2, 0))
        with torch.no_grad():
            ends.append(solver.advance(solver.initial_state(), None, 2e-3, 1500).u)
    assert float((ends[0] - ends[1]).abs().max()) < 1e-9 * float(ends[0].abs().max())


def test_parameters_per_particle_and_two_materials() -> None:
    """A bar whose halves differ: by particle, and as two bodies of two materials."""
    soft_hard = torch.tensor([100.0, 400.0], dtype=torch.float64)
    ends = []
    for split in (False, True):
        base = block((4, 2, 0), 0.1, neo_hookean(nu=0.2), walls=CLAMP, gravity=(1, -1, 0))
        X = base.particles(base.initial_state()).x
        half = len(X) // 2  # points are sorted along x
        E = soft_hard.repeat_interleave(half)
        if split:
            materials = [neo_hookean(E=float(e), nu=0.2) for e in soft_hard]
            bodies = [Body(0, half, 0), Body(half, 2 * half, 1)]
        else:
            materials = [Material("neo_hookean", rho0=1.0, values={"E": E, "nu": torch.full_like(E, 0.2)})]
            bodies = None
        model = Model(base.model.grid, base.model.vol0, materials, bodies=bodies, gravity=(1, -1, 0), walls=CLAMP)
        solver = SolverSolid(model, X)
        with torch.no_grad():
            ends.append(solver.advance(solver.initial_state(), None, 2e-3, 300).u)
    assert float((ends[0] - ends[1]).abs().max()) < 1e-12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"colliders": (Collider.plane((0, -1, 0), (0, 1, 0), name="floor"),)},
            "collider 'floor'.*solver: mpm",
        ),
        ({"walls": (Wall(0, False, 0.1, SLIP),)}, "beyond the mirrored wall"),
        (
            {"colliders": (Collider(ColliderKind.SPHERE, (0.01,) * 3, (3, 3, 3), contact=Contact.STICK),)},
            "holds no node",
        ),
        ({"v": torch.zeros(3, 3)}, "v: expected shape"),
        ({"mean_dilatation": 1.5}, "mean_dilatation"),
        ({"loads": [PointLoad((0, 0, 0), mass=-1.0)]}, "mass"),
        ({"loads": [PointLoad((0, 0), mass=1.0)]}, "list of them"),
    ],
)
def test_messages(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        block((3, 2, 0), 0.1, neo_hookean(), **options)


def test_points_must_lie_inside_the_grid() -> None:
    X = torch.tensor([[0.1, 0.1, 0.0], [0.1, 0.1 + 10.0, 0.0]], dtype=torch.float64)
    model = Model(Grid((0, 0, 0), 0.1, (6, 6, 1)), torch.full((2,), 1e-3, dtype=X.dtype), [neo_hookean()])
    with pytest.raises(InputError, match=r"outside the reference grid.*Enlarge"):
        SolverSolid(model, X)
