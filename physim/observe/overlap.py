"""How well two outlines overlap: as a score, and as residuals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from physim.checks import check_shape
from physim.observe.framewise import Framewise
from physim.observe.gauge import Snapshot
from physim.observe.silhouette import Silhouette


def soft_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of two pictures of coverages, (...), 1 where they are equal.

    It is sum(a b) / sum(a^2 + b^2 - a b), the usual number for masks of zeros and ones, and smooth between.

    Args:
        a: coverages [-], (..., pixels).
        b: the same of the other picture.
    """
    both = (a * b).sum(-1)
    union = (a**2 + b**2 - a * b).sum(-1)
    return torch.where(union > 0, both / torch.where(union > 0, union, 1.0), 1.0)


@dataclass(frozen=True, eq=False)
class SoftIoU:
    """Residuals whose squares add up to 1 - `soft_iou` of the silhouette and the mask of each frame.

    They are (a - b) / sqrt(sum(a^2 + b^2 - a b)) pixel by pixel: the differences that the silhouette itself would be
    compared by, divided by the size of the body in the picture, so that a frame in which the body is near counts no
    more than another. 1 - IoU itself, one number per frame that is never negative, is no residual: its measured value
    would be 0, which it never reaches, and its slope vanishes where it is best.

    As each frame has its own mask, columns are those of `Framewise`; compare with `record`.

    Attributes:
        silhouette: what is compared.
        masks: of each frame of the record, reduced to the silhouette's size and blur by `reduce_mask`, (m, pixels).
        frames: times of the record, and how they meet the columns.
    """

    silhouette: Silhouette
    masks: Tensor
    frames: Framewise

    def __post_init__(self) -> None:
        check_shape("masks", self.masks, (len(self.frames.times), len(self.silhouette.columns)))

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Slot and pixel of each value."""
        return tuple(f"{s}.{at}" for s in range(self.frames.slots) for at in self.silhouette.columns)

    @property
    def unit(self) -> str:
        """A number."""
        return "1"

    @property
    def record(self) -> tuple[Tensor, Tensor]:
        """Values, all zero, and validity of an `Observation` of this gauge, (m, columns)."""
        valid = self.frames.valid(torch.ones_like(self.masks, dtype=torch.bool))
        return torch.zeros(valid.shape, dtype=torch.float64), valid

    def read(self, snapshot: Snapshot) -> Tensor:
        """Residuals against the masks that the slots hold at this time [-], (slots * pixels,)."""
        a = self.silhouette.read(snapshot)
        b = self.masks[list(self.frames.frames(snapshot))].to(a)
        union = (a**2 + b**2 - a * b).sum(-1, keepdim=True)
        return ((a - b) / torch.sqrt(union.clamp_min(1e-12))).reshape(-1)
