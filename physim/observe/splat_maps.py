"""Bells spread over pictures and gathered from them: the launches, and sums as a differentiable function."""

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
        self._sizes: dict[tuple[str, int], dict[str, int]] = {}
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
            if self._sizes[key] != sizes:
                self._sizes[key] = sizes
                launch.set(False, **sizes)
            return launch
        types = self._types | {"found": self._found[key[0]]}
        views = {n: to_warp(t.view(-1) if n == "pictures" else t, types[n]) for n, t in arrays.items()}
        made = Launch(self._kernels[key[0]], count, self._device, {"low": 0, "high": 0} | views | sizes)
        made.values = {}  # it would keep these pictures in memory
        if count > 0:
            self._launches[key], self._sizes[key] = made, sizes
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
