"""Small clips made with numpy: a textured body in front of texture, its true masks and motion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

Array = np.ndarray[Any, Any]


def texture(h: int, w: int, seed: int, mean: Sequence[float], amplitude: float) -> Array:
    """Smooth random colours, (h, w, 3) float."""
    rng = np.random.default_rng(seed)
    light, hue = rng.normal(size=(h, w)), rng.normal(size=(h, w, 3))
    light, hue = cv2.GaussianBlur(light, (0, 0), 3.0), cv2.GaussianBlur(hue, (0, 0), 6.0)
    return np.array(mean) + amplitude * (light / light.std())[..., None] + 0.4 * amplitude * hue / hue.std()


def disc(h: int, w: int, x: float, y: float, radius: float) -> Array:
    """Coverage of a disc, by sixteen samples in each pixel, (h, w)."""
    at = (np.arange(4 * max(h, w)) + 0.5) / 4 - 0.5
    inside = (at[None, : 4 * w] - x) ** 2 + (at[: 4 * h, None] - y) ** 2 <= radius**2
    return inside.reshape(h, 4, w, 4).mean(axis=(1, 3))


def moving_disc(
    centers: Sequence[tuple[float, float]],
    *,
    size: tuple[int, int] = (128, 128),
    radius: float = 24.0,
    noise: float = 3.0,
    color: Sequence[float] = (205, 150, 60),
    shadow: bool = False,
    seed: int = 0,
) -> tuple[list[Array], Array, Array]:
    """Frames (h, w, 3) uint8, true coverage (f, h, w), and the scene without the disc."""
    h, w = size
    rng = np.random.default_rng(seed)
    behind = texture(h, w, seed + 1, (110, 115, 120), 12.0)
    skin = texture(2 * h, 2 * w, seed + 2, color, 15.0)
    frames, masks = [], []
    for x, y in centers:
        mask = disc(h, w, x, y, radius)
        body = cv2.warpAffine(skin, np.array([[1, 0, x - w], [0, 1, y - h]]), (w, h), flags=cv2.INTER_CUBIC)
        shade = cv2.GaussianBlur(disc(h, w, x + 14, y + 14, 0.8 * radius), (0, 0), 2.0) if shadow else np.zeros((h, w))
        frame = mask[..., None] * body + (1 - mask[..., None]) * behind * (1 - 0.4 * shade[..., None])
        frames.append(np.clip(frame + noise * rng.normal(size=frame.shape), 0, 255).round().astype(np.uint8))
        masks.append(mask)
    return frames, np.array(masks), np.clip(behind, 0, 255).round().astype(np.uint8)


def bounce(count: int, *, side: int = 128, margin: int = 30) -> list[tuple[float, float]]:
    """Centres of a body that goes to the right and bounces."""
    t = np.linspace(0.0, 1.0, count)
    y = margin + (side - 2 * margin) * (1.0 - np.abs(np.cos(2.5 * np.pi * t)))
    return list(zip((margin + (side - 2 * margin) * t).tolist(), y.tolist(), strict=True))


def write_clip(
    path: Path, frames: Sequence[Array], *, fps: int = 30, stamps: Sequence[int] | None = None, quality: int = 23
) -> Path:
    """Write frames as compressed video; `stamps` are times in thousandths of a second."""
    name = next(n for n in ("libx264", "mpeg4") if n in av.codecs_available)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(name, rate=fps, options={"crf": str(quality)})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            if stamps is not None:
                frame.pts, frame.time_base = stamps[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


Map = Callable[[Array], Array]


def deforming(
    count: int, *, side: int = 112, radius: float = 36.0, noise: float = 0.0, seed: int = 0
) -> tuple[list[Array], Array, list[Map], Map]:
    """A body that moves, turns, stretches, shears and bends, its masks, its maps, and the inverse of the first.

    Its colour is a sum of waves, so that every picture is exact but for rounding.
    """
    rng = np.random.default_rng(seed)
    wave = rng.normal(size=(60, 2))
    wave *= (rng.uniform(0.12, 0.9, size=60) / np.linalg.norm(wave, axis=1))[:, None]
    phase, height = rng.uniform(0, 2 * np.pi, 60), 6.0 * rng.normal(size=(60, 1)) * np.ones((1, 3))
    behind = texture(side, side, seed + 1, (110, 140, 110), 15.0)
    y, x = np.mgrid[0:side, 0:side].astype(float)
    pixels = np.stack([x, y], axis=-1)
    frames, masks, maps, inverse = [], [], [], []
    for i in range(count):
        s, c = np.sin(np.pi * i / (count - 1)), np.sin(2 * np.pi * i / (count - 1))
        turn, bend, middle = 0.3 * s, 1.2e-3 * s, np.array([side / 2 - 8 + 16 * i / (count - 1), side / 2 + 5 * c])
        stretch = np.array([[1 + 0.25 * s, 0.15 * c], [0.0, 1 / (1 + 0.25 * s)]])
        matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ stretch

        def there(points: Array, matrix: Array = matrix, middle: Array = middle, bend: float = bend) -> Array:
            bent = points + np.stack([np.zeros(points.shape[:-1]), bend * points[..., 0] ** 2], axis=-1)
            return bent @ matrix.T + middle

        def back(points: Array, matrix: Array = matrix, middle: Array = middle, bend: float = bend) -> Array:
            bent = (points - middle) @ np.linalg.inv(matrix).T
            return bent - np.stack([np.zeros(points.shape[:-1]), bend * bent[..., 0] ** 2], axis=-1)

        samples = [back(pixels + np.array([a, b])) for a in (-0.25, 0.25) for b in (-0.25, 0.25)]
        mask = np.mean([np.linalg.norm(p, axis=-1) <= radius for p in samples], axis=0)
        skin = 128 + np.tensordot(np.cos(back(pixels) @ wave.T + phase), height, 1)
        frame = mask[..., None] * skin + (1 - mask[..., None]) * behind + noise * rng.normal(size=behind.shape)
        frames.append(np.clip(frame, 0, 255).round().astype(np.uint8))
        masks.append((255 * mask).round().astype(np.uint8))
        maps.append(there)
        inverse.append(back)
    return frames, np.array(masks), maps, inverse[0]
