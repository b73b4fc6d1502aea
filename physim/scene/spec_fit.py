"""Entries of a scene file about fitting: parameters, stages, recordings, held-out data."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from physim.scene.fields import Part, Time, fail
from physim.scene.spec_learn import LearnPart
from physim.scene.units import NUMBER, UnitError, column_unit, parse, shown

Method = Literal["gauss_newton", "adam", "lbfgs"]


class PriorPart(Part):
    """What is known beforehand: a central value, and either a factor (log scale) or a standard deviation.

    Weights of a learned law have their start as the centre, and `sd` alone.
    """

    value: Any = None
    factor: Annotated[float, Field(gt=1)] | None = None
    sd: Any = None

    @model_validator(mode="after")
    def _width(self) -> PriorPart:
        if (self.factor is None) == (self.sd is None):
            raise fail("needs either `factor` (such as 2: within a factor of two) or `sd`")
        return self


class ParameterPart(Part):
    """One fitted number; its start is the value in the scene unless given, and so are its physical bounds."""

    start: Any = None
    bounds: tuple[Any, Any] | None = None
    transform: Literal["log", "logit", "linear"] | None = None
    prior: PriorPart | None = None


class EarlyStopPart(Part):
    """What is looked at, and not fitted, to end a stage: values from a time on, or held-out recordings."""

    begin: Time | None = None
    recordings: tuple[str, ...] = ()
    every: Annotated[int, Field(ge=1)] = 5
    patience: Annotated[int, Field(ge=1)] = 5

    @model_validator(mode="after")
    def _something(self) -> EarlyStopPart:
        if self.begin is None and not self.recordings:
            raise fail("needs `begin`, such as 0.4 s, or `recordings` that are held out")
        return self


class StagePart(Part):
    """One stage: what is freed, which part of the record, which optimiser, when to stop."""

    name: str | None = None
    method: Method | None = None
    parameters: tuple[str, ...] = ()
    recordings: tuple[str, ...] = ()
    begin: Time | None = None
    end: Time | None = None
    iterations: Annotated[int, Field(ge=1)] | None = None
    rate: Annotated[float, Field(gt=0)] | None = None
    tolerance: Annotated[float, Field(ge=0)] | None = None
    difference: Annotated[float, Field(gt=0)] | None = None
    average: Annotated[float, Field(ge=0, lt=1)] | None = None
    set: dict[str, Any] = Field(default_factory=dict)


class RecordingPart(Part):
    """One experiment: the scene with some entries set otherwise; fitted, or only predicted (`holdout`)."""

    set: dict[str, Any] = Field(default_factory=dict)
    role: Literal["fit", "holdout"] = "fit"
    description: str | None = None


class AssumedPart(Part):
    """Numbers of the scene that are not fitted, move together, and are known up to a standard deviation."""

    sd: Any
    numbers: tuple[str, ...] = ()

    @field_validator("sd")
    @classmethod
    def _positive(cls, sd: Any) -> Any:
        try:
            dimension = column_unit(sd)[1] if isinstance(sd, str) else NUMBER
            if parse(sd, dimension) > 0:
                return sd
        except UnitError as error:
            raise fail(f"{error}; write a standard deviation with its unit, such as 1 mm") from None
        raise fail(f"a standard deviation above zero is needed, got {shown(sd)}")


def _spelt_out(given: Any) -> Any:
    """`PATH: 1 mm` is short for `PATH: {sd: 1 mm}`."""
    return given if isinstance(given, (dict, AssumedPart)) else {"sd": given}


Assumed = Annotated[AssumedPart, BeforeValidator(_spelt_out, json_schema_input_type=AssumedPart | float | str)]


class FitPart(Part):
    """What `physim fit` does with the scene."""

    parameters: dict[str, ParameterPart] = Field(default_factory=dict)
    learn: LearnPart | None = None
    assumed: dict[str, Assumed] = Field(default_factory=dict)
    method: Method | None = None
    stages: tuple[StagePart, ...] = ()
    starts: tuple[Annotated[float, Field(gt=0)], ...] = (1.0,)
    iterations: Annotated[int, Field(ge=1)] | None = None
    rate: Annotated[float, Field(gt=0)] | None = None
    average: Annotated[float, Field(ge=0, lt=1)] | None = None
    early_stop: EarlyStopPart | None = None
    level: Annotated[float, Field(gt=0, lt=1)] = 0.9

    @model_validator(mode="after")
    def _some(self) -> FitPart:
        if not self.parameters and self.learn is None:
            raise fail("there is nothing to fit; name at least one parameter, such as materials.beam.E")
        others = sorted(self.model_fields_set - {"learn"})
        if self.learn is not None and others:
            told = ", ".join(f"`{name}`" for name in others)
            raise fail(f"`learn` takes a law from states, and stands alone; leave {told} out, or give it under `learn`")
        for name in {n for s in self.stages for n in s.parameters}:
            if name not in self.parameters:
                raise fail(f"a stage names '{name}', which is not among the fitted parameters")
        return self
