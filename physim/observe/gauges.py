"""Scalar and particle gauges over a chosen set of material points."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from physim.errors import InputError
from physim.observe.gauge import Snapshot, chosen


@dataclass(frozen=True)
class Particles:
    """Coordinates of particles, one value per particle and axis.

    Attributes:
        indices: which particles, (m,).
        axes: which coordinates, such as (0, 2).
        reference: subtracted positions [m], (m, 3); None reads positions instead of displacements.
    """

    indices: Tensor
    axes: tuple[int, ...] = (0, 1, 2)
    reference: Tensor | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Particle number and axis of each value."""
        return tuple(f"{int(i)}{'xyz'[a]}" for i in self.indices for a in self.axes)

    @property
    def unit(self) -> str:
        """Metres."""
        return "m"

    def read(self, snapshot: Snapshot) -> Tensor:
        """Coordinates or displacements [m], (m * axes,)."""
        x = chosen(snapshot.x, self.indices)
        if self.reference is not None:
            x = x - self.reference
        return x[:, list(self.axes)].reshape(-1)


@dataclass(frozen=True)
class Velocities:
    """Velocity of a flow at points that stay where they are.

    Attributes:
        points: positions [m], (m, 3).
        names: of the points.
        axes: which components.
    """

    points: Tensor
    names: tuple[str, ...]
    axes: tuple[int, ...] = (0, 1)

    @property
    def columns(self) -> tuple[str, ...]:
        """Point and axis of each value."""
        return tuple(f"{name}.{'xyz'[a]}" for name in self.names for a in self.axes)

    @property
    def unit(self) -> str:
        """Metres per second."""
        return "m/s"

    def read(self, snapshot: Snapshot) -> Tensor:
        """Components [m/s], (m * axes,)."""
        if snapshot.velocity is None:
            raise InputError("this solver tells no velocities at points; use `solver: insr`.")
        return snapshot.velocity(self.points)[:, list(self.axes)].reshape(-1)


@dataclass(frozen=True)
class Coordinate:
    """A number per position: distance along a direction, or distance from an axis.

    Attributes:
        direction: unit vector, (3,): the direction measured along, or the axis measured from.
        origin: where the coordinate is zero [m], (3,).
        radial: False gives (x - origin) . direction, True the distance from the axis through `origin`.
    """

    direction: Tensor
    origin: Tensor
    radial: bool = False

    def of(self, x: Tensor) -> Tensor:
        """The coordinate [m] of each position [m], (n, 3) -> (n,)."""
        offset = x - self.origin
        along = offset @ self.direction
        if not self.radial:
            return along
        return torch.linalg.vector_norm(offset - along[:, None] * self.direction, dim=1)


@dataclass(frozen=True)
class Mean:
    """Volume-weighted mean of a coordinate, for example the mean height, or the displacement of a tip.

    Attributes:
        indices: which particles, (m,).
        share: fraction of the volume of each, summing to one, (m,).
        coordinate: what is averaged.
        zero: subtracted value [m]: the reference mean where a displacement is read.
        name: column name.
    """

    indices: Tensor
    share: Tensor
    coordinate: Coordinate
    zero: float = 0.0
    name: str = "mean"

    @property
    def columns(self) -> tuple[str, ...]:
        """One value."""
        return (self.name,)

    @property
    def unit(self) -> str:
        """Metres."""
        return "m"

    def read(self, snapshot: Snapshot) -> Tensor:
        """The mean [m], (1,)."""
        values = self.coordinate.of(chosen(snapshot.x, self.indices))
        return ((values * self.share).sum() - self.zero).reshape(1)


@dataclass(frozen=True)
class Spread:
    """Radius of the uniform body with the same second moment about its own mean.

    For a coordinate s the value is sqrt(c Var(s)): c = 3 gives the half length of a uniform bar from one
    direction, c = 2 the radius of a uniform disc from the mean squared distance to its axis.

    Attributes:
        indices: which particles, (m,).
        share: fraction of the volume of each, summing to one, (m,).
        directions: orthonormal directions that span the spread, (d, 3); d is 1 or 2.
        name: column name.
    """

    indices: Tensor
    share: Tensor
    directions: Tensor
    name: str = "radius"

    @property
    def columns(self) -> tuple[str, ...]:
        """One value."""
        return (self.name,)

    @property
    def unit(self) -> str:
        """Metres."""
        return "m"

    def read(self, snapshot: Snapshot) -> Tensor:
        """The radius [m], (1,)."""
        s = chosen(snapshot.x, self.indices) @ self.directions.T
        centred = s - (self.share[:, None] * s).sum(0)
        factor = 3.0 if self.directions.shape[0] == 1 else 2.0
        return torch.sqrt(factor * (self.share[:, None] * centred**2).sum()).reshape(1)


@dataclass(frozen=True)
class Force:
    """Force of the material on one collider.

    Attributes:
        collider: its index in the model.
        direction: unit vector, (3,).
        name: column name.
    """

    collider: int
    direction: Tensor
    name: str = "force"

    @property
    def columns(self) -> tuple[str, ...]:
        """One value."""
        return (self.name,)

    @property
    def unit(self) -> str:
        """Newton (per metre of depth in 2D)."""
        return "N"

    def read(self, snapshot: Snapshot) -> Tensor:
        """The force along `direction` [N], (1,).

        Raises:
            InputError: the solver offers no collider forces.
        """
        if snapshot.force is None:
            raise InputError(
                f"the gauge '{self.name}' reads a force, and this solver records none; "
                "observe a position instead, or use a solver that offers collider forces."
            )
        return (snapshot.force[self.collider].to(torch.float64) @ self.direction).reshape(1)


def volume_share(vol0: Tensor, indices: Tensor) -> Tensor:
    """Fraction of the chosen reference volume that each chosen particle carries, float64, (m,).

    Raises:
        InputError: no particle is chosen.
    """
    if indices.numel() == 0:
        raise InputError("the gauge covers no particle; check its body and region.")
    volume = vol0[indices].detach().to(torch.float64)
    return volume / volume.sum()
