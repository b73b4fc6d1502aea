"""The derivative of a graph's numbers, as more nodes of the same graph."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from physim.wide.graph import BEFORE, Graph, Node, Number, Untraceable


def pull(graph: Graph, seeds: list[tuple[Number, Number]], own: Callable[[Node], bool]) -> dict[Node, Number]:
    """Cotangents of the nodes at which the way back ends.

    Args:
        graph: the graph.
        seeds: numbers, and their cotangents.
        own: whether to go on through a node.
    """
    sums: dict[int, Number] = {}
    slots: dict[int, dict[int, Number]] = {}
    nodes: dict[int, Node] = {}
    heap: list[int] = []
    ends: dict[Node, Number] = {}

    def known(node: Node) -> None:
        if node.id not in nodes:
            nodes[node.id] = node
            heapq.heappush(heap, -node.id)

    def give(number: Number, cotangent: Number) -> None:
        if isinstance(number, Node) and not (not isinstance(cotangent, Node) and cotangent == 0.0):
            known(number)
            sums[number.id] = graph.add(sums.get(number.id, 0.0), cotangent)

    def fill(owner: Node, place: int, cotangent: Number) -> None:
        known(owner)
        mine = slots.setdefault(owner.id, {})
        mine[place] = graph.add(mine.get(place, 0.0), cotangent)

    for number, cotangent in seeds:
        give(number, cotangent)
    while heap:
        node = nodes[-heapq.heappop(heap)]
        if node.id in slots:
            filled = slots[node.id]
            if node.op == "call":
                count = len(_out(node))
                weights = node.value.adjoint(graph, [filled.get(i, 0.0) for i in range(count)])
                for arg, cotangent in zip(node.args, weights, strict=True):
                    give(arg, cotangent)
            else:
                for arg, cotangent in _branch(graph, node, filled):
                    give(arg, cotangent)
            continue
        g = sums[node.id]
        if node.op == "leaf" or not own(node):
            ends[node] = g
        elif node.op in ("of", "item"):
            fill(node.args[0], node.value, g)  # type: ignore[arg-type]
        else:
            for arg, cotangent in zip(node.args, RULES[node.op](graph, node, g), strict=True):
                give(arg, cotangent)
    return ends


def _out(call: Node) -> list[Number]:
    from physim.wide.values import flat

    return flat(call.value.found)


def _branch(graph: Graph, node: Node, filled: dict[int, Number]) -> list[tuple[Number, Number]]:
    """The way back through a branch is a branch too, with both of its sides' nodes at hand."""
    if node.op != "choose":
        raise Untraceable("a loop has no derivative; give the function that repeats an adjoint")
    mask, forward = node.args[0], node.value
    assert isinstance(mask, Node)
    sides, found = [], []
    for side in (True, False):
        with graph.enter(mask, side) as lines:
            here, outs = graph.scope, forward[not side].outs
            seeds = [(outs[i], g) for i, g in sorted(filled.items())]
            found.append(pull(graph, seeds, lambda n, here=here: n.scope.within(here) and n.phase != BEFORE))
        sides.append(lines)
    wanted = sorted({n.id: n for ends in found for n in ends}.values(), key=lambda n: n.id)
    for lines, ends in zip(sides, found, strict=True):
        lines.outs = [ends.get(n, 0.0) for n in wanted]
    return list(zip(wanted, graph.join(mask, (sides[0], sides[1])), strict=True))


def _pow(graph: Graph, node: Node, g: Number) -> tuple[Number, Number]:
    a, b = node.args
    by_a = b * graph.op("pow", a, b - 1.0) * g
    return by_a, graph.op("log", a) * node * g if isinstance(b, Node) else 0.0


def _larger(graph: Graph, node: Node, g: Number) -> tuple[Number, Number]:
    a, b = node.args
    # As in Warp, a NaN loses, and gets nothing.
    first = graph.op("picked_" + node.op, a, b)
    return graph.where(first, g, 0.0), graph.where(first, 0.0, g)


def _divided(graph: Graph, node: Node, g: Number) -> tuple[Number, Number]:
    share = graph.div(g, node.args[1])
    return share, graph.neg(share * node)


RULES: dict[str, Callable[[Graph, Node, Number], tuple[Number, ...]]] = {
    "+": lambda _, n, g: (g, g),
    "-": lambda graph, n, g: (g, graph.neg(g)),
    "*": lambda _, n, g: (g * n.args[1], g * n.args[0]),
    "/": _divided,
    "neg": lambda graph, n, g: (graph.neg(g),),
    "where": lambda graph, n, g: (0.0, graph.where(n.args[0], g, 0.0), graph.where(n.args[0], 0.0, g)),
    "max": _larger,
    "min": _larger,
    "pow": _pow,
    "log": lambda graph, n, g: (graph.div(g, n.args[0]),),
    "exp": lambda _, n, g: (g * n,),
    "sqrt": lambda graph, n, g: (graph.div(0.5 * g, n),),
    "sin": lambda graph, n, g: (g * graph.op("cos", n.args[0]),),
    "cos": lambda graph, n, g: (graph.neg(g * graph.op("sin", n.args[0])),),
    "tanh": lambda _, n, g: (g * (1.0 - n * n),),
    "abs": lambda graph, n, g: (g * graph.where(n.args[0] < 0.0, -1.0, 1.0),),  # type: ignore[operator]
}
