"""The largest stable substep, from the stiffest and the most damped motion the grid can make."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import warp as wp
from torch import Tensor

from physim.bridge import to_warp
from physim.solvers.solid.boundary import Conditions
from physim.solvers.solid.program import Substep, Workspace

# Lanczos vectors: the largest eigenvalue is then within a few per cent, and its residual bounds the rest.
_VECTORS = 40


def stable_limit(stiffness: float, damping: float) -> float:
    """Largest stable dt [s] of w += dt a(u, w), u += dt w.

    With the largest eigenvalues omega^2 [1/s^2] of M^-1 K and c [1/s] of M^-1 C, both roots of
    z^2 - (2 - omega^2 dt^2 - c dt) z + 1 - c dt stay in the unit disc while omega^2 dt^2 + 2 c dt <= 4.
    """
    if stiffness <= 0:
        return 2.0 / damping if damping > 0 else math.inf
    return (math.sqrt(damping**2 + 4.0 * stiffness) - damping) / stiffness


def largest_eigenvalue(apply: Callable[[np.ndarray], np.ndarray], size: int) -> float:
    """Upper estimate of the largest eigenvalue of a symmetric map on `size` numbers, by Lanczos."""
    rng = np.random.default_rng(0)
    q = rng.standard_normal(size)
    basis = [q / np.linalg.norm(q)]
    diagonal, off = [], []
    for _ in range(min(_VECTORS, size)):
        r = apply(basis[-1])
        diagonal.append(float(r @ basis[-1]))
        for _ in range(2):  # twice is enough to keep the basis orthogonal
            r = r - np.stack(basis, 1) @ (np.stack(basis) @ r)
        off.append(float(np.linalg.norm(r)))
        if off[-1] <= 1e-12 * max(map(abs, diagonal)):
            break
        basis.append(r / off[-1])
    T = np.diag(diagonal) + np.diag(off[: len(diagonal) - 1], 1) + np.diag(off[: len(diagonal) - 1], -1)
    values, vectors = np.linalg.eigh(T)
    return float(values[-1] + off[-1] * abs(vectors[-1, -1]))


class Linearisation:
    """K = -d(force)/du and C = -d(force)/dw at one state, applied through the adjoints of the substep's stages.

    Both are symmetric where the law has an energy, so the transposed maps that the adjoints give are the maps.
    """

    def __init__(
        self, work: Workspace, conditions: Conditions, mass: np.ndarray, state: dict[str, Tensor],
        inputs: dict[str, Tensor],
    ) -> None:
        self._work, self._conditions = work, conditions
        inverse = conditions.lumped(mass)
        self._root = np.sqrt(inverse) * (conditions.leader == np.arange(work.nodes))[:, None]
        self._program = Substep(work, 0.0, 0.0)
        self._inputs = {n: to_warp(t, self._program.input_types[n]) for n, t in inputs.items()}

        def arrays(fill: Callable[[Tensor], Tensor]) -> tuple[dict[str, Tensor], dict[str, wp.array]]:
            tensors = {n: fill(t) for n, t in state.items()}
            return tensors, {n: to_warp(t, self._program.state_types[n]) for n, t in tensors.items()}

        self._tensors, self._state = arrays(lambda t: t.detach().contiguous().clone())
        _, self._out = arrays(lambda t: t.detach().contiguous().clone())
        self._adj_tensors, self._adj_state = arrays(torch.zeros_like)
        self._out_tensors, self._adj_out = arrays(torch.zeros_like)
        self._program.begin(self._inputs)
        self._program.linearise(self._state, self._out)

    def apply(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """M^-1/2 K M^-1/2 x and M^-1/2 C M^-1/2 x on the free motion, (m * 3,)."""
        leader, sign = self._conditions.leader, self._conditions.sign
        free = self._root * x.reshape(-1, 3)
        gamma = sign * free[leader]
        for tensors in (self._adj_tensors, self._out_tensors):
            for t in tensors.values():
                t.zero_()
        like = self._adj_tensors["u"]
        self._program.force_adjoint(
            torch.as_tensor(gamma).to(like).contiguous(), self._state, self._out, self._adj_state, self._adj_out
        )
        out = []
        for name in ("u", "w"):
            back = self._adj_tensors[name].cpu().double().numpy()
            folded = np.zeros_like(back)
            np.add.at(folded, leader, sign * back)
            out.append(-(self._root * folded).reshape(-1))
        return out[0], out[1]

    def limit(self) -> float:
        """Largest stable substep [s]."""
        size = 3 * self._work.nodes
        stiffness = largest_eigenvalue(lambda x: self.apply(x)[0], size)
        damping = largest_eigenvalue(lambda x: self.apply(x)[1], size) if self._work.rate else 0.0
        return stable_limit(stiffness, max(damping, 0.0))
