"""Measurements of which each frame has its own, such as point clouds, in the fixed columns of a gauge."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from physim.errors import InputError
from physim.observe.gauge import Snapshot


@dataclass(frozen=True, eq=False)
class Framewise:
    """Which frames of a record a gauge compares with at one time of the simulation.

    The columns of a gauge are the same at all times, and an `Observation` interpolates each column between saved frames
    of the simulation. If a column stood for another point in each frame of the record, it would mix points. So a gauge
    has a few groups of columns, `slots`: frame m of the record belongs to slot m % slots, and at time t each slot reads
    the frame of its own that is nearest to t. Row m of the record is valid in its slot only (`valid`), and there every
    saved frame that an interpolation may use has read frame m, if these frames are within slots / 2 record intervals of
    its time. With saved frames as dense as the record, linear interpolation needs 2 slots, and cubic interpolation 4;
    one more leaves half an interval for a delay that is fitted.

    Attributes:
        times: of the frames of the record [s], increasing, (m,).
        slots: groups of columns; no more than there are frames.
        delay: what is added to the record's times to get the simulation's [s], as in the `Observation`.
    """

    times: Tensor
    slots: int = 3
    delay: float = 0.0

    def __post_init__(self) -> None:
        if self.times.ndim != 1 or len(self.times) == 0 or bool((self.times[1:] <= self.times[:-1]).any()):
            raise InputError("the times of a record must increase, and there must be one at least.")
        if self.slots < 1:
            raise InputError(f"slots: at least 1, got {self.slots}.")
        object.__setattr__(self, "slots", min(self.slots, len(self.times)))

    def frames(self, snapshot: Snapshot) -> tuple[int, ...]:
        """The frame of the record that each slot reads.

        Raises:
            InputError: the snapshot has no time.
        """
        if snapshot.t is None:
            raise InputError("a gauge that compares with frames of a record needs the time of the snapshot (`t`).")
        away = (self.times + self.delay - snapshot.t).abs()
        return tuple(s + self.slots * int(away[s :: self.slots].argmin()) for s in range(self.slots))

    def valid(self, measured: Tensor) -> Tensor:
        """Validity of the whole record, (m, slots * k), from what each frame has measured, bool, (m, k)."""
        found = torch.zeros(len(self.times), self.slots, measured.shape[1], dtype=torch.bool)
        rows = torch.arange(len(self.times))
        found[rows, rows % self.slots] = measured
        return found.flatten(1)
