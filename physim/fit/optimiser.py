"""What the fitting loop asks of an optimiser."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from physim.fit.problem import Objective


@dataclass(frozen=True)
class StepReport:
    """What one iteration did.

    Attributes:
        loss: half the sum of squared residuals at `z` [-].
        z: the free raw parameters that this loss belongs to, (k,).
        accepted: whether the point moved.
        change: largest move of a raw parameter.
        stop: why the stage is over; empty while it goes on.
        note: a rejected simulation, in words.
        before: loss where the iteration began [-].
    """

    loss: float
    z: Tensor
    accepted: bool
    change: float
    stop: str = ""
    note: str = ""
    before: float = math.nan


class Optimiser(Protocol):
    """One search; its whole memory is in `state`, so that a restored one goes on identically.

    Attributes:
        average: running mean of its points, (k,), or None.
    """

    average: Tensor | None

    def step(self, objective: Objective) -> StepReport:
        """One iteration.

        Raises:
            SimulationError: the very first point cannot be simulated.
        """
        ...

    def state(self) -> dict[str, Any]:
        """Everything it remembers: tensors, numbers, strings, lists and dicts."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""
        ...
