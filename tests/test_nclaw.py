"""NCLaw's four standard scenes: the general engine against an independent float64 program.

`python tests/test_nclaw.py` prints the difference after 1,000 substeps.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import nclaw_reference as reference

from physim.laws.material import Material
from physim.sim.model import Collider, Contact, Grid, Model
from physim.sim.rollout import rollout
from physim.solvers.mpm.solver import SolverMPM

BAR = 5e-5  # [m], after 1,000 substeps


def material(name: str) -> Material:
    """The engine's laws with the constants of the published setting."""
    c = reference.MATERIALS[name]
    E, nu = c.E, c.nu
    if name == "jelly":
        return Material("fixed_corotated", rho0=1000.0, values={"E": E, "nu": nu})
    if name == "water":
        return Material("fluid_quadratic", inelastic="fluid", rho0=1000.0, values={"bulk_modulus": c.lam})
    if name == "plasticine":
        values = {"E": E, "nu": nu, "yield_stress": c.yield_stress}
        return Material("hencky", inelastic="von_mises", rho0=1000.0, values=values)
    values = {"E": E, "nu": nu, "friction_angle": math.radians(c.friction_angle)}
    return Material("hencky", inelastic="drucker_prager", rho0=1000.0, values=values)


def engine(name: str, steps: int, dtype: torch.dtype) -> np.ndarray:
    """Positions [m] after `steps` substeps of the general engine, (1000, 3)."""
    x, v, vol0 = (torch.as_tensor(a, dtype=dtype) for a in reference.start())
    # Nodes 0..2 and 18..19 lose the velocity into the wall: planes midway between nodes 2 and 3, and 17 and 18.
    planes = []
    for axis in range(3):
        for at, sign in ((0.125, 1.0), (0.875, -1.0)):
            point, normal = [0.5] * 3, [0.0] * 3
            point[axis], normal[axis] = at, sign
            planes.append(Collider.plane(point, normal, contact=Contact.SLIP))
    grid = Grid((0.0, 0.0, 0.0), reference.DX, (reference.NODES,) * 3)
    model = Model(grid, vol0, [material(name)], gravity=reference.GRAVITY, colliders=planes)
    solver = SolverMPM(model, x, v, mass_floor=1e-7)  # the published program divides by m + 1e-7
    with torch.no_grad():
        end = rollout(solver, solver.initial_state(), dt=reference.DT, steps=steps, every=steps).final
    return end.x.double().numpy()


def rms(a: np.ndarray, b: np.ndarray) -> float:
    """Root mean square distance [m] between two sets of positions."""
    return float(np.sqrt(((a - b) ** 2).sum(1).mean()))


@pytest.mark.parametrize("name", list(reference.MATERIALS))
def test_engine_follows_the_independent_program(name: str) -> None:
    steps = 200  # past the first contact with the walls
    expected = reference.simulate(name, steps)
    assert rms(engine(name, steps, torch.float64), expected) < 1e-6
    assert rms(engine(name, steps, torch.float32), expected) < 1e-5


def main() -> None:
    """Print the figures for 1,000 substeps."""
    print("RMS position difference after 1,000 substeps [m], bar 5e-5")
    for name in reference.MATERIALS:
        expected = reference.simulate(name, 1000)
        double, single = (rms(engine(name, 1000, d), expected) for d in (torch.float64, torch.float32))
        verdict = "met" if max(double, single) < BAR else "MISS"
        print(f"{name:11s} float64 {double:.2e}   float32 {single:.2e}   {verdict}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
