"""The work every program does: a cube of jelly or water in free flight, and what is asked of its end.

3D MLS-MPM with quadratic B-splines and APIC, symplectic Euler, 64^3 nodes 1/64 m apart, eight particles per cell on a
lattice, gravity, no wall near. The loss is a weighted mean position: the plain one does not depend on stiffness in
free flight, so its gradient would show no error in the law.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

NODES = 64
DX = 1.0 / NODES
DT = 1e-4
GRAVITY = (0.0, -9.81, 0.0)
DENSITY = 1000.0
NU = 0.3
MODULUS = 1e5
"""Young's modulus of jelly, bulk modulus of water [Pa]."""
SCENES = ("jelly", "water")


@dataclass(frozen=True)
class Case:
    """A cube of `count` particles.

    Args:
        scene: "jelly": tau = 2 mu (F - R) F^T + lam J (J - 1) I; "water": the same with mu = 0 and lam the bulk
            modulus, and F = J^(1/3) I after each substep.
        count: particles; rounded to a cube.
        start: "moving": from F = I, with velocities that deform the cube; "strained": the same from a deformation away
            from F = I; "falling": from F = I with one velocity, so that F = I all the way.
    """

    scene: str
    count: int
    start: str = "moving"
    per_side: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "per_side", max(2, round(self.count ** (1 / 3))))
        object.__setattr__(self, "count", self.per_side**3)

    @property
    def water(self) -> bool:
        """Whether the material forgets its shape."""
        return self.scene == "water"

    @property
    def vol0(self) -> float:
        """Volume of a particle [m^3]."""
        return (DX / 2) ** 3

    @property
    def mass(self) -> float:
        """Mass of a particle [kg]."""
        return DENSITY * self.vol0

    @property
    def moduli_per_modulus(self) -> tuple[float, float]:
        """The derivatives of mu and lam by the modulus that gradients are taken of."""
        return (0.0, 1.0) if self.water else (0.5 / (1 + NU), NU / ((1 + NU) * (1 - 2 * NU)))

    @property
    def moduli(self) -> tuple[float, float]:
        """Lame constants mu and lam [Pa]."""
        a, b = self.moduli_per_modulus
        return a * MODULUS, b * MODULUS

    @cached_property
    def _from_centre(self) -> np.ndarray:
        line = (np.arange(self.per_side) + 0.5 - self.per_side / 2) * (DX / 2)
        return np.stack(np.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)

    @cached_property
    def x0(self) -> np.ndarray:
        """Initial positions [m], (n, 3)."""
        return 0.5 + self._from_centre

    @cached_property
    def v0(self) -> np.ndarray:
        """Initial velocities [m/s], (n, 3): a turn, a stretch, a throw upwards, and a little of everything else."""
        throw = np.array([0.0, 0.3, 0.0])
        if self.start == "falling":
            return np.tile(throw, (self.count, 1))
        rate = np.array([[1.5, -2.0, 1.0], [2.5, -1.0, -0.5], [0.5, 1.0, -1.5]])
        noise = np.random.default_rng(1).normal(size=(self.count, 3))
        return throw + self._from_centre @ rate.T + 0.05 * noise

    @cached_property
    def F0(self) -> np.ndarray:
        """Initial deformation gradients [-], (n, 3, 3)."""
        eye = np.eye(3)
        if self.start != "strained":
            return np.tile(eye, (self.count, 1, 1))
        phase = self._from_centre / (self.per_side * DX / 2)
        wave = np.sin(2.0 * phase[:, :1] + 3.0 * phase[:, 1:2] - phase[:, 2:])[..., None]
        if self.water:
            return (1.0 + 0.02 * wave) ** (1 / 3) * eye
        return eye + np.array([[0.1, 0.03, -0.02], [-0.04, -0.08, 0.02], [0.05, 0.01, 0.04]]) + 0.02 * wave * eye

    @cached_property
    def weights(self) -> np.ndarray:
        """Weights of the loss sum(weights * x), (n, 3)."""
        phase = self._from_centre / (self.per_side * DX / 2)
        wave = np.sin(5.0 * phase @ np.array([[1.0, 0.5, 0.2], [-0.4, 1.0, 0.3], [0.2, -0.6, 1.0]]) + 0.3)
        return (1.0 + wave) / self.count


@dataclass(frozen=True)
class Outcome:
    """What a program hands back.

    Attributes:
        mean: final mean position [m], (3,).
        loss: the weighted mean.
        dv0: its gradient by the initial velocities, (n, 3), or None without one.
        dE: its gradient by the modulus, or None.
    """

    mean: np.ndarray
    loss: float
    dv0: np.ndarray | None = None
    dE: float | None = None


def outcome(case: Case, x: Any, dv0: Any = None, dE: float | None = None) -> Outcome:
    """An outcome from final positions [m], (n, 3), summed in double precision."""
    end = np.asarray(x, dtype=np.float64).reshape(-1, 3)
    found = None if dv0 is None else np.asarray(dv0, dtype=np.float64).reshape(-1, 3)
    return Outcome(end.mean(axis=0), float((case.weights * end).sum()), found, dE)


class Runner(Protocol):
    """A program set up for one case: each call starts from the beginning."""

    def forward(self, substeps: int) -> Outcome:
        """Run without keeping anything for a gradient."""
        ...

    def gradient(self, substeps: int) -> Outcome:
        """Run forward and backward, keeping all that the backward pass needs."""
        ...


class Program(Protocol):
    """One way to do the work.

    Attributes:
        name: as in the table.
        threaded: whether it can use more than one thread.
        largest: most particles that it is asked for, because of its time or memory.
        deepest: memory [bytes] that a substep of `gradient` leaves, per particle and in all.
        note: what a reader of its row must know.
    """

    name: str
    threaded: bool
    largest: int
    deepest: tuple[int, int]
    note: str

    def missing(self) -> str:
        """Why it cannot run here, or nothing."""
        ...

    def open(self, case: Case, threads: int) -> Runner:
        """Set up a case."""
        ...
