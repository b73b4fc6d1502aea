"""A progress bar that appears only when the work takes longer than two seconds."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

_PATIENCE = 2.0


def track(items: Iterable[T], label: str, total: int | None = None, *, show: bool = True) -> Iterator[T]:
    """Yield the items; after two seconds, show a bar with the time left on standard error of a terminal."""
    if not show:
        yield from items
        return
    count = total if total is not None else (len(items) if hasattr(items, "__len__") else None)  # type: ignore[arg-type]
    started = time.monotonic()
    bar = None
    task = None
    try:
        for done, item in enumerate(items):
            if bar is None and time.monotonic() - started > _PATIENCE:
                bar = _bar()
                bar.start()
                task = bar.add_task(label, total=count, completed=done)
            elif bar is not None and task is not None:
                bar.update(task, completed=done)
            yield item
        if bar is not None and task is not None and count is not None:
            bar.update(task, completed=count)
    finally:
        if bar is not None:
            bar.stop()


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
