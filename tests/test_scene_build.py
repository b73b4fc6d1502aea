"""Scenes to models, states, gauges and observations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scene_text import SCENE, read_log

from physim.errors import StabilityError
from physim.scene.build import build
from physim.scene.build_observe import make_gauges, make_observations, see
from physim.scene.loader import load_scene
from physim.scene.problems import SceneError
from physim.scene.run import run_scene
from physim.sim.model import Contact, WallKind


@pytest.fixture
def scene_file(tmp_path: Path) -> Path:
    path = tmp_path / "block.yaml"
    path.write_text(SCENE)
    return path


def test_a_built_scene_is_what_the_file_says(scene_file: Path) -> None:
    built = build(load_scene(scene_file), precision="double")
    grid = built.model.grid
    assert grid.shape == (27, 27, 1) and grid.origin == pytest.approx((-0.06, -0.06, 0.0))
    assert float(built.model.vol0.sum()) == pytest.approx(0.01) and len(built.x0) == 100
    assert float(built.model.mass.sum()) == pytest.approx(10.0)
    assert torch.equal(built.state.v[:, 0], torch.ones(100, dtype=torch.float64))
    (wall,) = built.model.walls
    assert (wall.axis, wall.high, wall.position, wall.kind) == (1, False, 0.0, WallKind.NO_SLIP)
    assert sorted(c.name for c in built.model.colliders) == ["x_max", "x_min", "y_max"]
    assert all(c.contact is Contact.SLIP for c in built.model.colliders)
    assert built.steps * built.dt == pytest.approx(0.02) and built.dt <= built.solver.stable_dt(built.state)
    assert built.every * built.dt == pytest.approx(0.01)


def test_gauges_and_observations(scene_file: Path) -> None:
    built = build(load_scene(scene_file))
    gauge = make_gauges(built)["height"]
    assert float(gauge.read(see(built)(built.state))) == pytest.approx(0.15, abs=1e-7)
    (observation,) = make_observations(built)
    assert observation.valid is not None and observation.valid.tolist() == [[True], [True], [False]]
    assert float(observation.sigma) == 1e-3


def test_a_region_without_particles_is_told(scene_file: Path) -> None:
    region = "observe.height.region={box: {lower: [0.3, 0.3], upper: [0.4, 0.4]}}"
    with pytest.raises(SceneError, match=r"observe.height: the region holds no particle"):
        make_gauges(build(load_scene(scene_file, [region])))


def test_a_run_leaves_a_whole_folder(scene_file: Path, tmp_path: Path) -> None:
    expect = "expect={meaning: centre, observe: height, value: 148 mm, tolerance: 0.2 mm}"
    result = run_scene(load_scene(scene_file, [expect]), tmp_path / "runs")
    assert result.verdict is not None and result.as_expected
    # Free fall for 20 ms from 150 mm, in steps of dt.
    fallen = 9.81 * 0.02 * (0.02 + result.stats["dt"]) / 2
    assert result.verdict.value == pytest.approx(0.15 - fallen, abs=1e-6)
    names = {p.name for p in result.folder.iterdir()}
    assert {"scene.yaml", "log.jsonl", "frames", "final.safetensors", "bodies.safetensors"} <= names
    log = read_log(result.folder / "log.jsonl")
    assert [r["event"] for r in log] == ["frame"] * 3 + ["end", "expect"]
    assert log[0]["height"] == pytest.approx(0.15) and log[3]["status"] == "finished"


def test_a_run_that_fails_keeps_its_log(scene_file: Path, tmp_path: Path) -> None:
    from physim.sim.trajectory import RolloutFailure

    scene = load_scene(scene_file, ["walls=null", "bodies.block.velocity=[40, 0]", "walls.y_min=slip"])
    with pytest.raises(RolloutFailure, match="left the grid"):
        run_scene(scene, tmp_path / "runs")
    (folder,) = (tmp_path / "runs").iterdir()
    assert read_log(folder / "log.jsonl")[-1]["event"] == "end"


def test_a_solid_scene_fits_its_grid_to_the_body(scene_file: Path) -> None:
    changes = ["solver=solid", "grid={dx: 2 cm}", "walls={x_min: mirror_no_slip}", "observe=null", "data=null"]
    built = build(load_scene(scene_file, [*changes, "loads.tip={position: [0.2, 0.15], mass: 10 g}"]))
    code = 2 * (0.1 - built.model.grid.origin[0]) / 0.02
    assert code == pytest.approx(round(code)) and round(code) % 2 == 1, "the face lies midway between nodes"
    (wall,) = built.model.walls
    assert wall.position == pytest.approx(0.1) and len(built.solver.loads) == 1
    assert float(np.asarray(built.solver.nodal_mass).sum()) == pytest.approx(10.01, rel=1e-5)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["bodies.block.shape.box.upper=[0.2, 0.6]"], "lie outside the grid"),
        (["bodies.other={shape: {sphere: {center: [0.2, 0.2], radius: 4 cm}}, material: gel}"], "two materials on one"),
        (["grid.upper=[0.41, 0.4]"], "a whole number is needed"),
        (["bodies.block.spacing=0.05"], "holes between them"),
    ],
)
def test_bodies_that_do_not_fit_are_told_with_their_line(scene_file: Path, overrides: list[str], told: str) -> None:
    with pytest.raises(SceneError) as caught:
        build(load_scene(scene_file, overrides))
    assert told in str(caught.value) and ("block.yaml:" in str(caught.value) or "--set" in str(caught.value))


def test_a_step_beyond_the_limit_is_refused_with_the_numbers(scene_file: Path) -> None:
    with pytest.raises(StabilityError, match=r"time.dt: dt = 0.005 s is .* times the stable limit"):
        build(load_scene(scene_file, ["time.dt=5ms"]))


def test_the_step_follows_a_collider_on_keyframes(scene_file: Path) -> None:
    fast = "{box: {center: [5, 5], size: [0.1, 0.1]}, keyframes: [{time: 0, position: [5, 5]}, "
    fast += "{time: 1ms, position: [5, 5.5]}]}"
    slow, pressed = (build(load_scene(scene_file, o)) for o in ([], [f"colliders.press={fast}"]))
    dx = pressed.model.grid.dx
    assert pressed.dt <= 0.5 * dx / 500.0 < slow.dt


DROPPED = """
title: a block rests on a slippery floor
dim: 2
precision: double
grid: {origin: [0, 0], upper: [0.4, 0.4], dx: 2 cm}
gravity: [0, -9.81]
time: {duration: 60 ms, frame: 20 ms}
materials: {gel: {law: neo_hookean, E: 20 kPa, nu: 0.3, density: 1000 kg/m^3}}
bodies: {block: {shape: {box: {lower: [0.12, LOWER], upper: [0.28, UPPER]}}, material: gel, velocity: [0, -0.5]}}
walls: {y_min: {type: slip, position: FLOOR}}
"""


def test_a_wall_holds_a_body_alike_wherever_it_is_in_a_cell(tmp_path: Path) -> None:
    """Nodes are moved to it: motions beside floors that lie differently in a cell are one motion, moved."""
    ends = []
    for floor in (0.06, 0.067):
        changes = {"LOWER": floor + 0.02, "UPPER": floor + 0.18, "FLOOR": floor}
        text = DROPPED
        for word, value in changes.items():
            text = text.replace(word, f"{value:.17g}")
        (tmp_path / "floor.yaml").write_text(text)
        built = build(load_scene(tmp_path / "floor.yaml"))
        cells = (floor - built.model.grid.origin[1]) / built.model.grid.dx
        assert cells == pytest.approx(round(cells), abs=1e-9)
        state = built.solver.advance(built.state, None, built.dt, built.steps)
        ends.append(built.solver.particles(state).x - torch.tensor([0.0, floor, 0.0]))
    torch.testing.assert_close(ends[0], ends[1], rtol=0.0, atol=1e-7)


def test_nodes_follow_the_lower_of_two_walls(tmp_path: Path) -> None:
    """It stands on a face of the domain, where nodes are, so that the upper wall's place does not count."""
    text = DROPPED.replace("LOWER", "0.1").replace("UPPER", "0.2")
    text = text.replace("y_min: {type: slip, position: FLOOR}", "y_min: slip, y_max: {type: slip, position: 0.367}")
    (tmp_path / "two.yaml").write_text(text)
    grid = build(load_scene(tmp_path / "two.yaml")).model.grid
    assert grid.origin[1] == pytest.approx(-3 * 0.02)
