"""Recordings to pictures: one camera, one colour range, captions; VTK where it works, matplotlib elsewhere."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from physim.errors import InputError
from physim.shapes.shape import Array
from physim.view.camera import Camera, fit_camera
from physim.view.coloring import color_by
from physim.view.files import Image, write_mp4, write_png
from physim.view.ground import Ground, ground_under
from physim.view.overlay import annotate
from physim.view.painter_matplotlib import PainterMatplotlib
from physim.view.painter_pyvista import OffscreenError, PainterPyVista
from physim.view.progress import track
from physim.view.recording import Obstacle, Recording, Stage

# A domain wider than this many times the particles' sweep would leave them tiny.
_DOMAIN_SHARE = 2.5


class Backend(Enum):
    """Who draws."""

    AUTO = "auto"
    """VTK; matplotlib, with a warning, where VTK cannot draw."""
    PYVISTA = "pyvista"
    MATPLOTLIB = "matplotlib"


def render_frames(recording: Recording, stage: Stage | None = None, **options: Any) -> list[Image]:
    """All pictures of a recording, (H, W, 3) uint8 each; options as for `stream_frames`."""
    return list(stream_frames(recording, stage, **options))


def stream_frames(
    recording: Recording,
    stage: Stage | None = None,
    *,
    color: str | None = None,
    limits: tuple[float, float] | None = None,
    camera: Camera | None = None,
    size: tuple[int, int] = (1280, 720),
    frames: Sequence[int] | None = None,
    title: str | None = None,
    captions: bool = True,
    backend: Backend = Backend.AUTO,
    show_progress: bool = True,
) -> Iterator[Image]:
    """Draw pictures one at a time, so that a long video needs no memory.

    Args:
        recording: particles over time.
        stage: domain, colliders, direction up; guessed from the particles unless given.
        color: scalar or colour, see `color_by`.
        limits: ends of the colour range, in SI.
        camera: where from; shows everything unless given.
        size: width and height [pixels].
        frames: indices of the frames to draw; all unless given.
        title: caption at the top left.
        captions: whether to write time, legend and scale.
        backend: who draws.
        show_progress: whether to show a bar after two seconds.

    Yields:
        Pictures, (H, W, 3) uint8.

    Raises:
        InputError: a colour, size or frame that does not exist.
        OffscreenError: VTK was asked for by name and cannot draw here.
    """
    stage = stage or Stage()
    width, height = (int(s) for s in size)
    if min(width, height) < 16:
        raise InputError(f"picture size {size!r} is not allowed; give width and height of at least 16 pixels.")
    chosen = list(range(len(recording.frames))) if frames is None else [int(k) for k in frames]
    outside = [k for k in chosen if not -len(recording.frames) <= k < len(recording.frames)]
    if outside:
        raise InputError(f"frame {outside[0]} does not exist; the recording has {len(recording.frames)}.")
    coloring = color_by(recording, color, limits)
    dim = stage.dim or (2 if recording.planar else 3)
    bounds = _view_bounds(recording, stage, dim)
    camera = camera or fit_camera(bounds, up=stage.up, dim=dim, aspect=width / height)
    scene = {
        "size": (width, height),
        "camera": camera,
        "dim": dim,
        "bounds": _padded(bounds),
        "domain": stage.domain,
        "obstacles": tuple(stage.obstacles),
        "ground": _ground(recording, stage, bounds) if dim == 3 and stage.floor else None,
        "spacing": float(recording.spacing or 0.0),
    }
    painter, first = _painter(backend, scene, recording, coloring.of, chosen)
    scale = height / camera.height if camera.height is not None and captions else None
    timed = captions and len(recording.frames) > 1
    try:
        for k in track(chosen, "drawing", show=show_progress):
            image = first if first is not None else painter.draw(recording.frames[k], coloring.of(k), k)
            first = None
            note = f"t = {_seconds(float(recording.times[k]), recording.times)}" if timed else None
            legend = coloring.legend if captions else None
            yield annotate(image, title=title, note=note, legend=legend, pixels_per_metre=scale)
    finally:
        painter.close()


def render_picture(
    positions: Any,
    path: str | Path,
    *,
    stage: Stage | None = None,
    frame: int = -1,
    scalars: dict[str, Any] | None = None,
    **options: Any,
) -> Path:
    """Write one picture as PNG.

    Args:
        positions: positions [m], (n, 3), or a `Recording`.
        path: file name.
        stage: domain, colliders, direction up.
        frame: which frame of a recording.
        scalars: values per particle, (n,), where `positions` is an array.
        **options: as for `stream_frames`.
    """
    recording = positions if isinstance(positions, Recording) else Recording(positions, scalars=scalars or {})
    (picture,) = stream_frames(recording, stage, frames=[frame], show_progress=False, **options)
    return write_png(path, picture)


def render_movie(
    recording: Recording,
    path: str | Path,
    *,
    stage: Stage | None = None,
    fps: float = 30.0,
    playback: float | None = None,
    show_progress: bool = True,
    **options: Any,
) -> Path:
    """Write a recording as mp4.

    Args:
        recording: particles over time.
        path: file name, ending in .mp4.
        stage: domain, colliders, direction up.
        fps: pictures per second.
        playback: simulated seconds per second of video, by repeating or leaving out saved frames; each saved
            frame is shown once unless given.
        show_progress: whether to show a bar after two seconds.
        **options: as for `stream_frames`.
    """
    chosen = None if playback is None else recording.at_rate(fps, playback)
    total = len(recording.frames) if chosen is None else len(chosen)
    pictures = stream_frames(recording, stage, frames=chosen, show_progress=False, **options)
    return write_mp4(path, pictures, fps, total=total, show_progress=show_progress)


def _painter(
    backend: Backend, scene: dict[str, Any], recording: Recording, colors: Any, chosen: list[int]
) -> tuple[Any, Image | None]:
    """A painter that works: VTK counts as working only once it has drawn the first picture."""
    if backend is Backend.MATPLOTLIB or not chosen:
        return PainterMatplotlib(**scene), None
    painter = None
    try:
        painter = PainterPyVista(**scene)
        return painter, painter.draw(recording.frames[chosen[0]], colors(chosen[0]), chosen[0])
    except OffscreenError as error:
        if painter is not None:
            painter.close()
        if backend is Backend.PYVISTA:
            raise
        warnings.warn(
            f"{error} Drawing simpler pictures with matplotlib instead. For the full ones, install an OpenGL "
            "library (Debian or Ubuntu: apt install libgl1 libegl1 libosmesa6).",
            UserWarning,
            stacklevel=4,
        )
        return PainterMatplotlib(**scene), None


def _view_bounds(recording: Recording, stage: Stage, dim: int) -> Array:
    """What the picture must show [m], (2, 3): all particles, and the domain unless it dwarfs them."""
    low, high = recording.bounds
    pad = float(recording.spacing or 0.0)
    low, high = low - pad, high + pad
    domain = stage.domain
    if domain is not None:
        axes = slice(0, dim)
        wide = float(np.linalg.norm((domain[1] - domain[0])[axes]))
        if wide <= _DOMAIN_SHARE * float(np.linalg.norm((high - low)[axes])):
            low[axes], high[axes] = np.minimum(low, domain[0])[axes], np.maximum(high, domain[1])[axes]
    for obstacle in stage.obstacles:
        box = obstacle.shape.bounds
        # Colliders beside the particles belong in the picture; walls much larger than the scene do not.
        if np.isfinite(box).all() and np.linalg.norm(box[1] - box[0]) <= _DOMAIN_SHARE * np.linalg.norm(high - low):
            low, high = _with_obstacle(obstacle, box, low, high, dim)
    return np.stack([low, high])


def _with_obstacle(obstacle: Obstacle, box: Array, low: Array, high: Array, dim: int) -> tuple[Array, Array]:
    corners = np.array([[x, y, z] for x in box[:, 0] for y in box[:, 1] for z in box[:, 2]])
    if obstacle.poses is not None:
        poses = np.asarray(obstacle.poses, dtype=float)
        if poses.ndim != 3 or poses.shape[1:] != (4, 4):
            raise InputError(f"obstacle poses: expected shape (T, 4, 4), got {poses.shape}.")
        corners = (np.einsum("tij,kj->tki", poses[:, :3, :3], corners) + poses[:, None, :3, 3]).reshape(-1, 3)
    low, high = low.copy(), high.copy()
    low[:dim] = np.minimum(low, corners.min(axis=0))[:dim]
    high[:dim] = np.maximum(high, corners.max(axis=0))[:dim]
    return low, high


def _padded(bounds: Array) -> Array:
    """The view's box with room for planes and walls that run out of the picture."""
    extent = float((bounds[1] - bounds[0]).max())
    return np.stack([bounds[0] - extent, bounds[1] + extent])


def _ground(recording: Recording, stage: Stage, bounds: Array) -> Ground:
    """A sheet at the bottom of the domain, else just below the lowest particle."""
    up = np.asarray(stage.up, dtype=np.float64) / np.linalg.norm(stage.up)
    level = float((recording.frames @ up).min()) - 0.6 * float(recording.spacing or 0.0)
    if stage.domain is not None:
        corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=float)
        low, high = stage.domain
        level = min(level, float(((low + corners * (high - low)) @ up).min()))
    return ground_under(bounds, level, up)


def _seconds(time: float, times: Array) -> str:
    """A time with the digits that the spacing of the frames calls for."""
    step = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    digits = int(np.clip(np.ceil(-np.log10(max(step, 1e-9))), 0, 6))
    return f"{time:.{digits}f} s"
