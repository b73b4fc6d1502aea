"""Rounds of Adam or L-BFGS on the gradients of runs, with a running mean of the weights."""

from __future__ import annotations

import torch
from torch import Tensor

from physim.fit.descent import LBFGS, Adam
from physim.fit.learn.search import Objective, Search


class _Clipped:
    """What an optimiser asks of an objective."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective

    def value_and_gradient(self, z: Tensor) -> tuple[float, Tensor]:
        """Mean squared residual, and its gradient.

        Raises:
            SimulationError: a run fails.
            GradientError: the gradient is not finite.
        """
        return self._objective.gradient(z)

    def clip(self, z: Tensor) -> Tensor:
        """The nearest point that is allowed."""
        return self._objective.coordinates.clip(z)


def descend(
    objective: Objective, search: Search, *, method: str, rate: float, iterations: int, total: int, ema: float
) -> tuple[float, float]:
    """Some iterations of a stage; changes the search, whose point is the running mean with `adam`.

    Args:
        objective: what is lowered.
        search: its `optimiser` is None at the beginning of a stage.
        method: `adam`, its rate falling as a half cosine over the stage, or `lbfgs`.
        rate: first step.
        iterations: done now.
        total: of the whole stage.
        ema: share of the old that the running mean keeps.

    Returns:
        The mean square at the point that the search had, and at the one that it has now.
    """
    tree = search.optimiser
    z = search.point if tree is None else tree["z"]
    adam = method == "adam"
    optimiser = Adam(z, rate=rate, iterations=total, tolerance=0.0) if adam else LBFGS(z, tolerance=0.0)
    mean = z.clone() if tree is None else tree["mean"]
    if tree is not None:
        optimiser.restore(tree["state"])
    before = float(objective.misfits(search.point[None])[0]) if tree is None else tree["misfit"]
    target = _Clipped(objective)
    for _ in range(iterations):
        report = optimiser.step(target)  # type: ignore[arg-type]
        z = report.z
        with torch.no_grad():
            mean = ema * mean + (1.0 - ema) * z if adam else z
        if report.stop:
            break
    # Of the mean, which is what is kept; Adam's own points may be far from it.
    after = float(objective.misfits(mean[None])[0])
    search.optimiser = {"state": optimiser.state(), "mean": mean, "z": z, "misfit": after}
    search.point = mean.clone()
    return before, after
