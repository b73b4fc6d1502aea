"""Six small scenes, 2D and 3D, whose gradients are checked: every law parameter, initial state, gravity, colliders."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from physim.laws.material import Material
from physim.sim.model import Collider, Contact, Grid, Model
from physim.sim.rollout import rollout
from physim.sim.state import Control
from physim.solvers.mpm.solver import SolverMPM
from tools.validation.bodies import lattice

DX, SIDE = 0.1, 0.2  # grid spacing and edge of the body [m]


@dataclass
class GradientScene:
    """A body, its material, what it meets, and how long it is followed.

    Attributes:
        material: its free parameters are checked.
        v: velocity of the body [m/s].
        colliders: obstacles, with velocities to be checked where there are any.
        steps: substeps.
        dt: substep [s].
        blend: share of the particles' own velocity kept.
        stretch: initial deformation gradient minus identity is random of this size.
    """

    material: Callable[[int], Material]
    v: tuple[float, float, float] = (0.3, -1.0, 0.2)
    colliders: tuple[Collider, ...] = ()
    steps: int = 60
    dt: float = 1e-3
    blend: float = 0.0
    stretch: float = 0.02
    free: Mapping[str, float] = field(default_factory=dict)

    def setup(self, dim: int) -> tuple[Callable[[], Tensor], dict[str, tuple[Tensor, float]]]:
        """The loss as a function of the leaves' present values, and the leaves with their scales."""
        draw = torch.Generator().manual_seed(7)

        def noise(*shape: int) -> Tensor:
            made = torch.randn(*shape, generator=draw, dtype=torch.float64)
            if dim == 2:
                made[..., 2] = 0.0
                if len(shape) == 3:
                    made[:, 2, :] = 0.0
            return made

        x, vol0 = lattice([0.4] * dim, [0.4 + SIDE] * dim, DX / 2)
        x = x + 0.1 * DX * noise(*x.shape)  # off the symmetry of the lattice
        material = self.material(dim)
        names = [n for n in material.values() if n in material.raw]
        material.free(*names)
        shape = (11, 11, 1 if dim == 2 else 11)
        model = Model(Grid((0.0, 0.0, 0.0), DX, shape), vol0, [material], colliders=self.colliders)
        gravity = torch.tensor([0.0, -9.81, 0.0], dtype=torch.float64, requires_grad=True)
        model.gravity = gravity
        v = torch.tensor(self.v, dtype=torch.float64) + 0.2 * noise(*x.shape)
        if dim == 2:
            v[:, 2] = 0.0
        solver = SolverMPM(model, x, v, blend=self.blend)
        rest = solver.initial_state()
        F = rest.F + self.stretch * noise(len(x), 3, 3)
        leaves = {
            "x0": (x.clone(), 0.1 * DX),
            "v0": (v.clone(), 1.0),
            "F0": (F.clone(), 0.1),
            "gravity": (gravity, 9.81),
        }
        if self.colliders:
            speeds = torch.tensor([c.velocity for c in self.colliders], dtype=torch.float64)
            leaves["collider velocity"] = (speeds, 1.0)
        for name in names:
            leaves[name] = (material.raw[name], 1.0)
        for leaf, _ in leaves.values():
            leaf.requires_grad_(True)
        w_x, w_v, w_F = noise(*x.shape) + 1.0, noise(*x.shape), noise(len(x), 3, 3)

        def control(t: float) -> Control:
            base = model.control_at(t)
            start = torch.tensor([c.position for c in self.colliders], dtype=torch.float64)
            moving = leaves["collider velocity"][0]
            return Control(start + t * moving, base.rotation, moving, base.spin)

        def loss() -> Tensor:
            state = rest.replace(x=leaves["x0"][0], v=leaves["v0"][0], F=leaves["F0"][0])
            end = rollout(
                solver,
                state,
                dt=self.dt,
                steps=self.steps,
                every=self.steps,
                control=control if self.colliders else None,
            ).final
            return (w_x * end.x + 0.1 * w_v * end.v).mean() / SIDE + 0.1 * (w_F * end.F).mean() + (end.v**2).mean()

        return loss, leaves


def _solid(E: float = 1e4, **options: object) -> Callable[[int], Material]:
    return lambda dim: Material("neo_hookean", rho0=1e3, values={"E": E, "nu": 0.3}, **options)  # type: ignore[arg-type]


def _plastic(dim: int) -> Material:
    values = {"E": 2e4, "nu": 0.3, "yield_stress": 300.0, "hardening": 500.0}
    return Material("hencky", inelastic="von_mises", rho0=1e3, values=values)


def _sand(dim: int) -> Material:
    values = {"E": 2e4, "nu": 0.3, "friction_angle": math.radians(30.0), "cohesion": 20.0}
    return Material("hencky", inelastic="drucker_prager_2d" if dim == 2 else "drucker_prager", rho0=1e3, values=values)


def _fluid(dim: int) -> Material:
    values = {"bulk_modulus": 1e4, "viscosity": 5.0, "bulk_viscosity": 2.0}
    return Material("fluid_tait", "newtonian", "fluid", rho0=1e3, values=values)


def _viscoelastic(dim: int) -> Material:
    values = {"E": 1e4, "nu": 0.3, "viscosity": 4.0, "branch_modulus_1": 4e3, "relaxation_time_1": 0.02}
    return Material("neo_hookean", "kelvin_voigt", "maxwell_1", rho0=1e3, values=values)


def _floor(contact: Contact, height: float = 0.35, **options: object) -> Collider:
    return Collider.plane((0.5, height, 0.5), (0.1, 1.0, 0.05), contact=contact, **options)


SCENES: dict[str, GradientScene] = {
    "elastic": GradientScene(_solid(1e5), stretch=0.1),
    "contact": GradientScene(
        _solid(), colliders=(_floor(Contact.COULOMB, friction=0.3, velocity=(0.2, 0.3, 0.1)),), v=(0.8, -1.5, 0.3)
    ),
    "plastic": GradientScene(
        _plastic, colliders=(_floor(Contact.STICK, velocity=(0.0, 0.2, 0.0)),), v=(0.3, -2.0, 0.2)
    ),
    "sand": GradientScene(_sand, colliders=(_floor(Contact.STICK, velocity=(0.1, 0.0, 0.0)),), v=(0.3, -1.5, 0.2)),
    "fluid": GradientScene(_fluid, colliders=(_floor(Contact.SLIP, velocity=(0.0, 0.2, 0.0)),), v=(0.3, -1.5, 0.2)),
    "viscoelastic": GradientScene(
        _viscoelastic,
        colliders=(_floor(Contact.BILATERAL, velocity=(0.0, 0.2, 0.0)),),
        stretch=0.05,
        v=(0.3, -1.5, 0.2),
    ),
}
