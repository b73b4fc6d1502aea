"""The loops over a stencil against sums over all nodes, written from the definition of the quadratic B-spline."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import warp as wp

import physim.laws.material  # noqa: F401 - registers the laws
from physim.laws.compose import Composition
from physim.laws.core import LAWS
from physim.numeric import F32, F64, Precision, kernel, mat33, real, vec3, vec4
from physim.sim.model import Grid
from physim.solvers.mpm.launches import law_kernels, transfer_kernels
from physim.solvers.mpm.layout import Layout
from physim.solvers.mpm.native import stencil_functions

DX = 0.125
scatter = gather = pull = rise = None


def scatter_all(
    x: wp.array(dtype=vec3),
    q: wp.array(dtype=vec3),
    K: wp.array(dtype=mat33),
    m: wp.array(dtype=real),
    origin: vec3,
    per_dx: real,
    columns: wp.array(dtype=wp.int32),
    width: int,
    place: int,
    grid: wp.array(dtype=vec4),
):
    p = wp.tid()
    scatter(x[p], q[p], K[p], m[p], origin, per_dx, columns, width, place, grid)


def gather_all(
    x: wp.array(dtype=vec3),
    origin: vec3,
    per_dx: real,
    columns: wp.array(dtype=wp.int32),
    width: int,
    place: int,
    grid: wp.array(dtype=vec4),
    out: wp.array2d(dtype=vec3),
):
    p = wp.tid()
    found = gather(x[p], origin, per_dx, columns, width, place, grid)
    for i in range(4):
        out[p, i] = found[i]


def pull_all(
    x: wp.array(dtype=vec3),
    q: wp.array(dtype=vec3),
    K: wp.array(dtype=mat33),
    m: wp.array(dtype=real),
    origin: vec3,
    per_dx: real,
    columns: wp.array(dtype=wp.int32),
    width: int,
    place: int,
    grid: wp.array(dtype=vec4),
    out: wp.array2d(dtype=vec3),
):
    p = wp.tid()
    found = pull(x[p], q[p], K[p], m[p], origin, per_dx, columns, width, place, grid)
    for i in range(5):
        out[p, i] = found[i]
    out[p, 5] = rise(x[p], q[p], K[p], m[p], origin, per_dx, columns, width, place, grid)


def spline(s: np.ndarray) -> np.ndarray:
    """The quadratic B-spline at a distance of `s` cells."""
    s = np.abs(s)
    return np.where(s < 0.5, 0.75 - s**2, np.where(s < 1.5, 0.5 * (1.5 - s) ** 2, 0.0))


def weights(x: np.ndarray, nodes: np.ndarray, dim: int) -> np.ndarray:
    """w of each particle at each node, (n, m)."""
    return spline((x[:, None, :dim] - nodes[None, :, :dim]) / DX).prod(axis=-1)


@dataclass
class Case:
    """Particles, a layout of them, and the nodes of the whole grid with their places in memory (-1: none)."""

    precision: Precision
    dim: int
    layout: Layout
    nodes: np.ndarray
    place: np.ndarray
    x: np.ndarray
    q: np.ndarray
    K: np.ndarray
    m: np.ndarray
    g: np.ndarray
    origin: tuple[float, ...]

    @property
    def tolerance(self) -> float:
        """Of sums of numbers of about one."""
        return 3e-5 if self.precision is F32 else 1e-13

    def run(self, source: Any, out: Any, **values: np.ndarray) -> None:
        """Launch over the particles."""
        p = self.precision
        made = kernel(source, p, module=f"test_native_{self.dim}d", differentiable=False,
                      **stencil_functions(p, self.dim))  # fmt: skip
        types = {"x": p.vec3, "q": p.vec3, "K": p.mat33, "m": p.real, "grid": p.vec4}
        given: dict[str, Any] = {n: wp.array(v, dtype=types[n], device="cpu") for n, v in values.items()}
        given |= {"origin": p.vec3(*self.origin), "per_dx": p.real(1 / DX), "out": out}
        given |= {n: self.layout.arrays()[n] for n in ("columns", "width", "place")}
        if "grid" not in given:
            given["grid"] = out
        wp.launch(made, len(self.x), [given[a.label] for a in made.adj.args], device="cpu")

    def dense(self, memory: np.ndarray) -> np.ndarray:
        """A nodal field over the whole grid, (m, 4)."""
        return np.where(self.place[:, None] >= 0, memory[np.maximum(self.place, 0)], 0.0)


def case(precision: Precision, dim: int) -> Case:
    draw = np.random.default_rng(5)
    shape = (9, 8, 7 if dim == 3 else 1)
    origin = (-0.4, 0.3, 0.2 if dim == 3 else 0.0)
    s = draw.uniform(0.6, np.array(shape) - 1.6, (40, 3)) if dim == 3 else draw.uniform(0.6, 6.3, (40, 3))
    # On nodes, midway between them, and next to where the stencil changes.
    s[:12] = np.round(2 * s[:12]) / 2 + np.repeat([0.0, 1e-6, -1e-6], 4)[:, None]
    s = np.clip(s, 0.5, np.array(shape) - 1.501) if dim == 3 else s
    x = np.array(origin) + DX * s
    if dim == 2:
        x[:, 2] = 0.0
    x = torch.from_numpy(x).to(precision.torch)
    grid = Grid(origin, DX, shape)
    layout = Layout(x, None, [(0, 25), (25, 40)], grid)
    x = x[layout.change].double().numpy()
    steps = np.array(list(itertools.product(*(range(-1, n + 1) if n > 1 else [0] for n in shape))))
    a, b, r = (0, 1, 2) if dim == 3 else (0, 2, 1)
    column = (steps[:, a] + layout.low_a) * layout.width + steps[:, b] + layout.low_b
    low, high, first = (getattr(layout, n).numpy()[column] for n in ("column_low", "column_high", "columns"))
    place = np.where((steps[:, r] >= low) & (steps[:, r] < high), first + steps[:, r], -1)
    numbers = [draw.normal(size=size) for size in ((40, 3), (40, 3, 3), (40,), (layout.nodes + 4, 4))]
    if precision is F32:
        numbers = [v.astype(np.float32).astype(float) for v in numbers]
    q, K, m, g = numbers
    nodes = np.array(origin) + DX * steps
    return Case(precision, dim, layout, nodes, place, x, q, K, m, g, origin)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "made" in metafunc.fixturenames:
        kinds = [(p, d) for p in (F32, F64) for d in (2, 3)]
        metafunc.parametrize("made", kinds, ids=[f"{p.name}-{d}d" for p, d in kinds], indirect=True)


@pytest.fixture
def made(request: pytest.FixtureRequest) -> Case:
    return case(*request.param)


def moments(made: Case) -> np.ndarray:
    """Sums of w g and w g d_e, (n, 4, 3), from the definition."""
    w, g = weights(made.x, made.nodes, made.dim), made.dense(made.g)[:, :3]
    d = made.nodes[None] - made.x[:, None]
    return np.concatenate([(w @ g)[:, None], np.einsum("pi,ic,pie->pec", w, g, d)], axis=1)


def test_scatter(made: Case) -> None:
    p = made.precision
    out = wp.zeros(made.layout.nodes + 4, dtype=p.vec4, device="cpu")
    made.run(scatter_all, out, x=made.x, q=made.q, K=made.K, m=made.m)
    w = weights(made.x, made.nodes, made.dim)
    d = made.nodes[None] - made.x[:, None]
    parts = w[..., None] * (made.q[:, None] + np.einsum("pce,pie->pic", made.K, d))
    wanted = np.concatenate([parts.sum(0), (w * made.m[:, None]).sum(0)[:, None]], axis=1)
    found = out.numpy().astype(float)
    assert np.abs(made.dense(found) - wanted).max() < made.tolerance
    assert np.abs(wanted).max() > 0.5
    # The spare fourth node of a row, and what no particle is near, stay as they were.
    touched = np.zeros(len(found), bool)
    near = (w > 0).any(0)
    assert (made.place[near] >= 0).all()
    touched[made.place[near]] = True
    assert np.abs(found[~touched]).max() < made.tolerance


def test_gather(made: Case) -> None:
    out = wp.zeros((len(made.x), 4), dtype=made.precision.vec3, device="cpu")
    made.run(gather_all, out, x=made.x, grid=made.g)
    found, wanted = out.numpy().astype(float), moments(made)
    assert np.abs(found[:, 0] - wanted[:, 0]).max() < made.tolerance
    assert np.abs(found[:, 1:] - wanted[:, 1:]).max() < DX * made.tolerance
    assert np.abs(wanted[:, 1 : made.dim + 1]).max() > 0.1 * DX


def test_pull(made: Case) -> None:
    out = wp.zeros((len(made.x), 6), dtype=made.precision.vec3, device="cpu")
    made.run(pull_all, out, x=made.x, q=made.q, K=made.K, m=made.m, grid=made.g)
    found, wanted = out.numpy().astype(float), moments(made)
    assert np.abs(found[:, 0] - wanted[:, 0]).max() < made.tolerance
    assert np.abs(found[:, 1:4] - wanted[:, 1:]).max() < DX * made.tolerance

    g = made.dense(made.g)
    d = made.nodes[None] - made.x[:, None]
    at_nodes = np.einsum("ic,pic->pi", g[:, :3], made.q[:, None] + np.einsum("pce,pie->pic", made.K, d))
    at_nodes += g[None, :, 3] * made.m[:, None]
    slopes = np.zeros_like(made.x)
    for axis in range(made.dim):
        step = np.zeros(3)
        step[axis] = 1e-5 * DX
        change = weights(made.x + step, made.nodes, made.dim) - weights(made.x - step, made.nodes, made.dim)
        slopes[:, axis] = (change * at_nodes).sum(1) / (2 * step[axis])
    # The weights are piecewise quadratic: central differences are exact but for a jump of curvature within a step.
    bar = 1e-3 if made.precision is F32 else 1e-8
    smooth = np.abs((made.x - np.array(made.origin)) / DX % 1.0 - 0.5)[:, : made.dim].min(axis=1) > 1e-4
    assert smooth.sum() >= 25
    error = np.abs(found[:, 4] - slopes)
    size = np.abs(slopes).max()
    assert error[smooth].max() < bar * size
    assert error.max() < 1e-3 * size
    assert np.abs(found[:, 5] - found[:, 4]).max() < made.tolerance * size
    if made.dim == 2:
        assert not found[:, 4, 2].any()


@pytest.mark.parametrize(("dim", "precision"), [(3, F32), (2, F64)])
def test_transfers_compile_for_a_gpu(dim: int, precision: Precision, tmp_path: Path) -> None:
    wp.init()
    try:
        # The compiler comes with Warp and needs no driver.
        if not wp._src.context.runtime.is_cuda_enabled:
            pytest.skip("this Warp was built without CUDA: its compiler is absent")
    except AttributeError:
        pytest.skip("this Warp does not tell whether its CUDA compiler is there")
    made = transfer_kernels(precision, dim, (0,), images=3, blend=True, several=True)
    modules = {k.module.name: k.module for n, k in made.items() if "g2p" in n or "p2g" in n or n == "merge"}
    assert modules
    for name, module in modules.items():
        folder = tmp_path / name
        wp.compile_aot_module(module, arch=80, module_dir=folder, use_ptx=True)
        text = "".join(f.read_text() for f in folder.glob("*.ptx"))
        assert ".visible .entry" in text
        # Warps add to nodes of other warps at the same time.
        assert "red." in text or "atom." in text


@pytest.mark.parametrize("names", [("fixed_corotated",), ("fluid_quadratic", "newtonian", "fluid")])
def test_laws_compile_for_a_gpu(names: tuple[str, ...], tmp_path: Path) -> None:
    wp.init()
    if not getattr(wp._src.context.runtime, "is_cuda_enabled", False):
        pytest.skip("this Warp was built without CUDA: its compiler is absent")
    laws: list[Any] = [LAWS[n] for n in names]
    made = law_kernels(Composition(*laws), F32, 1)
    wp.compile_aot_module(made["stress"].module, arch=80, module_dir=tmp_path, use_ptx=True)
    assert ".visible .entry" in "".join(f.read_text() for f in tmp_path.glob("*.ptx"))
