"""Kernel launches built once and repeated with other arguments."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator, Mapping
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
        fixed: names of arguments that `changes` is to leave out.
        recordable: go through Warp on a CPU too, so that a `Recording` sees it.

    Attributes:
        kernel, dim, values, adjoints: as given.
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
        given = [values[label] for label in labels]
        returned = None if adjoints is None else [adjoints.get(label) for label in labels]
        # Kept, because commands and structures hold raw pointers only.
        self.kernel, self.dim, self.values, self.adjoints = kernel, dim, values, adjoints
        self.call: tuple[int, int, int, int] = (0, 0, 0, 0)
        self._sides: list[Any] = []
        self._aims: dict[str, ctypes.c_int64] = {}
        self._native = wp.get_device(device).is_cpu and not recordable
        key = (kernel, adjoints is not None)
        if not self._native or key not in _FORMS:
            options: dict[str, Any] = {"device": device, "record_tape": False, "record_cmd": True}
            if returned is not None:
                options |= {"adj_inputs": returned, "adjoint": True}
            self._command: Any = wp.launch(kernel, dim, inputs=given, **options)
            if self._native:
                _FORMS[key] = _Form(self._command, len(labels), adjoints is not None)
        if self._native:
            form = _FORMS[key]
            self._bounds = form.bounds(dim)
            self._sides = form.sides(given, returned)
            pointers = [ctypes.addressof(s) for s in (self._bounds, *self._sides)]
            self.call = (form.function, pointers[0], pointers[1], pointers[2] if returned is not None else 0)
            self._invoke = (form.hook, [ctypes.byref(s) for s in (self._bounds, *self._sides)])

    def set(self, adjoint: bool = False, **values: Any) -> None:
        """Replace arguments (or with `adjoint`, their adjoints) of those names it has."""
        for label, value in values.items():
            if label in self.at:
                self.put(self.at[label], value.__ctype__() if isinstance(value, wp.array) else value, adjoint)

    def changes(self, columns: Mapping[str, int]) -> Iterator[tuple[int, bool, int]]:
        """Place, side (argument or cotangent) and column of each argument that has a column and is not fixed."""
        for label, index in self.at.items():
            for adjoint in (False, True) if self.adjoints is not None else (False,):
                name = f"adj_{label}" if adjoint else label
                if name in columns and label not in self.fixed:
                    yield index, adjoint, columns[name]

    def spot(self, index: int, adjoint: bool) -> tuple[int, int]:
        """Address and size of what changes in an argument of a native launch: a number, or where an array lies."""
        side = self._sides[adjoint]
        kind = getattr(type(side), f"a{index}")
        # The address of its data comes first in an array.
        return ctypes.addressof(side) + kind.offset, min(8, kind.size)

    def aim(self, **addresses: int) -> None:
        """Replace arrays of a native launch by others of the same layout, given by where their data lie.

        Packing an array takes Warp 20 microseconds, as much as a small launch.
        """
        for label, address in addresses.items():
            if label not in self._aims:
                self._aims[label] = ctypes.c_int64.from_address(self.spot(self.at[label], False)[0])
            self._aims[label].value = address

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


class _Form:
    """What all native launches of a kernel (or of its generated adjoint) have in common.

    Packing a launch through Warp takes 0.1 ms; layouts change often, and each change builds dozens of them.

    Args:
        command: the first such launch, which has checked the types.
        count: number of arguments.
        adjoint: whether it is of the adjoint.
    """

    def __init__(self, command: Any, count: int, adjoint: bool) -> None:
        self._command = command  # holds the compiled code
        bounds, *packed = command.params
        self.hook = command.hooks.backward if adjoint else command.hooks.forward
        self.function = ctypes.cast(self.hook, ctypes.c_void_p).value or 0
        self._bounds = bounds
        self._kinds = tuple(type(value) for value in packed[:count])
        fields = [(f"a{i}", kind) for i, kind in enumerate(self._kinds)]
        self._structure = type("Arguments", (ctypes.Structure,), {"_fields_": fields})

    def bounds(self, dim: int) -> Any:
        """The bounds of a launch over `dim` Warp threads."""
        made = type(self._bounds).from_buffer_copy(self._bounds)
        made.shape[0] = made.size = dim
        return made

    def sides(self, given: list[Any], returned: list[Any] | None) -> list[Any]:
        """Arguments, and with `returned` their cotangents, in the order and layout of the compiled kernel."""
        found = []
        for values in [given] if returned is None else [given, returned]:
            found.append(self._structure(*(_packed(k, v) for k, v in zip(self._kinds, values, strict=True))))
        return found


def _packed(kind: Any, value: Any) -> Any:
    if value is None:
        return kind()
    if isinstance(value, wp.array):
        return value.__ctype__()
    return value if isinstance(value, kind) else kind(getattr(value, "value", value))


_FORMS: dict[tuple[Any, bool], _Form] = {}
