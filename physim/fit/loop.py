"""The fitting loop: every start through every stage, one iteration at a time, saved as it goes.

Starts know nothing of each other. With several ranks, groups of them take one start each, and after every iteration
all ranks learn how far each has come.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from physim.errors import FitError
from physim.fit.attempt import Attempt, StartResult, Walk
from physim.fit.checkpoint import CheckpointStore
from physim.fit.problem import Problem
from physim.fit.stage import Stage
from physim.parallel import ALONE, Ranks


@dataclass
class Position:
    """How far a fit has come; all of it goes into a checkpoint.

    Attributes:
        attempts: how far each start has come.
    """

    attempts: list[Attempt]

    @property
    def finished(self) -> list[StartResult]:
        """Where the starts that are done have ended, in their order."""
        return [t.result for t in self.attempts if t.result is not None]

    @property
    def history(self) -> list[dict[str, Any]]:
        """One record per iteration, start by start."""
        return [record for t in self.attempts for record in t.history]

    def tree(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"attempts": [{**t.state(), "history": t.history} for t in self.attempts]}

    @staticmethod
    def of(tree: dict[str, Any]) -> Position:
        """From a checkpoint."""
        return Position([Attempt.of(t) for t in tree["attempts"]])


def run_fit(
    problem: Problem,
    stages: Sequence[Stage],
    starts: Sequence[Tensor],
    *,
    threads: int = 2,
    ranks: Ranks = ALONE,
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
        threads: runs evaluated at the same time by each rank.
        ranks: who shares the starts, and the runs of one start where there are more ranks than starts. All return the
            same position: bit for bit that of one rank alone where every rank rounds alike, counts of runs aside.
        store: where the first rank puts checkpoints, one per iteration; none unless given.
        key: identifies the problem, part by part; a checkpoint of another problem is refused.
        resume: continue from the newest checkpoint in `store`; the result is that of an uninterrupted run, also with
            another number of ranks.
        listen: called by the first rank with one record per iteration.

    Returns:
        The final position; `best_start` picks the best of its finished starts.

    Raises:
        FitError: the checkpoint belongs to another problem, or every start failed.
    """
    key = dict(key or {})
    tree = ranks.from_first(lambda: restored(store, key) if resume and store is not None else None)
    position = Position.of(tree) if tree else Position([Attempt(i, z.clone(), z.clone()) for i, z in enumerate(starts)])

    def told(records: Sequence[dict[str, Any]]) -> None:
        if store is not None:
            store.save({"key": key, "position": position.tree()})
        if listen is not None:
            for record in records:
                listen(record)

    while waiting := [t for t in position.attempts if t.result is None]:
        # Groups are formed anew when one of them would have nothing left to do.
        with ranks.split(ranks.groups(len(waiting))) as (mine, group):
            count = ranks.size // group.size
            walks = [Walk(problem, stages, t, threads=threads, ranks=group) for t in waiting[:count]]
            waiting = waiting[count:]
            while len(walks) == count:
                records = _iterate(position, walks[mine], ranks, group)
                ranks.from_first(lambda records=records: told(records))
                going = [w if w.attempt.result is None else None for w in walks]
                walks = [
                    w or Walk(problem, stages, waiting.pop(0), threads=threads, ranks=group)
                    for w in going
                    if w is not None or waiting
                ]
    if not any(math.isfinite(f.loss) for f in position.finished):
        raise FitError(f"no start could be simulated; the first says: {position.finished[0].stop}")
    return position


def best_start(position: Position) -> int:
    """Index of the finished start with the smallest loss."""
    return min(range(len(position.finished)), key=lambda i: position.finished[i].loss)


def _iterate(position: Position, walk: Walk, ranks: Ranks, group: Ranks) -> list[dict[str, Any]]:
    """One iteration of the start of every group, and what is known of it on every rank; the records."""

    def step() -> tuple[dict[str, Any], dict[str, Any] | None] | None:
        record = walk.step()
        # What the group's first rank has rounded holds for all.
        return (walk.attempt.state(), record) if group.first else None

    found = [f for f in ranks.gather(step) if f is not None]
    for state, record in found:
        attempt = position.attempts[state["start"]]
        attempt.take(state)
        if record is not None:
            attempt.history.append(record)
    if not group.first:
        walk.renew()
    return [record for _, record in found if record is not None]


def restored(store: CheckpointStore, key: Mapping[str, str]) -> dict[str, Any] | None:
    """The position in the newest checkpoint, as a tree."""
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
    return tree["position"]
