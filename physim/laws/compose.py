"""Compositions of laws: elastic, plus viscous, plus inelastic, as one Warp function and one torch function.

theta holds the elastic columns, then the viscous, then the inelastic ones: of each law the named ones, then weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import warp as wp

from physim.errors import InputError, nearest
from physim.laws.core import FIBRE, ElasticLaw, InelasticLaw, Network, ViscousLaw
from physim.laws.parameters import Param
from physim.numeric import Numeric, Precision, Word, history, mat33, params, real, rebind

# Bound in the sources below: the laws, and the columns of theta that each reads.
elastic = viscous = inelastic = overstress = Word
# In the order of their columns.
KINDS = ("elastic", "viscous", "inelastic")
E0 = E1 = V0 = V1 = I0 = I1 = 0


def _stress(F: mat33, L: mat33, h: history, theta: params) -> mat33:
    return elastic(F, theta[E0:E1])


def _stress_viscous(F: mat33, L: mat33, h: history, theta: params) -> mat33:
    return elastic(F, theta[E0:E1]) + viscous(F, L, theta[V0:V1])


def _stress_over(F: mat33, L: mat33, h: history, theta: params) -> mat33:
    return elastic(F, theta[E0:E1]) + overstress(F, h, theta[I0:I1])


def _stress_viscous_over(F: mat33, L: mat33, h: history, theta: params) -> mat33:
    return elastic(F, theta[E0:E1]) + viscous(F, L, theta[V0:V1]) + overstress(F, h, theta[I0:I1])


def _stress_fibre(F: mat33, L: mat33, h: history, theta: params) -> mat33:
    return elastic(F, h[0:3], theta[E0:E1])


def _stress_viscous_fibre(F: mat33, L: mat33, h: history, theta: params) -> mat33:
    return elastic(F, h[0:3], theta[E0:E1]) + viscous(F, L, theta[V0:V1])


# By whether there is a viscous stress, an overstress, a fibre.
_STRESSES = {
    (False, False, False): _stress,
    (True, False, False): _stress_viscous,
    (False, True, False): _stress_over,
    (True, True, False): _stress_viscous_over,
    (False, False, True): _stress_fibre,
    (True, False, True): _stress_viscous_fibre,
}


def _project(F_trial: mat33, h: history, f: mat33, theta: params, dt: real):
    F, now = inelastic(F_trial, h, f, theta[E0:E1], theta[I0:I1], dt)
    return F, now


def _keep(F_trial: mat33, h: history, f: mat33, theta: params, dt: real):
    return F_trial, h


def width_of(law: ElasticLaw | ViscousLaw | InelasticLaw) -> int:
    """Number of columns of theta that a law reads."""
    return len(law.params) + (law.network.size if law.network else 0)


@dataclass(frozen=True)
class Composition:
    """The laws of one material, without their parameter values.

    Raises:
        InputError: two laws share a parameter name, or the return map does not fit the elastic law.
    """

    elastic: ElasticLaw
    viscous: ViscousLaw | None = None
    inelastic: InelasticLaw | None = None

    def __post_init__(self) -> None:
        """Check that the laws fit together."""
        names = self.names
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise InputError(f"{self.name}: two laws share the parameter {', '.join(twice)}; choose another pair.")
        needs = self.inelastic.needs if self.inelastic else ()
        if self.inelastic and tuple(p.name for p in self.elastic.params[: len(needs)]) != needs:
            raise InputError(
                f"'{self.inelastic.name}' reads the elastic parameters {', '.join(needs)}, which "
                f"'{self.elastic.name}' does not have; use it with hencky."
            )

        if self.elastic.fibre and self.inelastic and self.inelastic.history:
            raise InputError(
                f"'{self.elastic.name}' keeps a fibre's direction as history, and '{self.inelastic.name}' has a "
                "history of its own; use one without."
            )

    @property
    def laws(self) -> list[ElasticLaw | ViscousLaw | InelasticLaw]:
        """The laws that are there, in the order of their columns."""
        return [law for law in self._parts if law is not None]

    @property
    def name(self) -> str:
        """The names of the laws, joined: an identifier."""
        return "__".join(law.name for law in self.laws)

    @property
    def params(self) -> tuple[Param, ...]:
        """Native parameters: the columns of theta."""
        return tuple(p for law in self.laws for p in law.params)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the native parameters; the weights of a network have none."""
        return tuple(p.name for p in self.params)

    @property
    def width(self) -> int:
        """Number of columns of theta: the named ones and the weights."""
        return sum(width_of(law) for law in self.laws)

    def named_columns(self) -> dict[str, int]:
        """Column of theta of each name."""
        starts = [self.columns()[kind][0] for kind, law in zip("EVI", self._parts, strict=True) if law]
        pairs = zip(self.laws, starts, strict=True)
        return {p.name: start + i for law, start in pairs for i, p in enumerate(law.params)}

    def network_columns(self, kind: str = "elastic") -> tuple[int, int]:
        """Half-open range of theta that holds the weights of the elastic, viscous or inelastic law; empty without."""
        at = 0
        for name, law in zip(KINDS, self._parts, strict=True):
            named, width = (len(law.params), width_of(law)) if law else (0, 0)
            if name == kind:
                return at + named, at + width
            at += width
        raise InputError(f"'{kind}' is no kind of law.{nearest(kind, KINDS)}")

    @property
    def networks(self) -> tuple[Network | None, Network | None, Network | None]:
        """Weights of the elastic, viscous and inelastic law; None for a closed form."""
        elastic, viscous, inelastic = (law.network if law else None for law in self._parts)
        return elastic, viscous, inelastic

    @property
    def _parts(self) -> tuple[ElasticLaw | ViscousLaw | InelasticLaw | None, ...]:
        return self.elastic, self.viscous, self.inelastic

    @property
    def history_size(self) -> int:
        """Number of history components."""
        return len(self.history)

    @property
    def history(self) -> tuple[str, ...]:
        """Names of the history components: a fibre's direction, or what the inelastic law keeps."""
        if self.elastic.fibre:
            return FIBRE
        return self.inelastic.history if self.inelastic else ()

    def columns(self) -> dict[str, tuple[int, int]]:
        """Half-open column range of each law; a law without parameters is given one column that it does not read."""
        at, found = 0, {}
        for kind, law in zip("EVI", self._parts, strict=True):
            size = width_of(law) if law else 0
            found[kind] = (at, at + size) if size else (0, 1)
            at += size
        return found

    def _constants(self) -> dict[str, int]:
        return {f"{kind}{end}": pair[end] for kind, pair in self.columns().items() for end in (0, 1)}

    @property
    def _over(self) -> Numeric | None:
        return self.inelastic.overstress if self.inelastic else None

    @property
    def _source(self) -> Callable:
        return _STRESSES[self.viscous is not None, self._over is not None, self.elastic.fibre]

    def _widths(self) -> dict[str, int]:
        return {kind: end - start for kind, (start, end) in self.columns().items()}

    def stress_parts(self) -> tuple[Callable, dict[str, Any]]:
        """Source of (F, L, h, theta) -> total Kirchhoff stress [Pa], and the laws and columns that it names."""
        named: dict[str, Any] = {"elastic": self.elastic.kirchhoff}
        if self.viscous:
            named["viscous"] = self.viscous.kirchhoff
        if self._over:
            named["overstress"] = self._over
        return self._source, self._constants() | named

    def project_parts(self) -> tuple[Callable, dict[str, Any]]:
        """Source of (F_trial, h, f, theta, dt) -> (F, h), and what it names; the identity without an inelastic law."""
        if self.inelastic is None:
            return _keep, {}
        return _project, self._constants() | {"inelastic": self.inelastic.project}

    @cache  # noqa: B019 - compositions live as long as the compiled kernels
    def stress_function(self, precision: Precision) -> Any:
        """`wp.func` (F, L, h, theta) -> total Kirchhoff stress [Pa]."""
        return self._function(self.stress_parts(), precision, {"elastic": "E", "viscous": "V", "overstress": "I"})

    @cache  # noqa: B019
    def project_function(self, precision: Precision) -> Any:
        """`wp.func` (F_trial, h, f, theta, dt) -> (F, h); the identity without an inelastic law."""
        return self._function(self.project_parts(), precision, {"inelastic": "I"})

    def _function(self, parts: tuple[Callable, dict[str, Any]], precision: Precision, columns: dict[str, str]) -> Any:
        source, named = parts
        bound, width = self._bound(precision), self._widths()
        for name, law in named.items():
            if isinstance(law, Numeric):
                vectors = {"params": precision.vector(width[columns[name]])}
                if name in ("inelastic", "overstress"):
                    vectors["history"] = bound["history"]
                if name == "inelastic":
                    vectors["elastic_params"] = precision.vector(width["E"])
                bound[name] = law.warp(precision, **vectors)
            else:
                bound[name] = law
        return wp.func(rebind(source, bound, f"_{self.name}_{precision.name}"))

    def _bound(self, precision: Precision) -> dict[str, Any]:
        vectors = {
            "params": precision.vector(max(1, self.width)),
            "history": precision.vector(max(1, self.history_size)),
        }
        return {**precision.names(), **vectors}

    def torch_stress(self) -> Callable:
        """Torch reader of (F, L, h, theta) -> tau [Pa] for one point."""
        return _torch(self.stress_parts())

    def torch_project(self) -> Callable:
        """Torch reader of (F_trial, h, f, theta, dt) -> (F, h) for one point."""
        return _torch(self.project_parts())

    def torch_elastic(self) -> Callable:
        """Torch reader of (F, h, theta) -> elastic tau [Pa] for one point; h is read by a law with a fibre only."""
        return self._torch_of(self.elastic.kirchhoff)

    def torch_energy(self) -> Callable | None:
        """Torch reader of (F, h, theta) -> elastic psi [J/m^3] for one point; None for a law without an energy."""
        return self._torch_of(self.elastic.energy) if self.elastic.energy is not None else None

    def _torch_of(self, function: Numeric) -> Callable:
        read, (start, end) = function.torch(), self.columns()["E"]
        if self.elastic.fibre:
            return lambda F, h, theta: read(F, h[:3], theta[start:end])
        return lambda F, h, theta: read(F, theta[start:end])


def _torch(parts: tuple[Callable, dict[str, Any]]) -> Callable:
    source, named = parts
    bound = {name: law.torch() if isinstance(law, Numeric) else law for name, law in named.items()}
    return rebind(source, bound, "_torch")
