"""How a rollout keeps within a memory budget: segments, groups of segments, and what of them is recomputed."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from physim.errors import GradientError, InputError
from physim.sim.model import Model

SMALL = 2**28
"""Bytes up to which `memory="auto"` keeps every state."""
SHARE = 0.25
"""Share of the device's memory that `memory="auto"` may fill before it recomputes more."""
DEEPEST = 4
"""Levels of groups; each costs one more forward pass, and beyond this the least memory hardly falls."""
ALONGSIDE = 8
"""States beside the kept ones: a substep's two ends, their cotangents, and what flows between segments."""


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
    """

    keep: bool
    length: int
    levels: int
    group: int
    bytes: int
    budget: float


def plan_memory(
    frames: int,
    every: int,
    state_bytes: int,
    memory: str | float,
    device: torch.device,
    *,
    substep_bytes: int | None = None,
) -> Plan:
    """The plan that recomputes least within `memory`, or the one that needs least where none is within it.

    With N segments of at most L substeps in d levels of groups of m, what is held is the starts of the groups of each
    level and one segment's own substeps: (d + 1) m + L + 8 states, m = N^(1/(d + 1)); each level costs a forward pass.

    Args:
        frames: number of records.
        every: substeps between records; a segment ends at each.
        state_bytes: memory of one state, with its share of the parameters [bytes].
        memory: budget [bytes], or "auto": 256 MiB for keeping everything, a quarter of the device beyond it.
        device: where the states live.
        substep_bytes: memory of what a substep leaves for its adjoint, where that is more than its state [bytes].

    Raises:
        InputError: a budget that is no number above zero.
    """
    steps = frames * every
    inner = substep_bytes or state_bytes
    if memory == "auto":
        keeping, budget = float(SMALL), max(float(SMALL), SHARE * _total(device))
    else:
        try:
            keeping = budget = float(memory)
        except ValueError:
            keeping = budget = math.nan
        if not budget > 0:
            raise InputError(f"memory must be a number of bytes above zero, or 'auto', got {memory!r}.")
    # A kept segment holds the states between its ends, a copy of its start, and its result.
    everything = (steps + ALONGSIDE) * inner + 2 * frames * state_bytes
    if everything <= keeping:
        return Plan(True, every, 0, 1, everything, budget)
    plans = []
    for levels in range(DEEPEST + 1):
        length = max(1, min(every, round(steps ** (1.0 / (levels + 2)))))
        segments = frames * math.ceil(every / length)
        group = max(1, math.ceil(segments ** (1.0 / (levels + 1)) - 1e-9))
        tops = math.ceil(segments / group**levels)
        held = (tops + levels * group) * state_bytes + (length + ALONGSIDE) * inner
        plans.append(Plan(False, length, levels, group, held, budget))
    return next((p for p in plans if p.bytes <= budget), min(plans, key=lambda p: p.bytes))


def recomputed(function: Callable[[Any, bool], Any], state: Any) -> Any:
    """`function(state, True)`, of which the backward pass keeps the start only and calls `function(state, False)`.

    The state is a dataclass; gradients reach it and everything that `function` uses. It must not raise.
    """
    values = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
    names = [n for n, v in values.items() if isinstance(v, Tensor)]
    rest = {n: v for n, v in values.items() if n not in names}
    # The tensors are arguments, and nothing else may hold them: they would be kept by every segment otherwise.
    run = partial(_run, function, type(state), names, rest, [True])
    return checkpoint(run, *(values[n] for n in names), use_reentrant=False, preserve_rng_state=False)


@contextlib.contextmanager
def as_it_was(model: Model, gravity: Tensor, parameters: Sequence[Tensor]) -> Iterator[None]:
    """Go through a rollout again: with the gravity it had, and parameters that have not changed since.

    Args:
        model: what is simulated.
        gravity: its gravity then.
        parameters: what `values_of(model)` was then.

    Raises:
        GradientError: parameters were changed in between.
    """
    now = [p.detach() for p in model.parameters()]
    if len(now) != len(parameters) or not all(map(torch.equal, now, parameters)):
        raise GradientError(
            "the material's parameters changed between a rollout and its backward pass, which would recompute it with "
            "other values: call backward first, or allow more memory."
        )
    current, model.gravity = model.gravity, gravity
    try:
        yield
    finally:
        model.gravity = current


def values_of(model: Model) -> list[Tensor]:
    """Copies of a model's parameters; torch's own version counters miss what is written through `.data`."""
    return [p.detach().clone() for p in model.parameters()]


def _run(
    function: Callable[[Any, bool], Any], kind: type, names: list[str], rest: dict, first: list[bool], *tensors: Tensor
) -> Any:
    now = bool(first) and first.pop()
    return function(kind(**dict(zip(names, tensors, strict=True)), **rest), now)


def _total(device: torch.device) -> float:
    """Memory of a device [bytes]; zero where the system does not tell."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    try:
        return float(os.sysconf("SC_PHYS_PAGES")) * float(os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return 0.0
