"""What the loops of `wide_kernels` do: laws traced by `physim.wide`, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import warp as wp

from physim.laws.compose import Composition
from physim.numeric import Precision, kernel, rebind
from physim.solvers.mpm import wide_kernels as sources
from physim.wide.emit import Given, Summed, Taken, Total, Writer
from physim.wide.graph import AFTER, BEFORE, INSIDE, Graph, Number, Untraceable
from physim.wide.reverse import pull
from physim.wide.values import Mat, Vec, Vocabulary, flat

_SOURCES: dict[str, Callable] = {
    f.__name__: f for f in (sources.stress, sources.stress_adjoint, sources.project, sources.project_adjoint)
}


@cache
def wide_kernel(laws: Composition, precision: Precision, wide: int, stage: str, each: bool) -> wp.Kernel:
    """A kernel of one composition, to be launched with one Warp thread.

    Args:
        laws: the laws.
        precision: of the state.
        wide: columns of the state's history.
        stage: `stress`, `stress_adjoint`, `project` or `project_adjoint`.
        each: whether every particle has its own row of parameters.
    """
    source = _SOURCES[stage]
    vectors = {"params": precision.vector(laws.width), "wide_history": precision.vector(wide)}
    kinds = {_native(n): kind for n, kind in source.__annotations__.items() if n not in ("substep", "stray")}
    made = _Stage(laws, precision, wide, each)
    text = made.stress(stage) if stage.startswith("stress") else made.project(stage)
    name = f"{'each_' if each else ''}{wide}_{laws.name}"
    stub = _stub(f"{stage}_{name}_{precision.name}", kinds, {**precision.names(), **vectors})
    module = f"physim_wide_{stage}_{name}"
    native = wp.func_native(text)(stub)
    found = kernel(source, precision, module=module, differentiable=False, loop=native, **vectors)
    _UNTOUCHED[found] = frozenset(n for n in source.__annotations__ if f"{_native(n)}.data" not in text)
    return found


def untouched(made: wp.Kernel) -> frozenset[str]:
    """Arguments that a kernel has, and whose memory it leaves alone because its law needs no such thing."""
    return _UNTOUCHED.get(made, frozenset())


_UNTOUCHED: dict[Any, frozenset[str]] = {}


@cache
def traceable(laws: Composition, precision: Precision) -> bool:
    """Whether the laws speak the vocabulary of `physim.wide`, and have all derivatives in it."""
    try:
        _Stage(laws, precision, max(1, laws.history_size), False).stress("stress_adjoint")
        _Stage(laws, precision, max(1, laws.history_size), False).project("project_adjoint")
    except Untraceable:
        return False
    return True


def _native(name: str) -> str:
    # Warp has names of its own that begin with adj_.
    return name.replace("adj_", "cotangent_")


def _stub(name: str, kinds: dict[str, Any], names: dict[str, Any]) -> Callable:
    """A function of these arguments without a body."""

    def empty():
        """Written in C++."""

    stub = rebind(empty, names, "")
    stub.__name__ = stub.__qualname__ = name
    stub.__annotations__ = kinds
    stub.__code__ = empty.__code__.replace(
        co_argcount=len(kinds), co_nlocals=len(kinds), co_varnames=tuple(kinds), co_name=name
    )
    return stub


class _Stage:
    """The graph of one stage."""

    def __init__(self, laws: Composition, precision: Precision, wide: int, each: bool) -> None:
        self._laws, self._precision, self._wide, self._each = laws, precision, wide, each
        self._graph = Graph()
        self._words = Vocabulary(self._graph, precision)
        size = laws.width
        self._theta = Vec(*self._leaves("theta", size, INSIDE if each else BEFORE, trained=True))
        self._given = [Given("theta", f"(const number*)theta.data + {size} * (long long)row", size, str(size))]

    def stress(self, stage: str) -> str:
        """Text of the stress or its adjoint."""
        F, C, h = self._matrix("F"), self._matrix("C"), self._history("h")
        source, named = self._laws.stress_parts()
        tau = self._words.bound(source, named)(F, C, h, self._theta)
        if stage == "stress":
            return self._text([self._matrices("tau", flat(tau), add=False)])
        seeds = list(zip(flat(tau), flat(self._matrix("adj_tau")), strict=True))
        return self._adjoint(seeds, {"F": F, "C": C, "h": h})

    def project(self, stage: str) -> str:
        """Text of the return mapping or its adjoint."""
        F, C, h = self._matrix("F"), self._matrix("C_out"), self._history("h")
        dt = self._graph.leaf("dt", 0, BEFORE)
        source, named = self._laws.project_parts()
        step = dt * C
        f = Mat(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0) + step
        F_new, now = self._words.bound(source, named)(F + step @ F, h, f, self._theta, dt)
        count = self._laws.history_size
        if stage == "project":
            taken = [self._matrices("F_out", flat(F_new), add=False)]
            if count:
                taken.append(Taken(self._at("h_out", self._wide), str(self._wide), flat(now)[:count]))
            return self._text(taken)
        seeds = list(zip(flat(F_new), flat(self._matrix("adj_F_out")), strict=True))
        if count:
            seeds += zip(flat(now), flat(self._history("adj_h_out")), strict=True)
        return self._adjoint(seeds, {"F": F, "h": h, "C_out": C})

    def _adjoint(self, seeds: list[tuple[Number, Number]], inputs: dict[str, Any]) -> str:
        graph = self._graph
        ends = {n.id: (n, g) for n, g in pull(graph, seeds, lambda n: n.phase == INSIDE).items()}

        def cotangents(value: Any) -> list[Number]:
            return [ends[n.id][1] if getattr(n, "id", -1) in ends else 0.0 for n in flat(value)]

        taken = []
        for name, value in inputs.items():
            if name == "h":
                width = str(self._wide)
                taken.append(Taken(self._at("adj_h", self._wide), width, cotangents(value), add=True))
            else:
                taken.append(self._matrices(f"adj_{name}", cotangents(value), add=True))
        size = len(self._theta)
        if self._each:
            at = f"(number*)cotangent_theta.data + {size} * (long long)row"
            taken.append(Taken(at, str(size), cotangents(self._theta), add=True))
            return self._text(taken)
        # What all particles share is computed once; so is its derivative, from the sum of its cotangents.
        shared = sorted(((n, g) for n, g in ends.values() if n.phase == BEFORE and n.trained), key=lambda e: e[0].id)
        sums = [Summed(graph.leaf("sum", i, AFTER), g) for i, (_, g) in enumerate(shared)]
        back = pull(graph, [(n, s.leaf) for (n, _), s in zip(shared, sums, strict=True)], lambda n: n.trained)
        columns = [(n, g) for n, g in back.items() if n.op == "leaf" and n.trained]  # dt is a leaf too
        totals = [Total(f"((number*)cotangent_theta.data)[{n.value[1]}]", g) for n, g in columns]
        return self._text(taken, sums, sorted(totals, key=lambda t: t.to))

    def _text(self, taken: list[Taken], sums: list[Summed] | None = None, totals: list[Total] | None = None) -> str:
        shared = {"theta": "((const number*)theta.data)[{}]", "dt": "dt"}
        return Writer(self._graph, self._precision, self._given, shared).text(taken, sums or [], totals or [])

    def _leaves(self, name: str, count: int, phase: int = INSIDE, trained: bool = False) -> list[Number]:
        return [self._graph.leaf(name, i, phase, trained) for i in range(count)]

    @staticmethod
    def _at(name: str, columns: int, const: str = "") -> str:
        return f"({const}number*){_native(name)}.data + {columns} * (long long)first"

    def _matrix(self, name: str) -> Mat:
        self._given.append(Given(name, self._at(name, 9, "const "), 9, "9"))
        return Mat(*self._leaves(name, 9))

    def _matrices(self, name: str, numbers: list[Number], add: bool) -> Taken:
        return Taken(self._at(name, 9), "9", numbers, add)

    def _history(self, name: str) -> Vec:
        count = self._laws.history_size
        self._given.append(Given(name, self._at(name, self._wide, "const "), count, str(self._wide)))
        return Vec(*self._leaves(name, count)) if count else Vec(0.0)
