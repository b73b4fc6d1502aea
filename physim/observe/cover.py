"""How much of each pixel particles cover, as a differentiable function of where they are in the picture."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from physim.bridge import run_map
from physim.errors import InputError
from physim.observe import splat_maps
from physim.observe.splat_maps import PER_SIGMA, Sheet

SIGMA = 0.55
"""Standard deviation of a particle's bell over the spacing of particles. Below 0.5 a single layer that is stretched by
half shows holes."""
PIXEL = 0.5
"""Standard deviation of a pixel's own blur [px], added in squares: a bell between pixels would be seen by none."""
SIGMA_SHARED = 0.34
"""As `SIGMA`, of the bells that tell how particles share an area. The more, the farther out an outline lies where many
particles stand one behind the other there; less leaves gaps in stretched bodies."""
PIXEL_SHARED = 0.1
"""As `PIXEL`, of the same bells, which have a raster of their own: it limits how fine that is."""
FINEST = 0.15
"""Of that raster [px]: particles that lie closer than pixels would ask for more than memory has."""
FAINT = 0.2
"""Sum of these bells below which an area is nobody's. The less, the less outlines depend on how many particles stand
one behind the other, and the rougher is the way of a particle over the raster."""
GAIN = 1.59
SHARPNESS = 4
"""Coverage is 1 - exp(-(GAIN D)^SHARPNESS), 0.999 where D = 1: chosen so that covered areas are the true ones."""


def cover(u: Tensor, across: Tensor, sheet: Sheet) -> Tensor:
    """Share of each pixel that particles cover [-], (count, height, width).

    It is 1 - exp(-(GAIN D)^SHARPNESS) of the density D of particles in front of the pixel, in units of their own: the
    sum of bells w_i of area A_i, each with the area that particle i has for itself,

        D(p) = sum_i w_i(p) / A_i  sum_q v_i(q) / sqrt(T(q)^2 + FAINT^2) dq,  T(q) = sum_j v_j(q),

    where v are other bells, summed on a raster of their own. Each point q of the picture is shared by the particles
    there, v_i / T, so that all of them have the area of their union: D is 1 inside of a body of any thickness, also
    where it is stretched or pressed, and where only a few layers reach an edge that is seen aslant or in perspective.

    Args:
        u: pixel of each particle, (count * n, 2).
        across: spacing of the particles there [px], (count * n,).
        sheet: size of the pictures.
    """
    return run_map(_Cover(sheet), {"u": u, "across": across})


@dataclass(frozen=True)
class _Raster:
    """Where the areas of particles are found: in each picture pixels of `step` of its own, with a margin around.

    Attributes:
        step: picture pixels per pixel of the raster, of the picture that a particle is in, (m,) or ().
        margin: around the picture, of the same [px], (m,) or ().
        sheet: size of the rasters.
    """

    step: Tensor
    margin: Tensor
    sheet: Sheet

    @staticmethod
    def around(u: Tensor, reach: Tensor, near: Tensor, sheet: Sheet) -> _Raster:
        """The raster that holds the neighbours of all particles that can be seen.

        Without a margin the weight of a particle that comes into the picture would start at infinity.
        """
        most = u.new_tensor([sheet.width - 1, sheet.height - 1])
        seen = (torch.minimum(u, most - u).amin(1) > -reach).view(sheet.count, -1)
        wide = torch.where(seen, torch.add(reach, near, alpha=2.0).view_as(seen), 0.0).amax(1)
        least = torch.where(seen, near.view_as(seen), math.inf).amin(1)
        found: list[list[float]] = torch.stack([wide, least]).tolist()
        widest = max(found[0])
        if widest > 8 * max(sheet.width, sheet.height) + 100:
            raise InputError(
                f"a particle would cover {widest:.3g} pixels of a picture of {sheet.width} x {sheet.height}: it is "
                "right in front of the camera. Check the camera's position and units, and the spacing of the "
                "particles."
            )
        margins = [math.ceil(w) + 1 for w in found[0]]
        # In steps, so that the result does not depend on the smallest radius but at a few points.
        steps = [
            2.0 ** (math.floor(4.0 * math.log2(max(0.25 * r, FINEST))) / 4.0) if r < math.inf else 1.0 for r in found[1]
        ]
        pairs = list(zip(steps, margins, strict=True))
        width, height = (max(math.ceil((n + 2 * m) / s) for s, m in pairs) + 1 for n in (sheet.width, sheet.height))
        sizes = Sheet(sheet.count, height, width, sheet.threads)
        both = u.new_tensor(pairs)
        if sheet.count > 1:
            both = both.repeat_interleave(seen.shape[1], dim=0)
        return _Raster(both[..., 0], both[..., 1], sizes)


class _Cover:
    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet

    def forward(self, inputs: Mapping[str, Tensor], *, keep: bool) -> tuple[Tensor, Any]:
        """See `Map`."""
        u, across = inputs["u"], inputs["across"]
        reach, near = _radius(across, SIGMA, PIXEL), _radius(across, SIGMA_SHARED, PIXEL_SHARED)
        raster = _Raster.around(u, reach, near, self._sheet)
        v, r = (u + raster.margin[:, None]) / raster.step[:, None], near / raster.step
        one = torch.ones_like(reach)[:, None]
        bells = splat_maps.bells(one)
        total, pages = raster.sheet.pages(1, u), self._sheet.pages(1, u)
        bells.scatter(v, r, one, total, raster.sheet)
        split = (total.square() + FAINT**2).rsqrt_()
        own = bells.gather(v, r, one, split, raster.sheet)[:, 0]
        share = own.mul_(raster.step**2).div_(reach.square()).mul_(4.0 / math.pi)
        bells.scatter(u, reach, share[:, None], pages, self._sheet)
        density = pages[:, 0, :, : self._sheet.width] * GAIN
        covered = 1.0 - torch.exp(-(density**SHARPNESS))
        return covered, (reach, near, raster, v, r, total, split, share, density, covered) if keep else None

    def backward(self, inputs: Mapping[str, Tensor], kept: Any, given: Tensor) -> dict[str, Tensor]:
        """See `Map`."""
        u, across = inputs["u"], inputs["across"]
        reach, near, raster, v, r, total, split, share, density, covered = kept
        pages = self._sheet.pages(1, u)
        slope = density ** (SHARPNESS - 1) * (1.0 - covered)
        torch.mul(slope.mul_(GAIN * SHARPNESS), given, out=pages[:, 0, :, : self._sheet.width])
        bells = splat_maps.bells(share[:, None])
        by_share, by_u, by_reach = bells.pull(u, reach, share[:, None], pages, self._sheet)
        by_own = by_share[:, 0] * raster.step**2 / reach.square() * (4.0 / math.pi)
        by_split = raster.sheet.pages(1, u)
        bells.scatter(v, r, by_own[:, None], by_split, raster.sheet)
        by_total = by_split.mul_(total).mul_(split**3).neg_()
        # Each bell stands twice: in its own area, and in the sum that is shared.
        mixed = torch.stack([by_own, torch.ones_like(by_own)], dim=1)
        both = torch.cat([split, by_total], dim=1)
        _, by_v, by_r = splat_maps.bells(mixed).pull(v, r, mixed, both, raster.sheet)
        by_reach = by_reach - 2.0 * by_share[:, 0] * share / reach
        by_near = by_r / raster.step
        # The radius is sqrt(10 (sigma^2 across^2 + pixel^2)).
        by_across = (by_reach * (SIGMA**2) / reach + by_near * (SIGMA_SHARED**2) / near) * across * PER_SIGMA**2
        return {"u": by_u + by_v / raster.step[:, None], "across": by_across}


def _radius(across: Tensor, sigma: float, pixel: float) -> Tensor:
    """Radius of bells [px], (m,), of a spacing [px]."""
    return (across * (PER_SIGMA * sigma)).square_().add_((PER_SIGMA * pixel) ** 2).sqrt_()
