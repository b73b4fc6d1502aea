"""Clips on disk: films, empty pictures, tracks and depth images of a case."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from physim.view.footage import Window, track_video
from tools.clips.case import Case
from tools.clips.cases import SHIPPED
from tools.clips.draw import Pictures, draw
from tools.clips.film import write_film
from tools.clips.simulate import simulate

DEPTH_NOISE = 1e-3
"""Standard deviation of a measured depth [m]."""
POINTS = 30


def make(case: Case, folder: Path, *, seed: int = 0) -> Path:
    """Everything about a case, in `folder`/NAME; simulated and drawn once, and filmed with a seed.

    Returns:
        The folder of the films, `folder`/NAME/SEED.
    """
    drawn, frame = _drawn(case, folder / case.name)
    place = folder / case.name / str(seed)
    place.mkdir(parents=True, exist_ok=True)
    for k, (name, pictures) in enumerate(drawn.items()):
        film = place / f"{name}.mp4"
        empty = write_film(film, pictures, frame, seed=1000 * seed + k)
        if k == 0:
            write_depth(place / "depth.npz", pictures, frame, case.background, seed=seed)
            track_video(film, Window(None, None, None, 1), points=POINTS, out=place / "tracks.npz", background=empty)
    return place


def ship(folder: Path) -> Path:
    """The clip that comes with the scenes, and the place without the body."""
    drawn = draw(SHIPPED, motion := simulate(SHIPPED, SHIPPED.fine))
    (name, pictures), *_ = drawn.items()
    path = folder / f"{name}.mp4"
    write_film(path, pictures, motion.frame, seed=0)
    return path


def write_depth(path: Path, pictures: Pictures, frame: float, background: float, *, seed: int) -> None:
    """Depth images with noise; the background is a wall across the camera's axis."""
    rng = np.random.default_rng(seed)
    depth = np.where(np.isfinite(pictures.depth), pictures.depth, background)
    depth = depth + DEPTH_NOISE * rng.normal(size=depth.shape)
    np.savez_compressed(path, depth=depth.astype(np.float32), times=frame * np.arange(len(depth)))


def _drawn(case: Case, place: Path) -> tuple[dict[str, Pictures], float]:
    """The clean pictures; kept in a file."""
    place.mkdir(parents=True, exist_ok=True)
    kept = place / "clean.npz"
    text = case.text(case.fine)
    if not kept.exists() or _made_of(kept) != text:
        motion = simulate(case, case.fine)
        arrays = {
            f"{name}.{key}": getattr(pictures, key)
            for name, pictures in draw(case, motion).items()
            for key in ("color", "cover", "depth")
        }
        np.savez_compressed(kept, text=text, frame=motion.frame, **arrays)
    with np.load(kept, allow_pickle=False) as found:
        keys = ("color", "cover", "depth")
        return {n: Pictures(*(found[f"{n}.{k}"] for k in keys)) for n in case.eyes}, float(found["frame"])


def _made_of(kept: Path) -> str:
    """The scene that kept pictures are of."""
    with np.load(kept, allow_pickle=False) as found:
        return str(found["text"]) if "text" in found else ""
