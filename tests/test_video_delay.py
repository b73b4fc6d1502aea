"""One delay for all that is observed in a video: as a number of the scene, and as a fitted parameter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from physim.fit.rig import Rig
from physim.fit.run import fit_scene
from physim.fit.settings import make_space
from physim.observe.gauge import Snapshot
from physim.scene.build import build
from physim.scene.build_video import picture_observations
from physim.scene.loader import load_scene
from physim.scene.video_views import video_doubts

SIZE, SCALE, RATE, COUNT, FINE = 64, 5e-3, 50, 8, 40
OFFSET = 2.5e-3
SPEED = np.array([0.8, -1.0])
SCENE = """
title: a block flies
dim: 2
grid: {origin: [0, 0], upper: [0.32, 0.32], dx: 2 cm}
time: {duration: 0.15 s, frame: 1.25 ms}
cameras: {side: {size: [64, 64], side_view: {scale: 5 mm, center: [0.16, 0.16, 0]}}}
videos:
  clip: {pictures: frames, fps: 50, camera: side, every: 2}
materials: {gel: {law: neo_hookean, E: 20 kPa, nu: 0.3, density: 1000 kg/m^3}}
bodies:
  block: {shape: {box: {lower: [0.08, 0.2], upper: [0.16, 0.28]}}, material: gel, velocity: [0.8, -1.0]}
observe:
  outline: {kind: silhouette, video: clip, size: 32, blur: 1}
  overlap: {kind: overlap, video: clip, size: 32, blur: 1}
  points: {kind: image_tracks, video: clip, file: tracks.npz, delay: 1 ms}
fit:
  parameters: {}
"""


def moved(times: np.ndarray) -> np.ndarray:
    """How far the block has flown, (m, 2) [m]."""
    return times[:, None] * SPEED


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the block as the camera saw it, `OFFSET` later than its times say."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("late")
    (folder / "frames").mkdir()
    at = np.arange(COUNT) / RATE
    x = (np.arange(FINE * SIZE) + 0.5) / FINE * SCALE
    for i, (dx, dy) in enumerate(moved(at + OFFSET)):
        across = ((x > 0.08 + dx) & (x < 0.16 + dx)).reshape(SIZE, FINE).mean(axis=1)
        up = ((x > 0.2 + dy) & (x < 0.28 + dy)).reshape(SIZE, FINE).mean(axis=1)
        seen = np.round(255 * np.outer(up[::-1], across)).astype(np.uint8)
        Image.fromarray(np.dstack([np.full((SIZE, SIZE, 3), 90, np.uint8), seen])).save(folder / f"frames/{i}.png")
    # The tracker's own clock is a millisecond before that of the pictures.
    corners = np.array([[0.1, 0.22], [0.14, 0.22], [0.1, 0.26], [0.14, 0.26]])
    places = corners + moved(at + OFFSET + 1e-3)[:, None]
    xy = np.stack([places[..., 0] / SCALE, SIZE - places[..., 1] / SCALE], axis=-1) - 0.5
    np.savez(folder / "tracks.npz", xy=xy, times=at)
    return folder


def scene(folder: Path, parameters: str, name: str) -> Path:
    path = folder / name
    path.write_text(SCENE.replace("parameters: {}", f"parameters: {{{parameters}}}"))
    return path


def test_the_delays_of_a_video_and_of_what_is_seen_in_it_add_up(made: Path) -> None:
    path = scene(made, "materials.gel.E: {}", "given.yaml")
    built = build(load_scene(path, ["videos.clip.delay=2.5ms"]))
    seen = picture_observations(built)
    assert [o.delay for o in seen] == pytest.approx([2.5e-3, 2.5e-3, 3.5e-3])
    # Points are bound where the body is when the first frame is taken.
    for time, row in zip(seen[2].times, seen[2].values, strict=True):
        x = built.x0 + (float(time) + seen[2].delay) * built.v0
        assert float((seen[2].gauge.read(Snapshot(x)) - row).abs().max()) < 1e-9


def test_one_fitted_delay_shifts_all(made: Path) -> None:
    path = scene(made, "videos.clip.delay: {start: 0 s, bounds: [-10 ms, 10 ms]}", "late.yaml")
    loaded = load_scene(path, ["observe.points=null"])
    result = fit_scene(loaded, out=None, quiet=True)
    assert result.values["videos.clip.delay"] == pytest.approx(OFFSET, abs=5e-5)
    space = make_space(loaded)
    rig = Rig(loaded, space, "")

    def loss(raw: torch.Tensor) -> torch.Tensor:
        return torch.stack([c.objective().square().sum() for c in rig.run(raw)]).sum()

    # Between two saved frames: at one, the interpolation bends.
    raw = space.replaced({"videos.clip.delay": 1.2e-3}).requires_grad_()
    (slope,) = torch.autograd.grad(loss(raw), raw)
    with torch.no_grad():
        step = space.replaced({"videos.clip.delay": 1.21e-3}) - raw
        quotient = (loss(raw + step) - loss(raw - step)) / (2 * step)
    assert float(slope) == pytest.approx(float(quotient), rel=1e-3)


def test_points_bound_without_a_fitted_delay_are_told(made: Path) -> None:
    path = scene(made, "videos.clip.delay: {bounds: [-10 ms, 10 ms]}", "told.yaml")
    (told,) = video_doubts(load_scene(path))
    assert "observe.points: it is bound to the body in the first frame" in told and "Fit the delay to a" in told
