"""A body told from the rest of a picture by its colours, learned around points that were shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from physim.errors import InputError
from physim.observe.background import Background, Field, Image, to_ycc
from physim.observe.masks import Coverage
from physim.observe.segment import pieces, soften

Place = Sequence[float]

# Share of the longest side that a shown point stands for, around it.
_AROUND = 0.006
# Share of a region's longest side that is looked at beside it, as what is not the body.
_MORE = 0.05
# Rounds of colours and cuts in the picture that they are learned from.
_ROUNDS = 6
# Pixels next to the outline over which the surroundings are averaged, and those whose colour is mixed.
_BESIDE, _MIXED = 12, 3
# With labels given, OpenCV reads no rectangle.
_NO_BOX = (0, 0, 1, 1)
# Noise of a single picture, of brightness and of colour differences [grey levels].
_NOISE = (2.0, 3.0, 3.0)


@dataclass(frozen=True, eq=False)
class BodyColors:
    """Mixtures of colours of the body and of the rest (GrabCut: Rother et al. 2004, doi:10.1145/1015706.1015720).

    Attributes:
        body, rest: OpenCV's mixtures.
        region: left, top, right, bottom [px] outside of which nothing is looked for.
        points: on the body in the first picture [px].
    """

    body: np.ndarray[Any, Any]
    rest: np.ndarray[Any, Any]
    region: tuple[int, int, int, int]
    points: tuple[Place, ...]

    @staticmethod
    def learned(
        image: Image,
        points: Sequence[Place],
        others: Sequence[Place] = (),
        region: tuple[int, int, int, int] | None = None,
    ) -> BodyColors:
        """The colours of a picture around points.

        Args:
            image: (h, w, 3) uint8.
            points: on the body: column and row [px], one for each of its colours at least.
            others: not on it.
            region: left, top, right, bottom [px] that holds the body; the whole picture unless given.

        Raises:
            InputError: colours that do not tell the body from the rest.
        """
        import cv2

        height, width = image.shape[:2]
        box = region or (0, 0, width, height)
        inside = np.zeros((height, width), dtype=bool)
        inside[box[1] : box[3], box[0] : box[2]] = True
        radius = max(2, round(_AROUND * max(width, height)))
        shown, not_shown = _discs(points, (height, width), radius), _discs(others, (height, width), radius)
        box = _within(box, (width, height))
        part = np.s_[box[1] : box[3], box[0] : box[2]]
        # What is like the points in colour may be the body; the rest is taken to be none, and revised.
        color = to_ycc(image)
        seen = color[shown]
        near = np.abs(color - np.median(seen, axis=0)) < 3.0 * (seen.std(axis=0) + np.array(_NOISE)) * (2.0, 1.0, 1.0)
        labels = np.where(inside & near.all(axis=2), cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
        labels[~inside | not_shown] = cv2.GC_BGD
        labels[shown & inside] = cv2.GC_FGD
        body, rest = np.zeros((1, 65)), np.zeros((1, 65))
        try:
            cv2.grabCut(_bgr(image[part]), labels[part].copy(), _NO_BOX, rest, body, _ROUNDS, cv2.GC_INIT_WITH_MASK)
        except cv2.error:
            raise InputError("the points and the region leave no pixel for the body, or none for the rest.") from None
        return BodyColors(body, rest, region or (0, 0, width, height), tuple(points))

    def mask(self, image: Image) -> Coverage:
        """The mask of a frame, with a soft edge, (h, w) uint8."""
        import cv2

        height, width = image.shape[:2]
        left, top, right, bottom = self.region
        x, y, w, h = _within(self.region, (width, height))
        labels = np.full((height, width), cv2.GC_BGD, dtype=np.uint8)
        labels[top:bottom, left:right] = cv2.GC_PR_BGD
        cut, frozen = labels[y:h, x:w].copy(), cv2.GC_EVAL_FREEZE_MODEL
        cv2.grabCut(_bgr(image[y:h, x:w]), cut, _NO_BOX, self.rest.copy(), self.body.copy(), 1, frozen)
        labels[y:h, x:w] = cut
        found = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
        color = to_ycc(image)
        hard = pieces(found, found & _largest(found, self.points))
        if not hard.any():
            return np.zeros((height, width), dtype=np.uint8)
        return soften(hard, color, _surroundings(color, hard))


def _within(region: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A region with some of what is around it, of which the rest is learned [px]."""
    left, top, right, bottom = region
    more = max(4, round(_MORE * max(right - left, bottom - top)))
    return max(0, left - more), max(0, top - more), min(size[0], right + more), min(size[1], bottom + more)


def _surroundings(color: Field, body: Coverage) -> Background:
    """What is behind the body, as far as what is beside it tells."""
    import cv2

    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _MIXED + 1, 2 * _MIXED + 1))
    free = (cv2.dilate(body, kernel) == 0).astype(np.float32)
    reach = (2 * _BESIDE + 1, 2 * _BESIDE + 1)
    weight = cv2.blur(free, reach)
    mean = cv2.blur(color * free[:, :, None], reach) / np.maximum(weight, 1e-6)[:, :, None]
    # Deep inside the body nothing is beside it, and nothing is asked.
    behind = np.where((free > 0)[:, :, None], color, np.where((weight > 1e-4)[:, :, None], mean, 0.0))
    return Background(behind.astype(np.float32), np.broadcast_to(np.array(_NOISE, dtype=np.float32), color.shape))


def _largest(found: np.ndarray[Any, Any], points: Sequence[Place]) -> np.ndarray[Any, Any]:
    """The connected part that holds most of the points, or the largest where none does."""
    import cv2

    number, labels, stats, _ = cv2.connectedComponentsWithStats(found.astype(np.uint8), connectivity=4)
    if number == 1:
        return found
    held = np.bincount([labels[round(y), round(x)] for x, y in points], minlength=number)
    held[0] = 0
    part = int(held.argmax()) if held.any() else 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    return labels == part


def _discs(points: Sequence[Place], shape: tuple[int, int], radius: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    import cv2

    found = np.zeros(shape, dtype=np.uint8)
    for x, y in points:
        cv2.circle(found, (round(x), round(y)), radius, 1, -1)
    return found.astype(bool)


def _bgr(image: Image) -> Any:
    return np.ascontiguousarray(image[:, :, 2::-1])
