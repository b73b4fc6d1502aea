"""Types of the entries of a scene file: quantities with units, vectors, and the base of every mapping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError, core_schema

from physim.scene import units
from physim.scene.units import Dimension, UnitError, shown

QUANTITY_PATTERN = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*\S*.*$"


class Part(BaseModel):
    """A mapping in a scene file: unknown keys are refused, and the result cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    @model_validator(mode="before")
    @classmethod
    def _remember(cls, data: Any, info: ValidationInfo) -> Any:
        """Note which model reads which raw mapping, so that messages can list its keys."""
        if info.context is not None and isinstance(data, dict):
            info.context.setdefault("seen", {})[id(data)] = cls
        return data


def fail(message: str) -> PydanticCustomError:
    """An error whose message is shown as it is."""
    return PydanticCustomError("scene", "{message}", {"message": message})


@dataclass(frozen=True)
class Quantity:
    """Marks a float given as a number or as text with a unit; in SI after validation.

    Attributes:
        dimension: what it measures.
        above: exclusive lower bound [SI].
        least: inclusive lower bound [SI].
        most: inclusive upper bound [SI].
        words: words that are allowed instead of a number.
    """

    dimension: Dimension
    above: float | None = None
    least: float | None = None
    most: float | None = None
    words: tuple[str, ...] = ()

    def read(self, value: Any) -> float | str:
        """The number in SI, within its bounds, or one of the words."""
        if isinstance(value, str) and value in self.words:
            return value
        try:
            number = units.parse(value, self.dimension)
        except UnitError as error:
            rest = f", or one of: {', '.join(self.words)}" if self.words else ""
            raise fail(f"{error}{rest}") from None
        unit = f" {self.dimension.unit}" if self.dimension.unit else ""
        scale = self.dimension.scale
        if self.above is not None and not number > self.above:
            raise fail(f"must be greater than {self.above / scale:g}{unit}, got {shown(value)}")
        if self.least is not None and not number >= self.least:
            raise fail(f"must be at least {self.least / scale:g}{unit}, got {shown(value)}")
        if self.most is not None and not number <= self.most:
            raise fail(f"must be at most {self.most / scale:g}{unit}, got {shown(value)}")
        return number

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        found = quantity_schema(self.dimension)
        return {"anyOf": [{"enum": list(self.words)}, found]} if self.words else found


@dataclass(frozen=True)
class Vector:
    """Marks three components (two in a 2D scene), each a quantity; a tuple of floats in SI after validation."""

    dimension: Dimension

    def read(self, value: Any, info: ValidationInfo) -> tuple[float, ...]:
        """The components in SI."""
        planar = (info.context or {}).get("dim") == 2
        wanted = "2 numbers [x, y]" if planar else "3 numbers [x, y, z]"
        if not isinstance(value, (list, tuple)):
            raise fail(f"expected a list of {wanted}, {self.dimension.label} each, got {shown(value)}")
        if len(value) != 3 and not (planar and len(value) == 2):
            raise fail(f"expected a list of {wanted}, got {len(value)}: {shown(value)}")
        try:
            return tuple(units.parse(v, self.dimension) for v in value)
        except UnitError as error:
            raise fail(str(error)) from None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        return core_schema.with_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "array", "items": quantity_schema(self.dimension), "minItems": 2, "maxItems": 3}


def quantity_schema(dimension: Dimension) -> dict[str, Any]:
    """JSON schema of a quantity."""
    kinds = [{"type": "number"}, {"type": "string", "pattern": QUANTITY_PATTERN}]
    if not dimension.unit:
        return {"anyOf": kinds}
    told = f"{dimension.label.capitalize()}: a number in {dimension.unit}, or text with a unit."
    return {"anyOf": kinds, "description": told}


def padded(value: tuple[float, ...], fill: float = 0.0) -> tuple[float, float, float]:
    """A vector of a 2D or 3D scene as three numbers."""
    x, y, z = (*value, fill)[:3]
    return (x, y, z)


NAME_PATTERN = r"^[A-Za-z][A-Za-z0-9_-]*$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
"""A name that the user chooses: it becomes part of paths such as `materials.beam.E`, and of file names."""
Number = Annotated[float, Quantity(units.NUMBER)]
Fraction = Annotated[float, Quantity(units.NUMBER, least=0.0, most=1.0)]
Length = Annotated[float, Quantity(units.LENGTH)]
PositiveLength = Annotated[float, Quantity(units.LENGTH, above=0.0)]
Time = Annotated[float, Quantity(units.TIME)]
PositiveTime = Annotated[float, Quantity(units.TIME, above=0.0)]
PositiveRate = Annotated[float, Quantity(units.RATE, above=0.0)]
Density = Annotated[float, Quantity(units.DENSITY, above=0.0)]
Mass = Annotated[float, Quantity(units.MASS, least=0.0)]
Force = Annotated[tuple[float, ...], Vector(units.FORCE)]
Friction = Annotated[float, Quantity(units.NUMBER, least=0.0)]
Angle = Annotated[float, Quantity(units.ANGLE)]
Point = Annotated[tuple[float, ...], Vector(units.LENGTH)]
Direction = Annotated[tuple[float, ...], Vector(units.NUMBER)]
Velocity = Annotated[tuple[float, ...], Vector(units.VELOCITY)]
Acceleration = Annotated[tuple[float, ...], Vector(units.ACCELERATION)]
Rotation = Annotated[tuple[float, ...], Vector(units.ANGLE)]
Spin = Annotated[tuple[float, ...], Vector(units.SPIN)]
