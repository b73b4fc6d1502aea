"""Material entries: the keys that their laws allow, and the values in SI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from physim.errors import InputError, nearest
from physim.scene.document import Document, Key, display, read_document
from physim.scene.files import resolve_files
from physim.scene.law_tables import (
    ADDED,
    ParamSpec,
    constants_problem,
    interchangeable,
    kind_of,
    law_names,
    law_params,
    part_of,
)
from physim.scene.learned import LearnedSpec, read_learned
from physim.scene.networks import NetworkSpec, read_network
from physim.scene.problems import Findings
from physim.scene.units import DENSITY, UnitError, parse, shown

if TYPE_CHECKING:
    from torch import Tensor

    from physim.laws import Material

# Keys of a material that are not parameters of its law.
FIXED = (
    "law", "network", "fibre", "density", "viscous", "inelastic", "title", "source", "valid", "intervals", "learned",
)  # fmt: skip
FIXED_ADDED = ("law", "network")


@dataclass(frozen=True)
class MaterialSpec:
    """A material in SI.

    Attributes:
        name: name in the scene.
        law: elastic law or equation of state.
        viscous: viscous law added to it, or None.
        inelastic: return map or viscoelastic law, or None.
        density: [kg/m^3], or None.
        values: parameters [SI] by key: `E`, `viscous.viscosity`, `inelastic.yield_stress`.
        params: what each key measures, and its bounds.
        network: weights of a learned elastic law, or None.
        networks: those of learned laws that are added, by `viscous` or `inelastic`.
        fibre: direction of its fibres at rest, or None.
        learned: what its file says of how it was learned, or None.
    """

    name: str
    law: str
    viscous: str | None = None
    inelastic: str | None = None
    density: float | None = None
    values: dict[str, float] = field(default_factory=dict)
    params: dict[str, ParamSpec] = field(default_factory=dict)
    network: NetworkSpec | None = None
    fibre: tuple[float, ...] | None = None
    networks: dict[str, NetworkSpec] = field(default_factory=dict)
    learned: LearnedSpec | None = None

    @property
    def learnable(self) -> bool:
        """Whether any of its laws has weights."""
        return self.network is not None or bool(self.networks)

    def network_of(self, path: str) -> NetworkSpec | None:
        """The weights at `network`, `viscous.network` or `inelastic.network`, if there are any."""
        part = path.rpartition(".")[0]
        return self.networks.get(part) if part else self.network

    def with_weights(self, weights: Mapping[str, Tensor]) -> MaterialSpec:
        """The same with raw weights, (w,) each, by `network`, `viscous.network` or `inelastic.network`."""
        new: dict[str, NetworkSpec] = {}
        for path, flat in weights.items():
            own = self.network_of(path)
            assert own is not None
            new[path.rpartition(".")[0]] = own.replaced(flat)
        return replace(self, network=new.pop("", self.network), networks=self.networks | new)

    def of(self, part: str) -> dict[str, float]:
        """Values [SI] of `law`, `viscous` or `inelastic`, by that law's own names."""
        if part == "law":
            return {k: v for k, v in self.values.items() if "." not in k}
        return {k.partition(".")[2]: v for k, v in self.values.items() if k.startswith(f"{part}.")}


def make_material(spec: MaterialSpec) -> Material:
    """The laws of a material with their parameters; without a density, that of water stands in.

    Raises:
        InputError: laws that do not fit together.
    """
    from physim.laws import Material

    values = {k.rpartition(".")[2]: v for k, v in spec.values.items()}
    rho0 = spec.density if spec.density is not None else 1000.0
    parts = ((spec.law, spec.network), *((getattr(spec, part), spec.networks.get(part)) for part in ADDED))
    laws = [name if own is None else own.law(name) for name, own in parts]
    network, viscous, inelastic = (None if own is None else own.weights() for _, own in parts)
    return Material(
        *laws,
        rho0=rho0,
        values=values,
        network=network,
        viscous_network=viscous,
        inelastic_network=inelastic,
        fibre=spec.fibre,
    )


def material_spec(name: str, material: Material) -> MaterialSpec:
    """What a file says of a material: its laws, values and weights as they are.

    Raises:
        InputError: particles differ in a value or in the direction of their fibres.
    """
    laws = {"law": material.elastic, "viscous": material.viscous, "inelastic": material.inelastic}
    values: dict[str, float] = {}
    params: dict[str, ParamSpec] = {}
    given, networks = material.values(), {}
    for (part, law), network in zip(laws.items(), material.networks, strict=True):
        if network is not None:
            networks[part] = NetworkSpec(network)
        prefix = "" if part == "law" else f"{part}."
        table = {} if law is None else law_params(law)
        for key in (k for k in given if k in table):
            value = given[key].detach()
            if value.numel() != 1:
                raise InputError(f"{name}: {key} has {value.numel()} values, and a file holds one for all particles.")
            values[prefix + key], params[prefix + key] = float(value), table[key]
    fibre = material.fibre
    if fibre is not None and len(fibre) != 1:
        raise InputError(f"{name}: fibres have {len(fibre)} directions, and a file holds one for all particles.")
    names = {
        part: None if law is None else law.network.family if law.network else law.name for part, law in laws.items()
    }
    return MaterialSpec(
        name,
        law=str(names["law"]),
        viscous=names["viscous"],
        inelastic=names["inelastic"],
        density=material.rho0,
        values=values,
        params=params,
        network=networks.pop("law", None),
        fibre=None if fibre is None else tuple(fibre[0].tolist()),
        networks=networks,
    )


def read_materials(findings: Findings) -> dict[str, MaterialSpec]:
    """Every sound material of a scene; the problems of the others are noted."""
    entries = findings.document.data.get("materials")
    if not isinstance(entries, dict):
        return {}
    readers = {n: _Reader(("materials", n), e, findings) for n, e in entries.items() if isinstance(e, dict)}
    found = {n: r.material(n) for n, r in readers.items()}
    return {n: m for n, m in found.items() if m is not None}


def read_material_file(path: Path) -> MaterialSpec:
    """A material file on its own, such as the `material.yaml` of a fit.

    Raises:
        SceneError: everything that is wrong with it.
    """
    document = read_document(path)
    name = path.stem
    places = {("materials", name, *p): w for p, w in document.places.items()}
    findings = Findings(Document({"materials": {name: document.data}}, places))
    resolve_files(findings)
    found = read_materials(findings)
    findings.stop_if_any()
    if name not in found:
        raise InputError(f"{display(path)}: not a material.")
    return found[name]


class _Reader:
    """Reads one material entry, noting its problems."""

    def __init__(self, path: Key, entry: dict[str, Any], findings: Findings) -> None:
        self.path, self.entry, self.findings = path, entry, findings
        self.values: dict[str, float] = {}
        self.params: dict[str, ParamSpec] = {}
        self.networks: dict[str, NetworkSpec] = {}

    def material(self, name: str) -> MaterialSpec | None:
        """The material, or None."""
        before = len(self.findings.problems)
        law = self.law("law", self.path, self.entry)
        if law is None:
            return None
        network = read_network(law.name, self.entry.get("network"), (*self.path, "network"), self.findings)
        if len(self.findings.problems) > before:
            return None
        if network is not None:
            law = network.law(law.name)
        own = {k: v for k, v in self.entry.items() if k not in FIXED}
        self.parameters(self.path, "", law, own)
        added = {part: self.added(part) for part in ADDED if self.entry.get(part) is not None}
        density, fibre = self.density(), self.fibre()
        learned = read_learned(self.entry.get("learned"), (*self.path, "learned"), self.findings)
        if len(self.findings.problems) > before:
            return None
        viscous, inelastic = added.get("viscous"), added.get("inelastic")
        law_name, networks = str(self.entry["law"]), self.networks
        spec = MaterialSpec(
            name, law_name, viscous, inelastic, density, self.values, self.params, network, fibre, networks, learned
        )
        try:
            make_material(spec)
        except InputError as error:
            self.findings.add(self.path, str(error))
            return None
        return spec

    def density(self) -> float | None:
        """The density [kg/m^3]; the scene's own check tells what is wrong with it."""
        try:
            return parse(self.entry["density"], DENSITY) if "density" in self.entry else None
        except UnitError as error:
            self.findings.add((*self.path, "density"), str(error))
            return None

    def fibre(self) -> tuple[float, ...] | None:
        """The direction of fibres."""
        given = self.entry.get("fibre")
        if given is None:
            return None
        if isinstance(given, list) and len(given) == 3 and all(type(v) in (int, float) for v in given):
            return tuple(map(float, given))
        self.findings.add((*self.path, "fibre"), f"expected a direction such as [1, 0, 0], got {shown(given)}")
        return None

    def added(self, part: str) -> str | None:
        """Name of an added law, its values read; `inelastic: fluid` is short for `inelastic: {law: fluid}`."""
        given, path = self.entry[part], (*self.path, part)
        if isinstance(given, str):
            given = {"law": given}
            self.entry[part] = given
        if not isinstance(given, dict):
            self.findings.add(path, f"expected a mapping with a `law`, got {shown(given)}")
            return None
        law = self.law(part, path, given)
        if law is None:
            return None
        network = read_network(law.name, given.get("network"), (*path, "network"), self.findings)
        if network is not None:
            self.networks[part] = network
        sized = law if network is None else network.law(law.name)
        self.parameters(path, f"{part}.", sized, {k: v for k, v in given.items() if k not in FIXED_ADDED})
        return law.name

    def law(self, part: str, path: Key, entry: dict[str, Any]) -> Any:
        """The law that an entry names, or None."""
        from physim.laws import get_law

        name = entry.get("law")
        if not isinstance(name, str):
            told = "required, and missing" if name is None else f"expected the name of a law, got {shown(name)}"
            self.findings.add((*path, "law"), f"{told}. Laws: {', '.join(law_names(part))}")
            return None
        other = part_of(name)
        if other is not None and other != part:
            hint = "" if other == "law" else f" under `{other}:`"
            what = f"'{name}' belongs {hint.strip()}" if hint else f"'{name}' is an elastic law or equation of state"
            self.findings.add((*path, "law"), f"{what}; here: {', '.join(law_names(part))}")
            return None
        try:
            return get_law(name, kind_of(part))
        except InputError:
            self.findings.add((*path, "law"), f"unknown law '{name}'.{nearest(name, law_names(part))}")
            return None

    def parameters(self, path: Key, prefix: str, law: Any, given: dict[str, Any]) -> None:
        """Read the parameters of one law, in SI and within their bounds."""
        table = law_params(law)
        for key, value in given.items():
            if key in table:
                self.one(path, prefix, table[key], value)
                continue
            hint = nearest(key, [*table, *(FIXED_ADDED if prefix else FIXED)])
            rest = f" Parameters of {law.name}: {', '.join(table) or 'none'}."
            self.findings.add((*path, key), f"unknown key '{key}'.{hint if 'Did you' in hint else ''}{rest}")
        self.missing(path, prefix, law, given)

    def one(self, path: Key, prefix: str, param: ParamSpec, value: Any) -> None:
        """Read one parameter."""
        try:
            number = param.read(value)
        except UnitError as error:
            self.findings.add((*path, param.name), str(error))
            return
        if not param.lower <= number <= param.upper:
            self.findings.add((*path, param.name), f"{param.doc} must be {param.span}, got {shown(value)}")
            return
        self.values[prefix + param.name] = number
        self.params[prefix + param.name] = param

    def missing(self, path: Key, prefix: str, law: Any, given: dict[str, Any]) -> None:
        """Fill in defaults and note what is missing; elastic constants may stand for each other."""
        wrong = constants_problem(law, list(given))
        if wrong is not None:
            self.findings.add(path, wrong)
        choice = interchangeable(law)
        chosen = [n for n in given if n in choice]
        for name, param in law_params(law).items():
            if name in given or (name in choice and (chosen or param.default is None)):
                continue
            if param.default is None:
                unit = f" ({param.dimension.unit})" if param.dimension.unit else ""
                self.findings.add(path, f"'{name}'{unit} is required, and missing: {param.doc}")
            else:
                self.values[prefix + name] = param.default
                self.params[prefix + name] = param
