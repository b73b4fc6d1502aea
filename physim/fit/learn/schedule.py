"""What a law is learned by: how it starts, how runs grow, when to stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from physim.errors import InputError
from physim.fit.learn.shooting import Motion

LENGTHS = (25, 100, 400)
"""Substeps of the runs of the stages, where the motion is that long."""
WORK = 800_000
"""Particle-substeps of the runs of one round: as many runs as that allows, from as many states."""
LONG = 0.6
"""Share of a motion beyond which runs count as whole ones."""


@dataclass(frozen=True)
class Schedule:
    """How a law is learned.

    Attributes:
        start: `weak_form`: coefficients that the stress is linear in from runs of one interval; or `none`.
        method: `gauss_newton` on those coefficients (on all free parameters where a law has none), `adam` or `lbfgs`
            on all free parameters, or `none`: the start alone.
        lengths: substeps of the runs, stage by stage; growing ones unless given.
        whole: whether the last stage takes runs of the whole motion.
        rounds: most rounds of a stage.
        held_out: share of each motion, at its end, that is not learned from but judged by.
        patience: rounds without a better prediction of what is held out after which a stage is over.
        budget: time [s] after which no further round begins, resumed or not; none unless given.
        rate: first step of `adam` in raw parameters.
        iterations: gradients of one round of `adam` or `lbfgs`.
        ema: share of the old that the running mean of `adam` keeps at each iteration.
        runs: most runs of one interval from which the weak form starts.
    """

    start: Literal["weak_form", "none"] = "weak_form"
    method: Literal["gauss_newton", "adam", "lbfgs", "none"] = "gauss_newton"
    lengths: tuple[int, ...] | None = None
    whole: bool = True
    rounds: int = 1
    held_out: float = 0.2
    patience: int = 2
    budget: float | None = None
    rate: float = 0.01
    iterations: int = 10
    ema: float = 0.9
    runs: int = 60


@dataclass(frozen=True)
class Stage:
    """Runs of one length.

    Attributes:
        name: for logs.
        length: intervals of each run.
        most: runs of all trajectories.
    """

    name: str
    length: int
    most: int


def make_stages(schedule: Schedule, motions: Sequence[Motion], *, tracks: bool = False) -> list[Stage]:
    """The stages for these motions, of which what is held out has been cut off.

    Args:
        schedule: what was asked for.
        motions: what is learned from; all with the same substeps between states.
        tracks: only some particles are observed, so that every run begins with the motion.

    Raises:
        InputError: a run is longer than every motion, or shorter than one interval.
    """
    if schedule.method == "none":
        return []
    every, longest = motions[0].every, max(m.intervals for m in motions)
    particles = max(m.states[0].x.shape[0] for m in motions)
    wanted = schedule.lengths or tuple(n for n in LENGTHS if round(n / every) <= LONG * longest)
    if tracks and schedule.lengths is None:
        # Nothing happens to a body at rest; short runs from its start alone tell nothing.
        wanted = tuple(round(s * longest) * every for s in (0.25, 0.5))
    lengths = []
    for substeps in wanted:
        length = max(1, round(substeps / every))
        if length > longest:
            raise InputError(
                f"runs of {substeps} substeps do not fit into {longest * every} to learn from; give shorter lengths."
            )
        lengths.append(length)
    if schedule.whole and (not lengths or max(lengths) < longest):
        lengths.append(longest)
    stages = []
    for length in dict.fromkeys(lengths):
        most = len(motions) if tracks else max(len(motions), WORK // (length * every * particles))
        told = "whole runs" if length == longest else f"{length * every} substeps"
        stages.append(Stage(told, length, most))
    return stages
