"""Pictures and films of a folder that `physim run` left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from physim.errors import InputError
from physim.scene.build_space import domain, make_shape
from physim.scene.fields import padded
from physim.scene.loader import Scene, load_scene
from physim.scene.resolved import RESOLVED
from physim.scene.run import BODIES, FRAMES
from physim.view.recording import Obstacle, Recording, Stage
from physim.view.render import render_movie, render_picture

PICTURE = "picture.png"
FILM = "rollout.mp4"


def picture_of(folder: str | Path, out: str | Path | None = None, *, frame: int = -1, color: str = "speed") -> Path:
    """Draw one frame; returns the picture's path.

    Args:
        folder: a run folder.
        out: file to write; `picture.png` in the folder unless given.
        frame: which frame; the last unless given.
        color: `speed`, `J` or `body`.

    Raises:
        InputError: not a run folder, or no frame in it.
    """
    scene, recording = read_run(folder)
    path = Path(out) if out is not None else Path(folder) / PICTURE
    return render_picture(recording, path, stage=stage_of(scene, recording), frame=frame, color=color)


def film_of(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    color: str = "speed",
    fps: float = 30.0,
    playback: float | None = None,
) -> Path:
    """Draw all frames as mp4; returns the film's path.

    Args:
        folder: a run folder.
        out: file to write; `rollout.mp4` in the folder unless given.
        color: `speed`, `J` or `body`.
        fps: pictures per second.
        playback: simulated seconds per second of film; every saved frame once unless given.
    """
    scene, recording = read_run(folder)
    path = Path(out) if out is not None else Path(folder) / FILM
    return render_movie(recording, path, stage=stage_of(scene, recording), fps=fps, playback=playback, color=color)


def read_run(folder: str | Path) -> tuple[Scene, Recording]:
    """The resolved scene and the frames of a run folder.

    Raises:
        InputError: not a run folder, or no frame in it.
    """
    from safetensors.numpy import load_file

    folder = Path(folder)
    if not (folder / RESOLVED).is_file():
        raise InputError(f"{folder}: not a run folder: it has no {RESOLVED}. `physim run` makes one.")
    files = sorted((folder / FRAMES).glob("*.safetensors"))
    if not files:
        raise InputError(f"{folder}: there are no frames in {FRAMES}/.")
    frames = [load_file(f) for f in files]
    bodies = load_file(folder / BODIES)
    scene = load_scene(folder / RESOLVED)
    recording = Recording(
        np.stack([f["x"] for f in frames]),
        [float(f["t"][0]) for f in frames],
        {
            "speed": np.stack([np.linalg.norm(f["v"], axis=1) for f in frames]),
            "J": np.stack([f["J"] for f in frames]),
            "body": bodies["body"],
        },
        {"body": ", ".join(scene.spec.bodies)},
        spacing=float(bodies["spacing"].min()),
    )
    return scene, recording


def stage_of(scene: Scene, recording: Recording) -> Stage:
    """The surroundings of a scene: domain, direction up, colliders where they are in each frame."""
    spec = scene.spec
    lower, upper = domain(spec) if spec.grid is not None and spec.grid.origin is not None else (None, None)
    gravity = np.array(padded(spec.gravity))
    up = -gravity / np.linalg.norm(gravity) if np.linalg.norm(gravity) > 0 else np.array([0.0, 1.0, 0.0])
    obstacles = [_obstacle(name, scene, recording) for name in spec.colliders]
    return Stage(lower, upper, tuple(up), spec.dim, obstacles)


def _obstacle(name: str, scene: Scene, recording: Recording) -> Obstacle:
    """A collider with its pose in each frame, relative to where it starts."""
    from physim.scene.build_space import collider_of
    from physim.shapes.shape import rotation_matrix

    part = scene.spec.colliders[name]
    collider = collider_of(name, part, None)
    begin = np.array(collider.position)
    poses = []
    for t in recording.times:
        at, _ = collider.motion(float(t))
        turn = rotation_matrix(np.array(collider.spin) * float(t))
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = turn, at - turn @ begin
        poses.append(pose)
    shape: Any = make_shape(part)
    return Obstacle(shape, np.stack(poses))
