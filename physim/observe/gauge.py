"""What a gauge is: positions in, a few numbers out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from physim.errors import InputError, nearest

AXES = {"x": 0, "y": 1, "z": 2}


@dataclass(frozen=True)
class Snapshot:
    """What can be seen at one time.

    Attributes:
        x: positions of the material points [m], (n, 3).
        force: force of the material on each collider [N] (per metre of depth in 2D), (c, 3); None where the
            solver does not offer it.
        t: time [s]; None where nobody tells it. Gauges that compare with frames of a record need it.
        velocity: velocity [m/s], (m, 3), at positions [m], (m, 3), that need not be those of particles; None where
            the solver does not offer it.
    """

    x: Tensor
    force: Tensor | None = None
    t: float | None = None
    velocity: Callable[[Tensor], Tensor] | None = None


class Gauge(Protocol):
    """A differentiable reading of one snapshot."""

    @property
    def columns(self) -> tuple[str, ...]:
        """A short name per value, such as ("x", "z")."""
        ...

    @property
    def unit(self) -> str:
        """Unit of every value, such as "m"."""
        ...

    def read(self, snapshot: Snapshot) -> Tensor:
        """The values at one time, float64, (k,)."""
        ...


def axis_index(name: str) -> int:
    """0, 1 or 2 for "x", "y" or "z".

    Raises:
        InputError: another name.
    """
    if name not in AXES:
        raise InputError(f"axis '{name}' is not known.{nearest(name, AXES)}")
    return AXES[name]


def axis_indices(names: str) -> tuple[int, ...]:
    """Indices of several axes written together, such as "xz".

    Raises:
        InputError: no axis, an unknown one, or one given twice.
    """
    found = tuple(axis_index(n) for n in names)
    if not found or len(set(found)) != len(found):
        raise InputError(f"axes '{names}': name each of x, y, z at most once, at least one of them.")
    return found


def unit_vector(direction: Sequence[float]) -> Tensor:
    """`direction` scaled to length one, float64, (3,).

    Raises:
        InputError: not three finite numbers, or all zero.
    """
    vector = torch.as_tensor(list(direction), dtype=torch.float64)
    size = float(torch.linalg.vector_norm(vector))
    if vector.shape != (3,) or not size > 0 or size == float("inf"):
        raise InputError(f"direction {list(direction)}: give three finite numbers, not all zero.")
    return vector / size


def chosen(x: Tensor, indices: Tensor) -> Tensor:
    """Rows `indices` of `x` in float64, so that a mean over many particles keeps its digits."""
    return x[indices.to(x.device)].to(torch.float64)
