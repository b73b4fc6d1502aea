"""Learned laws by the name that files give, with the options that choose among their sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Any

from physim.errors import InputError, nearest
from physim.laws.core import LAWS, ElasticLaw, Law
from physim.laws.neural.cann import TermPlan, cann
from physim.laws.neural.energy import neural_energy
from physim.laws.neural.maxwell import MOST_BRANCHES, MaxwellPlan, neural_maxwell
from physim.laws.neural.plastic import PlasticPlan, neural_plastic
from physim.laws.neural.viscous import ViscousPlan, neural_viscous
from physim.laws.neural.weights import UnitPlan

FAMILIES: dict[str, tuple[Callable[..., Law], Any]] = {
    "neural_energy": (neural_energy, UnitPlan),
    "cann": (cann, TermPlan),
    "neural_viscous": (neural_viscous, ViscousPlan),
    "neural_plastic": (neural_plastic, PlasticPlan),
    "neural_maxwell": (neural_maxwell, MaxwellPlan),
}


def families_of(kind: type = ElasticLaw) -> list[str]:
    """Names of the learned laws of one kind."""
    return [name for name in FAMILIES if isinstance(LAWS[name], kind)]


def family_options(family: str) -> dict[str, Field]:
    """The options of a family, by name."""
    return {f.name: f for f in fields(FAMILIES[family][1])}


def largest_law(family: str) -> Any:
    """The law of a family that has most named parameters."""
    return learned_law(family, {"branches": MOST_BRANCHES} if "branches" in family_options(family) else {})


def learned_law(family: str, options: dict[str, Any]) -> Any:
    """The law of a family with these options; defaults for the rest.

    Raises:
        InputError: no such family or option, or a value that it does not take.
    """
    if family not in FAMILIES:
        raise InputError(f"'{family}' is not a law with weights.{nearest(family, FAMILIES)}")
    known = family_options(family)
    for name, value in options.items():
        if name not in known:
            raise InputError(f"'{name}' is not an option of {family}.{nearest(name, known)}")
        kind = type(known[name].default)
        if known[name].default is not MISSING and type(value) is not kind:
            raise InputError(f"{name}: expected {_KINDS[kind]}, got {value!r}.")
    return FAMILIES[family][0](**options)


_KINDS = {str: "a name", int: "a whole number", bool: "true or false"}
