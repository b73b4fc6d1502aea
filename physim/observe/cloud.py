"""Observed point clouds against particles: distances of nearest neighbours, one way or both, as a gauge."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from physim.checks import check_shape
from physim.errors import InputError
from physim.observe.camera import PixelCamera
from physim.observe.framewise import Framewise
from physim.observe.gauge import Snapshot
from physim.observe.nearest import lean, nearest

TO_PARTICLE = 0.64
"""Mean distance of a point on a flat surface from the nearest particle, in spacings: particles of a lattice lie half a
spacing below it, and sqrt(1/4 + a^2 + b^2) has this mean over a and b from -1/2 to 1/2."""
REACH = 2.0
"""Where a point is looked for first, in spacings."""


@dataclass(frozen=True, eq=False)
class Cloud:
    """Distances between observed points of a surface and particles, less what they are where all is right.

    A point reads its distance to the nearest particle less `TO_PARTICLE` spacings. With `surface`, each of those
    particles also reads its distance to the nearest observed point, less half a spacing (and the mean gap between
    points, in squares). At a perfect match both are zero on average. Gradients pass through the nearest neighbour as it
    is found. Inside a body a point is never farther than that from a particle, so one way alone does not pull a
    body that is too large back: it needs the other direction, or a silhouette. For a cloud of one camera, name only
    particles that it sees.

    Clouds of frames differ, so columns are those of `Framewise`, and as many as the largest cloud has points; what is
    missing is invalid. Compare with `record`:

        Observation(name, cloud, times, *cloud.record[:1], sigma, valid=cloud.record[1], order=1)

    Attributes:
        points: observed points of each frame [m], NaN where a frame has fewer, (m, p, 3).
        frames: times of the record, and how they meet the columns.
        spacing: of the particles at rest [m].
        rows: which particles are the body, (b,); all unless given.
        surface: which of all particles are compared with the cloud, (s,), such as `surface_rows` finds; none unless
            given.
    """

    points: Tensor
    frames: Framewise
    spacing: float
    rows: Tensor | None = None
    surface: Tensor | None = None

    def __post_init__(self) -> None:
        check_shape("clouds", self.points, (len(self.frames.times), None, 3))
        if not self.spacing > 0:
            raise InputError(f"the spacing of particles must be above 0 m, got {self.spacing}.")
        empty = (~self.measured.any(1)).nonzero()[:, 0]
        if len(empty):
            when = float(self.frames.times[int(empty[0])])
            raise InputError(
                f"clouds: {len(empty)} of {len(self.points)} frames have no points, the first at {when:g} s; leave "
                "those frames out."
            )

    @cached_property
    def measured(self) -> Tensor:
        """Which points there are, bool, (m, p)."""
        return torch.isfinite(self.points).all(-1)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Slot, and point or particle, of each value."""
        particles = [] if self.surface is None else [f"particle {int(i)}" for i in self.surface]
        each = [*(f"point {i}" for i in range(self.points.shape[1])), *particles]
        return tuple(f"{s}.{name}" for s in range(self.frames.slots) for name in each)

    @property
    def unit(self) -> str:
        """Metres."""
        return "m"

    @property
    def record(self) -> tuple[Tensor, Tensor]:
        """Values, all zero [m], and validity of an `Observation` of this gauge, (m, columns)."""
        others = 0 if self.surface is None else len(self.surface)
        valid = self.frames.valid(torch.cat([self.measured, self.measured.new_ones(len(self.points), others)], dim=1))
        return torch.zeros(valid.shape, dtype=torch.float64), valid

    def read(self, snapshot: Snapshot) -> Tensor:
        """Distances to the clouds that the slots hold at this time [m], zero for missing points, (columns,)."""
        x = snapshot.x.to(torch.float64)
        body = x if self.rows is None else x[self.rows.to(x.device)]
        return torch.cat([self._against(m, body, x) for m in self.frames.frames(snapshot)])

    def _against(self, m: int, body: Tensor, x: Tensor) -> Tensor:
        measured = self.measured[m].to(x.device)
        points = self.points[m].to(x)[measured]
        away = _distance(points, body[nearest(points, body, REACH * self.spacing)])
        found = x.new_zeros(len(measured)).masked_scatter(measured, away - TO_PARTICLE * self.spacing)
        if self.surface is None:
            return found
        skin = x[self.surface.to(x.device)]
        back = _distance(skin, points[nearest(skin, points, REACH * self.spacing)])
        usual = (0.25 * self.spacing**2 + float(self._gaps[m])) ** 0.5
        return torch.cat([found, back - usual])

    @cached_property
    def _gaps(self) -> Tensor:
        """Mean squared distance along the surface from anywhere to the nearest point of each cloud [m^2], (m,).

        For points strewn at random with density n it is 1 / (pi n), and their mean distance from each other
        1 / (2 sqrt(n)).
        """
        found = []
        for points, measured in zip(self.points.to(torch.float64), self.measured, strict=True):
            cloud = points[measured]
            some = cloud[:: max(1, len(cloud) // 500)]
            apart = torch.cdist(some, cloud).topk(min(2, len(cloud)), largest=False).values[:, -1].mean()
            found.append(4.0 / torch.pi * apart**2)
        return torch.stack(found)


def surface_rows(x0: Tensor, spacing: float, *, least: float = 0.4) -> Tensor:
    """Particles in the outermost layer of a body: those whose neighbours lie to one side.

    Args:
        x0: positions of the body at rest [m], (n, 3).
        spacing: of the particles [m].
        least: how far the mean of what is within two spacings must be from the particle, in spacings; it is 0.6 in the
            first layer of a lattice, and 0.2 in the second.

    Returns:
        indices, (s,).
    """
    return (lean(x0, 2.05 * spacing).norm(dim=1) > least * spacing).nonzero()[:, 0]


def facing_rows(x0: Tensor, spacing: float, camera: PixelCamera, *, least: float = 0.3) -> Tensor:
    """Particles of a body's outermost layer on the side of a camera; what hides what is not looked at.

    Args:
        x0: positions of the body at rest [m], (n, 3).
        spacing: of the particles [m].
        camera: that sees them.
        least: cosine of the angle between the surface's normal and the direction to the camera.

    Returns:
        indices, (s,).
    """
    rows = surface_rows(x0, spacing)
    outwards = -lean(x0, 2.05 * spacing)[rows]
    away = -camera.forward.to(x0).expand_as(outwards) if camera.parallel else camera.center.to(x0) - x0[rows]
    cosine = torch.nn.functional.cosine_similarity(outwards, away, dim=1)
    return rows[cosine > least]


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return torch.linalg.vector_norm(a - b, dim=-1)
