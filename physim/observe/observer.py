"""Several gauges read at once while a rollout runs, so that no positions need to be kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from physim.observe.gauge import Gauge, Snapshot


def reader(gauges: Sequence[Gauge], see: Callable[[Any], Snapshot]) -> Callable[[Any], Tensor]:
    """A `save` function for `rollout`: the values of all gauges in one row, float64, (sum of columns,).

    Args:
        gauges: what to read.
        see: turns a solver's state into a snapshot.
    """

    def read(state: Any) -> Tensor:
        snapshot = see(state)
        return torch.cat([g.read(snapshot).cpu() for g in gauges])

    return read


def split(gauges: Sequence[Gauge], saved: Sequence[Tensor]) -> list[Tensor]:
    """One series (frames, columns) per gauge from the rows that `reader` saved."""
    rows = torch.stack(list(saved))
    return list(torch.split(rows, [len(g.columns) for g in gauges], dim=1))
