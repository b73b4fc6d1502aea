"""Gradients of MLS-MPM against central differences in float64: contact of every kind, moving and turning colliders."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from physim.fit.differences import compare
from physim.laws.material import Material
from physim.shapes import Mesh, distance_field
from physim.sim.model import Collider, ColliderKind, Contact, Grid, Model, Wall, WallKind
from physim.sim.rollout import rollout
from physim.sim.state import Control
from physim.solvers.mpm.solver import SolverMPM

DX = 0.1
BALL, BOX = ColliderKind.SPHERE, ColliderKind.BOX


def turned(angle: float) -> tuple[tuple[float, float, float], ...]:
    c, s = math.cos(angle), math.sin(angle)
    return ((c, -s, 0.0), (s, c, 0.0), (0.0, 0.0, 1.0))


def wedge() -> Collider:
    # Its field's nodes lie off those of the grid: the slope of the distance jumps between them.
    import trimesh

    made = trimesh.creation.box(extents=(0.5, 0.2, 1.3))
    field = distance_field(Mesh(made), 0.05)
    return Collider(
        ColliderKind.MESH, position=(0.5, 0.27, 0.33), rotation=turned(0.1), contact=Contact.SLIP, distances=field,
        velocity=(0.0, 0.1, 0.0),
    )  # fmt: skip


def floor(contact: Contact, **options: float) -> Collider:
    return Collider.plane((0.5, 0.36, 0.5), (0.1, 1.0, 0.0), contact=contact, velocity=(0.1, 0.2, 0.0), **options)


def ball() -> Collider:
    at, speed = (0.47, 0.2, 0.5), (0.1, 0.3, 0.0)
    return Collider(BALL, size=(0.2, 0.0, 0.0), position=at, contact=Contact.COULOMB, friction=0.4, velocity=speed)


def turning_box() -> Collider:
    half, at, speed = (0.3, 0.1, 0.3), (0.52, 0.26, 0.5), (0.1, 0.1, 0.0)
    return Collider(
        BOX, half, at, turned(0.1), contact=Contact.BILATERAL, velocity=speed, spin=(0.0, 0.0, 0.5)
    )  # fmt: skip


COLLIDERS: dict[str, Callable[[], Collider]] = {
    "plane_stick": lambda: floor(Contact.STICK),
    "plane_slip": lambda: floor(Contact.SLIP),
    "plane_coulomb": lambda: floor(Contact.COULOMB, friction=0.3),
    "sphere_coulomb": ball,
    "box_bilateral_turning": turning_box,
    "mesh_slip": wedge,
}


def scene(
    dim: int,
    *,
    collider: Collider | None = None,
    material: Material | None = None,
    steps: int = 20,
    stretch: Tensor | None = None,
    blend: float = 0.0,
    walls: tuple[Wall, ...] = (),
    periodic: bool = False,
) -> tuple[Callable[[], Tensor], dict[str, tuple[Tensor, float]]]:
    """A block of 2^dim cells thrown down; the loss and the tensors that it depends on, with their scales."""
    draw = torch.Generator().manual_seed(3)
    plane = torch.tensor([1.0, 1.0, 1.0 if dim == 3 else 0.0], dtype=torch.float64)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64) * plane

    line = 0.4 + (torch.arange(4, dtype=torch.float64) + 0.5) * DX / 2
    axes = [line] * dim + [torch.zeros(1, dtype=torch.float64)] * (3 - dim)
    x = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    x = x + 0.005 * noise(*x.shape)
    vol0 = torch.full((len(x),), (DX / 2) ** dim, dtype=torch.float64)
    material = material or Material("fixed_corotated", rho0=1e3, values={"E": 1e4, "nu": 0.3})
    names = [n for n in material.values() if n in material.raw]
    material.free(*names)
    grid = Grid((0.0, 0.0, 0.0), DX, (10, 10, 10 if dim == 3 else 1), (periodic, False, False))
    model = Model(grid, vol0, [material], colliders=[collider] if collider else [], walls=walls)
    model.gravity = torch.tensor([0.2, -9.81, 0.0], dtype=torch.float64, requires_grad=True)
    v = (torch.tensor([0.5, -1.5, 0.2], dtype=torch.float64) + 0.2 * noise(*x.shape)) * plane
    if periodic:
        v[:, 0] = v[:, 0] + 10.0
    solver = SolverMPM(model, x, v, blend=blend)
    rest = solver.initial_state()
    F = rest.F if stretch is None else stretch.expand(len(x), 3, 3)
    leaves = {
        "x0": (x.clone(), 0.01), "v0": (v.clone(), 1.0), "F0": (F.clone(), 0.1), "gravity": (model.gravity, 9.81)
    } | {n: (material.raw[n], 1.0) for n in names}  # fmt: skip
    if collider:
        leaves["velocity"] = (torch.tensor([collider.velocity], dtype=torch.float64), 1.0)
        leaves["spin"] = (torch.tensor([collider.spin], dtype=torch.float64), 1.0)
    for leaf, _ in leaves.values():
        leaf.requires_grad_(True)
    w_x, w_v = noise(*x.shape) + plane, noise(*x.shape)

    def control(t: float) -> Control:
        base = model.control_at(t)
        return Control(base.position, base.rotation, leaves["velocity"][0], leaves["spin"][0])

    def loss() -> Tensor:
        state = rest.replace(x=leaves["x0"][0], v=leaves["v0"][0], F=leaves["F0"][0])
        end = rollout(solver, state, dt=2e-3, steps=steps, every=steps, control=control if collider else None).final
        return (w_x * end.x + 0.1 * w_v * end.v).mean() * 5 + (end.v**2).mean() + ((end.F - rest.F) ** 2).mean()

    return loss, leaves


def check(loss: Callable[[], Tensor], leaves: dict[str, tuple[Tensor, float]], bar: float = 1e-6) -> None:
    for found in compare(loss, leaves):
        assert found.agrees(bar), f"{found}"


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("name", list(COLLIDERS))
def test_contact(name: str, dim: int) -> None:
    check(*scene(dim, collider=COLLIDERS[name]()))


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("blend", [0.0, 0.95])
@pytest.mark.parametrize("stretches", [(1.0, 1.0, 1.0), (1.1, 1.1, 1.0), (1.2, 0.9, 0.9)])
def test_from_equal_stretches(dim: int, blend: float, stretches: tuple[float, ...]) -> None:
    """F = I and two equal stretches, where a singular value decomposition has no derivative."""
    check(*scene(dim, stretch=torch.diag(torch.tensor(stretches, dtype=torch.float64)), blend=blend))


@pytest.mark.parametrize("kind", [WallKind.SLIP, WallKind.NO_SLIP])
@pytest.mark.parametrize("blend", [0.0, 0.9])
def test_mirrored_walls(kind: WallKind, blend: float) -> None:
    walls = (Wall(1, False, 0.4, kind, (0.3, 0.0, 0.0)), Wall(0, True, 0.65, WallKind.SLIP))
    check(*scene(2, walls=walls, blend=blend))


def test_periodic_side() -> None:
    check(*scene(2, periodic=True))


def test_stiffness_of_each_particle() -> None:
    E = torch.linspace(5e3, 2e4, 16, dtype=torch.float64)
    material = Material("fixed_corotated", rho0=1e3, values={"E": E, "nu": 0.3})
    check(*scene(2, material=material, collider=COLLIDERS["plane_stick"]()))


def test_a_kink_is_named() -> None:
    """The loss |p| at p = 0: the quotients of two step sizes agree there, but not beside it."""
    p = torch.tensor([1e-5], dtype=torch.float64, requires_grad=True)
    found = compare(lambda: p.abs().sum(), {"p": (p, 1.0)})[0]
    assert found.kink and found.coarse != found.fine
    q = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    assert not compare(lambda: q.abs().sum(), {"q": (q, 1.0)})[0].kink
