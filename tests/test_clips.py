"""Synthetic clips: scenes that load, surfaces that hold what the particles do, and films with known masks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from physim.scene.loader import load_scene
from physim.scene.video_file import open_video
from physim.scene.video_masks import find_masks
from tools.clips.case import SIZE, Setting, Skin
from tools.clips.cases import CASES, JELLY
from tools.clips.draw import Pictures, draw
from tools.clips.film import write_film
from tools.clips.simulate import Motion, simulate
from tools.clips.skin import REST, surfaces


def still(x: np.ndarray, spacing: float) -> Motion:
    return Motion(x[None], x, (slice(0, len(x)),), (spacing,), 0.01, 1e-3)


def lattice(count: int, spacing: float) -> np.ndarray:
    at = spacing * (np.arange(count) + 0.5)
    return np.stack(np.meshgrid(at, at, at, indexing="ij"), axis=-1).reshape(-1, 3)


@pytest.mark.parametrize("name", list(CASES))
def test_film_and_fit_are_scenes_of_other_grids(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    assert case.fine.dx < case.coarse.dx
    for setting in (case.fine, case.coarse):
        path = tmp_path / "scene.yaml"
        path.write_text(case.text(setting))
        assert load_scene(path).spec.grid.dx == setting.dx


def test_a_box_of_particles_has_the_surface_of_the_box() -> None:
    x = lattice(6, 0.01)
    (surface,) = surfaces(still(x, 0.01), Skin.LATTICE, 0)
    assert surface.volume == pytest.approx(0.06**3, rel=1e-5)
    assert np.abs(np.asarray(surface[REST]) - surface.points).max() < 1e-6


def test_a_ball_of_particles_has_the_volume_of_the_ball() -> None:
    x = lattice(24, 0.005) - 0.06
    x = x[np.linalg.norm(x, axis=1) < 0.05]
    (surface,) = surfaces(still(x, 0.005), Skin.FIELD, 0)
    assert surface.volume == pytest.approx(4 / 3 * np.pi * 0.05**3, rel=0.03)


def test_depth_and_outline_are_those_of_the_cube(tmp_path: Path) -> None:
    """Seen by a camera a metre before it, 100 mm of the front face are 0.1 f/z pixels wide, z the distance to it."""
    case = dataclasses.replace(JELLY, scene=JELLY.scene.replace("duration: 0.4 s", "duration: 0.02 s"))
    motion = simulate(case, Setting(0.025))
    pictures = draw(case, motion)["front"]
    eye, middle = case.eyes["front"], (SIZE - 1) // 2
    face = eye.at[2] - 0.25
    focal = 0.5 * SIZE / np.tan(np.radians(0.5 * eye.angle))
    row = pictures.cover[0].max(axis=1).argmax() + 10
    width = pictures.cover[0].max(axis=0).astype(float).sum() / 255
    assert width == pytest.approx(0.1 * focal / face, abs=0.3)
    seen = pictures.depth[0][np.isfinite(pictures.depth[0])]
    assert np.median(seen) == pytest.approx(face, abs=1e-3)
    assert pictures.cover[0, row, middle - 60 : middle + 60].max() == 255


def test_masks_of_a_film_are_those_it_was_made_with(tmp_path: Path) -> None:
    cover = np.zeros((6, SIZE, SIZE), dtype=np.uint8)
    for k in range(6):
        cover[k, 90:170, 60 + 12 * k : 140 + 12 * k] = 255
    color = np.where(cover[..., None] > 0, np.array([205, 80, 60], dtype=np.uint8), np.uint8(0))
    pictures = Pictures(color, cover, np.zeros(cover.shape, dtype=np.float32))
    empty = write_film(tmp_path / "a.mp4", pictures, 0.01, seed=3)
    masks = find_masks(open_video(tmp_path / "a.mp4"), background=empty).masks
    found, true = masks.coverage > 127, cover > 127
    assert ((found & true).sum((1, 2)) / (found | true).sum((1, 2))).min() > 0.97
