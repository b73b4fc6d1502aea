"""Kernel launches built once and repeated with other arguments, on one thread or a crew of them."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import warp as wp


class Launch:
    """A launch built once, whose changing arguments are replaced by name.

    Args:
        kernel: what to launch.
        dim: number of Warp threads.
        device: where.
        values: arguments by name.
        adjoints: arrays of the arguments' cotangents by name, for the generated adjoint of `kernel`.
        fixed: names of arguments that `Places` is to leave alone.
    """

    def __init__(
        self,
        kernel: wp.Kernel,
        dim: int,
        device: Any,
        values: dict[str, Any],
        adjoints: dict | None = None,
        fixed: frozenset[str] = frozenset(),
    ) -> None:
        self.fixed = fixed
        labels = [a.label for a in kernel.adj.args]
        self.at = {label: i for i, label in enumerate(labels)}
        options: dict[str, Any] = {"device": device, "record_tape": False, "record_cmd": True}
        if adjoints is not None:
            options |= {"adj_inputs": [adjoints.get(label) for label in labels], "adjoint": True}
        # The command keeps raw pointers only.
        self._held = (values, adjoints)
        self._command: Any = wp.launch(kernel, dim, inputs=[values[label] for label in labels], **options)

    def set(self, adjoint: bool = False, **values: Any) -> None:
        """Replace arguments (or with `adjoint`, their adjoints) of those names it has."""
        for label, value in values.items():
            if label in self.at:
                packed = value.__ctype__() if isinstance(value, wp.array) else value
                self._command.set_param_at_index_from_ctype(self.at[label], packed, adjoint)

    def put(self, index: int, packed: Any, adjoint: bool = False) -> None:
        """Replace the argument at a place by a number or by what `Buffers.packed` holds."""
        self._command.set_param_at_index_from_ctype(index, packed, adjoint)

    def __call__(self) -> None:
        """Launch it."""
        self._command.launch()


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


Task = Callable[[], None]


class Crew:
    """Threads that run lists of launches side by side; the caller is one of them.

    Launches of CPU kernels release Python's global lock, so that the lists truly run at the same time.

    Args:
        size: threads, the calling one included.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._todo: list[queue.SimpleQueue[Iterable[Task] | None]] = [queue.SimpleQueue() for _ in range(size - 1)]
        for todo in self._todo:
            threading.Thread(target=_work, args=(todo, self._done), daemon=True).start()
        weakref.finalize(self, _dismiss, self._todo)

    def run(self, lists: Sequence[Sequence[Task]]) -> None:
        """Run `lists[t]` on thread t, and come back when all are done."""
        busy = 0
        for todo, tasks in zip(self._todo, lists[1:], strict=False):
            if tasks:
                todo.put(tasks)
                busy += 1
        for task in lists[0]:
            task()
        failed = [error for _ in range(busy) if (error := self._done.get()) is not None]
        if failed:
            raise failed[0]


def _work(todo: queue.SimpleQueue[Iterable[Task] | None], done: queue.SimpleQueue[BaseException | None]) -> None:
    while (tasks := todo.get()) is not None:
        error: BaseException | None = None
        try:
            for task in tasks:
                task()
        except BaseException as caught:  # handed to the caller, who raises it
            error = caught
        done.put(error)


def _dismiss(todos: list[queue.SimpleQueue[Iterable[Task] | None]]) -> None:
    for todo in todos:
        todo.put(None)
