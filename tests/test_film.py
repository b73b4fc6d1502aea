"""What a fit of a video leaves behind: frames beside the simulation, overlap, what pictures do not tell."""

from __future__ import annotations

import io
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from physim.fit.films import FilmScore, film_score
from physim.fit.run import fit_scene
from physim.fit.settings import make_space
from physim.fit.uncertainty import Estimate, Uncertainty
from physim.fit.unseen import unseen
from physim.observe.masks import mask_iou, outline_offset
from physim.scene.build import build
from physim.scene.build_video import picture_observations
from physim.scene.film import Played, make_films
from physim.scene.loader import load_scene
from physim.trees import from_bytes, to_bytes
from physim.view.comparison import write_comparisons
from physim.view.film_panels import Panels

SIZE, SCALE, RADIUS = 96, 5e-3, 0.1
SCENE = """
title: a disc slides along
dim: 2
grid: {origin: [0, 0], upper: [0.48, 0.48], dx: 2 cm}
gravity: [0, 0]
time: {duration: 0.2 s, frame: 20 ms}
cameras:
  side: {size: [96, 96], side_view: {scale: 5 mm, center: [0.24, 0.24, 0]}}
videos:
  clip: {pictures: frames, fps: 50, camera: side}
materials: {gel: {law: neo_hookean, E: 20 kPa, nu: 0.3, density: 1000 kg/m^3}}
bodies:
  disc: {shape: {sphere: {center: [0.2, 0.24], radius: RADIUS}}, material: gel, velocity: [0.5, 0], per_cell: 9}
observe:
  shape: {kind: silhouette, video: clip, holdout: [[0.15, 1]]}
  points: {kind: image_tracks, video: clip, file: tracks.npz}
fit:
  parameters:
    materials.gel.E: {start: 20 kPa, bounds: [1 kPa, 1 MPa]}
"""
TIMES = 0.02 * np.arange(11)


def seen(t: float) -> np.ndarray:
    """The true disc, drawn by distance, (96, 96) from 0 to 1."""
    at = SCALE * (np.arange(4 * SIZE) + 0.5) / 4
    inside = (at[None] - 0.2 - 0.5 * t) ** 2 + (0.48 - at[:, None] - 0.24) ** 2 <= RADIUS**2
    return inside.reshape(SIZE, 4, SIZE, 4).mean(axis=(1, 3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("film")
    (folder / "frames").mkdir()
    for i, t in enumerate(TIMES):
        alpha = np.round(255 * seen(float(t))).astype(np.uint8)
        cv2.imwrite(str(folder / "frames" / f"{i:02d}.png"), np.dstack([np.full((SIZE, SIZE, 3), 90, np.uint8), alpha]))
    xy = np.array(
        [[[(0.2 + a + 0.5 * t) / SCALE - 0.5, 48.0 + b] for a, b in ((0, 0), (0.03, 5), (-0.04, -7))] for t in TIMES]
    )
    np.savez(folder / "tracks.npz", xy=xy, times=TIMES)
    return folder


def film(folder: Path, radius: float, *, delay: float = 0.0):
    """The film beside a disc of some radius that moves as the true one does, but later by `delay`."""
    path = folder / f"disc{radius}.yaml"
    path.write_text(SCENE.replace("RADIUS", str(radius)))
    built = build(load_scene(path))
    steps = torch.tensor(np.append(TIMES, TIMES[-1] + 0.02), dtype=torch.float64)
    moved = built.x0 + torch.stack([0.5 * (steps - delay), 0 * steps, 0 * steps], dim=1)[:, None]
    records = [(o, delay) for o in picture_observations(built)]
    (found,) = make_films(built, Played(steps.numpy(), moved.numpy().astype(np.float32), records), [(-np.inf, np.inf)])
    return found


def colours(picture: np.ndarray) -> tuple[int, int]:
    """Pixels that are clearly red, and clearly blue."""
    p = picture.astype(int)
    return int((p[..., 0] - p[..., 2] > 60).sum()), int((p[..., 2] - p[..., 0] > 60).sum())


def test_overlap_is_that_of_the_masks(folder: Path) -> None:
    """Discs about one centre: the overlap is the ratio of their areas, and outlines differ by their radii."""
    small = film(folder, 0.08)
    assert small.iou == pytest.approx(np.full(11, 0.64), abs=0.02)
    assert small.offset == pytest.approx(np.full(11, (RADIUS**2 - 0.08**2) / (2 * RADIUS) / SCALE), rel=0.1)
    own = np.array([seen(float(t)) >= 0.5 for t in small.times])
    drawn = np.array([small.coverage(i) >= 0.5 for i in range(11)])
    assert small.iou == pytest.approx((own & drawn).sum((1, 2)) / (own | drawn).sum((1, 2)), abs=0.01)
    right = film(folder, RADIUS)
    assert right.iou.min() > 0.97 and right.offset.max() < 0.5
    mask = np.round(255 * seen(0.0)).astype(np.uint8)
    assert mask_iou(mask, mask) == 1.0 and outline_offset(mask, mask) == 0.0 and mask_iou(0 * mask, mask) == 0.0


def test_a_delay_is_followed_between_frames(folder: Path) -> None:
    late = film(folder, RADIUS, delay=0.007)
    assert late.simulated == pytest.approx(TIMES + 0.007)
    assert late.iou.min() > 0.97
    assert late.points is not None and max(late.points.error(i) for i in range(11)) < 0.05


def test_frames_held_out_are_told_apart(folder: Path) -> None:
    found = film(folder, RADIUS)
    # The outline holds the end out; the points are fitted in all frames.
    assert not found.held.any()
    (alone,) = _without_points(folder)
    assert alone.held.tolist() == [t >= 0.15 for t in TIMES]
    score = film_score(alone)
    assert score is not None
    assert FilmScore(**from_bytes(to_bytes(vars(score)))) == score  # as other ranks get it
    fitted, held = score.lines()
    assert "fitted frames (0 to 0.14 s): intersection over union 0.9" in fitted and "px" in fitted
    assert "held-out frames (0.16 to 0.2 s)" in held


def _without_points(folder: Path):
    path = folder / "alone.yaml"
    path.write_text(SCENE.replace("RADIUS", str(RADIUS)).replace("  points: {", "  # {"))
    built = build(load_scene(path))
    x = built.x0 + torch.tensor(TIMES)[:, None, None] * torch.tensor([0.5, 0.0, 0.0])
    records = [(o, 0.0) for o in picture_observations(built)]
    return make_films(built, Played(TIMES, x.numpy().astype(np.float32), records), [(-np.inf, np.inf)])


@pytest.mark.parametrize(("radius", "red", "blue"), [(0.12, True, False), (0.08, False, True)])
def test_a_wrong_size_shows_its_colour(folder: Path, radius: float, red: bool, blue: bool) -> None:
    found = film(folder, radius)
    image = next(iter(found.video.images([5])))
    observed, simulated, difference = Panels(found, 200).draw(5, image)
    assert observed.shape == simulated.shape == difference.shape
    many = 0.2 * np.pi * (0.5 * 200 * radius / 0.24) ** 2
    reds, blues = colours(difference)
    assert (reds > many, blues > many) == (red, blue)


def test_films_and_strips_are_written(folder: Path, tmp_path: Path) -> None:
    found = film(folder, 0.09)
    ((told, png),) = write_comparisons([found], tmp_path).items()
    assert "only the simulation covers the picture (red)" in told and "Crosses are tracked points" in told
    strip = Image.open(io.BytesIO(png))
    assert strip.width > 1000 and strip.height > 500
    with av.open(str(tmp_path / "comparison.mp4")) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 11 and frames[0].width > 2.9 * 400
    assert (tmp_path / "comparison.mp4").stat().st_size < 300_000


def test_a_fit_says_what_pictures_do_not_tell(folder: Path, tmp_path: Path) -> None:
    path = folder / "fit.yaml"
    path.write_text(SCENE.replace("RADIUS", str(RADIUS)))
    stages = "fit.stages=[{name: begin, end: 0.06 s, iterations: 1}, {name: more, end: 0.11 s, iterations: 2}]"
    result = fit_scene(path, [stages], out=tmp_path, quiet=True)
    told = "\n".join(result.lines())
    assert "No picture tells the density of gel; 1000 kg/m^3 is taken from the scene" in told
    assert "E per density is" in told and "m^2/s^2" in told
    assert "Poisson's ratio nu = 0.3 is taken from the scene, not fitted" in told
    assert "clip, fitted frames (0 to 0.1 s): intersection over union 0.9" in told
    assert "clip, held-out frames (0.12 to 0.2 s): intersection over union 0.9" in told
    found = result.as_dict()
    assert found["videos"][0]["name"] == "clip" and len(found["videos"][0]["iou"]) == 11
    first, second = found["starts"][0]["stages"]
    assert (first["name"], first["frames"], second["frames"]) == ("begin", 4, 6)
    assert first["after"] <= first["before"] and first["stop"] and first["seconds"] > 0.0
    assert result.folder is not None
    report = (result.folder / "report.html").read_text()
    assert "What video cannot tell" in report and first["stop"] in report and "outline off by" in report


def test_loose_and_tied_values_are_named(folder: Path) -> None:
    path = folder / "two.yaml"
    path.write_text(SCENE.replace("RADIUS", str(RADIUS)))
    values = "fit.parameters={materials.gel.E: {}, materials.gel.nu: {}}"
    scene = load_scene(path, [values])
    space = make_space(scene)
    estimates = (
        Estimate("materials.gel.E", "Pa", 2e4, 1.9e4, 2.1e4, 600.0, True),
        Estimate("materials.gel.nu", "", 0.3, 0.2, 0.4, 0.05, True),
    )
    correlation = torch.tensor([[1.0, -0.95], [-0.95, 1.0]], dtype=torch.float64)
    known = Uncertainty(estimates, torch.eye(2), correlation, {}, {}, 10.0, ())
    density, poisson, tied = unseen(scene, space, known, 0.9)
    assert "E per density is 20 m^2/s^2 (90 %: 19 to 21)" in density
    assert "Poisson's ratio of gel is loose: 0.2 to 0.4 (90 %)" in poisson
    assert "materials.gel.E and materials.gel.nu" in tied and "opposite ways (correlation -0.95)" in tied
    (folder / "place.csv").write_text("t,x\n0,0.2\n0.1,0.25\n")
    place = "observe.place={kind: position, direction: [1, 0], data: place}"
    other = load_scene(path, ["data={place: {file: place.csv, columns: {t: s, x: m}}}", place, values])
    assert unseen(other, space, known, 0.9) == ()
