"""A picture of what `physim calibrate` understood: corners seen, corners computed, and the target's axes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from physim.observe.camera import PixelCamera
from physim.observe.targets import Sighting
from physim.scene.calibration import CAMERA_FILES, FoundCamera, Target, check_free, find_camera, write_camera
from physim.view.files import Image, tile_images, write_png

# Pictures on a sheet, and their widths [px].
_MOST, _WIDTH = 6, 640
# Height of the strip with the words [px].
_STRIP = 26

_SEEN, _COMPUTED, _DARK = (80, 255, 120), (255, 60, 200), (20, 20, 30)
_AXES = {"x": (255, 70, 60), "y": (70, 220, 70), "z": (80, 140, 255)}

# Subpixel drawing: OpenCV takes whole numbers with this many binary digits behind the point.
_BITS = 4


def calibrate_camera(
    sources: Sequence[Path],
    target: Target,
    out: Path,
    *,
    lens: Path | None = None,
    most: int = 40,
    fps: float | None = None,
    force: bool = False,
) -> tuple[FoundCamera, Path]:
    """Find a camera, write its file, and beside it a picture of what was found; returns both that and its path.

    Args:
        sources: pictures, folders of pictures, and videos.
        target: what they show.
        out: file to write.
        lens: file of a camera whose lens is known.
        most: how many frames of a video are looked at.
        fps: pictures per second [1/s] of videos that do not say it.
        force: replace files that exist.

    Raises:
        InputError: as `find_camera`; or the file exists.
    """
    check_free(out, CAMERA_FILES, "the file of a camera", force)
    found = find_camera(sources, target, lens=lens, most=most, fps=fps)
    write_camera(found, out, force=force)
    # Not the name of the file alone: a picture of that name may be what was read.
    return found, write_png(out.with_suffix(".corners.png"), calibration_sheet(found))


def calibration_sheet(found: FoundCamera) -> Image:
    """Up to six of the pictures that were used, the one whose pose is kept last, (h, w, 3) uint8."""
    count = len(found.pictures)
    chosen = sorted({round(i) for i in np.linspace(count - 1, 0, min(count, _MOST))})
    calibration = found.calibration
    tiles = []
    for i in chosen:
        words = f"{calibration.sightings[i].name}: {calibration.errors[i]:.2f} px"
        words += ", the pose that is kept" if i == count - 1 and count > 1 else ""
        tiles.append(drawn(found.pictures[i], calibration.sightings[i], calibration.views[i], words))
    height = max(t.shape[0] for t in tiles)
    tiles = [np.pad(t, ((0, height - t.shape[0]), (0, _WIDTH - t.shape[1]), (0, 0))) for t in tiles]
    return tile_images(tiles, min(3, len(tiles)))


def drawn(picture: Image, sighting: Sighting, camera: PixelCamera, words: str) -> Image:
    """One picture with what was seen in it.

    Args:
        picture: reduced, (h, w, 3) uint8.
        sighting: in the pixels of the picture before it was reduced.
        camera: in the pose of this picture.
        words: to write on it.
    """
    import cv2

    scale = _WIDTH / picture.shape[1]
    size = (_WIDTH, round(picture.shape[0] * scale))
    out: Image = np.array(cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    small = camera.scaled(*size)
    share = np.array(size) / np.array(sighting.size)
    seen = (sighting.pixels + 0.5) * share - 0.5
    computed = small.project(torch.as_tensor(sighting.points))[0].numpy()
    for pixel in seen:
        cv2.circle(out, _fixed(pixel), 5 << _BITS, _DARK, 3, cv2.LINE_AA, _BITS)
        cv2.circle(out, _fixed(pixel), 5 << _BITS, _SEEN, 1, cv2.LINE_AA, _BITS)
    for pixel in computed:
        for step in (np.array([3.0, 0.0]), np.array([0.0, 3.0])):
            cv2.line(out, _fixed(pixel - step), _fixed(pixel + step), _COMPUTED, 1, cv2.LINE_AA, _BITS)
    ends = sighting.span * torch.cat([torch.zeros(1, 3), torch.eye(3)]).double()
    if bool((small.to_camera(ends)[:, 2] > 0.0).all()):
        origin, *tips = small.project(ends)[0].numpy()
        for tip, (name, color) in zip(tips, _AXES.items(), strict=True):
            cv2.line(out, _fixed(origin), _fixed(tip), _DARK, 5, cv2.LINE_AA, _BITS)
            cv2.line(out, _fixed(origin), _fixed(tip), color, 2, cv2.LINE_AA, _BITS)
            _write(out, name, (round(tip[0]) + 4, round(tip[1]) - 4), color)
    out[-_STRIP:] = _DARK
    _write(out, words, (8, size[1] - 8), (255, 255, 255))
    return out


def _write(image: Image, words: str, at: tuple[int, int], color: tuple[int, int, int]) -> None:
    import cv2

    cv2.putText(image, words, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, color, 1, cv2.LINE_AA)


def _fixed(pixel: np.ndarray[Any, Any]) -> tuple[int, int]:
    """A pixel in OpenCV's fixed point, kept near the picture."""
    x, y = np.clip(np.round(pixel * (1 << _BITS)), -1e6, 1e6)
    return int(x), int(y)
