"""The fitting loop: every start through every stage, one iteration at a time, saved as it goes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from physim.errors import FitError, SimulationError
from physim.fit.checkpoint import CheckpointStore
from physim.fit.descent import LBFGS, Adam
from physim.fit.gauss_newton import GaussNewton
from physim.fit.optimiser import Optimiser
from physim.fit.problem import Objective, Problem
from physim.fit.stage import Method, Stage


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
class Position:
    """How far a fit has come; all of it goes into a checkpoint."""

    start: int = 0
    stage: int = 0
    iteration: int = 0
    raw: Tensor | None = None
    best_loss: float = math.inf
    best_z: Tensor | None = None
    stop: str = ""
    optimiser: dict[str, Any] | None = None
    finished: list[StartResult] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)

    def tree(self) -> dict[str, Any]:
        """For a checkpoint."""
        tree = {k: v for k, v in vars(self).items() if k != "finished"}
        return {**tree, "finished": [vars(f) for f in self.finished]}

    @staticmethod
    def of(tree: dict[str, Any]) -> Position:
        """From a checkpoint."""
        return Position(**{**tree, "finished": [StartResult(**f) for f in tree["finished"]]})


def run_fit(
    problem: Problem,
    stages: Sequence[Stage],
    starts: Sequence[Tensor],
    *,
    threads: int = 2,
    store: CheckpointStore | None = None,
    key: Mapping[str, str] | None = None,
    resume: bool = False,
    listen: Callable[[dict[str, Any]], None] | None = None,
) -> Position:
    """Take every start through every stage.

    Args:
        problem: the forward model.
        stages: done one after the other.
        starts: raw parameters to start from, (p,) each.
        threads: runs evaluated at the same time.
        store: where checkpoints go, one per iteration; none unless given.
        key: identifies the problem, part by part; a checkpoint of another problem is refused.
        resume: continue from the newest checkpoint in `store`; the result is that of an uninterrupted run.
        listen: called with one record per iteration.

    Returns:
        The final position; `best_start` picks the best of its finished starts.

    Raises:
        FitError: the checkpoint belongs to another problem, or every start failed.
    """
    key = dict(key or {})
    position = _restored(store, key) if resume and store is not None else None
    position = position or Position()
    while position.start < len(starts):
        begin = starts[position.start]
        if position.raw is None:
            position.raw = begin.clone()
        loss = math.inf
        try:
            while position.stage < len(stages):
                _run_stage(problem, stages[position.stage], position, threads, store, key, listen)
                loss = position.best_loss
                position.stage, position.iteration = position.stage + 1, 0
                position.optimiser, position.best_z, position.best_loss = None, None, math.inf
            result = StartResult(begin, position.raw, loss, position.stop)
        except SimulationError as error:
            result = StartResult(begin, position.raw, math.inf, str(error))
        finished = [*position.finished, result]
        position = Position(start=position.start + 1, finished=finished, history=position.history)
        if store is not None:
            store.save({"key": key, "position": position.tree()})
    if not any(math.isfinite(f.loss) for f in position.finished):
        raise FitError(f"no start could be simulated; the first says: {position.finished[0].stop}")
    return position


def best_start(position: Position) -> int:
    """Index of the finished start with the smallest loss."""
    return min(range(len(position.finished)), key=lambda i: position.finished[i].loss)


def _run_stage(
    problem: Problem,
    stage: Stage,
    position: Position,
    threads: int,
    store: CheckpointStore | None,
    key: Mapping[str, str],
    listen: Callable[[dict[str, Any]], None] | None,
) -> None:
    """Iterate one stage to its end; leave its best point in `position.raw` and the reason in `position.stop`."""
    assert position.raw is not None
    objective = Objective(problem, stage, position.raw, threads=threads)
    optimiser = make_optimiser(stage, objective.start())
    if position.optimiser is not None:
        optimiser.restore(position.optimiser)
    if position.iteration == 0:
        position.stop = "all iterations done"
    while position.iteration < stage.iterations:
        before = objective.evaluations
        report = optimiser.step(objective)
        position.iteration += 1
        if report.loss < position.best_loss:
            position.best_loss, position.best_z = report.loss, report.z
        position.optimiser = optimiser.state()
        values = problem.space.values(objective.full(report.z)).tolist()
        record = {
            "start": position.start,
            "stage": position.stage,
            "name": stage.name,
            "iteration": position.iteration,
            "iterations": stage.iterations,
            "loss": report.loss,
            "accepted": report.accepted,
            "change": report.change,
            "runs": objective.evaluations - before,
            "note": report.note,
            "values": dict(zip(problem.space.names, values, strict=True)),
        }
        position.history.append(record)
        if report.stop:
            position.stop = report.stop
            # A resumed fit must see the stage as finished, too.
            position.iteration = stage.iterations
        if store is not None:
            store.save({"key": key, "position": position.tree()})
        if listen is not None:
            listen(record)
    if position.best_z is not None:
        position.raw = objective.full(position.best_z)


def make_optimiser(stage: Stage, z: Tensor) -> Optimiser:
    """The optimiser of a stage, starting at `z`, (k,)."""
    if stage.method is Method.GAUSS_NEWTON:
        return GaussNewton(z, step=stage.difference, largest=stage.rate or 1.0, tolerance=stage.tolerance)
    if stage.method is Method.ADAM:
        rate = stage.rate or 0.1
        return Adam(z, rate=rate, iterations=stage.iterations, tolerance=stage.tolerance)
    return LBFGS(z, largest=stage.rate or 1.0, tolerance=stage.tolerance)


def _restored(store: CheckpointStore, key: Mapping[str, str]) -> Position | None:
    found = store.newest()
    if found is None:
        return None
    tree, _ = found
    saved = tree["key"] if isinstance(tree["key"], dict) else {}
    changed = [part for part in {**saved, **key} if saved.get(part) != key.get(part)]
    if changed or tree["key"] != key:
        raise FitError(
            f"the checkpoint in {store.folder} belongs to another fit; changed since: {', '.join(changed)}. "
            "Resume with the same scene, overrides, files and version, or start again without --resume."
        )
    return Position.of(tree["position"])
