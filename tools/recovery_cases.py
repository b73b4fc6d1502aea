"""Four small simulations with one unknown each, and the fit problem that their synthetic records make."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from physim.fit.problem import Problem
from physim.fit.space import Quantity, Space, Transform
from physim.laws.material import Material
from physim.observe.front import Front
from physim.observe.gauge import Gauge, Snapshot
from physim.observe.gauges import Coordinate, volume_share
from physim.observe.observer import reader, split
from physim.observe.record import Comparison, Observation
from physim.observe.tracks import Tracks
from physim.shapes import Box, ParticleSet, Sphere, sample
from physim.sim.model import Collider, Contact, Grid, Model, Wall, WallKind
from physim.sim.rollout import rollout
from physim.sim.state import ParticleState
from physim.solvers.mpm.solver import SolverMPM

GRAVITY = (0.0, -9.81, 0.0)
SOFT = 0.5  # width of a soft front in particle spacings


@dataclass(frozen=True)
class Setup:
    """One simulation, ready to run.

    Attributes:
        solver: with its model and first positions.
        gauges: what is measured, by name; all in metres.
    """

    solver: SolverMPM
    gauges: dict[str, Gauge]


@dataclass(frozen=True)
class Case:
    """An experiment with one unknown.

    Attributes:
        name: on the command line.
        title: in the table.
        quantity: the unknown; its start is the truth.
        starts: physical values that the fits start from, taken in turn by seed.
        noise: standard deviation of every measured value [m].
        frame: time between frames [s].
        frames: how many are measured after the start.
        substeps: per frame; fixed, so that the response to the unknown has no jumps.
        build: (value, refinement) -> the simulation; a refinement of r divides the grid spacing by r.
    """

    name: str
    title: str
    quantity: Quantity
    starts: tuple[float, ...]
    noise: float
    frame: float
    frames: int
    substeps: int
    build: Callable[[float, float], Setup]

    @property
    def truth(self) -> float:
        """The value that the records are made with."""
        return self.quantity.start

    def simulate(
        self, value: float, *, refine: float = 1.0, halve: bool = False
    ) -> tuple[dict[str, Gauge], list[Tensor]]:
        """Gauges, and what they read in every frame, (frames + 1, columns) each [m].

        Args:
            value: of the unknown.
            refine: divides the grid spacing and the substep.
            halve: halve the substep.
        """
        setup = self.build(value, refine)
        every = math.ceil(self.substeps * refine) * (2 if halve else 1)

        def see(state: ParticleState) -> Snapshot:
            return Snapshot(state.x)

        path = rollout(
            setup.solver,
            setup.solver.initial_state(),
            dt=self.frame / every,
            steps=every * self.frames,
            every=every,
            save=reader(list(setup.gauges.values()), see),
        )
        return setup.gauges, split(list(setup.gauges.values()), path.saved)

    @property
    def times(self) -> Tensor:
        """Times of the frames [s], the start included."""
        return torch.arange(self.frames + 1, dtype=torch.float64) * self.frame


class Recovery(Problem):
    """Find the unknown of a case from noisy records of it.

    Args:
        case: the experiment.
        series: noise-free records, one (frames + 1, columns) per gauge [m].
        seed: of the noise.
    """

    def __init__(self, case: Case, series: Sequence[Tensor], seed: int) -> None:
        self.case = case
        self.space = Space((case.quantity,))
        self.recordings = (case.name,)
        # Every case draws its own noise; otherwise their intervals would miss together.
        generator = torch.Generator().manual_seed(zlib.crc32(f"{case.name} {seed}".encode()))
        self.records = [s + case.noise * torch.randn(s.shape, generator=generator, dtype=torch.float64) for s in series]

    def predict(self, recording: str, raw: Tensor, *, end: float | None = None) -> list[Comparison]:
        """Simulate at `raw`, (1,), and put every gauge beside its record."""
        value = float(self.space.values(raw)[0])
        gauges, series = self.case.simulate(value)
        times = self.case.times
        # The start is known, so its record says nothing.
        return [
            Observation(name, gauge, times[1:], record[1:], torch.tensor(self.case.noise, dtype=torch.float64)).compare(
                times, simulated
            )
            for (name, gauge), record, simulated in zip(gauges.items(), self.records, series, strict=True)
        ]


def _grid(lower: Sequence[float], upper: Sequence[float], dx: float) -> Grid:
    """A grid with a node at the origin that covers a box [m] with three cells to spare; two coordinates mean 2D."""
    first = [math.floor(low / dx + 1e-9) - 3 for low in lower]
    last = [math.ceil(high / dx - 1e-9) + 3 for high in upper]
    flat = len(lower) == 2
    shape = [b - a + 1 for a, b in zip(first, last, strict=True)] + [1] * flat
    origin = [a * dx for a in first] + [0.0] * flat
    return Grid((origin[0], origin[1], origin[2]), dx, (shape[0], shape[1], shape[2]))


def _tracks(particles: ParticleSet, points: Mapping[str, Sequence[float]]) -> Tracks:
    """Markers on the body; their x and y are measured."""
    at = torch.tensor(list(points.values()), dtype=torch.float64)
    return Tracks.bind(torch.as_tensor(particles.x), at, axes=(0, 1), names=tuple(points))


def _front(particles: ParticleSet, axis: int, name: str) -> Front:
    """How far the body reaches along an axis, but for 1 % of it."""
    rows = torch.arange(particles.n)
    along = Coordinate(torch.eye(3, dtype=torch.float64)[axis], torch.zeros(3, dtype=torch.float64))
    share = volume_share(torch.as_tensor(particles.vol0), rows)
    return Front(rows, share, along, SOFT * particles.spacing, 0.01, name=name)


def _solver(particles: ParticleSet, material: Material, grid: Grid, **options: object) -> SolverMPM:
    """A body of one material in single precision, and its fall."""
    vol0 = torch.as_tensor(particles.vol0).float()
    velocity = options.pop("velocity", (0.0, 0.0, 0.0))
    model = Model(grid, vol0, [material], gravity=GRAVITY, **options)  # type: ignore[arg-type]
    x = torch.as_tensor(particles.x).float()
    return SolverMPM(model, x, torch.tensor(velocity).expand_as(x).contiguous())


def cube(value: float, refine: float) -> Setup:
    """A rubber cube of 10 cm hits a smooth floor at 1.2 m/s and bounces (3D); `value` is E [Pa]."""
    dx, side = 0.02 / refine, 0.1
    body = sample(Box.from_bounds((0.0, 0.01, 0.0), (side, side + 0.01, side)), per_cell=8, dx=dx)
    material = Material("neo_hookean", rho0=1000.0, values={"E": value, "nu": 0.3})
    floor = Collider.plane((0.0, 0.0, 0.0), (0.0, 1.0, 0.0), contact=Contact.SLIP)
    grid = _grid((-0.04, 0.0, -0.04), (0.14, 0.2, 0.14), dx)
    solver = _solver(body, material, grid, colliders=[floor], velocity=(0.0, -1.2, 0.0))
    points = {
        "top corner": (side, side + 0.01, side),
        "top": (side / 2, side + 0.01, side / 2),
        "side": (side, side / 2 + 0.01, side / 2),
        "foot": (side, 0.01, side),
    }
    return Setup(solver, {"marks": _tracks(body, points)})


def column(value: float, refine: float) -> Setup:
    """A sand column collapses away from a smooth wall along a rough floor (2D); `value` is the friction angle [rad]."""
    dx, width, height = 0.0125 / refine, 0.1, 0.125
    body = sample(Box.from_bounds((0.0, 0.0, 0.0), (width, height, 1.0)), per_cell=4, dx=dx, dim=2)
    values = {"E": 1e5, "nu": 0.3, "friction_angle": value}
    material = Material("hencky", inelastic="drucker_prager_2d", rho0=1600.0, values=values)
    walls = (Wall(0, False, 0.0), Wall(1, False, 0.0, WallKind.NO_SLIP))
    solver = _solver(body, material, _grid((0.0, 0.0), (0.6, height), dx), walls=walls)
    points = {"corner": (width, height, 0.0), "side": (width, height / 2, 0.0), "top": (width / 2, height, 0.0)}
    return Setup(
        solver, {"marks": _tracks(body, points), "front": _front(body, 0, "front"), "top": _front(body, 1, "top")}
    )


def drop(value: float, refine: float) -> Setup:
    """Half of a round drop of radius 8 cm spreads on a floor that it wets (2D); `value` is the viscosity [Pa s]."""
    dx, radius = 0.01 / refine, 0.08
    body = sample(Sphere((0.0, radius, 0.0), radius), per_cell=4, dx=dx, dim=2)
    keep = body.x[:, 0] > 0.0
    half = ParticleSet(
        body.x[keep], np.full(keep.sum(), 0.5 * math.pi * radius**2 / keep.sum()), body.spacing, body.fill_ratio
    )
    values = {"bulk_modulus": 36e3, "viscosity": value}
    material = Material("fluid_quadratic", "newtonian", "fluid", rho0=1000.0, values=values)
    walls = (Wall(0, False, 0.0), Wall(1, False, 0.0, WallKind.NO_SLIP))
    solver = _solver(half, material, _grid((0.0, 0.0), (0.35, 2 * radius), dx), walls=walls)
    points = {"crown": (0.0, 2 * radius, 0.0), "side": (radius, radius, 0.0), "middle": (radius / 2, radius, 0.0)}
    return Setup(
        solver, {"marks": _tracks(half, points), "front": _front(half, 0, "front"), "top": _front(half, 1, "top")}
    )


PRESS = ((0.0, 0.1), (0.15, 0.085), (0.17, 0.085), (0.27, 0.1))
"""Height of the plate over time: (time [s], height [m])."""


def press(value: float, refine: float) -> Setup:
    """Half of a block of 10 cm is pressed by 15 % between a rough floor and a smooth plate, and springs back (2D).

    `value` is the yield stress [Pa]. The plate's motion is prescribed and its force is not measured.
    """
    dx, width, height = 0.00625 / refine, 0.05, 0.1
    body = sample(Box.from_bounds((0.0, 0.0, 0.0), (width, height, 1.0)), per_cell=4, dx=dx, dim=2)
    values = {"E": 6e4, "nu": 0.3, "yield_stress": value}
    material = Material("hencky", inelastic="von_mises", rho0=1500.0, values=values)
    plate = Collider.plane(
        (0.0, height, 0.0),
        (0.0, -1.0, 0.0),
        contact=Contact.SLIP,
        keyframes=tuple((t, (0.0, y, 0.0)) for t, y in PRESS),
    )
    walls = (Wall(0, False, 0.0), Wall(1, False, 0.0, WallKind.NO_SLIP))
    solver = _solver(body, material, _grid((0.0, 0.0), (0.12, height), dx), walls=walls, colliders=[plate])
    points = {
        "top": (0.0, height, 0.0),
        "corner": (width, height, 0.0),
        "side": (width, height / 2, 0.0),
        "core": (width / 2, height / 2, 0.0),
    }
    return Setup(solver, {"marks": _tracks(body, points)})


CASES = {
    case.name: case
    for case in (
        Case("E", "E of a bouncing cube", Quantity("E", "Pa", 3e4), (1.5e4, 6e4), 1e-3, 5e-3, 40, 10, cube),
        Case(
            "friction_angle",
            "friction angle of a sand column",
            Quantity("friction_angle", "rad", math.radians(30.0), Transform.LOGIT, 0.0, 0.5 * math.pi),
            (math.radians(18.0), math.radians(45.0)),
            1e-3,
            1e-2,
            45,
            20,
            column,
        ),
        Case(
            "viscosity",
            "viscosity of a spreading drop",
            Quantity("viscosity", "Pa s", 8.0),
            (4.0, 16.0),
            1e-3,
            1e-2,
            40,
            30,
            drop,
        ),
        Case(
            "yield_stress",
            "yield stress of a pressed block",
            Quantity("yield_stress", "Pa", 2e3),
            (1e3, 4e3),
            2e-4,
            6e-3,
            50,
            18,
            press,
        ),
    )
}
