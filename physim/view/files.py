"""Pictures and videos on disk, never half written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from physim.errors import InputError
from physim.view.progress import track

Image = np.ndarray[Any, np.dtype[np.uint8]]


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its name when the block ends well, and vanishes when it does not."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise InputError(f"cannot write '{path}': {error.strerror}; choose another folder.") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_png(path: str | Path, image: Image) -> Path:
    """Write one picture, (H, W, 3) or (H, W, 4) uint8, as PNG."""
    from PIL import Image as Picture

    path = Path(path)
    with replacing(path) as temporary:
        Picture.fromarray(_as_image(image)).save(temporary, format="PNG", optimize=True)
    return path


def write_mp4(
    path: str | Path,
    frames: Iterable[Image],
    fps: float = 30.0,
    *,
    quality: int = 18,
    total: int | None = None,
    show_progress: bool = True,
) -> Path:
    """Write pictures as an H.264 video (yuv420p, plays in browsers).

    Args:
        path: file name, ending in .mp4.
        frames: pictures of one size, (H, W, 3) uint8; an iterator is drawn one picture at a time.
        fps: pictures per second.
        quality: constant rate factor of the encoder, 0 (lossless) to 51; 18 looks lossless.
        total: number of pictures, for the progress bar of an iterator.
        show_progress: whether to show a bar after two seconds.

    Raises:
        InputError: no frames, frames of different sizes, or no H.264 encoder.
    """
    import av

    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise InputError(f"video '{path}': the name must end in .mp4.")
    if not (np.isfinite(fps) and fps > 0):
        raise InputError(f"video: fps {fps!r} is not allowed; give a number above zero.")
    encoder = next((name for name in ("libx264", "libopenh264", "h264") if _can_encode(name)), None)
    if encoder is None:
        raise InputError("video: this PyAV has no H.264 encoder; install the wheel from PyPI (pip install av).")
    size = (0, 0)
    with replacing(path) as temporary:
        with av.open(str(temporary), "w", format="mp4", options={"movflags": "faststart"}) as container:
            stream: Any = None
            for image in track(frames, f"writing {path.name}", total, show=show_progress):
                picture = _even(_as_image(image)[:, :, :3])
                if stream is None:
                    size = picture.shape[:2]
                    rate = Fraction(fps).limit_denominator(1001)
                    options = {"crf": str(quality), "preset": "medium"} if encoder == "libx264" else {}
                    stream = container.add_stream(encoder, rate=rate, options=options)
                    stream.height, stream.width = size
                    stream.pix_fmt = "yuv420p"
                if picture.shape[:2] != size:
                    raise InputError(f"video: frames differ in size, {picture.shape[:2]} after {size}.")
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            if stream is None:
                raise InputError(f"video '{path}': there are no frames to write.")
            container.mux(stream.encode())
    return path


def tile_images(images: Sequence[Image], columns: int, gap: int = 8) -> Image:
    """Pictures of one size side by side, row after row, on white."""
    if not images or columns < 1:
        raise InputError("tiles: give at least one picture and one column.")
    height, width = images[0].shape[:2]
    rows = -(-len(images) // columns)
    columns = min(columns, len(images))
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for i, image in enumerate(images):
        if image.shape[:2] != (height, width):
            raise InputError(f"tiles: picture {i} is {image.shape[:2]}, the first is {(height, width)}.")
        y, x = (i // columns) * (height + gap), (i % columns) * (width + gap)
        sheet[y : y + height, x : x + width] = image[:, :, :3]
    return sheet


def _as_image(image: Image) -> Image:
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in (3, 4) or 0 in array.shape:
        raise InputError(f"picture: expected (H, W, 3) uint8, got {array.shape} {array.dtype}.")
    return np.ascontiguousarray(array)


def _even(image: Image) -> Image:
    """Repeat the last row or column of an odd size: yuv420p halves both."""
    return np.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0)), mode="edge")


def _can_encode(name: str) -> bool:
    import av

    try:
        av.Codec(name, "w")
    except ValueError:
        return False
    return True
