"""The progress bar of a fit: loss, start and stage, time left."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any


class FitBar:
    """A bar on the terminal; silent where there is none.

    Args:
        name: of the scene.
        iterations: most iterations of each stage.
        starts: how many starts go through the stages.
        quiet: show nothing.
    """

    def __init__(self, name: str, iterations: Sequence[int], starts: int, *, quiet: bool = False) -> None:
        self._iterations = tuple(iterations)
        self._total = sum(iterations) * starts
        self._done = 0
        self._bar: Any = None
        self._task: Any = None
        self._name = name
        self._quiet = quiet or not sys.stderr.isatty()

    def __enter__(self) -> FitBar:
        if self._quiet:
            return self
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._bar.start()
        self._task = self._bar.add_task(self._name, total=self._total, told="first run")
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, record: dict[str, Any]) -> None:
        """Show one iteration."""
        if self._bar is None:
            return
        # Stages and starts before the present one are over, however early they ended; or several ranks take them all.
        before = record["start"] * sum(self._iterations) + sum(self._iterations[: record["stage"]])
        told = f"start {record['start'] + 1}, {record['name']} {record['iteration']}: loss {record['loss']:.4g}"
        self._done = max(self._done, before + record["iteration"])
        self._bar.update(self._task, completed=self._done, told=told)

    def say(self, what: str) -> None:
        """Show what goes on after the last iteration."""
        if self._bar is not None:
            self._bar.update(self._task, completed=self._total, told=what)
