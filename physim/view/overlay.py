"""Text, colour bar and scale bar drawn over a finished picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from physim.view.coloring import Legend
from physim.view.files import Image

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

_INK, _PALE = (52, 60, 70), (120, 130, 142)


def annotate(
    image: Image,
    *,
    title: str | None = None,
    note: str | None = None,
    legend: Legend | None = None,
    pixels_per_metre: float | None = None,
) -> Image:
    """Draw captions on a picture, (H, W, 3) uint8, and return it.

    Args:
        image: the picture.
        title: text at the top left.
        note: text at the bottom left, usually the time.
        legend: colour bar or categories, on the right.
        pixels_per_metre: draws a scale bar, for a parallel view.
    """
    from PIL import Image as Picture
    from PIL import ImageDraw, ImageFont

    picture = Picture.fromarray(np.ascontiguousarray(image[:, :, :3]))
    draw = ImageDraw.Draw(picture)
    unit = picture.height / 100.0
    font, large = (ImageFont.load_default(size=max(9.0, s * unit)) for s in (2.4, 3.2))
    left, bottom = 3.0 * unit, picture.height - 3.0 * unit
    if title:
        draw.text((left, 3.0 * unit), title, fill=_INK, font=large, anchor="lt")
    if note:
        draw.text((left, bottom), note, fill=_INK, font=font, anchor="lb")
    if legend is not None and legend.gradient is not None:
        _bar(draw, picture.size, unit, font, legend)
    elif legend is not None:
        for row, (word, rgb) in enumerate(legend.entries):
            y = (4.5 + 4.0 * row) * unit
            x = picture.width - 3.0 * unit
            draw.text((x, y), word, fill=_INK, font=font, anchor="rm")
            edge = x - draw.textlength(word, font=font) - 1.2 * unit
            draw.ellipse((edge - 2.2 * unit, y - 1.1 * unit, edge, y + 1.1 * unit), fill=rgb)
    if pixels_per_metre:
        _scale_bar(draw, picture.size, unit, font, pixels_per_metre)
    return np.asarray(picture).copy()


def _bar(draw: ImageDraw, size: tuple[int, int], unit: float, font: Any, legend: Legend) -> None:
    """A vertical colour bar with both ends and the middle named."""
    colors = np.asarray(legend.gradient)
    width, tall = 2.0 * unit, 30.0 * unit
    right, top = size[0] - 3.0 * unit, 8.5 * unit
    for row in range(int(tall)):
        rgb = colors[int(255 * (1.0 - row / tall))]
        draw.line((right - width, top + row, right, top + row), fill=tuple(int(255 * c) for c in rgb))
    for share in (0.0, 0.5, 1.0):
        value = legend.low + share * (legend.high - legend.low)
        y = top + (1.0 - share) * tall
        draw.text((right - width - unit, y), format_number(value, legend), fill=_INK, font=font, anchor="rm")
    draw.text((right, top - 2.5 * unit), legend.label, fill=_INK, font=font, anchor="rb")


def _scale_bar(draw: ImageDraw, size: tuple[int, int], unit: float, font: Any, scale: float) -> None:
    """A bar of a round length near a sixth of the width, at the bottom right."""
    length = nice_length(size[0] / 6.0 / scale)
    right, y = size[0] - 3.0 * unit, size[1] - 3.0 * unit
    left = right - length * scale
    for x in (left, right):
        draw.line((x, y - 0.8 * unit, x, y), fill=_PALE, width=max(1, round(0.25 * unit)))
    draw.line((left, y, right, y), fill=_PALE, width=max(1, round(0.25 * unit)))
    draw.text((0.5 * (left + right), y - 1.0 * unit), format_length(length), fill=_INK, font=font, anchor="mb")


def nice_length(length: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not above `length` [m]."""
    power = 10.0 ** np.floor(np.log10(length))
    return float(power * max(m for m in (1.0, 2.0, 5.0) if m * power <= length * (1.0 + 1e-9)))


def format_length(length: float) -> str:
    """A length [m] in the unit that reads best."""
    for factor, unit in ((1.0, "m"), (1e-2, "cm"), (1e-3, "mm")):
        if length >= factor * (1.0 - 1e-9):
            return f"{length / factor:.3g} {unit}"
    return f"{length * 1e6:.3g} um"


def format_number(value: float, legend: Legend) -> str:
    """A legend value with the digits that its range calls for."""
    span = abs(legend.high - legend.low)
    if span == 0.0:
        return f"{value:.3g}"
    digits = int(np.clip(2 - np.floor(np.log10(span)), 0, 4)) - (1 if span >= 1.0 else 0)
    return f"{value:.{max(0, digits)}f}" if 1e-3 < span < 1e5 else f"{value:.2e}"
