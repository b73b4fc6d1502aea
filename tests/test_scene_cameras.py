"""Cameras of a scene: typed in, from nerfstudio, COLMAP and calibrations, and the message of every mistake."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scene_text import SCENE

from physim.observe.camera import PixelCamera
from physim.scene.build import build
from physim.scene.cameras import make_cameras
from physim.scene.loader import load_scene
from physim.scene.problems import SceneError
from physim.scene.resolved import write_resolved

EYE, AT, ANGLE = (0.6, 0.5, 0.9), (0.15, 0.15, 0.0), math.radians(50.0)
LENS = {"fl_x": 800.0, "fl_y": 810.0, "cx": 321.0, "cy": 239.0, "w": 640, "h": 480, "k1": 0.05, "p2": 1e-3}
APPLIED = [[1.0, 0.0, 0.0, 0.1], [0.0, 0.0, 1.0, 0.2], [0.0, -1.0, 0.0, 0.3]]
LOOK = "look: {from: [0.6, 0.5, 0.9], at: [0.15, 0.15, 0]"


def reference() -> PixelCamera:
    """What every file below describes: OpenCV's pixel centres, metres, the scene's axes."""
    pose = PixelCamera.look_at(EYE, AT, 640, 480, ANGLE).world_to_camera
    return PixelCamera(pose, 800.0, 810.0, 320.5, 238.5, 640, 480, (0.05, 0.0, 0.0, 1e-3, 0.0))


def load(tmp_path: Path, entry: str, text: str = SCENE) -> dict[str, PixelCamera]:
    path = tmp_path / "filmed.yaml"
    path.write_text(f"{text}cameras:\n  front: {{{entry}}}\n")
    return make_cameras(load_scene(path))


def same(camera: PixelCamera, other: PixelCamera) -> None:
    x = 0.2 * torch.rand(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for mine, theirs in zip(camera.project(x), other.project(x), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)
    assert (camera.width, camera.height) == (other.width, other.height)


def write_transforms(folder: Path, *, unit: float = 1.0, world: np.ndarray | None = None, **changes: object) -> None:
    """A transforms.json whose frame `images/b.png` is the reference, in units of `unit` metres."""
    pose = np.linalg.inv(reference().world_to_camera.numpy())
    pose[:3, 3] /= unit
    pose = np.vstack([APPLIED, [0, 0, 0, 1]]) @ (np.eye(4) if world is None else world) @ pose
    opengl = (pose @ np.diag([1.0, -1.0, -1.0, 1.0])).tolist()
    frames = [
        {"file_path": "images/a.png", "transform_matrix": np.eye(4).tolist()},
        {"file_path": "images/b.png", "transform_matrix": opengl, **dict(LENS, w=640)},
    ]
    data = {"camera_model": "OPENCV", "fl_x": 1.0, "applied_transform": APPLIED, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps({**data, **changes}))


def write_colmap(folder: Path, model: str = "OPENCV 640 480 800 810 321 239 0.05 0 0 1e-3") -> None:
    from scipy.spatial.transform import Rotation

    pose = reference().world_to_camera.numpy()
    q = Rotation.from_matrix(pose[:3, :3]).as_quat()[[3, 0, 1, 2]]
    numbers = " ".join(f"{v:.12g}" for v in (*q, *pose[:3, 3]))
    folder.mkdir(exist_ok=True)
    (folder / "cameras.txt").write_text(f"# cameras\n1 PINHOLE 10 10 5 5 5 5\n7 {model}\n")
    images = f"# images\n1 1 0 0 0 0 0 0 1 a.png\n\n2 {numbers} 7 films/b 1.png\n1.0 2.0 -1 3.0 4.0 5\n"
    (folder / "images.txt").write_text(images)


def test_typed_cameras(tmp_path: Path) -> None:
    same(load(tmp_path, f"size: [640, 480], {LOOK}, field_of_view: 50}}")["front"],
         PixelCamera.look_at(EYE, AT, 640, 480, ANGLE))  # fmt: skip
    lens = "intrinsics: {fx: 800, fy: 810, cx: 320.5, cy: 238.5, k1: 0.05, p2: 1e-3}"
    same(load(tmp_path, f"size: [640, 480], {LOOK}}}, {lens}")["front"], reference())
    matrix = reference().world_to_camera.tolist()
    same(load(tmp_path, f"size: [640, 480], matrix: {matrix[:3]}, {lens}")["front"], reference())
    (camera,) = load(tmp_path, "size: [100, 50], side_view: {scale: 2 mm, center: [0.1, 0.2]}").values()
    same(camera, PixelCamera.side_view(2e-3, 100, 50, (0.1, 0.2, 0.0)))


def test_up_is_against_gravity_unless_given(tmp_path: Path) -> None:
    text = SCENE.replace("gravity: [0, -9.81]", "gravity: [9.81, 0]")
    (camera,) = load(tmp_path, "size: [100, 50], side_view: {scale: 2 mm, center: [0.1, 0.2]}", text).values()
    same(camera, PixelCamera.side_view(2e-3, 100, 50, (0.1, 0.2, 0.0), up=(-1.0, 0.0, 0.0)))


@pytest.mark.parametrize("frame", ["images/b.png", "b.png", "b"])
def test_a_frame_of_nerfstudio(tmp_path: Path, frame: str) -> None:
    write_transforms(tmp_path)
    same(load(tmp_path, f"file: transforms.json, frame: {frame}")["front"], reference())


def test_a_file_in_other_units_and_another_world(tmp_path: Path) -> None:
    turn = np.array([[0.0, -1.0, 0.0, 3.0], [1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, -2.0], [0.0, 0.0, 0.0, 1.0]])
    back = np.linalg.inv(turn)
    back[:3, 3] /= 0.01
    write_transforms(tmp_path, unit=0.01, world=back)
    for way in ("rotation: [0, 0, 90]", "x: [0, 1, 0], y: [-1, 0, 0]"):
        world = f"world: {{translation: [3, 1, -2], {way}}}"
        same(load(tmp_path, f"file: transforms.json, frame: b, scale: 1 cm, {world}")["front"], reference())


def test_a_frame_of_blender(tmp_path: Path) -> None:
    """No size and no focal length, an angle only; the transform that nerfstudio applied is not there."""
    pose = np.linalg.inv(PixelCamera.look_at(EYE, AT, 64, 48, ANGLE).world_to_camera.numpy())
    frame = {"file_path": "./train/r_0", "transform_matrix": (pose @ np.diag([1, -1, -1, 1])).tolist()}
    (tmp_path / "transforms.json").write_text(json.dumps({"camera_angle_x": ANGLE, "frames": [frame]}))
    same(load(tmp_path, "file: transforms.json, size: [64, 48]")["front"], PixelCamera.look_at(EYE, AT, 64, 48, ANGLE))


@pytest.mark.parametrize("image", ["films/b 1.png", "b 1.png", "b 1"])
def test_an_image_of_colmap(tmp_path: Path, image: str) -> None:
    write_colmap(tmp_path / "sparse")
    same(load(tmp_path, f"colmap: sparse, image: {image}")["front"], reference())


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        ("SIMPLE_PINHOLE 64 48 80 32 24", (80.0, 80.0, 31.5, 23.5, 0.0, 0.0)),
        ("PINHOLE 64 48 80 81 32 24", (80.0, 81.0, 31.5, 23.5, 0.0, 0.0)),
        ("SIMPLE_RADIAL 64 48 80 32 24 0.1", (80.0, 80.0, 31.5, 23.5, 0.1, 0.0)),
        ("RADIAL 64 48 80 32 24 0.1 0.2", (80.0, 80.0, 31.5, 23.5, 0.1, 0.2)),
    ],
)
def test_models_of_colmap(tmp_path: Path, model: str, wanted: tuple[float, ...]) -> None:
    write_colmap(tmp_path / "sparse", model)
    camera = load(tmp_path, "colmap: sparse, image: b 1")["front"]
    assert (camera.fx, camera.fy, camera.cx, camera.cy, *camera.distortion[:2]) == wanted


def test_a_calibrated_file(tmp_path: Path) -> None:
    lens = "size: [640, 480]\nintrinsics: {fx: 800, fy: 810, cx: 320.5, cy: 238.5, k1: 0.05, p2: 1e-3}\n"
    (tmp_path / "lens.yaml").write_text(lens)
    (tmp_path / "camera.yaml").write_text(lens + f"matrix: {reference().world_to_camera.tolist()}\n")
    same(load(tmp_path, f"file: lens.yaml, {LOOK}}}")["front"], reference())
    same(load(tmp_path, "file: camera.yaml")["front"], reference())
    (tmp_path / "camera.yaml").write_text(lens.replace("fy", "fi") + "matrix: [[1]]\n")
    with pytest.raises(SceneError) as caught:
        load(tmp_path, "file: camera.yaml")
    assert "filmed.yaml:22: cameras.front.file: " in str(caught.value)
    assert "camera.yaml:2: intrinsics.fi: unknown key 'fi'. Did you mean 'fy'?" in str(caught.value)


def test_a_run_keeps_its_cameras(tmp_path: Path) -> None:
    write_colmap(tmp_path / "sparse")
    write_transforms(tmp_path)
    path = tmp_path / "filmed.yaml"
    cameras = "{front: {colmap: sparse, image: b 1}, side: {file: transforms.json, frame: b}}"
    path.write_text(f"{SCENE}cameras: {cameras}\n")
    (tmp_path / "run").mkdir()
    kept = load_scene(write_resolved(load_scene(path), tmp_path / "run"))
    assert sorted(p.name for p in (tmp_path / "run" / "inputs" / "sparse").iterdir()) == ["cameras.txt", "images.txt"]
    for camera in make_cameras(kept).values():
        same(camera, reference())


def test_a_fit_knows_when_a_camera_has_changed(tmp_path: Path) -> None:
    from physim.fit.fingerprint import fingerprint

    write_colmap(tmp_path / "sparse")
    path = tmp_path / "filmed.yaml"
    fit = "fit: {parameters: {materials.gel.E: {}}}\n"
    path.write_text(f"{SCENE}{fit}cameras: {{front: {{colmap: sparse, image: b 1}}}}\n")
    before = fingerprint(load_scene(path))
    assert "the file images.txt (cameras.front.colmap)" in before
    write_colmap(tmp_path / "sparse", "PINHOLE 64 48 80 81 32 24")
    after = fingerprint(load_scene(path))
    assert [k for k in before if before[k] != after[k]] == ["the file cameras.txt (cameras.front.colmap)"]


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("size: [64, 48], lok: {}", "cameras.front.lok: unknown key 'lok'. Did you mean 'look'?"),
        ("size: [64, 48], look: {form: [0, 0, 1], at: [0, 0, 0]}", "unknown key 'form'. Did you mean 'from'?"),
        ("size: [64, 48], look: {at: [0, 0, 0]}", "cameras.front.look.from: required, and missing"),
        ("size: [64, 48]", "cameras.front: needs one of `look`, `side_view`, `matrix`, `file` or `colmap`"),
        ("size: [64], " + LOOK + ", field_of_view: 50}", "cameras.front.size: expected at least 2 entries, got 1"),
        ("size: [0, 4], " + LOOK + ", field_of_view: 50}", "cameras.front.size[0]: must be at least 1, got 0"),
        (LOOK + ", field_of_view: 50}", "cameras.front: needs `size: [width, height]`"),
        ("size: [64, 48], " + LOOK + "}", "how wide it sees is missing: give `field_of_view` in `look`"),
        ("size: [64, 48], " + LOOK + ", field_of_view: 200}", "field_of_view: must be at most 179 deg, got 200"),
        ("size: [64, 48], " + LOOK + ", field_of_view: 3 m}", "expected an angle (deg), got '3 m', which is a length"),
        ("size: [64, 48], " + LOOK + ", field_of_view: 50}, intrinsics: {fx: 9}", "one of them is enough"),
        ("size: [64, 48], " + LOOK + ", up: [1, 0.777778, 2]}, intrinsics: {fx: 9}", "along its own up direction"),
        ("size: [64, 48], " + LOOK + "}, side_view: {scale: 1 mm, center: [0, 0]}", "has `look` and `side_view`"),
        ("size: [64, 48], side_view: {scale: 1 kg, center: [0, 0]}", "expected a length (m), got '1 kg'"),
        ("size: [64, 48], side_view: {scale: 1 mm, center: [0, 0]}, scale: 1 mm", "`scale`: for what a file says"),
        ("size: [64, 48], matrix: [[1, 0, 0], [0, 1, 0]], intrinsics: {fx: 9}", "rows of 4 numbers, got 2 rows of 3"),
        (
            "size: [64, 48], matrix: [[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0]], intrinsics: {fx: 9}",
            "cameras.front.matrix: world to camera: the 3 x 3 on its left is not a rotation, by 1: it is 2 times a",
        ),
        (
            "size: [64, 48], matrix: [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 0]], intrinsics: {fx: 9}",
            "it mirrors (its determinant is -1)",
        ),
        ("size: [64, 48], matrix: [[1, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]], intrinsics: {fx: 9}", "right angles"),
        ("file: transfroms.json", "no such file: 'transfroms.json' (looked in "),
        ("file: transfroms.json", "Did you mean 'transforms.json'?"),
        ("file: ../transforms.json", "leads out of the scene's folder"),
        ("file: filmed.txt", "no such file"),
        ("file: transforms.json, frame: c.png", "front.frame: transforms.json has no frame 'c.png'. Did you mean"),
        ("file: transforms.json", "front.frame: required, because transforms.json has 2, such as 'images/a.png'"),
        ("file: transforms.json, frame: a", "frame 'images/a.png': says no picture size (w, h)"),
        ("file: transforms.json, frame: b, size: [64, 48]", "cameras.front.size: the file says 640 x 480 pixels"),
        ("file: transforms.json, frame: b, image: a", "`image` is one of a `colmap` folder"),
        ("file: transforms.json, frame: b, world: {x: [1, 0, 0]}", "both `x` and `y`"),
        ("file: transforms.json, frame: b, world: {x: [1, 0, 0], y: [1, 1, 0]}", "at right angles to each other"),
        ("colmap: transforms.json, image: a", "colmap: expected a folder, but 'transforms.json' is a file"),
        ("file: sparse", "cameras.front.file: expected a file, but 'sparse' is a folder"),
        ("colmap: spars", "no such folder: 'spars'"),
        ("colmap: empty", "cameras.front.colmap: no cameras.txt in "),
        ("colmap: empty", "colmap model_converter --output_type TXT"),
        ("colmap: sparse, image: c.png", "cameras.front.image: images.txt has no image 'c.png'"),
        ("colmap: sparse, image: b 1, frame: b", "`frame` is one of a `file`"),
    ],
)  # fmt: skip
def test_mistakes_are_told(tmp_path: Path, entry: str, told: str) -> None:
    write_transforms(tmp_path)
    write_colmap(tmp_path / "sparse")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "cameras.bin").write_bytes(b"")
    with pytest.raises(SceneError) as caught:
        load(tmp_path, entry)
    assert told in str(caught.value) and "filmed.yaml:22: cameras.front" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"frames": 3}, "has no list of `frames`"),
        ({"frames": []}, "lists no frame"),
        ({"frames": [{"file_path": "b", "w": 4, "h": 4, "transform_matrix": [[1]]}]}, "says no focal length"),
        ({"frames": [{"file_path": "b", "transform_matrix": [[1]], **LENS}]}, "expected 3 or 4 rows of 4 numbers"),
        ({"frames": [{"file_path": "b", "transform_matrix": (2 * np.eye(4)).tolist(), **LENS}]}, "2 times a rotation"),
        ({"frames": [{"file_path": "b", "fl_x": "long", "w": 4, "h": 4}]}, "expected a positive number, got 'long'"),
        ({"frames": [{"file_path": "b", "camera_angle_x": 50.0, "w": 4, "h": 4}]}, "in radians and below pi, got 50"),
        ({"camera_model": "OPENCV_FISHEYE"}, "camera_model OPENCV_FISHEYE is not supported; undistort"),
        ({"k4": 0.1}, "a fisheye lens, or k4, is not supported"),
        ({"applied_transform": [[1, 0, 0, 0]]}, "applied_transform: expected 3 or 4 rows"),
    ],
)  # fmt: skip
def test_broken_transforms_are_told(tmp_path: Path, change: dict, told: str) -> None:
    write_transforms(tmp_path, **change)
    if "focal" in told or "radians" in told:
        data = json.loads((tmp_path / "transforms.json").read_text())
        del data["fl_x"]
        (tmp_path / "transforms.json").write_text(json.dumps(data))
    with pytest.raises(SceneError) as caught:
        load(tmp_path, "file: transforms.json, frame: b")
    assert told in str(caught.value) and "cameras.front.file: " in str(caught.value)


def test_what_is_no_json_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "transforms.json").write_text('{"frames":\n  oops}')
    with pytest.raises(SceneError, match=r"transforms.json:2: not JSON"):
        load(tmp_path, "file: transforms.json")


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("cameras.txt", "OPENCV", "OPENCV_FISHEYE", "cameras.txt:3: the model OPENCV_FISHEYE is not supported, only"),
        ("cameras.txt", "0.05 0 0", "0.05 0", "cameras.txt:3: OPENCV has WIDTH HEIGHT FX FY CX CY K1 K2 P1 P2, got 9"),
        ("cameras.txt", "\n7 ", "\n8 ", "images.txt:4: its camera 7 is not in cameras.txt"),
        ("cameras.txt", "800", "long", "cameras.txt:3: expected a number, got 'long'"),
        ("cameras.txt", "800", "-800", "fx must be a number above zero, got -800"),
        ("images.txt", "1 0 0 0 0 0 0 1 a.png", "1 0 0", "images.txt:2: expected `IMAGE_ID QW QX QY QZ"),
        ("images.txt", "\n2 -0.16", "\n2 -3.16", "images.txt:4: the quaternion has length 3"),
    ],
)
def test_broken_colmap_is_told(tmp_path: Path, file: str, old: str, new: str, told: str) -> None:
    write_colmap(tmp_path / "sparse")
    path = tmp_path / "sparse" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(SceneError) as caught:
        load(tmp_path, "colmap: sparse, image: b 1")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (
            "look: {from: [0.15, 0.15, 50], at: [0.15, 0.15, 0], field_of_view: 5}",
            "it stands 50 m from bodies that",
        ),
        ("look: {from: [0.15, 0.15, 1], at: [0.15, 0.15, 2], field_of_view: 5}", "all of the bodies are behind it"),
        ("look: {from: [0.15, 0.15, 1], at: [9, 0.15, 0], field_of_view: 5}", "none of the bodies is in its picture"),
        ("side_view: {scale: 1 mm, center: [9, 9]}", "none of the bodies is in its picture"),
        ("look: {from: [0.15, 0.15, 1], at: [0.15, 0.15, 0], field_of_view: 5}", ""),
        ("side_view: {scale: 1 mm, center: [0.15, 0.15]}", ""),
    ],
)
def test_views_that_cannot_be_meant_warn(tmp_path: Path, entry: str, told: str) -> None:
    path = tmp_path / "filmed.yaml"
    path.write_text(f"{SCENE}cameras:\n  front: {{size: [64, 48], {entry}}}\n")
    built = build(load_scene(path))
    assert list(built.cameras) == ["front"]
    warned = [w for w in built.warnings if "filmed.yaml:22: cameras.front: " in w]
    assert len(warned) == bool(told) and all(told in w for w in warned)


def test_the_schema_and_overrides_know_cameras(tmp_path: Path) -> None:
    from physim.scene.schema import scene_schema

    schema = scene_schema()
    assert "from" in schema["$defs"]["LookPart"]["properties"]
    assert not schema["properties"]["cameras"]["additionalProperties"]
    path = tmp_path / "filmed.yaml"
    path.write_text(f"{SCENE}cameras:\n  front: {{size: [640, 480], {LOOK}, field_of_view: 50}}}}\n")
    (camera,) = make_cameras(load_scene(path, ["cameras.front.look.from.x=0.7"])).values()
    assert float(camera.center[0]) == pytest.approx(0.7)
    with pytest.raises(Exception, match=r"the scene has no 'cameras.frnt'. Did you mean 'front'"):
        load_scene(path, ["cameras.frnt.look.from.x=0.7"])


def test_the_documented_cameras_are_sound(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "docs" / "video.md").read_text()
    write_colmap(tmp_path / "sparse")
    write_transforms(tmp_path)
    lens = "size: [640, 480]\nintrinsics: {fx: 800}\n"
    (tmp_path / "camera.yaml").write_text(lens + f"matrix: {reference().world_to_camera.tolist()}\n")
    path = tmp_path / "filmed.yaml"
    documented = text.split("```yaml\n")[1].split("```")[0]
    path.write_text(SCENE + documented.replace("frame: frame_00012.png", "frame: b").replace("frame_00012.png", "b 1"))
    cameras = make_cameras(load_scene(path))
    assert list(cameras) == ["ruler", "typed", "known", "phone", "lens", "nerf", "sfm"]
    assert cameras["ruler"].parallel and cameras["known"].distortion[0] == 0.05
