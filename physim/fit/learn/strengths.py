"""Strengths of plastic laws as they are linear in coefficients, and how these keep a return map in strains."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from physim.errors import InputError
from physim.laws.material import Material
from physim.laws.neural.plastic import PlasticPlan

STEEPEST = 0.999 * math.sqrt(6.0)
"""Least upper bound of a cone's slope, that of 90 degrees, and a little less."""


@dataclass(frozen=True)
class Form:
    """A strength that is linear in coefficients, none of them negative.

    Attributes:
        names: of the coefficients.
        constants: names of the material's values that come of them.
        columns: (p, a before, a after the interval, size of the strengths) -> (m, c), strengths [Pa] per coefficient.
        write: puts coefficients into the material.
        scaled: (columns of theta, factors of the shear and of the bulk modulus, (r,) each) -> columns of the same map.
        units: how many of the coefficients, at the end, are of units, and held back.
        sloped: the place of the cone's slope, which has an upper bound.
    """

    names: tuple[str, ...]
    constants: tuple[str, ...]
    columns: Callable[[Tensor, Tensor, Tensor, float], Tensor]
    write: Callable[[list[float]], None]
    scaled: Callable[[Tensor, Tensor, Tensor], Tensor]
    units: int = 0
    sloped: int | None = None


def form_of(material: Material) -> Form:
    """How the strength of a material's inelastic law is linear.

    Raises:
        InputError: a law of which that is not known.
    """
    law = material.inelastic
    name = "" if law is None else law.name
    if name == "von_mises":
        return _von_mises(material)
    if name == "drucker_prager":
        return _drucker_prager(material)
    if law is not None and isinstance(law.network, PlasticPlan):
        return _neural(material, law.network.hidden)
    raise InputError(
        f"{material.composition}: strengths are read off strains for von_mises, drucker_prager and neural_plastic."
    )


def _von_mises(material: Material) -> Form:
    def columns(p: Tensor, before: Tensor, after: Tensor, size: float) -> Tensor:
        return torch.stack([torch.ones_like(p), after], dim=1)  # it hardens within the substep

    def write(q: list[float]) -> None:
        material.set(yield_stress=q[0], hardening=q[1])

    def scaled(theta: Tensor, shear: Tensor, bulk: Tensor) -> Tensor:
        for name in names:
            theta[:, at[name]] *= shear
        return theta

    names, at = ("yield_stress", "hardening"), material.laws.named_columns()
    return Form(names, names, columns, write, scaled)


def _drucker_prager(material: Material) -> Form:
    def columns(p: Tensor, before: Tensor, after: Tensor, size: float) -> Tensor:
        return torch.stack([torch.ones_like(p), p], dim=1)

    def write(q: list[float]) -> None:
        angle, factor = _angle(q[1])
        material.set(cohesion=q[0] / (factor * math.cos(angle)), friction_angle=angle)

    def scaled(theta: Tensor, shear: Tensor, bulk: Tensor) -> Tensor:
        before = theta[:, at["friction_angle"]]
        after = _tilted(before, shear / bulk)
        # |dev tau| = factor (p sin phi + c cos phi) at rest
        factors = [math.sqrt(24.0) * torch.cos(a) / (3.0 - torch.sin(a)) for a in (before, after)]
        theta[:, at["cohesion"]] *= shear * factors[0] / factors[1]
        theta[:, at["friction_angle"]] = after
        return theta

    names, at = ("cohesion", "friction_angle"), material.laws.named_columns()
    return Form(("strength at rest", "slope"), names, columns, write, scaled, sloped=1)


def _neural(material: Material, hidden: int) -> Form:
    def columns(p: Tensor, before: Tensor, after: Tensor, size: float) -> Tensor:
        material.set(stress_scale=size)
        units = material.inelastic_network.strengths(p, before, size)
        return torch.cat([torch.ones_like(p)[:, None], p[:, None], units], dim=1)

    def write(q: list[float]) -> None:
        material.set(yield_stress=q[0], friction_angle=_angle(q[1])[0])
        material.inelastic_network.take(torch.tensor(q[2:], dtype=torch.float64))

    def scaled(theta: Tensor, shear: Tensor, bulk: Tensor) -> Tensor:
        theta[:, at["yield_stress"]] *= shear
        theta[:, at["friction_angle"]] = _tilted(theta[:, at["friction_angle"]], shear / bulk)
        outer, by_pressure = (slice(first + k * hidden, first + (k + 1) * hidden) for k in (0, 2))
        theta[:, outer] *= shear[:, None]
        theta[:, by_pressure] /= bulk[:, None]
        return theta

    names = ("yield_stress", "slope", *(f"unit {k + 1}" for k in range(hidden)))
    at, first = material.laws.named_columns(), material.laws.network_columns("inelastic")[0]
    constants = ("yield_stress", "friction_angle", "stress_scale")
    return Form(names, constants, columns, write, scaled, hidden, 1)


def _tilted(angle: Tensor, factor: Tensor) -> Tensor:
    """Angle of friction [rad] of a cone whose slope is so many times as large, as far as there is one."""
    sine = torch.sin(angle)
    slope = (factor * math.sqrt(24.0) * sine / (3.0 - sine)).clamp(max=STEEPEST)
    return torch.asin(3.0 * slope / (math.sqrt(24.0) + slope))


def _angle(slope: float) -> tuple[float, float]:
    """Angle of friction [rad] of a cone's slope, and the cone's factor."""
    sine = 3.0 * slope / (math.sqrt(24.0) + slope)
    return math.asin(sine), math.sqrt(24.0) / (3.0 - sine)
