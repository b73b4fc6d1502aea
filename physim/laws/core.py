"""The words of constitutive laws, and the registry that knows them by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from physim.errors import InputError, nearest
from physim.laws.parameters import Param
from physim.numeric import Numeric, Word

# History of a particle whose elastic law has a fibre.
FIBRE = ("fibre_x", "fibre_y", "fibre_z")
# Placeholder for annotations in `project` sources; bound to the elastic law's parameter vector.
elastic_params = Word


class Network(Protocol):
    """Columns of theta that no user writes: the weights of a law that is learned."""

    @property
    def size(self) -> int:
        """How many columns."""
        ...

    def make(self, seed: int) -> nn.Module:
        """A module of raw weights; `module.columns(named)` are the columns of theta, (..., size), differentiable."""
        ...


@dataclass(frozen=True, eq=False)
class ElasticLaw:
    """A hyperelastic law.

    Attributes:
        name: registry name.
        params: native parameters, the columns of theta.
        kirchhoff: `(F, theta) -> tau [Pa]`, the Kirchhoff stress dpsi/dF F^T.
        energy: `(F, theta) -> psi [J/m^3]`, or None where a law has no energy.
        moduli: theta (..., k) -> (shear, bulk) modulus at rest [Pa].
        cite: source.
        summary: one line for tables.
        network: the weights of a learned law, columns of theta after `params`; None for a closed form.
        fibre: whether `kirchhoff` and `energy` are of (F, a, theta), a the direction of a fibre at rest, a unit vector
            that each particle carries as its history.
    """

    name: str
    params: tuple[Param, ...]
    kirchhoff: Numeric
    energy: Numeric | None
    moduli: Callable[[Tensor], tuple[Tensor, Tensor]]
    cite: str
    summary: str
    network: Network | None = None
    fibre: bool = False

    @property
    def is_fluid(self) -> bool:
        """Whether the law resists changes of volume only."""
        return bool(self.moduli(torch.ones(len(self.params), dtype=torch.float64))[0] == 0.0)


@dataclass(frozen=True, eq=False)
class ViscousLaw:
    """A stress that depends on the velocity gradient L [1/s] and adds to the elastic one.

    Attributes:
        kirchhoff: `(F, L, theta) -> tau [Pa]`.
        network: as for an elastic law.
    """

    name: str
    params: tuple[Param, ...]
    kirchhoff: Numeric
    cite: str
    summary: str
    network: Network | None = None


@dataclass(frozen=True, eq=False)
class InelasticLaw:
    """A return map from the trial elastic deformation to the admissible one, with a history.

    Attributes:
        project: `(F_trial, h, f, elastic, theta, dt) -> (F, h)`; f is the increment of the deformation gradient in
            this substep (F_trial = f F_old), `elastic` the elastic law's parameters, dt the substep [s].
        history: names of the components of h.
        rest_history: their values in the undeformed state.
        needs: native names that the elastic law's parameters must begin with, because `project` reads them.
        overstress: `(F, h, theta) -> tau [Pa]` added to the elastic stress, or None.
        stored: `(h, theta) -> psi [J/m^3]` of the history, or None.
        at_most: pairs (a, b) of parameters of which a must not exceed b.
        plane: the map holds for motion in the x-y plane only.
        forgets_shape: F keeps its volume only, so the elastic law must be a fluid's.
        network: as for an elastic law.
    """

    name: str
    params: tuple[Param, ...]
    project: Numeric
    cite: str
    summary: str
    history: tuple[str, ...] = ()
    rest_history: tuple[float, ...] = ()
    needs: tuple[str, ...] = ()
    overstress: Numeric | None = None
    stored: Numeric | None = None
    at_most: tuple[tuple[str, str], ...] = ()
    plane: bool = False
    forgets_shape: bool = False
    network: Network | None = None


Law = ElasticLaw | ViscousLaw | InelasticLaw
L = TypeVar("L", ElasticLaw, ViscousLaw, InelasticLaw)

LAWS: dict[str, Law] = {}


def register(law: L) -> L:
    """Add a law to the registry under its name."""
    if law.name in LAWS:
        raise InputError(f"a law named '{law.name}' is registered already; choose another name.")
    LAWS[law.name] = law
    return law


def get_law(name: str | L, kind: type[L]) -> L:
    """The registered law of this name and kind; a law object is returned as it is.

    Raises:
        InputError: no law of this name and kind.
    """
    law = LAWS.get(name) if isinstance(name, str) else name
    if isinstance(law, kind):
        return law
    word = {ElasticLaw: "an elastic", ViscousLaw: "a viscous", InelasticLaw: "an inelastic"}[kind]
    if law is not None:
        raise InputError(f"law '{law.name}' is not {word} law. Allowed: {', '.join(names(kind))}.")
    raise InputError(f"'{name}' is not {word} law.{nearest(str(name), names(kind))}")


def names(kind: type | None = None) -> list[str]:
    """Names of the registered laws of one kind, or of all."""
    return [n for n, law in LAWS.items() if kind is None or isinstance(law, kind)]
