"""The published scene, its materials, and what learned laws are tested on.

A cube of 1,000 particles is thrown with spin into a box of 20^3 nodes; 1,000 substeps of 0.5 ms are observed in full.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from physim.errors import SimulationError
from physim.fit.learn.shooting import Motion
from physim.laws.material import Material
from physim.sim.model import Body, Collider, Contact, Grid, Model
from physim.sim.state import ParticleState
from physim.solvers.mpm.solver import SolverMPM

DT, DX, NODES, STEPS, EVERY = 5e-4, 0.05, 20, 1000, 5
PUBLISHED = {
    "jelly": (2.4e-4, 9.8e-4, 2.4e-4, 4.1e-4),
    "plasticine": (6.5e-5, 1.4e-4, 4.6e-5, 2.3e-4),
    "sand": (2.6e-5, 4.2e-5, 6.5e-5, 3.6e-4),
    "water": (2.0e-5, 3.5e-4, 1.9e-5, 2.4e-4),
}
"""Mean squared position errors as a third party has transcribed them from the paper: the first of TESTS in order."""
TESTS = ("reconstruction", "time", "velocity", "geometry", "boundary", "coupled")
SEEDS = (1, 7, 8)


def truth(name: str) -> Material:
    """The material that makes the motion."""
    if name == "jelly":
        return Material("fixed_corotated", rho0=1e3, values={"E": 1e5, "nu": 0.2})
    if name == "water":
        lam = 1e5 * 0.3 / (1.3 * 0.4)
        return Material("fluid_quadratic", inelastic="fluid", rho0=1e3, values={"bulk_modulus": lam})
    if name == "plasticine":
        values = {"E": 3e5, "nu": 0.25, "yield_stress": 5e3}
        return Material("hencky", inelastic="von_mises", rho0=1e3, values=values)
    values = {"E": 1e6, "nu": 0.2, "friction_angle": math.radians(25.0)}
    return Material("hencky", inelastic="drucker_prager", rho0=1e3, values=values)


@dataclass(frozen=True)
class Throw:
    """A body thrown into the box.

    Attributes:
        x, v: positions [m] and velocities [m/s], (n, 3).
        vol0: volumes [m^3], (n,).
        nodes: per axis of the unit cube.
        steps: substeps.
        slope: degrees by which a slippery floor falls along x; None for the box alone.
        learned: first and last but one of the particles of the material that is tried; None for all.
        other: name of the true material of all others.
    """

    x: Tensor
    v: Tensor
    vol0: Tensor
    nodes: int = NODES
    steps: int = STEPS
    slope: float | None = None
    learned: tuple[int, int] | None = None
    other: str | None = None

    @property
    def planes(self) -> list[tuple[list[float], list[float]]]:
        """Points [m] and normals of all walls: nodes behind one lose the velocity into it."""
        found = []
        # Nodes up to 2 and from 2 before the last on lose the velocity into the wall.
        for axis in range(3):
            for at, sign in ((2.5 / self.nodes, 1.0), (1.0 - 2.5 / self.nodes, -1.0)):
                point, normal = [0.5] * 3, [0.0] * 3
                point[axis], normal[axis] = at, sign
                found.append((point, normal))
        if self.slope is not None:
            angle = math.radians(self.slope)
            found.append(([0.5, 0.13, 0.5], [math.sin(angle), math.cos(angle), 0.0]))
        return found

    def solver(self, material: Material) -> SolverMPM:
        """The body of this material in its box."""
        colliders = [Collider.plane(point, normal, contact=Contact.SLIP) for point, normal in self.planes]
        grid = Grid((0.0, 0.0, 0.0), 1.0 / self.nodes, (self.nodes,) * 3)
        start, stop = self.learned or (0, len(self.x))
        materials = [material] if self.other is None else [material, truth(self.other)]
        ends = sorted({0, start, stop, len(self.x)})
        bodies = [Body(a, b, 0 if a == start else 1) for a, b in pairwise(ends)]
        model = Model(grid, self.vol0, materials, bodies=bodies, gravity=(0.0, -9.8, 0.0), colliders=colliders)
        return SolverMPM(model, self.x, self.v, mass_floor=1e-7)


def cube(velocity: tuple = (1.0, -1.5, -2.0), spin: tuple = (4.0, 4.0, 4.0), steps: int = STEPS) -> Throw:
    """The published body: a lattice of 10^3 particles that includes the faces of a cube of 0.5 m."""
    line = torch.linspace(0.25, 0.75, 10)
    x = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    return Throw(x, _thrown(x, velocity, spin), torch.full((1000,), 0.125 / 1000), steps=steps)


def random_throw(seed: int) -> Throw:
    """The cube with a velocity of up to 3 m/s, never upwards, and a spin of up to 3 rad/s on each axis."""
    draw = np.random.Generator(np.random.PCG64(seed))
    direction = draw.uniform(-1.0, 1.0, 3)
    direction[1] = -abs(direction[1])
    velocity = draw.uniform(0.0, 3.0) * direction / np.linalg.norm(direction)
    return cube(tuple(velocity), tuple(draw.uniform(0.0, 3.0, 3)))


def other_shapes() -> list[Throw]:
    """A ball, a can and a tilted bar on a finer grid, for longer: shapes that no training has seen."""
    from physim.shapes import Box, Cylinder, Sphere, sample

    found = []
    for shape in (
        Sphere((0.5, 0.5, 0.5), 0.28),
        Cylinder((0.5, 0.5, 0.5), 0.2, 0.5),
        Box((0.5, 0.5, 0.5), (0.6, 0.25, 0.25), (0.3, 0.5, 0.2)),
    ):
        points = sample(shape, spacing=0.045)
        x = torch.as_tensor(points.x, dtype=torch.float32)
        vol0 = torch.as_tensor(points.vol0, dtype=torch.float32)
        found.append(Throw(x, _thrown(x, (1.0, -1.5, -1.5), (1.0, 1.0, 1.0)), vol0, nodes=32, steps=2 * STEPS))
    return found


def slope() -> Throw:
    """The cube on a floor that falls by 20 degrees."""
    return dataclasses.replace(cube(), slope=20.0)


def pool(name: str) -> Throw:
    """A smaller cube thrown into a pool: of true water, or of true jelly where the water is what was learned."""
    line, layer = torch.linspace(0.15, 0.85, 15), torch.linspace(0.15, 0.30, 4)
    water = torch.stack(torch.meshgrid(line, layer, line, indexing="ij"), -1).reshape(-1, 3)
    side = torch.linspace(-0.15, 0.15, 7)
    body = torch.stack(torch.meshgrid(side, side, side, indexing="ij"), -1).reshape(-1, 3)
    x = torch.cat([water, body + torch.tensor([0.5, 0.55, 0.5])])
    v = torch.cat([torch.zeros_like(water), _thrown(body + 0.5, (0.5, -1.5, 0.3), (1.0, 1.0, 1.0))])
    own = (0, len(water)) if name == "water" else (len(water), len(x))
    other = "jelly" if name == "water" else "water"
    return Throw(x, v, torch.full((len(x),), 0.05**3), learned=own, other=other)


def tests(name: str) -> dict[str, list[Throw]]:
    """The throws of each test of a material."""
    return {
        "reconstruction": [cube()],
        "time": [cube(steps=2 * STEPS)],
        "velocity": [random_throw(seed) for seed in SEEDS],
        "geometry": other_shapes(),
        "boundary": [slope()],
        "coupled": [pool(name)],
    }


def path(throw: Throw, material: Material) -> Tensor:
    """Positions [m] at every fifth substep, (frames, n, 3); NaN from where a run fails."""
    solver = throw.solver(material)
    state, found = solver.initial_state(), []
    with torch.no_grad():
        for _ in range(throw.steps // EVERY):
            try:
                state = solver.advance(state, None, DT, EVERY)
            except SimulationError:
                break
            found.append(state.x.double())
    missing = throw.steps // EVERY - len(found)
    return torch.stack(found + [torch.full_like(throw.x, math.nan, dtype=torch.float64)] * missing)


def errors(name: str, found: Callable[[Throw], Tensor], known: Callable[[str, int, Throw], Tensor]) -> dict[str, float]:
    """Mean squared position error [m^2] of each test of a material: mean over particles, axes and frames.

    Args:
        name: of the true material.
        found: the path of a throw by the law that is tried, (frames, n, 3); NaN from where it fails.
        known: the true path of the throw of this number in a test.
    """
    told = {}
    for test, throws in tests(name).items():
        misses = [(found(t) - known(test, i, t)).square().mean() for i, t in enumerate(throws)]
        told[test] = float(torch.stack(misses).mean())
    return told


def motion(material: Material, every: int = 1) -> Motion:
    """The published training data: the state of all particles at every substep (or every few)."""
    throw = cube()
    solver = throw.solver(material)
    state = solver.initial_state()
    states: list[ParticleState] = [state]
    with torch.no_grad():
        for _ in range(STEPS // every):
            state = solver.advance(state, None, DT, every)
            states.append(state)
    return Motion(tuple(states), DT, every, position_noise=1e-5, velocity_noise=1e-3)


def _thrown(x: Tensor, velocity: tuple, spin: tuple) -> Tensor:
    turn = torch.linalg.cross(torch.tensor(spin, dtype=x.dtype).expand_as(x), x - 0.5)
    return torch.tensor(velocity, dtype=x.dtype) + turn
