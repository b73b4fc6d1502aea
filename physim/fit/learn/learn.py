"""A law from observed motion: linear start, runs that grow, judged by motion that is held out; saved round by round."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from physim.errors import InputError
from physim.fit.checkpoint import CheckpointStore
from physim.fit.learn.coordinates import Coefficients, Coordinates, Parameters
from physim.fit.learn.descend import descend
from physim.fit.learn.flow import first_start
from physim.fit.learn.runs import Runs
from physim.fit.learn.schedule import Schedule, Stage, make_stages
from physim.fit.learn.search import Objective, Search, gauss_newton
from physim.fit.learn.shooting import Motion, Shooting
from physim.fit.learn.together import Together
from physim.fit.loop import restored
from physim.parallel import ALONE, Ranks
from physim.solvers.mpm.solver import SolverMPM

SEPARATE = 24
"""About as many runs tell how sure the coefficients are."""


@dataclass(frozen=True)
class Lesson:
    """One trajectory.

    Attributes:
        name: for messages.
        solver: of one world; the learned material is the same in every lesson.
        motion: what was observed.
        material: index of the learned material in the solver's model.
        holdout: only predicted.
        observed: particles whose positions, and nothing else, are known beyond the first state, be it all of them; the
            whole states of all particles unless given.
    """

    name: str
    solver: SolverMPM
    motion: Motion
    material: int = 0
    holdout: bool = False
    observed: Tensor | None = None


@dataclass
class Learned:
    """How far learning has come, and what it found.

    Attributes:
        coordinates: what was moved.
        point: the best point by what is held out.
        held_out: root mean square of the residuals of predictions of what is held out, in units of the noise.
        first: the same of the law that learning began with; after the linear start, where there was one.
        history: one record per round.
        start: what the linear start found, as plain values; None without.
        stopped: why it ended.
        seconds: wall time, with that of earlier processes up to the checkpoint from which it was resumed.
        held: predictions of what is held out, one per lesson.
        taught: runs of the first stage, by which coefficients are told apart.
        names: of the lessons of `held`.
    """

    coordinates: Coordinates
    point: Tensor
    held_out: float
    first: float
    history: list[dict[str, Any]]
    start: dict[str, Any] | None
    stopped: str
    seconds: float
    held: list[Runs] = field(repr=False)
    taught: Objective = field(repr=False)
    names: list[str] = field(default_factory=list)


def learn(
    lessons: Sequence[Lesson],
    schedule: Schedule | None = None,
    *,
    ranks: Ranks = ALONE,
    store: CheckpointStore | None = None,
    key: Mapping[str, str] | None = None,
    resume: bool = False,
    listen: Callable[[dict[str, Any]], None] | None = None,
) -> Learned:
    """Learn the material of the lessons; its best weights by what is held out are written into it.

    Args:
        lessons: trajectories, not all held out. The material of the first is changed in place.
        schedule: how; the defaults need nothing.
        ranks: who shares the trajectories. All return the same result.
        store: where the first rank puts a checkpoint after every round; none unless given.
        key: identifies the task, part by part; a checkpoint of another is refused.
        resume: go on from the newest checkpoint, to the result of an uninterrupted run.
        listen: called by the first rank with one record per round.

    Raises:
        InputError: motions that do not fit the schedule.
        FitError: runs fail from the start, or the checkpoint belongs to another task.
    """
    return _Learner(lessons, schedule or Schedule(), ranks, store, dict(key or {}), listen).run(resume)


def learn_motion(
    solver: SolverMPM,
    motion: Motion,
    *,
    material: int = 0,
    frames: int | None = None,
    observed: int | Tensor | None = None,
    schedule: Schedule | None = None,
) -> Learned:
    """Learn a material of the solver's model from one motion, or from a part of it.

    Args:
        solver: of one world; its material is changed in place.
        motion: what was observed.
        material: index of the learned material.
        frames: only the first so many states.
        observed: only these particles are seen, by their positions and nothing else, or so many, evenly over the list;
            be it all of them. The whole states of all particles unless given.
        schedule: how; the defaults need nothing.

    Raises:
        InputError, FitError: as `learn`.
    """
    n = motion.states[0].x.shape[0]
    if isinstance(observed, int):
        if not 1 <= observed <= n:
            raise InputError(f"observed: expected 1 to {n} particles, got {observed}.")
        observed = torch.linspace(0, n - 1, observed).round().long()
    part = motion if frames is None else shortened(motion, frames)
    return learn([Lesson("motion", solver, part, material, observed=observed)], schedule)


def shortened(motion: Motion, frames: int) -> Motion:
    """The first states of a motion."""
    if frames < 2:
        raise InputError(f"frames: expected at least 2, got {frames}.")
    return replace(motion, states=motion.states[:frames])


def last_taught(motion: Motion, held_out: float) -> int:
    """The last state that is learned from, where a share of the motion is held out."""
    return max(1, motion.intervals - round(held_out * motion.intervals))


class _Learner:
    def __init__(
        self,
        lessons: Sequence[Lesson],
        schedule: Schedule,
        ranks: Ranks,
        store: CheckpointStore | None,
        key: dict[str, str],
        listen: Callable[[dict[str, Any]], None] | None,
    ) -> None:
        taught = [one for one in lessons if not one.holdout]
        if not taught:
            raise InputError("every trajectory is held out; at least one must be learned from.")
        if len({one.motion.every for one in taught}) > 1:
            raise InputError("the trajectories have different numbers of substeps between states; make them equal.")
        self.schedule, self.ranks, self.store, self.key, self.listen = schedule, ranks, store, key, listen
        self.tracks = any(one.observed is not None for one in taught)
        self.lessons = taught
        self.cuts = [last_taught(one.motion, schedule.held_out) for one in taught]
        motions = [replace(o.motion, states=o.motion.states[: c + 1]) for o, c in zip(taught, self.cuts, strict=True)]
        self.shootings = [Shooting(o.solver, m, o.material) for o, m in zip(taught, motions, strict=True)]
        self.material = self.shootings[0].material
        self.stages = make_stages(schedule, motions, tracks=self.tracks)
        self.coordinates = self._coordinates()
        self.names, self.held = self._held(lessons)

    def _held(self, lessons: Sequence[Lesson]) -> tuple[list[str], list[Runs]]:
        """Predictions of what is held out: the ends of motions, and trajectories of which nothing is learned."""
        found = []
        for one, cut in zip(self.lessons, self.cuts, strict=True):
            rest = one.motion.intervals - cut
            if rest > 0 and one.observed is None:
                found.append(
                    (one.name, Runs(Shooting(one.solver, one.motion, one.material), [cut], rest, through=True))
                )
            elif rest > 0:
                # No state is known at the cut: the whole run is judged, of which the end is new.
                whole = Shooting(one.solver, one.motion, one.material)
                found.append((one.name, Runs(whole, [0], one.motion.intervals, observed=one.observed)))
        for one in lessons:
            if one.holdout:
                whole = Shooting(one.solver, one.motion, one.material)
                found.append((one.name, Runs(whole, [0], one.motion.intervals, through=True, observed=one.observed)))
        return [n for n, _ in found], [r for _, r in found]

    def _coordinates(self) -> Coordinates:
        linear = hasattr(self.material.network, "coefficients")
        if linear and self.schedule.method in ("gauss_newton", "none"):
            return Coefficients(self.material)
        return Parameters(self.material)

    def _objective(self, stage: Stage) -> Objective:
        """The runs of a stage, trajectory by trajectory."""
        if self.tracks:
            pairs = zip(self.lessons, self.shootings, strict=True)
            runs = [Runs(s, [0], min(stage.length, s.motion.intervals), observed=o.observed) for o, s in pairs]
            return Objective(self.coordinates, runs, self.ranks)
        room = [s.motion.intervals - stage.length + 1 for s in self.shootings]
        if stage.name == "whole runs":
            runs = [Runs(s, [0], s.motion.intervals) for s in self.shootings]
            return Objective(self.coordinates, runs, self.ranks)
        total, runs = sum(n for n in room if n > 0), []
        for shooting, n in zip(self.shootings, room, strict=True):
            if n > 0:
                starts = shooting.motion.starts(stage.length, max(1, round(stage.most * n / total)))
                runs.append(Runs(shooting, starts, stage.length))
        return Objective(self.coordinates, runs, self.ranks)

    def _one_by_one(self, stage: Stage) -> Objective:
        """The runs of a stage, each on its own."""
        runs = [
            Runs(r.shooting, [s], r.length, observed=r.observed) for r in self._objective(stage).runs for s in r.starts
        ]
        few = max(1, len(runs) // SEPARATE)
        return Objective(self.coordinates, runs[::few], self.ranks)

    def run(self, resume: bool) -> Learned:
        began = time.perf_counter()
        store, key = self.store, self.key
        tree = self.ranks.from_first(lambda: restored(store, key) if resume and store is not None else None)
        position = tree or self._begin()
        # The budget is that of the whole task, however often it is resumed.
        began -= position.setdefault("seconds", 0.0)
        if tree is None:
            self._save(position, began)
        else:
            with torch.no_grad():
                for name, raw in self.material.named_parameters():
                    raw.copy_(position["material"][name])
            self.coordinates = self._coordinates()
        search = Search(**position["search"])
        judged = Objective(self.coordinates, self.held, self.ranks) if self.held else None
        stopped = "all stages done"
        while position["stage"] < len(self.stages):
            late = self.schedule.budget is not None and time.perf_counter() - began > self.schedule.budget
            if self.ranks.from_first(lambda late=late: late):
                stopped = "the time is up"
                break
            self._round(position, search, judged)
            self._save(position, began)
        best = position["best"]
        self.coordinates.write(best)
        first = self.stages[0] if self.stages else Stage("weak form", 1, 40)
        return Learned(
            coordinates=self.coordinates,
            point=best,
            held_out=math.sqrt(position["best_held"]),
            first=math.sqrt(position["first"]),
            history=position["history"],
            start=position["start"],
            stopped=stopped,
            seconds=time.perf_counter() - began,
            held=self.held,
            taught=self._one_by_one(first),
            names=self.names,
        )

    def _begin(self) -> dict[str, Any]:
        """The position before the first round."""
        start: dict[str, Any] | None = None
        began = time.perf_counter()
        if self.schedule.start == "weak_form" and not self.tracks:
            together = Together(self.shootings, self.ranks)
            read, found = first_start(together, most=self.schedule.runs)
            plain = {k: v for k, v in asdict(found).items() if isinstance(v, (int, float, dict))}
            start = {**plain, "unexcited": list(found.unexcited)}
            if read is not None:
                told = asdict(read)
                start["strength"] = {k: told[k] for k in ("values", "sd", "held_out", "yielding", "plastic")}
            self.coordinates = self._coordinates()  # columns that are not moved may have changed
        point = self.coordinates.read()
        held = self._judge(point)
        record = {"stage": -1, "name": "weak form", "round": 1, "rounds": 1}
        if start is not None:
            record |= {"before": start["before"], "misfit": start["misfit"], "length": 1}
        record |= {"held_out": math.sqrt(held), "seconds": time.perf_counter() - began, "better": True}
        if self.listen is not None and self.ranks.first and start is not None:
            self.listen(record)
        return {
            "stage": 0,
            "round": 0,
            "worse": 0,
            "search": vars(Search(point)),
            "best": point,
            "best_held": held,
            "first": held,
            "start": start,
            "material": {n: p.detach().clone() for n, p in self.material.named_parameters()},
            "history": [record] if start is not None else [],
        }

    def _judge(self, point: Tensor) -> float:
        """Mean squared residual of what is held out; of the whole motion where nothing is."""
        pairs = zip(self.lessons, self.shootings, strict=True)
        runs = self.held or [Runs(s, [0], s.motion.intervals, observed=o.observed) for o, s in pairs]
        return float(Objective(self.coordinates, runs, self.ranks).misfits(point[None])[0])

    def _round(self, position: dict[str, Any], search: Search, judged: Objective | None) -> None:
        """One round of the present stage, and on to the next one where this is over."""
        stage, schedule, began = self.stages[position["stage"]], self.schedule, time.perf_counter()
        objective = self._objective(stage)
        if schedule.method == "gauss_newton":
            before, after = gauss_newton(objective, search)
        else:
            before, after = descend(
                objective,
                search,
                method=schedule.method,
                rate=schedule.rate,
                iterations=schedule.iterations,
                total=schedule.iterations * schedule.rounds,
                ema=schedule.ema,
            )
        if judged is None and position["round"] == 0:
            position["best_held"] = before  # runs of other stages are no measure for those of this one
        position["round"] += 1
        held = self._judge(search.point) if judged is not None else after
        better = held < position["best_held"]
        if better:
            position["best"], position["best_held"] = search.point.clone(), held
        position["worse"] = 0 if better else position["worse"] + 1
        record = {
            "stage": position["stage"],
            "name": stage.name,
            "round": position["round"],
            "rounds": schedule.rounds,
            "length": stage.length,
            "before": math.sqrt(before),
            "misfit": math.sqrt(after),
            "held_out": math.sqrt(held),
            "better": better,
            "seconds": time.perf_counter() - began,
        }
        position["history"].append(record)
        still = after >= 0.999 * before
        if position["round"] == schedule.rounds or position["worse"] >= schedule.patience or still:
            position |= {"stage": position["stage"] + 1, "round": 0, "worse": 0}
            # What made the prediction worse is not gone on from.
            search.point, search.optimiser = position["best"].clone(), None
        position["search"] = dict(vars(search))
        if self.listen is not None and self.ranks.first:
            self.listen(record)

    def _save(self, position: dict[str, Any], began: float) -> None:
        position["seconds"] = time.perf_counter() - began
        if self.store is not None:
            store = self.store
            self.ranks.from_first(lambda: [str(store.save({"key": self.key, "position": position}))])
