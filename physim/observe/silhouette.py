"""The outline of a body in a picture, as a gauge."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from physim.errors import InputError
from physim.observe.camera import PixelCamera
from physim.observe.gauge import Snapshot
from physim.observe.reduce import Size, blur_matrix
from physim.observe.splat import FRONT, Splatter


@dataclass(frozen=True, eq=False)
class Silhouette:
    """How much of each pixel a body covers, in a picture of reduced size; `reduce_mask` makes the same of masks.

    Attributes:
        camera: of the video.
        spacing: of the particles at rest [m]: of all, or of each, (n,).
        rows: which particles are the body, (m,); all unless given.
        size: width and height of the reduced picture [px]; the camera's unless given.
        blur: standard deviation of a Gaussian blur [px of the reduced picture]. A fit that starts far away sees its
            way in a blurred picture, and ends in a sharp one.
        hidden_by: particles that may stand in front of the body, (k,); it is then seen only where it is in front.
        threads: CPU threads; torch's number unless given.
    """

    camera: PixelCamera
    spacing: float | Tensor
    rows: Tensor | None = None
    size: Size | None = None
    blur: float = 0.0
    hidden_by: Tensor | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        if not self.blur >= 0.0:
            raise InputError(f"blur must not be below 0 px, got {self.blur}.")
        if self.rows is not None and self.rows.numel() == 0:
            raise InputError("the silhouette is of no particle; check its body.")
        if self.hidden_by is not None and (self.rows is None or self.hidden_by.numel() == 0):
            raise InputError("say which particles are the body (`rows`), and which may hide it (`hidden_by`).")

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Height and width of the reduced picture [px]."""
        width, height = self.size or (self.camera.width, self.camera.height)
        return height, width

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Row and column of each pixel."""
        height, width = self.shape
        return tuple(f"{v}:{u}" for v in range(height) for u in range(width))

    @property
    def unit(self) -> str:
        """Shares of a pixel."""
        return "1"

    def read(self, snapshot: Snapshot) -> Tensor:
        """Coverage of each pixel, row by row [-], (height * width,)."""
        return self.blurred(self.picture(snapshot.x)).reshape(-1)

    def picture(self, x: Tensor) -> Tensor:
        """Coverage before it is blurred [-], float64, (..., height, width), for positions of all particles [m]."""
        body = self.body(x)
        found = self.splatter.coverage(body).to(torch.float64)
        if self.hidden_by is None:
            return found
        others = x[..., self.hidden_by.to(x.device), :]
        depth, there = self.splatter.depth(body)
        over, above = self._others.depth(others)
        # Smooth over half a spacing, where bodies touch.
        width = FRONT * torch.as_tensor(self.spacing, dtype=torch.float64).mean().to(depth.device)
        ahead = torch.where(there & above, torch.sigmoid((depth - over) / width), 0.0)
        return found * (1.0 - ahead * self._others.coverage(others).to(torch.float64))

    def body(self, x: Tensor) -> Tensor:
        """Positions of the body's particles [m], (..., m, 3), of those of all, (..., n, 3)."""
        return x if self.rows is None else x[..., self.rows.to(x.device), :]

    def blurred(self, pictures: Tensor) -> Tensor:
        """Pictures of the reduced size, (..., height, width), after the blur."""
        if self.blur == 0.0:
            return pictures
        down, across = (m.to(pictures) for m in self._blurs)
        return down @ pictures @ across.T

    @cached_property
    def splatter(self) -> Splatter:
        """What draws the body at the reduced size."""
        return self._drawer(self.rows)

    @cached_property
    def _others(self) -> Splatter:
        return self._drawer(self.hidden_by)

    @cached_property
    def _blurs(self) -> tuple[Tensor, Tensor]:
        height, width = self.shape
        return blur_matrix(height, self.blur), blur_matrix(width, self.blur)

    def _drawer(self, rows: Tensor | None) -> Splatter:
        height, width = self.shape
        spacing = self.spacing
        if isinstance(spacing, Tensor) and spacing.ndim > 0 and rows is not None:
            spacing = spacing[rows]
        return Splatter(self.camera.scaled(width, height), spacing, self.threads)
