"""Kernel launches built once and repeated with other arguments."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterable
from typing import Any

import warp as wp


class Launch:
    """A launch built once, whose changing arguments are replaced by name or by place.

    On a CPU the arguments lie in one structure that is handed to the compiled kernel as it is; repeating a launch
    costs a microsecond, and `call` is all that other native code needs to repeat it.

    Args:
        kernel: what to launch.
        dim: number of Warp threads.
        device: where.
        values: arguments by name.
        adjoints: arrays of the arguments' cotangents by name, for the generated adjoint of `kernel`.
        fixed: names of arguments that `Places` is to leave alone.
        recordable: go through Warp on a CPU too, so that a `Recording` sees it.

    Attributes:
        at: place of each argument.
        call: on a CPU, addresses of the compiled function, its bounds, its arguments and their cotangents (or 0).
    """

    def __init__(
        self,
        kernel: wp.Kernel,
        dim: int,
        device: Any,
        values: dict[str, Any],
        adjoints: dict | None = None,
        fixed: frozenset[str] = frozenset(),
        recordable: bool = False,
    ) -> None:
        self.fixed = fixed
        labels = [a.label for a in kernel.adj.args]
        self.at = {label: i for i, label in enumerate(labels)}
        options: dict[str, Any] = {"device": device, "record_tape": False, "record_cmd": True}
        if adjoints is not None:
            options |= {"adj_inputs": [adjoints.get(label) for label in labels], "adjoint": True}
        command: Any = wp.launch(kernel, dim, inputs=[values[label] for label in labels], **options)
        # Commands and structures hold raw pointers only.
        self._held = (values, adjoints, command)
        self._command = command
        self._native = command.device.is_cpu and not recordable
        self.call: tuple[int, int, int, int] = (0, 0, 0, 0)
        if self._native:
            bounds, *packed = command.params
            self._sides = [_structure(packed[: len(labels)])]
            if adjoints is not None:
                self._sides.append(_structure(packed[len(labels) :]))
            hook = command.hooks.forward if adjoints is None else command.hooks.backward
            pointers = [ctypes.addressof(s) for s in self._sides]
            function = ctypes.cast(hook, ctypes.c_void_p).value or 0
            self.call = (function, ctypes.addressof(bounds), pointers[0], pointers[1] if adjoints is not None else 0)
            self._invoke = (hook, [ctypes.byref(bounds), *(ctypes.byref(s) for s in self._sides)])

    def set(self, adjoint: bool = False, **values: Any) -> None:
        """Replace arguments (or with `adjoint`, their adjoints) of those names it has."""
        for label, value in values.items():
            if label in self.at:
                self.put(self.at[label], value.__ctype__() if isinstance(value, wp.array) else value, adjoint)

    def put(self, index: int, packed: Any, adjoint: bool = False) -> None:
        """Replace the argument at a place by a number or by an array, as `Buffers.packed` has it."""
        if self._native:
            setattr(self._sides[adjoint], f"a{index}", packed)
        elif isinstance(packed, wp.array):
            self._command.set_param_at_index(index, packed, adjoint)
        else:
            self._command.set_param_at_index_from_ctype(index, packed, adjoint)

    def __call__(self) -> None:
        """Launch it."""
        if self._native:
            hook, arguments = self._invoke
            hook(*arguments)
        else:
            self._command.launch()


class Recording:
    """Launches recorded once and repeated without Python: a CUDA graph, or Warp's own list of launches on a CPU.

    Args:
        device: where.
        run: launches everything; recordable launches only, and nothing else. Recording does not run them.
    """

    def __init__(self, device: Any, run: Callable[[], None]) -> None:
        # The default stream, which torch may be using, cannot be recorded.
        stream = None if device.is_cpu else wp.Stream(device)
        with contextlib.nullcontext() if stream is None else wp.ScopedStream(stream):
            with wp.ScopedCapture(device, stream=stream) as capture:
                run()
        self._graph = capture.graph

    def __call__(self) -> None:
        """Launch everything again, with the arguments it had."""
        wp.capture_launch(self._graph)  # type: ignore[arg-type]


def _structure(packed: list[Any]) -> Any:
    """The arguments in the order and layout in which a compiled kernel takes them."""
    kinds = tuple(type(value) for value in packed)
    if kinds not in _KINDS:
        fields = [(f"a{i}", kind) for i, kind in enumerate(kinds)]
        _KINDS[kinds] = type("Arguments", (ctypes.Structure,), {"_fields_": fields})
    return _KINDS[kinds](*packed)


_KINDS: dict[tuple[type, ...], Any] = {}


class Places:
    """Where in many launches each argument is."""

    def __init__(self, launches: Iterable[Launch]) -> None:
        self._at: dict[str, list[tuple[Launch, int]]] = {}
        for launch in launches:
            for label, index in launch.at.items():
                if label not in launch.fixed:
                    self._at.setdefault(label, []).append((launch, index))

    def put(self, label: str, packed: Any, adjoint: bool = False) -> None:
        """Replace an argument, or its cotangent, in every launch that has it."""
        for launch, index in self._at.get(label, ()):
            launch.put(index, packed, adjoint)
