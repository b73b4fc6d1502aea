"""Write a formula once, read it four ways: Warp float32, Warp float64, torch float64, and wide (`physim.wide`).

A function decorated with `@numeric` is plain Python in a short vocabulary: the names `real`, `vec3`, `mat33`
(constructors and annotations), `params` and `history` (vectors whose length the caller binds), the `wp.*` functions
listed in `_TORCH_WP`, arithmetic, and other `@numeric` functions. Its global names are rebound per reader, so
the source that runs inside a Warp kernel is the source that the float64 oracle differentiates.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import warp as wp


@dataclass(frozen=True)
class Precision:
    """A floating-point width, in the words of Warp and torch."""

    name: str
    real: Any
    torch: torch.dtype

    @property
    def vec3(self) -> Any:
        """Warp vector of 3 reals."""
        return wp.types.vector(3, self.real)

    @property
    def vec4(self) -> Any:
        """Warp vector of 4 reals."""
        return wp.types.vector(4, self.real)

    @property
    def mat33(self) -> Any:
        """Warp 3x3 matrix of reals."""
        return wp.types.matrix((3, 3), self.real)

    def vector(self, length: int) -> Any:
        """Warp vector of `length` reals."""
        return wp.types.vector(length, self.real)

    def matrix(self, rows: int, columns: int) -> Any:
        """Warp matrix of reals."""
        return wp.types.matrix((rows, columns), self.real)

    @property
    def tiny(self) -> float:
        """Smallest number that guards a division without changing a result in this precision."""
        return 1e-30 if self.name == "f32" else 1e-200

    def names(self) -> dict[str, Any]:
        """The vocabulary of a `@numeric` function in this precision."""
        return {
            "wp": wp,
            "real": self.real,
            "vec3": self.vec3,
            "vec4": self.vec4,
            "mat33": self.mat33,
            "TINY": wp.constant(self.real(self.tiny)),
        }


F32 = Precision("f32", wp.float32, torch.float32)
F64 = Precision("f64", wp.float64, torch.float64)
PRECISIONS = {torch.float32: F32, torch.float64: F64}


def rebind(source: Callable, names: dict[str, Any], suffix: str) -> Callable:
    """Return `source` with its global names looked up in `names` first."""
    copy = types.FunctionType(
        source.__code__,
        {**source.__globals__, **names},
        source.__name__ + suffix,
        source.__defaults__,
        source.__closure__,
    )
    copy.__annotations__ = dict(source.__annotations__)
    copy.__qualname__ = source.__qualname__ + suffix
    copy.__module__ = source.__module__
    copy.__doc__ = source.__doc__
    return copy


def used(source: Callable) -> dict[str, Numeric]:
    """The other `@numeric` functions that `source`, or a function in it, calls by global name."""
    names, codes = [], [source.__code__]
    for code in codes:
        names += code.co_names
        codes += [inner for inner in code.co_consts if isinstance(inner, types.CodeType)]
    return {n: source.__globals__[n] for n in names if isinstance(source.__globals__.get(n), Numeric)}


class Numeric:
    """A function of 3-vectors, 3x3 matrices and reals with one source and four readers."""

    def __init__(self, source: Callable) -> None:
        self.source = source
        self.name = source.__name__
        self.__doc__ = source.__doc__
        self._adjoint: Callable | None = None
        self._torch: Callable | None = None
        self._wide: Callable | None = None
        self._warp: dict[tuple, Any] = {}

    def adjoint(self, source: Callable) -> Callable:
        """Decorator: the hand-written adjoint used by Warp instead of the generated one."""
        self._adjoint = source
        return source

    def for_torch(self, source: Callable) -> Callable:
        """Decorator: an independent torch version, where the Warp source iterates or branches."""
        self._torch = source
        return source

    def bound(self, suffix: str, **names: Any) -> Numeric:
        """The same source with global names of its own, such as sizes and other `@numeric` functions.

        Args:
            suffix: makes the name of the new function unlike that of any other.
            names: what the source, its adjoint and its torch version find under these names.
        """
        made = Numeric(rebind(self.source, names, suffix))
        made._adjoint = rebind(self._adjoint, names, suffix) if self._adjoint else None
        made._torch = rebind(self._torch, names, suffix) if self._torch else None
        made._wide = rebind(self._wide, names, suffix) if self._wide else None
        return made

    def for_wide(self, source: Callable) -> Callable:
        """Decorator: another source for many particles at once, where this one goes on until something holds."""
        self._wide = source
        return source

    @property
    def wide_source(self) -> Callable:
        """What `physim.wide` traces."""
        return self._wide or self.source

    @property
    def adjoint_source(self) -> Callable | None:
        """The hand-written adjoint."""
        return self._adjoint

    def warp(self, precision: Precision, **bindings: Any) -> Any:
        """The `wp.func` of this function in one precision; `bindings` adds names such as `params`."""
        key = (precision.name, tuple(sorted(bindings.items())))
        if key not in self._warp:
            names = warp_names(self.source, precision, bindings)
            suffix = f"_{precision.name}" + "".join(f"_{k}{getattr(v, '_length_', '')}" for k, v in bindings.items())
            func = wp.func(rebind(self.source, names, suffix))
            if self._adjoint is not None:
                names = {**warp_names(self._adjoint, precision, bindings), self.name: func}
                wp.func_grad(func)(rebind(self._adjoint, names, suffix))
            self._warp[key] = func
        return self._warp[key]

    def torch(self) -> Callable:
        """The same function on unbatched float64 tensors; batch it with `torch.vmap`."""
        source = self._torch or self.source
        names: dict[str, Any] = {n: f.torch() for n, f in used(source).items()}
        return rebind(source, {**_TORCH_NAMES, **names}, "_torch")

    def __call__(self, *args: Any) -> Any:
        """Evaluate on unbatched float64 torch tensors (so that one `@numeric` function may call another)."""
        return self.torch()(*args)


def numeric(source: Callable) -> Numeric:
    """Decorator: see the module's docstring."""
    return Numeric(source)


def warp_names(source: Callable, precision: Precision, bindings: dict[str, Any]) -> dict[str, Any]:
    """All names that `source` needs in one precision, the `@numeric` functions it calls included."""
    called = {n: f.warp(precision, **bindings) for n, f in used(source).items()}
    return {**precision.names(), **called, **bindings}


def kernel(
    source: Callable, precision: Precision, *, module: str, differentiable: bool = True, **bindings: Any
) -> wp.Kernel:
    """Build a Warp kernel from plain Python; `bindings` are the functions and constants it may name.

    A binding that is a `Numeric` is instantiated in the same precision. Without `differentiable`, Warp generates no
    adjoint: for kernels that have a hand-written one.
    """
    bound = {k: v.warp(precision) if isinstance(v, Numeric) else v for k, v in bindings.items()}
    names = {**precision.names(), **{n: f.warp(precision) for n, f in used(source).items()}, **bound}
    home = wp.get_module(f"{module}_{precision.name}")
    # Products and sums become one instruction, as they do on a GPU.
    flags = wp.config.cpu_compiler_flags
    home.options["cpu_compiler_flags"] = f"{'-march=native' if flags is None else flags} -ffp-contract=fast"
    made: Any = wp.kernel(rebind(source, names, ""), module=home, enable_backward=differentiable)
    return made


def _stack(*entries: Any) -> torch.Tensor:
    return torch.stack([torch.as_tensor(e, dtype=torch.float64) for e in entries])


def _maximum(a: Any, b: Any) -> torch.Tensor:
    return torch.maximum(torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64))


def _minimum(a: Any, b: Any) -> torch.Tensor:
    return -_maximum(-a, -b)


def _double(function: Callable) -> Callable:
    return lambda a: function(torch.as_tensor(a, dtype=torch.float64))


def _determinant(A: torch.Tensor) -> torch.Tensor:
    # A polynomial: the second derivative of torch.linalg.det is NaN at A = I.
    return (A[0] * torch.linalg.cross(A[1], A[2])).sum()


_TORCH_WP = types.SimpleNamespace(
    transpose=lambda a: a.mT,
    determinant=_determinant,
    inverse=torch.linalg.inv,
    trace=lambda a: a[0, 0] + a[1, 1] + a[2, 2],
    ddot=lambda a, b: (a * b).sum(),
    dot=lambda a, b: (a * b).sum(),
    outer=lambda a, b: a[:, None] * b[None, :],
    cross=lambda a, b: torch.linalg.cross(a, b),
    length=lambda a: torch.sqrt((a * a).sum()),
    log=_double(torch.log),
    exp=_double(torch.exp),
    sqrt=_double(torch.sqrt),
    sin=_double(torch.sin),
    cos=_double(torch.cos),
    abs=_double(torch.abs),
    tanh=_double(torch.tanh),
    pow=lambda a, b: torch.as_tensor(a, dtype=torch.float64) ** b,
    max=_maximum,
    min=_minimum,
    where=lambda c, a, b: torch.where(
        c, torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64)
    ),
)


def torch_words() -> types.SimpleNamespace:
    """The words of `wp` in torch, for readers that have other matrices."""
    return _TORCH_WP


_TORCH_NAMES: dict[str, Any] = {
    "wp": _TORCH_WP,
    "real": float,
    "vec3": _stack,
    "params": _stack,
    "history": _stack,
    "mat33": lambda *entries: _stack(*entries).reshape(3, 3),
    "TINY": F64.tiny,
}


class Word(Any):
    """Placeholder of a name that every reader rebinds; type checkers let it be anything."""


real = vec3 = vec4 = mat33 = params = history = Word
TINY: Any = 0.0
