"""One frame of a film beside its simulation: what was observed, what was simulated, and where they differ."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from physim.observe.camera import PixelCamera
from physim.observe.masks import HALF
from physim.scene.film import Film
from physim.view.files import Image

Array = np.ndarray[Any, Any]

LINE, INK = (255, 230, 60), (20, 20, 30)
BODY, ONLY_SIMULATED, ONLY_OBSERVED = (70, 196, 178), (236, 62, 56), (60, 120, 255)
MARGIN = 0.15
"""Free share around the place where the body is."""
WHOLE = 0.75
"""Share of the picture's sides from which all of it is shown."""
LARGEST = 6.0
"""How much a small picture is enlarged at most."""
TRAIL = 8
"""Frames over which a point's way is shown."""
LIGHT = (-0.45, -0.65, -0.61)
"""From where the body is lit, in the camera's axes (x right, y down, z forward): from above on the left."""


@dataclass(frozen=True, eq=False)
class Panels:
    """Draws frames of a film in the part of the picture where the body is.

    Attributes:
        film: what is drawn.
        side: longest side of one panel [px].
    """

    film: Film
    side: int

    @cached_property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the part that is shown [px of the film]."""
        film = self.film
        camera = film.camera
        seen = np.zeros((camera.height, camera.width), dtype=bool)
        for i in range(len(film)):
            seen |= film.coverage(i) > 0.5
            if film.masks is not None and film.told[i]:
                seen |= film.masks[i] >= HALF
        rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        if not len(rows):
            return 0, 0, camera.width, camera.height
        low, high = (int(columns[0]), int(rows[0])), (int(columns[-1]) + 1, int(rows[-1]) + 1)
        free = math.ceil(MARGIN * max(b - a for a, b in zip(low, high, strict=True)))
        left, top = (max(0, a - free) for a in low)
        right, bottom = min(camera.width, high[0] + free), min(camera.height, high[1] + free)
        if max((right - left) / camera.width, (bottom - top) / camera.height) > WHOLE:
            return 0, 0, camera.width, camera.height
        return left, top, right, bottom

    @cached_property
    def scale(self) -> float:
        """Pixels of a panel for each of the film."""
        left, top, right, bottom = self.box
        return min(LARGEST, self.side / max(right - left, bottom - top))

    @cached_property
    def camera(self) -> PixelCamera:
        """The film's camera, for a panel."""
        left, top, right, bottom = (round(self.scale * edge) for edge in self.box)
        own, camera = self.scale, self.film.camera
        whole = camera.scaled(round(own * camera.width), round(own * camera.height))
        return dataclasses.replace(
            whole, cx=whole.cx - left, cy=whole.cy - top, width=right - left, height=bottom - top
        )

    def draw(self, frame: int, image: Image) -> tuple[Image, Image, Image]:
        """Observed, simulated, difference.

        Args:
            frame: which one.
            image: of the film, (h, w, 3 or more) uint8.
        """
        photo = self._fitted(image[:, :, :3])
        grey = np.repeat(photo @ np.array([[0.299], [0.587], [0.114]], dtype=np.float32), 3, axis=2)
        coverage, mask = self.film.coverage(frame, self.camera).astype(np.float32), self._mask(frame)
        observed = photo if mask is None else _outlined(photo, mask)
        simulated = _outlined(_over(0.35 * grey, self._body(frame, coverage), coverage), coverage, INK)
        difference = 0.4 * grey + 60.0
        if mask is not None:
            off = coverage - mask
            difference = _over(difference, np.array(ONLY_SIMULATED, dtype=np.float32), np.clip(off, 0.0, 1.0))
            difference = _over(difference, np.array(ONLY_OBSERVED, dtype=np.float32), np.clip(-off, 0.0, 1.0))
        panels = tuple(np.clip(p, 0, 255).round().astype(np.uint8) for p in (observed, simulated, difference))
        return self._with_points(frame, *panels)

    def _fitted(self, image: Array) -> Array:
        """The shown part of a film's picture at the size of a panel, float."""
        import cv2

        camera = self.film.camera
        left, top, right, bottom = self.box
        if image.shape[:2] != (camera.height, camera.width):
            image = cv2.resize(image, (camera.width, camera.height), interpolation=cv2.INTER_AREA)
        way = cv2.INTER_CUBIC if self.scale > 1.0 else cv2.INTER_AREA
        size = (self.camera.width, self.camera.height)
        return cv2.resize(image[top:bottom, left:right], size, interpolation=way).astype(np.float32)

    def _mask(self, frame: int) -> Array | None:
        """Coverage by the observed body in a panel [-]; None where nothing is told."""
        film = self.film
        if film.masks is None or not film.told[frame]:
            return None
        return self._fitted(film.masks[frame]) / 255.0

    def _body(self, frame: int, coverage: Array) -> Array:
        """Colours of the body, lit by the slope of its front, (h, w, 3)."""
        import cv2

        depth = self.film.depth(frame, self.camera)
        there = np.isfinite(depth) & (coverage > 0.05)
        per_metre = self._pixels_per_metre(frame)
        # Blurred over the spacing of the particles, whose layers would show else, and within the body alone.
        sigma = max(1.0, 0.8 * self._spacing * per_metre)
        weight = cv2.GaussianBlur(there.astype(np.float32), (0, 0), sigma)
        middle = float(np.median(depth[there])) if there.any() else 0.0
        level = np.where(there, depth - middle, 0.0).astype(np.float32)
        smooth = cv2.GaussianBlur(level, (0, 0), sigma) / np.maximum(weight, 1e-6)
        down, across = np.gradient(smooth * per_metre)
        facing = (across * LIGHT[0] + down * LIGHT[1] - LIGHT[2]) / np.sqrt(1.0 + across**2 + down**2)
        light = 0.42 + 0.72 * np.clip(facing, 0.0, 1.0)
        return light[..., None] * np.array(BODY, dtype=np.float32)

    def _pixels_per_metre(self, frame: int) -> float:
        seen = dataclasses.replace(self.film.sights[0], camera=self.camera)
        projected = seen.splatter.project(seen.body(torch.as_tensor(self.film.x[frame])))
        return float(projected.scale.median())

    @cached_property
    def _spacing(self) -> float:
        return float(torch.as_tensor(self.film.sights[0].spacing).median())

    def _with_points(self, frame: int, *panels: Image) -> tuple[Image, Image, Image]:
        """Crosses where points were tracked, dots where the simulation has them, both with where they came from."""
        import cv2

        observed, simulated, difference = (np.ascontiguousarray(p) for p in panels)
        points = self.film.points
        if points is None:
            return observed, simulated, difference
        corner = np.array([round(self.scale * edge) for edge in self.box[:2]])
        a, b = ((p + 0.5) * self.scale - 0.5 - corner for p in (points.observed, points.simulated))
        for k in np.flatnonzero(points.seen[frame]):
            before = [i for i in range(max(0, frame - TRAIL), frame + 1) if points.seen[i, k]]
            for panel, path in ((observed, a), (simulated, b)):
                line = np.array([_fixed(path[i, k]) for i in before], dtype=np.int32)
                cv2.polylines(panel, [line], False, LINE, 1, cv2.LINE_AA, 4)
            here, there = _fixed(a[frame, k]), _fixed(b[frame, k])
            _cross(observed, a[frame, k], LINE)
            cv2.circle(simulated, there, 3 << 4, INK, -1, cv2.LINE_AA, 4)
            cv2.circle(simulated, there, 2 << 4, LINE, -1, cv2.LINE_AA, 4)
            cv2.line(difference, here, there, (255, 255, 255), 1, cv2.LINE_AA, 4)
            _cross(difference, a[frame, k], ONLY_OBSERVED)
            cv2.circle(difference, there, 2 << 4, ONLY_SIMULATED, -1, cv2.LINE_AA, 4)
        return observed, simulated, difference


def _over(below: Array, colour: Array, share: Array) -> Array:
    """A colour laid over a picture where `share` says how much of each pixel it covers."""
    return (1.0 - share[..., None]) * below + share[..., None] * colour


def _outlined(image: Array, mask: Array, colour: tuple[int, int, int] = LINE) -> Array:
    """A picture with a thin line where a mask is half covered, itself in a dark one so that it shows anywhere."""
    import cv2

    out = np.clip(image, 0, 255).round().astype(np.uint8)
    lines, _ = cv2.findContours((mask >= 0.5).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    if colour != INK:
        cv2.drawContours(out, lines, -1, INK, 2, cv2.LINE_AA)
    cv2.drawContours(out, lines, -1, colour, 1, cv2.LINE_AA)
    return out.astype(np.float32)


def _cross(image: Image, at: Array, colour: tuple[int, int, int]) -> None:
    import cv2

    for way in ((4.0, 0.0), (0.0, 4.0)):
        ends = _fixed(at - way), _fixed(at + way)
        cv2.line(image, *ends, INK, 3, cv2.LINE_AA, 4)
    for way in ((4.0, 0.0), (0.0, 4.0)):
        cv2.line(image, _fixed(at - way), _fixed(at + way), colour, 1, cv2.LINE_AA, 4)


def _fixed(at: Array) -> tuple[int, int]:
    """A position for OpenCV's lines, which count sixteenths of a pixel."""
    return round(float(at[0]) * 16), round(float(at[1]) * 16)
