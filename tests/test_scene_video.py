"""Videos in a scene: masks, tracks, depth images and clouds as observations, and a fit to them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from physim.errors import InputError
from physim.fit.run import fit_scene
from physim.scene.build import build
from physim.scene.build_observe import see
from physim.scene.build_video import on_body, picture_observations
from physim.scene.loader import load_scene
from physim.scene.problems import SceneError
from physim.sim.rollout import rollout

SIZE, SCALE, FINE = 96, 5e-3, 16
SCENE = """
title: a slab falls on its side
dim: 2
grid: {origin: [0, 0], upper: [0.48, 0.48], dx: 2 cm}
gravity: [0, -9.81]
time: {duration: 0.2 s, frame: 20 ms}
cameras:
  side: {size: [96, 96], side_view: {scale: 5 mm, center: [0.24, 0.24, 0]}}
videos:
  clip: {pictures: frames, fps: 50, camera: side}
materials: {gel: {law: neo_hookean, E: 20 kPa, nu: 0.3, density: 1000 kg/m^3}}
bodies:
  slab: {shape: {box: {center: [0.22, 0.17], size: [0.16, 0.12]}}, material: gel, velocity: [0.2, -1.5], per_cell: 4}
walls: {y_min: {type: slip, position: 0.06}}
observe:
OBSERVE
fit:
  parameters:
    materials.gel.E: {start: 60 kPa, bounds: [1 kPa, 1 MPa]}
"""


def picture(x: np.ndarray, order: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The outline of a lattice of particles, half a spacing beyond them, as an opaque polygon."""
    grid = x[order].reshape(*shape, 3)[..., :2]
    for axis in range(2):
        grid = np.moveaxis(grid, axis, 0).copy()
        first, last = grid[0] - 0.5 * (grid[1] - grid[0]), grid[-1] + 0.5 * (grid[-1] - grid[-2])
        grid[0], grid[-1] = first, last
        grid = np.moveaxis(grid, 0, axis)
    edge = np.concatenate([grid[:-1, 0], grid[-1, :-1], grid[:0:-1, -1], grid[0, :0:-1]])
    # Drawn large: OpenCV fills the pixels on an outline too.
    pixels = FINE * np.stack([edge[:, 0] / SCALE, SIZE - edge[:, 1] / SCALE], axis=1) - 0.5
    large = np.zeros((FINE * SIZE, FINE * SIZE), dtype=np.uint8)
    cv2.fillPoly(large, [np.round(pixels).astype(np.int32)], 255)
    drawn = cv2.resize(large, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return np.dstack([np.full((SIZE, SIZE, 3), 90, dtype=np.uint8), drawn])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with drawn frames, tracks, depth images and clouds of the true motion."""
    folder = tmp_path_factory.mktemp("clip")
    truth = folder / "truth.yaml"
    truth.write_text(SCENE.split("videos:")[0] + "materials:" + SCENE.split("materials:", 1)[1].split("observe:")[0])
    built = build(load_scene(truth))
    with torch.no_grad():
        run = rollout(
            built.solver, built.state, dt=built.dt, steps=built.steps, every=built.every, save=lambda s: s.x.clone()
        )
    xs = [x.double().numpy() for x in run.saved]
    x0 = built.x0.numpy()
    order, shape = np.lexsort((x0[:, 1], x0[:, 0])), tuple(len(np.unique(x0[:, a].round(9))) for a in range(2))
    (folder / "frames").mkdir()
    for i, x in enumerate(xs):
        cv2.imwrite(str(folder / "frames" / f"{i:03d}.png"), picture(x, order, shape))
    some = np.arange(5, len(x0), 17)
    xy = np.stack([np.stack([x[some, 0] / SCALE, SIZE - x[some, 1] / SCALE], axis=1) - 0.5 for x in xs])
    np.savez(folder / "tracks.npz", xy=xy, times=np.arange(len(xs)) * 0.02)
    np.savez(folder / "cloud.npz", points=np.stack([x[::9] for x in xs]), times=np.arange(len(xs)) * 0.02)
    return folder


def scene(folder: Path, observe: str, name: str = "fit.yaml") -> Path:
    path = folder / name
    path.write_text(SCENE.replace("OBSERVE", f"  seen: {observe}"))
    return path


@pytest.mark.parametrize(
    ("observe", "bar"),
    [
        ("{kind: silhouette, video: clip, size: 32}", 0.03),
        ("{kind: overlap, video: clip, size: 32}", 0.03),
        ("{kind: image_tracks, video: clip, file: tracks.npz}", 0.01),
    ],
)
def test_a_fit_finds_the_stiffness(made: Path, tmp_path: Path, observe: str, bar: float) -> None:
    result = fit_scene(load_scene(scene(made, observe)), out=tmp_path, quiet=True)
    assert result.values["materials.gel.E"] == pytest.approx(2e4, rel=bar)


def test_at_the_truth_little_is_left(made: Path) -> None:
    """Particles are interpolated between frames nowhere: frames of the video are frames of the scene."""
    bars = {
        "{kind: silhouette, video: clip, size: 32}": 0.02,
        "{kind: image_tracks, video: clip, file: tracks.npz}": 0.05,  # px
        "{kind: cloud, file: cloud.npz}": 0.7 * 0.01,
    }
    for observe, bar in bars.items():
        built = build(load_scene(scene(made, observe, "truth_seen.yaml")))
        (seen,) = picture_observations(built)
        read = see(built)
        with torch.no_grad():
            run = rollout(
                built.solver,
                built.state,
                dt=built.dt,
                steps=built.steps,
                every=built.every,
                save=lambda s, g=seen.gauge, r=read: g.read(r(s)),
            )
        compared = seen.compare(torch.tensor(run.times, dtype=torch.float64), torch.stack(run.saved))
        left = torch.where(compared.valid, compared.predicted - compared.measured, 0.0)
        assert float((left.square().sum() / compared.valid.sum()).sqrt()) < bar, observe


def test_points_beside_the_body_are_left_out(made: Path) -> None:
    built = build(load_scene(scene(made, "{kind: silhouette, video: clip}")))
    pixels = torch.tensor([[43.5, 61.5], [5.0, 5.0], [float("nan"), 1.0]])
    points, kept = on_body(built, built.cameras["side"], pixels, "slab")
    assert kept.tolist() == [0] and points[0, :2].tolist() == pytest.approx([0.22, 0.17], abs=1e-9)


@pytest.mark.parametrize(
    ("observe", "told"),
    [
        ("{kind: silhouette, video: clib}", "clib.*Did you mean 'clip'"),
        ("{kind: silhouette, video: clip, body: slap}", "Did you mean 'slab'"),
        ("{kind: image_tracks, video: clip, file: truck.npz}", "no such file: 'truck.npz'"),
        ("{kind: silhouet, video: clip}", "silhouette"),
    ],
)
def test_mistakes_are_told(made: Path, observe: str, told: str) -> None:
    with pytest.raises(SceneError, match=told):
        load_scene(scene(made, observe, "wrong.yaml"))


def test_a_folder_of_pictures_needs_its_rate(made: Path) -> None:
    path = scene(made, "{kind: silhouette, video: clip}", "rate.yaml")
    path.write_text(path.read_text().replace("fps: 50, ", ""))
    with pytest.raises(SceneError, match=r"add `fps`, such as fps: 30"):
        load_scene(path)


def test_tracks_beside_the_body_are_refused(made: Path) -> None:
    found = np.load(made / "tracks.npz")
    np.savez(made / "off.npz", xy=np.full_like(found["xy"], 3.0), times=found["times"])
    built = build(load_scene(scene(made, "{kind: image_tracks, video: clip, file: off.npz}", "off.yaml")))
    with pytest.raises(InputError, match=r"0 of .* tracked points lie on the body"):
        picture_observations(built)
