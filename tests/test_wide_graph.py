"""Graphs of symbolic numbers: what is computed once, what not at all, and where branches go. Vector mathematics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import warp as wp

from physim.numeric import F32, F64, Precision, kernel, mat33, numeric, real, rebind, vec3
from physim.wide.emit import Given, Taken, Writer
from physim.wide.graph import Graph, Node, Untraceable
from physim.wide.reverse import pull
from physim.wide.values import Mat, Vec, Vocabulary, flat, repeat

wp.init()
loop = None


def inputs(graph: Graph, name: str, count: int) -> list[Node]:
    return [graph.leaf(name, i) for i in range(count)]


def test_equal_operations_are_one_node() -> None:
    graph = Graph()
    a, b = inputs(graph, "a", 2)
    assert a * b is b * a
    assert a + b is b + a
    assert a - b is not b - a
    D = Mat(*inputs(graph, "D", 9))
    C = D + D.T + D @ D.T
    assert all(C[i, j] is C[j, i] for i in range(3) for j in range(3))


def test_constants_are_folded() -> None:
    graph = Graph()
    (a,) = inputs(graph, "a", 1)
    before = graph.count
    assert a * 0.0 == 0.0
    assert a * 1.0 is a
    assert a + 0.0 is a
    assert 0.0 - (-a) is a
    assert graph.op("sqrt", 4.0) == 2.0
    assert graph.where(True, a, 3.0) is a
    assert graph.count == before + 1  # the one -a


@numeric
def bent(x: real, y: real) -> real:
    """A branch that is no number on its other side."""
    if x > real(0.0):
        return wp.log(x) * y
    return y * y


def traced(function, p: Precision = F64) -> tuple[Graph, Vocabulary, Node, Node, Node]:
    graph = Graph()
    words = Vocabulary(graph, p)
    x, y = graph.leaf("a", 0), graph.leaf("b", 0)
    return graph, words, x, y, words.reader(function)(x, y)


def test_an_if_becomes_a_branch_and_its_gradient_another() -> None:
    graph, _, x, y, found = traced(bent)
    assert found.op == "item"
    seed = graph.leaf("g", 0)
    ends = pull(graph, [(found, seed)], lambda n: True)
    outs = [found, ends[x], ends[y]]
    a, b = np.array([2.0, -1.0, 0.0, 3.0, np.nan]), np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    got = evaluate(graph, outs, F64, a=a, b=b, g=np.ones(5))
    positive = a > 0
    log = np.log(np.where(positive, a, 1.0))
    assert np.allclose(got[0], np.where(positive, log * b, b * b), rtol=1e-15)
    assert np.allclose(got[1], np.where(positive, b / np.where(positive, a, 1.0), 0.0), rtol=1e-15)
    assert np.allclose(got[2], np.where(positive, log, 2 * b), rtol=1e-15)


@numeric
def halved(x: real, y: real) -> real:
    """`x` halved until it is at most y."""
    return x


@halved.for_wide
def _halved_wide(x, y):
    def step(state):
        half = real(0.5) * state[0]
        return Vec(half, state[1] + real(1.0)), half <= y

    end = repeat(step, Vec(x, real(0.0) * y), 20)
    return end[0]


def test_each_particle_repeats_as_often_as_it_needs() -> None:
    graph, _, _, _, found = traced(halved)
    a, b = np.array([8.0, 1.0, 100.0]), np.array([1.0, 1.0, 3.0])
    assert evaluate(graph, [found], F64, a=a, b=b)[0].tolist() == [1.0, 0.5, 1.5625]
    with pytest.raises(Untraceable, match="adjoint"):
        pull(graph, [(found, 1.0)], lambda n: True)


@numeric
def every_word(x: real, y: real) -> real:
    """All functions of the vocabulary that have a derivative."""
    A = mat33(x, y, real(0.1), x * y, real(2.0) + x, y * y, real(-0.3), x, real(3.0) - y)
    a = vec3(x, y, x - y)
    b = wp.cross(a, A @ vec3(y, real(0.5), x))
    B = wp.inverse(A) + wp.outer(a, b) / x - wp.transpose(A) @ A
    smooth = wp.determinant(B) + wp.trace(A) * wp.ddot(A, B) - wp.dot(a, b) + wp.length(b)
    smooth = smooth + wp.tanh(x * y) * wp.sin(x) / wp.cos(y) + wp.exp(-x) * wp.log(y) + wp.sqrt(x + y)
    kinks = wp.abs(x - y) * wp.max(x, y * y) + wp.min(x * x, y) * wp.where(x < y, x, y * y)
    return smooth + kinks - wp.pow(x, y) + (real(2.0) * a - a[0:3] + (-b))[1] + wp.pow(y, real(2.0))


def test_every_word_has_the_derivative_that_torch_finds() -> None:
    graph, _, x, y, found = traced(every_word)
    ends = pull(graph, [(found, 1.0)], lambda n: True)
    a, b = np.array([0.5, 1.5, 0.7, 2.0, 0.9]), np.array([0.8, 0.6, 2.5, 1.1, 0.95])
    got = evaluate(graph, [found, ends[x], ends[y]], F64, a=a, b=b)
    given = [torch.from_numpy(v).requires_grad_() for v in (a, b)]
    want = torch.vmap(every_word.torch())(*given)
    slopes = torch.autograd.grad(want.sum(), given)
    for mine, theirs in zip(got, (want, *slopes), strict=True):
        assert np.allclose(mine, theirs.detach().numpy(), rtol=1e-12)


def test_unknown_words_are_told() -> None:
    with pytest.raises(Untraceable, match=r"wp\.svd3"):
        Vocabulary(Graph(), F64).wp.svd3(Mat())


def test_values_are_vectors_and_matrices() -> None:
    graph = Graph()
    v = Vec(*inputs(graph, "v", 3))
    assert flat((v, Mat())) == [*v.entries, *[0.0] * 9]
    grown = Vec()
    grown[2] = v[0]
    assert (grown + v)[2] is v[0] + v[2]


def loop_two(a: wp.array(dtype=real), b: wp.array(dtype=real), g: wp.array(dtype=real), out: wp.array(dtype=real), count: int):  # fmt: skip  # noqa: E501
    """Written in C++."""


def all_of(a: wp.array(dtype=real), b: wp.array(dtype=real), g: wp.array(dtype=real), out: wp.array(dtype=real), count: int):  # fmt: skip  # noqa: E501
    """Everything in one call."""
    loop(a, b, g, out, count)


def evaluate(graph: Graph, outs: list[Node], p: Precision, **given: np.ndarray) -> np.ndarray:
    """Numbers of a graph, (outs, n)."""
    kind = np.float32 if p is F32 else np.float64
    n = len(given["a"])
    sources = [Given(name, f"{name}.data", 1, "1") for name in ("a", "b", "g")]
    text = Writer(graph, p, sources, {}).text([Taken("out.data", str(len(outs)), list(outs))], [], [])
    key = f"{abs(hash(text)):x}_{p.name}"
    native = wp.func_native(text)(rebind(loop_two, p.names(), f"_{key}"))
    made = kernel(all_of, p, module=f"wide_test_{key}", differentiable=False, loop=native)
    zeros = np.zeros(n, dtype=kind)
    arrays = [wp.array(given.get(name, zeros).astype(kind), dtype=p.real, device="cpu") for name in ("a", "b", "g")]
    out = wp.zeros(n * len(outs), dtype=p.real, device="cpu")
    wp.launch(made, 1, inputs=[*arrays, out, n], device="cpu")
    return out.numpy().reshape(n, len(outs)).T


FUNCTIONS = ("exp", "log", "sqrt", "sin", "cos", "tanh", "abs")


@pytest.mark.parametrize("p", [F32, F64], ids=["f32", "f64"])
def test_mathematics_in_units_of_the_last_place(p: Precision) -> None:
    kind, better = (np.float32, np.float64) if p is F32 else (np.float64, np.longdouble)
    if np.finfo(better).nmant <= np.finfo(kind).nmant + 5:
        pytest.skip("no wider type to compare with on this machine")
    limits, rng = np.finfo(kind), np.random.default_rng(0)
    sizes = np.exp(rng.uniform(np.log(limits.smallest_subnormal), np.log(limits.max) * 0.999, 4000))
    wide = [rng.normal(size=2000) * s for s in (1e-3, 1.0, 10.0, 80.0 if p is F32 else 700.0)]
    near = [1.0 + np.linspace(-0.5, 0.5, 4001), limits.smallest_subnormal * np.arange(1.0, 50.0)]
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, -1.0, limits.max, -limits.max, limits.tiny, 1e6, -3e7]
    x = np.concatenate([*wide, sizes, -sizes[:500], *near, special]).astype(kind)
    graph = Graph()
    a = graph.leaf("a", 0)
    found = evaluate(graph, [graph.op(f, a) for f in FUNCTIONS], p, a=x)
    for name, mine in zip(FUNCTIONS, found, strict=True):
        with np.errstate(all="ignore"):
            exact = getattr(np, name)(x.astype(better))
            rounded = exact.astype(kind)
            finite = np.isfinite(rounded) & np.isfinite(mine)
            assert np.array_equal(mine[~finite], rounded[~finite], equal_nan=True), name
            error = np.abs(mine.astype(better) - exact)[finite] / np.spacing(np.abs(rounded[finite]))
        worst = int(error.argmax())
        assert error[worst] < 2.5, f"{name}({x[finite][worst]!r}) is off by {float(error[worst]):.1f}"


@pytest.mark.parametrize("p", [F32, F64], ids=["f32", "f64"])
def test_powers_and_extremes(p: Precision) -> None:
    kind, better = (np.float32, np.float64) if p is F32 else (np.float64, np.longdouble)
    rng, limits = np.random.default_rng(1), np.finfo(kind)
    bases = [np.exp(rng.normal(size=4000)), np.exp(rng.uniform(-80, 80, 4000)), 1 + 1e-3 * rng.normal(size=2000)]
    exponents = [3 * rng.normal(size=4000), rng.normal(size=4000), 1e4 * rng.normal(size=2000)]
    bases.append(-np.exp(rng.normal(size=500)))
    exponents.append(np.round(5 * rng.normal(size=500)))
    ends = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -1, 1, 2, -2, 0.5, -0.5, 3, -3, limits.max, limits.tiny])
    grid = [m.ravel() for m in np.meshgrid(ends, ends)]
    a, b = (np.concatenate([*v, g]).astype(kind) for v, g in ((bases, grid[0]), (exponents, grid[1])))
    graph = Graph()
    x, y = graph.leaf("a", 0), graph.leaf("b", 0)
    power, high, low = evaluate(graph, [graph.op(f, x, y) for f in ("pow", "max", "min")], p, a=a, b=b)
    with np.errstate(all="ignore"):
        exact = np.power(a.astype(better), b.astype(better))
        rounded = exact.astype(kind)
        finite = np.isfinite(rounded) & np.isfinite(power)
        assert np.array_equal(power[~finite], rounded[~finite], equal_nan=True)
        error = np.abs(power.astype(better) - exact)[finite] / np.spacing(np.abs(rounded[finite]))
        assert error.max() < 2.5
        zeros = finite & (rounded == 0)
        assert np.array_equal(np.signbit(power[zeros]), np.signbit(rounded[zeros]))
        # As in C, what is not NaN wins.
        assert np.array_equal(high, np.fmax(a, b), equal_nan=True)
        assert np.array_equal(low, np.fmin(a, b), equal_nan=True)


def test_matrices_go_through_nine_vectors() -> None:
    for p in (F32, F64):
        graph = Graph()
        M = Mat(*inputs(graph, "M", 9))
        text = Writer(graph, p, [Given("M", "(const number*)M.data", 9, "9")], {}).text(
            [Taken("(number*)out.data", "9", flat(M.T))], [], []
        )

        def turn(M: wp.array(dtype=mat33), out: wp.array(dtype=mat33), count: int):
            """Written in C++."""

        def turn_all(M: wp.array(dtype=mat33), out: wp.array(dtype=mat33), count: int):
            loop(M, out, count)

        native = wp.func_native(text)(rebind(turn, p.names(), f"_{p.name}"))
        made = kernel(turn_all, p, module="wide_test_turn", differentiable=False, loop=native)
        for n in (1, 7, 8, 15, 16, 17, 40):
            values = np.arange(9.0 * n).reshape(n, 3, 3)
            out = wp.zeros(n + 1, dtype=p.mat33, device="cpu")
            wp.launch(made, 1, inputs=[wp.array(values, dtype=p.mat33, device="cpu"), out, n], device="cpu")
            assert np.array_equal(out.numpy()[:n], values.swapaxes(1, 2))
            assert not out.numpy()[n:].any()
