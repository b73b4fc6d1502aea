"""Tracked points in a picture, bound to material points, as a gauge."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from physim.observe.camera import PixelCamera
from physim.observe.gauge import Snapshot
from physim.observe.tracks import Tracks


@dataclass(frozen=True, eq=False)
class ImageTracks:
    """Pixels of markers that move with the particles.

    Attributes:
        camera: of the video in whose pixels the points were tracked.
        tracks: the markers, bound to particles (`Tracks.bind`); its axes, displacement and mean are not used.
    """

    camera: PixelCamera
    tracks: Tracks

    @property
    def columns(self) -> tuple[str, ...]:
        """Marker and pixel axis of each value: u to the right, v down."""
        return tuple(f"{name}.{axis}" for name in self.tracks.names for axis in "uv")

    @property
    def unit(self) -> str:
        """Pixels."""
        return "px"

    def read(self, snapshot: Snapshot) -> Tensor:
        """Pixel coordinates of the markers [px], (2 * markers,).

        Raises:
            InputError: a marker is behind the camera.
        """
        pixels, _ = self.camera.project(self.tracks.positions(snapshot.x))
        return pixels.reshape(-1)
