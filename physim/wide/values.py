"""The vocabulary of `@numeric` functions on symbolic numbers: vectors, matrices, and the functions of `wp`."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from itertools import zip_longest
from typing import Any

from physim.numeric import Numeric, Precision, rebind, used
from physim.wide.graph import Graph, Node, Number, Split, Untraceable


class Vec:
    """A vector of symbolic numbers; `params` and `history` are such vectors too.

    An empty one stands for zeros, as many as needed.
    """

    def __init__(self, *entries: Number) -> None:
        self.entries = list(entries)

    def __getitem__(self, index: int | slice) -> Any:
        return Vec(*self.entries[index]) if isinstance(index, slice) else self.entries[index]

    def __setitem__(self, index: int, number: Number) -> None:
        self.entries += [0.0] * (index + 1 - len(self.entries))
        self.entries[index] = number

    def __len__(self) -> int:
        return len(self.entries)

    def __add__(self, other: Vec) -> Vec:
        return Vec(*(a + b for a, b in zip_longest(self.entries, other.entries, fillvalue=0.0)))

    def __sub__(self, other: Vec) -> Vec:
        return Vec(*(a - b for a, b in zip_longest(self.entries, other.entries, fillvalue=0.0)))

    def __neg__(self) -> Vec:
        return Vec(*(-a for a in self.entries))

    def __mul__(self, factor: Number) -> Vec:
        return Vec(*(a * factor for a in self.entries))

    __rmul__ = __mul__

    def __truediv__(self, divisor: Number) -> Vec:
        return Vec(*(a / divisor for a in self.entries))


class Mat:
    """A 3x3 matrix of symbolic numbers, row by row."""

    def __init__(self, *entries: Number) -> None:
        self.entries = tuple(entries or [0.0] * 9)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, tuple):
            return self.entries[3 * index[0] + index[1]]
        return Vec(*self.entries[3 * index : 3 * index + 3])

    @property
    def T(self) -> Mat:
        """The transposed matrix."""
        return Mat(*(self[j, i] for i in range(3) for j in range(3)))

    def __add__(self, other: Mat) -> Mat:
        return Mat(*(a + b for a, b in zip(self.entries, other.entries, strict=True)))

    def __sub__(self, other: Mat) -> Mat:
        return Mat(*(a - b for a, b in zip(self.entries, other.entries, strict=True)))

    def __neg__(self) -> Mat:
        return Mat(*(-a for a in self.entries))

    def __mul__(self, factor: Number) -> Mat:
        return Mat(*(a * factor for a in self.entries))

    __rmul__ = __mul__

    def __truediv__(self, divisor: Number) -> Mat:
        return Mat(*(a / divisor for a in self.entries))

    def __matmul__(self, other: Any) -> Any:
        if isinstance(other, Vec):
            return Vec(*(dot(self[i], other) for i in range(3)))
        columns = [Vec(*other.entries[j::3]) for j in range(3)]
        return Mat(*(dot(self[i], columns[j]) for i in range(3) for j in range(3)))


def flat(value: Any) -> list[Number]:
    """The numbers of a value, a vector, a matrix, or of several."""
    if isinstance(value, Vec | Mat):
        return list(value.entries)
    if isinstance(value, tuple | list):
        return [n for v in value for n in flat(v)]
    return [value]


def shaped(like: Any, numbers: Iterable[Number]) -> Any:
    """Numbers in the shape of another value."""
    left = iter(numbers)

    def build(value: Any) -> Any:
        if isinstance(value, Vec | Mat):
            return type(value)(*(next(left) for _ in value.entries))
        if isinstance(value, tuple | list):
            return tuple(build(v) for v in value)
        return next(left)

    return build(like)


def dot(a: Any, b: Any) -> Any:
    """Sum of the products of entries."""
    x, y = a.entries, b.entries
    found = x[0] * y[0]
    for i in range(1, len(x)):
        found = found + x[i] * y[i]
    return found


def cofactor(A: Mat) -> Mat:
    """det(A) A^-T."""
    a = A.entries

    def minor(i: int, j: int) -> Number:
        r, s, u, v = (i + 1) % 3, (i + 2) % 3, (j + 1) % 3, (j + 2) % 3
        return a[3 * r + u] * a[3 * s + v] - a[3 * r + v] * a[3 * s + u]

    return Mat(*(minor(i, j) for i in range(3) for j in range(3)))


def _determinant(A: Mat) -> Number:
    return dot(A[0], cofactor(A)[0])


def _determinant_adjoint(A: Mat, adj_ret: Number) -> tuple[Mat]:
    return (adj_ret * cofactor(A),)


class _Words(types.SimpleNamespace):
    """The functions of `wp` that sources may name."""

    def __getattr__(self, name: str) -> Any:
        raise Untraceable(f"wp.{name}")


class Vocabulary:
    """The names of a `@numeric` function for one graph in one precision."""

    def __init__(self, graph: Graph, precision: Precision) -> None:
        self.graph, self.precision = graph, precision
        self._determinant = Caller(self, "determinant", lambda: _determinant, lambda: _determinant_adjoint)
        self._inverse = Caller(self, "inverse", lambda: self._inverted, lambda: self._inverse_adjoint)
        self._callers: dict[Any, Caller] = {}
        self.wp = _Words(
            transpose=lambda A: A.T,
            determinant=self._determinant,
            inverse=self._inverse,
            trace=lambda A: A[0, 0] + A[1, 1] + A[2, 2],
            ddot=dot,
            dot=dot,
            outer=lambda a, b: Mat(*(x * y for x in a.entries for y in b.entries)),
            cross=_cross,
            cw_mul=lambda a, b: type(a)(*(x * y for x, y in zip(a.entries, b.entries, strict=True))),
            length=lambda a: graph.op("sqrt", dot(a, a)),
            where=self._where,
            pow=self._pow,
            **{op: self._function(op) for op in ("log", "exp", "sqrt", "sin", "cos", "tanh", "abs", "max", "min")},
        )
        self.names: dict[str, Any] = {
            "wp": self.wp,
            "real": lambda a: a if isinstance(a, Node) else float(a),
            "vec3": lambda *entries: Vec(*(entries or (0.0, 0.0, 0.0))),
            "mat33": Mat,
            "params": Vec,
            "history": Vec,
            "TINY": precision.tiny,
        }

    def bound(self, source: Callable, names: dict[str, Any]) -> Callable:
        """`source` in this vocabulary; those of `names` that are `Numeric` included."""
        called = {**used(source), **{n: f for n, f in names.items() if isinstance(f, Numeric)}}
        return rebind(source, {**self.names, **names, **{n: self.reader(f) for n, f in called.items()}}, "_wide")

    def reader(self, function: Numeric) -> Caller:
        """A `Numeric` in this vocabulary."""
        if function not in self._callers:
            primal = function.wide_source
            made = Caller(self, function.name, lambda: self.bound(primal, {}), None)
            self._callers[function] = made
            if function.adjoint_source is not None:
                made.pull = lambda: self._gathering(function)
        return self._callers[function]

    def _gathering(self, function: Numeric) -> Callable:
        """A hand-written adjoint as a function of arguments and cotangent to the arguments' cotangents."""
        source = function.adjoint_source
        assert source is not None

        def run(*args: Any) -> tuple[Any, ...]:
            sums = _Sums(args[:-1])
            self.bound(source, {"wp": _Words(**vars(self.wp), adjoint=sums)})(*args)
            return tuple(sums.values)

        return run

    def _function(self, op: str) -> Callable:
        return lambda *args: self.graph.op(op, *args)

    def _where(self, mask: Any, a: Any, b: Any) -> Any:
        chosen = [self.graph.where(mask, x, y) for x, y in zip(flat(a), flat(b), strict=True)]
        return shaped(a, chosen)

    def _pow(self, a: Any, b: Any) -> Any:
        return a * a if not isinstance(b, Node) and b == 2.0 else self.graph.op("pow", a, b)

    def _inverted(self, A: Mat) -> Mat:
        det = self.wp.determinant(A)
        # A singular matrix has the inverse zero, as in Warp.
        return self._where(det == 0.0, Mat(), (1.0 / det) * cofactor(A).T)

    def _inverse_adjoint(self, A: Mat, adj_ret: Mat) -> tuple[Mat]:
        inverse = self._inverse(A).T
        return (-(inverse @ adj_ret @ inverse),)


class Caller:
    """A function that is traced where it is called, once for the same arguments.

    Attributes:
        primal: gives the function.
        pull: gives its adjoint (arguments, cotangent) -> cotangents of the arguments; None to derive it from the trace.
    """

    def __init__(
        self, vocabulary: Vocabulary, name: str, primal: Callable[[], Callable], pull: Callable[[], Callable] | None
    ) -> None:
        self._graph, self.name, self.primal, self.pull = vocabulary.graph, name, primal, pull

    def __call__(self, *args: Any) -> Any:
        """Trace it, or find it traced."""
        graph, numbers = self._graph, flat(args)
        key = ("call", id(self), *(n.id if isinstance(n, Node) else (n,) for n in numbers))
        done = graph.find(key)
        if done is not None:
            return done[0]
        function = self.primal()
        found = explored(graph, lambda: function(*args))
        nodes = [n for n in flat(found) if isinstance(n, Node)]
        if self.pull is not None and nodes:
            call = graph.node("call", *_numbers(numbers), value=Called(self, args, found))
            tagged = [
                graph.node("of", call, n, value=i) if isinstance(n, Node) else n for i, n in enumerate(flat(found))
            ]
            found = shaped(found, tagged)
        # The value keeps its arguments alive: the key has their ids only.
        graph.scope.found[key] = (found, args)
        return found


class Called:
    """A call with an adjoint of its own."""

    def __init__(self, caller: Caller, args: tuple, found: Any) -> None:
        self.caller, self.args, self.found = caller, args, found

    def adjoint(self, graph: Graph, cotangents: list[Number]) -> list[Number]:
        """Cotangents of the arguments, number by number."""
        assert self.caller.pull is not None
        function, weights = self.caller.pull(), shaped(self.found, cotangents)
        return flat(explored(graph, lambda: function(*self.args, weights)))


class _Sums:
    """Stands for `wp.adjoint`: one entry for each argument."""

    def __init__(self, args: tuple) -> None:
        self._args = args
        self.values: list[Any] = [shaped(a, [0.0] * len(flat(a))) for a in args]

    def _at(self, arg: Any) -> int:
        return next(i for i, a in enumerate(self._args) if a is arg)

    def __getitem__(self, arg: Any) -> Any:
        return self.values[self._at(arg)]

    def __setitem__(self, arg: Any, value: Any) -> None:
        self.values[self._at(arg)] = value


def explored(graph: Graph, run: Callable[[], Any]) -> Any:
    """What `run` returns, with a branch of the graph for every `if` in it."""
    try:
        return run()
    except Split as split:
        mask, sides, shape = split.mask, [], None
        for side in (True, False):
            with graph.enter(mask, side) as lines:
                shape = explored(graph, run)
                lines.outs = flat(shape)
            sides.append(lines)
        return shaped(shape, graph.join(mask, (sides[0], sides[1])))


def repeat(step: Callable[..., tuple[Any, Any]], start: Any, most: int) -> Any:
    """A value after `most` steps, or fewer: `step` gives the next one, and a mask of particles where it is final."""
    graph = next(n.graph for n in flat(start) if isinstance(n, Node))

    def once(numbers: list[Number]) -> tuple[list[Number], Any]:
        after, done = step(shaped(start, numbers))
        return flat(after), done

    return shaped(start, graph.repeat(once, flat(start), most))


def _numbers(values: list[Any]) -> list[Number]:
    return [v if isinstance(v, Node) else float(v) for v in values]


def _cross(a: Vec, b: Vec) -> Vec:
    (x, y, z), (u, v, w) = a.entries, b.entries
    return Vec(y * w - z * v, z * u - x * w, x * v - y * u)
