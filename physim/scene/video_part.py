"""Frames and masks of a video of the scene, and its times there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from physim.errors import InputError
from physim.scene.document import Key
from physim.scene.loader import Scene
from physim.scene.problems import SceneError
from physim.scene.spec_video import VideoPart
from physim.scene.video_file import Video, open_video, reduced
from physim.scene.video_masks import FoundMasks, find_masks

LARGEST = 640
"""Longest side [px] to which frames are reduced before masks are made."""
LARGEST_STILL = 1600
"""The same of a photograph: it is one picture, and says all there is."""
COVERED = 127
"""Coverage above which a pixel of a mask is the body's."""


@contextmanager
def blamed(scene: Scene, path: Key) -> Iterator[None]:
    """Tell mistakes found inside with the place of an entry, unless they have one."""
    try:
        yield
    except SceneError:
        raise
    except InputError as error:
        raise scene.error(path, str(error)) from None


def film_of(scene: Scene, name: str, largest: int | None = LARGEST) -> Video:
    """The chosen frames of a video of the scene.

    Raises:
        SceneError: it cannot be read, or has no frame in the window.
    """
    part = scene.spec.videos[name]
    with blamed(scene, ("videos", name, "file" if part.file else "pictures")):
        return _opened(part, largest)


def masks_of(scene: Scene, name: str) -> FoundMasks:
    """The masks of a video of the scene; made once, and again when one of its files has changed.

    Raises:
        SceneError: the video or its masks cannot be read, or show no body in any frame.
    """
    film_of(scene, name)
    part = scene.spec.videos[name]
    named = [part.file, part.pictures, part.mask.file, part.mask.pictures, getattr(part.mask.background, "file", None)]
    with blamed(scene, ("videos", name, "mask")):
        found = _masks(part.model_dump_json(), tuple(Path(f).stat().st_mtime_ns for f in named if f))
        if not (found.masks.coverage[found.masks.valid] > COVERED).any():
            raise InputError("no frame shows the body; `physim mask` draws what is found.")
        return found


def _opened(part: VideoPart, largest: int | None = LARGEST) -> Video:
    path = Path(part.file or part.pictures or "")
    video = open_video(path, fps=part.fps, begin=part.begin, end=part.end, every=part.every, largest=largest)
    if largest != LARGEST or len(video) > 1:
        return video
    return dataclasses.replace(video, size=reduced(video.full_size, LARGEST_STILL))


@lru_cache(maxsize=8)
def _masks(part_json: str, _changed: tuple[int, ...]) -> FoundMasks:
    part = VideoPart.model_validate_json(part_json)
    mask, behind = part.mask, getattr(part.mask.background, "file", None)
    drawn = mask.file or mask.pictures
    return find_masks(
        _opened(part),
        file=Path(drawn) if drawn else None,
        background=Path(behind) if behind else None,
        shadows=mask.shadows,
        region=mask.region,
        points=mask.points,
        others=mask.others,
    )


def scene_times(part: VideoPart, times: Any) -> Tensor:
    """Times in the scene [s] of times in the video, `delay` aside."""
    return torch.as_tensor(np.asarray(times), dtype=torch.float64) - (part.begin or 0.0)
