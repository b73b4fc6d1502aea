"""The gradient boundary: the only file that touches both torch memory and Warp launches.

A solver describes one substep and its adjoint on Warp arrays (a `Program`); `run_segment` makes a run of substeps
one torch function. Backward either uses states kept in forward or recomputes them from the segment's start.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Protocol

import torch
import warp as wp
from torch import Tensor
from torch.autograd.function import once_differentiable

from physim.errors import GradientError
from physim.numeric import PRECISIONS, Precision

Arrays = dict[str, wp.array]
Probe = Callable[[str, Mapping[str, Any]], None]
Replay = Callable[[], Iterator[Arrays]]


class Segment(Protocol):
    """A run of substeps and its adjoint: what a solver gives to the gradient boundary."""

    def forward(
        self, state: Mapping[str, Tensor], inputs: Mapping[str, Tensor], count: int, *, keep: bool
    ) -> tuple[dict[str, Tensor], Any]:
        """The state after `count` substeps, and what `backward` may use (None unless `keep`)."""
        ...

    def backward(
        self,
        state: Mapping[str, Tensor],
        inputs: Mapping[str, Tensor],
        count: int,
        kept: Any,
        given: Mapping[str, Tensor | None],
        *,
        probe: bool,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Cotangents of the state and of the inputs from those of the result; what was kept is used up.

        With `probe`, raise `GradientError` at the first number that is not finite (`raise_if_bad`).
        """
        ...


class Program(Protocol):
    """One substep and its adjoint, in Warp terms; `Stepwise` makes a `Segment` of it.

    `state_types` and `input_types` give the Warp dtype of each array. Adjoint buffers of the state (`adj_state`)
    and of the inputs arrive zeroed and are added to; `adj_out` may be overwritten. `probe(term, arrays)`, when
    given, is to be called after each stage of the adjoint with the buffers which that stage wrote.
    """

    @property
    def state_types(self) -> Mapping[str, Any]:
        """Warp dtype of each array of the state."""
        ...

    @property
    def input_types(self) -> Mapping[str, Any]:
        """Warp dtype of each input."""
        ...

    def begin(self, inputs: Arrays) -> None:
        """Called once before the substeps of a segment, forward and backward."""
        ...

    def substep(self, state: Arrays, out: Arrays, inputs: Arrays, k: int) -> None:
        """Write substep `k`'s result into `out`."""
        ...

    def substep_adjoint(
        self,
        state: Arrays,
        out: Arrays,
        inputs: Arrays,
        adj_state: Arrays,
        adj_out: Arrays,
        adj_inputs: Arrays,
        k: int,
        probe: Probe | None,
    ) -> None:
        """Add the vector-Jacobian products of substep `k`."""
        ...

    def finish(self, last: Arrays, count: int, replay: Replay) -> None:
        """Called once after the `count` substeps of a forward segment with their last state; raises if one failed.

        `replay()` runs the segment again, to find where it failed: it yields the start and the state after each
        substep; two successive states stay valid.
        """
        ...


class Map(Protocol):
    """A function of tensors in one launch or a few, and its adjoint; `run_map` makes it a torch function."""

    def forward(self, inputs: Mapping[str, Tensor], *, keep: bool) -> tuple[Tensor, Any]:
        """The result, and what `backward` may use (None unless `keep`)."""
        ...

    def backward(self, inputs: Mapping[str, Tensor], kept: Any, given: Tensor) -> dict[str, Tensor]:
        """Cotangents of the inputs, by name, from that of the result."""
        ...


def precision_of(tensor: Tensor) -> Precision:
    """The `Precision` of a tensor.

    Raises:
        TypeError: neither float32 nor float64.
    """
    if tensor.dtype not in PRECISIONS:
        raise TypeError(f"physim computes in float32 or float64, got {tensor.dtype}.")
    return PRECISIONS[tensor.dtype]


def to_warp(tensor: Tensor, dtype: Any) -> wp.array:
    """A Warp array that shares the memory of a contiguous tensor."""
    wp.init()
    return wp.from_torch(tensor.detach(), dtype=dtype, requires_grad=False)


@contextlib.contextmanager
def on_stream_of(tensor: Tensor) -> Iterator[None]:
    """Launch on the torch stream of the tensor's device."""
    if tensor.is_cuda:
        with wp.ScopedStream(wp.stream_from_torch(torch.cuda.current_stream(tensor.device))):
            yield
    else:
        yield


@contextlib.contextmanager
def one_torch_thread(wanted: bool) -> Iterator[None]:
    """Keep torch's own threads out of the way: they go on spinning for milliseconds after each parallel operation."""
    before = torch.get_num_threads()
    if wanted and before > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if wanted and before > 1:
            torch.set_num_threads(before)


class Buffers:
    """Named tensors with their Warp views.

    Attributes:
        tensors: by name.
        arrays: the same memory as Warp sees it.
        packed: the same, as a launch takes it.
        words: addresses of the memory, as `Crew.run` takes them.
    """

    def __init__(self, tensors: Mapping[str, Tensor], types: Mapping[str, Any]) -> None:
        self.tensors = dict(tensors)
        self.arrays: Arrays = {n: to_warp(t, types[n]) for n, t in self.tensors.items()}
        self.packed = {n: a.__ctype__() for n, a in self.arrays.items()}
        self.words = {n: t.data_ptr() for n, t in self.tensors.items()}

    @classmethod
    def zeros(cls, shapes: Mapping[str, tuple[int, ...]], types: Mapping[str, Any], like: Tensor) -> Buffers:
        """Zeros of the type and on the device of `like`."""
        return cls({n: like.new_zeros(s) for n, s in shapes.items()}, types)

    def load(self, values: Mapping[str, Tensor | None]) -> None:
        """Copy values in; None is zero."""
        for name, tensor in self.tensors.items():
            value = values[name]
            if value is None:
                tensor.zero_()
            else:
                tensor.copy_(value.detach())


class Pool:
    """Buffers to be used again: fresh memory costs a page fault per 4 KB, as much as a substep's arithmetic."""

    def __init__(self) -> None:
        self._idle: dict[tuple, list[Buffers]] = {}

    def take(self, shapes: Mapping[str, tuple[int, ...]], types: Mapping[str, Any], like: Tensor) -> Buffers:
        """Buffers of these shapes with any content."""
        idle = self._idle.get(tuple(shapes.items()))
        if idle:
            return idle.pop()
        return Buffers({n: like.new_empty(s) for n, s in shapes.items()}, types)

    def give(self, buffers: Buffers) -> None:
        """Buffers that nobody needs any more."""
        self._idle.setdefault(tuple((n, tuple(t.shape)) for n, t in buffers.tensors.items()), []).append(buffers)

    def clear(self) -> None:
        """Let all memory go."""
        self._idle.clear()


def run_segment(
    segment: Segment, count: int, state: Mapping[str, Tensor], inputs: Mapping[str, Tensor], *, keep: bool
) -> dict[str, Tensor]:
    """Run `count` substeps as one differentiable function of `state` and `inputs`.

    Raises:
        GradientError: in backward, when a gradient is not finite; names substep, particle and term.
    """
    names = (tuple(state), tuple(inputs))
    tensors = [t.contiguous() for t in (*state.values(), *inputs.values())]
    out = _Segment.apply(segment, count, keep, names, *tensors)
    return dict(zip(names[0], out, strict=True))


def _split(names: tuple[tuple[str, ...], tuple[str, ...]], tensors: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    n = len(names[0])
    return dict(zip(names[0], tensors[:n], strict=True)), dict(zip(names[1], tensors[n:], strict=True))


class _Segment(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, segment: Segment, count: int, keep: bool, names: Any, *tensors: Tensor) -> tuple:
        state, inputs = _split(names, tensors)
        with on_stream_of(tensors[0]):
            out, kept = segment.forward(state, inputs, count, keep=keep and any(ctx.needs_input_grad))
        ctx.segment, ctx.count, ctx.names, ctx.kept = segment, count, names, kept
        ctx.save_for_backward(*tensors)
        return tuple(out[n] for n in names[0])

    @staticmethod
    @once_differentiable  # a second derivative would silently miss what passes through the kernels
    def backward(ctx: Any, *cotangents: Tensor) -> tuple:
        tensors = ctx.saved_tensors  # asked for once: a rollout that is short of memory recomputes them
        state, inputs = _split(ctx.names, tensors)
        given = dict(zip(ctx.names[0], cotangents, strict=True))
        with on_stream_of(tensors[0]):
            kept, ctx.kept = ctx.kept, None
            adj_state, adj_inputs = ctx.segment.backward(state, inputs, ctx.count, kept, given, probe=False)
            found = [*adj_state.values(), *adj_inputs.values()]
            if not all(bool(torch.isfinite(t).all()) for t in found):
                ctx.segment.backward(state, inputs, ctx.count, None, given, probe=True)
                raise GradientError("non-finite gradient, in one of two sweeps only: lower dt, or run in float64.")
        return (
            None,
            None,
            None,
            None,
            *(g if need else None for g, need in zip(found, ctx.needs_input_grad[4:], strict=True)),
        )


def run_map(function: Map, inputs: Mapping[str, Tensor]) -> Tensor:
    """Run a `Map` as a differentiable function of its inputs.

    Raises:
        GradientError: in backward, when a gradient is not finite; names the input and the row.
    """
    return _Map.apply(function, tuple(inputs), *(t.contiguous() for t in inputs.values()))


class _Map(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Map, names: tuple[str, ...], *tensors: Tensor) -> Tensor:
        with on_stream_of(tensors[0]):
            out, kept = function.forward(dict(zip(names, tensors, strict=True)), keep=any(ctx.needs_input_grad))
        ctx.function, ctx.names, ctx.kept = function, names, kept
        ctx.save_for_backward(*tensors)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, given: Tensor) -> tuple:
        tensors = ctx.saved_tensors
        with on_stream_of(tensors[0]):
            found = ctx.function.backward(dict(zip(ctx.names, tensors, strict=True)), ctx.kept, given.contiguous())
        for name, gradient in found.items():
            if not bool(torch.isfinite(gradient).all()):
                row = int((~torch.isfinite(gradient)).nonzero()[0, 0])
                raise GradientError(
                    f"non-finite gradient of '{name}' at row {row} of a picture: the gradient that came in, or a "
                    "position, is not finite."
                )
        return (
            None,
            None,
            *(found[n] if need else None for n, need in zip(ctx.names, ctx.needs_input_grad[2:], strict=True)),
        )


class Stepwise:
    """The `Segment` of a `Program`: substeps one after the other between kept or alternating states."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def _states(self, like: Mapping[str, Tensor], count: int) -> list[Buffers]:
        # Zeros, because a body's law writes only its own columns of a history that another body has made wider.
        return [
            Buffers({n: torch.zeros_like(t) for n, t in like.items()}, self._program.state_types) for _ in range(count)
        ]

    def forward(
        self, state: Mapping[str, Tensor], inputs: Mapping[str, Tensor], count: int, *, keep: bool
    ) -> tuple[dict[str, Tensor], Any]:
        """See `Segment`."""
        program = self._program
        states = self._states(state, count + 1 if keep else 2)
        states[0].load(state)
        arrays = Buffers(inputs, program.input_types).arrays
        program.begin(arrays)
        for k in range(count):
            at, to = (k, k + 1) if keep else (k % 2, (k + 1) % 2)
            program.substep(states[at].arrays, states[to].arrays, arrays, k)
        last = states[count if keep else count % 2]
        program.finish(last.arrays, count, partial(self._replay, count, states, state, arrays))
        return {n: t.clone() for n, t in last.tensors.items()}, states if keep else None

    def _replay(
        self, count: int, states: list[Buffers], state: Mapping[str, Tensor], inputs: Arrays
    ) -> Iterator[Arrays]:
        """The start of a segment and the state after each of its substeps, in two alternating places."""
        self._program.begin(inputs)
        states[0].load(state)
        yield states[0].arrays
        for k in range(count):
            self._program.substep(states[k % 2].arrays, states[(k + 1) % 2].arrays, inputs, k)
            yield states[(k + 1) % 2].arrays

    def backward(
        self,
        state: Mapping[str, Tensor],
        inputs: Mapping[str, Tensor],
        count: int,
        kept: Any,
        given: Mapping[str, Tensor | None],
        *,
        probe: bool,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """See `Segment`."""
        program, states = self._program, kept
        arrays = Buffers(inputs, program.input_types).arrays
        program.begin(arrays)
        if states is None:
            states = self._states(state, count + 1)
            states[0].load(state)
            for k in range(count):
                program.substep(states[k].arrays, states[k + 1].arrays, arrays, k)
        ends = self._states(state, 2)
        grads = Buffers({n: torch.zeros_like(t) for n, t in inputs.items()}, program.input_types)
        ends[count % 2].load(given)
        if probe:
            raise_if_bad("the loss", ends[count % 2].arrays, count)
        for k in reversed(range(count)):
            at, to = ends[k % 2], ends[(k + 1) % 2]
            for tensor in at.tensors.values():
                tensor.zero_()
            report = (lambda term, found, k=k: raise_if_bad(term, found, k)) if probe else None
            before, after = states[k].arrays, states[k + 1].arrays
            program.substep_adjoint(before, after, arrays, at.arrays, to.arrays, grads.arrays, k, report)
            if report:
                report("substep", {**at.arrays, **grads.arrays})
        return ends[0].tensors, grads.tensors


def raise_if_bad(term: str, found: Mapping[str, Any], k: int, order: Tensor | None = None) -> None:
    """Raise `GradientError` for the first number that is not finite in the adjoint of `term` in substep `k`.

    `order` gives the user's index of each row, for arrays with as many rows.
    """
    for name, array in found.items():
        tensor = wp.to_torch(array)
        rows = torch.isfinite(tensor.reshape(tensor.shape[0], -1)).all(dim=1) if tensor.numel() else None
        if rows is not None and not bool(rows.all()):
            index = int((~rows).nonzero()[0, 0])
            if order is not None and len(order) == tensor.shape[0]:
                index = int(order[index])
            raise GradientError(
                f"non-finite gradient of '{name}' at row {index}, from the adjoint of '{term}' in substep {k} of the "
                "segment. A law's derivative is infinite there (F nearly singular, a square root at zero) or the "
                "gradient has grown without bound: shorten the horizon, lower dt, or check the parameters."
            )
