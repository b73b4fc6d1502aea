"""Groups of segments that keep their start only, and are run again in the backward pass."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from physim.errors import GradientError
from physim.sim.model import Model


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


def on_host(tensor: Tensor) -> AbstractContextManager[Any]:
    """Keep what autograd saves in the memory of the host, pinned where `tensor` is on a GPU."""
    return torch.autograd.graph.save_on_cpu(pin_memory=tensor.is_cuda)


def _run(
    function: Callable[[Any, bool], Any], kind: type, names: list[str], rest: dict, first: list[bool], *tensors: Tensor
) -> Any:
    now = bool(first) and first.pop()
    return function(kind(**dict(zip(names, tensors, strict=True)), **rest), now)
