from __future__ import annotations

import pytest
import torch

from physim.scene.build import build
from physim.scene.build_observe import make_gauges, see
from physim.scene.loader import load_scene
from physim.scene.problems import SceneError
from physim.sim.rollout import rollout
from physim.sim.state import Control

torch.set_num_threads(1)

BEAM = """
title: A cantilever
dim: 2
solver: solid
precision: double
grid: {dx: 10 mm}
gravity: [0, -9.81]
time: {duration: 0.2 s, frame: 5 ms}
walls: {x_min: {type: mirror_no_slip, position: 0}}
materials:
  rubber: {law: neo_hookean, E: 300 kPa, nu: 0.4, density: 1000}
bodies:
  beam: {shape: {box: {lower: [0, 0], upper: [0.1, 0.02]}}, material: rubber}
loads:
  tip: {position: [0.1, 0.01], mass: 0.5 kg}
observe:
  drop: {kind: tracks, points: {end: [0.1, 0.01]}, axes: y, displacement: true}
pose: {observe: drop, value: -8 mm}
"""


@pytest.fixture
def scene_file(tmp_path):
    path = tmp_path / "beam.yaml"
    path.write_text(BEAM)
    return path


def reading(built, state=None):
    gauge = make_gauges(built)["drop"]
    return float(gauge.read(see(built)(built.state if state is None else state))[0])


def test_reads_the_wanted_value_at_rest(scene_file):
    built = build(load_scene(scene_file))
    assert reading(built) == pytest.approx(-8e-3, rel=2e-4)
    assert float(built.state.w.abs().max()) == 0.0


def test_is_static_under_the_gravity_that_holds_it(scene_file):
    built = build(load_scene(scene_file))
    free = build(load_scene(scene_file, ["pose=null"]))
    scale = None
    # The scale that holds it, by trial: the one under which it does not start to move.
    for s in torch.linspace(0.05, 3.0, 119).tolist():
        still = built.model.control_at(0.0)
        push = (s - 1.0) * built.model.gravity
        control = Control(still.position, still.rotation, still.velocity, still.spin, push)
        moved = reading(built, built.solver.advance(built.state, control, built.dt, 20)) - reading(built)
        if moved < 0.0:
            scale = s
            break
    assert scale is not None
    with torch.no_grad():
        half = rollout(free.solver, free.state, dt=free.dt, steps=free.steps, every=free.every, save=see(free))
    gauge = make_gauges(free)["drop"]
    lowest = min(float(gauge.read(s)[0]) for s in half.saved)
    # Released straight, it swings to twice its static drop, nearly.
    assert scale * lowest / 2.0 == pytest.approx(-8e-3, rel=0.1)


def test_shape_does_not_depend_on_the_modulus(scene_file):
    soft, stiff = (build(load_scene(scene_file, [f"materials.rubber.E={E}"])) for E in (100e3, 1e6))
    torch.testing.assert_close(
        soft.solver.particles(soft.state).x, stiff.solver.particles(stiff.state).x, rtol=0.0, atol=1e-5
    )


def test_relaxing_branches_start_unrelaxed(scene_file):
    branch = "materials.rubber.inelastic={law: maxwell_1, branch_modulus_1: 50 kPa, relaxation_time_1: 20 ms}"
    built = build(load_scene(scene_file, [branch]))
    assert reading(built) == pytest.approx(-8e-3, rel=2e-4)
    F = built.state.F
    e = torch.linalg.eigh(F @ F.mT)
    hencky = e.eigenvectors @ torch.diag_embed(0.5 * torch.log(e.eigenvalues)) @ e.eigenvectors.mT
    deviator = hencky - hencky.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * torch.eye(3)
    torch.testing.assert_close(built.state.h[:, 3], deviator[:, 0, 1], rtol=1e-6, atol=1e-9)


def test_errors(scene_file):
    with pytest.raises(SceneError, match=r"no static shape reads 0\.05 m"):
        build(load_scene(scene_file, ["observe.drop.axes=x", "pose.value=50 mm"]))
    with pytest.raises(SceneError, match="Did you mean 'drop'"):
        load_scene(scene_file, ["pose.observe=drip"])
    with pytest.raises(SceneError, match="`gravity` is zero"):
        load_scene(scene_file, ["gravity=[0, 0]"])
