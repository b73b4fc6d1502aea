"""Bodies whose shape is read off pictures: outlines, bodies of revolution, visual hulls, and scenes made of them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from video_clips import texture, write_clip

from physim.errors import InputError
from physim.observe.camera import PixelCamera
from physim.observe.contour import cut_off, piece_of, pieces
from physim.observe.gauge import Snapshot
from physim.observe.hull import Cone, prior, visual_hull
from physim.observe.outlined import View, slab, turned
from physim.scene.build import build
from physim.scene.build_video import picture_observations
from physim.scene.loader import load_scene
from physim.scene.problems import SceneError
from physim.scene.video_starter import write_video_starter
from physim.shapes import Outline, Revolved, sample
from tools.bench.drawn import ball, drawn, egg, egg_volume, view

RADIUS = 0.05
# In the middle between lattice points of pixels and of voxels nothing must depend on where the body is.
CENTER = np.array([0.0031, 0.1007, -0.0013])
LOOKS = {"front": ((0, 0, -1), (0, 1, 0)), "side": ((-1, 0, 0), (0, 1, 0)), "top": ((0, -1, 0), (0, 0, -1))}


def parallel(name: str, size: int = 160) -> PixelCamera:
    looks, up = LOOKS[name]
    return PixelCamera.side_view(0.15 / size, size, size, (0.0, 0.1, 0.0), looks, up)


def pinhole(eye: tuple[float, float, float], size: int = 160) -> PixelCamera:
    return PixelCamera.look_at(eye, (0.0, 0.1, 0.0), size, size, np.deg2rad(22.0), (0, 1, 0.01))


@pytest.fixture(scope="module")
def balls() -> dict[str, View]:
    return {name: view(parallel(name), ball(RADIUS, CENTER)) for name in LOOKS}


# ---------------------------------------------------------------- outlines of masks


def test_an_outline_is_found_to_a_fraction_of_a_pixel():
    y, x = np.mgrid[0:96, 0:96]
    away = np.hypot(x - 47.3, y - 50.6)
    mask = 255 * (np.clip(30.5 - away, 0, 1) - np.clip(10.5 - away, 0, 1))
    mask[3:6, 80:84] = 255
    (body, speck) = pieces(mask.round().astype(np.uint8))
    assert len(body.rings) == 2 and body.center == pytest.approx([47.3, 50.6], abs=0.02)
    assert body.area == pytest.approx(np.pi * (30**2 - 10**2), rel=2e-3)
    assert speck.area == pytest.approx(12, rel=0.1) and body.share + speck.share == pytest.approx(1.0)
    assert piece_of(mask.astype(np.uint8), (81.5, 4.0)).area == pytest.approx(12, rel=0.1)
    half = mask[:, 47:].round().astype(np.uint8)
    assert cut_off(piece_of(half), half) == {"left": pytest.approx(40, abs=2)}
    with pytest.raises(InputError, match="mask is empty"):
        piece_of(np.zeros((9, 9), dtype=np.uint8))


def test_shapes_are_filled_to_their_volume():
    disc = np.array([[np.cos(a), np.sin(a)] for a in np.linspace(0, 2 * np.pi, 90, endpoint=False)])
    washer = Outline([0.05 * disc, 0.02 * disc], 0.01, (0.1, 0.2, 0.3))
    assert washer.volume == pytest.approx(np.pi * (0.05**2 - 0.02**2) * 0.01, rel=1e-3)
    filled = sample(washer, spacing=2e-3)
    radius = np.linalg.norm(filled.x[:, :2] - [0.1, 0.2], axis=1)
    assert radius.min() > 0.019 and filled.vol0.sum() == pytest.approx(washer.volume)
    assert washer.signed_distance([[0.1, 0.2, 0.3], [0.135, 0.2, 0.3]]) == pytest.approx([0.02, -0.005], rel=2e-3)
    cone = Revolved([[0.03, 0.0], [0.0, 0.06]])
    assert cone.volume == pytest.approx(np.pi * 0.03**2 * 0.06 / 3)
    assert cone.signed_distance([[0.0, -0.01, 0.0], [0.04, 0.0, 0.0]]) == pytest.approx([0.01, 0.01])
    assert abs(sample(cone, spacing=3e-3).fill_ratio - 1) < 0.05
    with pytest.raises(InputError, match="three-dimensional"):
        sample(cone, spacing=3e-3, dim=2)


def test_a_slab_and_a_ball_from_one_picture(balls: dict[str, View]):
    disc = slab(balls["front"], 0.02)
    assert disc.volume == pytest.approx(np.pi * RADIUS**2 * 0.02, rel=2e-3)
    assert 0.5 * disc.bounds.sum(axis=0) == pytest.approx([*CENTER[:2], 0.0], abs=1e-4)
    for camera, at in ((parallel("front"), None), (pinhole((0.1, 0.15, 0.4)), CENTER)):
        found, uneven = turned(view(camera, ball(RADIUS, CENTER)), (0, 1, 0), at)
        assert found.volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=3e-3) and uneven < 1e-2
        assert found.middle == pytest.approx(CENTER * (1, 1, 0 if at is None else 1), abs=2e-4)


def test_a_slab_in_perspective_is_as_large_as_it_looks():
    disc = np.array([[np.cos(a), np.sin(a), 0.0] for a in np.linspace(0, 2 * np.pi, 400)])
    solid = np.concatenate([RADIUS * disc + [0, 0.1, z] for z in (-0.02, 0.02)])
    seen = view(pinhole((0.0, 0.1, 0.4)), solid)
    assert slab(seen, 0.04, at=(0, 0.1, 0)).volume == pytest.approx(np.pi * RADIUS**2 * 0.04, rel=5e-3)
    with pytest.raises(InputError, match="does not tell how far away"):
        slab(seen, 0.04)
    with pytest.raises(InputError, match="looks along the plane of the outline, 0 degrees"):
        slab(seen, 0.04, at=(0, 0.1, 0), along=(1, 0, 0))
    with pytest.raises(InputError, match="looks along the axis of revolution"):
        turned(seen, (0, 0, 1), (0, 0.1, 0))


# ---------------------------------------------------------------- visual hulls


@pytest.mark.parametrize(("names", "share"), [(("front", "side"), 16 / 3), (tuple(LOOKS), 8 * (2 - 2**0.5))])
def test_the_hull_of_a_ball_is_that_of_its_cylinders(balls: dict[str, View], names: tuple[str, ...], share: float):
    """Two cylinders at right angles share 16/3 r^3, three 8 (2 - sqrt 2) r^3."""
    hull = visual_hull([Cone(n, balls[n]) for n in names], resolution=1.5e-3)
    assert hull.shape.volume == pytest.approx(share * RADIUS**3, rel=5e-3)
    assert hull.filled == (1.0,) * len(names)
    assert hull.shape.bounds == pytest.approx(np.array([CENTER - RADIUS, CENTER + RADIUS]), abs=2e-4)
    filled = sample(hull.shape, spacing=4e-3)
    assert filled.vol0.sum() == pytest.approx(hull.shape.volume) and abs(filled.fill_ratio - 1) < 0.03


def test_the_hull_in_perspective_holds_the_body():
    eyes = [(0.0, 0.1, 0.4), (0.4, 0.1, 0.0), (0.0, 0.5, 0.0)]
    cones = [Cone(str(i), view(pinhole(eye), ball(RADIUS, CENTER))) for i, eye in enumerate(eyes)]
    hull = visual_hull(cones, resolution=2e-3)
    surface = hull.shape.signed_distance(ball(RADIUS, CENTER, 2000))
    assert surface.max() < 2e-4  # no point of the body is cut away
    assert 1.11 < hull.shape.volume / (4 / 3 * np.pi * RADIUS**3) < 1.16  # a little above parallel cameras' 1.12


def test_what_no_camera_sees_is_bounded_by_a_thickness(balls: dict[str, View]):
    cone = Cone("front", balls["front"])
    thin = visual_hull([cone], prior([balls["front"]], 0.03, (0, 0, 0.2)), 1.5e-3)
    assert thin.shape.volume == pytest.approx(np.pi * RADIUS**2 * 0.03, rel=5e-3)
    assert thin.shape.bounds[:, 2] == pytest.approx([0.185, 0.215], abs=2e-4)
    with pytest.raises(InputError, match=r"one camera does not tell how deep the body is; add its `thickness`"):
        visual_hull([cone])
    with pytest.raises(InputError, match="90 degrees apart already bound the body"):
        prior([balls["front"], balls["side"]], 0.03)
    with pytest.raises(InputError, match="at most 3e"):
        visual_hull([cone, Cone("side", balls["side"])], resolution=1e-5)


def test_cameras_that_contradict_each_other(balls: dict[str, View]):
    front = Cone("front", balls["front"])
    low, high = (Cone(n, view(parallel(n), ball(0.02, (0, y, 0)))) for n, y in (("front", 0.06), ("side", 0.14)))
    with pytest.raises(InputError, match=r"those of 'front' and 'side' by 0\.08 m"):
        visual_hull([low, high])
    # Boxes that touch in a corner of their outlines, which are round there.
    corner = [Cone(n, view(parallel(n), ball(0.02, c))) for n, c in (("front", (0.02, 0.1, 0)), ("side", (0, 0.1, 0)))]
    corner.append(Cone("top", view(parallel("top"), ball(0.02, (-0.015, 0, 0.035)))))
    with pytest.raises(InputError, match=r"each outline alone leaves: 'front' .* m\^3, 'side' .* m\^3, 'top'"):
        visual_hull(corner)
    shifted = Cone("side", view(parallel("side"), ball(RADIUS, CENTER + np.array([0, 0.02, 0]))))
    assert min(visual_hull([front, shifted], resolution=3e-3).filled) < 0.9


# ---------------------------------------------------------------- scenes

SCENE = """
title: what the first picture shows
dim: DIM
grid: {origin: [-0.1, 0, -0.1], upper: [0.1, 0.2, 0.1], dx: 1 cm}
gravity: [0, -9.81, 0]
time: {duration: 20 ms, frame: 10 ms}
cameras:
  front: {size: [128, 128], side_view: {scale: 1.171875 mm, center: [0, 0.1, 0]}}
  right: {size: [128, 128], side_view: {scale: 1.171875 mm, center: [0, 0.1, 0], looks: [-1, 0, 0]}}
videos:
  clip: {pictures: front, fps: 100, camera: front}
  other: {pictures: side, fps: 100, camera: right}
materials: {gel: {law: neo_hookean, E: 20 kPa, nu: 0.3, density: 1000 kg/m^3}}
bodies:
  drop: {shape: {SHAPE}, material: gel, spacing: 2.5 mm}
observe:
  seen: {kind: silhouette, video: clip, size: 64}
"""


EGG = egg_volume()


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("egg")
    for name in ("front", "side"):
        (folder / name).mkdir()
        for i in range(3):
            mask = drawn(parallel(name, 128), egg(CENTER - np.array([0, 5e-4 * i * i, 0])))
            cv2.imwrite(str(folder / name / f"{i}.png"), np.dstack([np.full((*mask.shape, 3), 90, np.uint8), mask]))
    return folder


def load(folder: Path, shape: str, *, dim: int = 3, **changes: str):
    text = SCENE.replace("SHAPE", shape).replace("DIM", str(dim))
    for old, new in changes.items():
        text = text.replace(old, new)
    path = folder / f"{re.sub('[^a-z]', '', shape)}{dim}.yaml"
    path.write_text(text)
    return load_scene(path)


@pytest.mark.parametrize(
    ("shape", "dim", "volume"),
    [
        ("outline: {video: clip, revolve: y}", 3, EGG),
        ("outline: {video: clip, thickness: 4 cm}", 3, 0.04 * np.pi * 0.05 * 0.04),
        ("outline: {video: clip}", 2, np.pi * 0.05 * 0.04),
        ("hull: {videos: [clip, other]}", 3, EGG * 4 / np.pi),  # squares instead of circles in every section
    ],
)
def test_a_scene_made_of_what_is_seen(filmed: Path, shape: str, dim: int, volume: float):
    built = build(load(filmed, shape, dim=dim))
    assert float(built.model.mass.sum()) == pytest.approx(1000 * volume, rel=0.01)
    assert not built.warnings
    told = next(line for line in built.summary() if line.startswith("shape"))
    assert "'clip'" in told or "hull of 2" in told
    mass = float(re.findall(r"([\d.e-]+) kg", told)[0])
    assert mass == pytest.approx(1000 * volume, rel=0.01)
    # Drawn as particles, the body has the outline that it was read off.
    (seen,) = picture_observations(built)
    now, mask = seen.gauge.read(Snapshot(built.x0)), seen.values[0]
    overlap = float(torch.minimum(now, mask).sum() / torch.maximum(now, mask).sum())
    assert overlap > 0.97, overlap


@pytest.mark.parametrize(
    ("shape", "dim", "told"),
    [
        ("outline: {video: clib, revolve: y}", 3, "no video 'clib'. Did you mean 'clip'"),
        ("outline: {video: clip}", 3, "one picture does not tell how deep a body is: add its `thickness`"),
        ("outline: {video: clip, thickness: 1 cm}", 2, "in 2D the body is the outline itself"),
        ("outline: {video: clip, thickness: 1 cm, revolve: y}", 3, "give either a `thickness`"),
        ("outline: {video: clip, revolve: w}", 3, "got 'w', which is not allowed"),
        ("outline: {video: clip, revolve: z}", 3, "looks along the axis of revolution: the axis is 90 degrees"),
        ("outline: {video: clip, thickness: 1 cm, along: [1, 0, 0]}", 3, "looks along the plane of the outline, 0 deg"),
        ("hull: {videos: [clip, othr]}", 3, "no video 'othr'. Did you mean 'other'"),
        ("hull: {videos: [clip]}", 3, "one camera does not tell how deep the body is"),
        ("hull: {videos: [clip, other], thickness: 5 cm}", 3, "already bound the body on all sides"),
        ("hull: {videos: [clip, other]}", 2, "a hull needs `dim: 3`"),
    ],
)
def test_mistakes_are_told(filmed: Path, shape: str, dim: int, told: str):
    with pytest.raises(SceneError, match=re.escape(told)) as error:
        build(load(filmed, shape, dim=dim))
    assert "bodies.drop.shape" in str(error.value)


def test_what_is_odd_about_a_picture_is_told(filmed: Path, tmp_path: Path):
    (tmp_path / "front").mkdir()
    shutil.copytree(filmed / "side", tmp_path / "side")
    for i, shift in enumerate((0, -52, -20)):
        picture = cv2.imread(str(filmed / "front" / "0.png"), cv2.IMREAD_UNCHANGED)
        picture = np.roll(picture, shift, axis=1)
        if shift == -52:
            picture[:, 64:, 3] = 0
        picture[..., 3] *= i > 0
        cv2.imwrite(str(tmp_path / "front" / f"{i}.png"), picture)
    shape = "outline: {video: clip, revolve: y}"
    with pytest.raises(SceneError, match=r"no mask in the first picture of 'clip', at 0 s.*`begin: 0.01 s`"):
        build(load(tmp_path, shape))
    cut, uneven = build(load(tmp_path, shape, **{"camera: front}": "camera: front, begin: 0.01}"})).warnings
    assert "reaches the left border of the first picture of 'clip', along" in cut
    assert "left and right of the axis differ by 10 % of the radius" in uneven


def test_a_first_scene_takes_the_outline_of_what_is_no_box_and_no_ball(tmp_path: Path):
    pan = texture(224, 128, 3, (110, 115, 120), 10.0)
    bell = np.array([[0.03, 0.0], [0.028, 0.02], [0.012, 0.05], [0.01, 0.06]])
    rim = np.concatenate([bell, bell[::-1] * [-1, 1]])
    frames, rng = [], np.random.default_rng(0)
    for i in range(24):
        mask = np.zeros((896, 512), dtype=np.uint8)
        middle = np.array([64 + 0.6 * i, 70 + 6.0 * i]) * 4
        cv2.fillPoly(mask, [np.round(middle + rim * [1, -1] / 1e-3 * 4).astype(np.int32)], 255)
        cover = cv2.resize(mask, (128, 224), interpolation=cv2.INTER_AREA)[..., None] / 255.0
        frame = cover * [205, 150, 60] + (1 - cover) * pan + rng.normal(size=(224, 128, 3))
        frames.append(np.clip(frame, 0, 255).round().astype(np.uint8))
    clip = write_clip(tmp_path / "bell.mp4", frames, fps=60)
    begun = write_video_starter(clip)
    assert "the body of revolution with its outline" in begun.lines[2], begun
    scene = load_scene(tmp_path / "bell.yaml")
    assert scene.spec.bodies["body"].shape.kind == "outline"
    (body,) = build(scene).bodies
    pixel = scene.spec.cameras["front"].side_view.scale
    assert body.shape.volume == pytest.approx(Revolved(bell).volume * (pixel / 1e-3) ** 3, rel=0.06)
