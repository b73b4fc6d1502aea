"""What a terminal shows while a scene is prepared and simulated."""

from __future__ import annotations

from typing import Any

COLD = "compiling kernels, the first time only; this takes a minute or two"
WARM = "preparing"


class Progress:
    """Announces the first compilation, then shows substeps done and the time left.

    Args:
        name: of the scene.
        cold: whether kernels must be compiled first.
    """

    def __init__(self, name: str, *, cold: bool) -> None:
        self._name, self._cold = name, cold
        self._status: Any = None
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        from rich.console import Console

        self._console = Console(stderr=True)
        message = COLD if self._cold else WARM
        if self._console.is_terminal:
            self._status = self._console.status(message)
            self._status.start()
        elif self._cold:
            self._console.print(message)
        return self

    def __exit__(self, *error: object) -> None:
        self._end_status()
        if self._bar is not None:
            self._bar.stop()

    def ready(self) -> None:
        """The kernels are there: take the spinner away and show a bar."""
        self._end_status()
        if not self._console.is_terminal:
            return
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} substeps"))
        left = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        self._bar = Bar(*columns, *left, console=self._console, transient=True)
        self._bar.start()
        self._task = self._bar.add_task(self._name, total=None)

    def advance(self, done: int, total: int) -> None:
        """Show how many substeps are done."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total)

    def _end_status(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
