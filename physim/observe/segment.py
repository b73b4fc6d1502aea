"""One frame and a background to a mask: what differs, cleaned, with an edge finer than a pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from physim.observe.background import Background, Field, Image, blurred
from physim.observe.masks import FULL, Coverage

# Difference from the background [noise] that a body has somewhere, and has everywhere but at its edge.
_HIGH, _LOW = 8.0, 4.0
# Least area of a piece, as a share of the largest piece, and in pixels; holes up to this share are filled.
_PIECE, _PIXELS, _HOLE = 0.04, 12, 0.02
# Pixels on either side of an outline whose coverage is measured, in two rounds.
_BANDS = (4, 3)
# Contrast [noise] of body and background below which a colour tells no coverage.
_CONTRAST = 5.0
# Pixels around what was found that are looked at again.
_MARGIN = 24


def mask_of(
    image: Image,
    background: Background,
    *,
    shadows: bool = True,
    region: tuple[int, int, int, int] | None = None,
) -> Coverage:
    """The mask of one frame: what differs from the background, cleaned, with a soft edge, (h, w) uint8.

    Args:
        image: the frame, (h, w, 3) uint8.
        background: what is seen without the body.
        shadows: take darker places of the background's own hue and texture as its shadow, not as the body.
        region: left, top, right, bottom [px] outside of which nothing is looked for.
    """
    import cv2

    apart, color = background.difference(image)
    mask = np.zeros(apart.shape, dtype=np.uint8)
    if region is not None:
        left, top, right, bottom = region
        apart[:top], apart[bottom:], apart[:, :left], apart[:, right:] = 0.0, 0.0, 0.0, 0.0
    found = pieces(apart > _LOW, apart > _HIGH)
    if not found.any():
        return mask
    # The rest of the work is done around what was found.
    x, y, w, h = cv2.boundingRect(found)
    part = np.s_[max(0, y - _MARGIN) : y + h + _MARGIN, max(0, x - _MARGIN) : x + w + _MARGIN]
    apart, color = apart[part], color[part]
    background = Background(background.color[part], background.noise[part])
    weak = apart > _LOW
    if shadows:
        weak &= ~background.shaded(color)
        weak = cv2.morphologyEx(weak.astype(np.uint8), cv2.MORPH_CLOSE, _disc(1)).astype(bool)
    mask[part] = soften(pieces(weak, weak & (apart > _HIGH)), color, background)
    return mask


def pieces(weak: np.ndarray[Any, np.dtype[np.bool_]], strong: np.ndarray[Any, np.dtype[np.bool_]]) -> Coverage:
    """Connected parts of `weak` that hold a pixel of `strong`, without specks and small holes, (h, w) of 0 and 1."""
    import cv2

    open_ = cv2.morphologyEx(weak.astype(np.uint8), cv2.MORPH_OPEN, _disc(1))
    number, labels, areas = _parts(open_)
    held = np.zeros(number, dtype=bool)
    held[np.unique(labels[strong])] = True
    held[0] = False
    largest = int(np.where(held, areas, 0).max())
    held &= areas >= max(_PIXELS, _PIECE * largest)
    body = held[labels].astype(np.uint8)
    number, labels, areas = _parts(1 - body)
    small = areas < max(_PIXELS, _HOLE * largest)
    edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    small[edge] = False
    small[0] = False  # label 0 is the body itself
    body[small[labels]] = 1
    return body


def _parts(mask: Any) -> tuple[int, Any, Any]:
    """Connected parts of a mask: how many with the rest, the number of each pixel's, and their areas [px]."""
    import cv2

    number, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    return number, labels, stats[:, cv2.CC_STAT_AREA]


def soften(body: Coverage, color: Field, background: Background) -> Coverage:
    """Coverage of the pixels along an outline, from where their colour lies between background and body.

    With B the background's colour and F the body's nearby, coverage is (I - B).(F - B) / |F - B|^2 in units of the
    noise. Where the two look alike it is the smoothed mask. Compression smears a strong contrast over several pixels,
    so the outline is first moved to where half of the contrast is left.

    Args:
        body: 1 inside, 0 outside, (h, w) uint8.
        color: the frame, as `Background.difference` returns it, (h, w, 3).
        background: what is seen without the body.
    """
    for band in _BANDS:
        if not body.any():
            break
        edge = _edge(body, color, background, band)
        body = pieces(edge >= 0.5, edge >= 0.5)
    if not body.any():
        return np.zeros(body.shape, dtype=np.uint8)
    return (_sharpened(edge) * (_grown(body, 1) * FULL)).round().astype(np.uint8)


def _sharpened(edge: Field) -> Field:
    """The same half-covered line with an edge one pixel wide, as a sharp picture has it, (h, w).

    Compression and motion smear an edge; to first order the distance to the line is (c - 1/2) / |grad c|.
    """
    import cv2

    smooth = blurred(edge, 0.5)
    slope = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8), cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=1 / 8))
    return np.clip(0.5 + (smooth - 0.5) / np.maximum(slope, 0.05), 0.0, 1.0)


def _edge(body: Coverage, color: Field, background: Background, band: int) -> Field:
    """Coverage, measured up to `band` pixels from the outline, (h, w)."""
    import cv2

    near = _grown(body, band) & ~_shrunk(body, band).astype(bool)
    core = _core(body, band)
    reach = (4 * band + 1, 4 * band + 1)
    weight = cv2.blur(core.astype(np.float32), reach)
    inside = cv2.blur(color * core[:, :, None].astype(np.float32), reach) / np.maximum(weight, 1e-6)[:, :, None]
    toward = inside - background.color
    # Directions in which the body's own texture varies tell little.
    own = (color - inside)[core.astype(bool) & (weight > 0)]
    scatter = np.diag(np.median(background.noise, axis=(0, 1)) ** 2)
    scatter = scatter + 0.5 * own.T @ own / max(len(own), 1)
    metric = np.linalg.inv(scatter).astype(np.float32)
    length = ((toward @ metric) * toward).sum(axis=2)
    share = (((color - background.color) @ metric) * toward).sum(axis=2) / np.maximum(length, 1e-6)
    told = (length > _CONTRAST**2) & (weight > 0.5 / reach[0] ** 2)
    edge = np.where(told, np.clip(share, 0.0, 1.0), blurred(body.astype(np.float32), 0.8))
    # Texture of the body makes single pixels look half covered; an outline is smoother than that.
    edge = blurred(np.where(near, edge, body).astype(np.float32), 0.6)
    return np.where(near, edge, body).astype(np.float32)


def _core(body: Coverage, band: int) -> Coverage:
    """Pixels that are the body's own for sure: far from the outline, or as far as a thin part lets them be."""
    core = _shrunk(body, band)
    for less in range(band - 1, 0, -1):
        core |= _shrunk(body, less) & ~_grown(core, 2 * band)
    return core


def _grown(body: Coverage, by: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    import cv2

    return cv2.dilate(body, _disc(by)).astype(bool)


def _shrunk(body: Coverage, by: int) -> Coverage:
    import cv2

    return cv2.erode(body, _disc(by))  # pyright: ignore[reportReturnType]


def _disc(radius: int) -> Any:
    import cv2

    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def shadowed_share(frames: Sequence[Image], background: Background) -> float:
    """Part of what differs from the background that could be its shadow, over some frames [-]."""
    seen, dark = 0, 0
    for frame in frames:
        apart, color = background.difference(frame)
        strong = apart > _HIGH
        seen += int(strong.sum())
        dark += int((strong & background.shaded(color)).sum())
    return dark / seen if seen else 0.0
