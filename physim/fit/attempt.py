"""One start of a fit on its way through the stages."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from physim.errors import SimulationError
from physim.fit.descent import LBFGS, Adam
from physim.fit.gauss_newton import GaussNewton
from physim.fit.optimiser import Optimiser, StepReport
from physim.fit.problem import Objective, Problem
from physim.fit.stage import Method, Stage
from physim.parallel import ALONE, Ranks


@dataclass(frozen=True)
class StartResult:
    """Where one start ended.

    Attributes:
        begin: raw values it began with, (p,).
        raw: raw values it ended with, (p,).
        loss: half the sum of squares in the last stage; infinite if it failed.
        stop: why its last stage ended, or the failure.
    """

    begin: Tensor
    raw: Tensor
    loss: float
    stop: str


@dataclass
class Attempt:
    """How far one start has come.

    Attributes:
        start: its number.
        begin: raw values it began with, (p,).
        raw: raw values with which the present stage began, (p,).
        stage: number of the present stage.
        iteration: iterations done in it.
        best_loss: smallest loss in it, or the loss where `best_unfitted` is.
        best_z: the free raw parameters that this loss belongs to, (k,).
        best_unfitted: smallest loss of what an early stop looks at.
        looks: looks since then.
        stop: why the last stage ended.
        optimiser: the optimiser's memory; None at the beginning of a stage.
        result: where it ended; None while it is on its way.
        history: one record per iteration.
        before: loss with which the present stage began.
        runs: simulations done in it.
        seconds: wall time spent in it [s].
        ended: what each finished stage did: `name`, `parameters`, `iterations`, `frames` that were fitted, loss
            `before` and `after`, `stop` (why it ended), `runs`, `seconds`.
    """

    start: int
    begin: Tensor
    raw: Tensor
    stage: int = 0
    iteration: int = 0
    best_loss: float = math.inf
    best_z: Tensor | None = None
    best_unfitted: float = math.inf
    looks: int = 0
    stop: str = ""
    optimiser: dict[str, Any] | None = None
    result: StartResult | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    before: float = math.nan
    runs: int = 0
    seconds: float = 0.0
    ended: list[dict[str, Any]] = field(default_factory=list)

    def state(self) -> dict[str, Any]:
        """Everything but the history, for checkpoints and other ranks."""
        result = None if self.result is None else vars(self.result)
        return {k: v for k, v in vars(self).items() if k != "history"} | {"result": result}

    def take(self, state: dict[str, Any]) -> None:
        """Go to a `state`."""
        result = state["result"]
        vars(self).update(state | {"result": None if result is None else StartResult(**result)})

    @staticmethod
    def of(tree: dict[str, Any]) -> Attempt:
        """From a `state` and a history."""
        attempt = Attempt(tree["start"], tree["begin"], tree["raw"])
        attempt.take(tree)
        return attempt


class Walk:
    """Moves an attempt on, one iteration at a time.

    Args:
        problem: the forward model.
        stages: done one after the other.
        attempt: where to go on from; it is moved.
        threads: runs evaluated at the same time by each rank.
        ranks: who shares the runs.
    """

    def __init__(
        self, problem: Problem, stages: Sequence[Stage], attempt: Attempt, *, threads: int = 2, ranks: Ranks = ALONE
    ) -> None:
        self.attempt = attempt
        self._problem, self._stages = problem, stages
        self._threads, self._ranks = threads, ranks
        self._at: tuple[Objective, Optimiser] | None = None

    def step(self) -> dict[str, Any] | None:
        """One iteration; its record, or None where the start has ended because it cannot be simulated."""
        attempt = self.attempt
        try:
            record = self._iterate(self._stages[attempt.stage])
        except SimulationError as error:
            attempt.result = StartResult(attempt.begin, attempt.raw, math.inf, str(error))
            return None
        return record

    def renew(self) -> None:
        """Go on from where the attempt has been put meanwhile."""
        self._at = None

    def _iterate(self, stage: Stage) -> dict[str, Any]:
        attempt, space, began = self.attempt, self._problem.space, time.perf_counter()
        if self._at is None:
            objective = Objective(self._problem, stage, attempt.raw, threads=self._threads, ranks=self._ranks)
            optimiser = make_optimiser(stage, objective.start())
            if attempt.optimiser is not None:
                optimiser.restore(attempt.optimiser)
            self._at = objective, optimiser
        objective, optimiser = self._at
        before = objective.evaluations
        report = optimiser.step(objective)
        attempt.iteration += 1
        if attempt.iteration == 1:
            attempt.before = report.before
        last = bool(report.stop) or attempt.iteration == stage.iterations
        tired, seen = False, None
        if stage.early is None:
            points = {report.loss: report.z}
            if last and optimiser.average is not None:
                points |= {loss: optimiser.average for loss in objective.losses([optimiser.average])}
            loss = min(points)
            if loss < attempt.best_loss:
                attempt.best_loss, attempt.best_z = loss, points[loss].clone()
        elif last or attempt.iteration % stage.early.every == 0:
            tired, seen = self._look(objective, optimiser, report)
        attempt.optimiser = optimiser.state()
        full = objective.full(report.z)
        record = {
            "start": attempt.start,
            "stage": attempt.stage,
            "name": stage.name,
            "iteration": attempt.iteration,
            "iterations": stage.iterations,
            "loss": report.loss,
            "accepted": report.accepted,
            "change": report.change,
            "runs": objective.evaluations - before,
            "note": report.note,
            "values": {name: float(value) for name, value in space.named(full).items()},
        }
        if space.blocks:
            record["weights_moved"] = space.moves(full)
        if seen is not None:
            record["unfitted"] = seen
        attempt.runs += objective.evaluations - before
        attempt.seconds += time.perf_counter() - began
        if last or tired:
            told = "stopped: what is not fitted gets no better" if tired else "all iterations done"
            self._finish(report.stop or told, objective)
        return record

    def _look(self, objective: Objective, optimiser: Optimiser, report: StepReport) -> tuple[bool, float]:
        """Look at what is not fitted, here and at the running mean; whether that is enough, and its loss."""
        attempt, early = self.attempt, objective.stage.early
        assert early is not None
        points = [report.z] if optimiser.average is None else [report.z, optimiser.average]
        found = objective.unfitted(points)
        best = min(range(len(points)), key=lambda i: found[i])
        if found[best] < attempt.best_unfitted or attempt.best_z is None:
            loss = report.loss if best == 0 else objective.losses([points[best]])[0]
            attempt.best_unfitted, attempt.best_loss, attempt.best_z = found[best], loss, points[best].clone()
            attempt.looks = 0
        else:
            attempt.looks += 1
        return attempt.looks >= early.patience, found[best]

    def _finish(self, stop: str, objective: Objective) -> None:
        """End the present stage at its best point, and the start if it was the last one."""
        attempt, loss = self.attempt, self.attempt.best_loss
        if attempt.best_z is not None:
            attempt.raw = objective.full(attempt.best_z)
        stage = objective.stage
        attempt.ended.append(
            {
                "name": stage.name,
                "parameters": list(stage.parameters or self._problem.space.members),
                "iterations": attempt.iteration,
                "frames": objective.frames,
                "before": attempt.before,
                "after": loss,
                "stop": stop,
                "runs": attempt.runs,
                "seconds": attempt.seconds,
            }
        )
        attempt.before, attempt.runs, attempt.seconds = math.nan, 0, 0.0
        attempt.stop, attempt.stage, attempt.iteration = stop, attempt.stage + 1, 0
        attempt.optimiser, attempt.best_z, attempt.best_loss = None, None, math.inf
        attempt.best_unfitted, attempt.looks = math.inf, 0
        self._at = None
        if attempt.stage == len(self._stages):
            attempt.result = StartResult(attempt.begin, attempt.raw, loss, stop)


def make_optimiser(stage: Stage, z: Tensor) -> Optimiser:
    """The optimiser of a stage, starting at `z`, (k,)."""
    if stage.method is Method.GAUSS_NEWTON:
        return GaussNewton(z, step=stage.difference, largest=stage.rate or 1.0, tolerance=stage.tolerance)
    if stage.method is Method.ADAM:
        rate = stage.rate or 0.1
        return Adam(z, rate=rate, iterations=stage.iterations, tolerance=stage.tolerance, keep=stage.average)
    return LBFGS(z, largest=stage.rate or 1.0, tolerance=stage.tolerance)
