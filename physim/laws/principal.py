"""Return maps read on principal axes: every matrix is diagonal, so a logarithm is one of three numbers.

The sources are those that the kernels run (`physim.numeric`); only the matrices differ, and the functions that would
look for eigenvalues. A hundred times less work than the 3x3 reader where a path has many steps and few points.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from physim.laws.plastic import strained
from physim.numeric import F64, Numeric, rebind, torch_words, used
from physim.tensor import deviator, exp_m1, exp_sym, identity, log_1p, log_strain, roundoff, sym_eig
from physim.tensor.polar import newton_polar


class Diagonal:
    """Diagonal matrices, (3, m, n); what torch does with numbers (m, n) or (n,) it does with them too."""

    def __init__(self, entries: Tensor) -> None:
        self.entries = entries

    @classmethod
    def __torch_function__(cls, func: Callable, kinds: Any, args: tuple = (), kwargs: Any = None) -> Diagonal:
        """A number times, over, plus or minus a matrix."""
        return cls(func(*(a.entries if isinstance(a, cls) else a for a in args), **(kwargs or {})))

    def __getitem__(self, place: tuple[int, int]) -> Tensor:
        i, j = place
        return self.entries[i] if i == j else torch.zeros_like(self.entries[0])

    def __add__(self, other: Diagonal) -> Diagonal:
        return Diagonal(self.entries + other.entries)

    def __sub__(self, other: Diagonal) -> Diagonal:
        return Diagonal(self.entries - other.entries)

    def __neg__(self) -> Diagonal:
        return Diagonal(-self.entries)

    def __mul__(self, factor: Any) -> Diagonal:
        return Diagonal(self.entries * factor)

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> Diagonal:
        return Diagonal(self.entries / divisor)

    def __matmul__(self, other: Any) -> Any:
        if isinstance(other, Diagonal):
            return Diagonal(self.entries * other.entries)
        return self.entries * other


class Slots(list):
    """The history that a return map gives back: assigned by place, in order."""

    def __init__(self, *entries: Any) -> None:
        super().__init__(entries)

    def __setitem__(self, place: Any, value: Any) -> None:
        self += [0.0] * (place + 1 - len(self))
        super().__setitem__(place, value)


def _full(*entries: Any) -> Tensor:
    numbers = (torch.atleast_2d(torch.as_tensor(e, dtype=torch.float64)) for e in entries)
    return torch.stack(torch.broadcast_tensors(*numbers))


def _where(mask: Any, a: Any, b: Any) -> Any:
    if isinstance(a, Diagonal) or isinstance(b, Diagonal):
        return Diagonal(torch.where(torch.as_tensor(mask), a.entries, b.entries))
    a, b = (torch.as_tensor(v, dtype=torch.float64) for v in (a, b))
    return torch.where(torch.as_tensor(mask), a, b)


_NAMES: dict[str, Any] = {
    "wp": types.SimpleNamespace(
        **{
            **vars(torch_words()),
            "transpose": lambda a: a,
            "determinant": lambda a: a.entries[0] * a.entries[1] * a.entries[2],
            "inverse": lambda a: Diagonal(1.0 / a.entries),
            "trace": lambda a: a.entries.sum(0),
            "ddot": lambda a, b: (a.entries * b.entries).sum(0),
            "dot": lambda a, b: (a * b).sum(0),
            "where": _where,
        }
    ),
    "real": float,
    "vec3": _full,
    "params": Slots,
    "history": Slots,
    "mat33": lambda *entries: Diagonal(_full(entries[0], entries[4], entries[8])),
    "TINY": F64.tiny,
}
_OWN: dict[Numeric, Callable] = {
    identity: lambda: Diagonal(torch.ones(3, 1, 1, dtype=torch.float64)),
    deviator: lambda A: Diagonal(A.entries - A.entries.sum(0) / 3.0),
    log_strain: lambda F: Diagonal(torch.log(torch.abs(F.entries))),
    exp_sym: lambda A: Diagonal(torch.exp(A.entries)),
    sym_eig: lambda A: (A.entries, Diagonal(torch.ones_like(A.entries))),
    strained: lambda F, change: Diagonal(torch.exp(change.entries) * F.entries),
    newton_polar: lambda F: Diagonal(torch.sign(F.entries)),
    log_1p: torch.log1p,
    exp_m1: torch.expm1,
    roundoff: lambda: 1e-16,
}


def _read(function: Numeric) -> Callable:
    if function in _OWN:
        return _OWN[function]
    called = {name: _read(other) for name, other in used(function.source).items()}
    return rebind(function.source, {**_NAMES, **called}, "_principal")


def on_axes(parts: tuple[Callable, dict[str, Any]]) -> Callable:
    """`Composition.stress_parts()` or `.project_parts()` for `Diagonal`s, and for tuples of parameters and history."""
    source, named = parts
    names = {name: _read(law) if isinstance(law, Numeric) else law for name, law in named.items()}
    return rebind(source, {**_NAMES, **names}, "_principal")
