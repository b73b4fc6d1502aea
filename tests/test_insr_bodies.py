"""Bodies in weight space: equilibrium, motion, contact, gradients; and scenes with `solver: insr`."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from physim.errors import GradientError, InputError, PhysimError
from physim.laws import ElasticLaw, Material, get_law
from physim.scene.build import build
from physim.scene.loader import load_scene
from physim.scene.run import FINAL, FRAMES, field_state, run_scene
from physim.sim.model import Collider, ColliderKind
from physim.sim.rollout import rollout
from physim.sim.state import FieldState
from physim.sim.trajectory import RolloutFailure
from physim.solvers.insr.body import Body
from physim.solvers.insr.conditions import Linear, Walled
from physim.solvers.insr.fields import Box, Siren
from physim.solvers.insr.incremental import BodyStepper
from physim.solvers.insr.maps import Weights
from physim.solvers.insr.points import quadrature
from physim.solvers.insr.project import Found
from physim.solvers.insr.solver import Settings, SolverInsr
from physim.solvers.insr.steps import Taken
from physim.solvers.insr.tangent import derivatives
from physim.view.field_maps import maps_of

BLOCK = Box((0.0, 0.0), (0.2, 0.05))
TIP = torch.tensor([[0.2, 0.025]], dtype=torch.float64)
FREE, CLAMPED = ((0, 0), (0, 0)), ((1, 0), (0, 0))


def gel(E: float = 5e4, nu: float = 0.3) -> Material:
    return Material("neo_hookean", rho0=1000.0, values={"E": E, "nu": nu})


def body(
    material: Material, powers: tuple = CLAMPED, *, box: Box = BLOCK, width: int = 10, **options: object
) -> SolverInsr:
    dim = box.dim
    field = Walled(Linear(Siren(box, width, 2, 3.0, dim)), box, powers)
    return SolverInsr(Body(material, box, **options), field, box)  # type: ignore[arg-type]


def tip(solver: SolverInsr, state: object, at: Tensor = TIP) -> Tensor:
    return solver.sample(state, at)[0, :, 0]  # type: ignore[arg-type]


def test_a_bar_hangs_as_in_the_closed_form() -> None:
    """Small strain, nu = 0, held at its top: u = rho g (L x - x^2 / 2) / E."""
    stiff = gel(5e6, 0.0)
    solver = body(stiff, gravity=(9.81, 0.0))
    state = solver.settle(solver.initial_state())
    assert float(tip(solver, state)[0]) == pytest.approx(1000 * 9.81 * 0.2**2 / 2 / 5e6, rel=1e-3)
    assert abs(float(tip(solver, state)[1])) < 1e-8
    top = solver.particles(state).F[solver.points(0.0).x[:, 0].argmin(), 0, 0]
    assert float(top) == pytest.approx(1 + 1000 * 9.81 * 0.2 / 5e6, rel=1e-4)


def test_a_free_body_falls_as_implicit_euler_does() -> None:
    """u = -g t (t + dt) / 2 + v t in all points, without strain."""
    start = torch.tensor([0.3, 0.1], dtype=torch.float64)
    solver = body(gel(), FREE, gravity=(0.0, -9.81), velocity=lambda x: start.expand(len(x), 2))
    with torch.no_grad():
        state = rollout(solver, solver.initial_state(), dt=0.01, steps=5).final
    seen = solver.particles(state)
    t, dt = state.t, 0.01
    moved = start * t + torch.tensor([0.0, -9.81 * t * (t + dt) / 2])
    assert torch.allclose(seen.x[:, :2] - solver.particles(solver.initial_state()).x[:, :2], moved, atol=1e-7)
    assert torch.allclose(seen.v[:, :2], start - torch.tensor([0.0, 9.81 * t]), atol=1e-5)
    assert torch.allclose(seen.F, torch.eye(3, dtype=torch.float64).expand_as(seen.F), atol=1e-5)


def test_a_bar_swings_as_the_oscillator_of_implicit_euler_does() -> None:
    """Its first longitudinal mode, sin(pi x / 2 L) with c = sqrt(E / rho): u_n+1 (1 + (w dt)^2) = 2 u_n - u_n-1."""
    length, dt, speed = 0.2, 2e-3, 0.01
    solver = body(
        gel(nu=0.0),
        width=14,
        velocity=lambda x: speed * torch.stack([(0.5 * math.pi * x[:, 0] / length).sin(), 0.0 * x[:, 0]], dim=1),
    )
    w = 0.5 * math.pi / length * math.sqrt(5e4 / 1000.0)
    exact, found = [0.0, speed * dt / (1 + (w * dt) ** 2)], [0.0]
    with torch.no_grad():
        state = solver.initial_state()
        for _ in range(40):
            state = solver.step(state, None, dt)
            found.append(float(tip(solver, state)[0]))
            exact.append((2 * exact[-1] - exact[-2]) / (1 + (w * dt) ** 2))
    assert min(found) < -0.3 * max(found), "it has swung back"
    assert max(abs(a - b) for a, b in zip(found, exact, strict=False)) < 2e-3 * max(found)


def test_three_dimensions() -> None:
    box = Box((0.0, 0.0, 0.0), (0.1, 0.05, 0.05))
    solver = body(gel(5e6, 0.0), ((1, 0), (0, 0), (0, 0)), box=box, width=14, gravity=(9.81, 0.0, 0.0))
    state = solver.settle(solver.initial_state())
    end = tip(solver, state, torch.tensor([[0.1, 0.02, 0.03]], dtype=torch.float64))
    assert float(end[0]) == pytest.approx(1000 * 9.81 * 0.1**2 / 2 / 5e6, rel=1e-3)


@pytest.mark.parametrize(
    "obstacle",
    [
        Collider.plane((0.0, -0.01, 0.0), (0.0, 1.0, 0.0), name="floor"),
        Collider.plane((0.0, 0.0, 0.0), (0.0, 1.0, 0.0), name="floor"),
    ],
)
def test_a_floor_carries_the_weight(obstacle: Collider) -> None:
    """What the penalty pushes with is what the body weighs, once it lies still."""
    solver = body(gel(2e5), FREE, box=Box((0.0, 0.0), (0.1, 0.1)), gravity=(0.0, -9.81), obstacles=[obstacle])
    with torch.no_grad():
        state = rollout(solver, solver.initial_state(), dt=0.05, steps=25).final
    problem, around = solver.problem, solver.stepper.potential.surface
    assert isinstance(problem, Body)
    x = around.x + solver.sample(state, around.x)[:, :, 0]
    push = problem.firm.detach() * (around.weight * (-problem.gaps(x, state.t)[:, 0]).clamp(min=0.0)).sum()
    force = solver.collider_forces(state, 0.05)[0]
    assert force.tolist() == pytest.approx([0.0, -float(push), 0.0], abs=1e-9)
    assert float(push) == pytest.approx(1000 * 9.81 * 0.01, rel=0.01)


FLOOR = Collider.plane((0.0, -0.005, 0.0), (0.0, 1.0, 0.0), name="floor")
BALL = Collider(ColliderKind.SPHERE, (0.03, 0.03, 0.03), (0.18, -0.032, 0.0), name="ball")


def test_contact_is_as_firm_as_the_body() -> None:
    """A body ten times as stiff under ten times the weight lies as it lay."""
    found = []
    for scale in (1.0, 10.0):
        material = gel()
        solver = body(material, gravity=(0.0, -9.81 * scale), obstacles=[FLOOR])
        # As a fit changes it, with the body already made.
        material.set(E=5e4 * scale)
        with torch.no_grad():
            found.append(solver.carried(solver.settle(solver.initial_state()), solver.points(0.0).x))
    assert float((found[1] - found[0]).abs().max()) < 5e-3 * float(found[0].abs().max())


def test_gradient_of_the_force_on_a_ball() -> None:
    material = gel()
    material.free("E")
    solver, raw = body(material, gravity=(0.0, -9.81), obstacles=[BALL]), material.raw["E"]

    def force() -> Tensor:
        return solver.collider_forces(solver.settle(solver.initial_state()), 0.0)[0]

    value = force()
    (slope,) = torch.autograd.grad(value[1], raw)
    pair, old = [], raw.detach().clone()
    with torch.no_grad():
        for sign in (1.0, -1.0):
            raw.copy_(old + sign * 1e-3)
            pair.append(float(force()[1]))
    assert -1000 * 9.81 * 0.2 * 0.05 < float(value[1].detach()) < 0, "it carries a part of the weight"
    assert float(slope) == pytest.approx((pair[0] - pair[1]) / 2e-3, rel=1e-3)
    with pytest.raises(InputError, match="no obstacle"):
        body(gel()).collider_forces(solver.initial_state(), 0.0)


@pytest.mark.parametrize("obstacle", [None, FLOOR, BALL], ids=["free", "floor", "ball"])
@pytest.mark.parametrize("steps", [0, 4])
def test_gradient_by_stiffness(steps: int, obstacle: Collider | None) -> None:
    material = gel(2e5)
    material.free("E")
    ground = [obstacle] if obstacle is not None else []
    solver = body(material, gravity=(0.0, -9.81), obstacles=ground)

    def sunk() -> Tensor:
        state = solver.initial_state()
        if not steps:
            return tip(solver, solver.settle(state))[1]
        for _ in range(steps):
            state = solver.step(state, None, 0.02)
        return tip(solver, state)[1]

    raw = material.raw["E"]
    (found,) = torch.autograd.grad(sunk(), raw)
    values = []
    for side in (1, -1):
        with torch.no_grad():
            raw += 3e-3 * side
            values.append(float(sunk()))
            raw -= 3e-3 * side
    assert float(found) == pytest.approx((values[0] - values[1]) / 6e-3, rel=1e-3)


def test_speed_survives_another_step_size() -> None:
    start = torch.tensor([1.0, 0.0], dtype=torch.float64)
    solver = body(gel(), FREE, velocity=lambda x: start.expand(len(x), 2))
    with torch.no_grad():
        state = solver.initial_state().replace(t=1.0)
        for dt in (0.01, 0.005):
            state = solver.step(state, None, dt)
    assert torch.allclose(solver.particles(state).v[:, :2], start.expand(len(solver.points(0.0).x), 2), atol=1e-6)


def test_forces_out_of_balance() -> None:
    """Against the divergence of the stress by differentiating it, and of a hanging bar, which is at rest."""
    solver = body(gel(nu=0.0), gravity=(9.81, 0.0))
    assert isinstance(solver.problem, Body)
    flat = 0.1 * torch.randn(solver.field.size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    box = solver.box
    x = torch.tensor([[0.3, 0.4], [0.5, 0.8]], dtype=torch.float64) * torch.tensor(box.size)
    x = (x + torch.tensor(box.lower)).requires_grad_()
    F = solver.problem.deformation(derivatives(solver.field, Weights(flat), x, solver.problem.wanted))
    (P,) = torch.autograd.grad(solver.problem.material.energy(F).sum(), F, create_graph=True)
    forces = [
        sum(torch.autograd.grad(P[:, i, j].sum(), x, retain_graph=True)[0][:, j] for j in range(2)) for i in range(2)
    ]
    found, _ = solver.problem.imbalance(derivatives(solver.field, Weights(flat), x.detach(), solver.problem.local))
    exact = torch.stack(forces, dim=1) + solver.problem.material.rho0 * solver.problem.gravity
    assert torch.allclose(found, exact, rtol=1e-8)
    with torch.no_grad():
        begin = solver.initial_state()
        inside = quadrature(box, 60).x
        hung = solver.settle(begin)
        assert torch.allclose(solver.residual(begin, inside), torch.ones(len(inside), dtype=torch.float64))
        assert float(solver.residual(hung, inside).mean()) < 0.02


def test_energy_that_hides_between_the_points_is_told() -> None:
    """By waves that are far finer than the points, at rest and after a fall."""
    field = Walled(Linear(Siren(BLOCK, 8, 2, 30.0, 2)), BLOCK, CLAMPED)
    solver = SolverInsr(Body(gel(), BLOCK, gravity=(0.0, -9.81)), field, BLOCK)
    with torch.no_grad():
        begin = solver.initial_state()
        with pytest.raises(RolloutFailure, match="hides between the points"):
            solver.settle(begin)
        fine = body(gel(), width=16, gravity=(0.0, -9.81))
        assert fine.settle(fine.initial_state()).defect < 1e-3
    with pytest.raises(InputError, match="up to 3000 weights"):
        body(gel(), width=60)


def test_a_long_way_hides_no_strain() -> None:
    """What a body is judged by does not grow with how far it has fallen."""
    field = Linear(Siren(BLOCK, 8, 2, 3.0, 2))
    solver = SolverInsr(Body(gel(), BLOCK, gravity=(0.0, -9.81)), field, BLOCK)
    bent = 1e-3 * torch.randn(field.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    stepper = solver.stepper
    assert isinstance(stepper, BodyStepper)
    found = []
    for fallen in (0.0, 10.0):
        flat = bent.clone()
        # The last weight is what is added to the second displacement.
        flat[-1] -= fallen
        taken = Taken(Found(flat, 0.0, 1), moved=0.0, damping=0.0)
        with torch.no_grad():
            u = solver.carried(FieldState(flat, flat), torch.zeros(1, 2, dtype=torch.float64))
            found.append((float(u[0, 1]), stepper._judged(taken, flat, flat, 0.0, 0.1, 0.1)))
    assert found[0][0] - found[1][0] == pytest.approx(10.0)
    assert found[1][1] == pytest.approx(found[0][1], rel=1e-4) and found[0][1] > 1e-8


def test_a_ball_is_not_leapt_over() -> None:
    """A block on its way to a ball, whose next step would end behind it."""
    box = Box((0.0, 0.0), (0.1, 0.1))
    ball = Collider(ColliderKind.SPHERE, position=(0.3, 0.05, 0.0), size=(0.05,) * 3, name="ball")
    fast = torch.tensor([10.0, 0.0], dtype=torch.float64)
    problem = Body(gel(), box, velocity=lambda x: fast.expand(len(x), 2), obstacles=[ball])
    field = Linear(Siren(box, 12, 2, 3.0, 2))
    middle = torch.tensor([[0.05, 0.05]], dtype=torch.float64)
    with torch.no_grad():
        whole = SolverInsr(problem, field, box, settings=Settings(halvings=0))
        with pytest.raises(RolloutFailure, match="goes through 'ball' in one step"):
            whole.step(whole.initial_state(), None, 0.05)
        solver = SolverInsr(problem, field, box)
        state = solver.step(solver.initial_state(), None, 0.05)
    assert state.dt < 0.05
    assert float(solver.carried(state, middle)[0, 0]) < 0.25, "it has met the ball"


def test_parameters_must_stay_until_backward() -> None:
    material = gel(2e5)
    material.free("E")
    solver = body(material, gravity=(0.0, -9.81))
    end = tip(solver, solver.step(solver.initial_state(), None, 0.05))[1]
    material.set(E=1e6)
    with pytest.raises(GradientError, match="parameters changed"):
        end.backward()


def test_a_field_that_bends_follows_too() -> None:
    """A network that is not linear in its weights falls like one that is."""
    ends = []
    for kind in (Linear, lambda f: f):
        field = Walled(kind(Siren(BLOCK, 10, 2, 3.0, 2)), BLOCK, CLAMPED)
        solver = SolverInsr(Body(gel(2e5), BLOCK, gravity=(0.0, -9.81)), field, BLOCK)
        with torch.no_grad():
            ends.append(tip(solver, rollout(solver, solver.initial_state(), dt=0.02, steps=3).final)[1])
    assert float(ends[1]) == pytest.approx(float(ends[0]), rel=0.02)


def test_what_a_body_cannot_be() -> None:
    bare = replace(get_law("neo_hookean", ElasticLaw), energy=None)
    with pytest.raises(InputError, match=r"law 'neo_hookean' states no energy, which .* minimises; take one that does"):
        Body(Material(bare, rho0=1e3, values={"E": 1e4, "nu": 0.3}), BLOCK)
    with pytest.raises(InputError, match="elastic laws only"):
        Body(Material("neo_hookean", "kelvin_voigt", rho0=1e3, values={"E": 1e4, "nu": 0.3, "viscosity": 1.0}), BLOCK)
    sunk = Collider.plane((0.0, 0.02, 0.0), (0.0, 1.0, 0.0), name="floor")
    with pytest.raises(InputError, match=r"begins 0.02 m inside 'floor', deepest at"):
        body(gel(), gravity=(0.0, -9.81), obstacles=[sunk]).initial_state()


SCENE = """
title: sag
solver: insr
dim: 2
grid: {dx: 1 cm}
gravity: [0, -9.81]
time: {duration: 40 s, frame: 20 s, dt: 20 s}
materials: {gel: {law: neo_hookean, E: 60 kPa, nu: 0.35, density: 1000 kg/m^3}}
bodies: {beam: {shape: {box: {lower: [0, 0], upper: [0.2, 0.05]}}, material: gel}}
walls: {x_min: {type: mirror_no_slip, position: 0 m}}
field: {width: 12, frequency: 3}
"""


@pytest.mark.parametrize(("kind", "squeezed"), [("mirror_no_slip", False), ("mirror_slip", True)])
def test_a_wall_pulls_a_body(tmp_path: Path, kind: str, squeezed: bool) -> None:
    """Slowly, between slippery walls as in uniaxial tension; or held fully."""
    path = tmp_path / "pull.yaml"
    path.write_text(SCENE)
    walls = f"{{x_min: {{type: {kind}, position: 0}}, x_max: {{type: {kind}, position: 0.2, velocity: [0.01, 0]}}"
    walls += ", y_min: {type: mirror_slip, position: 0}}" if squeezed else "}"
    built = build(load_scene(path, [f"walls={walls}", "gravity=[0, 0]", "time={duration: 4 s, frame: 1 s}"]))
    solver, places = built.solver, torch.tensor([[0.2, 0.0], [0.2, 0.05], [0.1, 0.05]], dtype=torch.float64)
    with torch.no_grad():
        end = rollout(solver, built.state, dt=1.0, steps=4).final
        u = solver.carried(end, places)
        state = solver.particles(end)
    assert u[:, 0].tolist() == pytest.approx([0.04, 0.04, 0.02], rel=1e-3)
    assert float(state.v[:, 0].max()) == pytest.approx(0.01, rel=0.1)
    if not squeezed:
        assert abs(float(u[1, 1])) < 1e-12 < -float(u[2, 1])
        return
    # Plane strain: the stress across vanishes, mu (b - 1 / b) + lam ln(1.2 b) / b = 0 for neo-Hooke.
    E, nu = (float(solver.problem.material.values()[name]) for name in ("E", "nu"))
    mu, lam = E / (2 * (1 + nu)), E * nu / ((1 + nu) * (1 - 2 * nu))
    b = 1 + float(u[1, 1]) / 0.05
    assert mu * (b - 1 / b) + lam * math.log(1.2 * b) / b == pytest.approx(0.0, abs=1e-4 * mu)
    with pytest.raises(InputError, match="tear the body from 'y_min'"):
        build(load_scene(path, [f"walls={walls}", "walls.y_min.type=mirror_no_slip"]))


def test_a_scene_observes_the_force_of_a_ball(tmp_path: Path) -> None:
    """Every section below bears it, as the balance of what lies above asks."""
    path = tmp_path / "press.yaml"
    path.write_text(SCENE)
    changes = [
        "walls={y_min: {type: mirror_no_slip, position: 0}}",
        "gravity=[0, 0]",
        "colliders={ball: {sphere: {center: [0.1, 0.1], radius: 5 cm}, velocity: [0, -4 mm/s]}}",
        "observe={push: {kind: force, collider: ball, direction: [0, 1]}}",
        "time={duration: 1 s, frame: 1 s, dt: 1 s}",
        "field.width=14",
    ]
    result = run_scene(load_scene(path, changes), tmp_path / "runs")
    push = float(result.series["push"][-1, 0])
    assert result.series["push"][0, 0] == 0.0 and push > 1.0
    built = build(load_scene(path, changes))
    solver, problem = built.solver, built.solver.problem
    state = field_state(load_file(result.folder / FINAL))
    with torch.no_grad():
        along = quadrature(Box((0.0,), (0.2,)), 200)
        section = torch.cat([along.x, torch.full_like(along.x, 0.02)], dim=1)
        P, _ = problem.tangent(problem.deformation(solver.sample(state, section, problem.wanted)))
    assert push == pytest.approx(-0.2 * float(along.weight @ P[:, 3]), rel=0.02)


def test_the_same_law_sags_alike_in_two_solvers(tmp_path: Path) -> None:
    path = tmp_path / "sag.yaml"
    path.write_text(SCENE)
    field = build(load_scene(path))
    with torch.no_grad():
        end = rollout(field.solver, field.state, dt=field.dt, steps=2).final
    still = build(
        load_scene(path, ["solver=solid", "field=null", "pose=static", "grid.dx=5 mm", "time={duration: 0.1 s}"])
    )
    marks = torch.tensor([[0.2, 0.05, 0.0], [0.1, 0.0, 0.0]], dtype=torch.float64)
    grid = still.solver.follow(marks)(still.state)[:, :2] - marks[:, :2]
    here = field.solver.sample(end, marks[:, :2])[:, :, 0]
    assert float((here - grid).norm()) < 0.01 * float(grid.norm())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("bodies.beam.shape={sphere: {center: [0.1, 0.1], radius: 2 cm}}", "needs a box along the axes"),
        ("walls.x_min.position=-1 cm", "lies at -0.01 m"),
        ("field.basis=sirens", "Did you mean 'siren'?"),
        ("field.width=1", "at least 2"),
        ("solver=mpm", "a field needs `solver: insr`"),
        ("bodies.beam.spin=[0, 0, 1]", "begins with a `velocity` only"),
        ("clamps={grip: {box: {lower: [0, 0], upper: [0.01, 0.05]}}}", "holds bodies by mirrored walls"),
        ("walls.y_min={type: stick, position: -1 cm}", "knows contact: slip"),
        ("walls.y_min={type: slip, position: 1 cm}", "inside 'y_min'"),
        ("grid.periodic=[y]", "walls on all sides"),
        ("blend=0.5", "is for `solver: mpm`"),
        ("colliders={die: {box: {lower: [0.1, -0.1], upper: [0.2, -0.05]}}}", "knows planes and spheres"),
        ("colliders={pin: {sphere: {center: [0.1, -0.1], radius: 1 mm}}}", "points"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, change: str, words: str) -> None:
    path = tmp_path / "sag.yaml"
    path.write_text(SCENE)
    with pytest.raises(PhysimError) as caught:
        build(load_scene(path, [change]))
    assert words in str(caught.value)


def test_maps_of_a_run(tmp_path: Path) -> None:
    path = tmp_path / "sag.yaml"
    path.write_text(SCENE)
    folder = run_scene(load_scene(path), tmp_path / "runs").folder
    kept = load_file(sorted((folder / FRAMES).glob("*"))[-1])
    assert torch.equal(field_state(kept).weights, torch.from_numpy(load_file(folder / FINAL)["weights"]))
    assert maps_of(folder, across=20).stat().st_size > 1000
    with pytest.raises(InputError, match="not a run folder"):
        maps_of(tmp_path)
    for frame in (folder / FRAMES).glob("*"):
        save_file({name: value for name, value in load_file(frame).items() if name != "weights"}, frame)
    with pytest.raises(InputError, match="earlier version"):
        maps_of(folder)
