"""Adam and L-BFGS on adjoint gradients; a failing simulation takes the step back and shortens the next."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from physim.errors import SimulationError
from physim.fit.optimiser import StepReport
from physim.fit.problem import Objective, Rejected

SHORTEST = 1e-6
"""Step size in raw units below which a search that keeps failing gives up."""
LONGEST = 4.0
"""Largest move of one raw parameter within a line search; as a logarithm it is a factor of 55."""
PATIENCE = 8
"""Small steps in a row after which Adam has arrived; a single one may be a turn of its momentum."""
RECOVERY = 1.2
"""Growth of a shortened step after each success."""


class Adam:
    """Adam (Kingma and Ba 2015) with its rate falling as a half cosine to a twentieth over the iterations.

    Args:
        z: where to start, (k,).
        rate: first step in raw units.
        iterations: length of the schedule.
        tolerance: stop when no raw parameter moves by more than this.
        keep: share that a running mean of the points keeps in each step; 0 for no mean.

    Attributes:
        average: the running mean, (k,), or None.
    """

    def __init__(
        self, z: Tensor, *, rate: float = 0.1, iterations: int = 100, tolerance: float = 1e-3, keep: float = 0.0
    ) -> None:
        self._z = z.detach().clone().requires_grad_()
        self._rate = self._full_rate = rate
        self._iterations = iterations
        self._tolerance = tolerance
        self._inner = torch.optim.Adam([self._z], lr=rate)
        self._done = 0
        self._still = 0
        self._good: Tensor | None = None
        self._keep = keep
        self.average: Tensor | None = None

    def step(self, objective: Objective) -> StepReport:
        """One gradient and one move; a point that cannot be simulated is left again at half the rate."""
        here = self._z.detach().clone()
        try:
            loss, gradient = objective.value_and_gradient(here)
        except SimulationError as error:
            if self._good is None:
                raise
            self._rate *= 0.5
            # The momentum points at the failure.
            self._inner = torch.optim.Adam([self._z], lr=self._rate)
            with torch.no_grad():
                self._z.copy_(self._good + 0.5 * (here - self._good))
            stop = "stuck: the simulation keeps failing" if self._rate < SHORTEST else ""
            return StepReport(float("inf"), here, False, 0.0, stop, str(error))
        share = min(self._done / max(1, self._iterations), 1.0)
        cosine = 0.05 + 0.475 * (1.0 + float(torch.cos(torch.tensor(torch.pi * share, dtype=torch.float64))))
        self._inner.param_groups[0]["lr"] = self._rate * cosine
        self._z.grad = gradient
        self._inner.step()
        with torch.no_grad():
            self._z.copy_(objective.clip(self._z))
        self._done += 1
        self._good = here
        if self._keep:
            # The first points count less and less, as if the mean had gone on from a point like them.
            share = min(self._keep, (self._done - 1.0) / self._done)
            self.average = here if self.average is None else share * self.average + (1.0 - share) * here
        self._rate = min(self._full_rate, RECOVERY * self._rate)
        change = float((self._z.detach() - here).abs().max())
        self._still = self._still + 1 if change <= self._tolerance else 0
        stop = "converged: the parameters stand still" if self._still >= PATIENCE else ""
        return StepReport(loss, here, True, change, stop, before=loss)

    def state(self) -> dict[str, Any]:
        """Point, moments, rate and count."""
        return {
            "z": self._z.detach(),
            "inner": self._inner.state_dict(),
            "rate": self._rate,
            "done": self._done,
            "still": self._still,
            "good": self._good,
            "average": self.average,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""
        with torch.no_grad():
            self._z.copy_(state["z"])
        self._inner.load_state_dict(state["inner"])
        self._rate, self._done, self._good = state["rate"], state["done"], state["good"]
        self._still, self.average = state["still"], state["average"]


class LBFGS:
    """torch's L-BFGS with the strong Wolfe search, one outer iteration at a time.

    Args:
        z: where to start, (k,).
        largest: length of the first step in raw units, halved whenever a simulation fails.
        tolerance: stop when no raw parameter moves by more than this.
    """

    def __init__(self, z: Tensor, *, largest: float = 1.0, tolerance: float = 1e-3) -> None:
        self._z = z.detach().clone().requires_grad_()
        self._largest = self._full_largest = largest
        self._tolerance = tolerance
        self._inner = self._fresh()
        self._loss: float | None = None
        self._plain = False
        self.average: Tensor | None = None

    def _fresh(self) -> torch.optim.LBFGS:
        return torch.optim.LBFGS(
            [self._z],
            lr=self._largest,
            max_iter=1,
            max_eval=25,
            history_size=10,
            line_search_fn="strong_wolfe",
            tolerance_grad=0.0,
            tolerance_change=0.0,
        )

    def step(self, objective: Objective) -> StepReport:
        """One direction and its line search; a failure inside goes back and forgets the curvature."""
        here = self._z.detach().clone()
        best: list[tuple[float, Tensor]] = []

        def closure() -> float:
            z = self._z.detach().clone()
            if float((z - here).abs().max()) > LONGEST:
                raise Rejected("the line search left the neighbourhood in which the parameters make sense.")
            loss, gradient = objective.value_and_gradient(z)
            self._z.grad = gradient
            best.append((loss, z))
            return loss

        try:
            self._inner.step(closure)
        except SimulationError as error:
            if self._loss is None and not best:
                raise
            with torch.no_grad():
                self._z.copy_(here)
            self._largest *= 0.25
            self._inner = self._fresh()
            stop = "stuck: the simulation keeps failing" if self._largest < SHORTEST else ""
            loss = best[0][0] if best else float("inf")
            return StepReport(loss, here, False, 0.0, stop, str(error), loss)
        loss, z = min(best, key=lambda b: b[0])
        self._largest = min(self._full_largest, RECOVERY * self._largest)
        self._inner.param_groups[0]["lr"] = self._largest
        self._loss = loss
        change = float((self._z.detach() - here).abs().max())
        stop = ""
        if change <= self._tolerance:
            # A search without success is repeated once along the plain gradient before it counts as the end.
            stop = "converged: the parameters stand still" if self._plain else ""
            self._inner, self._plain = self._fresh(), True
        else:
            self._plain = False
        return StepReport(loss, z, change > 0, change, stop, before=best[0][0])

    def state(self) -> dict[str, Any]:
        """Point, curvature pairs and step length."""
        return {
            "z": self._z.detach(),
            "inner": self._inner.state_dict(),
            "largest": self._largest,
            "loss": self._loss,
            "plain": self._plain,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""
        with torch.no_grad():
            self._z.copy_(state["z"])
        self._largest, self._loss, self._plain = state["largest"], state["loss"], state["plain"]
        self._inner = self._fresh()
        self._inner.load_state_dict(state["inner"])
