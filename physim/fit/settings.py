"""The fit section of a scene as quantities, stages and starts."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from torch import Tensor

from physim.errors import FitError
from physim.fit.space import Prior, Quantity, Space, Transform
from physim.fit.stage import Method, Stage
from physim.scene.loader import Scene
from physim.scene.parameters import FreeNumber, free_number
from physim.scene.spec_fit import FitPart, ParameterPart
from physim.scene.units import ANGLE, TIME

SI_NAMES = {ANGLE.name: "rad"}
"""Dimensions whose values are kept in another unit than the one shown in files."""


def fit_part(scene: Scene) -> FitPart:
    """The fit section.

    Raises:
        FitError: the scene has none.
    """
    if scene.spec.fit is None:
        raise FitError(f"{scene.name} has no `fit` section; name at least one parameter under fit.parameters.")
    return scene.spec.fit


def make_space(scene: Scene) -> Space:
    """The fitted quantities with their bounds, transforms, starts and priors."""
    found = []
    for name, part in fit_part(scene).parameters.items():
        number = free_number(scene.spec, scene.materials, name)
        found.append(_quantity(scene, number, part))
    return Space(tuple(found))


def make_stages(scene: Scene) -> tuple[Stage, ...]:
    """The stages; one with all parameters and the whole record unless the scene names some."""
    part = fit_part(scene)
    if not part.stages:
        return (Stage(method=Method(part.method), iterations=part.iterations, rate=part.rate),)
    stages = []
    for i, given in enumerate(part.stages):
        options: dict[str, Any] = {
            "name": given.name or f"stage {i + 1}",
            "method": Method(given.method or part.method),
            "parameters": given.parameters,
            "recordings": given.recordings,
            "begin": given.begin,
            "end": given.end,
            "iterations": given.iterations or part.iterations,
            "rate": given.rate or part.rate,
            "overrides": tuple(f"{key}={value}" for key, value in given.set.items()),
        }
        options |= {k: getattr(given, k) for k in ("tolerance", "difference") if getattr(given, k) is not None}
        stages.append(Stage(**options))
    return tuple(stages)


def make_starts(scene: Scene, space: Space) -> list[Tensor]:
    """Raw starts: the positive quantities times each factor of `fit.starts`."""
    return [space.factored(f) for f in fit_part(scene).starts]


def _quantity(scene: Scene, number: FreeNumber, part: ParameterPart) -> Quantity:
    lower, upper = part.bounds or (number.lower, number.upper)
    start = number.value if part.start is None else part.start
    transform = Transform(part.transform or number.transform)
    scale = 1.0
    if transform is Transform.LINEAR:
        scale = _scale(scene, number, start, part)
    unit = SI_NAMES.get(number.dimension.name, number.dimension.unit)
    bare = Quantity(number.name, unit, start, transform, lower, upper, scale)
    if part.prior is None:
        return bare
    value = part.prior.value
    if part.prior.factor is not None:
        if transform is not Transform.LOG:
            raise FitError(f"{number.name}: a prior `factor` is for positive quantities; give `sd` instead.")
        return replace(bare, prior=Prior(value, math.log(part.prior.factor)))
    return replace(bare, prior=Prior(value, part.prior.sd / _slope(bare, value)))


def _slope(q: Quantity, value: float) -> float:
    """d(value)/d(raw) at a value."""
    if q.transform is Transform.LOG:
        return value
    if q.transform is Transform.LOGIT:
        return (value - q.lower) * (q.upper - value) / (q.upper - q.lower)
    return q.scale


def _scale(scene: Scene, number: FreeNumber, start: float, part: ParameterPart) -> float:
    """Physical size of one raw unit of a quantity of either sign."""
    if part.prior is not None and part.prior.sd is not None:
        return float(part.prior.sd)
    if number.dimension == TIME and scene.spec.time is not None:
        return scene.spec.time.frame or scene.spec.time.duration / 100.0
    return abs(start) or abs(number.value) or 1.0
