"""The colours of a body in a picture, as a gauge."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from physim.checks import check_shape
from physim.errors import InputError
from physim.observe.gauge import Snapshot
from physim.observe.silhouette import Silhouette


@dataclass(frozen=True, eq=False)
class Colour:
    """Colour of each pixel: the average of the particles in front, where the body covers it, over a background.

    Light is not simulated: what a particle looks like travels with it. `reduce_colour` makes the same of pictures.

    Attributes:
        silhouette: where the body is, and size and blur of the picture.
        colours: red, green and blue of each particle of the body [-], (m, 3); or any other numbers of channels.
        background: colour of what is not the body [-]: (3,), or of each pixel, (height * width, 3).
        names: of the channels.
    """

    silhouette: Silhouette
    colours: Tensor
    background: Tensor
    names: tuple[str, ...] = ("r", "g", "b")

    def __post_init__(self) -> None:
        check_shape("colours", self.colours, (None, len(self.names)))
        rows = self.silhouette.rows
        if rows is not None and len(rows) != len(self.colours):
            raise InputError(f"colours: the body has {len(rows)} particles, got colours of {len(self.colours)}.")
        if self.background.shape[-1] != len(self.names):
            raise InputError(f"background: expected {len(self.names)} channels, got {tuple(self.background.shape)}.")

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Row, column and channel of each value."""
        return tuple(f"{at}.{name}" for at in self.silhouette.columns for name in self.names)

    @property
    def unit(self) -> str:
        """Shares of full brightness."""
        return "1"

    def read(self, snapshot: Snapshot) -> Tensor:
        """Colours pixel by pixel, row by row [-], (height * width * channels,)."""
        s = self.silhouette
        covered = s.picture(snapshot.x)
        average, there = s.splatter.averages(s.body(snapshot.x), self.colours.to(snapshot.x.device))
        height, width = s.shape
        behind = self.background.to(average).expand(height * width, -1).T.reshape(-1, height, width)
        found = behind + covered * torch.where(there, average - behind, 0.0)
        return s.blurred(found).movedim(0, -1).reshape(-1)
