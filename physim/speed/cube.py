"""The work that speed is measured with: a cube of jelly or water in free flight, forward, and with gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from physim.errors import InputError, nearest
from physim.laws.material import Material
from physim.sim.model import Grid, Model
from physim.sim.rollout import rollout
from physim.solvers.mpm.solver import SolverMPM

MATERIALS = ("jelly", "water")
DX = 1.0 / 64
"""Grid spacing [m]; eight particles per cell on a lattice."""
DT = 1e-4
"""Substep [s]."""
DENSITY, MODULUS, NU = 1000.0, 1e5, 0.3
"""[kg/m^3]; Young's modulus of jelly, bulk modulus of water [Pa]; Poisson's ratio of jelly."""
MARGIN = 6
"""Free cells around the material."""


def lattice(particles: int) -> Tensor:
    """A cube of about so many particles around the origin [m], (n, 3)."""
    side = max(2, round(particles ** (1 / 3)))
    line = (torch.arange(side, dtype=torch.float64) + 0.5 - side / 2) * (DX / 2)
    return torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)


class Cube:
    """A solver with material in it that turns, stretches and flies.

    Args:
        material: "jelly" (fixed corotated) or "water" (a liquid with a quadratic energy).
        x: positions around the origin [m], (n, 3).
        nodes: grid nodes along each axis, around the origin; enough for `x` unless given.
        threads: CPU threads.
        worlds: copies side by side.

    Attributes:
        count: particles of all worlds.
        solver, state: what to run, and from where.
    """

    def __init__(
        self,
        material: str,
        x: Tensor,
        *,
        nodes: int | None = None,
        threads: int = 1,
        worlds: int = 1,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if material not in MATERIALS:
            raise InputError(f"no material is named '{material}'.{nearest(material, MATERIALS)}")
        if material == "water":
            self._free, laws = "bulk_modulus", ("fluid_quadratic", None, "fluid")
            self.material = Material(*laws, rho0=DENSITY, values={"bulk_modulus": MODULUS})
        else:
            self._free = "E"
            self.material = Material("fixed_corotated", rho0=DENSITY, values={"E": MODULUS, "nu": NU})
        self.material.free(self._free)
        reach = 2 * (int(float(x.abs().max()) / DX) + MARGIN)
        nodes = nodes or reach
        volumes = torch.full((len(x),), (DX / 2) ** 3, dtype=dtype)
        low = -DX * nodes / 2
        grid = Grid((low, low, low), DX, (nodes, nodes, nodes))
        model = Model(grid, volumes, [self.material], gravity=(0.0, -9.81, 0.0))
        rate = torch.tensor([[1.5, -2.0, 1.0], [2.5, -1.0, -0.5], [0.5, 1.0, -1.5]], dtype=torch.float64)
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        centre = x.mean(dim=0)
        v = torch.tensor([0.0, 0.3, 0.0], dtype=torch.float64) + (x - centre) @ rate.T + 0.05 * noise
        self.solver = SolverMPM(model, x.to(dtype), v.to(dtype), threads=threads, worlds=worlds)
        self.state = self.solver.initial_state()
        self.count = self.state.x.shape[0]

    def forward(self, substeps: int) -> None:
        """Run without keeping anything for a gradient."""
        with torch.no_grad():
            rollout(self.solver, self.state, dt=DT, steps=substeps, every=substeps)

    def gradient(self, substeps: int, memory: str | float = "1000 TiB") -> float:
        """Run forward and backward, keeping everything unless told otherwise; the loss's derivative by the modulus."""
        v = self.state.v.clone().requires_grad_(True)
        raw = self.material.raw[self._free]
        raw.grad = None
        path = rollout(self.solver, self.state.replace(v=v), dt=DT, steps=substeps, every=substeps, memory=memory)
        path.final.x.square().mean().backward()
        assert raw.grad is not None
        return float(raw.grad.sum())
