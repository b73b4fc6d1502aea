"""Films of clean pictures: a textured background, noise, and compression."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from scipy.ndimage import gaussian_filter

from tools.clips.case import SIZE
from tools.clips.draw import Pictures

NOISE = 3.0
"""Standard deviation of a grey level, of 255."""
QUALITY = 23
"""H.264's own default."""


def write_film(path: Path, pictures: Pictures, frame: float, *, seed: int) -> Path:
    """Write a film, and beside it, as PATH.empty.png, the place without bodies.

    Args:
        path: of the film.
        pictures: of one camera.
        frame: time between pictures [s].
        seed: of background and noise.
    """
    rng = np.random.default_rng(seed)
    behind = _background(rng)
    frames = []
    for color, cover in zip(pictures.color, pictures.cover, strict=True):
        share = cover[..., None] / 255.0
        clean = color + (1.0 - share) * behind
        frames.append(_bytes(clean + NOISE * rng.normal(size=clean.shape)))
    rate = Fraction(1.0 / frame).limit_denominator(1000)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=rate, options={"crf": str(QUALITY)})
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    empty = path.with_suffix(".empty.png")
    write_picture(empty, _bytes(behind + NOISE * rng.normal(size=behind.shape)))
    return empty


def write_picture(path: Path, image: Any) -> None:
    """Write one picture, (h, w, 3) uint8."""
    import cv2

    cv2.imwrite(str(path), image[..., ::-1])


def _background(rng: np.random.Generator) -> Any:
    """Smooth spots of grey with a little colour, (h, w, 3)."""
    light = gaussian_filter(rng.normal(size=(SIZE, SIZE)), 3.0)
    hue = gaussian_filter(rng.normal(size=(SIZE, SIZE, 3)), (6.0, 6.0, 0.0))
    return 125.0 + 14.0 * light[..., None] / light.std() + 5.0 * hue / hue.std()


def _bytes(image: Any) -> Any:
    return np.clip(image, 0, 255).round().astype(np.uint8)
