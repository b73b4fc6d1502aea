"""Many substeps with bounded memory: the rollout keeps some states and recomputes the rest in the backward pass."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol, TypeVar

import torch

from physim.errors import InputError, StabilityError
from physim.sim.budget import Plan, plan_memory
from physim.sim.memory import as_it_was, on_host, recomputed, values_of
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
    offload: bool = False,
    strict: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Trajectory:
    """Advance `state` by `steps` substeps of `dt` and record `save(state)` every `every` substeps.

    Gradients flow from anything saved, and from the final state, to the initial state, the model's parameters
    and the control. What is held for them stays within `memory`, beside what `save` itself returns: every state where
    that is little, else the starts of segments, or of groups of segments, from which the rest is recomputed in the
    backward pass. A budget below the least possible (about 30 states for 1000 substeps, 43 for 10,000) gets that
    least; `rollout_memory` tells the bound beforehand, `stats` afterwards. Where groups are recomputed, `control` and
    `save` are called again, so that what they return must depend on their argument only.

    Args:
        solver: the discretisation.
        state: where to start.
        dt: substep [s].
        steps: number of substeps.
        control: control as a function of time [s]; the model's own prescribed motion, followed exactly, unless given.
            Asked for at each record, that is every `every` substeps, whatever the memory; in between, poses move
            on with the velocities and spins given, and `acceleration` is held.
        save: what to record; positions of the material points unless given.
        every: substeps between records; the start is recorded too.
        memory: what may be held for the backward pass: bytes, or text such as "2 GiB"; or "auto": 256 MiB for keeping
            all states, beyond it up to a quarter of the device's free memory.
        offload: keep the starts of segments (with groups, those of the outermost ones) in the host's memory, for a
            state on a GPU whose memory is short.
        strict: raise on failure; otherwise the trajectory ends early and carries the status.
        progress: called with (done, total) substeps.

    Raises:
        InputError: steps is not a multiple of every, or the memory is no amount above zero.
        RolloutFailure: a substep failed, and `strict` is set.
    """
    if steps % every:
        raise InputError(f"steps = {steps} must be a multiple of every = {every}.")
    take = save or (lambda s: solver.particles(s).x)
    grad = torch.is_grad_enabled()
    plan = _plan(solver, state, dt, steps, every, memory, offload) if grad else None
    then = (solver.model.gravity, values_of(solver.model) if plan and plan.levels else [])
    run = _Run(solver, dt, steps, every, state.t, control, take, plan, *then, offload)  # type: ignore[attr-defined]
    book = _Book(progress, [state.t], [take(state)])  # type: ignore[attr-defined]
    # Failures of worlds that the solver drops, if it does.
    dropped = getattr(solver, "failures", {})
    dropped.clear()
    began = time.perf_counter()
    state = run.span(state, run.segments(), plan.levels if plan else 0, book)
    failure = book.error if isinstance(book.error, RolloutFailure) else None
    if book.error is not None and (strict or failure is None):
        raise book.error
    stats = {
        "substeps": book.done,
        "dt": dt,
        "seconds": time.perf_counter() - began,
        "segment": run.length,
        "segments": len(run.segments()),
        "levels": plan.levels if plan else 0,
        "passes": plan.passes if plan else 1.0,
        "kept_bytes": plan.bytes if plan else 0,
        "memory": plan.budget if plan else 0,
    }
    status = failure.status if failure else Status.OK
    return Trajectory(book.times, book.saved, state, status, failure, dict(dropped), stats)


def rollout_memory(
    solver: Solver[S],
    state: S,
    *,
    dt: float,
    steps: int,
    every: int = 1,
    memory: str | int | float = "auto",
    offload: bool = False,
) -> Plan:
    """What a rollout with these arguments will hold for its backward pass, without running it.

    `print` shows it: the bound, segments, forward passes, bytes per particle and kept substep. It counts nodes as the
    material lies in `state`; where a body breaks up into drops, nodal sums may take more. What `save` returns, and the
    solver's own scratch memory, come on top.

    Args:
        solver, state, dt, steps, every, memory, offload: as for `rollout`.

    Raises:
        InputError: see `rollout`.
    """
    if steps % every:
        raise InputError(f"steps = {steps} must be a multiple of every = {every}.")
    with torch.no_grad():
        count = solver.particles(state).x.shape[0]
    return dataclasses.replace(_plan(solver, state, dt, steps, every, memory, offload), particles=count)


def _plan(solver: Any, state: Any, dt: float, steps: int, every: int, memory: str | float, offload: bool) -> Plan:
    # Each segment turns the raw parameters into those of the laws, which autograd keeps in about four copies.
    raw = [p for p in solver.model.parameters() if p.requires_grad]
    size = state.bytes() + 4 * sum(p.numel() * p.element_size() for p in raw)
    more = solver.substep_bytes(state) - state.bytes() if hasattr(solver, "substep_bytes") else 0
    jumps, at = 0, solver.model.next_change(state.t)
    while at < state.t + steps * dt:
        jumps, at = jumps + 1, solver.model.next_change(at)
    device = _tensors(state)[0].device
    told = {"substep_bytes": size + more, "jumps": jumps, "offload": offload}
    return plan_memory(steps // every, every, size, memory, device, **told)


def _tensors(state: Any) -> list[torch.Tensor]:
    return [v for f in dataclasses.fields(state) if isinstance(v := getattr(state, f.name), torch.Tensor)]


@dataclass
class _Book:
    """What a rollout writes down as it goes; a backward pass that recomputes has none."""

    progress: Callable[[int, int], None] | None
    times: list[float]
    saved: list[Any]
    done: int = 0
    error: Exception | None = None


@dataclass(frozen=True)
class _Run:
    """The segments of one rollout, and how they are run for the first time or again."""

    solver: Any
    dt: float
    steps: int
    every: int
    t0: float
    control: Callable[[float], Control] | None
    take: Callable[[Any], Any]
    plan: Plan | None
    gravity: torch.Tensor
    parameters: list[torch.Tensor]
    offload: bool = False

    @property
    def length(self) -> int:
        """Longest segment in substeps."""
        return self.plan.length if self.plan else self.every

    def segments(self) -> list[tuple[int, int]]:
        """First substep and substeps of each segment; one ends at each record and where a collider's velocity jumps."""
        found, done = [], 0
        while done < self.steps:
            count = min(self.length, self.every - done % self.every)
            if self.control is None:
                at = self.t0 + done * self.dt
                until = (self.solver.model.next_change(at) - at) / self.dt
                count = max(1, math.ceil(min(until, count) - 1e-6))
            found.append((done, count))
            done += count
        return found

    @cached_property
    def kept_from(self) -> int:
        """The substep from which segments keep their substeps for the backward pass."""
        segments, kept = self.segments(), self.plan.kept if self.plan else 0
        return segments[-min(kept, len(segments))][0] if kept else self.steps

    def span(
        self, state: Any, segments: list[tuple[int, int]], level: int, book: _Book | None, *, outer: bool = True
    ) -> Any:
        """Run segments one after the other, in groups that are recomputed where `level` is not zero.

        The last group is not recomputed as a whole: nothing comes between its forward and its backward pass. What is
        not in another group (`outer`) may lie on the host.
        """
        for part in self.parts(segments, level):
            wrapped = level > 0 and part[-1] != segments[-1]
            with on_host(_tensors(state)[0]) if outer and self.offload and (wrapped or not level) else nullcontext():
                if wrapped:
                    state = recomputed(partial(self.group, part, level - 1, book), state)
                elif level:
                    state = self.span(state, part, level - 1, book, outer=outer)
                else:
                    state = self.noted(state, *part[0], book)
            if book is not None and book.error is not None:
                break
        return state

    def parts(self, segments: list[tuple[int, int]], level: int) -> list[list[tuple[int, int]]]:
        """Groups of a level; single segments at level 0."""
        size = self.plan.group**level if self.plan else 1
        return [segments[i : i + size] for i in range(0, len(segments), size)]

    def noted(self, state: Any, start: int, count: int, book: _Book | None) -> Any:
        """Run one segment; an error is noted: it must not leave a group while torch notes what it saves."""
        try:
            return self.segment(state, start, count, book)
        except Exception as error:
            if book is None:
                raise
            book.error = error.after(start) if isinstance(error, RolloutFailure) else error
            return state

    def group(self, segments: list[tuple[int, int]], level: int, book: _Book | None, state: Any, first: bool) -> Any:
        """Segments that are run a first time, or again in the backward pass."""
        if first:
            return self.span(state, segments, level, book, outer=False)
        with as_it_was(self.solver.model, self.gravity, self.parameters):
            return self.span(state, segments, level, None, outer=False)

    def segment(self, state: Any, start: int, count: int, book: _Book | None) -> Any:
        """Run one segment and record its end if a record is due."""
        keep = self.plan is not None and (self.plan.keep or start >= self.kept_from)
        dropped = getattr(self.solver, "failures", {})
        before = set(dropped)
        state = self.solver.advance(state, self.control_at(start), self.dt, count, keep=keep)
        dropped.update({w: f.after(start) for w, f in dropped.items() if w not in before})
        done = start + count
        state = state.replace(t=self.t0 + done * self.dt)
        entry = self.take(state) if done % self.every == 0 else None
        if book is not None:
            book.done = done
            if done % self.every == 0:
                book.times.append(state.t)
                book.saved.append(entry)
            if book.progress:
                book.progress(done, self.steps)
        return state

    def control_at(self, start: int) -> Control:
        """The control of a segment: given ones are those of the last record, moved on with their own velocities."""
        if self.control is None:
            return self.solver.model.control_at(self.t0 + start * self.dt)
        since = start % self.every
        return self.control(self.t0 + (start - since) * self.dt).moved_on(since * self.dt)
