"""What every observation of a scene may say, whether its record is a table or a video."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from physim.scene.fields import Part, Time


class RecordPart(Part):
    """How a record is weighed, and how it meets the simulation in time."""

    weight: Annotated[float, Field(gt=0)] = 1.0
    loss: Literal["huber", "squares"] = "huber"
    huber: Annotated[float, Field(gt=0)] | None = None
    interpolation: Literal["linear", "cubic"] = "cubic"
    delay: Time = 0.0
    holdout: tuple[tuple[Time, Time], ...] = ()
