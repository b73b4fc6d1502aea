"""The hand-written bound `bound.cpp`, compiled by the system's compiler into a folder of its own."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from tools.bench.case import DENSITY, DT, DX, GRAVITY, Case, Outcome, outcome

SOURCE = Path(__file__).with_name("bound.cpp")
FLAGS = ("-O3", "-march=native", "-mprefer-vector-width=512", "-std=c++17", "-fno-math-errno", "-Wno-psabi")
LANES = 16


class Work(ctypes.Structure):
    """The struct of the same name in `bound.cpp`."""

    _fields_ = (
        ("blocks", ctypes.c_int),
        ("threads", ctypes.c_int),
        ("substeps", ctypes.c_int),
        ("water", ctypes.c_int),
        ("dx", ctypes.c_float),
        ("dt", ctypes.c_float),
        ("per_density", ctypes.c_float),
        ("gravity", ctypes.c_float * 3),
        ("mu", ctypes.c_float),
        ("lam", ctypes.c_float),
    )


def compiler() -> str | None:
    """Path of a C++ compiler."""
    return next((found for name in ("g++", "c++", "clang++") if (found := shutil.which(name))), None)


@cache
def library() -> ctypes.CDLL:
    """The compiled program; the compiler's own message where it fails."""
    cxx = compiler()
    assert cxx is not None
    folder = Path(tempfile.mkdtemp(prefix="physim_bench_"))
    target = folder / "bound.so"
    base = [cxx, str(SOURCE), "-shared", "-fPIC", "-pthread", "-o", str(target)]
    made = subprocess.run([*base, *FLAGS], capture_output=True, text=True)
    if made.returncode:
        # Compilers for other processors do not know every flag.
        plain = [f for f in FLAGS if not f.startswith("-m")]
        made = subprocess.run([*base, *plain], capture_output=True, text=True)
    if made.returncode:
        raise RuntimeError(f"{cxx} could not compile {SOURCE.name}:\n{made.stderr[-2000:]}")
    found = ctypes.CDLL(str(target))
    shutil.rmtree(folder)
    return found


def _blocks(columns: np.ndarray) -> np.ndarray:
    """Rows of numbers, (n, k), as blocks of 16 rows, (n / 16, k, 16), the last row repeated in the last block."""
    more = -len(columns) % LANES
    filled = np.concatenate([columns, np.repeat(columns[-1:], more, 0)]).astype(np.float32)
    return np.ascontiguousarray(filled.reshape(-1, LANES, columns.shape[1]).transpose(0, 2, 1))


def _aligned(values: np.ndarray) -> np.ndarray:
    """A copy that starts on a cache line."""
    raw = np.empty(values.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    found = raw[start : start + values.nbytes].view(np.float32).reshape(values.shape)
    found[...] = values
    return found


class Run:
    """The particles' start; sorted into blocks at each call, as part of the work."""

    def __init__(self, case: Case, threads: int) -> None:
        self._case, self._threads, self._library = case, threads, library()
        n = case.count
        shape = np.cbrt(np.linalg.det(case.F0))[:, None] ** 3 if case.water else case.F0.reshape(n, 9)
        self._start = np.concatenate([case.x0, case.v0, np.zeros((n, 9)), shape], 1).astype(np.float32)
        self._weights = case.weights.astype(np.float32)

    def _roll(self, substeps: int, *, grad: bool) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        case, n = self._case, self._case.count
        i, j, k = (self._start[:, :3] / np.float32(DX) - np.float32(0.5)).astype(np.int32).T
        order = np.argsort((i * 128 + j) * 128 + k, kind="stable")
        state = _aligned(_blocks(self._start[order]))
        blocks = len(state)
        mass = np.zeros(blocks * LANES, np.float32)
        mass[:n] = case.mass
        mass = _aligned(mass)
        grads, by = None, np.zeros(2, np.float32)
        if grad:
            seeds = np.zeros((blocks * LANES, state.shape[1]), np.float32)
            seeds[:n, :3] = self._weights[order]
            grads = _aligned(_blocks(seeds))
        mu, lam = case.moduli
        gravity = (ctypes.c_float * 3)(*GRAVITY)
        work = Work(blocks, self._threads, substeps, int(case.water), DX, DT, 1 / DENSITY, gravity, mu, lam)
        at = [a.ctypes.data_as(ctypes.c_void_p) if a is not None else None for a in (state, mass, grads, by)]
        if self._library.roll(ctypes.byref(work), *at):
            raise RuntimeError("the kept grids outgrew their memory: take fewer substeps")

        def rows(blocks_of: np.ndarray, first: int) -> np.ndarray:
            found = np.empty((n, 3), np.float32)
            found[order] = blocks_of[:, first : first + 3].transpose(0, 2, 1).reshape(-1, 3)[:n]
            return found

        return rows(state, 0), None if grads is None else rows(grads, 3), by

    def forward(self, substeps: int) -> Outcome:
        """See `Runner`."""
        return outcome(self._case, self._roll(substeps, grad=False)[0])

    def gradient(self, substeps: int) -> Outcome:
        """See `Runner`."""
        x, dv0, by = self._roll(substeps, grad=True)
        return outcome(self._case, x, dv0, float(by @ np.array(self._case.moduli_per_modulus)))


class Cpp:
    """See the module."""

    name, threaded, largest, deepest = "cpp", True, 10**9, (128, 0)
    note = "the bound; SIMD by vector types, hand-written adjoint"

    def missing(self) -> str:
        """See `Program`."""
        return "" if compiler() else "no C++ compiler"

    def open(self, case: Case, threads: int) -> Run:
        """See `Program`."""
        return Run(case, threads)
