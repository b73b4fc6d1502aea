"""Entries of a scene file about learning a law from states: which material, how it starts, how runs grow."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from physim.scene.fields import Fraction, Part, PositiveTime

GRADIENT_KEYS = {"rate": ("adam",), "ema": ("adam",), "iterations": ("adam", "lbfgs")}
"""Entries that only some methods use, and which."""


class LearnPart(Part):
    """How `physim fit` learns a material from the scene's `states`; all of it may be left out."""

    material: str | None = None
    start: Literal["weak_form", "none"] = "weak_form"
    method: Literal["gauss_newton", "adam", "lbfgs", "none"] = "gauss_newton"
    lengths: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    whole: bool = True
    rounds: Annotated[int, Field(ge=1)] | None = None
    held_out: Fraction = 0.2
    budget: PositiveTime | None = None
    rate: Annotated[float, Field(gt=0)] = 0.01
    iterations: Annotated[int, Field(ge=1)] = 10
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.9
    runs: Annotated[int, Field(ge=2)] = 60
