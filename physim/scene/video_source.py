"""Where the frames of a video come from: a file that PyAV reads, or a folder of pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from physim.errors import InputError
from physim.scene.document import display

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

Image = np.ndarray[Any, np.dtype[np.uint8]]
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")

# A file that says 90,000 pictures per second has time stamps in ticks, not a frame rate.
_FASTEST = 20_000.0


class Source(Protocol):
    """Frames by number, in the order of their times."""

    @property
    def times(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Time of every frame since the first [s], (n,), increasing."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of an upright frame [px]."""
        ...

    @property
    def alpha(self) -> bool:
        """Whether frames have a fourth channel, opacity."""
        ...

    def images(self, numbers: Sequence[int]) -> Iterator[Image]:
        """The frames of these numbers, which increase, one at a time, (h, w, 3 or 4)."""
        ...


@dataclass(frozen=True, eq=False)
class FilmSource:
    """A video file; the frames are decoded as they are asked for."""

    path: Path
    times: np.ndarray[Any, np.dtype[np.float64]]
    stamps: tuple[int, ...]
    size: tuple[int, int]
    alpha: bool
    turns: int

    @staticmethod
    def open(path: Path, fps: float | None = None) -> FilmSource:
        """Read the times of all frames, and decode the first.

        Args:
            path: an mp4, or anything else that FFmpeg reads.
            fps: true pictures per second [1/s], where the file's times are not those of the world (slow motion).

        Raises:
            InputError: not a video, no video stream, no frame that can be decoded, or two frames at one time.
        """
        with _opened(path) as (container, stream):
            stamps = sorted(p.pts for p in container.demux(stream) if p.pts is not None and not p.is_discard)
            base = float(stream.time_base or 0)
        twice = next((i for i, (a, b) in enumerate(pairwise(stamps)) if a == b), None)
        if twice is not None:
            if fps is None:
                when = (stamps[twice] - stamps[0]) * base
                raise InputError(
                    f"{display(path)}: frames {twice} and {twice + 1} are both at {when:.4g} s; add `fps`, the true "
                    "pictures per second, which replaces the times in the file, or save the video anew."
                )
            stamps = []
        with _opened(path) as (container, stream):
            first, counted = None, 0
            for frame in container.decode(stream):
                first = frame if first is None else first
                counted += 1
                if stamps:
                    break
            if first is None:
                raise InputError(f"{display(path)}: no frame can be decoded: it is empty, or was cut short.")
            rate = fps or float(stream.average_rate or stream.guessed_rate or 0)
            turns = round(first.rotation / 90) % 4
            alpha = any(c.is_alpha for c in first.format.components)
            width, height = (first.height, first.width) if turns % 2 else (first.width, first.height)
        if fps is not None or not stamps or base <= 0:
            count = len(stamps) or counted
            if not 0 < rate < _FASTEST:
                raise InputError(f"{display(path)}: the file does not say its frame rate; add `fps`, such as fps: 30.")
            times = np.arange(count) / rate
        else:
            times = (np.array(stamps, dtype=np.float64) - stamps[0]) * base
        return FilmSource(path, times, tuple(stamps), (width, height), alpha, turns)

    def images(self, numbers: Sequence[int]) -> Iterator[Image]:
        """The frames of these numbers, which increase, one at a time, (h, w, 3 or 4).

        Raises:
            InputError: one of them cannot be decoded.
        """
        wanted = list(numbers)
        at = 0
        with _opened(self.path) as (container, stream):
            for number, frame in enumerate(container.decode(stream)):
                if at == len(wanted):
                    return
                here = frame.pts if self.stamps else number
                goal = self.stamps[wanted[at]] if self.stamps else wanted[at]
                if here is not None and here < goal:
                    continue
                if here != goal:
                    break
                image: Image = frame.to_ndarray(format="rgba" if self.alpha else "rgb24")  # pyright: ignore
                yield np.ascontiguousarray(np.rot90(image, self.turns)) if self.turns else image
                at += 1
        if at < len(wanted):
            number = wanted[at]
            raise InputError(
                f"{display(self.path)}: frame {number} ({self.times[number]:.4g} s) cannot be decoded; the file may "
                f"be damaged. Take `end` below {self.times[number]:.4g} s, or save the video anew."
            )


@dataclass(frozen=True, eq=False)
class FolderSource:
    """A folder of pictures in the order of their names, numbers in them by value; or one picture."""

    path: Path
    files: tuple[Path, ...]
    times: np.ndarray[Any, np.dtype[np.float64]]
    size: tuple[int, int]
    alpha: bool

    @staticmethod
    def open(path: Path, fps: float | None) -> FolderSource:
        """List the pictures, and look at the first.

        Raises:
            InputError: no picture in it, or no frame rate where there are several.
        """
        files = list(picture_files(path)) if path.is_dir() else [path]
        if fps is None and len(files) > 1:
            raise InputError(
                f"{display(path)}: a folder of {len(files)} pictures does not say how fast they were taken; add `fps`, "
                "the pictures per second, such as fps: 30."
            )
        first = read_picture(files[0])
        height, width, channels = first.shape
        return FolderSource(path, tuple(files), np.arange(len(files)) / (fps or 1.0), (width, height), channels == 4)

    def images(self, numbers: Sequence[int]) -> Iterator[Image]:
        """The pictures of these numbers, one at a time, (h, w, 3 or 4).

        Raises:
            InputError: one cannot be read, or differs from the first in size.
        """
        for number in numbers:
            image = read_picture(self.files[number])
            height, width = image.shape[:2]
            if (width, height) != self.size:
                raise InputError(
                    f"{display(self.files[number])} is {width} x {height} pixels, and {self.files[0].name} is "
                    f"{self.size[0]} x {self.size[1]}: the pictures of a video have one size; crop or scale them alike."
                )
            if self.alpha and image.shape[2] == 3:
                image = np.concatenate([image, np.full((height, width, 1), 255, dtype=np.uint8)], axis=2)
            yield image if self.alpha else image[:, :, :3]


def picture_files(folder: Path) -> tuple[Path, ...]:
    """The pictures of a folder, `frame_2` before `frame_10`.

    Raises:
        InputError: there is none.
    """
    try:
        files = [p for p in folder.iterdir() if p.suffix.lower() in PICTURES and not p.name.startswith(".")]
    except OSError as error:
        raise InputError(f"{display(folder)}: cannot be listed ({error.strerror}).") from None
    if not files:
        raise InputError(f"{display(folder)}: no picture in this folder; expected files such as 0001.png or 0001.jpg.")
    return tuple(sorted(files, key=lambda p: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", p.name)]))


def read_picture(path: Path) -> Image:
    """One picture upright, (h, w, 3), or (h, w, 4) where it has opacity.

    Raises:
        InputError: it cannot be read.
    """
    from PIL import Image as Picture
    from PIL import ImageOps

    try:
        with Picture.open(path) as file:
            picture = ImageOps.exif_transpose(file)
            if picture.mode.startswith("I;16"):
                return np.repeat((np.asarray(picture) / 257.0).round().astype(np.uint8)[:, :, None], 3, axis=2)
            clear = picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
            return np.array(picture.convert("RGBA" if clear else "RGB"))
    except (OSError, ValueError, SyntaxError, Picture.DecompressionBombError) as error:
        raise InputError(f"{display(path)}: cannot be read as a picture ({error}).") from None


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its first video stream, with PyAV's errors as ours."""
    import av
    from av.error import FFmpegError

    try:
        with av.open(str(path), options={"protocol_whitelist": "file"}) as container:
            if not container.streams.video:
                kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
                raise InputError(
                    f"{display(path)}: no video in this file (it holds {kinds}); it may have been cut short. Expected "
                    "a file that plays, or a folder of pictures."
                )
            yield container, container.streams.video[0]
    except FFmpegError as error:
        raise InputError(
            f"{display(path)}: cannot be read as a video ({error.strerror}); expected an mp4, mov, webm, avi or "
            "another file that plays, or a folder of pictures. It may have been cut short: copy it again."
        ) from None
