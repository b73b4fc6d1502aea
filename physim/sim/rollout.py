"""Many substeps with bounded memory: the rollout keeps some states and the segments recompute the rest."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch

from physim.errors import InputError, StabilityError
from physim.sim.model import Model
from physim.sim.state import Control, ParticleState
from physim.sim.trajectory import RolloutFailure, Status, Trajectory

S = TypeVar("S")


class Solver(Protocol[S]):
    """One discretisation: state in, new state out."""

    model: Model

    def initial_state(self) -> S:
        """The state the model starts from."""
        ...

    def step(self, state: S, control: Control | None, dt: float) -> S:
        """One substep of `dt` [s]."""
        ...

    def advance(self, state: S, control: Control | None, dt: float, substeps: int, *, keep: bool = False) -> S:
        """Several substeps as one differentiable segment; `keep` stores its states instead of recomputing them."""
        ...

    def stable_dt(self, state: S) -> float:
        """The largest safe substep [s] at this state."""
        ...

    def particles(self, state: S) -> ParticleState:
        """The material points that observations look at."""
        ...


def substep_size(frame: float, limit: float) -> tuple[float, int]:
    """The largest dt <= `limit` that divides `frame` [s], and how many of them make one frame."""
    count = max(1, math.ceil(frame / limit * (1 - 1e-12)))
    return frame / count, count


def check_dt(dt: float, limit: float) -> None:
    """Raise `StabilityError` with the numbers when `dt` [s] exceeds the stable `limit` [s]."""
    if dt > limit * (1 + 1e-9):
        raise StabilityError(
            f"dt = {dt:.4g} s is {dt / limit:.3g} times the stable limit {limit:.4g} s (wave speed, viscosity and CFL "
            f"at the start); use dt: auto, or dt <= {limit:.3g}."
        )


def rollout(
    solver: Solver[S],
    state: S,
    *,
    dt: float,
    steps: int,
    control: Callable[[float], Control] | None = None,
    save: Callable[[S], Any] | None = None,
    every: int = 1,
    memory: str | int | float = "auto",
    strict: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Trajectory:
    """Advance `state` by `steps` substeps of `dt` and record `save(state)` every `every` substeps.

    Gradients flow from anything saved, and from the final state, to the initial state, the model's parameters
    and the control. States are kept at segment boundaries and recomputed in between: memory grows with the square
    root of the horizon, or with the number of records where these are more; `memory` (bytes, or "auto" for 256 MiB)
    allows keeping everything where that is small.

    Args:
        solver: the discretisation.
        state: where to start.
        dt: substep [s].
        steps: number of substeps.
        control: control as a function of time [s], asked for at least every `every` substeps (more often where
            memory is short) and held in between; the model's own prescribed motion unless given.
        save: what to record; positions of the material points unless given.
        every: substeps between records; the start is recorded too.
        memory: states [bytes] up to which all of them are kept for the backward pass; not a limit.
        strict: raise on failure; otherwise the trajectory ends early and carries the status.
        progress: called with (done, total) substeps.

    Raises:
        InputError: steps is not a multiple of every.
        RolloutFailure: a substep failed, and `strict` is set.
    """
    if steps % every:
        raise InputError(f"steps = {steps} must be a multiple of every = {every}.")
    take = save or (lambda s: solver.particles(s).x)
    frames = steps // every
    size = state.bytes()  # type: ignore[attr-defined]
    budget = float(2**28) if memory == "auto" else float(memory)
    length, keep = plan_segments(steps, every, size, budget)
    times, saved = [state.t], [take(state)]  # type: ignore[attr-defined]
    began = time.perf_counter()
    done = 0
    failure = None
    t0 = state.t  # type: ignore[attr-defined]
    try:
        for _ in range(frames):
            target = done + every
            while done < target:
                count = min(length, target - done)
                at = state.t  # type: ignore[attr-defined]
                now = control(at) if control else solver.model.control_at(at)
                if control is None:
                    # A segment has one velocity per collider, so that it ends where a keyframe changes it.
                    until = (solver.model.next_change(at) - at) / dt
                    count = max(1, math.ceil(min(until, count) - 1e-6))
                try:
                    state = solver.advance(state, now, dt, count, keep=keep)
                except RolloutFailure as error:
                    raise error.after(done) from None
                done += count
                state = state.replace(t=t0 + done * dt)  # type: ignore[attr-defined]
                if progress:
                    progress(done, steps)
            times.append(state.t)  # type: ignore[attr-defined]
            saved.append(take(state))
    except RolloutFailure as error:
        if strict:
            raise
        failure = error
    stats = {
        "substeps": done,
        "dt": dt,
        "seconds": time.perf_counter() - began,
        "segment": length,
        "kept_bytes": size * (done if keep else done // length + length) if torch.is_grad_enabled() else 0,
    }
    return Trajectory(times, saved, state, failure.status if failure else Status.OK, failure, stats)


def plan_segments(steps: int, every: int, state_bytes: int, budget: float) -> tuple[int, bool]:
    """Segment length in substeps, and whether all states may be kept within `budget` [bytes]."""
    if steps * state_bytes <= budget:
        return every, True
    return max(1, min(every, math.isqrt(steps))), False
