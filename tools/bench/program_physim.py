"""physim itself, as shipped, and its float64 run as the reference."""

from __future__ import annotations

import numpy as np
import torch

from physim.laws.material import Material
from physim.sim.model import Grid, Model
from physim.sim.rollout import rollout
from physim.sim.state import ParticleState
from physim.solvers.mpm.solver import SolverMPM
from tools.bench.case import DENSITY, DT, DX, GRAVITY, MODULUS, NODES, NU, Case, Outcome, outcome

MEMORY = 8 * 2**30
"""Budget for kept states [bytes]: enough to keep all of them, as the other programs do."""


class Run:
    """A solver and its initial state.

    Attributes:
        solver: set up for the case.
        material: its material.
        x0: initial positions [m], (n, 3).
    """

    def __init__(self, case: Case, threads: int, dtype: torch.dtype = torch.float32) -> None:
        self._case = case
        if case.water:
            self._modulus = "bulk_modulus"
            laws, values = ("fluid_quadratic", None, "fluid"), {"bulk_modulus": MODULUS}
        else:
            self._modulus = "E"
            laws, values = ("fixed_corotated", None, None), {"E": MODULUS, "nu": NU}
        self.material = Material(*laws, rho0=DENSITY, values=values)
        self.material.free(self._modulus)
        volumes = torch.full((case.count,), case.vol0, dtype=dtype)
        model = Model(Grid((0.0, 0.0, 0.0), DX, (NODES,) * 3), volumes, [self.material], gravity=GRAVITY)
        self.x0 = torch.as_tensor(case.x0).to(dtype)
        self.solver = SolverMPM(model, self.x0, threads=threads)
        self._v0, self._F0 = (torch.as_tensor(a).to(dtype) for a in (case.v0, case.F0))
        self._weights = torch.as_tensor(case.weights).to(dtype)

    def start(self) -> ParticleState:
        """The initial state."""
        return self.solver.initial_state().replace(v=self._v0, F=self._F0)

    def _roll(self, v0: torch.Tensor, substeps: int) -> torch.Tensor:
        start = self.start().replace(v=v0)
        return rollout(self.solver, start, dt=DT, steps=substeps, every=substeps, memory=MEMORY).final.x

    def forward(self, substeps: int) -> Outcome:
        """See `Runner`."""
        with torch.no_grad():
            return outcome(self._case, self._roll(self._v0, substeps))

    def gradient(self, substeps: int) -> Outcome:
        """See `Runner`."""
        v0 = self._v0.clone().requires_grad_(True)
        raw = self.material.raw[self._modulus]
        raw.grad = None
        x = self._roll(v0, substeps)
        (self._weights * x).sum().backward()
        # The raw parameter is the logarithm of the modulus.
        assert v0.grad is not None and raw.grad is not None
        return outcome(self._case, x.detach(), v0.grad, float(raw.grad) / MODULUS)


class Physim:
    """The engine under test."""

    name, threaded, largest, deepest = "physim", True, 10**9, (128, 0)
    note = "SolverMPM through rollout, all states kept"

    def missing(self) -> str:
        """See `Program`."""
        return ""

    def open(self, case: Case, threads: int) -> Run:
        """See `Program`."""
        return Run(case, threads)


def reference(case: Case, substeps: int) -> Outcome:
    """The outcome of physim in float64."""
    return Run(case, 1, torch.float64).gradient(substeps)


def relative(found: np.ndarray | float | None, true: np.ndarray | float | None) -> float | None:
    """|found - true| / |true|, or None where there is nothing to compare."""
    if found is None or true is None:
        return None
    size = float(np.linalg.norm(np.asarray(true)))
    return float(np.linalg.norm(np.asarray(found) - np.asarray(true))) / size if size > 0 else None
