"""The straightforward Warp program: one kernel per stage, atomics, a dense grid, `wp.svd3`, one `wp.Tape`.

This is the baseline that the engine is measured against; it is kept as simple as a first working version would be.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import warp as wp

from tools.bench.case import DT, DX, GRAVITY, NODES, Case, Outcome, outcome


@cache
def kernels() -> dict[str, wp.Kernel]:
    """Stress, p2g, grid update, g2p and loss, built at first use."""
    module = wp.get_module("physim_bench_plain")

    @wp.func
    def weights(u: wp.vec3):
        a = wp.vec3(1.5) - u
        b = u - wp.vec3(1.0)
        c = u - wp.vec3(0.5)
        return wp.matrix_from_cols(0.5 * wp.cw_mul(a, a), wp.vec3(0.75) - wp.cw_mul(b, b), 0.5 * wp.cw_mul(c, c))

    def stress(F: wp.array(dtype=wp.mat33), moduli: wp.array(dtype=float), tau: wp.array(dtype=wp.mat33)):
        p = wp.tid()
        J = wp.determinant(F[p])
        found = moduli[1] * J * (J - 1.0) * wp.identity(n=3, dtype=float)
        if moduli[0] != 0.0:
            U, _sigma, V = wp.svd3(F[p])
            found += 2.0 * moduli[0] * (F[p] - U @ wp.transpose(V)) @ wp.transpose(F[p])
        tau[p] = found

    def p2g(
        x: wp.array(dtype=wp.vec3),
        v: wp.array(dtype=wp.vec3),
        C: wp.array(dtype=wp.mat33),
        tau: wp.array(dtype=wp.mat33),
        mass: float,
        vol0: float,
        dx: float,
        dt: float,
        momentum: wp.array3d(dtype=wp.vec3),
        weight: wp.array3d(dtype=float),
    ):
        p = wp.tid()
        s = x[p] / dx
        i = int(s[0] - 0.5)
        j = int(s[1] - 0.5)
        k = int(s[2] - 0.5)
        u = s - wp.vec3(float(i), float(j), float(k))
        w = weights(u)
        A = mass * C[p] - (4.0 * dt * vol0 / (dx * dx)) * tau[p]
        for a in range(3):
            for b in range(3):
                for c in range(3):
                    d = (wp.vec3(float(a), float(b), float(c)) - u) * dx
                    share = w[0, a] * w[1, b] * w[2, c]
                    wp.atomic_add(momentum, i + a, j + b, k + c, share * (mass * v[p] + A @ d))
                    wp.atomic_add(weight, i + a, j + b, k + c, share * mass)

    def grid_update(
        momentum: wp.array3d(dtype=wp.vec3),
        weight: wp.array3d(dtype=float),
        gravity: wp.vec3,
        dt: float,
        velocity: wp.array3d(dtype=wp.vec3),
    ):
        i, j, k = wp.tid()
        m = weight[i, j, k]
        if m > 0.0:
            velocity[i, j, k] = momentum[i, j, k] / m + dt * gravity

    def g2p(
        x: wp.array(dtype=wp.vec3),
        F: wp.array(dtype=wp.mat33),
        velocity: wp.array3d(dtype=wp.vec3),
        dx: float,
        dt: float,
        water: int,
        x_out: wp.array(dtype=wp.vec3),
        v_out: wp.array(dtype=wp.vec3),
        C_out: wp.array(dtype=wp.mat33),
        F_out: wp.array(dtype=wp.mat33),
    ):
        p = wp.tid()
        s = x[p] / dx
        i = int(s[0] - 0.5)
        j = int(s[1] - 0.5)
        k = int(s[2] - 0.5)
        u = s - wp.vec3(float(i), float(j), float(k))
        w = weights(u)
        vel = wp.vec3(0.0)
        C = wp.mat33(0.0)
        for a in range(3):
            for b in range(3):
                for c in range(3):
                    d = (wp.vec3(float(a), float(b), float(c)) - u) * dx
                    g = (w[0, a] * w[1, b] * w[2, c]) * velocity[i + a, j + b, k + c]
                    vel += g
                    C += wp.outer(g, (4.0 / (dx * dx)) * d)
        x_out[p] = x[p] + dt * vel
        v_out[p] = vel
        C_out[p] = C
        F_new = F[p] + dt * C @ F[p]
        if water != 0:
            F_new = wp.pow(wp.determinant(F_new), 1.0 / 3.0) * wp.identity(n=3, dtype=float)
        F_out[p] = F_new

    def loss(x: wp.array(dtype=wp.vec3), weights: wp.array(dtype=wp.vec3), total: wp.array(dtype=float)):
        p = wp.tid()
        wp.atomic_add(total, 0, wp.dot(weights[p], x[p]))

    return {f.__name__: wp.kernel(f, module=module) for f in (stress, p2g, grid_update, g2p, loss)}


def particle_fields(n: int, *, grad: bool) -> dict[str, wp.array]:
    """x, v, C, F of one time, and the stress."""
    types = {"x": wp.vec3, "v": wp.vec3, "C": wp.mat33, "F": wp.mat33, "tau": wp.mat33}
    return {k: wp.zeros(n, dtype=t, device="cpu", requires_grad=grad) for k, t in types.items()}


def grid_fields(*, grad: bool) -> dict[str, wp.array]:
    """Momentum, mass and velocity of the nodes."""
    types = {"momentum": wp.vec3, "weight": float, "velocity": wp.vec3}
    return {k: wp.zeros((NODES,) * 3, dtype=t, device="cpu", requires_grad=grad) for k, t in types.items()}


def transfer(case: Case, now: dict[str, Any], grid: dict[str, Any], then: dict[str, Any], *, water: bool) -> None:
    """P2G of the stress in `now`, grid update and G2P to `then`."""
    made, n = kernels(), case.count
    of = [now[k] for k in ("x", "v", "C", "tau")]
    nodes = [grid["momentum"], grid["weight"]]
    wp.launch(made["p2g"], n, [*of, case.mass, case.vol0, DX, DT], nodes, device="cpu")
    wp.launch(made["grid_update"], (NODES,) * 3, [*nodes, wp.vec3(*GRAVITY), DT], [grid["velocity"]], device="cpu")
    out = [then[k] for k in ("x", "v", "C", "F")]
    wp.launch(made["g2p"], n, [now["x"], now["F"], grid["velocity"], DX, DT, int(water)], out, device="cpu")


class Run:
    """Arrays are allocated once and zeroed before each use."""

    def __init__(self, case: Case) -> None:
        self._case, self._moduli = case, wp.array(case.moduli, dtype=float, device="cpu", requires_grad=True)
        self._weights = wp.array(case.weights.astype(np.float32), dtype=wp.vec3, device="cpu")
        self._start = {k: getattr(case, k + "0").astype(np.float32) for k in "xvF"}
        self._kept: dict[bool, tuple[list, list]] = {False: ([], []), True: ([], [])}

    def _ready(self, states: int, grids: int, *, grad: bool) -> tuple[list, list]:
        kept = self._kept[grad]
        kept[0].extend(particle_fields(self._case.count, grad=grad) for _ in range(states - len(kept[0])))
        kept[1].extend(grid_fields(grad=grad) for _ in range(grids - len(kept[1])))
        for name, values in self._start.items():
            kept[0][0][name].assign(values)
        kept[0][0]["C"].zero_()
        return kept

    def _substep(self, now: dict, grid: dict, then: dict) -> None:
        wp.launch(kernels()["stress"], self._case.count, [now["F"], self._moduli], [now["tau"]], device="cpu")
        transfer(self._case, now, grid, then, water=self._case.water)

    def forward(self, substeps: int) -> Outcome:
        """See `Runner`."""
        states, grids = self._ready(2, 1, grad=False)
        for k in range(substeps):
            for field in grids[0].values():
                field.zero_()
            self._substep(states[k % 2], grids[0], states[1 - k % 2])
        return outcome(self._case, states[substeps % 2]["x"].numpy())

    def gradient(self, substeps: int) -> Outcome:
        """See `Runner`."""
        states, grids = self._ready(substeps + 1, substeps, grad=True)
        for fields in (*states[: substeps + 1], *grids[:substeps]):
            for field in fields.values():
                field.grad.zero_()
        self._moduli.grad.zero_()
        total = wp.zeros(1, dtype=float, device="cpu", requires_grad=True)
        with wp.Tape() as tape:
            for k in range(substeps):
                for field in grids[k].values():
                    field.zero_()
                self._substep(states[k], grids[k], states[k + 1])
            wp.launch(
                kernels()["loss"], self._case.count, [states[substeps]["x"], self._weights], [total], device="cpu"
            )
        tape.backward(total)
        by = float(self._moduli.grad.numpy() @ np.array(self._case.moduli_per_modulus))
        return outcome(self._case, states[substeps]["x"].numpy(), states[0]["v"].grad.numpy(), by)


class WarpTape:
    """See the module."""

    name, threaded, largest, deepest = "warp_tape", False, 600_000, (280, 15_000_000)
    note = "Warp launches CPU kernels in one thread; wp.svd3's adjoint is wrong at F = I, where jelly starts"

    def missing(self) -> str:
        """See `Program`."""
        return ""

    def open(self, case: Case, threads: int) -> Run:
        """See `Program`."""
        return Run(case)
