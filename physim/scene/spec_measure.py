"""Entries of a scene file about measurements: data tables, observations, stress-stretch tests, the tested number."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from physim.scene.fields import (
    Direction,
    Fraction,
    Name,
    Part,
    Point,
    PositiveLength,
    PositiveRate,
    Quantity,
    fail,
)  # fmt: skip
from physim.scene.spec_record import RecordPart
from physim.scene.spec_space import RegionPart
from physim.scene.spec_video import CloudPart, ColourPart, DepthPart, ImageTracksPart, OverlapPart, SilhouettePart
from physim.scene.units import TIME, VELOCITY


class DataPart(Part):
    """A table: typed in as `rows`, or read from a CSV `file`.

    `columns` gives each column's unit, such as `mm`, or `10 ms` for a frame number at 100 Hz; with a file its keys are
    names from the header line. The values are in SI once loaded. A file named on the command line
    (`--data NAME=PATH`) replaces `rows`.
    """

    columns: dict[str, str]
    rows: tuple[tuple[float | None, ...], ...] | None = None
    file: str | None = None
    source: str | None = None
    license: str | None = None
    skip: Annotated[int, Field(ge=0)] = 0
    comment: str = "#"
    delimiter: str = ","

    @model_validator(mode="after")
    def _given(self) -> DataPart:
        if (self.rows is None) == (self.file is None):
            raise fail("needs either `rows` typed in or a `file`")
        if not self.columns:
            raise fail("needs `columns`, such as {time: s, tip: mm}")
        return self


class _Gauge(RecordPart):
    """What every observation with a table may say."""

    data: str | None = None
    time: str | None = None
    values: tuple[str, ...] | None = None
    noise: Any = None


class PositionPart(_Gauge):
    """Mean position of a region of a body along a direction."""

    kind: Literal["position"]
    body: str | None = None
    region: RegionPart | None = None
    direction: Direction


class DisplacementPart(_Gauge):
    """Mean displacement, since the start, of a region of a body along a direction."""

    kind: Literal["displacement"]
    body: str | None = None
    region: RegionPart | None = None
    direction: Direction


class FrontPart(_Gauge):
    """How far a body reaches along a direction, or from an axis (`radial`)."""

    kind: Literal["front"]
    body: str | None = None
    direction: Direction
    radial: bool = False
    origin: Point | None = None
    fraction: Fraction = 0.005
    width: PositiveLength | None = None


class RadiusPart(_Gauge):
    """Radius of the uniform body with the same second moment: how far a drop or a heap has spread."""

    kind: Literal["radius"]
    body: str | None = None
    directions: Annotated[tuple[Direction, ...], Field(min_length=1, max_length=2)]


class ForcePart(_Gauge):
    """Force of the material on a collider or a wall that is not mirrored."""

    kind: Literal["force"]
    collider: str
    direction: Direction


class TracksPart(_Gauge):
    """Points bound to the material: markers of a motion capture."""

    kind: Literal["tracks"]
    body: str | None = None
    points: dict[Name, Point]
    axes: str = "xyz"
    displacement: bool = False
    mean: bool = False
    reach: PositiveLength | None = None


class ParticlesPart(_Gauge):
    """Coordinates of particles themselves, `count` of them spread evenly over the list."""

    kind: Literal["particles"]
    body: str | None = None
    axes: str = "xyz"
    count: Annotated[int, Field(ge=1)] | None = None


class VelocityPart(_Gauge):
    """Velocity of a flow at points that stay where they are (`solver: insr`)."""

    kind: Literal["velocity"]
    points: dict[Name, Point]
    axes: str = "xy"


ObservePart = Annotated[
    PositionPart
    | DisplacementPart
    | FrontPart
    | RadiusPart
    | ForcePart
    | TracksPart
    | VelocityPart
    | ParticlesPart
    | SilhouettePart
    | OverlapPart
    | ImageTracksPart
    | DepthPart
    | CloudPart
    | ColourPart,
    Field(discriminator="kind"),
]


class TablePart(Part):
    """A stress-stretch test of a material, fitted or compared without simulation.

    With `time`, a column, or `rate` of the stretch, the rows are a path in their order, and viscous and inelastic laws
    act; without them the test is slow, and the elastic law is alone.
    """

    test: Literal["uniaxial", "equibiaxial", "pure_shear", "simple_shear"]
    material: str
    data: str
    strain: str | None = None
    stress: str | None = None
    time: str | None = None
    rate: PositiveRate | None = None
    measure: Literal["nominal", "cauchy"] = "nominal"
    incompressible: bool = True
    scale: Literal["largest", "each", "none"] = "largest"
    weight: Annotated[float, Field(gt=0)] = 1.0
    role: Literal["fit", "holdout"] = "fit"

    @model_validator(mode="after")
    def _clock(self) -> TablePart:
        if self.time is not None and self.rate is not None:
            raise fail("has both a `time` column and a `rate`; leave one out")
        return self

    def named(self, columns: tuple[str, ...]) -> tuple[str | None, str | None]:
        """The columns of strain and stress in a table with these: the first two that are not the time, unless given."""
        others = [*(c for c in columns if c != self.time), None, None]
        return self.strain or others[0], self.stress or others[1]


class StatesNoisePart(Part):
    """Standard deviations of what was observed; runs are compared in units of them."""

    position: PositiveLength | None = None
    velocity: Annotated[float, Quantity(VELOCITY, above=0.0)] | None = None


class StatesPart(Part):
    """The full states of all particles along one trajectory, to learn a law from.

    They are in a `file` that `physim run --states` wrote, or made at once by running a shipped `scene`. A file named
    on the command line (`--data NAME=PATH`) replaces the scene.
    """

    file: str | None = None
    scene: str | None = None
    noise: StatesNoisePart = StatesNoisePart()
    every: Annotated[int, Field(ge=1)] = 1
    frames: Annotated[int, Field(ge=2)] | None = None
    particles: Annotated[int, Field(ge=1)] | None = None
    role: Literal["fit", "holdout"] = "fit"
    recording: str | None = None

    @model_validator(mode="after")
    def _given(self) -> StatesPart:
        if (self.file is None) == (self.scene is None):
            raise fail("needs either a `file` of states (from `physim run SCENE --states`) or a shipped `scene` to run")
        return self


class ExpectPart(Part):
    """The number that the scene is tested by."""

    meaning: str
    observe: str | None = None
    column: str | None = None
    at: Annotated[float | str, Quantity(TIME, least=0.0, words=("final", "max", "min", "mean"))] = "final"
    quantity: Literal["observation", "parameter", "r2"] = "observation"
    parameter: str | None = None
    value: Any
    tolerance: Any
    source: str | None = None

    @model_validator(mode="after")
    def _target(self) -> ExpectPart:
        if self.quantity == "observation" and self.observe is None:
            raise fail("names no observation; add `observe: <name>` from the observe section")
        if self.quantity == "parameter" and self.parameter is None:
            raise fail("names no parameter; add `parameter: materials.<name>.<parameter>`")
        return self
