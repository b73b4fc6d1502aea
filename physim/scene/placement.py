"""Where a scene's own axes are in the world in which gravity and the cameras are given."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from physim.observe.camera import PixelCamera
from physim.scene.fields import padded
from physim.scene.spec_space import PlacementPart
from physim.shapes.shape import rotation_matrix


@dataclass(frozen=True, eq=False)
class Placement:
    """A rigid motion from the scene's axes to those of the world: x -> rotation x + shift.

    Attributes:
        rotation: (3, 3) float64.
        shift: [m], (3,) float64.
    """

    rotation: Tensor
    shift: Tensor

    @staticmethod
    def of(part: PlacementPart | None) -> Placement:
        """The placement that a scene states; none unless it does."""
        if part is None:
            return Placement(torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
        # In the plane a turn is about z, and is written as the third component.
        turn = np.array(padded(part.rotation), dtype=np.float64)
        rotation = torch.as_tensor(rotation_matrix(turn))
        about, moved = (torch.tensor(padded(v), dtype=torch.float64) for v in (part.about, part.translation))
        return Placement(rotation, moved + about - rotation @ about)

    @property
    def matrix(self) -> Tensor:
        """From the scene to the world [m], (4, 4)."""
        found = torch.eye(4, dtype=torch.float64)
        found[:3, :3], found[:3, 3] = self.rotation, self.shift
        return found

    def acceleration(self, world: Tensor) -> Tensor:
        """An acceleration [m/s^2], (3,), given in the world, in the scene's axes."""
        return self.rotation.to(world).mT @ world

    def camera(self, world: PixelCamera) -> PixelCamera:
        """A camera of the world, as it stands in the scene's axes."""
        return dataclasses.replace(world, world_to_camera=world.world_to_camera @ self.matrix)

    def undone(self, own: PixelCamera) -> PixelCamera:
        """The camera in the world, of one as it stands in the scene's axes."""
        return dataclasses.replace(own, world_to_camera=own.world_to_camera @ torch.linalg.inv(self.matrix))

    def points(self, world: Tensor) -> Tensor:
        """Points of the world [m], (..., 3), in the scene's axes."""
        return (world - self.shift.to(world)) @ self.rotation.to(world)
