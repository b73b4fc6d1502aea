"""Broken inputs of scenes that are compared with a video: each writes its files into a folder, and reads the scene.

The clip is a square that falls in front of a plain background, 64 x 64 pixels, eight frames.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIZE, FRAMES, FPS = 64, 8, 50
SCENE = """\
title: A block falls
dim: 2
grid: {origin: [0, 0], upper: [0.32, 0.32], dx: 2 cm}
gravity: [0, -9.81]
time: {duration: 0.14 s, frame: 20 ms}
cameras:
  side: {size: [64, 64], side_view: {scale: 5 mm, center: [0.16, 0.16, 0]}}
videos:
  clip: {file: clip.mp4, camera: side, mask: {pictures: masks}}
materials:
  gel: {law: neo_hookean, E: 20 kPa, nu: 0.3, density: 1000 kg/m^3}
bodies:
  block: {shape: {box: {lower: [0.12, 0.2], upper: [0.2, 0.28]}}, material: gel}
walls: {y_min: slip}
observe:
  seen: {kind: silhouette, video: clip}
fit:
  parameters:
    materials.gel.E: {bounds: [1 kPa, 1 MPa]}
"""
SOLID = (
    SCENE.replace("dim: 2", "dim: 3")
    .replace("origin: [0, 0], upper: [0.32, 0.32]", "origin: [0, 0, 0], upper: [0.32, 0.32, 0.32]")
    .replace("gravity: [0, -9.81]", "gravity: [0, -9.81, 0]")
    .replace("box: {lower: [0.12, 0.2], upper: [0.2, 0.28]}", "box: {lower: [0.12, 0.2, 0], upper: [0.2, 0.28, 0.08]}")
)
LENS = "look: {from: [0.16, 0.16, 0.44], at: [0.16, 0.16, 0], field_of_view: 40 deg}"
CUBE = "box: {lower: [0.12, 0.2, 0], upper: [0.2, 0.28, 0.08]}"
SEEN = "{kind: silhouette, video: clip}"
TRACKS = "{kind: image_tracks, video: clip, file: tracks.npz}"
DEPTH = "{kind: depth, video: clip, file: depth.npz, background: 1 m}"
CLOUD = "{kind: cloud, file: cloud.npz}"
CLIP = "file: clip.mp4, camera: side, mask: {pictures: masks}"
COVERED = 255


def squares() -> np.ndarray[Any, Any]:
    """True masks of the falling square, (frames, 64, 64) uint8."""
    found = np.zeros((FRAMES, SIZE, SIZE), dtype=np.uint8)
    for i in range(FRAMES):
        top = 8 + round(0.5 * 9.81 * (i / FPS) ** 2 / 5e-3)
        found[i, top : top + 16, 24:40] = COVERED
    return found


def write_pictures(folder: Path, pictures: Any) -> None:
    """Write pictures as 00.png, 01.png, ..."""
    from PIL import Image

    folder.mkdir(exist_ok=True)
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{i:02d}.png")


def write_film(path: Path, pictures: Any, stamps: list[int] | None = None) -> None:
    """Write pictures as a film; `stamps` are their times in thousandths of a second."""
    from fractions import Fraction

    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=FPS)
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        container.start_encoding()
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.repeat(100 + picture[..., None] // 3, 3, axis=2), format="rgb24")
            for packet in stream.encode(frame):
                if stamps is not None:
                    packet.pts = packet.dts = stamps[i]
                    packet.time_base = Fraction(1, 1000)
                container.mux(packet)
        container.mux(stream.encode())


def write_inputs(folder: Path) -> None:
    """Everything that a sound scene needs: a clip, masks, tracks, depth images, a cloud and a mesh."""
    found = squares()
    write_film(folder / "clip.mp4", found)
    write_pictures(folder / "masks", found)
    times = np.arange(FRAMES) / FPS
    fall = 0.5 * 9.81 * times**2 / 5e-3
    start = np.array([[27.0, 11.0], [36.0, 11.0], [27.0, 20.0], [36.0, 20.0], [31.0, 15.0]])
    xy = start[None] + np.stack([0 * fall, fall], axis=1)[:, None]
    np.savez(folder / "tracks.npz", xy=xy, times=times)
    np.savez(folder / "depth.npz", depth=np.where(found > 0, 0.36, 1.0), times=times)
    points = np.random.default_rng(0).uniform([0.12, 0.2, 0.0], [0.2, 0.28, 0.0], size=(FRAMES, 30, 3))
    np.savez(folder / "cloud.npz", points=points, times=times)


def write_mesh(folder: Path, unit: float) -> None:
    """The block as a mesh, its corners in units of so many metres."""
    import trimesh

    box = trimesh.creation.box(bounds=np.array([[0.12, 0.2, 0.0], [0.2, 0.28, 0.08]]) / unit)
    box.export(folder / "block.stl")


def read(folder: Path, text: str) -> None:
    """Load a scene, build it, and make what is compared with its videos; warnings as warnings."""
    from physim.scene.build import build
    from physim.scene.build_video import picture_observations
    from physim.scene.loader import load_scene
    from physim.scene.video_views import video_doubts

    path = folder / "clip.yaml"
    path.write_text(text)
    scene = load_scene(path)
    built = build(scene)
    picture_observations(built)
    for told in (*built.warnings, *video_doubts(scene)):
        warnings.warn(told, stacklevel=2)


def edited(old: str, new: str, scene: str = SCENE) -> Callable[[Path], None]:
    """A case that changes one place of the scene."""
    assert old in scene, old

    def case(folder: Path) -> None:
        write_inputs(folder)
        read(folder, scene.replace(old, new, 1))

    return case


def spoilt(
    spoil: Callable[[Path], Any], observe: str = SEEN, *, clip: str = CLIP, scene: str = SCENE
) -> Callable[[Path], None]:
    """A case that changes a file that the scene names.

    Args:
        spoil: changes it, in a folder of sound inputs.
        observe: what is observed.
        clip: the video's entries.
        scene: that is read.
    """

    def case(folder: Path) -> None:
        write_inputs(folder)
        spoil(folder)
        read(folder, scene.replace(SEEN, observe).replace(CLIP, clip))

    return case


def meshed(unit: float, scale: str) -> Callable[[Path], None]:
    """A case with a mesh in some unit, read in another."""

    def case(folder: Path) -> None:
        write_inputs(folder)
        write_mesh(folder, unit)
        mesh = f"mesh: {{file: block.stl, scale: {scale}}}"
        read(folder, SOLID.replace("{" + CUBE + "}", f"{{{mesh}}}"))

    return case


def arrays(folder: Path, name: str, **changed: Any) -> None:
    """Change some arrays of an .npz; None takes one out."""
    with np.load(folder / name) as file:
        found = dict(file) | changed
    np.savez(folder / name, **{k: v for k, v in found.items() if v is not None})


def truncated(folder: Path) -> None:
    """The first half of a film."""
    path = folder / "clip.mp4"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty_masks(folder: Path, frames: range) -> None:
    """Masks of some frames made black."""
    found = squares()
    found[list(frames)] = 0
    write_pictures(folder / "masks", found)


def unequal(folder: Path) -> None:
    """A folder with pictures of two sizes."""
    pictures = [np.repeat(100 + p[..., None] // 3, 3, axis=2) for p in squares()]
    write_pictures(folder / "frames", [*pictures[:3], pictures[3][:50, :50], *pictures[4:]])


def objects(folder: Path) -> None:
    """Tracks as pickled Python objects."""
    np.savez(folder / "tracks.npz", xy=np.array([{"frame": 0}, None], dtype=object))


PICTURES = "pictures: frames, fps: 50, camera: side, mask: {pictures: masks}"
FOLDER = "pictures: masks, camera: side, mask: {pictures: masks}"
DRAWN = "file: clip.mp4, camera: side, mask: {file: masks.npz}"
CASES: dict[str, Callable[[Path], None]] = {
    "not a video": spoilt(lambda f: (f / "clip.mp4").write_text("a clip")),
    "a video that was cut short": spoilt(truncated),
    "a video without frames": spoilt(lambda f: write_film(f / "clip.mp4", [])),
    "a missing video": edited("file: clip.mp4", "file: clib.mp4"),
    "a path out of the scene's folder": edited("file: clip.mp4", "file: ../clip.mp4"),
    "a folder of pictures without fps": spoilt(lambda f: None, clip=FOLDER),
    "pictures of different sizes": spoilt(unequal, clip=PICTURES.replace("mask: {pictures: masks}", "mask: {}")),
    "two frames at one time": spoilt(
        lambda f: write_film(f / "clip.mkv", squares(), [0, 20, 40, 40, 80, 100, 120, 140]),
        clip="file: clip.mkv, camera: side, mask: {pictures: masks}",
    ),
    "begin after the end of the video": edited("camera: side", "begin: 9 s, camera: side"),
    "an empty window": edited("camera: side", "begin: 0.1 s, end: 0.05 s, camera: side"),
    "misspelt camera": edited("camera: side", "camera: sied"),
    "misspelt video": edited("video: clip", "video: clib"),
    "misspelt body": edited("video: clip}", "video: clip, body: blok}"),
    "misspelt kind": edited("kind: silhouette", "kind: siluette"),
    "camera that looks away": edited(
        "side_view: {scale: 5 mm, center: [0.16, 0.16, 0]}",
        "look: {from: [0.16, 0.16, 1], at: [0.16, 0.16, 2], field_of_view: 40 deg}",
        SOLID,
    ),
    "mask empty in one frame": spoilt(lambda f: empty_masks(f, range(3, 4))),
    "mask empty in all frames": spoilt(lambda f: empty_masks(f, range(FRAMES))),
    "mask of another size": spoilt(lambda f: np.savez(f / "masks.npz", masks=squares()[:, :40]), clip=DRAWN),
    "masks of another video": spoilt(lambda f: np.savez(f / "masks.npz", masks=squares()[:5]), clip=DRAWN),
    "masks with equal times": spoilt(
        lambda f: np.savez(f / "masks.npz", masks=squares(), times=[0, 0.02, 0.02, 0.06, 0.08, 0.1, 0.12, 0.14]),
        clip=DRAWN,
    ),
    "a body that does not move, without a background": spoilt(
        lambda f: write_film(f / "clip.mp4", squares()[:1].repeat(FRAMES, axis=0)), clip="file: clip.mp4, camera: side"
    ),
    "mesh in millimetres read as metres": meshed(1e-3, "1 m"),
    "mesh in metres read as millimetres": meshed(1.0, "1 mm"),
    "tracks outside the picture": spoilt(lambda f: arrays(f, "tracks.npz", xy=np.full((FRAMES, 5, 2), 300.0)), TRACKS),
    "tracks beside the body": spoilt(lambda f: arrays(f, "tracks.npz", xy=np.full((FRAMES, 5, 2), 3.0)), TRACKS),
    "tracks of another video": spoilt(
        lambda f: arrays(f, "tracks.npz", xy=np.full((20, 5, 2), 30.0), times=None), TRACKS
    ),
    "tracks of another video, with times": spoilt(
        lambda f: arrays(f, "tracks.npz", xy=np.full((20, 5, 2), 30.0), times=np.arange(20) / 30), TRACKS
    ),
    "tracks that are NaN everywhere": spoilt(
        lambda f: arrays(f, "tracks.npz", xy=np.full((FRAMES, 5, 2), np.nan)), TRACKS
    ),
    "tracks with pickled objects": spoilt(objects, TRACKS),
    "misspelt file of tracks": edited(SEEN, TRACKS.replace("tracks.npz", "track.npz")),
    "depth in millimetres": spoilt(
        lambda f: arrays(f, "depth.npz", depth=np.where(squares() > 0, 360.0, 1000.0)), DEPTH
    ),
    "depth in centimetres": spoilt(
        lambda f: arrays(f, "depth.npz", depth=np.where(squares() > 0, 36.0, 45.0)),
        DEPTH,
        scene=SOLID.replace("side_view: {scale: 5 mm, center: [0.16, 0.16, 0]}", LENS),
    ),
    "depth with a unit of no length": edited(SEEN, DEPTH.replace("background", "unit: kg, background")),
    "a cloud in millimetres": spoilt(lambda f: arrays(f, "cloud.npz", points=200.0 * np.ones((FRAMES, 30, 3))), CLOUD),
    "a cloud without times": spoilt(lambda f: arrays(f, "cloud.npz", times=None), CLOUD),
    "an unknown delay": edited("materials.gel.E: {", "videos.clib.delay: {}\n    materials.gel.E: {"),
}
