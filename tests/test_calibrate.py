"""`physim calibrate`: lens and pose from drawn pictures of a board by a known camera, and the message of mistakes."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from physim.cli import main
from physim.errors import InputError
from physim.observe.calibrate import calibrate, place
from physim.observe.camera import PixelCamera
from physim.observe.targets import Board, Image, Marker, Sighting, draw_board, find_board, find_marker, read_board
from physim.scene.calibration import find_camera, target_of, write_camera
from physim.scene.cameras import read_calibrated
from physim.scene.video_source import read_picture
from physim.view.files import write_mp4, write_png

DATA = Path(os.environ.get("PHYSIM_DATA", Path(__file__).parents[2] / "shared" / "data"))

BOARD = Board(5, 7, 0.03, 0.022)
MIDDLE = (0.075, 0.105, 0.0)
WIDTH, HEIGHT = 480, 360


def code(arguments: list[str]) -> int:
    """Exit code of a command in this process."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def true_camera(eye: tuple[float, float, float] = (0.0, 0.0, 1.0), at: tuple[float, ...] = MIDDLE) -> PixelCamera:
    camera = PixelCamera.look_at(eye, at, WIDTH, HEIGHT, math.radians(48.0))
    inner = {"fy": 1.01 * camera.fx, "cx": camera.cx + 7.0, "cy": camera.cy - 5.0}
    return dataclasses.replace(camera, **inner, distortion=(-0.12, 0.05, 1e-3, -5e-4, 0.0))


@functools.cache
def local_rays() -> np.ndarray:
    """Directions of all pixels along the camera's own axes, (h, w, 3)."""
    camera = dataclasses.replace(true_camera(), world_to_camera=torch.eye(4, dtype=torch.float64))
    v, u = torch.meshgrid(torch.arange(HEIGHT).double(), torch.arange(WIDTH).double(), indexing="ij")
    return camera.rays(torch.stack([u, v], dim=-1))[1].numpy()


@functools.cache
def printed() -> tuple[Image, float]:
    import cv2

    picture = draw_board(BOARD, 2000.0)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.5)), 60.0


def photograph(camera: PixelCamera) -> Image:
    """The board, which lies in the plane z = 0 with its lower left corner in the origin, as this camera sees it."""
    import cv2

    tile, side = printed()
    directions = local_rays() @ camera.world_to_camera[:3, :3].numpy()
    eye = camera.center.numpy()
    hit = eye[:2] - directions[..., :2] * (eye[2] / directions[..., 2:])
    # The drawing has a margin of half a square, and the corner of its first dot is half a dot from the dot's middle.
    u = hit[..., 0] / BOARD.square * side + 0.5 * side - 0.5
    v = (BOARD.rows - hit[..., 1] / BOARD.square) * side + 0.5 * side - 0.5
    grey = cv2.remap(tile, u.astype(np.float32), v.astype(np.float32), cv2.INTER_LINEAR, borderValue=90)
    return np.repeat(np.asarray(grey, dtype=np.uint8)[:, :, None], 3, axis=2)


@functools.cache
def views() -> tuple[PixelCamera, ...]:
    found = []
    for i in range(9):
        around, far = 2.0 * math.pi * i / 9.0, 0.3 + 0.02 * i
        out = far * math.sin(math.radians(32.0))
        eye = (0.075 + out * math.cos(around), 0.105 + out * math.sin(around), far * math.cos(math.radians(32.0)))
        found.append(true_camera(eye, (0.075 + 0.05 * math.cos(2.3 * i), 0.105 + 0.05 * math.sin(2.3 * i), 0.0)))
    return tuple(found)


@functools.cache
def sightings() -> tuple[Sighting, ...]:
    seen = [find_board(BOARD, photograph(view), f"view {i}") for i, view in enumerate(views())]
    assert None not in seen
    return tuple(s for s in seen if s is not None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures")
    for i, view in enumerate(views()):
        write_png(path / f"view{i}.png", photograph(view))
    return path


def test_corners_are_found_where_the_camera_sees_them() -> None:
    for view, sighting in zip(views(), sightings(), strict=True):
        wanted = view.project(torch.as_tensor(sighting.points))[0].numpy()
        assert np.abs(wanted - sighting.pixels).max() < 0.5 and len(sighting.pixels) >= 12


def test_the_lens_is_recovered() -> None:
    found, true = calibrate(sightings()), true_camera()
    camera = found.camera
    assert camera.fx == pytest.approx(true.fx, rel=0.01) and camera.fy == pytest.approx(true.fy, rel=0.01)
    assert abs(camera.cx - true.cx) < 1.5 and abs(camera.cy - true.cy) < 1.5
    assert abs(camera.distortion[0] - true.distortion[0]) < 0.05
    assert found.error < 0.2 and found.deviations["fx"] < 0.01 * true.fx
    assert float((camera.center - views()[-1].center).norm()) < 3e-3


def test_a_picture_that_was_misread_is_left_out() -> None:
    seen = list(sightings())
    wrong = np.random.default_rng(0).normal(0.0, 6.0, seen[2].pixels.shape)
    seen[2] = dataclasses.replace(seen[2], pixels=seen[2].pixels + wrong)
    found = calibrate(seen)
    assert len(found.views) == 8 and any("1 picture, blurred or misread, fits far worse" in n for n in found.notes)
    assert found.camera.fx == pytest.approx(true_camera().fx, rel=0.01)


def test_the_pose_alone_from_one_picture() -> None:
    found = place(sightings()[3], true_camera())
    assert float((found.camera.center - views()[3].center).norm()) < 2e-3
    assert found.error < 0.2 and not found.deviations
    half = dataclasses.replace(sightings()[3], pixels=(sightings()[3].pixels + 0.5) / 2 - 0.5, size=(240, 180))
    assert float((place(half, true_camera()).camera.center - found.camera.center).norm()) < 1e-6
    with pytest.raises(InputError, match="another crop of the sensor"):
        place(dataclasses.replace(half, size=(240, 240)), true_camera())


def test_a_single_marker_gives_the_pose() -> None:
    view = views()[4]
    found = find_marker(Marker(BOARD.marker, number=5), photograph(view), "one")
    assert found is not None
    center = place(found, true_camera()).camera.center
    # Its axes begin in its own middle: marker 5 is in the third row from above, in the second column.
    away = torch.tensor([1.5 * BOARD.square, (BOARD.rows - 2.5) * BOARD.square, 0.0]).double()
    assert float((center + away - view.center).norm()) < 0.01
    with pytest.raises(InputError, match=r"the markers .* are seen; choose one with --id"):
        find_marker(Marker(BOARD.marker), photograph(view), "one")


def test_a_small_marker_is_told_to_be_ambiguous() -> None:
    marker, camera = Marker(0.01), true_camera((0.1, 0.1, 2.0), (0.0, 0.0, 0.0))
    pixels = camera.project(torch.as_tensor(marker.points()))[0].numpy()
    seen = Sighting("far", pixels + np.array([[0.05, 0.0], [0.0, -0.05], [0.05, 0.05], [0.0, 0.0]]), marker.points(),
                    (WIDTH, HEIGHT), 0.01)  # fmt: skip
    assert any("two poses" in note for note in place(seen, true_camera()).notes)


def test_too_few_or_too_similar_views_are_refused() -> None:
    with pytest.raises(InputError, match=r"seen in 2 pictures; a lens takes at least 3.*--camera"):
        calibrate(sightings()[:2])
    flat = [find_board(BOARD, photograph(true_camera((0.075, 0.105, 0.3 + 0.01 * i))), f"{i}") for i in range(4)]
    with pytest.raises(InputError, match="the 4 views are too alike"):
        calibrate([s for s in flat if s is not None])
    other = dataclasses.replace(sightings()[0], size=(360, 480))
    with pytest.raises(InputError, match="different sizes"):
        calibrate([*sightings()[1:], other])


def test_the_file_is_read_back(folder: Path, tmp_path: Path) -> None:
    found = find_camera([folder], BOARD)
    write_camera(found, tmp_path / "camera.yaml")
    read, camera = read_calibrated(tmp_path / "camera.yaml"), found.calibration.camera
    np.testing.assert_allclose(read.world_to_camera, camera.world_to_camera, atol=1e-9)
    lens = read.lens
    assert (lens.fx, lens.cy, *lens.distortion) == pytest.approx((camera.fx, camera.cy, *camera.distortion), rel=1e-8)
    assert lens.size == (WIDTH, HEIGHT)
    with pytest.raises(InputError, match="exists; choose another name with --out, or replace it with --force"):
        write_camera(found, tmp_path / "camera.yaml")


def test_a_film_of_the_board(tmp_path: Path) -> None:
    film = write_mp4(tmp_path / "board.mp4", [photograph(v) for v in views()], fps=5.0, show_progress=False)
    found = find_camera([film], BOARD, most=9)
    assert found.tried == 9 and found.calibration.sightings[-1].name == "board.mp4 at 1.600 s"
    assert found.calibration.camera.fx == pytest.approx(true_camera().fx, rel=0.01)
    with pytest.raises(InputError, match="look at one frame of a video at least"):
        find_camera([film], BOARD, most=0)


def test_the_marker_on_a_photograph_gives_the_published_pose() -> None:
    path = DATA / "diffcal" / "h_m_c"
    if not path.is_dir():
        pytest.skip(f"needs {path} (set PHYSIM_DATA)")
    told = json.loads((path / "meta.json").read_text())
    lens = [told["intrinsics"][key] for key in ("fx", "fy", "cx", "cy", "width", "height")]
    known = PixelCamera(torch.tensor(told["world_to_camera"], dtype=torch.float64), *lens)
    found = find_marker(Marker(0.02, "6x6_250", 0), read_picture(path / "rgb.png"), "photograph")
    assert found is not None
    pose, wanted = place(found, known).camera.world_to_camera, known.world_to_camera
    assert float((pose[:3, 3] - wanted[:3, 3]).norm()) < 1.5e-3
    assert math.degrees(math.acos(0.5 * (float((pose[:3, :3] @ wanted[:3, :3].T).trace()) - 1.0))) < 1.5


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "camera.yaml"
    board = ["--board", "5x7", "--square", "30 mm", "--marker", "22 mm"]
    assert code(["calibrate", str(folder), *board, "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "480 x 360 px" in told and "of 9 of 9 pictures" in told and "file: camera.yaml" in told
    assert (tmp_path / "camera.corners.png").stat().st_size > 10_000
    pose = tmp_path / "pose.yaml"
    assert code(["calibrate", str(folder / "view3.png"), *board, "--camera", str(out), "--out", str(pose)]) == 0
    assert "pose    of view3.png: " in capsys.readouterr().out
    assert code(["calibrate", *board, "--print", str(tmp_path / "board.pdf")]) == 0
    assert (tmp_path / "board.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "name what the pictures show: a board, such as --board 5x7"),
        (["--board", "5x7"], "a board has sides: add --square"),
        (["--board", "5by7", "--square", "30mm", "--marker", "22mm"], "such as 5x7; got '5by7'"),
        (["--board", "5x7", "--square", "30", "--marker", "22mm"], "30 m is no size to print; bare numbers are metres"),
        (["--board", "5x7", "--square", "30kg", "--marker", "22mm"], "expected a length (m), got '30kg'"),
        (["--board", "5x7", "--square", "22mm", "--marker", "30mm"], "a marker is smaller than its square"),
        (["--board", "2x7", "--square", "30mm", "--marker", "22mm"], "has too few corners"),
        (["--board", "15x9", "--square", "30mm", "--marker", "22mm"], "the dictionary 4x4_50 only 50"),
        (["--board", "5x7", "--square", "30mm", "--marker", "22mm"], "name pictures of the target"),
        (["none.png", "--board", "5x7", "--square", "30mm", "--marker", "22mm"], "none.png"),
        (["grey.png", "--board", "5x7", "--square", "30mm", "--marker", "22mm"], "in 1 picture. Is it sharp"),
        (["{view}", "--board", "7x5", "--square", "30mm", "--marker", "22mm"], "they do not lie as on this board"),
        (["{view}", "--board", "5x7", "--square", "30mm", "--marker", "22mm"], "seen in 1 picture; a lens takes"),
        (["{view}", "--board", "5x7", "--square", "3mm", "--marker", "2mm", "--dictionary", "5x5_50"], "4x4_1000"),
        (["{view}", "--marker", "22mm", "--dictionary", "4x5_50"], "no dictionary of markers '4x5_50'. Did you mean"),
        (["{view}", "--marker", "22mm"], "whose lens is known; name its file with --camera"),
        (["{view}", "--marker", "22mm", "--camera", "none.yaml"], "none.yaml: no such file of a camera"),
        (["{view}", "--marker", "22mm", "--out", "camera.txt"], "the file of a camera ends in .yaml"),
        (["--marker", "22mm", "--print", "board.pdf"], "a board to print is told by --board"),
    ],
)  # fmt: skip
def test_mistakes_are_told(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_png("grey.png", np.full((60, 80, 3), 90, dtype=np.uint8))
    assert code(["calibrate", *(a.format(view=folder / "view3.png") for a in arguments)]) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.glob("*.yaml"))


def test_boards_as_words() -> None:
    assert read_board("5x7") == (5, 7) and read_board(" 11 X 8") == (11, 8)
    assert str(target_of("5x7", "30 mm", "22 mm")).startswith("ChArUco board of 5 x 7 squares of 30 mm")
    assert str(target_of(None, None, "0.02")) == "ArUco marker of 20 mm from 4x4_50"
