"""Pictures of particles without sorting them: what is solid, how far away it is, and what colour it has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from physim.checks import check_finite
from physim.errors import InputError
from physim.observe.camera import PixelCamera
from physim.observe.cover import cover
from physim.observe.splat_maps import PER_SIGMA, Sheet, spread

SIGMA_AVERAGE, PIXEL_AVERAGE = 0.35, 0.25
"""Standard deviation of a particle's bell in averages, in spacings of particles and [px], added in squares. Narrower
than for coverage: averages have no holes as long as bells meet and one of them reaches the middle of each pixel, and on
slopes a wide bell brings depth nearer."""
FRONT = 0.5
"""Depth over which what lies behind counts e times less, in spacings of particles."""
SKIN = 0.66
"""From the front surface to the average depth of what is in front, in spacings, for a lattice seen along an axis: half
a spacing to the first layer, and exp(-2) / (1 - exp(-2)) for those behind."""
DEEPEST = 600.0
"""Exponent at which that stops, so that nothing underflows: 300 spacings behind what is nearest."""


@dataclass(frozen=True)
class Projection:
    """Particles in pictures.

    Attributes:
        u: pixels, (pictures, n, 2).
        depth: along the optical axis [m], (pictures, n).
        scale: pixels per metre at that depth, (pictures, n).
    """

    u: Tensor
    depth: Tensor
    scale: Tensor


@dataclass(frozen=True, eq=False)
class Splatter:
    """Draws particles as one or several cameras see them, differentiably, all pictures in one launch.

    Sums do not depend on the order of particles in depth. Gradients are those of an adjoint by hand. On a CPU, repeats
    give the same bits for any number of threads; on a GPU sums are atomic, and the last bits vary.

    Attributes:
        cameras: one camera, or several with pictures of one size.
        spacing: distance of neighbouring particles at rest [m]: of all, or of each, (n,).
        threads: CPU threads; torch's number unless given.
    """

    cameras: PixelCamera | Sequence[PixelCamera]
    spacing: float | Tensor
    threads: int | None = None

    def __post_init__(self) -> None:
        spacing = torch.as_tensor(self.spacing)
        if not bool((spacing > 0).all()) or not bool(torch.isfinite(spacing).all()):
            raise InputError(f"the spacing of particles must be above 0 m, got {float(spacing.min())}.")
        if len({(c.width, c.height) for c in self._all}) != 1:
            sizes = ", ".join(f"{c.width} x {c.height}" for c in self._all) or "none"
            raise InputError(f"cameras of one splatter need pictures of one size, got {sizes}; see `scaled`.")

    @property
    def _all(self) -> tuple[PixelCamera, ...]:
        return (self.cameras,) if isinstance(self.cameras, PixelCamera) else tuple(self.cameras)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a picture [px]."""
        return self._all[0].width, self._all[0].height

    def project(self, x: Tensor) -> Projection:
        """Where particles are in the pictures, frame after frame for each camera.

        Args:
            x: positions [m], (..., n, 3).

        Raises:
            InputError: positions that are not finite, or behind a camera.
        """
        if x.ndim < 2 or x.shape[-1] != 3 or x.numel() == 0:
            raise InputError(f"positions: expected shape (..., n, 3) with particles in it, got {tuple(x.shape)}.")
        frames = x.reshape(-1, *x.shape[-2:])
        seen = [camera.project(frames) for camera in self._all]
        u = torch.cat([pixels for pixels, _ in seen])
        if not math.isfinite(float(u.detach().sum())):
            check_finite("positions", x)
            raise InputError("the camera maps some particles to pixels that are not finite; check its pose.")
        depth = torch.cat([d for _, d in seen])
        scales = []
        for camera, (_, d) in zip(self._all, seen, strict=True):
            focal = math.sqrt(camera.fx * camera.fy)
            scales.append(torch.full_like(d, focal) if camera.parallel else focal / d)
        return Projection(u, depth, torch.cat(scales))

    def coverage(self, x: Tensor) -> Tensor:
        """Share of each pixel that is covered [-], (cameras, ..., height, width); without the first for one camera.

        Args:
            x: positions [m], (..., n, 3), float32 or float64.
        """
        return self._shaped(self._coverage(self.project(x)), x)

    def averages(self, x: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Averages of particle values over what is in front, and where there is anything.

        A particle counts with its bell times exp(-depth / (FRONT mean spacing)): of two in one pixel the nearer one
        counts exp(2) times as much per spacing between them, whatever else is there, so that no order is needed.
        Computed in double precision.

        Args:
            x: positions [m], (..., n, 3).
            values: k values of each particle, (n, k) or (..., n, k).

        Returns:
            averages, (cameras, ..., k, height, width), zero where no particle is, and whether there is one, (cameras,
            ..., height, width), bool; without the first axis for one camera.
        """
        found, there = self._averages(self.project(x.to(torch.float64)), values)
        return self._shaped(found, x), self._shaped(there, x)

    def depth(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Depth of the front surface along the optical axis [m], and where there is one; shapes as of `coverage`.

        The average depth of what is in front, less half a spacing from the centres of particles to the surface, less
        what the layers behind the first add.

        Args:
            x: positions [m], (..., n, 3).
        """
        seen = self.project(x.to(torch.float64))
        surface = seen.depth - SKIN * self._spacings(seen)
        found, there = self._averages(seen, surface[..., None])
        return self._shaped(found[:, 0], x), self._shaped(there, x)

    def _coverage(self, seen: Projection) -> Tensor:
        width, height = self.size
        sheet = Sheet(len(seen.u), height, width, self.threads)
        return cover(seen.u.flatten(0, 1), (self._spacings(seen) * seen.scale).flatten(), sheet)

    def _averages(self, seen: Projection, values: Tensor) -> tuple[Tensor, Tensor]:
        width, height = self.size
        sheet = Sheet(len(seen.u), height, width, self.threads)
        nearest = seen.depth.detach().amin(1, keepdim=True)  # drops out of the quotient
        # One length for all particles: the quotient depends on `nearest` otherwise.
        behind = (seen.depth - nearest) / (FRONT * self._spacings(seen).mean())
        weight = torch.exp(-behind.clamp_max(DEEPEST))[..., None]
        n, k = values.shape[-2:]
        values = values.to(seen.u).reshape(-1, n, k)
        values = values.repeat(len(seen.u) // len(values), 1, 1)
        middle = values.detach().mean(1, keepdim=True)  # sums of small numbers keep their digits
        amplitude = torch.cat([weight, weight * (values - middle)], dim=-1)
        across = SIGMA_AVERAGE * self._spacings(seen) * seen.scale
        reach = PER_SIGMA * torch.sqrt(across**2 + PIXEL_AVERAGE**2)
        sums = spread(seen.u.flatten(0, 1), reach.flatten(), amplitude.flatten(0, 1), sheet)
        there = sums[:, 0] > 0
        safe = torch.where(there, sums[:, 0], 1.0)
        return torch.where(there[:, None], sums[:, 1:] / safe[:, None] + middle.mT[..., None], 0.0), there

    def _spacings(self, seen: Projection) -> Tensor:
        return torch.as_tensor(self.spacing, dtype=seen.u.dtype, device=seen.u.device)

    def _shaped(self, pictures: Tensor, x: Tensor) -> Tensor:
        cameras = () if isinstance(self.cameras, PixelCamera) else (len(self._all),)
        return pictures.reshape(*cameras, *x.shape[:-2], *pictures.shape[1:])
