"""What does not change during a simulation: grid, gravity, mass, materials, walls and colliders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor, nn

from physim.checks import check_finite, check_shape
from physim.errors import InputError
from physim.laws.material import Material
from physim.shapes import DistanceField
from physim.sim.state import Control


@dataclass(frozen=True)
class Grid:
    """A regular background grid anywhere in space.

    Attributes:
        origin: position of node (0, 0, 0) [m].
        dx: spacing [m].
        shape: nodes along x, y, z; nz = 1 means two dimensions (plane strain).
        periodic: whether an axis wraps around; its period is `shape * dx`.
    """

    origin: tuple[float, float, float]
    dx: float
    shape: tuple[int, int, int]
    periodic: tuple[bool, bool, bool] = (False, False, False)

    def __post_init__(self) -> None:
        if not self.dx > 0:
            raise InputError(f"grid.dx must be positive, got {self.dx} m.")
        if min(self.shape[:2]) < 4 or self.shape[2] not in (1, *range(4, 100000)):
            raise InputError(f"grid.shape needs at least 4 nodes per axis (1 along z in 2D), got {self.shape}.")

    @property
    def dim(self) -> int:
        """2 or 3."""
        return 2 if self.shape[2] == 1 else 3

    @property
    def upper(self) -> tuple[float, float, float]:
        """Position of the last node [m]."""
        x, y, z = (o + self.dx * (s - 1) for o, s in zip(self.origin, self.shape, strict=True))
        return x, y, z


class WallKind(IntEnum):
    """How a mirrored wall treats the tangential velocity."""

    SLIP = 0
    NO_SLIP = 1


@dataclass(frozen=True)
class Wall:
    """A mirrored wall: an axis-aligned plane on a node or midway between two nodes of the grid.

    The material beyond the plane is the mirror image of the material before it, so that the wall costs no
    accuracy: momentum of ghost nodes is folded back, and ghost velocities are mirrored.

    Attributes:
        axis: 0, 1 or 2.
        high: False for the lower side of the domain, True for the upper.
        position: coordinate of the plane [m].
        kind: slip or no-slip.
        velocity: velocity of the wall [m/s]. Its tangential part matters for no-slip; that across takes a face of a
            body along in the weight-space solver, the others know none.
    """

    axis: int
    high: bool
    position: float
    kind: WallKind = WallKind.SLIP
    velocity: tuple[float, float, float] = (0.0, 0.0, 0.0)


class Contact(IntEnum):
    """What a collider does to the grid velocity inside it."""

    STICK = 0
    SLIP = 1
    COULOMB = 2
    BILATERAL = 3


class ColliderKind(IntEnum):
    """Geometry of a collider in its own frame."""

    PLANE = 0
    BOX = 1
    SPHERE = 2
    MESH = 3


@dataclass(frozen=True)
class Collider:
    """A rigid obstacle, static or moving; nodes inside it obey its `contact`.

    A plane fills the half space below its local z = 0; a box is centred with half sizes `size`; a sphere has
    radius `size[0]`; a mesh is a distance field in the local frame. A clamp is a box with `Contact.STICK`.

    Attributes:
        kind: geometry.
        size: half sizes or radius [m].
        position: origin of the local frame at t = 0 [m].
        rotation: local frame to world at t = 0.
        contact: stick, separating slip, Coulomb friction, or bilateral slip.
        friction: Coulomb coefficient [-].
        velocity: velocity of the origin [m/s].
        spin: angular velocity [rad/s].
        keyframes: optional (time [s], position [m]) pairs, followed linearly; overrides `velocity`.
        distances: the distance field of a mesh collider.
        name: for messages.
    """

    kind: ColliderKind
    size: tuple[float, float, float] = (0.0, 0.0, 0.0)
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    rotation: tuple[tuple[float, float, float], ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    contact: Contact = Contact.SLIP
    friction: float = 0.0
    velocity: tuple[float, float, float] = (0.0, 0.0, 0.0)
    spin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    keyframes: tuple[tuple[float, tuple[float, float, float]], ...] = ()
    distances: DistanceField | None = None
    name: str = "collider"

    @staticmethod
    def plane(point: Sequence[float], normal: Sequence[float], **options: object) -> Collider:
        """A half space whose surface passes through `point` [m] with outward `normal`."""
        n = np.asarray(normal, float)
        if not np.linalg.norm(n) > 0:
            raise InputError(f"plane collider: the normal must not be zero, got {tuple(normal)}.")
        n = n / np.linalg.norm(n)
        helper = np.eye(3)[int(np.argmin(np.abs(n)))]
        tangent = np.cross(helper, n)
        tangent /= np.linalg.norm(tangent)
        frame = np.stack([tangent, np.cross(n, tangent), n], axis=1)
        rotation = tuple(tuple(float(c) for c in row) for row in frame)
        at = tuple(float(c) for c in point)
        return Collider(ColliderKind.PLANE, position=at, rotation=rotation, **options)  # type: ignore[arg-type]

    def motion(self, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Position [m] and velocity [m/s] of the origin at time `t` [s]."""
        if not self.keyframes:
            velocity = np.asarray(self.velocity)
            return np.asarray(self.position) + velocity * t, velocity
        times = np.array([k[0] for k in self.keyframes])
        points = np.array([k[1] for k in self.keyframes])
        # The small offset puts a time that equals a keyframe, up to rounding, into the piece that follows it.
        i = int(np.searchsorted(times, t + 1e-9 * max(1.0, abs(t)), side="right")) - 1
        if i < 0:
            return points[0], np.zeros(3)
        if i >= len(times) - 1:
            return points[-1], np.zeros(3)
        velocity = (points[i + 1] - points[i]) / (times[i + 1] - times[i])
        return points[i] + velocity * (t - times[i]), velocity


@dataclass(frozen=True)
class Body:
    """A range of particles of one material."""

    start: int
    stop: int
    material: int
    name: str = "body"


class Model(nn.Module):
    """Everything a solver needs that stays fixed; `model.parameters()` are the material's raw parameters.

    Args:
        grid: the background grid.
        vol0: reference volumes [m^3] ([m^2] times one metre of depth in 2D), (n,).
        materials: the materials.
        bodies: which particles are of which material; ranges must tile 0..n without overlap.
        mass: particle masses [kg], (n,); density times volume unless given.
        gravity: acceleration [m/s^2], (3,).
        walls: mirrored walls.
        colliders: obstacles and clamps.

    Raises:
        InputError: ranges overlap or leave gaps, non-finite or non-positive volumes, a wall off the grid.
    """

    vol0: Tensor
    mass: Tensor
    gravity: Tensor
    materials: Sequence[Material]

    def __init__(
        self,
        grid: Grid,
        vol0: Tensor,
        materials: Sequence[Material],
        *,
        bodies: Sequence[Body] | None = None,
        mass: Tensor | None = None,
        gravity: Sequence[float] | Tensor = (0.0, 0.0, 0.0),
        walls: Sequence[Wall] = (),
        colliders: Sequence[Collider] = (),
    ) -> None:
        super().__init__()
        n = vol0.shape[0]
        check_shape("vol0", vol0, (None,))
        check_finite("vol0", vol0)
        if not bool((vol0 > 0).all()):
            raise InputError(f"vol0: reference volumes must be positive, the smallest is {float(vol0.min()):.3g} m^3.")
        self.grid = grid
        self.materials = nn.ModuleList(materials)  # type: ignore[assignment]
        bodies = tuple(bodies) if bodies is not None else (Body(0, n, 0),)
        _check_ranges(bodies, n, len(materials))
        for wall in walls:
            _check_wall(wall, grid)
        self.walls = tuple(walls)
        self.colliders = tuple(colliders)
        self.bodies = bodies
        if mass is None:
            density = torch.empty(n, dtype=torch.float64)
            for body in bodies:
                density[body.start : body.stop] = materials[body.material].rho0
            mass = vol0 * density.to(vol0)
        self.register_buffer("vol0", vol0)
        self.register_buffer("mass", mass)
        self.register_buffer("gravity", torch.as_tensor(gravity, dtype=torch.float64))

    @property
    def history_size(self) -> int:
        """Columns of `h`: the largest history of any material."""
        return max((m.history_size for m in self.materials), default=0)

    def control_at(self, t: float) -> Control:
        """The prescribed poses and twists of the colliders at time `t` [s], as float64 tensors."""
        position, velocity, rotation, spin = [], [], [], []
        for c in self.colliders:
            at, speed = c.motion(t)
            position.append(at)
            velocity.append(speed)
            rotation.append(_turned(np.asarray(c.rotation), np.asarray(c.spin) * t))
            spin.append(np.asarray(c.spin))
        count = len(self.colliders)

        def tensor(rows: list[np.ndarray], *shape: int) -> Tensor:
            return torch.as_tensor(np.array(rows, dtype=float).reshape(count, *shape))

        return Control(tensor(position, 3), tensor(rotation, 3, 3), tensor(velocity, 3), tensor(spin, 3))

    def next_change(self, t: float) -> float:
        """Time [s] of the first keyframe after `t` [s], where a collider's velocity jumps; infinite without one."""
        times = (time for c in self.colliders for time, _ in c.keyframes)
        return min((time for time in times if time > t + 1e-9 * max(1.0, abs(t))), default=math.inf)


def _turned(rotation: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """`rotation` turned by the rotation vector `angle` [rad]."""
    size = float(np.linalg.norm(angle))
    if size == 0.0:
        return rotation
    x, y, z = angle / size
    K = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return (np.eye(3) + np.sin(size) * K + (1 - np.cos(size)) * K @ K) @ rotation


def _check_ranges(bodies: tuple[Body, ...], n: int, materials: int) -> None:
    at = 0
    for body in sorted(bodies, key=lambda b: b.start):
        if body.start < at:
            raise InputError(
                f"body '{body.name}' starts at particle {body.start}, but particles up to {at} already "
                "have a material: two materials on one particle."
            )
        if body.start > at:
            raise InputError(f"particles {at} to {body.start} belong to no body.")
        if not 0 <= body.material < materials:
            raise InputError(f"body '{body.name}' names material {body.material} of {materials}.")
        at = body.stop
    if at != n:
        raise InputError(f"the bodies cover {at} particles, but there are {n}.")


def _check_wall(wall: Wall, grid: Grid) -> None:
    code = 2.0 * (wall.position - grid.origin[wall.axis]) / grid.dx
    if abs(code - round(code)) > 1e-4:
        raise InputError(
            f"mirrored wall at {wall.position} m on axis {'xyz'[wall.axis]} must lie on a node or midway between two "
            f"nodes (origin {grid.origin[wall.axis]} m, spacing {grid.dx} m); the nearest place is "
            f"{grid.origin[wall.axis] + round(code) * grid.dx / 2:.6g} m."
        )
    if grid.periodic[wall.axis]:
        raise InputError(f"axis {'xyz'[wall.axis]} is periodic and cannot have a wall.")
