"""The largest stable substep, from the stiffest and the most damped motion the grid can make."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import warp as wp
from torch import Tensor

from physim.bridge import to_warp
from physim.laws.material import Material
from physim.laws.stability import wave_modulus
from physim.solvers.solid.boundary import Conditions
from physim.solvers.solid.launches import Workspace
from physim.solvers.solid.program import Substep

# Lanczos vectors: the largest eigenvalue is then within a few per cent, and its residual bounds the rest.
_VECTORS = 40
_REFINEMENTS = 3


# Fluctuations of the volume inside a cell are resisted with at most this many shear moduli. Splines of this degree
# do not lock up to about nu = 0.4 (lam = 4 mu); see `dilatation_share`.
_FLUCTUATION = 4.0


def dilatation_share(material: Material) -> float:
    """How much of the volume change inside a cell to replace by its mean, from its moduli at rest.

    A cell has one constraint of constant volume to spare, and eight particles that each ask for one: near nu = 0.5
    the plain scheme locks. Replacing all of it by the mean loses the linear part of the pressure (2 % of the
    bending stiffness with four cells); so only what exceeds a few shear moduli is replaced.
    """
    mu, bulk = material.elastic.moduli(material.theta().detach())
    lam = bulk - 2.0 / 3.0 * mu
    return max(0.0, 1.0 - _FLUCTUATION * float((mu / lam.clamp(min=0.0)).min()))


def relaxation_share(material: Material) -> float:
    """Stable dt of a relaxing material over that of its elastic law alone, at rest.

    `Linearisation` holds the history, so it does not see the springs of Maxwell branches, which answer at once.
    """
    if material.inelastic is None or material.inelastic.overstress is None:
        return 1.0
    theta = material.theta().detach()
    rest = torch.eye(3, dtype=torch.float64).expand(theta.shape[0], 3, 3)
    slow, fast = wave_modulus(material, rest, theta, relaxed=True), wave_modulus(material, rest, theta)
    return math.sqrt(float((slow / fast).min()))


def stable_limit(stiffness: float, damping: float) -> float:
    """Largest stable dt [s] of w += dt a(u, w), u += dt w.

    With omega^2 [1/s^2] of M^-1 K and c [1/s] of M^-1 C in one motion, both roots of
    z^2 - (2 - omega^2 dt^2 - c dt) z + 1 - c dt stay in the unit disc while omega^2 dt^2 + 2 c dt <= 4; the largest
    eigenvalues of the two give a lower bound.
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
        self,
        work: Workspace,
        conditions: Conditions,
        mass: np.ndarray,
        state: dict[str, Tensor],
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
        self._unused = {n: torch.zeros_like(t) for n, t in inputs.items()}
        self._adj_inputs = {n: to_warp(t, self._program.input_types[n]) for n, t in self._unused.items()}
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
            torch.as_tensor(gamma).to(like).contiguous(),
            self._state,
            self._out,
            self._adj_state,
            self._adj_out,
            self._adj_inputs,
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
        if not self._work.rate:
            return stable_limit(stiffness, 0.0)
        damping = largest_eigenvalue(lambda x: self.apply(x)[1], size)
        dt = stable_limit(stiffness, max(damping, 0.0))
        for _ in range(_REFINEMENTS if damping > 0 else 0):
            # The stiffest and the most damped motion differ: raise dt until they exhaust the bound together.
            both = largest_eigenvalue(lambda x, dt=dt: _weighted(self.apply(x), dt * dt, 2.0 * dt), size)
            dt *= max(1.0, math.sqrt(4.0 / both))
        return dt


def _weighted(pair: tuple[np.ndarray, np.ndarray], a: float, b: float) -> np.ndarray:
    return a * pair[0] + b * pair[1]
