"""What commands say: lines of results, tables of checks, warnings and errors."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence


def report(rows: Iterable[tuple[str, bool]]) -> None:
    """Print the rows of a check as they come; exit with 1 if any failed."""
    failed = 0
    for text, ok in rows:
        say(text)
        failed += not ok
    if failed:
        fail(f"{failed} of the checks failed.")
        sys.exit(1)


def say(text: str) -> None:
    """Print one line of a result."""
    sys.stdout.write(text + "\n")


def warn(messages: Sequence[str]) -> None:
    """Print warnings to standard error."""
    if messages:
        from rich.console import Console
        from rich.text import Text

        for message in messages:
            Console(stderr=True).print(Text("warning: ", style="yellow") + Text(message), soft_wrap=True)


def fail(message: str) -> None:
    """Print one error to standard error."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True).print(Text("error: ", style="bold red") + Text(message), soft_wrap=True)
