"""Films and picture strips of what was observed, what was simulated, and where they differ."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from physim.scene.film import Film
from physim.view.files import Image, write_mp4
from physim.view.film_panels import INK, LINE, ONLY_OBSERVED, ONLY_SIMULATED, Panels

PANEL, SMALL = 400, 260
"""Longest side of a panel in a film and on a strip [px]."""
SHOWN = 6
"""Frames on a strip."""
SHORTEST, FASTEST, MOST = 6.0, 25.0, 200
"""A film lasts so long at least [s], shows so many pictures per second at most, and so many in all."""
PAPER, HELD = (255, 255, 255), (255, 176, 46)
GAP = 6

Words = Sequence[tuple[str, tuple[int, int, int]]]


def write_comparisons(films: Sequence[Film], folder: Path) -> dict[str, bytes]:
    """Write `comparison.mp4`, or `comparison-NAME.mp4` for each of several films.

    Returns:
        a strip of frames of each film as PNG, by a caption that says what its colours mean.
    """
    found = {}
    for film in films:
        name = "comparison.mp4" if len(films) == 1 else f"comparison-{film.name.replace('.', '-')}.mp4"
        told = write_film(film, folder / name)
        found[f"{caption(film)} As a film: {name}{told}."] = strip(film)
    return found


def caption(film: Film) -> str:
    """What a strip shows."""
    parts = [f"Video '{film.name}', from the first frame to the last."]
    if film.masks is not None:
        parts += [
            "Top: observed, with the outline of its mask (yellow). Middle: the fitted simulation, seen by the same "
            "camera at the same time. Bottom: where only the simulation covers the picture (red), and where only the "
            "observed body does (blue).",
            "IoU is intersection over union of the two: 1 where they agree.",
        ]
    else:
        parts.append("Top: observed. Middle: the fitted simulation, seen by the same camera at the same time.")
    if film.points is not None:
        parts.append(
            "Crosses are tracked points, dots the same points of the simulation; below, lines join them (blue cross: "
            "observed, red dot: simulated)."
        )
    if film.held.any():
        parts.append("Frames marked 'held out' were not fitted: the simulation predicts them.")
    return " ".join(parts)


def strip(film: Film) -> bytes:
    """Frames from the first to the last, side by side, as PNG."""
    from PIL import Image as Picture

    panels = Panels(film, SMALL)
    chosen = film.video.spread(SHOWN)
    columns = []
    for i, image in zip(chosen, film.video.images(chosen), strict=True):
        drawn = panels.draw(i, image)
        width = drawn[0].shape[1]
        above, below = _line(width, [(_time(film, i), PAPER), *_held(film, i)]), _line(width, _agreement(film, i))
        columns.append(_stacked([above, *drawn, below]))
    sheet = _beside(columns)
    words = ("observed", "simulated", "difference") if film.masks is not None else ("observed", "simulated", "points")
    height = panels.camera.height
    edge = np.full((sheet.shape[0], 24, 3), 255, dtype=np.uint8)
    for k, word in enumerate(words):
        top = 22 + 2 + k * (height + 2)
        edge[top : top + height] = np.rot90(_text(height, 24, word, INK, PAPER))
    stream = io.BytesIO()
    # Of 256 colours: a third of the size, and the difference does not show at this size.
    whole = Picture.fromarray(np.concatenate([edge, sheet], axis=1))
    whole.quantize(256, method=Picture.Quantize.MEDIANCUT, dither=Picture.Dither.NONE).save(
        stream, "PNG", optimize=True
    )
    return stream.getvalue()


def write_film(film: Film, path: Path) -> str:
    """Write a film of three panels; says how much slower than the video it is, in words."""
    step = -(-len(film) // MOST)
    chosen = list(range(0, len(film), step))
    true = film.video.rate / step if film.video.rate > 0 else 1.0
    rate = max(1.0, min(true, FASTEST, len(chosen) / SHORTEST))
    write_mp4(path, _pictures(film, chosen), rate, quality=21, total=len(chosen), show_progress=False)
    slower = true / rate
    return f", {slower:.2g} times slower" if slower > 1.05 else ""


def _pictures(film: Film, chosen: Sequence[int]) -> Iterator[Image]:
    panels = Panels(film, PANEL)
    for i, image in zip(chosen, film.video.images(chosen), strict=True):
        observed, simulated, difference = panels.draw(i, image)
        width = observed.shape[1]
        late = film.simulated[i] - film.times[i]
        delay = [(f"delay {1e3 * late:+.1f} ms", PAPER)] if abs(late) > 1e-6 else []
        above = [[("observed", PAPER), *_outline(film)], [("simulated", PAPER)], _legend(film)]
        below = [[(_time(film, i), PAPER)], [*delay, *_held(film, i)], _agreement(film, i)]
        yield _beside(
            [
                _stacked([_line(width, a), panel, _line(width, b)])
                for a, panel, b in zip(above, (observed, simulated, difference), below, strict=True)
            ]
        )


def _time(film: Film, frame: int) -> str:
    return f"{film.times[frame]:.3f} s"


def _held(film: Film, frame: int) -> Words:
    return [("held out", HELD)] if film.held[frame] else []


def _outline(film: Film) -> Words:
    return [("outline of the mask", LINE)] if film.masks is not None else []


def _legend(film: Film) -> Words:
    if film.masks is None and film.points is not None:
        return [("points", PAPER), ("observed", ONLY_OBSERVED), ("simulated", ONLY_SIMULATED)]
    return [("difference", PAPER), ("only simulated", ONLY_SIMULATED), ("only observed", ONLY_OBSERVED)]


def _agreement(film: Film, frame: int) -> Words:
    found = []
    if film.masks is not None:
        iou = film.iou[frame]
        found.append((f"IoU {iou:.3f}" if np.isfinite(iou) else "no mask", PAPER))
    if film.points is not None and film.points.seen[frame].any():
        found.append((f"points off by {film.points.error(frame):.2f} px", PAPER))
    return found


def _line(width: int, words: Words) -> Image:
    """A dark line of words, each in its colour, spread over the width."""
    from PIL import Image as Picture
    from PIL import ImageDraw

    picture = Picture.new("RGB", (width, 22), INK)
    draw, font = ImageDraw.Draw(picture), _font(width)
    at = 6.0
    for word, colour in words:
        draw.text((at, 11), word, fill=colour, font=font, anchor="lm")
        at += draw.textlength(word, font=font) + 14.0
    return np.asarray(picture)


def _text(width: int, height: int, word: str, ink: tuple[int, int, int], paper: tuple[int, int, int]) -> Image:
    """A word in the middle of an area."""
    from PIL import Image as Picture
    from PIL import ImageDraw

    picture = Picture.new("RGB", (width, height), paper)
    ImageDraw.Draw(picture).text((width / 2, height / 2), word, fill=ink, font=_font(width), anchor="mm")
    return np.asarray(picture)


def _font(width: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size=13 if width >= 200 else 11)


def _stacked(images: Sequence[Image]) -> Image:
    """Pictures one below the other."""
    gap = np.full((2, images[0].shape[1], 3), 255, dtype=np.uint8)
    return np.concatenate([p for image in images for p in (image, gap)][:-1])


def _beside(images: Sequence[Image]) -> Image:
    """Pictures side by side."""
    gap = np.full((images[0].shape[0], GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([p for image in images for p in (image, gap)][:-1], axis=1)
