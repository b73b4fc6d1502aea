"""The top of a scene file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from physim.scene.fields import Acceleration, Density, Name, Part
from physim.scene.spec_camera import CameraPart
from physim.scene.spec_fit import FitPart, RecordingPart
from physim.scene.spec_measure import DataPart, ExpectPart, ObservePart, StatesPart, TablePart
from physim.scene.spec_space import (
    BodyPart,
    ClampPart,
    ColliderPart,
    FieldPart,
    GridPart,
    LoadPart,
    PlacementPart,
    PosePart,
    TimePart,
    WallsPart,
)
from physim.scene.spec_video import VideoPart

STILL = 0.01
"""Duration of a scene that says `pose: static` and nothing of time [s]."""


class MaterialPart(Part):
    """A material: a law, its parameters (checked against the law's own table), and laws added to it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    law: str
    network: dict[str, Any] | None = None
    fibre: tuple[float, float, float] | None = None
    density: Density | None = None
    viscous: dict[str, Any] | None = None
    inelastic: dict[str, Any] | None = None
    title: str | None = None
    source: str | None = None
    valid: str | None = None
    intervals: dict[str, Any] = Field(default_factory=dict)
    learned: dict[str, Any] | None = None


class ScenePart(Part):
    """Everything in a scene file."""

    title: str
    description: str | None = None
    solver: Literal["mpm", "solid", "insr", "none"] = "mpm"
    dim: Literal[2, 3] = 3
    precision: Literal["single", "double"] = "single"
    blend: Annotated[float, Field(ge=0, lt=1)] | None = None
    volume_filter: Annotated[float, Field(ge=0, lt=1)] | None = None
    grid: GridPart | None = None
    field: FieldPart | None = None
    gravity: Acceleration = (0.0, 0.0, 0.0)
    time: TimePart | None = None
    materials: dict[Name, MaterialPart]
    bodies: dict[Name, BodyPart] = Field(default_factory=dict)
    walls: WallsPart = WallsPart()
    colliders: dict[Name, ColliderPart] = Field(default_factory=dict)
    clamps: dict[Name, ClampPart] = Field(default_factory=dict)
    loads: dict[Name, LoadPart] = Field(default_factory=dict)
    pose: PosePart | None = None
    placement: PlacementPart | None = None
    cameras: dict[Name, CameraPart] = Field(default_factory=dict)
    videos: dict[Name, VideoPart] = Field(default_factory=dict)
    observe: dict[Name, ObservePart] = Field(default_factory=dict)
    data: dict[Name, DataPart] = Field(default_factory=dict)
    tables: dict[Name, TablePart] = Field(default_factory=dict)
    states: dict[Name, StatesPart] = Field(default_factory=dict)
    recordings: dict[Name, RecordingPart] = Field(default_factory=dict)
    fit: FitPart | None = None
    expect: ExpectPart | None = None

    @model_validator(mode="before")
    @classmethod
    def _still(cls, data: Any) -> Any:
        """A photograph of a body at rest needs no clock."""
        if isinstance(data, dict) and data.get("pose") == "static" and data.get("time") is None:
            return {**data, "time": {"duration": STILL}}
        return data
