"""The straightforward Taichi program: one kernel per stage, an array per quantity and substep, its own autodiff.

Taichi has one runtime per process, so that the case used last owns it; `ready` gives it back to this one. Its kernels'
annotations must be objects, so that this file does without postponed ones. Arrays, not fields: a field's shape is
compiled in, and compiling the derivatives takes minutes.
"""

import importlib.util
from typing import Any, ClassVar

import numpy as np

from tools.bench.case import DT, DX, GRAVITY, NODES, Case, Outcome, outcome


def stages(ti: Any, case: Case) -> dict[str, Any]:
    """The kernels: p2g, grid_update, g2p, and the loss."""
    water, mass, vol0, down = case.water, case.mass, case.vol0, GRAVITY[1]
    mu_per, lam_per = case.moduli_per_modulus
    vec3, mat33 = ti.types.vector(3, ti.f32), ti.types.matrix(3, 3, ti.f32)
    Numbers, Vectors = ti.types.ndarray(dtype=ti.f32, ndim=1), ti.types.ndarray(dtype=vec3, ndim=1)
    Matrices = ti.types.ndarray(dtype=mat33, ndim=1)
    NodeVectors, NodeNumbers = ti.types.ndarray(dtype=vec3, ndim=3), ti.types.ndarray(dtype=ti.f32, ndim=3)

    @ti.kernel
    def p2g(
        x: Vectors, v: Vectors, C: Matrices, F: Matrices, modulus: Numbers, momentum: NodeVectors, weight: NodeNumbers
    ):
        for p in x:
            base = ti.cast(x[p] / DX - 0.5, ti.i32)
            u = x[p] / DX - ti.cast(base, ti.f32)
            w = [0.5 * (1.5 - u) ** 2, 0.75 - (u - 1.0) ** 2, 0.5 * (u - 0.5) ** 2]
            J = F[p].determinant()
            tau = ti.Matrix.identity(ti.f32, 3) * (lam_per * modulus[0] * J * (J - 1.0))
            if ti.static(not water):
                # Its own polar_decompose has no derivative in three dimensions.
                R = F[p]
                for _step in ti.static(range(4)):
                    R = 0.5 * (R + R.inverse().transpose())
                tau += 2.0 * mu_per * modulus[0] * (F[p] - R) @ F[p].transpose()
            A = mass * C[p] - (4.0 * DT * vol0 / DX**2) * tau
            for a, b, c in ti.static(ti.ndrange(3, 3, 3)):
                d = (ti.Vector([a, b, c]) - u) * DX
                share = w[a][0] * w[b][1] * w[c][2]
                momentum[base + ti.Vector([a, b, c])] += share * (mass * v[p] + A @ d)
                weight[base + ti.Vector([a, b, c])] += share * mass

    @ti.kernel
    def grid_update(momentum: NodeVectors, weight: NodeNumbers, velocity: NodeVectors):
        for i, j, k in weight:
            m = weight[i, j, k]
            if m > 0.0:
                velocity[i, j, k] = momentum[i, j, k] / m + DT * ti.Vector([0.0, down, 0.0])

    @ti.kernel
    def g2p(
        x: Vectors, F: Matrices, velocity: NodeVectors, x_to: Vectors, v_to: Vectors, C_to: Matrices, F_to: Matrices
    ):
        for p in x:
            base = ti.cast(x[p] / DX - 0.5, ti.i32)
            u = x[p] / DX - ti.cast(base, ti.f32)
            w = [0.5 * (1.5 - u) ** 2, 0.75 - (u - 1.0) ** 2, 0.5 * (u - 0.5) ** 2]
            vel = ti.Vector.zero(ti.f32, 3)
            rate = ti.Matrix.zero(ti.f32, 3, 3)
            for a, b, c in ti.static(ti.ndrange(3, 3, 3)):
                d = (ti.Vector([a, b, c]) - u) * DX
                part = w[a][0] * w[b][1] * w[c][2] * velocity[base + ti.Vector([a, b, c])]
                vel += part
                rate += (4.0 / DX**2) * part.outer_product(d)
            x_to[p] = x[p] + DT * vel
            v_to[p] = vel
            C_to[p] = rate
            trial = F[p] + DT * rate @ F[p]
            if ti.static(water):
                F_to[p] = ti.pow(trial.determinant(), 1.0 / 3.0) * ti.Matrix.identity(ti.f32, 3)
            else:
                F_to[p] = trial

    @ti.kernel
    def total(x: Vectors, weights: Vectors, loss: Numbers):
        for p in x:
            loss[0] += weights[p].dot(x[p])

    return {k.__name__: k for k in (p2g, grid_update, g2p, total)}


class Run:
    """Arrays are allocated once, and zeroed before each use."""

    _owner: ClassVar["Run | None"] = None

    def __init__(self, case: Case, threads: int) -> None:
        self._case, self._threads = case, threads
        self._start = {k: np.ascontiguousarray(getattr(case, k + "0"), np.float32) for k in "xvF"}

    def ready(self) -> None:
        """Own the runtime."""
        if Run._owner is self:
            return
        import taichi as ti

        ti.init(
            arch=ti.cpu, cpu_max_num_threads=self._threads, default_fp=ti.f32, log_level=ti.ERROR, offline_cache=True
        )
        Run._owner, self._ti, self._do = self, ti, stages(ti, self._case)
        self._states: list[dict[str, Any]] = []
        self._grids: list[dict[str, Any]] = []
        self._weights = self._array("vector", self._case.count, grad=False)
        self._weights.from_numpy(self._case.weights.astype(np.float32))
        self._modulus, self._loss = (self._array("number", 1) for _ in range(2))
        self._modulus.fill(self._case.moduli[1] / self._case.moduli_per_modulus[1])

    def _array(self, kind: str, shape: Any, *, grad: bool = True) -> Any:
        ti = self._ti
        types = {"number": ti.f32, "vector": ti.types.vector(3, ti.f32), "matrix": ti.types.matrix(3, 3, ti.f32)}
        return ti.ndarray(types[kind], shape, needs_grad=grad)

    def _begin(self, states: int, grids: int) -> None:
        self.ready()
        kinds = {"x": "vector", "v": "vector", "C": "matrix", "F": "matrix"}
        nodal = {"momentum": "vector", "weight": "number", "velocity": "vector"}
        for _ in range(states - len(self._states)):
            self._states.append({k: self._array(t, self._case.count) for k, t in kinds.items()})
        for _ in range(grids - len(self._grids)):
            self._grids.append({k: self._array(t, (NODES,) * 3) for k, t in nodal.items()})
        for name, values in self._start.items():
            self._states[0][name].from_numpy(values)
        self._states[0]["C"].fill(0)

    def _calls(self, now: dict, grid: dict, then: dict) -> list[tuple[Any, list]]:
        """The kernels of a substep and what they take."""
        m, w, u = grid["momentum"], grid["weight"], grid["velocity"]
        return [
            (self._do["p2g"], [now["x"], now["v"], now["C"], now["F"], self._modulus, m, w]),
            (self._do["grid_update"], [m, w, u]),
            (self._do["g2p"], [now["x"], now["F"], u, *(then[k] for k in ("x", "v", "C", "F"))]),
        ]

    def _substep(self, now: dict, grid: dict, then: dict) -> None:
        for array in grid.values():
            array.fill(0)
        for kernel, given in self._calls(now, grid, then):
            kernel(*given)

    def forward(self, substeps: int) -> Outcome:
        """See `Runner`."""
        self._begin(2, 1)
        for k in range(substeps):
            self._substep(self._states[k % 2], self._grids[0], self._states[1 - k % 2])
        return outcome(self._case, self._states[substeps % 2]["x"].to_numpy())

    def gradient(self, substeps: int) -> Outcome:
        """See `Runner`."""
        self._begin(substeps + 1, substeps)
        states, grids = self._states, self._grids
        for arrays in (*states[: substeps + 1], *grids[:substeps]):
            for array in arrays.values():
                array.grad.fill(0)
        self._modulus.grad.fill(0)
        self._loss.fill(0)
        self._loss.grad.fill(1)
        for k in range(substeps):
            self._substep(states[k], grids[k], states[k + 1])
        given = [states[substeps]["x"], self._weights, self._loss]
        self._do["total"](*given)
        self._do["total"].grad(*given)
        for k in reversed(range(substeps)):
            for kernel, of in reversed(self._calls(states[k], grids[k], states[k + 1])):
                kernel.grad(*of)
        x, dv0 = states[substeps]["x"].to_numpy(), states[0]["v"].grad.to_numpy()
        return outcome(self._case, x, dv0, float(self._modulus.grad[0]))


class Taichi:
    """See the module."""

    name, threaded, largest, deepest = "taichi", True, 600_000, (200, 15_000_000)
    note = "cpu_max_num_threads; four Newton steps for the rotation; its autodiff, which compiles for minutes once"

    def missing(self) -> str:
        """See `Program`."""
        return "" if importlib.util.find_spec("taichi") else "not installed"

    def open(self, case: Case, threads: int) -> Run:
        """See `Program`."""
        return Run(case, threads)
