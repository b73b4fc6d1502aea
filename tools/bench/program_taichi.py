"""The straightforward Taichi program: fields with a time axis, one kernel per stage, its own autodiff.

Taichi has one runtime per process, so that the case used last owns it; `ready` gives it back to this one.
Its kernels' annotations must be objects, so that this file does without postponed ones.
"""

import importlib.util
from typing import Any, ClassVar

import numpy as np

from tools.bench.case import DT, DX, GRAVITY, NODES, Case, Outcome, outcome

FIELDS = {"x": 3, "v": 3, "C": 9, "F": 9}


def stages(ti: Any, case: Case, f: dict[str, Any]) -> dict[str, Any]:
    """The kernels on the fields `f`: p2g, grid_update and g2p from time `s` to `t` on the grid `g`, and the loss."""
    water, mass, vol0, n = case.water, case.mass, case.vol0, case.count
    mu_per, lam_per = case.moduli_per_modulus
    x, v, C, F, modulus, loss, weights = (f[k] for k in ("x", "v", "C", "F", "modulus", "loss", "weights"))
    momentum, weight, velocity = (f[k] for k in ("momentum", "weight", "velocity"))
    down = GRAVITY[1]

    @ti.kernel
    def p2g(s: ti.i32, g: ti.i32):
        for p in range(n):
            base = ti.cast(x[s, p] / DX - 0.5, ti.i32)
            u = x[s, p] / DX - ti.cast(base, ti.f32)
            w = [0.5 * (1.5 - u) ** 2, 0.75 - (u - 1.0) ** 2, 0.5 * (u - 0.5) ** 2]
            J = F[s, p].determinant()
            tau = ti.Matrix.identity(ti.f32, 3) * (lam_per * modulus[None] * J * (J - 1.0))
            if ti.static(not water):
                # Its own polar_decompose has no derivative in three dimensions.
                R = F[s, p]
                for _step in ti.static(range(4)):
                    R = 0.5 * (R + R.inverse().transpose())
                tau += 2.0 * mu_per * modulus[None] * (F[s, p] - R) @ F[s, p].transpose()
            A = mass * C[s, p] - (4.0 * DT * vol0 / DX**2) * tau
            for a, b, c in ti.static(ti.ndrange(3, 3, 3)):
                d = (ti.Vector([a, b, c]) - u) * DX
                share = w[a][0] * w[b][1] * w[c][2]
                node = base + ti.Vector([a, b, c])
                momentum[g, node] += share * (mass * v[s, p] + A @ d)
                weight[g, node] += share * mass

    @ti.kernel
    def grid_update(g: ti.i32):
        for i, j, k in ti.ndrange(NODES, NODES, NODES):
            m = weight[g, i, j, k]
            if m > 0.0:
                velocity[g, i, j, k] = momentum[g, i, j, k] / m + DT * ti.Vector([0.0, down, 0.0])

    @ti.kernel
    def g2p(s: ti.i32, t: ti.i32, g: ti.i32):
        for p in range(n):
            base = ti.cast(x[s, p] / DX - 0.5, ti.i32)
            u = x[s, p] / DX - ti.cast(base, ti.f32)
            w = [0.5 * (1.5 - u) ** 2, 0.75 - (u - 1.0) ** 2, 0.5 * (u - 0.5) ** 2]
            vel = ti.Vector.zero(ti.f32, 3)
            rate = ti.Matrix.zero(ti.f32, 3, 3)
            for a, b, c in ti.static(ti.ndrange(3, 3, 3)):
                d = (ti.Vector([a, b, c]) - u) * DX
                part = w[a][0] * w[b][1] * w[c][2] * velocity[g, base + ti.Vector([a, b, c])]
                vel += part
                rate += (4.0 / DX**2) * part.outer_product(d)
            x[t, p] = x[s, p] + DT * vel
            v[t, p] = vel
            C[t, p] = rate
            trial = F[s, p] + DT * rate @ F[s, p]
            if ti.static(water):
                F[t, p] = ti.pow(trial.determinant(), 1.0 / 3.0) * ti.Matrix.identity(ti.f32, 3)
            else:
                F[t, p] = trial

    @ti.kernel
    def total(s: ti.i32):
        for p in range(n):
            loss[None] += weights[p].dot(x[s, p])

    @ti.kernel
    def clear(g: ti.i32):
        for i, j, k in ti.ndrange(NODES, NODES, NODES):
            momentum[g, i, j, k] = ti.Vector.zero(ti.f32, 3)
            weight[g, i, j, k] = 0.0
            velocity[g, i, j, k] = ti.Vector.zero(ti.f32, 3)

    @ti.kernel
    def clear_cotangents(states: ti.i32, grids: ti.i32):
        for s, p in ti.ndrange(states, n):
            x.grad[s, p] = ti.Vector.zero(ti.f32, 3)
            v.grad[s, p] = ti.Vector.zero(ti.f32, 3)
            C.grad[s, p] = ti.Matrix.zero(ti.f32, 3, 3)
            F.grad[s, p] = ti.Matrix.zero(ti.f32, 3, 3)
        for g, i, j, k in ti.ndrange(grids, NODES, NODES, NODES):
            momentum.grad[g, i, j, k] = ti.Vector.zero(ti.f32, 3)
            weight.grad[g, i, j, k] = 0.0
            velocity.grad[g, i, j, k] = ti.Vector.zero(ti.f32, 3)

    @ti.kernel
    def start(xs: ti.types.ndarray(), vs: ti.types.ndarray(), Fs: ti.types.ndarray()):
        for p in range(n):
            C[0, p] = ti.Matrix.zero(ti.f32, 3, 3)
            for i in ti.static(range(3)):
                x[0, p][i] = xs[p, i]
                v[0, p][i] = vs[p, i]
                for j in ti.static(range(3)):
                    F[0, p][i, j] = Fs[p, i, j]

    @ti.kernel
    def read(s: ti.i32, xs: ti.types.ndarray(), cotangent: ti.template()):
        for p in range(n):
            for i in ti.static(range(3)):
                if ti.static(cotangent):
                    xs[p, i] = v.grad[s, p][i]
                else:
                    xs[p, i] = x[s, p][i]

    made = (p2g, grid_update, g2p, total, clear, clear_cotangents, start, read)
    return {k.__name__: k for k in made}


class Run:
    """Fields as deep in time as the longest gradient so far."""

    _owner: ClassVar["Run | None"] = None

    def __init__(self, case: Case, threads: int) -> None:
        self._case, self._threads, self._depth = case, threads, 0
        self._start = [np.ascontiguousarray(getattr(case, k + "0"), np.float32) for k in "xvF"]

    def ready(self, substeps: int = 1) -> None:
        """Own the runtime, with fields for this many substeps."""
        if Run._owner is self and substeps <= self._depth:
            return
        import taichi as ti

        ti.init(arch=ti.cpu, cpu_max_num_threads=self._threads, default_fp=ti.f32, log_level=ti.ERROR)
        Run._owner, self._depth = self, max(substeps, self._depth)
        n, deep = self._case.count, (self._depth, *(NODES,) * 3)
        f: dict[str, Any] = {}
        for name, size in FIELDS.items():
            shape = (self._depth + 1, n)
            f[name] = (
                ti.Vector.field(3, ti.f32, shape, needs_grad=True)
                if size == 3
                else ti.Matrix.field(3, 3, ti.f32, shape, needs_grad=True)
            )
        for name in ("momentum", "velocity"):
            f[name] = ti.Vector.field(3, ti.f32, deep, needs_grad=True)
        f["weight"] = ti.field(ti.f32, deep, needs_grad=True)
        f["weights"] = ti.Vector.field(3, ti.f32, n)
        f["weights"].from_numpy(self._case.weights.astype(np.float32))
        f["modulus"], f["loss"] = (ti.field(ti.f32, (), needs_grad=True) for _ in range(2))
        f["modulus"][None] = self._case.moduli[1] / self._case.moduli_per_modulus[1]
        self._fields, self._do = f, stages(ti, self._case, f)

    def _positions(self, s: int) -> np.ndarray:
        found = np.empty((self._case.count, 3), np.float32)
        self._do["read"](s, found, False)
        return found

    def forward(self, substeps: int) -> Outcome:
        """See `Runner`."""
        self.ready()
        do = self._do
        do["start"](*self._start)
        for k in range(substeps):
            do["clear"](0)
            do["p2g"](k % 2, 0)
            do["grid_update"](0)
            do["g2p"](k % 2, 1 - k % 2, 0)
        return outcome(self._case, self._positions(substeps % 2))

    def gradient(self, substeps: int) -> Outcome:
        """See `Runner`."""
        self.ready(substeps)
        do, f = self._do, self._fields
        do["start"](*self._start)
        do["clear_cotangents"](substeps + 1, substeps)
        f["modulus"].grad[None], f["loss"][None], f["loss"].grad[None] = 0.0, 0.0, 1.0
        for k in range(substeps):
            do["clear"](k)
            do["p2g"](k, k)
            do["grid_update"](k)
            do["g2p"](k, k + 1, k)
        do["total"](substeps)
        do["total"].grad(substeps)
        for k in reversed(range(substeps)):
            do["g2p"].grad(k, k + 1, k)
            do["grid_update"].grad(k)
            do["p2g"].grad(k, k)
        by_v = np.empty((self._case.count, 3), np.float32)
        do["read"](0, by_v, True)
        return outcome(self._case, self._positions(substeps), by_v, float(f["modulus"].grad[None]))


class Taichi:
    """See the module."""

    name, threaded, largest, deepest = "taichi", True, 600_000, (200, 15_000_000)
    note = "cpu_max_num_threads; polar rotation by four Newton steps, and its own autodiff"

    def missing(self) -> str:
        """See `Program`."""
        return "" if importlib.util.find_spec("taichi") else "not installed"

    def open(self, case: Case, threads: int) -> Run:
        """See `Program`."""
        return Run(case, threads)
