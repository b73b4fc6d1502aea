"""Stages of a fit to pictures that the scene does not name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from physim.fit.run import fit_scene
from physim.fit.settings import make_stages
from physim.observe.flight import free_flight, mask_center
from physim.scene.loader import Scene, load_scene

SCENE = """
title: a square falls
dim: 2
grid: {origin: [0, 0], upper: [0.4, 0.4], dx: 2 cm}
gravity: [0, -9.81]
time: {duration: 0.3 s, frame: 10 ms}
cameras: {side: {size: [64, 64], side_view: {scale: 6.25 mm, center: [0.2, 0.2, 0]}}}
videos: {clip: {file: clip.mp4, camera: side, mask: {file: masks.npz}}}
materials: {gel: {law: neo_hookean, E: 20 kPa, nu: 0.3, density: 1000 kg/m^3}}
bodies: {square: {shape: {box: {center: [0.1, 0.3], size: [0.1, 0.1]}}, material: gel, velocity: [0.2, 0]}}
observe: {outline: {kind: silhouette, video: clip}}
fit:
  parameters:
"""
TIMES = np.arange(30) * 0.01
LANDS = 0.15
"""When the square reaches the floor [s]."""


def path_of_the_square() -> np.ndarray:
    """Centres in the picture [px]: a free fall, then rest."""
    t = np.minimum(TIMES, LANDS)
    return np.stack([16 + 32 * t, 16 + 0.5 * 9.81 / 6.25e-3 * t**2], axis=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from video_clips import write_clip

    place = tmp_path_factory.mktemp("stages")
    masks = np.zeros((len(TIMES), 640, 640), dtype=np.uint8)
    for mask, (x, y) in zip(masks, path_of_the_square(), strict=True):
        mask[round(10 * y) - 80 : round(10 * y) + 80, round(10 * x) - 80 : round(10 * x) + 80] = 255
    small = masks.reshape(len(TIMES), 64, 10, 64, 10).mean(axis=(2, 4)).round().astype(np.uint8)
    write_clip(place / "clip.mp4", [np.repeat(m[..., None], 3, axis=2) for m in small], fps=100)
    np.savez(place / "masks.npz", masks=small, times=TIMES, size=np.array([64, 64]))
    return place


def scene(folder: Path, *parameters: str) -> Scene:
    path = folder / "scene.yaml"
    path.write_text(SCENE + "".join(f"    {p}: {{}}\n" for p in parameters))
    return load_scene(path)


def test_each_number_is_found_where_nothing_else_matters(folder: Path) -> None:
    place, speed, modulus = "bodies.square.shape.box.center.x", "bodies.square.velocity.x", "materials.gel.E"
    stages = {s.name: s for s in make_stages(scene(folder, modulus, speed, place))}
    assert list(stages) == ["place", "flight, blurred", "flight", "first part", "blurred", "sharp"]
    assert stages["place"].parameters == (place,) and stages["place"].end == 0.0
    assert stages["flight"].parameters == (speed,)
    assert stages["flight"].end == pytest.approx(0.8 * LANDS, abs=0.015)
    assert 0.8 * LANDS < stages["first part"].end < LANDS + 0.3 * (0.29 - LANDS)
    assert all(stages[n].parameters == (modulus,) for n in ("first part", "blurred", "sharp"))
    assert stages["blurred"].overrides == ("observe.outline.blur=6.0",) and not stages["sharp"].overrides


def test_a_blurred_look_leaves_depth_out(folder: Path) -> None:
    both = "video: clip}, range: {kind: depth, video: clip, file: masks.npz, background: 1}}"
    (folder / "depth.yaml").write_text(
        SCENE.replace("video: clip}}\nfit", both + "\nfit") + "    materials.gel.E: {}\n"
    )
    stages = make_stages(load_scene(folder / "depth.yaml"))
    first, second = stages[1].overrides
    assert first == "observe.outline.blur=6.0" and second == "observe.range.weight=1e-06"
    assert not stages[-1].overrides


def test_a_stiffness_alone_needs_neither_place_nor_flight(folder: Path) -> None:
    stages = make_stages(scene(folder, "materials.gel.E"))
    assert [s.name for s in stages] == ["first part", "blurred", "sharp"]


def test_in_one_picture_the_place_stays_free_with_the_material(folder: Path) -> None:
    path = folder / "photograph.yaml"
    names = ("materials.gel.E", "bodies.square.shape.box.center.x")
    text = SCENE.replace("camera: side,", "camera: side, end: 0.001 s,")
    path.write_text(text + "".join(f"    {n}: {{}}\n" for n in names))
    stages = make_stages(load_scene(path))
    assert [(s.name, s.parameters) for s in stages] == [("material", names[:1]), ("sharp", ())]


def test_stages_of_the_scene_stay_as_they_are(folder: Path) -> None:
    path = folder / "own.yaml"
    path.write_text(SCENE + "    materials.gel.E: {}\n  stages: [{name: mine}]\n")
    assert [s.name for s in make_stages(load_scene(path))] == ["mine"]


def test_a_flight_ends_where_the_parabola_does() -> None:
    count, motion, error = free_flight(TIMES, path_of_the_square())
    assert TIMES[count - 1] == pytest.approx(LANDS, abs=0.015)
    assert 2 * motion[2, 1] == pytest.approx(9.81 / 6.25e-3, rel=0.05) and np.isfinite(error)


def test_a_body_that_stands_does_not_fly(folder: Path) -> None:
    """The shipped film: the plate stops with a jerk, and the jelly on it leans over."""
    stages = make_stages(load_scene("jelly_video"))
    assert [s.name for s in stages] == ["first part", "blurred", "sharp"]
    assert all("bodies.jelly.velocity.x" in s.parameters for s in stages)


def test_gravity_tells_a_fall_from_a_slide() -> None:
    fall = np.array([0.0, 9.81 / 6.25e-3])
    flying = path_of_the_square()
    assert free_flight(TIMES, flying, fall)[0] == free_flight(TIMES, flying)[0] > 0
    sliding = np.stack([16 + 32 * TIMES - 20 * TIMES**2, np.full_like(TIMES, 16.0)], axis=1)
    assert free_flight(TIMES, sliding)[0] == len(TIMES) and free_flight(TIMES, sliding, fall)[0] == 0
    assert free_flight(TIMES, sliding, 0.0 * fall)[0] == len(TIMES), "seen from above nothing tells"


def test_the_centre_of_a_mask() -> None:
    mask = np.zeros((10, 20), dtype=np.uint8)
    mask[2:4, 5:9] = 255
    assert mask_center(mask) == (7.0, 3.0)


def test_the_shipped_film_tells_its_stiffness() -> None:
    """The first quarter of it, from a start nearby; `physim fit jelly_video` takes all, from five times too soft."""
    changes = ["materials.jelly.E=7 kPa", "materials.jelly.viscous.viscosity=20 Pa s", "bodies.jelly.velocity.x=0.45"]
    given = load_scene("jelly_video", [*changes, "fit.stages=[{name: sharp, end: 0.16 s, iterations: 5}]"])
    result = fit_scene(given, out=None, quiet=True)
    assert result.values["materials.jelly.E"] == pytest.approx(9e3, rel=0.05)
    assert result.values["bodies.jelly.velocity.x"] == pytest.approx(0.5, rel=0.05)
