"""Colours of a video in a scene: a motion that no outline shows, found from a texture."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from physim.errors import InputError
from physim.fit.run import fit_scene
from physim.observe.gauge import Snapshot
from physim.scene.build import build
from physim.scene.build_video import picture_observations
from physim.scene.loader import load_scene

SIZE, SCALE, COUNT, RATE, SPIN, RADIUS = 64, 5e-3, 6, 50, 4.0, 0.08
SCENE = """
title: a disc turns on the spot
dim: 2
grid: {origin: [0, 0], upper: [0.32, 0.32], dx: 1 cm}
time: {duration: 0.1 s, frame: 20 ms}
cameras: {top: {size: [64, 64], side_view: {scale: 5 mm, center: [0.16, 0.16, 0]}}}
videos:
  clip: {pictures: frames, fps: 50, camera: top, mask: {pictures: masks}}
materials: {gel: {law: neo_hookean, E: 50 kPa, nu: 0.3, density: 1000 kg/m^3}}
bodies:
  disc: {shape: {sphere: {center: [0.16, 0.16], radius: 0.08}}, material: gel, per_cell: 4, spin: [0, 0, 0]}
observe:
  seen: {kind: colour, video: clip, size: 24, blur: 1}
fit:
  iterations: 5
  parameters:
    bodies.disc.spin.z: {start: 2, bounds: [-20, 20]}
"""


CENTRE = torch.tensor([0.16, 0.16, 0.0], dtype=torch.float64)


def rotation(angle: float) -> torch.Tensor:
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a film of a turning disc, a smooth texture on it, and its masks, which do not change."""
    folder = tmp_path_factory.mktemp("disc")
    at = (np.arange(4 * SIZE) + 0.5) / 4 * SCALE - 0.16
    x, y = np.meshgrid(at, -at)
    rng = np.random.default_rng(0)
    inside = x**2 + y**2 < RADIUS**2
    for name in ("frames", "masks"):
        (folder / name).mkdir()
    for i in range(COUNT):
        angle = SPIN * i / RATE
        p, q = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        waves = [np.sin(40 * p + 1), np.cos(45 * q), np.sin(30 * p - 35 * q)]
        film = np.stack([np.where(inside, 0.5 + 0.4 * w, 0.3) for w in waves], axis=-1)
        film = film.reshape(SIZE, 4, SIZE, 4, 3).mean(axis=(1, 3)) + rng.normal(0, 0.01, (SIZE, SIZE, 3))
        mask = inside.reshape(SIZE, 4, SIZE, 4).mean(axis=(1, 3))
        Image.fromarray((255 * film.clip(0, 1)).round().astype(np.uint8)).save(folder / f"frames/{i}.png")
        Image.fromarray((255 * mask).round().astype(np.uint8)).save(folder / f"masks/{i}.png")
    (folder / "disc.yaml").write_text(SCENE)
    return folder


def test_colours_find_a_spin_that_no_outline_shows(made: Path) -> None:
    result = fit_scene(load_scene(made / "disc.yaml"), out=None, quiet=True)
    # The first transfer to a grid of this spacing slows the disc by 1.6 %, which the fit makes good.
    assert result.values["bodies.disc.spin.z"] == pytest.approx(SPIN, rel=0.03)


def test_a_turn_shows_in_colours_alone(made: Path) -> None:
    read = {}
    for kind in ("colour", "silhouette"):
        built = build(load_scene(made / "disc.yaml", [f"observe.seen.kind={kind}"]))
        (seen,) = picture_observations(built)
        turned = built.x0 @ rotation(0.4).T + CENTRE - rotation(0.4) @ CENTRE
        read[kind] = float((seen.gauge.read(Snapshot(turned)) - seen.gauge.read(Snapshot(built.x0))).abs().max())
    assert read["colour"] > 0.3 and read["silhouette"] < 0.15


def test_particles_take_the_colours_of_the_first_frame(made: Path) -> None:
    built = build(load_scene(made / "disc.yaml"))
    (seen,) = picture_observations(built)
    x, y = (built.x0[:, :2] - 0.16).unbind(1)
    true = 0.5 + 0.4 * (40 * x + 1).sin()
    well = x**2 + y**2 < (RADIUS - 0.01) ** 2
    assert float((seen.gauge.colours[:, 0] - true)[well].abs().max()) < 0.12
    assert float((seen.gauge.background - 0.3).abs().median()) < 0.01
    assert float(seen.sigma) == pytest.approx(0.02)
    assert seen.values.shape == (COUNT, len(seen.gauge.columns))


def test_a_body_elsewhere_is_told(made: Path) -> None:
    moved = ["bodies.disc.shape.sphere.center=[0.04,0.04]", "bodies.disc.shape.sphere.radius=2cm"]
    scene = load_scene(made / "disc.yaml", moved)
    with pytest.raises(InputError, match=r"observe.seen: no particle of the body is where the first frame shows it"):
        picture_observations(build(scene))
