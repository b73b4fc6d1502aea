"""Bells spread over pictures as differentiable functions: sums of amplitudes, and how much of a pixel is solid."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from threading import Lock
from typing import Any

import torch
import warp as wp
from torch import Tensor

from physim.bridge import precision_of, run_map, to_warp
from physim.crew import Crew, Plan
from physim.errors import InputError
from physim.launch import Launch
from physim.numeric import Precision
from physim.observe.splat_kernels import LANES, splat_kernels

PER_SIGMA = math.sqrt(10.0)
"""Radius of a bell over its standard deviation along one axis."""
WORTH = 1_000_000
"""Pixels under bells beyond which a second thread gains more than it takes to wake it."""


@dataclass(frozen=True)
class Sheet:
    """Size of the pictures of one launch.

    Attributes:
        count: pictures; each has the same number of particles, in order.
        height, width: [px].
        threads: CPU threads; torch's number unless given.
    """

    count: int
    height: int
    width: int
    threads: int | None = None

    def pages(self, channels: int, like: Tensor) -> Tensor:
        """Empty memory of the pictures, (count, channels, height, stride)."""
        return like.new_zeros(self.count, channels, self.height, self.width + LANES)


def spread(u: Tensor, reach: Tensor, amplitude: Tensor, sheet: Sheet) -> Tensor:
    """Sums of bells times amplitudes, (count, channels, height, width).

    Args:
        u: pixel of each particle, (count * n, 2).
        reach: radius of its bell [px], (count * n,).
        amplitude: (count * n, channels).
        sheet: size of the pictures.
    """
    return run_map(_Spread(sheet), {"u": u, "reach": reach, "amplitude": amplitude})


def density(u: Tensor, reach: Tensor, near: Tensor, sheet: Sheet) -> Tensor:
    """How densely particles lie in front of each pixel, in units of their own density, (count, height, width).

    It is the sum of bells w_i of area A_i = pi R_i^2 / 4, each with the area that particle i stands for:

        D(p) = sum_i w_i(p) / A_i  B_i^2 / g_i,  g_i = sum_q v_i(q) sum_j v_j(q) dq,

    where v are bells of radius `near` and area B_i, summed on a raster of their own. Where particles lie one behind the
    other they share an area, so that D is 1 inside a body of any thickness, also where it is stretched or pressed.

    Args:
        u: pixel of each particle, (count * n, 2).
        reach: radius R_i of its bell [px], (count * n,).
        near: radius within which particles share an area [px], (count * n,); less blurs less between thick and thin.
        sheet: size of the pictures.
    """
    return run_map(_Density(sheet), {"u": u, "reach": reach, "near": near})


class _Spread:
    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet

    def forward(self, inputs: Mapping[str, Tensor], *, keep: bool) -> tuple[Tensor, Any]:
        """See `Map`."""
        u, reach, amplitude = inputs["u"], inputs["reach"], inputs["amplitude"]
        pages = self._sheet.pages(amplitude.shape[1], u)
        bells(amplitude).scatter(u, reach, amplitude, pages, self._sheet)
        return pages[..., : self._sheet.width].clone(), None

    def backward(self, inputs: Mapping[str, Tensor], kept: Any, given: Tensor) -> dict[str, Tensor]:
        """See `Map`."""
        u, reach, amplitude = inputs["u"], inputs["reach"], inputs["amplitude"]
        pages = self._sheet.pages(amplitude.shape[1], u)
        pages[..., : self._sheet.width] = given
        found, by_u, by_reach = bells(amplitude).pull(u, reach, amplitude, pages, self._sheet)
        return {"u": by_u, "reach": by_reach, "amplitude": found}


@dataclass(frozen=True)
class _Raster:
    """Where the areas of particles are found: in each picture pixels of `step` of its own, with a margin around.

    Attributes:
        step: picture pixels per pixel of the raster, of the picture that a particle is in, (m,).
        margin: around the picture, of the same [px], (m,).
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
        wide = torch.where(seen, (reach + 2.0 * near).view_as(seen), 0.0).amax(1)
        least = torch.where(seen, near.view_as(seen), math.inf).amin(1)
        if float(wide.max()) > 8 * max(sheet.width, sheet.height) + 100:
            raise InputError(
                f"a particle would cover {float(wide.max()):.3g} pixels of a picture of {sheet.width} x {sheet.height}: "
                "it is right in front of the camera. Check the camera's position and units, and the spacing of the "
                "particles."
            )
        # In steps, so that the result does not depend on the smallest radius but at a few points.
        step = torch.where(torch.isfinite(least), 2.0 ** (torch.floor(4.0 * torch.log2(0.5 * least)) / 4.0), 1.0)
        margin = torch.ceil(wide) + 1.0
        width, height = (int(torch.ceil((n + 2.0 * margin) / step).max()) + 1 for n in (sheet.width, sheet.height))
        n = seen.shape[1]
        sizes = Sheet(sheet.count, height, width, sheet.threads)
        return _Raster(step.repeat_interleave(n), margin.repeat_interleave(n), sizes)


class _Density:
    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet

    def forward(self, inputs: Mapping[str, Tensor], *, keep: bool) -> tuple[Tensor, Any]:
        """See `Map`."""
        u, reach, near = inputs["u"], inputs["reach"], inputs["near"]
        raster = _Raster.around(u, reach, near, self._sheet)
        v, r = (u + raster.margin[:, None]) / raster.step[:, None], near / raster.step
        one = torch.ones_like(reach)[:, None]
        total, pages = raster.sheet.pages(1, u), self._sheet.pages(1, u)
        bells(one).scatter(v, r, one, total, raster.sheet)
        g = bells(one).gather(v, r, one, total, raster.sheet)[:, 0]
        # Where a bell is outside of the raster, the particle is outside of the picture.
        inside = g > 0
        area = 0.25 * math.pi * r.square().square() * raster.step.square()
        share = torch.where(inside, area / (reach.square() * torch.where(inside, g, 1.0)), 0.0)
        bells(one).scatter(u, reach, share[:, None], pages, self._sheet)
        return pages[:, 0, :, : self._sheet.width].clone(), (raster, v, r, total, g, share) if keep else None

    def backward(self, inputs: Mapping[str, Tensor], kept: Any, given: Tensor) -> dict[str, Tensor]:
        """See `Map`."""
        u, reach, near = inputs["u"], inputs["reach"], inputs["near"]
        raster, v, r, total, g, share = kept
        pages = self._sheet.pages(1, u)
        pages[:, 0, :, : self._sheet.width] = given
        by_share, by_u, by_reach = bells(share[:, None]).pull(u, reach, share[:, None], pages, self._sheet)
        lever = by_share[:, 0] * share
        by_g = torch.where(g > 0, -lever / torch.where(g > 0, g, 1.0), 0.0)
        back = raster.sheet.pages(1, u)
        bells(share[:, None]).scatter(v, r, by_g[:, None], back, raster.sheet)
        # g is a sum of products of bells: each stands once on either side.
        mixed = torch.stack([by_g, torch.ones_like(by_g)], dim=1)
        _, by_v, by_r = bells(mixed).pull(v, r, mixed, torch.cat([total, back], dim=1), raster.sheet)
        return {
            "u": by_u + by_v / raster.step[:, None],
            "reach": by_reach - 2.0 * lever / reach,
            "near": by_r / raster.step + 4.0 * lever / near,
        }


class Bells:
    """Launches for pictures of some channels, built once and repeated with other arrays.

    Args:
        precision: of all arrays.
        channels: of the pictures.
        device: where.
    """

    def __init__(self, precision: Precision, channels: int, device: Any) -> None:
        self._kernels = splat_kernels(precision, channels)
        self._types = {"u": precision.vector(2), "reach": precision.real, "pictures": precision.real}
        self._types["amplitude"] = precision.vector(channels)
        self._found = {"gather": precision.vector(channels), "pull": precision.vector(channels + 3), "scatter": None}
        self._channels, self._device = channels, wp.device_from_torch(device)
        self._launches: dict[tuple[str, int], Launch] = {}
        self._lock = Lock()

    def scatter(self, u: Tensor, reach: Tensor, amplitude: Tensor, pages: Tensor, sheet: Sheet) -> None:
        """Add bells times amplitudes, (m, channels), to pages."""
        parts = self._threads(reach, sheet)
        # Rows are shared so that each thread has as many particles; a pixel's sum does not depend on who owns it.
        cuts = [0, *_quantiles(u[:, 1], parts, sheet.height), sheet.height]
        many = [(len(u), {"first": 0, "low": a, "high": b}) for a, b in pairwise(cuts)]
        self._run("scatter", many, {"u": u, "reach": reach, "amplitude": amplitude, "pictures": pages}, sheet)

    def gather(self, u: Tensor, reach: Tensor, amplitude: Tensor, pages: Tensor, sheet: Sheet) -> Tensor:
        """Sums of bells times pages, (m, channels)."""
        return self._gather("gather", u, reach, amplitude, pages, sheet, self._channels)

    def pull(
        self, u: Tensor, reach: Tensor, amplitude: Tensor, pages: Tensor, sheet: Sheet
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `gather`, and the gradient of the sums weighted by amplitudes, by u, (m, 2), and by reach, (m,)."""
        c = self._channels
        found = self._gather("pull", u, reach, amplitude, pages, sheet, c + 3)
        return found[:, :c], found[:, c : c + 2], found[:, c + 2]

    def _gather(
        self, name: str, u: Tensor, reach: Tensor, amplitude: Tensor, pages: Tensor, sheet: Sheet, size: int
    ) -> Tensor:
        found, parts, m = u.new_empty(len(u), size), self._threads(reach, sheet), len(u)
        many = [(b - a, {"first": a}) for a, b in pairwise(m * i // parts for i in range(parts + 1))]
        arrays = {"u": u, "reach": reach, "amplitude": amplitude, "pictures": pages, "found": found}
        self._run(name, many, arrays, sheet)
        return found

    def _threads(self, reach: Tensor, sheet: Sheet) -> int:
        threads = sheet.threads or torch.get_num_threads()
        if reach.is_cuda or threads == 1 or len(reach) < 2 * threads:
            return 1
        return threads if 4.0 * float(reach.square().sum()) > WORTH else 1

    def _run(self, name: str, parts: list[tuple[int, dict[str, int]]], arrays: dict[str, Tensor], sheet: Sheet) -> None:
        arrays = {label: tensor.contiguous() for label, tensor in arrays.items()}
        sizes = {
            "each": max(1, len(arrays["u"]) // sheet.count),
            "width": sheet.width,
            "height": sheet.height,
            "stride": sheet.width + LANES,
        }
        with self._lock:
            launches = [self._launch((name, i), count, arrays, sizes | own) for i, (count, own) in enumerate(parts)]
            launches = [one for one in launches if one.dim > 0]
            if len(launches) == 1:
                launches[0]()
            elif launches:
                _crew(len(launches)).run(Plan([[[one] for one in launches]], len(launches)))

    def _launch(self, key: tuple[str, int], count: int, arrays: dict[str, Tensor], sizes: dict[str, int]) -> Launch:
        launch = self._launches.get(key)
        if launch is not None and launch.dim == count and self._device.is_cpu:
            launch.aim(**{label: tensor.data_ptr() for label, tensor in arrays.items()})
            launch.set(False, **sizes)
            return launch
        types = self._types | {"found": self._found[key[0]]}
        views = {n: to_warp(t.view(-1) if n == "pictures" else t, types[n]) for n, t in arrays.items()}
        made = Launch(self._kernels[key[0]], count, self._device, {"low": 0, "high": 0} | views | sizes)
        made.values = {}  # it would keep these pictures in memory
        if count > 0:
            self._launches[key] = made
        return made


def bells(amplitude: Tensor) -> Bells:
    """The launches for amplitudes, (m, channels), of this type and on this device."""
    return _bells(precision_of(amplitude), amplitude.shape[1], amplitude.device)


@cache
def _bells(precision: Precision, channels: int, device: torch.device) -> Bells:
    wp.init()
    return Bells(precision, channels, device)


@cache
def _crew(size: int) -> Crew:
    return Crew(size)


def _quantiles(rows: Tensor, parts: int, height: int) -> list[int]:
    """Rows that part particles into `parts` equal groups, increasing."""
    if parts == 1:
        return []
    ranks = [max(1, len(rows) * i // parts) for i in range(1, parts)]
    return sorted(min(max(int(torch.kthvalue(rows, k).values), 0), height) for k in ranks)
