"""The progress bar of learning a law: stage, round, misfit, and how well what is held out is predicted."""

from __future__ import annotations

import sys
from typing import Any


class LearnBar:
    """A line on the terminal; silent where there is none.

    Args:
        name: of the scene.
        quiet: show nothing.
    """

    def __init__(self, name: str, *, quiet: bool = False) -> None:
        self._quiet = quiet or not sys.stderr.isatty()
        self._name, self._bar, self._task = name, None, None

    def __enter__(self) -> LearnBar:
        if self._quiet:
            return self
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.fields[told]}"))
        bar: Any = Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True)
        bar.start()
        self._bar, self._task = bar, bar.add_task(self._name, total=None, told="weak form")
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, record: dict[str, Any]) -> None:
        """Show one round."""
        misfit = f", misfit {record['misfit']:.4g}" if "misfit" in record else ""
        self.say(f"{record['name']} {record['round']}{misfit}, held out {record['held_out']:.4g} noise units")

    def say(self, what: str) -> None:
        """Show what goes on."""
        if self._bar is not None:
            self._bar.update(self._task, told=what)
