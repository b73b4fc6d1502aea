"""A material: laws with their parameters, density, and the parameters' unconstrained values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from physim.checks import check_shape
from physim.errors import InputError, nearest
from physim.laws.compose import Composition
from physim.laws.core import ElasticLaw, InelasticLaw, ViscousLaw, get_law
from physim.laws.native import native_values, theta_columns, user_table
from physim.laws.parameters import ELASTIC_CONSTANTS, Param
from physim.numeric import Precision

NETWORKS = ("network", "viscous_network", "inelastic_network")


class Material(nn.Module):
    """An elastic law, optionally with a viscous and an inelastic one, and values for their parameters.

    Values are given in SI under the law's own names or, for the elastic moduli, as any two of E, nu, mu, lam,
    bulk_modulus. `raw` holds their unconstrained values; all are frozen until `free` is called. A value at its bound
    (no cohesion) has no finite raw value and stays fixed until `set` moves it.

    Args:
        elastic: law or its name.
        viscous: law or its name, added to the stress.
        inelastic: law or its name: plastic flow, a fluid's loss of shape, relaxation.
        rho0: reference density [kg/m^3].
        values: parameter values [SI], numbers or float tensors of shape (n,) for one value per particle.
        network: weights of a learned elastic law, from `law.network.make(seed)`; those of seed 0 unless given.
        viscous_network: weights of a learned viscous law.
        inelastic_network: weights of a learned inelastic law.
        fibre: direction of the fibres at rest of a law that has them, (3,), or (n, 3) for one per particle; x unless
            given.

    Attributes:
        network: module of the elastic law's weights, or None; its own `columns(named)` are columns of theta.
        viscous_network: that of the viscous law.
        inelastic_network: that of the inelastic law.

    Raises:
        InputError: unknown law or parameter, a missing or impossible value, or weights of another law.

    Example:
        >>> rubber = Material("neo_hookean", rho0=1070.0, values={"E": 250e3, "nu": 0.49})
        >>> rubber.names
        ('mu', 'lam')
    """

    fibre: Any
    network: Any
    viscous_network: Any
    inelastic_network: Any

    def __init__(
        self,
        elastic: str | ElasticLaw,
        viscous: str | ViscousLaw | None = None,
        inelastic: str | InelasticLaw | None = None,
        *,
        rho0: float,
        values: dict[str, Any] | None = None,
        network: nn.Module | None = None,
        viscous_network: nn.Module | None = None,
        inelastic_network: nn.Module | None = None,
        fibre: Any = None,
    ) -> None:
        super().__init__()
        self.laws = Composition(
            get_law(elastic, ElasticLaw),
            get_law(viscous, ViscousLaw) if viscous is not None else None,
            get_law(inelastic, InelasticLaw) if inelastic is not None else None,
        )
        if not (isinstance(rho0, (int, float)) and math.isfinite(rho0) and rho0 > 0):
            raise InputError(f"{self.composition}: rho0 = {rho0!r} is not a density; give kg/m^3 above 0.")
        self.rho0 = float(rho0)
        given = dict(values or {})
        self.table = user_table(self.laws, given)
        self._held: Tensor | None = None
        self.raw = nn.ParameterDict()
        self._fixed: list[str] = []
        for name, param in self.table.items():
            given[name] = self._checked(param, given.get(name, param.default))
        self._check_together(given)
        for name, param in self.table.items():
            self._put(param, given[name])
        modules = (network, viscous_network, inelastic_network)
        for name, wanted, module in zip(NETWORKS, self.laws.networks, modules, strict=True):
            if module is None and wanted is not None:
                module = wanted.make(0)
            if getattr(module, "plan", None) != wanted:
                raise InputError(
                    f"{self.composition}: the weights in {name} are not of this law; make them by law.network.make."
                )
            setattr(self, name, module)
        self.register_buffer("fibre", self._direction(fibre))

    def _direction(self, fibre: Any) -> Tensor | None:
        """Unit vectors (n, 3) of a fibre's directions; None for a law without."""
        if not self.elastic.fibre:
            if fibre is not None:
                raise InputError(f"{self.composition}: this law has no fibre; leave `fibre` out.")
            return None
        given = torch.as_tensor((1.0, 0.0, 0.0) if fibre is None else fibre, dtype=torch.float64).detach()
        given = given[None] if given.ndim == 1 else given
        check_shape("fibre", given, (None, 3))
        length = given.norm(dim=1, keepdim=True)
        if not bool(((length > 0) & torch.isfinite(length)).all()):
            raise InputError(f"{self.composition}: a fibre's direction must be finite and not zero.")
        return given / length

    def _checked(self, param: Param, value: Any) -> Tensor:
        """The value as a float64 tensor of its own; `InputError` unless it is allowed alone."""
        value = torch.as_tensor(value, dtype=torch.float64).detach().clone()
        if value.ndim > 1:
            shape = tuple(value.shape)
            raise InputError(f"{self.composition}: {param.name} must be a number or of shape (n,), not {shape}.")
        param.check(value, self.composition)
        return value

    def _check_together(self, values: dict[str, Tensor]) -> None:
        """Raise `InputError` where values, each allowed alone, contradict each other."""
        sizes = {n: v.shape[0] for n, v in values.items() if v.ndim and v.shape[0] != 1}
        if len(set(sizes.values())) > 1:
            told = ", ".join(f"{n} has {size}" for n, size in sizes.items())
            raise InputError(f"{self.composition}: values per particle must be of one number: {told}.")
        self._check_moduli(values)
        for low, high in self.inelastic.at_most if self.inelastic else ():
            a, b = torch.broadcast_tensors(values[low], values[high])
            bad = a > b * (1.0 + 1e-9)  # the way to unconstrained values and back rounds
            if bool(bad.any()):
                unit = self.table[low].unit
                scale, unit = (math.degrees(1.0), "deg") if unit == "rad" else (1.0, unit)
                worst = int(bad.reshape(-1).int().argmax())
                small, large = (float(v.reshape(-1)[worst]) * scale for v in (a, b))
                raise InputError(
                    f"{self.composition}: {low} = {small:g} {unit} is above {high} = {large:g} {unit}; give "
                    f"{low} between 0 and {high}, or raise {high}."
                )

    def _check_moduli(self, values: dict[str, Tensor]) -> None:
        """Raise `InputError` where two constants, each allowed alone, make no finite elastic solid together."""
        native = torch.broadcast_tensors(*native_values(self.laws, values)[: len(self.elastic.params)])
        shear, bulk = self.elastic.moduli(torch.stack(native, dim=-1).reshape(-1, len(native)))
        for kind, modulus in (("shear", shear), ("bulk", bulk)):
            bad = ~(torch.isfinite(modulus) & (modulus >= 0.0))
            if bool(bad.any()):
                given = ", ".join(n for n in self.table if n in ELASTIC_CONSTANTS)
                raise InputError(
                    f"{self.composition}: {given} give a {kind} modulus of {float(modulus[bad][0]):g} Pa; it must be "
                    "finite and not negative (nu below 0.5, E below 3 mu and 9 bulk_modulus)."
                )

    def _put(self, param: Param, value: Tensor) -> None:
        """Store an allowed value."""
        name = param.name
        if param.interior(value):
            if name in self._fixed:
                self._fixed.remove(name)
                delattr(self, f"fixed_{name}")
            raw = param.to_raw(value)
            old = self.raw[name] if name in self.raw else None
            if old is not None and old.shape == raw.shape:
                old.data.copy_(raw)  # in place, so that an optimiser keeps its hold
            else:
                self.raw[name] = nn.Parameter(raw, requires_grad=old is not None and old.requires_grad)
        else:
            if name in self.raw:
                del self.raw[name]
            if name not in self._fixed:
                self._fixed.append(name)
            self.register_buffer(f"fixed_{name}", value)

    @property
    def composition(self) -> str:
        """The laws' names as one identifier."""
        return self.laws.name

    @property
    def elastic(self) -> ElasticLaw:
        """The elastic law."""
        return self.laws.elastic

    @property
    def viscous(self) -> ViscousLaw | None:
        """The viscous law."""
        return self.laws.viscous

    @property
    def inelastic(self) -> InelasticLaw | None:
        """The inelastic law."""
        return self.laws.inelastic

    @property
    def names(self) -> tuple[str, ...]:
        """Native parameters; the weights of a network are columns of theta too, but have no names."""
        return self.laws.names

    def native(self) -> dict[str, float]:
        """Native parameters of the first row of theta [SI] by name."""
        row = self.theta().detach()[0].tolist()
        return {name: row[column] for name, column in self.laws.named_columns().items()}

    @property
    def evolves(self) -> bool:
        """Whether particles carry more than their deformation: a return map, or a history."""
        return self.inelastic is not None or self.history_size > 0

    @property
    def history_size(self) -> int:
        """Number of history components."""
        return self.laws.history_size

    def values(self) -> dict[str, Tensor]:
        """Current physical values [SI] by the names they were given in, differentiable with respect to `raw`."""
        return {
            name: getattr(self, f"fixed_{name}") if name in self._fixed else param.to_value(self.raw[name])
            for name, param in self.table.items()
        }

    def set(self, **values: Any) -> None:
        """Replace values [SI] by the names in `values()`; those of one call are checked together.

        Raises:
            InputError: unknown name, or values that are impossible alone or together; nothing is changed then.
        """
        new = {name: self._checked(self._named(name), value) for name, value in values.items()}
        with torch.no_grad():
            self._check_together(self.values() | new)
        for name, value in new.items():
            self._put(self.table[name], value)

    def free(self, *names: str) -> None:
        """Let gradients flow to these parameters; "network" stands for all weights of a learned elastic law,
        "viscous_network" and "inelastic_network" for those of the others.

        Raises:
            InputError: unknown name, or a value at its bound, which has no finite raw value to start from.
        """
        for name in names:
            if name in self._learned:
                self._learned[name].requires_grad_(True)
                continue
            param = self._named(name)
            if name in self._fixed:
                raise InputError(
                    f"{self.composition}: {name} is at its bound ({param.lower:g}) and cannot be fitted from there; "
                    "start from a value inside the bounds."
                )
            self.raw[name].requires_grad_(True)

    def freeze(self, *names: str) -> None:
        """Stop gradients to these parameters, or to all."""
        for name in names or (*self.raw, *self._learned):
            if name in self._learned:
                self._learned[name].requires_grad_(False)
                continue
            self._named(name)
            if name in self.raw:
                self.raw[name].requires_grad_(False)

    @property
    def networks(self) -> tuple[Any, Any, Any]:
        """Modules of the elastic, viscous and inelastic law's weights; None for a closed form."""
        return self.network, self.viscous_network, self.inelastic_network

    @property
    def _learned(self) -> dict[str, nn.Module]:
        return {name: module for name, module in zip(NETWORKS, self.networks, strict=True) if module is not None}

    def _named(self, name: str) -> Param:
        if name not in self.table:
            given = [n for n in self.table if n in ELASTIC_CONSTANTS]
            if name in ELASTIC_CONSTANTS and len(given) == 2:
                raise InputError(
                    f"{self.composition}: this material is given by {' and '.join(given)}, not by {name}; set those, "
                    f"or make a new Material from two constants that include {name}."
                )
            raise InputError(f"{self.composition}: no parameter '{name}'.{nearest(name, self.table)}")
        return self.table[name]

    def theta(self) -> Tensor:
        """Native parameters [SI] and the network's columns, (1, k), or (n, k) where a value is given per particle."""
        if self._held is not None:
            return self._held
        return theta_columns(self.laws, self.values(), self.networks)

    @contextmanager
    def held(self, theta: Tensor) -> Iterator[None]:
        """Let `theta()` be these columns, (n, k), for a while: one row per world, say."""
        before, self._held = self._held, theta
        try:
            yield
        finally:
            self._held = before

    def rest_history(self, n: int) -> Tensor:
        """History of n undeformed particles, (n, k)."""
        if self.elastic.fibre:
            several = self.fibre.shape[0] != 1 and n != 1
            check_shape("fibre", self.fibre, (n if several else None, 3))
            return (self.fibre if several else self.fibre[:1]).expand(n, -1).clone()
        rest = self.inelastic.rest_history if self.inelastic else ()
        return torch.tensor(rest, dtype=torch.float64).expand(n, -1).clone()

    def stress_function(self, precision: Precision) -> Any:
        """`wp.func` (F, L, h, theta) -> total Kirchhoff stress [Pa]; cached per composition."""
        return self.laws.stress_function(precision)

    def project_function(self, precision: Precision) -> Any:
        """`wp.func` (F_trial, h, f, theta, dt) -> (F, h); cached per composition."""
        return self.laws.project_function(precision)

    def kirchhoff(
        self, F: Tensor, L: Tensor | None = None, h: Tensor | None = None, theta: Tensor | None = None
    ) -> Tensor:
        """Kirchhoff stress [Pa], (n, 3, 3), in torch float64, differentiable to any order.

        Args:
            F: elastic deformation gradient [-], (n, 3, 3).
            L: velocity gradient [1/s], (n, 3, 3); zero unless given.
            h: history, (n, k); at rest unless given.
            theta: native parameters, (1, k) or (n, k); `theta()` unless given.
        """
        n = F.shape[0]
        L = torch.zeros_like(F) if L is None else L
        return torch.vmap(self.laws.torch_stress())(F, L, self._past(h, n), self._expand(theta, n))

    def project(
        self,
        F_trial: Tensor,
        f: Tensor,
        dt: float,
        *,
        h: Tensor | None = None,
        theta: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Admissible deformation (n, 3, 3) and history (n, k) after the return map, in torch float64.

        Args:
            F_trial: trial deformation gradient [-], (n, 3, 3).
            f: its increment in this substep, F_trial = f F_old, (n, 3, 3).
            dt: substep [s].
            h: history before, (n, k).
            theta: native parameters.
        """
        n = F_trial.shape[0]
        step = torch.full((n,), dt, dtype=torch.float64)
        map_ = torch.vmap(self.laws.torch_project())
        F, now = map_(F_trial, self._past(h, n), f, self._expand(theta, n), step)
        return F, now[:, : self.history_size]

    def energy(self, F: Tensor, theta: Tensor | None = None, h: Tensor | None = None) -> Tensor:
        """Elastic energy psi per reference volume [J/m^3], (n,), in torch float64; h is read by laws with a fibre.

        Raises:
            InputError: the law has no energy.
        """
        psi = self.laws.torch_energy()
        if psi is None:
            raise InputError(f"law '{self.elastic.name}' states no energy.")
        return torch.vmap(psi)(F, self._past(h, F.shape[0]), self._expand(theta, F.shape[0]))

    def _past(self, h: Tensor | None, n: int) -> Tensor:
        h = self.rest_history(n) if h is None else h
        return h if h.shape[1] else torch.zeros(n, 1, dtype=torch.float64)

    def _expand(self, theta: Tensor | None, n: int) -> Tensor:
        theta = self.theta() if theta is None else theta
        return theta.expand(n, -1)
