"""What a rollout keeps for its backward pass within a memory budget, and what it recomputes."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import partial

import torch

from physim.sim.sizes import free_memory, in_bytes, written

SMALL = 2**28
"""Bytes up to which `memory="auto"` keeps every state."""
KEEPING = 1 / 16
"""Share of the free memory that `memory="auto"` may fill with states it could also recompute."""
SHARE = 0.25
"""Share of the free memory that `memory="auto"` may fill before it goes through the whole rollout once more."""
DEEPEST = 4
"""Levels of groups; each costs one more forward pass, and beyond this the least memory hardly falls."""
STRETCHES = (2.0, 1.0)
"""Lengths of segments over that which needs least memory, the preferred one first: what a segment costs by itself, as
much as about three substeps, falls with their number, and a quarter more memory halves it."""
ALONGSIDE = 8
"""States beside the kept ones: a substep's two ends, their cotangents, and what flows between segments."""
COPIES = 2
"""States that a kept segment has beside those of its substeps: a copy of its start, and its result."""


@dataclass(frozen=True)
class Plan:
    """What is kept for the backward pass.

    Attributes:
        keep: keep every state, and recompute nothing.
        length: longest segment, in substeps.
        levels: levels of groups around the segments; 0 keeps the start of every segment.
        group: segments in a group of the first level, groups in one of the next, and so on.
        bytes: the bound on what is held for the backward pass [bytes].
        budget: what was allowed [bytes].
        host_bytes: the bound on what is held in the host's memory beside it, where starts are put there [bytes].
        segments: their number.
        kept: how many of the last segments keep their substeps from the forward pass.
        steps: substeps.
        state_bytes, substep_bytes: memory of a state, and of what a substep leaves for its adjoint [bytes].
        particles: material points; 0 where they were not told.
    """

    keep: bool
    length: int
    levels: int
    group: int
    bytes: int
    budget: float
    host_bytes: int = 0
    segments: int = 1
    kept: int = 0
    steps: int = 0
    state_bytes: int = 0
    substep_bytes: int = 0
    particles: int = 0

    @property
    def passes(self) -> float:
        """Forward passes through the rollout, those in the backward pass included."""
        if self.keep:
            return 1.0
        return 1.0 + (_again(self.segments, self.levels, self.group) - self.kept) / self.segments

    def __str__(self) -> str:
        per = f" for {self.particles:,} particles" if self.particles else ""
        lines = [f"at most {written(self.bytes)} for the gradients of {self.steps:,} substeps{per}"]
        allowed = f"{written(self.budget)} allowed"
        lines[0] += f" ({allowed})" if self.bytes <= self.budget else f", the least possible ({allowed})"
        if self.host_bytes:
            lines.append(f"and at most {written(self.host_bytes)} in the host's memory")
        each = f"a state takes {_per(self.state_bytes, self.particles)}, "
        each += f"a kept substep {_per(self.substep_bytes, self.particles)} (with nodal sums and order)"
        if self.keep:
            return "\n".join([*lines, "all substeps are kept: 1 forward pass, 1 backward pass", each])
        held = f"{self.segments:,} segments of up to {self.length:,} substeps"
        if self.levels:
            held += f", in {self.levels} level{'s' * (self.levels > 1)} of groups of {self.group:,}"
        held += f"; the last {self.kept:,} keep{'s' * (self.kept == 1)} all substeps"
        return "\n".join([*lines, held, f"{self.passes:.2f} forward passes, 1 backward pass", each])


def plan_memory(
    frames: int,
    every: int,
    state_bytes: int,
    memory: str | float,
    device: torch.device,
    *,
    substep_bytes: int | None = None,
    jumps: int = 0,
    offload: bool = False,
) -> Plan:
    """The plan that recomputes least within `memory`, or the one that needs least where none is within it.

    With N segments of at most L substeps in d levels of groups of m, what is held is the starts of the groups of each
    level and one segment's own substeps: (d + 1) m + L + 8 states, m = N^(1/(d + 1)); each level costs a forward pass.
    What is left of the budget keeps the substeps of the last segments from the forward pass. It changes no bit of the
    result, as the length of segments may: with "auto" it alone follows the free memory closely.

    Args:
        frames: number of records.
        every: substeps between records; a segment ends at each.
        state_bytes: memory of one state, with its share of the parameters [bytes].
        memory: budget [bytes], a number or text with a unit; or "auto": everything up to 256 MiB, a quarter of the
            device's free memory for starts of segments, a sixteenth for keeping substeps.
        device: where the states live.
        substep_bytes: memory of what a substep leaves for its adjoint, where that is more than its state [bytes].
        offload: whether the starts of segments, or of the outermost groups, are on the host.
        jumps: segments that end between records because a collider's velocity jumps there.

    Raises:
        InputError: a budget that is no amount above zero.
    """
    steps = frames * every
    inner = substep_bytes or state_bytes
    if memory == "auto":
        free = free_memory(device)
        keeping, budget = max(float(SMALL), KEEPING * free), max(float(SMALL), SHARE * free)
        whole = float(SMALL)
    else:
        whole = keeping = budget = in_bytes(memory)
    told = partial(Plan, budget=budget, steps=steps, state_bytes=state_bytes, substep_bytes=inner)
    everything = (steps + ALONGSIDE) * inner + COPIES * (frames + jumps) * state_bytes
    if everything <= whole:
        number = frames + jumps
        return told(True, every, 0, 1, everything, segments=number, kept=number)
    plans = []
    for levels, stretch in itertools.product(range(DEEPEST + 1), STRETCHES):
        length = max(1, min(every, round(stretch * steps ** (1.0 / (levels + 2)))))
        length = math.ceil(every / math.ceil(every / length))
        segments = frames * math.ceil(every / length) + jumps
        group = max(1, math.ceil(segments ** (1.0 / (levels + 1)) - 1e-9))
        tops = math.ceil(segments / group**levels)
        starts, held = tops * state_bytes, levels * group * state_bytes + (length + ALONGSIDE) * inner
        held += 0 if offload else starts
        each = length * inner + COPIES * state_bytes
        # The last segment's substeps are there anyway when the backward pass begins, and the last group is not wrapped.
        free = segments if levels == 0 else segments - group * ((segments - 1) // group)
        more = min(free - 1, int(max(0.0, keeping - held) / each))
        held, host = held + more * each, starts if offload else 0
        plans.append(told(False, length, levels, group, held, host_bytes=host, segments=segments, kept=1 + more))
    return next((p for p in plans if p.bytes <= budget), min(plans, key=lambda p: p.bytes))


def _again(segments: int, level: int, group: int) -> int:
    """Segments run again for the backward pass over some of them; a group's last part is not run twice."""
    if level == 0:
        return segments
    size, total = group**level, 0
    for start in range(0, segments, size):
        part = min(size, segments - start)
        total += _again(part, level - 1, group) + (part if start + part < segments else 0)
    return total


def _per(size: float, particles: int) -> str:
    return f"{size / particles:.0f} bytes per particle" if particles else written(size)
