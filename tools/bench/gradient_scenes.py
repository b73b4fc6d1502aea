"""Six small scenes whose gradients are compared: what is simulated, by what is differentiated, and the loss.

Bodies start from random strains, velocities and places off the lattice, so that no symmetry hides an error, and cross
more than a cell, so that layouts change on the way.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from physim.laws.material import Material
from physim.sim.model import Body, Collider, ColliderKind, Contact, Grid, Model, Wall, WallKind
from physim.sim.state import Control, ParticleState
from tools.validation.bodies import lattice

DX = 0.05  # grid spacing [m]
FIELDS = {"x": 1.0 / DX, "v": 1.0, "C": 0.05, "F": 3.0, "h": 3.0}
"""Weights of the final state's fields in the loss."""
MOTION = (
    ("collider place", "position", 0.1 * DX),
    ("collider velocity", "velocity", 1.0),
    ("collider spin", "spin", 1.0),
)
"""Leaves of a collider's motion, the fields of `Control` that they are, and the scale of a change."""
WORLDLY = ("gravity", *(name for name, _field, _size in MOTION))
"""Leaves with an axis of worlds."""


@dataclass(frozen=True)
class Piece:
    """A block of one material.

    Attributes:
        low: its corner [m].
        cells: its size in cells.
        material: made anew for each model.
        v: velocity [m/s].
    """

    low: tuple[float, ...]
    cells: tuple[int, ...]
    material: Callable[[int], Material]
    v: tuple[float, float, float]


@dataclass(frozen=True)
class GradientScene:
    """A scene to differentiate.

    Attributes:
        pieces: the bodies.
        summary: for the table.
        shape: nodes of the grid.
        stretch: size of the random strain at the start.
        worlds: copies of it, with differences in all that may differ.
    """

    pieces: Sequence[Piece]
    summary: str
    shape: tuple[int, int, int] = (20, 20, 20)
    colliders: tuple[Collider, ...] = ()
    walls: tuple[Wall, ...] = ()
    periodic: tuple[bool, bool, bool] = (False, False, False)
    blend: float = 0.0
    volume_filter: float = 0.0
    steps: int = 48
    dt: float = 5e-4
    stretch: float = 0.02
    worlds: int = 1

    @property
    def options(self) -> dict[str, float]:
        """Of the solver."""
        return {"blend": self.blend, "volume_filter": self.volume_filter}

    def set_up(self, dtype: torch.dtype) -> Setup:
        """The scene in one precision; numbers are those that float32 can hold in both."""
        draw = torch.Generator().manual_seed(7)
        dim = 2 if self.shape[2] == 1 else 3
        plane = torch.tensor([1.0, 1.0, float(dim == 3)], dtype=torch.float64)

        def noise(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=draw, dtype=torch.float64) * plane

        def rounded(value: Tensor) -> Tensor:
            return value.float().to(dtype)

        places, volumes, speeds, rests, materials, bodies = [], [], [], [], [], []
        count = 0
        for index, piece in enumerate(self.pieces):
            high = [a + c * DX for a, c in zip(piece.low, piece.cells, strict=True)]
            x, vol0 = lattice(piece.low, high, DX / 2)
            materials.append(piece.material(len(x)))
            places.append(x)
            volumes.append(vol0)
            speeds.append(torch.tensor(piece.v, dtype=torch.float64).expand(len(x), 3))
            rests.append(materials[-1].rest_history(len(x)))
            bodies.append(Body(count, count + len(x), index))
            count += len(x)
        grid = Grid((0.0, 0.0, 0.0), DX, self.shape, self.periodic)
        options = {"bodies": bodies, "colliders": self.colliders, "walls": self.walls}
        model = Model(grid, rounded(torch.cat(volumes)), materials, **options)
        h = torch.zeros(count, model.history_size, dtype=torch.float64)
        for body, rest in zip(bodies, rests, strict=True):
            h[body.start : body.stop, : rest.shape[1]] = rest
        total = self.worlds * count
        x, v, h = (t.repeat(self.worlds, 1) for t in (torch.cat(places), torch.cat(speeds), h))
        x, v = x + 0.1 * DX * noise(total, 3), (v + 0.2 * noise(total, 3)) * plane
        F = torch.eye(3, dtype=torch.float64) + self.stretch * noise(total, 3, 3) * plane[:, None]
        start = ParticleState.at_rest(rounded(x), v=rounded(v), h=rounded(h))
        start = start.replace(F=rounded(F), C=rounded(noise(total, 3, 3) * plane[:, None]))
        pull = torch.tensor([0.3, -9.81, 0.2], dtype=torch.float64) * plane
        motion = {}
        if self.worlds > 1:
            pull = pull + noise(self.worlds, 3)
        else:
            model.gravity = rounded(pull).requires_grad_(True)
        if self.colliders:
            base = model.control_at(0.0)
            for name, field_, size in MOTION:
                value = getattr(base, field_)
                if self.worlds > 1:
                    value = value + size * 0.1 * noise(self.worlds, *value.shape)
                motion[name] = (rounded(value), size)
        leaves = {"x0": (start.x, 0.1 * DX), "v0": (start.v, 1.0), "F0": (start.F, 0.1)}
        leaves |= {"gravity": (model.gravity if self.worlds == 1 else rounded(pull), 9.81)} | motion
        weights = {f: torch.randn(getattr(start, f).shape, generator=draw, dtype=torch.float64) for f in FIELDS}
        return Setup(self, model, start, leaves | _parameters(materials), weights)


def _parameters(materials: Sequence[Material]) -> dict[str, tuple[Tensor, float]]:
    """The raw values of all parameters, set free, by name."""
    found = {}
    for material in materials:
        names = [n for n in material.values() if n in material.raw]
        material.free(*names)
        label = f" of {material.elastic.name}" if len(materials) > 1 else ""
        found |= {f"{n}{label}": (material.raw[n], 0.3) for n in names}
    return found


@dataclass(frozen=True)
class Setup:
    """A scene in one precision, or one of its worlds.

    Attributes:
        leaves: what the loss is differentiated by, with the scale of a change.
        weights: of the final state in the loss.
        alone: whether it is one world of several.
    """

    scene: GradientScene
    model: Model
    start: ParticleState
    leaves: Mapping[str, tuple[Tensor, float]]
    weights: Mapping[str, Tensor] = field(repr=False)
    alone: bool = False

    def __post_init__(self) -> None:
        for leaf, _scale in self.leaves.values():
            leaf.requires_grad_(True)

    @property
    def worlds(self) -> int:
        """Number of worlds."""
        return 1 if self.alone else self.scene.worlds

    def given(self) -> tuple[ParticleState, Control]:
        """The start, and the colliders' motion, from the leaves' present values."""
        leaf = {n: t for n, (t, _scale) in self.leaves.items()}
        state = self.start.replace(x=leaf["x0"], v=leaf["v0"], F=leaf["F0"])
        control = self.model.control_at(0.0)
        rotation = control.rotation.float().to(state.x)
        if self.worlds > 1:
            rotation = rotation.expand(self.worlds, *rotation.shape)
        if self.scene.colliders:
            moved = [leaf[name] for name, _field, _size in MOTION]
            control = Control(moved[0], rotation, *moved[1:])
        pull = leaf["gravity"] if self.scene.worlds > 1 else None
        return state, dataclasses.replace(control, acceleration=pull)

    def loss(self, end: ParticleState) -> Tensor:
        """Summed over worlds: random linear functionals of all that the state holds, and the mean squared speed."""
        total = (end.v.double() ** 2).mean()
        for name, size in FIELDS.items():
            value = getattr(end, name)
            if value.numel():
                total = total + size * (value.double() * self.weights[name]).mean()
        return self.worlds * total

    def world(self, w: int) -> Setup:
        """One world with leaves of its own."""
        count = self.model.vol0.shape[0]
        rows = slice(w * count, (w + 1) * count)
        materials = []
        for old in self.model.materials:
            values = {n: v.detach()[w] if v.ndim and len(v) == self.worlds else v.detach() for n, v in
                      old.values().items()}  # fmt: skip
            materials.append(Material(old.elastic, old.viscous, old.inelastic, rho0=old.rho0, values=values))
        model = Model(
            self.model.grid, self.model.vol0, materials, bodies=self.model.bodies, colliders=self.model.colliders,
            walls=self.model.walls,
        )  # fmt: skip
        start = ParticleState(*(getattr(self.start, f).detach()[rows] for f in ("x", "v", "C", "F", "h")))
        leaves = {"x0": start.x, "v0": start.v, "F0": start.F}
        leaves |= {n: t.detach()[w] for n, (t, _scale) in self.leaves.items() if n in WORLDLY}
        scaled = {n: (t.clone(), self.leaves[n][1]) for n, t in leaves.items()}
        weights = {n: t[rows] for n, t in self.weights.items()}
        return Setup(self.scene, model, start, scaled | _parameters(materials), weights, alone=True)


def _jelly(n: int) -> Material:
    E = torch.linspace(2e4, 5e4, n, dtype=torch.float64)
    return Material("fixed_corotated", rho0=1e3, values={"E": E, "nu": 0.3})


def _jellies(n: int) -> Material:
    E = torch.tensor([2e4, 3e4, 5e4], dtype=torch.float64)
    return Material("fixed_corotated", rho0=1e3, values={"E": E, "nu": 0.3})


def _sand(n: int) -> Material:
    angles = {"friction_angle": math.radians(30.0), "dilation_angle": math.radians(5.0)}
    return Material(
        "hencky", None, "drucker_prager", rho0=1.5e3, values={"E": 2e5, "nu": 0.3, "cohesion": 100.0} | angles
    )


def _liquid(n: int) -> Material:
    values = {"bulk_modulus": 5e4, "viscosity": 5.0, "bulk_viscosity": 2.0}
    return Material("fluid_tait", "newtonian", "fluid", rho0=1e3, values=values)


def _metal(n: int) -> Material:
    values = {"E": 5e4, "nu": 0.3, "yield_stress": 400.0, "hardening": 1e3}
    return Material("hencky", None, "von_mises", rho0=1.2e3, values=values)


def _rubber(n: int) -> Material:
    values = {"E": 3e4, "nu": 0.35, "viscosity": 4.0, "bulk_viscosity": 1.0}
    return Material("neo_hookean", "kelvin_voigt", rho0=1e3, values=values)


def _turned(angle: float) -> tuple[tuple[float, float, float], ...]:
    c, s = math.cos(angle), math.sin(angle)
    return ((c, -s, 0.0), (s, c, 0.0), (0.0, 0.0, 1.0))


_BOX = Collider(
    ColliderKind.BOX, (0.21, 0.06, 0.27), (0.47, 0.223, 0.51), _turned(0.1), Contact.COULOMB, friction=0.3,
    velocity=(0.3, 0.6, 0.1), spin=(0.2, 0.3, 1.0),
)  # fmt: skip
_GROUND = Collider.plane(
    (0.5, 0.277, 0.5), (0.1, 1.0, 0.05), contact=Contact.STICK, velocity=(0.2, 0.1, 0.0), spin=(0.1, 0.2, 0.3)
)
_BALL = Collider(
    ColliderKind.SPHERE, (0.14, 0.0, 0.0), (0.53, 0.187, 0.0), contact=Contact.COULOMB, friction=0.4,
    velocity=(0.4, 0.8, 0.0), spin=(0.0, 0.0, 3.0),
)  # fmt: skip

SCENES: dict[str, GradientScene] = {
    "contact": GradientScene(
        [Piece((0.3, 0.3, 0.4), (8, 3, 3), _jelly, (0.6, -2.5, 0.3))],
        "3D, jelly of varied stiffness on a moving, turning box with friction",
        colliders=(_BOX,),
        stretch=0.05,
    ),
    "plastic": GradientScene(
        [Piece((0.35, 0.3, 0.4), (4, 6, 3), _sand, (0.4, -2.5, 0.2))],
        "3D, a column of sand falls on a moving ground that it sticks to",
        colliders=(_GROUND,),
    ),
    "fluid": GradientScene(
        [Piece((0.25, 0.25, 0.3), (5, 5, 3), _liquid, (-1.5, -2.5, 0.5))],
        "3D, viscous liquid (Tait) in a corner of a slip and a no-slip wall, AFLIP, volume filter",
        volume_filter=0.05,
        walls=(Wall(1, False, 0.25, WallKind.NO_SLIP, (0.5, 0.0, 0.2)), Wall(0, False, 0.25, WallKind.SLIP)),
        blend=0.9,
    ),
    "several materials": GradientScene(
        [
            Piece((0.25, 0.3, 0.4), (4, 3, 3), _jelly, (1.0, -1.5, 0.2)),
            Piece((0.45, 0.3, 0.4), (3, 4, 3), _sand, (0.0, -1.5, 0.0)),
            Piece((0.3, 0.45, 0.4), (3, 2, 3), _liquid, (0.3, -3.0, 0.0)),
        ],
        "3D, jelly, sand and liquid that touch, on a moving plane",
        colliders=(_GROUND,),
    ),
    "2D": GradientScene(
        [
            Piece((0.3, 0.35), (8, 4), _metal, (2.0, -2.5, 0.0)),
            Piece((0.75, 0.35), (4, 5), _rubber, (1.0, -2.0, 0.0)),
        ],
        "2D, plastic and viscoelastic blocks on a rising, turning disk, periodic along x, AFLIP",
        shape=(24, 20, 1),
        colliders=(_BALL,),
        periodic=(True, False, False),
        blend=0.5,
        steps=64,
    ),
    "batch": GradientScene(
        [
            Piece((0.3, 0.3, 0.4), (4, 3, 2), _jellies, (0.6, -2.5, 0.3)),
            Piece((0.55, 0.3, 0.4), (2, 3, 2), _liquid, (-0.5, -2.5, 0.0)),
        ],
        "3D, three worlds at once: jelly of another stiffness in each, and liquid, on boxes that move each in its way",
        colliders=(_BOX,),
        volume_filter=0.05,
        worlds=3,
    ),
}
