"""Entries of a scene file about space and time: grid, shapes, bodies, walls, colliders, clamps."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from physim.scene.fields import (
    Direction,
    Force,
    Friction,
    Length,
    Mass,
    Part,
    Point,
    PositiveLength,
    PositiveTime,
    Quantity,
    Rotation,
    Spin,
    Time,
    Velocity,
    fail,
)
from physim.scene.units import TIME, VELOCITY

SIDES = ("x_min", "x_max", "y_min", "y_max", "z_min", "z_max")


class GridPart(Part):
    """The background grid. `origin` to `upper` is where material may be; nodes beyond it are added by `margin`.

    `mass_floor` is added to every node's mass when its velocity is formed: it calms nodes that a body barely touches.
    `on_walls` moves the nodes by less than a cell so that walls which only push lie on some.
    """

    dx: PositiveLength
    origin: Point | None = None
    upper: Point | None = None
    size: Point | None = None
    periodic: tuple[Literal["x", "y", "z"], ...] = ()
    margin: Annotated[int, Field(ge=0, le=16)] = 3
    mass_floor: Mass = 0.0
    on_walls: bool = True

    @model_validator(mode="after")
    def _extent(self) -> GridPart:
        if self.upper is not None and self.size is not None:
            raise fail("give either `upper` or `size`, not both")
        if self.origin is None and self.upper is not None:
            raise fail("`upper` needs `origin`")
        return self


class TimePart(Part):
    """How long, and in which steps."""

    duration: PositiveTime
    dt: Annotated[float | str, Quantity(TIME, above=0.0, words=("auto",))] = "auto"
    frame: PositiveTime | None = None

    @model_validator(mode="after")
    def _order(self) -> TimePart:
        if self.frame is not None and self.frame > self.duration * (1 + 1e-9):
            raise fail(f"frame ({self.frame:g} s) is longer than duration ({self.duration:g} s)")
        return self


class BoxPart(Part):
    """A box by two corners, or by centre and size; `rotation` turns it about its centre."""

    lower: Point | None = None
    upper: Point | None = None
    center: Point | None = None
    size: Point | None = None
    rotation: Rotation | None = None

    @model_validator(mode="after")
    def _pair(self) -> BoxPart:
        corners = self.lower is not None and self.upper is not None
        middle = self.center is not None and self.size is not None
        if corners == middle or (corners and (self.center or self.size)) or (middle and (self.lower or self.upper)):
            raise fail("a box needs either `lower` and `upper`, or `center` and `size`")
        return self


class SpherePart(Part):
    """A sphere; a disk in 2D."""

    center: Point
    radius: PositiveLength


class CylinderPart(Part):
    """A solid cylinder; in 2D use a sphere, which is a disk."""

    center: Point
    radius: PositiveLength
    height: PositiveLength
    axis: Literal["x", "y", "z"] | Direction = "y"


class PolygonPart(Part):
    """A polygon in the xy plane, extruded by `depth` around `z` in 3D."""

    corners: Annotated[tuple[tuple[Length, Length], ...], Field(min_length=3)]
    depth: PositiveLength = 1.0
    z: Length = 0.0


class OutlinePart(Part):
    """The outline in the first picture of a video, as a slab (`thickness`) or turned about an axis (`revolve`).

    `at` is a point as far away as the middle of the body, which a camera with perspective needs; of several things in
    the picture the one at that point is taken, and else the largest. `along` is the direction of the thickness, the
    line of sight unless given. In 2D the body is the outline in the xy plane.
    """

    video: str
    thickness: PositiveLength | None = None
    revolve: Literal["x", "y", "z"] | Direction | None = None
    at: Point | None = None
    along: Direction | None = None

    @model_validator(mode="after")
    def _solid(self) -> OutlinePart:
        if self.revolve is not None and (self.thickness is not None or self.along is not None):
            raise fail("give either a `thickness` (and `along`), for a slab, or `revolve`, for a body of revolution")
        for name in ("revolve", "along"):
            given = getattr(self, name)
            if isinstance(given, tuple) and not any(given):
                raise fail(f"`{name}` has length zero; give a direction such as [0, 1, 0]")
        return self


class HullPart(Part):
    """What lies inside the outlines in the first pictures of several videos at once.

    `thickness` bounds the direction that no camera sees, half of it to each side of `at`; `resolution` is the spacing
    of the grid.
    """

    videos: Annotated[tuple[str, ...], Field(min_length=1)]
    thickness: PositiveLength | None = None
    at: Point | None = None
    resolution: PositiveLength | None = None


class PlanePart(Part):
    """The half space behind a plane; `normal` points out of the solid."""

    point: Point
    normal: Direction


class MeshPart(Part):
    """A watertight surface mesh; `scale` is the length of one unit of the file, such as 1 mm.

    `cut` keeps what lies behind a plane, in the file's own axes: the part of a body that no clamp holds, say.
    """

    file: str
    scale: PositiveLength = 1.0
    translation: Point | None = None
    rotation: Rotation | None = None
    cut: PlanePart | None = None


class _OneShape(Part):
    """Base of entries that hold exactly one shape."""

    @model_validator(mode="after")
    def _one(self) -> _OneShape:
        names = [n for n in SHAPES if n in type(self).model_fields]
        given = [n for n in names if getattr(self, n) is not None]
        if len(given) != 1:
            what = f"got {' and '.join(given)}" if given else "got none"
            raise fail(f"needs exactly one shape ({', '.join(names)}), {what}")
        return self

    @property
    def kind(self) -> str:
        """Name of the shape given."""
        return next(n for n in SHAPES if getattr(self, n, None) is not None)

    @property
    def shape_part(self) -> Any:
        """The shape given."""
        return getattr(self, self.kind)


SHAPES = ("box", "sphere", "cylinder", "polygon", "mesh", "outline", "hull", "plane")


class ShapePart(_OneShape):
    """A solid to be filled with particles."""

    box: BoxPart | None = None
    sphere: SpherePart | None = None
    cylinder: CylinderPart | None = None
    polygon: PolygonPart | None = None
    mesh: MeshPart | None = None
    outline: OutlinePart | None = None
    hull: HullPart | None = None


class RegionPart(_OneShape):
    """A part of space that chooses particles."""

    box: BoxPart | None = None
    sphere: SpherePart | None = None
    cylinder: CylinderPart | None = None


class FieldPart(Part):
    """The function of space that holds the solution, with `solver: insr`.

    `width` is the number of neurons of a layer (waves of a Fourier basis, Gaussians in all), `frequency` how finely
    it begins to wave [half waves over the body]. `linear` keeps to small changes of its weights, with which a body
    settles in a few steps; unless given, it is set for bodies and not for flows. `optimizer: adam` looks for each new
    field as was published: a hundred times slower, and less exact.
    """

    basis: Literal["siren", "fourier", "gaussians"] = "siren"
    width: Annotated[int, Field(ge=2, le=2000)] | None = None
    depth: Annotated[int, Field(ge=1, le=8)] = 2
    frequency: Annotated[float, Field(gt=0, le=1000)] | None = None
    linear: bool | None = None
    optimizer: Literal["gauss_newton", "adam"] = "gauss_newton"


class StreamPart(Part):
    """One cellular flow: psi = A sin(m pi x / width) sin(n pi y / height) over the body's box; u = (psi_y, -psi_x).

    `waves` is (m, n), `speed` the largest velocity along x.
    """

    speed: Annotated[float, Quantity(VELOCITY)]
    waves: tuple[Annotated[int, Field(ge=1, le=1000)], Annotated[int, Field(ge=1, le=1000)]]


class BodyPart(Part):
    """Particles of one material, and how they move at the start.

    `stream` adds cellular flows to `velocity` and `spin`.
    `spacing`, `per_cell` (particles per grid cell), `counts` (particles along each axis) or `budget` sets how
    many there are; 4 per cell in 2D and 8 in 3D unless given.
    """

    shape: ShapePart
    material: str
    velocity: Velocity | None = None
    spin: Spin | None = None
    stream: tuple[StreamPart, ...] = ()
    spacing: PositiveLength | None = None
    per_cell: Annotated[float, Field(gt=0, le=1000)] | None = None
    counts: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    budget: Annotated[int, Field(ge=1)] | None = None
    sampling: Literal["lattice", "jitter", "faces"] = "lattice"

    @model_validator(mode="after")
    def _resolution(self) -> BodyPart:
        given = [n for n in ("spacing", "per_cell", "counts") if getattr(self, n) is not None]
        if len(given) > 1:
            raise fail(f"give one of spacing, per_cell and counts, got {' and '.join(given)}")
        return self


WallType = Literal["mirror_slip", "mirror_no_slip", "slip", "stick", "coulomb", "open"]


class WallPart(Part):
    """One side of the domain; `y_min: stick` is short for `y_min: {type: stick}`."""

    type: WallType
    friction: Friction = 0.0
    velocity: Velocity | None = None
    position: Length | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        return {"type": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _friction(self) -> WallPart:
        if "friction" in self.model_fields_set and self.type != "coulomb":
            raise fail(f"friction is for `type: coulomb`, got `type: {self.type}`")
        return self


class WallsPart(Part):
    """Walls by side; `all` holds for the sides that are not named."""

    all: WallPart | None = None
    x_min: WallPart | None = None
    x_max: WallPart | None = None
    y_min: WallPart | None = None
    y_max: WallPart | None = None
    z_min: WallPart | None = None
    z_max: WallPart | None = None


class KeyframePart(Part):
    """A place of a moving collider at one time."""

    time: Time
    position: Point


class ColliderPart(_OneShape):
    """A rigid obstacle: static, moving with a velocity and spin, or along keyframes."""

    plane: PlanePart | None = None
    box: BoxPart | None = None
    sphere: SpherePart | None = None
    mesh: MeshPart | None = None
    contact: Literal["stick", "slip", "coulomb", "bilateral"] = "slip"
    friction: Friction = 0.0
    velocity: Velocity | None = None
    spin: Spin | None = None
    keyframes: tuple[KeyframePart, ...] = ()

    @model_validator(mode="after")
    def _motion(self) -> ColliderPart:
        if "friction" in self.model_fields_set and self.contact != "coulomb":
            raise fail(f"friction is for `contact: coulomb`, got `contact: {self.contact}`")
        if self.keyframes and self.velocity is not None:
            raise fail("give either velocity or keyframes, not both")
        times = [k.time for k in self.keyframes]
        if any(b <= a for a, b in pairwise(times)):
            raise fail(f"keyframe times must increase, got {times} s")
        return self


class ClampPart(_OneShape):
    """A region whose material is held, or moved with a given velocity."""

    box: BoxPart | None = None
    sphere: SpherePart | None = None
    velocity: Velocity | None = None


class PosePart(Part):
    """Start at rest in a static shape (`solver: solid`).

    `pose: static` is that of gravity and the loads. With `observe` and `value`, gravity is scaled until that
    observation reads `value`.
    """

    observe: str | None = None
    value: Length | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        return {} if data == "static" else data

    @model_validator(mode="after")
    def _both(self) -> PosePart:
        if (self.observe is None) != (self.value is None):
            raise fail("write `pose: static`, or give both `observe` and `value`")
        return self

    @property
    def static(self) -> bool:
        """Whether gravity acts as it is."""
        return self.observe is None


class PlacementPart(Part):
    """Where the scene's axes, with all that is in them, are in the world of gravity and the cameras.

    They are turned about `about`, a point of the scene, then shifted.
    """

    translation: Point = (0.0, 0.0, 0.0)
    rotation: Rotation = (0.0, 0.0, 0.0)
    about: Point = (0.0, 0.0, 0.0)


class LoadPart(Part):
    """A mass without volume, a constant force, or both, that moves with a point of a body (`solver: solid`)."""

    position: Point
    mass: Mass = 0.0
    force: Force | None = None

    @model_validator(mode="after")
    def _some(self) -> LoadPart:
        if self.mass == 0.0 and self.force is None:
            raise fail("needs a `mass`, a `force`, or both")
        return self
