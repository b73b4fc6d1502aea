"""Physical parameters: units, bounds, the way to unconstrained values, and conversions between elastic constants."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from physim.errors import InputError


@dataclass(frozen=True)
class Param:
    """One physical parameter in SI.

    Attributes:
        name: as users write it.
        unit: SI unit; "-" for a pure number.
        lower: lower bound [unit].
        upper: upper bound [unit].
        transform: "log": raw = log(value/scale); "logit": raw spans the bounds; "linear": raw = value/scale.
        default: value where the user gives none; None if one must be given.
        doc: one line.
        scale: physical value of raw 0 ("log") or of raw 1 ("linear").
        typical: a plausible value, with which laws are checked alone.
    """

    name: str
    unit: str
    lower: float = 0.0
    upper: float = math.inf
    transform: Literal["log", "logit", "linear"] = "log"
    default: float | None = None
    doc: str = ""
    scale: float = 1.0
    typical: float | None = None

    def check(self, value: Tensor, owner: str) -> None:
        """Raise `InputError` unless every entry is finite and within the bounds."""
        bad = ~torch.isfinite(value) | (value < self.lower) | (value > self.upper)
        if bad.any():
            unit = "" if self.unit == "-" else f" {self.unit}"
            raise InputError(
                f"{owner}: {self.name} = {float(value[bad].flatten()[0]):g}{unit} is not allowed; "
                f"it must be finite and in {self.lower:g}..{self.upper:g}{unit} ({self.doc})."
            )

    def interior(self, value: Tensor) -> bool:
        """Whether the value can move both ways, that is, has a finite raw value."""
        return bool(((value > self.lower) & (value < self.upper)).all())

    def to_raw(self, value: Tensor) -> Tensor:
        """Unconstrained value of a physical one."""
        if self.transform == "log":
            return torch.log((value - self.lower) / self.scale)
        if self.transform == "logit":
            return torch.logit((value - self.lower) / (self.upper - self.lower))
        return value / self.scale

    def to_value(self, raw: Tensor) -> Tensor:
        """Physical value of an unconstrained one."""
        if self.transform == "log":
            return self.lower + self.scale * torch.exp(raw)
        if self.transform == "logit":
            return self.lower + (self.upper - self.lower) * torch.sigmoid(raw)
        return self.scale * raw


MU = Param("mu", "Pa", doc="shear modulus", typical=4e4)
LAM = Param("lam", "Pa", doc="first Lame constant", typical=6e4)
BULK = Param("bulk_modulus", "Pa", doc="bulk modulus", typical=1e5)
YOUNG = Param("E", "Pa", doc="Young's modulus")
POISSON = Param("nu", "-", -1.0, 0.5, "logit", doc="Poisson's ratio")
LAME = (MU, LAM)

ELASTIC_CONSTANTS = {p.name: p for p in (MU, LAM, BULK, YOUNG, POISSON)}

# Pairs of elastic constants -> (shear modulus, Poisson's ratio or bulk modulus): see `shear_and_bulk`.
_PAIRS: dict[frozenset[str], Callable[..., tuple[Tensor, Tensor]]] = {
    frozenset(("E", "nu")): lambda E, nu: (E / (2 * (1 + nu)), E / (3 * (1 - 2 * nu))),
    frozenset(("mu", "nu")): lambda mu, nu: (mu, 2 * mu * (1 + nu) / (3 * (1 - 2 * nu))),
    frozenset(("mu", "lam")): lambda mu, lam: (mu, lam + 2 * mu / 3),
    frozenset(("mu", "bulk_modulus")): lambda mu, bulk_modulus: (mu, bulk_modulus),
    frozenset(("E", "bulk_modulus")): lambda E, bulk_modulus: (
        3 * bulk_modulus * E / (9 * bulk_modulus - E),
        bulk_modulus,
    ),
    frozenset(("E", "mu")): lambda E, mu: (mu, E * mu / (3 * (3 * mu - E))),
    frozenset(("bulk_modulus", "nu")): lambda bulk_modulus, nu: (
        3 * bulk_modulus * (1 - 2 * nu) / (2 * (1 + nu)),
        bulk_modulus,
    ),
    frozenset(("lam", "nu")): lambda lam, nu: (lam * (1 - 2 * nu) / (2 * nu), lam * (1 + nu) / (3 * nu)),
}


def is_pair(names: Iterable[str]) -> bool:
    """Whether these two elastic constants fix an isotropic linear solid."""
    return frozenset(names) in _PAIRS


def shear_and_bulk(values: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Shear and bulk modulus [Pa] from two elastic constants, differentiably."""
    return _PAIRS[frozenset(values)](**values)


def elastic_constant(name: str, shear: float, bulk: float) -> float:
    """One elastic constant from the shear and the bulk modulus [Pa]."""
    return {
        "mu": shear,
        "bulk_modulus": bulk,
        "lam": bulk - 2.0 * shear / 3.0,
        "E": 9.0 * bulk * shear / (3.0 * bulk + shear),
        "nu": (3.0 * bulk - 2.0 * shear) / (6.0 * bulk + 2.0 * shear),
    }[name]


def lame(E: float, nu: float) -> tuple[float, float]:
    """Lame constants (mu, lam) [Pa] of Young's modulus E [Pa] and Poisson's ratio nu."""
    return E / (2 * (1 + nu)), E * nu / ((1 + nu) * (1 - 2 * nu))
