"""Pictures that show what was understood of a video: outlines of masks, trails of points."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from physim.observe.flow import PointTracks
from physim.observe.masks import HALF, Coverage
from physim.view.files import Image, tile_images

# Outlines and points are drawn in a light and a dark line, so that they show on any picture.
_LIGHT, _DARK, _DOUBT = (255, 230, 60), (20, 20, 30), (255, 90, 70)
# Width of one picture on a sheet [px].
_WIDTH = 360


def mask_sheet(
    images: Sequence[Image], masks: Sequence[Coverage], captions: Sequence[str], bad: Sequence[bool]
) -> Image:
    """Frames with the outlines of their masks, side by side.

    Args:
        images: frames, (h, w, 3) uint8.
        masks: coverage of each, (h, w) uint8, of the frames' size.
        captions: words under each.
        bad: which captions are warnings.
    """
    tiles = []
    for image, mask, words, wrong in zip(images, masks, captions, bad, strict=True):
        scale = _scale(image)
        tile = outlined(_sized(image[:, :, :3], scale), _sized(mask, scale, smooth=True))
        tiles.append(_captioned(tile, words, _DOUBT if wrong else (255, 255, 255)))
    return tile_images(tiles, min(4, len(tiles)))


def outlined(image: Image, mask: Coverage) -> Image:
    """A picture with the line along which a mask is half covered."""
    import cv2

    out = np.ascontiguousarray(image)
    lines, _ = cv2.findContours((mask >= HALF).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(out, lines, -1, _DARK, 3, cv2.LINE_AA)
    cv2.drawContours(out, lines, -1, _LIGHT, 1, cv2.LINE_AA)
    return out


def track_sheet(first: Image, last: Image, tracks: PointTracks) -> Image:
    """The first frame with the chosen points, and the last with their trails, from blue to yellow.

    A cross marks where a point was lost.

    Args:
        first: first frame, (h, w, 3) uint8.
        last: last frame, (h, w, 3) uint8.
        tracks: points in all frames.
    """
    import cv2

    scale = 2.0 * _scale(first)
    xy = (tracks.xy + 0.5) * scale - 0.5
    begin, end = (np.ascontiguousarray(_sized(i[:, :, :3], scale)) for i in (first, last))
    for k in range(tracks.count):
        rows = np.flatnonzero(tracks.valid[:, k])
        if len(rows) and rows[0] == 0:
            _dot(begin, xy[0, k])
        for a, b in pairwise(rows):
            if b == a + 1:
                line = (_fixed(xy[a, k]), _fixed(xy[b, k]))
                cv2.line(end, *line, _warm(b / max(1, len(xy) - 1)), 1, cv2.LINE_AA, 4)
        if len(rows):
            _dot(end, xy[rows[-1], k], lost=rows[-1] < len(xy) - 1)
    seen = int(tracks.valid[-1].sum())
    words = (f"{tracks.count} points, {tracks.times[0]:.3f} s", f"{seen} of them left, {tracks.times[-1]:.3f} s")
    return tile_images([_captioned(i, w, (255, 255, 255)) for i, w in zip((begin, end), words, strict=True)], 2)


def _dot(image: Image, at: np.ndarray[Any, Any], *, lost: bool = False) -> None:
    import cv2

    x, y = (int(c) for c in np.round(at))
    if lost:
        cv2.drawMarker(image, (x, y), _DOUBT, cv2.MARKER_TILTED_CROSS, 8, 2)
        return
    cv2.circle(image, (x, y), 4, _DARK, -1, cv2.LINE_AA)
    cv2.circle(image, (x, y), 3, _LIGHT, -1, cv2.LINE_AA)


def _fixed(at: np.ndarray[Any, Any]) -> tuple[int, int]:
    """A position for OpenCV's lines, which count sixteenths of a pixel."""
    return round(float(at[0]) * 16), round(float(at[1]) * 16)


def _warm(share: float) -> tuple[int, int, int]:
    return round(60 + 195 * share), round(110 + 120 * share), round(255 - 195 * share)


def _scale(image: Image) -> float:
    """Factor to the width of a picture on a sheet; a whole number where it enlarges."""
    factor = _WIDTH / image.shape[1]
    return float(int(factor)) if factor >= 1.0 else factor


def _sized(image: Image, scale: float, *, smooth: bool = False) -> Image:
    import cv2

    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    larger = cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST
    return cv2.resize(image, size, interpolation=larger if scale > 1 else cv2.INTER_AREA)  # pyright: ignore


def _captioned(image: Image, words: str, color: tuple[int, int, int]) -> Image:
    """A picture with words in a dark strip under it."""
    from PIL import Image as Picture
    from PIL import ImageDraw, ImageFont

    strip = np.full((22, image.shape[1], 3), _DARK, dtype=np.uint8)
    picture = Picture.fromarray(strip)
    ImageDraw.Draw(picture).text((6, 11), words, fill=color, font=ImageFont.load_default(size=12), anchor="lm")
    return np.concatenate([image, np.asarray(picture)])
