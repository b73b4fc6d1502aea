"""Stages of a fit to pictures, where the scene names none: place, flight, a blurred look, a sharp one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from physim.errors import InputError
from physim.observe.camera import PixelCamera
from physim.observe.flight import free_flight, mask_center
from physim.scene.cameras import make_cameras
from physim.scene.fields import padded
from physim.scene.loader import Scene
from physim.scene.spec_fit import StagePart
from physim.scene.track_file import read_tracks
from physim.scene.video_part import film_of, masks_of, scene_times

Array = np.ndarray[Any, np.dtype[np.float64]]

BLUR = 0.075
"""Width of the first look over the size of the reduced picture: outlines that lie apart still touch."""
LIGHT = 1e-6
"""Weight of what a blurred look leaves out."""
OUTLINES = ("silhouette", "overlap", "colour")
FEWEST = 4
"""Frames before the first contact from which velocities are found on their own."""
SURE = 0.8
"""Share of it that is surely before the contact, which begins before it is seen."""
FIRST = 0.3
"""Share of the record after the flight that is fitted before all of it: what swings is not yet a period off."""
ITERATIONS = 8
"""Of a stage that only leads to the next one."""
ROUGH = 0.02
"""Where such a stage stops, in raw units."""


class Way(NamedTuple):
    """What a film shows of a body's motion.

    Attributes:
        times: since the scene's start [s], (f,).
        centers: of what is seen [px], (f, 2).
        fall: what gravity does in the picture [px/s^2], (2,), or None where that is not known.
    """

    times: Array
    centers: Array
    fall: Array | None


def video_stages(scene: Scene) -> tuple[StagePart, ...]:
    """Stages for a scene whose records are videos.

    Shapes and places are found on the first frame alone; velocities on the frames before the motion first differs
    from a free flight. They then stay as they are, because contact, which no grid resolves fully, would pull at them;
    intervals know of them all the same. A body that stands on something from the start has no such stage. What is
    left is found on outlines blurred so that a start far away sees its way, first on the first part of the record, and
    at last on outlines as they are. In a single picture the material comes first, and then all.
    """
    assert scene.spec.fit is not None
    names = tuple(scene.spec.fit.parameters)
    place = tuple(n for n in names if n.startswith("placement.") or (n.startswith("bodies.") and ".shape." in n))
    speed = tuple(n for n in names if n.startswith("bodies.") and n not in place)
    pictures = [(n, part) for n, part in scene.spec.observe.items() if part.kind in OUTLINES]
    blurred = {f"observe.{n}.blur": round(BLUR * getattr(part, "size", 0), 6) for n, part in pictures}
    if blurred:
        # Depth jumps at an outline that is not yet where it should be; the outline alone tells the way.
        blurred |= {f"observe.{n}.weight": LIGHT for n, part in scene.spec.observe.items() if part.kind == "depth"}
    films, stages = list(_ways(scene)), []
    if films and all(len(way.times) == 1 for way in films):
        # In one picture a soft body looks like a tilted one: the place must be free while the material is.
        rest = tuple(n for n in names if n not in place)
        alone = StagePart(name="material", parameters=rest, set=blurred, iterations=ITERATIONS, tolerance=ROUGH)
        return (alone, StagePart(name="sharp")) if place and rest else (StagePart(name="sharp"),)
    if place and films:
        first = max(float(way.times[0]) for way in films)
        stages.append(StagePart(name="place", parameters=place, end=first, iterations=ITERATIONS))
    flown = _flown(films) if speed else None
    if flown is not None:
        early: dict[str, Any] = {"parameters": speed, "end": flown, "iterations": ITERATIONS}
        if blurred:
            stages.append(StagePart(name="flight, blurred", set=blurred, tolerance=ROUGH, **early))
        stages.append(StagePart(name="flight", **early))
    done = {n for stage in stages for n in stage.parameters}
    moving = tuple(n for n in names if n not in done)
    rough: dict[str, Any] = {"parameters": moving, "set": blurred, "iterations": ITERATIONS, "tolerance": ROUGH}
    if moving and films:
        begin = flown if flown is not None else min(float(way.times[0]) for way in films)
        end = begin + FIRST * (max(float(way.times[-1]) for way in films) - begin)
        stages.append(StagePart(name="first part", end=end, **rough))
    if moving and blurred:
        stages.append(StagePart(name="blurred", **rough))
    if moving or not stages:
        stages.append(StagePart(name="sharp", parameters=moving))
    return tuple(stages)


def _ways(scene: Scene) -> Iterator[Way]:
    """What each compared film shows of the motion."""
    cameras = make_cameras(scene)
    for part in scene.spec.observe.values():
        if part.kind not in (*OUTLINES, "image_tracks", "depth"):
            continue
        video = scene.spec.videos[str(part.video)]
        camera = cameras[video.camera]
        if part.kind == "image_tracks":
            tracks = read_tracks(Path(str(part.file)), film_of(scene, str(part.video), None))
            kept = np.asarray(tracks.valid).all(axis=0)
            if not kept.any():
                continue
            times, centers = tracks.times, np.asarray(tracks.xy)[:, kept].mean(axis=1)
        else:
            masks = masks_of(scene, str(part.video)).masks
            times, centers = masks.times[masks.valid], np.array([mask_center(m) for m in masks.coverage[masks.valid]])
            camera = camera.scaled(masks.coverage.shape[2], masks.coverage.shape[1])
        at = scene_times(video, times).numpy()
        yield Way(at[at >= 0.0], centers[at >= 0.0], _fall(scene, camera))


def _fall(scene: Scene, camera: PixelCamera) -> Array | None:
    """What gravity does in a picture [px/s^2], (2,), to something in the middle of the grid."""
    grid = scene.spec.grid
    if grid is None or grid.origin is None or grid.upper is None:
        return None
    ends = torch.tensor([padded(grid.origin), padded(grid.upper)], dtype=torch.float64)
    gravity = torch.tensor(padded(scene.spec.gravity), dtype=torch.float64)
    try:
        slope = torch.autograd.functional.jacobian(lambda x: camera.project(x)[0], ends.mean(dim=0))
    except InputError:  # behind the camera, which is told where the scene is built
        return None
    assert isinstance(slope, torch.Tensor)
    return (slope @ gravity).numpy()


def _flown(films: Sequence[Way]) -> float | None:
    """Until when all motions are surely a free flight [s]; None where one stands, or too few frames come before."""
    counts = [(way.times, free_flight(*way)[0]) for way in films if len(way.times) >= FEWEST]
    if any(n == 0 for _, n in counts):
        return None
    ends = (float(times[0] + SURE * (times[n - 1] - times[0])) for times, n in counts if n >= FEWEST)
    return min(ends, default=None)
