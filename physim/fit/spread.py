"""Runs of a fit on several threads of several ranks, and their results on all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from physim.errors import SimulationError
from physim.observe.record import Comparison
from physim.parallel import ALONE, Ranks

A = TypeVar("A")
B = TypeVar("B")


def parallel(function: Callable[[A], B], items: Sequence[A], threads: int, ranks: Ranks = ALONE) -> list[B]:
    """Results of `function` on each item, in order, on up to `threads` threads of every rank.

    Args:
        function: with several ranks it returns comparisons, simulation failures, tensors, numbers, and lists and
            tuples of them.
        items: the same on every rank.
        threads: of each rank.
        ranks: each does its share, and all get every result.
    """
    if ranks.size > 1:
        parts = ranks.gather(lambda: [_packed(r) for r in parallel(function, ranks.share(items), threads)])
        return [_unpacked(r) for r in ranks.in_order(parts, len(items))]
    if threads <= 1 or len(items) <= 1:
        return [function(i) for i in items]
    with ThreadPoolExecutor(max_workers=min(threads, len(items))) as pool:
        return list(pool.map(function, items))


def caught(function: Callable[[A], B], item: A) -> B | SimulationError:
    """The result, or the simulation failure it raised."""
    try:
        return function(item)
    except SimulationError as error:
        return error


def _packed(result: Any) -> tuple[str, Any]:
    """A result in words that travel between ranks, with its kind."""
    if isinstance(result, SimulationError):
        return "failure", str(result)
    if isinstance(result, Comparison):
        return "comparison", vars(result)
    if isinstance(result, (list, tuple)):
        return type(result).__name__, [_packed(r) for r in result]
    return "plain", result


def _unpacked(packed: tuple[str, Any]) -> Any:
    """The inverse of `_packed`."""
    kind, content = packed
    if kind == "failure":
        return SimulationError(content)
    if kind == "comparison":
        return Comparison(**content)
    if kind in ("list", "tuple"):
        found = [_unpacked(c) for c in content]
        return found if kind == "list" else tuple(found)
    return content
