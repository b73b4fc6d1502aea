"""Videos, masks, tracks and depth images: what is read, how well bodies are found, what is said when they are not."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from video_clips import bounce, deforming, disc, moving_disc, write_clip

from physim.cli import main
from physim.errors import InputError
from physim.observe.background import median_background, picture_background
from physim.observe.flow import PointTracks, choose_points, follow
from physim.observe.masks import Masks
from physim.observe.segment import mask_of
from physim.scene.depth_file import read_depth
from physim.scene.mask_file import read_masks, write_masks
from physim.scene.track_file import read_tracks, write_tracks
from physim.scene.video_file import Video, open_video
from physim.scene.video_masks import find_masks

Array = np.ndarray[Any, Any]


def code(arguments: list[str]) -> int:
    """Exit code of a command in this process."""
    try:
        main(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def fails(words: str, work: Any, *given: Any, **options: Any) -> None:
    """The call is refused with a message that holds these words."""
    with pytest.raises(InputError) as caught:
        work(*given, **options)
    assert words in str(caught.value), str(caught.value)


def greys(count: int, size: tuple[int, int] = (32, 48)) -> list[Array]:
    """Frames that tell their number by their brightness."""
    return [np.full((*size, 3), 20 + 10 * i, dtype=np.uint8) for i in range(count)]


def write_pictures(folder: Path, frames: Any, name: str = "f{}.png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / name.format(i))
    return folder


def overlap(found: Array, true: Array) -> Array:
    """Intersection over union of each frame."""
    a, b = found >= 128, true >= 0.5
    return (a & b).sum(axis=(1, 2)) / (a | b).sum(axis=(1, 2))


@pytest.fixture(scope="module")
def ball(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Array]:
    """A compressed, noisy clip of a textured disc that bounces, with its true masks."""
    frames, masks, _ = moving_disc(bounce(24))
    return write_clip(tmp_path_factory.mktemp("clips") / "ball.mp4", frames), masks


# Files


def test_times_of_a_variable_rate_are_kept(tmp_path: Path) -> None:
    stamps = [0, 33, 71, 100, 180, 260, 300, 301, 400, 520]
    path = write_clip(tmp_path / "vary.mp4", greys(10), stamps=stamps)
    video = open_video(path)
    assert np.allclose(video.times, np.array(stamps) / 1000, atol=1e-6)
    some = open_video(path, begin=0.1, end=0.4, every=2)
    assert some.numbers == (3, 5, 7) and np.allclose(some.times, [0.1, 0.26, 0.301])
    assert [round((float(i.mean()) - 20) / 10) for i in some] == [3, 5, 7]
    assert [round((float(i.mean()) - 20) / 10) for i in some.images([0, 2])] == [3, 7]
    # Slow motion: the true rate replaces the file's times.
    assert np.allclose(open_video(path, fps=240).times, np.arange(10) / 240)
    small = open_video(path, largest=24)
    assert small.size == (24, 16) and next(iter(small)).shape == (16, 24, 3)


def test_a_turned_phone_gives_upright_pictures(tmp_path: Path) -> None:
    half = np.zeros((32, 48, 3), dtype=np.uint8)
    half[:, :24] = 220
    raw = bytearray(write_clip(tmp_path / "turned.mp4", [half] * 3).read_bytes())
    # The matrix of the track header, 16.16 and 2.30 fixed point: a quarter turn clockwise when shown.
    at = raw.index(b"tkhd") + 4 + 40
    matrix = [0, 1 << 16, 0, -(1 << 16) & 0xFFFFFFFF, 0, 0, 32 << 16, 0, 1 << 30]
    raw[at : at + 36] = b"".join(n.to_bytes(4, "big") for n in matrix)
    (tmp_path / "turned.mp4").write_bytes(raw)
    video = open_video(tmp_path / "turned.mp4")
    image = next(iter(video))
    assert video.size == (32, 48) and image.shape == (48, 32, 3)
    assert image[:20].mean() > 200 and image[28:].mean() < 20


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "many", greys(12))
    fails("add `fps`", open_video, folder)
    video = open_video(folder, fps=10.0, begin=0.2)
    assert np.allclose(video.times, np.arange(2, 12) / 10)
    # f2 before f10: numbers in names count by value.
    assert [round((float(i.mean()) - 20) / 10) for i in video] == list(range(2, 12))
    clear = np.zeros((32, 48, 4), dtype=np.uint8)
    clear[8:16, 8:16] = (250, 0, 0, 255)
    write_pictures(tmp_path / "clear", [clear, clear])
    video = open_video(tmp_path / "clear", fps=10.0)
    assert video.alpha and np.array_equal(next(iter(video)), clear)
    assert np.array_equal(find_masks(video).masks.coverage[1], clear[:, :, 3])


def test_videos_that_cannot_be_read(tmp_path: Path) -> None:
    fails("no such video file or folder", open_video, tmp_path / "none.mp4")
    (tmp_path / "words.mp4").write_text("not a video")
    fails("cannot be read as a video", open_video, tmp_path / "words.mp4")
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(1600))
    fails("no video in this file (it holds audio)", open_video, tmp_path / "sound.wav")
    clip = write_clip(tmp_path / "clip.mp4", greys(10))
    fails("no frame from begin 3 s to end (not given); its 10 frames are from 0 to 0.3 s", open_video, clip, begin=3.0)
    fails("fps 0 is not allowed", open_video, clip, fps=0.0)
    fails("every 0 is not allowed", open_video, clip, every=0)
    (tmp_path / "empty").mkdir()
    fails("no picture in this folder", open_video, tmp_path / "empty", fps=30.0)
    folder = write_pictures(tmp_path / "sizes", [*greys(2), *greys(1, (30, 48))])
    fails("f2.png is 48 x 30 pixels, and f0.png is 48 x 32", list, open_video(folder, fps=30.0))
    (folder / "f1.png").write_bytes(b"no picture")
    fails("f1.png: cannot be read as a picture", list, open_video(folder, fps=30.0))
    raw = clip.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(raw[: len(raw) // 2])
    fails("cannot be read as a video", open_video, tmp_path / "cut.mp4")


# Masks


def test_masks_of_a_compressed_noisy_clip(ball: tuple[Path, Array]) -> None:
    path, true = ball
    found = find_masks(open_video(path))
    shared = overlap(found.masks.coverage, true)
    assert np.median(shared) > 0.97 and shared.min() > 0.95
    assert np.allclose(found.masks.share, true.mean(axis=(1, 2)), rtol=0.03)
    assert not found.doubts and found.masks.valid.all() and "shadows taken out" in found.how


def test_shadows_are_no_part_of_the_body(tmp_path: Path) -> None:
    frames, true, _ = moving_disc(bounce(20), shadow=True)
    video = open_video(write_clip(tmp_path / "shade.mp4", frames))
    shared = [np.median(overlap(find_masks(video, shadows=s).masks.coverage, true)) for s in (None, False)]
    assert shared[0] > 0.96 and shared[1] < 0.9


def test_a_body_that_comes_to_rest_is_found_all_the_time() -> None:
    t = np.linspace(0, 1, 24)
    centers = [(64.0, 28 + 70 * min(1.0, (s / 0.4) ** 2)) for s in t]
    frames, true, _ = moving_disc(centers)
    behind = median_background(frames)
    shared = overlap(np.array([mask_of(f, behind) for f in frames]), true)
    assert shared.min() > 0.95


def test_a_body_that_stays_needs_a_picture_without_it(tmp_path: Path) -> None:
    frames, _, _ = moving_disc([(64.0, 64.0)] * 8)
    still = open_video(write_clip(tmp_path / "still.mp4", frames))
    fails("the body does not move, or looks like what is behind it", find_masks, still)
    frames, true, empty = moving_disc([(64 + 9 * np.sin(0.7 * i), 64.0) for i in range(20)])
    video = open_video(write_clip(tmp_path / "sway.mp4", frames))
    fails("the background seen there is the body itself", find_masks, video)
    Image.fromarray(empty).save(tmp_path / "empty.png")
    assert overlap(find_masks(video, background=tmp_path / "empty.png").masks.coverage, true).min() > 0.95
    Image.fromarray(empty[:64]).save(tmp_path / "half.png")
    fails("half.png: 128 x 64 pixels, and the video has 128 x 128", find_masks, video, background=tmp_path / "half.png")
    fails("region 0 0 500 20 is not within the picture", find_masks, video, region=(0, 0, 500, 20))


def test_a_camera_that_moves_is_told() -> None:
    wide = moving_disc([(64.0, 64.0)], size=(128, 400))[0][0]
    frames = [np.ascontiguousarray(wide[:, 12 * i : 12 * i + 128]) for i in range(16)]
    source = type("Frames", (), {"times": np.arange(16) / 30, "size": (128, 128), "alpha": False})()
    source.images = lambda numbers: (frames[i] for i in numbers)
    fails("the camera moves", find_masks, Video(Path("pan.mp4"), source, tuple(range(16)), source.times, (128, 128)))


def test_exposure_that_drifts_is_no_body() -> None:
    frames, true, empty = moving_disc(bounce(16))
    drift = [np.clip(f * (1 + 0.012 * i), 0, 255).astype(np.uint8) for i, f in enumerate(frames)]
    behind = picture_background(empty, drift)
    assert overlap(np.array([mask_of(f, behind) for f in drift]), true).min() > 0.95


def test_masks_on_disk(tmp_path: Path, ball: tuple[Path, Array]) -> None:
    path, true = ball
    video = open_video(path, every=2)
    cover = (255 * true).round().astype(np.uint8)
    kept = Masks(open_video(path).times, cover, np.ones(24, dtype=bool), (128, 128))
    assert np.array_equal(read_masks(write_masks(tmp_path / "m.npz", kept), video).coverage, cover[::2])
    np.savez(tmp_path / "plain.npz", masks=true >= 0.5)
    assert np.array_equal(read_masks(tmp_path / "plain.npz", video).coverage == 255, true[::2] >= 0.5)
    folder = write_pictures(tmp_path / "drawn", cover)
    assert np.array_equal(read_masks(folder, video).coverage, cover[::2])
    Image.fromarray(0 * cover[0]).save(folder / "f4.png")
    assert read_masks(folder, video).valid.tolist() == [i != 2 for i in range(12)]
    black = write_pictures(tmp_path / "black", 0 * cover)
    fails("the masks of all 12 frames are empty", read_masks, black, video)
    (folder / "f5.png").unlink()
    fails("23 frames, and the video has 24, of which 12 are used", read_masks, folder, video)
    np.savez(tmp_path / "wide.npz", masks=np.ones((24, 32, 64), dtype=np.uint8))
    fails("masks of 64 x 32 pixels do not fit a video of 128 x 128", read_masks, tmp_path / "wide.npz", video)
    np.savez(tmp_path / "early.npz", masks=cover[:5], times=np.arange(5) / 30)
    fails("nothing for the frame at 0.2 s", read_masks, tmp_path / "early.npz", video)
    np.savez(tmp_path / "levels.npz", masks=cover * 2.5)
    fails("fractions are from 0 to 1", read_masks, tmp_path / "levels.npz", video)
    np.savez(tmp_path / "other.npz", mask=cover)
    fails("no array `masks` in it, only mask", read_masks, tmp_path / "other.npz", video)
    # A frame that is marked as saying nothing may be empty.
    kept.coverage[4], kept.valid[4] = 0, False
    assert read_masks(write_masks(tmp_path / "m.npz", kept), video).valid.tolist().index(False) == 2


# Tracks


@pytest.mark.parametrize(("noise", "quality", "worst", "usual"), [(0.0, None, 0.05, 0.02), (3.0, 20, 0.4, 0.07)])
def test_tracks_of_a_deforming_body(
    tmp_path: Path, noise: float, quality: int | None, worst: float, usual: float
) -> None:
    frames, masks, maps, back = deforming(24, noise=noise)
    if quality is not None:
        frames = list(open_video(write_clip(tmp_path / "d.mp4", frames, quality=quality)))
    points = choose_points(frames[0], masks[0], 25)
    tracks = follow(frames, np.arange(24) / 30, points, masks=masks)
    true = np.array([there(back(points)) for there in maps])
    error = tracks.xy - true
    assert len(points) == 25 and tracks.valid.all()
    assert np.linalg.norm(error, axis=2).max() < worst and np.sqrt((error**2).mean()) < usual
    # What is said of the error is right within a factor of two.
    assert tracks.error is not None
    assert 0.5 < np.sqrt(np.mean((error[1:] / tracks.error[1:, :, None]) ** 2)) < 2.0


def test_points_behind_something_are_lost() -> None:
    frames, true, _ = moving_disc([(40 + 2.5 * i, 64.0) for i in range(16)], noise=1.0)
    post = moving_disc([(0.0, 0.0)], seed=9)[0][0]
    for frame in frames:
        frame[:, 84:92] = post[:, 84:92]
    points = choose_points(frames[0], (255 * true[0]).astype(np.uint8), 20)
    tracks = follow(frames, np.arange(16) / 30, points)
    behind = np.nan_to_num(tracks.xy[..., 0], nan=0.0)
    assert not ((behind > 85) & (behind < 91)).any() and not tracks.valid[-1].all()
    shift = tracks.xy - points - np.stack([2.5 * np.arange(16), np.zeros(16)], axis=1)[:, None]
    assert np.nanmax(np.abs(shift)) < 1.0
    plain = np.full((64, 64, 3), 90, dtype=np.uint8)
    fails("it has no texture", choose_points, plain, (255 * disc(64, 64, 32, 32, 20)).astype(np.uint8), 10)
    fails("the mask of the first frame is empty", choose_points, plain, np.zeros((64, 64), np.uint8), 10)


def test_tracks_on_disk(tmp_path: Path, ball: tuple[Path, Array]) -> None:
    video = open_video(ball[0], begin=0.2)
    file = tmp_path / "t.npz"
    xy = np.stack([np.linspace(10, 90, 24)[:, None] + np.arange(3), np.full((24, 3), 40.0)], axis=2)
    valid = np.ones((24, 3), dtype=bool)
    valid[9:, 2] = False
    whole = PointTracks(
        np.arange(24) / 30, np.where(valid[..., None], xy, np.nan), valid, 0.1 + 0 * xy[..., 0], (128, 128)
    )
    got = read_tracks(write_tracks(file, whole), video)
    assert np.allclose(got.times, video.times) and np.allclose(got.xy[:3], xy[6:9]) and got.error is not None
    assert np.isnan(got.xy[3:, 2]).all() and got.valid[:, :2].all()
    # As learned trackers write: a leading axis of one, their own names, no times.
    np.savez(file, tracks=xy[None], visibility=valid[None])
    assert np.allclose(read_tracks(file, video).times, video.times)
    np.savez(file, tracks=xy, occluded=~valid)
    assert np.array_equal(read_tracks(file, video).valid, valid[6:])
    fails("the size of the pictures is not known", read_tracks, file)
    np.savez(file, xy=xy, size=np.array([128, 128]))
    fails("no `times` [s] in it", read_tracks, file)
    np.savez(file, xy=xy[:20])
    fails("20 frames, and the video has 24, of which 18 are used", read_tracks, file, video)
    np.savez(file, xy=xy.transpose(0, 2, 1))
    fails("xy has shape (24, 2, 3), expected (frames, points, 2)", read_tracks, file, video)
    np.savez(file, xy=xy, valid=valid.T)
    fails("It looks like (points, frames); transpose it", read_tracks, file, video)
    np.savez(file, xy=xy * 2)
    fails("lie outside the picture of 128 x 128 pixels, first point", read_tracks, file, video)
    np.savez(file, xy=xy / 128)
    fails("multiply by width and height", read_tracks, file, video)
    np.savez(file, xy=xy[..., ::-1], size=np.array([128, 60]), times=np.arange(24) / 30)
    fails("x (to the right) comes first", read_tracks, file)
    np.savez(file, xy=xy, size=np.array([256, 256]))
    fails("tracks of pictures of 256 x 256 pixels, and the video has 128 x 128", read_tracks, file, video)
    np.savez(file, xy=np.array([None, "x"], dtype=object))
    fails("holds what is no plain array", read_tracks, file, video)
    file.write_bytes(file.read_bytes()[:40])
    fails("cannot be read as .npz", read_tracks, file, video)


# Depth


def test_depth_images(tmp_path: Path) -> None:
    raw = np.full((3, 20, 30), 850, dtype=np.uint16)
    raw[:, :5] = 0
    folder = tmp_path / "depth"
    folder.mkdir()
    for i, image in enumerate(raw):
        Image.fromarray(image).save(folder / f"{i}.png")
    depth = read_depth(folder, unit="mm", fps=10.0, begin=0.1)
    assert np.allclose(depth.times, [0.1, 0.2]) and np.allclose(depth.depth[:, 5:], 0.85)
    assert np.isnan(depth.depth[:, :5]).all()
    fails("the median depth is 850 m with no unit, which means metres", read_depth, folder, fps=10.0)
    fails("Write `unit: mm`", read_depth, folder, fps=10.0)
    fails("add `fps`", read_depth, folder, unit="mm")
    fails("unit 'kg' is no length", read_depth, folder, unit="kg", fps=10.0)
    np.savez(tmp_path / "d.npz", depth=raw * 1e-3, times=np.array([0.0, 0.1, 0.3]))
    assert np.allclose(read_depth(tmp_path / "d.npz").depth[:, 5:], 0.85)
    fails("are metres already", read_depth, tmp_path / "d.npz", unit="mm")
    fails("no image between begin and end", read_depth, tmp_path / "d.npz", begin=4.0)
    Image.fromarray(np.zeros((20, 30), dtype=np.uint8)).save(folder / "0.png")
    fails("one channel of 16 bits, this one is of kind L", read_depth, folder, unit="mm", fps=10.0)
    np.savez(tmp_path / "d.npz", depth=0.0 * raw, times=np.arange(3))
    fails("no depth was measured in any pixel", read_depth, tmp_path / "d.npz")


# Commands


def test_commands(tmp_path: Path, ball: tuple[Path, Array], capsys: pytest.CaptureFixture[str]) -> None:
    clip = tmp_path / "ball.mp4"
    clip.write_bytes(ball[0].read_bytes())
    assert code(["mask", str(clip)]) == 0
    said = capsys.readouterr().out
    assert "24 frames of 128 x 128, 0.000 to 0.767 s, 30 per second" in said and "ball.masks.png" in said
    with Image.open(tmp_path / "ball.masks.png") as sheet:
        assert sheet.size[0] > 500
    assert code(["track", str(clip), "--points", "12", "--mask", str(tmp_path / "ball.masks.npz")]) == 0
    assert "12 points" in capsys.readouterr().out and (tmp_path / "ball.tracks.png").exists()
    tracks = read_tracks(tmp_path / "ball.tracks.npz", open_video(clip))
    assert tracks.count == 12 and tracks.lasting > 0.8
    assert code(["mask", str(tmp_path / "none.mp4")]) == 2
    assert "no such video file" in capsys.readouterr().err


def test_init_from_a_video(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ruamel.yaml import YAML

    from physim.scene.loader import load_scene

    # Free fall at 2.5 mm per pixel and 120 pictures per second, and a bounce.
    y, v, centers = 36.0, 0.0, []
    for i in range(40):
        centers.append((50.0 + 0.5 * i, y))
        for _ in range(10):
            v += 9.81 / 2.5e-3 / 1200
            y += v / 1200
            if y > 120 and v > 0:
                v = -0.6 * v
    frames, _, _ = moving_disc(centers, size=(160, 112), radius=22.0)
    clip = write_clip(tmp_path / "drop.mp4", frames, fps=120)
    assert code(["init", str(clip)]) == 0
    assert "from its fall" in capsys.readouterr().out
    text = (tmp_path / "drop.yaml").read_text()
    data = YAML(typ="safe").load(text)
    camera = data["cameras"]["front"]
    assert float(camera["side_view"]["scale"].split()[0]) == pytest.approx(2.5, rel=0.03)
    assert camera["size"] == [112, 160] and data["videos"]["clip"]["file"] == "drop.mp4"
    # A 55 mm ball; the rest of the scene is one that loads.
    assert float(data["bodies"]["body"]["shape"]["sphere"]["radius"].split()[0]) == pytest.approx(55, rel=0.05)
    for section in ("videos", "observe", "fit"):
        del data[section]
    with (tmp_path / "rest.yaml").open("w") as stream:
        YAML().dump(data, stream)
    assert load_scene(tmp_path / "rest.yaml").spec.bodies["body"].velocity[0] == pytest.approx(0.15, rel=0.1)
    assert code(["init", str(clip)]) == 2
    assert "--force" in capsys.readouterr().err
    assert code(["init", str(clip), "--out", str(tmp_path / "other" / "s.yaml")]) == 2
    assert "a scene reads only what lies beside it" in capsys.readouterr().err
    # A clip in which nothing moves still begins a scene.
    still = write_clip(tmp_path / "still.mp4", [frames[0]] * 6)
    assert code(["init", str(still)]) == 0
    assert "its place is a blank" in capsys.readouterr().err
