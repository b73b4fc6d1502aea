"""Operations on symbolic numbers: a graph in which equal operations are one node.

A node that depends on parameters and constants only is computed once, before the loop over particles; one that depends
on sums over all particles once, after it. What stands on one side of a branch has a scope of its own: it may use what
was there before, but not the other way round.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Union

BEFORE, INSIDE, AFTER = 0, 1, 2
"""When a node is computed: before the loop over particles, inside it, after it."""

Number = Union["Node", float]
Key = tuple[Any, ...]

_FOLDED: dict[str, Callable[..., Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "neg": operator.neg,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "log": math.log,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "sin": math.sin,
    "cos": math.cos,
    "tanh": math.tanh,
    "abs": abs,
    "pow": math.pow,
    "max": max,
    "min": min,
}
MASKS = frozenset({"<", "<=", ">", ">=", "==", "!=", "picked_max", "picked_min"})


class Split(Exception):
    """A source asked whether a mask holds, which is different from particle to particle."""

    def __init__(self, mask: Node) -> None:
        self.mask = mask


class Untraceable(Exception):
    """A source does what has no counterpart here."""


class Node:
    """One operation, and the symbolic number (or, for a comparison, the mask) that it gives.

    Attributes:
        op: name of the operation; "leaf" for what is loaded.
        args: operands.
        value: what else belongs to the operation.
        id: place in the order of creation; operands have lower ones.
        phase: BEFORE, INSIDE or AFTER the loop over particles.
        trained: whether it depends on the parameters.
        scope: where it may be used.
        home: the side of a branch, or the loop, in whose lines it stands.
    """

    __slots__ = ("args", "graph", "home", "id", "op", "phase", "scope", "trained", "value")

    def __init__(self, graph: Graph, op: str, args: tuple[Number, ...], value: Any, phase: int, trained: bool) -> None:
        self.graph, self.op, self.args, self.value = graph, op, args, value
        self.phase, self.trained = phase, trained
        self.id = graph.count
        graph.count += 1
        self.scope, self.home = (graph.root, None) if phase != INSIDE else (graph.scope, graph.home)
        (self.home.nodes if self.home else graph.nodes).append(self)

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        return self.graph.decided(self)

    def __neg__(self) -> Number:
        return self.graph.neg(self)

    def __add__(self, other: Number) -> Number:
        return self.graph.add(self, other)

    def __radd__(self, other: Number) -> Number:
        return self.graph.add(other, self)

    def __sub__(self, other: Number) -> Number:
        return self.graph.sub(self, other)

    def __rsub__(self, other: Number) -> Number:
        return self.graph.sub(other, self)

    def __mul__(self, other: Any) -> Any:
        return self.graph.mul(self, other) if isinstance(other, Node | float | int) else NotImplemented

    def __rmul__(self, other: Number) -> Number:
        return self.graph.mul(other, self)

    def __truediv__(self, other: Number) -> Number:
        return self.graph.div(self, other)

    def __rtruediv__(self, other: Number) -> Number:
        return self.graph.div(other, self)

    def __lt__(self, other: Number) -> Any:
        return self.graph.op("<", self, other)

    def __le__(self, other: Number) -> Any:
        return self.graph.op("<=", self, other)

    def __gt__(self, other: Number) -> Any:
        return self.graph.op(">", self, other)

    def __ge__(self, other: Number) -> Any:
        return self.graph.op(">=", self, other)

    def __eq__(self, other: Any) -> Any:
        return self.graph.op("==", self, other)

    def __ne__(self, other: Any) -> Any:
        return self.graph.op("!=", self, other)


@dataclass(eq=False)
class Scope:
    """Where nodes may be used: everywhere, or where a mask holds (or does not) for some particle."""

    parent: Scope | None = None
    mask: Node | None = None
    side: bool = True
    found: dict[Key, Any] = field(default_factory=dict)
    inner: dict[tuple[int, bool], Scope] = field(default_factory=dict)

    def within(self, outer: Scope) -> bool:
        """Whether this is `outer` or inside it."""
        return self is outer or (self.parent is not None and self.parent.within(outer))


@dataclass(eq=False)
class Side:
    """Lines of one side of a branch, or of a loop, and the numbers that come out of them.

    Of a loop these are its state before and after a round, and a mask of those who are done; `most` limits the rounds.
    """

    nodes: list[Node] = field(default_factory=list)
    outs: list[Number] = field(default_factory=list)
    owner: Node | None = None
    most: int = 1


class Graph:
    """Nodes in the order in which they were made."""

    def __init__(self) -> None:
        self.count = 0
        self.nodes: list[Node] = []
        self.root = self.scope = Scope()
        self.home: Side | None = None

    # Finding and making nodes.

    def find(self, key: Key) -> Any:
        """What was made for this key and may be used here, or None."""
        scope: Scope | None = self.scope
        while scope is not None:
            if key in scope.found:
                return scope.found[key]
            scope = scope.parent
        return None

    def node(self, op: str, *args: Number, value: Any = None) -> Node:
        """The node of an operation."""
        key = (op, value, *(a.id if isinstance(a, Node) else (a,) for a in args))
        made = self.find(key)
        if made is None:
            nodes = [a for a in args if isinstance(a, Node)]
            phase = BEFORE
            if nodes:
                phases = {n.phase for n in nodes}
                phase = AFTER if AFTER in phases else max(phases)
            made = Node(self, op, args, value, phase, any(n.trained for n in nodes))
            made.scope.found[key] = made
        return made

    def leaf(self, name: str, place: int, phase: int = INSIDE, trained: bool = False) -> Node:
        """A number that is loaded: column `place` of `name`."""
        key = ("leaf", name, place)
        if key not in self.root.found:
            self.root.found[key] = Node(self, "leaf", (), (name, place), phase, trained)
        return self.root.found[key]

    def op(self, op: str, *args: Any) -> Any:
        """An operation without rules of its own; of constants, its result."""
        args = tuple(a if isinstance(a, Node) else float(a) for a in args)
        if not any(isinstance(a, Node) for a in args):
            return _FOLDED[op](*args)
        return self.node(op, *args)

    def neg(self, a: Number) -> Number:
        """Minus a."""
        if isinstance(a, Node):
            return a.args[0] if a.op == "neg" else self.node("neg", a)
        return -a

    def add(self, a: Number, b: Number) -> Number:
        """The sum of two numbers."""
        if _is(a, 0.0):
            return b
        if _is(b, 0.0):
            return a
        if _op(b, "neg"):
            return self.sub(a, b.args[0])  # type: ignore[union-attr]
        if _op(a, "neg"):
            return self.sub(b, a.args[0])  # type: ignore[union-attr]
        return self.op("+", *_sorted(a, b))

    def sub(self, a: Number, b: Number) -> Number:
        """The difference of two numbers."""
        if _is(b, 0.0):
            return a
        if _is(a, 0.0):
            return self.neg(b)
        if _op(b, "neg"):
            return self.add(a, b.args[0])  # type: ignore[union-attr]
        return self.op("-", a, b)

    def mul(self, a: Number, b: Number) -> Number:
        """The product of two numbers; 0 where a factor is 0 for all particles."""
        for x, y in ((a, b), (b, a)):
            if _is(x, 0.0):
                return 0.0
            if _is(x, 1.0):
                return y
            if _is(x, -1.0):
                return self.neg(y)
            if _op(x, "neg"):
                return self.neg(self.mul(x.args[0], y))  # type: ignore[union-attr]
        return self.op("*", *_sorted(a, b))

    def div(self, a: Number, b: Number) -> Number:
        """The quotient of two numbers; by a constant, the product with its inverse."""
        if _is(a, 0.0):
            return 0.0
        if not isinstance(b, Node) and isinstance(a, Node) and b != 0.0:
            return self.mul(a, 1.0 / b)
        if _op(a, "neg"):
            return self.neg(self.div(a.args[0], b))  # type: ignore[union-attr]
        return self.op("/", a, b)

    def where(self, mask: Any, a: Number, b: Number) -> Number:
        """One number where the mask holds, and the other elsewhere."""
        if not isinstance(mask, Node):
            return a if mask else b
        if a is b or (not isinstance(a, Node) and not isinstance(b, Node) and a == b):
            return a
        return self.node("where", mask, a, b)

    # Branches and loops.

    def decided(self, mask: Node) -> bool:
        """Whether a mask holds where we are.

        Raises:
            Split: it may or may not.
        """
        scope: Scope | None = self.scope
        while scope is not None:
            if scope.mask is mask:
                return scope.side
            scope = scope.parent
        raise Split(mask)

    @contextmanager
    def enter(self, mask: Node, side: bool) -> Iterator[Side]:
        """Go where a mask holds, or does not; what was made there before may be used."""
        key = (mask.id, side)
        if key not in self.scope.inner:
            self.scope.inner[key] = Scope(self.scope, mask, side)
        with self._in(self.scope.inner[key]) as found:
            yield found

    @contextmanager
    def _in(self, scope: Scope) -> Iterator[Side]:
        before = self.scope, self.home
        self.scope, self.home = scope, Side()
        try:
            yield self.home
        finally:
            self.scope, self.home = before

    def join(self, mask: Node, sides: tuple[Side, Side]) -> list[Number]:
        """The numbers that come out of a branch."""
        return self._out_of("choose", (mask,), sides, list(zip(sides[0].outs, sides[1].outs, strict=True)))

    def _out_of(self, op: str, args: tuple[Number, ...], sides: tuple[Side, ...], outs: list[tuple]) -> list[Number]:
        inner = [n for side in sides for n in (*side.nodes, *side.outs) if isinstance(n, Node)]
        made = Node(self, op, args, sides, INSIDE, any(n.trained for n in inner))
        for side in sides:
            side.owner = made
        found: list[Number] = []
        for i, out in enumerate(outs):
            same = op == "choose" and (out[0] is out[1] or _constants(*out))
            found.append(out[0] if same else self.node("item", made, value=i))
        return found

    def repeat(
        self, step: Callable[[list[Number]], tuple[list[Number], Any]], start: list[Number], most: int
    ) -> list[Number]:
        """Numbers after `most` steps, or fewer: `step` gives the next ones, and for which particles they are final."""
        with self._in(Scope(self.scope)) as side:
            state = [Node(self, "state", (), i, INSIDE, False) for i in range(len(start))]
            after, done = step(list(state))
            side.outs, side.most = [*state, *after, done], most
        return self._out_of("repeat", tuple(start), (side,), [(a,) for a in start])


def _constants(a: Number, b: Number) -> bool:
    return not isinstance(a, Node) and not isinstance(b, Node) and a == b


def _is(a: Number, value: float) -> bool:
    return not isinstance(a, Node) and a == value


def _op(a: Number, op: str) -> bool:
    return isinstance(a, Node) and a.op == op


def _sorted(a: Number, b: Number) -> tuple[Number, Number]:
    """Operands of an operation that does not mind their order."""
    first, second = ((a.id if isinstance(a, Node) else -1) for a in (a, b))
    return (a, b) if first <= second else (b, a)
