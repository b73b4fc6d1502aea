"""Truncated Taylor series of functions of space: derivatives of any order, exact, with ordinary tensors."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

Index = tuple[int, ...]


@dataclass(frozen=True)
class Terms:
    """The terms of a series: which derivatives it holds, and which pairs of them make each one of a product.

    Attributes:
        indices: how often each coordinate is differentiated, by term; the value first, then by total order. Where
            the series also follows a change of the weights, a last number tells how often that is: 0 or 1.
        pairs: for each term, the (i, j) whose product contributes to it.
        factorials: of each index; a derivative is its coefficient times this.
        dim, order, along: what they were made for, see `terms`.
    """

    indices: tuple[Index, ...]
    pairs: tuple[tuple[tuple[int, int], ...], ...]
    factorials: tuple[float, ...]
    dim: int
    order: int
    along: bool

    def at(self, index: Index) -> int:
        """Where a derivative stands."""
        return self.indices.index(index)


@lru_cache(maxsize=64)
def terms(dim: int, order: int, along: bool = False) -> Terms:
    """All derivatives up to a total `order` in `dim` coordinates, and their change `along` a direction of weights."""
    space = [i for i in itertools.product(range(order + 1), repeat=dim) if sum(i) <= order]
    with_change = [(*i, c) for i in space for c in (0, 1)] if along else space
    every: list[Index] = sorted(with_change, key=lambda i: (sum(i), tuple(-n for n in i)))
    place = {index: k for k, index in enumerate(every)}
    pairs: list[list[tuple[int, int]]] = [[] for _ in every]
    for i, a in enumerate(every):
        for j, b in enumerate(every):
            k = place.get(tuple(p + q for p, q in zip(a, b, strict=True)))
            if k is not None:
                pairs[k].append((i, j))
    factorials = tuple(float(math.prod(math.factorial(n) for n in index)) for index in every)
    return Terms(tuple(every), tuple(tuple(p) for p in pairs), factorials, dim, order, along)


@dataclass(frozen=True)
class Jet:
    """A tensor-valued function of space near many points, as its Taylor coefficients there.

    Attributes:
        terms: which coefficients.
        parts: coefficient by term, each (n, features); None is zero.
    """

    terms: Terms
    parts: tuple[Tensor | None, ...]

    @property
    def value(self) -> Tensor:
        """The function itself, (n, features)."""
        assert self.parts[0] is not None
        return self.parts[0]

    def __add__(self, other: Jet) -> Jet:
        """Term by term."""
        return Jet(self.terms, tuple(_sum(a, b) for a, b in zip(self.parts, other.parts, strict=True)))

    def __mul__(self, other: Jet | float) -> Jet:
        """The product of two functions (features broadcast), without terms beyond the order; or a multiple."""
        if not isinstance(other, Jet):
            return Jet(self.terms, tuple(None if a is None else a * other for a in self.parts))
        parts: list[Tensor | None] = []
        for pairs in self.terms.pairs:
            total: Tensor | None = None
            for i, j in pairs:
                a, b = self.parts[i], other.parts[j]
                if a is not None and b is not None:
                    total = _sum(total, a * b)
            parts.append(total)
        return Jet(self.terms, tuple(parts))

    def __getitem__(self, feature: int | slice) -> Jet:
        """One feature, kept as a column, or some."""
        pick = slice(feature, feature + 1) if isinstance(feature, int) else feature
        return self.each(lambda a: a[:, pick])

    def each(self, function: Callable[[Tensor], Tensor]) -> Jet:
        """A linear map of the features, applied to every term."""
        return Jet(self.terms, tuple(None if a is None else function(a) for a in self.parts))

    def compose(self, *derivatives: Tensor) -> Jet:
        """`g(self)`, given g, g', g'', ... at the value, up to the order of the series."""
        small = Jet(self.terms, (None, *self.parts[1:]))
        power, total = small, [derivatives[0], *([None] * (len(self.parts) - 1))]
        for k, derivative in enumerate(derivatives[1:], start=1):
            if k > 1:
                power = power * small
            factor = derivative / math.factorial(k)
            total = [_sum(t, None if p is None else p * factor) for t, p in zip(total, power.parts, strict=True)]
        return Jet(self.terms, tuple(total))

    @property
    def order(self) -> int:
        """The highest power of what is not its value that does not vanish."""
        return self.terms.order + self.terms.along

    def following(self) -> Jet:
        """The same function, in terms that also follow a change of weights; it has none."""
        if self.terms.along:
            return self
        wide = terms(self.terms.dim, self.terms.order, True)
        own = dict(zip(self.terms.indices, self.parts, strict=True))
        return Jet(wide, tuple(own[i[:-1]] if i[-1] == 0 else None for i in wide.indices))

    def change(self) -> Jet:
        """What a change of weights does to it, in terms that do not follow one."""
        plain = terms(self.terms.dim, self.terms.order)
        return Jet(plain, tuple(self.parts[self.terms.at((*i, 1))] for i in plain.indices))

    def with_change(self, done: Jet) -> Jet:
        """The same function, in terms that follow a change of weights, which does `done` to it."""
        wide = terms(self.terms.dim, self.terms.order, True)
        parts = (self.parts, done.parts)
        return Jet(wide, tuple(parts[i[-1]][self.terms.at(i[:-1])] for i in wide.indices))

    def sin(self) -> Jet:
        """Its sine."""
        s, c = self.value.sin(), self.value.cos()
        return self.compose(*[(s, c, -s, -c)[k % 4] for k in range(self.order + 1)])

    def cos(self) -> Jet:
        """Its cosine."""
        s, c = self.value.sin(), self.value.cos()
        return self.compose(*[(c, -s, -c, s)[k % 4] for k in range(self.order + 1)])

    def exp(self) -> Jet:
        """Its exponential."""
        e = self.value.exp()
        return self.compose(*[e] * (self.order + 1))

    def tanh(self) -> Jet:
        """Its hyperbolic tangent."""
        # Derivatives are polynomials in t = tanh: (d/dx) t^k = k t^(k-1) (1 - t^2).
        t = self.value.tanh()
        polynomial, derivatives = {1: 1.0}, []
        for _ in range(self.order + 1):
            derivatives.append(sum((c * t**k for k, c in polynomial.items()), torch.zeros_like(t)))
            following: dict[int, float] = {}
            for k, c in polynomial.items():
                if k:
                    following[k - 1] = following.get(k - 1, 0.0) + k * c
                    following[k + 1] = following.get(k + 1, 0.0) - k * c
            polynomial = following
        return self.compose(*derivatives)

    def derivatives(self, wanted: Sequence[Index]) -> Tensor:
        """Derivatives by index, (n, features, len(wanted))."""
        columns = []
        for index in wanted:
            k = self.terms.at(tuple(index))
            part = self.parts[k]
            columns.append(torch.zeros_like(self.value) if part is None else part * self.terms.factorials[k])
        return torch.stack(columns, dim=-1)


def coordinates(x: Tensor, order: int, along: bool = False) -> Jet:
    """The coordinates themselves at points `x` [m], (n, dim), as features; see `terms`."""
    dim = x.shape[1]
    given = terms(dim, order, along)
    parts: list[Tensor | None] = [x] + [None] * (len(given.indices) - 1)
    if order:
        for axis in range(dim):
            index = tuple(int(a == axis) for a in range(dim + along))
            parts[given.at(index)] = x.new_zeros(x.shape).index_fill_(1, torch.tensor(axis), 1.0)
    return Jet(given, tuple(parts))


def constant(jet: Jet, value: Tensor) -> Jet:
    """A function that does not depend on space, like `jet` in its terms; value (n, features) or (1, features)."""
    return Jet(jet.terms, (value, *([None] * (len(jet.parts) - 1))))


def joined(jets: Sequence[Jet]) -> Jet:
    """The features of several functions, one after another."""
    parts: list[Tensor | None] = []
    for column in zip(*(j.parts for j in jets), strict=True):
        if all(c is None for c in column):
            parts.append(None)
            continue
        filled = [torch.zeros_like(j.value) if c is None else c for c, j in zip(column, jets, strict=True)]
        parts.append(torch.cat(filled, dim=1))
    return Jet(jets[0].terms, tuple(parts))


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b
