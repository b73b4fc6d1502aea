"""A graph as C++ in vector types: each line works on one number of as many particles as a vector has lanes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from physim.numeric import Precision
from physim.wide.graph import AFTER, BEFORE, INSIDE, MASKS, Graph, Node, Number, Side
from physim.wide.memory import nine
from physim.wide.words import LANES, START, maths

_INFIX = frozenset({"+", "-", "*", "/", "<", "<=", ">", ">=", "==", "!="})


@dataclass(frozen=True)
class Given:
    """Numbers that a graph's leaves are loaded from.

    Attributes:
        name: of the leaves.
        at: C++ expression of the address of the first particle's numbers.
        columns: numbers of a particle.
        stride: C++ expression of the distance between particles, in numbers.
    """

    name: str
    at: str
    columns: int
    stride: str


@dataclass(frozen=True)
class Taken:
    """Numbers to be stored for each particle.

    Attributes:
        at, stride: as for `Given`.
        numbers: what to store; with `add`, what to add to what is there.
    """

    at: str
    stride: str
    numbers: list[Number]
    add: bool = False


@dataclass(frozen=True)
class Summed:
    """A sum over all particles of the loop: a leaf of the lines after it, and what it is the sum of.

    Attributes:
        leaf: the sum, lane by lane.
        number: the summand.
    """

    leaf: Node
    number: Number


@dataclass(frozen=True)
class Total:
    """A number to be added to after the loop, `to` being a C++ expression: the sum over all lanes of `number`."""

    to: str
    number: Number


class Writer:
    """Writes one graph.

    Args:
        graph: what is computed.
        precision: its numbers.
        given: what is loaded for each particle, and of the leaves before the loop, the C++ expression (`shared`).
    """

    def __init__(self, graph: Graph, precision: Precision, given: list[Given], shared: dict[str, str]) -> None:
        self._graph, self._precision = graph, precision
        self._given, self._shared = {g.name: g for g in given}, shared
        self._live: set[int] = set()
        self._items: dict[int, list[int]] = {}
        self._outer: set[int] = set()

    def text(self, taken: list[Taken], summed: list[Summed], totals: list[Total]) -> str:
        """The body of a function that loops over `count` particles."""
        self._mark([n for t in taken for n in t.numbers] + [s.number for s in summed] + [t.number for t in totals])
        live = [n for n in self._graph.nodes if n.id in self._live]
        lines = [START.format(REAL=_real(self._precision), LANES=LANES[self._precision.name])]
        lines.append(nine(LANES[self._precision.name]))
        lines.append(maths(self._precision, {n.op for n in self._all(live)}))
        lines += self._lines(n for n in live if n.phase == BEFORE)
        lines += [f"vec {_name(s.leaf)} = {{}};" for s in summed if s.leaf.id in self._live]
        lines.append("for (int at = 0; at < count; at += LANES) {\nconst int left = count - at;")
        if summed:
            lines.append("const lanes here = first_lanes(left);")
        loaded: dict[str, list[Node]] = {}
        for n in live:
            if n.op == "leaf" and n.phase == INSIDE:
                loaded.setdefault(n.value[0], []).append(n)
        for name, leaves in loaded.items():
            lines.append(self._load(self._given[name], leaves))
        body = [n for n in live if n.phase == INSIDE and n.op != "leaf"]
        lines += [line for n in self._all(body) if n.id in self._outer for line in self._declared(n)]
        lines += self._lines(body)
        lines += [
            f"{_name(s.leaf)} += here ? {self._vec(s.number)} : vec{{}};" for s in summed if s.leaf.id in self._live
        ]
        lines += [self._store(t) for t in taken if any(not _zero(n) or not t.add for n in t.numbers)]
        lines.append("}")
        lines += self._lines(n for n in live if n.phase == AFTER and n.op != "leaf")
        lines += [f"{t.to} += total({self._vec(t.number)});" for t in totals if not _zero(t.number)]
        return "\n".join(lines)

    # What is needed.

    def _mark(self, wanted: list[Number]) -> None:
        left: list[tuple[Number, Side | None]] = [(n, None) for n in wanted]
        while left:
            node, home = left.pop()
            if not isinstance(node, Node):
                continue
            if node.home is not home and not _inside(home, node.home):
                self._outer.add(node.id)
            if node.op == "of":
                left.append((node.args[1], home))
            elif node.op == "item":
                owner = node.args[0]
                assert isinstance(owner, Node)
                places = self._items.setdefault(owner.id, [])
                if node.value not in places:
                    places.append(node.value)
                    if owner.op == "choose":
                        left += [(side.outs[node.value], side) for side in owner.value]
                left.append((owner, home))
            if node.id in self._live:
                continue
            self._live.add(node.id)
            if node.home is not None and node.home.owner is not None:
                left.append((node.home.owner, node.home.owner.home))
            if node.op == "repeat":
                left += [(n, node.value[0]) for n in node.value[0].outs]
            if node.op not in ("of", "item", "call"):
                left += [(a, node.home) for a in node.args]

    def _all(self, nodes: Iterable[Node]) -> Iterator[Node]:
        for n in nodes:
            yield n
            if n.op in ("choose", "repeat"):
                for side in n.value:
                    yield from self._all(m for m in side.nodes if m.id in self._live)

    # Lines.

    def _lines(self, nodes: Iterable[Node]) -> list[str]:
        return [line for n in nodes if n.id in self._live for line in self._line(n)]

    def _line(self, n: Node) -> list[str]:
        if n.op in ("of", "call", "item", "state"):
            return []
        if n.op == "choose":
            return self._choice(n)
        if n.op == "repeat":
            return self._loop(n)
        if n.op == "leaf":
            return [f"const number {_name(n)} = {self._shared[n.value[0]].format(n.value[1])};"]
        kind = "const lanes" if n.op in MASKS else "const vec"
        if n.id in self._outer:
            kind = ""
        return [f"{kind} {_name(n)} = {self._expression(n)};"]

    def _declared(self, n: Node) -> list[str]:
        """Lines for what is used outside the branch in which it is computed."""
        if n.op == "choose":
            return [f"vec v{n.id}_{i} = {{}};" for i in self._items.get(n.id, [])]
        if n.op == "repeat":
            return [f"vec {_name(s)};" for s in n.value[0].outs[: len(n.args)]]
        if n.op in ("of", "item", "call"):
            return []
        return [f"{'lanes' if n.op in MASKS else 'vec'} {_name(n)};"]

    def _expression(self, n: Node) -> str:
        if n.op == "neg":
            return f"-{self._vec(n.args[0])}"
        if n.op == "where":
            mask, a, b = n.args
            return f"{self._text(mask)} ? {self._vec(a)} : {self._vec(b)}"
        if n.op in _INFIX:
            a, b = n.args
            return f"{self._vec(a) if self._single(b) else self._text(a)} {n.op} {self._text(b)}"
        return f"{n.op}_({', '.join(self._vec(a) for a in n.args)})"

    def _choice(self, n: Node) -> list[str]:
        places = sorted(self._items.get(n.id, []))
        names = [f"v{n.id}_{i}" for i in places]
        lines = [] if n.id in self._outer or not names else [f"vec {', '.join(f'{name} = {{}}' for name in names)};"]
        mask = self._text(n.args[0])
        for side, test in zip(n.value, (f"any({mask})", f"any(~{mask})"), strict=True):
            first = side is n.value[0]
            lines += [f"if ({test}) {{", *self._lines(side.nodes)]
            for i, name in zip(places, names, strict=True):
                out = self._vec(side.outs[i])
                lines.append(f"{name} = {out};" if first else f"{name} = {mask} ? {name} : {out};")
            lines.append("}")
        return lines

    def _loop(self, n: Node) -> list[str]:
        (side,) = n.value
        count = len(n.args)
        state, after, done = side.outs[:count], side.outs[count:-1], side.outs[-1]
        kind = "" if n.id in self._outer else "vec "
        lines = [f"{kind}{_name(s)} = {self._vec(a)};" for s, a in zip(state, n.args, strict=True)]  # type: ignore[arg-type]
        busy = f"busy{n.id}"
        lines.append(f"lanes {busy} = splat(0) == splat(0);\nfor (int k = 0; k < {side.most} && any({busy}); ++k) {{")
        lines += self._lines(side.nodes)
        updates = [f"const vec next{i} = {self._vec(a)};" for i, a in enumerate(after)]
        updates += [f"{_name(s)} = {busy} ? next{i} : {_name(s)};" for i, s in enumerate(state)]  # type: ignore[arg-type]
        return [*lines, *updates, f"{busy} = {busy} & ~{self._text(done)};\n}}"]

    # Operands.

    def _single(self, a: Number) -> bool:
        """Whether this is one number for all particles, and not a vector."""
        return not isinstance(a, Node) or (a.op == "leaf" and a.phase == BEFORE)

    def _text(self, a: Number) -> str:
        if not isinstance(a, Node):
            return f"number({a!r})" if abs(a) < 1e300 else _special(a)
        if a.op == "of":
            return self._text(a.args[1])
        if a.op == "item":
            owner = a.args[0]
            assert isinstance(owner, Node)
            if owner.op == "repeat":
                return _name(owner.value[0].outs[a.value])
            return f"v{owner.id}_{a.value}"
        return _name(a)

    def _vec(self, a: Number) -> str:
        if isinstance(a, Node) and a.op == "of":
            return self._vec(a.args[1])
        return f"splat({self._text(a)})" if self._single(a) else self._text(a)

    # Memory.

    def _load(self, given: Given, leaves: list[Node]) -> str:
        places = {n.value[1]: _name(n) for n in leaves}
        if given.columns == 9 and given.stride == "9":
            names = [places.get(i, f"unread_{given.name}_{i}") for i in range(9)]
            return f"vec {', '.join(names)};\nload9({given.at} + 9 * (long long)at, left, {', '.join(names)});"
        text = "const vec {} = load({} + {} * (long long)at + {}, {}, left);"
        return "\n".join(
            text.format(name, given.at, given.stride, i, given.stride) for i, name in sorted(places.items())
        )

    def _store(self, taken: Taken) -> str:
        numbers = [self._vec(n) for n in taken.numbers]
        if len(numbers) == 9 and taken.stride == "9":
            return f"{'add9' if taken.add else 'store9'}({taken.at} + 9 * (long long)at, left, {', '.join(numbers)});"
        lines = []
        for i, number in enumerate(numbers):
            if taken.add and _zero(taken.numbers[i]):
                continue
            start = f"{taken.at} + {taken.stride} * (long long)at + {i}"
            lines.append(f"{'add' if taken.add else 'store'}({start}, {taken.stride}, left, {number});")
        return "\n".join(lines)


def _name(n: Node) -> str:
    return f"v{n.id}"


def _inside(home: Side | None, outer: Side | None) -> bool:
    """Whether lines in `home` see what stands in `outer`."""
    while home is not None:
        if home is outer:
            return True
        home = home.owner.home if home.owner is not None else None
    return outer is None


def _zero(a: Number) -> bool:
    return not isinstance(a, Node) and a == 0.0


def _special(a: float) -> str:
    return 'number(__builtin_nan(""))' if a != a else f"number({'-' if a < 0 else ''}__builtin_inf())"


def _real(precision: Precision) -> str:
    return "float" if precision.name == "f32" else "double"
