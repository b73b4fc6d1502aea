"""What a depth camera sees of a body, as a gauge."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from physim.observe.gauge import Snapshot
from physim.observe.silhouette import Silhouette


@dataclass(frozen=True, eq=False)
class Depth:
    """Depth of each pixel along the optical axis: that of the body's front where it covers the pixel.

    A pixel that the body covers by c reads s times the depth of its front plus (1 - s) times `background`, where
    s = 3 c^2 - 2 c^3: the last half percent that coverage lacks inside a body would let the background through. What
    was not measured is for the record's `valid` to say; `reduce_depth` makes values and validity of depth images.

    Attributes:
        silhouette: where the body is, and how large the picture; its blur is not used, for depth jumps at outlines.
        background: depth of what is not the body [m]: of all, or of each pixel, (height * width,).
    """

    silhouette: Silhouette
    background: float | Tensor

    @property
    def columns(self) -> tuple[str, ...]:
        """Row and column of each pixel."""
        return self.silhouette.columns

    @property
    def unit(self) -> str:
        """Metres."""
        return "m"

    def read(self, snapshot: Snapshot) -> Tensor:
        """Depth of each pixel, row by row [m], (height * width,)."""
        covered = self.silhouette.picture(snapshot.x).reshape(-1)
        solid = covered**2 * (3.0 - 2.0 * covered)
        depth, there = self.silhouette.splatter.depth(self.silhouette.body(snapshot.x))
        behind = self.background.to(covered) if isinstance(self.background, Tensor) else self.background
        return behind + solid * (depth.reshape(-1) - behind) * there.reshape(-1)
