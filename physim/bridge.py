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


class Program(Protocol):
    """One substep and its adjoint, in Warp terms.

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


class _Store:
    """States of one segment in torch memory, with their Warp views."""

    def __init__(self, like: Mapping[str, Tensor], types: Mapping[str, Any], count: int) -> None:
        # Zeros, because a body's law writes only its own columns of a history that another body has made wider.
        self.tensors = [{n: torch.zeros_like(t) for n, t in like.items()} for _ in range(count)]
        self.arrays: list[Arrays] = [{n: to_warp(t, types[n]) for n, t in s.items()} for s in self.tensors]

    def load(self, index: int, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self.tensors[index][name].copy_(value.detach())


def run_segment(
    program: Program, count: int, state: Mapping[str, Tensor], inputs: Mapping[str, Tensor], *, keep: bool
) -> dict[str, Tensor]:
    """Run `count` substeps as one differentiable function of `state` and `inputs`.

    Raises:
        GradientError: in backward, when a gradient is not finite; names substep, particle and term.
    """
    names = (tuple(state), tuple(inputs))
    tensors = [t.contiguous() for t in (*state.values(), *inputs.values())]
    out = _Segment.apply(program, count, keep, names, *tensors)
    return dict(zip(names[0], out, strict=True))


def _split(names: tuple[tuple[str, ...], tuple[str, ...]], tensors: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    n = len(names[0])
    return dict(zip(names[0], tensors[:n], strict=True)), dict(zip(names[1], tensors[n:], strict=True))


class _Segment(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, program: Program, count: int, keep: bool, names: Any, *tensors: Tensor) -> tuple:
        state, inputs = _split(names, tensors)
        keep = keep and any(ctx.needs_input_grad)
        store = _Store(state, program.state_types, count + 1 if keep else 2)
        store.load(0, state)
        arrays = {n: to_warp(t, program.input_types[n]) for n, t in inputs.items()}
        with on_stream_of(tensors[0]):
            program.begin(arrays)
            for k in range(count):
                at, to = (k, k + 1) if keep else (k % 2, (k + 1) % 2)
                program.substep(store.arrays[at], store.arrays[to], arrays, k)
            last = count if keep else count % 2
            program.finish(store.arrays[last], count, partial(_replay, program, count, store, state, arrays))
        ctx.program, ctx.count, ctx.names = program, count, names
        ctx.store = store if keep else None
        ctx.save_for_backward(*tensors)
        return tuple(store.tensors[last][n].clone() for n in names[0])

    @staticmethod
    @once_differentiable  # a second derivative would silently miss what passes through the kernels
    def backward(ctx: Any, *cotangents: Tensor) -> tuple:
        program, count, names = ctx.program, ctx.count, ctx.names
        tensors = ctx.saved_tensors  # asked for once: a rollout that is short of memory recomputes them
        state, inputs = _split(names, tensors)
        arrays = {n: to_warp(t, program.input_types[n]) for n, t in inputs.items()}
        given = {n: c for n, c in zip(names[0], cotangents, strict=True)}
        with on_stream_of(tensors[0]):
            program.begin(arrays)
            store = ctx.store
            if store is None:
                store = _Store(state, program.state_types, count + 1)
                store.load(0, state)
                for k in range(count):
                    program.substep(store.arrays[k], store.arrays[k + 1], arrays, k)
            adj_state, adj_inputs = _sweep(program, count, store, arrays, state, inputs, given, probe=False)
            found = [*adj_state.values(), *adj_inputs.values()]
            if not all(bool(torch.isfinite(t).all()) for t in found):
                _sweep(program, count, store, arrays, state, inputs, given, probe=True)
                raise GradientError("non-finite gradient, in one of two sweeps only: lower dt, or run in float64.")
        ctx.store = None
        return (
            None,
            None,
            None,
            None,
            *(g if need else None for g, need in zip(found, ctx.needs_input_grad[4:], strict=True)),
        )


def _replay(
    program: Program, count: int, store: _Store, state: Mapping[str, Tensor], arrays: Arrays
) -> Iterator[Arrays]:
    """The start of a segment and the state after each of its substeps, in two alternating places."""
    program.begin(arrays)
    store.load(0, state)
    yield store.arrays[0]
    for k in range(count):
        program.substep(store.arrays[k % 2], store.arrays[(k + 1) % 2], arrays, k)
        yield store.arrays[(k + 1) % 2]


def _sweep(
    program: Program,
    count: int,
    store: _Store,
    arrays: Arrays,
    state: Mapping[str, Tensor],
    inputs: Mapping[str, Tensor],
    given: Mapping[str, Tensor | None],
    *,
    probe: bool,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Backward through the kept states of a segment; with `probe`, stop at the first non-finite number."""
    buffers = _Store(state, program.state_types, 2)
    grads = {n: torch.zeros_like(t) for n, t in inputs.items()}
    adj_inputs = {n: to_warp(t, program.input_types[n]) for n, t in grads.items()}
    for name, tensor in buffers.tensors[count % 2].items():
        value = given[name]
        if value is None:
            tensor.zero_()
        else:
            tensor.copy_(value)
    if probe:
        _raise_if_bad("the loss", buffers.arrays[count % 2], count)
    for k in reversed(range(count)):
        at, to = k % 2, (k + 1) % 2
        for tensor in buffers.tensors[at].values():
            tensor.zero_()
        report = (lambda term, found, k=k: _raise_if_bad(term, found, k)) if probe else None
        program.substep_adjoint(
            store.arrays[k],
            store.arrays[k + 1],
            arrays,
            buffers.arrays[at],
            buffers.arrays[to],
            adj_inputs,
            k,
            report,
        )
        if report:
            report("substep", {**buffers.arrays[at], **adj_inputs})
    return buffers.tensors[0], grads


def _raise_if_bad(term: str, found: Mapping[str, Any], k: int) -> None:
    for name, array in found.items():
        tensor = wp.to_torch(array)
        rows = torch.isfinite(tensor.reshape(tensor.shape[0], -1)).all(dim=1) if tensor.numel() else None
        if rows is not None and not bool(rows.all()):
            index = int((~rows).nonzero()[0, 0])
            raise GradientError(
                f"non-finite gradient of '{name}' at row {index}, from the adjoint of '{term}' in substep {k} of the "
                "segment. A law's derivative is infinite there (F nearly singular, a square root at zero) or the "
                "gradient has grown without bound: shorten the horizon, lower dt, or check the parameters."
            )
