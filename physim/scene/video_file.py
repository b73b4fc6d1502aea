"""A video: its frames one at a time, and their times."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from physim.errors import InputError
from physim.scene.document import display
from physim.scene.video_source import PICTURES, FilmSource, FolderSource, Image, Source

# Share of a frame's interval by which a time may miss `begin` or `end` and still count.
_SLACK = 1e-3


@dataclass(frozen=True, eq=False)
class Video:
    """The chosen frames of a video file, or of a folder of pictures. Frames are read anew each time, one at a time.

    Attributes:
        path: the file or folder.
        source: what reads it.
        numbers: number of each chosen frame in the source, from 0, (f,).
        times: time of each chosen frame since the first frame of the source [s], (f,).
        size: width and height of the frames handed out [px].
    """

    path: Path
    source: Source
    numbers: tuple[int, ...]
    times: np.ndarray[Any, np.dtype[np.float64]]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def name(self) -> str:
        """The path, for messages."""
        return display(self.path)

    @property
    def alpha(self) -> bool:
        """Whether frames have opacity as their fourth channel."""
        return self.source.alpha

    @property
    def full_size(self) -> tuple[int, int]:
        """Width and height of the frames in the file [px], upright."""
        return self.source.size

    @property
    def rate(self) -> float:
        """Chosen frames per second [1/s], on average; 0 for a single one."""
        span = float(self.times[-1] - self.times[0])
        return (len(self) - 1) / span if span > 0 else 0.0

    def __iter__(self) -> Iterator[Image]:
        """The chosen frames, (h, w, 3) or (h, w, 4) uint8."""
        return self.images(range(len(self)))

    def images(self, chosen: Sequence[int]) -> Iterator[Image]:
        """Some of the chosen frames, by their increasing place among them; (h, w, 3) or (h, w, 4) uint8."""
        for image in self.source.images([self.numbers[i] for i in chosen]):
            yield fitted(image, self.size)

    def spread(self, count: int) -> list[int]:
        """Places of at most `count` chosen frames, evenly spread from the first to the last."""
        return sorted({round(i) for i in np.linspace(0, len(self) - 1, min(count, len(self)))})


def open_video(
    path: str | Path,
    *,
    fps: float | None = None,
    begin: float | None = None,
    end: float | None = None,
    every: int = 1,
    largest: int | None = None,
) -> Video:
    """Open a video file or a folder of pictures.

    Args:
        path: an mp4, or anything else that FFmpeg reads; or a folder of pictures; or one picture.
        fps: pictures per second [1/s]: needed for a folder; for a file it replaces the file's times, as slow motion
            needs it.
        begin: leave out frames before this time since the first [s].
        end: leave out frames after this time [s].
        every: keep each k-th frame of those.
        largest: longest side [px] to which frames are reduced by averaging; never enlarged.

    Raises:
        InputError: unreadable, no video in it, no frame rate, or no frame in the window.
    """
    path = Path(path)
    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise InputError(f"{display(path)}: fps {fps:g} is not allowed; give the pictures per second, above zero.")
    if every < 1:
        raise InputError(f"{display(path)}: every {every} is not allowed; 1 keeps each frame, 2 each second one.")
    if largest is not None and largest < 16:
        raise InputError(f"{display(path)}: frames of {largest} pixels show nothing; take at least 16.")
    if not path.exists():
        raise InputError(f"{path}: no such video file or folder of pictures.")
    pictures = path.is_dir() or path.suffix.lower() in PICTURES
    source: Source = FolderSource.open(path, fps) if pictures else FilmSource.open(path, fps)
    numbers = _window(path, source.times, begin, end)[::every]
    return Video(path, source, tuple(numbers), source.times[numbers], reduced(source.size, largest))


def reduced(size: tuple[int, int], largest: int | None) -> tuple[int, int]:
    """Width and height whose longer one is at most `largest`."""
    share = 1.0 if largest is None else min(1.0, largest / max(size))
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))


def fitted(image: Image, size: tuple[int, int]) -> Image:
    """A picture reduced to width and height [px] by averaging."""
    if (image.shape[1], image.shape[0]) == size:
        return image
    import cv2

    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)  # pyright: ignore[reportReturnType]


def _window(path: Path, times: np.ndarray[Any, Any], begin: float | None, end: float | None) -> list[int]:
    """Numbers of the frames between `begin` and `end` [s]."""
    slack = _SLACK * float(np.diff(times).min()) if len(times) > 1 else 1e-9
    keep = np.ones(len(times), dtype=bool)
    if begin is not None:
        keep &= times >= begin - slack
    if end is not None:
        keep &= times <= end + slack
    if not keep.any():
        window = f"begin {_second(begin)} to end {_second(end)}"
        raise InputError(
            f"{display(path)}: no frame from {window}; its {len(times)} frames are from 0 to {times[-1]:.4g} s."
        )
    return [int(i) for i in np.flatnonzero(keep)]


def _second(time: float | None) -> str:
    return "(not given)" if time is None else f"{time:g} s"
