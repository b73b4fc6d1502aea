"""What each law allows in a scene file: parameter names, dimensions and bounds, from the laws' own tables."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from physim.scene.units import ANGLE, Dimension, UnitError, dimension_of, parse

# Laws that a material adds to its elastic one.
ADDED = ("viscous", "inelastic")


@dataclass(frozen=True)
class ParamSpec:
    """A parameter as scene files know it.

    Attributes:
        name: as written.
        dimension: what it measures.
        lower: lower bound [SI].
        upper: upper bound [SI].
        transform: how a fit searches it.
        default: value where none is given [SI]; None if one must be given.
        doc: one line.
    """

    name: str
    dimension: Dimension
    lower: float
    upper: float
    transform: str
    default: float | None
    doc: str

    def read(self, value: object) -> float:
        """`value` in SI.

        Raises:
            UnitError: not a number, or of another dimension.
        """
        if not math.isnan(self.dimension.exponents[0]):
            return parse(value, self.dimension)
        # A unit with a variable exponent, such as the consistency of a power-law fluid in Pa s^n.
        unit = self.dimension.unit
        text = value.strip().removesuffix(unit).strip() if isinstance(value, str) else value
        return parse(text, Dimension(f"a quantity in {unit}", "", (0, 0, 0, 0)))

    @property
    def span(self) -> str:
        """Bounds as a user reads them."""
        scale = math.degrees(1.0) if self.dimension is ANGLE else 1.0
        unit = f" {self.dimension.unit}" if self.dimension.unit else ""
        if math.isinf(self.upper):
            return f"{self.lower * scale:g}{unit} or more"
        return f"{self.lower * scale:g} to {self.upper * scale:g}{unit}"


def kind_of(part: str) -> type:
    """The kind of law of a part of a material: `law`, `viscous` or `inelastic`."""
    from physim.laws import ElasticLaw, InelasticLaw, ViscousLaw

    return {"law": ElasticLaw, "viscous": ViscousLaw, "inelastic": InelasticLaw}[part]


def law_names(part: str) -> list[str]:
    """Names of the registered laws that fit a part of a material."""
    from physim.laws import LAWS

    return sorted(n for n, law in LAWS.items() if isinstance(law, kind_of(part)))


def part_of(name: str) -> str | None:
    """The part of a material that a law belongs to; None for an unknown name."""
    return next((part for part in ("law", *ADDED) if name in law_names(part)), None)


def law_params(law: Any) -> dict[str, ParamSpec]:
    """The parameters that a law's entry may have, elastic constants in other pairs included."""
    from physim.laws.parameters import ELASTIC_CONSTANTS

    found = {p.name: _spec(p) for p in law.params}
    return found | {n: _spec(ELASTIC_CONSTANTS[n]) for n in interchangeable(law) if n not in found}


def interchangeable(law: Any) -> tuple[str, ...]:
    """Elastic constants that stand for each other: any two of all five, nu or bulk_modulus, or none."""
    from physim.laws.parameters import ELASTIC_CONSTANTS

    native = [p.name for p in law.params]
    moduli = [n for n in ("mu", "lam", "bulk_modulus") if n in native]
    if len(moduli) == 2:
        return tuple(ELASTIC_CONSTANTS)
    return ("bulk_modulus", "nu") if "bulk_modulus" in moduli and len(native) > 1 and "mu" not in native else ()


def constants_problem(law: Any, given: list[str]) -> str | None:
    """What is wrong with the elastic constants given for a law, or None."""
    from physim.laws.parameters import is_pair

    choice = interchangeable(law)
    chosen = [n for n in given if n in choice]
    told = f"got {' and '.join(chosen)}" if chosen else "got none"
    if len(choice) > 2 and not (len(chosen) == 2 and is_pair(chosen)):
        return f"needs two elastic constants, such as E and nu, or mu and lam; {told}"
    if len(choice) == 2 and len(chosen) > 1:
        return f"needs either bulk_modulus or nu; {told}"
    if len(choice) == 2 and not chosen and next(p for p in law.params if p.name == "bulk_modulus").default is None:
        return f"needs either bulk_modulus or nu; {told}"
    return None


def _spec(param: Any) -> ParamSpec:
    try:
        dimension = dimension_of(param.unit)
    except UnitError:
        dimension = Dimension("a quantity", param.unit, (math.nan, math.nan, math.nan, math.nan))
    return ParamSpec(param.name, dimension, param.lower, param.upper, param.transform, param.default, param.doc)
