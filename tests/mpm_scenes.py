"""Scenes on which results must not depend on threads, order, segments or memory, and how they are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from physim.laws.material import Material
from physim.sim.model import Body, Collider, ColliderKind, Contact, Grid, Model, Wall, WallKind
from physim.sim.state import Control, ParticleState
from physim.solvers.mpm.solver import SolverMPM

DX, DT, STEPS = 0.1, 2e-3, 18
FIELDS = ("x", "v", "C", "F", "h")


def block(low: tuple[float, float, float], cells: tuple[int, int, int]) -> Tensor:
    """Four (2D) or eight particles a cell from a corner [m] on; no cells along z for 2D."""
    lines = [a + (torch.arange(2 * n, dtype=torch.float64) + 0.5) * DX / 2 for a, n in zip(low, cells, strict=True)]
    if cells[2] == 0:
        lines[2] = torch.zeros(1, dtype=torch.float64)
    return torch.stack(torch.meshgrid(*lines, indexing="ij"), -1).reshape(-1, 3)


@dataclass
class Scene:
    """A model, the state it starts from, and all that a result may be differentiated by (with scales)."""

    model: Model
    start: ParticleState
    options: dict[str, float]
    leaves: dict[str, tuple[Tensor, float]]
    dt: float = DT

    def solver(self, threads: int | None = 1) -> SolverMPM:
        return SolverMPM(self.model, self.start.x, self.start.v, threads=threads, **self.options)

    def end(self, solver: SolverMPM, chunks: tuple[int, ...] = (STEPS,), *, keep: bool = False) -> ParticleState:
        """The state after segments of so many substeps each."""
        given = {n: self.leaves[n][0] for n in self.leaves}
        state = self.start.replace(**{n: given[n] for n in ("x", "v", "C", "F")})
        base = self.model.control_at(0.0)
        if self.model.colliders:
            turned = base.rotation.to(given["spin"])
            base = Control(given["position"], turned, given["velocity"], given["spin"])
        done = 0
        for count in chunks:
            state = solver.advance(state, base.moved_on(done * self.dt), self.dt, count, keep=keep)
            done += count
        return state

    def loss(self, end: ParticleState) -> Tensor:
        draw = torch.Generator().manual_seed(8)
        total = end.x.new_zeros(())
        for name, weight in (("x", 10.0), ("v", 1.0), ("C", 0.1), ("F", 3.0), ("h", 1.0)):
            value = getattr(end, name)
            if not value.numel():
                continue  # no history
            total = total + weight * (value * torch.randn(value.shape, generator=draw).to(value)).mean()
        return total

    def everything(self, solver: SolverMPM, chunks: tuple[int, ...] = (STEPS,), *, keep: bool) -> dict[str, Tensor]:
        """Last state and gradients by name."""
        end = self.end(solver, chunks, keep=keep)
        wanted = [leaf for leaf, _ in self.leaves.values()]
        grads = torch.autograd.grad(self.loss(end), wanted)
        found = {n: getattr(end, n).detach() for n in FIELDS}
        return found | {f"d/d{n}": g for n, g in zip(self.leaves, grads, strict=True)}


def made(model: Model, x: Tensor, v: Tensor, dtype: torch.dtype, seed: int = 3, **options: float) -> Scene:
    draw = torch.Generator().manual_seed(seed)
    plane = torch.tensor([1.0, 1.0, 1.0 if model.grid.dim == 3 else 0.0], dtype=torch.float64)
    square = plane[:, None] * plane

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    n = len(x)
    x, v = x + 0.003 * noise(n, 3) * plane, v + 0.3 * noise(n, 3) * plane
    model = model.to(dtype)
    model.gravity = model.gravity.detach().clone().requires_grad_(True)
    start = SolverMPM(model, x.to(dtype), v.to(dtype)).initial_state()
    start = start.replace(C=(0.5 * noise(n, 3, 3) * square).to(dtype))
    start = start.replace(F=start.F + (0.01 * noise(n, 3, 3) * square).to(dtype))
    scales = {"x": 0.01, "v": 1.0, "C": 1.0, "F": 0.05}
    leaves = {name: (getattr(start, name).clone().requires_grad_(True), s) for name, s in scales.items()}
    leaves["gravity"] = (model.gravity, 9.81)
    for i, material in enumerate(model.materials):
        names = [name for name in material.values() if name in material.raw]
        material.free(*names)
        leaves |= {f"{name} {i}": (material.raw[name], 0.3) for name in names}
    if model.colliders:
        base = model.control_at(0.0)
        for name, scale in (("position", 0.01), ("velocity", 1.0), ("spin", 1.0)):
            leaves[name] = (getattr(base, name).to(dtype).clone().requires_grad_(True), scale)
    return Scene(model, start, options, leaves)


def jelly(dtype: torch.dtype) -> Scene:
    """3D: a bar with a stiffness for each particle flies along its axis over a ball that rises and turns."""
    x = block((0.35, 0.4, 0.4), (17, 2, 2))
    E = torch.linspace(5e3, 2e4, len(x), dtype=torch.float64)
    material = Material("fixed_corotated", rho0=1e3, values={"E": E, "nu": 0.3})
    ball = Collider(
        ColliderKind.SPHERE, (0.25, 0.0, 0.0), (1.617, 0.243, 0.487), contact=Contact.COULOMB, friction=0.3,
        velocity=(0.5, 1.0, 0.0), spin=(0.0, 0.3, 0.4),
    )  # fmt: skip
    vol0 = torch.full((len(x),), (DX / 2) ** 3, dtype=torch.float64)
    model = Model(Grid((0.0, 0.0, 0.0), DX, (36, 11, 10)), vol0, [material], colliders=[ball])
    v = torch.tensor([14.0, 0.3, 0.2], dtype=torch.float64).repeat(len(x), 1)
    return made(model, x, v, dtype)


def mixture(dtype: torch.dtype) -> Scene:
    """2D: elastic, plastic and liquid bodies that touch, between walls, blended, over a rising ball."""
    parts = [block((0.3, 0.3, 0.0), (20, 2, 0)), block((0.9, 0.5, 0.0), (5, 2, 0)), block((1.4, 0.5, 0.0), (8, 1, 0))]
    x = torch.cat(parts)
    E = torch.linspace(1e4, 3e4, len(parts[0]), dtype=torch.float64)
    values = {"bulk_modulus": 2e4, "viscosity": 2.0}
    materials = [
        Material("fixed_corotated", rho0=1e3, values={"E": E, "nu": 0.3}),
        Material("hencky", None, "von_mises", rho0=1.5e3, values={"E": 2e4, "nu": 0.2, "yield_stress": 20.0}),
        Material("fluid_quadratic", "newtonian", "fluid", rho0=800.0, values=values),
    ]
    ends = [0, *torch.cumsum(torch.tensor([len(p) for p in parts]), 0).tolist()]
    bodies = [Body(ends[i], ends[i + 1], i) for i in range(3)]
    # Off the nodes, where the distance or its slope has a kink.
    ball = Collider(
        ColliderKind.SPHERE, (0.21, 0.0, 0.0), (1.517, 0.183, 0.0), contact=Contact.COULOMB, friction=0.3,
        velocity=(1.0, 0.8, 0.0), spin=(0.0, 0.0, 0.5),
    )  # fmt: skip
    walls = [Wall(1, False, 0.3, WallKind.NO_SLIP, (13.0, 0.0, 0.0)), Wall(1, True, 0.85, WallKind.SLIP)]
    vol0 = torch.full((len(x),), (DX / 2) ** 2, dtype=torch.float64)
    grid = Grid((0.0, 0.0, 0.0), DX, (40, 14, 1))
    model = Model(grid, vol0, materials, bodies=bodies, walls=walls, colliders=[ball], gravity=(0.3, -9.81, 0.0))
    v = torch.tensor([14.0, 0.0, 0.0], dtype=torch.float64).repeat(len(x), 1)
    return made(model, x, v, dtype, blend=0.6, volume_filter=0.05)


def strip(dim: int, speed: float, *, periodic: bool = False) -> Scene:
    """A small soft body that crosses `speed` cells in a substep, without anything else."""
    x = block((0.4, 0.4, 0.4 if dim == 3 else 0.0), (6, 2, 2 if dim == 3 else 0))
    material = Material("fixed_corotated", rho0=1e3, values={"E": 2e4, "nu": 0.3})
    vol0 = torch.full((len(x),), (DX / 2) ** dim, dtype=torch.float64)
    shape = (16 if periodic else 40, 10, 10 if dim == 3 else 1)
    model = Model(Grid((0.0, 0.0, 0.0), DX, shape, (periodic, False, False)), vol0, [material])
    v = torch.tensor([speed * DX / DT, 0.0, 0.0], dtype=torch.float64).repeat(len(x), 1)
    return made(model, x, v, torch.float64)


SCENES: dict[str, Callable[[torch.dtype], Scene]] = {"jelly": jelly, "mixture": mixture}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Bit for bit."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.isfinite(value).all(), name
        assert torch.equal(value, other[name]), f"{name} differs by {float((value - other[name]).abs().max()):.3g}"


def close(one: dict[str, Tensor], other: dict[str, Tensor], bar: float) -> None:
    for name, value in one.items():
        if value.numel():
            size = float(value.abs().max())
            error = float((value - other[name]).abs().max())
            assert error <= bar * size, f"{name}: {error:.3g} of {size:.3g}"
