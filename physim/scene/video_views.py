"""Videos of a scene: their frames and masks, and the part of the picture in which the body moves."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from physim.observe.camera import PixelCamera
from physim.observe.reduce import Size
from physim.scene.built import Built
from physim.scene.document import Key
from physim.scene.loader import Scene
from physim.scene.problems import Problem
from physim.scene.video_part import COVERED, blamed, masks_of, scene_times

MARGIN = 0.25
"""Free share on each side of where the body moves, in a reduced picture."""
SURE = 10.0
"""A body so many times larger or smaller than its outline in the first frame is of another unit, not badly placed."""
FIRST_FRAME = ("image_tracks", "colour")
"""Kinds of observations that are bound to the body in the first frame."""


@dataclasses.dataclass(frozen=True)
class View:
    """The part of a video's picture in which the body moves, and its masks there.

    Attributes:
        camera: of that part.
        times: of the frames with a mask, in the scene [s], (m,).
        masks: coverage, (m, h, w) uint8.
        size: width and height of the reduced picture [px].
        box: left, top, right, bottom [px of the masks].
    """

    camera: PixelCamera
    times: Tensor
    masks: np.ndarray[Any, Any]
    size: Size
    box: tuple[int, int, int, int]


def delay_of(scene: Scene, part: Any) -> float:
    """What is added to the times of an observation [s]: its own delay and that of its video."""
    return part.delay + (scene.spec.videos[part.video].delay if getattr(part, "video", None) else 0.0)


def video_doubts(scene: Scene) -> list[str]:
    """What is allowed and may not be meant: frames without a mask, fitted delays of what is bound without them."""
    told = []
    masked = [str(getattr(p, "video", None)) for p in scene.spec.observe.values() if hasattr(p, "size")]
    for name in dict.fromkeys(masked):
        found = masks_of(scene, name).masks
        left = np.flatnonzero(~found.valid)
        if len(left):
            frames = ", ".join(f"{t:.4g}" for t in found.times[left[:5]]) + (", ..." if len(left) > 5 else "")
            path = ("videos", name, "mask")
            what = (
                f"{len(left)} of {len(found.valid)} frames show no body and are left out, at {frames} s of the video. "
                "If they do show it, draw their masks, or give a background; if not, set `begin` and `end` around it"
            )
            told.append(str(Problem(scene.where(path), path, what)))
    return told + _delay_doubts(scene)


def _delay_doubts(scene: Scene) -> list[str]:
    """What is bound to the body in the first frame, and does not follow a delay that is fitted."""
    told = []
    fitted = scene.spec.fit.parameters if scene.spec.fit is not None else {}
    for name, part in scene.spec.observe.items():
        paths = [f"observe.{name}.delay", f"videos.{getattr(part, 'video', None)}.delay"]
        freed = next((p for p in paths if p in fitted), None)
        if part.kind in FIRST_FRAME and freed is not None:
            path = ("observe", name)
            what = (
                f"it is bound to the body in the first frame, with the delay that the scene states; {freed} is fitted "
                "and moves the body there. Fit the delay to a silhouette or to depth first, and write it down"
            )
            told.append(str(Problem(scene.where(path), path, what)))
    return told


def view_of(built: Built, video: str, size: int, body: str | None = None) -> View:
    """The masks of a video where the body moves, at most `size` pixels long once reduced.

    Raises:
        SceneError: the video cannot be read, shows no body, or another one than the camera sees.
    """
    part = built.scene.spec.videos[video]
    found = masks_of(built.scene, video).masks
    h, w = found.coverage.shape[1:]
    camera = built.cameras[part.camera].scaled(w, h)
    check_seen(built, camera, video, body)
    seen = found.coverage[found.valid] > COVERED
    times = scene_times(part, found.times[found.valid])
    if found.valid[0]:
        _check_size(built, camera, video, body, seen[0])
    left, top, right, bottom = box = _margined(np.any(seen, axis=0), (w, h))
    width, height = right - left, bottom - top
    cut = dataclasses.replace(camera, cx=camera.cx - left, cy=camera.cy - top, width=width, height=height)
    share = min(1.0, size / max(width, height))
    reduced = max(1, round(width * share)), max(1, round(height * share))
    return View(cut, times, found.coverage[found.valid, top:bottom, left:right], reduced, box)


def check_seen(built: Built, camera: PixelCamera, video: str, body: str | None) -> None:
    """Raise `SceneError` where a camera has some of the body behind it: nothing can be compared then."""
    if camera.parallel:
        return
    path = ("cameras", built.scene.spec.videos[video].camera)
    with blamed(built.scene, path):
        camera.project(built.x0[built.rows(body)])


def _check_size(built: Built, camera: PixelCamera, video: str, body: str | None, mask: np.ndarray[Any, Any]) -> None:
    """Raise `SceneError` where the body and its outline in the first frame are of different orders of size."""
    u, _ = camera.project(built.x0[built.rows(body)])
    mine = float((u.amax(dim=0) - u.amin(dim=0)).max())
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return
    seen = float(max(np.ptp(rows), np.ptp(columns)) + 1)
    if 1.0 / SURE < mine / seen < SURE:
        return
    spec = built.scene.spec
    name = body or next(iter(spec.bodies))
    mesh = spec.bodies[name].shape.kind == "mesh"
    key: Key = ("bodies", name, "shape", "mesh", "scale") if mesh else ("bodies", name, "shape")
    cure = "`scale` is the length of one unit of the mesh's file, such as 1 mm" if mesh else "Are its lengths in metres"
    own = f"{mine:.3g} px large" if mine > 0.0 else "smaller than the spacing of its particles"
    raise built.scene.error(
        key,
        f"the body is {own} in the picture of '{video}', and its outline in the first frame {seen:.3g} px. {cure}; and "
        "is the scale of the camera right?",
    )


def _margined(seen: np.ndarray[Any, Any], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the true pixels with a margin, within the picture."""
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    low, high = (columns[0], rows[0]), (columns[-1] + 1, rows[-1] + 1)
    wide = [round(MARGIN * max(b - a for a, b in zip(low, high, strict=True)))] * 2
    begin = [max(0, int(a) - m) for a, m in zip(low, wide, strict=True)]
    end = [min(n, int(b) + m) for b, m, n in zip(high, wide, size, strict=True)]
    return begin[0], begin[1], end[0], end[1]


def spacings(built: Built) -> Tensor:
    """Distance of neighbouring particles at rest, (n,) [m]."""
    each = [torch.full((len(b.x),), float(b.spacing), dtype=torch.float64) for b in built.bodies]
    return torch.cat(each)
